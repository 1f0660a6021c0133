using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can go wrong while a node's rules replace the Service's address by a pod's.</summary>
internal sealed class TranslateChecks(Case c, ServiceLeg leg)
{
    /// <summary>What went wrong with it.</summary>
    public IEnumerable<Finding> Find()
    {
        if (leg.Connection is null || !leg.IsToService)
        {
            yield break;
        }

        var node = leg.EntryNode;
        var rules = node is null ? null : c.RulesOf(node, !leg.IsIPv4);
        // Where kube-proxy marks a packet and translates it nowhere, it is masqueraded alone.
        if (leg.Connection.Translated is null || (leg.Connection.Translated.Value.Destination == leg.Connection.Asked.Destination && leg.Connection.Outcome != ConnectionOutcome.Established))
        {
            if (leg.Connection.Outcome == ConnectionOutcome.Rejected)
            {
                if (!leg.Backends.IsEmpty && leg.IsPortUnreachable(leg.Connection))
                {
                    // In nftables mode a cluster address is rejected at every port that the maps do not have, in IPVS mode at every one without a virtual server.
                    var unknown = rules is { IsRead: true, Mode: ProxyMode.Nftables or ProxyMode.Ipvs } && leg.Rules(rules).Reject is null ? Untranslated(node, rules) : null;
                    yield return unknown ?? RejectedThoughReady(rules);
                }

                yield break;
            }

            if (c.Recording.Manifest.Source == Recordings.EventSource.Libpcap && leg.Connection.Outcome == ConnectionOutcome.Established)
            {
                yield break;
            }

            if (Untranslated(node, rules) is { } finding)
            {
                yield return finding;
            }

            yield break;
        }

        if (c.IsBehindProxy(leg.Connection))
        {
            yield break;
        }

        if (leg.Connection.Outcome == ConnectionOutcome.Established)
        {
            yield break;
        }

        // Who led it astray, where that was not kube-proxy alone; or, of what came where it should, whether the answer can find its way back.
        var ready = leg.Backends;
        var isAstray = !ready.IsEmpty && !ready.Any(e => e.Address == leg.Connection.Backend);
        if (node is not null && ByRules(node, leg.LastSeen(leg.Connection, forward: true), isAstray ? LedAstray : Unmasqueraded) is { } byRules)
        {
            yield return byRules;
        }
        else if (isAstray)
        {
            yield return Stale(leg.Connection.Backend, rules);
        }
    }

    private static readonly FailureClass[] LedAstray = [FailureClass.ProxyBackendConflict, FailureClass.TranslationShadowed];
    private static readonly FailureClass[] Unmasqueraded = [FailureClass.MasqueradeMissing];
    // Uneven shares and lost sources fail no connection; and what is stale is where a packet went, not why it went nowhere.
    private static readonly FailureClass[] Untranslating = [FailureClass.ProxyRulesMissing, FailureClass.ServiceRuleMissing, FailureClass.EndpointRuleMissing, FailureClass.ProxyBackendConflict, FailureClass.TranslationShadowed, FailureClass.IpvsAddressMissing];

    /// <summary>What the rules of the node that the packet came to do otherwise with it than they should, where that is of this stage.</summary>
    private Finding? ByRules(NodeAccount node, Evidence seen, FailureClass[] classes)
    {
        if (leg.Port is null || c.Recording.Cluster is null)
        {
            return null;
        }

        var found = c.Explain(node, leg.Service, leg.Port, leg.Connection!.Asked, leg.IsFromNode).FirstOrDefault(f => classes.Contains(f.Class));
        return found is null ? null : new Finding(found.Class, found.Sentence)
        {
            Objects = [leg.Service.Ref, new ObjectRef("node", null, node.Name)],
            Evidence = [seen, .. found.Rules.Take(4).Select(r => new Evidence(EvidenceSource.Programmed, r.ToString(), Place: $"node/{node.Name}")), .. found.Evidence],
            Mend = found.Mend,
        };
    }

