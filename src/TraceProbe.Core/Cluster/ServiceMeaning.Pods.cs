using System.Globalization;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    /// <summary>Why a pod is not ready; null when it is.</summary>
    public static PodTrouble? ExplainPod(Pod pod)
    {
        ArgumentNullException.ThrowIfNull(pod);
        if (pod.Metadata.DeletionTimestamp is not null)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.Terminating, null, "it is being deleted");
        }

        if (pod.Status.Phase is "Succeeded" or "Failed")
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.Finished, null, $"it has ended ({pod.Status.Phase})");
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

        // The worst container speaks for the pod.
        PodTrouble? worst = null;
        foreach (var status in pod.Status.ContainerStatuses)
        {
            if (!status.Ready && ExplainContainer(pod, status) is { } trouble && (worst is null || trouble.Kind < worst.Kind))
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

        var ready = pod.Status.Conditions.FirstOrDefault(c => c.Type == "Ready");
        if (ready is { Reason: "ReadinessGatesNotReady" })
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.ReadinessGate, null, $"a readiness gate is not met{Because(ready)}");
        }

        // Without container states (a snapshot by hand, or a node just lost): the probe is the likeliest, but only named when there is one.
        var probed = pod.Spec.Containers.FirstOrDefault(c => c.ReadinessProbe is not null);
        return pod.Status.Phase == "Running" && probed is not null && pod.Status.ContainerStatuses.IsEmpty
            ? new PodTrouble(pod.Ref, PodTroubleKind.ProbeFailing, probed.Name, $"the readiness probe of container {probed.Name} ({Describe(probed.ReadinessProbe!)}) does not pass")
            : new PodTrouble(pod.Ref, PodTroubleKind.NotReady, null, $"its Ready condition is not True (phase {pod.Status.Phase ?? "not given"}){Because(ready)}");
    }

    /// <summary>What a probe does, in a few words: <c>HTTP GET /healthz on port 8080</c>.</summary>
    public static string Describe(Probe probe)
    {
        ArgumentNullException.ThrowIfNull(probe);
        return probe switch
        {
            { HttpGet: { } get } => $"HTTP GET {get.Path ?? "/"} on port {Plain(get.Port)}",
            { TcpSocket: { } socket } => $"TCP connect to port {Plain(socket.Port)}",
            { Exec: { } exec } => $"command {string.Join(' ', exec.Command)}",
            _ => "of a kind not read",
        };
    }

    private static PodTrouble? ExplainContainer(Pod pod, ContainerStatus status)
    {
        var container = pod.Spec.Containers.FirstOrDefault(c => c.Name == status.Name);
        var restarts = status.RestartCount switch
        {
            0 => "",
            1 => ", restarted once",
            var count => string.Create(CultureInfo.InvariantCulture, $", restarted {count} times"),
        };
        if (status.State.Waiting is { } waiting)
        {
            if (waiting.Reason == "CrashLoopBackOff")
            {
                return new PodTrouble(pod.Ref, PodTroubleKind.Crashing, status.Name, $"container {status.Name} keeps crashing{Ended(status.LastState.Terminated)}{restarts}");
            }

            return new PodTrouble(pod.Ref, PodTroubleKind.Waiting, status.Name, $"container {status.Name} waits: {waiting.Reason ?? "no reason given"}{(waiting.Message is null ? "" : $" ({waiting.Message})")}");
        }

        if (status.State.Terminated is { } terminated)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.Crashing, status.Name, $"container {status.Name} has ended{Ended(terminated)}{restarts}");
        }

        if (container?.ReadinessProbe is { } probe)
        {
            return new PodTrouble(pod.Ref, PodTroubleKind.ProbeFailing, status.Name, $"the readiness probe of container {status.Name} ({Describe(probe)}) does not pass{restarts}");
        }

        return status.State.Running is null ? null
            : new PodTrouble(pod.Ref, PodTroubleKind.NotReady, status.Name, $"container {status.Name} runs but is not ready{restarts}");
    }

    private static string Ended(ContainerStateDetail? ended)
        => ended is null ? "" : string.Create(CultureInfo.InvariantCulture, $" ({ended.Reason ?? "no reason given"}{(ended.ExitCode is { } code ? $", exit code {code}" : "")})");

    private static string Because(Condition? condition)
        => condition is null ? "" : condition.Message is { Length: > 0 } message ? $": {message}" : condition.Reason is { Length: > 0 } reason ? $": {reason}" : "";

    private static string Plain(IntOrString port) => port.Text ?? port.ToString();
}

/// <summary>Why a pod is not ready, the most telling first.</summary>
public enum PodTroubleKind
{
    /// <summary>A container ends again and again, or has ended.</summary>
    Crashing,

    /// <summary>A container waits to be started: its image, its configuration, its volumes.</summary>
    Waiting,

    /// <summary>A readiness probe does not pass.</summary>
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
public sealed record PodTrouble(ObjectRef Pod, PodTroubleKind Kind, string? Container, string Reason);
