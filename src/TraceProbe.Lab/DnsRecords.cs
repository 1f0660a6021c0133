using System.Globalization;
using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// What the cluster's DNS serves, by the Kubernetes DNS specification 1.1, in dnsmasq's words: addresses in a hosts file, which
/// dnsmasq reads again on SIGHUP, and SRV and CNAME records in its configuration, which it reads at its start only.
/// </summary>
internal static class DnsRecords
{
    /// <summary>The hosts file: A and AAAA records of Services with a cluster address, and of the ready pods of headless ones.</summary>
    internal static string Hosts(ClusterSnapshot cluster)
    {
        var text = new StringBuilder();
        foreach (var service in cluster.Services)
        {
            var name = NameOf(service);
            if (service.Spec.IsHeadless)
            {
                foreach (var endpoint in cluster.SlicesOf(service).SelectMany(s => s.Endpoints).Where(e => e.Conditions.Ready ?? true))
                {
                    text.Append(CultureInfo.InvariantCulture, $"{endpoint.Addresses[0]} {name}\n");
                }
            }
            else if (service.Spec.Type != "ExternalName")
            {
                foreach (var address in service.Spec.ClusterIPs)
                {
                    text.Append(CultureInfo.InvariantCulture, $"{address} {name}\n");
                }
            }
        }

        return text.ToString();
    }

    /// <summary>The configuration: SRV records of named ports, CNAME records of ExternalName Services, and how to answer the rest.</summary>
    /// <param name="cluster">The objects.</param>
    /// <param name="hosts">The path of the hosts file.</param>
    internal static string Configuration(ClusterSnapshot cluster, string hosts)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"""
            user=root
            no-resolv
            no-hosts
            no-poll
            pid-file=
            addn-hosts={hosts}
            local=/{LabLayout.ClusterDomain}/
            local=/in-addr.arpa/
            local=/ip6.arpa/
            server={LabLayout.OutsideIPv4}
            local-ttl=5
            neg-ttl=5

            """);
        foreach (var service in cluster.Services)
        {
            var name = NameOf(service);
            if (service.Spec.Type == "ExternalName")
            {
                text.Append(CultureInfo.InvariantCulture, $"cname={name},{service.Spec.ExternalName}\n");
                continue;
            }

            foreach (var port in service.Spec.Ports.Where(p => !string.IsNullOrEmpty(p.Name)))
            {
                text.Append(CultureInfo.InvariantCulture, $"srv-host=_{port.Name}._{port.Protocol.ToLowerInvariant()}.{name},{name},{port.Port},0,100\n");
            }
        }

        return text.ToString();
    }

    /// <summary>The outside resolver's configuration: an address for every name in the cluster's domain, and the wrong one.</summary>
    /// <param name="lab">The lab.</param>
    internal static string Outside(LabFolder lab) => $"""
        user=root
        no-resolv
        no-hosts
        no-poll
        pid-file=
        address=/{LabLayout.ClusterDomain}/{LabLayout.NobodyIPv4}
        address=/{LabLayout.ClusterDomain}/{LabLayout.NobodyIPv6}
        addn-hosts={OutsideHostsPath(lab)}
        host-record=db.example.com,{LabLayout.OutsideIPv4},{LabLayout.OutsideIPv6}
        local=/#/
        local-ttl=5
        neg-ttl=5

        """;

    /// <summary>The hosts file of the outside resolver: what else it knows.</summary>
    internal static string OutsideHostsPath(LabFolder lab) => $"{lab.PlaceFolder(LabNetwork.Outside)}/hosts";

    private static string NameOf(Service service) => $"{service.Metadata.Name}.{service.Metadata.Namespace}.svc.{LabLayout.ClusterDomain}";
}
