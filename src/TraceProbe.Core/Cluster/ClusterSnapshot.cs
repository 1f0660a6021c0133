using System.Collections.Immutable;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// The desired account: what the cluster wants at one moment. Immutable and replaced whole. Kinds that could not be read are
/// named in <see cref="Unread"/>, so that an absent object and an unread one are never confused.
/// </summary>
public sealed record ClusterSnapshot
{
    /// <summary>A snapshot with nothing in it.</summary>
    public static ClusterSnapshot Empty { get; } = new();

    /// <summary>The cluster's DNS domain.</summary>
    public string ClusterDomain { get; init => field = value ?? "cluster.local"; } = "cluster.local";

    /// <summary>Where the domain stands, such as <c>configmap/kube-system/coredns</c>; null when it is only what clusters have that nobody told otherwise.</summary>
    public string? ClusterDomainFrom { get; init; }

    /// <summary>Services.</summary>
    public ImmutableArray<Service> Services { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>EndpointSlices.</summary>
    public ImmutableArray<EndpointSlice> EndpointSlices { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Pods.</summary>
    public ImmutableArray<Pod> Pods { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Nodes.</summary>
    public ImmutableArray<Node> Nodes { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Namespaces; empty also where they were not asked for, see <see cref="IsRead"/>.</summary>
    public ImmutableArray<Namespace> Namespaces { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>NetworkPolicies; empty also where they were not asked for, see <see cref="IsRead"/>.</summary>
    public ImmutableArray<NetworkPolicy> NetworkPolicies { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Warnings about Pods; empty also where they were not asked for.</summary>
    public ImmutableArray<PodEvent> Events { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What ConfigMaps say of the cluster's DNS, kubelets and kube-proxies; nothing where they were not asked for.</summary>
    public ClusterSettings Settings { get; init => field = value ?? new(); } = new();

    /// <summary>Kinds that could not be read, each with the reason.</summary>
    public ImmutableArray<Unread> Unread { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Which of the kinds were read that most verdicts do without: <c>namespaces</c>, <c>networkpolicies</c>, <c>events</c>.</summary>
    public ImmutableArray<string> AlsoRead { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether a kind was read, so that there is none where none is found.</summary>
    /// <param name="what">The kind as kubectl names several of it: <c>networkpolicies</c>.</param>
    public bool IsRead(string what) => (what is not ("namespaces" or "networkpolicies" or "events") || AlsoRead.Contains(what)) && !Unread.Any(u => u.What == what);

    /// <summary>The Service of that name, or null.</summary>
    public Service? FindService(string ns, string name) => Index.Services.GetValueOrDefault((ns, name));

    /// <summary>The Service that holds this address as a cluster, external or load balancer address, or null.</summary>
    public Service? FindServiceByAddress(IpAddress address) => Index.ServicesByAddress.GetValueOrDefault(address);

    /// <summary>The Service port that takes this port of one of its Service's addresses (<see cref="FindServiceByAddress"/>), or null.</summary>
    /// <param name="at">The address and port.</param>
    /// <param name="protocol">The protocol.</param>
    public ServicePort? FindServicePort(AddressPort at, IpProtocol protocol)
        => FindServiceByAddress(at.Address) is { } service ? ServiceMeaning.FindPort(service, at.Port, protocol) : null;

    /// <summary>The Pod of that name, or null.</summary>
    public Pod? FindPod(string ns, string name) => Index.Pods.GetValueOrDefault((ns, name));

    /// <summary>The running Pod that holds this address itself (host-network pods share their node's and are left out), or null.</summary>
    public Pod? FindPodByAddress(IpAddress address) => Index.PodsByAddress.GetValueOrDefault(address);

    /// <summary>The Node of that name, or null.</summary>
    public Node? FindNode(string name) => Index.Nodes.GetValueOrDefault(name);

    /// <summary>The Namespace of that name, or null.</summary>
    public Namespace? FindNamespace(string name) => Index.Namespaces.GetValueOrDefault(name);

    /// <summary>The NetworkPolicies of a namespace.</summary>
    public IEnumerable<NetworkPolicy> PoliciesIn(string ns) => Index.Policies.GetValueOrDefault(ns) ?? [];

    /// <summary>What was last warned of a Pod, the newest first.</summary>
    public IEnumerable<PodEvent> EventsOf(Pod pod)
    {
        ArgumentNullException.ThrowIfNull(pod);
        return (Index.Events.GetValueOrDefault((pod.Metadata.Namespace ?? "default", pod.Metadata.Name)) ?? [])
            // A pod made anew under its old name (of a StatefulSet) inherits no warnings.
            .Where(e => e.InvolvedObject.Uid is null || pod.Metadata.Uid is null || e.InvolvedObject.Uid == pod.Metadata.Uid || e.InvolvedObject.Uid == pod.Metadata.StaticPodUid)
            .OrderByDescending(e => e.Last);
    }

    /// <summary>The EndpointSlices of a Service.</summary>
    public IEnumerable<EndpointSlice> SlicesOf(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return Index.Slices.GetValueOrDefault((service.Metadata.Namespace, service.Metadata.Name)) ?? [];
    }

    /// <summary>The Pods in the Service's namespace that carry all labels of its selector; none when it has no selector.</summary>
    public IEnumerable<Pod> PodsSelectedBy(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return service.Spec.Selector.IsEmpty ? [] : (Index.PodsByNamespace.GetValueOrDefault(service.Metadata.Namespace ?? "") ?? [])
            .Where(p => service.Spec.Selector.All(want => p.Metadata.Labels.GetValueOrDefault(want.Key) == want.Value));
    }

    /// <summary>The cluster's DNS Service, see <see cref="DnsMeaning.FindService"/>; null when there is none.</summary>
    public Service? ClusterDns => Index.ClusterDns;

    /// <summary>Whether both hold the same lists of objects; the objects themselves are not compared.</summary>
    /// <param name="other">The other snapshot.</param>
    public bool Equals(ClusterSnapshot? other) => other is not null && ClusterDomain == other.ClusterDomain && ClusterDomainFrom == other.ClusterDomainFrom && Services == other.Services
        && EndpointSlices == other.EndpointSlices && Pods == other.Pods && Nodes == other.Nodes && Namespaces == other.Namespaces && NetworkPolicies == other.NetworkPolicies
        && Events == other.Events && Settings == other.Settings && Unread == other.Unread && AlsoRead == other.AlsoRead;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ClusterDomain, Services, EndpointSlices, Pods, Nodes, Unread);

    // A copy that was made with other objects still holds the index of the original: it is asked what it was made of.
    private ObjectIndex Index
    {
        get
        {
            if (field is not { } index || !index.IsOf(this))
            {
                field = index = new ObjectIndex(this, field);
            }

            return index;
        }
    }

    /// <summary>
    /// The objects by what they are looked up by: one dictionary per question, each made when it is first asked. Of several objects that
    /// answer, the first counts. Asked by several threads at once, each may make its own, and one of them stays.
    /// </summary>
    private sealed class ObjectIndex
    {
        private readonly ImmutableArray<Service> _services;
        private readonly ImmutableArray<EndpointSlice> _slices;
        private readonly ImmutableArray<Pod> _pods;
        private readonly ImmutableArray<Node> _nodes;
        private readonly ImmutableArray<Namespace> _namespaces;
        private readonly ImmutableArray<NetworkPolicy> _policies;
        private readonly ImmutableArray<PodEvent> _events;
        private readonly Lazy<Dictionary<(string Namespace, string Name), Service>> _servicesByName;
        private readonly Lazy<Dictionary<IpAddress, Service>> _servicesByAddress;
        private readonly Lazy<Service?> _clusterDns;
        private readonly Lazy<Dictionary<(string? Namespace, string Service), List<EndpointSlice>>> _slicesByService;
        private readonly Lazy<Dictionary<(string Namespace, string Name), Pod>> _podsByName;
        private readonly Lazy<Dictionary<IpAddress, Pod>> _podsByAddress;
        private readonly Lazy<Dictionary<string, List<Pod>>> _podsByNamespace;
        private readonly Lazy<Dictionary<string, Node>> _nodesByName;
        private readonly Lazy<Dictionary<string, Namespace>> _namespacesByName;
        private readonly Lazy<Dictionary<string, List<NetworkPolicy>>> _policiesByNamespace;
        private readonly Lazy<Dictionary<(string Namespace, string Pod), List<PodEvent>>> _eventsByPod;

        /// <summary>An index of a snapshot.</summary>
        /// <param name="of">The snapshot.</param>
        /// <param name="last">That of the snapshot it was made from, or null: what is about objects that are still the same is taken over.</param>
        public ObjectIndex(ClusterSnapshot of, ObjectIndex? last)
        {
            (_services, _slices, _pods, _nodes) = (of.Services, of.EndpointSlices, of.Pods, of.Nodes);
            (_namespaces, _policies, _events) = (of.Namespaces, of.NetworkPolicies, of.Events);
            var services = last is not null && last._services == _services ? last : null;
            _servicesByName = services?._servicesByName ?? Later(_services, all => First(all, s => (s.Metadata.Namespace ?? "default", s.Metadata.Name)));
            _servicesByAddress = services?._servicesByAddress ?? Later(_services, all => ByAddress(all, s => s.Spec.ClusterIPs.Append(s.Spec.ClusterIP)
                .Concat(s.Spec.ExternalIPs).Concat(s.Status.LoadBalancer.Ingress.Select(i => i.Ip))));
            _clusterDns = services?._clusterDns ?? Later(_services, all => DnsMeaning.FindService(all));
            _slicesByService = last is not null && last._slices == _slices ? last._slicesByService
                : Later(_slices, all => Groups(all.Where(s => s.ServiceName is not null), s => (s.Metadata.Namespace, s.ServiceName!)));
            var pods = last is not null && last._pods == _pods ? last : null;
            _podsByName = pods?._podsByName ?? Later(_pods, all => First(all, p => (p.Metadata.Namespace ?? "default", p.Metadata.Name)));
            _podsByAddress = pods?._podsByAddress ?? Later(_pods, all => ByAddress(all.Where(p => !p.Spec.HostNetwork && p.Status.Phase is not ("Succeeded" or "Failed")),
                p => p.Status.PodIPs.Select(i => (string?)i.Ip).Append(p.Status.PodIP)));
            _podsByNamespace = pods?._podsByNamespace ?? Later(_pods, all => Groups(all, p => p.Metadata.Namespace ?? ""));
            _nodesByName = last is not null && last._nodes == _nodes ? last._nodesByName : Later(_nodes, all => First(all, n => n.Metadata.Name));
            _namespacesByName = last is not null && last._namespaces == _namespaces ? last._namespacesByName : Later(_namespaces, all => First(all, n => n.Metadata.Name));
            _policiesByNamespace = last is not null && last._policies == _policies ? last._policiesByNamespace : Later(_policies, all => Groups(all, p => p.Metadata.Namespace ?? "default"));
            _eventsByPod = last is not null && last._events == _events ? last._eventsByPod
                : Later(_events, all => Groups(all, e => (e.InvolvedObject.Namespace ?? e.Metadata.Namespace ?? "default", e.InvolvedObject.Name)));
        }

        public Dictionary<(string Namespace, string Name), Service> Services => _servicesByName.Value;

        public Dictionary<IpAddress, Service> ServicesByAddress => _servicesByAddress.Value;

        public Service? ClusterDns => _clusterDns.Value;

        public Dictionary<(string? Namespace, string Service), List<EndpointSlice>> Slices => _slicesByService.Value;

        public Dictionary<(string Namespace, string Name), Pod> Pods => _podsByName.Value;

        public Dictionary<IpAddress, Pod> PodsByAddress => _podsByAddress.Value;

        public Dictionary<string, List<Pod>> PodsByNamespace => _podsByNamespace.Value;

        public Dictionary<string, Node> Nodes => _nodesByName.Value;

        public Dictionary<string, Namespace> Namespaces => _namespacesByName.Value;

        public Dictionary<string, List<NetworkPolicy>> Policies => _policiesByNamespace.Value;

        public Dictionary<(string Namespace, string Pod), List<PodEvent>> Events => _eventsByPod.Value;

        public bool IsOf(ClusterSnapshot snapshot)
            => _services == snapshot.Services && _slices == snapshot.EndpointSlices && _pods == snapshot.Pods && _nodes == snapshot.Nodes
                && _namespaces == snapshot.Namespaces && _policies == snapshot.NetworkPolicies && _events == snapshot.Events;

        // Holds the objects and not the snapshot, which may be long replaced.
        private static Lazy<TIndex> Later<T, TIndex>(ImmutableArray<T> objects, Func<ImmutableArray<T>, TIndex> make) => new(() => make(objects), LazyThreadSafetyMode.PublicationOnly);

        private static Dictionary<TKey, T> First<TKey, T>(ImmutableArray<T> objects, Func<T, TKey> key)
            where TKey : notnull
        {
            var found = new Dictionary<TKey, T>(objects.Length);
            foreach (var one in objects)
            {
                found.TryAdd(key(one), one);
            }

            return found;
        }

        private static Dictionary<IpAddress, T> ByAddress<T>(IEnumerable<T> objects, Func<T, IEnumerable<string?>> addresses)
        {
            var found = new Dictionary<IpAddress, T>();
            foreach (var one in objects)
            {
                foreach (var text in addresses(one))
                {
                    if (IpAddress.TryParse(text, null, out var address))
                    {
                        found.TryAdd(address, one);
                    }
                }
            }

            return found;
        }

        private static Dictionary<TKey, List<T>> Groups<TKey, T>(IEnumerable<T> objects, Func<T, TKey> key)
            where TKey : notnull
        {
            var found = new Dictionary<TKey, List<T>>();
            foreach (var one in objects)
            {
                (CollectionsMarshal.GetValueRefOrAddDefault(found, key(one), out _) ??= []).Add(one);
            }

            return found;
        }
    }
}

/// <summary>Something that could not be read, and why.</summary>
/// <param name="What">What it is, such as <c>endpointslices</c> or <c>iptables-legacy rules of node-1</c>.</param>
/// <param name="Why">A sentence with the reason.</param>
public sealed record Unread(string What, string Why);
