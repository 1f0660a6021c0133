using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// What can go wrong between a Service's address and a pod's socket, for one connection: that of the request, or that of a lookup,
/// which is a request to the cluster DNS Service. In the packet's order: define, translate, deliver, accept.
/// </summary>
internal sealed class ServiceChecks(Case c, Service service, ServicePort? port, Connection? connection, bool asDns = false)
{
    private string Name => $"service {service.Metadata.Namespace}/{service.Metadata.Name}";

    private bool _portIsWrong;

    /// <summary>What the pods listen on when that is one port, and it is not the one that the Service sends to.</summary>
    public static int? PortPodsListenOn(Case c, Service service, ServicePort port, bool isIPv4)
    {
        var protocol = ServiceMeaning.ProtocolOf(port);
        int? only = null;
        foreach (var backend in ServiceMeaning.ExpectedBackends(c.Cluster, service, port, !isIPv4))
        {
            if (c.NetNsOf(backend.Address.Address) is not { } netns || c.ListenersIn(netns) is not { } listeners)
            {
                continue;
            }

            var ports = listeners.Where(l => l.Protocol == protocol && !l.Local.Address.IsLoopback).Select(l => (int)l.Local.Port).Distinct().ToList();
            if (ports.Contains(backend.Address.Port) || ports.Count != 1 || (only is not null && only != ports[0]))
            {
                return null;
            }

            only = ports[0];
        }

        return only;
    }

    private bool IsIPv4 => connection?.Asked.Destination.Address.IsIPv4 ?? true;

    /// <summary>The endpoints that the client's node should send this connection to.</summary>
    private ImmutableArray<ExpectedBackend> Backends()
        => port is null ? [] : ServiceMeaning.BackendsInUse(c.Cluster, service, port, !IsIPv4, c.ClientNode).Backends;

    public IEnumerable<Finding> Find()
        => asDns || c.Target is { Port: > 0 } ? Define().Concat(Translate()).Concat(Deliver()).Concat(Accept()) : [];

    // ---- define

    private IEnumerable<Finding> Define()
    {
        if (service.Spec.Type == "ExternalName")
        {
            yield break;
        }

        if (port is null)
        {
            if (!asDns && service.Spec.Ports.Length > 0 && !IsNodePort())
            {
                yield return PortNotInService();
            }

            yield break;
        }

        if (EndpointChecks.WhyNoneReady(c.Cluster, service, port) is { } why)
        {
            yield return why with { Evidence = [.. why.Evidence, .. Refusal()] };
            yield break;
        }

        if (WrongTargetPort() is { } wrong)
        {
            _portIsWrong = true;
            yield return wrong;
        }
    }

    private bool IsNodePort() => c.Target is { } target && service.Spec.Ports.Any(p => p.NodePort == target.Port);

    private Finding PortNotInService()
    {
        var asked = c.Target!;
        var other = service.Spec.Ports.FirstOrDefault(p => p.Port == asked.Port);
        var ports = string.Join(", ", service.Spec.Ports.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Port}/{p.Protocol}{(p.Name is null ? "" : $" ({p.Name})")}")));
        if (other is not null)
        {
            return new Finding(FailureClass.WrongProtocol, string.Create(CultureInfo.InvariantCulture, $"{Name} has port {asked.Port} for {other.Protocol}, not for {asked.Protocol.ToString().ToUpperInvariant()}."))
            {
                Objects = [service.Ref],
                Evidence = [new Evidence(EvidenceSource.Desired, $"{service.Ref} spec.ports: {ports}"), .. Refusal()],
                Mend = new Mend("Correct the port's protocol.", $"kubectl edit service {service.Metadata.Name} -n {service.Metadata.Namespace}"),
            };
        }

        return new Finding(FailureClass.PortNotInService, string.Create(CultureInfo.InvariantCulture, $"{Name} has no port {asked.Port}; it has {ports}."))
        {
            Objects = [service.Ref],
            Evidence = [new Evidence(EvidenceSource.Desired, $"{service.Ref} spec.ports: {ports}"), .. Refusal()],
            Mend = new Mend(string.Create(CultureInfo.InvariantCulture, $"Ask for port {service.Spec.Ports[0].Port}, or add port {asked.Port} to the Service."),
                service.Spec.Ports is [var only] && !asDns ? AddPort(only, asked.Port) : null),
        };
    }

