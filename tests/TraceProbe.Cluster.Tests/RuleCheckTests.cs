using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>What a comparison of rules and objects tells about what people do to a node.</summary>
public sealed class RuleCheckTests
{
    private static readonly ClusterSnapshot Cluster = SnapshotReader.Read(
        new[] { "services.json", "endpointslices.json", "nodes.json", "pods.json" }.Select(f => Fixture.Find(Fixture.Own("kube-proxy-1.36-nft"), f)!));

    private static readonly string[] Dump = [.. Fixture.Text(Fixture.Find(Fixture.Own("kube-proxy-1.36-nft"), "iptables-save-c.txt")!).Split('\n')
        .Select(l => l.StartsWith('[') ? l[(l.IndexOf(']', StringComparison.Ordinal) + 2)..] : l)];

    private static NodeCheck Check(IEnumerable<string> dump, ClusterSnapshot? cluster = null, string? node = "kp-node1", IEnumerable<string>? legacy = null)
    {
        List<RuleSet> sets = [RuleSet.Parse(new RuleDump("iptables-nft-save", string.Join('\n', dump)))];
        if (legacy is not null)
        {
            sets.Add(RuleSet.Parse(new RuleDump("iptables-legacy-save", string.Join('\n', legacy))));
        }

        return new RuleCheck(cluster ?? Cluster, node, [ProxyRules.Of(sets, false, [], false)]).Run();
    }

    private static CheckFinding Only(NodeCheck report) => report.Findings.Where(f => f.Status == CheckStatus.Differs).ShouldHaveSingleItem();

    private static IEnumerable<string> Without(string part) => Dump.Where(l => !l.Contains(part, StringComparison.Ordinal));

    private static IEnumerable<string> Before(string part, params string[] rules)
    {
        var at = Array.FindIndex(Dump, l => l.Contains(part, StringComparison.Ordinal));
        at.ShouldBeGreaterThan(0);
        return [.. Dump[..at], .. rules, .. Dump[at..]];
    }

    private static string AddressOf(string name) => Cluster.FindService("demo", name)!.Spec.ClusterIP!;

    [Fact]
    public void HealthyRules_AgreeInBothFamilies()
    {
        var sets = new[] { "iptables-save-c.txt", "ip6tables-save.txt" }.Select(f => RuleSet.Parse(new RuleDump(f, Fixture.Text(Fixture.Find(Fixture.Own("kube-proxy-1.36-nft"), f)!)))).ToList();
        var report = new RuleCheck(Cluster, "kp-node1", [ProxyRules.Of(sets, false, [], false), ProxyRules.Of(sets, true, [], false)]).Run();
        report.Status.ShouldBe(CheckStatus.Agrees);
        report.Ports.Length.ShouldBeGreaterThan(35);
        report.NotSeen.ShouldBeEmpty();
        // What is refused as it should be is still worth knowing, with the reason.
        report.Findings.Select(f => (f.Ports[0], f.Class)).ShouldContain(("demo/sick 80/TCP", FailureClass.NoReadyEndpoints));
        report.Findings.Select(f => (f.Ports[0], f.Class)).ShouldContain(("demo/internal-local-none 80/TCP", FailureClass.NoLocalEndpoints));
    }

    [Fact]
    public void EndpointSlicesNotRead_LeaveItOpenWhereRulesShouldLead()
    {
        var report = Check(Dump, Cluster with { EndpointSlices = [], Unread = [new Unread("endpointslices", "Not allowed.")] });
        report.Status.ShouldBe(CheckStatus.Undetermined);
        report.Findings.ShouldHaveSingleItem().Sentence.ShouldContain("EndpointSlices were not read");
        report.Findings[0].Mend.ShouldBeNull();
    }

    [Fact]
    public void PodsNotRead_AreNotTakenForNone()
    {
        var report = Check(Dump, Cluster with { Pods = [], Unread = [new Unread("pods", "Not allowed.")] });
        report.Status.ShouldBe(CheckStatus.Agrees);
        report.Findings.Where(f => f.Ports.Contains("demo/sick 80/TCP")).ShouldHaveSingleItem().Class.ShouldBe(FailureClass.NoReadyEndpoints);
        report.Findings.ShouldNotContain(f => f.Class == FailureClass.NoPods || f.Class == FailureClass.SelectorMatchesNothing);
    }

