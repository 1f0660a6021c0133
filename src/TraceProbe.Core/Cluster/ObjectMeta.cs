using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>The parts of metav1.ObjectMeta that TraceProbe uses.</summary>
public sealed record ObjectMeta
{
    /// <summary>The object's name.</summary>
    public string Name { get; init => field = value ?? ""; } = "";

    /// <summary>The object's namespace; null for cluster-scoped kinds.</summary>
    public string? Namespace { get; init; }

    /// <summary>The object's UID; null in hand-written snapshots.</summary>
    public string? Uid { get; init; }

    /// <summary>The server's version of the object, opaque.</summary>
    public string? ResourceVersion { get; init; }

    /// <summary>Labels; empty when there are none.</summary>
    public ImmutableSortedDictionary<string, string> Labels { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary>When the object was created.</summary>
    public DateTimeOffset? CreationTimestamp { get; init; }

    /// <summary>When deletion was asked for; null while nobody did.</summary>
    public DateTimeOffset? DeletionTimestamp { get; init; }

    /// <summary>The owners, nearest first.</summary>
    public ImmutableArray<OwnerReference> OwnerReferences { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>metav1.OwnerReference: what made an object.</summary>
/// <param name="Kind">The owner's kind, such as <c>ReplicaSet</c>.</param>
/// <param name="Name">The owner's name.</param>
public sealed record OwnerReference(string Kind, string Name);