    private Finding? Untranslated(NodeAccount? node, ProxyRules? rules)
    {
        var asked = leg.Connection!.Asked;
        var where = node?.Name ?? c.ClientNode ?? "the node";
        var vanished = leg.Connection.Outcome switch
        {
            // In nftables mode kube-proxy itself drops what is sent to an address of no Service that it knows.
            ConnectionOutcome.Unanswered => c.EndOf(leg.Connection),
            ConnectionOutcome.Refused => $"was refused by {c.WordsOf(leg.Connection.AnsweredInNetNs)}",
            ConnectionOutcome.Rejected => $"was rejected by {c.WordsOf(leg.Connection.AnsweredInNetNs)}",
            _ => "went elsewhere",
        };
        var seen = new Evidence(EvidenceSource.Observed, $"the packet was last seen in {c.WordsOf(leg.Connection.FarthestNetNs)} as {asked}, untranslated{(leg.Connection.Outcome == ConnectionOutcome.Unanswered ? ", and nothing answered" : "")}",
            c.SinceStart(leg.Connection.StartNanoseconds), c.PlaceName(leg.Connection.FarthestNetNs));
        if (node is null || rules is null || !rules.IsRead)
        {
            var why = rules switch
            {
                null => $"the rules of {where}",
                { Bypass: { } bypass } => $"what translates on {where}: {bypass} does it in place of kube-proxy, and its programs are not read",
                _ => string.Join("; ", node!.Unread.Select(u => $"{u.What}: {u.Why}").DefaultIfEmpty($"the rules of {where}")),
            };
            return new Finding(FailureClass.Undetermined, $"The packet to {asked.Destination} left {where} untranslated and {vanished}, but the rules of {where} could not be read, so it is not known whether all of kube-proxy's rules are missing or only this Service's.")
            {
                Confidence = Confidence.None,
                Objects = [leg.Service.Ref],
                Evidence = [seen],
                NotSeen = [why],
            };
        }

        var nodeRef = new ObjectRef("node", null, node.Name);
        var proxy = new Evidence(EvidenceSource.Programmed, node.KubeProxy is { } process ? $"kube-proxy runs on {node.Name}: {process}"
            : node.ProxyLookedFor ? $"no kube-proxy process runs on {node.Name}" : $"whether kube-proxy runs on {node.Name} is not known", Place: $"node/{node.Name}");
        if (rules.DescribeMissing(leg.IsFromNode) is { } missing)
        {
            return new Finding(FailureClass.ProxyRulesMissing, $"{node.Name} has none of kube-proxy's rules in effect ({missing}), so the packet to {leg.Name} at {asked.Destination} stayed untranslated and {vanished}.")
            {
                Objects = [nodeRef, leg.Service.Ref],
                Evidence = [seen, new Evidence(EvidenceSource.Programmed, string.Create(CultureInfo.InvariantCulture, $"{rules.Kind} of {node.Name}: {missing}{(rules.ServiceChains == 0 ? "" : $"; {rules.ServiceChains} {(rules.Mode == ProxyMode.Nftables ? "service" : "KUBE-SVC")} chains are there, and nothing leads to them")}"), Place: $"node/{node.Name}"), proxy],
                Mend = Mends.RestartKubeProxy(node.Name),
            };
        }

        // For a port that the Service does not have there should be no rule; and a node port's has no address in it, by which it could be found.
        var found = leg.Rules(rules);
        if (!found.Exist && !c.IsNodeAddress(asked.Destination.Address) && (leg.Port is not null || leg.IsDns))
        {
            return new Finding(FailureClass.ServiceRuleMissing, $"{node.Name} has kube-proxy's rules, but none for {leg.Name} at {asked.Destination}, so the packet stayed untranslated and {vanished}.")
            {
                Objects = [leg.Service.Ref, nodeRef],
                Evidence = [seen, new Evidence(EvidenceSource.Programmed, string.Create(CultureInfo.InvariantCulture, $"no rule of {node.Name} is for {asked.Destination}; {rules.EntryRules} are for other Services"), Place: $"node/{node.Name}"), .. ServiceLeg.Ending(found, node.Name), proxy],
                Mend = Mends.RestartKubeProxy(node.Name),
            };
        }

        // Entries of before the rules stay as they were settled, for as long as packets come (UDP from one port, say).
        if (found.Walk.Outcome == WalkOutcome.Translated && node.Conntrack.FirstOrDefault(e => e.Original == asked && !e.IsTranslated) is not null)
        {
            return new Finding(FailureClass.ConntrackStale, $"The rules of {node.Name} translate {leg.Name} at {asked.Destination}, but an old conntrack entry lets the flow from {asked.Source} go on untranslated, and the packet {vanished}.")
            {
                Objects = [leg.Service.Ref, nodeRef],
                Evidence = [seen, .. found.Entries.Take(3).Select(e => new Evidence(EvidenceSource.Programmed, e.Raw, Place: $"node/{node.Name}"))],
                Mend = DeleteEntry(),
            };
        }

        if (found.IsAddressMissing)
        {
            var prefix = new IpNetwork(asked.Destination.Address, asked.Destination.Address.Width);
            return new Finding(FailureClass.IpvsAddressMissing, $"{node.Name} has a virtual server for {leg.Name} at {asked.Destination}, but the address is not on {ProxyRules.IpvsInterface}, so the packet was not the node's own: it stayed untranslated and {vanished}.")
            {
                Objects = [leg.Service.Ref, nodeRef],
                Evidence = [seen, .. found.Entries.Select(e => new Evidence(EvidenceSource.Programmed, e.Raw, Place: $"node/{node.Name}")), new Evidence(EvidenceSource.Programmed, $"no local route of {node.Name} is for {prefix}", Place: $"node/{node.Name}"), proxy],
                Mend = new Mend("Put the address back, and find out what removed it; kube-proxy does so when it syncs.", $"ip address add {prefix} dev {ProxyRules.IpvsInterface}", node.Name),
            };
        }

        return ByRules(node, seen, Untranslating);
    }