    [Theory]
    [InlineData("CONTAINER", "REDIRECT --to-ports 35039", "from pods and from outside", "REDIRECT --to-ports …")]
    [InlineData("HOST", "DNAT --to-destination 172.30.0.11:35039", "from the node itself", "DNAT --to-destination …")]
    public void PortalMissingInUserspaceMode_IsNamedAsThatModeWritesIt(string which, string target, string who, string wanted)
    {
        var rule = $"-A KUBE-PORTALS-{which} -d {AddressOf("web-numeric")}/32 -p tcp -m comment --comment \"demo/web-numeric:x\" -m tcp --dport 8081 -j {target}";
        string[] dump =
        [
            "*nat", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":KUBE-PORTALS-CONTAINER - [0:0]", ":KUBE-PORTALS-HOST - [0:0]",
            "-A PREROUTING -m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\" -j KUBE-PORTALS-CONTAINER",
            "-A OUTPUT -m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\" -j KUBE-PORTALS-HOST",
            $"-A KUBE-PORTALS-CONTAINER -d {AddressOf("web-numeric")}/32 -p tcp -m comment --comment \"demo/web-numeric:x\" -m tcp --dport 8081 -j REDIRECT --to-ports 35039",
            $"-A KUBE-PORTALS-HOST -d {AddressOf("web-numeric")}/32 -p tcp -m comment --comment \"demo/web-numeric:x\" -m tcp --dport 8081 -j DNAT --to-destination 172.30.0.11:35039",
            // So that the chains are not empty.
            "-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https\" -m tcp --dport 443 -j REDIRECT --to-ports 35040",
            "-A KUBE-PORTALS-HOST -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https\" -m tcp --dport 443 -j DNAT --to-destination 172.30.0.11:35040",
            "COMMIT",
        ];
        var objects = Cluster with { Services = [.. Cluster.Services.Where(s => s.Metadata.Name is "web-numeric" or "kubernetes")] };
        Check(dump, objects).Status.ShouldBe(CheckStatus.Agrees);
        var finding = Only(Check(dump.Where(l => l != rule), objects));
        finding.Class.ShouldBe(FailureClass.ServiceRuleMissing);
        finding.Sentence.ShouldContain($"nat KUBE-PORTALS-{which} has no rule");
        finding.Sentence.ShouldContain(who);
        finding.Rules.ShouldHaveSingleItem().Raw.ShouldBe(rule.Replace(target, wanted, StringComparison.Ordinal));
    }

    [Fact]
    public void EndpointThatIsGoneFromTheApi_IsStaleInTheRules()
    {
        var slice = Cluster.EndpointSlices.First(s => s.ServiceName == "web-numeric");
        var gone = slice.Endpoints[0];
        var later = Cluster with { EndpointSlices = Cluster.EndpointSlices.Replace(slice, slice with { Endpoints = slice.Endpoints.RemoveAt(0) }) };
        var finding = Only(Check(Dump, later));
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Ports.ShouldBe(["demo/web-numeric 8081/TCP"]);
        finding.Rules.ShouldContain(r => r.Raw.EndsWith($"--to-destination {gone.Addresses[0]}:8080", StringComparison.Ordinal) && r.Chain.StartsWith("KUBE-SEP-", StringComparison.Ordinal) && r.Position == 2);
        finding.Mend!.Command!.ShouldContain("kp-node1");
    }

    [Fact]
    public void ServiceNewInTheApi_HasNoRuleYet()
    {
        var web = Cluster.FindService("demo", "web")!;
        var added = web with { Metadata = web.Metadata with { Name = "new" }, Spec = web.Spec with { ClusterIP = "10.96.200.200", ClusterIPs = ["10.96.200.200"] } };
        var slices = Cluster.SlicesOf(web).Select(s => s with { Metadata = s.Metadata with { Name = "new-1", Labels = s.Metadata.Labels.SetItem(EndpointSlice.ServiceNameLabel, "new") } });
        var finding = Only(Check(Dump, Cluster with { Services = Cluster.Services.Add(added), EndpointSlices = [.. Cluster.EndpointSlices, .. slices] }));
        finding.Class.ShouldBe(FailureClass.ServiceRuleMissing);
        finding.Sentence.ShouldContain("10.96.200.200:80");
        var rule = finding.Rules.ShouldHaveSingleItem();
        rule.IsMissing.ShouldBeTrue();
        rule.Raw.ShouldBe($"-A KUBE-SERVICES -d 10.96.200.200/32 -p tcp -m comment --comment \"demo/new cluster IP\" -m tcp --dport 80 -j {ProxyRules.ServiceChainName("demo/new", null, IpProtocol.Tcp)}");
    }

