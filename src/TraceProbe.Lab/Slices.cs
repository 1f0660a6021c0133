using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// The EndpointSlice controller as a pure function: which endpoints a Service has, from its selector and the pods' labels, phase
/// and readiness (kubernetes, pkg/controller/endpointslice and staging/src/k8s.io/endpointslice).
/// </summary>
internal static class Slices
{
    /// <summary>The slices of all Services that have a selector. One per address family and set of resolved ports.</summary>
    internal static ImmutableArray<EndpointSlice> Of(ClusterSnapshot cluster)
    {
        var slices = ImmutableArray.CreateBuilder<EndpointSlice>();
        foreach (var service in cluster.Services)
        {
            if (service.Spec.Selector.IsEmpty || service.Spec.Type == "ExternalName")
            {
                continue;
            }

            var families = service.Spec.IpFamilies.IsEmpty ? ["IPv4"] : service.Spec.IpFamilies;
            foreach (var family in families)
            {
                slices.AddRange(Of(service, family, cluster));
            }
        }

        return slices.ToImmutable();
    }

    private static IEnumerable<EndpointSlice> Of(Service service, string family, ClusterSnapshot cluster)
    {
        var groups = new SortedDictionary<string, (ImmutableArray<EndpointPort> Ports, List<Endpoint> Endpoints)>(StringComparer.Ordinal);
        foreach (var pod in cluster.PodsSelectedBy(service).OrderBy(p => p.Metadata.Name, StringComparer.Ordinal))
        {
            if (AddressOf(pod, family) is not { } address || pod.Status.Phase is "Succeeded" or "Failed")
            {
                continue;
            }

            var ports = PortsOf(service, pod);
            var key = string.Join(',', ports.Select(p => $"{p.Name}/{p.Protocol}/{p.Port}"));
            if (!groups.TryGetValue(key, out var group))
            {
                groups[key] = group = (ports, []);
            }

            var terminating = pod.Metadata.DeletionTimestamp is not null;
            group.Endpoints.Add(new Endpoint
            {
                Addresses = [address],
                NodeName = pod.Spec.NodeName,
                TargetRef = new ObjectReference { Kind = "Pod", Namespace = pod.Metadata.Namespace, Name = pod.Metadata.Name, Uid = pod.Metadata.Uid },
                Conditions = new EndpointConditions
                {
                    Ready = service.Spec.PublishNotReadyAddresses || (pod.IsReady && !terminating),
                    Serving = pod.IsReady,
                    Terminating = terminating,
                },
            });
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
                Labels = LabObjects.Labels((EndpointSlice.ServiceNameLabel, service.Metadata.Name),
                    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io")),
                OwnerReferences = [new OwnerReference("Service", service.Metadata.Name)],
            },
            AddressType = family,
            Endpoints = [.. group.Value.Endpoints],
            Ports = group.Value.Ports,
        });
    }

    private static string? AddressOf(Pod pod, string family)
    {
        foreach (var text in pod.Status.PodIPs.IsEmpty ? [pod.Status.PodIP ?? ""] : pod.Status.PodIPs.Select(i => i.Ip))
        {
            if (IpAddress.TryParse(text, null, out var address) && address.IsIPv4 == (family == "IPv4"))
            {
                return text;
            }
        }

        return null;
    }

    // A port whose name no container of the pod declares is left out for that pod; "80" as a string is such a name.
    private static ImmutableArray<EndpointPort> PortsOf(Service service, Pod pod)
    {
        var ports = ImmutableArray.CreateBuilder<EndpointPort>();
        foreach (var port in service.Spec.Ports)
        {
            var target = port.TargetPort;
            int? number = target.IsEmpty ? port.Port
                : target.Number ?? pod.Spec.Containers.SelectMany(c => c.Ports)
                    .Where(p => p.Name == target.Text && p.Protocol == port.Protocol).Select(p => (int?)p.Port).FirstOrDefault();
            if (number is not null)
            {
                ports.Add(new EndpointPort { Name = port.Name ?? "", Port = number, Protocol = port.Protocol });
            }
        }

        return ports.ToImmutable();
    }
}
