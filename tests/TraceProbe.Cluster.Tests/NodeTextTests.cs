using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Tests;

namespace TraceProbe.Cluster.Tests;

/// <summary>What tools print about a node, from real kernels, whole, cut and damaged.</summary>
public sealed class NodeTextTests
{
    private static string Text(string name) => Fixture.Text(Fixture.Find(Fixture.Own("lab-ipvs/node-1"), name)!);

    [Fact]
    public void Conntrack_ShowsWhereAConnectionWentThroughIpvs()
    {
        var entries = ConntrackEntry.Parse(Text("conntrack-L.txt"));
        entries.Length.ShouldBe(2);
        var entry = entries[1]; // the node asked a Service of its own
        entry.Original.ToString().ShouldBe("10.96.0.159:34006 > 10.96.0.159:8080");
        entry.Backend.ToString().ShouldBe("10.244.2.12:80");
        entry.State.ShouldBe("TIME_WAIT");
        entry.Status.ShouldBe(ConntrackStatus.SeenReply | ConntrackStatus.Confirmed | ConntrackStatus.Assured | ConntrackStatus.Dnat | ConntrackStatus.Snat);
        entries[0].IsTranslated.ShouldBeFalse();
        ConntrackEntry.Parse(string.Join('\n', entries))[1].ShouldBe(entry);
    }

    [Fact]
    public void Conntrack_OfKubeProxysNodes_IsReadFromToolAndProc()
    {
        var shared = Fixture.RequireShared();
        var translated = 0;
        foreach (var folder in Directory.GetDirectories(shared, "healthy-node*", SearchOption.AllDirectories))
        {
            var tool = ConntrackEntry.Parse(Fixture.Text(Path.Combine(folder, "conntrack-L.txt")));
            var proc = ConntrackEntry.Parse(Fixture.Text(Path.Combine(folder, "proc-net-nf_conntrack.txt")));
            tool.ShouldNotBeEmpty();
            translated += tool.Count(e => e.IsTranslated && e.Original.Protocol == IpProtocol.Tcp);
            tool.Where(e => proc.Any(p => p.Original == e.Original)).ShouldAllBe(e => proc.Any(p => p.Original == e.Original && p.Reply == e.Reply));
        }

        translated.ShouldBeGreaterThan(10);
    }

    [Theory]
    [InlineData("udp      17 28 src=10.0.0.1 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] src=10.244.2.2 dst=10.0.0.1 sport=53 dport=40000 mark=4 use=1", "10.244.2.2:53", ConntrackStatus.Confirmed | ConntrackStatus.Dnat)]
    [InlineData("ipv6     10 tcp      6 9 CLOSE src=fd00::1 dst=fd00:96::1 sport=40000 dport=80 packets=5 bytes=300 src=fd00::2 dst=fd00::1 sport=8080 dport=40000 packets=4 bytes=200 [ASSURED] mark=0 secctx=x zone=3 use=1", "[fd00::2]:8080", ConntrackStatus.SeenReply | ConntrackStatus.Confirmed | ConntrackStatus.Assured | ConntrackStatus.Dnat)]
    public void ConntrackLine_IsReadWhateverElseItCarries(string line, string backend, ConntrackStatus status)
    {
        var entry = ConntrackEntry.Parse(line).ShouldHaveSingleItem();
        entry.Backend.ToString().ShouldBe(backend);
        entry.Status.ShouldBe(status);
    }

    [Fact]
    public void Neighbours_TellWhoDoesNotAnswer()
    {
        var neighbours = Neighbour.Parse(Text("ip-neigh.txt") + "10.244.1.99 dev cni0  FAILED\n10.244.1.98 dev cni0 INCOMPLETE\nfe80::1 dev eth0 lladdr 02:42:ac:1e:00:01 router STALE\n");
        neighbours[0].ShouldBe(new Neighbour(IpAddress.Parse("10.77.0.12"), "eth0", "42:61:79:13:71:c5", "REACHABLE"));
        neighbours.Where(n => n.IsSilent).Select(n => n.Address.ToString()).ShouldBe(["10.244.1.99", "10.244.1.98"]);
        neighbours[^1].State.ShouldBe("STALE");
    }

    [Fact]
    public void BridgePorts_TellWhetherAPodCanReachItself()
    {
        BridgePort.Parse(Text("bridge-d-link.txt")).ShouldBe([new("vethdd02b58b", "cni0", true), new("veth7804a56a", "cni0", true)]);
        BridgePort.Parse("3: cni0: <UP> mtu 1500 state UNKNOWN \n    hairpin off\n4: v1: <UP> mtu 1500 master cni0 state forwarding\n    hairpin off guard off\n").ShouldBe([new("v1", "cni0", false)]);
    }

    [Fact]
    public void PolicyRules_AreToldFromTheUsual()
    {
        PolicyRule.Parse(Text("ip-rule.txt"), false).ShouldAllBe(r => r.IsUsual);
        PolicyRule.Parse(Text("ip-6-rule.txt"), true).Length.ShouldBe(2);
        var rules = PolicyRule.Parse("9:\tfrom all fwmark 0x200/0xf00 lookup 2004\n100:\tnot from 10.0.0.0/8 to 10.96.0.0/12 iif eth0 lookup main suppress_prefixlength 0 proto static\n101:\tfrom all ipproto tcp lookup 7\n102:\tfrom 10.1.0.0/16 unreachable\n32766:\tfrom all lookup main\n", false);
        (rules[0].Mark, rules[0].MarkMask, rules[0].Table).ShouldBe((0x200u, 0xf00u, "2004"));
        (rules[1].Not, rules[1].From?.ToString(), rules[1].To?.ToString(), rules[1].InInterface, rules[1].SuppressPrefixLength, rules[1].Unknown).ShouldBe((true, "10.0.0.0/8", "10.96.0.0/12", "eth0", 0, ""));
        rules[2].Unknown.ShouldBe("ipproto tcp");
        rules[3].Action.ShouldBe("unreachable");
        rules.Select(r => r.IsUsual).ShouldBe([false, false, false, false, true]);
    }

    [Theory]
    [InlineData("conntrack-L.txt")]
    [InlineData("ip-neigh.txt")]
    [InlineData("bridge-d-link.txt")]
    [InlineData("ip-rule.txt")]
    public void CutOrDamagedText_IsReadOrRefusedButNeverCrashes(string name)
    {
        Action<string> parse = name switch
        {
            "conntrack-L.txt" => t => ConntrackEntry.Parse(t),
            "ip-neigh.txt" => t => Neighbour.Parse(t),
            "bridge-d-link.txt" => t => BridgePort.Parse(t),
            _ => t => PolicyRule.Parse(t, false),
        };
        var bytes = Encoding.UTF8.GetBytes(Text(name));
        for (var length = 0; length < bytes.Length; length++)
        {
            Try(bytes.AsSpan(0, length).ToArray());
        }

        var random = new Random(3);
        var refused = 0;
        for (var i = 0; i < 10_000; i++)
        {
            refused += Try(Mutation.Of(bytes, random)) ? 0 : 1;
        }

        refused.ShouldBeGreaterThan(100);

        bool Try(byte[] damaged)
        {
            try
            {
                parse(Encoding.UTF8.GetString(damaged));
                return true;
            }
            catch (FormatException)
            {
                return false;
            }
        }
    }
}
