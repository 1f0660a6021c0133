using System.Net;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Net;

public sealed class IpAddressTests
{
    [Theory]
    [InlineData("10.96.0.1")]
    [InlineData("0.0.0.0")]
    [InlineData("255.255.255.255")]
    [InlineData("::")]
    [InlineData("::1")]
    [InlineData("fd00:96::a")]
    [InlineData("2001:db8:ffff:ffff:8000::1")]
    public void Text_RoundTrips(string text)
    {
        var address = IpAddress.Parse(text);
        address.ToString().ShouldBe(text);
        address.ShouldBe(IpAddress.From(IPAddress.Parse(text)));
        address.ToIPAddress().ShouldBe(IPAddress.Parse(text));
        IpAddress.Read(IPAddress.Parse(text).GetAddressBytes()).ShouldBe(address);
        (address.IsIPv4 ? IpAddress.FromIPv4((uint)address.Bits) : IpAddress.FromIPv6(address.Bits)).ShouldBe(address);
        Span<char> exact = stackalloc char[text.Length];
        address.TryFormat(exact, out var written).ShouldBeTrue();
        written.ShouldBe(text.Length);
        address.TryFormat(exact[1..], out _).ShouldBeFalse();
    }

    [Theory]
    [InlineData("")]
    [InlineData("10.1")]
    [InlineData("10.0.0.256")]
    [InlineData("10.0.0.0001")]
    [InlineData("010.0.0.1")]
    [InlineData("10.0.0.")]
    [InlineData(".10.0.0")]
    [InlineData("10.0.0.1.")]
    [InlineData("10.0.0.1 ")]
    [InlineData("10.0.0.1.1")]
    [InlineData("10..0.1")]
    [InlineData("0x7f.0.0.1")]
    [InlineData("fe80::1%eth0")]
    [InlineData("[::1]")]
    [InlineData("1:2")]
    public void BadText_IsRefused(string text) => IpAddress.TryParse(text, null, out _).ShouldBeFalse();

    [Fact]
    public void AnyText_IsReadAsTheFrameworkReadsIt()
    {
        // Every shape of an IPv6 address, and texts that are nearly one.
        var random = new Random(20261121);
        var valid = 0;
        var bytes = new byte[16];
        for (var round = 0; round < 200_000; round++)
        {
            random.NextBytes(bytes);
            for (var group = 0; group < 8; group++)
            {
                if (random.Next(2) == 0)
                {
                    bytes.AsSpan(group * 2, 2).Clear();
                }
            }

            var text = round % 3 == 0 ? new IPAddress(bytes).ToString() : string.Join(':', Enumerable.Range(0, random.Next(1, 10)).Select(_ => random.Next(4) == 0 ? "" : random.Next(0x10000).ToString(random.Next(2) == 0 ? "x" : "X4", null)));
            if (random.Next(6) == 0)
            {
                text += $"{(random.Next(2) == 0 ? ":" : "")}{random.Next(300)}.{random.Next(256)}.{random.Next(256)}.1";
            }

            if (random.Next(4) == 0)
            {
                text = text.Insert(random.Next(text.Length + 1), random.Next(5) switch { 0 => ":", 1 => "::", 2 => "g", 3 => text.Contains('.') ? "f" : "0", _ => "." });
            }

            if (!text.Contains(':'))
            {
                continue; // IPv4 is read more strictly than the framework reads it
            }

            var expected = IPAddress.TryParse(text, out var framework) && framework.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6;
            IpAddress.TryParse(text, null, out var address).ShouldBe(expected, text);
            if (expected)
            {
                valid++;
                address.ShouldBe(IpAddress.From(framework!), text);

                // The framework writes a few retired forms (::1.2.3.4) with an IPv4 address in them; Kubernetes does not.
                var written = framework!.ToString();
                address.ToString().ShouldBe(address.IsIPv4 ? framework.MapToIPv4().ToString() : written.Contains('.') ? address.ToString() : written);
                IpAddress.Parse(address.ToString()).ShouldBe(address);
            }
        }

        valid.ShouldBeGreaterThan(30_000);
    }

    [Fact]
    public void MappedAddress_IsTheIPv4Address()
    {
        IpAddress.Parse("::ffff:10.0.0.1").ShouldBe(IpAddress.Parse("10.0.0.1"));
        IpAddress.Parse("::ffff:10.0.0.1").ToString().ShouldBe("10.0.0.1");
        IpAddress.Parse("::fffe:10.0.0.1").IsIPv4.ShouldBeFalse();
    }

    [Theory]
    [InlineData("0.0.0.0", true, false, false)]
    [InlineData("::", true, false, false)]
    [InlineData("127.9.9.9", false, true, false)]
    [InlineData("::1", false, true, false)]
    [InlineData("224.0.0.1", false, false, true)]
    [InlineData("ff02::1", false, false, true)]
    [InlineData("10.0.0.1", false, false, false)]
    [InlineData("::2", false, false, false)]
    [InlineData("7f00::1", false, false, false)]
    public void Kinds_AreTold(string text, bool unspecified, bool loopback, bool multicast)
    {
        var address = IpAddress.Parse(text);
        (address.IsUnspecified, address.IsLoopback, address.IsMulticast).ShouldBe((unspecified, loopback, multicast));
    }

    [Fact]
    public void Order_IsIPv4ThenIPv6ByValue()
    {
        string[] expected = ["0.0.0.1", "9.0.0.0", "10.0.0.1", "255.0.0.0", "::1", "::1:0:0:0:1", "1::", "fd00::2", "fd00::10"];
        expected.Reverse().Select(t => IpAddress.Parse(t)).Order().Select(a => a.ToString()).ShouldBe(expected);
    }

    [Theory]
    [InlineData("10.96.12.34/12", "10.96.0.0/12", "10.111.255.255", "10.112.0.0")]
    [InlineData("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3", "10.1.2.2")]
    [InlineData("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255", "::1")]
    [InlineData("::/0", "::/0", "ffff::1", "1.2.3.4")]
    [InlineData("fd00:1:2:3:4::5/64", "fd00:1:2:3::/64", "fd00:1:2:3:ffff::", "fd00:1:2:4::")]
    [InlineData("fd00:1:2:3:4::5/65", "fd00:1:2:3::/65", "fd00:1:2:3:7fff::", "fd00:1:2:3:8000::")]
    [InlineData("fd00::1/8", "fd00::/8", "fdff::", "fc00::")]
    [InlineData("fd00::1", "fd00::1/128", "fd00::1", "fd00::2")]
    public void Prefix_HoldsItsAddresses(string text, string expected, string inside, string outside)
    {
        var network = IpNetwork.Parse(text);
        network.ToString().ShouldBe(expected);
        network.Contains(IpAddress.Parse(inside)).ShouldBeTrue();
        network.Contains(IpAddress.Parse(outside)).ShouldBeFalse();
    }
}
