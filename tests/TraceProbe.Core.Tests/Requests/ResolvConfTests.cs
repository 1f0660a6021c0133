using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class ResolvConfTests
{
    private const string OfAPod = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void PodsFile_IsRead(ResolverFlavor flavor)
    {
        var configuration = ResolvConf.Parse(OfAPod, "/etc/resolv.conf", flavor);
        Names(configuration).ShouldBe("10.96.0.10");
        configuration.Search.ShouldBe(["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        configuration.Ndots.ShouldBe(5);
        configuration.TimeoutSeconds.ShouldBe(5);
        configuration.Attempts.ShouldBe(2);
        configuration.Flavor.ShouldBe(flavor);
        configuration.Path.ShouldBe("/etc/resolv.conf");
        configuration.Notes.ShouldBeEmpty();
    }

    [Fact]
    public void EmptyFile_AsksLoopback()
    {
        var configuration = ResolvConf.Parse("", null, ResolverFlavor.Glibc);
        Names(configuration).ShouldBe("127.0.0.1");
        configuration.Search.ShouldBeEmpty();
        configuration.Ndots.ShouldBe(1);
        configuration.Notes.ShouldHaveSingleItem().ShouldContain("127.0.0.1");
    }

    [Theory]
    [InlineData("nameserver fd00::a\n", "fd00::a")]
    [InlineData("nameserver\t fe80::1%eth0\n", "fe80::1")]
    [InlineData("nameserver 10.0.0.1 # the first\nnameserver 10.0.0.2\r\n", "10.0.0.1 10.0.0.2")]
    [InlineData("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", "1.1.1.1 1.1.1.2 1.1.1.3")]
    [InlineData("#nameserver 1.1.1.1\n;nameserver 1.1.1.2\nnameserver 1.1.1.3", "1.1.1.3")]
    [InlineData(" nameserver 1.1.1.1\nnameservers 1.1.1.2\nNameserver 1.1.1.3\n", "127.0.0.1")]
    [InlineData("nameserver dns.example\nnameserver\nnameserver 300.1.1.1\n", "127.0.0.1")]
    public void Nameservers_AreThoseTheLibrariesTake(string text, string expected)
    {
        Names(ResolvConf.Parse(text, null, ResolverFlavor.Glibc)).ShouldBe(expected);
        Names(ResolvConf.Parse(text, null, ResolverFlavor.Musl)).ShouldBe(expected);
    }

    [Theory]
    [InlineData("search a b\nsearch c d\n", "c d", "c d")]
    [InlineData("search a b\ndomain c\n", "c", "c")]
    [InlineData("domain c\nsearch a b\n", "a b", "a b")]
    [InlineData("domain a b\n", "a", "a b")]
    [InlineData("search a\nsearch \n", "", "")]
    [InlineData("search a. .\n", "a .", "a .")]
    [InlineData("search\ta\t b\n", "a b", "a b")]
    public void SearchAndDomain_LastOneWins(string text, string glibc, string musl)
    {
        string.Join(' ', ResolvConf.Parse(text, null, ResolverFlavor.Glibc).Search).ShouldBe(glibc);
        string.Join(' ', ResolvConf.Parse(text, null, ResolverFlavor.Musl).Search).ShouldBe(musl);
    }

    [Fact]
    public void Options_AreCutToTheLimitsOfEachLibrary()
    {
        const string text = "options ndots:99 timeout:99 attempts:99 rotate use-vc single-request single-request-reopen no-aaaa edns0 trust-ad\n";
        var glibc = ResolvConf.Parse(text, null, ResolverFlavor.Glibc);
        (glibc.Ndots, glibc.TimeoutSeconds, glibc.Attempts).ShouldBe((15, 30, 5));
        (glibc.Rotate, glibc.UseTcp, glibc.SingleRequest, glibc.SingleRequestReopen, glibc.NoAaaa, glibc.Edns).ShouldBe((true, true, true, true, true, true));
        var musl = ResolvConf.Parse(text, null, ResolverFlavor.Musl);
        (musl.Ndots, musl.TimeoutSeconds, musl.Attempts).ShouldBe((15, 60, 10));
        (musl.Rotate, musl.UseTcp, musl.SingleRequest, musl.NoAaaa).ShouldBe((false, false, false, false));
        musl.Notes.ShouldContain(n => n.Contains("'rotate' is not an option of musl"));
    }

    [Theory]
    [InlineData("options ndots:0\n", 0)]
    [InlineData("options ndots:\n", 0)]
    [InlineData("options ndots:2x\n", 2)]
    [InlineData("options ndots:99999999999999999999\n", 15)]
    [InlineData("options ndots:3\noptions ndots:4\n", 4)]
    [InlineData("options attempts:3\n", 1)]
    public void Ndots_IsReadAsAtoiReadsIt(string text, int expected) => ResolvConf.Parse(text, null, ResolverFlavor.Glibc).Ndots.ShouldBe(expected);

    [Fact]
    public void ZeroTimeoutAndAttempts_AreOne()
    {
        var configuration = ResolvConf.Parse("options timeout:0 attempts:0\n", null, ResolverFlavor.Glibc);
        (configuration.TimeoutSeconds, configuration.Attempts).ShouldBe((1, 1));
    }

    [Fact]
    public void LineLongerThanMuslReads_IsPassedOver()
    {
        var text = "nameserver 1.1.1.1\nsearch " + string.Join(' ', Enumerable.Range(0, 30).Select(i => $"zone-{i}.example")) + "\n";
        ResolvConf.Parse(text, null, ResolverFlavor.Glibc).Search.Length.ShouldBe(30);
        var musl = ResolvConf.Parse(text, null, ResolverFlavor.Musl);
        musl.Search.ShouldBeEmpty();
        musl.Notes.ShouldHaveSingleItem().ShouldContain("longer than musl reads");
    }

    [Fact]
    public void UnknownLines_AreNoted()
    {
        var configuration = ResolvConf.Parse("nameserver 1.1.1.1\nsortlist 10.0.0.0\n nameserver 1.1.1.2\nnameserver x\u001b[2J\n", null, ResolverFlavor.Glibc);
        configuration.Notes.ShouldBe([
            "line 2: 'sortlist 10.0.0.0' is not understood",
            "line 3: 'nameserver 1.1.1.2' does not begin at the first column, and is not read",
            "line 4: 'nameserver x?[2J' names no address"]);
    }

    [Fact]
    public void AnyText_IsReadWithinBounds()
    {
        var random = new Random(2);
        string[] words = ["nameserver", "search", "domain", "options", "ndots:", "timeout:-1", "attempts:9", " ", "\t", "\n", "\r", "\0", ":", "1.1.1.1", "::1%", "%", ".", new('x', 300), "\ud800"];
        for (var i = 0; i < 20_000; i++)
        {
            var text = string.Concat(Enumerable.Range(0, random.Next(60)).Select(_ => words[random.Next(words.Length)]));
            foreach (var flavor in Enum.GetValues<ResolverFlavor>())
            {
                var configuration = ResolvConf.Parse(text, null, flavor);
                configuration.Nameservers.Length.ShouldBeInRange(1, ResolvConf.MaxNameservers);
                configuration.Search.Length.ShouldBeLessThanOrEqualTo(ResolvConf.MaxSearchDomains);
                configuration.Notes.Length.ShouldBeLessThanOrEqualTo(ResolvConf.MaxNotes);
                configuration.Ndots.ShouldBeInRange(0, 15);
            }
        }
    }

    private static string Names(ResolverConfiguration configuration) => string.Join(' ', configuration.Nameservers);
}
