using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads what <see cref="ObjectWriter"/> writes of a cluster's settings, which are no object of the API.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public ClusterSettings ReadSettings(ref Utf8JsonReader json)
    {
        var settings = new ClusterSettings();
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("dnsDomain"u8))
            {
                settings = settings with { DnsDomain = Text(ref json) };
            }
            else if (member.SequenceEqual("dnsDomainFrom"u8))
            {
                settings = settings with { DnsDomainFrom = Text(ref json) };
            }
            else if (member.SequenceEqual("dnsCaches"u8))
            {
                settings = settings with { DnsCaches = [.. Items(ref json, ReadAddressText).Select(a => a.Address)] };
            }
            else if (member.SequenceEqual("kubelet"u8))
            {
                settings = settings with { Kubelet = ReadKubelet(ref json) };
            }
            else if (member.SequenceEqual("kubeProxy"u8))
            {
                settings = settings with { KubeProxy = ReadKubeProxy(ref json) };
            }
            else
            {
                json.Skip();
            }
        }

        return settings;
    }

    private sealed record AddressText(IpAddress Address);

    private static AddressText ReadAddressText(ObjectReader reader, ref Utf8JsonReader json)
        => IpAddress.TryParse(reader.Text(ref json), null, out var address) ? new AddressText(address) : throw new JsonException("an IP address was expected.");

    private KubeletSettings ReadKubelet(ref Utf8JsonReader json)
    {
        string? from = null, domain = null, resolvConf = null;
        ImmutableArray<string> dns = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("from"u8))
            {
                from = Text(ref json);
            }
            else if (member.SequenceEqual("clusterDns"u8))
            {
                dns = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("clusterDomain"u8))
            {
                domain = Text(ref json);
            }
            else if (member.SequenceEqual("resolvConf"u8))
            {
                resolvConf = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new KubeletSettings { From = from!, ClusterDns = dns, ClusterDomain = domain, ResolvConf = resolvConf };
    }

    private KubeProxySettings ReadKubeProxy(ref Utf8JsonReader json)
    {
        string? from = null, mode = null, detectLocal = null, healthz = null, metrics = null;
        ImmutableArray<string> prefixes = default, nodePorts = default;
        bool? masqueradeAll = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("from"u8))
            {
                from = Text(ref json);
            }
            else if (member.SequenceEqual("mode"u8))
            {
                mode = Text(ref json);
            }
            else if (member.SequenceEqual("clusterCidrs"u8))
            {
                prefixes = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("masqueradeAll"u8))
            {
                masqueradeAll = Flag(ref json);
            }
            else if (member.SequenceEqual("nodePortAddresses"u8))
            {
                nodePorts = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("detectLocalMode"u8))
            {
                detectLocal = Text(ref json);
            }
            else if (member.SequenceEqual("healthzBindAddress"u8))
            {
                healthz = Text(ref json);
            }
            else if (member.SequenceEqual("metricsBindAddress"u8))
            {
                metrics = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new KubeProxySettings
        {
            From = from!,
            Mode = mode,
            ClusterCidrs = prefixes,
            MasqueradeAll = masqueradeAll,
            NodePortAddresses = nodePorts,
            DetectLocalMode = detectLocal,
            HealthzBindAddress = healthz,
            MetricsBindAddress = metrics,
        };
    }
}
