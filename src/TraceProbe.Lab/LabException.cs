namespace TraceProbe.Lab;

/// <summary>The lab could not do what was asked; the message is written for the person who asked and says what to do.</summary>
public sealed class LabException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What went wrong and what to do.</param>
    public LabException(string message)
        : base(message)
    {
    }

    /// <summary>Makes the exception.</summary>
    /// <param name="message">What went wrong and what to do.</param>
    /// <param name="inner">What caused it.</param>
    public LabException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
