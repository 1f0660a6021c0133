using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

/// <summary>The writer of nftables mode against what real kube-proxies wrote: the same objects in, the same table out.</summary>
public class NftablesRulesTests
{
    [Theory]
    [InlineData("kube-proxy-1.36.3", "kp-node1", false)]
    [InlineData("kube-proxy-1.36.3", "kp-node1", true)]
    [InlineData("kube-proxy-1.36.3-node3", "kp-node3", false)]
    [InlineData("kube-proxy-1.36.3-node3", "kp-node3", true)]
    public void SameObjects_SameTable(string cluster, string node, bool ipv6)
    {
        var folder = KubeProxyFixture.Folder(cluster);
        Compare(KubeProxyFixture.Text(Path.Combine(folder, "nftables", "nft-list-ruleset.txt")), NftablesRules.Write(KubeProxyFixture.Objects(folder), Options(node), ipv6), 60);
    }

    [Theory]
    [InlineData("b-1000x5")]
    [InlineData("c-10000x2")]
    public void ThousandsOfServices_SameTable(string name)
    {
        var folder = KubeProxyFixture.Scale(name);
        Assert.SkipWhen(folder is null, "needs the scale fixtures in ../shared/fixtures, which are not beside this repository");
        Compare(KubeProxyFixture.Text(Path.Combine(folder!, "nftables", "nft-list-ruleset.txt")),
            NftablesRules.Write(KubeProxyFixture.Objects(Path.Combine(folder!, "nftables")), Options("kp-node1"), ipv6: false), 2000);
    }

    [Theory]
    [InlineData("kube-proxy-1.36.3", "kp-node1")]
    [InlineData("kube-proxy-1.36.3-node3", "kp-node3")]
    public void TableInTheKernel_IsKubeProxys(string cluster, string node)
    {
        using var place = new EmptyNamespace("nft");
        var folder = KubeProxyFixture.Folder(cluster);
        var objects = KubeProxyFixture.Objects(folder);
        var nftables = new Nftables(place.Path);
        foreach (var ipv6 in (bool[])[false, true])
        {
            // Over the remains of other objects, and twice, as a kube-proxy that restarts does.
            nftables.Apply(NftablesRules.Write(objects with { EndpointSlices = [.. objects.EndpointSlices.Where((_, i) => i % 2 == 0)] }, Options(node), ipv6));
            nftables.Apply(NftablesRules.Write(objects, Options(node), ipv6));
            nftables.Apply(NftablesRules.Write(objects, Options(node), ipv6));
        }

        Objects(Command.Run(place.Path, "nft", ["--json", "list", "ruleset"])).ShouldBe(Objects(KubeProxyFixture.Text(Path.Combine(folder, "nftables", "nft-list-ruleset.json"))));
    }

    [Fact]
    public void ClientsThatStayWithAnEndpoint_AreRememberedWhenOtherThingsChange()
    {
        using var place = new EmptyNamespace("nft");
        var objects = KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3"));
        var nftables = new Nftables(place.Path);
        var table = NftablesRules.Write(objects, Options("kp-node1"), ipv6: false);
        nftables.Apply(table);
        var set = table.Sets.First(s => s.Seconds is not null).Name;
        Command.Run(place.Path, "nft", ["add", "element", "ip", "kube-proxy", set, "{ 192.0.2.7 }"]);
        Command.Run(place.Path, "nft", ["add", "table", "ip", "mine"]);

        nftables.Apply(NftablesRules.Write(Without(objects, "web-lb"), Options("kp-node1"), ipv6: false));
        Command.Run(place.Path, "nft", ["list", "set", "ip", "kube-proxy", set]).ShouldContain("192.0.2.7");

        // What has gone leaves an empty chain behind, and that goes the next time.
        bool Listed(string what) => Command.Run(place.Path, "nft", ["list", "ruleset"]).Contains(what);
        Listed("chain external-UJRCOQWF-demo/web-lb/tcp/http {\n\t}").ShouldBeTrue();
        nftables.Apply(NftablesRules.Write(Without(objects, "web-lb", "web-affinity"), Options("kp-node1"), ipv6: false));
        Listed("demo/web-lb/tcp").ShouldBeFalse();
        Listed("set affinity-").ShouldBeFalse();
        Listed("table ip mine").ShouldBeTrue();
    }

    [Fact]
    public void AffinityWithAnotherTimeout_ReplacesTheSets()
    {
        using var place = new EmptyNamespace("nft");
        var objects = KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3"));
        var nftables = new Nftables(place.Path);
        nftables.Apply(NftablesRules.Write(objects, Options("kp-node1"), ipv6: false));
        nftables.Apply(NftablesRules.Write(objects with
        {
            Services = [.. objects.Services.Select(s => s with { Spec = s.Spec with { SessionAffinityConfig = new SessionAffinityConfig { ClientIP = new ClientIPConfig { TimeoutSeconds = 5405 } } } })],
        }, Options("kp-node1"), ipv6: false));

        Command.Run(place.Path, "nft", ["list", "ruleset"]).ShouldContain("timeout 1h30m5s");
    }

    private static ClusterSnapshot Without(ClusterSnapshot cluster, params string[] services)
        => cluster with { Services = [.. cluster.Services.Where(s => !services.Contains(s.Metadata.Name))] };

    private static KubeProxyOptions Options(string node) => new()
    {
        NodeName = node,
        ClusterCidrs = [IpNetwork.Parse("10.244.0.0/16"), IpNetwork.Parse("fd00:10:244::/56")],
        ServiceCidrs = [IpNetwork.Parse("10.96.0.0/12"), IpNetwork.Parse("fd00:10:96::/112")],
        NodeAddresses = [IpAddress.Parse($"172.30.0.1{node[^1]}"), IpAddress.Parse($"fd00:172:30::1{node[^1]}")],
    };

    private static void Compare(string real, NftTable table, int least)
    {
        var family = table.Name.Split(' ')[0];
        var theirs = ListedTables.Normalise(real, family);
        var ours = ListedTables.Normalise(table.ToString(), family);
        theirs.Count.ShouldBeGreaterThan(least, "the fixture itself");
        string.Join('\n', ours.Except(theirs)).ShouldBe("", "what kube-proxy did not write");
        string.Join('\n', theirs.Except(ours)).ShouldBe("", "what we did not write");
        ours.ShouldBe(theirs);
    }

    // Handles and the kernel's order of elements are chance, kube-proxy's order of Services too; a chain's order of rules is not.
    private static List<string> Objects(string json)
    {
        var objects = new List<string>();
        var rules = new Dictionary<string, int>();
        foreach (var one in JsonNode.Parse(json)!["nftables"]!.AsArray().SelectMany(o => o!.AsObject()))
        {
            var body = one.Value!.AsObject();
            body.Remove("handle");
            if (body["elem"] is JsonArray elements)
            {
                body["elem"] = new JsonArray([.. elements.OrderBy(e => e!.ToJsonString(), StringComparer.Ordinal).Select(e => e!.DeepClone())]);
            }

            var chain = $"{body["family"]} {body["chain"]}";
            var place = one.Key == "rule" ? rules[chain] = rules.GetValueOrDefault(chain) + 1 : 0;
            if (one.Key != "metainfo")
            {
                objects.Add($"{one.Key} {chain} {place:D3} {body.ToJsonString(new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping })}");
            }
        }

        return [.. objects.Order(StringComparer.Ordinal)];
    }
}
