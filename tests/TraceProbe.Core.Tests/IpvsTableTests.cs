using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;
using TraceProbe.Tests;

namespace TraceProbe.Core.Tests;

/// <summary>Which virtual server takes a packet, from what <c>ipvsadm -Sn</c> prints.</summary>
public sealed class IpvsTableTests
{
    internal const string Sample = """
        -A -t 10.96.0.1:443 -s rr
        -a -t 10.96.0.1:443 -r 172.30.0.11:6443 -m -w 1
        -A -t 10.96.0.2:80 -s rr -p 10800
        -a -t 10.96.0.2:80 -r 10.244.1.2:8080 -m -w 1
        -a -t 10.96.0.2:80 -r 10.244.2.2:8080 -m -w 0
        -A -u 10.96.0.10:53 -s sh -b sh-fallback,sh-port
        -A -t [fd00:10:96::1]:443 -s wrr -p 60 -M 64
        -a -t [fd00:10:96::1]:443 -r [fd00:10:244:1::2]:6443 -m -w 3
        -A --sctp-service 10.96.0.3:7777 -s rr
        -A -f 5 -s wlc -p 300 -M 255.255.255.0
        -a -f 5 -r 10.244.1.2:0 -g -w 1
        -A -f 5 -6 -s wlc
        -A -t 10.96.0.4:0 -s rr -p 60
        -a -t 10.96.0.4:0 -r 10.244.1.2:0 -i -w 1 --tun-type ipip

        """;

    private static readonly IpvsTable Table = IpvsadmSave.Parse(Sample);

    [Theory]
    [InlineData(IpProtocol.Tcp, "10.96.0.1:443", 0u, "-t 10.96.0.1:443")]
    [InlineData(IpProtocol.Udp, "10.96.0.1:443", 0u, null)]
    [InlineData(IpProtocol.Tcp, "10.96.0.1:444", 0u, null)]
    [InlineData(IpProtocol.Tcp, "[fd00:10:96::1]:443", 0u, "-t [fd00:10:96::1]:443")]
    [InlineData(IpProtocol.Sctp, "10.96.0.3:7777", 0u, "--sctp-service 10.96.0.3:7777")]
    [InlineData(IpProtocol.Tcp, "10.96.0.1:443", 5u, "-f 5")] // a mark goes before an address
    [InlineData(IpProtocol.Tcp, "[fd00:10:96::1]:443", 5u, "-f 5 -6")]
    [InlineData(IpProtocol.Tcp, "10.96.0.1:443", 6u, "-t 10.96.0.1:443")]
    [InlineData(IpProtocol.Tcp, "10.96.0.4:8080", 0u, "-t 10.96.0.4:0")]
    public void Packet_IsTakenByTheVirtualServerThatTheKernelWouldFind(IpProtocol protocol, string destination, uint mark, string? expected)
        => Table.Find(protocol, AddressPort.Parse(destination), mark)?.Option.ShouldBe(expected);

    [Fact]
    public void Dump_IsReadWhole()
    {
        Table.Servers.Length.ShouldBe(8);
        Table.Servers[1].PersistenceSeconds.ShouldBe(10800);
        Table.Servers[1].PersistencePrefix.ShouldBe(32);
        Table.Servers[1].RealServers.ShouldBe([new RealServer(AddressPort.Parse("10.244.1.2:8080"), Forwarding.Masquerade, 1), new RealServer(AddressPort.Parse("10.244.2.2:8080"), Forwarding.Masquerade, 0)]);
        Table.Servers[2].SchedulerFlags.ShouldBe(["sh-fallback", "sh-port"]);
        Table.Servers[3].PersistencePrefix.ShouldBe(64);
        Table.Servers[5].PersistencePrefix.ShouldBe(24);
        Table.Servers[7].RealServers[0].Forwarding.ShouldBe(Forwarding.Tunnel);

        // What is read is what is printed.
        var printed = string.Concat(Table.Servers.SelectMany(s => s.RealServers.Select(r => s.LineOf(r) + (r.Forwarding == Forwarding.Tunnel ? " --tun-type ipip" : "")).Prepend(s.ToString())).Select(l => l + "\n"));
        printed.ReplaceLineEndings("\n").ShouldBe(Sample.ReplaceLineEndings("\n"));
    }

    [Theory]
    [InlineData("-A -t kubernetes.default:https -s rr\n", "take the dump with -n")]
    [InlineData("-A -x 10.96.0.1:443 -s rr\n", "no kind of virtual server")]
    [InlineData("-A -t 10.96.0.1:443\n", "no scheduler")]
    [InlineData("-a -t 10.96.0.1:443 -r 10.244.1.2:80 -m -w 1\n", "which was not added")]
    [InlineData("-A -t 10.96.0.1:443 -s rr\n-A -t 10.96.0.1:443 -s rr\n", "line 2: the virtual server -t 10.96.0.1:443 comes twice")]
    [InlineData("-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.244.1.2:80 -w 1\n", "line 2")]
    [InlineData("-A -t 10.96.0.1:443 -s rr --new-option\n", "'--new-option' is no option")]
    [InlineData("-A -t 10.96.0.1:443 -s r", "cut off")]
    [InlineData("IP Virtual Server version 1.2.1 (size=4096)\n", "neither")]
    public void TextThatIsNoDump_IsAnErrorThatNamesTheLine(string text, string words)
        => Should.Throw<FormatException>(() => IpvsadmSave.Parse(text)).Message.ShouldContain(words);

    [Fact]
    public void CutOrDamagedDump_IsReadOrRefusedButNeverCrashes()
    {
        var bytes = Encoding.UTF8.GetBytes(Sample);
        for (var length = 0; length < bytes.Length; length++)
        {
            // Cut within a line, it is refused; a part that ends with a line is as good as whole.
            Try(bytes.AsSpan(0, length).ToArray()).ShouldBe(length == 0 || bytes[length - 1] == '\n', $"cut at {length}");
        }

        var random = new Random(11);
        var refused = 0;
        for (var i = 0; i < 20_000; i++)
        {
            refused += Try(Mutation.Of(bytes, random)) ? 0 : 1;
        }

        refused.ShouldBeInRange(5_000, 19_900);

        static bool Try(byte[] damaged)
        {
            try
            {
                _ = IpvsadmSave.Parse(Encoding.UTF8.GetString(damaged)).Find(IpProtocol.Tcp, AddressPort.Parse("10.96.0.1:443"), 5);
                return true;
            }
            catch (FormatException)
            {
                return false;
            }
        }
    }
}
