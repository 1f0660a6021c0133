using System.Diagnostics;
using TraceProbe.Capture.PcapNg;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.PcapNg;

public class PcapNgWriterTests
{
    private const string Client = "10.0.0.1:33904";
    private const string Service = "10.96.0.11:80";
    private const string Pod = "10.0.1.2:8080";

    private static readonly NetworkEvent Syn = new()
    {
        Kind = EventKind.PacketQueued,
        BootNanoseconds = 1_000_000_001,
        NetNs = 1,
        Interface = ShortName.From("eth0"),
        InterfaceIndex = 2,
        Pid = 1234,
        Command = ShortName.From("curl"),
        Tuple = Tcp(Client, Service),
        Flags = TcpFlags.Syn,
        Sequence = 7,
        HasConntrack = true,
        Original = Tcp(Client, Service),
        Reply = Tcp(Pod, Client),
    };

    [Fact]
    public void Description_SaysWhereThePacketStandsInItsTranslation()
    {
        PcapNgWriter.Describe(Syn).ShouldBe($"queued by curl(1234), before translation: original {Client} > {Service}, to become {Client} > {Pod}");
        PcapNgWriter.Describe(Syn with { Kind = EventKind.PacketReceived, Pid = 0, Tuple = Tcp(Client, Pod) }).ShouldBe($"received, after translation: original {Client} > {Service}");
        PcapNgWriter.Describe(Syn with { Tuple = Tcp(Pod, Client), Pid = 0 }).ShouldBe($"queued, answer, before translation back: to become {Service} > {Client}");
        PcapNgWriter.Describe(Syn with { Tuple = Tcp(Service, Client), Pid = 0 }).ShouldBe($"queued, answer, after translation back: was {Pod} > {Client}");
        PcapNgWriter.Describe(Syn with { Reply = Tcp(Service, Client), Pid = 0 }).ShouldBe("queued, not translated");
        PcapNgWriter.Describe(Syn with { Kind = EventKind.PacketDropped, DropReason = "NO_SOCKET", HasConntrack = false }).ShouldBe("dropped here: NO_SOCKET");
    }

    [Fact]
    public void EventsThatAreNoPackets_AreNotWritten()
    {
        using var stream = new MemoryStream();
        using var writer = new PcapNgWriter(stream, _ => "");
        var empty = stream.Length;
        writer.Write(Syn with { Kind = EventKind.ResetSent }).ShouldBeFalse();
        writer.Write(Syn with { Kind = EventKind.SocketStateChanged }).ShouldBeFalse();
        writer.Write(Syn with { Tuple = default }).ShouldBeFalse();
        stream.Length.ShouldBe(empty);
    }

