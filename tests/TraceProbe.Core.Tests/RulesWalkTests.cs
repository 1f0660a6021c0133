using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Tests;

public sealed class RulesWalkTests
{
    private static readonly VirtualPacket FromPod = new()
    {
        Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.244.1.7:40000"), AddressPort.Parse("10.96.0.10:80")),
        InInterface = "veth7",
        BridgePort = "",
        LocalAddresses = [IpAddress.Parse("172.30.0.11")],
    };

    // Lines of "table: rule"; chains are declared as they turn up.
    private static RuleSet Set(string rules, string tool = "iptables-nft-save", string policy = "ACCEPT")
    {
        var text = new StringBuilder();
        foreach (var table in rules.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).GroupBy(l => l[..l.IndexOf(':')]))
        {
            var lines = table.Select(l => l[(l.IndexOf(':') + 1)..].Trim()).ToArray();
            text.AppendLine($"*{table.Key}");
            foreach (var chain in lines.Select(l => l.Split(' ')[1]).Distinct())
            {
                text.AppendLine($":{chain} {(chain is "PREROUTING" or "INPUT" or "FORWARD" or "OUTPUT" or "POSTROUTING" ? policy : "-")} [0:0]");
            }

            text.AppendLine(string.Join('\n', lines)).AppendLine("COMMIT");
        }

