using System.Text.Json.Serialization;

namespace TraceProbe.Lab;

/// <summary>How the lab's kube-proxy translates Service addresses.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ProxyMode>))]
public enum ProxyMode
{
    /// <summary>iptables mode, its rules in the kernel's nf_tables (<c>iptables-nft</c>), as current distributions have it.</summary>
    IptablesNft,

    /// <summary>iptables mode, its rules in the kernel's older x_tables (<c>iptables-legacy</c>).</summary>
    IptablesLegacy,

    /// <summary>nftables mode: a table of its own in the kernel's nf_tables, as kube-proxy has it since 1.29.</summary>
    Nftables,

    /// <summary>IPVS mode: virtual servers in the kernel's IPVS, with ipsets and iptables rules beside them. Needs a kernel with IPVS.</summary>
    Ipvs,

    /// <summary>The userspace mode of 2015: rules redirect to a proxy process, which dials a pod itself.</summary>
    Userspace,
}
