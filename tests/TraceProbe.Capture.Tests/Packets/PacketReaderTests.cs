using System.Text;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.Packets;

public class PacketReaderTests
{
    public static TheoryData<string> Samples => PacketSamples.Names;

    [Theory]
    [MemberData(nameof(Samples))]
    public void Sample_GivesItsTuple(string name)
    {
        var sample = PacketSamples.All[name];
        PacketReader.TryRead(sample.Frame, sample.Link, sample.Frame.Length, out var view).ShouldBeTrue();
        view.Tuple.ShouldBe(sample.Tuple);
    }

    [Fact]
    public void Syn_GivesFlagsAndNumbers()
    {
        var view = Read("EthernetTcp4Syn");
        view.Flags.ShouldBe(TcpFlags.Syn);
        view.Sequence.ShouldBe(1u);
        view.Acknowledgment.ShouldBe(0u);
        view.PayloadLength.ShouldBe(0);
        view.Direction.ShouldBe(PacketDirection.Unknown);
    }

    [Fact]
    public void PaddingOfEthernet_IsNoPayload()
    {
        var view = Read("EthernetTcp4PaddedAck");
        view.PayloadLength.ShouldBe(0);
        view.Payload.Length.ShouldBe(0);
    }

    [Theory]
    [InlineData("VlanTcp4Request")]
    [InlineData("QinqTcp4Options")]
    [InlineData("Sll2Tcp6Request")]
    [InlineData("RawTcp6ExtensionHeaders")]
    [InlineData("RawTcp4LongerThanItsLengthField")]
    public void Request_GivesItsPayload(string name)
    {
        var view = Read(name);
        view.Flags.ShouldBe(TcpFlags.Psh | TcpFlags.Ack);
        view.PayloadLength.ShouldBe(18);
        Encoding.ASCII.GetString(view.Payload).ShouldBe("GET / HTTP/1.1\r\n\r\n");
    }

    [Fact]
    public void CookedFrame_GivesDirectionAndInterface()
    {
        var view = Read("Sll2Tcp6Request");
        view.Direction.ShouldBe(PacketDirection.Outgoing);
        view.InterfaceIndex.ShouldBe(7);
        Read("SllUdp4Dns").Direction.ShouldBe(PacketDirection.Incoming);
    }

    [Fact]
    public void CaptureShorterThanPacket_KeepsTheOriginalLength()
    {
        var sample = PacketSamples.All["VlanTcp4Request"];
        PacketReader.TryRead(sample.Frame.AsSpan(0, sample.Frame.Length - 15), sample.Link, sample.Frame.Length, out var view).ShouldBeTrue();
        view.PayloadLength.ShouldBe(18);
        Encoding.ASCII.GetString(view.Payload).ShouldBe("GET");
    }

    [Theory]
    [InlineData("RawIcmp4PortUnreachableQuotingUdp", 3, 3, IpProtocol.Udp, "10.0.0.1:33904", "10.96.0.11:53")]
    [InlineData("IPv4IcmpTimeExceededQuotingTcp", 11, 0, IpProtocol.Tcp, "10.0.0.1:33904", "10.96.0.11:80")]
    [InlineData("IPv6IcmpPacketTooBigQuotingTcp", 2, 0, IpProtocol.Tcp, "[fd00::1]:33904", "[fd00::2]:80")]
    public void IcmpError_GivesTheTupleItQuotes(string name, byte type, byte code, IpProtocol protocol, string source, string destination)
    {
        var view = Read(name);
        view.IcmpType.ShouldBe(type);
        view.IcmpCode.ShouldBe(code);
        view.Quoted.ShouldBe(new FiveTuple(protocol, AddressPort.Parse(source), AddressPort.Parse(destination)));
    }

    [Fact]
    public void IcmpThatIsNoError_QuotesNothing()
    {
        Read("RawIcmp4Echo").Quoted.ShouldBe(default);
        Read("RawIcmp6NeighbourSolicitation").Quoted.ShouldBe(default);
    }

    [Theory]
    [InlineData("RawUdp4FirstFragment", true, 0)]
    [InlineData("RawUdp4LaterFragment", true, 1480)]
    [InlineData("RawUdp6LaterFragment", true, 8)]
    [InlineData("RawUdp6AtomicFragment", false, 0)]
    public void Fragment_IsToldFromAWholePacket(string name, bool fragment, int offset)
    {
        var view = Read(name);
        view.IsFragment.ShouldBe(fragment);
        view.FragmentOffset.ShouldBe(offset);
    }

    [Theory]
    [InlineData(LinkType.Ethernet, "525400000002 525400000001 0806 0001", "ARP")]
    [InlineData(LinkType.Ethernet, "525400000002 525400000001 86dd 45000014 0000 0000 40060000 0a000001 0a000002", "IPv4 where the link says IPv6")]
    [InlineData(LinkType.Ethernet, "525400000002 525400000001 8100 0001 8100 0001 8100 0001 8100 0001 8100 0001 0800 4500", "five VLAN tags")]
    [InlineData(LinkType.Raw, "", "nothing")]
    [InlineData(LinkType.Raw, "5500 0014", "IP version 5")]
    [InlineData(LinkType.Raw, "4400 0014 0000 0000 40060000 0a000001 0a000002", "an IPv4 header of 16 bytes")]
    [InlineData(LinkType.Raw, "4500 0013 0000 0000 40060000 0a000001 0a000002", "a total length under the header's")]
    [InlineData(LinkType.Raw, "4500 0028 0000 0000 40060000 0a000001 0a000002 84700050 00000001 00000000 4002faf0 00000000", "a TCP header of 16 bytes")]
    [InlineData(LinkType.Raw, "4500 0028 0000 0000 40060000 0a000001 0a000002 84700050 00000001 00000000 6002faf0 00000000", "a TCP header longer than its packet")]
    [InlineData(LinkType.Raw, "4500 001c 0000 0000 40110000 0a000001 0a000002 84700035 00070000", "a UDP length of 7")]
    [InlineData((LinkType)147, "4500 001c 0000 0000 40110000 0a000001 0a000002 84700035 00080000", "a link type not read")]
    public void WhatIsNoPacket_IsRefused(LinkType link, string hex, string why)
    {
        var frame = PacketSamples.Hex(hex);
        PacketReader.TryRead(frame, link, frame.Length, out _).ShouldBeFalse(why);
    }

    [Fact]
    public void EndlessExtensionHeaders_AreRefused()
    {
        var frame = new byte[40 + 1000 * 8];
        PacketSamples.Hex("60000000 1f40 3c 40").CopyTo(frame, 0);
        for (var i = 40; i < frame.Length; i += 8)
        {
            frame[i] = 60;
        }

        PacketReader.TryRead(frame, LinkType.Raw, frame.Length, out _).ShouldBeFalse();
    }

    private static PacketView Read(string name)
    {
        var sample = PacketSamples.All[name];
        PacketReader.TryRead(sample.Frame, sample.Link, sample.Frame.Length, out var view).ShouldBeTrue();
        return view;
    }
}
