using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>What makes two failures one alert.</summary>
/// <param name="Class">What is wrong.</param>
/// <param name="Service">For which Service: <c>NAMESPACE/NAME:PORT</c>, or the name that was asked for when it is none's.</param>
/// <param name="Client">For whom: the client's workload, <c>deployment/NAMESPACE/NAME</c>, or its node.</param>
public readonly record struct AlertKey(FailureClass Class, string Service, string Client);

/// <summary>A failure that goes on, or has: who, what, why, since when, how often. Immutable; each change makes a new one.</summary>
public sealed record Alert
{
    /// <summary>What makes it one.</summary>
    public required AlertKey Key { get; init; }

    /// <summary>The node whose agent saw it.</summary>
    public required string Node { get; init; }

    /// <summary>When it was first seen.</summary>
    public required DateTimeOffset FirstSeen { get; init; }

    /// <summary>When it was last seen.</summary>
    public required DateTimeOffset LastSeen { get; init; }

    /// <summary>When it was resolved; null while it goes on.</summary>
    public DateTimeOffset? ResolvedAt { get; init; }

    /// <summary>Failures of this kind since it was first seen; at least 1.</summary>
    public required long Count { get; init; }

    /// <summary>All attempts of this client to reach this Service since then, whatever came of them; at least <see cref="Count"/>.</summary>
    public required long Attempts { get; init; }

    /// <summary>The cause, as the first diagnosis worded it; its recording is the example.</summary>
    public required string Sentence { get; init; }

    /// <summary>How to mend it; null when there is no such thing.</summary>
    public Mend? Mend { get; init; }

    /// <summary>One such failure.</summary>
    public AlertExample Example { get; init; } = new();

    /// <summary>The share of attempts that failed so, 0 to 1.</summary>
    public double Share => (double)Count / Attempts;
}

/// <summary>One of the failures of an alert.</summary>
public sealed record AlertExample
{
    /// <summary>Its recording, for <c>traceprobe replay</c>; null when none could be kept.</summary>
    public string? Recording { get; init; }

    /// <summary>The Service that was asked for, as it was then; null when there is none.</summary>
    public ObjectReference? Service { get; init; }

    /// <summary>The Pod that asked; null when none did, but a node.</summary>
    public ObjectReference? Pod { get; init; }
}

/// <summary>What happened to an alert.</summary>
public enum AlertEvent
{
    /// <summary>It was opened.</summary>
    Opened,

    /// <summary>It goes on; told from time to time, for receivers that forget.</summary>
    Continues,

    /// <summary>It was resolved.</summary>
    Resolved,
}

/// <summary>A change of an alert.</summary>
public sealed record AlertChange(AlertEvent Event, Alert Alert);
