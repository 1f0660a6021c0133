using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text.Json.Serialization;
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

    /// <summary>Services.</summary>
    public ImmutableArray<Service> Services { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>EndpointSlices.</summary>
    public ImmutableArray<EndpointSlice> EndpointSlices { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Pods.</summary>
    public ImmutableArray<Pod> Pods { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Nodes.</summary>
    public ImmutableArray<Node> Nodes { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Kinds that could not be read, each with the reason.</summary>
    public ImmutableArray<Unread> Unread { get; init => field = value.IsDefault ? [] : value; } = [];

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

    /// <summary>The cluster's DNS Service: kube-system/kube-dns by name, else the one labelled <c>k8s-app=kube-dns</c>; null when there is none.</summary>
    [JsonIgnore]
    public Service? ClusterDns => FindService("kube-system", "kube-dns")
        ?? Services.FirstOrDefault(s => s.Metadata.Labels.GetValueOrDefault("k8s-app") == "kube-dns");

    /// <summary>Whether both hold the same lists of objects; the objects themselves are not compared.</summary>
    /// <param name="other">The other snapshot.</param>
    public bool Equals(ClusterSnapshot? other) => other is not null && ClusterDomain == other.ClusterDomain && Services == other.Services
        && EndpointSlices == other.EndpointSlices && Pods == other.Pods && Nodes == other.Nodes && Unread == other.Unread;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ClusterDomain, Services, EndpointSlices, Pods, Nodes, Unread);

    // A copy that was made with other objects still holds the index of the original: it is asked what it was made of.
    private ObjectIndex Index
    {
        get
        {
            if (field is not { } index || !index.IsOf(this))
            {
                field = index = new ObjectIndex(this);
            }

            return index;
        }
    }

    /// <summary>
    /// The objects by what they are looked up by: one dictionary per question, each made when it is first asked. Of several objects that
    /// answer, the first counts. Asked by several threads at once, each may make its own, and one of them stays.
    /// </summary>
    private sealed class ObjectIndex(ClusterSnapshot of)
    {
        private readonly ImmutableArray<Service> _services = of.Services;
        private readonly ImmutableArray<EndpointSlice> _slices = of.EndpointSlices;
        private readonly ImmutableArray<Pod> _pods = of.Pods;
        private readonly ImmutableArray<Node> _nodes = of.Nodes;

        public Dictionary<(string Namespace, string Name), Service> Services
            => field ??= First(_services, s => (s.Metadata.Namespace ?? "default", s.Metadata.Name));

        public Dictionary<(string Namespace, string Name), Pod> Pods => field ??= First(_pods, p => (p.Metadata.Namespace ?? "default", p.Metadata.Name));

        public Dictionary<string, Node> Nodes => field ??= First(_nodes, n => n.Metadata.Name);

        public Dictionary<IpAddress, Service> ServicesByAddress => field ??= ByAddress(_services, s => s.Spec.ClusterIPs.Append(s.Spec.ClusterIP)
            .Concat(s.Spec.ExternalIPs).Concat(s.Status.LoadBalancer.Ingress.Select(i => i.Ip)));

        public Dictionary<IpAddress, Pod> PodsByAddress => field ??= ByAddress(_pods.Where(p => !p.Spec.HostNetwork && p.Status.Phase is not ("Succeeded" or "Failed")),
            p => p.Status.PodIPs.Select(i => (string?)i.Ip).Append(p.Status.PodIP));

        public Dictionary<(string? Namespace, string Service), List<EndpointSlice>> Slices
            => field ??= Groups(_slices.Where(s => s.ServiceName is not null), s => (s.Metadata.Namespace, s.ServiceName!));

        public Dictionary<string, List<Pod>> PodsByNamespace => field ??= Groups(_pods, p => p.Metadata.Namespace ?? "");

        public bool IsOf(ClusterSnapshot snapshot)
            => _services == snapshot.Services && _slices == snapshot.EndpointSlices && _pods == snapshot.Pods && _nodes == snapshot.Nodes;

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
