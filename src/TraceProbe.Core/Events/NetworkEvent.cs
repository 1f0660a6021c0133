using TraceProbe.Core.Net;

namespace TraceProbe.Core.Events;

/// <summary>
/// One thing that happened on a node: flat and of one size, so that a stream of them allocates nothing (only the few that carry
/// a payload do). Which members mean something follows from <see cref="Kind"/>.
/// </summary>
public readonly record struct NetworkEvent
{
    /// <summary>What happened.</summary>
    public required EventKind Kind { get; init; }

    /// <summary>When, in nanoseconds since boot, suspended time included (CLOCK_BOOTTIME). From a capture file: the offset from its first packet.</summary>
    public required long BootNanoseconds { get; init; }

    /// <summary>The inode number of the network namespace it happened in; 0 when not known (libpcap tells it by the handle).</summary>
    public uint NetNs { get; init; }

    /// <summary>The interface's index in that namespace; 0 when there is none.</summary>
    public int InterfaceIndex { get; init; }

    /// <summary>The interface's name.</summary>
    public ShortName Interface { get; init; }

    /// <summary>The process (thread group) on whose behalf it happened; 0 when not known. Received packets have none.</summary>
    public int Pid { get; init; }

    /// <summary>The process's name as the kernel holds it.</summary>
    public ShortName Command { get; init; }

    /// <summary>The process's cgroup v2 id; 0 when not known.</summary>
    public ulong CgroupId { get; init; }

    /// <summary>An opaque number of the kernel's socket, to tell sockets apart within one recording; 0 when there is none.</summary>
    public ulong Socket { get; init; }

    /// <summary>The packet's tuple as it was on the wire at this point, or the socket's (source is the local side).</summary>
    public FiveTuple Tuple { get; init; }

    /// <summary>Whether conntrack knew the packet, so that <see cref="Original"/> and <see cref="Reply"/> mean something.</summary>
    public bool HasConntrack { get; init; }

    /// <summary>Conntrack's original-direction tuple: what the client asked for.</summary>
    public FiveTuple Original { get; init; }

    /// <summary>Conntrack's reply-direction tuple: what the answer will look like. Its source is the backend after DNAT.</summary>
    public FiveTuple Reply { get; init; }

    /// <summary>TCP control bits of the packet.</summary>
    public TcpFlags Flags { get; init; }

    /// <summary>TCP sequence number.</summary>
    public uint Sequence { get; init; }

    /// <summary>TCP acknowledgment number.</summary>
    public uint Acknowledgment { get; init; }

    /// <summary>Bytes of transport payload in the packet, also when fewer are in <see cref="Payload"/>.</summary>
    public int PayloadLength { get; init; }

    /// <summary>ICMP or ICMPv6 type; only where the tuple's protocol is one of these.</summary>
    public byte IcmpType { get; init; }

    /// <summary>ICMP or ICMPv6 code.</summary>
    public byte IcmpCode { get; init; }

    /// <summary>The tuple of the packet that an ICMP error quotes; default when the packet is none.</summary>
    public FiveTuple Quoted { get; init; }

    /// <summary>The kernel's name for why it dropped the packet, such as <c>NO_SOCKET</c>, without its SKB_DROP_REASON_ prefix; null when it gave none.</summary>
    public string? DropReason { get; init; }

    /// <summary>The socket's state before, for <see cref="EventKind.SocketStateChanged"/>.</summary>
    public TcpState OldState { get; init; }

    /// <summary>The socket's state after, for <see cref="EventKind.SocketStateChanged"/>.</summary>
    public TcpState NewState { get; init; }

    /// <summary>The errno reported, positive (111 is ECONNREFUSED), for <see cref="EventKind.SocketErrorReported"/>.</summary>
    public int Error { get; init; }

    /// <summary>The new process, for <see cref="EventKind.ProcessForked"/>.</summary>
    public int ChildPid { get; init; }

    /// <summary>How many events are missing, for <see cref="EventKind.ObservationGap"/>; at least 1.</summary>
    public long Lost { get; init; }

    /// <summary>
    /// Whether only what tells how its connection went is reported of it (SYN, FIN, RST, first payloads, drops, errors), because it was not drawn to be
    /// reported in full: byte counts are then lower bounds.
    /// </summary>
    public bool IsBrief { get; init; }

    /// <summary>
    /// How many bytes an HTTP answer that begins with this packet has at least, head and body, by its Content-Length; 0 where it does not say so in its first bytes.
    /// </summary>
    public long AnswerLength { get; init; }

    /// <summary>The <c>traceparent</c> in the head of the plain HTTP request that begins with this packet (W3C Trace Context, section 3.2); null where there is none in its first bytes.</summary>
    public string? TraceParent { get; init; }

    /// <summary>
    /// The beginning of the transport payload, kept only for DNS (up to 512 bytes) and for the first line of an HTTP
    /// message; empty otherwise.
    /// </summary>
    public ReadOnlyMemory<byte> Payload { get; init; }
}
