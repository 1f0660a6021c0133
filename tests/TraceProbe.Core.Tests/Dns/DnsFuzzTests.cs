using System.Globalization;
using TraceProbe.Core.Dns;
using TraceProbe.Tests;

namespace TraceProbe.Core.Tests.Dns;

/// <summary>
/// Hostile bytes are ordinary input. TRACEPROBE_FUZZ_SEED and TRACEPROBE_FUZZ_ROUNDS (mutations in all) change what is tried;
/// every failure names the seed and the bytes.
/// </summary>
public class DnsFuzzTests
{
    private static readonly int Seed = Setting("TRACEPROBE_FUZZ_SEED", 1035);
    private static readonly int Rounds = Setting("TRACEPROBE_FUZZ_ROUNDS", 400_000);

    public static TheoryData<string> Samples => DnsSamples.Names;

    [Theory]
    [MemberData(nameof(Samples))]
    public void EveryTruncation_KeepsAPrefixOfTheWhole(string sample)
    {
        var bytes = DnsSamples.All[sample];
        DnsMessage.TryRead(bytes, out var whole).ShouldBeTrue();
        for (var length = 0; length < bytes.Length; length++)
        {
            // An array of its own, so that a read beyond would throw.
            var read = DnsMessage.TryRead(bytes.AsSpan(0, length).ToArray(), out var cut);
            read.ShouldBe(length >= DnsReader.HeaderLength, $"{length} bytes");
            if (!read)
            {
                continue;
            }

            cut.Partial.ShouldBeTrue($"{length} bytes");
            cut.Id.ShouldBe(whole.Id);
            (cut.Question is null || cut.Question == whole.Question).ShouldBeTrue();
            cut.Answers.ShouldBe(whole.Answers.Take(cut.Answers.Length));
        }
    }

    [Theory]
    [MemberData(nameof(Samples))]
    public void RandomMutations_NeverThrow(string sample)
    {
        var seed = Seed + sample.Length;
        var random = new Random(seed);
        var original = DnsSamples.All[sample];
        for (var round = 0; round < Rounds / DnsSamples.All.Count; round++)
        {
            var bytes = Mutation.Of(original, random);
            try
            {
                ReadEverything(bytes);
            }
            catch (Exception e) when (e is not Xunit.Sdk.XunitException)
            {
                throw new InvalidOperationException($"Seed {seed}, round {round}: {Convert.ToHexString(bytes)}", e);
            }
        }
    }

    [Fact]
    public void WhatIsWritten_IsRead()
    {
        var random = new Random(Seed);
        var name = new char[300];
        var buffer = new byte[DnsQuery.MaxLength];
        var accepted = 0;
        for (var round = 0; round < 20_000; round++)
        {
            var length = random.Next(80);
            for (var i = 0; i < length; i++)
            {
                name[i] = random.Next(8) == 0 ? '.' : (char)random.Next(0x20, 0x7f);
            }

            var id = (ushort)random.Next(ushort.MaxValue);
            var type = (DnsRecordType)random.Next(ushort.MaxValue);
            var edns = (ushort)random.Next(3);
            var recursion = random.Next(2) == 0;
            if (!DnsQuery.TryWrite(buffer, id, name.AsSpan(0, length), type, out var written, recursion, edns))
            {
                continue;
            }

            accepted++;
            DnsMessage.TryRead(buffer.AsSpan(0, written), out var message).ShouldBeTrue();
            message.Id.ShouldBe(id);
            message.Flags.ShouldBe(recursion ? DnsFlags.RecursionDesired : DnsFlags.None);
            message.Question!.Type.ShouldBe(type);
            message.EdnsPayloadSize.ShouldBe(edns == 0 ? null : edns);
            message.Partial.ShouldBeFalse();

            // The text written from the bytes makes the same bytes again, case apart.
            DnsQuery.TryWrite(buffer, id, message.Question.Name, type, out var again, recursion, edns).ShouldBeTrue();
            again.ShouldBe(written);
            DnsMessage.TryRead(buffer.AsSpan(0, again), out var second).ShouldBeTrue();
            second.Question.ShouldBe(message.Question);
        }

        accepted.ShouldBeGreaterThan(1_000);
    }

    [Fact]
    public void Reading_AllocatesNothing()
    {
        var sample = DnsSamples.All["CnameChain"];
        ReadEverything(sample);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1_000; i++)
        {
            ReadWithoutText(sample);
        }

        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBe(0);
    }

    private static void ReadEverything(byte[] bytes)
    {
        ReadWithoutText(bytes);
        if (!DnsMessage.TryRead(bytes, out var message))
        {
            return;
        }

        (message.Question?.Name.Length ?? 1).ShouldBeInRange(1, DnsName.MaxTextLength);
        message.Answers.Length.ShouldBeLessThanOrEqualTo(bytes.Length / 11);
        _ = message.Addresses;
    }

    private static void ReadWithoutText(byte[] bytes)
    {
        if (!DnsReader.TryCreate(bytes, out var reader))
        {
            return;
        }

        Span<char> text = stackalloc char[DnsName.MaxTextLength];
        while (reader.TryReadQuestion(out var question, out _, out _))
        {
            Format(question, text);
        }

        while (reader.TryReadRecord(out var record))
        {
            Format(record.Name, text);
            _ = record.Data;
            _ = record.TryGetAddress(out _);
            if (record.TryGetTarget(out var name) || record.TryGetService(out _, out _, out _, out name) || record.TryGetAuthority(out name, out _))
            {
                Format(name, text);
            }
        }
    }

    private static void Format(DnsName name, Span<char> text)
    {
        if (!name.TryFormat(text, out var written) || written == 0 || name.IsRoot != text[..written] is ".")
        {
            throw new InvalidOperationException("A name did not fit, or is empty.");
        }
    }

    private static int Setting(string name, int otherwise)
        => Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
