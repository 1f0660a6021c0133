using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Cluster;

/// <summary>
/// Asks the kernel through netlink which nftables tables exist (include/uapi/linux/netfilter/nf_tables.h). It takes well under a
/// millisecond, says which dumps are worth taking, and needs no nft on the node.
/// </summary>
internal static unsafe class NftTables
{
    private const int AF_NETLINK = 16;
    private const int SOCK_RAW = 3;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int NETLINK_NETFILTER = 12;
    private const int EPERM = 1;
    private const ushort NLMSG_ERROR = 2;
    private const ushort NLMSG_DONE = 3;
    private const ushort NLM_F_REQUEST = 1;
    private const ushort NLM_F_DUMP = 0x300;
    private const ushort NFT_MSG_GETTABLE = (10 << 8) | 1;
    private const ushort NFTA_TABLE_NAME = 1;
    private const int HeaderSize = 16; // nlmsghdr
    private const int FamilySize = 4; // nfgenmsg

    /// <summary>The tables of the calling thread's network namespace, named as nft does: <c>ip nat</c>, <c>ip6 kube-proxy</c>.</summary>
    /// <exception cref="IOException">The kernel refused; the message says what is missing.</exception>
    public static ImmutableArray<string> List()
    {
        using SafeFileHandle socket = Libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        if (socket.IsInvalid)
        {
            return []; // a kernel without netfilter's netlink has no nftables
        }

        Span<byte> request = stackalloc byte[HeaderSize + FamilySize];
        request.Clear();
        MemoryMarshal.Write(request, request.Length);
        MemoryMarshal.Write(request[4..], NFT_MSG_GETTABLE);
        MemoryMarshal.Write(request[6..], (ushort)(NLM_F_REQUEST | NLM_F_DUMP));
        fixed (byte* bytes = request)
        {
            if (Libc.send(socket, bytes, (nuint)request.Length, 0) < 0)
            {
                throw new IOException($"nftables tables could not be asked for: {Marshal.GetLastPInvokeErrorMessage()}.");
            }
        }

        var tables = ImmutableArray.CreateBuilder<string>();
        var buffer = new byte[32 * 1024];
        while (true)
        {
            nint length;
            fixed (byte* bytes = buffer)
            {
                length = Libc.recv(socket, bytes, (nuint)buffer.Length, 0);
            }

            if (length <= 0)
            {
                throw new IOException($"nftables tables could not be read: {Marshal.GetLastPInvokeErrorMessage()}.");
            }

            if (!Take(buffer.AsSpan(0, (int)length), tables))
            {
                return tables.ToImmutable();
            }
        }
    }

    /// <summary>Takes the messages of one datagram; false when the last one was among them.</summary>
    internal static bool Take(ReadOnlySpan<byte> datagram, ImmutableArray<string>.Builder tables)
    {
        while (datagram.Length >= HeaderSize)
        {
            var length = MemoryMarshal.Read<int>(datagram);
            var type = MemoryMarshal.Read<ushort>(datagram[4..]);
            if (length < HeaderSize || length > datagram.Length)
            {
                return false;
            }

            if (type == NLMSG_DONE)
            {
                return false;
            }

            if (type == NLMSG_ERROR)
            {
                var error = length >= HeaderSize + 4 ? -MemoryMarshal.Read<int>(datagram[HeaderSize..]) : 0;
                // Anything but a refusal means that this kernel has no nf_tables.
                return error == EPERM ? throw new IOException("The kernel does not let nftables tables be listed; that needs root, or CAP_NET_ADMIN.") : false;
            }

            if (length >= HeaderSize + FamilySize)
            {
                var family = datagram[HeaderSize];
                var attributes = datagram[(HeaderSize + FamilySize)..length];
                while (attributes.Length >= 4)
                {
                    var size = MemoryMarshal.Read<ushort>(attributes);
                    if (size < 4 || size > attributes.Length)
                    {
                        break;
                    }

                    if ((MemoryMarshal.Read<ushort>(attributes[2..]) & 0x3fff) == NFTA_TABLE_NAME)
                    {
                        tables.Add($"{FamilyName(family)} {Encoding.UTF8.GetString(attributes[4..size].TrimEnd((byte)0))}");
                    }

                    attributes = attributes[Math.Min((size + 3) & ~3, attributes.Length)..];
                }
            }

            datagram = datagram[Math.Min((length + 3) & ~3, datagram.Length)..];
        }

        return true;
    }

    // NFPROTO_…, include/uapi/linux/netfilter.h
    private static string FamilyName(byte family) => family switch
    {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => $"family-{family}",
    };
}
