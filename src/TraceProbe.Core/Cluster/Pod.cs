using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A core/v1 Pod: the fields TraceProbe uses.</summary>
public sealed record Pod
{
    /// <summary>Name, namespace, labels, owners.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>What is wanted.</summary>
    public PodSpec Spec { get; init => field = value ?? new(); } = new();

    /// <summary>What is.</summary>
    public PodStatus Status { get; init => field = value ?? new(); } = new();

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("pod", Metadata.Namespace ?? "default", Metadata.Name);

    /// <summary>Whether the pod's Ready condition is True.</summary>
    public bool IsReady => Status.Conditions.Any(c => c.Type == "Ready" && c.Status == "True");
}

/// <summary>core/v1 PodSpec.</summary>
public sealed record PodSpec
{
    /// <summary>The node it runs on; null while not scheduled.</summary>
    public string? NodeName { get; init; }

    /// <summary>Whether it shares the node's network namespace.</summary>
    public bool HostNetwork { get; init; }

    /// <summary>ClusterFirst, ClusterFirstWithHostNet, Default or None.</summary>
    public string DnsPolicy { get; init => field = value ?? "ClusterFirst"; } = "ClusterFirst";

    /// <summary>Additions to the pod's resolv.conf.</summary>
    public PodDnsConfig? DnsConfig { get; init; }

