namespace TraceProbe.Capture.Bpf;

/// <summary>The kernel cannot or will not let us observe it. The message says what is refused, why, and what to do.</summary>
public sealed class ObservationRefusedException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="what">What could not be done, as a sentence without its full stop.</param>
    /// <param name="why">Why, in a line or two.</param>
    /// <param name="remedy">What the operator can do.</param>
    /// <param name="inner">The cause, if it was an exception.</param>
    public ObservationRefusedException(string what, string why, string remedy, Exception? inner = null)
        : base($"{what}: {why} {remedy}", inner)
    {
        What = what;
        Why = why;
        Remedy = remedy;
    }

    /// <summary>What could not be done.</summary>
    public string What { get; }

    /// <summary>Why.</summary>
    public string Why { get; }

    /// <summary>What the operator can do.</summary>
    public string Remedy { get; }
}
