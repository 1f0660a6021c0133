using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>
/// Requests followed through a ring buffer of one page, which takes some fifteen of their events at a time: what is lost is counted, and the verdict says no more
/// than is still certain.
/// </summary>
public sealed class LostEvents(NftLab lab) : IClassFixture<NftLab>, IDisposable
{
    private const string Ring = "4096";

    public void Dispose()
    {
        if (Environment.IsPrivilegedProcess)
        {
            lab.Lab.Mend();
        }
    }

    [Theory]
    [InlineData("wrong-target-port")]
    [InlineData("dropped-by-rule")]
    [InlineData("no-listener")]
    [InlineData("no-ready-endpoints")]
    [InlineData("service-rule-missing")]
    [InlineData("http-error")]
    public void RingThatOverflows_NeverTellsAnotherFailure(string name)
    {
        var fault = Fault.Find(name);
        lab.Lab.Break(fault);
        var outcome = TraceThatLoses(fault.Url, fault.Class);
        outcome.Verdict.Class.ShouldBeOneOf([fault.Class, FailureClass.Undetermined], outcome.Verdict.Sentence);
        outcome.Verdict.Confidence.ShouldNotBe(Confidence.Certain, outcome.Verdict.Sentence);
        outcome.Verdict.NotSeen.ShouldContain(s => s.Contains("lost while the request was followed", StringComparison.Ordinal));
    }

    [Fact]
    public void RingThatOverflows_MakesNoFailureOfAHealthyRequest()
    {
        var outcome = TraceThatLoses("http://hostnames/big", FailureClass.Healthy);
        outcome.Verdict.Class.ShouldBeOneOf([FailureClass.Healthy, FailureClass.SlowerThanBaseline, FailureClass.Undetermined], outcome.Verdict.Sentence);
    }

    /// <summary>
    /// The first of some requests of which events were lost: a reader that is quick enough loses none of a short one, and then has to tell all of it.
    /// </summary>
    private Outcome TraceThatLoses(string url, FailureClass whole)
    {
        for (var attempt = 0; attempt < 8; attempt++)
        {
            var outcome = Trace(url);
            if (outcome.Report.LostEvents > 0)
            {
                return outcome;
            }

            if (whole != FailureClass.Healthy)
            {
                outcome.Verdict.Class.ShouldBe(whole, outcome.Verdict.Sentence);
            }
        }

        Assert.Skip("needs a request some of whose events are lost in a ring buffer of one page: eight were read in time");
        throw new InvalidOperationException();
    }

    private Outcome Trace(string url)
    {
        using var process = lab.Start("env", $"TRACEPROBE_RING_BYTES={Ring}", ScenarioLab.TraceProbe, "trace", url, "--from", "pod/ubuntu", "-o", "json", "--timeout", "3s", "--lab", lab.Lab.Name);
        var outcome = Outcome.Of(process);
        outcome.Output.ShouldNotBeEmpty(outcome.Error);
        return outcome;
    }
}
