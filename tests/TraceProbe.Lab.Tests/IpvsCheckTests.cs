using System.Globalization;
using System.Text;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Lab.Tests;

/// <summary>
/// What kube-proxy has on a node in IPVS mode, as the lab writes it for objects of a real cluster, damaged at random places and checked: each damage that
/// changes what becomes of some packet for a Service must be told, with the Service ports and the right class, and nothing else. Whether it changes
/// anything is found out by <see cref="PlainIptables"/>, which is asked before and after.
/// </summary>
public sealed class IpvsCheckTests
{
    private const string Node = "kp-node1";
    private const string Outside = "198.18.0.1";
    private static readonly string[] Addresses = ["172.30.0.11", "10.244.1.1"];
    private static readonly ClusterSnapshot Cluster = KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3"));
    private static readonly State Healthy = State.Of(ipv6: false);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WhatKubeProxyWrites_Agrees(bool ipv6)
    {
        var report = State.Of(ipv6).Check(ipv6);
        report.Findings.Where(f => f.Status != CheckStatus.Agrees).Select(f => f.Sentence).ShouldBeEmpty();
        report.Ports.Length.ShouldBeGreaterThan(ipv6 ? 2 : 35);
        report.Families.ShouldHaveSingleItem().Mode.ShouldBe(Core.Node.ProxyMode.Ipvs);
        report.NotSeen.ShouldBeEmpty();
    }

