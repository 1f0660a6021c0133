using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests.Mutations;

/// <summary>
/// Real kube-proxy's rules, damaged at random places: each damage that changes what becomes of some packet for a Service must be told, with the
/// Service ports and the right class, and nothing else. Whether it changes anything is found out by <see cref="PlainIptables"/> and <see cref="PlainNft"/>, which are
/// asked before and after; which class is right follows from the rule that was damaged.
/// </summary>
public sealed class MutationTests
{
    private const string NodeAddress = "172.30.0.11";

    // The whole thousand for each fixture takes minutes: make test-mutations. 755-760 looks again at some of them.
    private static readonly (int From, int Count) Wanted = (Environment.GetEnvironmentVariable("TRACEPROBE_MUTATIONS") ?? "0").Split('-').Select(n => int.Parse(n, CultureInfo.InvariantCulture)).ToArray() switch
    {
        [var first, var last] => (first, last + 1),
        [var count] => (0, count),
        _ => throw new FormatException("TRACEPROBE_MUTATIONS is a number, or two with a dash between."),
    };

    public static TheoryData<string> Shared => ["1.20.2/a-variety/iptables", "1.20.2/a-variety/iptables-legacy", "1.33.13/a-variety/iptables", "1.36.3/a-variety/iptables", "1.36.3/a-variety/iptables-legacy", "1.33.13/a-variety/nftables", "1.36.3/a-variety/nftables"];

    [Theory]
    [InlineData("kube-proxy-1.20-legacy", 60)]
    [InlineData("kube-proxy-1.36-nft", 60)]
    [InlineData("kube-proxy-1.33-nftables", 20)]
    [InlineData("kube-proxy-1.36-nftables", 40)]
    public void RulesDamagedAtRandom_AreToldWithServiceAndClass(string fixture, int count) => Run(Fixture.Own(fixture), Fixture.Own(fixture), count, seed: 1);

    /// <summary>Nodes of that age have the kubelet's rules too, which drop what kube-proxy marked on its way in and out (syncNetworkUtil of pkg/kubelet/kubelet_network_linux.go).</summary>
    [Fact]
    public void RulesDamagedAtRandomBesideTheKubelets_AreToldWithServiceAndClass() => Run(Fixture.Own("kube-proxy-1.20-legacy"), Fixture.Own("kube-proxy-1.20-legacy"), Math.Max(60, Wanted.Count), seed: 3, Wanted.From, WithKubelet);

    private static List<string> WithKubelet(List<string> lines)
    {
        var chain = lines.FindIndex(l => l.StartsWith(":KUBE-MARK-DROP ", StringComparison.Ordinal));
        var (nat, filter) = (lines.FindIndex(chain, l => l.StartsWith("-A ", StringComparison.Ordinal)), lines.IndexOf("*filter"));
        var (chains, rules) = (lines.FindIndex(filter, l => l.StartsWith(":KUBE-", StringComparison.Ordinal)), lines.FindIndex(filter, l => l.StartsWith("-A ", StringComparison.Ordinal)));
        (int At, string[] Lines)[] added =
        [
            (nat, ["-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000"]),
            (chains, [":KUBE-FIREWALL - [0:0]"]),
            (rules, ["-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL", "-A KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark --mark 0x8000/0x8000 -j DROP"]),
        ];
        var all = new List<string>(lines);
        foreach (var (at, more) in added.OrderByDescending(a => a.At))
        {
            all.InsertRange(at, more);
        }

        return all;
    }

    [Theory]
    [MemberData(nameof(Shared))]
    public void AThousandDamages_AreToldWithServiceAndClass(string name)
    {
        Assert.SkipWhen(Wanted.Count == 0, "takes minutes; set TRACEPROBE_MUTATIONS=1000, or make test-mutations");
        var folder = Path.Combine(Fixture.RequireShared(), name);
        Run(folder, Path.Combine(folder, "..", "nftables"), Wanted.Count, seed: 2, Wanted.From);
    }

