using System.Collections.Immutable;
using System.Text.Json.Serialization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Node;

/// <summary>How this node's kube-proxy works, as read from the node itself.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ProxyMode>))]
public enum ProxyMode
{
    /// <summary>Could not be told.</summary>
    Unknown,

    /// <summary>No trace of kube-proxy's rules.</summary>
    None,

    /// <summary>KUBE-SVC and KUBE-SEP chains.</summary>
    Iptables,

    /// <summary>A table <c>kube-proxy</c> in nftables.</summary>
    Nftables,

    /// <summary>IPVS virtual servers and <c>kube-ipvs0</c>.</summary>
    Ipvs,

    /// <summary>KUBE-PORTALS chains that redirect to a process.</summary>
    Userspace,
}

/// <summary>
/// The programmed account of one node: what its kernel would do. The rule dumps are kept as text, exactly as read, so that a
/// recording replays through the same parser; everything else is parsed at reading.
/// </summary>
public sealed record NodeAccount
{
    /// <summary>The node's name.</summary>
    public required string Name { get; init; }

    /// <summary>The inode number of the node's own network namespace.</summary>
    public uint NetNs { get; init; }

    /// <summary>The rule dumps that exist on this node.</summary>
    public ImmutableArray<RuleDump> Dumps { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Sockets that listen (TCP) or are bound unconnected (UDP) in the node's namespace and in its pods'.</summary>
    public ImmutableArray<ListeningSocket> Listeners { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The namespaces whose listening sockets were read, also those that had none.</summary>
    public ImmutableArray<uint> ListenersReadIn { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Sysctls that matter for forwarding, by name, such as <c>net.ipv4.ip_forward</c>.</summary>
    public ImmutableSortedDictionary<string, string> Sysctls { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary>kube-proxy's process when one was found on the node; null when none was, see <see cref="ProxyLookedFor"/>.</summary>
    public ProcessRef? KubeProxy { get; init; }

    /// <summary>Whether processes could be searched for kube-proxy.</summary>
    public bool ProxyLookedFor { get; init; }

    /// <summary>What kube-proxy said when a request had failed; null when it was not asked.</summary>
    public KubeProxyAccount? KubeProxySaid { get; init; }

    /// <summary>
    /// The nftables tables that exist, as <c>nft list tables</c> names them: <c>ip kube-proxy</c> tells kube-proxy's nftables mode, which
    /// only <c>nft</c>'s dump shows the rules of.
    /// </summary>
    public ImmutableArray<string> NftTables { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether IPVS has virtual servers here, which the rule dumps do not show either.</summary>
    public bool HasIpvs { get; init; }

    /// <summary>The node's routes of all tables as <c>ip route</c> prints them, both families; see <see cref="Rules.RouteTable"/>.</summary>
    public ImmutableArray<string> Routes { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The rules that say which routing table is asked (<c>ip rule</c>), both families; empty when they were not read.</summary>
    public ImmutableArray<PolicyRule> PolicyRules { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The addresses on its links that were asked for.</summary>
    public ImmutableArray<Neighbour> Neighbours { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Its bridges.</summary>
    public ImmutableArray<Bridge> Bridges { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The ports of its bridges.</summary>
    public ImmutableArray<BridgePort> BridgePorts { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What connection tracking knew of the connections followed, after they ended; empty when it was not asked.</summary>
    public ImmutableArray<ConntrackEntry> Conntrack { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What the rules on the request's way had counted when it was over; the dumps say what they had before. Null when that was not asked.</summary>
    public ImmutableArray<RuleCount>? Counts { get; init; }

    /// <summary>What could not be read, and why.</summary>
    public ImmutableArray<Unread> Unread { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>One dump of rules as a tool printed it.</summary>
/// <param name="Tool">The tool: <c>iptables-save</c>, <c>iptables-legacy-save</c>, <c>ip6tables-nft-save</c>, …, or <c>nft</c>, which was asked for JSON.</param>
/// <param name="Text">What it printed.</param>
public sealed record RuleDump(string Tool, string Text);

/// <summary>A process, as evidence names it.</summary>
/// <param name="Pid">The process id in the node's numbering.</param>
/// <param name="Command">Its name (comm).</param>
public sealed record ProcessRef(int Pid, string Command)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Command} ({Pid})";
}

/// <summary>A socket that waits for connections or datagrams.</summary>
/// <param name="NetNs">The inode number of its network namespace.</param>
/// <param name="Protocol">TCP or UDP.</param>
/// <param name="Local">Where it listens; an unspecified address means all of them. <c>::</c> also takes IPv4 unless bound v6-only, which <c>/proc</c> does not tell.</param>
/// <param name="Process">Who listens; null when it could not be told.</param>
public sealed record ListeningSocket(uint NetNs, IpProtocol Protocol, AddressPort Local, ProcessRef? Process)
{
    /// <summary>Of a TCP socket: how many connections wait to be accepted; null when not told.</summary>
    public long? Waiting { get; init; }

    /// <summary>Of a TCP socket: how many may wait (the backlog of listen(2), at most net.core.somaxconn); one more fits. Null when not told.</summary>
    public long? Backlog { get; init; }

    /// <summary>Whether no further connection is taken in until one is accepted (<c>sk_acceptq_is_full</c> in include/net/sock.h).</summary>
    [JsonIgnore]
    public bool IsFull => Waiting > Backlog;
}
