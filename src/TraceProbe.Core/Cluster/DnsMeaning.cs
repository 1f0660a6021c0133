using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Cluster;

/// <summary>What the cluster's DNS is, and what a pod's resolv.conf should say of it. Answers follow from the objects and settings given alone.</summary>
public static class DnsMeaning
{
    // Where caches on the nodes listen: Kubernetes' own add-on, Kubespray's, and AKS's LocalDNS (for the node and for pods).
    private static readonly ImmutableArray<IpAddress> UsualCaches = [.. new[] { "169.254.20.10", "169.254.25.10", "169.254.10.10", "169.254.10.11" }.Select(a => IpAddress.Parse(a))];

    /// <summary>
    /// The cluster's DNS Service: <c>kube-system/kube-dns</c>, which every distribution but OpenShift keeps for compatibility, or
    /// <c>openshift-dns/dns-default</c>; else one of kube-system that serves port 53 and is labelled as such (<c>k8s-app</c> kube-dns or coredns,
    /// as RKE2's <c>rke2-coredns-rke2-coredns</c>, or <c>app.kubernetes.io/name</c> coredns, as the Helm chart has it). Null when there is none.
    /// </summary>
    /// <param name="services">All Services.</param>
    public static Service? FindService(ImmutableArray<Service> services)
    {
        Service? best = null;
        var bestRank = int.MaxValue;
        foreach (var service in services)
        {
            var rank = Rank(service);
            if (rank < bestRank || rank == bestRank && best is not null && string.CompareOrdinal(service.Metadata.Name, best.Metadata.Name) < 0)
            {
                (best, bestRank) = (service, rank);
            }
        }

        return bestRank == int.MaxValue ? null : best;
    }

    private static int Rank(Service service)
    {
        var meta = service.Metadata;
        if (meta is { Namespace: "kube-system", Name: "kube-dns" })
        {
            return 0;
        }

        if (meta is { Namespace: "openshift-dns", Name: "dns-default" })
        {
            return 1;
        }

        // kube-dns-upstream is how NodeLocal DNSCache reaches the same pods; nobody else asks there.
        if (meta.Name.EndsWith("-upstream", StringComparison.Ordinal) || service.Spec.IsHeadless || service.Spec.Type == "ExternalName" || !service.Spec.Ports.Any(p => p.Port == 53))
        {
            return int.MaxValue;
        }

        var labels = meta.Labels;
        return labels.GetValueOrDefault("k8s-app") == "kube-dns" ? 2
            : meta.Namespace != "kube-system" ? int.MaxValue
            : labels.GetValueOrDefault("k8s-app") == "coredns" || labels.GetValueOrDefault("app.kubernetes.io/name") == "coredns" ? 3
            : meta.Name == "coredns" ? 4 : int.MaxValue;
    }

    /// <summary>
    /// The cluster's DNS domain, as the search list says that the kubelet writes for pods with dnsPolicy ClusterFirst:
    /// <c>NAMESPACE.svc.DOMAIN svc.DOMAIN DOMAIN</c>, in this order.
    /// </summary>
    /// <param name="ns">The pod's namespace.</param>
    /// <param name="search">Its search list.</param>
    /// <returns>The domain; null when the list does not begin so.</returns>
    public static string? DomainOf(string ns, ImmutableArray<string> search)
    {
        var beginning = $"{ns}.svc.";
        return search is [var first, var second, var third, ..] && first.Length > beginning.Length && first.StartsWith(beginning, StringComparison.OrdinalIgnoreCase)
            && first[beginning.Length..] is var domain && second.Equals($"svc.{domain}", StringComparison.OrdinalIgnoreCase) && third.Equals(domain, StringComparison.OrdinalIgnoreCase)
            ? domain.ToLowerInvariant() : null;
    }

