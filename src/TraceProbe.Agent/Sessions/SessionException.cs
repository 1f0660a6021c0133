namespace TraceProbe.Agent.Sessions;

/// <summary>A request cannot be followed as asked. The message is written for the operator: why, and what to do.</summary>
public sealed class SessionException : Exception
{
    /// <summary>With a message.</summary>
    public SessionException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and what led to it.</summary>
    public SessionException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Without a message; here because exceptions have it.</summary>
    public SessionException()
    {
    }
}
