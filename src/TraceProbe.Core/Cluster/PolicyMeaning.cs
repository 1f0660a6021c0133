using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json.Serialization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Cluster;

/// <summary>A NetworkPolicy's two sides.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<PolicyDirection>))]
public enum PolicyDirection
{
    /// <summary>What leaves a pod.</summary>
    Egress,

    /// <summary>What comes to a pod.</summary>
    Ingress,
}

/// <summary>
/// What NetworkPolicies mean for one packet (kubernetes.io, "Network Policies"; the API's own comments in networking/v1/types.go): a pod
/// that no policy selects for a direction lets everything pass; one that some do lets pass what at least one rule of theirs allows.
/// Where the outcome is up to the network plugin, or something was not read, the answer is that it is not known.
/// </summary>
/// <remarks>
/// Policies are about the packets' ends as they are between pods: after the translation of a Service's address. Answers to allowed packets
/// pass without a rule. Policies of other APIs (AdminNetworkPolicy, Calico's, Cilium's) are not looked at; they can deny more, and allow more.
/// </remarks>
public static class PolicyMeaning
{
    private const string NameLabel = "kubernetes.io/metadata.name";

    /// <summary>The policies that select a pod for a direction.</summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="pod">The pod. One in its node's network is selected by none: there policies have no say that plugins agree on.</param>
    /// <param name="direction">The direction.</param>
    public static ImmutableArray<NetworkPolicy> Selecting(ClusterSnapshot snapshot, Pod pod, PolicyDirection direction)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(pod);
        return Selecting(snapshot, pod, direction, out _);
    }

    /// <summary>Whether NetworkPolicies let the first packet of a connection pass: out of the pod that sends it, then into the one it is for.</summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="from">Who sends it.</param>
    /// <param name="to">Who it is for.</param>
    /// <param name="protocol">The protocol.</param>
    /// <param name="port">The port it is for, 1 to 65535.</param>
    /// <param name="arrivesFrom">Who it seems to come from when it arrives, where a node has put its own address in; null for <paramref name="from"/>.</param>
    public static PolicyDecision Decide(ClusterSnapshot snapshot, PolicyPeer from, PolicyPeer to, IpProtocol protocol, ushort port, PolicyPeer? arrivesFrom = null)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        if (!snapshot.IsRead("networkpolicies"))
        {
            return new PolicyDecision(null, null, null, [], "the cluster's NetworkPolicies are not known");
        }

        if (from.Pod is { } same && to.Pod is { } other && same.Ref == other.Ref)
        {
            return new PolicyDecision(true, null, null, [], "a pod always reaches itself");
        }

        var egress = new Packet(snapshot, from, to, protocol, port).Decide(PolicyDirection.Egress);
        if (egress.IsAllowed == false)
        {
            return egress;
        }

        var ingress = new Packet(snapshot, arrivesFrom ?? from, to, protocol, port).Decide(PolicyDirection.Ingress);
        return ingress.IsAllowed == false || egress.IsAllowed == true ? ingress : egress;
    }

    /// <summary>Who or where a peer of a rule is, in words: <c>pods with role=db in namespaces with team=a</c>.</summary>
    /// <param name="peer">The peer.</param>
    /// <param name="ns">The policy's namespace.</param>
    public static string Describe(NetworkPolicyPeer peer, string ns)
    {
        ArgumentNullException.ThrowIfNull(peer);
        if (peer.IpBlock is { } block)
        {
            return block.Except.IsEmpty ? block.Cidr : $"{block.Cidr} except {string.Join(", ", block.Except)}";
        }

        var pods = peer.PodSelector is { IsEmpty: false } selector ? $"pods with {selector}" : "all pods";
        return peer.NamespaceSelector switch
        {
            null => peer.PodSelector is null ? "nobody" : $"{pods} in {ns}",
            { IsEmpty: true } => $"{pods} in all namespaces",
            var namespaces => $"{pods} in namespaces with {namespaces}",
        };
    }

    private static ImmutableArray<NetworkPolicy> Selecting(ClusterSnapshot snapshot, Pod pod, PolicyDirection direction, out ImmutableArray<NetworkPolicy> perhaps)
    {
        var selecting = ImmutableArray.CreateBuilder<NetworkPolicy>();
        var unsure = ImmutableArray.CreateBuilder<NetworkPolicy>();
        if (!pod.Spec.HostNetwork)
        {
            foreach (var policy in snapshot.PoliciesIn(pod.Metadata.Namespace ?? "default"))
            {
                if (IsFor(policy.Spec, direction))
                {
                    (policy.Spec.PodSelector.Matches(pod.Metadata.Labels) switch { true => selecting, null => unsure, _ => null })?.Add(policy);
                }
            }
        }

        perhaps = unsure.ToImmutable();
        return selecting.ToImmutable();
    }

    /// <summary>What a policy says for a direction, for evidence: whom it selects and what it lets pass.</summary>
    /// <param name="policy">The policy.</param>
    /// <param name="direction">The direction.</param>
    public static string Describe(NetworkPolicy policy, PolicyDirection direction)
    {
        ArgumentNullException.ThrowIfNull(policy);
        var ns = policy.Metadata.Namespace ?? "default";
        var rules = Packet.Rules(policy, direction).Select(r => $"{(r.Ports.IsEmpty ? "all ports" : Packet.PortWords(r.Ports))} {(direction == PolicyDirection.Egress ? "to" : "from")} {(r.Peers.IsEmpty ? "anybody" : string.Join(", ", r.Peers.Select(p => Describe(p, ns))))}").ToList();
        return $"{policy.Ref} spec.podSelector: {policy.Spec.PodSelector}; {direction.ToString().ToLowerInvariant()}: {(rules.Count == 0 ? "nothing" : string.Join("; ", rules))}";
    }

    // Without types a policy is for Ingress, and for Egress too when it has such rules (SetDefaults_NetworkPolicy).
    private static bool IsFor(NetworkPolicySpec spec, PolicyDirection direction) => spec.PolicyTypes.IsEmpty
        ? direction == PolicyDirection.Ingress || !spec.Egress.IsEmpty
        : spec.PolicyTypes.Contains(direction.ToString());

    // One packet, asked about policy by policy. Null stands for "not known" throughout.
    private sealed class Packet(ClusterSnapshot snapshot, PolicyPeer from, PolicyPeer to, IpProtocol protocol, ushort port)
    {
        private readonly string _protocol = protocol.ToString().ToUpperInvariant();

        public PolicyDecision Decide(PolicyDirection direction)
        {
            var (own, peer) = direction == PolicyDirection.Egress ? (from, to) : (to, from);
            if (own.Pod is not { } pod)
            {
                return new PolicyDecision(true, direction, null, [], $"{own.Address} is no pod that policies could select");
            }

            var selecting = Selecting(snapshot, pod, direction, out var perhaps);
            var words = $"pod {pod.Metadata.Namespace}/{pod.Metadata.Name}";
            var verb = direction == PolicyDirection.Egress ? "out" : "in";
            if (selecting.IsEmpty && perhaps.IsEmpty)
            {
                return new PolicyDecision(true, direction, pod, [], $"no NetworkPolicy selects {words} for {direction.ToString().ToLowerInvariant()}");
            }

            if (selecting.FirstOrDefault(p => Lets(p, direction, peer) == true) is { } letting)
            {
                return new PolicyDecision(true, direction, pod, [letting], $"NetworkPolicy {Name(letting)} lets it {verb}");
            }

            // A policy that only perhaps selects the pod would do harm alone, and may do good where others deny.
            var allowed = selecting.IsEmpty ? perhaps.All(p => Lets(p, direction, peer) == true) ? true : null
                : Any(selecting.Select(p => Lets(p, direction, peer)).Concat(perhaps.Select(p => Lets(p, direction, peer) == false ? (bool?)false : null)));

            // What a node itself sends to its own pods passes with every plugin, that of other nodes with some.
            if (allowed == false && direction == PolicyDirection.Ingress && peer.IsNode)
            {
                allowed = null;
            }

            return allowed switch
            {
                true => new PolicyDecision(true, direction, pod, perhaps, $"{Names(perhaps)} {(perhaps.Length == 1 ? "lets" : "let")} it {verb}"),
                null => new PolicyDecision(null, direction, pod, [.. selecting, .. perhaps], $"whether {Names([.. selecting, .. perhaps])} {(selecting.Length + perhaps.Length == 1 ? "lets" : "let")} it {verb} is up to the network plugin, or depends on what was not read"),
                _ => new PolicyDecision(false, direction, pod, selecting, Denied(selecting, direction, words, peer)),
            };
        }

        public static IEnumerable<(ImmutableArray<NetworkPolicyPeer> Peers, ImmutableArray<NetworkPolicyPort> Ports)> Rules(NetworkPolicy policy, PolicyDirection direction)
            => direction == PolicyDirection.Egress ? policy.Spec.Egress.Select(r => (r.To, r.Ports)) : policy.Spec.Ingress.Select(r => (r.From, r.Ports));

        private bool? Lets(NetworkPolicy policy, PolicyDirection direction, PolicyPeer peer) => Any(Rules(policy, direction).Select(r => Allows(policy, r.Peers, r.Ports, peer)));

        private bool? Allows(NetworkPolicy policy, ImmutableArray<NetworkPolicyPeer> peers, ImmutableArray<NetworkPolicyPort> ports, PolicyPeer peer)
            => And(peers.IsEmpty ? true : Any(peers.Select(p => IsPeer(p, policy.Metadata.Namespace ?? "default", peer))), PortsMatch(ports));

        private bool? PortsMatch(ImmutableArray<NetworkPolicyPort> ports) => ports.IsEmpty ? true : Any(ports.Select(IsPort));

        private bool? IsPort(NetworkPolicyPort wanted)
        {
            if (wanted.Protocol != _protocol)
            {
                return false;
            }

            if (wanted.Port.Text is { } name)
            {
                // The name is one of the pod's that the packet is for, also in rules for egress.
                return to.Pod?.Spec.LastingContainers.SelectMany(c => c.Ports).Any(p => p.Name == name && p.Protocol == wanted.Protocol && p.Port == port) ?? false;
            }

            return wanted.Port.Number is not { } first || (wanted.EndPort is { } last ? port >= first && port <= last : port == first);
        }

        private bool? IsPeer(NetworkPolicyPeer wanted, string ns, PolicyPeer peer)
        {
            if (wanted.IpBlock is { } block)
            {
                return IsInBlock(block, peer);
            }

            if (wanted.PodSelector is null && wanted.NamespaceSelector is null)
            {
                return false; // the API server takes no such peer
            }

            if (peer.Pod is not { Spec.HostNetwork: false } pod)
            {
                // Some plugins know pods in their node's network by their labels, most do not.
                return peer.Pod is null ? false : null;
            }

            var podNamespace = pod.Metadata.Namespace ?? "default";
            var inNamespace = wanted.NamespaceSelector is { } namespaces ? InNamespace(namespaces, podNamespace) : podNamespace == ns;
            return And(inNamespace, wanted.PodSelector is { } selector ? selector.Matches(pod.Metadata.Labels) : true);
        }

        private bool? InNamespace(LabelSelector selector, string ns)
        {
            if (selector.IsEmpty)
            {
                return true;
            }

            if (snapshot.FindNamespace(ns) is { } known)
            {
                return selector.Matches(known.Metadata.Labels.ContainsKey(NameLabel) ? known.Metadata.Labels : known.Metadata.Labels.Add(NameLabel, ns));
            }

            // Of a namespace that was not read its name is known, and so that label, which the API server sets.
            var byName = selector with
            {
                MatchLabels = selector.MatchLabels.Where(l => l.Key == NameLabel).ToImmutableSortedDictionary(),
                MatchExpressions = [.. selector.MatchExpressions.Where(e => e.Key == NameLabel)],
            };
            var matches = byName.Matches(ImmutableSortedDictionary<string, string>.Empty.Add(NameLabel, ns));
            return matches == false ? false : byName.MatchLabels.Count == selector.MatchLabels.Count && byName.MatchExpressions.Length == selector.MatchExpressions.Length ? matches : null;
        }

        // Blocks are meant for addresses outside of the cluster. Most plugins compare pods' addresses too, Cilium does not.
        private static bool? IsInBlock(IpBlock block, PolicyPeer peer)
        {
            if (!IpNetwork.TryParse(block.Cidr, out var cidr))
            {
                return null;
            }

            var isIn = cidr.Contains(peer.Address);
            foreach (var text in block.Except)
            {
                if (!IpNetwork.TryParse(text, out var except))
                {
                    return null;
                }

                isIn &= !except.Contains(peer.Address);
            }

            return isIn && (peer.Pod is not null || peer.IsNode) ? null : isIn;
        }

        private string Denied(ImmutableArray<NetworkPolicy> selecting, PolicyDirection direction, string words, PolicyPeer peer)
        {
            var verb = direction == PolicyDirection.Egress ? "out" : "in";
            var preposition = direction == PolicyDirection.Egress ? "to" : "from";
            var names = Names(selecting);
            var select = selecting.Length == 1 ? "selects" : "select";
            var rules = selecting.SelectMany(p => Rules(p, direction).Select(r => (Policy: p, r.Peers, r.Ports))).ToList();
            if (rules.Count == 0)
            {
                return $"{names} {select} {words} and {(selecting.Length == 1 ? "lets" : "let")} nothing {verb}";
            }

            // A rule that lacks only one of both, the peer or the port, is what somebody meant for this.
            var who = peer.Pod is { } pod ? $"pod {pod.Metadata.Namespace}/{pod.Metadata.Name}" : peer.Address.ToString();
            var wanted = string.Create(CultureInfo.InvariantCulture, $"{_protocol} {port}");
            foreach (var (policy, peers, ports) in rules)
            {
                var isPeer = peers.IsEmpty || peers.Any(p => IsPeer(p, policy.Metadata.Namespace ?? "default", peer) == true);
                if (isPeer && PortsMatch(ports) == false)
                {
                    return $"NetworkPolicy {Name(policy)} selects {words} and lets it {verb} {preposition} {who} on {PortWords(ports)} only, not on {wanted}";
                }

                if (!isPeer && PortsMatch(ports) == true)
                {
                    return $"NetworkPolicy {Name(policy)} selects {words} and lets {(ports.IsEmpty ? "" : $"{wanted} ")}{verb} only {preposition} {string.Join(", ", peers.Select(p => Describe(p, policy.Metadata.Namespace ?? "default")))}, which {who} is not";
                }
            }

            return $"{names} {select} {words}, and no rule lets {wanted} {verb} {preposition} {who}";
        }

        public static string PortWords(ImmutableArray<NetworkPolicyPort> ports) => string.Join(", ", ports.Select(p => p.Port.IsEmpty ? $"all of {p.Protocol}"
            : string.Create(CultureInfo.InvariantCulture, $"{p.Protocol} {p.Port.Text ?? p.Port.ToString()}{(p.EndPort is { } last ? $" to {last}" : "")}")));

        private static bool? Any(IEnumerable<bool?> answers)
        {
            bool? any = false;
            foreach (var answer in answers)
            {
                if (answer == true)
                {
                    return true;
                }

                any = answer is null ? null : any;
            }

            return any;
        }

        private static bool? And(bool? left, bool? right) => left == false || right == false ? false : left is null || right is null ? null : true;

        private static string Name(NetworkPolicy policy) => $"{policy.Metadata.Namespace}/{policy.Metadata.Name}";

        private static string Names(ImmutableArray<NetworkPolicy> policies) => policies is [var one] ? $"NetworkPolicy {Name(one)}"
            : $"NetworkPolicies {string.Join(", ", policies.Take(4).Select(Name))}{(policies.Length > 4 ? string.Create(CultureInfo.InvariantCulture, $" and {policies.Length - 4} more") : "")}";
    }
}

