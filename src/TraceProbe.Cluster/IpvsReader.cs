using System.Collections.Immutable;
using System.Numerics;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster;

/// <summary>
/// Reads the virtual servers of IPVS and their real servers through generic netlink (include/uapi/linux/ip_vs.h), in the calling thread's network
/// namespace; ipvsadm is not needed for it.
/// </summary>
internal static class IpvsReader
{
    // genetlink.h
    private const ushort GENL_ID_CTRL = 0x10;
    private const byte CTRL_CMD_GETFAMILY = 3;
    private const ushort CTRL_ATTR_FAMILY_ID = 1;
    private const ushort CTRL_ATTR_FAMILY_NAME = 2;
    private const int GenericHeaderSize = 4; // genlmsghdr

    private const byte IPVS_CMD_GET_SERVICE = 4;
    private const byte IPVS_CMD_GET_DEST = 8;
    private const ushort IPVS_CMD_ATTR_SERVICE = 1;
    private const ushort IPVS_CMD_ATTR_DEST = 2;

    private const ushort IPVS_SVC_ATTR_AF = 1;
    private const ushort IPVS_SVC_ATTR_PROTOCOL = 2;
    private const ushort IPVS_SVC_ATTR_ADDR = 3;
    private const ushort IPVS_SVC_ATTR_PORT = 4;
    private const ushort IPVS_SVC_ATTR_FWMARK = 5;
    private const int IPVS_SVC_ATTR_SCHED_NAME = 6;
    private const int IPVS_SVC_ATTR_FLAGS = 7;
    private const int IPVS_SVC_ATTR_TIMEOUT = 8;
    private const int IPVS_SVC_ATTR_NETMASK = 9;
    private const int IPVS_SVC_ATTR_PE_NAME = 11;

    private const int IPVS_DEST_ATTR_ADDR = 1;
    private const int IPVS_DEST_ATTR_PORT = 2;
    private const int IPVS_DEST_ATTR_FWD_METHOD = 3;
    private const int IPVS_DEST_ATTR_WEIGHT = 4;
    private const int IPVS_DEST_ATTR_ADDR_FAMILY = 11;

    private const uint IP_VS_SVC_F_PERSISTENT = 1;
    private const uint IP_VS_SVC_F_ONEPACKET = 4;
    private const uint IP_VS_SVC_F_SCHED1 = 8;
    private const uint IP_VS_SVC_F_SCHED2 = 16;
    private const uint IP_VS_SVC_F_SCHED3 = 32;
    private const uint IP_VS_CONN_F_FWD_MASK = 7;
    private const uint IP_VS_CONN_F_TUNNEL = 2;
    private const uint IP_VS_CONN_F_DROUTE = 3;
    private const uint IP_VS_CONN_F_MASQ = 0;
    private const ushort AF_INET = 2;
    private const ushort AF_INET6 = 10;

    /// <summary>The virtual servers; null when this kernel has no IPVS, or has not loaded it.</summary>
    /// <exception cref="IOException">The kernel refused; the message says what is missing.</exception>
    public static IpvsTable? Read()
    {
        // To ask for a family that is not there has the kernel load its module.
        if (!File.Exists("/proc/thread-self/net/ip_vs"))
        {
            return null;
        }

        using var socket = NetlinkSocket.Open(NetlinkSocket.NETLINK_GENERIC);
        if (socket is null)
        {
            return null;
        }

        ushort family = 0;
        var error = socket.Ask(
            new NetlinkMessage(GENL_ID_CTRL, NetlinkSocket.NLM_F_ACK, [CTRL_CMD_GETFAMILY, 1, 0, 0]).Add(CTRL_ATTR_FAMILY_NAME, "IPVS\0"u8),
            (_, payload) => family = FamilyOf(payload));
        if (error != 0 || family == 0)
        {
            return error is 0 or NetlinkSocket.ENOENT ? null : throw Refused(error);
        }

        var found = new List<(VirtualServer Server, ushort Family)>();
        error = socket.Ask(
            new NetlinkMessage(family, NetlinkSocket.NLM_F_DUMP, [IPVS_CMD_GET_SERVICE, 1, 0, 0]),
            (_, payload) =>
            {
                if (TryReadService(payload, out var server, out var addressFamily))
                {
                    found.Add((server, addressFamily));
                }
            },
            found.Clear);
        if (error != 0)
        {
            throw Refused(error);
        }

        var servers = ImmutableArray.CreateBuilder<VirtualServer>(found.Count);
        foreach (var (server, addressFamily) in found)
        {
            var behind = ImmutableArray.CreateBuilder<RealServer>();
            error = socket.Ask(
                new NetlinkMessage(family, NetlinkSocket.NLM_F_DUMP, [IPVS_CMD_GET_DEST, 1, 0, 0]).Add(IPVS_CMD_ATTR_SERVICE, m => Name(m, server, addressFamily)),
                (_, payload) =>
                {
                    if (TryReadDestination(payload, addressFamily, out var real))
                    {
                        behind.Add(real);
                    }
                },
                behind.Clear);
            if (error is not (0 or NetlinkSocket.ENOENT)) // it may be gone by now
            {
                throw Refused(error);
            }

            servers.Add(server with { RealServers = behind.ToImmutable() });
        }

        return new IpvsTable(servers.MoveToImmutable());
    }

