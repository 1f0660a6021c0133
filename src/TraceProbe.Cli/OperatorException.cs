namespace TraceProbe.Cli;

/// <summary>TraceProbe cannot do what was asked; the message says why and what to do, and is all that is printed.</summary>
internal sealed class OperatorException : Exception
{
    /// <summary>With a message for the operator.</summary>
    public OperatorException(string message)
        : base(message)
    {
    }

    /// <summary>With a message for the operator and the exit code that goes with it.</summary>
    public OperatorException(string message, int exitCode)
        : base(message) => Code = exitCode;

    /// <summary>With a message and what led to it.</summary>
    public OperatorException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Without a message; here because exceptions have it.</summary>
    public OperatorException()
    {
    }

    /// <summary>The exit code.</summary>
    public int Code { get; } = ExitCode.CouldNotWork;
}
