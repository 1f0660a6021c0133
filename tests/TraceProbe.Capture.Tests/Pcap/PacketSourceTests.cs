using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Capture.Pcap;
using TraceProbe.Capture.PcapNg;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.Pcap;

public sealed class PacketSourceTests : IDisposable
{
    private static readonly byte[] Query = DnsQuery.Create(1, "my-nginx.default", DnsRecordType.A);

    private readonly string _name = $"tp-pcap-{Environment.ProcessId}-{Random.Shared.Next(100_000)}";
    private readonly NetworkNamespace _space;

    public PacketSourceTests()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root");
        Assert.SkipUnless(PacketSource.LibraryVersion is not null, "needs libpcap0.8");
        Ip("netns", "add", _name);
        Ip("-n", _name, "link", "set", "lo", "up");
        _space = NetworkNamespace.Open("/run/netns/" + _name);
    }

    public void Dispose()
    {
        _space.Dispose();
        Ip("netns", "del", _name);
    }

    [Fact]
    public void DatagramToAClosedPort_ShowsInBothNamespacesWithItsError()
    {
        var otherName = _name + "b";
        Ip("netns", "add", otherName);
        try
        {
            Ip("-n", _name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", otherName);
            Ip("-n", _name, "address", "add", "10.9.0.1/24", "dev", "eth0");
            Ip("-n", otherName, "address", "add", "10.9.0.2/24", "dev", "eth1");
            Ip("-n", _name, "link", "set", "eth0", "up");
            Ip("-n", otherName, "link", "set", "eth1", "up");
            using var other = NetworkNamespace.Open("/run/netns/" + otherName);
            var events = new List<NetworkEvent>();
            var before = BootClock.Now;
            using (var source = new PacketSource(new PacketSourceOptions { Filter = "host 10.9.0.1" }, (in e) => events.Add(e)))
            {
                source.Add(_space);
                source.Add(other);
                Send(IPAddress.Parse("10.9.0.2"), 53, Query);
                // The answer comes by itself; how soon nobody promises.
                SpinWait.SpinUntil(() => events.Count == 4, 5_000);
            }

            // Each namespace has its own thread; between them only time tells the order.
            events.Sort((a, b) => a.BootNanoseconds.CompareTo(b.BootNanoseconds));
            events.Select(e => (e.Kind, e.NetNs, e.Interface.ToString())).ShouldBe([
                (EventKind.PacketQueued, _space.Inode, "eth0"), (EventKind.PacketReceived, other.Inode, "eth1"),
                (EventKind.PacketQueued, other.Inode, "eth1"), (EventKind.PacketReceived, _space.Inode, "eth0")]);
            events[0].Tuple.ToString().ShouldMatch(@"^10\.9\.0\.1:\d+ > 10\.9\.0\.2:53$");
            DnsMessage.TryRead(events[0].Payload.Span, out var message).ShouldBeTrue();
            message.Question!.Name.ShouldBe("my-nginx.default");
            events[2].Tuple.Protocol.ShouldBe(IpProtocol.Icmp);
            (events[2].IcmpType, events[2].IcmpCode).ShouldBe(((byte)3, (byte)3));
            events[2].Quoted.ShouldBe(events[0].Tuple);
            events.ShouldAllBe(e => e.BootNanoseconds > before - 50_000_000 && e.BootNanoseconds < BootClock.Now + 50_000_000);
        }
        finally
        {
            Ip("netns", "del", otherName);
        }
    }

    [Fact]
    public async Task PacketsOfARealLink_AreWrittenSoThatTsharkReadsThem()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/tshark"), "needs tshark");
        var path = Path.Combine(Path.GetTempPath(), $"traceprobe-{Guid.NewGuid():N}.pcapng");
        try
        {
            var events = new List<NetworkEvent>();
            var announced = false;
            using (var source = new PacketSource(new PacketSourceOptions { KeepFirstLine = true }, (in e) =>
            {
                events.Add(e);
                Volatile.Write(ref announced, announced || e.Tuple.Protocol == IpProtocol.IcmpV6);
            }))
            {
                source.Add(_space);
                // Coming up, a link announces itself: neighbour discovery, multicast groups, router solicitation.
                Ip("-n", _name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
                Ip("-n", _name, "address", "add", "10.9.0.1/24", "dev", "eth0");
                Ip("-n", _name, "link", "set", "eth0", "up");
                Ip("-n", _name, "link", "set", "eth1", "up");
                Send(IPAddress.Loopback, 53, Query);
                Exchange(IPAddress.Loopback);
                Exchange(IPAddress.IPv6Loopback);
                SpinWait.SpinUntil(() => Volatile.Read(ref announced), 5_000);
            }

            using (var stream = File.Create(path))
            using (var writer = new PcapNgWriter(stream, ns => ns == _space.Inode ? "pod/default/ubuntu" : ""))
            {
                events.ShouldAllBe(e => writer.Write(e));
            }

            using var process = Process.Start(new ProcessStartInfo("/usr/bin/tshark", ["-r", path, "-n", "-V"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            var text = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            process.ExitCode.ShouldBe(0, await errors);
            text.ShouldNotContain("Malformed", Case.Insensitive);
            text.ShouldContain("GET /hello HTTP/1.1");
            text.ShouldContain("Status Code: 503");
            text.ShouldContain("my-nginx.default: type A");
            text.ShouldContain("lo@pod/default/ubuntu");
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task Filter_LetsOnlyItsPacketsThrough()
    {
        var events = new List<NetworkEvent>();
        var source = new PacketSource(new PacketSourceOptions { Filter = "udp and ip6", Interface = "lo" }, (in e) => events.Add(e));
        using (source)
        {
            source.Add(_space);
            Send(IPAddress.Loopback, 9, [1]);
            Send(IPAddress.IPv6Loopback, 9, [1]);
        }

        // No wait above: disposing gives what was captured until then. On the loopback interface libpcap shows a packet once.
        events.Count.ShouldBe(1);
        events[0].Kind.ShouldBe(EventKind.PacketReceived);
        events[0].Tuple.Destination.ShouldBe(AddressPort.Parse("[::1]:9"));
        events[0].Payload.IsEmpty.ShouldBeTrue();
        events[0].PayloadLength.ShouldBe(1);
        await source.Completion;
    }

    [Fact]
    public void BadFilter_IsRefusedWithItsText()
    {
        using var source = new PacketSource(new PacketSourceOptions { Filter = "port fifty" }, (in e) => { });
        Should.Throw<FormatException>(() => source.Add(_space)).Message.ShouldContain("port fifty");
    }

    [Fact]
    public void InterfaceThatIsNotThere_IsRefusedWithItsName()
    {
        using var source = new PacketSource(new PacketSourceOptions { Interface = "eth7" }, (in e) => { });
        Should.Throw<IOException>(() => source.Add(_space)).Message.ShouldContain("eth7");
    }

    [Fact]
    public async Task DisposedWithinTheHandler_StopsWithoutAnotherCall()
    {
        var calls = 0;
        PacketSource? source = null;
        source = new PacketSource(new PacketSourceOptions(), (in e) =>
        {
            calls++;
            source!.Dispose();
        });
        source.Add(_space);
        Send(IPAddress.Loopback, 9, [1]);
        await source.Completion.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        calls.ShouldBe(1);
        Should.Throw<ObjectDisposedException>(() => source.Add(_space));
    }

    [Fact]
    public async Task DisposedWhileTheHandlerRuns_WaitsForIt()
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        var after = false;
        var disposed = false;
        var source = new PacketSource(new PacketSourceOptions(), (in e) =>
        {
            entered.Set();
            release.Wait();
            after |= disposed;
        });
        source.Add(_space);
        Send(IPAddress.Loopback, 9, [1]);
        entered.Wait(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken).ShouldBeTrue();
        var disposing = Task.Run(() =>
        {
            source.Dispose();
            disposed = true;
        }, TestContext.Current.CancellationToken);
        await Task.Delay(50, TestContext.Current.CancellationToken);
        disposing.IsCompleted.ShouldBeFalse();
        release.Set();
        await disposing.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        after.ShouldBeFalse();
    }

    [Fact]
    public async Task HandlerThatThrows_FailsTheCompletion()
    {
        using var source = new PacketSource(new PacketSourceOptions(), (in e) => throw new InvalidTimeZoneException());
        source.Add(_space);
        Send(IPAddress.Loopback, 9, [1]);
        await Should.ThrowAsync<InvalidTimeZoneException>(source.Completion.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken));
    }

    [Fact]
    public void FullBuffer_IsToldAsAGap()
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        long packets = 0, lost = 0;
        const int sent = 2_000;
        using (var source = new PacketSource(new PacketSourceOptions { Filter = "udp", BufferSize = 64 << 10 }, (in e) =>
        {
            if (e.Kind == EventKind.ObservationGap)
            {
                lost += e.Lost;
                return;
            }

            packets++;
            entered.Set();
            release.Wait();
        }))
        {
            source.Add(_space);
            Send(IPAddress.Loopback, 9, new byte[500], sent);
            entered.Wait(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken).ShouldBeTrue();
            release.Set();
        }

        // Packets going out count when they are lost, though on the loopback interface they would not have been shown.
        lost.ShouldBeGreaterThan(0);
        (packets + lost).ShouldBeInRange(sent, 2 * sent);
    }

    [Fact]
    public void RemovedNamespace_IsNoLongerWatched()
    {
        var calls = 0;
        using var source = new PacketSource(new PacketSourceOptions { Filter = "udp" }, (in e) => calls++);
        source.Add(_space);
        Send(IPAddress.Loopback, 9, [1]);
        source.Remove(_space);
        calls.ShouldBe(1);
        Send(IPAddress.Loopback, 9, [1]);
        source.Add(_space);
        Send(IPAddress.Loopback, 9, [1]);
        source.Remove(_space);
        calls.ShouldBe(2);
    }

    [Fact]
    public void ThisMachine_PermitsCapture() => PacketSource.FindObstacle().ShouldBeNull();

    private void Send(IPAddress to, int port, byte[] payload, int times = 1) => _space.Run(() =>
    {
        using var socket = new Socket(to.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
        var endpoint = new IPEndPoint(to, port);
        for (; times > 0; times--)
        {
            // Not connected, so that the error that comes back does not end the sending.
            socket.SendTo(payload, endpoint);
        }
    });

    private void Exchange(IPAddress address) => _space.Run(() =>
    {
        using var listener = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(address, 80));
        listener.Listen();
        using var client = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        client.Connect(listener.LocalEndPoint!);
        using var server = listener.Accept();
        client.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"u8);
        var buffer = new byte[256];
        server.Receive(buffer);
        server.Send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"u8);
        client.Receive(buffer);
    });

    private static void Ip(params string[] arguments)
    {
        using var process = Process.Start("ip", arguments);
        process.WaitForExit();
        process.ExitCode.ShouldBe(0);
    }
}
