using BenchmarkDotNet.Attributes;
using TraceProbe.Capture.Packets;

namespace TraceProbe.Benchmarks;

/// <summary>Nanoseconds and bytes allocated per packet read.</summary>
[MemoryDiagnoser]
public class PacketReading
{
    private const int Packets = 1024;

    private readonly byte[] _frame = new byte[1500];
    private LinkType _link;
    private int _length;

    [Params("TCP/IPv4 Ethernet", "TCP/IPv6 SLL2", "UDP/IPv4 raw", "ICMP quoting TCP", "IPv6 extension headers")]
    public string Packet { get; set; } = "";

    [GlobalSetup]
    public void Prepare()
    {
        const string addresses4 = "0a0000010a60000b";
        const string addresses6 = "fd000000000000000000000000000001fd000000000000000000000000000002";
        const string tcp = "847000500000000200000003501801f600000000474554202f20485454502f312e310d0a0d0a";
        (_link, var hex) = Packet switch
        {
            "TCP/IPv4 Ethernet" => (LinkType.Ethernet, "52540000000252540000000108004500003a1234400040060000" + addresses4 + tcp),
            "TCP/IPv6 SLL2" => (LinkType.LinuxSll2, "86dd0000000000070001040652540000000100006000000000260640" + addresses6 + tcp),
            "UDP/IPv4 raw" => (LinkType.Raw, "4500001d1234000040110000" + addresses4 + "847000350009000061"),
            "ICMP quoting TCP" => (LinkType.Raw, "45c000380000000040010000" + addresses4 + "03030000000000004500003c1234400001060000" + addresses4 + "8470005000000001"),
            "IPv6 extension headers" => (LinkType.Raw, "60000000003e0040" + addresses6 + "2b00050200000100" + "3c00000000000000" + "0600010400000000" + tcp),
            _ => throw new InvalidOperationException(Packet),
        };
        var bytes = Convert.FromHexString(hex);
        bytes.CopyTo(_frame, 0);
        _length = bytes.Length;
    }

    [Benchmark(OperationsPerInvoke = Packets)]
    public int Read()
    {
        var ports = 0;
        for (var i = 0; i < Packets; i++)
        {
            if (!PacketReader.TryRead(_frame.AsSpan(0, _length), _link, _length, out var view))
            {
                throw new InvalidOperationException("Not read.");
            }

            ports += view.Tuple.Destination.Port + view.PayloadLength;
        }

        return ports;
    }
}
