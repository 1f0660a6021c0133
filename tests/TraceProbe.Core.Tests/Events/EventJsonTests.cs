using System.Text;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Events;

public class EventJsonTests
{
    private static readonly NetworkEvent Full = new()
    {
        Kind = EventKind.PacketDropped,
        BootNanoseconds = long.MaxValue,
        NetNs = 4026532190,
        InterfaceIndex = 3,
        Interface = ShortName.From("eth0"),
        Pid = 1234,
        Command = ShortName.From("curl \"x\""),
        CgroupId = ulong.MaxValue,
        Socket = 0xffff888100345678,
        Tuple = Tuple(IpProtocol.Tcp, "10.0.0.1:33904", "10.0.0.2:8080"),
        HasConntrack = true,
        Original = Tuple(IpProtocol.Tcp, "10.0.0.1:33904", "10.96.0.11:80"),
        Reply = Tuple(IpProtocol.Tcp, "[fd00::2]:8080", "[fd00::1]:33904"),
        Flags = TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Cwr,
        Sequence = uint.MaxValue,
        Acknowledgment = 7,
        PayloadLength = 1400,
        IcmpType = 3,
        IcmpCode = 255,
        Quoted = Tuple((IpProtocol)47, "10.0.0.1:0", "10.0.0.2:0"),
        DropReason = "NO_SOCKET",
        OldState = TcpState.SynSent,
        NewState = TcpState.Close,
        Error = 111,
        ChildPid = 4321,
        Lost = 1L << 40,
        AnswerLength = 65621,
        Payload = new byte[] { 0, 1, 254, 255, 10 },
    };

    [Fact]
    public void FullEvent_ReadsBackExactly() => ShouldBeSame(RoundTrip(Full).Single(), Full);

    [Fact]
    public void BareEvent_IsShortAndReadsBack()
    {
        var bare = new NetworkEvent { Kind = EventKind.ProcessExited, BootNanoseconds = 0 };
        Text(bare).ShouldBe("{\"kind\":\"ProcessExited\",\"bootNs\":0}\n");
        ShouldBeSame(RoundTrip(bare).Single(), bare);
    }

    [Fact]
    public void Line_IsAsDocumented()
        => Text(new NetworkEvent
        {
            Kind = EventKind.PacketQueued,
            BootNanoseconds = 81002,
            NetNs = 4026532190,
            Interface = ShortName.From("eth0"),
            Tuple = Tuple(IpProtocol.Tcp, "10.0.0.1:33904", "10.96.0.11:80"),
            Flags = TcpFlags.Syn,
        }).ShouldBe("""{"kind":"PacketQueued","bootNs":81002,"netNs":4026532190,"ifName":"eth0","tuple":"tcp 10.0.0.1:33904 > 10.96.0.11:80","flags":"S"}""" + "\n");

    [Fact]
    public void NamesThatAreNoUtf8_ReadBackExactly()
    {
        var e = Full with { Command = ShortName.From([0xff, 0x41, 0xc3]), Interface = ShortName.From("ünterwegsnetzö") };
        ShouldBeSame(RoundTrip(e).Single(), e);
    }

    [Fact]
    public void RandomEvents_ReadBackExactly()
    {
        var random = new Random(7);
        var events = Enumerable.Range(0, 2_000).Select(_ => Any(random)).ToArray();
        var read = RoundTrip(events);
        read.Length.ShouldBe(events.Length);
        for (var i = 0; i < events.Length; i++)
        {
            ShouldBeSame(read[i], events[i]);
        }
    }

