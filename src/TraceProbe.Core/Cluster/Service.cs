using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A core/v1 Service: the fields TraceProbe uses.</summary>
public sealed record Service
{
    /// <summary>Name, namespace, labels.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>What is wanted.</summary>
    public ServiceSpec Spec { get; init => field = value ?? new(); } = new();

    /// <summary>What the load balancer gave.</summary>
    public ServiceStatus Status { get; init => field = value ?? new(); } = new();

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("service", Metadata.Namespace ?? "default", Metadata.Name);
}

/// <summary>core/v1 ServiceSpec.</summary>
public sealed record ServiceSpec
{
    /// <summary>ClusterIP, NodePort, LoadBalancer or ExternalName.</summary>
    public string Type { get; init => field = value ?? "ClusterIP"; } = "ClusterIP";

    /// <summary>The first cluster address; <c>None</c> for a headless Service, empty or null for ExternalName.</summary>
    public string? ClusterIP { get; init; }

    /// <summary>All cluster addresses (dual stack has two).</summary>
    public ImmutableArray<string> ClusterIPs { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Addresses outside the cluster's care that nodes answer to.</summary>
    public ImmutableArray<string> ExternalIPs { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The name that an ExternalName Service stands for.</summary>
    public string? ExternalName { get; init; }

    /// <summary>The ports.</summary>
    public ImmutableArray<ServicePort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The labels a pod must carry; empty when endpoints are managed by hand.</summary>
    public ImmutableSortedDictionary<string, string> Selector { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary><c>None</c> or <c>ClientIP</c>.</summary>
    public string SessionAffinity { get; init => field = value ?? "None"; } = "None";

    /// <summary>Details of the affinity.</summary>
    public SessionAffinityConfig? SessionAffinityConfig { get; init; }

    /// <summary><c>Cluster</c> or <c>Local</c>; null where it does not apply.</summary>
    public string? ExternalTrafficPolicy { get; init; }

    /// <summary><c>Cluster</c> or <c>Local</c>.</summary>
    public string? InternalTrafficPolicy { get; init; }

    /// <summary>The port of the health check for externalTrafficPolicy Local; 0 when there is none.</summary>
    public int HealthCheckNodePort { get; init; }

    /// <summary>Who may use the load balancer address; empty for everyone.</summary>
    public ImmutableArray<string> LoadBalancerSourceRanges { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>IPv4, IPv6.</summary>
    public ImmutableArray<string> IpFamilies { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary><c>PreferClose</c>, <c>PreferSameZone</c> or <c>PreferSameNode</c>; null for no preference.</summary>
    public string? TrafficDistribution { get; init; }

    /// <summary>Whether pods that are not ready are published in DNS and endpoints.</summary>
    public bool PublishNotReadyAddresses { get; init; }

    /// <summary>Whether there is a cluster address at all and it is <c>None</c>.</summary>
    public bool IsHeadless => ClusterIP == "None";
}

/// <summary>core/v1 SessionAffinityConfig.</summary>
public sealed record SessionAffinityConfig
{
    /// <summary>For affinity by client address.</summary>
    public ClientIPConfig? ClientIP { get; init; }
}

/// <summary>core/v1 ClientIPConfig.</summary>
public sealed record ClientIPConfig
{
    /// <summary>How long a client sticks to its backend, in seconds (default 10800).</summary>
    public int? TimeoutSeconds { get; init; }
}

/// <summary>core/v1 ServicePort.</summary>
public sealed record ServicePort
{
    /// <summary>The port's name; null when the Service has one port only.</summary>
    public string? Name { get; init; }

    /// <summary>TCP, UDP or SCTP.</summary>
    public string Protocol { get; init => field = value ?? "TCP"; } = "TCP";

    /// <summary>The port clients use, 1 to 65535.</summary>
    public int Port { get; init; }

    /// <summary>The port on the pods, or the name of one; empty means the same as <see cref="Port"/>.</summary>
    public IntOrString TargetPort { get; init; }

    /// <summary>The port on every node; 0 when there is none.</summary>
    public int NodePort { get; init; }

    /// <summary>The application protocol hint; null when none is given.</summary>
    public string? AppProtocol { get; init; }
}

/// <summary>core/v1 ServiceStatus.</summary>
public sealed record ServiceStatus
{
    /// <summary>What the load balancer gave.</summary>
    public LoadBalancerStatus LoadBalancer { get; init => field = value ?? new(); } = new();
}

/// <summary>core/v1 LoadBalancerStatus.</summary>
public sealed record LoadBalancerStatus
{
    /// <summary>The addresses.</summary>
    public ImmutableArray<LoadBalancerIngress> Ingress { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 LoadBalancerIngress.</summary>
public sealed record LoadBalancerIngress
{
    /// <summary>An address; null when the balancer has only a name.</summary>
    public string? Ip { get; init; }

    /// <summary>A name; null when the balancer has an address.</summary>
    public string? Hostname { get; init; }

    /// <summary><c>VIP</c> or <c>Proxy</c>; null means VIP.</summary>
    public string? IpMode { get; init; }
}
