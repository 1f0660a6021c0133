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

    private static ProxyRules Rules(string dump) => ProxyRules.Of(new NodeAccount { Name = "kp-node1", Dumps = [new RuleDump("iptables-save", dump)] }, false);

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

    [Fact]
    public void HealthyRules_AgreeWithEveryServicePort()
    {
        var rules = Rules(Dump);
        rules.Mode.ShouldBe(ProxyMode.Iptables);
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        rules.AreMissing(fromNode: true).ShouldBeFalse();
        var seen = 0;
        foreach (var service in Snapshot.Services)
        {
            foreach (var address in ServiceMeaning.ClusterAddresses(service).Where(a => a.IsIPv4))
            {
                foreach (var port in service.Spec.Ports)
                {
                    seen++;
                    var wanted = ServiceMeaning.BackendsInUse(Snapshot, service, port, false, "kp-node1");
                    var found = rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, new AddressPort(address, (ushort)port.Port), ServiceMeaning.ProtocolOf(port));
                    found.Exist.ShouldBeTrue($"{service.Ref}:{port.Port}");
                    found.Compare(wanted).IsNone.ShouldBeTrue($"{service.Ref}:{port.Port}");
                    (found.Reject is not null).ShouldBe(wanted.Backends.IsEmpty, $"{service.Ref}:{port.Port}");
                    if (found.Chain is { } chain && chain.StartsWith("KUBE-SVC-", StringComparison.Ordinal))
                    {
                        chain.ShouldBe(ProxyRules.ServiceChainName($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, ServiceMeaning.ProtocolOf(port)));
                    }
                }
            }
        }

        seen.ShouldBeGreaterThan(30);
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
        var difference = found.Compare(Wanted());
        difference.Missing.Single().Address.ShouldBe(lost.Address);
        difference.Stale.ShouldBeEmpty();
        // What remains: the last third of the packets meets no rule any more.
        found.Walk.Outcome.ShouldBe(WalkOutcome.Varies);
        found.Walk.Branches.ShouldContain(b => b.Outcome == WalkOutcome.Untranslated && Math.Abs(b.Probability - 1.0 / 3) < 0.001);
    }

    [Fact]
    public void EndpointNotWantedAnyMore_IsStale()
    {
        var wanted = Wanted();
        var difference = Find(Rules(Dump)).Compare(wanted with { Backends = wanted.Backends.RemoveAt(0) });
        difference.Stale.Single().Address.ShouldBe(wanted.Backends[0].Address);
        difference.Missing.ShouldBeEmpty();
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