    [Fact]
    public void NodeWithoutOwnEndpoints_IsTold()
    {
        var local = Healthy.Check().Findings.Where(f => f.Class == FailureClass.NoLocalEndpoints).ToList();
        local.ShouldAllBe(f => f.Status == CheckStatus.Agrees);
        local.Single(f => f.Ports.Contains("demo/internal-local-none 80/TCP")).Sentence.ShouldContain("its virtual server there has no real server and refuses");
        local.Single(f => f.Ports.Contains("demo/remote-nodeport-local 80/TCP")).Sentence.ShouldContain("sends packets on to other nodes'");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void DamagesAtRandom_AreToldWithServiceAndClass(int seed)
    {
        // More of them with make test-mutations.
        var count = int.TryParse(Environment.GetEnvironmentVariable("TRACEPROBE_MUTATIONS"), NumberStyles.None, CultureInfo.InvariantCulture, out var wanted) ? wanted : 60;
        var before = Packets().Select(p => new Journey(p.Subject, p.Packet, Healthy.Plain().Ends(p.Packet))).ToList();
        var random = new Random(seed);
        var wrong = new StringBuilder();
        var told = 0;
        for (var i = 0; i < count; i++)
        {
            var damage = Damage.At(Healthy, random);
            var plain = damage.After.Plain();
            var affected = before.Where(j => j.DiffersIn(plain)).Select(j => j.Subject).Concat(damage.Besides).ToHashSet(StringComparer.Ordinal);
            var report = damage.After.Check();
            var found = report.Findings.Where(f => f.Status != CheckStatus.Agrees).ToList();
            var named = found.SelectMany(f => f.Ports).ToHashSet(StringComparer.Ordinal);
            var classes = found.Where(f => !f.Ports.IsEmpty).Select(f => FailureClassInfo.Of(f.Class).Name).Distinct().ToList();
            if (!named.SetEquals(affected) || classes.Except(damage.Classes).Any() || found.Exists(f => f.Rules.IsEmpty && f.Class != FailureClass.ProxyRulesMissing))
            {
                wrong.AppendLine(CultureInfo.InvariantCulture, $"{i}. {damage.What}");
                wrong.AppendLine(CultureInfo.InvariantCulture, $"   not told: {string.Join(", ", affected.Except(named).Take(4))}; told for nothing: {string.Join(", ", named.Except(affected).Take(4))}; classes {string.Join(", ", classes)}, right are {string.Join(", ", damage.Classes)}");
                wrong.AppendLine(CultureInfo.InvariantCulture, $"   {string.Join("\n   ", found.Take(3).Select(f => f.Sentence))}");
            }

            told += affected.Count > 0 ? 1 : 0;
        }

        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{count} damages, {told} of them to Services, {count - told} harmless"));
        Assert.True(wrong.Length == 0, wrong.ToString());
        told.ShouldBeGreaterThan(count / 2);
    }

    [Fact]
    public void MissingVirtualServer_IsNamedAndMendedAsIpvsadmHasIt()
    {
        var finding = Failing(Healthy with { Servers = [.. Healthy.Servers.Where(l => !l.Contains(" 10.105.245.211:80 ", StringComparison.Ordinal))] });
        finding.Class.ShouldBe(FailureClass.ServiceRuleMissing);
        finding.Ports.ShouldBe(["demo/web 80/TCP"]);
        finding.Rules.ShouldHaveSingleItem().Raw.ShouldBe("-A -t 10.105.245.211:80 -s rr");
        finding.Rules[0].IsMissing.ShouldBeTrue();
        finding.Mend!.Command.ShouldStartWith("ipvsadm -A -t 10.105.245.211:80 -s rr && ipvsadm -a -t 10.105.245.211:80 -r 10.244.");
        finding.Mend.On.ShouldBe(Node);
    }

    [Fact]
    public void AddressTakenFromTheInterface_IsNamedAndMended()
    {
        var finding = Failing(Healthy with { Bound = [.. Healthy.Bound.Where(a => a != "10.105.245.211")] });
        finding.Class.ShouldBe(FailureClass.IpvsAddressMissing);
        finding.Sentence.ShouldContain("from pods and from outside");
        finding.Sentence.ShouldNotContain("from the node itself");
        finding.Mend!.Command.ShouldBe("ip address add 10.105.245.211/32 dev kube-ipvs0");
    }

    [Fact]
    public void MemberMissingFromASet_IsNamedAndMendedAsIpsetHasIt()
    {
        var found = Found(Healthy with { Sets = [.. Healthy.Sets.Where(l => l != "add KUBE-CLUSTER-IP 10.105.245.211,tcp:80")] });
        found.Select(f => f.Class).ShouldBe([FailureClass.ServiceRuleMissing, FailureClass.MasqueradeMissing], ignoreOrder: true);
        found.ShouldAllBe(f => f.Rules[0].Raw == "add KUBE-CLUSTER-IP 10.105.245.211,tcp:80" && f.Rules[0].Tool == "ipset");
        found.ShouldAllBe(f => f.Mend!.Command == "ipset add KUBE-CLUSTER-IP 10.105.245.211,tcp:80");
    }

    [Fact]
    public void RealServerThatDrains_IsNotStale()
    {
        var draining = Healthy with { Servers = [.. Healthy.Servers, "-a -t 10.105.245.211:80 -r 10.244.3.99:8080 -m -w 0"] };
        Found(draining).ShouldBeEmpty();
        var finding = Failing(draining with { Servers = [.. draining.Servers.Select(l => l.Replace("10.244.3.99:8080 -m -w 0", "10.244.3.99:8080 -m -w 1", StringComparison.Ordinal))] });
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Mend!.Command.ShouldBe("ipvsadm -d -t 10.105.245.211:80 -r 10.244.3.99:8080");
    }

    [Fact]
    public void AffinityForAnotherTime_IsNamedForEachAddress()
    {
        var finding = Failing(Healthy with { Servers = [.. Healthy.Servers.Select(l => l.Replace(" -p 600", " -p 300", StringComparison.Ordinal))] });
        finding.Class.ShouldBe(FailureClass.StaleEndpointRule);
        finding.Ports.ShouldBe(["demo/web-affinity 80/TCP"]);
        finding.Rules.Select(r => r.Raw).ShouldContain("-A -t 10.106.110.188:80 -s rr -p 300");
        finding.Rules.Select(r => r.Raw).ShouldContain("-A -t 172.30.0.11:30097 -s rr -p 600");
        finding.Mend!.Command.ShouldBe("ipvsadm -E -t 10.106.110.188:80 -s rr -p 600");
    }

    [Fact]
    public void RulesOfIptablesModeBesideIpvs_AreAConflict()
    {
        var old = $"""
            # Generated by iptables-save v1.8.9 on Fri Nov 20 14:41:31 2026
            *nat
            :PREROUTING ACCEPT [0:0]
            :OUTPUT ACCEPT [0:0]
            :KUBE-SERVICES - [0:0]
            :KUBE-SVC-OLD - [0:0]
            :KUBE-SEP-OLD - [0:0]
            -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A KUBE-SERVICES -d 10.105.245.211/32 -p tcp -m comment --comment "demo/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-OLD
            -A KUBE-SVC-OLD -m comment --comment "demo/web -> 10.244.9.9:8080" -j KUBE-SEP-OLD
            -A KUBE-SEP-OLD -p tcp -m comment --comment "demo/web" -m tcp -j DNAT --to-destination 10.244.9.9:8080
            COMMIT

            """;
        var finding = Healthy.Check(old: old).Findings.Where(f => f.Status != CheckStatus.Agrees).ShouldHaveSingleItem();
        finding.Class.ShouldBe(FailureClass.ProxyBackendConflict);
        finding.Ports.ShouldBe(["demo/web 80/TCP"]);
        finding.Mend!.Command.ShouldBe("iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore");
    }

    [Fact]
    public void AllVirtualServersTaken_IsNoneOfKubeProxysRules()
    {
        var finding = Failing(Healthy with { Servers = [] });
        finding.Class.ShouldBe(FailureClass.ProxyRulesMissing);
        finding.Sentence.ShouldContain("there is no virtual server for IPv4");
    }

    [Fact]
    public void JumpFromPreroutingGone_IsToldAlsoForClusterAddresses()
    {
        // Whom it masquerades there is told by the rule that no packet from outside comes to any more.
        var finding = Failing(Healthy with { Rules = [.. Healthy.Rules.Where(l => l != "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES")] });
        finding.Class.ShouldBe(FailureClass.MasqueradeMissing);
        finding.Ports.ShouldContain("default/kubernetes 443/TCP");
        finding.Rules.ShouldHaveSingleItem().Raw.ShouldBe("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES");
    }

    [Fact]
    public void JumpToWhatKeepsTheNodeOutGone_IsNamedAndNotTheRuleBehindIt()
    {
        var finding = Failing(Healthy with { Rules = [.. Healthy.Rules.Where(l => !l.EndsWith("-j KUBE-IPVS-OUT-FILTER", StringComparison.Ordinal))] });
        finding.Class.ShouldBe(FailureClass.ProxyRulesMissing);
        finding.Rules.ShouldHaveSingleItem().Raw.ShouldBe("-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER");
    }

    [Theory]
    [InlineData("KUBE-SOURCE-RANGES-FIREWALL", "ACCEPT", FailureClass.TranslationShadowed)]
    [InlineData("KUBE-PROXY-FIREWALL", "DROP", FailureClass.DroppedByRule)]
    public void RuleByHandInKubeProxysOwnChain_IsTheOneNamed(string chain, string verdict, FailureClass @class)
    {
        var rule = $"-A {chain} -s 10.244.0.0/16 -j {verdict}";
        var finding = Failing(Healthy with { Rules = [.. Healthy.Rules.SelectMany(l => l == Healthy.Rules.First(r => r.StartsWith($"-A {chain} ", StringComparison.Ordinal)) ? new[] { rule, l } : [l])] });
        finding.Class.ShouldBe(@class);
        finding.Rules.ShouldHaveSingleItem().Raw.ShouldBe(rule);
        finding.Rules[0].Owner.ShouldBeNull();
    }

    [Fact]
    public void RulesFlushedWhileVirtualServersStay_LackTheirMasquerading()
    {
        // Live, no ipset is read then, since no rule asks one.
        var report = (Healthy with { Rules = [.. Healthy.Rules.Where(l => !l.StartsWith("-A", StringComparison.Ordinal))] }).Check(sets: false);
        report.NotSeen.ShouldBeEmpty();
        var found = report.Findings.Where(f => f.Status != CheckStatus.Agrees).ToList();
        found.ShouldContain(f => f.Class == FailureClass.MasqueradeMissing && f.Ports.Contains("demo/web 80/TCP") && f.Rules.Any(r => r.IsMissing && r.Chain == "OUTPUT"));
        found.ShouldAllBe(f => f.Class == FailureClass.MasqueradeMissing || f.Class == FailureClass.ServiceRuleMissing || f.Class == FailureClass.ProxyRulesMissing);
        found.ShouldNotContain(f => f.Sentence.Contains("ipset", StringComparison.Ordinal));
    }

    [Fact]
    public void VirtualServerOfNoService_IsLeftOver()
    {
        var found = Found(Healthy with { Servers = [.. Healthy.Servers, "-A -t 10.105.245.211:8443 -s rr", "-A -t 172.30.0.11:31999 -s rr", "-A -t 192.0.2.200:80 -s rr"] });
        found.Select(f => (f.Class, f.Rules[0].Raw)).ShouldBe([(FailureClass.StaleEndpointRule, "-A -t 172.30.0.11:31999 -s rr"), (FailureClass.PortNotInService, "-A -t 10.105.245.211:8443 -s rr")], ignoreOrder: true);
        found.ShouldAllBe(f => f.Ports.IsEmpty);
    }

    [Fact]
    public void WithoutRoutesAndSets_WhatCannotBeToldIsSaid()
    {
        var report = Healthy.Check(routes: false);
        report.Findings.Where(f => f.Status != CheckStatus.Agrees).Select(f => f.Sentence).ShouldBeEmpty();
        report.NotSeen.ShouldContain(l => l.Contains("kube-ipvs0", StringComparison.Ordinal));
        var blind = (Healthy with { Sets = [] }).Check(sets: false);
        blind.Findings.Where(f => f.Status == CheckStatus.Differs).Select(f => f.Sentence).ShouldBeEmpty();
        blind.Status.ShouldBe(CheckStatus.Undetermined);
        blind.NotSeen.ShouldContain(l => l.Contains("ipset save", StringComparison.Ordinal));
    }

    private static List<CheckFinding> Found(State state) => [.. state.Check().Findings.Where(f => f.Status != CheckStatus.Agrees)];

    private static CheckFinding Failing(State state) => Found(state).ShouldHaveSingleItem();

    /// <summary>What a node holds, in lines.</summary>
    private sealed record State(List<string> Rules, List<string> Servers, List<string> Sets, List<string> Bound)
    {
        public static State Of(bool ipv6)
        {
            var wanted = IpvsRules.Write(Cluster, new KubeProxyOptions
            {
                NodeName = Node,
                ClusterCidrs = [IpNetwork.Parse("10.244.0.0/16"), IpNetwork.Parse("fd00:10:244::/56")],
                NodeAddresses = [IpAddress.Parse("172.30.0.11"), IpAddress.Parse("fd00:172:30::11")],
                LocalAddresses = [.. Addresses.Select(a => IpAddress.Parse(a)), IpAddress.Parse("fd00:172:30::11"), IpAddress.Parse("fd00:10:244:1::1")],
            }, ipv6);
            var rules = new List<string>();
            foreach (var table in wanted.Tables)
            {
                rules.Add($"*{table.Name}");
                rules.AddRange((table.Name == "nat" ? new[] { "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING" } : ["INPUT", "FORWARD", "OUTPUT"]).Select(c => $":{c} ACCEPT [0:0]"));
                rules.AddRange(table.Chains.Select(c => $":{c} - [0:0]"));
                rules.AddRange(table.Jumps.Concat(table.Rules));
                rules.Add("COMMIT");
            }

            return new State(rules, Lines(Ipvs.ComposeServers(wanted, [])), [.. Lines(Ipvs.ComposeSets(wanted, "")).Select(l => l.Replace(" -exist", "", StringComparison.Ordinal))], [.. wanted.Addresses.Select(a => a.ToString())]);
        }

        public PlainIptables Plain() => new(Rules, Addresses.Concat(Bound), Servers, Sets);

        public NodeCheck Check(bool ipv6 = false, string? old = null, bool routes = true, bool sets = true)
        {
            var own = ipv6 ? ["fd00:172:30::11", "fd00:10:244:1::1"] : Addresses;
            var table = RouteTable.Parse(
            [
                ipv6 ? "default via fd00:172:30::1 dev eth0 metric 1024 pref medium" : "default via 172.30.0.1 dev eth0",
                ipv6 ? "fd00:172:30::/64 dev eth0 proto kernel metric 256 pref medium" : "172.30.0.0/24 dev eth0 proto kernel scope link src 172.30.0.11",
                ipv6 ? "fd00:10:244:1::/64 dev cni0 proto kernel metric 256 pref medium" : "10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1",
                .. own.Select((a, i) => $"local {a} dev {(i == 0 ? "eth0" : "cni0")} table local proto kernel scope host{(ipv6 ? "" : $" src {a}")}"),
                .. Bound.Select(a => $"local {a} dev kube-ipvs0 table local proto kernel scope host{(ipv6 ? "" : $" src {a}")}"),
            ]);
            var text = $"# Generated by {(ipv6 ? "ip6tables" : "iptables")}-nft-save v1.8.9 (nf_tables)\n{string.Join('\n', Rules)}\n";
            var dumps = new List<RuleDump> { new(ipv6 ? "ip6tables-nft-save" : "iptables-nft-save", text), new("ipvsadm", string.Concat(Servers.Select(l => l + "\n"))) };
            if (old is not null)
            {
                dumps.Add(new RuleDump("iptables-legacy-save", old));
            }

            if (sets)
            {
                dumps.Add(new RuleDump("ipset", string.Concat(Sets.Select(l => l + "\n"))));
            }

            var rules = ProxyRules.Of(RuleSet.ParseAll(dumps), ipv6, [], Servers.Count > 0, routes ? table : null);
            // One family only: what the other has is another test's.
            var check = new RuleCheck(Cluster, Node, [rules], routes ? table : null).Run();
            return check with { NotSeen = [.. check.NotSeen.Where(l => !l.StartsWith("what kp-node1 does at IPv", StringComparison.Ordinal))] };
        }

        private static List<string> Lines(string text) => [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries)];
    }

