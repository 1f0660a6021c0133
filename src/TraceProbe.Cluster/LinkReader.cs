using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Cluster;

/// <summary>
/// Asks the kernel through rtnetlink (include/uapi/linux/rtnetlink.h) for bridges and their ports, for neighbours, and whether there are policy rules
/// beyond the usual, in the calling thread's network namespace. (/sys/class/net shows the namespace that /sys was mounted in.)
/// </summary>
internal static class LinkReader
{
    private const ushort RTM_GETLINK = 18;
    private const ushort RTM_GETNEIGH = 30;
    private const ushort RTM_GETRULE = 34;
    private const int LinkHeaderSize = 16; // ifinfomsg
    private const int NeighbourHeaderSize = 12; // ndmsg
    private const int RuleHeaderSize = 12; // fib_rule_hdr
    private const uint IFF_PROMISC = 0x100;
    private const int IFLA_IFNAME = 3;
    private const int IFLA_MASTER = 10;
    private const int IFLA_LINKINFO = 18;
    private const int IFLA_INFO_KIND = 1;
    private const int IFLA_INFO_DATA = 2;
    private const int IFLA_INFO_SLAVE_KIND = 4;
    private const int IFLA_INFO_SLAVE_DATA = 5;
    private const int IFLA_BRPORT_MODE = 4;
    private const int IFLA_BR_NF_CALL_IPTABLES = 36;
    private const int IFLA_BR_NF_CALL_IP6TABLES = 37;
    private const int NDA_DST = 1;
    private const int NDA_LLADDR = 2;
    private const int FRA_PRIORITY = 6;
    private const int FRA_TABLE = 15;
    private const int FRA_SUPPRESS_IFGROUP = 13;
    private const int FRA_SUPPRESS_PREFIXLEN = 14;
    private const int FRA_PROTOCOL = 21;
    private const byte FR_ACT_TO_TBL = 1;
    private const uint FIB_RULE_INVERT = 2;
    private const byte AF_INET = 2;
    private const byte AF_INET6 = 10;

    /// <summary>What was found.</summary>
    /// <param name="Names">The interfaces by index.</param>
    /// <param name="Bridges">The bridges.</param>
    /// <param name="Ports">Their ports.</param>
    /// <param name="Neighbours">The neighbours.</param>
    /// <param name="HasUsualRulesOnly">Whether there are no policy rules but those that every Linux begins with.</param>
    public sealed record Found(
        Dictionary<int, string> Names, ImmutableArray<Bridge> Bridges, ImmutableArray<BridgePort> Ports, ImmutableArray<Neighbour> Neighbours, bool HasUsualRulesOnly);

    /// <summary>Asks.</summary>
    /// <exception cref="IOException">The kernel does not answer.</exception>
    public static Found Read()
    {
        using var socket = NetlinkSocket.Open(NetlinkSocket.NETLINK_ROUTE) ?? throw new IOException("The kernel does not speak rtnetlink.");
        var links = new List<Link>();
        Dump(socket, RTM_GETLINK, LinkHeaderSize, payload =>
        {
            if (TryReadLink(payload, out var link))
            {
                links.Add(link);
            }
        }, links.Clear);
        var names = new Dictionary<int, string>();
        foreach (var link in links)
        {
            names.TryAdd(link.Index, link.Name);
        }


        var neighbours = ImmutableArray.CreateBuilder<Neighbour>();
        Dump(socket, RTM_GETNEIGH, NeighbourHeaderSize, payload =>
        {
            if (TryReadNeighbour(payload, names) is { } neighbour)
            {
                neighbours.Add(neighbour);
            }
        }, neighbours.Clear);

        var usual = true;
        Dump(socket, RTM_GETRULE, RuleHeaderSize, payload => usual &= IsUsualRule(payload), () => usual = true);
        return new Found(
            names,
            [.. links.Where(l => l.Kind == "bridge").Select(l => new Bridge(l.Name, l.CallsIptables, l.CallsIp6tables, l.IsPromiscuous))],
            [.. links.Where(l => l.PortKind == "bridge" && names.ContainsKey(l.Master)).Select(l => new BridgePort(l.Name, names[l.Master], l.Hairpin))],
            neighbours.ToImmutable(),
            usual);
    }

