namespace TraceProbe.Cli;

/// <summary>What the process returns; scripts rely on it.</summary>
internal static class ExitCode
{
    /// <summary>The request was healthy, or the command did its work.</summary>
    public const int Healthy = 0;

    /// <summary>A failure was diagnosed.</summary>
    public const int Failure = 1;

    /// <summary>The command line was wrong.</summary>
    public const int Usage = 2;

    /// <summary>The request failed, and what was seen does not say why.</summary>
    public const int Undetermined = 3;

    /// <summary>TraceProbe itself could not work.</summary>
    public const int CouldNotWork = 4;

    /// <summary>The exit codes in words, for the help.</summary>
    public const string Help = """
        Exit codes:
          0  healthy, or the command did its work
          1  a failure was diagnosed
          2  the command line was wrong
          3  undetermined; the report says what was missing
          4  TraceProbe could not work: a missing privilege, no such lab
        """;
}
