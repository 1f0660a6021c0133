using System.Buffers.Binary;
using System.Collections.Immutable;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Cluster;

/// <summary>
/// Asks connection tracking for single connections (include/uapi/linux/netfilter/nfnetlink_conntrack.h), in the calling thread's network namespace: a
/// look-up in the kernel's hash, however many connections there are.
/// </summary>
internal static class ConntrackReader
{
    private const ushort IPCTNL_MSG_CT_GET = (1 << 8) | 1;
    private const int FamilySize = 4; // nfgenmsg
    private const byte AF_INET = 2;
    private const byte AF_INET6 = 10;
    private const ushort CTA_TUPLE_ORIG = 1;
    private const ushort CTA_TUPLE_REPLY = 2;
    private const int CTA_STATUS = 3;
    private const int CTA_PROTOINFO = 4;
    private const int CTA_TIMEOUT = 7;
    private const int CTA_MARK = 8;
    private const int CTA_ZONE = 18;
    private const ushort CTA_TUPLE_IP = 1;
    private const ushort CTA_TUPLE_PROTO = 2;
    private const ushort CTA_IP_V4_SRC = 1;
    private const ushort CTA_IP_V4_DST = 2;
    private const ushort CTA_IP_V6_SRC = 3;
    private const ushort CTA_IP_V6_DST = 4;
    private const ushort CTA_PROTO_NUM = 1;
    private const ushort CTA_PROTO_SRC_PORT = 2;
    private const ushort CTA_PROTO_DST_PORT = 3;
    private const int CTA_PROTOINFO_TCP = 1;
    private const int CTA_PROTOINFO_SCTP = 3;
    private const int CTA_PROTOINFO_STATE = 1; // of TCP and of SCTP

    // nf_conntrack_proto_tcp.c, nf_conntrack_proto_sctp.c
    private static readonly string[] TcpStates = ["NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"];
    private static readonly string[] SctpStates = ["NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT"];

    /// <summary>The entries of these connections, given as the client makes them or as they come back; those that are not tracked are left out.</summary>
    /// <exception cref="IOException">The kernel refused; the message says what is missing.</exception>
    public static ImmutableArray<ConntrackEntry> Find(IEnumerable<FiveTuple> connections)
    {
        // To ask would have the kernel load what is not loaded.
        if (!File.Exists("/proc/sys/net/netfilter/nf_conntrack_count") || NetlinkSocket.Open(NetlinkSocket.NETLINK_NETFILTER) is not { } socket)
        {
            return [];
        }

        using (socket)
        {
            var found = ImmutableArray.CreateBuilder<ConntrackEntry>();
            foreach (var tuple in connections)
            {
                var ipv4 = tuple.Source.Address.IsIPv4;
                var error = socket.Ask(
                    new NetlinkMessage(IPCTNL_MSG_CT_GET, NetlinkSocket.NLM_F_ACK, [ipv4 ? AF_INET : AF_INET6, 0, 0, 0]).Add(CTA_TUPLE_ORIG, m => Name(m, tuple)),
                    (_, payload) =>
                    {
                        if (TryRead(payload, out var entry) && !found.Contains(entry))
                        {
                            found.Add(entry);
                        }
                    });
                if (error is not (0 or NetlinkSocket.ENOENT))
                {
                    throw new IOException(error == NetlinkSocket.EPERM ? "The kernel does not let tracked connections be looked up; that needs root, or CAP_NET_ADMIN."
                        : $"The kernel did not look a tracked connection up: error {error}.");
                }
            }

            return found.ToImmutable();
        }
    }

    private static void Name(NetlinkMessage message, FiveTuple tuple)
    {
        var ipv4 = tuple.Source.Address.IsIPv4;
        message.Add(CTA_TUPLE_IP, m => m
            .Add(ipv4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple.Source.Address.ToIPAddress().GetAddressBytes())
            .Add(ipv4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple.Destination.Address.ToIPAddress().GetAddressBytes()));
        message.Add(CTA_TUPLE_PROTO, m => m
            .Add(CTA_PROTO_NUM, (byte)tuple.Protocol)
            .AddPort(CTA_PROTO_SRC_PORT, tuple.Source.Port)
            .AddPort(CTA_PROTO_DST_PORT, tuple.Destination.Port));
    }

