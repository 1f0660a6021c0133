using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;

namespace TraceProbe.Cluster;

/// <summary>A socket found in <c>/proc/net</c>, still without its process.</summary>
internal readonly record struct SocketEntry(uint NetNs, IpProtocol Protocol, AddressPort Local, ulong Inode)
{
    // Of a listening TCP socket, where the kernel told.
    public long? Waiting { get; init; }

    public long? Backlog { get; init; }
}

/// <summary>
/// Reads the waiting sockets of the calling thread's namespace: by netlink (include/uapi/linux/inet_diag.h, sock_diag(7)), where the kernel is asked for
/// those in a waiting state only, or where it does not speak that, from <c>/proc/net/{tcp,tcp6,udp,udp6}</c>:
/// <code>
///   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
///    0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 21432 …
/// </code>
/// Addresses are the kernel's 32-bit words in the machine's byte order, each printed as one number.
/// </summary>
/// <remarks>
/// The files have the kernel walk its table of established connections too, in which every namespace's stand: milliseconds for each file, although
/// the waiting sockets come first.
/// </remarks>
internal static class ListenerReader
{
    private const ushort SOCK_DIAG_BY_FAMILY = 20;
    private const byte AF_INET = 2;
    private const byte AF_INET6 = 10;
    private const int TCP_LISTEN = 0x0A;
    private const int TCP_CLOSE = 0x07; // what an unconnected UDP socket shows
    private const int MessageSize = 72; // inet_diag_msg

    private static readonly (IpProtocol, byte, string)[] Kinds =
    [
        (IpProtocol.Tcp, AF_INET, "/proc/thread-self/net/tcp"),
        (IpProtocol.Tcp, AF_INET6, "/proc/thread-self/net/tcp6"),
        (IpProtocol.Udp, AF_INET, "/proc/thread-self/net/udp"),
        (IpProtocol.Udp, AF_INET6, "/proc/thread-self/net/udp6"),
    ];

    public static void Read(uint netNs, List<SocketEntry> sockets)
    {
        using var diag = NetlinkSocket.Open(NetlinkSocket.NETLINK_SOCK_DIAG);
        foreach (var (protocol, family, file) in Kinds)
        {
            if (diag is null || !Ask(diag, protocol, family, netNs, sockets))
            {
                Read(file, netNs, protocol, sockets);
            }
        }
    }

    /// <summary>The same from the files alone.</summary>
    internal static void ReadFiles(uint netNs, List<SocketEntry> sockets)
    {
        foreach (var (protocol, _, file) in Kinds)
        {
            Read(file, netNs, protocol, sockets);
        }
    }

    // Without the part of the kernel that answers (CONFIG_INET_TCP_DIAG), it says ENOENT.
    private static bool Ask(NetlinkSocket diag, IpProtocol protocol, byte family, uint netNs, List<SocketEntry> sockets)
    {
        // inet_diag_req_v2: the family, the protocol, what else to tell (nothing), a byte of padding, the states, and which socket (any).
        Span<byte> request = stackalloc byte[56];
        request.Clear();
        (request[0], request[1]) = (family, (byte)protocol);
        MemoryMarshal.Write(request[4..], 1u << (protocol == IpProtocol.Tcp ? TCP_LISTEN : TCP_CLOSE));
        var before = sockets.Count;
        var error = diag.Ask(
            new NetlinkMessage(SOCK_DIAG_BY_FAMILY, NetlinkSocket.NLM_F_DUMP, request),
            (_, payload) =>
            {
                if (TryRead(payload, out var local, out var remotePort, out var inode) && remotePort == 0 && local.Port != 0)
                {
                    // idiag_rqueue and idiag_wqueue: of a listener the connections that wait, and how many may (tcp_diag_get_info).
                    sockets.Add(new SocketEntry(netNs, protocol, local, inode)
                    {
                        Waiting = protocol == IpProtocol.Tcp ? MemoryMarshal.Read<uint>(payload[56..]) : null,
                        Backlog = protocol == IpProtocol.Tcp ? MemoryMarshal.Read<uint>(payload[60..]) : null,
                    });
                }
            },
            () => sockets.RemoveRange(before, sockets.Count - before));
        return error == 0;
    }

    // inet_diag_msg: family, state, timer, retransmissions; ports and addresses in network order, interface, cookie; expiry, queues, user, inode.
    internal static bool TryRead(ReadOnlySpan<byte> message, out AddressPort local, out ushort remotePort, out ulong inode)
    {
        local = default;
        remotePort = 0;
        inode = 0;
        if (message.Length < MessageSize || message[0] is not (AF_INET or AF_INET6))
        {
            return false;
        }

        local = new AddressPort(IpAddress.Read(message.Slice(8, message[0] == AF_INET ? 4 : 16)), BinaryPrimitives.ReadUInt16BigEndian(message[4..]));
        remotePort = BinaryPrimitives.ReadUInt16BigEndian(message[6..]);
        inode = MemoryMarshal.Read<uint>(message[68..]);
        return true;
    }

    private static void Read(string path, uint netNs, IpProtocol protocol, List<SocketEntry> sockets)
    {
        if (!File.Exists(path))
        {
            return; // a kernel without IPv6
        }

        using var reader = new StreamReader(path);
        reader.ReadLine();
        while (reader.ReadLine() is { } line)
        {
            if (!TryParse(line, out var local, out var remotePort, out var state, out var inode))
            {
                continue;
            }

            if (protocol == IpProtocol.Tcp)
            {
                // The listening sockets come first (tcp_seq_start); a busy node has a hundred thousand others behind them.
                if (state != TCP_LISTEN)
                {
                    return;
                }
            }
            else if (state != TCP_CLOSE || remotePort != 0 || local.Port == 0)
            {
                continue;
            }

            sockets.Add(new SocketEntry(netNs, protocol, local, inode));
        }
    }

    internal static bool TryParse(ReadOnlySpan<char> line, out AddressPort local, out ushort remotePort, out int state, out ulong inode)
    {
        local = default;
        remotePort = 0;
        state = 0;
        inode = 0;
        Span<Range> fields = stackalloc Range[11];
        return line.Split(fields, ' ', StringSplitOptions.RemoveEmptyEntries) >= 10
            && TryAddress(line[fields[1]], out local)
            && TryAddress(line[fields[2]], out var remote)
            && (remotePort = remote.Port) >= 0
            && int.TryParse(line[fields[3]], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out state)
            && ulong.TryParse(line[fields[9]], NumberStyles.None, CultureInfo.InvariantCulture, out inode);
    }

    private static bool TryAddress(ReadOnlySpan<char> text, out AddressPort address)
    {
        address = default;
        var colon = text.IndexOf(':');
        if (colon is not (8 or 32) || !ushort.TryParse(text[(colon + 1)..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var port))
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[16];
        for (var i = 0; i < colon / 8; i++)
        {
            if (!uint.TryParse(text.Slice(i * 8, 8), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var word))
            {
                return false;
            }

            if (BitConverter.IsLittleEndian)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(bytes[(i * 4)..], word);
            }
            else
            {
                BinaryPrimitives.WriteUInt32BigEndian(bytes[(i * 4)..], word);
            }
        }

        address = new AddressPort(IpAddress.Read(bytes[..(colon / 2)]), port);
        return true;
    }
}
