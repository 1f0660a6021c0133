namespace TraceProbe.Core.Recordings;

/// <summary>A recording could not be read or written. The message names the part of it and says what to do; it is written for the operator.</summary>
public sealed class RecordingException : Exception
{
    /// <summary>With a message.</summary>
    public RecordingException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and what led to it.</summary>
    public RecordingException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Without a message; here because exceptions have it.</summary>
    public RecordingException()
    {
    }
}
