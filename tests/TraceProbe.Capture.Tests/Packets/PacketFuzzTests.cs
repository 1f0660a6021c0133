using System.Globalization;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Tests;

namespace TraceProbe.Capture.Tests.Packets;

/// <summary>
/// Hostile bytes are ordinary input. TRACEPROBE_FUZZ_SEED and TRACEPROBE_FUZZ_ROUNDS (mutations in all) change what is tried;
/// every failure names the seed and the bytes.
/// </summary>
public class PacketFuzzTests
{
    private static readonly int Seed = Setting("TRACEPROBE_FUZZ_SEED", 791);
    private static readonly int Rounds = Setting("TRACEPROBE_FUZZ_ROUNDS", 600_000);

    public static TheoryData<string> Samples => PacketSamples.Names;

    [Theory]
    [MemberData(nameof(Samples))]
    public void EveryTruncation_IsRefusedOrReadTheSame(string name)
    {
        var sample = PacketSamples.All[name];
        PacketReader.TryRead(sample.Frame, sample.Link, sample.Frame.Length, out var whole).ShouldBeTrue();
        using var guarded = new GuardedBuffer(sample.Frame.Length);
        for (var length = 0; length < sample.Frame.Length; length++)
        {
            // An array of its own and memory of its own, so that a read beyond would throw, or end the process.
            var cut = sample.Frame.AsSpan(0, length).ToArray();
            if (!PacketReader.TryRead(cut, sample.Link, sample.Frame.Length, out var view))
            {
                PacketReader.TryRead(guarded.Put(cut), sample.Link, sample.Frame.Length, out _).ShouldBeFalse();
                continue;
            }

            view.Tuple.ShouldBe(whole.Tuple);
            view.Flags.ShouldBe(whole.Flags);
            view.PayloadLength.ShouldBe(whole.PayloadLength);
            view.Payload.SequenceEqual(whole.Payload[..view.Payload.Length]).ShouldBeTrue();
            PacketReader.TryRead(guarded.Put(cut), sample.Link, sample.Frame.Length, out _).ShouldBeTrue();
        }
    }

