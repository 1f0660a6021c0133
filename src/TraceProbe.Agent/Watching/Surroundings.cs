using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Collections.Immutable;
using TraceProbe.Agent.Requests;
using TraceProbe.Agent.Sessions;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Watching;

/// <summary>What a node's agent knows of its surroundings at one time: the objects, the namespaces, and whose an address is. Immutable, replaced whole.</summary>
internal sealed class Surroundings
{
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(2);

    private readonly string? _node;
    private readonly FrozenDictionary<uint, Place> _places;
    private readonly FrozenSet<IpAddress> _serviceAddresses;
    private readonly FrozenSet<IpAddress> _dnsServers;
    private readonly FrozenSet<IpAddress> _endpoints;
    private readonly FrozenDictionary<IpAddress, uint> _homes;
    private readonly ConcurrentDictionary<uint, (long ReadAt, ResolverConfiguration? Resolver)> _resolvers = [];

    /// <summary>Reads them off a scene.</summary>
    /// <param name="scene">The scene.</param>
    /// <param name="node">The only node whose namespaces count; null for all of the scene's.</param>
    /// <param name="before">What was known before, whose Services' addresses stay known: a client that goes on asking for one that is gone is a failure to explain.</param>
    public Surroundings(Scene scene, string? node, Surroundings? before = null)
    {
        _node = node;
        Scene = Within(scene);
        Cluster = scene.ReadObjects();
        _places = Scene.Places.Where(p => p.NetNs != 0).DistinctBy(p => p.NetNs).ToFrozenDictionary(p => p.NetNs);
        _homes = Scene.Places.Where(p => p is { Kind: PlaceKind.Pod, NetNs: not 0 }).SelectMany(p => p.Addresses.Select(a => (Address: a, p.NetNs))).DistinctBy(h => h.Address).ToFrozenDictionary(h => h.Address, h => h.NetNs);
        _serviceAddresses = (Cluster?.Services ?? []).SelectMany(s => ServiceMeant.AddressesOf(s)).Concat(before?._serviceAddresses ?? []).ToFrozenSet();
        var here = Scene.Places.Where(p => p.Kind == PlaceKind.Pod).SelectMany(p => p.Addresses).ToHashSet();
        _endpoints = (Cluster?.EndpointSlices ?? []).SelectMany(s => s.Endpoints).SelectMany(e => e.Addresses).Select(a => IpAddress.TryParse(a, null, out var parsed) ? parsed : default).Where(here.Contains).ToFrozenSet();
        var dns = Cluster is null ? null : DnsMeaning.FindService(Cluster.Services);

        // By its selector: they go on forwarding when none of them is ready.
        _dnsServers = dns is not { Spec.Selector.Count: > 0 } ? [] : Cluster!.Pods
            .Where(p => p.Metadata.Namespace == dns.Metadata.Namespace && dns.Spec.Selector.All(s => p.Metadata.Labels.TryGetValue(s.Key, out var value) && value == s.Value))
            .SelectMany(p => p.Status.PodIPs.Select(i => i.Ip).Append(p.Status.PodIP ?? "")).Select(a => IpAddress.TryParse(a, null, out var parsed) ? parsed : default)
            .Where(a => !a.IsUnspecified).ToFrozenSet();
    }

    /// <summary>The namespaces, and where the objects come from.</summary>
    public Scene Scene { get; }

    /// <summary>The desired account; null when there is none.</summary>
    public ClusterSnapshot? Cluster { get; }

    /// <summary>The addresses that Services have.</summary>
    public IReadOnlySet<IpAddress> ServiceAddresses => _serviceAddresses;

    /// <summary>The addresses of Services' endpoints that are pods here.</summary>
    public IReadOnlySet<IpAddress> LocalEndpoints => _endpoints;

    /// <summary>Whether nothing has changed since.</summary>
    /// <exception cref="SessionException">The objects cannot be read.</exception>
    public bool IsOf(Scene scene) => ReferenceEquals(scene.ReadObjects(), Cluster) && Within(scene).Places.Select(p => (p.Name, p.NetNs)).SequenceEqual(Scene.Places.Select(p => (p.Name, p.NetNs)));

    private Scene Within(Scene scene) => _node is null ? scene : scene.Within(_node);

    /// <summary>Whether an address is a Service's.</summary>
    public bool IsService(IpAddress address) => _serviceAddresses.Contains(address);

    /// <summary>Whether what passes in a namespace to an address is for an endpoint of this node, and comes from elsewhere: its pods' own connections begin in theirs.</summary>
    public bool Arrives(uint netNs, IpAddress address) => _endpoints.Contains(address) && PlaceOf(netNs) is { Kind: PlaceKind.Node };

    /// <summary>Whether an address is that of a pod here whose network namespace is another.</summary>
    public bool LivesElsewhere(uint netNs, IpAddress address) => _homes.TryGetValue(address, out var home) && home != netNs;

    /// <summary>The place of a namespace; null when it has no name.</summary>
    public Place? PlaceOf(uint netNs) => _places.GetValueOrDefault(netNs);

    /// <summary>Who a client is: its workload, or its node, or the number of its namespace.</summary>
    public string ClientOf(uint netNs) => PlaceOf(netNs) switch
    {
        { Kind: PlaceKind.Pod, PodNamespace: { } ns, PodName: { } name } => Cluster?.FindPod(ns, name) is { } pod ? Workloads.Of(pod).ToString() : $"pod/{ns}/{name}",
        { } place => place.Name,
        null => $"netns:{netNs}",
    };