    private sealed record Journey(string Subject, PlainPacket Packet, Dictionary<string, double> Ends)
    {
        public bool DiffersIn(PlainIptables damaged)
        {
            var ends = damaged.Ends(Packet);
            return ends.Keys.Union(Ends.Keys).Any(e => Math.Abs(ends.GetValueOrDefault(e) - Ends.GetValueOrDefault(e)) > 1e-6);
        }
    }

    // The packets for each Service port that come to the node: from a pod, from itself, from outside, from its own endpoints back to them.
    private static IEnumerable<(string Subject, PlainPacket Packet)> Packets()
    {
        var pods = Cluster.Pods.Where(p => p.Spec.NodeName == Node && !p.Spec.HostNetwork && p.Status is { PodIP: not null, Phase: "Running" }).Select(p => p.Status.PodIP!).ToList();
        foreach (var service in Cluster.Services.Where(s => s.Spec.Type != "ExternalName" && s.Spec.ClusterIP != "None" && s.Spec.ClusterIPs.Any(a => a.Contains('.', StringComparison.Ordinal))))
        {
            foreach (var port in service.Spec.Ports)
            {
                var subject = string.Create(CultureInfo.InvariantCulture, $"{service.Metadata.Namespace}/{service.Metadata.Name} {port.Port}/{port.Protocol}");
                var protocol = port.Protocol.ToLowerInvariant();
                var endpoints = Cluster.SlicesOf(service).Where(s => s.AddressType == "IPv4" && s.Ports.Any(p => (p.Name ?? "") == (port.Name ?? ""))).SelectMany(s => s.Endpoints).ToList();
                var pod = pods.First(p => endpoints.TrueForAll(e => e.Addresses[0] != p));
                var cluster = service.Spec.ClusterIPs.First(a => a.Contains('.', StringComparison.Ordinal));
                foreach (var endpoint in endpoints.Where(e => (e.NodeName == Node || e.Addresses[0] == Addresses[0]) && (e.Conditions.Ready ?? true)))
                {
                    yield return (subject, new PlainPacket(protocol, endpoint.Addresses[0], cluster, port.Port, endpoint.Addresses[0] == Addresses[0]));
                }

                var all = new List<(string Address, int Port)> { (cluster, port.Port) };
                all.AddRange(service.Spec.ExternalIPs.Select(a => (a, port.Port)));
                all.AddRange(service.Status.LoadBalancer.Ingress.Where(i => i.Ip is not null && i.IpMode != "Proxy").Select(i => (i.Ip!, port.Port)));
                all.AddRange(port.NodePort > 0 ? Addresses.Select(a => (a, port.NodePort)) : []);
                foreach (var (address, number) in all)
                {
                    yield return (subject, new PlainPacket(protocol, Outside, address, number, false));
                    yield return (subject, new PlainPacket(protocol, pod, address, number, false));
                    yield return (subject, new PlainPacket(protocol, "", address, number, true));
                    foreach (var range in service.Spec.LoadBalancerSourceRanges)
                    {
                        yield return (subject, new PlainPacket(protocol, range[..range.LastIndexOf('.')] + ".77", address, number, false));
                    }
                }

                if (service.Spec is { ExternalTrafficPolicy: "Local", HealthCheckNodePort: > 0 } && ReferenceEquals(port, service.Spec.Ports[0]))
                {
                    yield return (subject, new PlainPacket("tcp", Outside, Addresses[0], service.Spec.HealthCheckNodePort, false));
                }
            }
        }
    }

