namespace TraceProbe.Core.Cluster;

/// <summary>A core/v1 Namespace: its labels, which NetworkPolicies select by.</summary>
public sealed record Namespace
{
    /// <summary>
    /// Name and labels. API servers from 1.22 on give each namespace the label <c>kubernetes.io/metadata.name</c> with its name; earlier ones
    /// and hand-written snapshots have it only where somebody set it.
    /// </summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("namespace", null, Metadata.Name);
}
