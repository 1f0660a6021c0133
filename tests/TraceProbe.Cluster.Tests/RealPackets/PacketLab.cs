using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests.RealPackets;

/// <summary>
/// Three network namespaces in a row: a client, a node that forwards, and a far side that takes whatever comes and answers nothing. Packets are made
/// by hand and really sent through whatever rules the node has; what arrives where is seen on raw sockets.
/// <code>
/// client 10.1.0.2-4 -- veth "in" -- node 10.1.0.1, 10.2.0.254 -- veth "out" -- far side 10.2.0.100, the way to everything else
/// </code>
/// </summary>
internal sealed class PacketLab : IDisposable
{
    private const int ETH_P_ALL = 0x0300; // in network order
    private const ushort EtherIPv4 = 0x0800;
    private const ushort EtherIPv6 = 0x86dd;

    public static readonly ushort[] Ports = [53, 80, 8080];

    private readonly string _prefix;
    private readonly Socket _atClient;
    private readonly Socket _atFarSide;
    private readonly Socket _atLoopback;
    private readonly Dictionary<bool, Socket> _clientSends = [];
    private readonly Dictionary<bool, Socket> _nodeSends = [];
    private readonly List<Socket> _listeners = [];
    private readonly byte[] _buffer = new byte[4096];

    public PacketLab(string prefix)
    {
        _prefix = prefix;
        Remove(prefix);
        var script = new List<string>();
        foreach (var ns in new[] { Client, Node, FarSide })
        {
            script.Add($"ip netns add {ns} && ip -n {ns} link set lo up");
            script.Add($"ip netns exec {ns} sh -c 'for f in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/icmp_ratelimit /proc/sys/net/ipv6/icmp/ratelimit /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$f; done'");
            script.Add($"ip netns exec {ns} sh -c 'for f in /proc/sys/net/ipv4/icmp_msgs_per_sec /proc/sys/net/ipv4/icmp_msgs_burst; do [ ! -w $f ] || echo 100000 >$f || true; done' 2>/dev/null || true");
        }

        script.Add($"ip -n {Node} link add in type veth peer name eth0 netns {Client} && ip -n {Node} link add out type veth peer name eth0 netns {FarSide}");
        script.Add($"ip netns exec {Node} sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; for f in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$f; done'");
        Wire(script, Node, "in", "02:00:00:00:00:01", ["10.1.0.1/24", "fd01::1/64"]);
        Wire(script, Client, "eth0", "02:00:00:00:00:02", ["10.1.0.2/24", "10.1.0.3/24", "10.1.0.4/24", "fd01::2/64", "fd01::3/64", "fd01::4/64"]);
        Wire(script, Node, "out", "02:00:00:00:00:03", ["10.2.0.254/24", "fd02::254/64"]);
        Wire(script, FarSide, "eth0", "02:00:00:00:00:04", ["10.2.0.100/24", "fd02::100/64"]);
        // Neighbours are told: rules that drop would drop their discovery too.
        foreach (var address in new[] { "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::2", "fd01::3", "fd01::4" })
        {
            script.Add($"ip -n {Node} neigh replace {address} lladdr 02:00:00:00:00:02 dev in nud permanent");
        }

        foreach (var (ns, gateway, mac, device) in new[] { (Client, "10.1.0.1", "01", "eth0"), (Client, "fd01::1", "01", "eth0"), (Node, "10.2.0.100", "04", "out"), (Node, "fd02::100", "04", "out") })
        {
            script.Add($"ip -n {ns} neigh replace {gateway} lladdr 02:00:00:00:00:{mac} dev {device} nud permanent && ip -n {ns} route add default via {gateway}");
        }

        // The far side says nothing, not even that it knows no way.
        script.Add($"ip -n {FarSide} route add blackhole default && ip -n {FarSide} -6 route add blackhole default");
        Tool.Run("/bin/sh", TimeSpan.FromSeconds(30), "-ec", string.Join('\n', script));

        _atClient = In(Client, Raw);
        _atFarSide = In(FarSide, Raw);
        _atLoopback = In(Node, Raw);
        foreach (var isIPv4 in new[] { true, false })
        {
            Socket Sender() => new(isIPv4 ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6, SocketType.Raw, ProtocolType.Raw);
            _clientSends[isIPv4] = In(Client, Sender);
            _nodeSends[isIPv4] = In(Node, Sender);
        }

        foreach (var port in Ports)
        {
            _listeners.Add(In(Node, () =>
            {
                var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Dgram, ProtocolType.Udp) { DualMode = true, Blocking = false };
                socket.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
                return socket;
            }));
            _listeners.Add(In(Node, () =>
            {
                var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true };
                socket.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
                socket.Listen(4096);
                return socket;
            }));
        }

        Routes = RouteTable.Parse(Tool.Run("/bin/sh", TimeSpan.FromSeconds(10), "-c", $"ip -n {Node} route show table all").Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
    }

    public string Client => $"{_prefix}c";

    public string Node => $"{_prefix}n";

    public string FarSide => $"{_prefix}f";

    public RouteTable Routes { get; }

    /// <summary>The node's addresses.</summary>
    public static IpAddress[] OwnAddresses { get; } = [IpAddress.Parse("10.1.0.1"), IpAddress.Parse("10.2.0.254"), IpAddress.Parse("fd01::1"), IpAddress.Parse("fd02::254")];

    /// <summary>Runs a tool in the node's namespace.</summary>
    public string OnNode(string command) => Tool.Run("/bin/sh", TimeSpan.FromSeconds(20), "-c", $"ip netns exec {Node} {command}");

    /// <summary>Sends a packet: UDP with the number as payload, or a SYN with it as sequence number.</summary>
    public void Send(FiveTuple tuple, bool fromNode, uint number)
    {
        var isIPv4 = tuple.Source.Address.IsIPv4;
        var isTcp = tuple.Protocol == IpProtocol.Tcp;
        var header = isIPv4 ? 20 : 40;
        var length = isTcp ? 20 : 12;
        var packet = new byte[header + length];
        Span<byte> source = stackalloc byte[16], destination = stackalloc byte[16];
        tuple.Source.Address.WriteMapped(source);
        tuple.Destination.Address.WriteMapped(destination);
        source = isIPv4 ? source[12..] : source;
        destination = isIPv4 ? destination[12..] : destination;
        if (isIPv4)
        {
            packet[0] = 0x45;
            BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(2), (ushort)packet.Length);
            packet[8] = 64;
            packet[9] = (byte)tuple.Protocol;
            source.CopyTo(packet.AsSpan(12));
            destination.CopyTo(packet.AsSpan(16));
        }
        else
        {
            packet[0] = 0x60;
            BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(4), (ushort)length);
            packet[6] = (byte)tuple.Protocol;
            packet[7] = 64;
            source.CopyTo(packet.AsSpan(8));
            destination.CopyTo(packet.AsSpan(24));
        }

        var transport = packet.AsSpan(header);
        BinaryPrimitives.WriteUInt16BigEndian(transport, tuple.Source.Port);
        BinaryPrimitives.WriteUInt16BigEndian(transport[2..], tuple.Destination.Port);
        if (isTcp)
        {
            BinaryPrimitives.WriteUInt32BigEndian(transport[4..], number);
            transport[12] = 5 << 4;
            transport[13] = (byte)TcpFlags.Syn;
            BinaryPrimitives.WriteUInt16BigEndian(transport[14..], 65535);
        }
        else
        {
            BinaryPrimitives.WriteUInt16BigEndian(transport[4..], (ushort)length);
            BinaryPrimitives.WriteUInt32BigEndian(transport[8..], number);
        }

        var sum = Checksum(source, destination, (byte)tuple.Protocol, transport);
        BinaryPrimitives.WriteUInt16BigEndian(transport[(isTcp ? 16 : 6)..], sum);
        try
        {
            (fromNode ? _nodeSends : _clientSends)[isIPv4].SendTo(packet, new IPEndPoint(tuple.Destination.Address.ToIPAddress(), 0));
        }
        catch (SocketException e) when (fromNode && e.SocketErrorCode == SocketError.AccessDenied)
        {
            // A sender on the node itself is told so when a rule dropped or rejected its packet.
        }
    }

    /// <summary>What arrived since it was last asked, by the packets' numbers, in words that <see cref="Expected"/> gives too.</summary>
    public void Collect(Dictionary<uint, HashSet<string>> seen)
    {
        foreach (var socket in _listeners.Where(l => l.SocketType == SocketType.Dgram))
        {
            while (socket.Poll(0, SelectMode.SelectRead))
            {
                EndPoint from = new IPEndPoint(IPAddress.IPv6Any, 0);
                if (socket.ReceiveFrom(_buffer, ref from) == 4)
                {
                    Note(seen, BinaryPrimitives.ReadUInt32BigEndian(_buffer), "taken by the node");
                }
            }
        }

        Read(_atFarSide, seen, isFarSide: true);
        Read(_atClient, seen, isFarSide: false);
        Read(_atLoopback, seen, isFarSide: false);
    }

    /// <summary>How a branch of a walk shows, in the words of <see cref="Collect"/>; null for a drop, which does not.</summary>
    public static string? Expected(VirtualPacket packet, WalkBranch branch)
    {
        var isIPv4 = packet.Tuple.Source.Address.IsIPv4;
        switch (branch.Outcome)
        {
            case WalkOutcome.Dropped:
                return null;
            case WalkOutcome.Rejected:
                return branch.RejectWith == "tcp-reset" ? "reset" : $"rejected {Code(branch.RejectWith!, isIPv4)}";
            default:
                var to = branch.Backend ?? packet.Tuple.Destination;
                if (branch.IsRedirect || OwnAddresses.Contains(to.Address) || to.Address.IsLoopback)
                {
                    return "taken by the node";
                }

                var source = branch.Masquerade ? IpAddress.Parse(isIPv4 ? "10.2.0.254" : "fd02::254") : branch.SourceBecomes ?? packet.Tuple.Source.Address;
                return $"arrived at {to} from {source}";
        }
    }

    public void Dispose()
    {
        foreach (var socket in _listeners.Concat(_clientSends.Values).Concat(_nodeSends.Values).Append(_atClient).Append(_atFarSide).Append(_atLoopback))
        {
            socket.Dispose();
        }

        Remove(_prefix);
    }

    // ICMP types and codes of the names that rules use (net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c, nf_tables nft_reject.c for icmpx).
    private static string Code(string name, bool isIPv4) => name switch
    {
        "icmp-net-unreachable" => "3/0",
        "icmp-host-unreachable" => "3/1",
        "icmp-port-unreachable" => "3/3",
        "icmp-net-prohibited" => "3/9",
        "icmp-host-prohibited" => "3/10",
        "icmp-admin-prohibited" => "3/13",
        "icmp6-no-route" => "1/0",
        "icmp6-admin-prohibited" or "icmp6-adm-prohibited" => "1/1",
        "icmp6-addr-unreachable" => "1/3",
        "icmp6-port-unreachable" => "1/4",
        "icmpx-port-unreachable" => isIPv4 ? "3/3" : "1/4",
        "icmpx-host-unreachable" => isIPv4 ? "3/1" : "1/3",
        "icmpx-admin-prohibited" => isIPv4 ? "3/13" : "1/1",
        "icmpx-no-route" => isIPv4 ? "3/0" : "1/0",
        _ => name,
    };

    private static void Wire(List<string> script, string ns, string device, string mac, string[] addresses)
    {
        script.Add($"ip -n {ns} link set {device} address {mac}");
        script.AddRange(addresses.Select(a => $"ip -n {ns} addr add {a} dev {device}{(a.Contains(':') ? " nodad" : "")}"));
        script.Add($"ip -n {ns} link set {device} up");
    }

    private static void Remove(string prefix)
    {
        foreach (var ns in new[] { $"{prefix}c", $"{prefix}n", $"{prefix}f" }.Where(ns => File.Exists($"/run/netns/{ns}")))
        {
            Tool.Run("/bin/sh", TimeSpan.FromSeconds(20), "-c", $"ip netns delete {ns}");
        }
    }

    private static Socket In(string ns, Func<Socket> make) => new NamespaceThread<Socket>($"/run/netns/{ns}", make).Result;

    private static Socket Raw()
    {
        var socket = new Socket(AddressFamily.Packet, SocketType.Raw, (ProtocolType)ETH_P_ALL) { Blocking = false };
        socket.ReceiveBufferSize = 4 << 20;
        return socket;
    }

    private void Read(Socket socket, Dictionary<uint, HashSet<string>> seen, bool isFarSide)
    {
        while (socket.Poll(0, SelectMode.SelectRead))
        {
            var length = socket.Receive(_buffer);
            if (length > 34)
            {
                ReadFrame(_buffer.AsSpan(0, length), seen, isFarSide);
            }
        }
    }

    private static void ReadFrame(ReadOnlySpan<byte> frame, Dictionary<uint, HashSet<string>> seen, bool isFarSide)
    {
        if (BinaryPrimitives.ReadUInt16BigEndian(frame[12..]) is not (EtherIPv4 or EtherIPv6) || !TryPacket(frame[14..], out var tuple, out var transport))
        {
            return;
        }

        switch (tuple.Protocol)
        {
            case IpProtocol.Udp when isFarSide && transport.Length >= 12:
                Note(seen, BinaryPrimitives.ReadUInt32BigEndian(transport[8..]), $"arrived at {tuple.Destination} from {tuple.Source.Address}");
                break;
            case IpProtocol.Tcp when transport.Length >= 20:
                var flags = (TcpFlags)transport[13] & (TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Rst);
                var number = BinaryPrimitives.ReadUInt32BigEndian(transport[4..]);
                var answered = BinaryPrimitives.ReadUInt32BigEndian(transport[8..]) - 1;
                if (isFarSide && flags == TcpFlags.Syn)
                {
                    Note(seen, number, $"arrived at {tuple.Destination} from {tuple.Source.Address}");
                }
                else if (!isFarSide && flags == (TcpFlags.Syn | TcpFlags.Ack))
                {
                    Note(seen, answered, "taken by the node");
                }
                else if (!isFarSide && flags == (TcpFlags.Rst | TcpFlags.Ack))
                {
                    Note(seen, answered, "reset");
                }

                break;
            case IpProtocol.Icmp or IpProtocol.IcmpV6 when !isFarSide && transport.Length > 8 && transport[0] is 1 or 3 && TryPacket(transport[8..], out var about, out var inner) && inner.Length >= 12:
                // It quotes the packet it is about.
                Note(seen, BinaryPrimitives.ReadUInt32BigEndian(inner[(about.Protocol == IpProtocol.Tcp ? 4 : 8)..]), $"rejected {transport[0]}/{transport[1]}");
                break;
        }
    }

    private static bool TryPacket(ReadOnlySpan<byte> packet, out FiveTuple tuple, out ReadOnlySpan<byte> transport)
    {
        tuple = default;
        transport = default;
        var isIPv4 = packet.Length > 0 && packet[0] >> 4 == 4;
        var header = isIPv4 ? (packet[0] & 15) * 4 : 40;
        if (packet.Length < header + 8)
        {
            return false;
        }

        transport = packet[header..];
        var width = isIPv4 ? 4 : 16;
        var at = isIPv4 ? 12 : 8;
        tuple = new FiveTuple(
            (IpProtocol)packet[isIPv4 ? 9 : 6],
            new AddressPort(IpAddress.Read(packet.Slice(at, width)), BinaryPrimitives.ReadUInt16BigEndian(transport)),
            new AddressPort(IpAddress.Read(packet.Slice(at + width, width)), BinaryPrimitives.ReadUInt16BigEndian(transport[2..])));
        return true;
    }

    private static void Note(Dictionary<uint, HashSet<string>> seen, uint number, string what)
    {
        if (seen.TryGetValue(number, out var events))
        {
            events.Add(what);
        }
    }

    private static ushort Checksum(ReadOnlySpan<byte> source, ReadOnlySpan<byte> destination, byte protocol, ReadOnlySpan<byte> transport)
    {
        uint sum = (uint)(protocol + transport.Length);
        foreach (var part in new[] { source.ToArray(), destination.ToArray(), transport.ToArray() })
        {
            for (var i = 0; i < part.Length; i += 2)
            {
                sum += (uint)((part[i] << 8) | (i + 1 < part.Length ? part[i + 1] : 0));
            }
        }

        while (sum >> 16 != 0)
        {
            sum = (sum & 0xffff) + (sum >> 16);
        }

        return (ushort)(sum == 0xffff ? sum : ~sum);
    }
}
