using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>Two faults at once: the first on the packet's way is the verdict, and what it would have met further on is listed as also found.</summary>
public sealed class TwoFaults(NftLab lab) : IClassFixture<NftLab>, IDisposable
{
    public void Dispose()
    {
        if (Environment.IsPrivilegedProcess)
        {
            lab.Lab.Mend();
        }
    }

    [Theory]
    [InlineData("wrong-target-port", "service-rule-missing", "http://my-nginx:8080", "service-rule-missing", "wrong-target-port")]
    [InlineData("search-domain-missing", "wrong-target-port", "http://my-nginx:8080", "search-domain-missing", "wrong-target-port")]
    [InlineData("wrong-resolver", "service-rule-missing", "http://my-nginx:8080", "wrong-resolver", "service-rule-missing")]
    [InlineData("translation-shadowed", "accept-queue-full", "http://hostnames", "translation-shadowed", "accept-queue-full")]
    [InlineData("translation-shadowed", "dropped-by-rule", "http://hostnames", "translation-shadowed", "dropped-by-rule")]
    [InlineData("dropped-by-rule", "listener-on-loopback", "http://hostnames", "dropped-by-rule", "listener-on-loopback")]
    [InlineData("translation-shadowed", "no-route-to-pod --variant blackhole", "http://10.96.0.175", "translation-shadowed", "no-route-to-pod")]
    public void TwoAtOnce_TheFirstOnTheWayWins_AndTheOtherIsFoundToo(string one, string other, string url, string first, string second)
    {
        lab.Timeout = "2s";
        foreach (var fault in (string[])[one, other])
        {
            lab.Lab.Break(Fault.All.First(f => f.ToString() == fault));
        }

        var outcome = lab.Trace(url);
        outcome.Output.ShouldNotBeEmpty(outcome.Error);
        FailureClassInfo.Of(outcome.Verdict.Class).Name.ShouldBe(first, outcome.Verdict.Sentence);
        outcome.Verdict.AlsoFound.Select(f => FailureClassInfo.Of(f).Name).ShouldContain(second, outcome.Verdict.Sentence);
    }
}