    private static void Run(string folder, string objects, int count, int seed, int from = 0, Func<List<string>, List<string>>? first = null)
    {
        string Find(string file) => Fixture.Find(folder, file) ?? Fixture.Find(objects, file) ?? Fixture.Find(Path.Combine(objects, "..", "iptables"), file)!;
        var cluster = SnapshotReader.Read(new[] { "services.json", "endpointslices.json", "pods.json", "nodes.json" }.Select(Find));
        var iptables = Fixture.Find(folder, "iptables-save.txt") ?? Fixture.Find(folder, "iptables-save-c.txt");
        if (iptables is null && Fixture.Find(folder, "nft-list-ruleset.json") is { } nft)
        {
            var items = NftDamage.Items(Fixture.Text(nft));
            var affinity = items.Select(i => JsonNode.Parse(i)!["set"]).Where(s => s?["timeout"] is not null).Select(s => (string)s!["name"]!).ToList();
            Run(folder, cluster, items, l => new PlainNft(l, [NodeAddress]).Ends, l => RuleSet.ParseAll([new RuleDump("nft", NftDamage.Dump(l))]), NftDamage.At,
                Packets(cluster, recent: true, (service, port) => affinity.Where(a => a.Contains($"-{service}/tcp/{port}__", StringComparison.Ordinal))), count, seed, from);
            return;
        }

        var lines = Fixture.Text(iptables!).Split('\n').Select(WithoutCounter).ToList();
        lines = first?.Invoke(lines) ?? lines;
        Run(folder, cluster, lines, l => new PlainIptables(l, [NodeAddress]).Ends, l => [RuleSet.Parse(new RuleDump("iptables-save", string.Join('\n', l)))], Damage.At,
            Packets(cluster, lines.Exists(l => l.Contains("KUBE-EXT-", StringComparison.Ordinal)), (service, port) => lines
                .Where(l => l.Contains("--rcheck", StringComparison.Ordinal) && l.Contains($"\"{service}:{port}", StringComparison.Ordinal)).Select(l => l.Split(' ')).Select(w => w[Array.IndexOf(w, "--name") + 1])), count, seed, from);
    }