    /// <summary>One thing done to a node.</summary>
    /// <param name="What">What.</param>
    /// <param name="After">What it holds then.</param>
    /// <param name="Classes">The classes that it may be told as.</param>
    private sealed record Damage(string What, State After, string[] Classes)
    {
        /// <summary>Service ports that it concerns although no single packet shows it.</summary>
        public string[] Besides { get; init; } = [];

        public static Damage At(State healthy, Random random)
        {
            while (true)
            {
                var kind = random.Next(100);
                var at = random.Next(healthy.Servers.Count);
                var server = healthy.Servers[at];
                switch (kind)
                {
                    case < 12 when server.StartsWith("-A", StringComparison.Ordinal):
                        var own = $" {server.Split(' ')[1]} {server.Split(' ')[2]} ";
                        return new Damage($"without {server} and what is behind it", healthy with { Servers = [.. healthy.Servers.Where(l => !l.Contains(own, StringComparison.Ordinal))] }, ["service-rule-missing"]);
                    case < 20 when server.StartsWith("-a", StringComparison.Ordinal):
                        return new Damage($"without {server}", healthy with { Servers = [.. healthy.Servers.Where((_, i) => i != at)] }, ["endpoint-rule-missing"]);
                    case < 24 when server.StartsWith("-a", StringComparison.Ordinal):
                        return new Damage($"{server} drained", WithServer(healthy, at, server[..^1] + "0"), ["endpoint-rule-missing"]);
                    case < 30 when server.StartsWith("-a", StringComparison.Ordinal):
                        var words = server.Split(' ');
                        words[4] = "10.244.77.7:8080";
                        return new Damage($"{server} to 10.244.77.7:8080", WithServer(healthy, at, string.Join(' ', words)), ["stale-endpoint-rule", "endpoint-rule-missing", "masquerade-missing"]);
                    case < 33 when server.StartsWith("-A", StringComparison.Ordinal):
                        return new Damage($"{server} with another scheduler", WithServer(healthy, at, server.Replace("-s rr", "-s sh", StringComparison.Ordinal)), ["endpoint-share-uneven"]) { Besides = WithEndpoints(healthy, server) };
                    case < 36 when server.StartsWith("-A", StringComparison.Ordinal) && !server.Contains(" -p ", StringComparison.Ordinal):
                        return new Damage($"{server} with persistence", WithServer(healthy, at, server + " -p 10800"), ["stale-endpoint-rule"]) { Besides = WithEndpoints(healthy, server) };
                    case >= 36 and < 46:
                        var gone = healthy.Bound[random.Next(healthy.Bound.Count)];
                        return new Damage($"{gone} taken from kube-ipvs0", healthy with { Bound = [.. healthy.Bound.Where(a => a != gone)] }, ["ipvs-address-missing", "service-rule-missing"]);
                    case >= 46 and < 70:
                        var member = random.Next(healthy.Sets.Count);
                        if (healthy.Sets[member].Split(' ') is ["add", var set, _])
                        {
                            return new Damage($"without {healthy.Sets[member]}", healthy with { Sets = [.. healthy.Sets.Where((_, i) => i != member)] }, ClassesOf(set));
                        }

                        break;
                    case >= 70 and < 88:
                        var rule = random.Next(healthy.Rules.Count);
                        if (healthy.Rules[rule].StartsWith("-A ", StringComparison.Ordinal))
                        {
                            return new Damage($"without {healthy.Rules[rule]}", healthy with { Rules = [.. healthy.Rules.Where((_, i) => i != rule)] }, ClassesOfRule(healthy.Rules[rule]));
                        }

                        break;
                    case >= 88:
                        rule = random.Next(healthy.Rules.Count);
                        if (healthy.Rules[rule].StartsWith("-A ", StringComparison.Ordinal))
                        {
                            var table = healthy.Rules[healthy.Rules.FindLastIndex(rule, l => l.StartsWith('*'))];
                            var verdict = table == "*nat" || random.Next(2) == 0 ? "ACCEPT" : "DROP";
                            var inserted = $"-A {healthy.Rules[rule].Split(' ')[1]} {random.Next(3) switch { 0 => "-p tcp ", 1 => "-s 10.244.0.0/16 ", _ => "" }}-j {verdict}";
                            return new Damage($"{table} {inserted} before {healthy.Rules[rule]}", healthy with { Rules = [.. healthy.Rules[..rule], inserted, .. healthy.Rules[rule..]] },
                                verdict == "DROP" ? ["dropped-by-rule"] : ["translation-shadowed", "masquerade-missing"]);
                        }

                        break;
                }
            }
        }

