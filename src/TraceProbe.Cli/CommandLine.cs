using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using System.Globalization;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli;

/// <summary>From arguments to an exit code: help, wrong usage, and whatever a verb throws.</summary>
internal static class CommandLine
{
    /// <summary>Whether the whole of an unexpected exception is printed.</summary>
    public static readonly Option<bool> Debug = new("--debug") { Description = "Print the whole trace when TraceProbe itself fails.", Recursive = true };

    /// <summary>When to colour.</summary>
    public static readonly Option<ColorChoice> Color = new("--color")
    {
        Description = "auto (on a terminal, unless NO_COLOR is set), always or never.", HelpName = "WHEN", Recursive = true,
    };

    /// <summary>How wide to write.</summary>
    public static readonly Option<int?> Width = new("--width")
    {
        Description = "Columns to write; the terminal's without it, 80 where there is none.", HelpName = "COLUMNS", Recursive = true, CustomParser = ParseWidth,
    };

    /// <summary>The style that the options ask for.</summary>
    public static TextStyle Style(ParseResult parsed) => Terminal.Style(parsed.GetValue(Color), parsed.GetValue(Width));

    /// <summary>Runs what the arguments say.</summary>
    public static int Run(RootCommand root, string[] args)
    {
        root.Options.Add(Color);
        root.Options.Add(Width);
        root.Options.Add(Debug);
        foreach (var help in root.Options.OfType<HelpOption>())
        {
            help.Aliases.Remove("/?");
            help.Aliases.Remove("/h");
            help.Action = new TeachingHelp(root, (HelpAction)help.Action!);
        }

        var parsed = root.Parse(args);
        if (parsed.Action is ParseErrorAction)
        {
            return Misused(root, parsed);
        }

        if (Misspelled(parsed) is { } option)
        {
            Tell($"traceprobe {parsed.CommandResult.Command.Name}: '{option}' is not known here; write what is no option behind --.");
            return ExitCode.Usage;
        }

        try
        {
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
#pragma warning disable CA1031 // The last line of defence: everything that gets here ends the process with a sentence and exit code 4.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return Failed(e, parsed.GetValue(Debug));
        }
    }

    // An option that nobody knows would otherwise be the argument: a URL, a file, a command.
    private static string? Misspelled(ParseResult parsed)
    {
        var before = parsed.Tokens.TakeWhile(t => t.Type != TokenType.DoubleDash).ToHashSet();
        return parsed.CommandResult.Children.OfType<ArgumentResult>().SelectMany(a => a.Tokens)
            .FirstOrDefault(t => t.Value.Length > 1 && t.Value[0] == '-' && before.Contains(t))?.Value;
    }

    private static int? ParseWidth(ArgumentResult result)
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var columns) && columns is >= 40 and <= 10_000)
        {
            return columns;
        }

        result.AddError("--width takes 40 to 10000 columns.");
        return null;
    }

    /// <summary>Writes a line for the operator. What it quotes may be as long as an argument can be, and hold anything.</summary>
    public static void Tell(string line)
    {
        const int most = 1000;
        try
        {
            Console.Error.WriteLine(SafeText.Of(line.Length <= most ? line : $"{line.AsSpan(0, most - 200)} … {line.AsSpan(line.Length - 200)}"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Standard error itself is full, gone or was never open: the exit code is all that is left to say it with.
        }
    }

    private static int Failed(Exception e, bool debug)
    {
        if (e is OperationCanceledException)
        {
            Tell("traceprobe: interrupted before it was done.");
            return ExitCode.CouldNotWork;
        }

        // These carry a sentence for the operator; everything else is a defect of ours, and says so.
        var isOperators = e is OperatorException or RecordingException or UnauthorizedAccessException or IOException
            || e.GetType().Assembly.GetName().Name?.StartsWith("TraceProbe.", StringComparison.Ordinal) == true;
        // The framework names the path that it may not use; a standard stream has none.
        Tell($"traceprobe: {(e is UnauthorizedAccessException && !e.Message.Contains('\'', StringComparison.Ordinal) ? "standard output cannot be written to: it is closed, or open for reading only." : e.Message)}");
        if (debug)
        {
            Console.Error.WriteLine(e);
        }
        else if (!isOperators)
        {
            Tell($"traceprobe: this is a defect in TraceProbe ({e.GetType().Name}). Run it again with --debug and report what it prints.");
        }

        return e is OperatorException { Code: var code } ? code : ExitCode.CouldNotWork;
    }

    private static int Misused(RootCommand root, ParseResult parsed)
    {
        var verb = "traceprobe";
        for (var command = parsed.CommandResult; command is not null && command.Command != root; command = command.Parent as System.CommandLine.Parsing.CommandResult)
        {
            verb = verb.Insert("traceprobe".Length, $" {command.Command.Name}");
        }

        if (parsed.Tokens.Count == 0)
        {
            root.Parse(["--help"]).Invoke();
            return ExitCode.Usage;
        }

        // A word that is not known is reported together with all that it should have been; the word alone says more.
        foreach (var error in parsed.Errors.Where(e => parsed.UnmatchedTokens.Count == 0 || e.SymbolResult != parsed.CommandResult))
        {
            // What an argument may be comes in lines of its own.
            Tell($"{verb}: {error.Message.ReplaceLineEndings("").Replace('\t', ' ')}");
        }

        foreach (var token in parsed.UnmatchedTokens)
        {
            Tell($"{verb}: '{token}' is not known here.");
        }

        var unknown = parsed.UnmatchedTokens.Count > 0 ? parsed.UnmatchedTokens[0] : null;
        if (unknown is not null && NearestNames.Of(unknown, Words(parsed.CommandResult.Command)) is [var near, ..])
        {
            Tell($"{verb}: did you mean '{near}'?");
        }

        Tell($"{verb}: see '{verb} --help'.");
        return ExitCode.Usage;
    }

    private static IEnumerable<string> Words(Command command)
        => command.Subcommands.Where(c => !c.Hidden).Select(c => c.Name).Concat(command.Options.Where(o => !o.Hidden).Select(o => o.Name)).Append("--color").Append("--width");
}
