using System.CommandLine;
using TraceProbe.Agent.Requests;
using TraceProbe.Agent.Sessions;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe run -- COMMAND</c>: the user's own client is the witness.</summary>
internal static class RunCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var words = new Argument<string[]>("COMMAND") { Description = "The command and its arguments, behind --.", Arity = ArgumentArity.OneOrMore };
        var settings = new SessionSettings();
        var command = new Verb("run", "Run a command as the client, follow whatever connections it and its children make, and say why they fail. Returns the verdict's exit code; the command's own is in the report.")
        {
            Examples =
            [
                ("sudo traceprobe run --from pod/ubuntu -- curl -sS http://my-nginx:8080", "curl, with the pod's network and resolv.conf"),
                ("sudo traceprobe run --from pod/ubuntu -o json -- python3 client.py 2>&1 >/dev/null | tail", "any client; what it prints comes first"),
            ],
        };
        command.Arguments.Add(words);
        settings.AddTo(command, resolves: false, reports: true, timed: false);
        command.SetAction(parsed =>
        {
            var program = parsed.GetRequiredValue(words);
            if (CommandRunner.WhyNot(program[0]) is { } why)
            {
                throw new OperatorException($"{why}. It is this machine's program that is run, inside the client's network.", ExitCode.Usage);
            }

            var recording = TraceSession.Run(settings.Options(parsed, _ => { }), program);
            return settings.Report(parsed, recording);
        });
        return command;
    }
}
