using System.Buffers.Binary;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Packets;

/// <summary>
/// Makes a packet again from what an event tells of it. Addresses, ports, control bits, numbers and lengths are those seen; what an
/// event does not carry (hop limit, window, options, most payload) is not: the hop limit is 64, the window 65,535, and payload that was not kept is
/// left out as a short capture leaves it out.
/// </summary>
internal static class PacketWriter
{
    /// <summary>The most bytes a packet made here can have.</summary>
    public const int MaxLength = 40 + 20 + MaxPayload;

    /// <summary>The most bytes of payload written.</summary>
    public const int MaxPayload = 2048;

    private const int MaxTotalLength = ushort.MaxValue;

    /// <summary>Writes the packet, beginning with its IP header.</summary>
    /// <param name="e">An event of a packet.</param>
    /// <param name="destination">Where to; <see cref="MaxLength"/> bytes always suffice.</param>
    /// <param name="originalLength">The packet's length as it was sent; more than what is written where payload was not kept.</param>
    /// <returns>The bytes written; 0 if the event's addresses make no packet.</returns>
    public static int Write(in NetworkEvent e, Span<byte> destination, out int originalLength)
    {
        originalLength = 0;
        var (source, target) = (e.Tuple.Source.Address, e.Tuple.Destination.Address);
        if (e.Tuple == default || source.IsIPv4 != target.IsIPv4)
        {
            return 0;
        }

        var ipLength = source.IsIPv4 ? 20 : 40;
        var body = destination[ipLength..];
        body.Clear();
        var kept = e.Payload.Span;
        kept = kept[..Math.Min(kept.Length, MaxPayload)];
        var room = MaxTotalLength - ipLength;
        // What the body has on the wire, and how much of it is written here.
        int length, written;
        switch (e.Tuple.Protocol)
        {
            case IpProtocol.Tcp:
                WritePorts(body, e.Tuple);
                BinaryPrimitives.WriteUInt32BigEndian(body[4..], e.Sequence);
                BinaryPrimitives.WriteUInt32BigEndian(body[8..], e.Acknowledgment);
                body[12] = 5 << 4;
                body[13] = (byte)e.Flags;
                BinaryPrimitives.WriteUInt16BigEndian(body[14..], ushort.MaxValue);
                kept.CopyTo(body[20..]);
                written = 20 + kept.Length;
                length = Math.Clamp(20 + Math.Max(e.PayloadLength, kept.Length), written, room);
                Seal(body[..written], body[16..18], e.Tuple, length);
                break;

            case IpProtocol.Udp:
                WritePorts(body, e.Tuple);
                kept.CopyTo(body[8..]);
                written = 8 + kept.Length;
                length = Math.Clamp(8 + Math.Max(e.PayloadLength, kept.Length), written, room);
                BinaryPrimitives.WriteUInt16BigEndian(body[4..], (ushort)length);
                Seal(body[..written], body[6..8], e.Tuple, length);
                if (body[6] == 0 && body[7] == 0)
                {
                    // RFC 768: 0 says that there is none; the other zero of one's complement stands in.
                    body[6] = body[7] = 0xff;
                }

                break;

            case IpProtocol.Sctp:
                WritePorts(body, e.Tuple);
                written = 12;
                length = Math.Clamp(12 + e.PayloadLength, written, room);
                break;

            case IpProtocol.Icmp or IpProtocol.IcmpV6:
                body[0] = e.IcmpType;
                body[1] = e.IcmpCode;
                if (e.Quoted != default && e.Quoted.Source.Address.IsIPv4 == e.Quoted.Destination.Address.IsIPv4)
                {
                    written = 8 + WriteQuoted(body[8..], e.Quoted);
                    length = Math.Clamp(8 + e.PayloadLength, written, room);
                }
                else
                {
                    // Type, code and checksum are all that is known; the shortest message that has a body of its own, neighbour
                    // solicitation, has 24 bytes.
                    written = 4;
                    length = Math.Clamp(8 + e.PayloadLength, e.Tuple.Protocol == IpProtocol.Icmp ? 8 : 24, room);
                }

                Seal(body[..written], body[2..4], e.Tuple, length);
                break;

            default:
                written = 0;
                length = Math.Clamp(e.PayloadLength, 0, room);
                break;
        }

        WriteIpHeader(destination, e.Tuple, length);
        originalLength = ipLength + length;
        return ipLength + written;
    }

