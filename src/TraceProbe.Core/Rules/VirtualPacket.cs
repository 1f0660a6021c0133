using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>A packet, the first of a connection or a later one, as a <see cref="RuleWalk"/> carries it through a node's rules.</summary>
public sealed record VirtualPacket
{
    /// <summary>Protocol, source and destination as it is sent.</summary>
    public required FiveTuple Tuple { get; init; }

    /// <summary>Whether a process in the node's own namespace sends it (OUTPUT); otherwise it comes in through an interface (PREROUTING).</summary>
    public bool FromNode { get; init; }

    /// <summary>The interface it comes in by, such as a pod's veth or the bridge; null when not known.</summary>
    public string? InInterface { get; init; }

    /// <summary>The bridge port it came through while bridge-nf-call-iptables is on; empty when it came through none, null when not known.</summary>
    public string? BridgePort { get; init; }

    /// <summary>
    /// The node's own addresses, which the LOCAL address type and the choice between INPUT and FORWARD go by; empty when not known.
    /// Loopback addresses are always local.
    /// </summary>
    public ImmutableArray<IpAddress> LocalAddresses { get; init; } = [];

    /// <summary>The node's routes, for the interface it leaves by; null when not known.</summary>
    public RouteTable? Routes { get; init; }

    /// <summary>Its mark when it enters.</summary>
    public uint Mark { get; init; }

    /// <summary>Its connection's state; translation happens to <see cref="ConntrackState.New"/> ones only.</summary>
    public ConntrackState State { get; init; } = ConntrackState.New;

    /// <summary>Its TCP flags.</summary>
    public TcpFlags Flags { get; init; } = TcpFlags.Syn;

    /// <summary>The connection that it belongs to; null when it is that's first packet.</summary>
    public KnownConnection? Connection { get; init; }

    /// <summary>The answer to this packet, as the backend sends it when the rules did with the packet what a branch of its walk says.</summary>
    /// <param name="branch">The way that this packet, a connection's first, took; one that leaves.</param>
    public VirtualPacket ReplyTo(WalkBranch branch)
    {
        ArgumentNullException.ThrowIfNull(branch);
        var backend = branch.Backend ?? Tuple.Destination;
        var atHome = branch.IsRedirect || backend.Address.IsLoopback || LocalAddresses.Contains(backend.Address) || Routes?.Lookup(backend.Address) is { Type: "local" };
        var client = !branch.Masquerade ? branch.SourceBecomes ?? Tuple.Source.Address
            : Routes?.Lookup(backend.Address)?.Source ?? LocalAddresses.FirstOrDefault(a => a.IsIPv4 == backend.Address.IsIPv4, backend.Address.IsIPv4 ? IpAddress.IPv4Any : IpAddress.IPv6Any);
        return this with
        {
            Tuple = new FiveTuple(Tuple.Protocol, backend, new AddressPort(client, Tuple.Source.Port)),
            FromNode = atHome,
            InInterface = atHome ? null : Routes?.Lookup(backend.Address)?.Device,
            BridgePort = atHome ? "" : null,
            Mark = 0,
            State = ConntrackState.Established | (branch.Backend is null ? 0 : ConntrackState.Dnat) | (branch.Masquerade || branch.SourceBecomes is not null ? ConntrackState.Snat : 0),
            Flags = TcpFlags.Syn | TcpFlags.Ack,
            Connection = new KnownConnection(Tuple, new FiveTuple(Tuple.Protocol, Tuple.Destination, Tuple.Source), true) { Mark = branch.ConnectionMark },
        };
    }
}

/// <summary>What conntrack knows of the connection that a packet belongs to.</summary>
/// <param name="Original">The connection's first packet as its client sent it.</param>
/// <param name="Becomes">What conntrack makes of the packet: source and destination after the translation that was settled with the first.</param>
/// <param name="IsReply">Whether the packet goes to the client.</param>
public sealed record KnownConnection(FiveTuple Original, FiveTuple Becomes, bool IsReply)
{
    /// <summary>The connection's mark.</summary>
    public uint Mark { get; init; }
}
