using System.CommandLine;
using TraceProbe.Agent.Sessions;

namespace TraceProbe.Cli.Commands;

/// <summary>The options that say which cluster is meant: a lab, or this machine with the objects from files.</summary>
internal sealed class SceneSettings
{
    private readonly Option<string> _namespace = new("--namespace", "-n")
    {
        Description = "The Kubernetes namespace of pod/NAME and svc/NAME ('default' without it).", HelpName = "NS",
    };

    private readonly Option<string?> _lab = LabCommand.NameOption("--lab", "The lab that is meant; the only one, or $TRACEPROBE_LAB, without it.");

    private readonly Option<string[]> _cluster = new("--cluster")
    {
        Description = "Files with the cluster's objects, as 'kubectl get services,endpointslices,pods,nodes -A -o json' prints them (JSON or YAML, gzipped or not). Outside of a lab.",
        HelpName = "FILE",
        AllowMultipleArgumentsPerToken = true,
    };

    /// <summary>Gives the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Options.Add(_namespace);
        command.Options.Add(_lab);
        command.Options.Add(_cluster);
    }

    /// <summary>The namespace that names without one are in.</summary>
    public string NamespaceOf(ParseResult parsed) => NamespaceAsked(parsed) ?? "default";

    /// <summary>The namespace asked for; null when none was.</summary>
    public string? NamespaceAsked(ParseResult parsed) => parsed.GetValue(_namespace);

    /// <summary>The files with the cluster's objects.</summary>
    public string[] FilesOf(ParseResult parsed) => parsed.GetValue(_cluster) ?? [];

    /// <summary>Whether a lab was named on the command line.</summary>
    public bool IsLabAsked(ParseResult parsed) => parsed.GetValue(_lab) is not null;

    /// <summary>The lab that is meant; null outside of one. Objects from a file are of another cluster than a lab's, unless the lab is named too.</summary>
    public string? LabOf(ParseResult parsed) => parsed.GetValue(_lab) is null && FilesOf(parsed).Length > 0 ? null : LabCommand.NameOf(parsed.GetValue(_lab));

    /// <summary>The places and objects that are meant.</summary>
    public Scene SceneOf(ParseResult parsed)
    {
        var files = FilesOf(parsed);
        if (LabOf(parsed) is not { } name)
        {
            return Scene.OfThisMachine([.. files]);
        }

        var lab = Lab.Lab.Open(name);
        return Scene.Of(lab.Name, lab.PlacesPath, files.Length > 0 ? [.. files] : [lab.SnapshotPath]);
    }
}
