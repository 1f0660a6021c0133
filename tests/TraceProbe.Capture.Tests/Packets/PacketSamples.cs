using TraceProbe.Capture.Packets;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.Packets;

/// <summary>A frame, and the tuple it must be read as.</summary>
internal sealed record PacketSample(LinkType Link, byte[] Frame, IpProtocol Protocol, string Source, string Destination)
{
    public FiveTuple Tuple => new(Protocol, AddressPort.Parse(Source), AddressPort.Parse(Destination));
}

/// <summary>Named frames; each is also the seed of the mutations.</summary>
internal static class PacketSamples
{
    private const string Ethernet4 = "525400000002 525400000001 0800";
    private const string Ethernet6 = "525400000002 525400000001 86dd";
    private const string Addresses4 = "0a000001 0a60000b";
    private const string Addresses6 = "fd000000000000000000000000000001 fd000000000000000000000000000002";
    private const string Syn = "8470 0050 00000001 00000000 a002 faf0 0000 0000 020405b4 0402080a 00000001 00000000 01030307";
    private const string Request = "8470 0050 00000002 00000003 5018 01f6 0000 0000 474554202f20485454502f312e310d0a0d0a";
    private const string DnsQuery = "1234 0100 0001 0000 0000 0000 026e73 03646e73 056c6f63616c 00 0001 0001";