    // Beside the port that is there, which others ask for. Of several ports each needs a name.
    private string AddPort(ServicePort existing, ushort added)
    {
        var name = existing.Name is null ? string.Create(CultureInfo.InvariantCulture, $"{{\"port\":{existing.Port},\"name\":\"port-{existing.Port}\"}},") : "";
        var target = existing.TargetPort.IsEmpty ? existing.Port : existing.TargetPort;
        return string.Create(CultureInfo.InvariantCulture, $"kubectl patch service {service.Metadata.Name} -n {service.Metadata.Namespace} -p '{{\"spec\":{{\"ports\":[{name}{{\"port\":{added},\"name\":\"port-{added}\",\"targetPort\":{target}}}]}}}}'");
    }

    /// <summary>The attempt that reached the pod itself: the client's, or the userspace proxy's on its behalf.</summary>
    private Connection? AtPod => connection is null ? null : c.IsBehindProxy(connection) ? connection.Onward : connection;

    private Finding? WrongTargetPort()
    {
        if (AtPod is not { Outcome: ConnectionOutcome.Refused } refused || port is null)
        {
            return null;
        }

        var backend = refused.Backend;
        if (c.NetNsOf(backend.Address) is not { } netns || c.ListenersIn(netns) is not { } listeners)
        {
            return null;
        }

        var protocol = refused.Asked.Protocol;
        if (listeners.Any(l => l.Protocol == protocol && l.Local.Port == backend.Port))
        {
            return null;
        }

        var reachable = listeners.Where(l => l.Protocol == protocol && !l.Local.Address.IsLoopback).ToList();
        var ports = reachable.Select(l => (int)l.Local.Port).Distinct().Order().ToList();
        if (ports.Count == 0 || IsPortThatWorkedBefore(backend.Port) || DeclaresPort(backend, ports))
        {
            return null; // The port may well be right, and its server gone: see no-listener.
        }

        var pod = c.HolderWords(backend.Address);
        var process = reachable.First(l => l.Local.Port == ports[0]).Process;
        var target = port.TargetPort.IsEmpty ? string.Create(CultureInfo.InvariantCulture, $"{port.Port} (its own, since it names no targetPort)") : port.TargetPort.ToString();
        return new Finding(FailureClass.WrongTargetPort,
            string.Create(CultureInfo.InvariantCulture, $"{Name} sends port {port.Port} to target port {target}, but {pod} listens on {(ports.Count == 1 ? "port" : "ports")} {string.Join(", ", ports)}{(process is null ? "" : $" ({process.Command})")}."))
        {
            Objects = [service.Ref, .. PodRef(backend.Address)],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, string.Create(CultureInfo.InvariantCulture, $"{service.Ref} spec.ports: port {port.Port}, targetPort {(port.TargetPort.IsEmpty ? "not given" : port.TargetPort)}")),
                new Evidence(EvidenceSource.Programmed, $"{pod} listens on {string.Join(", ", reachable.Select(l => $"{l.Local}{(l.Process is null ? "" : $" by {l.Process}")}"))}", Place: c.PlaceName(netns)),
                .. Refusal(),
            ],
            Mend = ports.Count == 1 ? Mends.SetTargetPort(service, port, ports[0])
                : new Mend($"Set targetPort to the one of {string.Join(", ", ports)} that serves this.", $"kubectl edit service {service.Metadata.Name} -n {service.Metadata.Namespace}"),
        };
    }

    private bool IsPortThatWorkedBefore(ushort backendPort)
        => c.Recording.Baseline?.Stages.FirstOrDefault(s => s.Stage == Stage.Define)?.Facts.Any(f => f.Name == "target port" && f.Value == backendPort.ToString(CultureInfo.InvariantCulture)) == true;

    // Declared containerPorts are informational, so they decide nothing alone; but a pod that declares this very port and not the ones
    // it listens on (a sidecar's, say) has lost its server rather than having been given a wrong port.
    private bool DeclaresPort(AddressPort backend, List<int> listening)
    {
        var declared = c.Cluster.FindPodByAddress(backend.Address)?.Spec.Containers.SelectMany(x => x.Ports).Select(p => p.Port).ToList() ?? [];
        return declared.Contains(backend.Port) && !listening.Exists(declared.Contains);
    }

    // ---- translate

    private IEnumerable<Finding> Translate()
    {
        if (connection is null || service.Spec.IsHeadless || !ServiceMeant.AddressesOf(service).Contains(connection.Asked.Destination.Address))
        {
            yield break;
        }

        var node = c.ClientNodeAccount;
        var rules = node is null ? null : c.RulesOf(node, !IsIPv4);
        if (connection.Translated is null)
        {
            if (connection.Outcome == ConnectionOutcome.Rejected)
            {
                if (!Backends().IsEmpty && IsPortUnreachable())
                {
                    yield return RejectedThoughReady(rules);
                }

                yield break;
            }

            if (c.Recording.Manifest.Source == Recordings.EventSource.Libpcap && connection.Outcome == ConnectionOutcome.Established)
            {
                yield break;
            }

            if (Untranslated(node, rules) is { } finding)
            {
                yield return finding;
            }

            yield break;
        }

        if (c.IsBehindProxy(connection))
        {
            yield break;
        }

        var ready = Backends();
        if (!ready.IsEmpty && !ready.Any(e => e.Address == connection.Backend) && connection.Outcome != ConnectionOutcome.Established)
        {
            yield return Stale(connection.Backend, rules);
        }
    }

    private bool IsPortUnreachable() => connection!.Icmp is { } icmp && (IsIPv4 ? icmp is (3, 3) : icmp is (1, 4));

    private bool IsFromNode => c.ClientPlace?.Kind == PlaceKind.Node;

    private ServiceRules Rules(ProxyRules rules) => rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port?.Name, connection!.Asked.Destination, connection.Asked.Protocol,
        new VirtualPacket { Tuple = connection.Asked, FromNode = IsFromNode });

    private Finding? Untranslated(NodeAccount? node, ProxyRules? rules)
    {
        var asked = connection!.Asked;
        var where = c.ClientNode ?? "the node";
        var vanished = connection.Outcome switch
        {
            ConnectionOutcome.Unanswered => "vanished",
            ConnectionOutcome.Refused => $"was refused by {c.WordsOf(connection.AnsweredInNetNs)}",
            _ => "went elsewhere",
        };
        var seen = new Evidence(EvidenceSource.Observed, $"the packet was last seen in {c.WordsOf(connection.FarthestNetNs)} as {asked}, untranslated{(connection.Outcome == ConnectionOutcome.Unanswered ? ", and nothing answered" : "")}",
            c.SinceStart(connection.StartNanoseconds), c.PlaceName(connection.FarthestNetNs));
        if (node is null || rules is null || rules.Mode is ProxyMode.Unknown or ProxyMode.Nftables or ProxyMode.Ipvs)
        {
            var why = rules switch
            {
                null => $"the rules of {where}",
                { Bypass: { } bypass } => $"what translates on {where}: {bypass} does it in place of kube-proxy, and its programs are not read",
                { Mode: ProxyMode.Nftables or ProxyMode.Ipvs } => $"the rules of {where}: kube-proxy's {rules.Mode.ToString().ToLowerInvariant()} mode is not read yet",
                _ => string.Join("; ", node!.Unread.Select(u => $"{u.What}: {u.Why}").DefaultIfEmpty($"the rules of {where}")),
            };
            return new Finding(FailureClass.Undetermined, $"The packet to {asked.Destination} left {where} untranslated and {vanished}, but the rules of {where} could not be read, so it is not known whether all of kube-proxy's rules are missing or only this Service's.")
            {
                Confidence = Confidence.None,
                Objects = [service.Ref],
                Evidence = [seen],
                NotSeen = [why],
            };
        }

        var nodeRef = new ObjectRef("node", null, node.Name);
        var proxy = new Evidence(EvidenceSource.Programmed, node.KubeProxy is { } process ? $"kube-proxy runs on {node.Name}: {process}"
            : node.ProxyLookedFor ? $"no kube-proxy process runs on {node.Name}" : $"whether kube-proxy runs on {node.Name} is not known", Place: $"node/{node.Name}");
        if (rules.DescribeMissing(IsFromNode) is { } missing)
        {
            return new Finding(FailureClass.ProxyRulesMissing, $"{node.Name} has none of kube-proxy's rules in effect ({missing}), so the packet to {Name} at {asked.Destination} stayed untranslated and {vanished}.")
            {
                Objects = [nodeRef, service.Ref],
                Evidence = [seen, new Evidence(EvidenceSource.Programmed, string.Create(CultureInfo.InvariantCulture, $"{(IsIPv4 ? "iptables" : "ip6tables")} of {node.Name}: {missing}{(rules.ServiceChains == 0 ? "" : $"; {rules.ServiceChains} KUBE-SVC chains are there, and nothing leads to them")}"), Place: $"node/{node.Name}"), proxy],
                Mend = Mends.RestartKubeProxy(node.Name),
            };
        }

        // For a port that the Service does not have there should be no rule.
        if (!Rules(rules).Exist && (port is not null || asDns))
        {
            return new Finding(FailureClass.ServiceRuleMissing, $"{node.Name} has kube-proxy's rules, but none for {Name} at {asked.Destination}, so the packet stayed untranslated and {vanished}.")
            {
                Objects = [service.Ref, nodeRef],
                Evidence = [seen, new Evidence(EvidenceSource.Programmed, string.Create(CultureInfo.InvariantCulture, $"no rule of {node.Name} is for {asked.Destination}; {rules.EntryRules} are for other Services"), Place: $"node/{node.Name}"), proxy],
                Mend = Mends.RestartKubeProxy(node.Name),
            };
        }

        return null;
    }

    private Finding RejectedThoughReady(ProxyRules? rules)
    {
        var where = c.PlaceOf(connection!.AnsweredInNetNs)?.Node ?? c.ClientNode;
        var reject = rules is null ? null : Rules(rules).Reject;
        return new Finding(FailureClass.EndpointRuleMissing, $"{where ?? "The node"} rejects packets to {Name} at {connection.Asked.Destination} as having no endpoints, but the API has ready ones: kube-proxy there is behind.")
        {
            Confidence = reject is null ? Confidence.Likely : Confidence.Certain,
            Objects = [service.Ref, .. where is null ? Array.Empty<ObjectRef>() : [new ObjectRef("node", null, where)]],
            Evidence = [.. Refusal()],
            NotSeen = reject is null ? [$"the rule that rejected it on {where ?? "the node"}"] : [],
            Mend = Mends.RestartKubeProxy(where),
        };
    }

    private Finding Stale(AddressPort backend, ProxyRules? rules)
    {
        var branch = rules is null ? null : Rules(rules).Walk.BranchTo(backend);
        var isRule = rules is null || branch is not null;
        return new Finding(isRule ? FailureClass.StaleEndpointRule : FailureClass.ConntrackStale, isRule
            ? $"{c.ClientNode} still sends {Name} to {backend}, which is none of its ready endpoints."
            : $"An old conntrack entry sends the flow to {backend}, which is no ready endpoint of {Name}; the rules no longer do.")
        {
            Confidence = rules is null ? Confidence.Likely : Confidence.Certain,
            Objects = [service.Ref],
            Evidence = [.. Refusal(), .. branch is { Steps: [.., var last] } ? [new Evidence(EvidenceSource.Programmed, last.Rule.Raw, Place: $"node/{c.ClientNode}")] : Array.Empty<Evidence>()],
            Mend = isRule ? Mends.RestartKubeProxy(c.ClientNode)
                : new Mend("Delete the old entry.", string.Create(CultureInfo.InvariantCulture, $"conntrack -D -d {connection!.Asked.Destination.Address} -p {connection.Asked.Protocol.ToString().ToLowerInvariant()} --dport {connection.Asked.Destination.Port}"), c.ClientNode),
        };
    }

    private string? DroppingRule(NodeAccount node, Connection toPod)
    {
        var walk = RuleWalk.Run(c.RulesOf(node, !IsIPv4).Sets, new VirtualPacket { Tuple = toPod.Asked, FromNode = IsFromNode && node.Name == c.ClientNode });
        var branch = walk.BranchTo(toPod.Backend) ?? walk.Branches.FirstOrDefault(b => b.Outcome == WalkOutcome.Dropped);
        return branch is not { Outcome: WalkOutcome.Dropped } ? null : branch.Policy ?? branch.Steps.LastOrDefault(s => s.Rule.Target is RuleTarget.Drop).Rule?.Raw;
    }

    // ---- deliver

    private IEnumerable<Finding> Deliver()
    {
        if (AtPod is not { } toPod || toPod.Outcome is ConnectionOutcome.Established or ConnectionOutcome.Unknown)
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

        if (toPod.Outcome != ConnectionOutcome.Unanswered || toPod.Translated is null && ServiceMeant.AddressesOf(service).Contains(toPod.Asked.Destination.Address))
        {
            yield break;
        }

        if (toPod.AnsweredInNetNs != 0)
        {
            yield return new Finding(FailureClass.Undetermined, $"{c.WordsOf(toPod.AnsweredInNetNs)} answered, but its answer never came back to {c.WordsOf(toPod.ClientNetNs)}.")
            {
                Confidence = Confidence.None,
                Objects = [service.Ref, .. PodRef(toPod.Backend.Address)],
                Evidence = [LastSeen(toPod, forward: false)],
            };
            yield break;
        }

        if (c.PlaceOf(toPod.FarthestNetNs) is { Kind: PlaceKind.Node, Node: { } stuck } && c.NodeCalled(stuck) is { } account
            && account.Sysctls.GetValueOrDefault(IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding") == "0")
        {
            yield return new Finding(FailureClass.ForwardingDisabled, $"{stuck} does not forward packets, so the one to {toPod.Backend} ended there.")
            {
                Objects = [new ObjectRef("node", null, stuck)],
                Evidence = [LastSeen(toPod, forward: true), new Evidence(EvidenceSource.Programmed, $"{(IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding")} = 0", Place: $"node/{stuck}")],
                Mend = new Mend("Let the node forward.", $"sysctl -w {(IsIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding")}=1", stuck),
            };
        }
    }

    private bool IsServiceReject(Connection toPod) => ServiceMeant.AddressesOf(service).Contains(toPod.Asked.Destination.Address)
        && toPod.Icmp is { } icmp && (IsIPv4 ? icmp is (3, 3) : icmp is (1, 4));

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
                var rule = place?.Node is { } nodeName && place.Kind == PlaceKind.Node && c.NodeCalled(nodeName) is { } account
                    ? DroppingRule(account, toPod) : null;
                return new Finding(FailureClass.DroppedByRule, rule is null ? $"A rule in {where} dropped the packet to {toPod.Backend}." : $"A rule in {where} dropped the packet to {toPod.Backend}: {rule}")
                {
                    Confidence = rule is null ? Confidence.Likely : Confidence.Certain,
                    Objects = place?.Node is { } n ? [new ObjectRef("node", null, n)] : [],
                    Evidence = [evidence, .. rule is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, rule, Place: c.PlaceName(e.NetNs))]],
                    NotSeen = rule is null ? [$"which rule of {where} it was"] : [],
                    Mend = new Mend("Change the rule, or the policy behind it.", rule is { } raw && raw.StartsWith("-A ", StringComparison.Ordinal) ? $"iptables -D {raw[3..]}" : null, place?.Node),
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
                    Objects = [.. PodRef(toPod.Backend.Address)],
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
        var words = Timeline.IcmpWords(IsIPv4, icmp.Type, icmp.Code);
        var isRoute = IsIPv4 ? icmp is (3, 0) : icmp is (1, 0);
        var isNeighbour = IsIPv4 ? icmp is (3, 1) : icmp is (1, 3);
        var atPod = c.PlaceOf(toPod.AnsweredInNetNs)?.Kind == PlaceKind.Pod;
        if (atPod && toPod.Asked.Protocol == IpProtocol.Udp)
        {
            return null; // How a pod refuses a datagram: see accept.
        }

        return new Finding(isRoute ? FailureClass.NoRouteToPod : isNeighbour ? FailureClass.PodUnreachable : FailureClass.RejectedByRule,
            isRoute ? $"{where} has no route to {toPod.Backend.Address}." : isNeighbour ? $"{where} cannot find {toPod.Backend.Address} on its network." : $"{where} rejected the packet to {toPod.Backend} ({words}).")
        {
            Confidence = isRoute || isNeighbour ? Confidence.Certain : Confidence.Likely,
            Objects = [.. PodRef(toPod.Backend.Address)],
            Evidence = [.. Refusal()],
        };
    }

    // ---- accept

    private IEnumerable<Finding> Accept()
    {
        if (connection is null)
        {
            yield break;
        }

        if (c.IsBehindProxy(connection) && connection.Outcome == ConnectionOutcome.Established)
        {
            foreach (var finding in AcceptBehindProxy())
            {
                yield return finding;
            }

            yield break;
        }

        if (IsTranslationUnseen && WhatUnseenDid() is { } unseen)
        {
            yield return unseen;
        }
        else if (connection.Outcome == ConnectionOutcome.Refused || (connection.Asked.Protocol == IpProtocol.Udp && connection.Outcome == ConnectionOutcome.Rejected && c.PlaceOf(connection.AnsweredInNetNs)?.Kind == PlaceKind.Pod))
        {
            // That nothing listens on a wrong port is no second fault.
            if (!_portIsWrong)
            {
                yield return RefusedByPod(connection);
            }
        }
        else if (connection.Outcome == ConnectionOutcome.Unanswered && connection.Drops.FirstOrDefault(d => d.Event.DropReason?.Contains("OVERFLOW", StringComparison.Ordinal) == true) is { Event.DropReason: not null } overflow)
        {
            yield return new Finding(FailureClass.AcceptQueueFull, $"The accept queue of {c.HolderWords(connection.Backend.Address)} on port {connection.Backend.Port} is full.")
            {
                Objects = [.. PodRef(connection.Backend.Address)],
                Evidence = [new Evidence(EvidenceSource.Observed, $"the SYN was dropped: {overflow.Event.DropReason}", c.SinceStart(overflow.Event.BootNanoseconds), c.PlaceName(overflow.Event.NetNs))],
            };
        }
    }

    /// <summary>Whether something answered for the Service's address, and who the packet went to is not known.</summary>
    private bool IsTranslationUnseen => connection!.Translated is null && !service.Spec.IsHeadless && ServiceMeant.AddressesOf(service).Contains(connection.Asked.Destination.Address);

    private Finding? WhatUnseenDid()
    {
        var where = c.WordsOf(connection!.AnsweredInNetNs);
        var sentence = connection.Outcome switch
        {
            ConnectionOutcome.Refused => $"{where} refused the connection to {Name} at {connection.Asked.Destination}, but to which pod and port it was sent was not seen.",
            ConnectionOutcome.Established when connection.ReplyBytes == 0 && c.UserspaceProxyNode is { } node
                => $"kube-proxy on {node} took the connection to {Name} and gave no answer, but what it did for it was not seen.",
            _ => null,
        };
        return sentence is null ? null : new Finding(FailureClass.Undetermined, sentence)
        {
            Confidence = Confidence.None,
            Objects = [service.Ref],
            Evidence = [.. Refusal()],
        };
    }

    private Finding RefusedByPod(Connection refused)
    {
        var backend = refused.Backend;
        var holder = c.HolderWords(backend.Address);
        var netns = c.NetNsOf(backend.Address) ?? refused.AnsweredInNetNs;
        var listeners = c.ListenersIn(netns);
        var here = listeners?.Where(l => l.Protocol == refused.Asked.Protocol && l.Local.Port == backend.Port).ToList() ?? [];
        ImmutableArray<ObjectRef> objects = [.. PodRef(backend.Address), service.Ref];
        if (here.Count > 0)
        {
            if (here.TrueForAll(l => l.Local.Address.IsLoopback))
            {
                return new Finding(FailureClass.ListenerOnLoopback, $"{here[0].Process?.Command ?? "The server"} in {holder} listens on {here[0].Local} only, where nothing from outside the pod arrives.")
                {
                    Objects = objects,
                    Evidence = [new Evidence(EvidenceSource.Programmed, $"listening: {here[0].Local}", Place: c.PlaceName(netns)), .. Refusal()],
                    Mend = new Mend($"Let it listen on {(IsIPv4 ? "0.0.0.0" : "[::]")}:{backend.Port}.", null),
                };
            }

            if (!IsIPv4 && here.TrueForAll(l => l.Local.Address.IsIPv4))
            {
                return new Finding(FailureClass.ListenerWrongFamily, $"{here[0].Process?.Command ?? "The server"} in {holder} listens on IPv4 only ({here[0].Local}), and was asked by IPv6.")
                {
                    Objects = objects,
                    Evidence = [new Evidence(EvidenceSource.Programmed, $"listening: {here[0].Local}", Place: c.PlaceName(netns)), .. Refusal()],
                    Mend = new Mend($"Let it listen on [::]:{backend.Port} too.", null),
                };
            }

            // Something does listen there. A rule may have refused in its place, or it was not yet there, or no longer.
            var elsewhere = refused.AnsweredInNetNs != netns && refused.AnsweredInNetNs != refused.ClientNetNs;
            return new Finding(elsewhere ? FailureClass.RejectedByRule : FailureClass.Undetermined, elsewhere
                ? $"{c.WordsOf(refused.AnsweredInNetNs)} answered with RST in place of {holder}, where {here[0].Process?.Command ?? "a server"} listens on port {backend.Port}."
                : $"{holder} refused the connection to port {backend.Port}, although {here[0].Process?.Command ?? "a server"} listens there: it may have stopped in between.")
            {
                Confidence = elsewhere ? Confidence.Likely : Confidence.None,
                Objects = objects,
                Evidence = [.. Refusal(), new Evidence(EvidenceSource.Programmed, $"listening: {string.Join(", ", here.Select(l => l.Local))}", Place: c.PlaceName(netns))],
                NotSeen = elsewhere ? [$"the rule of {c.WordsOf(refused.AnsweredInNetNs)} that refused it"] : [],
            };
        }

        var others = listeners?.Where(l => l.Protocol == refused.Asked.Protocol).Select(l => l.Local.ToString()).Distinct().ToList();
        var crashed = c.Cluster.FindPodByAddress(backend.Address) is { } pod && pod.Status.ContainerStatuses.Any(s => s.RestartCount > 0 || s.State.Waiting is not null || s.State.Terminated is not null)
            ? " (a container of the pod has restarted or is not running)" : "";
        var silent = SilentPods(backend);
        var neither = silent.Length > 1 && silent.Length == ReadyPods() ? string.Create(CultureInfo.InvariantCulture, $", nor in the Service's other {(silent.Length == 2 ? "pod" : $"{silent.Length - 1} pods")}") : "";
        return new Finding(FailureClass.NoListener, $"Nothing listens on port {backend.Port} in {holder}{neither}: the kernel refused the connection{crashed}.")
        {
            Confidence = listeners is null ? Confidence.Likely : Confidence.Certain,
            Objects = objects,
            Evidence =
            [
                .. Refusal(),
                .. others is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, others.Count == 0 ? "no listening socket at all" : $"listening: {string.Join(", ", others)}", Place: c.PlaceName(netns))],
            ],
            NotSeen = listeners is null ? [$"the listening sockets of {holder}"] : [],
            Mend = silent.IsEmpty ? null : new Mend($"Look why the server stopped, and restart the {(silent.Length == 1 ? "pod" : "pods")}.",
                $"kubectl delete pod {string.Join(' ', silent.Select(p => p.Metadata.Name))} -n {silent[0].Metadata.Namespace}"),
        };
    }

    /// <summary>The refusing pod, and the other ready ones of the Service in which, as was read, nothing listens on that port either.</summary>
    private ImmutableArray<Pod> SilentPods(AddressPort refusing)
    {
        if (c.Cluster.FindPodByAddress(refusing.Address) is not { } first)
        {
            return [];
        }

        var others = Backends().Where(b => b.Address.Port == refusing.Port && c.NetNsOf(b.Address.Address) is { } netns
            && c.ListenersIn(netns) is { } listeners && !listeners.Any(l => l.Local.Port == refusing.Port && l.Protocol == connection!.Asked.Protocol));
        return [first, .. others.Select(b => c.Cluster.FindPodByAddress(b.Address.Address)).OfType<Pod>().Where(p => p.Metadata.Name != first.Metadata.Name && p.Metadata.Namespace == first.Metadata.Namespace).DistinctBy(p => p.Metadata.Name)];
    }

    private int ReadyPods() => Backends().Select(b => c.Cluster.FindPodByAddress(b.Address.Address)?.Metadata.Name).Distinct().Count();

    private IEnumerable<Finding> AcceptBehindProxy()
    {
        Mend? mend = null;
        if (connection!.Onward is { Outcome: ConnectionOutcome.Refused } onward)
        {
            var byPod = RefusedByPod(onward);
            mend = byPod.Mend;
            if (byPod.Confidence == Confidence.Certain && !_portIsWrong)
            {
                yield return byPod;
            }
        }

        if (UserspaceProxyChecks.Find(c, connection) is { } finding)
        {
            yield return finding with
            {
                Objects = [service.Ref, .. finding.Objects],
                Evidence = connection.Onward is null ? finding.Evidence : [.. Refusal()],
                Mend = mend ?? finding.Mend,
            };
        }
    }

    // ---- evidence

    private IEnumerable<ObjectRef> PodRef(IpAddress address) => c.Cluster.FindPodByAddress(address) is { } pod ? [pod.Ref] : [];

    private Evidence LastSeen(Connection of, bool forward)
    {
        var last = of.Sightings.Last(s => s.Forward == forward).Event;
        return new Evidence(EvidenceSource.Observed, $"{(forward ? "the packet" : "the answer")} {last.Tuple} was last seen in {c.WordsOf(last.NetNs)} on {last.Interface}", c.SinceStart(last.BootNanoseconds), c.PlaceName(last.NetNs));
    }

    /// <summary>What answered the attempt, and how.</summary>
    private IEnumerable<Evidence> Refusal()
    {
        for (var at = connection; at is not null; at = at.Onward)
        {
            var via = ReferenceEquals(at, connection) ? "" : $"{at.Process} dialled {at.Asked.Destination}: ";
            if (at.Outcome is ConnectionOutcome.Refused)
            {
                var drop = at.Drops.FirstOrDefault(d => d.Forward && d.Event.NetNs == at.AnsweredInNetNs).Event.DropReason;
                yield return new Evidence(EvidenceSource.Observed, $"{via}{c.WordsOf(at.AnsweredInNetNs)} answered the SYN to {at.Backend} with RST{(drop is null ? "" : $" (kernel: {drop})")}", c.SinceStart(at.OutcomeNanoseconds ?? at.EndNanoseconds), c.PlaceName(at.AnsweredInNetNs));
            }
            else if (at.Outcome == ConnectionOutcome.Rejected && at.Icmp is { } icmp)
            {
                yield return new Evidence(EvidenceSource.Observed, $"{via}{c.WordsOf(at.AnsweredInNetNs)} rejected the packet to {at.Backend}: {Timeline.IcmpWords(at.Asked.Source.Address.IsIPv4, icmp.Type, icmp.Code)}", c.SinceStart(at.OutcomeNanoseconds ?? at.EndNanoseconds), c.PlaceName(at.AnsweredInNetNs));
                if (ReferenceEquals(at, connection) && c.ClientNodeAccount is { } node && Rules(c.RulesOf(node, !IsIPv4)).Reject is { } rule)
                {
                    yield return new Evidence(EvidenceSource.Programmed, rule.Raw, Place: $"node/{node.Name}");
                }
            }
            else if (at.Outcome == ConnectionOutcome.Established && c.IsBehindProxy(at) && at.Onward is null)
            {
                yield return new Evidence(EvidenceSource.Observed, $"kube-proxy on {c.WordsOf(at.TranslatedInNetNs)} accepted the connection and dialled no pod", c.SinceStart(at.EndNanoseconds), c.PlaceName(at.TranslatedInNetNs));
            }
        }
    }
}
