using System.Collections.Immutable;
using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// How the cluster's DNS, its kubelets and kube-proxy are configured, as far as ConfigMaps of its own say so
/// (<see cref="ConfigMap.IsUsed"/>). Nothing needs them; where they are given, verdicts say more.
/// </summary>
public sealed record ClusterSettings
{
    /// <summary>The DNS domain that CoreDNS answers from the API; null when not told.</summary>
    public string? DnsDomain { get; init; }

    /// <summary>The ConfigMap that tells <see cref="DnsDomain"/>.</summary>
    public string? DnsDomainFrom { get; init; }

    /// <summary>The addresses that NodeLocal DNSCache binds on each node; empty when not told.</summary>
    public ImmutableArray<IpAddress> DnsCaches { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What kubeadm tells all kubelets; null when not told.</summary>
    public KubeletSettings? Kubelet { get; init; }

    /// <summary>What kubeadm tells all kube-proxies; null when not told.</summary>
    public KubeProxySettings? KubeProxy { get; init; }

    /// <summary>The cluster's DNS domain and what tells it, the kubelets' word before CoreDNS's; null when neither tells.</summary>
    public (string Name, string From)? ClusterDomain => Kubelet is { ClusterDomain: { } told } ? (told, Kubelet.From) : DnsDomain is { } domain ? (domain, DnsDomainFrom!) : null;

    /// <summary>Reads the settings from ConfigMaps.</summary>
    /// <param name="maps">The ConfigMaps, of whatever names.</param>
    /// <param name="unread">Given those that hold something else than they should, with the reason.</param>
    public static ClusterSettings Of(IEnumerable<ConfigMap> maps, ICollection<Unread> unread)
    {
        ArgumentNullException.ThrowIfNull(maps);
        ArgumentNullException.ThrowIfNull(unread);
        var settings = new ClusterSettings();
        // A kubelet-config with a version behind it is older than one without.
        foreach (var map in maps.Where(m => ConfigMap.IsUsed(m.Metadata.Namespace, m.Metadata.Name)).OrderByDescending(m => m.Metadata.Name.Length).ThenBy(m => m.Metadata.Name, StringComparer.Ordinal))
        {
            var from = $"configmap/{map.Metadata.Namespace}/{map.Metadata.Name}";
            try
            {
                settings = settings.With(map, from);
            }
            catch (FormatException e)
            {
                unread.Add(new Unread(from, e.Message));
            }
        }

        return settings;
    }

    private ClusterSettings With(ConfigMap map, string from) => map.Metadata.Name switch
    {
        "coredns" or "dns-default" => Domain(Text(map, "Corefile")) is { } domain ? this with { DnsDomain = domain, DnsDomainFrom = from } : this,
        "node-local-dns" => this with { DnsCaches = Bound(Text(map, "Corefile")) },
        "kube-proxy" => this with { KubeProxy = KubeProxySettings.Of(from, [], Encoding.UTF8.GetBytes(Text(map, "config.conf"))) },
        _ => this with { Kubelet = KubeletSettings.Of(from, [], Encoding.UTF8.GetBytes(Text(map, "kubelet"))) },
    };

    private static string Text(ConfigMap map, string key) => map.Data.GetValueOrDefault(key) ?? throw new FormatException($"it holds no {key}");

    private static string? Domain(string corefile)
    {
        foreach (var server in Corefile.Parse(corefile))
        {
            foreach (var plugin in server.Plugins.Where(p => p.Name == "kubernetes"))
            {
                // Without zones of its own the plugin has those of its server block.
                foreach (var zone in plugin.Arguments.IsEmpty ? server.Names.Select(ZoneOf) : plugin.Arguments.Select(a => a.TrimEnd('.')))
                {
                    if (zone.Length > 0 && !zone.EndsWith(".arpa", StringComparison.Ordinal) && !zone.Contains('/', StringComparison.Ordinal))
                    {
                        return zone.ToLowerInvariant();
                    }
                }
            }
        }

        return null;
    }

    // "cluster.local:53", "dns://cluster.local:53", "."
    private static string ZoneOf(string name)
    {
        var scheme = name.IndexOf("://", StringComparison.Ordinal);
        var text = scheme < 0 ? name : name[(scheme + 3)..];
        var colon = text.LastIndexOf(':');
        return (colon < 0 ? text : text[..colon]).TrimEnd('.');
    }

    private static ImmutableArray<IpAddress> Bound(string corefile) => [.. Corefile.Parse(corefile).SelectMany(s => s.Plugins).Where(p => p.Name == "bind")
        .SelectMany(p => p.Arguments).Select(a => IpAddress.TryParse(a, null, out var address) ? address : default).Where(a => !a.IsUnspecified).Distinct()];
}
