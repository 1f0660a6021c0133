using System.Text.Json.Serialization;

namespace TraceProbe.Core.Events;

/// <summary>What happened. The numbers are those of <c>enum tp_event_kind</c> in bpf/events.h; a test holds them together.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<EventKind>))]
public enum EventKind : byte
{
    /// <summary>No event; never sent.</summary>
    None = 0,

    /// <summary>A packet was handed to an interface for sending (tp_btf/net_dev_queue).</summary>
    PacketQueued = 1,

    /// <summary>A packet came in from an interface (tp_btf/netif_receive_skb).</summary>
    PacketReceived = 2,

    /// <summary>The kernel discarded a packet (tp_btf/kfree_skb), with its reason where the kernel names one (5.17 and later).</summary>
    PacketDropped = 3,

    /// <summary>A TCP socket changed state (tp_btf/inet_sock_set_state).</summary>
    SocketStateChanged = 4,

    /// <summary>The kernel sent a TCP reset (tp_btf/tcp_send_reset). The tuple is that of the packet it answers, not of the reset.</summary>
    ResetSent = 5,

    /// <summary>A socket received a TCP reset (tp_btf/tcp_receive_reset). The tuple is the socket's own: source is local.</summary>
    ResetReceived = 6,

    /// <summary>A TCP segment was sent again (tp_btf/tcp_retransmit_skb). The tuple is the socket's own.</summary>
    SegmentRetransmitted = 7,

    /// <summary>An error was reported to a socket's owner (tp_btf/inet_sk_error_report), in <see cref="NetworkEvent.Error"/>.</summary>
    SocketErrorReported = 8,

    /// <summary>A followed process forked; the child is in <see cref="NetworkEvent.ChildPid"/>.</summary>
    ProcessForked = 9,

    /// <summary>A followed process executed a program; its new name is the event's process name.</summary>
    ProcessExecuted = 10,

    /// <summary>A followed process ended.</summary>
    ProcessExited = 11,

    /// <summary>Events were lost here; how many is in <see cref="NetworkEvent.Lost"/>.</summary>
    ObservationGap = 12,
}
