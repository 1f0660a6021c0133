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
        if (leg.AtPod is not { } toPod || toPod.Outcome is ConnectionOutcome.Established or ConnectionOutcome.Unknown)
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

        if (toPod.Outcome != ConnectionOutcome.Unanswered || toPod.Translated is null && ServiceMeant.AddressesOf(leg.Service).Contains(toPod.Asked.Destination.Address))
        {
            yield break;
        }

        if (toPod.AnsweredInNetNs != 0)
        {
            yield return new Finding(FailureClass.Undetermined, $"{c.WordsOf(toPod.AnsweredInNetNs)} answered, but its answer never came back to {c.WordsOf(toPod.ClientNetNs)}.")
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

        // Nobody was seen dropping it; but a policy that wants it dropped is cause enough to be named.
        if (Denied(toPod) is { } denied)
        {
            yield return denied with { Sentence = $"The packet to {toPod.Backend} vanished in {c.WordsOf(toPod.FarthestNetNs)}: {denied.Sentence}", Evidence = [leg.LastSeen(toPod, forward: true), .. denied.Evidence] };
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
            case "NETFILTER_DROP" when toPod.Outcome == ConnectionOutcome.Rejected:
                return null;
            case "NETFILTER_DROP":
                var dropping = place?.Node is { } nodeName && place.Kind == PlaceKind.Node && c.NodeCalled(nodeName) is { } account
                    ? DroppingBranch(account, toPod) : null;
                if (dropping?.Steps.LastOrDefault().Rule is { Chain: "cluster-ips-check" } && toPod.Translated is null)
                {
                    // nftables mode: kube-proxy drops what it knows no Service for. That it knows none is said of the translation.
                    return null;
                }

                var rule = dropping?.Policy ?? dropping?.Steps.LastOrDefault(s => s.Rule.Target is RuleTarget.Drop).Rule?.Raw;
                if (drop.Forward && Denied(toPod) is { } denied)
                {
                    return denied with
                    {
                        Sentence = $"{where} dropped the packet to {toPod.Backend}: {denied.Sentence}",
                        Confidence = Confidence.Certain,
                        Evidence = [evidence, .. denied.Evidence, .. rule is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, rule, Place: c.PlaceName(e.NetNs))]],
                    };
                }

                return new Finding(FailureClass.DroppedByRule, rule is null ? $"A rule in {where} dropped the packet to {toPod.Backend}." : $"A rule in {where} dropped the packet to {toPod.Backend}: {rule}")
                {
                    Confidence = rule is null ? Confidence.Likely : Confidence.Certain,
                    Objects = place?.Node is { } n ? [new ObjectRef("node", null, n)] : [],
                    Evidence = [evidence, .. rule is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, rule, Place: c.PlaceName(e.NetNs))]],
                    NotSeen = [.. rule is null ? [$"which rule of {where} it was"] : Array.Empty<string>(), .. c.Recording.Cluster is null || c.Cluster.IsRead("networkpolicies") ? Array.Empty<string>() : ["the cluster's NetworkPolicies, one of which may want it"]],
                    Mend = new Mend("Change the rule, or the policy behind it.", rule is { } raw && raw.StartsWith("-A ", StringComparison.Ordinal) ? $"iptables -D {raw[3..]}" : null, place?.Node),
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

        return new Finding(isRoute ? FailureClass.NoRouteToPod : isNeighbour ? FailureClass.PodUnreachable : FailureClass.RejectedByRule,
            isRoute ? $"{where} has no route to {toPod.Backend.Address}." : isNeighbour ? $"{where} cannot find {toPod.Backend.Address} on its network." : $"{where} rejected the packet to {toPod.Backend} ({words}).")
        {
            Confidence = isRoute || isNeighbour ? Confidence.Certain : Confidence.Likely,
            Objects = [.. leg.PodRef(toPod.Backend.Address)],
            Evidence = [.. leg.Refusal()],
        };
    }

    private WalkBranch? DroppingBranch(NodeAccount node, Connection toPod)
    {
        var walk = RuleWalk.Run(c.RulesOf(node, !leg.IsIPv4).Sets, new VirtualPacket { Tuple = toPod.Asked, FromNode = leg.IsFromNode && node.Name == c.ClientNode });
        var branch = walk.BranchTo(toPod.Backend) ?? walk.Branches.FirstOrDefault(b => b.Outcome == WalkOutcome.Dropped);
        return branch is { Outcome: WalkOutcome.Dropped } ? branch : null;
    }
}
