using System.Globalization;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Output;

/// <summary>
/// A report as people read it at three in the morning: the verdict, what it rests on, what happened when, where that differs from a
/// healthy request, and what to do about it.
/// </summary>
internal static class TextReport
{
    private const int LabelWidth = 11;

    /// <summary>The report as text, ended by a line feed.</summary>
    public static string Write(Report report, TextStyle style)
    {
        var page = new Page(style);
        WriteVerdict(page, report);
        WriteEvidence(page, report);
        WriteTimeline(page, report, style);
        WriteRules(page, report);
        WriteConnections(page, report);
        WriteDifference(page, report, style);
        WriteMend(page, report.Verdict);
        WriteNotSeen(page, report);
        return page.ToString();
    }

    /// <summary>A duration with microseconds: <c>0.412 ms</c>.</summary>
    internal static string Milliseconds(long nanoseconds) => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e6:0.000}{Page.Tie}ms");

    private static void WriteVerdict(Page page, Report report)
    {
        var verdict = report.Verdict;
        var name = FailureClassInfo.Of(verdict.Class).Name;
        var (ink, doubt) = (verdict.Class, verdict.Confidence) switch
        {
            (FailureClass.Healthy, Confidence.Certain) => (Ink.Good, ""),
            (FailureClass.Undetermined, _) => (Ink.Warn, ""),
            (_, Confidence.Certain) => (Ink.Bad, ""),
            (FailureClass.Healthy, _) => (Ink.Good, " (likely)"),
            _ => (Ink.Bad, " (likely)"),
        };
        page.Paragraph(name + doubt, 0, ink);
        page.Blank();
        page.Paragraph(verdict.Sentence, 2);
        page.Blank();

        var (asked, what) = report.Mode switch
        {
            RecordingMode.Run => ("ran", "a command"),
            RecordingMode.Observe => ("observed", "a connection"),
            _ => ("asked", report.Target ?? "?"),
        };
        var target = report.Mode != RecordingMode.Trace && report.Target is not null ? $"{what} that asked for {report.Target}," : what;
        page.Row(2, new Cell(asked, LabelWidth, Ink.Dim), new Cell($"{target} from {report.Client}"));
        page.Row(2, new Cell("got", LabelWidth, Ink.Dim), new Cell(report.Outcome is { } outcome
            ? $"{outcome}, after {Milliseconds(report.DurationNanoseconds)}"
            : $"nothing that could be seen, within {Milliseconds(report.DurationNanoseconds)}"));
        if (report.ExitCode is { } code)
        {
            page.Row(2, new Cell("exit code", LabelWidth, Ink.Dim), new Cell(code.ToString(CultureInfo.InvariantCulture)));
        }

        if (!verdict.AlsoFound.IsDefaultOrEmpty)
        {
            page.Row(2, new Cell("also", LabelWidth, Ink.Dim), new Cell(string.Join(", ", verdict.AlsoFound.Select(c => FailureClassInfo.Of(c).Name))));
        }
    }

    private static void WriteEvidence(Page page, Report report)
    {
        if (report.Verdict.Evidence.IsDefaultOrEmpty)
        {
            return;
        }

        page.Heading("Evidence");
        foreach (var evidence in report.Verdict.Evidence)
        {
            var source = evidence.Source switch
            {
                EvidenceSource.Desired => "desired",
                EvidenceSource.Programmed => "programmed",
                EvidenceSource.Observed => "observed",
                _ => "client",
            };
            var where = (evidence.Place, evidence.Nanoseconds) switch
            {
                (null, null) => "",
                (var place, null) => $" ({place})",
                (null, { } at) => $" ({Milliseconds(at)})",
                var (place, at) => $" ({place}, {Milliseconds(at.Value)})",
            };
            page.Row(2, new Cell(source, LabelWidth, Ink.Dim), new Cell(evidence.Text + where));
        }
    }

    private static void WriteTimeline(Page page, Report report, TextStyle style)
    {
        if (report.Timeline.IsDefaultOrEmpty)
        {
            return;
        }

        page.Heading("Timeline");
        var time = report.Timeline.Max(s => Milliseconds(s.Nanoseconds).Length);
        var place = Math.Min(report.Timeline.Max(s => SafeText.Columns(SafeText.Of(s.Place))), Math.Max(16, (page.Width / 3) - 4));
        var before = "";
        foreach (var step in report.Timeline)
        {
            var mark = step.Notable ? style.Unicode ? "▸" : ">" : "";
            var ink = step.Notable ? report.Verdict.Class == FailureClass.Healthy ? Ink.Good : Ink.Bad : Ink.None;
            page.Row(0,
                new Cell(mark, 1, ink),
                new Cell(Milliseconds(step.Nanoseconds), time, step.Notable ? ink : Ink.Dim, Right: true),
                new Cell(step.Place == before ? "" : step.Place, place, ink),
                new Cell(Tied(step.Text), 0, ink));
            before = step.Place;
        }
    }

    // A number stays with its unit.
    private static string Tied(string text) => text.Replace(" µs", $"{Page.Tie}µs", StringComparison.Ordinal).Replace(" ms", $"{Page.Tie}ms", StringComparison.Ordinal);

    // Where a later stage failed, that the rules did what they should is no news.
    private static void WriteRules(Page page, Report report)
    {
        if (report.Rules is not { IsEmpty: false } rules || report.Verdict is { Class: not FailureClass.Healthy, Stage: not (null or Stage.Translate or Stage.Deliver) })
        {
            return;
        }

        page.Heading("Rules that should have met it");
        foreach (var place in rules.Where(r => r.IsExpected).GroupBy(r => r.Place))
        {
            foreach (var same in place.GroupBy(r => r.Counted))
            {
                page.Row(2, new Cell(place.Key, LabelWidth, Ink.Dim), new Cell(same.Key is { } count ? $"{count.ToString(CultureInfo.InvariantCulture)} packet{(count == 1 ? "" : "s")}" : "no counter", LabelWidth, same.Key == 0 ? Ink.Bad : Ink.None),
                    new Cell(string.Join(", ", same.Select(r => r.Rule.Where))));
            }
        }
    }

    private static void WriteConnections(Page page, Report report)
    {
        // A few are what the timeline tells already; of a command that made many, this is the overview.
        if (report.Connections.IsDefaultOrEmpty || report.Connections.Length < 5)
        {
            return;
        }

        page.Heading("Connections");
        foreach (var connection in report.Connections)
        {
            var onward = connection.Translated is null ? "" : $", translated to {connection.Translated}";
            var backend = connection.Backend is null ? "" : $" ({connection.Backend})";
            var process = connection.Process is null ? "" : $"{connection.Process}: ";
            var duration = connection.Nanoseconds is { } ns ? $" after {Milliseconds(ns)}" : "";
            page.Row(2, new Cell(connection.Outcome, 12, Ink.Dim), new Cell($"{process}{connection.Asked}{onward}{backend}{duration}"));
        }
    }

    private static void WriteDifference(Page page, Report report, TextStyle style)
    {
        if (report.Comparison is not { } comparison || comparison.Stages.IsDefaultOrEmpty)
        {
            return;
        }

        page.Heading(comparison.IsRecorded ? $"Beside the healthy baseline {comparison.With}" : $"Beside {comparison.With}");
        // What was not needed, or not seen, is not the same either.
        var compared = report.Stages.Where(s => s.Status is StageStatus.Passed or StageStatus.Failed).Select(s => s.Stage).ToHashSet();
        if (comparison.FirstDivergence is not { } first)
        {
            page.Row(2, new Cell("same", LabelWidth, Ink.Good), new Cell(Names(comparison.Stages.Select(s => s.Stage).Where(compared.Contains))));
            return;
        }

        var stage = comparison.Stages.First(s => s.Stage == first);
        var facts = FactsOf(stage);
        var label = Math.Max(LabelWidth, Math.Min(20, facts.Max(f => SafeText.Columns(SafeText.Of(f.Name)))));
        var same = comparison.Stages.Where(s => s.Stage < first && compared.Contains(s.Stage)).Select(s => s.Stage).ToList();
        if (same.Count > 0)
        {
            page.Row(2, new Cell("same", label, Ink.Good), new Cell(Names(same)));
        }

        WriteFacts(page, stage, facts, label, style);

        var reached = report.Stages.Where(s => s.Status is not StageStatus.NotReached).Select(s => s.Stage).ToHashSet();
        var later = comparison.Stages.Where(s => s.Stage > first).ToList();
        var followed = later.Where(s => reached.Contains(s.Stage) && s.Difference != Difference.Same).Select(s => s.Stage).ToList();
        var never = later.Where(s => !reached.Contains(s.Stage)).Select(s => s.Stage).ToList();
        if (followed.Count > 0)
        {
            page.Row(2, new Cell("then also", label, Ink.Dim), new Cell(Names(followed)));
        }

        if (never.Count > 0)
        {
            page.Row(2, new Cell("not reached", label, Ink.Dim), new Cell(Names(never)));
        }
    }

    private static List<FactDifference> FactsOf(StageDifference stage)
    {
        var facts = stage.Facts.Where(f => f.Difference != Difference.Same).ToList();
        if (stage.Difference == Difference.Slower || facts.Count == 0)
        {
            facts.Add(new FactDifference("took", Took(stage.HealthyNanoseconds), Took(stage.ThisNanoseconds), Difference.Slower));
        }

        return facts;
    }

    private static void WriteFacts(Page page, StageDifference stage, List<FactDifference> facts, int name, TextStyle style)
    {
        var side = (page.Width - 2 - name - 2 - 5) / 2;
        var rule = style.Unicode ? "│" : "|";
        page.Row(2, new Cell(Name(stage.Stage), name, Ink.Bad), new Cell("healthy", side, Ink.Dim), new Cell(rule, 1, Ink.Dim), new Cell("this request", side, Ink.Dim));
        foreach (var fact in facts)
        {
            // A cell's own line breaks would leave gaps in the rule between the sides, so the lines are laid here.
            var names = Page.Wrap(SafeText.Of(fact.Name), name, breakWords: true);
            var left = Page.Wrap(SafeText.Of(fact.Healthy ?? "-"), side, breakWords: true);
            var right = Page.Wrap(SafeText.Of(fact.This ?? "-"), side, breakWords: true);
            for (var i = 0; i < Math.Max(names.Count, Math.Max(left.Count, right.Count)); i++)
            {
                page.Row(2,
                    new Cell(i < names.Count ? names[i] : "", name),
                    new Cell(i < left.Count ? left[i] : "", side, Ink.None),
                    new Cell(rule, 1, Ink.Dim),
                    new Cell(i < right.Count ? right[i] : "", side, Ink.Bad));
            }
        }
    }

    private static void WriteMend(Page page, Verdict verdict)
    {
        if (verdict.Mend is not { } mend)
        {
            return;
        }

        page.Heading("Mend");
        page.Paragraph(mend.Text, 2);
        if (mend.Command is not null)
        {
            page.Blank();
            page.Verbatim(mend.Command, 4, Ink.Command);
            page.Blank();
            page.Paragraph($"{(mend.OnlyShows == true ? "It shows where to look, and changes nothing by itself. " : "")}{(mend.On is null ? "Run it wherever kubectl reaches the cluster." : $"Run it on {mend.On}.")}", 2, Ink.Dim);
        }
    }

    private static void WriteNotSeen(Page page, Report report)
    {
        var lines = report.Verdict.NotSeen.IsDefault ? [] : report.Verdict.NotSeen;
        if (lines.IsEmpty && report.LostEvents == 0)
        {
            return;
        }

        page.Heading("Not seen");
        if (report.LostEvents > 0)
        {
            page.Row(2, new Cell("-", 1, Ink.Warn), new Cell(string.Create(CultureInfo.InvariantCulture,
                $"{report.LostEvents:N0} events were lost while the request was followed.")));
        }

        foreach (var line in lines)
        {
            page.Row(2, new Cell("-", 1, Ink.Dim), new Cell(line));
        }
    }

    private static string Took(long? nanoseconds) => nanoseconds is { } ns ? Milliseconds(ns) : "-";

    private static string Names(IEnumerable<Stage> stages) => string.Join(", ", stages.Select(Name));

    internal static string Name(Stage stage) => stage switch
    {
        Stage.Resolve => "resolve",
        Stage.Define => "define",
        Stage.Translate => "translate",
        Stage.Deliver => "deliver",
        Stage.Accept => "accept",
        _ => "exchange",
    };
}
