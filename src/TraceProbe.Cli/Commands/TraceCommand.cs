using System.CommandLine;
using TraceProbe.Agent.Sessions;

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
                ("sudo traceprobe trace http://my-nginx:8080 --from pod/ubuntu -o json | jq -r .verdict.class", "for a script"),
            ],
        };
        command.Arguments.Add(url);
        settings.AddTo(command, resolves: true, reports: true);
        command.SetAction(parsed =>
        {
            using var interruption = new Interruption();
            using var progress = new SlowProgress();
            var text = parsed.GetRequiredValue(url);

            // Once for the errors in it, before anything is opened.
            _ = settings.Target(parsed, text, null);
            var recording = TraceSession.Trace(settings.Options(parsed, progress.Doing), cluster => settings.Target(parsed, text, cluster), interruption.Token);
            return settings.Report(parsed, recording);
        });
        return command;
    }
}
