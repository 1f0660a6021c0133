using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can be wrong with what the cluster wants of a Service: its ports, its selector, its endpoints.</summary>
internal sealed class DefineChecks(Case c, ServiceLeg leg)
{
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

    /// <summary>What is wrong with it, in the order in which it is decided.</summary>
    public IEnumerable<Finding> Find()
    {
        if (leg.Service.Spec.Type == "ExternalName")
        {
            yield break;
        }

        if (leg.Port is null)
        {
            if (!leg.IsDns && leg.Service.Spec.Ports.Length > 0 && !IsNodePort())
            {
                yield return PortNotInService();
            }

            yield break;
        }

        if (EndpointChecks.WhyNoneReady(c.Cluster, leg.Service, leg.Port) is { } why)
        {
            why = WithProbedPort(why);
            yield return why with { Evidence = [.. why.Evidence, .. leg.Refusal()] };
            yield break;
        }

        if ((NoLocalEndpoints() ?? SourceRangeDenied() ?? HeadlessPort() ?? UnownedAddress() ?? WrongTargetPort()) is { } wrong)
        {
            yield return wrong;
        }
    }

    private bool Failed => leg.Connection is { Outcome: ConnectionOutcome.Unanswered or ConnectionOutcome.Rejected or ConnectionOutcome.Refused };

