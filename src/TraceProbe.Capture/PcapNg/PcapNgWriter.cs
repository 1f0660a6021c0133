using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;

namespace TraceProbe.Capture.PcapNg;

/// <summary>
/// Writes the packets that events tell of as a pcapng file (draft-ietf-opsawg-pcapng), for tshark and Wireshark. Events keep no
/// raw packets, so each is made again from its event: what the event does not carry is made up or left out, and the file says so.
/// Each interface of each network namespace is an interface of the file, named <c>eth0@pod/default/ubuntu</c>; each packet's comment
/// says who sent it, and what address translation had made of it at this point. Not for use by several threads at once.
/// </summary>
public sealed class PcapNgWriter : IDisposable
{
    private const uint SectionHeader = 0x0a0d0d0a;
    private const uint InterfaceDescription = 1;
    private const uint InterfaceStatistics = 5;
    private const uint EnhancedPacket = 6;
    private const ushort OptionComment = 1;
    private const ushort LinkTypeRaw = 101;

    private readonly Stream _stream;
    private readonly Func<uint, string> _placeName;
    private readonly long _bootUnixNanoseconds;
    private readonly Dictionary<(uint NetNs, int Index, ShortName Name), uint> _interfaces = [];
    private readonly ArrayBufferWriter<byte> _body = new(4096);
    private readonly byte[] _packet = new byte[PacketWriter.MaxLength];
    private uint _type;
    private long _last;
    private long _lost;
    private bool _disposed;

    /// <summary>Begins a file.</summary>
    /// <param name="stream">Where to; stays open when the writer is disposed.</param>
    /// <param name="placeName">Names a network namespace by its inode number, such as <c>pod/default/ubuntu</c>; where it returns an empty text the number is used.</param>
    /// <param name="boot">The wall time at which the events' clock was zero; null leaves their time as it is, which readers then show as in 1970.</param>
    public PcapNgWriter(Stream stream, Func<uint, string> placeName, DateTimeOffset? boot = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(placeName);
        _stream = stream;
        _placeName = placeName;
        _bootUnixNanoseconds = boot is { } time ? (time - DateTimeOffset.UnixEpoch).Ticks * 100 : 0;

        Begin(SectionHeader);
        Put32(0x1a2b3c4d);
        Put16(1);
        Put16(0);
        Put64(ulong.MaxValue);
        PutOption(OptionComment, "Packets made again from kernel events: addresses, ports, TCP flags, numbers and lengths are those seen; "
            + "hop limits, windows, options and checksums are not. Payload is kept for DNS and the first line of HTTP only.");
        PutOption(4, "TraceProbe");
        End();
    }

    /// <summary>
    /// Writes the packet that the event tells of. Losses are told in the comment of the packet after them; events that are
    /// no packets (of sockets, processes, resets that show as packets anyway) are passed over.
    /// </summary>
    /// <returns>Whether a packet was written.</returns>
    public bool Write(in NetworkEvent e)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (e.Kind == EventKind.ObservationGap)
        {
            _lost += e.Lost;
            return false;
        }

        if (e.Kind is not (EventKind.PacketQueued or EventKind.PacketReceived or EventKind.PacketDropped))
        {
            return false;
        }

        var length = PacketWriter.Write(e, _packet, out var originalLength);
        if (length == 0)
        {
            return false;
        }

        _last = e.BootNanoseconds;
        var id = InterfaceOf(e);
        Begin(EnhancedPacket);
        Put32(id);
        PutTime(e.BootNanoseconds);
        Put32((uint)length);
        Put32((uint)originalLength);
        PutPadded(_packet.AsSpan(0, length));
        PutOption(OptionComment, Describe(e));
        if (e.Payload.IsEmpty ? e.PayloadLength > 0 : e.PayloadLength > e.Payload.Length)
        {
            PutOption(OptionComment, string.Create(CultureInfo.InvariantCulture, $"{e.PayloadLength} bytes of payload, {e.Payload.Length} of them kept"));
        }

        if (_lost > 0)
        {
            PutOption(OptionComment, Losses());
            _lost = 0;
        }

        // epb_flags, bits 0 and 1: inbound 1, outbound 2.
        var direction = e.Kind switch { EventKind.PacketReceived => 1u, EventKind.PacketQueued => 2u, _ => 0u };
        if (direction != 0)
        {
            Put16(2);
            Put16(4);
            Put32(direction);
        }

