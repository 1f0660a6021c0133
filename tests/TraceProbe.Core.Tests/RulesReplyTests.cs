using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Tests;

/// <summary>The answer's way back: translated as the question was, with no rule of the nat table asked.</summary>
public sealed class RulesReplyTests
{
    private static readonly RouteTable Routes = RouteTable.Parse(["default via 172.30.0.254 dev eth0", "10.244.1.0/24 dev cni0", "172.30.0.0/24 dev eth0 scope link src 172.30.0.11", "local 172.30.0.11 dev eth0 table local"]);

    private static RuleSet Set(string filter, string nat = "") => RuleSet.Parse(new RuleDump("iptables-nft-save", $"""
        *nat
        :PREROUTING ACCEPT [0:0]
        :OUTPUT ACCEPT [0:0]
        :POSTROUTING ACCEPT [0:0]
        -A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.9:8080
        -A OUTPUT -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.9:8080
        {nat}
        COMMIT
        *filter
        :INPUT ACCEPT [0:0]
        :FORWARD ACCEPT [0:0]
        :OUTPUT ACCEPT [0:0]
        {filter}
        COMMIT
        """.Replace("\n        \n", "\n", StringComparison.Ordinal)));

    private static VirtualPacket Packet(string from, bool fromNode = false) => new()
    {
        Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse(from), AddressPort.Parse("10.96.0.10:80")),
        FromNode = fromNode,
        InInterface = fromNode ? null : "cni0",
        BridgePort = "",
        LocalAddresses = [IpAddress.Parse("172.30.0.11")],
        Routes = Routes,
    };

    private static WalkResult Reply(RuleSet set, VirtualPacket packet)
    {
        var walk = new RuleWalk([set]);
        return walk.Run(packet.ReplyTo(walk.Run(packet).Branches.ShouldHaveSingleItem()));
    }

    [Fact]
    public void AnswerToAPod_ComesFromTheServicesAddress()
    {
        var packet = Packet("10.244.1.7:40000");
        var reply = packet.ReplyTo(RuleWalk.Run([Set("")], packet).Branches[0]);
        reply.Tuple.ToString().ShouldBe("10.244.2.9:8080 > 10.244.1.7:40000");
        reply.InInterface.ShouldBe("eth0");
        var result = Reply(Set(""), packet);
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Branches[0].Tuple.ToString().ShouldBe("10.96.0.10:80 > 10.244.1.7:40000");
        result.Matched.ShouldBeEmpty("rules of the nat table are for first packets");
    }

    [Fact]
    public void FilterAtForward_SeesTheBackendAsTheSource()
    {
        // Sources are translated at postrouting, behind forward.
        Reply(Set("-A FORWARD -s 10.244.2.9/32 -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j DROP"), Packet("10.244.1.7:40000")).Outcome.ShouldBe(WalkOutcome.Dropped);
        Reply(Set("-A FORWARD -s 10.96.0.10/32 -j DROP"), Packet("10.244.1.7:40000")).Outcome.ShouldBe(WalkOutcome.Untranslated);
        Reply(Set("-A FORWARD -m conntrack --ctstate NEW -j DROP\n-A FORWARD -m conntrack --ctorigdst 10.96.0.10 --ctdir REPLY -j DROP"), Packet("10.244.1.7:40000", fromNode: false) with { InInterface = "cni0" })
            .Branches.Length.ShouldBe(1);
    }

    [Fact]
    public void MasqueradedClient_IsFoundAgain()
    {
        var set = Set("-A FORWARD -d 172.30.0.11/32 -j DROP", "-A POSTROUTING -j MASQUERADE");
        var packet = Packet("10.244.1.7:40000");
        packet.ReplyTo(RuleWalk.Run([Set("", "-A POSTROUTING -j MASQUERADE")], packet).Branches[0]).Tuple.Destination.Address.ToString().ShouldBe("172.30.0.11");
        // The answer comes to the node's own address, and is the client's again before it is routed.
        Reply(set, packet).Branches[0].Tuple.ToString().ShouldBe("10.96.0.10:80 > 10.244.1.7:40000");
    }

    [Fact]
    public void AnswerToTheNodeItself_ComesInAndIsTranslatedBehindTheFilter()
    {
        var packet = Packet("172.30.0.11:40000", fromNode: true);
        var result = Reply(Set("-A INPUT -s 10.244.2.9/32 -p tcp -m tcp --sport 8080 -j ACCEPT\n-A INPUT -j DROP"), packet);
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Branches[0].Tuple.ToString().ShouldBe("10.96.0.10:80 > 172.30.0.11:40000");
    }

    [Fact]
    public void ConnectionMark_IsTheFirstPackets()
    {
        var set = Set("-A FORWARD -m connmark --mark 0x7 -j DROP", "-A POSTROUTING -j CONNMARK --set-xmark 0x7/0xffffffff");
        Reply(set, Packet("10.244.1.7:40000")).Outcome.ShouldBe(WalkOutcome.Dropped);
    }
}
