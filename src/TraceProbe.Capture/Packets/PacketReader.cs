using System.Buffers.Binary;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Packets;

/// <summary>
/// Reads captured frames: link header, IPv4 (RFC 791) or IPv6 (RFC 8200), and the transport header. Nothing is allocated, nothing
/// throws, nothing outside of the frame is read: any bytes are ordinary input. Checksums are not looked at, since network cards
/// and the kernel fill them in after the place of capture.
/// </summary>
public static class PacketReader
{
    private const ushort EtherTypeIPv4 = 0x0800;
    private const ushort EtherTypeIPv6 = 0x86dd;

    // 802.1Q, 802.1ad, and what QinQ used before that was standardised. Two tags are in use; beyond four is hostile.
    private const int MaxVlanTags = 4;

    // RFC 8200 section 4.1 lists seven at most.
    private const int MaxExtensionHeaders = 8;

    /// <summary>Reads a frame.</summary>
    /// <param name="frame">The bytes captured.</param>
    /// <param name="link">What the frame begins with.</param>
    /// <param name="originalLength">The frame's length as it was sent, in bytes; not less than what was captured.</param>
    /// <param name="view">What the frame says.</param>
    /// <returns>False if it is no IP packet, is malformed, or the capture ends before the fixed part of its transport header does.</returns>
    public static bool TryRead(ReadOnlySpan<byte> frame, LinkType link, int originalLength, out PacketView view)
    {
        view = default;
        if (!TryReadLink(frame, link, ref view, out var offset))
        {
            return false;
        }

        var packet = frame[offset..];
        return TryReadIp(packet, Math.Max(originalLength - offset, packet.Length), ref view);
    }

    private static bool TryReadLink(ReadOnlySpan<byte> frame, LinkType link, ref PacketView view, out int length)
    {
        length = 0;
        int type;
        switch (link)
        {
            case LinkType.Ethernet:
                if (frame.Length < 14)
                {
                    return false;
                }

                type = BinaryPrimitives.ReadUInt16BigEndian(frame[12..]);
                length = 14;
                return SkipVlanTags(frame, ref type, ref length) && IsIp(frame, type, length);

            case LinkType.LinuxSll:
                if (frame.Length < 16)
                {
                    return false;
                }

                view.Direction = DirectionOf(BinaryPrimitives.ReadUInt16BigEndian(frame));
                type = BinaryPrimitives.ReadUInt16BigEndian(frame[14..]);
                length = 16;
                return SkipVlanTags(frame, ref type, ref length) && IsIp(frame, type, length);

            case LinkType.LinuxSll2:
                if (frame.Length < 20)
                {
                    return false;
                }

                type = BinaryPrimitives.ReadUInt16BigEndian(frame);
                view.InterfaceIndex = BinaryPrimitives.ReadInt32BigEndian(frame[4..]);
                view.Direction = DirectionOf(frame[10]);
                length = 20;
                return SkipVlanTags(frame, ref type, ref length) && IsIp(frame, type, length);

            case LinkType.Null or LinkType.Loop:
                if (frame.Length < 4)
                {
                    return false;
                }

                // The byte order is that of a machine unknown; no family is over 255, so both orders can be told apart.
                // AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, and 24, 28 or 30 on the BSDs.
                var family = BinaryPrimitives.ReadUInt32BigEndian(frame);
                family = family > 0xffff ? BinaryPrimitives.ReverseEndianness(family) : family;
                length = 4;
                return family switch
                {
                    2 => IsIp(frame, EtherTypeIPv4, length),
                    10 or 24 or 28 or 30 => IsIp(frame, EtherTypeIPv6, length),
                    _ => false,
                };

            case LinkType.Raw:
                return true;
            case LinkType.IPv4:
                return IsIp(frame, EtherTypeIPv4, 0);
            case LinkType.IPv6:
                return IsIp(frame, EtherTypeIPv6, 0);
            default:
                return false;
        }
    }

    private static bool SkipVlanTags(ReadOnlySpan<byte> frame, ref int type, ref int length)
    {
        for (var tags = 0; type is 0x8100 or 0x88a8 or 0x9100; tags++)
        {
            if (tags == MaxVlanTags || frame.Length - length < 4)
            {
                return false;
            }

            type = BinaryPrimitives.ReadUInt16BigEndian(frame[(length + 2)..]);
            length += 4;
        }

        return true;
    }

    // The link's word for what follows must agree with the version in the IP header itself.
    private static bool IsIp(ReadOnlySpan<byte> frame, int type, int offset)
        => offset < frame.Length && (frame[offset] >> 4) switch
        {
            4 => type == EtherTypeIPv4,
            6 => type == EtherTypeIPv6,
            _ => false,
        };

