using System.Collections.Immutable;
using System.Text.Json;

namespace TraceProbe.Core.Node;

/// <summary>
/// What a kube-proxy is told: its flags, its configuration file, or what it says itself at <c>/configz</c>. With a configuration file its
/// flags count for little (kube-proxy's <c>--config</c> overrides them), so the file wins.
/// </summary>
public sealed record KubeProxySettings
{
    /// <summary>Where this was read: <c>kube-proxy (812) on node-1</c>, <c>configmap/kube-system/kube-proxy</c>.</summary>
    public string From { get; init => field = value ?? ""; } = "";

    /// <summary><c>iptables</c>, <c>ipvs</c>, <c>nftables</c> or <c>userspace</c>; null for its default, which is iptables on Linux.</summary>
    public string? Mode { get; init; }

    /// <summary>The pods' addresses, by which it tells them from others; empty when not set.</summary>
    public ImmutableArray<string> ClusterCidrs { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether it masquerades all packets for Services; null when not told.</summary>
    public bool? MasqueradeAll { get; init; }

    /// <summary>Where it serves node ports: prefixes, or <c>primary</c>; empty for everywhere.</summary>
    public ImmutableArray<string> NodePortAddresses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Where its health is to be asked, such as <c>0.0.0.0:10256</c>; null for that default.</summary>
    public string? HealthzBindAddress { get; init; }

    /// <summary>Where its metrics are to be asked, such as <c>127.0.0.1:10249</c>; null for that default.</summary>
    public string? MetricsBindAddress { get; init; }

    /// <summary>How it tells pods from others: <c>ClusterCIDR</c>, <c>NodeCIDR</c>, <c>BridgeInterface</c>, <c>InterfaceNamePrefix</c>; null for its default, ClusterCIDR.</summary>
    public string? DetectLocalMode { get; init; }

    /// <summary>The configuration file that its flags name; null when they name none.</summary>
    /// <param name="arguments">Its command line.</param>
    public static string? ConfigFile(IReadOnlyList<string> arguments) => KubeletSettings.Flag(arguments, "config");

    /// <summary>Puts flags and file together.</summary>
    /// <param name="from">Where they were read.</param>
    /// <param name="arguments">kube-proxy's command line; empty when not known.</param>
    /// <param name="json">Its configuration (kubeproxy.config.k8s.io KubeProxyConfiguration) as JSON, or the answer of <c>/configz</c>; empty when there is none.</param>
    /// <exception cref="FormatException">The configuration is not JSON, or no such configuration.</exception>
    public static KubeProxySettings Of(string from, IReadOnlyList<string> arguments, ReadOnlyMemory<byte> json)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        var settings = json.IsEmpty ? OfFlags(arguments) : SettingsJson.Read(json, "KubeProxyConfiguration", Of);
        return settings with { From = from };
    }

    private static KubeProxySettings OfFlags(IReadOnlyList<string> arguments) => new()
    {
        Mode = Normal(KubeletSettings.Flag(arguments, "proxy-mode")),
        ClusterCidrs = Split(KubeletSettings.Flag(arguments, "cluster-cidr")),
        MasqueradeAll = IsSet(arguments, "masquerade-all"),
        NodePortAddresses = Split(KubeletSettings.Flag(arguments, "nodeport-addresses")),
        DetectLocalMode = Normal(KubeletSettings.Flag(arguments, "detect-local-mode")),
        HealthzBindAddress = Normal(KubeletSettings.Flag(arguments, "healthz-bind-address")),
        MetricsBindAddress = Normal(KubeletSettings.Flag(arguments, "metrics-bind-address")),
    };

    // --name or --name=true; a value that stands by itself behind a switch is none of it.
    private static bool? IsSet(IReadOnlyList<string> arguments, string name)
    {
        bool? set = null;
        foreach (var argument in arguments)
        {
            var text = argument.StartsWith('-') ? argument.AsSpan().TrimStart('-') : default;
            set = text.SequenceEqual(name) ? true : text.StartsWith(name, StringComparison.Ordinal) && text[name.Length] == '=' ? text[(name.Length + 1)..] is "true" or "1" or "t" or "T" or "TRUE" or "True" : set;
        }

        return set;
    }

    // Versions move members about: 1.33 has Linux.MasqueradeAll and DetectLocal.ClusterCIDRs at /configz, its file iptables.masqueradeAll and clusterCIDR.
    private static KubeProxySettings Of(JsonElement root)
    {
        var configuration = SettingsJson.Member(root, "kubeproxy.config.k8s.io") ?? root;
        var mode = Normal(SettingsJson.Text(configuration, "mode"));
        var cidrs = SettingsJson.Member(configuration, "detectLocal") is { } local ? SettingsJson.Strings(local, "clusterCIDRs") : [];
        var section = SettingsJson.Member(configuration, mode switch { "nftables" => "nftables", _ => "iptables" });
        var all = SettingsJson.Member(configuration, "linux") is { } linux ? SettingsJson.Flag(linux, "masqueradeAll") : null;
        return new KubeProxySettings
        {
            Mode = mode,
            ClusterCidrs = cidrs.IsEmpty ? Split(SettingsJson.Text(configuration, "clusterCIDR")) : cidrs,
            MasqueradeAll = all ?? (section is { } its ? SettingsJson.Flag(its, "masqueradeAll") : null),
            NodePortAddresses = SettingsJson.Strings(configuration, "nodePortAddresses"),
            DetectLocalMode = Normal(SettingsJson.Text(configuration, "detectLocalMode")),
            HealthzBindAddress = Normal(SettingsJson.Text(configuration, "healthzBindAddress")),
            MetricsBindAddress = Normal(SettingsJson.Text(configuration, "metricsBindAddress")),
        };
    }

    private static string? Normal(string? text) => string.IsNullOrEmpty(text) ? null : text;

    private static ImmutableArray<string> Split(string? list) => list is null ? [] : [.. list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)];
}
