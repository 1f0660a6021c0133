using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>The resolv.conf and hosts files that a kubelet gives its pods (kubernetes, pkg/kubelet/network/dns/dns.go).</summary>
internal static class ResolvConf
{
    /// <summary>The node's own: the resolver that the provider offers, which knows nothing of the cluster.</summary>
    internal const string OfNode = $"nameserver {LabLayout.OutsideIPv4}\n";

    /// <summary>A pod's, by its DNS policy.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="node">The content of its node's resolv.conf, which the policy <c>Default</c> hands on.</param>
    internal static string Of(Pod pod, string node)
    {
        if (pod.Spec.DnsPolicy == "Default" || (pod.Spec is { DnsPolicy: "ClusterFirst", HostNetwork: true }))
        {
            return node;
        }

        var clusterFirst = pod.Spec.DnsPolicy != "None";
        var extra = pod.Spec.DnsConfig;
        var nameservers = (clusterFirst ? (string[])[LabLayout.DnsIPv4] : []).Concat(extra?.Nameservers ?? []);
        var searches = (clusterFirst
            ? (string[])[$"{pod.Metadata.Namespace}.svc.{LabLayout.ClusterDomain}", $"svc.{LabLayout.ClusterDomain}", LabLayout.ClusterDomain]
            : []).Concat(extra?.Searches ?? []).ToArray();
        var options = (extra?.Options ?? []).ToDictionary(o => o.Name, o => o.Value);
        if (clusterFirst)
        {
            options.TryAdd("ndots", "5");
        }

        var text = new StringBuilder();
        if (searches.Length > 0)
        {
            text.Append("search ").AppendJoin(' ', searches).Append('\n');
        }

        foreach (var nameserver in nameservers)
        {
            text.Append("nameserver ").Append(nameserver).Append('\n');
        }

        if (options.Count > 0)
        {
            text.Append("options ").AppendJoin(' ', options.Select(o => o.Value is null ? o.Key : $"{o.Key}:{o.Value}")).Append('\n');
        }

        return text.ToString();
    }

    /// <summary>A pod's hosts file.</summary>
    internal static string HostsOf(Pod pod)
        => $"""
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            {string.Join('\n', pod.Status.PodIPs.Select(i => $"{i.Ip}\t{pod.Metadata.Name}"))}

            """ + (pod.Spec.HostAliases.IsEmpty ? "" : "\n# Entries added by HostAliases.\n" + string.Concat(pod.Spec.HostAliases.Select(a => $"{a.Ip}\t{string.Join('\t', a.Hostnames)}\n")));

    /// <summary>A node's hosts file.</summary>
    internal static string HostsOf(NodePlan node)
        => $"""
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            {node.IPv4}	{node.Name}
            {node.IPv6}	{node.Name}

            """;
}
