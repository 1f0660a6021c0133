using System.Net;
using System.Net.Sockets;
using System.Diagnostics;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>Reads a real node: a network namespace made here, with rules of both backends and a server in it.</summary>
public sealed class NodeReaderTests
{
    [Fact]
    public void NamespaceWithRulesAndServer_IsReadWhole()
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        foreach (var tool in new[] { "ip", "iptables-legacy", "iptables-nft", "dnsmasq" })
        {
            Assert.SkipWhen(Tool.Find(tool) is null, $"needs {tool}");
        }

        var name = $"tpcl-{Environment.ProcessId}";
        Process? server = null;
        Shell($"ip netns add {name}");
        try
        {
            Shell($"ip -n {name} link set lo up && ip -n {name} addr add 10.77.0.1/24 dev lo");
            Shell($"ip netns exec {name} iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.78.0.5:8080");
            Shell($"ip netns exec {name} iptables-nft -t filter -A FORWARD -m comment --comment \"a word\" -j DROP");
            Shell($"ip netns exec {name} nft add table ip kube-proxy");
            Shell($"ip netns exec {name} nft add chain ip kube-proxy nat-prerouting '{{ type nat hook prerouting priority -100; }}'");
            Shell($"ip netns exec {name} nft add rule ip kube-proxy nat-prerouting ip daddr 10.96.0.2 tcp dport 80 dnat to 10.78.0.6:8080");
            Shell($"ip netns exec {name} nft add table inet other");
            server = Process.Start(new ProcessStartInfo("ip", ["netns", "exec", name, Tool.Find("dnsmasq")!, "--keep-in-foreground", "--port=5399", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--listen-address=10.77.0.1", "--bind-interfaces"]))!;
            var account = Until(() => NodeReader.Read(new Place { Name = "node/n1", Node = "n1", Kind = PlaceKind.Node, NetNsPath = $"/run/netns/{name}" }, []), a => a.Listeners.Length >= 2);

            account.Unread.ShouldBeEmpty();
            account.Name.ShouldBe("n1");
            account.NetNs.ShouldNotBe(0u);
            account.NftTables.ShouldContain("ip kube-proxy");
            account.HasIpvs.ShouldBeFalse();
            account.Sysctls.ShouldContainKey("net.ipv4.ip_forward");
            account.Sysctls.ShouldContainKey("net.ipv4.conf.lo.rp_filter");
            account.ListenersReadIn.ShouldBe([account.NetNs]);
            account.ProxyLookedFor.ShouldBeTrue();
            account.KubeProxy.ShouldBeNull();
            RouteTable.Parse(account.Routes).Lookup(IpAddress.Parse("10.77.0.1"))!.Type.ShouldBe("local");

            var sets = RuleSet.ParseAll(account.Dumps);
            sets.Single(s => s is { Backend: RuleBackend.Nftables, IsIPv6: false }).Tables.Keys.ShouldBe(["inet other", "ip kube-proxy"]);
            sets.Single(s => s is { Backend: RuleBackend.Legacy, IsIPv6: false }).Table("nat")!.Chain("PREROUTING")!.Rules[0].Target
                .ShouldBeOfType<RuleTarget.Dnat>().First.ShouldBe(IpAddress.Parse("10.78.0.5"));
            sets.Single(s => s is { Backend: RuleBackend.Nft, IsIPv6: false }).Table("filter")!.Chain("FORWARD")!.Rules[0].Comment.ShouldBe("a word");
            var walk = RuleWalk.Run(sets, new VirtualPacket
            {
                Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.77.0.9:4000"), AddressPort.Parse("10.96.0.1:80")),
                Routes = RouteTable.Parse(account.Routes),
            });
            walk.Outcome.ShouldBe(WalkOutcome.Dropped);
            walk.Backends.Single().Address.ShouldBe(AddressPort.Parse("10.78.0.5:8080"));
            RuleWalk.Run(sets, walk.Packet with { Tuple = walk.Packet.Tuple with { Destination = AddressPort.Parse("10.96.0.2:80") } })
                .Backends.Single().Address.ShouldBe(AddressPort.Parse("10.78.0.6:8080"));

            var tcp = account.Listeners.Single(l => l.Protocol == IpProtocol.Tcp);
            tcp.Local.ShouldBe(AddressPort.Parse("10.77.0.1:5399"));
            tcp.Process!.Command.ShouldBe("dnsmasq");
            account.Listeners.ShouldContain(l => l.Protocol == IpProtocol.Udp && l.Local == tcp.Local);

            var times = Enumerable.Range(0, 5).Select(_ =>
            {
                var watch = Stopwatch.StartNew();
                NodeReader.Read(new Place { Name = "node/n1", NetNsPath = $"/run/netns/{name}" }, []);
                return watch.Elapsed.TotalMilliseconds;
            }).ToArray();
            TestContext.Current.TestOutputHelper?.WriteLine($"reading takes {string.Join(", ", times.Select(t => $"{t:F0}"))} ms");
        }
        finally
        {
            if (server is not null)
            {
                server.Kill(entireProcessTree: true);
                server.WaitForExit();
                server.Dispose();
            }

            Shell($"ip netns delete {name}");
        }
    }

    [Fact]
    public void TableThatIptablesDoesNotUnderstand_IsReadFromNftOnce()
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        foreach (var tool in new[] { "ip", "iptables-nft", "nft" })
        {
            Assert.SkipWhen(Tool.Find(tool) is null, $"needs {tool}");
        }

        var name = $"tpci-{Environment.ProcessId}";
        Shell($"ip netns add {name}");
        try
        {
            // Both are called as iptables' tables are; iptables-nft-save shows the first, and says that it cannot show the second.
            Shell($"ip netns exec {name} iptables-nft -t nat -A OUTPUT -p tcp --dport 80 -j DNAT --to-destination 10.78.0.5:8080");
            Shell($"ip netns exec {name} iptables-nft -t filter -A OUTPUT -p udp -j DROP");
            Shell($"ip netns exec {name} nft add rule ip filter OUTPUT fib daddr type local drop");
            var account = NodeReader.Read(new Place { Name = "node/n1", Node = "n1", Kind = PlaceKind.Node, NetNsPath = $"/run/netns/{name}" }, []);
            account.Unread.ShouldBeEmpty();
            var sets = RuleSet.ParseAll(account.Dumps).Where(s => !s.IsIPv6).ToArray();
            sets.Single(s => s.Backend == RuleBackend.Nft).Tables.Keys.ShouldBe(["nat"]);
            sets.Single(s => s.Backend == RuleBackend.Nftables).Tables.Keys.ShouldBe(["ip filter"]);
            RuleWalk.Run(sets, new VirtualPacket { Tuple = new FiveTuple(IpProtocol.Udp, AddressPort.Parse("10.77.0.9:4000"), AddressPort.Parse("10.96.0.1:80")), FromNode = true })
                .Outcome.ShouldBe(WalkOutcome.Dropped);
        }
        finally
        {
            Shell($"ip netns delete {name}");
        }
    }

    [Fact]
    public void MissingNamespace_IsUnreadWithTheReason()
    {
        var account = NodeReader.Read(new Place { Name = "node/gone", NetNsPath = "/run/netns/there-is-no-such-namespace" }, []);
        account.Dumps.ShouldBeEmpty();
        account.ProxyLookedFor.ShouldBeFalse();
        account.Unread.Select(u => u.What).ShouldBe(["rules and sysctls of gone", "listening sockets of gone", "routes of gone"], ignoreOrder: true);
        account.Unread.ShouldAllBe(u => u.Why.Contains("there-is-no-such-namespace", StringComparison.Ordinal) && u.What.Contains("gone", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 21432 1 0000000000000000 100 0 0 10 0", "127.0.0.1:53", 10, 21432ul)]
    [InlineData("   1: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0", "[::]:80", 10, 77ul)]
    [InlineData("   2: B80D01200000000000000000010000FF:1F90 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 78 2 0", "[2001:db8::ff00:1]:8080", 7, 78ul)]
    public void SocketLine_IsReadInTheMachinesByteOrder(string line, string local, int state, ulong inode)
    {
        ListenerReader.TryParse(line, out var address, out _, out var readState, out var readInode).ShouldBeTrue();
        address.ToString().ShouldBe(local);
        readState.ShouldBe(state);
        readInode.ShouldBe(inode);
    }

    [Fact]
    public void WaitingSockets_AreTheSameByNetlinkAndFromTheFiles()
    {
        using var ipv4 = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        ipv4.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        ipv4.Listen();
        using var ipv6 = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
        ipv6.Bind(new IPEndPoint(IPAddress.IPv6Any, 0));
        ipv6.Listen();
        using var datagrams = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        datagrams.Bind(new IPEndPoint(IPAddress.Any, 0));
        using var connected = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        connected.Connect(IPAddress.Loopback, ((IPEndPoint)datagrams.LocalEndPoint!).Port);
        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        client.Connect(ipv4.LocalEndPoint!);
        ushort[] ports = [.. new[] { ipv4, ipv6, datagrams, connected, client }.Select(s => (ushort)((IPEndPoint)s.LocalEndPoint!).Port)];

        List<SocketEntry> asked = [], inFiles = [];
        ListenerReader.Read(1, asked);
        ListenerReader.ReadFiles(1, inFiles);
        string[] Ours(List<SocketEntry> sockets) => [.. sockets.Where(s => ports.Contains(s.Local.Port)).Select(s => $"{s.Protocol} {s.Local} {s.Inode}").Order(StringComparer.Ordinal)];
        Ours(asked).Length.ShouldBe(3, "neither the client nor the connected socket waits for anybody");
        Ours(asked).ShouldBe(Ours(inFiles));
    }

    [Fact]
    public void SocketMessageCutAnywhere_IsPassedOver()
    {
        var message = new byte[72];
        (message[0], message[4], message[5], message[68]) = (2, 0x1f, 0x90, 7);
        ListenerReader.TryRead(message, out var local, out _, out var inode).ShouldBeTrue();
        (local.Port, inode).ShouldBe(((ushort)8080, 7ul));
        for (var length = 0; length < message.Length; length++)
        {
            ListenerReader.TryRead(message.AsSpan(0, length), out _, out _, out _).ShouldBeFalse();
        }

        message[0] = 16; // some other family
        ListenerReader.TryRead(message, out _, out _, out _).ShouldBeFalse();
    }

    [Fact]
    public void ToolThatFails_SaysItsOwnWords()
    {
        Should.Throw<IOException>(() => Tool.Run("/bin/sh", TimeSpan.FromSeconds(10), "-c", "echo no such luck >&2; exit 3")).Message.ShouldBe("sh failed with exit code 3: no such luck.");
        Should.Throw<IOException>(() => Tool.Run("/bin/sh", TimeSpan.FromMilliseconds(50), "-c", "sleep 10")).Message.ShouldContain("did not end within");
        Should.Throw<IOException>(() => Tool.Run("/nonexistent", TimeSpan.FromSeconds(1))).Message.ShouldContain("could not be started");
        Tool.Run("/bin/sh", TimeSpan.FromSeconds(10), "-c", "echo fine").ShouldBe("fine\n");
    }

    private static T Until<T>(Func<T> read, Func<T, bool> good)
    {
        for (var attempt = 0; ; attempt++)
        {
            var value = read();
            if (good(value) || attempt == 50)
            {
                return value;
            }

            Thread.Sleep(100);
        }
    }

    private static void Shell(string command) => Tool.Run("/bin/sh", TimeSpan.FromSeconds(20), "-c", command);
}
