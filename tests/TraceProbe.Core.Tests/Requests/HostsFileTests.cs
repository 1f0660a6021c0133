using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class HostsFileTests
{
    private const string Text = """
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe80::1%eth0 scoped
        10.244.1.7	web-0.web.default.svc.cluster.local	web-0   # web-1
        nonsense web-2
         10.244.1.9 indented
        10.244.1.8 Web-0
        """;

    [Theory]
    [InlineData("localhost", "127.0.0.1 ::1", "127.0.0.1 ::1")]
    [InlineData("web-0.web.default.svc.cluster.local", "10.244.1.7", "10.244.1.7")]
    [InlineData("web-0", "10.244.1.7 10.244.1.8", "10.244.1.7")]
    [InlineData("WEB-0", "10.244.1.7 10.244.1.8", "")]
    [InlineData("web-1", "", "")]
    [InlineData("web-2", "", "")]
    [InlineData("web", "", "")]
    [InlineData("web-0.", "", "")]
    [InlineData("10.244.1.7", "", "")]
    [InlineData("indented", "10.244.1.9", "")]
    [InlineData("scoped", "fe80::1", "fe80::1")]
    [InlineData("", "", "")]
    public void Name_IsLookedUp(string host, string glibc, string musl)
    {
        Find(host, ResolverFlavor.Glibc).ShouldBe(glibc);
        Find(host, ResolverFlavor.Musl).ShouldBe(musl);
    }

    [Fact]
    public void Entry_KeepsItsLine()
        => HostsFile.Find(Text, "web-0", ResolverFlavor.Glibc)[0].Line.ShouldBe("10.244.1.7	web-0.web.default.svc.cluster.local	web-0");

    [Fact]
    public void ManyLines_AreBounded()
        => HostsFile.Find(string.Concat(Enumerable.Repeat("1.2.3.4 x\n", 1000)), "x", ResolverFlavor.Glibc).Length.ShouldBe(HostsFile.MaxEntries);

    private static string Find(string host, ResolverFlavor flavor) => string.Join(' ', HostsFile.Find(Text, host, flavor).Select(e => e.Address));
}
