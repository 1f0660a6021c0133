using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Cli.Tests;

/// <summary>What people read at three in the morning, word for word. TRACEPROBE_ACCEPT_GOLDEN=1 writes the files anew.</summary>
public class TextReportTests
{
    [Theory]
    [InlineData("wrong-port", 80, false, true)]
    [InlineData("wrong-port", 120, false, true)]
    [InlineData("wrong-port", 80, false, false)]
    [InlineData("wrong-port", 80, true, true)]
    [InlineData("healthy", 80, false, true)]
    [InlineData("undetermined", 80, false, true)]
    public void Report_ReadsAsWritten(string name, int width, bool color, bool unicode)
    {
        var text = TextReport.Write(Report(name), new TextStyle(width, color, unicode));
        var path = Path.Combine(Repository.Root, "tests/TraceProbe.Cli.Tests/Golden", $"{name}.{width}{(color ? ".color" : "")}{(unicode ? "" : ".ascii")}.txt");
        if (Environment.GetEnvironmentVariable("TRACEPROBE_ACCEPT_GOLDEN") == "1")
        {
            File.WriteAllText(path, text);
        }

        text.ShouldBe(File.ReadAllText(path));
    }

    [Theory]
    [InlineData(80)]
    [InlineData(120)]
    [InlineData(200)]
    public void Lines_FitTheWidthAndDoNotEndInSpaces(int width)
    {
        foreach (var line in TextReport.Write(ReportSamples.WrongPort, new TextStyle(width)).Split('\n').Where(l => !l.Contains("kubectl patch", StringComparison.Ordinal)))
        {
            line.Length.ShouldBeLessThanOrEqualTo(width, line);
            line.ShouldBe(line.TrimEnd());
        }
    }

    [Theory]
    [InlineData(40)]
    [InlineData(80)]
    [InlineData(300)]
    public void Command_StandsAloneAndWhole(int width)
        => TextReport.Write(ReportSamples.WrongPort, new TextStyle(width)).Split('\n').ShouldContain("    " + ReportSamples.WrongPort.Verdict.Mend!.Command);

    [Fact]
    public void VerdictComesFirst()
        => TextReport.Write(ReportSamples.WrongPort, new TextStyle(80)).ShouldStartWith("wrong-target-port\n\n  Service default/my-nginx sends");

    [Fact]
    public void HostileNames_NeverReachTheTerminal()
    {
        const string hostile = "x\e[2J\r\nhealthy\u202e\u0007";
        var report = ReportSamples.WrongPort with
        {
            Client = hostile,
            Target = hostile,
            Outcome = hostile,
            Verdict = ReportSamples.WrongPort.Verdict with
            {
                Sentence = hostile,
                Evidence = [new Evidence(EvidenceSource.Observed, hostile, null, hostile)],
                Mend = new Mend(hostile, hostile, hostile),
                NotSeen = [hostile],
            },
            Comparison = new Comparison { With = hostile, IsRecorded = true, Stages = [new StageDifference(Stage.Resolve, Difference.Different, [new FactDifference(hostile, hostile, hostile, Difference.Different)], 1, 1)] },
            Timeline = [new TimelineStep(1, hostile, Stage.Resolve, hostile)],
            Connections = [.. Enumerable.Repeat(new ConnectionSummary(hostile, hostile, hostile, hostile, hostile, 1), 6)],
        };
        var text = TextReport.Write(report, new TextStyle(80));
        text.Where(c => char.IsControl(c) && c != '\n').ShouldBeEmpty();
        text.ShouldNotContain('\u202e');
        text.Split('\n').ShouldNotContain("healthy");
    }

    [Fact]
    public void EveryClassInEveryMode_CanBeWritten()
    {
        foreach (var failure in Enum.GetValues<FailureClass>())
        {
            var report = ReportSamples.WrongPort with { Verdict = ReportSamples.WrongPort.Verdict with { Class = failure, Confidence = Confidence.Likely } };
            TextReport.Write(report, new TextStyle(80)).ShouldStartWith(FailureClassInfo.Of(failure).Name);
        }
    }

    private static Report Report(string name) => name switch { "wrong-port" => ReportSamples.WrongPort, "healthy" => ReportSamples.Healthy, _ => ReportSamples.Undetermined };
}