    /// <summary>The Pod that a client is; null when it is none.</summary>
    public ObjectReference? PodOf(uint netNs) => PlaceOf(netNs) is { Kind: PlaceKind.Pod, PodNamespace: { } ns, PodName: { } name }
        ? new ObjectReference { Kind = "Pod", Namespace = ns, Name = name, Uid = Cluster?.FindPod(ns, name)?.Metadata.Uid } : null;

    /// <summary>The Service that <see cref="ServiceOf"/> means; null when the cluster has none of that name.</summary>
    public ObjectReference? ServiceCalled(string service)
    {
        var slash = service.IndexOf('/', StringComparison.Ordinal);
        var end = service.LastIndexOf(':') is > 0 and var colon && colon > slash ? colon : service.Length;
        return slash > 0 && Cluster?.FindService(service[..slash], service[(slash + 1)..end]) is { Metadata: var found }
            ? new ObjectReference { Kind = "Service", Namespace = found.Namespace, Name = found.Name, Uid = found.Uid } : null;
    }

    /// <summary>
    /// The Service and port that an attempt is for: <c>NAMESPACE/NAME:PORT</c>, by its address, or else by the name that led there, or else just the address. A lookup that
    /// failed has no port. Null when it is not ours to explain.
    /// </summary>
    public string? ServiceOf(Attempt attempt) => attempt.Asked is not { } asked ? ServiceMeantBy(attempt.Lookup!.Meant, attempt.NetNs)
        : Cluster is { } cluster && ServiceMeant.ByAddress(asked.Destination.Address, cluster) is { } meant ? $"{meant.Namespace}/{meant.Name}:{asked.Destination.Port}"
        : attempt.Lookup is { } lookup && ServiceMeantBy(lookup.Meant, attempt.NetNs) is { } name ? $"{name}:{asked.Destination.Port}"
        : asked.Destination.ToString();

    /// <summary>The Service and port that an attempt is counted with: as <see cref="ServiceOf"/>, but null where that would be an address or a name that no Service has.</summary>
    public string? LabelOf(Attempt attempt) => attempt.Asked is { } asked
        ? Cluster is { } cluster && ServiceMeant.ByAddress(asked.Destination.Address, cluster) is { } meant ? $"{meant.Namespace}/{meant.Name}:{asked.Destination.Port}" : null
        : attempt.Lookup is { } lookup && Cluster is { } known && ServiceMeant.By(lookup.Meant, PlaceOf(attempt.NetNs)?.PodNamespace ?? "default", known) is { } named ? $"{named.Namespace}/{named.Name}" : null;

    /// <summary>
    /// The Service that a name means to a client; null when it is a name from beyond the cluster, whose failure is not ours to explain: it has a dot, and neither
    /// what follows is a namespace, nor does it end in the cluster's domain.
    /// </summary>
    private string? ServiceMeantBy(string name, uint netNs)
    {
        if (Cluster is not { } cluster)
        {
            return null;
        }

        var labels = name.TrimEnd('.').Split('.');
        var isOurs = labels.Length == 1 || name.EndsWith($".svc.{cluster.ClusterDomain}", StringComparison.OrdinalIgnoreCase)
            || (labels.Length == 2 && cluster.FindNamespace(labels[1]) is not null) || (labels.Length == 3 && labels[2] == "svc");
        if (!isOurs)
        {
            return null;
        }

        return ServiceMeant.By(name, PlaceOf(netNs)?.PodNamespace ?? "default", cluster) is { } meant ? $"{meant.Namespace}/{meant.Name}" : name;
    }

    /// <summary>
    /// Whether a lookup is made for somebody else, who is the one that fails: by one of the cluster's DNS servers, or by kube-proxy in userspace mode, which asks these
    /// from its node.
    /// </summary>
    public bool IsForwarded(Attempt attempt) => attempt is { Asked: null, Lookup: { } lookup } && PlaceOf(attempt.NetNs) is { } place
        && (place.Addresses.Any(_dnsServers.Contains) || (place.Kind == PlaceKind.Node && _dnsServers.Contains(lookup.Resolver)));

    /// <summary>Whether a name of the cluster's was answered with addresses that are none of its Services' or pods'.</summary>
    public bool LeadsAstray(Lookup lookup) => Cluster is { } cluster
        && lookup.Names[^1].EndsWith($".svc.{cluster.ClusterDomain}", StringComparison.OrdinalIgnoreCase)
        && !lookup.Addresses.Any(a => IsService(a) || cluster.FindPodByAddress(a) is not null || cluster.Services.Any(s => s.Spec.ExternalName is not null));

    /// <summary>The resolver configuration of the client in a namespace as it was within the last seconds; null when it cannot be read.</summary>
    public ResolverConfiguration? ResolverOf(uint netNs)
    {
        var now = Environment.TickCount64;
        if (_resolvers.TryGetValue(netNs, out var known) && now - known.ReadAt < (long)Fresh.TotalMilliseconds)
        {
            return known.Resolver;
        }

        var path = PlaceOf(netNs) is { } place ? Path.Combine(place.EtcPath, "resolv.conf") : null;
        var resolver = path is not null && ClientFile.TryRead(path, out _) is { } text ? ResolvConf.Parse(text, path, ResolverFlavor.Glibc) : null;
        _resolvers[netNs] = (now, resolver);
        return resolver;
    }

    /// <summary>The search list of the client in a namespace; empty when it cannot be read.</summary>
    public IReadOnlyList<string> SearchOf(uint netNs) => ResolverOf(netNs) is { } resolver ? resolver.Search : ImmutableArray<string>.Empty;
}