    [Fact]
    public void File_IsReadByTshark()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/tshark"), "needs tshark");
        var path = Path.Combine(Path.GetTempPath(), $"traceprobe-{Guid.NewGuid():N}.pcapng");
        try
        {
            WriteSamples(path);
            var rows = Tshark("-r", path, "-n", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
                "-T", "fields", "-E", "separator=|",
                "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "frame.comment", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info", "-e", "frame.time_epoch");
            rows.Length.ShouldBe(13);
            rows[0].ShouldStartWith("eth0@pod/default/ubuntu|0x00000002|queued by curl(1234), before translation: original 10.0.0.1:33904 > 10.96.0.11:80");
            rows[0].ShouldContain("[SYN] Seq=0");
            rows[0].ShouldEndWith("|1.000000001");
            rows[1].ShouldStartWith("veth1@netns:2|0x00000001|received, after translation");
            rows[1].ShouldContain("5 events were lost before this");
            rows[2].ShouldContain("[RST, ACK]");
            rows[3].ShouldContain("HTTP/1.1 200 OK");
            rows[5].ShouldContain("Standard query 0x1234 A ns.dns.cluster.local");
            rows[7].ShouldContain("Destination unreachable (Port unreachable)");
            rows[8].ShouldContain("Destination Unreachable (Port unreachable)");
            rows[12].ShouldContain("dropped here: NO_SOCKET");

            var details = string.Join('\n', Tshark("-r", path, "-n", "-V", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"));
            details.ShouldNotContain("Malformed", Case.Insensitive);
            details.ShouldNotContain("[incorrect", Case.Insensitive);
            details.ShouldNotContain("Bad checksum", Case.Insensitive);
            details.ShouldContain("[correct]");
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static void WriteSamples(string path)
    {
        using var stream = File.Create(path);
        using var writer = new PcapNgWriter(stream, ns => ns == 1 ? "pod/default/ubuntu" : "");
        var other = Syn with { Kind = EventKind.PacketReceived, BootNanoseconds = 1_000_010_000, NetNs = 2, Interface = ShortName.From("veth1"), Pid = 0, Tuple = Tcp(Client, Pod) };
        var query = DnsQuery.Create(0x1234, "ns.dns.cluster.local", DnsRecordType.A);
        var status = "HTTP/1.1 200 OK\r\n"u8.ToArray();
        NetworkEvent[] events =
        [
            Syn,
            new() { Kind = EventKind.ObservationGap, BootNanoseconds = 1_000_000_500, Lost = 5 },
            other,
            other with { Kind = EventKind.PacketQueued, Tuple = Tcp(Pod, Client), Flags = TcpFlags.Rst | TcpFlags.Ack, Acknowledgment = 8 },
            other with { Tuple = Tcp("[fd00::2]:80", "[fd00::1]:4000"), Flags = TcpFlags.Ack | TcpFlags.Psh, PayloadLength = 900, Payload = status },
            other with { Tuple = Tcp("10.0.0.2:80", "10.0.0.1:4000"), Flags = TcpFlags.Ack, PayloadLength = 100_000 },
            other with { Tuple = new(IpProtocol.Udp, AddressPort.Parse("10.0.0.1:4000"), AddressPort.Parse("10.96.0.10:53")), Flags = 0, PayloadLength = query.Length, Payload = query },
            other with { Tuple = new(IpProtocol.Udp, AddressPort.Parse("[fd00::1]:4000"), AddressPort.Parse("[fd00::a]:53")), Flags = 0, PayloadLength = 600, Payload = query },
            other with
            {
                Tuple = new(IpProtocol.Icmp, AddressPort.Parse("10.0.0.9:0"), AddressPort.Parse("10.0.0.1:0")),
                IcmpType = 3, IcmpCode = 3, Quoted = Tcp(Client, Service),
            },
            other with
            {
                Tuple = new(IpProtocol.IcmpV6, AddressPort.Parse("[fd00::9]:0"), AddressPort.Parse("[fd00::1]:0")),
                IcmpType = 1, IcmpCode = 4, Quoted = new(IpProtocol.Udp, AddressPort.Parse("[fd00::1]:4000"), AddressPort.Parse("[fd00::a]:53")),
            },
            other with { Tuple = new(IpProtocol.IcmpV6, AddressPort.Parse("[fd00::9]:0"), AddressPort.Parse("[fd00::1]:0")), IcmpType = 135, IcmpCode = 0 },
            other with { Tuple = new(IpProtocol.Icmp, AddressPort.Parse("10.0.0.9:0"), AddressPort.Parse("10.0.0.1:0")), IcmpType = 8, IcmpCode = 0, PayloadLength = 56 },
            other with { Tuple = new(IpProtocol.Sctp, AddressPort.Parse("10.0.0.9:1"), AddressPort.Parse("10.0.0.1:2")), PayloadLength = 20 },
            other with { Kind = EventKind.PacketDropped, DropReason = "NO_SOCKET" },
            new() { Kind = EventKind.ObservationGap, BootNanoseconds = 2_000_000_000, Lost = 1 },
        ];
        foreach (var e in events)
        {
            writer.Write(e).ShouldBe(e.Kind != EventKind.ObservationGap);
        }
    }

    private static string[] Tshark(params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo("/usr/bin/tshark", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var errors = process.StandardError.ReadToEndAsync();
        var lines = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, errors.Result);
        return lines.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private static FiveTuple Tcp(string source, string destination) => new(IpProtocol.Tcp, AddressPort.Parse(source), AddressPort.Parse(destination));
}
