using System.CommandLine;
using System.Globalization;
using System.Threading.Channels;
using TraceProbe.Agent.Api;
using TraceProbe.Cli.Output;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe watch</c>: what the agents see, as it happens.</summary>
internal static class WatchCommand
{
    private const int Indent = 10;

    // Told every five seconds, and twice as long is time enough for a slow one.
    private static readonly TimeSpan Silent = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan Again = TimeSpan.FromSeconds(2);

    /// <summary>The command.</summary>
    public static Command Create()
    {
        var scene = new SceneSettings();
        var agents = new AgentAddresses(scene);
        var alerts = new Option<bool>("--alerts") { Description = "Alerts only, not each failure." };
        var output = new Option<string>("--output", "-o") { Description = "text, or json for one object a line.", HelpName = "FORMAT", DefaultValueFactory = _ => "text" };
        output.AcceptOnlyFromAmong("text", "json");
        var command = new Verb("watch", "Show failures and alerts of all agents as they happen, until Ctrl-C.")
        {
            Examples =
            [
                ("traceprobe watch", "the agents of the kubeconfig's cluster, by kubectl port-forward"),
                ("sudo traceprobe watch --lab demo", "those of a lab that was made with --agents"),
                ("sudo traceprobe watch --agent /var/lib/traceprobe/agent/agent.sock", "the one on this node"),
            ],
        };
        scene.AddTo(command);
        agents.AddTo(command);
        command.Options.Add(alerts);
        command.Options.Add(output);
        command.SetAction(async (parsed, cancellation) =>
        {
            var cluster = agents.IsAsked(parsed) || scene.LabOf(parsed) is not null ? null : scene.ObjectsOf(parsed)?.Invoke();
            using var reached = await agents.ReachAsync(parsed, cluster, cancellation).ConfigureAwait(false);
            return await FollowAsync(reached.Agents, CommandLine.Style(parsed), parsed.GetValue(alerts), parsed.GetValue(output) == "json", cancellation).ConfigureAwait(false);
        });
        return command;
    }

    private static async Task<int> FollowAsync(IReadOnlyList<AgentClient> agents, TextStyle style, bool onlyAlerts, bool isJson, CancellationToken cancellation)
    {
        var lines = Channel.CreateBounded<LiveMessage>(1_000);
        var followers = agents.Select(a => FollowAsync(a, lines.Writer, cancellation)).ToList();
        _ = Task.WhenAll(followers).ContinueWith(t => lines.Writer.TryComplete(t.Exception), TaskScheduler.Default);
        try
        {
            await foreach (var message in lines.Reader.ReadAllAsync(cancellation).ConfigureAwait(false))
            {
                if (message is { Failure: not null } && onlyAlerts)
                {
                    continue;
                }

                var text = isJson ? message.ToJson() : Text(message, style);
                if (text is not null)
                {
                    Console.Out.WriteLine(text);
                }
            }
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Healthy;
        }

        throw new OperatorException("No agent is left to listen to; see above.");
    }

    // One that is restarted is listened to again; one that is not there to begin with is told.
    private static async Task FollowAsync(AgentClient agent, ChannelWriter<LiveMessage> lines, CancellationToken cancellation)
    {
        for (var wasHeard = false; ; )
        {
            try
            {
                var who = await agent.AgentAsync(cancellation).ConfigureAwait(false);
                CommandLine.Tell($"traceprobe: listening to the agent of {who.Node}{(who.Away is { } away ? $", which goes on without the API server: {away}" : "")}");
                wasHeard = true;
                using var silent = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                silent.CancelAfter(Silent);
                await foreach (var message in agent.LiveAsync(silent.Token).ConfigureAwait(false))
                {
                    silent.CancelAfter(Silent);
                    await lines.WriteAsync(message, cancellation).ConfigureAwait(false);
                }

                CommandLine.Tell($"traceprobe: the agent of {who.Node} has stopped; waiting for it");
            }
            catch (AgentException e) when (!wasHeard)
            {
                CommandLine.Tell($"traceprobe: {e.Message}");
                return;
            }
            catch (Exception e) when (e is AgentException or OperationCanceledException && !cancellation.IsCancellationRequested)
            {
                // It is tried again, and said once when it is back.
            }

            await Task.Delay(Again, cancellation).ConfigureAwait(false);
        }
    }

    private static string? Text(LiveMessage message, TextStyle style)
    {
        var page = new Page(style);
        switch (message)
        {
            case { Alert: { } alert }:
                var isOver = alert.Event == "resolved";
                Head(page, alert.ResolvedAt ?? alert.LastSeen, isOver ? "resolved" : "alert", isOver ? Ink.Good : Ink.Bad, alert.Class, alert.Client, alert.Service,
                    string.Create(CultureInfo.InvariantCulture, $"on {alert.Node}, {alert.Count} of {alert.Attempts} attempts"));
                if (!isOver)
                {
                    page.Paragraph(SafeText.Of(alert.Sentence), Indent);
                    if (alert.MendCommand is { } mend)
                    {
                        page.Verbatim(SafeText.Of(mend), Indent, Ink.Command);
                    }
                }

                break;
            case { Failure: { } failure }:
                Head(page, failure.At, "failure", Ink.Warn, failure.Class, failure.Client, failure.Service, $"on {failure.Node}");
                page.Paragraph(SafeText.Of(failure.Sentence), Indent, Ink.Dim);
                break;
            case { Change: { } change }:
                Head(page, change.At, "changed", Ink.Warn, change.Stage, change.Client, change.Service, $"on {change.Node}");
                page.Paragraph(SafeText.Of(change.Sentence), Indent);
                break;
            case { Missed: { } missed }:
                page.Paragraph(string.Create(CultureInfo.InvariantCulture, $"{missed} messages were missed: this is read too slowly."), Indent, Ink.Warn);
                break;
            default:
                return null;
        }

        return page.ToString().TrimEnd('\n');
    }

    private static void Head(Page page, DateTimeOffset at, string what, Ink ink, string @class, string client, string service, string rest)
    {
        page.Row(0, new Cell(at.ToLocalTime().ToString("HH:mm:ss", CultureInfo.InvariantCulture), 8), new Cell(what, 8, ink), new Cell(@class, 0, Ink.Bold));
        page.Paragraph(SafeText.Of($"{client} to {service}, {rest}"), Indent);
    }
}
