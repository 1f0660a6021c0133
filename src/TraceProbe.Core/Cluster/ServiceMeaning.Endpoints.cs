using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    private const string ZoneLabel = "topology.kubernetes.io/zone";

    /// <summary>
    /// The EndpointSlices that a Service should have, from its selector and the pods' labels, addresses, phase and readiness: the controller as
    /// a function (staging/src/k8s.io/endpointslice, reconciler.go and utils.go). One slice per address family and set of resolved ports; the
    /// real controller also cuts them into pieces of 100. A pod of which a named target port is not to be found is an endpoint without that port.
    /// </summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="service">The Service.</param>
    /// <returns>Empty for a Service without a selector, whose slices are made by hand, and for an ExternalName.</returns>
    public static ImmutableArray<EndpointSlice> DesiredSlices(ClusterSnapshot snapshot, Service service)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(service);
        if (service.Spec.Selector.IsEmpty || service.Spec.Type == "ExternalName")
        {
            return [];
        }

        var pods = snapshot.PodsSelectedBy(service).Where(p => p.Status.Phase is not ("Succeeded" or "Failed")).OrderBy(p => p.Metadata.Name, StringComparer.Ordinal).ToList();
        return [.. Families(service).SelectMany(f => DesiredSlices(snapshot, service, f, pods))];
    }

    /// <summary>What of a Service's endpoints the pods and the EndpointSlices do not agree on.</summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="service">The Service; one without a selector agrees with whatever slices it has.</param>
    /// <returns>
    /// Empty when they agree on which are ready, as they do but for moments while the controller works. Endpoints that are not ready serve
    /// nobody, and controllers before 1.22 kept some of pods that had ended.
    /// </returns>
    public static ImmutableArray<EndpointDifference> EndpointDifferences(ClusterSnapshot snapshot, Service service)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(service);
        if (service.Spec.Selector.IsEmpty || service.Spec.Type == "ExternalName")
        {
            return [];
        }

        // Slices made by hand, or by a mesh, for a Service with a selector are additions that nobody promised to keep in step.
        var made = ByAddress(snapshot.SlicesOf(service).Where(s => s.Metadata.Labels.GetValueOrDefault("endpointslice.kubernetes.io/managed-by") is null or "endpointslice-controller.k8s.io"));
        var desired = ByAddress(DesiredSlices(snapshot, service));
        return
        [
            .. desired.Where(d => !made.ContainsKey(d.Key) && d.Value.Ready).Select(d => new EndpointDifference(d.Key, d.Value.Pod, true, null)),
            .. made.Where(m => !desired.ContainsKey(m.Key) && m.Value.Ready).Select(m => new EndpointDifference(m.Key, m.Value.Pod, null, true)),
            .. desired.Where(d => made.TryGetValue(d.Key, out var m) && m.Ready != d.Value.Ready).Select(d => new EndpointDifference(d.Key, d.Value.Pod, d.Value.Ready, made[d.Key].Ready)),
        ];
    }

    // Services from before dual stack have no families (getAddressTypesForService).
    private static ImmutableArray<string> Families(Service service) => !service.Spec.IpFamilies.IsEmpty ? service.Spec.IpFamilies
        : service.Spec.ClusterIP is null or "" or "None" ? ["IPv4", "IPv6"]
        : IpAddress.TryParse(service.Spec.ClusterIP, null, out var address) && !address.IsIPv4 ? ["IPv6"] : ["IPv4"];

    private static IEnumerable<EndpointSlice> DesiredSlices(ClusterSnapshot snapshot, Service service, string family, List<Pod> pods)
    {
        var groups = new SortedDictionary<string, (ImmutableArray<EndpointPort> Ports, List<Endpoint> Endpoints)>(StringComparer.Ordinal);
        foreach (var pod in pods)
        {
            if (AddressesOf(pod, family) is not [_, ..] addresses)
            {
                continue;
            }

            var ports = PortsOf(service, pod);
            var key = string.Join(',', ports.Select(p => $"{p.Name}/{p.Protocol}/{p.Port}"));
            if (!groups.TryGetValue(key, out var group))
            {
                groups[key] = group = (ports, []);
            }

            group.Endpoints.Add(EndpointOf(snapshot, service, pod, addresses));
        }

        if (groups.Count == 0)
        {
            // A Service whose selector finds nobody has one slice with nothing in it.
            groups[""] = ([], []);
        }

        return groups.Select((group, index) => new EndpointSlice
        {
            Metadata = new ObjectMeta
            {
                Name = $"{service.Metadata.Name}-{(family == "IPv4" ? "4" : "6")}{index}",
                Namespace = service.Metadata.Namespace,
                Labels = ImmutableSortedDictionary<string, string>.Empty
                    .Add(EndpointSlice.ServiceNameLabel, service.Metadata.Name).Add("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
                OwnerReferences = [new OwnerReference("Service", service.Metadata.Name)],
            },
            AddressType = family,
            Endpoints = [.. group.Value.Endpoints],
            Ports = group.Value.Ports,
        });
    }

    private static Endpoint EndpointOf(ClusterSnapshot snapshot, Service service, Pod pod, ImmutableArray<string> addresses)
    {
        var terminating = pod.Metadata.DeletionTimestamp is not null;
        var ready = service.Spec.PublishNotReadyAddresses || (pod.IsReady && !terminating);
        var zone = pod.Spec.NodeName is { } node ? snapshot.FindNode(node)?.Metadata.Labels.GetValueOrDefault(ZoneLabel) : null;
        return new Endpoint
        {
            Addresses = addresses,
            NodeName = pod.Spec.NodeName,
            Zone = zone,
            Hostname = pod.Spec.Hostname is { Length: > 0 } name && pod.Spec.Subdomain == service.Metadata.Name ? name : null,
            TargetRef = new ObjectReference { Kind = "Pod", Namespace = pod.Metadata.Namespace, Name = pod.Metadata.Name, Uid = pod.Metadata.Uid },
            Conditions = new EndpointConditions { Ready = ready, Serving = pod.IsReady, Terminating = terminating },
            Hints = ready ? HintsOf(service.Spec.TrafficDistribution, zone, pod.Spec.NodeName) : null,
        };
    }

    // trafficdist/trafficdist.go. The older topology-mode annotation shares endpoints out among zones by their CPUs, which is not to be told from here.
    private static EndpointHints? HintsOf(string? distribution, string? zone, string? node)
    {
        if (distribution is not ("PreferClose" or "PreferSameZone" or "PreferSameNode"))
        {
            return null;
        }

        var hints = new EndpointHints
        {
            ForZones = zone is null ? [] : [new ZoneHint(zone)],
            ForNodes = distribution == "PreferSameNode" && node is not null ? [new NodeHint(node)] : [],
        };
        return hints is { ForZones.IsEmpty: true, ForNodes.IsEmpty: true } ? null : hints;
    }

    private static ImmutableArray<string> AddressesOf(Pod pod, string family)
    {
        var addresses = ImmutableArray.CreateBuilder<string>(1);
        foreach (var text in pod.Status.PodIPs.IsEmpty ? [pod.Status.PodIP] : pod.Status.PodIPs.Select(i => (string?)i.Ip))
        {
            if (IpAddress.TryParse(text, null, out var address) && address.IsIPv4 == (family == "IPv4"))
            {
                addresses.Add(address.ToString());
            }
        }

        return addresses.ToImmutable();
    }

    // A port whose name no container of the pod declares is left out for that pod; "80" as a string is such a name.
    private static ImmutableArray<EndpointPort> PortsOf(Service service, Pod pod)
    {
        var ports = ImmutableArray.CreateBuilder<EndpointPort>(service.Spec.Ports.Length);
        foreach (var port in service.Spec.Ports)
        {
            if (TargetPortOn(pod, port) is { } number)
            {
                ports.Add(new EndpointPort { Name = port.Name ?? "", Port = number, Protocol = port.Protocol });
            }
        }

        return ports.ToImmutable();
    }

    private static Dictionary<string, (ObjectRef? Pod, bool Ready)> ByAddress(IEnumerable<EndpointSlice> slices)
    {
        var found = new Dictionary<string, (ObjectRef?, bool)>();
        foreach (var slice in slices)
        {
            foreach (var endpoint in slice.Endpoints)
            {
                if (endpoint.Addresses.IsEmpty)
                {
                    continue;
                }

                var pod = endpoint.TargetRef is { Kind: "Pod" } target ? new ObjectRef("pod", target.Namespace ?? slice.Metadata.Namespace, target.Name) : null;
                var ready = endpoint.Conditions.Ready ?? true;
                // While the controller moves an endpoint it can be in two slices; the ready one is the newer.
                found[endpoint.Addresses[0]] = (pod, ready || found.TryGetValue(endpoint.Addresses[0], out var other) && other.Item2);
            }
        }

        return found;
    }
}

/// <summary>One endpoint on which a Service's pods and its EndpointSlices do not agree.</summary>
/// <param name="Address">The endpoint's address.</param>
/// <param name="Pod">The pod; null when a slice names none.</param>
/// <param name="Desired">Whether it should be ready, as the pods have it; null when no selected pod has the address.</param>
/// <param name="Made">Whether it is, as the slices have it; null when no slice has the address.</param>
public sealed record EndpointDifference(string Address, ObjectRef? Pod, bool? Desired, bool? Made)
{
    /// <inheritdoc/>
    public override string ToString() => (Desired, Made) switch
    {
        (null, _) => $"{Address} is in an EndpointSlice, but no selected pod has it",
        (_, null) => $"{Pod} at {Address} is selected, but in no EndpointSlice",
        (true, _) => $"{Pod} at {Address} is ready, but not in its EndpointSlice",
        _ => $"{Pod} at {Address} is not ready, but its EndpointSlice says so",
    };
}
