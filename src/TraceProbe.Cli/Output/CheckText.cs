using System.Globalization;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cli.Output;

/// <summary>A comparison as people read it: each Service port on a line, then what was found with the rules and what mends it.</summary>
internal static class CheckText
{
    // More lines than this that say nothing but that all is well are left out.
    private const int Many = 60;

    /// <summary>The comparison as text, ended by a line feed.</summary>
    /// <param name="report">The comparison.</param>
    /// <param name="style">How to write.</param>
    /// <param name="every">Whether all Service ports are listed, however many agree.</param>
    public static string Write(CheckReport report, TextStyle style, bool every)
    {
        var page = new Page(style);
        foreach (var node in report.Nodes)
        {
            if (!ReferenceEquals(node, report.Nodes[0]))
            {
                page.Blank();
            }

            WriteNode(page, node, every);
        }

        return page.ToString();
    }

    private static void WriteNode(Page page, NodeCheck node, bool every)
    {
        var modes = node.Families.GroupBy(f => f.Describe()).Select(g => $"{g.Key} ({string.Join(", ", g.Select(f => f.Family))})");
        page.Paragraph($"{node.Node ?? "a node"}: {string.Join(", ", modes)}", 0, Ink.Bold);
        foreach (var line in node.TellOfKubeProxy())
        {
            page.Paragraph(line, 2);
        }

        page.Blank();
        WriteTable(page, node, every);
        // Of one Service everything is told; of many, what agrees in a line each.
        var isOne = node.Ports.DistinctBy(p => p.Service).Take(2).Count() < 2;
        foreach (var finding in node.Findings.Where(f => isOne || f.Status != CheckStatus.Agrees))
        {
            WriteFinding(page, finding);
        }

        if (!isOne && node.Findings.Any(f => f.Status == CheckStatus.Agrees))
        {
            page.Heading("The rules agree, and refuse packets all the same");
            foreach (var finding in node.Findings.Where(f => f.Status == CheckStatus.Agrees))
            {
                page.Row(2, new Cell("-", 1, Ink.Dim), new Cell(finding.Sentence));
            }
        }

        if (!node.NotSeen.IsEmpty)
        {
            page.Heading("Not seen");
            foreach (var line in node.NotSeen)
            {
                page.Row(2, new Cell("-", 1, Ink.Dim), new Cell(line));
            }
        }
    }

    private static void WriteTable(Page page, NodeCheck node, bool every)
    {
        var shown = every || node.Ports.Length <= Many ? node.Ports : [.. node.Ports.Where(p => !p.Classes.IsEmpty)];
        if (shown.Length > 0)
        {
            const int port = 10, endpoints = 9;
            // The names of classes stay whole, and those of Services are wrapped.
            var result = shown.Max(p => Result(p).Split(' ').Max(w => w.Length));
            var service = Math.Clamp(shown.Max(p => SafeText.Columns(SafeText.Of(Name(p)))), 7, Math.Max(12, page.Width - 2 - port - endpoints - result - 6));
            page.Row(2, new Cell("SERVICE", service, Ink.Dim), new Cell("PORT", port, Ink.Dim), new Cell("ENDPOINTS", endpoints, Ink.Dim), new Cell("RULES", 0, Ink.Dim));
            foreach (var one in shown)
            {
                page.Row(2, new Cell(Name(one), service), new Cell(one.Port, port), new Cell(one.Endpoints.ToString(CultureInfo.InvariantCulture), endpoints, Ink.None, Right: true),
                    new Cell(Result(one), 0, one.Status switch { CheckStatus.Differs => Ink.Bad, CheckStatus.Undetermined => Ink.Warn, _ => Ink.Good }));
            }

            page.Blank();
        }

        var differ = node.Ports.Count(p => p.Status == CheckStatus.Differs);
        var open = node.Ports.Count(p => p.Status == CheckStatus.Undetermined);
        var agree = node.Ports.Length - differ - open;
        var words = new List<string>();
        if (differ > 0)
        {
            words.Add($"{Count(differ)} {(differ == 1 ? "differs" : "differ")}");
        }

        if (open > 0)
        {
            words.Add($"{Count(open)} could not be told");
        }

        if (agree > 0 || words.Count == 0)
        {
            words.Add(words.Count == 0 ? agree == 0 ? "none to compare" : "all agree" : $"{Count(agree)} {(agree == 1 ? "agrees" : "agree")}");
        }

        page.Paragraph($"{Count(node.Ports.Length)} Service {(node.Ports.Length == 1 ? "port" : "ports")}: {string.Join(", ", words)}.", 2);
    }

    private static string Count(int number) => number.ToString("N0", CultureInfo.InvariantCulture);

    private static string Name(CheckedPort port) => $"{port.Service.Namespace}/{port.Service.Name}";

    private static string Result(CheckedPort port)
    {
        var names = string.Join(", ", port.Classes.Select(c => FailureClassInfo.Of(c).Name));
        return port.Status switch
        {
            CheckStatus.Agrees => names.Length == 0 ? "agree" : $"agree ({names})",
            _ => names,
        };
    }

    private static void WriteFinding(Page page, CheckFinding finding)
    {
        const int label = 8;
        page.Blank();
        var isRemark = finding.Status == CheckStatus.Agrees;
        page.Paragraph(FailureClassInfo.Of(finding.Class).Name + (isRemark ? " (the rules agree)" : ""), 0, finding.Status switch { CheckStatus.Differs => Ink.Bad, CheckStatus.Undetermined => Ink.Warn, _ => Ink.Dim });
        page.Paragraph(finding.Sentence, 2);
        foreach (var rule in finding.Rules)
        {
            page.Row(2, new Cell(rule.IsMissing ? "missing" : "rule", label, Ink.Dim), new Cell($"{rule.Where}{Whose(rule)}"));
            page.Rule(rule.Raw, 2 + label + 2, Ink.None);
        }

        foreach (var evidence in finding.Evidence)
        {
            page.Row(2, new Cell(evidence.Source.ToString().ToLowerInvariant(), label, Ink.Dim), new Cell(evidence.Text));
        }

        if (finding.Mend is { } mend)
        {
            page.Row(2, new Cell("mend", label, Ink.Dim), new Cell($"{mend.Text}{(mend.Command is not null && mend.On is not null ? $" On {mend.On}:" : "")}"));
            if (mend.Command is not null)
            {
                page.Verbatim(mend.Command, 2 + label + 2, Ink.Command);
            }
        }
    }

    private static string Whose(RuleRef rule)
    {
        var packets = rule.Packets is { } count ? string.Create(CultureInfo.InvariantCulture, $"{count:N0} {(count == 1 ? "packet" : "packets")}") : null;
        var owner = rule.IsMissing ? null : rule.Owner is { } name ? $"of {name}" : "by hand";
        return string.Join(", ", new[] { rule.Tool, owner, packets }.OfType<string>()) is { Length: > 0 } words ? $" ({words})" : "";
    }
}
