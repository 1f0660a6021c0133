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

    /// <summary>Those annotations that <see cref="UsesAnnotation"/> names, others are not kept; empty when there are none.</summary>
    public ImmutableSortedDictionary<string, string> Annotations { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary>When the object was created.</summary>
    public DateTimeOffset? CreationTimestamp { get; init; }

    /// <summary>When deletion was asked for; null while nobody did.</summary>
    public DateTimeOffset? DeletionTimestamp { get; init; }

    /// <summary>The owners, nearest first.</summary>
    public ImmutableArray<OwnerReference> OwnerReferences { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>
    /// The UID that a static pod has on its node, where its cgroups are named after it. The Pod in the API is a mirror with a UID of its own;
    /// the kubelet notes the static pod's in an annotation (pkg/kubelet/types/pod_update.go). Null for other objects.
    /// </summary>
    public string? StaticPodUid => Annotations.GetValueOrDefault("kubernetes.io/config.mirror") ?? Annotations.GetValueOrDefault("kubernetes.io/config.hash");

    /// <summary>Whether an annotation of that key is kept.</summary>
    public static bool UsesAnnotation(string key) => key is "kubernetes.io/config.mirror" or "kubernetes.io/config.hash"
        or "service.kubernetes.io/topology-mode" or "service.kubernetes.io/topology-aware-hints";
}

/// <summary>metav1.OwnerReference: what made an object.</summary>
/// <param name="Kind">The owner's kind, such as <c>ReplicaSet</c>.</param>
/// <param name="Name">The owner's name.</param>
public sealed record OwnerReference(string Kind, string Name);
