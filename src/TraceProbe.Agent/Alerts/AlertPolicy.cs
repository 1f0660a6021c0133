namespace TraceProbe.Agent.Alerts;

/// <summary>When alerts are opened and resolved.</summary>
public sealed record AlertPolicy
{
    /// <summary>How many failures open an alert; at least 1.</summary>
    public int Failures { get; init; } = 3;

    /// <summary>Within which time they have to come.</summary>
    public TimeSpan Within { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>
    /// For how long they must have come: while rules follow objects, requests fail for a moment in ways that are over before anybody could look. Those that nobody tries
    /// again after count as lasting.
    /// </summary>
    public TimeSpan Lasting { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>How long there must be no such failure, with successes in between, until it is resolved.</summary>
    public TimeSpan QuietWithSuccess { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long there must be no such failure until it is resolved although nobody has tried again.</summary>
    public TimeSpan QuietWithout { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>How many successes count as mended; at least 1.</summary>
    public int Successes { get; init; } = 3;

    /// <summary>How often one that goes on is told again.</summary>
    public TimeSpan Repeat { get; init; } = TimeSpan.FromMinutes(1);
}