        End();
        return true;
    }

    /// <summary>Writes what is left to tell; the stream stays open.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        if (_lost > 0)
        {
            var id = InterfaceOf(default);
            Begin(InterfaceStatistics);
            Put32(id);
            PutTime(_last);
            PutOption(OptionComment, Losses());
            // isb_osdrop
            Put16(7);
            Put16(8);
            Put64((ulong)_lost);
            End();
        }

        _disposed = true;
        _stream.Flush();
    }

    /// <summary>What a reader wants to know of a packet that its bytes do not tell.</summary>
    internal static string Describe(in NetworkEvent e)
    {
        var text = new StringBuilder();
        text.Append(e.Kind switch
        {
            EventKind.PacketQueued => "queued",
            EventKind.PacketReceived => "received",
            _ => "dropped here",
        });
        if (e.Kind == EventKind.PacketDropped)
        {
            text.Append(": ").Append(e.DropReason ?? "the kernel gives no reason");
        }
        else if (e.Pid != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $" by {e.Command}({e.Pid})");
        }

        if (e.HasConntrack)
        {
            text.Append(", ").Append(DescribeTranslation(e));
        }

        return text.ToString();
    }

    // Conntrack's two tuples say what the client asked for and what an answer looks like; where the packet stands between them
    // says how far the translation has come.
    private static string DescribeTranslation(in NetworkEvent e)
    {
        var (tuple, original, reply) = (e.Tuple, e.Original, e.Reply);
        if (original == reply.Reverse)
        {
            return "not translated";
        }

        if (tuple == original)
        {
            return $"before translation: original {original}, to become {reply.Reverse}";
        }

        if (tuple == reply.Reverse)
        {
            return $"after translation: original {original}";
        }

        if (tuple == reply)
        {
            return $"answer, before translation back: to become {original.Reverse}";
        }

        return tuple == original.Reverse
            ? $"answer, after translation back: was {reply}"
            : $"translated in part: original {original}, reply {reply}";
    }

    private string Losses() => string.Create(CultureInfo.InvariantCulture, $"{_lost} events were lost before this");

    private uint InterfaceOf(in NetworkEvent e)
    {
        var key = (e.NetNs, e.InterfaceIndex, e.Interface);
        if (_interfaces.TryGetValue(key, out var id))
        {
            return id;
        }

        var place = _placeName(e.NetNs);
        place = string.IsNullOrEmpty(place) ? string.Create(CultureInfo.InvariantCulture, $"netns:{e.NetNs}") : place;
        var name = !e.Interface.IsEmpty ? e.Interface.ToString()
            : e.InterfaceIndex != 0 ? string.Create(CultureInfo.InvariantCulture, $"if{e.InterfaceIndex}")
            : "no-interface";
        id = (uint)_interfaces.Count;
        _interfaces.Add(key, id);

        Begin(InterfaceDescription);
        Put16(LinkTypeRaw);
        Put16(0);
        Put32(0);
        PutOption(2, $"{name}@{place}");
        // if_tsresol: 10^-9 seconds
        PutOption(9, [9]);
        End();
        return id;
    }

    private void PutTime(long bootNanoseconds)
    {
        var time = (ulong)(bootNanoseconds + _bootUnixNanoseconds);
        Put32((uint)(time >> 32));
        Put32((uint)time);
    }

    private void Begin(uint type)
    {
        _body.ResetWrittenCount();
        _type = type;
    }

    // Every block ends its options with a mark, and repeats its length at its end so that it can be read backwards.
    private void End()
    {
        Put32(0);
        var length = (uint)_body.WrittenCount + 12;
        Put32(length);
        Span<byte> head = stackalloc byte[8];
        BinaryPrimitives.WriteUInt32LittleEndian(head, _type);
        BinaryPrimitives.WriteUInt32LittleEndian(head[4..], length);
        _stream.Write(head);
        _stream.Write(_body.WrittenSpan);
    }

    private void PutOption(ushort code, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        PutOption(code, bytes.AsSpan(0, Math.Min(bytes.Length, ushort.MaxValue)));
    }

    private void PutOption(ushort code, ReadOnlySpan<byte> value)
    {
        Put16(code);
        Put16((ushort)value.Length);
        PutPadded(value);
    }

    private void PutPadded(ReadOnlySpan<byte> bytes)
    {
        _body.Write(bytes);
        ReadOnlySpan<byte> zeros = [0, 0, 0];
        _body.Write(zeros[..((4 - (bytes.Length & 3)) & 3)]);
    }

    private void Put16(ushort value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_body.GetSpan(2), value);
        _body.Advance(2);
    }

    private void Put32(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_body.GetSpan(4), value);
        _body.Advance(4);
    }

    private void Put64(ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(_body.GetSpan(8), value);
        _body.Advance(8);
    }
}