    [Fact]
    public void ServiceDeletedInTheApi_LeavesRulesThatNobodyWants()
    {
        var report = Check(Dump, Cluster with { Services = [.. Cluster.Services.Where(s => s.Metadata.Name != "web-numeric")] });
        var finding = Only(report);
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Sentence.ShouldContain($"{AddressOf("web-numeric")} port 8081/TCP");
    }

    [Fact]
    public void PortTakenFromTheService_IsStillServed()
    {
        var multi = Cluster.FindService("demo", "multi")!;
        var finding = Only(Check(Dump, Cluster with { Services = Cluster.Services.Replace(multi, multi with { Spec = multi.Spec with { Ports = [multi.Spec.Ports[0]] } }) }));
        finding.Class.ShouldBe(FailureClass.PortNotInService);
        finding.Objects.ShouldContain(multi.Ref);
    }

    [Fact]
    public void MissingRuleText_IsWhatKubeProxyWrites()
    {
        // Whatever rule is taken out, the one that is said to be missing is that very rule.
        foreach (var rule in Dump.Where(l => l.StartsWith("-A KUBE-SERVICES -d", StringComparison.Ordinal) || l.StartsWith("-A KUBE-NODEPORTS -p", StringComparison.Ordinal)
            || l.StartsWith("-A KUBE-EXTERNAL-SERVICES", StringComparison.Ordinal) || l.StartsWith("-A KUBE-PROXY-FIREWALL", StringComparison.Ordinal) || l.StartsWith("-A KUBE-FW-", StringComparison.Ordinal) && l.Contains(" -s ", StringComparison.Ordinal)))
        {
            // The health check's accept changes nothing, and node ports have a second rule for 127.0.0.0/8.
            var damaged = Dump.Where(l => l != rule && !(l.StartsWith("-A KUBE-NODEPORTS -d 127", StringComparison.Ordinal) && rule.StartsWith("-A KUBE-NODEPORTS", StringComparison.Ordinal)));
            if (!rule.Contains("health check", StringComparison.Ordinal) && !rule.Contains("127.0.0.0", StringComparison.Ordinal))
            {
                Check(damaged).Findings.Where(f => f.Status == CheckStatus.Differs).SelectMany(f => f.Rules).Select(r => r.Raw).ShouldContain(rule);
            }
        }
    }

    [Fact]
    public void HandWrittenDrop_IsToldOnceWithTheCommandThatRemovesIt()
    {
        var finding = Only(Check(Before("-A FORWARD -m conntrack", "-A FORWARD -s 10.244.0.0/16 -j DROP")));
        finding.Class.ShouldBe(FailureClass.DroppedByRule);
        finding.Ports.Length.ShouldBeGreaterThan(20);
        finding.Rules.ShouldHaveSingleItem().Owner.ShouldBeNull();
        finding.Mend!.Command.ShouldBe("iptables-nft -t filter -D FORWARD -s 10.244.0.0/16 -j DROP");
        finding.Mend.On.ShouldBe("kp-node1");
        finding.Sentence.ShouldContain("a rule that is not kube-proxy's");
    }

