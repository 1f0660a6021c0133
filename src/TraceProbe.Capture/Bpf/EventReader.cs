using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Packets;
using TraceProbe.Capture.Pcap;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Bpf;

/// <summary>Turns a record of the ring into an event. Nothing is allocated, except for a payload that is kept.</summary>
internal static class EventReader
{
    private const int DnsPort = 53;

    // How long a TLS record's header is, and with it the two bytes that say what an alert is about (RFC 8446 section 6).
    private const int TlsHead = 7;

    /// <summary>The size of a record without payload.</summary>
    public static int HeaderSize { get; } = Unsafe.SizeOf<TpEvent>();

    /// <summary>Reads one record. False when it is shorter than it says it is: the object and this code do not belong together.</summary>
    /// <param name="record">The record's bytes.</param>
    /// <param name="types">Names the drop reasons; null leaves them out.</param>
    /// <param name="e">The event.</param>
    public static bool TryRead(ReadOnlySpan<byte> record, KernelTypes? types, out NetworkEvent e)
    {
        e = default;
        if (record.Length < HeaderSize)
        {
            return false;
        }

        ref readonly var raw = ref MemoryMarshal.AsRef<TpEvent>(record);
        if (raw.captured > record.Length - HeaderSize)
        {
            return false;
        }

        var kind = (EventKind)raw.kind;
        var conntrack = (raw.flags & TpEventFlags.HasConntrack) != 0;
        e = new NetworkEvent
        {
            Kind = kind,
            BootNanoseconds = (long)raw.boot_ns,
            NetNs = raw.netns,
            InterfaceIndex = (int)raw.ifindex,
            Interface = ShortName.From(raw.ifname),
            Pid = (int)raw.pid,
            Command = ShortName.From(raw.comm),
            CgroupId = raw.cgroup,
            Socket = raw.socket,
            Tuple = Tuple(in raw.tuple),
            HasConntrack = conntrack,
            Original = conntrack ? Tuple(in raw.original) : default,
            Reply = conntrack ? Tuple(in raw.reply) : default,
            Flags = (TcpFlags)raw.tcp_flags,
            Sequence = raw.sequence,
            Acknowledgment = raw.acknowledgment,
            PayloadLength = (int)raw.payload_length,
            IcmpType = raw.icmp_type,
            IcmpCode = raw.icmp_code,
            Quoted = (raw.flags & TpEventFlags.HasQuoted) != 0 ? Tuple(in raw.quoted) : default,
            DropReason = (raw.flags & TpEventFlags.HasDropReason) != 0 ? types?.DropReason(raw.drop_reason) : null,
            OldState = (TcpState)raw.old_state,
            NewState = (TcpState)raw.new_state,
            Error = raw.error,
            ChildPid = (int)raw.child,
            IsBrief = (raw.flags & TpEventFlags.IsBrief) != 0,
            AnswerLength = raw.captured == 0 ? 0 : AnswerHead.LengthOf(record.Slice(HeaderSize, (int)raw.captured)),
            TraceParent = raw.captured == 0 || raw.tuple.protocol != (byte)IpProtocol.Tcp ? null : RequestHead.TraceParentOf(record.Slice(HeaderSize, (int)raw.captured)),
            Payload = raw.captured == 0 ? default : Keep(record.Slice(HeaderSize, (int)raw.captured), in raw),
        };
        return true;
    }

    private static FiveTuple Tuple(in TpTuple tuple) => new(
        (IpProtocol)tuple.protocol,
        new AddressPort(IpAddress.Read(tuple.source), BinaryPrimitives.ReverseEndianness(tuple.source_port)),
        new AddressPort(IpAddress.Read(tuple.destination), BinaryPrimitives.ReverseEndianness(tuple.destination_port)));

    private static ReadOnlyMemory<byte> Keep(ReadOnlySpan<byte> payload, in TpEvent raw)
    {
        var kept = raw.tuple.protocol == (byte)IpProtocol.Tcp && !IsDns(in raw.tuple) && !IsDns(in raw.original) && !IsDns(in raw.reply)
            ? FirstLine(payload[..Math.Min(payload.Length, PacketEvent.MaxLine)])
            : payload;
        return kept.IsEmpty ? default : kept.ToArray();
    }

    private static bool IsDns(in TpTuple tuple)
    {
        var port = BinaryPrimitives.ReverseEndianness((ushort)DnsPort);
        return tuple.source_port == port || tuple.destination_port == port;
    }

    /// <summary>
    /// What may be kept of a TCP payload that is no DNS: an HTTP message's first line, or a TLS record's head, which tells a server
    /// that speaks the other from one that does not answer. Everything else is the users' own.
    /// </summary>
    internal static ReadOnlySpan<byte> FirstLine(ReadOnlySpan<byte> payload)
    {
        if (payload.Length >= TlsHead && payload[0] is >= 20 and <= 23 && payload[1] == 3)
        {
            return payload[..TlsHead];
        }

        var end = payload.IndexOfAny((byte)'\r', (byte)'\n');
        var line = end < 0 ? payload : payload[..end];
        if (line.StartsWith("HTTP/"u8))
        {
            return AnswerHead.WithComplaint(payload) is { IsEmpty: false } complaint ? complaint : line;
        }

        // METHOD SP target SP HTTP/1.1; a long target may be cut before its end.
        var space = line.IndexOf((byte)' ');
        return space is > 0 and < 20 && line[..space].IndexOfAnyExceptInRange((byte)'A', (byte)'Z') < 0
            && (end < 0 ? payload.Length >= 64 : line.IndexOf(" HTTP/"u8) > 0)
            ? line
            : default;
    }
}
