using System.CommandLine;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe classes [NAME]</c>: what each failure class means.</summary>
internal static class ClassesCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var name = new Argument<string?>("NAME") { Description = "One class, such as wrong-target-port; all of them without it.", Arity = ArgumentArity.ZeroOrOne, HelpName = "NAME" };
        name.CompletionSources.Add(_ => FailureClassInfo.All.Select(c => new System.CommandLine.Completions.CompletionItem(c.Name)));
        var command = new Verb("classes", "Tell what each failure class means, what the application sees, and what mends it.")
        {
            Examples =
            [
                ("traceprobe classes", "list them, by stage"),
                ("traceprobe classes wrong-target-port", "tell all about one"),
            ],
        };
        command.Arguments.Add(name);
        command.SetAction(parsed =>
        {
            Console.Out.Write(parsed.GetValue(name) is { } asked ? One(asked, CommandLine.Style(parsed)) : All(CommandLine.Style(parsed)));
            return ExitCode.Healthy;
        });
        return command;
    }

    internal static string One(string name, TextStyle style)
    {
        var info = FailureClassInfo.Find(name) ?? throw new OperatorException(
            NearestNames.Of(name, FailureClassInfo.All.Select(c => c.Name)) is [var near, ..]
                ? $"There is no class '{name}'; did you mean '{near}'?"
                : $"There is no class '{name}'. 'traceprobe classes' lists them.", ExitCode.Usage);
        var page = new Page(style);
        page.Paragraph(info.Name, 0, Ink.Bold);
        page.Blank();
        page.Paragraph(info.Meaning, 2);
        page.Blank();
        page.Row(2, new Cell("stage", 8, Ink.Dim), new Cell(info.Stage is { } stage ? TextReport.Name(stage) : "-"));
        page.Row(2, new Cell("symptom", 8, Ink.Dim), new Cell(info.Symptom));
        page.Row(2, new Cell("mend", 8, Ink.Dim), new Cell(info.Mend));
        var others = info.LookAlikes.Select(l => (FailureClassInfo.Of(l.OtherThan(info.Class)).Name, l.ToldApart)).ToList();
        if (others.Count > 0)
        {
            page.Heading("Looks like");
            var width = others.Max(o => o.Name.Length);
            foreach (var (other, toldApart) in others)
            {
                page.Row(2, new Cell(other, width), new Cell(toldApart, 0, Ink.Dim));
            }
        }

        return page.ToString();
    }

    internal static string All(TextStyle style)
    {
        var page = new Page(style);
        var width = FailureClassInfo.All.Max(c => c.Name.Length);
        foreach (var group in FailureClassInfo.All.GroupBy(c => c.Stage))
        {
            if (group.Key is { } stage)
            {
                page.Heading(TextReport.Name(stage));
            }

            foreach (var info in group)
            {
                page.Row(2, new Cell(info.Name, width), new Cell(info.Meaning, 0, Ink.Dim));
            }
        }

        return page.ToString();
    }
}