    /// <summary>
    /// Whether a nameserver may be a cache that the nodes have of the cluster's DNS (NodeLocal DNSCache): one that its Corefile binds, or
    /// an address where such caches usually listen. Other link-local nameservers are the provider's, such as 169.254.169.253.
    /// </summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="address">The nameserver.</param>
    public static bool IsCache(ClusterSnapshot snapshot, IpAddress address)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        return snapshot.Settings.DnsCaches.Contains(address) || UsualCaches.Contains(address);
    }

    /// <summary>
    /// The resolv.conf that the kubelet gives a pod (pkg/kubelet/network/dns/dns.go): for ClusterFirst the cluster's DNS, the
    /// namespace's search list with the node's behind it, and ndots 5; for Default, and for ClusterFirst in the node's network, the
    /// node's own; for None nothing; then what dnsConfig adds.
    /// </summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="pod">The pod.</param>
    /// <param name="kubelet">What the pod's kubelet is told; null when not known, and then what the cluster's settings say of all of them, or the DNS Service's address.</param>
    /// <param name="node">The resolv.conf that the kubelet has pods inherit from; null when not known.</param>
    /// <returns>What it should be; null when nothing can be said: it is the node's, which is not known, or there is no DNS Service.</returns>
    public static ExpectedResolver? ExpectedResolver(ClusterSnapshot snapshot, Pod pod, KubeletSettings? kubelet = null, ResolverConfiguration? node = null)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(pod);
        var policy = pod.Spec.DnsPolicy;
        if (policy == "ClusterFirst" && pod.Spec.HostNetwork)
        {
            policy = "Default"; // a trap of its own: host-network pods need ClusterFirstWithHostNet
        }

        kubelet ??= snapshot.Settings.Kubelet;
        if (policy != "None" && kubelet is { ClusterDns.IsEmpty: true })
        {
            policy = "Default"; // what such a kubelet falls back to, with a warning
        }

        ImmutableArray<IpAddress> servers;
        ImmutableArray<string> search;
        var ndots = 1;
        var isSearchKnown = true;
        string from;
        switch (policy)
        {
            case "None":
                (servers, search, from) = ([], [], "its dnsConfig");
                break;
            case "Default":
                if (node is null)
                {
                    return null;
                }

                (servers, search, ndots, from) = (node.Nameservers, node.Search, node.Ndots, "its node's resolv.conf");
                break;
            default:
                if (kubelet is not null)
                {
                    servers = [.. kubelet.ClusterDns.Select(a => IpAddress.TryParse(a, null, out var address) ? address : default).Where(a => !a.IsUnspecified)];
                    from = kubelet.From;
                }
                else if (snapshot.ClusterDns is { } dns && ServiceMeaning.ClusterAddresses(dns) is [var first, ..])
                {
                    // A dual-stack DNS Service has two addresses, but the kubelet is mostly configured with the first.
                    servers = [first];
                    from = dns.Ref.ToString();
                }
                else
                {
                    return null;
                }

                var domain = kubelet is null ? snapshot.ClusterDomain : kubelet.ClusterDomain;
                search = [.. (domain is null ? [] : new[] { $"{pod.Metadata.Namespace ?? "default"}.svc.{domain}", $"svc.{domain}", domain }).Concat(node?.Search.Where(d => d != ".") ?? []).Distinct()];
                isSearchKnown = node is not null;
                ndots = 5;
                break;
        }

        if (pod.Spec.DnsConfig is { } config)
        {
            servers = [.. servers.Concat(config.Nameservers.Select(n => IpAddress.TryParse(n, null, out var a) ? a : default).Where(a => !a.IsUnspecified)).Distinct()];
            search = [.. search.Concat(config.Searches.Select(s => s.Length > 1 ? s.TrimEnd('.') : s)).Distinct()];
            ndots = int.TryParse(config.Options.LastOrDefault(o => o.Name == "ndots")?.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? Math.Min(number, 15) : ndots;
        }

        return new ExpectedResolver(
            new ResolverConfiguration { Nameservers = [.. servers.Take(ResolvConf.MaxNameservers)], Search = [.. search.Take(ResolvConf.MaxSearchDomains)], Ndots = ndots }, from, isSearchKnown);
    }
}

/// <summary>The resolv.conf that a pod should have.</summary>
/// <param name="Configuration">Its nameservers, search domains and ndots; the rest is not told.</param>
/// <param name="From">Where the nameservers come from: <c>service/kube-system/kube-dns</c>, a kubelet's settings, <c>its node's resolv.conf</c>, <c>its dnsConfig</c>.</param>
/// <param name="IsSearchKnown">Whether the search list is known to its end; otherwise the node may add to it.</param>
public sealed record ExpectedResolver(ResolverConfiguration Configuration, string From, bool IsSearchKnown)
{
    /// <summary>In what a pod's resolv.conf differs, each half a sentence; empty when it is as it should be.</summary>
    /// <param name="actual">The pod's.</param>
    public ImmutableArray<string> Differences(ResolverConfiguration actual)
    {
        ArgumentNullException.ThrowIfNull(actual);
        var found = ImmutableArray.CreateBuilder<string>();
        if (!actual.Nameservers.SequenceEqual(Configuration.Nameservers))
        {
            found.Add($"nameserver {Words(actual.Nameservers)} in the place of {Words(Configuration.Nameservers)}");
        }

        var missing = Configuration.Search.Where(s => !actual.Search.Contains(s, StringComparer.OrdinalIgnoreCase)).ToList();
        if (missing.Count > 0)
        {
            found.Add($"no search domain {string.Join(", ", missing)}");
        }
        else if (!Configuration.Search.SequenceEqual(actual.Search.Where(s => Configuration.Search.Contains(s, StringComparer.OrdinalIgnoreCase)), StringComparer.OrdinalIgnoreCase))
        {
            found.Add($"search {string.Join(' ', actual.Search)} in the place of {string.Join(' ', Configuration.Search)}");
        }

        var added = actual.Search.Where(s => !Configuration.Search.Contains(s, StringComparer.OrdinalIgnoreCase)).ToList();
        if (IsSearchKnown && added.Count > 0)
        {
            found.Add($"the further search domain{(added.Count == 1 ? "" : "s")} {string.Join(", ", added)}");
        }

        if (actual.Ndots != Configuration.Ndots)
        {
            found.Add(string.Create(CultureInfo.InvariantCulture, $"ndots:{actual.Ndots} in the place of ndots:{Configuration.Ndots}"));
        }

        return found.ToImmutable();
    }

    private static string Words(ImmutableArray<IpAddress> addresses) => addresses.IsEmpty ? "none" : string.Join(", ", addresses);
}
