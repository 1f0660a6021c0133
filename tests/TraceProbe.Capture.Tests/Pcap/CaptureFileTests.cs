using System.Buffers.Binary;
using TraceProbe.Capture.Packets;
using TraceProbe.Capture.Pcap;
using TraceProbe.Capture.PcapNg;
using TraceProbe.Capture.Tests.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.Pcap;

public sealed class CaptureFileTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"traceprobe-{Guid.NewGuid():N}.pcap");

    public CaptureFileTests() => Assert.SkipUnless(PacketSource.LibraryVersion is not null, "needs libpcap0.8");

    public void Dispose() => File.Delete(_path);

    [Fact]
    public void PcapFile_GivesItsPackets()
    {
        var syn = PacketSamples.All["EthernetTcp4Syn"].Frame;
        WritePcap(LinkType.Ethernet, [syn, [1, 2, 3], PacketSamples.All["EthernetUdp6Dns"].Frame]);
        var (file, events) = Read(new PacketSourceOptions());
        file.ShouldBe(new CaptureFile(2, 1, null));
        events.Select(e => e.Tuple.ToString()).ShouldBe(["10.0.0.1:33904 > 10.96.0.11:80", "[fd00::1]:33904 > [fd00::2]:53"]);
        events.Select(e => e.BootNanoseconds).ShouldBe([0, 2_000_000_002]);
        events.ShouldAllBe(e => e.Kind == EventKind.PacketReceived);
        events[1].Payload.Length.ShouldBe(29);
    }

    [Fact]
    public void CookedFile_GivesDirections()
    {
        WritePcap(LinkType.LinuxSll2, [PacketSamples.All["Sll2Tcp6Request"].Frame]);
        Read(new PacketSourceOptions()).Events.Single().Payload.IsEmpty.ShouldBeTrue();
        var e = Read(new PacketSourceOptions { KeepFirstLine = true, Filter = "tcp" }).Events.Single();
        e.Kind.ShouldBe(EventKind.PacketQueued);
        e.InterfaceIndex.ShouldBe(7);
        e.Payload.Span.SequenceEqual("GET / HTTP/1.1\r\n"u8).ShouldBeTrue();
        e.PayloadLength.ShouldBe(18);
    }

    [Fact]
    public void FileThatEndsWithinAPacket_GivesTheRestAndSaysSo()
    {
        WritePcap(LinkType.Ethernet, [PacketSamples.All["EthernetTcp4Syn"].Frame, PacketSamples.All["EthernetTcp4Syn"].Frame]);
        using (var stream = new FileStream(_path, FileMode.Open))
        {
            stream.SetLength(stream.Length - 10);
        }

        var (file, events) = Read(new PacketSourceOptions());
        events.Count.ShouldBe(1);
        file.Damage!.ShouldContain("truncated");
    }

    [Fact]
    public void WhatIsNoCapture_IsRefused()
    {
        Should.Throw<FileNotFoundException>(() => Read(new PacketSourceOptions()));
        File.WriteAllText(_path, "not a capture, but long enough to be looked at");
        Should.Throw<InvalidDataException>(() => Read(new PacketSourceOptions())).Message.ShouldContain(_path);
        WritePcap((LinkType)147, []);
        Should.Throw<InvalidDataException>(() => Read(new PacketSourceOptions())).Message.ShouldContain("147");
    }

    [Fact]
    public void WhatThePcapNgWriterWrites_IsRead()
    {
        var tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.0.0.1:4000"), AddressPort.Parse("10.96.0.11:80"));
        var first = new NetworkEvent
        {
            Kind = EventKind.PacketReceived,
            BootNanoseconds = 5_000_000_000,
            NetNs = 1,
            Interface = ShortName.From("eth0"),
            Tuple = tuple,
            Flags = TcpFlags.Psh | TcpFlags.Ack,
            Sequence = 9,
            Acknowledgment = 8,
            PayloadLength = 2_000,
            Payload = "GET / HTTP/1.1\r\n"u8.ToArray(),
        };
        var second = first with { Kind = EventKind.PacketQueued, BootNanoseconds = 5_000_001_001, NetNs = 2, Interface = ShortName.From("veth7"), Tuple = tuple.Reverse, Flags = TcpFlags.Rst };
        using (var stream = File.Create(_path))
        using (var writer = new PcapNgWriter(stream, _ => "node/a", DateTimeOffset.UnixEpoch.AddDays(20_000)))
        {
            writer.Write(first).ShouldBeTrue();
            writer.Write(second).ShouldBeTrue();
        }

        var (file, events) = Read(new PacketSourceOptions { KeepFirstLine = true });
        file.ShouldBe(new CaptureFile(2, 0, null));
        Read(new PacketSourceOptions { Filter = "tcp[tcpflags] & tcp-rst != 0" }).Events.Single().Flags.ShouldBe(TcpFlags.Rst);
        Should.Throw<FormatException>(() => Read(new PacketSourceOptions { Filter = "port fifty" }));
        foreach (var (read, written) in events.Zip([first, second]))
        {
            read.Payload.Span.SequenceEqual(written.Payload.Span).ShouldBeTrue();
            read.ShouldBe(written with { BootNanoseconds = written.BootNanoseconds - 5_000_000_000, NetNs = 0, Payload = read.Payload });
        }
    }

    [Theory]
    [InlineData("HTTP/1.1 503 Service Unavailable\r\nServer: x\r\n", "HTTP/1.1 503 Service Unavailable\r\n")]
    [InlineData("POST /login HTTP/1.1\r\n\r\npassword=x", "POST /login HTTP/1.1\r\n")]
    [InlineData("AUTH secret\r\n", "")]
    [InlineData("password=x\r\n", "")]
    [InlineData("\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001secret", "\u0016\u0003\u0001\u0002\u0000\u0001\u0000")]
    public void OfATcpPayload_OnlyWhatIsNamedIsKept(string payload, string kept)
    {
        var e = new NetworkEvent
        {
            Kind = EventKind.PacketQueued,
            BootNanoseconds = 0,
            Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.0.0.1:4000"), AddressPort.Parse("10.0.0.2:80")),
            Payload = payload.Select(c => (byte)c).ToArray(),
        };
        var buffer = new byte[PacketWriter.MaxLength];
        var length = PacketWriter.Write(e, buffer, out var original);
        PacketReader.TryRead(buffer.AsSpan(0, length), LinkType.Raw, original, out var view).ShouldBeTrue();
        PacketEvent.Keep(view, keepFirstLine: true).ToArray().ShouldBe(kept.Select(c => (byte)c).ToArray());
        PacketEvent.Keep(view, keepFirstLine: false).IsEmpty.ShouldBeTrue();
    }

    private (CaptureFile File, List<NetworkEvent> Events) Read(PacketSourceOptions options)
    {
        var events = new List<NetworkEvent>();
        var file = CaptureFile.Read(_path, options, (in e) => events.Add(e), TestContext.Current.CancellationToken);
        return (file, events);
    }

    // The old format with nanoseconds: packets a second and a nanosecond apart.
    private void WritePcap(LinkType link, byte[][] frames)
    {
        using var stream = File.Create(_path);
        var header = new byte[24];
        BinaryPrimitives.WriteUInt32LittleEndian(header, 0xa1b23c4d);
        header[4] = 2;
        header[6] = 4;
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), 65535);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(20), (int)link);
        stream.Write(header);
        for (var i = 0; i < frames.Length; i++)
        {
            var record = new byte[16];
            BinaryPrimitives.WriteInt32LittleEndian(record, 1_000 + i);
            BinaryPrimitives.WriteInt32LittleEndian(record.AsSpan(4), 500 + i);
            BinaryPrimitives.WriteInt32LittleEndian(record.AsSpan(8), frames[i].Length);
            BinaryPrimitives.WriteInt32LittleEndian(record.AsSpan(12), frames[i].Length);
            stream.Write(record);
            stream.Write(frames[i]);
        }
    }
}
