using TraceProbe.Capture.Packets;
using TraceProbe.Capture.PcapNg;
using TraceProbe.Capture.Tests.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Tests;

namespace TraceProbe.Capture.Tests.PcapNg;

public class PcapNgReaderTests
{
    // Big-endian; an Ethernet interface in microseconds two hours on, one in 2^-10 seconds; an unknown block; an enhanced and a simple packet.
    private static readonly byte[] BigEndian = PacketSamples.Hex("""
        0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c
        00000001 00000028 0001 0000 00000002 0002 0004 65746830 000e 0008 0000000000001c20 00000028
        00000001 0000001c 0065 0000 00000000 0009 0001 8a000000 0000001c
        00000bad 00000010 12345678 00000010
        00000006 00000030 00000001 00000000 00000600 00000001 00000009 61000000 0002 0004 00000002 00000000 00000030
        00000006 00000024 00000000 00000000 000f4241 00000002 00000002 62630000 00000024
        00000003 00000014 00000009 64650000 00000014
        """);

    [Fact]
    public void BigEndianFile_IsRead()
    {
        var reader = new PcapNgReader(new MemoryStream(BigEndian));
        reader.TryRead(out var packet).ShouldBeTrue();
        packet.Link.ShouldBe(LinkType.Raw);
        packet.Frame.ToArray().ShouldBe("a"u8.ToArray());
        packet.OriginalLength.ShouldBe(9);
        packet.UnixNanoseconds.ShouldBe(1_500_000_000);
        packet.Direction.ShouldBe(PacketDirection.Outgoing);
        packet.Interface.IsEmpty.ShouldBeTrue();

        reader.TryRead(out packet).ShouldBeTrue();
        packet.Link.ShouldBe(LinkType.Ethernet);
        packet.Frame.ToArray().ShouldBe("bc"u8.ToArray());
        packet.UnixNanoseconds.ShouldBe(7_201_000_001_000);
        packet.Direction.ShouldBe(PacketDirection.Unknown);
        packet.Interface.ToString().ShouldBe("eth0");

        reader.TryRead(out packet).ShouldBeTrue();
        packet.Frame.ToArray().ShouldBe("de"u8.ToArray());
        packet.OriginalLength.ShouldBe(9);

        reader.TryRead(out _).ShouldBeFalse();
        reader.Damage.ShouldBeNull();
    }

    [Theory]
    [InlineData("0a0d0d0a 0000001c 11111111", "byte-order")]
    [InlineData("0a0d0d0a 0000001d 1a2b3c4d 00", "29 bytes")]
    [InlineData("0a0d0d0a 7ffffffc 1a2b3c4d 00", "2147483644 bytes")]
    [InlineData("0a0d0d0a 00000010 1a2b3c4d 00000010 00000006 00000020 00000000 00000000 00000000 00000000 00000000 00000020", "never described")]
    [InlineData("0a0d0d0a 00000010 1a2b3c4d 00000010 00000001 00000014 0001 0000 00000000 00000014 00000006 00000020 00000000 00000000 00000000 ffffffff 00000000 00000020", "longer than its block")]
    public void DamagedFile_SaysWhatIsWrong(string hex, string damage)
    {
        var reader = new PcapNgReader(new MemoryStream(PacketSamples.Hex(hex)));
        reader.TryRead(out _).ShouldBeFalse();
        reader.Damage!.ShouldContain(damage);
        reader.TryRead(out _).ShouldBeFalse();
    }

    [Fact]
    public void EveryTruncation_GivesThePacketsBefore()
    {
        for (var length = 0; length < BigEndian.Length; length++)
        {
            var reader = new PcapNgReader(new MemoryStream(BigEndian, 0, length));
            var packets = 0;
            while (reader.TryRead(out _))
            {
                packets++;
            }

            packets.ShouldBeLessThan(3);
            // Only between two blocks is an end no damage.
            (reader.Damage is null).ShouldBe(length is 0 or 28 or 68 or 96 or 112 or 160 or 196, $"{length} bytes");
        }
    }

    [Fact]
    public void RandomMutations_NeverThrow()
    {
        using var written = new MemoryStream();
        using (var writer = new PcapNgWriter(written, _ => "node/a"))
        {
            for (var i = 0; i < 3; i++)
            {
                writer.Write(new NetworkEvent
                {
                    Kind = EventKind.PacketQueued,
                    BootNanoseconds = i,
                    NetNs = (uint)i,
                    Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.0.0.1:4000"), AddressPort.Parse("10.96.0.11:80")),
                });
            }
        }

        var random = new Random(7);
        foreach (var sample in new[] { BigEndian, written.ToArray() })
        {
            for (var round = 0; round < 20_000; round++)
            {
                var reader = new PcapNgReader(new MemoryStream(Mutation.Of(sample, random)));
                while (reader.TryRead(out var packet))
                {
                    packet.Frame.Length.ShouldBeLessThan(1 << 20);
                    PacketReader.TryRead(packet.Frame, packet.Link, packet.OriginalLength, out _);
                }
            }
        }
    }
}