    // include/uapi/linux/if_packet.h: PACKET_HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING
    private static PacketDirection DirectionOf(int packetType) => packetType switch
    {
        0 or 1 or 2 => PacketDirection.Incoming,
        3 => PacketDirection.Passing,
        4 => PacketDirection.Outgoing,
        _ => PacketDirection.Unknown,
    };

    private static bool TryReadIp(ReadOnlySpan<byte> packet, int originalLength, ref PacketView view)
    {
        if (!TryReadIpHeader(packet, originalLength, out var ip))
        {
            return false;
        }

        view.IsFragment = ip.IsFragment;
        view.FragmentOffset = ip.FragmentOffset;
        var source = new AddressPort(ip.Source, 0);
        var destination = new AddressPort(ip.Destination, 0);
        view.Tuple = new FiveTuple(ip.Protocol, source, destination);

        // What the IP header counts as its own: an Ethernet frame may be padded, and the capture may end earlier.
        var body = packet[ip.HeaderLength..];
        var bodyLength = ip.TotalLength - ip.HeaderLength;
        if (body.Length > bodyLength)
        {
            body = body[..bodyLength];
        }

        if (ip.FragmentOffset > 0)
        {
            view.PayloadLength = bodyLength;
            view.Payload = body;
            return true;
        }

        switch (ip.Protocol)
        {
            case IpProtocol.Tcp:
                if (body.Length < 20)
                {
                    return false;
                }

                var header = (body[12] >> 4) * 4;
                if (header < 20 || header > bodyLength)
                {
                    return false;
                }

                view.Sequence = BinaryPrimitives.ReadUInt32BigEndian(body[4..]);
                view.Acknowledgment = BinaryPrimitives.ReadUInt32BigEndian(body[8..]);
                view.Flags = (TcpFlags)body[13];
                view.PayloadLength = bodyLength - header;
                view.Payload = header < body.Length ? body[header..] : default;
                break;

            case IpProtocol.Udp:
                if (body.Length < 8)
                {
                    return false;
                }

                // 0 means longer than the field can say (RFC 2675 section 4; segmentation offload). A first fragment
                // carries less than its length says.
                int length = BinaryPrimitives.ReadUInt16BigEndian(body[4..]);
                length = length == 0 ? bodyLength : Math.Min(length, bodyLength);
                if (length < 8)
                {
                    return false;
                }

                view.PayloadLength = length - 8;
                view.Payload = body[8..Math.Min(length, body.Length)];
                break;

            case IpProtocol.Sctp:
                if (body.Length < 12)
                {
                    return false;
                }

                view.PayloadLength = bodyLength - 12;
                view.Payload = body[12..];
                break;

            case IpProtocol.Icmp or IpProtocol.IcmpV6:
                if (body.Length < 4)
                {
                    return false;
                }

                view.IcmpType = body[0];
                view.IcmpCode = body[1];
                view.PayloadLength = Math.Max(bodyLength - 8, 0);
                if (QuotesPacket(ip.Protocol, body[0]) && body.Length > 8)
                {
                    view.Quoted = ReadQuoted(body[8..]);
                }

                return true;

            default:
                view.PayloadLength = bodyLength;
                view.Payload = body;
                return true;
        }

        view.Tuple = new FiveTuple(ip.Protocol, source with { Port = BinaryPrimitives.ReadUInt16BigEndian(body) },
            destination with { Port = BinaryPrimitives.ReadUInt16BigEndian(body[2..]) });
        return true;
    }

    // RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem. RFC 4443 section 2.1: all errors are under 128.
    private static bool QuotesPacket(IpProtocol protocol, byte type)
        => protocol == IpProtocol.Icmp ? type is 3 or 4 or 5 or 11 or 12 : type is > 0 and < 128;

    private static FiveTuple ReadQuoted(ReadOnlySpan<byte> quoted)
    {
        // An error quotes the beginning of a packet, eight bytes behind its IP header at least, so lengths say nothing here.
        if (!TryReadIpHeader(quoted, int.MaxValue, out var ip))
        {
            return default;
        }

        var ports = quoted[ip.HeaderLength..];
        var hasPorts = ip.FragmentOffset == 0 && ip.Protocol is IpProtocol.Tcp or IpProtocol.Udp or IpProtocol.Sctp;
        if (!hasPorts)
        {
            return new FiveTuple(ip.Protocol, new AddressPort(ip.Source, 0), new AddressPort(ip.Destination, 0));
        }

        return ports.Length < 4
            ? default
            : new FiveTuple(ip.Protocol, new AddressPort(ip.Source, BinaryPrimitives.ReadUInt16BigEndian(ports)),
                new AddressPort(ip.Destination, BinaryPrimitives.ReadUInt16BigEndian(ports[2..])));
    }

