using System.Globalization;
using System.Text;
using System.Xml;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Cli.Output;

/// <summary>
/// A comparison as the XML that Ant's JUnit task wrote first and every CI system reads: a suite per node, a case per Service port, a failure
/// where rules and objects differ, an error where it could not be told. What is about no Service port that there is has a case of its own.
/// </summary>
internal static class JunitReport
{
    private static readonly XmlWriterSettings Layout = new() { Indent = true, NewLineChars = "\n", Encoding = new UTF8Encoding(false) };

    /// <summary>The comparison as UTF-8 XML.</summary>
    /// <param name="report">The comparison.</param>
    /// <param name="at">When it was made.</param>
    public static byte[] Write(CheckReport report, DateTimeOffset at)
    {
        using var stream = new MemoryStream();
        using (var xml = XmlWriter.Create(stream, Layout))
        {
            xml.WriteStartElement("testsuites");
            for (var i = 0; i < report.Nodes.Length; i++)
            {
                WriteSuite(xml, report.Nodes[i], i, at);
            }

            xml.WriteEndElement();
        }

        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    private static void WriteSuite(XmlWriter xml, NodeCheck node, int id, DateTimeOffset at)
    {
        var byPort = node.Findings.SelectMany(f => f.Ports.Select(p => (Port: p, Finding: f))).ToLookup(f => f.Port, f => f.Finding);
        var others = node.Findings.Where(f => f.Ports.IsEmpty).ToList();
        var name = node.Node ?? "node";
        var (failures, errors) = (0, 0);
        foreach (var status in node.Ports.Select(p => p.Status).Concat(others.Select(o => o.Status)))
        {
            failures += status == CheckStatus.Differs ? 1 : 0;
            errors += status == CheckStatus.Undetermined ? 1 : 0;
        }

        xml.WriteStartElement("testsuite");
        Attribute(xml, "name", $"traceprobe check {name}");
        Attribute(xml, "tests", (node.Ports.Length + others.Count).ToString(CultureInfo.InvariantCulture));
        Attribute(xml, "failures", failures.ToString(CultureInfo.InvariantCulture));
        Attribute(xml, "errors", errors.ToString(CultureInfo.InvariantCulture));
        Attribute(xml, "skipped", "0");
        Attribute(xml, "time", "0");
        Attribute(xml, "timestamp", at.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss", CultureInfo.InvariantCulture));
        Attribute(xml, "hostname", name);
        Attribute(xml, "id", id.ToString(CultureInfo.InvariantCulture));
        Attribute(xml, "package", "traceprobe");
        xml.WriteStartElement("properties");
        foreach (var family in node.Families)
        {
            xml.WriteStartElement("property");
            Attribute(xml, "name", family.Family);
            Attribute(xml, "value", family.Describe());
            xml.WriteEndElement();
        }

        xml.WriteEndElement();
        foreach (var port in node.Ports)
        {
            WriteCase(xml, $"{port.Service.Namespace}/{port.Service.Name}", port.Port, [.. byPort[$"{port.Service.Namespace}/{port.Service.Name} {port.Port}"]]);
        }

        foreach (var finding in others)
        {
            WriteCase(xml, name, finding.Sentence, [finding]);
        }

        Element(xml, "system-out", string.Join('\n', node.NotSeen.Select(n => $"not seen: {n}")));
        Element(xml, "system-err", "");
        xml.WriteEndElement();
    }

    private static void WriteCase(XmlWriter xml, string ofClass, string name, List<CheckFinding> findings)
    {
        xml.WriteStartElement("testcase");
        Attribute(xml, "name", name);
        Attribute(xml, "classname", ofClass);
        Attribute(xml, "time", "0");

        // A case has one failure or one error; what else there is stands in its text.
        if (findings.Find(f => f.Status == CheckStatus.Differs) is { } failure)
        {
            WriteTrouble(xml, "failure", failure, findings.Where(f => f.Status != CheckStatus.Agrees));
        }
        else if (findings.Find(f => f.Status == CheckStatus.Undetermined) is { } error)
        {
            WriteTrouble(xml, "error", error, findings.Where(f => f.Status != CheckStatus.Agrees));
        }

        xml.WriteEndElement();
    }

    private static void WriteTrouble(XmlWriter xml, string element, CheckFinding first, IEnumerable<CheckFinding> all)
    {
        xml.WriteStartElement(element);
        Attribute(xml, "message", first.Sentence);
        Attribute(xml, "type", FailureClassInfo.Of(first.Class).Name);
        var text = new StringBuilder();
        foreach (var finding in all)
        {
            text.Append(FailureClassInfo.Of(finding.Class).Name).Append(": ").Append(finding.Sentence).Append('\n');
            foreach (var rule in finding.Rules)
            {
                text.Append("  ").Append(rule).Append('\n');
            }

            if (finding.Mend is { } mend)
            {
                text.Append("  mend: ").Append(mend.Text).Append(mend.Command is null ? "" : $" {mend.Command}").Append('\n');
            }
        }

        xml.WriteString(Legal(text.ToString()));
        xml.WriteEndElement();
    }

    private static void Attribute(XmlWriter xml, string name, string value) => xml.WriteAttributeString(name, Legal(value));

    private static void Element(XmlWriter xml, string name, string value)
    {
        xml.WriteStartElement(name);
        xml.WriteString(Legal(value));
        xml.WriteEndElement();
    }

    // XML has no way to write most control characters, and rules from a dump may hold any. Those that it has a way for are for terminals only.
    private static string Legal(string text) => text.All(IsLegal) ? text : string.Concat(text.Select(c => IsLegal(c) ? c : '\ufffd'));

    private static bool IsLegal(char c) => XmlConvert.IsXmlChar(c) && (!char.IsControl(c) || c is '\n' or '\t');
}