    private static void Dump(NetlinkSocket socket, ushort type, int headerSize, Action<ReadOnlySpan<byte>> take, Action restart)
    {
        var error = socket.Ask(new NetlinkMessage(type, NetlinkSocket.NLM_F_DUMP, stackalloc byte[headerSize]), (_, payload) => take(payload), restart);
        if (error != 0)
        {
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"The kernel did not list its links, neighbours and routing rules: error {error}."));
        }
    }

    internal sealed record Link(int Index, string Name)
    {
        public int Master { get; init; }
        public string Kind { get; init; } = "";
        public string PortKind { get; init; } = "";
        public bool? Hairpin { get; init; }
        public bool CallsIptables { get; init; }
        public bool CallsIp6tables { get; init; }
        public bool IsPromiscuous { get; init; }
    }

    internal static bool TryReadLink(ReadOnlySpan<byte> payload, out Link link)
    {
        link = new Link(0, "");
        if (payload.Length < LinkHeaderSize)
        {
            return false;
        }

        link = link with { Index = MemoryMarshal.Read<int>(payload[4..]), IsPromiscuous = (MemoryMarshal.Read<uint>(payload[8..]) & IFF_PROMISC) != 0 };
        var attributes = new NetlinkAttributes(payload[LinkHeaderSize..]);
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case IFLA_IFNAME:
                    link = link with { Name = attributes.Text };
                    break;
                case IFLA_MASTER:
                    link = link with { Master = (int)attributes.Number };
                    break;
                case IFLA_LINKINFO:
                    link = ReadInfo(link, attributes.Value);
                    break;
            }
        }

        return link.Name.Length > 0;
    }

    // The kind comes before what it says.
    private static Link ReadInfo(Link link, ReadOnlySpan<byte> info)
    {
        var attributes = new NetlinkAttributes(info);
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case IFLA_INFO_KIND:
                    link = link with { Kind = attributes.Text };
                    break;
                case IFLA_INFO_SLAVE_KIND:
                    link = link with { PortKind = attributes.Text };
                    break;
                case IFLA_INFO_DATA when link.Kind == "bridge":
                    var bridge = new NetlinkAttributes(attributes.Value);
                    while (bridge.Next())
                    {
                        link = bridge.Type switch
                        {
                            IFLA_BR_NF_CALL_IPTABLES => link with { CallsIptables = bridge.Number != 0 },
                            IFLA_BR_NF_CALL_IP6TABLES => link with { CallsIp6tables = bridge.Number != 0 },
                            _ => link,
                        };
                    }

                    break;
                case IFLA_INFO_SLAVE_DATA when link.PortKind == "bridge":
                    var port = new NetlinkAttributes(attributes.Value);
                    while (port.Next())
                    {
                        link = port.Type == IFLA_BRPORT_MODE ? link with { Hairpin = port.Number != 0 } : link;
                    }

                    break;
            }
        }

        return link;
    }

    internal static Neighbour? TryReadNeighbour(ReadOnlySpan<byte> payload, Dictionary<int, string> names)
    {
        if (payload.Length < NeighbourHeaderSize || payload[0] is not (AF_INET or AF_INET6)
            || StateOf(MemoryMarshal.Read<ushort>(payload[8..])) is not { } state || !names.TryGetValue(MemoryMarshal.Read<int>(payload[4..]), out var device))
        {
            return null;
        }

        IpAddress? address = null;
        string? link = null;
        var attributes = new NetlinkAttributes(payload[NeighbourHeaderSize..]);
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case NDA_DST when attributes.Value.Length is 4 or 16:
                    address = IpAddress.Read(attributes.Value);
                    break;
                case NDA_LLADDR when attributes.Value.Length > 0:
                    link = BitConverter.ToString(attributes.Value.ToArray()).Replace('-', ':').ToLowerInvariant();
                    break;
            }
        }

        return address is { } known ? new Neighbour(known, device, link, state) : null;
    }

    // NUD_…, include/uapi/linux/neighbour.h; ip-neighbour(8) leaves out those that need not be asked for too.
    private static string? StateOf(ushort state) => state switch
    {
        0x01 => "INCOMPLETE",
        0x02 => "REACHABLE",
        0x04 => "STALE",
        0x08 => "DELAY",
        0x10 => "PROBE",
        0x20 => "FAILED",
        0x80 => "PERMANENT",
        _ => null,
    };

    // from all lookup local | main | default
    internal static bool IsUsualRule(ReadOnlySpan<byte> payload)
    {
        if (payload.Length < RuleHeaderSize)
        {
            return false;
        }

        // Those of multicast routing are listed too (RTNL_FAMILY_IPMR).
        if (payload[0] is not (AF_INET or AF_INET6))
        {
            return true;
        }

        uint priority = 0, table = payload[4];
        var plain = payload[1] == 0 && payload[2] == 0 && payload[3] == 0 && payload[7] == FR_ACT_TO_TBL && (MemoryMarshal.Read<uint>(payload[8..]) & FIB_RULE_INVERT) == 0;
        var attributes = new NetlinkAttributes(payload[RuleHeaderSize..]);
        while (attributes.Next())
        {
            switch (attributes.Type)
            {
                case FRA_PRIORITY:
                    priority = attributes.Number;
                    break;
                case FRA_TABLE:
                    table = attributes.Number;
                    break;
                case FRA_PROTOCOL:
                    break;
                case FRA_SUPPRESS_IFGROUP or FRA_SUPPRESS_PREFIXLEN when attributes.Number == uint.MaxValue: // nothing
                    break;
                default: // a condition
                    plain = false;
                    break;
            }
        }

        return plain && (priority, table) is (0, 255) or (32766, 254) or (32767, 253);
    }
}
