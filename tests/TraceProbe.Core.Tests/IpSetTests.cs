using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;
using TraceProbe.Tests;

namespace TraceProbe.Core.Tests;

/// <summary>What ipsets say about a packet, from what <c>ipset save</c> prints.</summary>
public sealed class IpSetTests
{
    internal const string Sample = """
        create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5da9e5fb
        add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
        add KUBE-CLUSTER-IP 10.96.0.10,udp:53 comment "kube-system/kube-dns:dns"
        create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0xa2f1b58d
        add KUBE-LOOP-BACK 10.244.1.2,tcp:8080,10.244.1.2
        create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
        add KUBE-NODE-PORT-TCP 30080
        create KUBE-NODE-PORT-SCTP-HASH hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x01
        add KUBE-NODE-PORT-SCTP-HASH 172.30.0.11,sctp:30082
        create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x02
        add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.1,tcp:80,198.51.100.0/24
        add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.1,tcp:80,198.51.100.128/25 nomatch
        add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.2,tcp:80,0.0.0.0/0
        create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536 bucketsize 12 initval 0x03
        add KUBE-6-CLUSTER-IP fd00:10:96::1,tcp:443
        create hosts hash:ip family inet hashsize 1024 maxelem 65536 netmask 24 bucketsize 12 initval 0x04
        add hosts 192.0.2.0
        create nets hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x05
        add nets 10.0.0.0/8
        add nets 10.1.0.0/16 nomatch
        add nets 10.1.2.3
        create everything list:set size 8
        add everything nets
        add everything hosts
        create ifaces hash:net,iface family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x06
        add ifaces 10.0.0.0/8,cni0
        create marked hash:ip,mark family inet markmask 0xffffffff hashsize 1024 maxelem 65536 bucketsize 12 initval 0x07
        create macs hash:mac hashsize 1024 maxelem 65536 bucketsize 12 initval 0x08
        add macs 02:00:00:00:00:01

        """;

    private static readonly Dictionary<string, IpSet> Sets = IpSetSave.Parse(Sample).ToDictionary(s => s.Name);

    private static bool IsIn(string set, params FieldValue[] values) => Sets[set].Find(values) is { IsException: false };

    private static FieldValue Of(string address) => FieldValue.Of(IpAddress.Parse(address));

    private static FieldValue Of(IpProtocol protocol) => FieldValue.Of((uint)protocol);

    private static FieldValue Of(ushort port) => FieldValue.Of((uint)port);

    [Theory]
    [InlineData("10.96.0.1", IpProtocol.Tcp, 443, true)]
    [InlineData("10.96.0.1", IpProtocol.Udp, 443, false)]
    [InlineData("10.96.0.1", IpProtocol.Tcp, 444, false)]
    [InlineData("10.96.0.2", IpProtocol.Tcp, 443, false)]
    [InlineData("10.96.0.10", IpProtocol.Udp, 53, true)]
    public void ServiceAddress_IsInTheSetWithItsProtocolAndPort(string address, IpProtocol protocol, ushort port, bool expected)
    {
        IsIn("KUBE-CLUSTER-IP", Of(address), Of(protocol), Of(port)).ShouldBe(expected);
        (Sets["KUBE-CLUSTER-IP"].Find(IpAddress.Parse(address), protocol, port) is not null).ShouldBe(expected);
    }

    [Fact]
    public void Comment_IsKept() => Sets["KUBE-CLUSTER-IP"].Members[1].Comment.ShouldBe("kube-system/kube-dns:dns");

    [Theory]
    [InlineData("198.51.100.1", "203.0.113.1", true)]
    [InlineData("198.51.100.200", "203.0.113.1", false)] // taken out again
    [InlineData("198.51.101.1", "203.0.113.1", false)]
    [InlineData("192.0.2.1", "203.0.113.2", true)] // from anywhere
    public void SourceRange_TakesTheLongestPrefix(string client, string address, bool expected)
        => IsIn("KUBE-LOAD-BALANCER-SOURCE-CIDR", Of(address), Of(IpProtocol.Tcp), Of(80), Of(client)).ShouldBe(expected);

    [Theory]
    [InlineData("10.2.0.1", true)]
    [InlineData("10.1.0.1", false)]
    [InlineData("10.1.2.3", true)]
    [InlineData("11.0.0.1", false)]
    public void PrefixWithinAnExceptionWithinAPrefix_IsIn(string address, bool expected) => IsIn("nets", Of(address)).ShouldBe(expected);

