using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Dns;

public class DnsMessageTests
{
    [Fact]
    public void ProviderAnswer_GivesItsAddress()
    {
        var message = Read("ProviderAnswer");
        message.Id.ShouldBe((ushort)0x584d);
        message.IsResponse.ShouldBeTrue();
        message.Flags.ShouldBe(DnsFlags.Response | DnsFlags.RecursionDesired | DnsFlags.RecursionAvailable);
        message.ResponseCode.ShouldBe(DnsResponseCode.NoError);
        message.Question.ShouldBe(new DnsQuestion("my-nginx.default.cluster.local", DnsRecordType.A));
        message.Answers.ShouldBe([new DnsRecord { Name = "my-nginx.default.cluster.local", Type = DnsRecordType.A, TimeToLive = 5, Address = IpAddress.Parse("172.30.0.1") }]);
        message.Addresses.ShouldBe([IpAddress.Parse("172.30.0.1")]);
        message.Partial.ShouldBeFalse();
    }

    [Fact]
    public void CnameChain_IsFollowedToItsAddresses()
    {
        var message = Read("CnameChain");
        message.Answers.Select(r => r.ToString()).ShouldBe([
            "www.example.test 60 CNAME cdn.example.test",
            "cdn.example.test 60 CNAME edge.eu.example.test",
            "edge.eu.example.test 30 A 192.0.2.1",
            "edge.eu.example.test 30 AAAA 2001:db8::1"]);
        message.CanonicalName.ShouldBe("edge.eu.example.test");
        message.Addresses.ShouldBe([IpAddress.Parse("192.0.2.1"), IpAddress.Parse("2001:db8::1")]);
        message.EdnsPayloadSize.ShouldBe((ushort)1232);
    }

    [Fact]
    public void NameNotThere_GivesCodeAndAuthority()
    {
        var message = Read("NameNotThere");
        message.ResponseCode.ShouldBe(DnsResponseCode.NXDomain);
        message.Answers.ShouldBeEmpty();
        message.Authority.ShouldBe(new DnsRecord { Name = "cluster.local", Type = DnsRecordType.SOA, TimeToLive = 30, Target = "ns.dns.cluster.local" });
    }

    [Fact]
    public void ServiceRecords_GivePortsAndTargets()
        => Read("ServiceRecords").Answers.Select(r => r.ToString()).ShouldBe([
            "_http._tcp.web 30 SRV 0 50 8080 pod-a.web", "_http._tcp.web 30 SRV 1 50 8080 pod-b.web"]);

    [Fact]
    public void ExtendedCode_IsPutTogether()
    {
        var message = Read("ExtendedCode");
        message.ResponseCode.ShouldBe(DnsResponseCode.BadVers);
        message.Question.ShouldBeNull();
        message.Partial.ShouldBeFalse();
    }

    [Fact]
    public void PayloadCutByCapture_KeepsQuestionAndWholeAnswers()
    {
        var whole = DnsSamples.All["CnameChain"];
        // Cut within the last address.
        DnsMessage.TryRead(whole.AsSpan(0, whole.Length - 11 - 3), out var message).ShouldBeTrue();
        message.Partial.ShouldBeTrue();
        message.Question!.Name.ShouldBe("www.example.test");
        message.Answers.Length.ShouldBe(3);
        message.Addresses.ShouldBe([IpAddress.Parse("192.0.2.1")]);
    }

    [Fact]
    public void MessageBehindTcpLength_IsRead()
    {
        var whole = DnsSamples.All["CnameChain"];
        byte[] stream = [(byte)(whole.Length >> 8), (byte)whole.Length, .. whole, 1, 2, 3];
        DnsMessage.TryReadTcp(stream, out var message).ShouldBeTrue();
        message.Answers.Length.ShouldBe(4);
        DnsMessage.TryReadTcp(stream.AsSpan(0, 1), out _).ShouldBeFalse();
    }

    [Theory]
    [InlineData("c00c", "points at itself")]
    [InlineData("c00e 00", "points forward")]
    [InlineData("c000", "points into the header")]
    [InlineData("0161 c00c", "a run of labels that ends in a pointer to its own beginning")]
    [InlineData("40", "a label type withdrawn")]
    [InlineData("80", "a label type never given")]
    public void BadName_IsMalformed(string name, string why)
        => DnsMessage.TryRead(DnsSamples.Hex("0000 0100 0001 0000 0000 0000" + name + "0001 0001"), out _).ShouldBeFalse(why);

    [Fact]
    public void NameOf256Bytes_IsMalformedAnd255IsNot()
    {
        byte[] label = [63, .. Enumerable.Repeat((byte)'a', 63)];
        byte[] header = DnsSamples.Hex("0000 0100 0001 0000 0000 0000");
        byte[] longest = [.. header, .. label, .. label, .. label, 61, .. label[1..62], 0, 0, 1, 0, 1];
        DnsMessage.TryRead(longest, out var message).ShouldBeTrue();
        message.Question!.Name.Length.ShouldBe(253);
        byte[] longer = [.. header, .. label, .. label, .. label, 62, .. label[1..63], 0, 0, 1, 0, 1];
        DnsMessage.TryRead(longer, out _).ShouldBeFalse();
    }

    [Fact]
    public void AliasesInARing_EndWithoutAddress()
    {
        var message = Read("CnameChain") with
        {
            Answers = [
                new DnsRecord { Name = "www.example.test", Type = DnsRecordType.CNAME, TimeToLive = 1, Target = "b" },
                new DnsRecord { Name = "b", Type = DnsRecordType.CNAME, TimeToLive = 1, Target = "www.example.test" }],
        };
        message.Addresses.ShouldBeEmpty();
    }

    [Fact]
    public void AddressOfWrongLength_IsMalformed()
    {
        var bytes = DnsSamples.All["ProviderAnswer"].ToArray();
        bytes[0x3b].ShouldBe((byte)4);
        bytes[0x3b] = 5;
        DnsMessage.TryRead(bytes, out _).ShouldBeFalse();
    }

    private static DnsMessage Read(string sample)
    {
        DnsMessage.TryRead(DnsSamples.All[sample], out var message).ShouldBeTrue();
        return message;
    }
}
