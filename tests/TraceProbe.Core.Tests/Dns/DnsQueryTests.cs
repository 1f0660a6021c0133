using TraceProbe.Core.Dns;

namespace TraceProbe.Core.Tests.Dns;

public class DnsQueryTests
{
    [Fact]
    public void Query_ReadsBack()
    {
        DnsMessage.TryRead(DnsQuery.Create(7, "My-Nginx.default.", DnsRecordType.AAAA, ednsPayloadSize: 1232), out var message).ShouldBeTrue();
        message.Id.ShouldBe((ushort)7);
        message.Flags.ShouldBe(DnsFlags.RecursionDesired);
        message.Question.ShouldBe(new DnsQuestion("my-nginx.default", DnsRecordType.AAAA));
        message.EdnsPayloadSize.ShouldBe((ushort)1232);
        message.Partial.ShouldBeFalse();
    }

    [Theory]
    [InlineData("", ".")]
    [InlineData(".", ".")]
    [InlineData("a.b.", "a.b")]
    [InlineData(@"a\.b.c", @"a\.b.c")]
    [InlineData(@"\000\255\032x", @"\000\255\032x")]
    [InlineData(@"a\\b", @"a\\b")]
    [InlineData("_http._tcp.web", "_http._tcp.web")]
    public void Name_ReadsBackAsWritten(string name, string expected)
    {
        DnsMessage.TryRead(DnsQuery.Create(1, name, DnsRecordType.A), out var message).ShouldBeTrue();
        message.Question!.Name.ShouldBe(expected);
    }

    [Theory]
    [InlineData("a..b")]
    [InlineData(".a")]
    [InlineData("..")]
    [InlineData("bücher.example")]
    [InlineData(@"a\")]
    [InlineData(@"a\25")]
    [InlineData(@"a\256")]
    [InlineData("a234567890123456789012345678901234567890123456789012345678901234")]
    public void NameThatIsNone_IsRefused(string name)
    {
        Should.Throw<FormatException>(() => DnsQuery.Create(1, name, DnsRecordType.A)).Message.ShouldContain(name);
        DnsQuery.TryWrite(new byte[DnsQuery.MaxLength], 1, name, DnsRecordType.A, out var written).ShouldBeFalse();
        written.ShouldBe(0);
    }

    [Fact]
    public void NameOf254Characters_IsRefusedAnd253IsNot()
    {
        var label = new string('a', 63);
        var longest = $"{label}.{label}.{label}.{new string('b', 61)}";
        DnsMessage.TryRead(DnsQuery.Create(1, longest, DnsRecordType.A), out var message).ShouldBeTrue();
        message.Question!.Name.ShouldBe(longest);
        DnsQuery.Create(1, longest + ".", DnsRecordType.A).Length.ShouldBe(12 + 255 + 4);
        Should.Throw<FormatException>(() => DnsQuery.Create(1, longest + "b", DnsRecordType.A));
    }

    [Fact]
    public void ShortDestination_IsRefusedAtEveryLength()
    {
        var whole = DnsQuery.Create(1, "a.b", DnsRecordType.A, ednsPayloadSize: 512);
        for (var length = 0; length < whole.Length; length++)
        {
            DnsQuery.TryWrite(new byte[length], 1, "a.b", DnsRecordType.A, out _, ednsPayloadSize: 512).ShouldBeFalse();
        }

        DnsQuery.TryWrite(new byte[whole.Length], 1, "a.b", DnsRecordType.A, out var written, ednsPayloadSize: 512).ShouldBeTrue();
        written.ShouldBe(whole.Length);
    }
}
