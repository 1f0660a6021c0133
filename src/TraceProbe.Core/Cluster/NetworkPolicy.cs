using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A networking.k8s.io/v1 NetworkPolicy.</summary>
public sealed record NetworkPolicy
{
    /// <summary>Name and namespace.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>What is wanted.</summary>
    public NetworkPolicySpec Spec { get; init => field = value ?? new(); } = new();

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("networkpolicy", Metadata.Namespace ?? "default", Metadata.Name);
}

/// <summary>networking.k8s.io/v1 NetworkPolicySpec.</summary>
public sealed record NetworkPolicySpec
{
    /// <summary>The pods of the policy's namespace that it is for; empty for all of them.</summary>
    public LabelSelector PodSelector { get; init => field = value ?? new(); } = new();

    /// <summary>Ingress, Egress or both; empty for Ingress, and Egress too when there are egress rules.</summary>
    public ImmutableArray<string> PolicyTypes { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What may come in; one rule that fits is enough.</summary>
    public ImmutableArray<NetworkPolicyIngressRule> Ingress { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What may go out; one rule that fits is enough.</summary>
    public ImmutableArray<NetworkPolicyEgressRule> Egress { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>networking.k8s.io/v1 NetworkPolicyIngressRule.</summary>
public sealed record NetworkPolicyIngressRule
{
    /// <summary>From whom; empty for anybody.</summary>
    public ImmutableArray<NetworkPolicyPeer> From { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>To which ports of the pod; empty for all.</summary>
    public ImmutableArray<NetworkPolicyPort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>networking.k8s.io/v1 NetworkPolicyEgressRule.</summary>
public sealed record NetworkPolicyEgressRule
{
    /// <summary>To whom; empty for anybody.</summary>
    public ImmutableArray<NetworkPolicyPeer> To { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>To which ports of theirs; empty for all.</summary>
    public ImmutableArray<NetworkPolicyPort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>networking.k8s.io/v1 NetworkPolicyPeer: an address block, or pods by their labels, their namespace's labels, or both.</summary>
public sealed record NetworkPolicyPeer
{
    /// <summary>Pods with these labels, of the policy's namespace unless <see cref="NamespaceSelector"/> is given too.</summary>
    public LabelSelector? PodSelector { get; init; }

    /// <summary>Namespaces with these labels.</summary>
    public LabelSelector? NamespaceSelector { get; init; }

    /// <summary>Addresses.</summary>
    public IpBlock? IpBlock { get; init; }
}

/// <summary>networking.k8s.io/v1 IPBlock.</summary>
public sealed record IpBlock
{
    /// <summary>The addresses, such as <c>10.0.0.0/8</c>.</summary>
    public string Cidr { get; init => field = value ?? ""; } = "";

    /// <summary>Those of them that are left out.</summary>
    public ImmutableArray<string> Except { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>networking.k8s.io/v1 NetworkPolicyPort.</summary>
public sealed record NetworkPolicyPort
{
    /// <summary>TCP, UDP or SCTP.</summary>
    public string Protocol { get; init => field = value ?? "TCP"; } = "TCP";

    /// <summary>The port or its name on the pod; empty for all ports.</summary>
    public IntOrString Port { get; init; }

    /// <summary>The last port of a range that begins with <see cref="Port"/>; null when it is one port.</summary>
    public int? EndPort { get; init; }
}