    [Theory]
    [InlineData("192.0.2.77", true)]
    [InlineData("192.0.3.77", false)]
    public void AddressIsCutByTheSetsNetmask(string address, bool expected) => IsIn("hosts", Of(address)).ShouldBe(expected);

    [Fact]
    public void InterfaceAndMark_AreFieldsToo()
    {
        IsIn("ifaces", Of("10.9.9.9"), FieldValue.Of("cni0")).ShouldBeTrue();
        IsIn("ifaces", Of("10.9.9.9"), FieldValue.Of("eth0")).ShouldBeFalse();
        Sets["marked"].FieldsOf("src,src").ShouldBe([PacketField.SourceAddress, PacketField.Mark]);
    }

    [Theory]
    [InlineData("KUBE-CLUSTER-IP", "dst,dst", "DestinationAddress,Protocol,DestinationPort")]
    [InlineData("KUBE-CLUSTER-IP", "src,dst", "SourceAddress,Protocol,DestinationPort")]
    [InlineData("KUBE-CLUSTER-IP", "dst", "")]
    [InlineData("KUBE-LOOP-BACK", "dst,dst,src", "DestinationAddress,Protocol,DestinationPort,SourceAddress")]
    [InlineData("KUBE-NODE-PORT-TCP", "dst", "DestinationPort")]
    [InlineData("ifaces", "dst,dst", "DestinationAddress,OutInterface")]
    [InlineData("hosts", "src,src", "SourceAddress")]
    public void Directions_NameTheFieldsOfThePacket(string set, string directions, string fields)
        => string.Join(',', Sets[set].FieldsOf(directions)).ShouldBe(fields);

    [Fact]
    public void SetOfAnUnknownType_SaysThatItIsNotKnown()
    {
        Sets["macs"].IsKnown.ShouldBeFalse();
        Sets["everything"].IsKnown.ShouldBeTrue();
        Sets["everything"].Members.Select(m => m.Text).ShouldBe(["nets", "hosts"]);
        IpSetSave.Parse("create s hash:net,iface family inet\nadd s 10.0.0.0/8,veth wildcard\n")[0].IsKnown.ShouldBeFalse();
        IpSetSave.Parse("create s hash:ip,port family inet\nadd s 10.0.0.1,icmp:echo-request\n")[0].Asks(IpProtocol.Icmp).ShouldBeFalse();
        IpSetSave.Parse("create s hash:ip,port family inet\nadd s 10.0.0.1,icmp:echo-request\n")[0].Asks(IpProtocol.Tcp).ShouldBeTrue();
        IpSetSave.Parse("create s hash:ip family inet\nadd s fd00::1\n")[0].IsKnown.ShouldBeFalse();
        IpSetSave.Parse("create s hash:ip bitmask 255.255.0.255 family inet\nadd s 10.0.0.1\n")[0].IsKnown.ShouldBeFalse();
    }

    [Theory]
    [InlineData("create\n", "line 1")]
    [InlineData("create a hash:ip\ncreate a hash:ip\n", "line 2: the set a comes twice")]
    [InlineData("add a 10.0.0.1\n", "line 1: a member of the set a, which was not created")]
    [InlineData("create a hash:ip family inet7\n", "family 'inet7'")]
    [InlineData("create a hash:ip\nadd a 10.0.0.1 comment \"half\n", "not closed")]
    [InlineData("create a hash:ip\nadd a 10.0.0.1", "cut off")]
    [InlineData("ipset v7.17: Kernel error\n", "neither")]
    public void TextThatIsNoDump_IsAnErrorThatNamesTheLine(string text, string words)
        => Should.Throw<FormatException>(() => IpSetSave.Parse(text)).Message.ShouldContain(words);

    [Fact]
    public void CutOrDamagedDump_IsReadOrRefusedButNeverCrashes()
    {
        var bytes = Encoding.UTF8.GetBytes(Sample);
        for (var length = 0; length < bytes.Length; length++)
        {
            Try(bytes.AsSpan(0, length).ToArray());
        }

        var random = new Random(7);
        var refused = 0;
        for (var i = 0; i < 20_000; i++)
        {
            refused += Try(Mutation.Of(bytes, random)) ? 0 : 1;
        }

        refused.ShouldBeInRange(1_000, 19_000);

        static bool Try(byte[] damaged)
        {
            try
            {
                foreach (var set in IpSetSave.Parse(Encoding.UTF8.GetString(damaged)))
                {
                    _ = set.Find(IpAddress.Parse("10.96.0.1"), IpProtocol.Tcp, 443);
                    _ = set.FieldsOf("dst,dst,src");
                }

                return true;
            }
            catch (FormatException)
            {
                return false;
            }
        }
    }
}
