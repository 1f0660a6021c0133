using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class AddressOrderTests
{
    [Theory]
    // destination>source, source "-" where there is none
    [InlineData("10.96.0.1>10.244.0.5 fd00:96::1>-", "10.96.0.1", "10.96.0.1")]
    [InlineData("10.96.0.1>10.244.0.5 fd00:96::1>fd00:244::5", "fd00:96::1 10.96.0.1", "10.96.0.1 fd00:96::1")]
    [InlineData("10.96.0.1>10.244.0.5 2001:db8::1>2001:db8::5", "2001:db8::1 10.96.0.1", "2001:db8::1 10.96.0.1")]
    [InlineData("2001:db8::1>fe80::5 10.96.0.1>10.244.0.5", "10.96.0.1 2001:db8::1", "10.96.0.1 2001:db8::1")]
    [InlineData("2001:db8::1>fd00::5 10.96.0.1>10.244.0.5", "10.96.0.1 2001:db8::1", "10.96.0.1 2001:db8::1")]
    [InlineData("127.0.0.1>127.0.0.1 ::1>::1", "::1 127.0.0.1", "::1 127.0.0.1")]
    [InlineData("fd00::1>- 10.0.0.1>-", "fd00::1 10.0.0.1", "10.0.0.1 fd00::1")]
    [InlineData("10.0.0.2>10.0.0.9 10.0.0.1>10.0.0.9 10.0.0.2>10.0.0.9", "10.0.0.2 10.0.0.1", "10.0.0.2 10.0.0.1")]
    public void Sort_FollowsThePolicyTables(string pairs, string glibc, string musl)
    {
        AddressPair[] addresses = [.. pairs.Split(' ').Select(p => p.Split('>')).Select(p => new AddressPair(IpAddress.Parse(p[0]), p[1] == "-" ? null : IpAddress.Parse(p[1])))];
        string.Join(' ', AddressOrder.Sort([.. addresses], ResolverFlavor.Glibc)).ShouldBe(glibc);
        string.Join(' ', AddressOrder.Sort([.. addresses], ResolverFlavor.Musl)).ShouldBe(musl);
    }
}
