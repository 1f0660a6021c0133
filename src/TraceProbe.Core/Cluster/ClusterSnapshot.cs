using System.Collections.Immutable;
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

    /// <summary>Whether nothing was read of a kind that should be: what is not followed any more is there, if old.</summary>
    /// <param name="what">The kind as kubectl names several of it: <c>endpointslices</c>.</param>
    public bool IsLacking(string what) => Unread.Any(u => u.What == what && !u.IsStale);

    /// <summary>The Service of that name, or null.</summary>
    public Service? FindService(string ns, string name) => Index.Services.Find((ns, name));

    /// <summary>The Service that holds this address as a cluster, external or load balancer address, or null.</summary>
    public Service? FindServiceByAddress(IpAddress address) => Index.ServicesByAddress.Find(address);

    /// <summary>The Service port that takes this port of one of its Service's addresses (<see cref="FindServiceByAddress"/>), or null.</summary>
    /// <param name="at">The address and port.</param>
    /// <param name="protocol">The protocol.</param>
    public ServicePort? FindServicePort(AddressPort at, IpProtocol protocol)
        => FindServiceByAddress(at.Address) is { } service ? ServiceMeaning.FindPort(service, at.Port, protocol) : null;

    /// <summary>The Pod of that name, or null.</summary>
    public Pod? FindPod(string ns, string name) => Index.Pods.Find((ns, name));

    /// <summary>The running Pod that holds this address itself (host-network pods share their node's and are left out), or null.</summary>
    public Pod? FindPodByAddress(IpAddress address)
    {
        Pod? ending = null;
        foreach (var pod in Index.PodsByAddress.All(address))
        {
            // A network plugin may give an address away while the pod that had it is still being deleted.
            if (pod.Metadata.DeletionTimestamp is null)
            {
                return pod;
            }

            ending ??= pod;
        }

        return ending;
    }

    /// <summary>The Node of that name, or null.</summary>
    public Node? FindNode(string name) => Index.Nodes.Find(name);

    /// <summary>The Namespace of that name, or null.</summary>
    public Namespace? FindNamespace(string name) => Index.Namespaces.Find(name);

    /// <summary>The NetworkPolicies of a namespace.</summary>
    public IEnumerable<NetworkPolicy> PoliciesIn(string ns) => Index.Policies.All(ns);

    /// <summary>What was last warned of a Pod, the newest first.</summary>
    public IEnumerable<PodEvent> EventsOf(Pod pod)
    {
        ArgumentNullException.ThrowIfNull(pod);
        return Index.Events.All((pod.Metadata.Namespace ?? "default", pod.Metadata.Name))
            // A pod made anew under its old name (of a StatefulSet) inherits no warnings.
            .Where(e => e.InvolvedObject.Uid is null || pod.Metadata.Uid is null || e.InvolvedObject.Uid == pod.Metadata.Uid || e.InvolvedObject.Uid == pod.Metadata.StaticPodUid)
            .OrderByDescending(e => e.Last);
    }

    /// <summary>The EndpointSlices of a Service.</summary>
    public IEnumerable<EndpointSlice> SlicesOf(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return Index.Slices.All((service.Metadata.Namespace, service.Metadata.Name));
    }

    /// <summary>The Pods in the Service's namespace that carry all labels of its selector; none when it has no selector.</summary>
    public IEnumerable<Pod> PodsSelectedBy(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return service.Spec.Selector.IsEmpty ? [] : Index.PodsByNamespace.All(service.Metadata.Namespace ?? "")
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

    // A copy that was made with other objects still holds the indexes of the original: each is asked what it was made of.
    private Indexes Index
    {
        get
        {
            if (field is not { } index || !index.AreOf(this))
            {
                field = index = new Indexes(this, field);
            }

            return index;
        }
    }

    /// <summary>The objects by what they are looked up by, each index made when it is first asked.</summary>
    private sealed class Indexes
    {
        private readonly ClusterSnapshot _of;
        private readonly Lazy<Service?> _clusterDns;

        /// <summary>The indexes of a snapshot.</summary>
        /// <param name="of">The snapshot.</param>
        /// <param name="last">Those of the snapshot it was made from, or null: what is still right is taken over.</param>
        public Indexes(ClusterSnapshot of, Indexes? last)
        {
            // Holds the objects and not the snapshot, which may hold older indexes.
            _of = new ClusterSnapshot { Services = of.Services, EndpointSlices = of.EndpointSlices, Pods = of.Pods, Nodes = of.Nodes, Namespaces = of.Namespaces, NetworkPolicies = of.NetworkPolicies, Events = of.Events };
            Services = new(of.Services, static s => [(s.Metadata.Namespace ?? "default", s.Metadata.Name)], last?.Services);
            ServicesByAddress = new(of.Services, static s => Addresses([s.Spec.ClusterIP, .. s.Spec.ClusterIPs, .. s.Spec.ExternalIPs, .. s.Status.LoadBalancer.Ingress.Select(i => i.Ip)]), last?.ServicesByAddress);
            _clusterDns = last is not null && last._of.Services == of.Services ? last._clusterDns : new(() => DnsMeaning.FindService(_of.Services), LazyThreadSafetyMode.PublicationOnly);
            Slices = new(of.EndpointSlices, static s => s.ServiceName is { } service ? [(s.Metadata.Namespace, service)] : [], last?.Slices);
            Pods = new(of.Pods, static p => [(p.Metadata.Namespace ?? "default", p.Metadata.Name)], last?.Pods);
            PodsByAddress = new(of.Pods, static p => p.Spec.HostNetwork || p.Status.Phase is "Succeeded" or "Failed" ? [] : Addresses([p.Status.PodIP, .. p.Status.PodIPs.Select(i => i.Ip)]), last?.PodsByAddress);
            PodsByNamespace = new(of.Pods, static p => [p.Metadata.Namespace ?? ""], last?.PodsByNamespace);
            Nodes = new(of.Nodes, static n => [n.Metadata.Name], last?.Nodes);
            Namespaces = new(of.Namespaces, static n => [n.Metadata.Name], last?.Namespaces);
            Policies = new(of.NetworkPolicies, static p => [p.Metadata.Namespace ?? "default"], last?.Policies);
            Events = new(of.Events, static e => [(e.InvolvedObject.Namespace ?? e.Metadata.Namespace ?? "default", e.InvolvedObject.Name)], last?.Events);
        }

        public ObjectIndex<(string Namespace, string Name), Service> Services { get; }

        public ObjectIndex<IpAddress, Service> ServicesByAddress { get; }

        public Service? ClusterDns => _clusterDns.Value;

        public ObjectIndex<(string? Namespace, string Service), EndpointSlice> Slices { get; }

        public ObjectIndex<(string Namespace, string Name), Pod> Pods { get; }

        public ObjectIndex<IpAddress, Pod> PodsByAddress { get; }

        public ObjectIndex<string, Pod> PodsByNamespace { get; }

        public ObjectIndex<string, Node> Nodes { get; }

        public ObjectIndex<string, Namespace> Namespaces { get; }

        public ObjectIndex<string, NetworkPolicy> Policies { get; }

        public ObjectIndex<(string Namespace, string Pod), PodEvent> Events { get; }

        public bool AreOf(ClusterSnapshot snapshot)
            => _of.Services == snapshot.Services && _of.EndpointSlices == snapshot.EndpointSlices && _of.Pods == snapshot.Pods && _of.Nodes == snapshot.Nodes
                && _of.Namespaces == snapshot.Namespaces && _of.NetworkPolicies == snapshot.NetworkPolicies && _of.Events == snapshot.Events;

        private static ImmutableArray<IpAddress> Addresses(ReadOnlySpan<string?> texts)
        {
            var found = ImmutableArray.CreateBuilder<IpAddress>(texts.Length);
            foreach (var text in texts)
            {
                if (IpAddress.TryParse(text, null, out var address) && !found.Contains(address))
                {
                    found.Add(address);
                }
            }

            return found.DrainToImmutable();
        }
    }
}

/// <summary>Something that could not be read, and why.</summary>
/// <param name="What">What it is, such as <c>endpointslices</c> or <c>iptables-legacy rules of node-1</c>.</param>
/// <param name="Why">A sentence with the reason.</param>
public sealed record Unread(string What, string Why)
{
    /// <summary>Whether it was read once, and is held as it was then.</summary>
    public bool IsStale { get; init; }
}
