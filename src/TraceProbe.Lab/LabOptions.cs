using System.Collections.Immutable;
using System.Reflection;

namespace TraceProbe.Lab;

/// <summary>How a lab is built.</summary>
public sealed record LabOptions
{
    /// <summary>The lab's name: 1 to 20 of a-z, 0-9 and dashes. Labs of different names live side by side.</summary>
    public string Name { get; init; } = "demo";

    /// <summary>How its kube-proxy translates.</summary>
    public ProxyMode Proxy { get; init; } = ProxyMode.IptablesNft;

    /// <summary>Whether each of its nodes has an agent, which sees that node's namespaces alone.</summary>
    public bool HasAgents { get; init; }

    /// <summary>What these agents are told beside their node, as on the command line.</summary>
    public ImmutableArray<string> AgentArguments { get; init; } = [];

    /// <summary>
    /// The command that the lab starts its own processes with; to it are added the words that <see cref="LabProcess"/> takes. The
    /// program that is running now unless said otherwise, so its <c>Main</c> must ask <see cref="LabProcess.RunAsync"/> first.
    /// </summary>
    public ImmutableArray<string> SelfCommand { get; init; } = DefaultSelfCommand();

    private static ImmutableArray<string> DefaultSelfCommand()
    {
        var path = Environment.ProcessPath ?? "traceprobe";
        // "dotnet traceprobe.dll" has the runtime's path here, not the program's.
        return Path.GetFileNameWithoutExtension(path) == "dotnet" && Assembly.GetEntryAssembly()?.Location is { Length: > 0 } entry
            ? [path, entry]
            : [path];
    }
}
