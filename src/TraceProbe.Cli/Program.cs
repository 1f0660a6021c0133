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
// else: a trace has 300 ms for everything that is not the request. So a verb that is named is made alone; help, completion and words that
// are no verb need them all.
(string Name, Func<Command> Create)[] verbs =
[
    ("trace", TraceCommand.Create),
    ("run", RunCommand.Create),
    ("observe", ObserveCommand.Create),
    ("baseline", BaselineCommand.Create),
    ("check", CheckCommand.Create),
    ("rules", RulesCommand.Create),
    ("snapshot", SnapshotCommand.Create),
    ("agent", AgentCommand.Create),
    ("watch", WatchCommand.Create),
    ("replay", ReplayCommand.Create),
    ("lab", LabCommand.Create),
    ("doctor", DoctorCommand.Create),
    ("classes", ClassesCommand.Create),
    ("completion", CompletionCommand.Create),
];
var root = new RootCommand("Follow a request to a Kubernetes Service through the kernel, and say why it fails.");
var isNamed = args is [var first, ..] && Array.Exists(verbs, v => v.Name == first);
foreach (var (name, create) in verbs)
{
    if (!isNamed || name == args[0])
    {
        root.Add(create());
    }
}

return CommandLine.Run(root, args);
