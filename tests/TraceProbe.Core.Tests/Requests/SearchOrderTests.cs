using TraceProbe.Core.Dns;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class SearchOrderTests
{
    [Theory]
    // host, ndots, search, glibc, musl
    [InlineData("a", 5, "s t", "a.s a.t a", "a.s a.t a")]
    [InlineData("a.b", 5, "s t", "a.b.s a.b.t a.b", "a.b.s a.b.t a.b")]
    [InlineData("a.b", 1, "s t", "a.b a.b.s a.b.t", "a.b")]
    [InlineData("a", 1, "s", "a.s a", "a.s a")]
    [InlineData("a", 0, "s", "a a.s", "a")]
    [InlineData("a.", 5, "s", "a", "a")]
    [InlineData("a.b.", 1, "s", "a.b", "a.b")]
    [InlineData("a.b.c.d.e", 5, "s", "a.b.c.d.e.s a.b.c.d.e", "a.b.c.d.e.s a.b.c.d.e")]
    [InlineData("a.b.c.d.e.f", 5, "s", "a.b.c.d.e.f a.b.c.d.e.f.s", "a.b.c.d.e.f")]
    [InlineData("a", 5, "", "a", "a")]
    [InlineData("a", 5, "s .", "a.s a", "a.s a")]
    [InlineData("a", 5, ". s", "a a.s", "a.s a")]
    [InlineData("a", 5, ".s", "a.s a", "a.s a")]
    [InlineData("", 5, "s", "", "")]
    [InlineData(".", 5, "s", "", "")]
    [InlineData("a..", 5, "s", "", "")]
    public void Names_AreTriedInTheLibrarysOrder(string host, int ndots, string search, string glibc, string musl)
    {
        var configuration = new ResolverConfiguration { Ndots = ndots, Search = [.. search.Split(' ', StringSplitOptions.RemoveEmptyEntries)] };
        Names(host, configuration, ResolverFlavor.Glibc).ShouldBe(glibc);
        Names(host, configuration, ResolverFlavor.Musl).ShouldBe(musl);
    }

    [Fact]
    public void TooLongNames_ArePassedOver()
    {
        var host = string.Join('.', Enumerable.Repeat(new string('a', 60), 4));
        var configuration = new ResolverConfiguration { Ndots = 5, Search = ["svc.cluster.local", "x"] };
        Names(host, configuration, ResolverFlavor.Glibc).ShouldBe($"{host}.x {host}");
        Names(host + "." + host, configuration, ResolverFlavor.Glibc).ShouldBe("");
    }

    [Theory]
    // search domain or not, outcome, code, glibc, musl
    [InlineData(true, LookupOutcome.NameError, DnsResponseCode.NXDomain, SearchStep.Next, SearchStep.Next)]
    [InlineData(true, LookupOutcome.NoData, DnsResponseCode.NoError, SearchStep.Next, SearchStep.Stop)]
    [InlineData(true, LookupOutcome.ServerFailure, DnsResponseCode.ServFail, SearchStep.Next, SearchStep.Stop)]
    [InlineData(true, LookupOutcome.ServerFailure, DnsResponseCode.Refused, SearchStep.AsGiven, SearchStep.Stop)]
    [InlineData(true, LookupOutcome.TimedOut, null, SearchStep.AsGiven, SearchStep.Stop)]
    [InlineData(true, LookupOutcome.Malformed, null, SearchStep.AsGiven, SearchStep.Stop)]
    [InlineData(true, LookupOutcome.Unreachable, null, SearchStep.Stop, SearchStep.Stop)]
    [InlineData(false, LookupOutcome.NameError, DnsResponseCode.NXDomain, SearchStep.Next, SearchStep.Next)]
    [InlineData(false, LookupOutcome.TimedOut, null, SearchStep.Next, SearchStep.Stop)]
    [InlineData(false, LookupOutcome.ServerFailure, DnsResponseCode.Refused, SearchStep.Next, SearchStep.Stop)]
    public void After_FollowsTheLibrary(bool searched, LookupOutcome outcome, DnsResponseCode? code, SearchStep glibc, SearchStep musl)
    {
        var name = new SearchName("a.s", searched ? "s" : null);
        SearchOrder.After(ResolverFlavor.Glibc, name, outcome, code).ShouldBe(glibc);
        SearchOrder.After(ResolverFlavor.Musl, name, outcome, code).ShouldBe(musl);
    }

    private static string Names(string host, ResolverConfiguration configuration, ResolverFlavor flavor)
        => string.Join(' ', SearchOrder.Names(host, configuration, flavor).Select(n => n.Name));
}
