using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// What a Service means: which backends it should have, and, when it has none, why. Answers follow from the snapshot alone.
/// </summary>
public static partial class ServiceMeaning
{
    /// <summary>
    /// The backends that the EndpointSlices give a Service port, each once. Slices carry the port by name, and consumers use an
    /// endpoint's first address only (as kube-proxy does, pkg/proxy/endpointslicecache.go).
    /// </summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="service">The Service.</param>
    /// <param name="port">One of its ports.</param>
    /// <param name="ipv6">Whether the IPv6 backends are wanted, else the IPv4 ones.</param>
    public static ImmutableArray<ExpectedBackend> ExpectedBackends(ClusterSnapshot snapshot, Service service, ServicePort port, bool ipv6)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(service);
        ArgumentNullException.ThrowIfNull(port);
        var backends = ImmutableArray.CreateBuilder<ExpectedBackend>();
        var seen = new Dictionary<AddressPort, int>();
        foreach (var slice in snapshot.SlicesOf(service))
        {
            if (slice.AddressType != (ipv6 ? "IPv6" : "IPv4"))
            {
                continue;
            }

            foreach (var slicePort in slice.Ports)
            {
                if ((slicePort.Name ?? "") != (port.Name ?? "") || slicePort.Protocol != port.Protocol || slicePort.Port is not (> 0 and <= 65535))
                {
                    continue;
                }

                foreach (var endpoint in slice.Endpoints)
                {
                    if (endpoint.Addresses.IsEmpty || !IpAddress.TryParse(endpoint.Addresses[0], null, out var address))
                    {
                        continue;
                    }

                    var ready = endpoint.Conditions.Ready ?? true;
                    var backend = new ExpectedBackend(
                        new AddressPort(address, (ushort)slicePort.Port.Value),
                        endpoint.TargetRef is { Kind: "Pod" } pod ? new ObjectRef("pod", pod.Namespace ?? service.Metadata.Namespace, pod.Name) : null,
                        endpoint.NodeName,
                        ready,
                        endpoint.Conditions.Serving ?? ready,
                        endpoint.Conditions.Terminating ?? false)
                    {
                        Hints = endpoint.Hints,
                    };
                    // While the controller moves an endpoint between slices it can be in two; the ready one is the newer.
                    if (!seen.TryGetValue(backend.Address, out var at))
                    {
                        seen.Add(backend.Address, backends.Count);
                        backends.Add(backend);
                    }
                    else if (backend.Ready && !backends[at].Ready)
                    {
                        backends[at] = backend;
                    }
                }
            }
        }