    internal static bool TryRead(ReadOnlySpan<byte> payload, out ConntrackEntry entry)
    {
        entry = null!;
        if (payload.Length < FamilySize)
        {
            return false;
        }

        FiveTuple? original = null, reply = null;
        var status = ConntrackStatus.None;
        string? state = null;
        long? timeout = null;
        uint mark = 0;
        var zone = 0;
        var attributes = new NetlinkAttributes(payload[FamilySize..]);
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case CTA_TUPLE_ORIG:
                    original = ReadTuple(attributes.Value);
                    break;
                case CTA_TUPLE_REPLY:
                    reply = ReadTuple(attributes.Value);
                    break;
                case CTA_STATUS:
                    status = (ConntrackStatus)attributes.NetworkNumber;
                    break;
                case CTA_PROTOINFO:
                    state = ReadState(attributes.Value);
                    break;
                case CTA_TIMEOUT:
                    timeout = attributes.NetworkNumber;
                    break;
                case CTA_MARK:
                    mark = attributes.NetworkNumber;
                    break;
                case CTA_ZONE:
                    zone = (int)attributes.NetworkNumber;
                    break;
            }
        }

        if (original is not { } there || reply is not { } back)
        {
            return false;
        }

        entry = new ConntrackEntry(there, back) { Status = status, State = state, TimeoutSeconds = timeout, Mark = mark, Zone = zone };
        return true;
    }

    private static string? ReadState(ReadOnlySpan<byte> info)
    {
        var protocols = new NetlinkAttributes(info);
        while (protocols.Next())
        {
            var names = protocols.Type switch
            {
                CTA_PROTOINFO_TCP => TcpStates,
                CTA_PROTOINFO_SCTP => SctpStates,
                _ => [],
            };
            var fields = new NetlinkAttributes(protocols.Value);
            while (fields.Next())
            {
                if (fields.Type == CTA_PROTOINFO_STATE && fields.Number < names.Length)
                {
                    return names[fields.Number];
                }
            }
        }

        return null;
    }

    private static FiveTuple? ReadTuple(ReadOnlySpan<byte> tuple)
    {
        IpAddress? source = null, destination = null;
        IpProtocol protocol = default;
        ushort sourcePort = 0, destinationPort = 0;
        var parts = new NetlinkAttributes(tuple);
        while (parts.Next())
        {
            var fields = new NetlinkAttributes(parts.Value);
            while (fields.Next())
            {
                switch (parts.Type, fields.Type)
                {
                    case (CTA_TUPLE_IP, CTA_IP_V4_SRC or CTA_IP_V6_SRC) when fields.Value.Length is 4 or 16:
                        source = IpAddress.Read(fields.Value);
                        break;
                    case (CTA_TUPLE_IP, CTA_IP_V4_DST or CTA_IP_V6_DST) when fields.Value.Length is 4 or 16:
                        destination = IpAddress.Read(fields.Value);
                        break;
                    case (CTA_TUPLE_PROTO, CTA_PROTO_NUM):
                        protocol = (IpProtocol)fields.Number;
                        break;
                    case (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) when fields.Value.Length == 2:
                        sourcePort = BinaryPrimitives.ReadUInt16BigEndian(fields.Value);
                        break;
                    case (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) when fields.Value.Length == 2:
                        destinationPort = BinaryPrimitives.ReadUInt16BigEndian(fields.Value);
                        break;
                }
            }
        }

        return source is { } from && destination is { } to ? new FiveTuple(protocol, new AddressPort(from, sourcePort), new AddressPort(to, destinationPort)) : null;
    }
}