    public static readonly IReadOnlyDictionary<string, PacketSample> All = new Dictionary<string, PacketSample>
    {
        ["EthernetTcp4Syn"] = Tcp(LinkType.Ethernet, $"{Ethernet4} 4500 003c 1234 4000 40 06 0000 {Addresses4} {Syn}"),
        ["EthernetTcp4PaddedAck"] = Tcp(LinkType.Ethernet, $"{Ethernet4} 4500 0028 1234 4000 40 06 0000 {Addresses4} 8470 0050 00000002 00000003 5010 01f6 0000 0000 aaaaaaaaaaaa"),
        ["VlanTcp4Request"] = Tcp(LinkType.Ethernet, $"525400000002 525400000001 8100 0064 0800 4500 003a 1234 4000 40 06 0000 {Addresses4} {Request}"),
        ["QinqTcp4Options"] = Tcp(LinkType.Ethernet, $"525400000002 525400000001 88a8 0064 8100 0065 0800 4600 003e 1234 4000 40 06 0000 {Addresses4} 94040000 {Request}"),
        ["Sll2Tcp6Request"] = Tcp6(LinkType.LinuxSll2, $"86dd 0000 00000007 0001 04 06 525400000001 0000 6000 0000 0026 06 40 {Addresses6} {Request}"),
        ["SllUdp4Dns"] = Udp(LinkType.LinuxSll, $"0000 0001 0006 525400000001 0000 0800 4500 0039 1234 0000 40 11 0000 {Addresses4} 8470 0035 0025 0000 {DnsQuery}"),
        ["EthernetUdp6Dns"] = Udp6(LinkType.Ethernet, $"{Ethernet6} 6000 0000 0025 11 40 {Addresses6} 8470 0035 0025 0000 {DnsQuery}"),
        ["NullUdp4"] = Udp(LinkType.Null, $"02000000 4500 001d 1234 0000 40 11 0000 {Addresses4} 8470 0035 0009 0000 61"),
        ["LoopUdp6"] = Udp6(LinkType.Loop, $"0000001e 6000 0000 0009 11 40 {Addresses6} 8470 0035 0009 0000 61"),
        ["RawIcmp4PortUnreachableQuotingUdp"] = Icmp(LinkType.Raw,
            $"45c0 0038 0000 0000 40 01 0000 0a60000b 0a000001 0303 0000 00000000 4500 0039 1234 0000 40 11 0000 {Addresses4} 8470 0035 0025 0000"),
        ["IPv4IcmpTimeExceededQuotingTcp"] = Icmp(LinkType.IPv4,
            $"45c0 0038 0000 0000 40 01 0000 0a60000b 0a000001 0b00 0000 00000000 4500 003c 1234 4000 01 06 0000 {Addresses4} 8470 0050 00000001"),
        ["RawIcmp4Echo"] = Icmp(LinkType.Raw, "4500 0020 0000 0000 40 01 0000 0a60000b 0a000001 0800 0000 0001 0001 61626364"),
        ["IPv6IcmpPacketTooBigQuotingTcp"] = Icmp6(LinkType.IPv6,
            $"6000 0000 0044 3a 40 {Addresses6} 0200 0000 00000500 6000 0000 05a0 06 40 {Addresses6} 8470 0050 00000002 00000003 5018 01f6 0000 0000"),
        ["RawIcmp6NeighbourSolicitation"] = Icmp6(LinkType.Raw, $"6000 0000 0018 3a ff {Addresses6} 8700 0000 00000000 fd000000000000000000000000000002"),
        // Hop-by-hop, routing, authentication, destination options.
        ["RawTcp6ExtensionHeaders"] = Tcp6(LinkType.Raw,
            $"6000 0000 0056 00 40 {Addresses6} 2b00 0502 0000 0100 3301 0000 00000000 0000000000000000 3c02 0000 00000000 0000000000000000 0600 0104 00000000 {Request}"),
        ["RawUdp4FirstFragment"] = Udp(LinkType.Raw, $"4500 0024 1234 2000 40 11 0000 {Addresses4} 8470 0035 05c8 0000 6162636465666768"),
        ["RawUdp4LaterFragment"] = new(LinkType.Raw, Hex($"4500 001c 1234 00b9 40 11 0000 {Addresses4} 6162636465666768"), IpProtocol.Udp, "10.0.0.1:0", "10.96.0.11:0"),
        ["RawUdp6LaterFragment"] = new(LinkType.Raw, Hex($"6000 0000 0010 2c 40 {Addresses6} 1100 0008 00000001 6162636465666768"), IpProtocol.Udp, "[fd00::1]:0", "[fd00::2]:0"),
        ["RawUdp6AtomicFragment"] = Udp6(LinkType.Raw, $"6000 0000 0011 2c 40 {Addresses6} 1100 0000 00000001 8470 0035 0009 0000 61"),
        ["RawSctp4Init"] = new(LinkType.Raw, Hex($"4500 0030 0000 0000 40 84 0000 {Addresses4} 8470 0050 00000000 00000000 01000010 00000001 00010000 00010001"), IpProtocol.Sctp, "10.0.0.1:33904", "10.96.0.11:80"),
        ["RawTcp4LongerThanItsLengthField"] = Tcp(LinkType.Raw, $"4500 0000 1234 4000 40 06 0000 {Addresses4} {Request}"),
        ["RawGre4"] = new(LinkType.Raw, Hex($"4500 0018 0000 0000 40 2f 0000 {Addresses4} 00000800"), (IpProtocol)47, "10.0.0.1:0", "10.96.0.11:0"),
    };

    public static TheoryData<string> Names => [.. All.Keys];

    public static byte[] Hex(string text) => Convert.FromHexString(string.Concat(text.Where(char.IsAsciiHexDigit)));

    private static PacketSample Tcp(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.Tcp, "10.0.0.1:33904", "10.96.0.11:80");

    private static PacketSample Tcp6(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.Tcp, "[fd00::1]:33904", "[fd00::2]:80");

    private static PacketSample Udp(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.Udp, "10.0.0.1:33904", "10.96.0.11:53");

    private static PacketSample Udp6(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.Udp, "[fd00::1]:33904", "[fd00::2]:53");

    private static PacketSample Icmp(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.Icmp, "10.96.0.11:0", "10.0.0.1:0");

    private static PacketSample Icmp6(LinkType link, string hex) => new(link, Hex(hex), IpProtocol.IcmpV6, "[fd00::1]:0", "[fd00::2]:0");
}
