using System.Globalization;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    // An event's message can quote whole answers of a server.
    private const int MostSaid = 300;

    /// <summary>
    /// Why a pod is not ready; null when it is. What says most comes first: that it is going or gone, that it never came to its node, that its node
    /// is lost, then its init containers, its containers, its readiness gates.
    /// </summary>
    /// <param name="snapshot">The cluster, for the pod's node and the warnings about it.</param>
    /// <param name="pod">The pod.</param>
    public static PodTrouble? ExplainPod(ClusterSnapshot snapshot, Pod pod)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(pod);
        if (pod.Metadata.DeletionTimestamp is not null)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.Terminating, null, $"it is being deleted{(LostNode(snapshot, pod) is { } lost ? $", and {lost}" : "")}");
        }

        if (pod.Status.Phase is "Succeeded" or "Failed")
        {
            var why = pod.Status.Reason is { Length: > 0 } reason ? $", {reason}{Said(pod.Status.Message)}" : "";
            return new PodTrouble(pod.Ref, PodTroubleKind.Finished, null, $"it has ended ({pod.Status.Phase}{why})");
        }

        if (pod.IsReady)
        {
            return null;
        }

        if (pod.Spec.NodeName is null)
        {
            var scheduled = pod.Status.Conditions.FirstOrDefault(c => c.Type == "PodScheduled" && c.Status == "False");
            return new PodTrouble(pod.Ref, PodTroubleKind.NotScheduled, null, $"no node takes it{Because(scheduled)}");
        }

        if (LostNode(snapshot, pod) is { } node)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.NodeLost, null, node);
        }

        // Until they are through, the containers only wait for them.
        if (ExplainInit(snapshot, pod) is { } init)
        {
            return init;
        }

        // The worst container speaks for the pod.
        PodTrouble? worst = null;
        foreach (var status in pod.Status.ContainerStatuses.Concat(pod.Status.InitContainerStatuses.Where(s => pod.Spec.InitContainers.Any(c => c.Name == s.Name && c.IsSidecar))))
        {
            if (!status.Ready && ExplainContainer(snapshot, pod, status) is { } trouble && (worst is null || trouble.Kind < worst.Kind))
            {
                worst = trouble;
            }
        }

        if (worst is not null)
        {
            return worst;
        }

        if (pod.Status.Phase == "Unknown")
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.NodeLost, null, $"its node {pod.Spec.NodeName} does not report any more");
        }

        foreach (var gate in pod.Spec.ReadinessGates)
        {
            var condition = pod.Status.Conditions.FirstOrDefault(c => c.Type == gate.ConditionType);
            if (condition?.Status != "True")
            {
                return new PodTrouble(pod.Ref, PodTroubleKind.ReadinessGate, null, $"its readiness gate {gate.ConditionType} is {(condition is null ? "not set" : condition.Status)}{Because(condition)}");
            }
        }

        var ready = pod.Status.Conditions.FirstOrDefault(c => c.Type == "Ready");
        if (ready is { Reason: "ReadinessGatesNotReady" })
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.ReadinessGate, null, $"a readiness gate is not met{Because(ready)}");
        }

        // Without container states (a snapshot by hand, or a node just lost): the probe is the likeliest, but only named when there is one.
        var probed = pod.Spec.Containers.FirstOrDefault(c => c.ReadinessProbe is not null);
        if (pod.Status.Phase == "Running" && probed is not null && pod.Status.ContainerStatuses.IsEmpty)
        {
            return OfProbe(snapshot, pod, probed, probed.ReadinessProbe!, "readiness", "Readiness", "");
        }

        var warned = pod.Status.ContainerStatuses.IsEmpty ? snapshot.EventsOf(pod).FirstOrDefault() : null;
        return new PodTrouble(pod.Ref, PodTroubleKind.NotReady, null,
            $"its Ready condition is not True (phase {pod.Status.Phase ?? "not given"}){Because(ready)}{(warned is null ? "" : $"; last warned: {warned.Reason}{Said(warned.Message)}")}");
    }

    /// <summary>What a probe does, in a few words: <c>HTTP GET /healthz on port 8080</c>.</summary>
    /// <param name="probe">The probe.</param>
    public static string Describe(Probe probe)
    {
        ArgumentNullException.ThrowIfNull(probe);
        return probe switch
        {
            { HttpGet: { } get } => $"{(get.Scheme == "HTTPS" ? "HTTPS" : "HTTP")} GET {get.Path ?? "/"} on port {Plain(get.Port)}{(get.Host is { Length: > 0 } host ? $" of {host}" : "")}",
            { TcpSocket: { } socket } => $"TCP connect to port {Plain(socket.Port)}",
            { Grpc: { } grpc } => string.Create(CultureInfo.InvariantCulture, $"gRPC health check on port {grpc.Port}{(grpc.Service is { Length: > 0 } service ? $" of {service}" : "")}"),
            { Exec: { } exec } => $"command {string.Join(' ', exec.Command)}",
            _ => "of a kind not read",
        };
    }

    /// <summary>The port of the pod that a probe asks; null when it asks none, asks another host, or names a port that its container does not have.</summary>
    /// <param name="container">The probe's container.</param>
    /// <param name="probe">The probe.</param>
    public static int? PortOf(Container container, Probe probe)
    {
        ArgumentNullException.ThrowIfNull(container);
        ArgumentNullException.ThrowIfNull(probe);
        var port = probe switch
        {
            { HttpGet: { Host: null or "" } get } => get.Port,
            { TcpSocket: { } socket } => socket.Port,
            { Grpc: { } grpc } => grpc.Port,
            _ => default,
        };
        return port.Text is { } name ? container.Ports.FirstOrDefault(p => p.Name == name)?.Port : port.Number;
    }

    private static string? LostNode(ClusterSnapshot snapshot, Pod pod)
        => pod.Spec.NodeName is { } name && snapshot.FindNode(name)?.Status.Conditions.FirstOrDefault(c => c.Type == "Ready") is { Status: not "True" } condition
            ? $"its node {name} {(condition.Status == "Unknown" ? "does not report any more" : "is not ready")}{Because(condition)}" : null;

    private static PodTrouble? ExplainInit(ClusterSnapshot snapshot, Pod pod)
    {
        foreach (var container in pod.Spec.InitContainers)
        {
            if (pod.Status.InitContainerStatuses.FirstOrDefault(s => s.Name == container.Name) is not { } status)
            {
                continue;
            }

            // A sidecar lets the next one go on once it has started.
            if (container.IsSidecar ? status.Started == true || status.Ready : status.State.Terminated is { ExitCode: 0 or null })
            {
                continue;
            }

            var trouble = ExplainContainer(snapshot, pod, status);
            return trouble is { Kind: PodTroubleKind.Crashing or PodTroubleKind.Waiting or PodTroubleKind.ProbeFailing } ? trouble with { Reason = $"it is not through with its init containers: {trouble.Reason}" }
                : status.State.Running is null ? null
                : new PodTrouble(pod.Ref, PodTroubleKind.Waiting, status.Name, $"its init container {status.Name} has not come to an end yet");
        }

        return null;
    }

    private static PodTrouble? ExplainContainer(ClusterSnapshot snapshot, Pod pod, ContainerStatus status)
    {
        var container = pod.Spec.Containers.Concat(pod.Spec.InitContainers).FirstOrDefault(c => c.Name == status.Name);
        var restarts = status.RestartCount switch
        {
            0 => "",
            1 => ", restarted once",
            var count => string.Create(CultureInfo.InvariantCulture, $", restarted {count} times"),
        };
        if (status.State.Waiting is { } waiting)
        {
            switch (waiting.Reason)
            {
                case "CrashLoopBackOff":
                    return new PodTrouble(pod.Ref, PodTroubleKind.Crashing, status.Name, $"container {status.Name} keeps crashing{Ended(status.LastState.Terminated)}{KilledByProbe(snapshot, pod, container)}{restarts}");
                case "ErrImagePull" or "ImagePullBackOff" or "InvalidImageName" or "ErrImageNeverPull" or "RegistryUnavailable" or "ImageInspectError":
                    return new PodTrouble(pod.Ref, PodTroubleKind.Waiting, status.Name, $"the image {container?.Image ?? "(not given)"} of container {status.Name} cannot be had: {waiting.Reason}{Said(PullError(snapshot, pod, status.Name) ?? waiting.Message)}");
                case "ContainerCreating" or "PodInitializing" or null when snapshot.EventsOf(pod).FirstOrDefault(e => e.Reason is { } r && r.StartsWith("Failed", StringComparison.Ordinal)) is { } failed:
                    return new PodTrouble(pod.Ref, PodTroubleKind.Waiting, status.Name, $"container {status.Name} waits: {failed.Reason}{Said(failed.Message)}");
                default:
                    return new PodTrouble(pod.Ref, PodTroubleKind.Waiting, status.Name, $"container {status.Name} waits: {waiting.Reason ?? "no reason given"}{(waiting.Message is null ? "" : $" ({Short(waiting.Message)})")}");
            }
        }

        if (status.State.Terminated is { } terminated)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.Crashing, status.Name, $"container {status.Name} has ended{Ended(terminated)}{KilledByProbe(snapshot, pod, container)}{restarts}");
        }

        if (container?.StartupProbe is { } startup && status.Started == false)
        {
            return OfProbe(snapshot, pod, container, startup, "startup", "Startup", restarts);
        }

        if (container?.ReadinessProbe is { } readiness)
        {
            return OfProbe(snapshot, pod, container, readiness, "readiness", "Readiness", restarts);
        }

        return status.State.Running is null ? null
            : new PodTrouble(pod.Ref, PodTroubleKind.NotReady, status.Name, $"container {status.Name} runs but is not ready{restarts}");
    }

    private static PodTrouble OfProbe(ClusterSnapshot snapshot, Pod pod, Container container, Probe probe, string kind, string prefix, string restarts)
    {
        var said = LastSaid(snapshot, pod, container.Name, prefix);
        var unnamed = (probe.HttpGet?.Port.Text ?? probe.TcpSocket?.Port.Text) is { } name && !container.Ports.Any(p => p.Name == name) ? ", and the container has no port of that name" : "";
        return new PodTrouble(pod.Ref, PodTroubleKind.ProbeFailing, container.Name, $"the {kind} probe of container {container.Name} ({Describe(probe)}) does not pass{Said(said)}{unnamed}{restarts}")
        {
            Probe = probe,
        };
    }

    // Unhealthy: "Readiness probe failed: HTTP probe failed with statuscode: 503"; "errored" when it could not even be made.
    private static string? LastSaid(ClusterSnapshot snapshot, Pod pod, string container, string prefix)
    {
        foreach (var warning in snapshot.EventsOf(pod))
        {
            if (warning is { Reason: "Unhealthy" or "ProbeWarning", Message: { } message } && (warning.Container is null || warning.Container == container)
                && message.StartsWith(prefix, StringComparison.Ordinal) && message.IndexOf(": ", StringComparison.Ordinal) is > 0 and var colon)
            {
                return message[(colon + 2)..];
            }
        }

        return null;
    }

    // A kubelet that restarts a container for its liveness or startup probe says so nowhere else.
    private static string KilledByProbe(ClusterSnapshot snapshot, Pod pod, Container? container)
    {
        foreach (var (probe, prefix) in new[] { (container?.LivenessProbe, "Liveness"), (container?.StartupProbe, "Startup") })
        {
            if (probe is not null && LastSaid(snapshot, pod, container!.Name, prefix) is { } said)
            {
                return $"; its {prefix.ToLowerInvariant()} probe ({Describe(probe)}) fails{Said(said)}";
            }
        }

        return "";
    }

    // "Back-off pulling image" says nothing; what the registry said stands in an earlier warning.
    private static string? PullError(ClusterSnapshot snapshot, Pod pod, string container)
        => snapshot.EventsOf(pod).FirstOrDefault(e => e is { Reason: "Failed", Message: { } message } && message.StartsWith("Failed to pull", StringComparison.Ordinal) && (e.Container is null || e.Container == container))?.Message;

    private static string Ended(ContainerStateDetail? ended)
    {
        if (ended is null)
        {
            return "";
        }

        var signal = ended.Signal is > 0 and var told ? told : ended.ExitCode is > 128 and <= 160 and var code ? code - 128 : 0;
        var name = signal switch
        {
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            _ => null,
        };
        return string.Create(CultureInfo.InvariantCulture, $" ({ended.Reason ?? "no reason given"}{(ended.ExitCode is { } exit ? $", exit code {exit}" : "")}{(name is null || ended.Reason == "OOMKilled" ? "" : $" by {name}")})");
    }

    private static string Because(Condition? condition)
        => condition is null ? "" : condition.Message is { Length: > 0 } message ? $": {Short(message)}" : condition.Reason is { Length: > 0 } reason ? $": {reason}" : "";

    private static string Said(string? text) => string.IsNullOrWhiteSpace(text) ? "" : $": {Short(text)}";

    private static string Short(string text)
    {
        var line = text.ReplaceLineEndings(" ").Trim();
        return line.Length <= MostSaid ? line : line[..MostSaid] + "…";
    }

    private static string Plain(IntOrString port) => port.Text ?? port.ToString();
}