    [Theory]
    [InlineData("DOCKER", "Docker")]
    [InlineData("cali-PREROUTING", "Calico")]
    [InlineData("KUBE-ROUTER-SERVICES", "kube-router")]
    [InlineData("ISTIO_INBOUND", "Istio")]
    [InlineData("PREROUTING_direct", "firewalld")]
    public void TranslationOfAnotherOwnerBeforeKubeProxys_IsNamed(string chain, string owner)
    {
        var dump = Before("-A PREROUTING -m comment", $":{chain} - [0:0]", $"-A PREROUTING -j {chain}", $"-A {chain} -d {AddressOf("web")}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8000");
        var finding = Only(Check(dump));
        finding.Class.ShouldBe(FailureClass.TranslationShadowed);
        finding.Ports.ShouldBe(["demo/web 80/TCP"]);
        finding.Rules[0].Owner.ShouldBe(owner);
        finding.Sentence.ShouldContain("172.17.0.2:8000");
        finding.Mend!.Command.ShouldBeNull();
    }

    [Fact]
    public void WhatANetworkPolicyDrops_IsARemarkAndNoFault()
    {
        var backend = Cluster.SlicesOf(Cluster.FindService("demo", "web-numeric")!).First().Endpoints[0].Addresses[0];
        var report = Check(Before("-A FORWARD -m conntrack", ":KUBE-NWPLCY-ABC - [0:0]", "-A FORWARD -j KUBE-NWPLCY-ABC", $"-A KUBE-NWPLCY-ABC -d {backend}/32 -j DROP"));
        report.Status.ShouldBe(CheckStatus.Agrees);
        var remark = report.Findings.Where(f => f.Class == FailureClass.DroppedByRule).ShouldHaveSingleItem();
        remark.Rules[0].Owner.ShouldBe("kube-router");
        remark.Sentence.ShouldContain("kube-router");
    }

