using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>The parts of kube-proxy's configuration that its rules depend on.</summary>
public sealed record KubeProxyOptions
{
    /// <summary>The node the rules are for: it decides which endpoints are local.</summary>
    public required string NodeName { get; init; }

    /// <summary>The pods' prefixes, one per address family; traffic to a Service from elsewhere is masqueraded. Empty: none is.</summary>
    public ImmutableArray<IpNetwork> ClusterCidrs { get; init; } = [];

    /// <summary>The prefixes of Services' addresses: what is sent to one that nobody has is dropped in nftables mode. Empty: nothing is.</summary>
    public ImmutableArray<IpNetwork> ServiceCidrs { get; init; } = [];

    /// <summary>
    /// The node's addresses in the API, at most one per family: those that take node ports in nftables mode, and a load balancer's
    /// source range that holds one also admits the node itself.
    /// </summary>
    public ImmutableArray<IpAddress> NodeAddresses { get; init; } = [];

    /// <summary>All addresses on the node's interfaces but the loopback's and <c>kube-ipvs0</c>'s: those that take node ports in IPVS mode.</summary>
    public ImmutableArray<IpAddress> LocalAddresses { get; init; } = [];

    /// <summary>The packet mark's bit for "masquerade this", 0 to 31.</summary>
    public int MasqueradeBit { get; init; } = 14;

    /// <summary>Whether node ports answer on 127.0.0.1 too (IPv4 only).</summary>
    public bool LocalhostNodePorts { get; init; } = true;

    /// <summary>Whether rules count into nfacct objects, as kube-proxy 1.33 and later do where the kernel has them.</summary>
    public bool NfacctCounters { get; init; }

    /// <summary>The pods' prefix of one family; null when there is none.</summary>
    internal IpNetwork? ClusterCidr(bool ipv6) => ClusterCidrs.Where(c => c.Address.IsIPv4 != ipv6).Select(c => (IpNetwork?)c).FirstOrDefault();
}