    // IP header and the eight bytes behind it, which is what a router must quote (RFC 792) and all that a tuple needs.
    private static int WriteQuoted(Span<byte> destination, in FiveTuple quoted)
    {
        var ipLength = quoted.Source.Address.IsIPv4 ? 20 : 40;
        var length = quoted.Protocol == IpProtocol.Tcp ? 20 : 8;
        WriteIpHeader(destination, quoted, length);
        var body = destination.Slice(ipLength, 8);
        if (quoted.Protocol is IpProtocol.Tcp or IpProtocol.Udp or IpProtocol.Sctp)
        {
            WritePorts(body, quoted);
        }

        if (quoted.Protocol == IpProtocol.Udp)
        {
            BinaryPrimitives.WriteUInt16BigEndian(body[4..], 8);
        }

        return ipLength + 8;
    }

    private static void WriteIpHeader(Span<byte> header, in FiveTuple tuple, int bodyLength)
    {
        Span<byte> address = stackalloc byte[16];
        if (tuple.Source.Address.IsIPv4)
        {
            header[..20].Clear();
            header[0] = 0x45;
            BinaryPrimitives.WriteUInt16BigEndian(header[2..], (ushort)(20 + bodyLength));
            header[6] = 0x40;
            header[8] = 64;
            header[9] = (byte)tuple.Protocol;
            tuple.Source.Address.WriteMapped(address);
            address[12..].CopyTo(header[12..]);
            tuple.Destination.Address.WriteMapped(address);
            address[12..].CopyTo(header[16..]);
            BinaryPrimitives.WriteUInt16BigEndian(header[10..], (ushort)~Fold(Sum(header[..20])));
        }
        else
        {
            header[..8].Clear();
            header[0] = 0x60;
            BinaryPrimitives.WriteUInt16BigEndian(header[4..], (ushort)bodyLength);
            header[6] = (byte)tuple.Protocol;
            header[7] = 64;
            tuple.Source.Address.WriteMapped(header[8..]);
            tuple.Destination.Address.WriteMapped(header[24..]);
        }
    }

    private static void WritePorts(Span<byte> body, in FiveTuple tuple)
    {
        BinaryPrimitives.WriteUInt16BigEndian(body, tuple.Source.Port);
        BinaryPrimitives.WriteUInt16BigEndian(body[2..], tuple.Destination.Port);
    }

    // RFC 1071 over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) and the body. Bytes not kept count as zero,
    // so the sum of a shortened packet is not the real one; nobody can check it without them.
    private static void Seal(ReadOnlySpan<byte> body, Span<byte> checksum, in FiveTuple tuple, int length)
    {
        var sum = Sum(body);
        if (tuple.Protocol != IpProtocol.Icmp)
        {
            Span<byte> address = stackalloc byte[16];
            tuple.Source.Address.WriteMapped(address);
            sum += Sum(tuple.Source.Address.IsIPv4 ? address[12..] : address);
            tuple.Destination.Address.WriteMapped(address);
            sum += Sum(tuple.Destination.Address.IsIPv4 ? address[12..] : address);
            sum += (uint)length + (byte)tuple.Protocol;
        }

        BinaryPrimitives.WriteUInt16BigEndian(checksum, (ushort)~Fold(sum));
    }

    private static uint Sum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        while (bytes.Length >= 2)
        {
            sum += BinaryPrimitives.ReadUInt16BigEndian(bytes);
            bytes = bytes[2..];
        }

        return bytes.IsEmpty ? sum : sum + ((uint)bytes[0] << 8);
    }

    private static uint Fold(uint sum)
    {
        while (sum > 0xffff)
        {
            sum = (sum & 0xffff) + (sum >> 16);
        }

        return sum;
    }
}
