using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    /// <summary>
    /// Which of a Service port's endpoints one node uses under each traffic policy (CategorizeEndpoints in kube-proxy's
    /// pkg/proxy/topology.go): the ready ones, or, when there is none, those that still serve while terminating (from Kubernetes 1.26 on);
    /// of these under policy Cluster only those hinted for the node or its zone when all have hints and some are for it.
    /// </summary>
    /// <param name="snapshot">The cluster; a zone is known from the node's labels.</param>
    /// <param name="service">The Service.</param>
    /// <param name="port">One of its ports.</param>
    /// <param name="ipv6">Whether the IPv6 endpoints are wanted, else the IPv4 ones.</param>
    /// <param name="node">The node; null when not known, which leaves locality and hints out and makes the answer uncertain where they count.</param>
    public static EndpointChoice Endpoints(ClusterSnapshot snapshot, Service service, ServicePort port, bool ipv6, string? node)
    {
        var all = ExpectedBackends(snapshot, service, port, ipv6);
        var usable = Usable(all);
        var (cluster, isCertain) = NearBy(snapshot, usable, node);
        return new EndpointChoice(cluster, node is null ? usable : Usable([.. all.Where(b => b.Node == node)]), !usable.IsEmpty)
        {
            IsClusterCertain = isCertain,
            IsLocalCertain = node is not null,
        };
    }

    private static (ImmutableArray<ExpectedBackend> Backends, bool IsCertain) NearBy(ClusterSnapshot snapshot, ImmutableArray<ExpectedBackend> usable, string? node)
    {
        var hinted = false;
        foreach (var backend in usable)
        {
            hinted |= backend.Hints is not null;
        }

        if (!hinted)
        {
            return (usable, true);
        }

        if (node is not null && usable.All(b => b.Hints is { ForNodes.IsEmpty: false }) && usable.Where(b => b.Hints!.ForNodes.Any(n => n.Name == node)).ToImmutableArray() is { IsEmpty: false } forNode)
        {
            return (forNode, true);
        }

        if (usable.Any(b => b.Hints is null or { ForZones.IsEmpty: true }))
        {
            return (usable, usable.All(b => b.Hints is null or { ForNodes.IsEmpty: true }) || node is not null);
        }

        if (node is null || snapshot.FindNode(node) is not { } known)
        {
            return (usable, false);
        }

        var zone = known.Metadata.Labels.GetValueOrDefault("topology.kubernetes.io/zone");
        var forZone = usable.Where(b => zone is not null && b.Hints!.ForZones.Any(z => z.Name == zone)).ToImmutableArray();
        return (forZone.IsEmpty ? usable : forZone, true);
    }

    private static ImmutableArray<ExpectedBackend> Usable(ImmutableArray<ExpectedBackend> backends)
        => backends.Any(b => b.Ready) ? backends.All(b => b.Ready) ? backends : [.. backends.Where(b => b.Ready)] : [.. backends.Where(b => b.Serving && b.Terminating)];

    /// <summary>The addresses at which kube-proxy serves a Service port in one family: cluster, external and load balancer addresses, and the node port.</summary>
    /// <param name="service">The Service.</param>
    /// <param name="port">One of its ports.</param>
    /// <param name="ipv6">Whether the IPv6 addresses are wanted, else the IPv4 ones.</param>
    /// <param name="node">The node's address that its node port is asked for at; null leaves it out.</param>
    /// <returns>None for headless and ExternalName Services.</returns>
    public static ImmutableArray<ServiceAddress> Addresses(Service service, ServicePort port, bool ipv6, IpAddress? node)
    {
        ArgumentNullException.ThrowIfNull(service);
        ArgumentNullException.ThrowIfNull(port);
        var found = ImmutableArray.CreateBuilder<ServiceAddress>(1);
        if (service.Spec.Type == "ExternalName" || ProtocolOf(port) == IpProtocol.None || port.Port is not (> 0 and <= 65535))
        {
            return [];
        }

        foreach (var address in ClusterAddresses(service))
        {
            Add(ServiceAddressKind.Cluster, address);
        }

        // A family is served when the Service has a cluster address of it.
        if (found.Count == 0)
        {
            return [];
        }

        foreach (var text in service.Spec.ExternalIPs)
        {
            AddText(ServiceAddressKind.External, text);
        }

        foreach (var ingress in service.Status.LoadBalancer.Ingress)
        {
            // With ipMode Proxy packets come in by the node port; kube-proxy has no rule for the address itself.
            if (ingress.IpMode is not "Proxy")
            {
                AddText(ServiceAddressKind.LoadBalancer, ingress.Ip);
            }
        }

        if (node is { } own && port.NodePort is > 0 and <= 65535 && own.IsIPv4 != ipv6)
        {
            found.Add(new ServiceAddress(ServiceAddressKind.NodePort, new AddressPort(own, (ushort)port.NodePort)));
        }

        return found.DrainToImmutable();

        void AddText(ServiceAddressKind kind, string? text)
        {
            if (IpAddress.TryParse(text, null, out var address))
            {
                Add(kind, address);
            }
        }

        void Add(ServiceAddressKind kind, IpAddress address)
        {
            if (address.IsIPv4 != ipv6)
            {
                found.Add(new ServiceAddress(kind, new AddressPort(address, (ushort)port.Port)));
            }
        }
    }

    /// <summary>Who may use a Service's load balancer addresses, in one family; empty for everyone.</summary>
    /// <param name="service">The Service.</param>
    /// <param name="ipv6">Whether the IPv6 ranges are wanted, else the IPv4 ones.</param>
    public static ImmutableArray<IpNetwork> SourceRanges(Service service, bool ipv6)
    {
        ArgumentNullException.ThrowIfNull(service);
        var ranges = ImmutableArray.CreateBuilder<IpNetwork>();
        foreach (var text in service.Spec.LoadBalancerSourceRanges)
        {
            if (IpNetwork.TryParse(text.AsSpan().Trim(), out var range) && range.Address.IsIPv4 != ipv6)
            {
                ranges.Add(range);
            }
        }

        return ranges.ToImmutable();
    }
}

/// <summary>The endpoints of a Service port that one node uses.</summary>
/// <param name="Cluster">Those for traffic under policy Cluster.</param>
/// <param name="Local">The node's own, for traffic under policy Local.</param>
/// <param name="HasAny">Whether any node has one: without, packets are rejected; where only the node's own are lacking, they are dropped.</param>
public sealed record EndpointChoice(ImmutableArray<ExpectedBackend> Cluster, ImmutableArray<ExpectedBackend> Local, bool HasAny)
{
    /// <summary>Whether everything that limits <see cref="Cluster"/> was known; otherwise the node may use fewer.</summary>
    public bool IsClusterCertain { get; init; } = true;

    /// <summary>Whether everything that limits <see cref="Local"/> was known.</summary>
    public bool IsLocalCertain { get; init; } = true;
}

/// <summary>What kind of address a Service is asked at.</summary>
public enum ServiceAddressKind
{
    /// <summary>spec.clusterIPs.</summary>
    Cluster,

    /// <summary>A node's address and the port's nodePort.</summary>
    NodePort,

    /// <summary>spec.externalIPs.</summary>
    External,

    /// <summary>status.loadBalancer.ingress.</summary>
    LoadBalancer,
}

/// <summary>One address and port at which a Service port is served.</summary>
/// <param name="Kind">What kind of address.</param>
/// <param name="At">The address and port.</param>
public sealed record ServiceAddress(ServiceAddressKind Kind, AddressPort At);
