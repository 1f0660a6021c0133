using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>What kube-proxy's rules say, whole and damaged.</summary>
public sealed partial class ProxyRulesTests
{
    private const string Recent = "kube-proxy-1.36-nft";
    private static readonly ClusterSnapshot Snapshot = SnapshotReader.Read(
        new[] { "services.json", "endpointslices.json", "nodes.json", "pods.json" }.Select(f => Fixture.Find(Fixture.Own(Recent), f)!));

    private static readonly string Dump = Fixture.Text(Fixture.Find(Fixture.Own(Recent), "iptables-save-c.txt")!);

    // The same Services in nftables mode, by the kube-proxy of today and by the one that made a chain per endpoint.
    private const string Nftables = "kube-proxy-1.36-nftables";
    private const string OlderNftables = "kube-proxy-1.33-nftables";

    private static string NftDump(string name = Nftables) => Fixture.Text(Fixture.Find(Fixture.Own(name), "nft-list-ruleset.json")!);

    private static ProxyRules Rules(string dump) => ProxyRules.Of(new NodeAccount
    {
        Name = "kp-node1",
        Dumps = dump.StartsWith('{') ? [new RuleDump("iptables-nft-save", ""), new RuleDump("nft", dump)] : [new RuleDump("iptables-save", dump)],
    }, false);

    private static ClusterSnapshot SnapshotOf(string name) => name == Recent ? Snapshot : SnapshotReader.Read(
        new[] { "services.json", "endpointslices.json", "nodes.json", "pods.json" }.Select(f => Fixture.Find(Fixture.Own(name), f)!));

    private static (Service Service, ServicePort Port, AddressPort Address) Web()
    {
        var service = Snapshot.Services.First(s => s.Metadata.Name == "web-nodeport");
        return (service, service.Spec.Ports[0], new AddressPort(ServiceMeaning.ClusterAddresses(service).First(a => a.IsIPv4), (ushort)service.Spec.Ports[0].Port));
    }