    // kube-proxy drops or rejects there, and says in a comment why (pkg/proxy/iptables/proxier.go): "has no local endpoints".
    private Finding? NoLocalEndpoints()
    {
        if (!Failed || !leg.IsToService || leg.EntryNode is not { } node || leg.Port is null)
        {
            return null;
        }

        // To the external addresses, what comes from within the cluster is led everywhere (the "external destinations" rules in pkg/proxy/iptables/proxier.go).
        var isExternal = leg.IsToExternal;
        var member = isExternal ? "externalTrafficPolicy" : "internalTrafficPolicy";
        if ((isExternal ? leg.Service.Spec.ExternalTrafficPolicy : leg.Service.Spec.InternalTrafficPolicy) != "Local"
            || isExternal && (leg.IsFromNode || c.Cluster.FindPodByAddress(leg.Connection!.Asked.Source.Address) is not null))
        {
            return null;
        }

        var endpoints = ServiceMeaning.Endpoints(c.Cluster, leg.Service, leg.Port, !leg.IsIPv4, node.Name);
        if (!endpoints.Local.IsEmpty || !endpoints.IsLocalCertain || endpoints.Cluster.IsEmpty)
        {
            return null;
        }

        var elsewhere = endpoints.Cluster.Select(b => b.Node).OfType<string>().Distinct().Order(StringComparer.Ordinal).ToList();
        return new Finding(FailureClass.NoLocalEndpoints, $"{leg.Name} has {member} Local, and none of its endpoints is on {node.Name}, where the packet came{(elsewhere.Count == 0 ? "" : $"; they are on {string.Join(", ", elsewhere.Take(4))}")}.")
        {
            Objects = [leg.Service.Ref, new ObjectRef("node", null, node.Name)],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, $"{leg.Service.Ref} spec.{member}: Local; endpoints: {string.Join(", ", endpoints.Cluster.Take(4).Select(b => $"{b.Address} on {b.Node ?? "a node that is not known"}"))}"),
                .. leg.Refusal(),
            ],
            Mend = new Mend(isExternal ? $"Ask a node that has one, let the load balancer do so by its health checks, or let the Service use the endpoints of all nodes." : $"Let it use the endpoints of all nodes, or run a pod of it on {node.Name}.",
                $"kubectl patch service {leg.Service.Metadata.Name} -n {leg.Service.Metadata.Namespace} -p '{{\"spec\":{{\"{member}\":\"Cluster\"}}}}'"),
        };
    }

    private Finding? SourceRangeDenied()
    {
        if (!Failed || leg.Service.Spec.LoadBalancerSourceRanges.IsEmpty || leg.Connection is not { } connection
            || !leg.Service.Status.LoadBalancer.Ingress.Any(i => IpAddress.TryParse(i.Ip, null, out var address) && address == connection.Asked.Destination.Address))
        {
            return null;
        }

        var source = connection.Asked.Source.Address;
        var ranges = leg.Service.Spec.LoadBalancerSourceRanges;
        if (ranges.Any(r => !IpNetwork.TryParse(r.Trim(), out var range) || range.Contains(source)))
        {
            return null;
        }

        var wider = string.Join(',', ranges.Append(new IpNetwork(source, source.Width).ToString()).Select(r => $"\"{r.Trim()}\""));
        return new Finding(FailureClass.SourceRangeDenied, $"{leg.Name} lets only {string.Join(", ", ranges)} use its load balancer's address {connection.Asked.Destination.Address}, and {c.ClientWords} comes from {source}.")
        {
            Objects = [leg.Service.Ref],
            Evidence = [new Evidence(EvidenceSource.Desired, $"{leg.Service.Ref} spec.loadBalancerSourceRanges: {string.Join(", ", ranges)}"), .. leg.Refusal()],
            Mend = new Mend("Add the client's range to the Service, or ask for its cluster address from within the cluster.",
                $"kubectl patch service {leg.Service.Metadata.Name} -n {leg.Service.Metadata.Namespace} -p '{{\"spec\":{{\"loadBalancerSourceRanges\":[{wider}]}}}}'"),
        };
    }

    // Of a headless Service the name is all that there is: nothing translates its port to the pods'.
    private Finding? HeadlessPort()
    {
        if (!leg.Service.Spec.IsHeadless || leg.Port is null || leg.AtPod is not { Outcome: ConnectionOutcome.Refused } refused || c.NetNsOf(refused.Backend.Address) is not { } netns
            || c.ListenersIn(netns) is not { } listeners || listeners.Any(l => l.Protocol == refused.Asked.Protocol && l.Local.Port == refused.Backend.Port)
            || ServiceMeaning.ExpectedBackends(c.Cluster, leg.Service, leg.Port, !leg.IsIPv4).FirstOrDefault(b => b.Address.Address == refused.Backend.Address) is not { } backend
            || backend.Address.Port == refused.Backend.Port || !listeners.Any(l => l.Protocol == refused.Asked.Protocol && l.Local.Port == backend.Address.Port))
        {
            return null;
        }

        return new Finding(FailureClass.HeadlessPortNotRemapped, string.Create(CultureInfo.InvariantCulture,
            $"{leg.Name} is headless, so its name leads to the pods themselves and nothing translates port {refused.Backend.Port} to {backend.Address.Port}, where {c.HolderWords(backend.Address.Address)} listens."))
        {
            Objects = [leg.Service.Ref, .. leg.PodRef(backend.Address.Address)],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, string.Create(CultureInfo.InvariantCulture, $"{leg.Service.Ref} spec.clusterIP: None; spec.ports: port {leg.Port.Port}, targetPort {(leg.Port.TargetPort.IsEmpty ? "not given" : leg.Port.TargetPort)}")),
                new Evidence(EvidenceSource.Programmed, $"listening: {string.Join(", ", listeners.Where(l => l.Protocol == refused.Asked.Protocol).Select(l => l.Local.ToString()).Distinct())}", Place: c.PlaceName(netns)),
                .. leg.Refusal(),
            ],
            Mend = new Mend(string.Create(CultureInfo.InvariantCulture, $"Ask for port {backend.Address.Port}, or give the Service a cluster address."), null),
        };
    }

    // Somebody wrote the address into an EndpointSlice by hand.
    private Finding? UnownedAddress()
    {
        if (!leg.Service.Spec.Selector.IsEmpty || leg.AtPod is not { Outcome: ConnectionOutcome.Unanswered or ConnectionOutcome.Rejected } toPod
            || leg.Port is null || !leg.Backends.Any(b => b.Address == toPod.Backend) || toPod.AnsweredInNetNs != 0 && toPod.Icmp is null
            || c.HolderWords(toPod.Backend.Address) != toPod.Backend.Address.ToString() || c.IsNodeAddress(toPod.Backend.Address))
        {
            return null;
        }

        // Outside of the pods' ranges it may be a server of somebody else's, which nobody here knows of.
        var range = c.Cluster.Nodes.SelectMany(n => n.Spec.PodCIDRs.Select(r => (Node: n, Range: r)).Append((Node: n, Range: n.Spec.PodCIDR ?? "")))
            .FirstOrDefault(r => IpNetwork.TryParse(r.Range, out var network) && network.Contains(toPod.Backend.Address));
        var slice = c.Cluster.SlicesOf(leg.Service).FirstOrDefault(s => s.Endpoints.Any(e => e.Addresses.Contains(toPod.Backend.Address.ToString())));
        return new Finding(FailureClass.EndpointAddressUnowned, $"{leg.Name} has no selector, and {(slice is null ? "an EndpointSlice" : $"EndpointSlice {slice.Metadata.Name}")} names {toPod.Backend.Address} for it, which {(range.Node is null ? "no pod or node" : $"lies among the pods' addresses of {range.Node.Metadata.Name}, and no pod")} has.")
        {
            Confidence = range.Node is null ? Confidence.Likely : Confidence.Certain,
            Objects = [leg.Service.Ref],
            Evidence = [new Evidence(EvidenceSource.Desired, $"{leg.Service.Ref} spec.selector: none; endpoint {toPod.Backend}"), leg.LastSeen(toPod, forward: true), .. leg.Refusal()],
            NotSeen = range.Node is null ? [$"whether somebody outside of the cluster has {toPod.Backend.Address}"] : [],
            Mend = new Mend("Write the address of the server that is meant into the EndpointSlice.", slice is null ? null : $"kubectl edit endpointslice {slice.Metadata.Name} -n {leg.Service.Metadata.Namespace}"),
        };
    }

    // A probe of a port on which nothing listens cannot pass: that says more than what the probe was told.
    private Finding WithProbedPort(Finding why)
    {
        var pod = why.Objects is [{ Kind: "pod" } first, ..] ? c.Cluster.FindPod(first.Namespace!, first.Name) : null;
        if (pod is null or { Spec.HostNetwork: true } || ServiceMeaning.ExplainPod(c.Cluster, pod) is not { Probe: { } probe } trouble
            || pod.Spec.LastingContainers.FirstOrDefault(x => x.Name == trouble.Container) is not { } container || ServiceMeaning.PortOf(container, probe) is not { } port
            || !IpAddress.TryParse(pod.Status.PodIP, null, out var address) || c.NetNsOf(address) is not { } netns || c.ListenersIn(netns) is not { } listeners)
        {
            return why;
        }

        var tcp = listeners.Where(l => l.Protocol == IpProtocol.Tcp).ToList();
        var there = tcp.Where(l => l.Local.Port == port).ToList();
        if (there.Exists(l => !l.Local.Address.IsLoopback))
        {
            return why;
        }

        var elsewhere = tcp.Select(l => l.Local.Port).Distinct().Order().ToList();
        var words = there.Count > 0 ? string.Create(CultureInfo.InvariantCulture, $"on port {port} it listens on {there[0].Local.Address} only")
            : string.Create(CultureInfo.InvariantCulture, $"nothing listens on port {port} in it{(elsewhere.Count == 0 ? "" : $"; it listens on {string.Join(", ", elsewhere)}")}");
        return why with
        {
            Sentence = $"{why.Sentence[..^1]}, since {words}.",
            Evidence = [.. why.Evidence, new Evidence(EvidenceSource.Programmed, tcp.Count == 0 ? "no listening socket at all" : $"listening: {string.Join(", ", tcp.Select(l => l.Local.ToString()).Distinct())}", Place: c.PlaceName(netns))],
        };
    }

    private bool IsNodePort() => c.Target is { } target && leg.Service.Spec.Ports.Any(p => p.NodePort == target.Port);

    private Finding PortNotInService()
    {
        var asked = c.Target!;
        var other = leg.Service.Spec.Ports.FirstOrDefault(p => p.Port == asked.Port);
        var ports = string.Join(", ", leg.Service.Spec.Ports.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Port}/{p.Protocol}{(p.Name is null ? "" : $" ({p.Name})")}")));
        if (other is not null)
        {
            return new Finding(FailureClass.WrongProtocol, string.Create(CultureInfo.InvariantCulture, $"{leg.Name} has port {asked.Port} for {other.Protocol}, not for {asked.Protocol.ToString().ToUpperInvariant()}."))
            {
                Objects = [leg.Service.Ref],
                Evidence = [new Evidence(EvidenceSource.Desired, $"{leg.Service.Ref} spec.ports: {ports}"), .. leg.Refusal()],
                Mend = new Mend("Correct the port's protocol.", $"kubectl edit service {leg.Service.Metadata.Name} -n {leg.Service.Metadata.Namespace}"),
            };
        }

        return new Finding(FailureClass.PortNotInService, string.Create(CultureInfo.InvariantCulture, $"{leg.Name} has no port {asked.Port}; it has {ports}."))
        {
            Objects = [leg.Service.Ref],
            Evidence = [new Evidence(EvidenceSource.Desired, $"{leg.Service.Ref} spec.ports: {ports}"), .. leg.Refusal()],
            Mend = new Mend(string.Create(CultureInfo.InvariantCulture, $"Ask for port {leg.Service.Spec.Ports[0].Port}, or add port {asked.Port} to the Service."),
                leg.Service.Spec.Ports is [var only] && !leg.IsDns ? AddPort(only, asked.Port) : null),
        };
    }

    // Beside the port that is there, which others ask for. Of several ports each needs a name.
    private string AddPort(ServicePort existing, ushort added)
    {
        var name = existing.Name is null ? string.Create(CultureInfo.InvariantCulture, $"{{\"port\":{existing.Port},\"name\":\"port-{existing.Port}\"}},") : "";
        var target = existing.TargetPort.IsEmpty ? existing.Port : existing.TargetPort;
        return string.Create(CultureInfo.InvariantCulture, $"kubectl patch service {leg.Service.Metadata.Name} -n {leg.Service.Metadata.Namespace} -p '{{\"spec\":{{\"ports\":[{name}{{\"port\":{added},\"name\":\"port-{added}\",\"targetPort\":{target}}}]}}}}'");
    }

    private Finding? WrongTargetPort()
    {
        if (leg.AtPod is not { Outcome: ConnectionOutcome.Refused } refused || leg.Port is null)
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
        var target = leg.Port.TargetPort.IsEmpty ? string.Create(CultureInfo.InvariantCulture, $"{leg.Port.Port} (its own, since it names no targetPort)") : leg.Port.TargetPort.ToString();
        return new Finding(FailureClass.WrongTargetPort,
            string.Create(CultureInfo.InvariantCulture, $"{leg.Name} sends port {leg.Port.Port} to target port {target}, but {pod} listens on {(ports.Count == 1 ? "port" : "ports")} {string.Join(", ", ports)}{(process is null ? "" : $" ({process.Command})")}."))
        {
            Objects = [leg.Service.Ref, .. leg.PodRef(backend.Address)],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, string.Create(CultureInfo.InvariantCulture, $"{leg.Service.Ref} spec.ports: port {leg.Port.Port}, targetPort {(leg.Port.TargetPort.IsEmpty ? "not given" : leg.Port.TargetPort)}")),
                new Evidence(EvidenceSource.Programmed, $"{pod} listens on {string.Join(", ", reachable.Select(l => $"{l.Local}{(l.Process is null ? "" : $" by {l.Process}")}"))}", Place: c.PlaceName(netns)),
                .. leg.Refusal(),
            ],
            Mend = ports.Count == 1 ? Mends.SetTargetPort(leg.Service, leg.Port, ports[0])
                : new Mend($"Set targetPort to the one of {string.Join(", ", ports)} that serves this.", $"kubectl edit service {leg.Service.Metadata.Name} -n {leg.Service.Metadata.Namespace}"),
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
}