/// <summary>One end of a packet, as NetworkPolicies know it.</summary>
/// <param name="Address">Its address.</param>
/// <param name="Pod">The pod that has the address; null when it is none.</param>
/// <param name="IsNode">Whether it is a node's own address.</param>
public readonly record struct PolicyPeer(IpAddress Address, Pod? Pod, bool IsNode)
{
    /// <summary>The end that has this address in the cluster.</summary>
    public static PolicyPeer At(IpAddress address, ClusterSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        var text = address.ToString();
        return new PolicyPeer(address, snapshot.FindPodByAddress(address), snapshot.Nodes.Any(n => n.Status.Addresses.Any(a => a.Address == text)));
    }
}

/// <summary>What NetworkPolicies make of a packet.</summary>
/// <param name="IsAllowed">Whether they let it pass; null when that is not known.</param>
/// <param name="Direction">The side that decided; null when neither had to.</param>
/// <param name="Pod">The pod on that side; null when there is none.</param>
/// <param name="Policies">The policies that decided: the one that allows it, or all that select the pod where none does.</param>
/// <param name="Reason">Half a sentence for why.</param>
public sealed record PolicyDecision(bool? IsAllowed, PolicyDirection? Direction, Pod? Pod, ImmutableArray<NetworkPolicy> Policies, string Reason);
