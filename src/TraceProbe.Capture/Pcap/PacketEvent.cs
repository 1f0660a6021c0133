using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Pcap;

/// <summary>Makes events of captured packets.</summary>
internal static class PacketEvent
{
    /// <summary>Bytes kept of a DNS message; the same bound as in bpf/events.h.</summary>
    public const int MaxDns = 512;

    /// <summary>Bytes kept of a first line.</summary>
    public const int MaxLine = 128;

    /// <summary>How many bytes of a TCP flow's first payload in each direction are looked at; the same bound as in bpf/events.h.</summary>
    public const int MaxHead = 512;

    // Type, version, length of the record; then the handshake's type, or level and description of the alert (RFC 8446 section 5.1).
    private const int TlsHead = 7;

    public static NetworkEvent From(in PacketView view, long bootNanoseconds, uint netNs, ShortName interfaceName, bool keepFirstLine)
    {
        var kept = Keep(view, keepFirstLine);
        return new NetworkEvent
        {
            // A packet that passes from one machine to another came in here too: a bridge port sees those.
            Kind = view.Direction == PacketDirection.Outgoing ? EventKind.PacketQueued : EventKind.PacketReceived,
            BootNanoseconds = bootNanoseconds,
            NetNs = netNs,
            InterfaceIndex = view.InterfaceIndex,
            Interface = interfaceName,
            Tuple = view.Tuple,
            Flags = view.Flags,
            Sequence = view.Sequence,
            Acknowledgment = view.Acknowledgment,
            PayloadLength = view.PayloadLength,
            IcmpType = view.IcmpType,
            IcmpCode = view.IcmpCode,
            Quoted = view.Quoted,
            AnswerLength = kept.StartsWith("HTTP/"u8) ? AnswerHead.LengthOf(view.Payload[..Math.Min(view.Payload.Length, MaxHead)]) : 0,
            TraceParent = keepFirstLine && view.Tuple.Protocol == IpProtocol.Tcp ? RequestHead.TraceParentOf(view.Payload[..Math.Min(view.Payload.Length, MaxHead)]) : null,
            Payload = kept.IsEmpty ? default(ReadOnlyMemory<byte>) : kept.ToArray(),
        };
    }

    /// <summary>The part of the payload that an event may keep: DNS, the first line of HTTP, the head of TLS, and nothing else.</summary>
    internal static ReadOnlySpan<byte> Keep(in PacketView view, bool keepFirstLine)
    {
        var payload = view.Payload;
        if (payload.IsEmpty || view.FragmentOffset > 0 || view.Tuple.Protocol is not (IpProtocol.Tcp or IpProtocol.Udp))
        {
            return default;
        }

        if (view.Tuple.Source.Port == 53 || view.Tuple.Destination.Port == 53)
        {
            return payload[..Math.Min(payload.Length, MaxDns)];
        }

        if (!keepFirstLine || view.Tuple.Protocol != IpProtocol.Tcp)
        {
            return default;
        }

        // Change of cipher, alert, handshake, data; and then a version 3.x.
        if (payload is [>= 20 and <= 23, 3, ..])
        {
            return payload[..Math.Min(payload.Length, TlsHead)];
        }

        if (!LooksLikeHttp(payload))
        {
            return default;
        }

        payload = payload[..Math.Min(payload.Length, MaxLine)];
        if (AnswerHead.WithComplaint(payload) is { IsEmpty: false } complaint)
        {
            return complaint;
        }

        var end = payload.IndexOf((byte)'\n');
        return end < 0 ? payload : payload[..(end + 1)];
    }

    private static bool LooksLikeHttp(ReadOnlySpan<byte> payload)
        => payload.StartsWith("HTTP/"u8) || payload.StartsWith("GET "u8) || payload.StartsWith("POST "u8) || payload.StartsWith("PUT "u8)
            || payload.StartsWith("HEAD "u8) || payload.StartsWith("DELETE "u8) || payload.StartsWith("PATCH "u8)
            || payload.StartsWith("OPTIONS "u8) || payload.StartsWith("CONNECT "u8) || payload.StartsWith("PRI * HTTP/2"u8);
}
