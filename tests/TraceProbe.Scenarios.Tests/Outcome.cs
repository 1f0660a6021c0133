using System.Diagnostics;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Scenarios.Tests;

/// <summary>What traceprobe said, and how it ended.</summary>
public sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>The report on standard output.</summary>
    public Report Report => Output.Length == 0 ? throw new InvalidOperationException($"Exit code {ExitCode}: {Error}") : JsonSerializer.Deserialize(Output, ReportJson.Default.Report) ?? throw new JsonException(Error);

    public Verdict Verdict => Report.Verdict;

    /// <summary>Reads a process to its end, which must come within half a minute.</summary>
    public static Outcome Of(Process process)
    {
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(30_000))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"It did not end: {error.Result}");
        }

        return new Outcome(process.ExitCode, output.Result, error.Result);
    }

    /// <summary>Holds the outcome against the verdict that must come.</summary>
    public Verdict ShouldBe(FailureClass expected, string? firstObject = null, Stage? diverges = null)
    {
        Output.ShouldNotBeEmpty(Error);
        var report = Report;
        var verdict = report.Verdict;
        var told = $"{verdict.Sentence}\n{string.Join('\n', report.Timeline.Select(s => $"{s.Nanoseconds / 1e6:0.000} {s.Place} {s.Text}"))}\n{string.Join('\n', verdict.NotSeen)}\n{Error}";
        verdict.Class.ShouldBe(expected, told);
        verdict.Stage.ShouldBe(FailureClassInfo.Of(expected).Stage, told);
        verdict.Confidence.ShouldBe(Confidence.Certain, told);
        ExitCode.ShouldBe(expected == FailureClass.Healthy ? 0 : 1, told);
        report.LostEvents.ShouldBe(0);
        if (firstObject is not null)
        {
            verdict.Objects.ShouldNotBeEmpty(told);
            verdict.Objects[0].ToString().ShouldBe(firstObject, told);
        }

        var comparison = report.Comparison.ShouldNotBeNull(told);
        comparison.FirstDivergence.ShouldBe(diverges, told);
        return verdict;
    }
}