    private Finding RejectedThoughReady(ProxyRules? rules)
    {
        var where = c.PlaceOf(leg.Connection!.AnsweredInNetNs)?.Node ?? c.ClientNode;
        var reject = rules is null ? null : leg.Rules(rules).Reject;
        if (reject is null && (rules is not null || leg.Connection.Asked.Protocol == IpProtocol.Udp))
        {
            // Its rules are known and have none that does; and of a datagram a pod without a listener says the same.
            return new Finding(FailureClass.Undetermined, $"Packets to {leg.Name} at {leg.Connection.Asked.Destination} are refused, and {(rules is null ? $"without the rules of {where ?? "the node"}" : $"no rule of {where ?? "the node"} does that")}{(rules is null ? " it is not known by whom." : ": by whom was not seen.")}")
            {
                Confidence = Confidence.None,
                Objects = [leg.Service.Ref],
                Evidence = [.. leg.Refusal()],
                NotSeen = ["who refused it"],
            };
        }

        return new Finding(FailureClass.EndpointRuleMissing, $"{where ?? "The node"} rejects packets to {leg.Name} at {leg.Connection.Asked.Destination} as having no endpoints, but the API has ready ones: kube-proxy there is behind.")
        {
            Confidence = reject is null ? Confidence.Likely : Confidence.Certain,
            Objects = [leg.Service.Ref, .. where is null ? Array.Empty<ObjectRef>() : [new ObjectRef("node", null, where)]],
            Evidence = [.. leg.Refusal()],
            NotSeen = reject is null ? [$"the rule that rejected it on {where ?? "the node"}"] : [],
            Mend = Mends.RestartKubeProxy(where),
        };
    }

    private Finding Stale(AddressPort backend, ProxyRules? rules)
    {
        if (rules is not { IsRead: true } || rules.DescribeMissing(leg.IsFromNode) is not null)
        {
            return new Finding(FailureClass.Undetermined, $"{c.ClientNode} sent {leg.Name} to {backend}, which is none of its ready endpoints; without its rules it is not known whether they still do so, an old conntrack entry does, or somebody else's rule.")
            {
                Confidence = Confidence.None,
                Objects = [leg.Service.Ref],
                Evidence = [.. leg.Refusal()],
                NotSeen = [$"the rules of {c.ClientNode}"],
            };
        }

        var branch = leg.Rules(rules).Walk.BranchTo(backend);
        var isRule = branch is not null;
        return new Finding(isRule ? FailureClass.StaleEndpointRule : FailureClass.ConntrackStale, isRule
            ? $"{c.ClientNode} still sends {leg.Name} to {backend}, which is none of its ready endpoints."
            : $"An old conntrack entry sends the flow to {backend}, which is no ready endpoint of {leg.Name}; the rules no longer do.")
        {
            Objects = isRule && c.ClientNode is { } node ? [leg.Service.Ref, new ObjectRef("node", null, node)] : [leg.Service.Ref],
            Evidence = [.. leg.Refusal(), .. branch is { Steps: [.., var last] } ? [new Evidence(EvidenceSource.Programmed, last.Rule.Raw, Place: $"node/{c.ClientNode}")] : Array.Empty<Evidence>()],
            Mend = isRule ? Mends.RestartKubeProxy(c.ClientNode)
                : DeleteEntry(),
        };
    }

    private Mend DeleteEntry() => new("Delete the old entry.", string.Create(CultureInfo.InvariantCulture,
        $"conntrack -D -d {leg.Connection!.Asked.Destination.Address} -p {leg.Connection.Asked.Protocol.ToString().ToLowerInvariant()} --dport {leg.Connection.Asked.Destination.Port}"), c.ClientNode);
}
