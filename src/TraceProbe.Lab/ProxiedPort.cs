using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// One Service port as the kube-proxy of one node sees it in one address family, with the endpoints it is to use. What all its
/// modes write is derived from this (kubernetes, pkg/proxy/serviceport.go, endpointschangetracker.go and topology.go).
/// </summary>
internal sealed record ProxiedPort
{
    /// <summary>The Service's namespace.</summary>
    internal required string Namespace { get; init; }

    /// <summary>The Service's name.</summary>
    internal required string Service { get; init; }

    /// <summary>The port's name; empty when it has none.</summary>
    internal required string PortName { get; init; }

    /// <summary>The name in comments and logs: <c>namespace/service</c> or <c>namespace/service:port</c>.</summary>
    internal string Name => $"{Namespace}/{Service}{(PortName.Length == 0 ? "" : ":" + PortName)}";

    /// <summary>In lower case.</summary>
    internal required string Protocol { get; init; }

    internal required int Number { get; init; }

    /// <summary>0 when it has none.</summary>
    internal required int NodePort { get; init; }

    internal required IpAddress ClusterIP { get; init; }

    internal required ImmutableArray<IpAddress> ExternalIPs { get; init; }

    internal required ImmutableArray<IpAddress> LoadBalancerIPs { get; init; }

    internal required ImmutableArray<IpNetwork> SourceRanges { get; init; }

    /// <summary>0 when it has none.</summary>
    internal required int HealthCheckNodePort { get; init; }

    /// <summary>Whether internalTrafficPolicy is Local.</summary>
    internal required bool InternalLocal { get; init; }

    /// <summary>Whether externalTrafficPolicy is Local.</summary>
    internal required bool ExternalLocal { get; init; }

    /// <summary>How long a client keeps its endpoint; null without session affinity.</summary>
    internal required int? AffinitySeconds { get; init; }

    /// <summary>All endpoints, usable or not, ordered by their text.</summary>
    internal required ImmutableArray<Backend> Endpoints { get; init; }

    /// <summary>The endpoints of policy Cluster; empty when neither inside nor outside uses it.</summary>
    internal ImmutableArray<Backend> Cluster { get; private init; } = [];

    /// <summary>The endpoints of policy Local; empty when neither inside nor outside uses it.</summary>
    internal ImmutableArray<Backend> Local { get; private init; } = [];

    /// <summary>Whether there is a usable endpoint on any node.</summary>
    internal bool HasAny { get; private init; }

    /// <summary>The endpoints that this node may send to.</summary>
    internal ImmutableArray<Backend> Reachable => Local.IsEmpty ? Cluster : [.. Cluster.Union(Local)];

    /// <summary>Whether the cluster address leads anywhere from this node.</summary>
    internal bool HasInternal => HasAny && (!InternalLocal || Local.Length > 0);

    /// <summary>Whether those outside get anywhere through this node.</summary>
    internal bool HasExternal => HasAny && (!ExternalLocal || Local.Length > 0);

    internal bool ExternallyAccessible => NodePort != 0 || !LoadBalancerIPs.IsEmpty || !ExternalIPs.IsEmpty;

    // Even with the Local policy outside, clients inside are short-circuited to all endpoints.
    private bool UsesCluster => !InternalLocal || ExternallyAccessible;

    private bool UsesLocal => InternalLocal || (ExternalLocal && ExternallyAccessible);

    /// <summary>
    /// Whom a load balancer's address admits: its source ranges, and its own address where they admit this node, whose packets to it
    /// have that as their source when the address is the node's too.
    /// </summary>
    internal IEnumerable<IpNetwork> Admitted(KubeProxyOptions options) => AdmitsNode(options)
        ? SourceRanges.Concat(LoadBalancerIPs.Select(a => new IpNetwork(a, a.Width)))
        : SourceRanges;

    /// <summary>Whether a source range holds the node's address.</summary>
    internal bool AdmitsNode(KubeProxyOptions options) => SourceRanges.Any(r => options.NodeAddresses.Any(r.Contains));

    /// <summary>All Service ports that a kube-proxy serves in one family, with their endpoints chosen.</summary>
    internal static List<ProxiedPort> Of(ClusterSnapshot cluster, KubeProxyOptions options, bool ipv6)
    {
        var zone = cluster.Nodes.FirstOrDefault(n => n.Metadata.Name == options.NodeName)?.Metadata.Labels.GetValueOrDefault("topology.kubernetes.io/zone");
        var slices = cluster.EndpointSlices.Where(s => s.ServiceName is not null && s.AddressType == (ipv6 ? "IPv6" : "IPv4"))
            .ToLookup(s => (s.Metadata.Namespace, s.ServiceName));
        var ports = new List<ProxiedPort>();
        foreach (var service in cluster.Services)
        {
            var spec = service.Spec;
            if (spec.Type == "ExternalName" || spec.IsHeadless || string.IsNullOrEmpty(spec.ClusterIP)
                || service.Metadata.Labels.ContainsKey("service.kubernetes.io/service-proxy-name"))
            {
                continue;
            }

            var clusterIP = (spec.ClusterIPs.IsDefaultOrEmpty ? [spec.ClusterIP] : spec.ClusterIPs)
                .Select(t => Parse(t, ipv6)).FirstOrDefault(a => a is not null);
            if (clusterIP is not { } address)
            {
                continue;
            }

            foreach (var port in spec.Ports)
            {
                ports.Add(new ProxiedPort
                {
                    Namespace = service.Metadata.Namespace!,
                    Service = service.Metadata.Name,
                    PortName = port.Name ?? "",
                    Protocol = port.Protocol.ToLowerInvariant(),
                    Number = port.Port,
                    NodePort = spec.Type is "NodePort" or "LoadBalancer" ? port.NodePort : 0,
                    ClusterIP = address,
                    ExternalIPs = Family(spec.ExternalIPs, ipv6),
                    LoadBalancerIPs = spec.Type == "LoadBalancer" ? Family(service.Status.LoadBalancer.Ingress.Where(i => i.IpMode != "Proxy").Select(i => i.Ip), ipv6) : [],
                    SourceRanges = [.. spec.LoadBalancerSourceRanges.Select(r => IpNetwork.Parse(r.Trim())).Where(r => r.Address.IsIPv4 != ipv6)],
                    HealthCheckNodePort = spec.ExternalTrafficPolicy == "Local" && spec.Type == "LoadBalancer" ? spec.HealthCheckNodePort : 0,
                    InternalLocal = spec.InternalTrafficPolicy == "Local",
                    ExternalLocal = spec.ExternalTrafficPolicy == "Local",
                    AffinitySeconds = spec.SessionAffinity == "ClientIP" ? spec.SessionAffinityConfig?.ClientIP?.TimeoutSeconds ?? 10800 : null,
                    Endpoints = EndpointsOf(slices[(service.Metadata.Namespace, service.Metadata.Name)], port),
                }.Chosen(options.NodeName, zone));
            }
        }

        return ports;
    }