    private static bool TryReadIpHeader(ReadOnlySpan<byte> packet, int originalLength, out IpHeader ip)
    {
        ip = default;
        if (packet.IsEmpty)
        {
            return false;
        }

        return (packet[0] >> 4) switch
        {
            4 => TryReadIPv4Header(packet, originalLength, out ip),
            6 => TryReadIPv6Header(packet, originalLength, out ip),
            _ => false,
        };
    }

    private static bool TryReadIPv4Header(ReadOnlySpan<byte> packet, int originalLength, out IpHeader ip)
    {
        ip = default;
        if (packet.Length < 20)
        {
            return false;
        }

        var headerLength = (packet[0] & 15) * 4;
        if (headerLength < 20 || headerLength > packet.Length)
        {
            return false;
        }

        // 0: longer than 65,535 bytes before segmentation offload ("BIG TCP").
        int totalLength = BinaryPrimitives.ReadUInt16BigEndian(packet[2..]);
        totalLength = totalLength == 0 ? originalLength : Math.Min(totalLength, originalLength);
        if (totalLength < headerLength)
        {
            return false;
        }

        var fragment = BinaryPrimitives.ReadUInt16BigEndian(packet[6..]);
        ip.HeaderLength = headerLength;
        ip.TotalLength = totalLength;
        ip.Protocol = (IpProtocol)packet[9];
        ip.IsFragment = (fragment & 0x3fff) != 0;
        ip.FragmentOffset = (fragment & 0x1fff) * 8;
        ip.Source = IpAddress.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(packet[12..]));
        ip.Destination = IpAddress.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(packet[16..]));
        return true;
    }

    private static bool TryReadIPv6Header(ReadOnlySpan<byte> packet, int originalLength, out IpHeader ip)
    {
        ip = default;
        if (packet.Length < 40)
        {
            return false;
        }

        // 0: a jumbogram (RFC 2675), or BIG TCP, whose option the kernel leaves out.
        int payloadLength = BinaryPrimitives.ReadUInt16BigEndian(packet[4..]);
        ip.TotalLength = payloadLength == 0 ? originalLength : Math.Min(40 + payloadLength, originalLength);
        ip.Source = IpAddress.Read(packet[8..24]);
        ip.Destination = IpAddress.Read(packet[24..40]);

        var next = packet[6];
        var offset = 40;
        for (var count = 0; count <= MaxExtensionHeaders; count++)
        {
            int length;
            switch (next)
            {
                // Hop-by-hop, routing, destination options, mobility, host identity, shim6: length in units of 8 beyond the first 8.
                case 0 or 43 or 60 or 135 or 139 or 140:
                    if (packet.Length - offset < 8)
                    {
                        return false;
                    }

                    length = 8 + packet[offset + 1] * 8;
                    break;

                // Authentication header, RFC 4302: in units of 4, less 2.
                case 51:
                    if (packet.Length - offset < 8)
                    {
                        return false;
                    }

                    length = 8 + packet[offset + 1] * 4;
                    break;

                // Fragment
                case 44:
                    if (packet.Length - offset < 8)
                    {
                        return false;
                    }

                    length = 8;
                    var fragment = BinaryPrimitives.ReadUInt16BigEndian(packet[(offset + 2)..]);
                    ip.FragmentOffset = fragment & 0xfff8;
                    // One that is whole in itself (RFC 6946) is no fragment to anyone who follows a connection.
                    ip.IsFragment = (fragment & 0xfff9) != 0;
                    break;

                default:
                    ip.Protocol = (IpProtocol)next;
                    ip.HeaderLength = offset;
                    return ip.TotalLength >= offset;
            }

            next = packet[offset];
            offset += length;
            if (offset > packet.Length)
            {
                return false;
            }

            // What stands behind the header of a later fragment is the middle of something.
            if (ip.FragmentOffset > 0)
            {
                ip.Protocol = (IpProtocol)next;
                ip.HeaderLength = offset;
                return ip.TotalLength >= offset;
            }
        }

        return false;
    }

    private struct IpHeader
    {
        public IpAddress Source;
        public IpAddress Destination;
        public int HeaderLength;
        public int TotalLength;
        public int FragmentOffset;
        public bool IsFragment;
        public IpProtocol Protocol;
    }
}