        return RuleSet.Parse(new RuleDump(tool, text.ToString()));
    }

    private static WalkResult Walk(string rules, VirtualPacket? packet = null) => RuleWalk.Run([Set(rules)], packet ?? FromPod);

    [Fact]
    public void RulesThatSampleForALog_DoNotSplitThePacket()
    {
        var result = Walk(string.Concat(Enumerable.Repeat("nat: -A PREROUTING -m statistic --mode random --probability 0.5 -j LOG\n", 500)) + "nat: -A PREROUTING -p tcp -j DNAT --to-destination 10.244.1.9:80");
        result.Branches.ShouldHaveSingleItem().Backend.ShouldBe(AddressPort.Parse("10.244.1.9:80"));
    }

    [Theory]
    [InlineData("nat: -A PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x1/0x1\n", 20_000)]
    [InlineData("nat: -A PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x1/0x1\n", 40)]
    public void MoreDiceThanAnybodyCanFollow_AreGivenUpAndSaidSo(string rule, int count)
    {
        var result = Walk(string.Concat(Enumerable.Repeat(rule, count)));
        result.Outcome.ShouldBe(WalkOutcome.Undecided);
        result.Unknowns.ShouldHaveSingleItem().ShouldContain("given up");
        result.Branches.Sum(b => (long)b.Steps.Length).ShouldBeLessThan(2_000_000);
    }

    [Fact]
    public void ChainsThatCallTheNextOneTwice_AreGivenUpAndSaidSo()
    {
        var rules = new StringBuilder("nat: -A PREROUTING -j C1\n");
        for (var i = 1; i < 40; i++)
        {
            rules.Append($"nat: -A C{i} -j C{i + 1}\nnat: -A C{i} -j C{i + 1}\n");
        }

        var result = Walk(rules.Append("nat: -A C40 -p udp -j ACCEPT").ToString());
        result.Outcome.ShouldBe(WalkOutcome.Undecided);
        result.Unknowns.ShouldHaveSingleItem().ShouldContain("given up");
    }

    [Fact]
    public void NoRules_LeaveThePacketAsItIs()
    {
        var result = RuleWalk.Run([], FromPod);
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Matched.ShouldBeEmpty();
        result.Masquerade.ShouldBeFalse();
    }

    [Fact]
    public void Dice_MultiplyAlongTheChain()
    {
        var result = Walk("""
            nat: -A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j SVC
            nat: -A SVC -m statistic --mode random --probability 0.33333333349 -j SEP1
            nat: -A SVC -m statistic --mode random --probability 0.50000000000 -j SEP2
            nat: -A SVC -j SEP3
            nat: -A SEP1 -p tcp -j DNAT --to-destination 10.244.1.1:8080
            nat: -A SEP2 -p tcp -j DNAT --to-destination 10.244.2.1:8080
            nat: -A SEP3 -p tcp -j DNAT --to-destination 10.244.3.1:8080
            """);
        result.Outcome.ShouldBe(WalkOutcome.Translated);
        result.Backends.Select(b => b.Address.ToString()).ShouldBe(["10.244.1.1:8080", "10.244.2.1:8080", "10.244.3.1:8080"]);
        result.Backends.ShouldAllBe(b => Math.Abs(b.Probability - 1.0 / 3) < 1e-6);
        result.Backends[1].Chain.ShouldBe("SEP2");
        result.BranchTo(AddressPort.Parse("10.244.2.1:8080"))!.Steps.Select(s => s.Rule.Chain).ShouldBe(["PREROUTING", "SVC", "SEP2"]);
    }

    [Fact]
    public void MarkSetOnTheWay_MasqueradesAtTheEnd()
    {
        const string rules = """
            nat: -A PREROUTING -d 10.96.0.10/32 -j SVC
            nat: -A SVC ! -s 10.244.0.0/16 -j MARKIT
            nat: -A SVC -j DNAT --to-destination 10.244.3.1:8080
            nat: -A MARKIT -j MARK --set-xmark 0x4000/0x4000
            nat: -A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
            nat: -A POSTROUTING -j MARK --set-xmark 0x4000/0x0
            nat: -A POSTROUTING -j MASQUERADE --random-fully
            """;
        Walk(rules).Masquerade.ShouldBeFalse();
        var outside = Walk(rules, FromPod with { Tuple = FromPod.Tuple with { Source = AddressPort.Parse("192.0.2.9:5000") } });
        outside.Outcome.ShouldBe(WalkOutcome.Translated);
        outside.Masquerade.ShouldBeTrue();
    }

    [Fact]
    public void Rejection_ComesAfterTheTranslationThatDidNotHappen()
    {
        var result = Walk("""
            nat: -A PREROUTING -d 10.96.0.99/32 -j DNAT --to-destination 10.244.3.1:8080
            filter: -A FORWARD -d 10.96.0.10/32 -m conntrack --ctstate NEW -j REJECT --reject-with icmp-port-unreachable
            """);
        result.Outcome.ShouldBe(WalkOutcome.Rejected);
        result.RejectWith.ShouldBe("icmp-port-unreachable");
        result.Matched.Single().Table.ShouldBe("filter");
    }

    [Fact]
    public void OriginalDestination_IsKeptThroughTheTranslation()
        => Walk("""
            nat: -A PREROUTING -d 10.96.0.10/32 -j DNAT --to-destination 10.244.3.1:8080
            filter: -A FORWARD -m conntrack --ctstate DNAT --ctorigdst 10.96.0.10/32 --ctorigdstport 80 -j DROP
            """).Outcome.ShouldBe(WalkOutcome.Dropped);

    [Fact]
    public void DropOfOneBackend_VariesByBranch()
    {
        var result = Walk("""
            nat: -A PREROUTING -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.244.1.1:8080
            nat: -A PREROUTING -j DNAT --to-destination 10.244.2.1:8080
            filter: -A FORWARD -d 10.244.2.1/32 -j DROP
            """);
        result.Outcome.ShouldBe(WalkOutcome.Varies);
        result.BranchTo(AddressPort.Parse("10.244.1.1:8080"))!.Outcome.ShouldBe(WalkOutcome.Translated);
        var dropped = result.BranchTo(AddressPort.Parse("10.244.2.1:8080"))!;
        dropped.Outcome.ShouldBe(WalkOutcome.Dropped);
        dropped.Steps[^1].Rule.Raw.ShouldBe("-A FORWARD -d 10.244.2.1/32 -j DROP");
    }

    [Fact]
    public void Policy_DropsWhatNoRuleTook()
    {
        var result = RuleWalk.Run([Set("filter: -A FORWARD -s 10.9.0.0/16 -j ACCEPT", policy: "DROP")], FromPod);
        result.Outcome.ShouldBe(WalkOutcome.Dropped);
        result.Branches.Single().Policy.ShouldBe("policy of filter FORWARD");
    }

    [Fact]
    public void Return_GoesOnInTheCallerAndGoto_DoesNot()
    {
        Walk("""
            filter: -A FORWARD -j A
            filter: -A FORWARD -j DROP
            filter: -A A -j RETURN
            """).Outcome.ShouldBe(WalkOutcome.Dropped);
        Walk("""
            filter: -A FORWARD -g A
            filter: -A FORWARD -j DROP
            filter: -A A -p udp -j DROP
            """).Outcome.ShouldBe(WalkOutcome.Untranslated);
    }

    [Fact]
    public void OwnPackets_GoThroughOutput()
    {
        const string rules = """
            nat: -A PREROUTING -j DNAT --to-destination 10.244.1.1:1
            nat: -A OUTPUT -j DNAT --to-destination 10.244.2.1:2
            filter: -A FORWARD -j DROP
            """;
        Walk(rules, FromPod with { FromNode = true }).Backends.Single().Address.ToString().ShouldBe("10.244.2.1:2");
    }

    [Fact]
    public void Redirect_IsDeliveredToTheNodeItself()
    {
        var routes = RouteTable.Parse(["10.244.1.0/24 dev br0 proto kernel scope link src 10.244.1.1"]);
        var result = Walk("""
            nat: -A PREROUTING -p tcp -j REDIRECT --to-ports 35039
            filter: -A FORWARD -j DROP
            filter: -A INPUT -p tcp -m tcp --dport 35039 -j ACCEPT
            """, FromPod with { Routes = routes });
        result.Outcome.ShouldBe(WalkOutcome.Translated);
        result.Backends.Single().ShouldBe(new WalkBackend(AddressPort.Parse("10.244.1.1:35039"), 1, "PREROUTING", true));
    }

    [Fact]
    public void UnknownConditionThatMatters_IsUndecidedAndNamed()
    {
        var result = Walk("filter: -A FORWARD -p tcp -m u32 --u32 0x6&0xFF=0x6 -j DROP");
        result.Outcome.ShouldBe(WalkOutcome.Undecided);
        result.Unknowns.Single().ShouldContain("-m u32 --u32 0x6&0xFF=0x6");
    }

    [Theory]
    [InlineData("filter: -A FORWARD -p udp -m u32 --u32 0x6&0xFF=0x6 -j DROP")]
    [InlineData("filter: -A FORWARD -m u32 --u32 0x6&0xFF=0x6 -j LOG")]
    [InlineData("filter: -A FORWARD -m limit --limit 5/min -j LOG --log-prefix \"x \"")]
    [InlineData("filter: -A FORWARD -m set --match-set S src -j ACCEPT")]
    [InlineData("filter: -A FORWARD -m set --match-set S src -j B\nfilter: -A B -p udp -j DROP")]
    public void UnknownConditionThatDoesNotMatter_IsNoQuestion(string rules)
    {
        var result = Walk(rules);
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Unknowns.ShouldBeEmpty();
    }

    [Fact]
    public void ChainsInACircle_AreUndecided()
        => Walk("""
            filter: -A FORWARD -j A
            filter: -A A -j B
            filter: -A B -j A
            """).Unknowns.Single().ShouldContain("circle");

    [Fact]
    public void ManyOpenQuestions_EndSoon()
    {
        var rules = string.Join('\n', Enumerable.Range(0, 200).Select(i => $"filter: -A FORWARD -m set --match-set S{i} src -j MARK --set-xmark 0x{i:x}/0xff"));
        Walk($"{rules}\nfilter: -A FORWARD -m mark --mark 0x7/0xff -j DROP").Outcome.ShouldBe(WalkOutcome.Undecided);
    }

    [Fact]
    public void OwnPacketToTheNodeItself_ComesInAgainThroughTheLoopback()
    {
        const string rules = """
            raw: -A PREROUTING -i lo -j MARK --set-xmark 0x7/0x7
            nat: -A PREROUTING -j DNAT --to-destination 10.244.1.1:1
            filter: -A INPUT -i lo -m mark --mark 0x7/0x7 -j DROP
            """;
        Walk(rules, FromPod with { FromNode = true, Tuple = FromPod.Tuple with { Destination = AddressPort.Parse("172.30.0.11:80") } }).Outcome.ShouldBe(WalkOutcome.Dropped);
        Walk(rules, FromPod with { Tuple = FromPod.Tuple with { Destination = AddressPort.Parse("172.30.0.11:80") } }).Backends.Single().Address.ToString().ShouldBe("10.244.1.1:1");
    }

    [Fact]
    public void BeforeConntrackHasSeenThePacket_ThereIsNoConnectionToAskAbout()
    {
        Walk("raw: -A PREROUTING -m conntrack --ctstate NEW -j DROP").Outcome.ShouldBe(WalkOutcome.Untranslated);
        Walk("raw: -A PREROUTING -m conntrack --ctstate INVALID -j DROP").Outcome.ShouldBe(WalkOutcome.Dropped);
        Walk("raw: -A PREROUTING -m connmark ! --mark 0x1 -j DROP").Outcome.ShouldBe(WalkOutcome.Untranslated);
        Walk("mangle: -A PREROUTING -m conntrack --ctstate NEW -j DROP").Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void UntrackedPackets_AreNotTranslated()
        => Walk("""
            raw: -A PREROUTING -p tcp -j CT --notrack
            nat: -A PREROUTING -j DNAT --to-destination 10.244.1.1:1
            """).Outcome.ShouldBe(WalkOutcome.Untranslated);

    [Fact]
    public void FirstTranslation_Wins()
        => Walk("""
            nat: -A PREROUTING -j A
            nat: -A PREROUTING -j DNAT --to-destination 10.244.1.1:1
            nat: -A A -p tcp -j DNAT --to-destination 10.244.2.1:2
            """).Backends.Single().Address.ToString().ShouldBe("10.244.2.1:2");

    [Fact]
    public void BackendsThatDisagree_AreUndecidedBecauseTheirOrderIsNotKnown()
    {
        var legacy = Set("nat: -A PREROUTING -j DNAT --to-destination 10.244.1.1:1", "iptables-legacy-save");
        var nft = Set("nat: -A PREROUTING -j DNAT --to-destination 10.244.2.1:2");
        var result = RuleWalk.Run([legacy, nft], FromPod);
        result.Outcome.ShouldBe(WalkOutcome.Undecided);
        result.Unknowns.Single().ShouldContain("legacy and nft");
        RuleWalk.Run([legacy, Set("filter: -A FORWARD -d 10.244.1.1/32 -j DROP")], FromPod).Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void AffinityOfANewClient_IsAnAssumption()
    {
        var result = Walk("""
            nat: -A PREROUTING -j SVC
            nat: -A SVC -m recent --rcheck --seconds 600 --reap --name SEP1 --mask 255.255.255.255 --rsource -j SEP1
            nat: -A SVC -m statistic --mode random --probability 0.5 -j SEP1
            nat: -A SVC -j SEP2
            nat: -A SEP1 -m recent --set --name SEP1 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.1:80
            nat: -A SEP2 -j DNAT --to-destination 10.244.2.1:80
            """);
        result.Backends.Select(b => b.Probability).ShouldBe([0.5, 0.5]);
        result.Assumptions.Single().ShouldContain("affinity");
        result.Affinity.Single().Backend.ToString().ShouldBe("10.244.1.1:80");
    }

    [Fact]
    public void LongChain_IsSearchedByAddressInOrder()
    {
        var rules = string.Join('\n', Enumerable.Range(0, 500).Select(i => $"nat: -A PREROUTING -d 10.96.{i / 250}.{i % 250}/32 -p tcp -j DNAT --to-destination 10.1.{i / 250}.{i % 250}:1"));
        Walk(rules).Backends.Single().Address.ToString().ShouldBe("10.1.0.10:1");
        Walk($"nat: -A PREROUTING -d 10.96.0.0/16 -j RETURN\n{rules}").Outcome.ShouldBe(WalkOutcome.Untranslated);
        Walk($"{rules}\nnat: -A PREROUTING -d 10.96.0.0/16 -j RETURN").Outcome.ShouldBe(WalkOutcome.Translated);
    }

    [Fact]
    public void RouteTable_TakesTheLongestPrefixAndTheLocalTable()
    {
        var routes = RouteTable.Parse([
            "default via 172.30.0.254 dev eth0",
            "10.244.2.0/24 via 172.30.0.12 dev eth0",
            "unreachable 10.244.9.0/24",
            "local 172.30.0.11 dev eth0 table local proto kernel scope host src 172.30.0.11",
            "10.9.0.0/16 dev eth9 table 100",
            "default via fe80::1 dev eth0 metric 1024 pref medium",
        ]);
        routes.Lookup(IpAddress.Parse("10.244.2.5"))!.Via.ShouldBe(IpAddress.Parse("172.30.0.12"));
        routes.Lookup(IpAddress.Parse("10.244.9.5"))!.Type.ShouldBe("unreachable");
        routes.Lookup(IpAddress.Parse("172.30.0.11"))!.Type.ShouldBe("local");
        routes.Lookup(IpAddress.Parse("10.9.0.1"))!.Prefix.PrefixLength.ShouldBe(0);
        routes.Lookup(IpAddress.Parse("fd00::1"))!.Via.ShouldBe(IpAddress.Parse("fe80::1"));
        RouteTable.Parse([]).Lookup(IpAddress.Parse("1.1.1.1")).ShouldBeNull();
    }
}