    // topology.go, CategorizeEndpoints.
    private ProxiedPort Chosen(string node, string? zone)
    {
        var usable = Endpoints.Where(e => e.Ready || e is { Serving: true, Terminating: true });
        ImmutableArray<Backend> cluster = [];
        if (UsesCluster)
        {
            var here = PreferredHere(node, zone);
            cluster = [.. Endpoints.Where(e => e.Ready && here(e))];
            if (cluster.IsEmpty)
            {
                cluster = [.. Endpoints.Where(e => e is { Serving: true, Terminating: true })];
            }
        }

        if (!UsesLocal)
        {
            return this with { Cluster = cluster, HasAny = !cluster.IsEmpty };
        }

        ImmutableArray<Backend> local = [.. Endpoints.Where(e => e.Ready && e.Node == node)];
        if (local.IsEmpty)
        {
            local = [.. usable.Where(e => !e.Ready && e.Node == node)];
        }

        return this with { Cluster = cluster, Local = local, HasAny = usable.Any() };
    }

    // topology.go, topologyModeFromHints: hints are followed only when every ready endpoint has one and one of them is for us.
    private Func<Backend, bool> PreferredHere(string node, string? zone)
    {
        var ready = Endpoints.Where(e => e.Ready).ToArray();
        if (ready.Length > 0 && ready.All(e => !e.ForNodes.IsEmpty) && ready.Any(e => e.ForNodes.Contains(node)))
        {
            return e => e.ForNodes.Contains(node);
        }

        if (zone is not null && ready.Length > 0 && ready.All(e => !e.ForZones.IsEmpty) && ready.Any(e => e.ForZones.Contains(zone)))
        {
            return e => e.ForZones.Contains(zone);
        }

        return static _ => true;
    }

    private static ImmutableArray<Backend> EndpointsOf(IEnumerable<EndpointSlice> slices, ServicePort port)
    {
        // The same endpoint may stand in two slices for a moment; kube-proxy keeps one, ordered by its text.
        var found = new SortedDictionary<string, Backend>(StringComparer.Ordinal);
        foreach (var slice in slices)
        {
            if (slice.Endpoints.IsDefault || slice.Ports.IsDefault)
            {
                continue;
            }

            foreach (var number in slice.Ports.Where(p => (p.Name ?? "") == (port.Name ?? "") && p.Protocol == port.Protocol).Select(p => p.Port))
            {
                foreach (var endpoint in number is null ? [] : slice.Endpoints)
                {
                    if (endpoint.Addresses.Length == 0 || !IpAddress.TryParse(endpoint.Addresses[0], null, out var address))
                    {
                        continue;
                    }

                    var backend = new Backend(new AddressPort(address, (ushort)number!.Value), endpoint.NodeName,
                        endpoint.Conditions.Ready ?? true, endpoint.Conditions.Serving ?? true, endpoint.Conditions.Terminating ?? false,
                        [.. (endpoint.Hints?.ForZones ?? []).Select(z => z.Name)], [.. (endpoint.Hints?.ForNodes ?? []).Select(n => n.Name)]);
                    found[backend.Text] = backend;
                }
            }
        }

        return [.. found.Values];
    }

    private static ImmutableArray<IpAddress> Family(IEnumerable<string?> texts, bool ipv6)
        => [.. texts.Select(t => Parse(t, ipv6)).Where(a => a is not null).Select(a => a!.Value)];

    // An address of the family, or null.
    private static IpAddress? Parse(string? text, bool ipv6) => IpAddress.TryParse(text, null, out var address) && address.IsIPv4 != ipv6 ? address : null;
}

/// <summary>One endpoint of a Service port.</summary>
/// <param name="Where">Its address and port.</param>
/// <param name="Node">The node it is on; null when not said.</param>
/// <param name="Ready">Whether it is ready.</param>
/// <param name="Serving">Whether it answers its probe, terminating or not.</param>
/// <param name="Terminating">Whether it is being ended.</param>
/// <param name="ForZones">The zones that are hinted to use it.</param>
/// <param name="ForNodes">The nodes that are hinted to use it.</param>
internal sealed record Backend(AddressPort Where, string? Node, bool Ready, bool Serving, bool Terminating,
    ImmutableArray<string> ForZones, ImmutableArray<string> ForNodes)
{
    internal IpAddress Address => Where.Address;

    internal string Text { get; } = Where.ToString();
}