        private static State WithServer(State healthy, int at, string line)
        {
            var servers = new List<string>(healthy.Servers) { [at] = line };
            return healthy with { Servers = servers };
        }

        // A virtual server without real servers keeps and picks nobody.
        private static string[] WithEndpoints(State healthy, string server)
        {
            var key = string.Join(' ', server.Split(' ')[1..3]);
            return !healthy.Servers.Exists(l => l.StartsWith($"-a {key} ", StringComparison.Ordinal)) ? [] : [SubjectOf(server)];
        }

        private static string SubjectOf(string server)
        {
            var at = AddressPort.Parse(server.Split(' ')[2]);
            var protocol = server.Split(' ')[1] switch { "-t" => "TCP", "-u" => "UDP", _ => "SCTP" };
            foreach (var service in Cluster.Services)
            {
                foreach (var port in service.Spec.Ports.Where(p => p.Protocol == protocol))
                {
                    if (Addresses.Contains(at.Address.ToString()) ? port.NodePort == at.Port
                        : port.Port == at.Port && service.Spec.ClusterIPs.Concat(service.Spec.ExternalIPs).Concat(service.Status.LoadBalancer.Ingress.Select(i => i.Ip ?? "")).Contains(at.Address.ToString()))
                    {
                        return string.Create(CultureInfo.InvariantCulture, $"{service.Metadata.Namespace}/{service.Metadata.Name} {port.Port}/{port.Protocol}");
                    }
                }
            }

            throw new ArgumentException(server);
        }

