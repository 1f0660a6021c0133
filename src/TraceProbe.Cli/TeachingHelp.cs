using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace TraceProbe.Cli;

/// <summary>The library's help with what people look for under it: examples, and the exit codes under the whole.</summary>
internal sealed class TeachingHelp(RootCommand root, HelpAction help) : SynchronousCommandLineAction
{
    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        help.Invoke(parseResult);
        var output = parseResult.InvocationConfiguration.Output;
        var command = parseResult.CommandResult.Command;
        if (command is Verb { Examples: { Count: > 0 } examples })
        {
            output.WriteLine("Examples:");
            foreach (var (line, does) in examples)
            {
                output.WriteLine($"  {line}");
                output.WriteLine($"      {does}");
            }

            output.WriteLine();
        }

        if (command == root)
        {
            output.WriteLine(ExitCode.Help);
        }

        return ExitCode.Healthy;
    }
}