    [Fact]
    public void NotrackInTheRawTable_ShadowsTheTranslation()
    {
        string[] raw = ["*raw", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", $"-A PREROUTING -d {AddressOf("web")}/32 -j NOTRACK", "COMMIT"];
        var finding = Only(Check([.. raw, .. Dump]));
        finding.Class.ShouldBe(FailureClass.TranslationShadowed);
        finding.Rules[0].Where.ShouldBe("raw PREROUTING rule 1");
    }

    [Fact]
    public void ForwardPolicyDrop_IsNamedAsPolicy()
    {
        var finding = Only(Check(Dump.Select(l => l == ":FORWARD ACCEPT [0:0]" ? ":FORWARD DROP [0:0]" : l)));
        finding.Class.ShouldBe(FailureClass.DroppedByRule);
        finding.Sentence.ShouldContain("policy");
    }

    [Fact]
    public void OldRulesInTheOtherBackend_AreAConflict()
    {
        var stale = Dump.Select(l => l.Contains("demo/web-numeric", StringComparison.Ordinal) ? l.Replace("--to-destination 10.244.", "--to-destination 10.99.", StringComparison.Ordinal) : l);
        var finding = Only(Check(Dump, legacy: stale));
        finding.Class.ShouldBe(FailureClass.ProxyBackendConflict);
        finding.Ports.ShouldBe(["demo/web-numeric 8081/TCP"]);
        finding.Sentence.ShouldContain("iptables-legacy");
        finding.Sentence.ShouldContain("iptables-nft");
        // The API tells which of them is out of date.
        finding.Mend!.Command.ShouldBe("iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore");
    }

    [Fact]
    public void SameRulesInBothBackends_AreAConflictBeforeTheyDiffer()
    {
        var report = Check(Dump, legacy: Dump);
        var finding = Only(report);
        finding.Class.ShouldBe(FailureClass.ProxyBackendConflict);
        finding.Sentence.ShouldContain("iptables-legacy");
        finding.Sentence.ShouldContain("iptables-nft");
        finding.Rules.Select(r => r.Tool).Order().ShouldBe(["iptables-legacy", "iptables-nft"]);
        finding.Ports.ShouldBeEmpty("each packet goes where it should as yet");
        report.Ports.ShouldAllBe(p => p.Status == CheckStatus.Agrees);
        report.Families.ShouldHaveSingleItem().Describe().Split(" and ").Order().ShouldBe(["iptables-legacy", "iptables-nft"]);
        // What nothing leads to any more is no conflict.
        Check(Dump, legacy: Dump.Where(l => !l.EndsWith("-j KUBE-SERVICES", StringComparison.Ordinal))).Status.ShouldBe(CheckStatus.Agrees);
    }

    [Fact]
    public void IptablesRulesLeftBesideNftablesMode_AreAConflict()
    {
        var nftables = Fixture.Text(Fixture.Find(Fixture.Own("kube-proxy-1.36-nftables"), "nft-list-ruleset.json")!);
        var sets = RuleSet.ParseAll([new RuleDump("iptables-save", string.Join('\n', Dump)), new RuleDump("nft", nftables)]);
        var report = new RuleCheck(Cluster, "kp-node1", [ProxyRules.Of(sets, false, [], false)]).Run();
        report.Families.ShouldHaveSingleItem().Describe().ShouldBe("iptables-nft and nftables");
        var finding = report.Findings.Where(f => f.Class == FailureClass.ProxyBackendConflict).ShouldHaveSingleItem();
        finding.Status.ShouldBe(CheckStatus.Differs);
        finding.Sentence.ShouldContain("iptables-nft");
        finding.Sentence.ShouldContain("nft");
    }

    [Fact]
    public void MarkingThatMostServicesLost_IsNotHeldAgainstTheOneThatHasIt()
    {
        // Without ConfigMap and rules that know pods, what most Services' rules do is all there is to go by; here most are damaged.
        bool Knows(string line) => line.Contains("-s 10.244.0.0/16 ", StringComparison.Ordinal);
        var kept = Dump.First(l => Knows(l) && l.Contains("demo/web-numeric:x cluster IP", StringComparison.Ordinal));
        var damaged = Dump.Where(l => !Knows(l) || l == kept);
        var report = Check(damaged);
        report.Findings.ShouldNotContain(f => f.Class == FailureClass.MasqueradeUnexpected);
        var doubt = report.Findings.Where(f => f.Status == CheckStatus.Undetermined).ShouldHaveSingleItem();
        doubt.Ports.ShouldBe(["demo/web-numeric 8081/TCP"]);
        doubt.Sentence.ShouldContain("ConfigMap kube-system/kube-proxy");

        // The ConfigMap tells that it is the others that lack it.
        var told = Cluster with { Settings = new ClusterSettings { KubeProxy = new KubeProxySettings { From = "configmap/kube-system/kube-proxy", ClusterCidrs = ["10.244.0.0/16"] } } };
        var missing = Check(damaged, told).Findings.Where(f => f.Class == FailureClass.MasqueradeMissing).SelectMany(f => f.Ports).ToList();
        missing.Count.ShouldBeGreaterThan(20);
        missing.ShouldNotContain("demo/web-numeric 8081/TCP");
    }

    [Fact]
    public void AffinityThatTheServiceNoLongerWants_IsStale()
    {
        var service = Cluster.FindService("demo", "web-affinity")!;
        var config = service.Spec.SessionAffinityConfig!;
        var finding = Only(Check(Dump, Cluster with { Services = Cluster.Services.Replace(service, service with { Spec = service.Spec with { SessionAffinity = "None" } }) }));
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Sentence.ShouldContain("sessionAffinity");
        var other = config with { ClientIP = new ClientIPConfig { TimeoutSeconds = 77 } };
        finding = Only(Check(Dump, Cluster with { Services = Cluster.Services.Replace(service, service with { Spec = service.Spec with { SessionAffinityConfig = other } }) }));
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Sentence.ShouldContain("77 s");
    }

    [Fact]
    public void OneShareOfThree_IsTooLarge()
    {
        var chain = ProxyRules.ServiceChainName("demo/web-numeric", "x", IpProtocol.Tcp);
        var finding = Only(Check(Dump.Select(l => l.StartsWith($"-A {chain} ", StringComparison.Ordinal) ? l.Replace("0.33333333349", "0.90000000037", StringComparison.Ordinal) : l)));
        finding.Class.ShouldBe(FailureClass.EndpointShareUneven);
        finding.Sentence.ShouldContain("90 %");
    }

    [Fact]
    public void OtherModesAndBypasses_AreUndeterminedAndNotMissing()
    {
        new RuleCheck(Cluster, "kp-node1", [ProxyRules.Of([], false, ["ip kube-proxy"], false)]).Run().Status.ShouldBe(CheckStatus.Undetermined);
        var cilium = RuleSet.Parse(new RuleDump("iptables-save", "*nat\n:PREROUTING ACCEPT [0:0]\n:CILIUM_PRE_nat - [0:0]\n-A PREROUTING -j CILIUM_PRE_nat\nCOMMIT\n"));
        var report = new RuleCheck(Cluster, "kp-node1", [ProxyRules.Of([cilium], false, [], false)]).Run();
        report.Status.ShouldBe(CheckStatus.Undetermined);
        report.Findings.Where(f => f.Status == CheckStatus.Undetermined).ShouldHaveSingleItem().Sentence.ShouldContain("Cilium");
    }

    [Fact]
    public void PartOfTheCluster_AccusesNoRuleOfBeingLeftOver()
    {
        var report = Check(Dump, Cluster with { Services = [.. Cluster.Services.Where(s => s.Metadata.Namespace == "prod")] });
        report.Status.ShouldBe(CheckStatus.Agrees);
        report.NotSeen.ShouldContain(l => l.Contains("default/kubernetes", StringComparison.Ordinal));
    }

    [Fact]
    public void UnknownNode_LeavesLocalPoliciesOpenAndSaysSo()
    {
        var report = Check(Dump, node: null);
        report.Findings.Where(f => f.Status == CheckStatus.Differs).Select(f => f.Sentence).ShouldBeEmpty();
        report.NotSeen.ShouldContain(l => l.Contains("its name is not known", StringComparison.Ordinal));
    }

    [Fact]
    public void EndpointChainName_IsThatOfTheRealKubeProxy()
    {
        foreach (var (endpoint, chain) in new[] { ("10.244.1.4:53", "KUBE-SEP-222YD7DQOUNKFRLL") })
        {
            ProxyRules.EndpointChainName("kube-system/kube-dns", "dns", IpProtocol.Udp, AddressPort.Parse(endpoint)).ShouldBe(chain);
        }
    }

    [Fact]
    public void MarkingMissingForAllServices_IsToldWhereTheClustersOwnConfigurationAsksForIt()
    {
        // Rules of a kube-proxy without --cluster-cidr look nearly so.
        var unmarked = Dump.Where(l => !l.Contains("! -s 10.244.0.0/16 -d ", StringComparison.Ordinal)).ToList();
        Check(Dump.Where(l => !l.Contains("10.244.0.0/16", StringComparison.Ordinal))).Status.ShouldBe(CheckStatus.Agrees);

        // Where other rules know pods from others, kube-proxy does.
        var byRules = Only(Check(unmarked));
        byRules.Class.ShouldBe(FailureClass.MasqueradeMissing);
        byRules.Sentence.ShouldContain("know pods by 10.244.0.0/16");

        ClusterSnapshot Told(params string[] prefixes) => Cluster with { Settings = new ClusterSettings { KubeProxy = new KubeProxySettings { From = "configmap/kube-system/kube-proxy", ClusterCidrs = [.. prefixes] } } };
        Check(Dump, Told("10.244.0.0/16", "fd00:10:244::/56")).Status.ShouldBe(CheckStatus.Agrees);
        var finding = Only(Check(unmarked, Told("10.244.0.0/16")));
        finding.Class.ShouldBe(FailureClass.MasqueradeMissing);
        finding.Sentence.ShouldContain("clusterCIDR 10.244.0.0/16 in configmap/kube-system/kube-proxy");
        finding.Ports.Length.ShouldBeGreaterThan(20);
        finding.Rules.ShouldNotBeEmpty();
    }

    [Theory]
    [InlineData("-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\"", "-A KUBE-POSTROUTING -m newfangled --of any -j MASQUERADE")]
    [InlineData("", "-A POSTROUTING -m newfangled --of any -j ACCEPT")]
    public void UnknownConditionAboutTheSourceAlone_IsUndetermined(string replaced, string rule)
    {
        var dump = replaced.Length > 0 ? Dump.Select(l => l.StartsWith(replaced, StringComparison.Ordinal) ? rule : l) : Before("-A POSTROUTING", rule);
        var report = Check(dump);
        report.Status.ShouldBe(CheckStatus.Undetermined);
        report.Findings.Where(f => f.Status != CheckStatus.Agrees).ShouldHaveSingleItem().Sentence.ShouldContain("newfangled");
    }
}