    private static IOException Refused(int error)
        => new(error == NetlinkSocket.EPERM ? "The kernel does not let the virtual servers of IPVS be listed; that needs root, or CAP_NET_ADMIN." : $"The kernel did not list the virtual servers of IPVS: error {error}.");

    internal static ushort FamilyOf(ReadOnlySpan<byte> payload)
    {
        var attributes = new NetlinkAttributes(payload.Length < GenericHeaderSize ? [] : payload[GenericHeaderSize..]);
        while (attributes.Next())
        {
            if (attributes.Type == CTRL_ATTR_FAMILY_ID)
            {
                return (ushort)attributes.Number;
            }
        }

        return 0;
    }

    private static void Name(NetlinkMessage message, VirtualServer server, ushort family)
    {
        message.Add(IPVS_SVC_ATTR_AF, family);
        if (server.Mark != 0)
        {
            message.Add(IPVS_SVC_ATTR_FWMARK, server.Mark);
            return;
        }

        // Sixteen bytes in either family (union nf_inet_addr), an IPv4 address in the first four.
        Span<byte> address = stackalloc byte[16];
        var bytes = server.Address.Address.ToIPAddress().GetAddressBytes();
        bytes.CopyTo(address);
        message.Add(IPVS_SVC_ATTR_PROTOCOL, (ushort)server.Protocol).Add(IPVS_SVC_ATTR_ADDR, address).AddPort(IPVS_SVC_ATTR_PORT, server.Address.Port);
    }