    private static void Run(
        string folder, ClusterSnapshot cluster, List<string> lines, Func<List<string>, Ends> plain, Func<List<string>, IEnumerable<RuleSet>> parse, Func<List<string>, Random, Damage> damaged,
        IEnumerable<(string Subject, PlainPacket Packet)> packets, int count, int seed, int from)
    {
        NodeCheck Check(List<string> rules) => new RuleCheck(cluster, "kp-node1", [ProxyRules.Of(parse(rules), false, [], false)]).Run();
        var healthy = plain(lines);
        var before = packets.Select(s => new Healthy(s.Subject, s.Packet, healthy)).ToList();

        Check(lines).Findings.Where(f => f.Status != CheckStatus.Agrees).Select(f => f.Sentence).ShouldBeEmpty("the healthy rules");
        var random = new Random(seed);
        var wrong = new StringBuilder();
        int told = 0, harmless = 0;
        for (var i = 0; i < count; i++)
        {
            var damage = damaged(lines, random);
            if (i < from)
            {
                continue;
            }

            var after = plain(damage.Lines);
            var affected = before.Where(h => damage.Meets(h) && h.DiffersIn(after)).Select(h => h.Subject).ToHashSet(StringComparer.Ordinal);
            var report = Check(damage.Lines);
            var found = report.Findings.Where(f => f.Status != CheckStatus.Agrees).ToList();
            var named = found.SelectMany(f => f.Ports).ToHashSet(StringComparer.Ordinal);
            var classes = found.Select(f => FailureClassInfo.Of(f.Class).Name).Distinct().ToList();
            if (!named.SetEquals(affected) || classes.Except(damage.Classes).Any() || affected.Count > 0 && found.TrueForAll(f => f.Rules.IsEmpty && f.Class != FailureClass.ProxyRulesMissing))
            {
                wrong.AppendLine(CultureInfo.InvariantCulture, $"{i}. {damage}");
                wrong.AppendLine(CultureInfo.InvariantCulture, $"   not told: {string.Join(", ", affected.Except(named).Take(4))}; told for nothing: {string.Join(", ", named.Except(affected).Take(4))}; classes {string.Join(", ", classes)}, right are {string.Join(", ", damage.Classes)}");
                wrong.AppendLine(CultureInfo.InvariantCulture, $"   {string.Join("\n   ", found.Take(3).Select(f => f.Sentence))}");
            }

            told += affected.Count > 0 ? 1 : 0;
            harmless += affected.Count == 0 ? 1 : 0;
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{folder}: {count} damages, {told} of them to Services, {harmless} harmless");
        Assert.True(wrong.Length == 0, wrong.ToString());
        told.ShouldBeGreaterThan(from > 0 ? -1 : count / 3);
    }

    private static string WithoutCounter(string line) => line.StartsWith('[') ? line[(line.IndexOf(']', StringComparison.Ordinal) + 2)..] : line;

    /// <summary>How a packet ends, with the probability of each end; and the chains and rules that it met on the way.</summary>
    internal delegate Dictionary<string, double> Ends(PlainPacket packet, HashSet<string>? chains = null, HashSet<string>? rules = null);

    /// <summary>A packet for a Service port, and what became of it before the damage.</summary>
    internal sealed class Healthy(string subject, PlainPacket packet, Ends rules)
    {
        private readonly HashSet<string> _chains = new(StringComparer.Ordinal);
        private readonly HashSet<string> _rules = new(StringComparer.Ordinal);
        private readonly Dictionary<string, double> _ends = [];

        public string Subject => subject;

        public HashSet<string> Chains => Known._chains;

        public HashSet<string> Rules => Known._rules;

        private Healthy Known
        {
            get
            {
                if (_ends.Count == 0)
                {
                    foreach (var (end, probability) in rules(packet, _chains, _rules))
                    {
                        _ends.Add(end, probability);
                    }
                }

                return this;
            }
        }

        public bool DiffersIn(Ends damaged)
        {
            var met = new HashSet<string>(StringComparer.Ordinal);
            var ends = damaged(packet, met);
            var known = Known._ends;

            // Before Kubernetes 1.25 (KEP-3178) kube-proxy only marks what is to be dropped. A rule of the kubelet's drops it, which the fixtures lack, and which a packet that is
            // forwarded does not meet. That it is marked is kube-proxy's to answer for where the mark counts, and that it comes to no endpoint; not that it is dropped.
            const string marking = "nat KUBE-MARK-DROP";
            var isUnwanted = Chains.Contains(marking) && (met.Contains(marking) || !known.ContainsKey("dropped"));
            return ends.Keys.Union(known.Keys).Where(e => !isUnwanted || e is not ("dropped" or "as it is")).Any(e => Math.Abs(ends.GetValueOrDefault(e) - known.GetValueOrDefault(e)) > 1e-6);
        }
    }

    // The packets for each Service port that come to the node: from a pod, from itself, from outside, from its own endpoints back to them.
    private static IEnumerable<(string Subject, PlainPacket Packet)> Packets(ClusterSnapshot cluster, bool recent, Func<string, string?, IEnumerable<string>> lists)
    {
        const string outside = "198.18.0.1";
        var pods = cluster.Pods.Where(p => p.Spec.NodeName == "kp-node1" && !p.Spec.HostNetwork && p.Status.PodIP is not null && p.Status.Phase == "Running").Select(p => p.Status.PodIP!).ToList();
        foreach (var service in cluster.Services.Where(s => s.Spec.Type != "ExternalName" && s.Spec.ClusterIP != "None"))
        {
            foreach (var port in service.Spec.Ports)
            {
                var subject = string.Create(CultureInfo.InvariantCulture, $"{service.Metadata.Namespace}/{service.Metadata.Name} {port.Port}/{port.Protocol}");
                var protocol = port.Protocol.ToLowerInvariant();
                var endpoints = cluster.SlicesOf(service).Where(s => s.AddressType == "IPv4" && s.Ports.Any(p => (p.Name ?? "") == (port.Name ?? ""))).SelectMany(s => s.Endpoints).ToList();
                var pod = pods.First(p => endpoints.TrueForAll(e => e.Addresses[0] != p));
                var ready = endpoints.Exists(e => e.Conditions.Ready ?? true);
                foreach (var address in service.Spec.ClusterIPs.Append(service.Spec.ClusterIP!).Distinct().Where(a => a.Contains('.', StringComparison.Ordinal)))
                {
                    yield return (subject, new PlainPacket(protocol, pod, address, port.Port, false));
                    yield return (subject, new PlainPacket(protocol, NodeAddress, address, port.Port, true));
                    yield return (subject, new PlainPacket(protocol, outside, address, port.Port, false));
                    foreach (var endpoint in endpoints.Where(e => e.NodeName == "kp-node1" || e.Addresses[0] == NodeAddress).Where(e => e.Conditions.Ready ?? true))
                    {
                        // Only what comes back to itself counts.
                        yield return (subject, new PlainPacket(protocol, endpoint.Addresses[0], address, port.Port, endpoint.Addresses[0] == NodeAddress));
                    }

                    // Whoever was here before.
                    foreach (var list in lists($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name))
                    {
                        yield return (subject, new PlainPacket(protocol, pod, address, port.Port, false, list));
                    }
                }

                if (service.Spec.ClusterIPs.Append(service.Spec.ClusterIP!).All(a => a.Contains(':', StringComparison.Ordinal)))
                {
                    continue;
                }

                var others = service.Spec.ExternalIPs.Select(a => (Address: a, port.Port, Kind: 'e'))
                    .Concat(service.Status.LoadBalancer.Ingress.Where(i => i.Ip is not null && i.IpMode != "Proxy").Select(i => (i.Ip!, port.Port, 'l')))
                    .Concat(port.NodePort > 0 ? [(NodeAddress, port.NodePort, 'n')] : []);
                foreach (var (address, number, kind) in others)
                {
                    yield return (subject, new PlainPacket(protocol, outside, address, number, false));
                    if (kind != 'e' || recent)
                    {
                        yield return (subject, new PlainPacket(protocol, pod, address, number, false));
                        if (kind == 'n' || ready)
                        {
                            yield return (subject, new PlainPacket(protocol, NodeAddress, address, number, true));
                        }
                    }

                    foreach (var range in kind == 'l' ? service.Spec.LoadBalancerSourceRanges : [])
                    {
                        yield return (subject, new PlainPacket(protocol, range[..range.LastIndexOf('.')] + ".77", address, number, false));
                    }
                }

                if (service.Spec is { ExternalTrafficPolicy: "Local", HealthCheckNodePort: > 0 } && ReferenceEquals(port, service.Spec.Ports[0]))
                {
                    yield return (subject, new PlainPacket("tcp", outside, NodeAddress, service.Spec.HealthCheckNodePort, false));
                }
            }
        }
    }
}