    private static ServiceRules Find(ProxyRules rules)
    {
        var (service, port, address) = Web();
        return rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, address, IpProtocol.Tcp);
    }

    private static BackendsInUse Wanted() => ServiceMeaning.BackendsInUse(Snapshot, Web().Service, Web().Port, false, "kp-node1");

    [Theory]
    [InlineData(Recent, ProxyMode.Iptables)]
    [InlineData(Nftables, ProxyMode.Nftables)]
    [InlineData(OlderNftables, ProxyMode.Nftables)]
    public void HealthyRules_AgreeWithEveryServicePort(string name, ProxyMode mode)
    {
        var snapshot = SnapshotOf(name);
        var rules = Rules(mode == ProxyMode.Nftables ? NftDump(name) : Dump);
        rules.Mode.ShouldBe(mode);
        rules.IsRead.ShouldBeTrue();
        rules.ServiceChains.ShouldBeGreaterThan(20);
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        rules.AreMissing(fromNode: true).ShouldBeFalse();
        var seen = 0;
        foreach (var service in snapshot.Services)
        {
            foreach (var address in ServiceMeaning.ClusterAddresses(service).Where(a => a.IsIPv4))
            {
                foreach (var port in service.Spec.Ports)
                {
                    seen++;
                    var wanted = ServiceMeaning.BackendsInUse(snapshot, service, port, false, "kp-node1");
                    var found = rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, new AddressPort(address, (ushort)port.Port), ServiceMeaning.ProtocolOf(port));
                    found.Exist.ShouldBeTrue($"{service.Ref}:{port.Port}");
                    (found.Reject is not null).ShouldBe(wanted.Backends.IsEmpty, $"{service.Ref}:{port.Port}");
                    found.Entries.Length.ShouldBe(wanted.Backends.IsEmpty ? 0 : 1, $"{service.Ref}:{port.Port}");
                    if (found.Chain is { } chain && (chain.StartsWith("KUBE-SVC-", StringComparison.Ordinal) || chain.StartsWith("service-", StringComparison.Ordinal)))
                    {
                        chain.ShouldBe(ProxyRules.ServiceChainName($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, ServiceMeaning.ProtocolOf(port), mode));
                    }
                }
            }
        }

        seen.ShouldBeGreaterThan(30);
    }

    [Fact]
    public void NodePortAndExternalAddress_HaveTheirEntriesInNftables()
    {
        var rules = Rules(NftDump());
        var port = SnapshotOf(Nftables).Services.First(s => s.Metadata.Name == "web-nodeport").Spec.Ports[0];
        var found = rules.Find("demo/web-nodeport", port.Name, new AddressPort(IpAddress.Parse("172.30.0.11"), (ushort)port.NodePort), IpProtocol.Tcp);
        found.Entries.Single().Raw.ShouldBe("tcp . 30080 : goto external-VJGUNRM6-demo/web-nodeport/tcp/http");
        found.Entries.Single().Chain.ShouldBe("@service-nodeports");
        rules.Find("demo/web-nodeport", port.Name, new AddressPort(IpAddress.Parse("172.30.0.12"), (ushort)port.NodePort), IpProtocol.Tcp).Exist.ShouldBeFalse("the NodePorts of another node are not this one's");
        rules.Find("demo/external-ips", "http", AddressPort.Parse("198.51.100.77:80"), IpProtocol.Tcp).Chain.ShouldBe("external-B532X47H-demo/external-ips/tcp/http");
        rules.Find("demo/dual-proto", "u", AddressPort.Parse("172.30.0.11:30053"), IpProtocol.Udp).Reject!.Raw.ShouldBe("udp . 30053 comment \"demo/dual-proto:u\" : goto reject-chain");
    }

    [Fact]
    public void OneMapElementRemoved_IsThisServiceOnly()
    {
        var rules = Rules(WithoutElement("service-ips", "10.98.89.44"));
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        var found = rules.Find("demo/web-nodeport", "http", AddressPort.Parse("10.98.89.44:80"), IpProtocol.Tcp);
        found.Exist.ShouldBeFalse();
        found.ChainExpected.ShouldBe("service-VJGUNRM6-demo/web-nodeport/tcp/http");
        found.ChainExists.ShouldBeTrue();
        found.Walk.Outcome.ShouldBe(WalkOutcome.Rejected, "a cluster address is rejected at ports that no map has");
        found.Walk.Matched[^1].Raw.ShouldBe("ip daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"");
        // With its address gone too nobody answers.
        var both = Rules(WithoutElement("cluster-ips", "10.98.89.44", WithoutElement("service-ips", "10.98.89.44")));
        both.Find("demo/web-nodeport", "http", AddressPort.Parse("10.98.89.44:80"), IpProtocol.Tcp).Walk.Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void NftablesTableLostOrEmptied_HasNoRulesAtAll()
    {
        var noTable = ProxyRules.Of(new NodeAccount { Name = "n", NftTables = ["ip6 kube-proxy"], Dumps = [new RuleDump("nft", Without(o => o["family"]?.GetValue<string>() == "ip"))] }, false);
        noTable.Mode.ShouldBe(ProxyMode.Nftables);
        noTable.DescribeMissing(fromNode: false).ShouldBe("there is no table ip kube-proxy");
        // nft flush table ip kube-proxy leaves chains, sets and maps.
        var flushed = Rules(Without(o => o["expr"] is not null));
        flushed.DescribeMissing(fromNode: false).ShouldBe("the maps of table ip kube-proxy hold no Service");
        var unhooked = Rules(Without(o => o["chain"]?.GetValue<string>() == "nat-prerouting"));
        unhooked.AreMissing(fromNode: true).ShouldBeFalse();
        unhooked.DescribeMissing(fromNode: false).ShouldBe("nothing in table ip kube-proxy leads packets from pods to the chain services");
        // After nft flush ruleset nothing tells which mode it was.
        var nothing = ProxyRules.Of(new NodeAccount { Name = "n", Dumps = [new RuleDump("iptables-nft-save", "")] }, false);
        nothing.Mode.ShouldBe(ProxyMode.None);
        nothing.AreMissing(fromNode: false).ShouldBeTrue();
    }

    private static string Without(Predicate<JsonNode> isGone, string? dump = null)
    {
        var root = JsonNode.Parse(dump ?? NftDump())!;
        var items = root["nftables"]!.AsArray();
        foreach (var item in items.Where(i => isGone(i!.AsObject().First().Value!)).ToArray())
        {
            items.Remove(item);
        }

        return root.ToJsonString();
    }

    private static string WithoutElement(string set, string address, string? dump = null)
    {
        var root = JsonNode.Parse(dump ?? NftDump())!;
        var elements = root["nftables"]!.AsArray().Select(i => i!.AsObject().First().Value!).First(o => o["name"]?.GetValue<string>() == set && o["elem"] is not null)["elem"]!.AsArray();
        var gone = elements.Where(e => e!.ToJsonString().Contains($"\"{address}\"", StringComparison.Ordinal)).ToArray();
        gone.ShouldNotBeEmpty();
        foreach (var element in gone)
        {
            elements.Remove(element);
        }

        return root.ToJsonString();
    }

    [Fact]
    public void OneEntryRuleRemoved_IsThisServiceOnly()
    {
        var entry = Find(Rules(Dump)).Entries.Single().Raw;
        var rules = Rules(string.Join('\n', Dump.Split('\n').Where(l => !l.EndsWith(entry, StringComparison.Ordinal))));
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        var found = Find(rules);
        found.Exist.ShouldBeFalse();
        found.ChainExists.ShouldBeTrue();
        found.Walk.Outcome.ShouldBe(WalkOutcome.Untranslated);
    }

    [Fact]
    public void OneEndpointRemoved_IsMissingAndUneven()
    {
        var lost = Find(Rules(Dump)).Backends[^1];
        var rules = Rules(string.Join('\n', Dump.Split('\n').Where(l => !(l.Contains("-A KUBE-SVC-", StringComparison.Ordinal) && l.EndsWith(lost.Chain, StringComparison.Ordinal)))));
        var found = Find(rules);
        found.Backends.Select(b => b.Address).ShouldBe(Wanted().Backends.Select(b => b.Address).Where(a => a != lost.Address), ignoreOrder: true);
        // What remains: the last third of the packets meets no rule any more.
        found.Walk.Outcome.ShouldBe(WalkOutcome.Varies);
        found.Walk.Branches.ShouldContain(b => b.Outcome == WalkOutcome.Untranslated && Math.Abs(b.Probability - 1.0 / 3) < 0.001);
    }

    [Fact]
    public void FlushedNatTable_HasNoRulesAtAll()
    {
        // iptables -t nat -F leaves the chains.
        var flushed = Rules(FlushNat(Dump));
        flushed.Mode.ShouldBe(ProxyMode.Iptables);
        flushed.AreMissing(fromNode: false).ShouldBeTrue();
        flushed.DescribeMissing(fromNode: false).ShouldBe("the nat chain KUBE-SERVICES holds no rule of a Service");
        Rules("*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n").Mode.ShouldBe(ProxyMode.None);
        Rules("*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n").DescribeMissing(fromNode: true).ShouldBe("the nat table has no chain KUBE-SERVICES");
    }

    [Fact]
    public void HookWithoutJump_LeavesTheRulesUnused()
    {
        var rules = Rules(string.Join('\n', Dump.Split('\n').Where(l => !l.Contains("-A PREROUTING", StringComparison.Ordinal))));
        rules.AreMissing(fromNode: false).ShouldBeTrue();
        rules.AreMissing(fromNode: true).ShouldBeFalse();
        rules.DescribeMissing(fromNode: false).ShouldBe("no rule of nat PREROUTING jumps to KUBE-SERVICES");
    }

    [Fact]
    public void UserspacePortals_NameTheProxysPort()
    {
        var rules = Rules("""
            *nat
            :PREROUTING ACCEPT [0:0]
            :OUTPUT ACCEPT [0:0]
            :KUBE-PORTALS-CONTAINER - [0:0]
            :KUBE-PORTALS-HOST - [0:0]
            -A PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
            -A OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
            -A KUBE-PORTALS-CONTAINER -d 10.0.0.159/32 -p tcp -m comment --comment "default/my-nginx:" -m tcp --dport 8080 -j REDIRECT --to-ports 35039
            -A KUBE-PORTALS-HOST -d 10.0.0.159/32 -p tcp -m comment --comment "default/my-nginx:" -m tcp --dport 8080 -j DNAT --to-destination 172.17.42.1:35039
            COMMIT
            """);
        rules.Mode.ShouldBe(ProxyMode.Userspace);
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        var found = rules.Find("default/my-nginx", null, AddressPort.Parse("10.0.0.159:8080"), IpProtocol.Tcp);
        found.RedirectPort.ShouldBe((ushort)35039);
        found.Walk.Outcome.ShouldBe(WalkOutcome.Translated);
        found.Walk.Backends.Single().IsRedirect.ShouldBeTrue();
        rules.Find("default/other", null, AddressPort.Parse("10.0.0.160:8080"), IpProtocol.Tcp).Exist.ShouldBeFalse();
    }

    [Fact]
    public void OtherModesAndBypasses_AreNotCalledMissing()
    {
        var nft = new NodeAccount { Name = "n", Dumps = [new RuleDump("iptables-nft-save", "")], NftTables = ["ip kube-proxy", "ip6 kube-proxy"] };
        ProxyRules.Of(nft, false).Mode.ShouldBe(ProxyMode.Nftables);
        ProxyRules.Of(nft, false).IsRead.ShouldBeFalse("without nft nobody knows what is in the table");
        ProxyRules.Of(nft, false).AreMissing(fromNode: false).ShouldBeFalse();
        ProxyRules.Of(nft with { NftTables = [], Unread = [new Unread("nftables tables of n", "nft is not installed.")] }, false).Mode.ShouldBe(ProxyMode.Unknown);
        ProxyRules.Of(nft with { NftTables = [], HasIpvs = true }, false).Mode.ShouldBe(ProxyMode.Ipvs);
        var cilium = Rules("*nat\n:PREROUTING ACCEPT [0:0]\n:CILIUM_PRE_nat - [0:0]\n-A PREROUTING -j CILIUM_PRE_nat\nCOMMIT\n");
        cilium.Mode.ShouldBe(ProxyMode.Unknown);
        cilium.Bypass.ShouldBe("Cilium");
        cilium.AreMissing(fromNode: false).ShouldBeFalse();
        ProxyRules.Of(new NodeAccount { Name = "unread" }, false).Mode.ShouldBe(ProxyMode.Unknown);
    }

    private static string FlushNat(string dump)
    {
        var table = "";
        return string.Join('\n', dump.Split('\n').Where(l =>
        {
            table = l.StartsWith('*') ? l : table;
            return table != "*nat" || !RuleLine().IsMatch(l);
        }));
    }

    [GeneratedRegex(@"^(\[\d+:\d+\] )?-A ")]
    private static partial Regex RuleLine();
}