        private static string[] ClassesOf(string set) => set switch
        {
            "KUBE-LOOP-BACK" => ["masquerade-missing"],
            // What is in none of them is refused as a port that the Service has not, and what the node itself sends is not marked.
            "KUBE-CLUSTER-IP" or "KUBE-EXTERNAL-IP" or "KUBE-EXTERNAL-IP-LOCAL" or "KUBE-LOAD-BALANCER" => ["service-rule-missing", "masquerade-missing"],
            "KUBE-LOAD-BALANCER-FW" => ["service-rule-missing"],
            "KUBE-LOAD-BALANCER-SOURCE-CIDR" => ["source-range-denied"],
            _ when set.Contains("LOCAL", StringComparison.Ordinal) => ["masquerade-unexpected"],
            _ when set.Contains("NODE-PORT", StringComparison.Ordinal) => ["masquerade-missing"],
            _ => [],
        };

        private static string[] ClassesOfRule(string rule) => rule.Split(' ')[1] switch
        {
            // What all Services share, as in iptables mode; of one Service's own there is only what keeps the node itself out.
            "KUBE-IPVS-FILTER" or "KUBE-FORWARD" or "KUBE-PROXY-FIREWALL" or "INPUT" => ["proxy-rules-missing"],
            "KUBE-IPVS-OUT-FILTER" => ["service-rule-missing"],
            "KUBE-SOURCE-RANGES-FIREWALL" => rule.EndsWith("DROP", StringComparison.Ordinal) ? ["proxy-rules-missing"] : ["source-range-denied"],
            "OUTPUT" when rule.Contains("-OUT-FILTER", StringComparison.Ordinal) => ["proxy-rules-missing"],
            _ when rule.Contains("-j RETURN", StringComparison.Ordinal) => ["masquerade-unexpected"],
            _ => ["masquerade-missing"],
        };
    }
}
