using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// The rules of kube-proxy's first mode (kubernetes 1.1, pkg/proxy/userspace/proxier.go): what goes to a Service's address is
/// redirected to a port of the proxy process on this node, from pods by REDIRECT and from the node itself by DNAT.
/// </summary>
internal static class UserspaceRules
{
    private const string LastRule = "-m addrtype --dst-type LOCAL -m comment --comment \"handle service NodePorts; NOTE: this must be the last rule in the chain\"";
    private const string FirstRule = "-m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\"";

    /// <summary>The tables as wanted. The other tables are given empty, so that another mode's chains go.</summary>
    /// <param name="cluster">The objects.</param>
    /// <param name="nodeAddress">The node's address of this family.</param>
    /// <param name="ports">Which port the proxy has for a Service port, by <see cref="KeyOf"/>.</param>
    internal static IReadOnlyList<RuleTable> Write(ClusterSnapshot cluster, IpAddress nodeAddress, IReadOnlyDictionary<string, int> ports)
    {
        var nat = new RuleTable("nat");
        nat.Chains.AddRange(["KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST", "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"]);
        nat.Jumps.AddRange(
        [
            $"-A PREROUTING {FirstRule} -j KUBE-PORTALS-CONTAINER",
            $"-A PREROUTING {LastRule} -j KUBE-NODEPORT-CONTAINER",
            $"-A OUTPUT {FirstRule} -j KUBE-PORTALS-HOST",
            $"-A OUTPUT {LastRule} -j KUBE-NODEPORT-HOST",
        ]);
        foreach (var service in cluster.Services.Where(s => s.Spec.Type != "ExternalName" && !s.Spec.IsHeadless))
        {
            foreach (var text in service.Spec.ClusterIPs)
            {
                if (!IpAddress.TryParse(text, null, out var address) || address.IsIPv4 != nodeAddress.IsIPv4)
                {
                    continue;
                }

                foreach (var port in service.Spec.Ports)
                {
                    var protocol = port.Protocol.ToLowerInvariant();
                    var proxy = ports[KeyOf(service, port)];
                    var match = string.Create(CultureInfo.InvariantCulture,
                        $"-d {new IpNetwork(address, address.Width)} -p {protocol} -m comment --comment \"{NameOf(service, port)}\" -m {protocol} --dport {port.Port}");
                    nat.Add("KUBE-PORTALS-CONTAINER", string.Create(CultureInfo.InvariantCulture, $"{match} -j REDIRECT --to-ports {proxy}"));
                    nat.Add("KUBE-PORTALS-HOST", $"{match} -j DNAT --to-destination {new AddressPort(nodeAddress, (ushort)proxy)}");
                }
            }
        }

        return [new RuleTable("mangle"), new RuleTable("filter"), nat];
    }

    /// <summary>The name in rule comments; in those days with its colon even when the port had no name.</summary>
    internal static string NameOf(Service service, ServicePort port) => $"{service.Metadata.Namespace}/{service.Metadata.Name}:{port.Name}";

    /// <summary>What tells a Service port from all others.</summary>
    internal static string KeyOf(Service service, ServicePort port) => $"{NameOf(service, port)}/{port.Protocol.ToLowerInvariant()}";

    /// <summary>Gives each Service port a port of the proxy, and the same one again for as long as its file lives.</summary>
    /// <param name="cluster">The objects.</param>
    /// <param name="path">The file, with lines such as <c>default/my-nginx:/tcp 35039</c>.</param>
    internal static SortedDictionary<string, int> AllotPorts(ClusterSnapshot cluster, string path)
    {
        var ports = ReadPorts(path);
        var changed = false;
        foreach (var service in cluster.Services)
        {
            foreach (var key in service.Spec.Ports.Select(p => KeyOf(service, p)).Where(k => !ports.ContainsKey(k)).ToArray())
            {
                // The article's proxy had 35039; the next ones follow.
                ports[key] = ports.Count == 0 ? 35039 : ports.Values.Max() + 1;
                changed = true;
            }
        }

        if (changed)
        {
            Files.Replace(path, string.Concat(ports.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Key} {p.Value}\n"))));
        }

        return ports;
    }

    internal static SortedDictionary<string, int> ReadPorts(string path)
    {
        var ports = new SortedDictionary<string, int>(StringComparer.Ordinal);
        foreach (var line in File.Exists(path) ? File.ReadAllLines(path) : [])
        {
            var space = line.LastIndexOf(' ');
            ports[line[..space]] = int.Parse(line.AsSpan(space + 1), NumberStyles.None, CultureInfo.InvariantCulture);
        }

        return ports;
    }
}
