using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

public class EachFaultWithIptablesNft(NftLab lab) : EachFault<NftLab>(lab);

public class EachFaultWithIptablesLegacy(LegacyLab lab) : EachFault<LegacyLab>(lab);

public class EachFaultWithNftables(NftablesLab lab) : EachFault<NftablesLab>(lab);

public class EachFaultWithUserspaceProxy(UserspaceLab lab) : EachFault<UserspaceLab>(lab);

/// <summary>
/// Every way to break a lab, in one mode of kube-proxy: the verdict names the class that it is, and where the verdict has a command, that
/// command mends it.
/// </summary>
public abstract class EachFault<TLab>(TLab lab) : IClassFixture<TLab>, IDisposable
    where TLab : ScenarioLab
{
    // Whatever came of the test.
    public void Dispose()
    {
        if (TestContext.Current.TestState?.Result != TestResult.Skipped)
        {
            lab.Lab.Mend();
        }

        GC.SuppressFinalize(this);
    }

    [Theory]
    [MemberData(nameof(LabFaults.All), MemberType = typeof(LabFaults))]
    public void Fault_IsNamed_AndItsMendMends(string name, string variant)
    {
        var fault = Fault.Find(name, variant.Length == 0 ? null : variant);
        Assert.SkipUnless(MatrixRow.IsAsked || lab.Mode == ProxyMode.IptablesNft && LabFaults.IsOfEachRun(fault), "make test-matrix does it: all faults in all modes take half an hour");
        var broken = lab.Lab;
        Assert.SkipWhen(broken.WhyNot(fault) is not null, broken.WhyNot(fault) ?? "");
        using var row = new MatrixRow(fault, broken.Proxy);
        string[] options = fault.IsMusl ? ["--resolver", "musl"] : [];
        lab.Baseline(fault);
        broken.Break(fault);

        var outcome = lab.Trace(fault.Url, fault.From, [.. options, .. row.Recording]);
        row.Told(outcome);
        outcome.Output.ShouldNotBeEmpty(outcome.Error);
        var verdict = outcome.Verdict;
        var told = Told(outcome);
        verdict.Class.ShouldBe(fault.Class, told);
        verdict.Confidence.ShouldBe(Confidence.Certain, told);
        verdict.Objects.ShouldNotBeEmpty(told);
        outcome.ExitCode.ShouldBe(1, told);
        // What is wrong with both address families, or in several chains, is mended one after the other, as each verdict says.
        for (var round = 0; round < 4 && verdict.Mend?.Command is { } command && !OnlyShows(command); round++)
        {
            var said = broken.Execute(command, verdict.Mend.On);
            var after = lab.Trace(fault.Url, fault.From, options);
            row.Mended(after);
            told = $"{command}\n{said}\n{Told(after)}";
            if (after.Verdict.Class is FailureClass.Healthy or FailureClass.SlowerThanBaseline)
            {
                return;
            }

            after.Verdict.Class.ShouldBe(fault.Class, told);
            verdict = after.Verdict;
        }

        if (verdict.Mend?.Command is { } last && !OnlyShows(last))
        {
            Assert.Fail($"It is not mended: {told}");
        }
    }

    // Where no single command mends it, the verdict has one that shows more, or opens an editor; and the lab's own kubectl has no jq behind it.
    private static bool OnlyShows(string command)
        => command.Contains("| jq ", StringComparison.Ordinal) || command.Split(' ') is ["kubectl", "logs" or "get" or "describe" or "edit", ..] && !command.Contains("| kubectl", StringComparison.Ordinal);

    private static string Told(Outcome outcome)
    {
        var verdict = outcome.Verdict;
        return $"{verdict.Sentence}\n{string.Join('\n', verdict.Evidence.Select(e => $"{e.Source}: {e.Text}"))}\n"
            + $"{string.Join('\n', outcome.Report.Timeline.Select(s => $"{s.Nanoseconds / 1e6:0.000} {s.Place} {s.Text}"))}\n{string.Join('\n', verdict.NotSeen)}\n{outcome.Error}";
    }
}

/// <summary>The faults of a lab, as tests name them.</summary>
public static class LabFaults
{
    public static TheoryData<string, string> All => [.. Fault.All.Select(f => (f.Name, f.Variant ?? ""))];

    /// <summary>Whether a fault is of the part that each run of all tests has time for: every fourth of them, from all stages.</summary>
    public static bool IsOfEachRun(Fault fault) => Fault.All.IndexOf(fault) % 4 == 0;
}
