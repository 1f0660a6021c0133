using System.CommandLine;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Sessions;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe trace URL</c>: make one request, follow it, and say why it fails.</summary>
internal static class TraceCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var url = new Argument<string>("URL") { Description = "http://HOST:PORT/PATH, https://…, tcp://HOST:PORT, udp://HOST:PORT, or svc/NAME:PORT." };
        var settings = new SessionSettings();
        var command = new Verb("trace", "Make one request as the client would, follow it from the DNS query to the pod, and say why it fails.")
        {
            Examples =
            [
                ("sudo traceprobe trace http://my-nginx:8080 --from pod/ubuntu", "as pod ubuntu would ask"),
                ("sudo traceprobe trace svc/my-nginx:8080 -n shop --from node/node-1", "a Service by its name, from a node"),
                ("sudo traceprobe trace tcp://10.96.0.10:53 --from netns:blue --save failure.tprec", "from any network namespace; keep everything for later"),
                ("traceprobe trace http://my-nginx:8080 --from deploy/web -n shop --agents", "from anywhere, by the cluster's agents, across nodes"),
                ("sudo traceprobe trace http://my-nginx:8080 --from pod/ubuntu -o json | jq -r .verdict.class", "for a script"),
            ],
        };
        command.Arguments.Add(url);
        settings.AddTo(command, resolves: true, reports: true);
        settings.AddAgentsTo(command);
        command.SetAction(parsed =>
        {
            using var interruption = new Interruption();
            using var progress = new SlowProgress();
            var text = parsed.GetRequiredValue(url);

            // Once for the errors in it, before anything is opened.
            _ = settings.Target(parsed, text, null);
            if (settings.IsForAgents(parsed))
            {
                return settings.Report(parsed, Across(settings, parsed, text, progress.Doing, interruption.Token).GetAwaiter().GetResult(), isFromAfar: true);
            }

            var recording = TraceSession.Trace(settings.Options(parsed, progress.Doing), cluster => settings.Target(parsed, text, cluster), interruption.Token);
            return settings.Report(parsed, recording);
        });
        return command;
    }

    private static async Task<Recording> Across(SessionSettings settings, ParseResult parsed, string url, Action<string> progress, CancellationToken cancellation)
    {
        var (request, objects) = settings.RequestOf(parsed, url);
        using var reached = await settings.Agents.ReachAsync(parsed, objects, cancellation).ConfigureAwait(false);
        try
        {
            return await ClusterTrace.RunAsync(reached.Agents, objects, settings.Target(parsed, url, objects), request, progress, cancellation).ConfigureAwait(false);
        }
        catch (AgentException e)
        {
            throw new OperatorException(e.Message);
        }
        catch (OperationCanceledException)
        {
            throw new OperatorException("Interrupted before the agents had an answer.", ExitCode.Undetermined);
        }
    }
}
