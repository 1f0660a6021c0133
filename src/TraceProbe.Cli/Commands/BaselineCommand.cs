using System.CommandLine;
using System.CommandLine.Completions;
using System.Globalization;
using System.Text.Json;
using TraceProbe.Agent.Baselines;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe baseline record|list|show|rm</c>: healthy requests, to lay failing ones beside.</summary>
internal static class BaselineCommand
{
    /// <summary>The command with its verbs.</summary>
    public static Command Create() => new Verb("baseline", "Keep healthy requests, to lay failing ones beside. A trace finds the one of the same client and Service by itself.")
    {
        Subcommands = { Record(), List(), Show(), Remove() },
        Examples = [("sudo traceprobe baseline record my-nginx http://my-nginx:8080 --from pod/ubuntu", "while it works; then trace when it does not")],
    };

    private static Verb Record()
    {
        var name = new Argument<string>("NAME") { Description = "What to store it as: 1 to 63 of a-z, 0-9, '.', '-' and '_'." };
        var url = new Argument<string>("URL") { Description = "As for trace." };
        var settings = new SessionSettings();
        var command = new Verb("record", "Make a request that is healthy now, and store how it went.");
        command.Arguments.Add(name);
        command.Arguments.Add(url);
        settings.AddTo(command, resolves: true, reports: false);
        command.SetAction(parsed =>
        {
            using var interruption = new Interruption();
            using var progress = new SlowProgress();
            var store = BaselineStore.Default;
            var called = parsed.GetRequiredValue(name);
            if (!BaselineStore.IsName(called))
            {
                throw new OperatorException($"'{called}' cannot be a baseline's name: 1 to 63 of a-z, 0-9, '.', '-' and '_', beginning with a letter or digit.", ExitCode.Usage);
            }

            var text = parsed.GetRequiredValue(url);
            _ = settings.Target(parsed, text, null);
            var recording = TraceSession.Trace(settings.Options(parsed, progress.Doing), cluster => settings.Target(parsed, text, cluster), interruption.Token);
            var report = Diagnose.Run(recording);
            settings.Save(parsed, recording, report);
            if (report.Verdict.Class != FailureClass.Healthy)
            {
                Console.Out.Write(TextReport.Write(report, CommandLine.Style(parsed)));
                Console.Error.WriteLine($"traceprobe: not stored: a baseline is a healthy request, and this one is {FailureClassInfo.Of(report.Verdict.Class).Name}.");
                return ReportOutput.ExitCodeOf(report);
            }

            var baseline = Diagnose.ToBaseline(called, recording, report);
            store.Save(baseline);
            Console.Out.WriteLine($"Stored as {called}: {baseline.Service} from {baseline.Client}, {TextReport.Milliseconds(report.DurationNanoseconds).Replace(Page.Tie, ' ')}.");
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb List()
    {
        var command = new Verb("list", "List the baselines.");
        command.SetAction(parsed =>
        {
            var store = BaselineStore.Default;
            var baselines = store.List();
            if (baselines.IsEmpty)
            {
                Console.Error.WriteLine($"There is no baseline in {store.Folder}. Make one with: traceprobe baseline record NAME URL --from PLACE");
            }

            var page = new Page(CommandLine.Style(parsed));
            foreach (var b in baselines)
            {
                var cluster = b.Cluster is null ? "" : $" in {b.Cluster}";
                page.Row(0, new Cell(b.Name, 20), new Cell(When(b), 16, Ink.Dim), new Cell($"{b.Service} from {b.Client}{cluster}"));
            }

            Console.Out.Write(page);
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Show()
    {
        var name = NameArgument();
        var output = new Option<string>("--output", "-o") { Description = "text or json.", HelpName = "FORM", DefaultValueFactory = _ => "text" };
        output.AcceptOnlyFromAmong("text", "json");
        var command = new Verb("show", "Show what a baseline holds.");
        command.Arguments.Add(name);
        command.Options.Add(output);
        command.SetAction(parsed =>
        {
            var baseline = BaselineStore.Default.Get(parsed.GetRequiredValue(name));
            if (parsed.GetValue(output) == "json")
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(baseline, ReportJson.Default.Baseline));
                return ExitCode.Healthy;
            }

            var page = new Page(CommandLine.Style(parsed));
            page.Paragraph(baseline.Name, 0, Ink.Bold);
            page.Blank();
            page.Paragraph($"{baseline.Target} from {baseline.Client}{(baseline.Cluster is null ? "" : $" in {baseline.Cluster}")}, recorded {When(baseline)}.", 2);
            page.Paragraph(baseline.Service, 2, Ink.Dim);
            foreach (var stage in baseline.Stages)
            {
                page.Heading(TextReport.Name(stage.Stage) + (stage.DurationNanoseconds is { } ns ? $"  {TextReport.Milliseconds(ns)}" : ""));
                foreach (var fact in stage.Facts)
                {
                    page.Row(2, new Cell(fact.Name, 20, Ink.Dim), new Cell(fact.Value));
                }
            }

            Console.Out.Write(page);
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Remove()
    {
        var name = NameArgument();
        var command = new Verb("rm", "Remove a baseline.");
        command.Arguments.Add(name);
        command.SetAction(parsed =>
        {
            BaselineStore.Default.Remove(parsed.GetRequiredValue(name));
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Argument<string> NameArgument()
    {
        var name = new Argument<string>("NAME") { Description = "The baseline.", HelpName = "NAME" };
        name.CompletionSources.Add(_ => BaselineStore.Default.Names().Select(n => new CompletionItem(n)));
        return name;
    }

    private static string When(Baseline baseline) => baseline.RecordedAt.LocalDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);
}
