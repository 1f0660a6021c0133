using System.Collections.Immutable;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>A recorded healthy journey of one client workload to one Service, to lay failing ones beside.</summary>
public sealed partial record Baseline
{
    /// <summary>The version of this format.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The name it was recorded under; unique in its store.</summary>
    public required string Name { get; init; }

    /// <summary>The cluster, as the snapshot or lab is called; null when it was not known.</summary>
    public string? Cluster { get; init; }

    /// <summary>The client's workload, such as <c>pod/default/ubuntu</c> or <c>node/node-1</c>.</summary>
    public required string Client { get; init; }

    /// <summary>The Service and port, such as <c>service/default/my-nginx:8080</c>; the host and port when it is no Service.</summary>
    public required string Service { get; init; }

    /// <summary>What was asked for.</summary>
    public required RequestTarget Target { get; init; }

    /// <summary>When it was recorded.</summary>
    public required DateTimeOffset RecordedAt { get; init; }

    /// <summary>The stages.</summary>
    public required ImmutableArray<StageRecord> Stages { get; init; }
}
