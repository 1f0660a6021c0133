using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>The first packet of a connection, as a <see cref="RuleWalk"/> carries it through a node's rules.</summary>
public sealed record VirtualPacket
{
    /// <summary>Protocol, source and destination as the client sends it.</summary>
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
}
