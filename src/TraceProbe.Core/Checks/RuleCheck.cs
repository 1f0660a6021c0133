using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>
/// Compares what one node's rules do with packets for Services with what the cluster's objects want, and names the rule behind each
/// difference.
/// <list type="number">
/// <item>The packets that matter are made for each Service port (<see cref="Traffic"/>): whom they come from, to which address, and what
/// kube-proxy promises for them.</item>
/// <item>Each is walked through all of the node's rules (<see cref="RuleWalk"/>), whoever wrote them, in whatever mode.</item>
/// <item>Where the walk ends otherwise, the way it took and the chains that should have been on it tell which rule is missing or in the way.</item>
/// <item>What several Service ports owe to the same rule is told once.</item>
/// </list>
/// An instance is not safe for use by several threads at once.
/// </summary>
public sealed partial class RuleCheck
{
    // Habits are the same for all Services, so that a few tell.
    private const int Samples = 48;

    private readonly ClusterSnapshot _cluster;
    private readonly Vantage _vantage;
    private readonly Side[] _sides;

    /// <summary>Makes a comparison.</summary>
    /// <param name="cluster">The cluster's objects.</param>
    /// <param name="node">The node's name in them; null when not known, which leaves policies that go by it undetermined.</param>
    /// <param name="rules">The node's rules, an element per family that was read.</param>
    /// <param name="routes">The node's routes; null when not known.</param>
    public RuleCheck(ClusterSnapshot cluster, string? node, IEnumerable<ProxyRules> rules, RouteTable? routes = null)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(rules);
        _cluster = cluster;
        _sides = [.. rules.Select(r => new Side(this, r))];
        _vantage = new Vantage(cluster, node, routes, routes is null ? _sides.SelectMany(s => s.Rules.Ipvs?.Servers ?? []).Where(s => s.Mark == 0).Select(s => s.Address.Address) : null);
    }

    /// <summary>Makes a comparison with what was read of a node.</summary>
    /// <param name="cluster">The cluster's objects.</param>
    /// <param name="node">The node.</param>
    /// <exception cref="FormatException">A dump is malformed.</exception>
    public static RuleCheck Of(ClusterSnapshot cluster, NodeAccount node)
    {
        ArgumentNullException.ThrowIfNull(node);
        var sets = RuleSet.ParseAll(node.Dumps, node.Sysctls);
        return new RuleCheck(cluster, node.Name, [ProxyRules.Of(node, sets, false), ProxyRules.Of(node, sets, true)], RouteTable.Of(node))
        {
            Unread = node.Unread,
        };
    }

    /// <summary>What could not be read of the node.</summary>
    public ImmutableArray<Unread> Unread { get; init; } = [];

    /// <summary>Compares all Services.</summary>
    public NodeCheck Run() => Run(_cluster.Services, isWhole: true);

    /// <summary>Compares these Services.</summary>
    /// <param name="services">The Services.</param>
    /// <param name="isWhole">Whether these are all there are: then rules for Services that there are not are told too.</param>
    public NodeCheck Run(IEnumerable<Service> services, bool isWhole)
    {
        ArgumentNullException.ThrowIfNull(services);
        var found = new FindingList(this);
        return Told(found, [.. services.OrderBy(s => s.Metadata.Namespace, StringComparer.Ordinal).ThenBy(s => s.Metadata.Name, StringComparer.Ordinal)
            .SelectMany(s => s.Spec.Ports.Select(p => Compare(s, p, found))).OfType<CheckedPort>()], isWhole);
    }

    /// <summary>Compares the ports of a Service that have this number; that there is none is a finding.</summary>
    public NodeCheck Run(Service service, ushort port)
    {
        ArgumentNullException.ThrowIfNull(service);
        var found = new FindingList(this);
        var ports = service.Spec.Ports.Where(p => p.Port == port).ToList();
        if (ports.Count == 0)
        {
            found.Add(new Finding(FailureClass.PortNotInService, string.Create(CultureInfo.InvariantCulture,
                $"service {service.Metadata.Namespace}/{service.Metadata.Name} has no port {port}; it has {string.Join(", ", service.Spec.Ports.Select(p => $"{p.Port}/{p.Protocol}"))}."))
            {
                Objects = [service.Ref],
                Mend = new Mend("Ask for a port that the Service has, or add it.", $"kubectl edit service {service.Metadata.Name} -n {service.Metadata.Namespace}"),
            });
        }

        return Told(found, [.. ports.Select(p => Compare(service, p, found)).OfType<CheckedPort>()], isWhole: false);
    }

    private NodeCheck Told(FindingList found, ImmutableArray<CheckedPort> ports, bool isWhole)
    {
        foreach (var side in _sides)
        {
            side.FindTwice(found);
        }

        if (isWhole && ServiceOfTheApi() is not null)
        {
            foreach (var side in _sides)
            {
                side.FindLeftOver(found);
            }
        }

        return new NodeCheck
        {
            Node = _vantage.Node,
            Families = [.. _sides.Select(s => CheckedFamily.Of(s.Rules))],
            Ports = found.WithClasses(ports),
            Findings = found.ToFindings(),
            NotSeen = NotSeen(isWhole),
        };
    }

    // Every cluster has it, so that without it the snapshot is of some namespaces only, and a rule for a Service that it lacks proves nothing.
    private Service? ServiceOfTheApi() => _cluster.FindService("default", "kubernetes");

    private ImmutableArray<string> NotSeen(bool isWhole)
    {
        var lines = ImmutableArray.CreateBuilder<string>();
        lines.AddRange(_cluster.Unread.Concat(Unread).Select(u => $"{u.What}: {u.Why}"));
        foreach (var ipv6 in new[] { false, true })
        {
            if (!Array.Exists(_sides, s => s.Rules.IsIPv6 == ipv6) && _cluster.Services.Any(s => ServiceMeaning.ClusterAddresses(s).Any(a => a.IsIPv4 != ipv6)))
            {
                lines.Add($"what {_vantage.Words} does at IPv{(ipv6 ? 6 : 4)} addresses: its {(ipv6 ? "ip6tables" : "iptables")} rules were not read");
            }
        }

        if (_vantage.Node is null)
        {
            lines.Add("which endpoints are the node's own: its name is not known");
        }
        else if (_cluster.FindNode(_vantage.Node) is null && _cluster.Nodes.Length > 0)
        {
            lines.Add($"the node {_vantage.Node} among the cluster's nodes: there are {string.Join(", ", _cluster.Nodes.Take(5).Select(n => n.Metadata.Name))}");
        }

        if (_vantage.Addresses.IsEmpty)
        {
            lines.Add($"node ports and packets from {_vantage.Words} itself: its addresses are not known");
        }

        if (isWhole && ServiceOfTheApi() is null)
        {
            lines.Add("rules for Services that there are no more: the objects do not seem to be those of all namespaces (default/kubernetes is not among them)");
        }

        lines.AddRange(_sides.SelectMany(s => s.NotSeen).Distinct());
        return lines.ToImmutable();
    }

    // Null for a port that kube-proxy does not serve.
    private CheckedPort? Compare(Service service, ServicePort port, FindingList found)
    {
        var endpoints = 0;
        var isServed = false;
        var subject = new Subject(service, port);
        foreach (var side in _sides)
        {
            if (ServiceMeaning.Addresses(service, port, side.Rules.IsIPv6, null).IsEmpty)
            {
                continue;
            }

            isServed = true;
            endpoints += side.Compare(subject, found);
        }

        return !isServed ? null : new CheckedPort(service.Ref, string.Create(CultureInfo.InvariantCulture, $"{port.Port}/{port.Protocol}"), port.Name, endpoints, CheckStatus.Agrees, []);
    }

    /// <summary>What becomes of one connection's packet, and why it is not what should become of it.</summary>
    /// <param name="service">The Service it is for.</param>
    /// <param name="port">The Service's port.</param>
    /// <param name="packet">The packet.</param>
    /// <returns>The findings, the first in the packet's order first; empty when it goes where it should, or who sends it is not known well enough.</returns>
    internal ImmutableArray<CheckFinding> Explain(Service service, ServicePort port, VirtualPacket packet)
    {
        var found = new FindingList(this);
        Array.Find(_sides, s => s.Rules.IsIPv6 != packet.Tuple.Destination.Address.IsIPv4)?.Explain(new Subject(service, port), packet, found);
        return found.ToFindings();
    }

    /// <summary>A Service port, as findings name it.</summary>
    private sealed record Subject(Service Service, ServicePort Port)
    {
        /// <summary>As kube-proxy's rules call it: <c>demo/web:http</c>.</summary>
        public string RuleName => ProxyRules.PortName(FullName, Port.Name);

        public string FullName => $"{Service.Metadata.Namespace ?? "default"}/{Service.Metadata.Name}";

        public IpProtocol Protocol => ServiceMeaning.ProtocolOf(Port);

        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{FullName} {Port.Port}/{Port.Protocol}");
    }

    /// <summary>The rules of one family, and what was found out about them once.</summary>
    private sealed partial class Side(RuleCheck check, ProxyRules rules)
    {
        public ProxyRules Rules => rules;

        public IEnumerable<string> NotSeen => rules.Mode == ProxyMode.Ipvs ? NotSeenOfIpvs
            : rules.Bypass is { } bypass ? [$"what {check._vantage.Words} does with packets for Services: {bypass} translates in place of kube-proxy, and its programs are not read"]
            : _isNotDropped ? [$"whether {check._vantage.Words} drops what it should: kube-proxy of this age leaves that to the kubelet (KUBE-MARK-DROP), whose rules do not for all packets"] : [];

        // Nothing can be concluded from what is missing where something else translates.
        private string? WhyNotRead => rules.Mode switch
        {
            ProxyMode.Unknown when rules.Bypass is { } bypass => $"{bypass} translates in place of kube-proxy, and its programs are not read",
            ProxyMode.Unknown => "it was not found out how kube-proxy works",
            ProxyMode.Ipvs when !rules.IsRead => "kube-proxy works in ipvs mode, and its virtual servers were not read; 'ipvsadm -Sn' prints them",
            _ when !rules.IsRead => $"kube-proxy works in {rules.Mode.ToString().ToLowerInvariant()} mode, and its rules were not read",
            // Userspace mode's rules lead to the proxy itself, whatever the endpoints are.
            not ProxyMode.Userspace when check._cluster.IsLacking("endpointslices") => "which endpoints packets should go to is not known: EndpointSlices were not read",
            _ => null,
        };

        private ProxyEntries Entries => field ??= new ProxyEntries(rules.Sets);

        private ProxyHabits Habits => field ??= FindHabits();

        private bool IsIPv6 => rules.IsIPv6;

        private bool IsIpvs => rules.Mode == ProxyMode.Ipvs;

        private ImmutableArray<IpAddress> NodePortAddresses
            => field.IsDefault ? field = IsIpvs ? FindAddressesOfIpvs() : FindNodePortAddress() is { } one ? [one] : [] : field;

        private IpAddress? NodePortAddress => NodePortAddresses.IsEmpty ? null : NodePortAddresses[0];

        /// <summary>Compares what becomes of all packets for a Service port.</summary>
        /// <returns>How many endpoints the node should use at the cluster address.</returns>
        public int Compare(Subject subject, FindingList found)
        {
            var (service, port) = subject;
            var endpoints = ServiceMeaning.Endpoints(check._cluster, service, port, IsIPv6, check._vantage.Node);
            if (WhyNotRead is { } why)
            {
                found.Add(subject, null, new Deviation(FailureClass.Undetermined, why, "may go anywhere") { Shared = why });
            }
            else if (rules.Mode == ProxyMode.Userspace)
            {
                foreach (var one in Traffic.Of(service, port, IsIPv6, endpoints, check._vantage, NodePortAddresses, Habits))
                {
                    JudgeProxied(subject, one, rules.Walk(one.Packet), found);
                }
            }
            else
            {
                foreach (var one in Traffic.Of(service, port, IsIPv6, endpoints, check._vantage, NodePortAddresses, Habits))
                {
                    Judge(subject, one, rules.Walk(one.Packet), found);
                }

                if (IsIpvs)
                {
                    JudgeServers(subject, found);
                }

                Remark(subject, endpoints, found);
            }

            return (service.Spec.InternalTrafficPolicy == "Local" ? endpoints.Local : endpoints.Cluster).Length;
        }

        /// <summary>Compares what becomes of one packet.</summary>
        public void Explain(Subject subject, VirtualPacket packet, FindingList found)
        {
            var (service, port) = subject;
            var source = packet.Tuple.Source.Address;
            var from = packet.FromNode ? Origin.Node : check._cluster.FindPodByAddress(source) is null ? Origin.Outside : Origin.Pod;
            var endpoints = ServiceMeaning.Endpoints(check._cluster, service, port, IsIPv6, check._vantage.Node);
            var like = Traffic.Of(service, port, IsIPv6, endpoints, check._vantage, [packet.Tuple.Destination.Address], Habits)
                .Where(c => c.To == packet.Tuple.Destination && c.Range is null).OrderByDescending(c => c.Hairpin?.Address == source)
                .FirstOrDefault(c => c.Hairpin?.Address == source || c.Hairpin is null && c.From == from);
            if (like is null || WhyNotRead is not null)
            {
                return;
            }

            if (rules.Mode == ProxyMode.Userspace)
            {
                JudgeProxied(subject, like with { Packet = packet }, rules.Walk(packet), found);
            }
            else
            {
                Judge(subject, like with { Packet = packet }, rules.Walk(packet), found);
            }
        }

        // What kube-proxy was told by its own configuration shows in what it does for most.
        private ProxyHabits FindHabits()
        {
            Span<int> marked = stackalloc int[3];
            Span<int> seen = stackalloc int[3];
            Span<IpAddress> sources = stackalloc IpAddress[3];
            var samples = 0;
            foreach (var service in check._cluster.Services)
            {
                foreach (var port in service.Spec.Ports)
                {
                    foreach (var (kind, to) in ServiceMeaning.Addresses(service, port, IsIPv6, null))
                    {
                        if (kind != ServiceAddressKind.Cluster || samples >= Samples)
                        {
                            continue;
                        }

                        var backends = ServiceMeaning.BackendsInUse(check._cluster, service, port, IsIPv6, check._vantage.Node).Backends;
                        if (backends.IsEmpty)
                        {
                            continue;
                        }

                        samples++;
                        foreach (var from in (ReadOnlySpan<Origin>)[Origin.Pod, Origin.Node, Origin.Outside])
                        {
                            if (check._vantage.Packet(from, to, ServiceMeaning.ProtocolOf(port), a => backends.Any(b => b.Address.Address == a)) is { } packet
                                && rules.Walk(packet).Branches.FirstOrDefault(b => b.Backend is not null) is { } branch)
                            {
                                seen[(int)from]++;
                                sources[(int)from] = packet.Tuple.Source.Address;
                                marked[(int)from] += IsMarked(branch) ? 1 : 0;
                            }
                        }
                    }
                }
            }

            // Where no rule marks anything, not even what comes back to its own endpoint, nothing is told of what it was told: then it is what most are told.
            if (marked is [0, 0, 0] && seen[0] + seen[1] + seen[2] > 0 && rules.Mode is ProxyMode.Iptables or ProxyMode.Nftables
                && !rules.Sets.Any(s => s.Tables.Values.Any(t => t.Chains.Values.Any(c => c.Rules.Any(SetsMark)))))
            {
                (marked[1], marked[2]) = (seen[1], seen[2]);
            }

            // Before Kubernetes 1.24 there were no chains KUBE-EXT-, and packets to external addresses were taken from outside only.
            var recent = rules.Sets.Any(s => s.Tables.Values.Any(t => t.Name.EndsWith(" kube-proxy", StringComparison.Ordinal) || t.Chains.Keys.Any(c => c.StartsWith("KUBE-EXT-", StringComparison.Ordinal))));
            // What it was told to mark, by its configuration or as its other rules show, is missed also where it is marked for none. It may have been told of more since.
            string? unmarked = null;
            for (var from = 0; from < seen.Length; from++)
            {
                if (seen[from] > 0 && ToldToMark(sources[from]) is { } why)
                {
                    unmarked = marked[from] == 0 ? why : unmarked;
                    marked[from] = seen[from];
                }
            }

            return !IsIpvs ? new ProxyHabits(Most(marked[0], seen[0]), Most(marked[1], seen[1]), Most(marked[2], seen[2]), recent) { MarksNoneThough = unmarked }
                // The node's own packets have a Service's address as their source there, and are masqueraded whatever it was told.
                : new ProxyHabits(Most(marked[0], seen[0]), true, marked is [_, 0, 0] ? null : Most(marked[2], seen[2]), true) { IsIpvs = true };

            static bool? Most(int some, int all) => some * 2 > all ? true : some * 2 < all ? false : null;
        }

        // Why packets of that source to cluster addresses should be masqueraded; null when they should not, or neither objects nor rules say so. Without
        // a clusterCIDR kube-proxy may have other means to know pods (detectLocal).
        private string? ToldToMark(IpAddress source)
        {
            if (check._cluster.Settings.KubeProxy is not { } told)
            {
                return PodsByRules.IsEmpty || PodsByRules.Any(p => p.Contains(source)) ? null : $"its other rules, which know pods by {PodsByRules[0]}";
            }

            if (told.MasqueradeAll == true)
            {
                return $"masqueradeAll in {told.From}";
            }

            var pods = told.ClusterCidrs.Where(c => IpNetwork.TryParse(c, out var prefix) && prefix.Address.IsIPv4 == source.IsIPv4).ToList();
            return pods.Count > 0 && !pods.Exists(c => IpNetwork.Parse(c).Contains(source)) ? $"clusterCIDR {string.Join(',', told.ClusterCidrs)} in {told.From}" : null;
        }

        // Whether the cluster's configuration says that packets of that source to cluster addresses keep it.
        private bool ToldNotToMark(IpAddress source)
            => check._cluster.Settings.KubeProxy is { MasqueradeAll: not true } told && told.ClusterCidrs.Any(c => IpNetwork.TryParse(c, out var prefix) && prefix.Contains(source));

        // Those that let pods past externalTrafficPolicy Local: -A KUBE-EXT-… -s 10.244.0.0/16 -m comment --comment "pod traffic for …" -j KUBE-SVC-…
        // In IPVS mode one rule marks for all Services: -A KUBE-SERVICES ! -s 10.244.0.0/16 … -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
        private ImmutableArray<IpNetwork> PodsByRules => field.IsDefault
            ? field = [.. rules.Sets.SelectMany(s => s.Tables.Values)
                .SelectMany(t => t.Chains.Values.Where(c => ProxyChains.Of(t.Name, c.Name) == (IsIpvs ? ProxyChain.Entry : ProxyChain.External))).SelectMany(c => c.Rules)
                .Where(r => r.Target is RuleTarget.Jump jump && ProxyChains.Of(r.Table, jump.Chain) == (IsIpvs ? ProxyChain.Mark : ProxyChain.Service)).SelectMany(r => r.Matches.OfType<RuleMatch.Source>())
                .Where(m => m.Negated == IsIpvs && m.Network.PrefixLength < m.Network.Address.Width && m.Network.Address.IsIPv4 != IsIPv6).Select(m => m.Network).Distinct()]
            : field;

        // --nodeport-addresses can keep some of the node's addresses out.
        private IpAddress? FindNodePortAddress()
        {
            IpAddress? best = null;
            var most = -1;
            var ports = check._cluster.Services.SelectMany(s => s.Spec.Ports).Where(p => p.NodePort is > 0 and <= 65535).Take(5).ToList();
            foreach (var address in check._vantage.Addresses.Where(a => a.IsIPv4 != IsIPv6).Take(8))
            {
                var served = ports.Count(p => check._vantage.Packet(Origin.Outside, new AddressPort(address, (ushort)p.NodePort), ServiceMeaning.ProtocolOf(p), _ => false) is { } packet
                    && rules.Walk(packet).Outcome != WalkOutcome.Untranslated);
                if (served > most)
                {
                    (best, most) = (address, served);
                }
            }

            return best;
        }

        private static bool IsMarked(WalkBranch branch)
        {
            for (var trail = branch.Trail; trail is not null; trail = trail.Before)
            {
                if (trail.Step.Hook is Hook.Prerouting or Hook.Output && SetsMark(trail.Step.Rule))
                {
                    return true;
                }
            }

            return false;
        }

        private static bool SetsMark(Rule rule) => ProxyChains.Of(rule.Table, rule.Chain) is not (ProxyChain.None or ProxyChain.Postrouting or ProxyChain.MarkDrop)
            && (rule.Target is RuleTarget.SetMark || rule.Matches.Any(m => m is RuleMatch.Effect { Target: RuleTarget.SetMark }));
    }
}
