using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// A core/v1 ConfigMap, and of all that there are only those that say how the cluster's DNS, its kubelets and kube-proxy are
/// configured (<see cref="IsUsed"/>): others are nobody's business. What is YAML in the cluster is to be given as the JSON that means the same.
/// </summary>
public sealed record ConfigMap
{
    /// <summary>Name and namespace.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>The files in it, by name.</summary>
    public ImmutableSortedDictionary<string, string> Data { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary>Whether a ConfigMap of that name is kept: CoreDNS's and NodeLocal DNSCache's Corefile, kubeadm's kube-proxy and kubelet-config (with a version behind it before 1.24).</summary>
    public static bool IsUsed(string? ns, string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return ns switch
        {
            "kube-system" => name is "coredns" or "node-local-dns" or "kube-proxy" or "kubelet-config" || name.StartsWith("kubelet-config-1.", StringComparison.Ordinal),
            "openshift-dns" => name is "dns-default",
            _ => false,
        };
    }

    /// <summary>The same with JSON in the place of the YAML that is in it. A Corefile is no YAML; what the kubelet and kube-proxy are configured with is.</summary>
    /// <param name="yamlToJson">Turns YAML into JSON that means the same, given what error messages are to call it.</param>
    /// <exception cref="FormatException">It is no YAML.</exception>
    public ConfigMap WithJson(Func<string, string, string> yamlToJson)
    {
        ArgumentNullException.ThrowIfNull(yamlToJson);
        var data = Data;
        foreach (var (name, text) in Data)
        {
            if (name is "kubelet" or "config.conf")
            {
                data = data.SetItem(name, yamlToJson(name, text));
            }
        }

        return this with { Data = data };
    }
}
