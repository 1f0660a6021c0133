using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using IpProtocol = TraceProbe.Core.Net.IpProtocol;

namespace TraceProbe.Capture.Tests.Bpf;

/// <summary>The programs in the running kernel, with real packets.</summary>
public sealed class BpfLiveTests(BpfNetwork network) : IClassFixture<BpfNetwork>
{
    private static readonly FollowedProcess Self = new(Environment.ProcessId);

    private List<NetworkEvent> Observe(Action work, ObservationFilter? filter = null, Func<List<NetworkEvent>, bool>? enough = null)
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var observer = KernelObserver.Open(filter ?? new ObservationFilter { Processes = [Self], Namespaces = [.. Namespaces], FirstLines = true });
        var events = new List<NetworkEvent>();
        try
        {
            work();
        }
        catch
        {
            observer.Poll((in NetworkEvent e) => events.Add(e), TimeSpan.Zero);
            Write(events);
            throw;
        }

        var started = Stopwatch.StartNew();
        do
        {
            observer.Poll((in NetworkEvent e) => events.Add(e), TimeSpan.FromMilliseconds(enough is null ? 50 : 20));
        }
        while (enough is null ? started.ElapsedMilliseconds < 150 : !enough(events) && started.ElapsedMilliseconds < 3000);

        Write(events);
        return events;
    }

    // A failing test shows what was seen.
    private static void Write(List<NetworkEvent> events)
    {
        foreach (var e in events)
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"{e.Kind} {e.Interface} {e.Command}/{e.Pid} {e.Tuple} [{e.Flags}] {(e.HasConntrack ? $"original {e.Original} reply {e.Reply}" : "")} {e.DropReason} {e.OldState}>{e.NewState} error {e.Error} payload {e.Payload.Length}/{e.PayloadLength} quoted {e.Quoted}");
        }
    }

    private uint[] Namespaces => [network.Client.Inode, network.Router.Inode, network.Server.Inode];

    [Theory]
    [InlineData("10.96.0.10", "10.200.2.2")]
    [InlineData("fd96::10", "fd02::2")]
    public void ConnectThroughDnat_IsFollowedWithBothTuples(string service, string backend)
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(IPAddress.Parse(backend), 8080);
        var to = new AddressPort(IpAddress.Parse(service), 80);
        var pod = new AddressPort(IpAddress.Parse(backend), 8080);

        var events = Observe(() => network.Get(IPAddress.Parse(service), 80).ShouldBe(SocketError.Success));

        // The client's side: who, where, and to what it asked.
        var syn = events.First(e => e.Kind == EventKind.PacketQueued && e.Flags == TcpFlags.Syn);
        syn.NetNs.ShouldBe(network.Client.Inode);
        syn.Interface.ToString().ShouldBe("eth0");
        syn.Pid.ShouldBe(Environment.ProcessId);
        syn.Command.IsEmpty.ShouldBeFalse();
        syn.Tuple.Destination.ShouldBe(to);
        syn.Socket.ShouldNotBe(0ul);

        // The router's: what it became.
        var translated = events.First(e => e.Kind == EventKind.PacketQueued && e.NetNs == network.Router.Inode && e.Flags == TcpFlags.Syn);
        translated.Interface.ToString().ShouldBe("toserver");
        translated.Tuple.Destination.ShouldBe(pod);
        translated.HasConntrack.ShouldBeTrue();
        translated.Original.ShouldBe(syn.Tuple);
        translated.Reply.Source.ShouldBe(pod);

        // The server's: that it arrived and was accepted, by a tuple that only conntrack ties to the client's.
        events.ShouldContain(e => e.Kind == EventKind.PacketReceived && e.NetNs == network.Server.Inode && e.Flags == TcpFlags.Syn);
        events.ShouldContain(e => e.Kind == EventKind.SocketStateChanged && e.NetNs == network.Server.Inode && e.NewState == TcpState.Established && e.Tuple.Source == pod);
        events.ShouldContain(e => e.Kind == EventKind.PacketReceived && e.NetNs == network.Client.Inode && e.Flags == (TcpFlags.Syn | TcpFlags.Ack) && e.Tuple.Source == to);

        // The sockets' states, from connect to close, with ports at both ends of it.
        var states = events.Where(e => e.Kind == EventKind.SocketStateChanged && e.NetNs == network.Client.Inode).ToList();
        states[0].NewState.ShouldBe(TcpState.SynSent);
        states[^1].NewState.ShouldBe(TcpState.Close);
        states[^1].Tuple.ShouldBe(syn.Tuple);
        states.ShouldAllBe(e => e.Socket == syn.Socket && e.Pid == Environment.ProcessId);
    }

    [Fact]
    public void HttpMessage_KeepsItsFirstLineOnly()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        var events = Observe(() => network.Get(BpfNetwork.ServiceAddress, 80).ShouldBe(SocketError.Success));

        var lines = events.Where(e => !e.Payload.IsEmpty).Select(e => System.Text.Encoding.ASCII.GetString(e.Payload.Span)).ToList();
        Assert.SkipWhen(Environment.OSVersion.Version < new Version(6, 12), "needs Linux 6.12 to read through fragments");
        lines.Distinct().Order().ShouldBe(["GET /healthz HTTP/1.1", "HTTP/1.1 200 OK"]);
    }

    [Fact]
    public void ConnectToClosedPort_ShowsResetAndReason()
    {
        var events = Observe(() => network.Get(BpfNetwork.ServiceAddress, 81).ShouldBe(SocketError.ConnectionRefused));

        events.ShouldContain(e => e.Kind == EventKind.PacketQueued && e.NetNs == network.Server.Inode && e.Flags.HasFlag(TcpFlags.Rst)
            && e.Tuple.Source == new AddressPort(IpAddress.From(BpfNetwork.ServerAddress), 8081));
        events.ShouldContain(e => e.Kind == EventKind.PacketDropped && e.NetNs == network.Server.Inode && e.DropReason == Reason("NO_SOCKET"));
        events.ShouldContain(e => e.Kind == EventKind.ResetReceived && e.NetNs == network.Client.Inode);
        events.ShouldContain(e => !KernelTypes.Current!.HasTracepoint("inet_sk_error_report") || e.Kind == EventKind.SocketErrorReported && e.Error == 111 && e.NetNs == network.Client.Inode && e.Pid == Environment.ProcessId);
    }

    // Before Linux 5.17 the kernel does not say why it drops a packet.
    private static string? Reason(string name) => KernelTypes.Current!.HasDropReasons ? name : null;

    [Fact]
    public void PacketDroppedByRule_ShowsReasonAndPlace()
    {
        var events = Observe(() => network.Get(BpfNetwork.ServerAddress, 9999, timeout: 100).ShouldBe(SocketError.TimedOut));

        var drop = events.First(e => e.Kind == EventKind.PacketDropped);
        drop.NetNs.ShouldBe(network.Router.Inode);
        drop.DropReason.ShouldBe(Reason("NETFILTER_DROP"));
        drop.Tuple.Destination.ToString().ShouldBe("10.200.2.2:9999");
    }

    [Theory]
    [InlineData("10.200.2.2", false)]
    [InlineData("fd02::2", false)]
    [InlineData("10.96.0.10", true)]
    public void Datagram_IsFollowedToTheSocketsEnd(string address, bool translated)
    {
        // The neighbour is not known yet: the first datagram waits for it, and leaves in nobody's context.
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        BpfNetwork.Tool("ip", ["-n", network.ClientName, "neigh", "flush", "all"]);
        var to = IPAddress.Parse(address);
        byte[] query = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, (byte)'a', 0, 0, 1, 0, 1];
        var events = Observe(
            () => network.Client.Run(() =>
            {
                using var socket = new Socket(to.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
                socket.SendTo(query, new IPEndPoint(to, 53));
                Thread.Sleep(20);
            }),
            enough: seen => seen.Exists(e => e.IcmpType is 1 or 3 && e.Kind == EventKind.PacketReceived && e.NetNs == network.Client.Inode));

        var sent = events.First(e => e.Kind == EventKind.PacketQueued && e.NetNs == network.Client.Inode);
        sent.Pid.ShouldBe(Environment.ProcessId);
        sent.Tuple.Destination.ShouldBe(new AddressPort(IpAddress.From(to), 53));
        sent.Payload.ToArray().ShouldBe(query);
        sent.PayloadLength.ShouldBe(query.Length);

        // Nobody listens: the answer is an ICMP error that quotes it, and no port was asked for by name.
        var arrived = events.First(e => e.Kind == EventKind.PacketReceived && e.NetNs == network.Server.Inode);
        arrived.Tuple.Destination.Port.ShouldBe(translated ? (ushort)1053 : (ushort)53);
        var refused = events.First(e => e.IcmpType is 1 or 3 && e.Kind == EventKind.PacketReceived && e.NetNs == network.Client.Inode);
        refused.Tuple.Protocol.ShouldBe(to.AddressFamily == AddressFamily.InterNetwork ? IpProtocol.Icmp : IpProtocol.IcmpV6);
        refused.Quoted.ShouldBe(sent.Tuple);
    }

    [Fact]
    public void ChildProcess_IsFollowedFromForkToExit()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        var events = Observe(
            () =>
            {
                using var child = Process.Start("ip", ["netns", "exec", network.ClientName, "bash", "-c", "exec 3<>/dev/tcp/10.96.0.10/80; echo hello >&3; read -r line <&3; (exit 0)"]);
                child.WaitForExit();
            },
            filter: new ObservationFilter { Processes = [Self] },
            enough: seen => seen.Exists(e => e.Kind == EventKind.ProcessExited && e.Command.ToString() == "bash"));

        var forked = events.First(e => e.Kind == EventKind.ProcessForked && e.Pid == Environment.ProcessId);
        events.ShouldContain(e => e.Kind == EventKind.ProcessExecuted && e.Pid == forked.ChildPid && e.Command.ToString() == "bash");
        events.ShouldContain(e => e.Kind == EventKind.ProcessForked && e.Pid == forked.ChildPid);
        events.ShouldContain(e => e.Kind == EventKind.ProcessExited && e.Pid == forked.ChildPid);
        var syn = events.First(e => e.Kind == EventKind.PacketQueued && e.Flags == TcpFlags.Syn);
        syn.Pid.ShouldBe(forked.ChildPid);
        syn.Command.ToString().ShouldBe("bash");
        syn.CgroupId.ShouldNotBe(0ul);
    }

    [Fact]
    public void WhatNobodyAskedFor_IsNotReported()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);

        // Another process's, one's own elsewhere, and a target that nobody asks for.
        Observe(() => network.Get(BpfNetwork.ServiceAddress, 80), new ObservationFilter { Processes = [new FollowedProcess(1)] }).ShouldBeEmpty();
        Observe(() => network.Get(BpfNetwork.ServiceAddress, 80), new ObservationFilter { Processes = [new FollowedProcess(Environment.ProcessId, FollowMode.SocketsOnly)], Namespaces = [1] }).ShouldBeEmpty();
        Observe(() => network.Get(BpfNetwork.ServiceAddress, 80), new ObservationFilter { Targets = [new(IpAddress.Parse("10.96.0.11"), 80)], ClientNamespace = network.Client.Inode }).ShouldBeEmpty();
    }

    [Theory]
    [InlineData("10.96.0.10", 80, IpProtocol.Tcp)]
    [InlineData("10.96.0.10", 0, IpProtocol.None)]
    [InlineData(null, 80, IpProtocol.None)]
    [InlineData(null, 0, IpProtocol.None)]
    public void Target_IsWaitedForInItsNamespace(string? address, ushort port, IpProtocol protocol)
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        var events = Observe(
            () => network.Get(BpfNetwork.ServiceAddress, 80),
            new ObservationFilter
            {
                Targets = [new(address is null ? null : IpAddress.Parse(address), port, protocol)],
                ClientNamespace = network.Client.Inode,
            });

        events[0].OldState.ShouldBe(TcpState.Close);
        events[0].NewState.ShouldBe(TcpState.SynSent);
        events[0].Pid.ShouldBe(Environment.ProcessId);
        events.ShouldContain(e => e.Kind == EventKind.PacketReceived && e.NetNs == network.Server.Inode && e.Tuple.Destination.Port == 8080);
    }

    [Fact]
    public void ConnectionThatIsNotDrawn_IsReportedBriefly()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        List<NetworkEvent> Seen(uint oneIn) => [.. Observe(() => network.Get(BpfNetwork.ServiceAddress, 80),
            new ObservationFilter { Targets = [new(IpAddress.Parse("10.96.0.10"))], Namespaces = [.. Namespaces], FirstLines = true, OneIn = oneIn })];
        var (full, brief) = (Seen(1), Seen(uint.MaxValue));
        full.ShouldAllBe(e => !e.IsBrief);
        brief.Count.ShouldBeLessThan(full.Count);

        // How it began and ended everywhere, what was first said at the client alone, and no bare acknowledgement.
        var packets = brief.Where(e => e.Kind is EventKind.PacketQueued or EventKind.PacketReceived).ToList();
        packets.ShouldAllBe(e => e.IsBrief);
        packets.ShouldAllBe(e => (e.Flags & (TcpFlags.Syn | TcpFlags.Fin | TcpFlags.Rst)) != 0 || (e.PayloadLength > 0 && e.NetNs == network.Client.Inode));
        packets.ShouldContain(e => e.NetNs == network.Server.Inode && e.Flags == TcpFlags.Syn);
        packets.ShouldContain(e => e.NetNs == network.Client.Inode && e.PayloadLength > 0 && e.Tuple.Source.Port == 80);
        brief.ShouldContain(e => e.Kind == EventKind.SocketStateChanged && e.NewState == TcpState.Established);
    }

    // A client that connects often uses its ports again within minutes, while their old flows are still known.
    [Theory]
    [InlineData(1u)]
    [InlineData(uint.MaxValue)]
    [InlineData(2u)]
    public void ConnectionFromAPortUsedBefore_TellsWhatWasSaidInItToo(uint oneIn)
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        const int Times = 12;
        var seen = Observe(() =>
        {
            for (var i = 0; i < Times; i++)
            {
                network.Get(BpfNetwork.ServiceAddress, 80, from: 40404).ShouldBe(SocketError.Success);
            }
        }, new ObservationFilter { Targets = [new(IpAddress.Parse("10.96.0.10"))], Namespaces = [.. Namespaces], FirstLines = true, OneIn = oneIn });

        var atClient = seen.Where(e => e.NetNs == network.Client.Inode && e.Kind is EventKind.PacketQueued or EventKind.PacketReceived).ToList();
        var began = atClient.Where(e => (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn).ToList();
        began.Count.ShouldBe(Times);
        if (Environment.OSVersion.Version >= new Version(6, 12))
        {
            // Older kernels do not let a program read through fragments.
            seen.Where(e => e.Payload.Span.StartsWith("HTTP/"u8)).Select(e => e.Sequence).Distinct().Count().ShouldBe(Times);
        }

        if (oneIn == 2)
        {
            // Each has its own lot: in full now, briefly then, everywhere.
            began.ShouldContain(e => e.IsBrief);
            began.ShouldContain(e => !e.IsBrief);
        }

        foreach (var syn in began)
        {
            seen.Where(e => e.Kind is EventKind.PacketQueued or EventKind.PacketReceived && e.Flags == TcpFlags.Syn && e.Sequence == syn.Sequence).ShouldAllBe(e => e.IsBrief == syn.IsBrief);
        }
    }

    [Fact]
    public void FullRing_IsCountedAsGap()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        using var observer = KernelObserver.Open(new ObservationFilter { Processes = [Self], RingBytes = 1 });
        for (var i = 0; i < 3; i++)
        {
            network.Get(BpfNetwork.ServiceAddress, 80);
        }

        var events = new List<NetworkEvent>();
        while (observer.Poll((in NetworkEvent e) => events.Add(e), TimeSpan.FromMilliseconds(50)) > 0)
        {
        }

        var gap = events.Where(e => e.Kind == EventKind.ObservationGap).ToList();
        gap.ShouldNotBeEmpty();
        gap.Sum(e => e.Lost).ShouldBe(observer.Lost);
        observer.Lost.ShouldBeGreaterThan(20);
        gap[0].BootNanoseconds.ShouldBeGreaterThan(events[0].BootNanoseconds);
    }

    [Fact]
    public void Dispose_WhileAnotherThreadPolls_EndsItQuietly()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        var observer = KernelObserver.Open(new ObservationFilter { Processes = [Self] });
        Exception? failure = null;
        using var polling = new ManualResetEventSlim();
        var reader = new Thread(() =>
        {
            try
            {
                polling.Set();
                observer.Poll((in NetworkEvent _) => { }, Timeout.InfiniteTimeSpan);
            }
            catch (ObjectDisposedException)
            {
                // Came too late.
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        reader.Start();
        polling.Wait(TestContext.Current.CancellationToken);
        observer.Dispose();
        reader.Join(5000).ShouldBeTrue();
        failure.ShouldBeNull();
        Should.Throw<ObjectDisposedException>(() => observer.Poll((in NetworkEvent _) => { }, TimeSpan.Zero));
        Should.Throw<ObjectDisposedException>(() => observer.Follow(1));
        observer.Dispose();
    }

    [Fact]
    public void Dispose_FromTheHandler_EndsTheReading()
    {
        Assert.SkipWhen(BpfNetwork.Missing is not null, BpfNetwork.Missing ?? "");
        using var listener = network.Listen(BpfNetwork.ServerAddress, 8080);
        using var observer = KernelObserver.Open(new ObservationFilter { Processes = [Self] });
        network.Get(BpfNetwork.ServiceAddress, 80);
        var count = 0;
        observer.Poll((in NetworkEvent _) =>
        {
            count++;
            observer.Dispose();
        }, TimeSpan.FromSeconds(1));
        count.ShouldBe(1);
    }
}