    internal static bool TryReadService(ReadOnlySpan<byte> payload, out VirtualServer server, out ushort family)
    {
        server = new VirtualServer { Scheduler = "" };
        family = 0;
        if (!TryInner(payload, IPVS_CMD_ATTR_SERVICE, out var attributes))
        {
            return false;
        }

        ReadOnlySpan<byte> address = [];
        uint port = 0, flags = 0, netmask = 0, timeout = 0;
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case IPVS_SVC_ATTR_AF:
                    family = (ushort)attributes.Number;
                    break;
                case IPVS_SVC_ATTR_PROTOCOL:
                    server = server with { Protocol = (IpProtocol)attributes.Number };
                    break;
                case IPVS_SVC_ATTR_ADDR:
                    address = attributes.Value;
                    break;
                case IPVS_SVC_ATTR_PORT:
                    port = attributes.NetworkNumber;
                    break;
                case IPVS_SVC_ATTR_FWMARK:
                    server = server with { Mark = attributes.Number };
                    break;
                case IPVS_SVC_ATTR_SCHED_NAME:
                    server = server with { Scheduler = attributes.Text };
                    break;
                case IPVS_SVC_ATTR_FLAGS when attributes.Value.Length >= 4: // flags, and the mask of those meant
                    flags = System.Runtime.InteropServices.MemoryMarshal.Read<uint>(attributes.Value);
                    break;
                case IPVS_SVC_ATTR_TIMEOUT:
                    timeout = attributes.Number;
                    break;
                case IPVS_SVC_ATTR_NETMASK:
                    netmask = attributes.Number;
                    break;
                case IPVS_SVC_ATTR_PE_NAME:
                    server = server with { PersistenceEngine = attributes.Text.Length == 0 ? null : attributes.Text };
                    break;
            }
        }

        var isIPv6 = family == AF_INET6;
        if (family is not (AF_INET or AF_INET6) || server.Scheduler.Length == 0 || server.Mark == 0 && address.Length < (isIPv6 ? 16 : 4))
        {
            return false;
        }

        server = server with
        {
            Address = server.Mark != 0 ? new AddressPort(isIPv6 ? IpAddress.IPv6Any : IpAddress.IPv4Any, 0) : new AddressPort(IpAddress.Read(address[..(isIPv6 ? 16 : 4)]), (ushort)port),
            PersistenceSeconds = (flags & IP_VS_SVC_F_PERSISTENT) != 0 ? (int)Math.Min(timeout, int.MaxValue) : null,
            // In IPv4 a mask in network order, in IPv6 its length.
            PersistencePrefix = (flags & IP_VS_SVC_F_PERSISTENT) == 0 ? 0 : isIPv6 ? (int)Math.Min(netmask, 128) : BitOperations.PopCount(netmask),
            OnePacket = (flags & IP_VS_SVC_F_ONEPACKET) != 0,
            SchedulerFlags = FlagsOf(server.Scheduler, flags),
        };
        return true;
    }

    // Two schedulers have names for them, which ipvsadm prints.
    private static ImmutableArray<string> FlagsOf(string scheduler, uint flags)
    {
        var names = ImmutableArray.CreateBuilder<string>();
        void Name(uint flag, string otherwise, string? suffix)
        {
            if ((flags & flag) != 0)
            {
                names.Add(suffix is not null && scheduler is "sh" or "mh" ? $"{scheduler}-{suffix}" : otherwise);
            }
        }

        Name(IP_VS_SVC_F_SCHED1, "flag-1", "fallback");
        Name(IP_VS_SVC_F_SCHED2, "flag-2", "port");
        Name(IP_VS_SVC_F_SCHED3, "flag-3", null);
        return names.ToImmutable();
    }

    internal static bool TryReadDestination(ReadOnlySpan<byte> payload, ushort serverFamily, out RealServer real)
    {
        real = null!;
        if (!TryInner(payload, IPVS_CMD_ATTR_DEST, out var attributes))
        {
            return false;
        }

        ReadOnlySpan<byte> address = [];
        uint port = 0, method = 0, weight = 0;
        var family = serverFamily; // before Linux 3.18 it was not told, and always the virtual server's
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case IPVS_DEST_ATTR_ADDR:
                    address = attributes.Value;
                    break;
                case IPVS_DEST_ATTR_PORT:
                    port = attributes.NetworkNumber;
                    break;
                case IPVS_DEST_ATTR_FWD_METHOD:
                    method = attributes.Number & IP_VS_CONN_F_FWD_MASK;
                    break;
                case IPVS_DEST_ATTR_WEIGHT:
                    weight = attributes.Number;
                    break;
                case IPVS_DEST_ATTR_ADDR_FAMILY:
                    family = (ushort)attributes.Number;
                    break;
            }
        }

        var width = family == AF_INET6 ? 16 : 4;
        if (address.Length < width)
        {
            return false;
        }

        real = new RealServer(new AddressPort(IpAddress.Read(address[..width]), (ushort)port), method switch
        {
            IP_VS_CONN_F_MASQ => Forwarding.Masquerade,
            IP_VS_CONN_F_TUNNEL => Forwarding.Tunnel,
            IP_VS_CONN_F_DROUTE => Forwarding.DirectRouting,
            _ => Forwarding.DirectRouting, // 1 is a local server, 4 a bypass, neither of which can be asked for
        }, (int)Math.Min(weight, int.MaxValue));
        return true;
    }

    private static bool TryInner(ReadOnlySpan<byte> payload, int type, out NetlinkAttributes inner)
    {
        inner = default;
        var attributes = new NetlinkAttributes(payload.Length < GenericHeaderSize ? [] : payload[GenericHeaderSize..]);
        while (attributes.Next())
        {
            if (attributes.Type == type)
            {
                inner = new NetlinkAttributes(attributes.Value);
                return true;
            }
        }

        return false;
    }
}
