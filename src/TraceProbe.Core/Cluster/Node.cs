using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A core/v1 Node: the fields TraceProbe uses.</summary>
public sealed record Node
{
    /// <summary>Name and labels.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>What is wanted.</summary>
    public NodeSpec Spec { get; init => field = value ?? new(); } = new();

    /// <summary>What is.</summary>
    public NodeStatus Status { get; init => field = value ?? new(); } = new();

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("node", null, Metadata.Name);
}

/// <summary>core/v1 NodeSpec.</summary>
public sealed record NodeSpec
{
    /// <summary>The first pod prefix.</summary>
    public string? PodCIDR { get; init; }

    /// <summary>All pod prefixes.</summary>
    public ImmutableArray<string> PodCIDRs { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 NodeStatus.</summary>
public sealed record NodeStatus
{
    /// <summary>The node's addresses.</summary>
    public ImmutableArray<NodeAddress> Addresses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Conditions.</summary>
    public ImmutableArray<Condition> Conditions { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 NodeAddress.</summary>
/// <param name="Type">InternalIP, ExternalIP or Hostname.</param>
/// <param name="Address">The address.</param>
public sealed record NodeAddress(string Type, string Address);