        return backends.ToImmutable();
    }

    /// <summary>
    /// The backends that one node sends new connections for a Service port's cluster address to: those of <see cref="Endpoints"/> that its
    /// internalTrafficPolicy asks for.
    /// </summary>
    /// <param name="snapshot">The cluster; a zone is known from the node's labels.</param>
    /// <param name="service">The Service.</param>
    /// <param name="port">One of its ports.</param>
    /// <param name="ipv6">Whether the IPv6 backends are wanted, else the IPv4 ones.</param>
    /// <param name="node">The node; null when not known, which leaves policy and hints out and makes the answer uncertain if there are any.</param>
    public static BackendsInUse BackendsInUse(ClusterSnapshot snapshot, Service service, ServicePort port, bool ipv6, string? node)
    {
        var choice = Endpoints(snapshot, service, port, ipv6, node);
        return service.Spec.InternalTrafficPolicy == "Local" ? new BackendsInUse(choice.Local, choice.IsLocalCertain) : new BackendsInUse(choice.Cluster, choice.IsClusterCertain);
    }

    /// <summary>
    /// The port that a Service's target port means on a pod: the number itself, the number of the container port with that name
    /// and the same protocol, or null when the pod declares no such name. A number in quotes is a name.
    /// </summary>
    public static int? TargetPortOn(Pod pod, ServicePort port)
    {
        ArgumentNullException.ThrowIfNull(pod);
        ArgumentNullException.ThrowIfNull(port);
        if (port.TargetPort.Text is not { } name)
        {
            return port.TargetPort.Number is { } number and not 0 ? number : port.Port;
        }

        foreach (var container in pod.Spec.LastingContainers)
        {
            foreach (var declared in container.Ports)
            {
                if (declared.Name == name && declared.Protocol == port.Protocol)
                {
                    return declared.Port;
                }
            }
        }

        return null;
    }

    /// <summary>
    /// Why a target port given as a name finds nothing on the pods that the Service selects; null when it is a number, when some
    /// pod declares the name, or when no pod is selected.
    /// </summary>
    public static UnmatchedPortName? ExplainTargetPort(ClusterSnapshot snapshot, Service service, ServicePort port)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(port);
        if (port.TargetPort.Text is not { } name)
        {
            return null;
        }

        var pods = snapshot.PodsSelectedBy(service).ToImmutableArray();
        if (pods.IsEmpty || pods.Any(p => TargetPortOn(p, port) is not null))
        {
            return null;
        }

        var declared = pods.SelectMany(p => p.Spec.LastingContainers).SelectMany(c => c.Ports).Where(p => !string.IsNullOrEmpty(p.Name)).ToImmutableArray();
        var otherProtocol = declared.FirstOrDefault(p => p.Name == name)?.Protocol;
        var nearest = declared.Select(p => p.Name!).Distinct().Where(n => n != name && EditDistance.IsNear(n, name))
            .OrderBy(n => EditDistance.Between(n, name)).ThenBy(n => n, StringComparer.Ordinal).FirstOrDefault();
        return new UnmatchedPortName(name, ushort.TryParse(name, out _), otherProtocol, nearest, [.. declared.Select(p => p.Name!).Distinct().Order(StringComparer.Ordinal)]);
    }

    /// <summary>The Service's port of this number and protocol, or null.</summary>
    public static ServicePort? FindPort(Service service, int port, IpProtocol protocol)
    {
        ArgumentNullException.ThrowIfNull(service);
        var name = NameOf(protocol);
        return service.Spec.Ports.FirstOrDefault(p => p.Port == port && p.Protocol == name);
    }

    /// <summary>The protocol of a Service port; <see cref="IpProtocol.None"/> for a name that is none.</summary>
    public static IpProtocol ProtocolOf(ServicePort port)
    {
        ArgumentNullException.ThrowIfNull(port);
        return port.Protocol switch
        {
            "TCP" => IpProtocol.Tcp,
            "UDP" => IpProtocol.Udp,
            "SCTP" => IpProtocol.Sctp,
            _ => IpProtocol.None,
        };
    }

    /// <summary>The cluster addresses of a Service, IPv4 and IPv6; none when it is headless or an ExternalName.</summary>
    public static ImmutableArray<IpAddress> ClusterAddresses(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        var texts = service.Spec.ClusterIPs;
        var addresses = ImmutableArray.CreateBuilder<IpAddress>(Math.Max(1, texts.Length));
        for (var i = 0; i < Math.Max(1, texts.Length); i++)
        {
            if (IpAddress.TryParse(texts.IsEmpty ? service.Spec.ClusterIP : texts[i], null, out var address))
            {
                addresses.Add(address);
            }
        }

        return addresses.DrainToImmutable();
    }

    private static string NameOf(IpProtocol protocol) => protocol switch
    {
        IpProtocol.Tcp => "TCP",
        IpProtocol.Udp => "UDP",
        IpProtocol.Sctp => "SCTP",
        _ => "",
    };
}

/// <summary>One backend that the desired account gives a Service port.</summary>
/// <param name="Address">Its address and target port.</param>
/// <param name="Pod">The pod behind it; null when the slice names none.</param>
/// <param name="Node">The node it is on; null when the slice does not say.</param>
/// <param name="Ready">Whether new connections go there.</param>
/// <param name="Serving">Whether it answers, also while terminating.</param>
/// <param name="Terminating">Whether it is being deleted.</param>
public sealed record ExpectedBackend(AddressPort Address, ObjectRef? Pod, string? Node, bool Ready, bool Serving, bool Terminating)
{
    /// <summary>For which zones and nodes it is meant; null when for all.</summary>
    public EndpointHints? Hints { get; init; }
}

/// <summary>The backends that one node uses.</summary>
/// <param name="Backends">The backends.</param>
/// <param name="IsCertain">Whether everything that limits them was known; otherwise the node may use fewer.</param>
public sealed record BackendsInUse(ImmutableArray<ExpectedBackend> Backends, bool IsCertain);

/// <summary>Why a target port given as a name finds nothing.</summary>
/// <param name="Name">The name asked for.</param>
/// <param name="IsNumberInQuotes">Whether it looks like a port number: written as a string, it is taken for a name.</param>
/// <param name="OtherProtocol">The protocol for which the pods do declare the name; null when they do not.</param>
/// <param name="Nearest">The declared name that it was probably meant to be; null when none comes near.</param>
/// <param name="Declared">All port names that the selected pods declare.</param>
public sealed record UnmatchedPortName(string Name, bool IsNumberInQuotes, string? OtherProtocol, string? Nearest, ImmutableArray<string> Declared);