    [Theory]
    [MemberData(nameof(Samples))]
    public void RandomMutations_NeverThrowNorLeaveTheFrame(string name)
    {
        var seed = Seed + name.Length;
        var random = new Random(seed);
        var sample = PacketSamples.All[name];
        LinkType[] links = [sample.Link, sample.Link, sample.Link, .. Enum.GetValues<LinkType>()];
        using var guarded = new GuardedBuffer(16 * sample.Frame.Length);
        for (var round = 0; round < Rounds / PacketSamples.All.Count; round++)
        {
            var bytes = Mutation.Of(sample.Frame, random);
            var link = links[random.Next(links.Length)];
            var original = random.Next(4) switch { 0 => random.Next(-1, int.MaxValue), 1 => bytes.Length + random.Next(2000), _ => bytes.Length };
            try
            {
                Check(bytes.Length <= 16 * sample.Frame.Length ? guarded.Put(bytes) : bytes, link, original);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"Seed {seed}, round {round}, {link}, {original}: {Convert.ToHexString(bytes)}", e);
            }
        }
    }

    [Fact]
    public void WhatIsWritten_IsRead()
    {
        var random = new Random(Seed);
        var buffer = new byte[PacketWriter.MaxLength];
        for (var round = 0; round < 50_000; round++)
        {
            var e = AnyPacket(random);
            var length = PacketWriter.Write(e, buffer, out var original);
            length.ShouldBeGreaterThan(0);
            original.ShouldBeGreaterThanOrEqualTo(length);
            PacketReader.TryRead(buffer.AsSpan(0, length).ToArray(), LinkType.Raw, original, out var view).ShouldBeTrue();
            view.Tuple.ShouldBe(e.Tuple);
            view.IsFragment.ShouldBeFalse();
            view.IcmpType.ShouldBe(e.IcmpType);
            view.IcmpCode.ShouldBe(e.IcmpCode);
            view.Quoted.ShouldBe(e.Quoted);
            if (e.Tuple.Protocol is IpProtocol.Tcp or IpProtocol.Udp)
            {
                view.Flags.ShouldBe(e.Flags);
                view.Sequence.ShouldBe(e.Sequence);
                view.Acknowledgment.ShouldBe(e.Acknowledgment);
                view.PayloadLength.ShouldBe(e.PayloadLength);
                view.Payload.SequenceEqual(e.Payload.Span).ShouldBeTrue();
            }
        }
    }

    [Fact]
    public void Reading_AllocatesNothing()
    {
        ReadAll();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1_000; i++)
        {
            ReadAll();
        }

        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBe(0);
    }

    private static readonly PacketSample[] AllSamples = [.. PacketSamples.All.Values];

    private static void ReadAll()
    {
        foreach (var sample in AllSamples)
        {
            if (!PacketReader.TryRead(sample.Frame, sample.Link, sample.Frame.Length, out _))
            {
                throw new InvalidOperationException("A sample was not read.");
            }
        }
    }

    private static void Check(ReadOnlySpan<byte> frame, LinkType link, int original)
    {
        if (!PacketReader.TryRead(frame, link, original, out var view))
        {
            return;
        }

        if (view.PayloadLength < 0 || view.FragmentOffset is < 0 or > 65535 || view.Payload.Length > Math.Max(0, frame.Length - 20)
            || view.Payload.Length > view.PayloadLength)
        {
            throw new InvalidOperationException("Out of bounds.");
        }

        if (!view.Payload.IsEmpty && (!frame.Overlaps(view.Payload, out var offset) || offset < 0 || offset + view.Payload.Length > frame.Length))
        {
            throw new InvalidOperationException("The payload lies outside of the frame.");
        }

        // Touch every byte.
        _ = view.Payload.IndexOfAnyExcept((byte)0);
    }

    private static NetworkEvent AnyPacket(Random random)
    {
        var v6 = random.Next(2) == 0;
        var tuple = AnyTuple(random, v6, random.Next(4) switch
        {
            0 => IpProtocol.Udp,
            1 => v6 ? IpProtocol.IcmpV6 : IpProtocol.Icmp,
            _ => IpProtocol.Tcp,
        });
        var payload = new byte[random.Next(3) == 0 ? random.Next(513) : 0];
        random.NextBytes(payload);
        var e = new NetworkEvent { Kind = EventKind.PacketQueued, BootNanoseconds = 1, Tuple = tuple };
        return tuple.Protocol switch
        {
            IpProtocol.Tcp => e with
            {
                Flags = (TcpFlags)random.Next(256),
                Sequence = (uint)random.NextInt64(1L << 32),
                Acknowledgment = (uint)random.NextInt64(1L << 32),
                Payload = payload,
                PayloadLength = payload.Length + random.Next(3) * 1000,
            },
            IpProtocol.Udp => e with { Payload = payload, PayloadLength = payload.Length + random.Next(3) * 1000 },
            _ => random.Next(2) == 0
                ? e with
                {
                    IcmpType = v6 ? (byte)1 : (byte)3,
                    IcmpCode = 4,
                    Quoted = AnyTuple(random, v6, random.Next(3) switch { 0 => IpProtocol.Tcp, 1 => IpProtocol.Udp, _ => IpProtocol.Sctp }),
                }
                : e with { IcmpType = v6 ? (byte)128 : (byte)8, PayloadLength = random.Next(100) },
        };
    }

    private static FiveTuple AnyTuple(Random random, bool v6, IpProtocol protocol)
    {
        var ports = protocol is not (IpProtocol.Icmp or IpProtocol.IcmpV6);
        return new FiveTuple(protocol, AnyEnd(), AnyEnd());

        AddressPort AnyEnd()
        {
            var bytes = new byte[v6 ? 16 : 4];
            random.NextBytes(bytes);
            return new AddressPort(IpAddress.Read(bytes), ports ? (ushort)random.Next(65536) : (ushort)0);
        }
    }

    private static int Setting(string name, int otherwise)
        => Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