    [Theory]
    [InlineData("[]", "JSON object")]
    [InlineData("{\"kind\":\"PacketQueued\"}", "bootNs")]
    [InlineData("{\"bootNs\":1}", "kind")]
    [InlineData("{\"kind\":\"PacketEaten\",\"bootNs\":1}", "PacketEaten")]
    [InlineData("{\"kind\":\"99\",\"bootNs\":1}", "99")]
    [InlineData("{\"kind\":1,\"bootNs\":1}", "text")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"colour\":\"red\"}", "colour")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"tuple\":\"tcp 10.0.0.1 > 10.0.0.2\"}", "10.0.0.1")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"tuple\":\"xxx 10.0.0.1:1 > 10.0.0.2:2\"}", "xxx")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"flags\":\"SX\"}", "SX")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"icmpType\":256}", "")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"payload\":\"%\"}", "")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"commandBytes\":\"0\"}", "")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1,\"socket\":\"\"}", "")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1} x", "")]
    [InlineData("{\"kind\":\"PacketQueued\",\"bootNs\":1", "")]
    [InlineData("{", "")]
    public void BadLine_IsRefusedWithItsNumber(string line, string mentions)
    {
        var text = Text(Full) + "\r\n" + line + "\n" + Text(Full);
        var error = Should.Throw<FormatException>(() => EventJson.ReadLines(new MemoryStream(Encoding.UTF8.GetBytes(text))).Count());
        error.Message.ShouldStartWith("Line 3: ");
        error.Message.ShouldContain(mentions);
    }

    [Fact]
    public void EveryTruncationOfTheLastLine_IsRefusedOrWhole()
    {
        var line = Encoding.UTF8.GetBytes(Text(Full));
        for (var length = 1; length < line.Length - 1; length++)
        {
            Should.Throw<FormatException>(() => EventJson.ReadLine(line.AsSpan(0, length), 1));
        }

        // Without the line feed at its end.
        ShouldBeSame(EventJson.ReadLines(new MemoryStream(line, 0, line.Length - 1)).Single(), Full);
    }

    [Fact]
    public void RandomMutations_AreRefusedOrRead()
    {
        var random = new Random(8);
        var line = Encoding.UTF8.GetBytes(Text(Full));
        for (var round = 0; round < 20_000; round++)
        {
            var bytes = line.ToArray();
            for (var times = random.Next(1, 4); times > 0; times--)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            try
            {
                EventJson.ReadLine(bytes, 1);
            }
            catch (FormatException)
            {
                // What every bad line must give, and nothing else.
            }
        }
    }

    [Fact]
    public void EndlessLine_IsRefused()
        => Should.Throw<FormatException>(() => EventJson.ReadLines(new MemoryStream(new byte[EventJson.MaxLineLength + 1])).Count()).Message.ShouldContain("longer");

    private static NetworkEvent[] RoundTrip(params NetworkEvent[] events)
    {
        using var stream = new MemoryStream();
        EventJson.WriteLines(stream, events);
        stream.Position = 0;
        return [.. EventJson.ReadLines(new TricklingStream(stream))];
    }

    private static string Text(NetworkEvent e)
    {
        using var stream = new MemoryStream();
        EventJson.WriteLines(stream, [e]);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private static FiveTuple Tuple(IpProtocol protocol, string source, string destination)
        => new(protocol, AddressPort.Parse(source), AddressPort.Parse(destination));

    // Payloads are equal by their bytes, not by where they lie.
    private static void ShouldBeSame(NetworkEvent actual, NetworkEvent expected)
    {
        actual.Payload.ToArray().ShouldBe(expected.Payload.ToArray());
        (actual with { Payload = default }).ShouldBe(expected with { Payload = default });
    }

    private static NetworkEvent Any(Random random)
    {
        var payload = new byte[random.Next(3) == 0 ? random.Next(513) : 0];
        random.NextBytes(payload);
        var name = new byte[random.Next(17)];
        random.NextBytes(name);
        return new NetworkEvent
        {
            Kind = (EventKind)random.Next(13),
            BootNanoseconds = random.NextInt64(),
            NetNs = (uint)random.NextInt64(2),
            InterfaceIndex = random.Next(3),
            Interface = ShortName.From(name),
            Pid = random.Next(3),
            Command = ShortName.From("nginx"),
            CgroupId = (ulong)random.Next(3),
            Socket = (ulong)random.NextInt64(),
            Tuple = AnyTuple(random),
            HasConntrack = random.Next(2) == 0,
            Original = AnyTuple(random),
            Reply = AnyTuple(random),
            Flags = (TcpFlags)random.Next(256),
            Sequence = (uint)random.NextInt64(1L << 32),
            Acknowledgment = (uint)random.NextInt64(1L << 32),
            PayloadLength = random.Next(2000),
            IcmpType = (byte)random.Next(256),
            IcmpCode = (byte)random.Next(2),
            Quoted = AnyTuple(random),
            DropReason = random.Next(3) switch { 0 => null, 1 => "", _ => "NETFILTER_DROP" },
            OldState = (TcpState)random.Next(13),
            NewState = (TcpState)random.Next(13),
            Error = random.Next(2),
            ChildPid = random.Next(2),
            Lost = random.NextInt64(2),
            Payload = payload,
        };
    }

    private static FiveTuple AnyTuple(Random random) => random.Next(3) == 0
        ? default
        : new((IpProtocol)random.Next(256), AnyAddress(random), AnyAddress(random));

    private static AddressPort AnyAddress(Random random)
    {
        var bits = new byte[16];
        random.NextBytes(bits);
        bits.AsSpan(0, random.Next(17)).Clear();
        var address = random.Next(2) == 0 ? IpAddress.Read(bits) : IpAddress.Read(bits.AsSpan(12));
        return new AddressPort(address, (ushort)random.Next(65536));
    }

    /// <summary>Gives a few bytes at a time, as pipes and archives do.</summary>
    private sealed class TricklingStream(Stream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, Math.Min(count, 7));

        public override int Read(Span<byte> buffer) => inner.Read(buffer[..Math.Min(buffer.Length, 7)]);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
