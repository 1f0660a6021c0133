namespace TraceProbe.Core.Cluster;

/// <summary>
/// A warning about a Pod: a core/v1 Event whose <c>involvedObject</c> is a Pod and whose type is Warning. Only those are kept: what a
/// probe last said stands nowhere else in the API. API servers forget them after an hour.
/// </summary>
public sealed record PodEvent
{
    /// <summary>What TraceProbe calls itself as the source of events.</summary>
    public const string Teller = "traceprobe";

    /// <summary>The event's own name and namespace.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>The Pod.</summary>
    public ObjectReference InvolvedObject { get; init => field = value ?? new(); } = new();

    /// <summary>Normal or Warning.</summary>
    public string? Type { get; init; }

    /// <summary>A word for what happened, such as <c>Unhealthy</c>, <c>BackOff</c>, <c>FailedScheduling</c>.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence for what happened, such as <c>Readiness probe failed: HTTP probe failed with statuscode: 503</c>.</summary>
    public string? Message { get; init; }

    /// <summary>How often it happened; null when not counted.</summary>
    public int? Count { get; init; }

    /// <summary>When it happened last; null when only <see cref="EventTime"/> is given.</summary>
    public DateTimeOffset? LastTimestamp { get; init; }

    /// <summary>When it happened, for events of the newer API; null for others.</summary>
    public DateTimeOffset? EventTime { get; init; }

    /// <summary>The container that it is about; null when it is about none.</summary>
    public string? Container
    {
        get
        {
            // spec.containers{web}, spec.initContainers{setup}
            var path = InvolvedObject.FieldPath;
            return path is not null && path.EndsWith('}') && path.IndexOf('{', StringComparison.Ordinal) is > 0 and var open ? path[(open + 1)..^1] : null;
        }
    }

    /// <summary>When it happened last, as far as the object tells.</summary>
    public DateTimeOffset? Last => LastTimestamp ?? EventTime ?? Metadata.CreationTimestamp;

    /// <summary>Who told of it, such as <c>kubelet</c>; null when that is not said.</summary>
    public string? Source { get; init; }

    /// <summary>Whether this is one of the events that are kept. What TraceProbe itself has told of a Pod explains nothing about it.</summary>
    public bool IsPodWarning => Type == "Warning" && InvolvedObject.Kind == "Pod" && Source != Teller;
}
