using System.Collections.Immutable;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>What real kube-proxies wrote, walked, against what they wrote it for.</summary>
public sealed class KubeProxyRulesTests
{
    private static readonly string[] RuleFiles = ["iptables-save-c.txt", "iptables-save.txt", "ip6tables-save.txt"];

    public static TheoryData<string> OwnCases => ["kube-proxy-1.20-legacy", "kube-proxy-1.36-nft", "kube-proxy-1.33-nftables", "kube-proxy-1.36-nftables"];

    [Theory]
    [MemberData(nameof(OwnCases))]
    public void EveryServicePort_IsWalkedToItsReadyEndpoints(string name)
        => new Case(Fixture.Own(name), [Fixture.Own(name)]).Check().ShouldBeGreaterThan(30);

    [Fact]
    public void EverySharedCase_IsWalkedToItsReadyEndpoints()
    {
        var root = Fixture.RequireShared();
        var log = new StringBuilder();
        foreach (var folder in Directory.EnumerateDirectories(root, "*", SearchOption.AllDirectories).Order())
        {
            // The largest one is walked with nftables, where that takes seconds.
            if (DumpsIn(folder).IsEmpty || folder.Contains("10000x2/iptables", StringComparison.Ordinal))
            {
                continue;
            }

            // Other modes of a case share the API objects that are only in one of them.
            var objects = new[] { folder }.Concat(Directory.GetDirectories(Path.GetDirectoryName(folder)!).Order()).ToArray();
            if (objects.Any(f => Fixture.Find(f, "endpointslices.json") is not null) && objects.Any(f => Fixture.Find(f, "services.json") is not null))
            {
                log.AppendLine($"{folder}: {new Case(folder, objects).Check()} Service ports");
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine(log.ToString());
        log.ToString().Split('\n').Count(l => l.Contains("/nftables", StringComparison.Ordinal) || l.Contains("live-nftables", StringComparison.Ordinal)).ShouldBeGreaterThan(7);
    }

    [Fact]
    public void EverySharedDump_ParsesWithoutUnknowns()
    {
        var root = Fixture.RequireShared();
        var rules = 0;
        var unknowns = new HashSet<string>();
        foreach (var file in Directory.EnumerateFiles(root, "*tables-save*", SearchOption.AllDirectories))
        {
            var set = RuleSet.Parse(new RuleDump(Path.GetFileName(file), Fixture.Text(file)));
            foreach (var rule in set.Tables.Values.SelectMany(t => t.Chains.Values).SelectMany(c => c.Rules))
            {
                rules++;
                unknowns.UnionWith(rule.Matches.OfType<RuleMatch.Unknown>().Select(m => m.Text));
                if (rule.Target is RuleTarget.Unknown target)
                {
                    unknowns.Add(target.Text);
                }
            }
        }

        unknowns.ShouldBeEmpty();
        rules.ShouldBeGreaterThan(100_000);
    }

    private static ImmutableArray<RuleDump> DumpsIn(string folder)
    {
        var dumps = ImmutableArray.CreateBuilder<RuleDump>();
        foreach (var file in RuleFiles)
        {
            if (Fixture.Find(folder, file) is { } path && !(file == "iptables-save.txt" && dumps.Count > 0))
            {
                dumps.Add(new RuleDump(Path.GetFileName(path), Fixture.Text(path)));
            }
        }

        // In iptables mode nft prints the same tables again, and not all of them.
        if (dumps.Count == 0 && Fixture.Find(folder, "nft-list-ruleset.json") is { } nft)
        {
            dumps.Add(new RuleDump("nft", Fixture.Text(nft)));
        }

        return dumps.ToImmutable();
    }

    /// <summary>One node's rules and the objects they were written for.</summary>
    private sealed class Case
    {
        private const string Outside = "192.0.2.200";
        private const string OutsideIPv6 = "2001:db8:ffff::1";

        private readonly string _folder;
        private readonly string _node;
        private readonly ImmutableArray<RuleSet> _sets;
        private readonly ClusterSnapshot _cluster;
        private readonly RuleWalk _walk;
        private readonly StringBuilder _wrong = new();

        public Case(string folder, string[] objects)
        {
            _folder = folder;
            var at = folder.IndexOf("node", StringComparison.Ordinal) is > 0 and var found && char.IsDigit(folder[^1]) ? folder[^1] : '1';
            _node = $"kp-node{at}";
            _sets = RuleSet.ParseAll(DumpsIn(folder));
            _walk = new RuleWalk(_sets);
            _cluster = SnapshotReader.Read(new[] { "services.json", "endpointslices.json", "nodes.json" }
                .Select(file => objects.Select(f => Fixture.Find(f, file)).FirstOrDefault(p => p is not null)).OfType<string>());
        }

        /// <summary>How many Service ports were walked to; fails when one of them ended elsewhere than it should.</summary>
        public int Check()
        {
            var count = 0;
            foreach (var service in _cluster.Services)
            {
                foreach (var address in ServiceMeaning.ClusterAddresses(service))
                {
                    if (!_sets.Any(s => s.IsIPv6 != address.IsIPv4 && !s.Tables.IsEmpty))
                    {
                        continue;
                    }

                    foreach (var port in service.Spec.Ports)
                    {
                        count++;
                        CheckClusterAddress(service, port, address);
                        CheckFromOutside(service, port, address.IsIPv4);
                    }
                }
            }

            _wrong.ToString(0, Math.Min(_wrong.Length, 20_000)).ShouldBe("", _folder);
            return count;
        }

        private void CheckClusterAddress(Service service, ServicePort port, IpAddress address)
        {
            var all = ServiceMeaning.ExpectedBackends(_cluster, service, port, !address.IsIPv4);
            var used = ServiceMeaning.BackendsInUse(_cluster, service, port, !address.IsIPv4, _node).Backends;
            var to = new AddressPort(address, (ushort)port.Port);
            var what = $"{service.Ref}:{port.Port}/{port.Protocol} at {address}";
            var pod = PacketFrom(address.IsIPv4 ? $"10.244.{_node[^1]}.254" : $"fd00:10:244:{_node[^1]}::fffe", port, to);
            Compare($"{what} from a pod", pod, used, all, masquerade: false);
            Compare($"{what} from the node", PacketFrom(address.IsIPv4 ? $"172.30.0.1{_node[^1]}" : $"fd00:172:30::1{_node[^1]}", port, to) with { FromNode = true }, used, all, masquerade: true);
            Compare($"{what} from outside", PacketFrom(address.IsIPv4 ? Outside : OutsideIPv6, port, to), used, all, masquerade: true);
            if (used.FirstOrDefault(b => b.Node == _node && b.Address.Address.ToString() is var own && (own.StartsWith("10.244.", StringComparison.Ordinal) || own.StartsWith("fd00:10:244", StringComparison.Ordinal))) is { } itself)
            {
                // A pod that asks for itself would answer itself past the node.
                var result = _walk.Run(PacketFrom(itself.Address.Address.ToString(), port, to));
                foreach (var branch in result.Branches)
                {
                    if (branch.Masquerade != (branch.Backend?.Address == itself.Address.Address))
                    {
                        _wrong.AppendLine($"{what} from its own endpoint {itself.Address}: masquerade is {branch.Masquerade} on the way to {branch.Backend}");
                    }
                }
            }
        }

        private void CheckFromOutside(Service service, ServicePort port, bool isIPv4)
        {
            var all = ServiceMeaning.ExpectedBackends(_cluster, service, port, !isIPv4);
            var isLocal = service.Spec.ExternalTrafficPolicy == "Local";
            var used = isLocal ? [.. all.Where(b => b.Node == _node && (b.Ready || !all.Any(x => x.Node == _node && x.Ready) && b.Serving && b.Terminating))]
                : ServiceMeaning.BackendsInUse(_cluster, service with { Spec = service.Spec with { InternalTrafficPolicy = null } }, port, !isIPv4, _node).Backends;
            void From(string source, string address, int number, bool denied = false)
            {
                var packet = PacketFrom(source, port, new AddressPort(IpAddress.Parse(address), (ushort)number));
                var what = $"{service.Ref}:{port.Port}/{port.Protocol} at {packet.Tuple.Destination} from {source}";
                if (denied)
                {
                    if (_walk.Run(packet) is var passed && !IsDropped(passed))
                    {
                        _wrong.AppendLine($"{what}, not in its source ranges: {passed.Outcome}; rules: {string.Join(" | ", passed.Matched)}");
                    }

                    return;
                }

                Compare(what, packet, used, all, masquerade: !isLocal);
            }

            if (port.NodePort > 0)
            {
                From(isIPv4 ? Outside : OutsideIPv6, isIPv4 ? $"172.30.0.1{_node[^1]}" : $"fd00:172:30::1{_node[^1]}", port.NodePort);
            }

            foreach (var external in service.Spec.ExternalIPs.Where(a => a.Contains('.') == isIPv4))
            {
                From(isIPv4 ? Outside : OutsideIPv6, external, port.Port);
            }

            foreach (var ingress in service.Status.LoadBalancer.Ingress.Where(i => i.IpMode is null or "VIP").Select(i => i.Ip).OfType<string>().Where(a => a.Contains('.') == isIPv4))
            {
                var ranges = service.Spec.LoadBalancerSourceRanges.Select(r => IpNetwork.Parse(r)).Where(r => r.Address.IsIPv4 == isIPv4).ToArray();
                From(ranges.Length == 0 ? isIPv4 ? Outside : OutsideIPv6 : ranges[0].Address.ToString(), ingress, port.Port);
                if (ranges.Length > 0 && !used.IsEmpty)
                {
                    From(isIPv4 ? Outside : OutsideIPv6, ingress, port.Port, denied: true);
                }
            }
        }

        private VirtualPacket PacketFrom(string source, ServicePort port, AddressPort to) => new()
        {
            Tuple = new FiveTuple(ServiceMeaning.ProtocolOf(port), new AddressPort(IpAddress.Parse(source), 40000), to),
            LocalAddresses = [IpAddress.Parse($"172.30.0.1{_node[^1]}"), IpAddress.Parse($"fd00:172:30::1{_node[^1]}")],
            BridgePort = "",
        };

        private void Compare(string what, VirtualPacket packet, ImmutableArray<ExpectedBackend> used, ImmutableArray<ExpectedBackend> all, bool masquerade)
        {
            var result = _walk.Run(packet);
            if (used.IsEmpty)
            {
                // Without a local endpoint under a Local policy the packet is dropped, without any it is rejected.
                var isDrop = all.Any(b => b.Ready);
                if (isDrop ? !IsDropped(result) : result.Outcome != WalkOutcome.Rejected)
                {
                    _wrong.AppendLine($"{what}: {result.Outcome}, expected {(isDrop ? WalkOutcome.Dropped : WalkOutcome.Rejected)}; rules: {string.Join(" | ", result.Matched)}");
                }

                return;
            }

            var share = 1.0 / used.Length;
            if (result.Outcome != WalkOutcome.Translated
                || !result.Backends.Select(b => b.Address).Order(ByText).SequenceEqual(used.Select(b => b.Address).Order(ByText))
                || result.Backends.Any(b => Math.Abs(b.Probability - share) > 1e-6)
                // What comes in for the node itself does not leave it.
                || result.Branches.Any(b => b.Masquerade != (masquerade && (packet.FromNode || !packet.LocalAddresses.Contains(b.Backend!.Value.Address))) || b.SourceBecomes is not null))
            {
                _wrong.AppendLine($"{what}: {result.Outcome} to {string.Join(", ", result.Branches.Select(b => $"{b.Backend} {b.Probability:F4}{(b.Masquerade ? " masqueraded" : "")}"))}; "
                    + $"expected {string.Join(", ", used.Select(b => b.Address))}{(masquerade ? " masqueraded" : "")}; unknown {string.Join(", ", result.Unknowns)}; rules: {string.Join(" | ", result.Matched.Take(8))}");
            }
        }

        // Before 1.25 a mark stood for a drop that was the kubelet's to do, and there is no kubelet here.
        private static bool IsDropped(WalkResult result)
            => result.Outcome == WalkOutcome.Dropped || result.Outcome == WalkOutcome.Untranslated && result.Matched.Any(r => r.Target is RuleTarget.Jump { Chain: "KUBE-MARK-DROP" });

        private static readonly Comparer<AddressPort> ByText = Comparer<AddressPort>.Create((a, b) => string.CompareOrdinal(a.ToString(), b.ToString()));
    }
}