/// <summary>Why a pod is not ready, the most telling first.</summary>
public enum PodTroubleKind
{
    /// <summary>A container ends again and again, or has ended.</summary>
    Crashing,

    /// <summary>A container waits to be started: its image, its configuration, its volumes, its network, the init containers before it.</summary>
    Waiting,

    /// <summary>A readiness or startup probe does not pass.</summary>
    ProbeFailing,

    /// <summary>No node was found for it.</summary>
    NotScheduled,

    /// <summary>It is being deleted.</summary>
    Terminating,

    /// <summary>It has run to its end.</summary>
    Finished,

    /// <summary>Its node does not report any more.</summary>
    NodeLost,

    /// <summary>A readiness gate is not met.</summary>
    ReadinessGate,

    /// <summary>Nothing more than that its condition says so.</summary>
    NotReady,
}

/// <summary>Why one pod is not ready.</summary>
/// <param name="Pod">The pod.</param>
/// <param name="Kind">The kind of reason.</param>
/// <param name="Container">The container it is about; null when it is about none.</param>
/// <param name="Reason">Half a sentence for people, such as <c>the readiness probe of container web (HTTP GET / on port 80) does not pass</c>.</param>
public sealed record PodTrouble(ObjectRef Pod, PodTroubleKind Kind, string? Container, string Reason)
{
    /// <summary>The probe that does not pass; null when it is about none.</summary>
    public Probe? Probe { get; init; }
}
