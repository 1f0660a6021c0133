using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cli.Output;

/// <summary>A packet's way as people read it: the rules it met in order, where its ways part, and how each ends.</summary>
internal static class WalkText
{
    private const int Many = 8;
    private const int ManyRules = 200;

    /// <summary>The walk as text, ended by a line feed.</summary>
    /// <param name="report">The walk.</param>
    /// <param name="style">How to write.</param>
    /// <param name="every">Whether every way is shown, however many there are.</param>
    public static string Write(WalkReport report, TextStyle style, bool every)
    {
        var page = new Page(style);
        page.Paragraph($"{report.Packet} from {report.From}{(report.InInterface is null ? "" : $", in by {report.InInterface}")}{(report.Node is null ? "" : $", on {report.Node}")}", 0, Ink.Bold);
        page.Blank();

        // What all ways have in common is told once.
        var common = Common(report.Ways);
        WriteSteps(page, report.Ways[0].Steps.AsSpan()[..common], 2, every);
        var shown = every || report.Ways.Length <= Many ? report.Ways : report.Ways[..Many];
        foreach (var way in shown)
        {
            WriteWay(page, way, common, report.Ways.Length == 1, 2, every);
        }

        if (shown.Length < report.Ways.Length)
        {
            page.Paragraph(string.Create(CultureInfo.InvariantCulture, $"and {report.Ways.Length - shown.Length} more ways, which --every shows."), 2, Ink.Dim);
        }

        foreach (var affinity in report.Affinity)
        {
            page.Row(2, new Cell("again", 8, Ink.Dim), new Cell($"who was sent to {affinity.Backend} before is sent there again{(affinity.Seconds is { } seconds ? string.Create(CultureInfo.InvariantCulture, $" within {seconds} s") : "")}"));
        }

        WriteLines(page, "Not known", report.Unknowns, Ink.Warn);
        WriteLines(page, "Taken for granted", report.Assumptions, Ink.Dim);
        return page.ToString();
    }

    private static int Common(ImmutableArray<WalkedWay> ways)
    {
        var length = ways.Min(w => w.Steps.Length);
        for (var i = 0; i < length; i++)
        {
            if (ways.Any(w => w.Steps[i].Rule != ways[0].Steps[i].Rule || w.Steps[i].Hook != ways[0].Steps[i].Hook))
            {
                return i;
            }
        }

        return length;
    }

    private static void WriteWay(Page page, WalkedWay way, int from, bool isOnly, int indent, bool every)
    {
        if (!isOnly)
        {
            page.Blank();
            page.Paragraph(string.Create(CultureInfo.InvariantCulture, $"{way.Probability * 100:0.##} %"), indent, Ink.Bold);
        }

        WriteSteps(page, way.Steps.AsSpan()[from..], indent, every);
        var (words, ink) = way.Outcome switch
        {
            WalkOutcome.Translated => ($"goes to {way.Backend}{(way.Pod is { } pod ? $" (pod {pod.Namespace}/{pod.Name})" : "")}{(way.Masquerade ? ", with the node's address as its source" : "")}", Ink.Good),
            WalkOutcome.Untranslated => ($"goes on as {way.Becomes}{(way.Masquerade ? ", with the node's address as its source" : "")}", Ink.Good),
            WalkOutcome.Rejected => ($"rejected with {way.RejectWith}", Ink.Bad),
            WalkOutcome.Dropped => (way.Policy is null ? "dropped" : $"dropped by the {way.Policy}", Ink.Bad),
            _ => ($"cannot be told: {way.Unknown}", Ink.Warn),
        };
        page.Row(indent, new Cell("=>", 2, ink), new Cell(words, 0, ink));
        foreach (var reply in way.Reply)
        {
            page.Row(indent, new Cell("<=", 2, Ink.Dim), new Cell("the answer:", 0, Ink.Dim));
            WriteWay(page, reply, 0, isOnly: way.Reply.Length == 1, indent + 4, every);
        }
    }

    private static void WriteSteps(Page page, ReadOnlySpan<WalkedStep> steps, int indent, bool every)
    {
        Hook? before = null;
        var more = every ? 0 : Math.Max(0, steps.Length - ManyRules);
        foreach (var step in steps[..^more])
        {
            if (step.Hook != before)
            {
                page.Paragraph(step.Hook.ToString().ToLowerInvariant(), indent, Ink.Dim);
                before = step.Hook;
            }

            var rule = step.Rule;
            var packets = rule.Packets is { } count ? string.Create(CultureInfo.InvariantCulture, $", {count:N0} {(count == 1 ? "packet" : "packets")}") : "";
            var owner = rule.Owner is { } name and not "kube-proxy" ? $", {name}" : "";
            page.Row(indent + 2, new Cell($"{rule.Where}{owner}{packets}: {step.Did}"));
            page.Rule(rule.Raw, indent + 4, Ink.Dim);
        }

        if (more > 0)
        {
            page.Paragraph(string.Create(CultureInfo.InvariantCulture, $"and {more:N0} more rules, which --every shows"), indent + 2, Ink.Dim);
        }
    }

    private static void WriteLines(Page page, string heading, ImmutableArray<string> lines, Ink ink)
    {
        if (lines.IsEmpty)
        {
            return;
        }

        page.Heading(heading);
        foreach (var line in lines)
        {
            page.Row(2, new Cell("-", 1, ink), new Cell(line));
        }
    }
}
