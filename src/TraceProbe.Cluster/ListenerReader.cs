using System.Buffers.Binary;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Cluster;

/// <summary>A socket found in <c>/proc/net</c>, still without its process.</summary>
internal readonly record struct SocketEntry(uint NetNs, IpProtocol Protocol, AddressPort Local, ulong Inode);

/// <summary>
/// Reads waiting sockets from <c>/proc/net/{tcp,tcp6,udp,udp6}</c> of the calling thread's namespace:
/// <code>
///   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
///    0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 21432 …
/// </code>
/// Addresses are the kernel's 32-bit words in the machine's byte order, each printed as one number.
/// </summary>
internal static class ListenerReader
{
    private const int TCP_LISTEN = 0x0A;
    private const int TCP_CLOSE = 0x07; // what an unconnected UDP socket shows

    public static void Read(uint netNs, List<SocketEntry> sockets)
    {
        Read("/proc/thread-self/net/tcp", netNs, IpProtocol.Tcp, sockets);
        Read("/proc/thread-self/net/tcp6", netNs, IpProtocol.Tcp, sockets);
        Read("/proc/thread-self/net/udp", netNs, IpProtocol.Udp, sockets);
        Read("/proc/thread-self/net/udp6", netNs, IpProtocol.Udp, sockets);
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
