using System.CommandLine;

namespace TraceProbe.Cli;

/// <summary>A command with examples in its help.</summary>
internal sealed class Verb(string name, string description) : Command(name, description)
{
    /// <summary>Lines of the help's last paragraph: commands to copy, each with what it does.</summary>
    public IReadOnlyList<(string Command, string Does)> Examples { get; init; } = [];
}
