using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can happen to a packet between its translation and the pod, and to the answer on its way back.</summary>
internal sealed class DeliverChecks(Case c, ServiceLeg leg)
{
    /// <summary>What happened to it.</summary>
    public IEnumerable<Finding> Find()
    {
        if (leg.ToPod is not { } last)
        {
            if (UndialledForWantOfRoute() is { } undialled)
            {
                yield return undialled;
            }

            yield break;
        }

        if (!ReferenceEquals(last, leg))
        {
            foreach (var finding in new DeliverChecks(c, last).Find())
            {
                yield return finding;
            }

            yield break;
        }

        if (leg.Connection is not { } toPod || toPod.Outcome is ConnectionOutcome.Established or ConnectionOutcome.Unknown)
        {
            yield break;
        }

        foreach (var drop in toPod.Drops)
        {
            if (DroppedOnTheWay(toPod, drop) is { } finding)
            {
                yield return finding;
                yield break;
            }
        }

        if (toPod.Outcome == ConnectionOutcome.Rejected && !(toPod.Translated is null && IsServiceReject(toPod)) && RejectedOnTheWay(toPod) is { } rejected)
        {
            yield return rejected;
            yield break;
        }

        if ((toPod.Outcome == ConnectionOutcome.Refused || IsReset(toPod.UntranslatedAnswer)) && ResetByRule(toPod) is { } reset)
        {
            yield return reset;
            yield break;
        }

        if (toPod.Outcome != ConnectionOutcome.Unanswered || toPod.Translated is null && leg.IsToService)
        {
            yield break;
        }

        if (toPod.AnsweredInNetNs != 0)
        {
            yield return ReplyUntranslated(toPod) ?? AnswerWithoutRoute(toPod) ?? new Finding(FailureClass.Undetermined, $"{c.WordsOf(toPod.AnsweredInNetNs)} answered, but its answer never came back to {c.WordsOf(toPod.ClientNetNs)}.")
            {
                Confidence = Confidence.None,
                Objects = [leg.Service.Ref, .. leg.PodRef(toPod.Backend.Address)],
                Evidence = [leg.LastSeen(toPod, forward: false)],
            };
            yield break;
        }

        if (c.PlaceOf(toPod.FarthestNetNs) is { Kind: PlaceKind.Node, Node: { } stuck } && c.NodeCalled(stuck) is { } account
            && account.Sysctls.GetValueOrDefault(leg.IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding") == "0")
        {
            yield return new Finding(FailureClass.ForwardingDisabled, $"{stuck} does not forward packets, so the one to {toPod.Backend} ended there.")
            {
                Objects = [new ObjectRef("node", null, stuck)],
                Evidence = [leg.LastSeen(toPod, forward: true), new Evidence(EvidenceSource.Programmed, $"{(leg.IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding")} = 0", Place: $"node/{stuck}")],
                Mend = new Mend("Let the node forward.", $"sysctl -w {(leg.IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding")}=1", stuck),
            };
            yield break;
        }

        if ((WithoutRoute(toPod) ?? HairpinDisabled(toPod)) is { } lost)
        {
            yield return lost;
            yield break;
        }

        // Nobody was seen dropping it; but a policy that wants it dropped is cause enough to be named.
        if (Denied(toPod) is { } denied)
        {
            yield return denied with { Sentence = $"The packet to {toPod.Backend} vanished in {c.WordsOf(toPod.FarthestNetNs)}: {denied.Sentence}", Evidence = [leg.LastSeen(toPod, forward: true), .. denied.Evidence] };
        }
        else if (Unreachable(toPod) is { } unreachable)
        {
            yield return unreachable;
        }
    }

    /// <summary>The NetworkPolicies that deny the packet, when some do for certain; its sentence is the reason alone.</summary>
    private Finding? Denied(Connection toPod)
    {
        // Policies are about pods; a Service's address that was not translated is none's.
        if (toPod.Translated is null && ServiceMeant.AddressesOf(leg.Service).Contains(toPod.Backend.Address))
        {
            return null;
        }

        var from = PolicyPeer.At(toPod.Asked.Source.Address, c.Cluster);
        var to = PolicyPeer.At(toPod.Backend.Address, c.Cluster);
        PolicyPeer? arrives = toPod.Translated is { } translated && translated.Source.Address != toPod.Asked.Source.Address ? PolicyPeer.At(translated.Source.Address, c.Cluster) : null;
        var decision = PolicyMeaning.Decide(c.Cluster, from, to, toPod.Asked.Protocol, toPod.Backend.Port, arrives);
        if (decision is not { IsAllowed: false, Direction: { } direction, Pod: { } own })
        {
            return null;
        }

        return new Finding(FailureClass.DroppedByRule, $"{decision.Reason}.")
        {
            Confidence = Confidence.Likely,
            Objects = [.. decision.Policies.Take(3).Select(p => p.Ref), own.Ref],
            Evidence = [.. decision.Policies.Take(3).Select(p => new Evidence(EvidenceSource.Desired, PolicyMeaning.Describe(p, direction)))],
            Mend = Mends.AllowInPolicy(decision.Policies[0], direction, own, direction == PolicyDirection.Egress ? to : arrives ?? from, toPod.Asked.Protocol, toPod.Backend.Port),
        };
    }

    private bool IsServiceReject(Connection toPod) => ServiceMeant.AddressesOf(leg.Service).Contains(toPod.Asked.Destination.Address) && leg.IsPortUnreachable(toPod);

    private Finding? DroppedOnTheWay(Connection toPod, Sighting drop)
    {
        var e = drop.Event;
        var place = c.PlaceOf(e.NetNs);
        var where = c.WordsOf(e.NetNs);
        var evidence = new Evidence(EvidenceSource.Observed, $"{where} dropped {(drop.Forward ? "the packet to" : "the answer from")} {(drop.Forward ? e.Tuple.Destination : e.Tuple.Source)}: {e.DropReason ?? "no reason given"}", c.SinceStart(e.BootNanoseconds), c.PlaceName(e.NetNs));
        switch (e.DropReason)
        {
            // A REJECT rule answers, and then drops the packet that it answered.
            case "NETFILTER_DROP" when toPod.Outcome is ConnectionOutcome.Rejected or ConnectionOutcome.Refused || IsReset(toPod.UntranslatedAnswer):
            // A message about the packet is not the packet.
            case var _ when e.Tuple.Protocol is IpProtocol.Icmp or IpProtocol.IcmpV6:
                return null;
            case "NETFILTER_DROP":
                var dropping = drop.Forward && place?.Node is { } nodeName && place.Kind == PlaceKind.Node && c.NodeCalled(nodeName) is { } account
                    ? DroppingBranch(account, toPod) : null;
                if (dropping?.Steps.LastOrDefault().Rule is { Chain: "cluster-ips-check" } && toPod.Translated is null)
                {
                    // nftables mode: kube-proxy drops what it knows no Service for. That it knows none is said of the translation.
                    return null;
                }

                if (dropping is null && drop.Forward && c.NodeCalled(place?.Kind == PlaceKind.Node ? place.Node : null) is { } rejecting
                    && WalkAt(rejecting, toPod).Branches.Any(b => b.Outcome == WalkOutcome.Rejected))
                {
                    // A rule of it rejects such packets: the answer escaped observation.
                    return null;
                }

                var step = dropping?.Steps.LastOrDefault(s => s.Rule.Target is RuleTarget.Drop) ?? default;
                var rule = dropping?.Policy ?? (step.Rule is null ? null : RuleRef.Of(step, !leg.IsIPv4).ToString());
                if (drop.Forward && Denied(toPod) is { } denied)
                {
                    return denied with
                    {
                        Sentence = $"{where} dropped the packet to {toPod.Backend}: {denied.Sentence}",
                        Confidence = Confidence.Certain,
                        Evidence = [evidence, .. denied.Evidence, .. rule is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, rule, Place: c.PlaceName(e.NetNs))]],
                    };
                }

                // What the node itself sends is routed anew after it was translated; where there is no way to go then, the hook drops it, and no rule.
                if (rule is null && drop.Forward && e.NetNs == toPod.ClientNetNs && c.NodeCalled(place?.Node) is { } router && NoRoute(router, toPod.Backend.Address, evidence, "the packet") is { } noRoute)
                {
                    return noRoute;
                }

                if (rule is null && drop.Forward && e.NetNs == toPod.ClientNetNs && place?.Kind == PlaceKind.Node && c.NodeCalled(place.Node) is not { Routes.IsEmpty: false })
                {
                    return new Finding(FailureClass.Undetermined, $"{where} dropped its own packet to {toPod.Backend} on its way out; without its rules and routes it is not known which of them did.")
                    {
                        Confidence = Confidence.None,
                        Objects = [.. leg.PodRef(toPod.Backend.Address)],
                        Evidence = [evidence],
                        NotSeen = [$"the rules and routes of {where}"],
                    };
                }

                return new Finding(FailureClass.DroppedByRule, rule is null ? $"A rule in {where} dropped {(drop.Forward ? "the packet to" : "the answer from")} {toPod.Backend}." : $"A rule in {where} dropped the packet to {toPod.Backend}: {rule}")
                {
                    Confidence = rule is null ? Confidence.Likely : Confidence.Certain,
                    Objects = place?.Node is { } n ? [new ObjectRef("node", null, n)] : [],
                    Evidence = [evidence, .. rule is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, rule, Place: c.PlaceName(e.NetNs))]],
                    NotSeen = [.. rule is null ? [$"which rule of {where} it was"] : Array.Empty<string>(), .. c.Recording.Cluster is null || c.Cluster.IsRead("networkpolicies") ? Array.Empty<string>() : ["the cluster's NetworkPolicies, one of which may want it"]],
                    Mend = dropping is { Policy: not null } ? Mends.LetThrough(dropping, !leg.IsIPv4, place?.Node)
                        : step.Rule is null ? new Mend("Change the rule, or the policy behind it.", null, place?.Node) : Mends.RemoveRule(step, !leg.IsIPv4, place?.Node),
                };
            // Network plugins that work with programs of their own (Cilium, Calico's eBPF mode) drop here.
            case "TC_INGRESS" or "TC_EGRESS" or "XDP" or "BPF_CGROUP_EGRESS":
                return drop.Forward && Denied(toPod) is { } byProgram
                    ? byProgram with { Sentence = $"A program of the network plugin in {where} dropped the packet to {toPod.Backend}: {byProgram.Sentence}", Confidence = Confidence.Certain, Evidence = [evidence, .. byProgram.Evidence] }
                    : new Finding(FailureClass.DroppedByRule, $"A program in {where} dropped the {(drop.Forward ? "packet to" : "answer from")} {toPod.Backend} on {e.Interface} ({e.DropReason}).")
                    {
                        Confidence = Confidence.Likely,
                        Objects = place?.Node is { } pn ? [new ObjectRef("node", null, pn)] : [],
                        Evidence = [evidence],
                        NotSeen = ["why that program dropped it", .. c.Recording.Cluster is null || c.Cluster.IsRead("networkpolicies") ? Array.Empty<string>() : ["the cluster's NetworkPolicies, one of which may want it"]],
                    };
            // Its link address is another's: the node has an old or a wrong one for the pod.
            case "OTHERHOST" when drop.Forward && e.NetNs == c.NetNsOf(toPod.Backend.Address):
                return WrongLinkAddress(toPod, evidence);
            case "IP_RPFILTER":
                return new Finding(FailureClass.ReversePathFiltered, $"{where} dropped the packet from {e.Tuple.Source.Address} on {e.Interface}: it would not send the answer back that way.")
                {
                    Objects = place?.Node is { } rn ? [new ObjectRef("node", null, rn)] : [],
                    Evidence = [evidence],
                    Mend = new Mend("Loosen the reverse path filter.", $"sysctl -w net.ipv4.conf.{e.Interface}.rp_filter=2", place?.Node),
                };
            case "IP_INNOROUTES" or "IP_OUTNOROUTES":
                return new Finding(FailureClass.NoRouteToPod, $"{where} has no route to {e.Tuple.Destination.Address}.")
                {
                    Objects = place?.Node is { } nn ? [new ObjectRef("node", null, nn)] : [],
                    Evidence = [evidence],
                    Mend = new Mend("Mend the network plugin's routes.", "ip route", place?.Node),
                };
            case "NEIGH_FAILED" or "NEIGH_QUEUEFULL" or "NEIGH_DEAD":
                return new Finding(FailureClass.PodUnreachable, $"{where} cannot find {e.Tuple.Destination.Address} on its network ({e.Interface}): the pod or its node is gone.")
                {
                    Objects = [.. leg.PodRef(toPod.Backend.Address)],
                    Evidence = [evidence],
                };
            default:
                return null;
        }
    }

    private Finding WrongLinkAddress(Connection toPod, Evidence seen)
    {
        var backend = toPod.Backend.Address;
        var node = c.NodeCalled(NodeOf(backend));
        var neighbour = node?.Neighbours.FirstOrDefault(n => n.Address == backend);
        return new Finding(FailureClass.PodUnreachable, $"{c.HolderWords(backend)} took the packet for somebody else's: {node?.Name ?? "its node"} sends what is for {backend} to {(neighbour?.LinkAddress is { } link ? $"the link address {link}{(neighbour.State == "PERMANENT" ? ", by a permanent entry among its neighbours" : "")}" : "another link address than the pod's")}.")
        {
            Objects = [.. leg.PodRef(backend), .. node is null ? Array.Empty<ObjectRef>() : [new ObjectRef("node", null, node.Name)]],
            Evidence = [seen, .. neighbour is null ? Array.Empty<Evidence>() : [NeighbourEvidence(node!, neighbour)]],
            Mend = new Mend("Remove the entry, so that the pod is looked for anew.", $"ip neigh del {backend} dev {neighbour?.Device ?? "cni0"}", node?.Name),
        };
    }

    private static Evidence NeighbourEvidence(NodeAccount node, Neighbour neighbour)
        => new(EvidenceSource.Programmed, $"neighbour {neighbour.Address} dev {neighbour.Device} lladdr {neighbour.LinkAddress ?? "none"} {neighbour.State}", Place: $"node/{node.Name}");

    private Finding? RejectedOnTheWay(Connection toPod)
    {
        if (toPod.Icmp is not { } icmp)
        {
            return null;
        }

        var where = c.WordsOf(toPod.AnsweredInNetNs);
        var words = Timeline.IcmpWords(leg.IsIPv4, icmp.Type, icmp.Code);
        var isRoute = leg.IsIPv4 ? icmp is (3, 0) : icmp is (1, 0);
        var isNeighbour = leg.IsIPv4 ? icmp is (3, 1) : icmp is (1, 3);
        var atPod = c.PlaceOf(toPod.AnsweredInNetNs)?.Kind == PlaceKind.Pod;
        if (atPod && toPod.Asked.Protocol == IpProtocol.Udp)
        {
            return null; // How a pod refuses a datagram: see accept.
        }

        // A route of type "unreachable" is told the sender as a neighbour that does not answer is.
        if ((isRoute || isNeighbour) && c.NodeCalled(c.PlaceOf(toPod.AnsweredInNetNs)?.Node) is { } teller
            && NoRoute(teller, toPod.Backend.Address, new Evidence(EvidenceSource.Observed, $"{where} told {words}", c.SinceStart(toPod.OutcomeNanoseconds ?? toPod.EndNanoseconds), c.PlaceName(toPod.AnsweredInNetNs)), "the packet") is { } noRoute)
        {
            return noRoute;
        }

        if (isNeighbour && (c.NodeCalled(c.PlaceOf(toPod.AnsweredInNetNs)?.Node) is not { Routes.IsEmpty: false } || c.PlaceOf(toPod.AnsweredInNetNs)?.Kind != PlaceKind.Node))
        {
            return new Finding(FailureClass.Undetermined, $"{where} was told that {toPod.Backend.Address} is not reachable ({words}); without the routes of who said so it is not known whether a route does, or the address does not answer on its network.")
            {
                Confidence = Confidence.None,
                Objects = [.. leg.PodRef(toPod.Backend.Address)],
                Evidence = [.. leg.Refusal()],
                NotSeen = ["the routes of the node that sent the error"],
            };
        }

        if (!isRoute && !isNeighbour && Denied(toPod) is { } denied)
        {
            return denied with
            {
                Class = FailureClass.RejectedByRule,
                Sentence = $"{where} rejected the packet to {toPod.Backend} ({words}): {denied.Sentence}",
                Confidence = Confidence.Certain,
                Evidence = [.. leg.Refusal(), .. denied.Evidence],
            };
        }

        if (!isRoute && !isNeighbour && RuleThatRejects(toPod) is { } rule)
        {
            return RejectedBy(rule, toPod, words);
        }

        if (!isRoute && !isNeighbour && toPod.Asked.Protocol == IpProtocol.Udp)
        {
            return new Finding(FailureClass.Undetermined, $"The datagram to {toPod.Backend} was refused ({words}), and who refused it was not seen: a rule on its way, or the pod itself, where nothing listens.")
            {
                Confidence = Confidence.None,
                Objects = [.. leg.PodRef(toPod.Backend.Address)],
                Evidence = [.. leg.Refusal()],
                NotSeen = ["who sent the error"],
            };
        }

        return new Finding(isRoute ? FailureClass.NoRouteToPod : isNeighbour ? FailureClass.PodUnreachable : FailureClass.RejectedByRule,
            isRoute ? $"{where} has no route to {toPod.Backend.Address}." : isNeighbour ? $"{where} cannot find {toPod.Backend.Address} on its network." : $"{where} rejected the packet to {toPod.Backend} ({words}).")
        {
            Confidence = isRoute || isNeighbour ? Confidence.Certain : Confidence.Likely,
            Objects = [.. leg.PodRef(toPod.Backend.Address)],
            Evidence = [.. leg.Refusal()],
        };
    }

    private Finding RejectedBy(WalkStep step, Connection toPod, string words)
    {
        var place = c.PlaceOf(toPod.AnsweredInNetNs);
        var rule = RuleRef.Of(step, !leg.IsIPv4);
        return new Finding(FailureClass.RejectedByRule, $"{c.WordsOf(toPod.AnsweredInNetNs)} rejected the packet to {toPod.Backend} ({words}): {rule}")
        {
            Objects = [.. place?.Node is { } node ? [new ObjectRef("node", null, node)] : Array.Empty<ObjectRef>(), .. leg.PodRef(toPod.Backend.Address)],
            Evidence = [.. leg.Refusal(), new Evidence(EvidenceSource.Programmed, rule.ToString(), Place: c.PlaceName(toPod.AnsweredInNetNs))],
            Mend = Mends.RemoveRule(step, !leg.IsIPv4, place?.Node),
        };
    }

    // A reset that comes from a node on the way, and not from the pod.
    private Finding? ResetByRule(Connection toPod)
        => c.PlaceOf(toPod.AnsweredInNetNs) is { Kind: PlaceKind.Node } && c.NetNsOf(toPod.Backend.Address) is { } pod && pod != toPod.AnsweredInNetNs
            && RuleThatRejects(toPod) is { } rule ? RejectedBy(rule, toPod, toPod.Outcome == ConnectionOutcome.Refused ? "TCP reset" : $"TCP reset, in the name of {toPod.Backend}, whom the client did not ask, so that it takes no notice and waits") : null;

    private static bool IsReset(Sighting? answer) => answer is { Event: var e } && e.Flags.HasFlag(TcpFlags.Rst);

    private WalkStep? RuleThatRejects(Connection toPod)
    {
        if (c.PlaceOf(toPod.AnsweredInNetNs) is not { Kind: PlaceKind.Node, Node: { } name } || c.NodeCalled(name) is not { } node)
        {
            return null;
        }

        foreach (var branch in WalkAt(node, toPod).Branches)
        {
            if (branch.Outcome == WalkOutcome.Rejected && branch.Steps is [.., { Rule: not null } last])
            {
                return last;
            }
        }

        return null;
    }

    // The packet as it came to the node: translated already, where it was another that did it.
    private WalkResult WalkAt(NodeAccount node, Connection toPod)
    {
        var isEntry = c.EntryNode(toPod)?.Name == node.Name;
        return c.RulesOf(node, !leg.IsIPv4).Walk(Case.PacketAt(c.RulesOf(node, !leg.IsIPv4), isEntry ? toPod.Asked : toPod.Translated ?? toPod.Asked, isEntry && leg.IsFromNode));
    }

    private WalkBranch? DroppingBranch(NodeAccount node, Connection toPod)
    {
        var walk = WalkAt(node, toPod);
        var branch = walk.BranchTo(toPod.Backend) ?? walk.Branches.FirstOrDefault(b => b.Outcome == WalkOutcome.Dropped);
        return branch is { Outcome: WalkOutcome.Dropped } ? branch : null;
    }

    // The node on which a packet was last seen, and the account of it.
    private (NodeAccount Node, Sighting Last)? LastNode(Connection toPod, bool forward)
    {
        for (var i = toPod.Sightings.Length - 1; i >= 0; i--)
        {
            var s = toPod.Sightings[i];
            if (s.Forward == forward && s.Event.Kind != Events.EventKind.PacketDropped && c.PlaceOf(s.Event.NetNs) is { Kind: PlaceKind.Node, Node: { } name } && c.NodeCalled(name) is { } node)
            {
                return (node, s);
            }
        }

        return null;
    }

    private string? NodeOf(IpAddress address) => c.Cluster.FindPodByAddress(address)?.Spec.NodeName ?? c.Recording.Manifest.Places.FirstOrDefault(p => p.Addresses.Contains(address))?.Node;

    // What a proxy's own kernel refuses to send is never a packet.
    private Finding? UndialledForWantOfRoute()
        => leg.Connection is { Onward: null } taken && c.IsBehindProxy(taken) && c.NodeCalled(c.PlaceOf(taken.TranslatedInNetNs)?.Node) is { } node
            ? leg.Backends.Select(b => NoRoute(node, b.Address.Address, leg.LastSeen(taken, forward: true), "what the proxy sent")).FirstOrDefault(f => f is not null) : null;

    private Finding? WithoutRoute(Connection toPod) => LastNode(toPod, forward: true) is var (node, last) ? NoRoute(node, toPod.Backend.Address, leg.LastSeen(toPod, forward: true), "the packet") : null;

    private Finding? AnswerWithoutRoute(Connection toPod)
        => LastNode(toPod, forward: false) is var (node, last) ? NoRoute(node, last.Event.Tuple.Destination.Address, leg.LastSeen(toPod, forward: false), $"the answer of {c.HolderWords(toPod.Backend.Address)}") : null;

    // Whether a node has no way to a pod's address: none at all, one that says so, or only the one by which everything else leaves.
    private Finding? NoRoute(NodeAccount node, IpAddress address, Evidence seen, string what)
    {
        if (node.Routes.IsEmpty || NodeOf(address) is not { } home || home == node.Name || c.IsNodeAddress(address))
        {
            return null;
        }

        var route = c.RulesOf(node, !address.IsIPv4).Routes?.Lookup(address);
        var (says, how) = route switch
        {
            null => ("no route", "none of its routes is for it"),
            { Type: "blackhole" or "unreachable" or "prohibit" } => ($"a route that ends it ({route.Type})", route.Raw),
            { Type: "unicast", Prefix.PrefixLength: 0 } when RouteToOtherNodes(address.IsIPv4) => ("no route of its own", route.Raw),
            _ => (null, null),
        };
        if (says is null)
        {
            return null;
        }

        var ip = address.IsIPv4 ? "ip" : "ip -6";
        var isDefault = route is { Prefix.PrefixLength: 0, Type: "unicast" };
        var range = c.Cluster.FindNode(home) is { } other ? other.Spec.PodCIDRs.Append(other.Spec.PodCIDR ?? "").FirstOrDefault(r => IpNetwork.TryParse(r, out var network) && network.Contains(address)) : null;
        var hop = c.Cluster.FindNode(home)?.Status.Addresses.FirstOrDefault(a => a.Type == "InternalIP" && IpAddress.TryParse(a.Address, null, out var ip) && ip.IsIPv4 == address.IsIPv4)?.Address;
        return new Finding(FailureClass.NoRouteToPod, $"{node.Name} has {says} for {address} ({c.HolderWords(address)} on {home}){(isDefault ? $", so {what} left by the default route{(route!.Via is { } via ? $" via {via}" : "")}" : $", so {what} ended there")}.")
        {
            Objects = [new ObjectRef("node", null, node.Name), .. leg.PodRef(address)],
            Evidence = [seen, new Evidence(EvidenceSource.Programmed, $"route of {node.Name} for {address}: {how}", Place: $"node/{node.Name}")],
            Mend = range is not null && hop is not null
                ? new Mend("Put the route back, and find out why the network plugin does not keep it.", $"{(route is null || route.Type == "unicast" ? "" : $"{ip} route del {route.Type} {route.Prefix} && ")}{ip} route replace {range} via {hop}", node.Name)
                : new Mend("Mend the network plugin's routes.", null, node.Name),
        };
    }

    // Whether the nodes of this cluster have routes to each other's pods, as far as was read. Where the network beneath them knows the pods, as clouds' own
    // networks do, the default route is the right one.
    private bool RouteToOtherNodes(bool isIPv4) => c.Recording.Nodes.Any(n => !n.Routes.IsEmpty && c.RulesOf(n, !isIPv4).Routes is { } routes
        && c.Cluster.Nodes.Any(m => m.Metadata.Name != n.Name && m.Spec.PodCIDRs.Append(m.Spec.PodCIDR ?? "").Any(r => IpNetwork.TryParse(r, out var range) && range.Address.IsIPv4 == isIPv4
            && routes.Lookup(range.Address) is { Type: "unicast", Prefix.PrefixLength: > 0 })));

    // A bridge does not send a packet out where it came in, unless it is told to.
    private Finding? HairpinDisabled(Connection toPod)
    {
        if (toPod.Asked.Source.Address != toPod.Backend.Address && AreDifferentPods(toPod) || LastNode(toPod, forward: true) is not var (node, last))
        {
            return null;
        }

        var seenOn = toPod.Sightings.Where(s => s.Event.NetNs == node.NetNs || s.Event.NetNs == last.Event.NetNs).Select(s => s.Event.Interface.ToString()).ToHashSet();
        var port = node.BridgePorts.FirstOrDefault(p => p.Hairpin == false && seenOn.Contains(p.Device)) ?? (node.BridgePorts.Count(p => p.Hairpin == false) == 1 && node.BridgePorts.Single(p => p.Hairpin == false) is var only && seenOn.Contains(only.Bridge) ? only : null);
        if (port is null || node.Bridges.FirstOrDefault(b => b.Device == port.Bridge) is { IsPromiscuous: true })
        {
            return null;
        }

        return new Finding(FailureClass.HairpinDisabled, $"{c.HolderWords(toPod.Backend.Address)} was led back to itself by {leg.Name}, and {node.Name} does not send a packet out by the bridge port that it came in by, {port.Device} (hairpin mode is off).")
        {
            Objects = [new ObjectRef("node", null, node.Name), .. leg.PodRef(toPod.Backend.Address)],
            Evidence = [leg.LastSeen(toPod, forward: true), new Evidence(EvidenceSource.Programmed, $"bridge port {port.Device} of {port.Bridge}: hairpin off", Place: $"node/{node.Name}")],
            Mend = new Mend("Turn hairpin mode on for the port, and in the network plugin's configuration (bridge plugin: hairpinMode).", $"bridge link set dev {port.Device} hairpin on", node.Name),
        };
    }

    private bool AreDifferentPods(Connection toPod) => c.Cluster.FindPodByAddress(toPod.Asked.Source.Address) is not { } from || c.Cluster.FindPodByAddress(toPod.Backend.Address) is not { } to || from.Metadata.Uid != to.Metadata.Uid || from.Metadata.Name != to.Metadata.Name;

    // It left for the pod, or for the pod's node, and did not come there, where it would have been seen.
    private Finding? Unreachable(Connection toPod)
    {
        if (LastNode(toPod, forward: true) is not var (node, last) || NodeOf(toPod.Backend.Address) is not { } home
            || c.NetNsOf(toPod.Backend.Address) is not { } pod || toPod.Sightings.Any(s => s.Forward && s.Event.NetNs == pod) || c.Recording.Manifest.Source != Recordings.EventSource.Ebpf)
        {
            return null;
        }

        var backend = toPod.Backend.Address;
        var left = leg.LastSeen(toPod, forward: true);
        if (node.Name == home)
        {
            var neighbour = node.Neighbours.FirstOrDefault(n => n.Address == backend);
            if (!IsSilent(node, neighbour) && !IsLostBehind(toPod, last))
            {
                return null;
            }

            return new Finding(FailureClass.PodUnreachable, $"The packet came to {node.Name} and never arrived in {c.HolderWords(backend)}: {(neighbour is { IsSilent: true } ? "the pod does not answer when it is looked for on the node's network" : "the link between them is down or cut")}.")
            {
                Confidence = IsSilent(node, neighbour) ? Confidence.Certain : Confidence.Likely,
                NotSeen = IsSilent(node, neighbour) ? [] : [$"what became of the packet behind {last.Event.Interface} of {node.Name}"],
                Objects = [.. leg.PodRef(backend), new ObjectRef("node", null, node.Name)],
                Evidence = [left, .. neighbour is null ? Array.Empty<Evidence>() : [NeighbourEvidence(node, neighbour)]],
                Mend = new Mend("Look at the pod's link; a pod that is made anew gets a new one.", leg.PodRef(backend).FirstOrDefault() is { } podRef ? $"kubectl delete pod {podRef.Name} -n {podRef.Namespace}" : null),
            };
        }

        if (c.Recording.Manifest.Places.FirstOrDefault(p => p.Kind == PlaceKind.Node && p.Node == home) is not { } there || toPod.Sightings.Any(s => s.Forward && s.Event.NetNs == there.NetNs))
        {
            return null;
        }

        // By a route of another's than that node, the packet may have been lost with that other.
        var route = c.RulesOf(node, !leg.IsIPv4).Routes?.Lookup(backend);
        var hop = route?.Via;
        if (route is { Prefix.PrefixLength: 0 } || hop is { } next && !there.Addresses.Contains(next) && !IsOf(home, next))
        {
            return null;
        }

        var entry = hop is null ? null : node.Neighbours.FirstOrDefault(n => n.Address == hop);
        if (!IsSilent(node, entry) && !IsLostBehind(toPod, last))
        {
            return null;
        }

        return new Finding(FailureClass.PodUnreachable, $"The packet {(last.Event.Kind == Events.EventKind.SocketStateChanged ? "could not leave" : "came through")} {node.Name} and never arrived on {home}, where {c.HolderWords(backend)} is: {home} is down or cut off from {node.Name}.")
        {
            Confidence = IsSilent(node, entry) ? Confidence.Certain : Confidence.Likely,
            NotSeen = IsSilent(node, entry) ? [] : [$"what became of the packet behind {last.Event.Interface} of {node.Name}"],
            Objects = [new ObjectRef("node", null, home), .. leg.PodRef(backend)],
            Evidence = [left, .. entry is null ? Array.Empty<Evidence>() : [NeighbourEvidence(node, entry)]],
            Mend = new Mend($"Bring {home} back to the network, or delete its pods so that they are made elsewhere.", null),
        };
    }

    // Whether an address is a node's own, or lies among those of its pods, as the next hop over a tunnel does.
    private bool IsOf(string node, IpAddress address) => c.Cluster.FindNode(node) is { } known
        && (known.Status.Addresses.Any(a => IpAddress.TryParse(a.Address, null, out var own) && own == address)
            || known.Spec.PodCIDRs.Append(known.Spec.PodCIDR ?? "").Any(r => IpNetwork.TryParse(r, out var range) && range.Contains(address)));

    // Packets that were handed to a link, and of which none came out of it, were lost there; one that was not may wait for a neighbour that does not answer.
    // That a single one was not seen again, or while events were lost, or before a server that takes no more, says nothing.
    private bool IsLostBehind(Connection toPod, Sighting last) => last.Event.Kind == Events.EventKind.PacketQueued && toPod.Retransmissions > 0 && c.Journey.Gaps.IsEmpty
        && !(c.NetNsOf(toPod.Backend.Address) is { } pod && c.ListenersIn(pod)?.Any(l => l.IsFull && l.Local.Port == toPod.Backend.Port) == true);

    private static bool IsSilent(NodeAccount node, Neighbour? neighbour) => !node.Neighbours.IsEmpty && neighbour is null or { IsSilent: true };

    // On a bridge the answer goes straight to the client, unless the bridge shows what it passes on to the rules.
    private Finding? ReplyUntranslated(Connection toPod)
    {
        var sysctl = leg.IsIPv4 ? "net.bridge.bridge-nf-call-iptables" : "net.bridge.bridge-nf-call-ip6tables";
        if (toPod.UntranslatedAnswer is null || NodeOf(toPod.Backend.Address) is not { } home || NodeOf(toPod.Asked.Source.Address) != home || c.NodeCalled(home) is not { } node
            || node.Sysctls.GetValueOrDefault(sysctl) != "0" || node.Bridges.IsEmpty || node.Bridges.Any(b => leg.IsIPv4 ? b.CallsIptables : b.CallsIp6tables))
        {
            return null;
        }

        return new Finding(FailureClass.ReplyUntranslated, $"The answer of {c.HolderWords(toPod.Backend.Address)} went over the bridge of {home} straight to {c.WordsOf(toPod.ClientNetNs)}, without passing the rules that would have turned {toPod.Backend} back into {toPod.Asked.Destination}: {sysctl} is 0.")
        {
            Objects = [new ObjectRef("node", null, home), leg.Service.Ref],
            Evidence = [leg.LastSeen(toPod, forward: false), new Evidence(EvidenceSource.Programmed, $"{sysctl} = 0", Place: $"node/{home}")],
            Mend = new Mend("Let the bridge show its packets to the rules, and keep it so in sysctl.d.", $"sysctl -w {sysctl}=1", home),
        };
    }
}
