using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>An alert, or a change of one, as webhooks are sent it and the API tells it.</summary>
public sealed record AlertMessage
{
    /// <summary>The version of this form. Members are added, never renamed.</summary>
    public int Version { get; init; } = 1;

    /// <summary><c>opened</c>, <c>continues</c> or <c>resolved</c>; null in a list of what is open.</summary>
    public string? Event { get; init; }

    /// <summary>The failure class, as <c>traceprobe classes</c> lists it.</summary>
    public required string Class { get; init; }

    /// <summary>The Service and port, <c>NAMESPACE/NAME:PORT</c>; or the name or address that was asked for when it is none's.</summary>
    public required string Service { get; init; }

    /// <summary>For whom: the client's workload, or its node.</summary>
    public required string Client { get; init; }

    /// <summary>The node whose agent saw it.</summary>
    public required string Node { get; init; }

    /// <summary>The cause in a sentence.</summary>
    public required string Sentence { get; init; }

    /// <summary>How to mend it, in words; null when that is not known.</summary>
    public string? Mend { get; init; }

    /// <summary>The command that mends it; null when there is none.</summary>
    public string? MendCommand { get; init; }

    /// <summary>Where to run it; null for wherever kubectl works.</summary>
    public string? MendOn { get; init; }

    /// <summary>When it was first seen.</summary>
    public required DateTimeOffset FirstSeen { get; init; }

    /// <summary>When it was last seen.</summary>
    public required DateTimeOffset LastSeen { get; init; }

    /// <summary>When it was resolved; null while it goes on.</summary>
    public DateTimeOffset? ResolvedAt { get; init; }

    /// <summary>Failures of this kind since it was first seen.</summary>
    public required long Count { get; init; }

    /// <summary>Attempts of this client to reach this Service since then, whatever came of them.</summary>
    public required long Attempts { get; init; }

    /// <summary>The Pod of one such failure, <c>NAMESPACE/NAME</c>; null when the client is a node.</summary>
    public string? Pod { get; init; }

    /// <summary>The recording of one such failure: a file of the agent's node, for <c>traceprobe replay</c>; null when none was kept.</summary>
    public string? Recording { get; init; }

    /// <summary>An alert as it is.</summary>
    public static AlertMessage Of(Alert alert) => new()
    {
        Class = FailureClassInfo.Of(alert.Key.Class).Name,
        Service = alert.Key.Service,
        Client = alert.Key.Client,
        Node = alert.Node,
        Sentence = alert.Sentence,
        Mend = alert.Mend?.Text,
        MendCommand = alert.Mend?.Command,
        MendOn = alert.Mend?.On,
        FirstSeen = alert.FirstSeen,
        LastSeen = alert.LastSeen,
        ResolvedAt = alert.ResolvedAt,
        Count = alert.Count,
        Attempts = alert.Attempts,
        Pod = alert.Example.Pod is { } pod ? $"{pod.Namespace}/{pod.Name}" : null,
        Recording = alert.Example.Recording,
    };

    /// <summary>A change of an alert.</summary>
    public static AlertMessage Of(AlertChange change) => Of(change.Alert) with { Event = change.Event.ToString().ToLowerInvariant() };
}
