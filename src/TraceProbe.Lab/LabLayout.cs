using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// The fixed plan of the lab: its addresses and names. Labs side by side share the addresses, since each has namespaces of its own.
/// </summary>
internal static class LabLayout
{
    // The node network, where the nodes, the uplink's gateway and the outside resolver meet.
    internal const string GatewayIPv4 = "10.77.0.1";
    internal const string GatewayIPv6 = "fd00:10:77::1";
    internal const string OutsideIPv4 = "10.77.0.53";
    internal const string OutsideIPv6 = "fd00:10:77::53";

    // What the outside resolver says for every name in cluster.local: addresses that nobody has. The provider's resolver of the
    // article that the lab re-enacts did the same, and even with the same address.
    internal const string NobodyIPv4 = "172.30.0.1";
    internal const string NobodyIPv6 = "fd00:172:30::1";

    internal const string ClusterCidrIPv4 = "10.244.0.0/16";
    internal const string ClusterCidrIPv6 = "fd00:10:244::/56";
    internal const string ServiceCidrIPv4 = "10.96.0.0/12";
    internal const string ServiceCidrIPv6 = "fd00:10:96::/112";
    internal const string DnsIPv4 = "10.96.0.10";
    internal const string DnsIPv6 = "fd00:10:96::a";
    internal const string ClusterDomain = "cluster.local";

    internal static readonly NodePlan[] Nodes = [new("node-1", 1), new("node-2", 2)];

    /// <summary>Where the lab's folders are; 0700, since they name pids and hold configurations run as root.</summary>
    internal const string LabsFolder = "/run/traceprobe/labs";

    internal static string Folder(string lab) => $"{LabsFolder}/{lab}";

    internal static NodePlan Node(string name) => Nodes.First(n => n.Name == name);

    /// <summary>The namespace of a node or of the fabric or the outside: <c>tp-demo-node-1</c>.</summary>
    internal static string NetNsOf(string lab, string what) => $"tp-{lab}-{what}";

    /// <summary>The namespace of a pod; names are unique in the lab without their API namespace.</summary>
    internal static string NetNsOf(string lab, Pod pod) => NetNsOf(lab, pod.Metadata.Name);

    /// <summary>Whether a name can be a lab's: it becomes part of namespace, cgroup and folder names.</summary>
    internal static bool IsName(string name)
        => name.Length is > 0 and <= 20 && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-')
            && name[0] != '-' && name[^1] != '-';
}

/// <summary>One node's numbers.</summary>
/// <param name="Name">The node's name.</param>
/// <param name="Number">1 or 2: the number in its addresses.</param>
internal sealed record NodePlan(string Name, int Number)
{
    internal string IPv4 { get; } = string.Create(CultureInfo.InvariantCulture, $"10.77.0.{10 + Number}");

    internal string IPv6 { get; } = string.Create(CultureInfo.InvariantCulture, $"fd00:10:77::{10 + Number}");

    internal string PodCidrIPv4 { get; } = string.Create(CultureInfo.InvariantCulture, $"10.244.{Number}.0/24");

    internal string PodCidrIPv6 { get; } = string.Create(CultureInfo.InvariantCulture, $"fd00:10:244:{Number}::/64");

    internal string BridgeIPv4 { get; } = string.Create(CultureInfo.InvariantCulture, $"10.244.{Number}.1");

    internal string BridgeIPv6 { get; } = string.Create(CultureInfo.InvariantCulture, $"fd00:10:244:{Number}::1");

    internal IpAddress Address { get; } = IpAddress.Parse(string.Create(CultureInfo.InvariantCulture, $"10.77.0.{10 + Number}"));
}
