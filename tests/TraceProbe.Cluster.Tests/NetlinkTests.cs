using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;
using TraceProbe.Tests;

namespace TraceProbe.Cluster.Tests;

/// <summary>What the kernel's netlink says, in namespaces made here, beside what the tools say of the same.</summary>
public sealed class NetlinkTests
{
    private static void Shell(string command) => Tool.Run("/bin/sh", TimeSpan.FromSeconds(60), "-c", command);

    private static string Say(string command) => Tool.Run("/bin/sh", TimeSpan.FromSeconds(60), "-c", command);

    private static void Need(params string[] tools)
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        foreach (var tool in tools)
        {
            Assert.SkipWhen(Tool.Find(tool) is null, $"needs {tool}");
        }
    }

    private static T In<T>(string name, Func<T> work) => new NamespaceThread<T>($"/run/netns/{name}", work).Result;

    // A namespace of this test, and one of a neighbour behind a bridge.
    private static void WithNamespace(Action<string> test)
    {
        var name = $"tpnl-{Environment.ProcessId}-{Environment.CurrentManagedThreadId}";
        Shell($"ip netns add {name} && ip netns add {name}p");
        try
        {
            Shell($"""
                ip -n {name} link set lo up
                ip -n {name} link add cni0 type bridge && ip -n {name} addr add 10.77.1.1/24 dev cni0 && ip -n {name} link set cni0 up
                ip -n {name} link add veth1 type veth peer name eth0 netns {name}p && ip -n {name} link set veth1 master cni0 && ip -n {name} link set veth1 up
                ip -n {name}p link set lo up && ip -n {name}p link set eth0 up && ip -n {name}p addr add 10.77.1.2/24 dev eth0 && ip -n {name}p route add default via 10.77.1.1
                """);
            test(name);
        }
        finally
        {
            Shell($"ip netns delete {name}; ip netns delete {name}p");
        }
    }

    [Fact]
    public void BridgesNeighboursAndRules_AreWhatTheToolsSay()
    {
        Need("ip", "bridge");
        WithNamespace(name =>
        {
            Shell($"ip -n {name} link set veth1 type bridge_slave hairpin on && ip -n {name} neigh add 10.77.1.9 dev cni0 lladdr 02:00:00:00:00:09 nud permanent");
            var found = In(name, LinkReader.Read);
            found.Ports.ShouldBe(BridgePort.Parse(Say($"bridge -n {name} -d link")));
            found.Ports.ShouldBe([new BridgePort("veth1", "cni0", true)]);
            found.Bridges.ShouldBe([new Bridge("cni0", false, false, false)]);
            found.Neighbours.Where(n => n.State == "PERMANENT").ShouldBe([new Neighbour(IpAddress.Parse("10.77.1.9"), "cni0", "02:00:00:00:00:09", "PERMANENT")]);
            found.HasUsualRulesOnly.ShouldBeTrue();

            Shell($"ip -n {name} link set veth1 type bridge_slave hairpin off && ip -n {name} link set cni0 type bridge nf_call_iptables 1 && ip -n {name} link set cni0 promisc on && ip -n {name} rule add fwmark 0x200/0xf00 lookup 2004");
            found = In(name, LinkReader.Read);
            found.Ports.ShouldBe([new BridgePort("veth1", "cni0", false)]);
            found.Bridges.ShouldBe([new Bridge("cni0", true, false, true)]);
            found.HasUsualRulesOnly.ShouldBeFalse();

            var account = NodeReader.Read(new Place { Name = "node/n1", NetNsPath = $"/run/netns/{name}" }, []);
            account.Unread.ShouldBeEmpty();
            account.PolicyRules.Where(r => !r.IsUsual).ShouldHaveSingleItem().Mark.ShouldBe(0x200u);
            account.BridgePorts.ShouldBe(found.Ports);
        });
    }

    [Fact]
    public void SilentNeighbour_IsSeen()
    {
        Need("ip");
        WithNamespace(name =>
        {
            In(name, () =>
            {
                using var socket = new UdpClient(AddressFamily.InterNetwork);
                socket.Send([1], new IPEndPoint(IPAddress.Parse("10.77.1.200"), 9));
                return 0;
            });
            In(name, LinkReader.Read).Neighbours.Single(n => n.Address == IpAddress.Parse("10.77.1.200")).IsSilent.ShouldBeTrue();
        });
    }

    [Theory]
    [InlineData("10.77.1.2", "10.99.0.1", "iptables", false)]
    [InlineData("fd77::2", "fd99::1", "ip6tables", false)]
    [InlineData("10.77.1.2", "10.99.0.1", "iptables", true)]
    [InlineData("fd77::2", "fd99::1", "ip6tables", true)]
    public void TrackedConnection_IsFoundFromEitherSide(string server, string service, string tool, bool udp)
    {
        Need("ip", tool);
        WithNamespace(name =>
        {
            var v6 = server.Contains(':') ? $"ip -n {name} addr add fd77::1/64 dev cni0 nodad && ip -n {name}p addr add fd77::2/64 dev eth0 nodad && ip -n {name} route add fd99::/64 dev cni0 && " : $"ip -n {name} route add 10.99.0.0/16 dev cni0 && ";
            Shell($"{v6}ip netns exec {name} {tool} -t nat -A OUTPUT -d {service} -p {(udp ? "udp" : "tcp")} --dport 80 -j DNAT --to-destination {(server.Contains(':') ? $"[{server}]" : server)}:8080");
            var listening = new ManualResetEventSlim();
            using var done = new ManualResetEventSlim();
            var serving = new NamespaceThread<int>($"/run/netns/{name}p", () =>
            {
                using var socket = new Socket(IPAddress.Parse(server).AddressFamily, udp ? SocketType.Dgram : SocketType.Stream, udp ? ProtocolType.Udp : ProtocolType.Tcp) { ReceiveTimeout = 10_000 };
                socket.Bind(new IPEndPoint(IPAddress.Parse(server), 8080));
                if (udp)
                {
                    listening.Set();
                    EndPoint from = new IPEndPoint(IPAddress.Parse(server), 0);
                    socket.ReceiveFrom(new byte[8], ref from);
                    socket.SendTo([2], from);
                    return 0;
                }

                socket.Listen();
                listening.Set();
                using var accepted = socket.Accept();
                done.Wait(10_000);
                return 0;
            });
            listening.Wait(10_000).ShouldBeTrue();
            var (socket, asked) = In(name, () =>
            {
                var socket = new Socket(IPAddress.Parse(server).AddressFamily, udp ? SocketType.Dgram : SocketType.Stream, udp ? ProtocolType.Udp : ProtocolType.Tcp) { ReceiveTimeout = 10_000 };
                socket.Connect(new IPEndPoint(IPAddress.Parse(service), 80));
                if (udp)
                {
                    socket.Send([1]);
                    socket.Receive(new byte[8]);
                }

                return (socket, new FiveTuple(udp ? IpProtocol.Udp : IpProtocol.Tcp, AddressPort.From((IPEndPoint)socket.LocalEndPoint!), AddressPort.From((IPEndPoint)socket.RemoteEndPoint!)));
            });
            using (socket)
            {
                var node = new Place { Name = "node/n1", NetNsPath = $"/run/netns/{name}" };
                var entry = NodeReader.AskAgain(node, new NodeQuestion("n", [asked, asked with { Source = new AddressPort(asked.Source.Address, 1) }], [])).Conntrack.ShouldHaveSingleItem();
                entry.Original.ShouldBe(asked);
                entry.Backend.ShouldBe(new AddressPort(IpAddress.Parse(server), 8080));
                entry.State.ShouldBe(udp ? null : "ESTABLISHED");
                (entry.Status & (ConntrackStatus.SeenReply | ConntrackStatus.Dnat)).ShouldBe(ConntrackStatus.SeenReply | ConntrackStatus.Dnat);
                entry.TimeoutSeconds!.Value.ShouldBeGreaterThan(0);
                NodeReader.AskAgain(node, new NodeQuestion("n", [entry.Reply], [])).Conntrack.ShouldHaveSingleItem().Original.ShouldBe(asked);
            }

            done.Set();
            _ = serving.Result;
        });
    }

    [Theory]
    [InlineData("iptables-nft", "filter")]
    [InlineData("ip6tables-nft", "filter")]
    [InlineData("iptables-legacy", "filter")]
    [InlineData("nft", "ip shop")]
    public void PacketThatMetARule_IsCountedByItAndNoOther(string tool, string table)
    {
        Need("ip", tool);
        WithNamespace(name =>
        {
            var isIPv6 = tool[2] == '6';
            var backend = tool.EndsWith("legacy", StringComparison.Ordinal) ? RuleBackend.Legacy : tool == "nft" ? RuleBackend.Nftables : RuleBackend.Nft;
            Shell(tool == "nft"
                ? $"ip netns exec {name} nft 'add table ip shop; add chain ip shop door {{ type filter hook output priority 0; }}; add rule ip shop door udp dport 7 counter accept; add rule ip shop door udp dport 8 counter accept; add rule ip shop door udp dport 9 accept'"
                : $"for p in 7 8 9; do ip netns exec {name} {tool} -t filter -A OUTPUT -p udp --dport $p -j ACCEPT; done");
            RuleCount Count(int position, long before, int of = 3) => new(backend, isIPv6, table, tool == "nft" ? "door" : "OUTPUT", position, of, before);
            In(name, () =>
            {
                using var socket = new Socket(isIPv6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
                return socket.SendTo([1], new IPEndPoint(isIPv6 ? IPAddress.IPv6Loopback : IPAddress.Loopback, 8));
            });

            var node = new Place { Name = "node/n1", NetNsPath = $"/run/netns/{name}" };
            var answer = NodeReader.AskAgain(node, new NodeQuestion("n", [], [Count(1, 0), Count(2, 0)]));
            answer.Counts.ShouldBe([Count(1, 0), Count(2, 1)]);
            answer.Unread.ShouldBeEmpty();

            // Rules that came or went, or counters set back, make another chain of it.
            foreach (var changed in new[] { Count(2, 0, of: 4), Count(2, 5), Count(2, 0) with { Chain = "gone" } })
            {
                var none = NodeReader.AskAgain(node, new NodeQuestion("n", [], [changed]));
                none.Counts.ShouldBeEmpty();
                none.Unread.ShouldHaveSingleItem().Why.ShouldBe("the chain changed meanwhile");
            }
        });
    }

    [Fact]
    public void PolicyRules_LeadWhereTheKernelRoutes()
    {
        Need("ip");
        WithNamespace(name =>
        {
            Shell($"""
                ip netns exec {name} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
                for i in 1 2; do
                  ip -n {name} link add d$i type veth peer name e$i; ip -n {name} link set e$i up; ip -n {name} link set d$i up; ip -n {name} addr add 10.$i.0.1/24 dev d$i
                  ip netns exec {name} sh -c "echo 0 > /proc/sys/net/ipv4/conf/d$i/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"
                done
                ip -n {name} route add default via 10.1.0.254 dev d1
                ip -n {name} route add default via 10.2.0.254 dev d2 table 100
                ip -n {name} route add 10.9.0.0/16 dev d2 table 200
                ip -n {name} route add throw 10.9.7.0/24 table 200
                ip -n {name} route add unreachable 10.6.0.0/16 table 100
                ip -n {name} rule add pref 100 from 10.2.0.0/24 lookup 100
                ip -n {name} rule add pref 200 fwmark 0x4/0xc lookup 100
                ip -n {name} rule add pref 300 to 10.9.0.0/16 lookup 200
                ip -n {name} rule add pref 400 from 10.3.0.0/16 blackhole
                ip -n {name} rule add pref 500 iif d1 to 10.8.0.0/16 prohibit
                ip -n {name} rule add pref 600 to 10.7.0.0/16 unreachable
                ip -n {name} rule add pref 650 not from 10.0.0.0/14 lookup 100
                ip -n {name} rule add pref 700 fwmark 0x8/0x8 lookup main suppress_prefixlength 0
                ip -n {name} rule add pref 710 fwmark 0x8/0x8 goto 32767
                ip -n {name} rule add pref 720 oif d2 blackhole
                """);
            var routes = RouteTable.Parse(Say($"ip -n {name} route show table all").Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries),
                PolicyRule.Parse(Say($"ip -n {name} -4 rule show"), isIPv6: false));
            var kinds = new HashSet<string>();
            foreach (var source in new[] { "10.1.0.9", "10.2.0.9", "10.3.0.9", "10.5.0.9" })
            {
                foreach (var destination in new[] { "10.1.0.7", "10.2.0.7", "10.6.0.1", "10.7.0.1", "10.8.0.1", "10.9.0.1", "10.9.7.1", "203.0.113.1", "10.1.0.1" })
                {
                    foreach (var (inside, mark) in new[] { ("d1", 0u), ("d2", 0u), ("d1", 4u), ("d2", 8u), ("d2", 12u) })
                    {
                        var said = Say($"ip -n {name} route get {destination} from {source} iif {inside} mark {mark} 2>&1 || true");
                        var route = routes.Lookup(new FiveTuple(IpProtocol.Tcp, new AddressPort(IpAddress.Parse(source), 1), new AddressPort(IpAddress.Parse(destination), 2)), inside, mark, out var unknown);
                        unknown.ShouldBeNull();
                        var ours = route switch
                        {
                            null => "unreachable",
                            { Type: "local" } => "local",
                            { Type: "unicast" } => route.Device!,
                            _ => route.Type,
                        };
                        var theirs = said.StartsWith("local", StringComparison.Ordinal) ? "local"
                            : said.Contains("Permission denied", StringComparison.Ordinal) ? "prohibit"
                            : said.Contains("Invalid argument", StringComparison.Ordinal) ? "blackhole"
                            : said.Contains("unreachable", StringComparison.Ordinal) || said.Contains("No route to host", StringComparison.Ordinal) ? "unreachable"
                            : said.Split(' ') is var words && Array.IndexOf(words, "dev") is > 0 and var at ? words[at + 1] : said;
                        ours.ShouldBe(theirs, $"{source} to {destination} in by {inside}, mark {mark}: {route?.Raw}, the kernel says {said}");
                        kinds.Add(ours);
                    }
                }
            }

            kinds.Count.ShouldBe(6, string.Join(", ", kinds));

            // What it does not know it names, and goes on as if the rule were for others.
            Shell($"ip -n {name} rule add pref 50 uidrange 1000-2000 lookup 100");
            var unsure = RouteTable.Parse(["default via 10.1.0.254 dev d1", "default via 10.2.0.254 dev d2 table 100"], PolicyRule.Parse(Say($"ip -n {name} -4 rule show"), isIPv6: false));
            unsure.Lookup(new FiveTuple(IpProtocol.Tcp, new AddressPort(IpAddress.Parse("10.1.0.9"), 1), new AddressPort(IpAddress.Parse("203.0.113.1"), 2)), "d1", 0, out var named)!.Device.ShouldBe("d1");
            named.ShouldBe("50:\tfrom all uidrange 1000-2000 lookup 100");
        });
    }

    [Fact]
    public void VirtualServers_AreWhatIpvsadmSays()
    {
        Need("ip", "ipvsadm", "modprobe");
        Assert.SkipUnless(Directory.Exists("/proc/sys/net/ipv4/vs") || TryShell("modprobe ip_vs"), "needs a kernel with IPVS");
        WithNamespace(name =>
        {
            In(name, IpvsReader.Read)!.Servers.ShouldBeEmpty();
            Shell($"""
                ip netns exec {name} ipvsadm -R <<'X'
                -A -t 10.96.0.1:443 -s rr
                -a -t 10.96.0.1:443 -r 172.30.0.11:6443 -m -w 1
                -a -t 10.96.0.1:443 -r 172.30.0.12:6443 -m -w 0
                -A -t 10.96.0.2:80 -s wrr -p 10800
                -a -t 10.96.0.2:80 -r 10.244.1.2:8080 -m -w 100
                -A -u 10.96.0.10:53 -s sh -b sh-fallback,sh-port
                -A -u 10.96.0.11:53 -s rr -p 60 -o
                -A --sctp-service 10.96.0.3:7777 -s rr
                -A -t [fd00:10:96::1]:443 -s wlc -p 60 -M 64
                -a -t [fd00:10:96::1]:443 -r [fd00:10:244:1::2]:6443 -m -w 3
                -A -f 5 -s wlc -p 300 -M 255.255.255.0
                -a -f 5 -r 10.244.1.2:0 -g -w 1
                -A -f 5 -6 -s dh
                X
                """);
            var read = In(name, IpvsReader.Read)!;
            var said = Say($"ip netns exec {name} ipvsadm -Sn");
            read.Servers.Length.ShouldBe(8);
            Lines(read.ToText()).ShouldBe(Lines(said));
            Lines(IpvsadmSave.Parse(said).ToText()).ShouldBe(Lines(said));

            var account = NodeReader.Read(new Place { Name = "node/n1", NetNsPath = $"/run/netns/{name}" }, []);
            account.HasIpvs.ShouldBeTrue();
            account.Dumps.Single(d => d.Tool == "ipvsadm").Text.ShouldBe(read.ToText());
            account.Sysctls.ShouldContainKey("net.ipv4.vs.conntrack");
        });

        // The kernel's order is that of its hash.
        static string[] Lines(string text) => [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal)];
    }

    [Fact]
    public void ThousandVirtualServers_AreReadWhole()
    {
        Need("ip", "ipvsadm", "modprobe");
        Assert.SkipUnless(Directory.Exists("/proc/sys/net/ipv4/vs") || TryShell("modprobe ip_vs"), "needs a kernel with IPVS");
        WithNamespace(name =>
        {
            var lines = Enumerable.Range(0, 1000).SelectMany(i => (string[])[$"-A -t 10.96.{i / 250}.{i % 250}:80 -s rr", $"-a -t 10.96.{i / 250}.{i % 250}:80 -r 10.244.{i / 250}.{i % 250}:8080 -m -w 1", $"-a -t 10.96.{i / 250}.{i % 250}:80 -r 10.245.{i / 250}.{i % 250}:8080 -m -w 1"]);
            var file = Path.GetTempFileName();
            File.WriteAllLines(file, lines);
            Shell($"ip netns exec {name} ipvsadm -R < {file}");
            File.Delete(file);
            var watch = Stopwatch.StartNew();
            var table = In(name, IpvsReader.Read)!;
            TestContext.Current.TestOutputHelper?.WriteLine($"1000 virtual servers are read in {watch.ElapsedMilliseconds} ms");
            table.Servers.Length.ShouldBe(1000);
            table.Servers.ShouldAllBe(s => s.RealServers.Length == 2);
        });
    }

    [Fact]
    public void DamagedAnswers_AreReadOrRefusedButNeverCrash()
    {
        // A virtual server, a link and a tracked connection as the kernel words them, put together here.
        byte[] address = [10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        var service = new NetlinkMessage(99, 0, [1, 1, 0, 0]).Add(1, m => m.Add(1, (ushort)2).Add(2, (ushort)6).Add(3, address).AddPort(4, 443).Add(6, "rr\0"u8).Add(7, 1ul).Add(8, 60u).Add(9, uint.MaxValue)).Finish().ToArray();
        var link = new NetlinkMessage(16, 0, stackalloc byte[16]).Add(3, "veth1\0"u8).Add(10, 7u).Add(18, m => m.Add(1, "veth\0"u8).Add(4, "bridge\0"u8).Add(5, p => p.Add(4, (byte)1))).Finish().ToArray();
        var entry = new NetlinkMessage(256, 0, [2, 0, 0, 0]).Add(1, Tuple).Add(2, Tuple).Add(3, 8u).Add(4, m => m.Add(1, p => p.Add(1, (byte)3))).Finish().ToArray();
        static void Tuple(NetlinkMessage message) => message.Add(1, m => m.Add(1, [10, 0, 0, 1]).Add(2, [10, 0, 0, 2])).Add(2, m => m.Add(1, (byte)6).AddPort(2, 1000).AddPort(3, 80));

        // Whole, they are understood.
        IpvsReader.TryReadService(service.AsSpan(16), out var server, out _).ShouldBeTrue();
        server.ToString().ShouldBe("-A -t 10.96.0.1:443 -s rr -p 60");
        LinkReader.TryReadLink(link.AsSpan(16), out var read).ShouldBeTrue();
        (read.Name, read.Master, read.PortKind, read.Hairpin).ShouldBe(("veth1", 7, "bridge", true));
        ConntrackReader.TryRead(entry.AsSpan(16), out var tracked).ShouldBeTrue();
        (tracked.Original.ToString(), tracked.State).ShouldBe(("10.0.0.1:1000 > 10.0.0.2:80", "ESTABLISHED"));

        var random = new Random(5);
        foreach (var sample in (byte[][])[service, link, entry])
        {
            for (var length = 0; length <= sample.Length; length++)
            {
                Try(sample.AsSpan(0, length).ToArray());
            }

            for (var i = 0; i < 20_000; i++)
            {
                Try(Mutation.Of(sample, random));
            }
        }

        static void Try(byte[] datagram)
        {
            var interrupted = false;
            try
            {
                NetlinkSocket.Take(datagram, (_, payload) =>
                {
                    IpvsReader.TryReadService(payload, out var _, out var _);
                    IpvsReader.TryReadDestination(payload, 2, out var _);
                    IpvsReader.FamilyOf(payload);
                    LinkReader.TryReadLink(payload, out var _);
                    LinkReader.TryReadNeighbour(payload, []);
                    LinkReader.IsUsualRule(payload);
                    ConntrackReader.TryRead(payload, out var _);
                    NftTables.Take(payload, System.Collections.Immutable.ImmutableArray.CreateBuilder<string>());
                }, ref interrupted, out _);
            }
            catch (IOException)
            {
                // An impossible length, said so.
            }
        }
    }

    private static bool TryShell(string command)
    {
        try
        {
            Shell(command);
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }
}
