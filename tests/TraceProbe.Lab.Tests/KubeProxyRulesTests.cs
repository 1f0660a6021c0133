using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

/// <summary>The rule writer against what real kube-proxies wrote: the same objects in, the same rules out, none more, none less.</summary>
public class KubeProxyRulesTests
{
    [Theory]
    [InlineData("kube-proxy-1.36.3", "nft", "kp-node1", false)]
    [InlineData("kube-proxy-1.36.3", "nft", "kp-node1", true)]
    [InlineData("kube-proxy-1.36.3", "legacy", "kp-node1", false)]
    [InlineData("kube-proxy-1.36.3", "legacy", "kp-node1", true)]
    [InlineData("kube-proxy-1.33.13", "nft", "kp-node1", false)]
    [InlineData("kube-proxy-1.33.13", "nft", "kp-node1", true)]
    [InlineData("kube-proxy-1.36.3-live", "node1", "kp-node1", false)]
    [InlineData("kube-proxy-1.36.3-live", "node1", "kp-node1", true)]
    [InlineData("kube-proxy-1.36.3-live", "node2", "kp-node2", false)]
    [InlineData("kube-proxy-1.36.3-live", "node2", "kp-node2", true)]
    public void SameObjects_SameRules(string cluster, string rules, string node, bool ipv6)
    {
        var folder = KubeProxyFixture.Folder(cluster);
        var real = File.ReadAllText(Path.Combine(folder, rules, ipv6 ? "ip6tables-save.txt" : "iptables-save.txt"));
        Compare(real, folder, node, ipv6);
    }

    [Theory]
    [InlineData("iptables")]
    [InlineData("iptables-legacy")]
    public void ThousandServices_SameRules(string mode)
    {
        var root = KubeProxyFixture.Scale("b-1000x5");
        Assert.SkipWhen(root is null, "needs the scale fixtures in ../shared/fixtures, which are not beside this repository");
        var objects = Path.Combine(root!, "nftables");
        var rules = KubeProxyFixture.Text(Path.Combine(root!, mode, "iptables-save.txt"));
        Compare(rules, objects, "kp-node1", ipv6: false);
    }

    private static void Compare(string real, string objects, string node, bool ipv6)
    {
        var options = new KubeProxyOptions
        {
            NodeName = node,
            ClusterCidrs = [IpNetwork.Parse("10.244.0.0/16"), IpNetwork.Parse("fd00:10:244::/56")],
            NodeAddresses = [IpAddress.Parse(node == "kp-node1" ? "172.30.0.11" : "172.30.0.12")],
            NfacctCounters = true,
        };
        var ours = SavedRules.Normalise(Iptables.Compose(KubeProxyRules.Write(KubeProxyFixture.Objects(objects), options, ipv6), "").Replace("\n-I ", "\n-A "));
        var theirs = SavedRules.Normalise(real);
        theirs.Count.ShouldBeGreaterThan(60, "the fixture itself");
        // Jumps are inserted one before the other, so in the text that is restored they stand in the opposite order.
        var (ourJumps, ourRules) = Split(ours);
        var (theirJumps, theirRules) = Split(theirs);
        string.Join('\n', ourRules.Except(theirRules)).ShouldBe("", "rules that kube-proxy did not write");
        string.Join('\n', theirRules.Except(ourRules)).ShouldBe("", "rules that we did not write");
        ourRules.ShouldBe(theirRules);
        ourJumps.Reverse();
        ourJumps.GroupBy(j => string.Join(' ', j.Split(' ').Take(3))).OrderBy(g => g.Key).SelectMany(g => g)
            .ShouldBe(theirJumps.GroupBy(j => string.Join(' ', j.Split(' ').Take(3))).OrderBy(g => g.Key).SelectMany(g => g));
    }

    private static (List<string> Jumps, List<string> Rules) Split(List<string> lines)
    {
        bool IsJump(string line) => line.Split(' ') is [_, "-A", "PREROUTING" or "INPUT" or "FORWARD" or "OUTPUT" or "POSTROUTING", ..];
        return (lines.Where(IsJump).ToList(), lines.Where(l => !IsJump(l)).ToList());
    }
}
