using System.CommandLine;
using TraceProbe.Cli;
using TraceProbe.Cli.Commands;
using TraceProbe.Lab;

// The lab's own processes are this program again.
if (args is [['l', 'a', 'b', '-', ..], ..] && await LabProcess.RunAsync(args).ConfigureAwait(false) is { } ended)
{
    return ended;
}

// TraceProbe follows one connection from the name to the pod and says where it broke. Every verb makes what it needs, and nothing
// else: a trace has 300 ms for everything that is not the request.
var root = new RootCommand("Follow a request to a Kubernetes Service through the kernel, and say why it fails.")
{
    TraceCommand.Create(),
    RunCommand.Create(),
    ObserveCommand.Create(),
    BaselineCommand.Create(),
    CheckCommand.Create(),
    RulesCommand.Create(),
    SnapshotCommand.Create(),
    ReplayCommand.Create(),
    LabCommand.Create(),
    DoctorCommand.Create(),
    ClassesCommand.Create(),
    CompletionCommand.Create(),
};

return CommandLine.Run(root, args);
