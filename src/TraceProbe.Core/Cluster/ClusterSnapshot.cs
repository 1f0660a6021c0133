using System.Collections.Immutable;
using System.Text.Json.Serialization;

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
    public Service? FindService(string ns, string name)
        => Services.FirstOrDefault(s => s.Metadata.Name == name && (s.Metadata.Namespace ?? "default") == ns);

    /// <summary>The Service that holds this address as a cluster, external or load balancer address, or null.</summary>
    public Service? FindServiceByAddress(Net.IpAddress address)
    {
        var text = address.ToString();
        return Services.FirstOrDefault(s => s.Spec.ClusterIP == text || s.Spec.ClusterIPs.Contains(text) || s.Spec.ExternalIPs.Contains(text)
            || s.Status.LoadBalancer.Ingress.Any(i => i.Ip == text));
    }

    /// <summary>The Pod of that name, or null.</summary>
    public Pod? FindPod(string ns, string name)
        => Pods.FirstOrDefault(p => p.Metadata.Name == name && (p.Metadata.Namespace ?? "default") == ns);

    /// <summary>The running Pod that holds this address itself (host-network pods share their node's and are left out), or null.</summary>
    public Pod? FindPodByAddress(Net.IpAddress address)
    {
        var text = address.ToString();
        return Pods.FirstOrDefault(p => !p.Spec.HostNetwork && p.Status.Phase is not ("Succeeded" or "Failed")
            && (p.Status.PodIP == text || p.Status.PodIPs.Any(i => i.Ip == text)));
    }

    /// <summary>The EndpointSlices of a Service.</summary>
    public IEnumerable<EndpointSlice> SlicesOf(Service service)
        => EndpointSlices.Where(s => s.ServiceName == service.Metadata.Name && s.Metadata.Namespace == service.Metadata.Namespace);

    /// <summary>The Pods in the Service's namespace that carry all labels of its selector; none when it has no selector.</summary>
    public IEnumerable<Pod> PodsSelectedBy(Service service)
        => service.Spec.Selector.IsEmpty ? [] : Pods.Where(p => p.Metadata.Namespace == service.Metadata.Namespace
            && service.Spec.Selector.All(want => p.Metadata.Labels.GetValueOrDefault(want.Key) == want.Value));

    /// <summary>The cluster's DNS Service: kube-system/kube-dns by name, else the one labelled <c>k8s-app=kube-dns</c>; null when there is none.</summary>
    [JsonIgnore]
    public Service? ClusterDns => FindService("kube-system", "kube-dns")
        ?? Services.FirstOrDefault(s => s.Metadata.Labels.GetValueOrDefault("k8s-app") == "kube-dns");
}

/// <summary>Something that could not be read, and why.</summary>
/// <param name="What">What it is, such as <c>endpointslices</c> or <c>iptables-legacy rules of node-1</c>.</param>
/// <param name="Why">A sentence with the reason.</param>
public sealed record Unread(string What, string Why);
