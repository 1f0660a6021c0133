namespace TraceProbe.Agent.Baselines;

/// <summary>A baseline cannot be found, read or stored. The message is written for the operator.</summary>
public sealed class BaselineException : Exception
{
    /// <summary>With a message.</summary>
    public BaselineException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and what led to it.</summary>
    public BaselineException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Without a message; here because exceptions have it.</summary>
    public BaselineException()
    {
    }
}