    /// <summary>The containers.</summary>
    public ImmutableArray<Container> Containers { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The containers that run before these, one after the other, or beside them when their restart policy is Always (sidecars).</summary>
    public ImmutableArray<Container> InitContainers { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The first part of the pod's own name in DNS; null when it has none.</summary>
    public string? Hostname { get; init; }

    /// <summary>The headless Service that its own name is under; null when it has none.</summary>
    public string? Subdomain { get; init; }

    /// <summary>Lines that the kubelet adds to the pod's hosts file.</summary>
    public ImmutableArray<HostAlias> HostAliases { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Further conditions that must be True for the pod to be ready.</summary>
    public ImmutableArray<PodReadinessGate> ReadinessGates { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The containers that answer while the pod runs: <see cref="Containers"/>, then the sidecars among <see cref="InitContainers"/>.</summary>
    public IEnumerable<Container> LastingContainers => InitContainers.IsEmpty ? Containers : Containers.Concat(InitContainers.Where(c => c.IsSidecar));
}

/// <summary>core/v1 HostAlias.</summary>
public sealed record HostAlias
{
    /// <summary>The address.</summary>
    public string Ip { get; init => field = value ?? ""; } = "";

    /// <summary>The names that it gets.</summary>
    public ImmutableArray<string> Hostnames { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 PodReadinessGate.</summary>
/// <param name="ConditionType">The condition's type.</param>
public sealed record PodReadinessGate(string ConditionType);

/// <summary>core/v1 PodDNSConfig.</summary>
public sealed record PodDnsConfig
{
    /// <summary>Resolvers.</summary>
    public ImmutableArray<string> Nameservers { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Search domains.</summary>
    public ImmutableArray<string> Searches { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Resolver options.</summary>
    public ImmutableArray<PodDnsConfigOption> Options { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 PodDNSConfigOption.</summary>
/// <param name="Name">The option, such as <c>ndots</c>.</param>
/// <param name="Value">Its value; null for options without one.</param>
public sealed record PodDnsConfigOption(string Name, string? Value);

/// <summary>core/v1 Container.</summary>
public sealed record Container
{
    /// <summary>The container's name.</summary>
    public string Name { get; init => field = value ?? ""; } = "";

    /// <summary>Its image.</summary>
    public string? Image { get; init; }

    /// <summary>Declared ports: names are used for named target ports, numbers are informational only.</summary>
    public ImmutableArray<ContainerPort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The readiness probe; null when there is none.</summary>
    public Probe? ReadinessProbe { get; init; }

    /// <summary>The liveness probe, which restarts the container; null when there is none.</summary>
    public Probe? LivenessProbe { get; init; }

    /// <summary>The startup probe, which holds the other probes back until it has passed once; null when there is none.</summary>
    public Probe? StartupProbe { get; init; }

    /// <summary>Always for a sidecar among the init containers; null for all others.</summary>
    public string? RestartPolicy { get; init; }

    /// <summary>Whether an init container keeps running beside the containers (Kubernetes 1.28 and later).</summary>
    public bool IsSidecar => RestartPolicy == "Always";
}

/// <summary>core/v1 ContainerPort.</summary>
public sealed record ContainerPort
{
    /// <summary>The port's name.</summary>
    public string? Name { get; init; }

    /// <summary>The port.</summary>
    public int Port { get; init; }

    /// <summary>TCP, UDP or SCTP.</summary>
    public string Protocol { get; init => field = value ?? "TCP"; } = "TCP";
}

/// <summary>core/v1 Probe: what a verdict says of it.</summary>
public sealed record Probe
{
    /// <summary>An HTTP GET.</summary>
    public HttpGetAction? HttpGet { get; init; }

    /// <summary>A TCP connect.</summary>
    public TcpSocketAction? TcpSocket { get; init; }

    /// <summary>A command.</summary>
    public ExecAction? Exec { get; init; }

    /// <summary>A question by gRPC.</summary>
    public GrpcAction? Grpc { get; init; }

    /// <summary>How long the kubelet waits before the first attempt, in seconds; null for 0.</summary>
    public int? InitialDelaySeconds { get; init; }

    /// <summary>How long an attempt may take, in seconds; null for 1.</summary>
    public int? TimeoutSeconds { get; init; }

    /// <summary>How far apart attempts are, in seconds; null for 10.</summary>
    public int? PeriodSeconds { get; init; }

    /// <summary>How many attempts in a row must fail; null for 3.</summary>
    public int? FailureThreshold { get; init; }
}

/// <summary>core/v1 HTTPGetAction.</summary>
public sealed record HttpGetAction
{
    /// <summary>The path.</summary>
    public string? Path { get; init; }

    /// <summary>The port or its name.</summary>
    public IntOrString Port { get; init; }

    /// <summary>HTTP or HTTPS; null for HTTP.</summary>
    public string? Scheme { get; init; }

    /// <summary>The host to ask in the place of the pod; null for the pod.</summary>
    public string? Host { get; init; }
}

/// <summary>core/v1 GRPCAction (grpc.health.v1).</summary>
public sealed record GrpcAction
{
    /// <summary>The port.</summary>
    public int Port { get; init; }

    /// <summary>The service that is asked for; null for the server as a whole.</summary>
    public string? Service { get; init; }
}

/// <summary>core/v1 TCPSocketAction.</summary>
public sealed record TcpSocketAction
{
    /// <summary>The port or its name.</summary>
    public IntOrString Port { get; init; }
}

/// <summary>core/v1 ExecAction.</summary>
public sealed record ExecAction
{
    /// <summary>The command and its arguments.</summary>
    public ImmutableArray<string> Command { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>core/v1 PodStatus.</summary>
public sealed record PodStatus
{
    /// <summary>Pending, Running, Succeeded, Failed or Unknown.</summary>
    public string? Phase { get; init; }

    /// <summary>The first address.</summary>
    public string? PodIP { get; init; }

    /// <summary>All addresses.</summary>
    public ImmutableArray<PodIP> PodIPs { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The node's address.</summary>
    public string? HostIP { get; init; }

    /// <summary>Conditions.</summary>
    public ImmutableArray<Condition> Conditions { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The containers' states.</summary>
    public ImmutableArray<ContainerStatus> ContainerStatuses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The states of those that run before them.</summary>
    public ImmutableArray<ContainerStatus> InitContainerStatuses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>A word for the pod's state, such as <c>Evicted</c>; null mostly.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence for it.</summary>
    public string? Message { get; init; }
}

/// <summary>core/v1 PodIP.</summary>
/// <param name="Ip">The address.</param>
public sealed record PodIP(string Ip);

/// <summary>metav1.Condition, core/v1 PodCondition and NodeCondition: what they share.</summary>
public sealed record Condition
{
    /// <summary>What it is of, such as <c>Ready</c>.</summary>
    public string Type { get; init => field = value ?? ""; } = "";

    /// <summary>True, False or Unknown.</summary>
    public string Status { get; init => field = value ?? ""; } = "";

    /// <summary>A word for why.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence for why.</summary>
    public string? Message { get; init; }
}

/// <summary>core/v1 ContainerStatus.</summary>
public sealed record ContainerStatus
{
    /// <summary>The container's name.</summary>
    public string Name { get; init => field = value ?? ""; } = "";

    /// <summary>Whether its readiness probe passes.</summary>
    public bool Ready { get; init; }

    /// <summary>Whether its startup probe has passed; null when not told.</summary>
    public bool? Started { get; init; }

    /// <summary>How often it was restarted.</summary>
    public int RestartCount { get; init; }

    /// <summary>Its state now.</summary>
    public ContainerState State { get; init => field = value ?? new(); } = new();

    /// <summary>Its state before the last restart.</summary>
    public ContainerState LastState { get; init => field = value ?? new(); } = new();
}

/// <summary>core/v1 ContainerState: at most one is given.</summary>
public sealed record ContainerState
{
    /// <summary>It runs.</summary>
    public ContainerStateDetail? Running { get; init; }

    /// <summary>It waits.</summary>
    public ContainerStateDetail? Waiting { get; init; }

    /// <summary>It ended.</summary>
    public ContainerStateDetail? Terminated { get; init; }
}

/// <summary>What the container states share.</summary>
public sealed record ContainerStateDetail
{
    /// <summary>A word for why, such as <c>CrashLoopBackOff</c>.</summary>
    public string? Reason { get; init; }

    /// <summary>A sentence for why.</summary>
    public string? Message { get; init; }

    /// <summary>The exit code of an ended container.</summary>
    public int? ExitCode { get; init; }

    /// <summary>The signal that ended it, where the runtime tells one; null or 0 otherwise.</summary>
    public int? Signal { get; init; }

    /// <summary>When it began to run; null for a waiting container.</summary>
    public DateTimeOffset? StartedAt { get; init; }

    /// <summary>When it ended; null for others.</summary>
    public DateTimeOffset? FinishedAt { get; init; }
}
