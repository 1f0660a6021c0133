using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Tests.Meaning;

/// <summary>Why a pod is not ready, in the states that kubelets and schedulers really report.</summary>
public sealed class PodTroubleTests
{
    private static readonly Probe Http = new() { HttpGet = new HttpGetAction { Path = "/ok", Port = 8080 } };

    private static readonly Pod Running = new()
    {
        Metadata = new ObjectMeta { Name = "web-1", Namespace = "shop", Uid = "u1" },
        Spec = new PodSpec { NodeName = "n1", Containers = [new Container { Name = "web", Image = "registry.example/web:1", ReadinessProbe = Http }] },
        Status = new PodStatus
        {
            Phase = "Running",
            Conditions = [new Condition { Type = "Ready", Status = "False", Reason = "ContainersNotReady", Message = "containers with unready status: [web]" }],
            ContainerStatuses = [new ContainerStatus { Name = "web", State = new ContainerState { Running = new() }, Started = true }],
        },
    };

    private static Pod With(ContainerState state, ContainerState? last = null, int restarts = 0, Func<Container, Container>? container = null) => Running with
    {
        Spec = Running.Spec with { Containers = [(container ?? (c => c))(Running.Spec.Containers[0])] },
        Status = Running.Status with { ContainerStatuses = [new ContainerStatus { Name = "web", State = state, LastState = last ?? new(), RestartCount = restarts }] },
    };

    private static ContainerState Waiting(string? reason, string? message = null) => new() { Waiting = new() { Reason = reason, Message = message } };

    private static ContainerState Ended(string reason, int code) => new() { Terminated = new() { Reason = reason, ExitCode = code } };

    private static PodEvent Warning(string reason, string message, int minute = 0, string? fieldPath = null, string? uid = "u1") => new()
    {
        Metadata = new ObjectMeta { Name = $"e{minute}", Namespace = "shop" },
        InvolvedObject = new ObjectReference { Kind = "Pod", Namespace = "shop", Name = "web-1", Uid = uid, FieldPath = fieldPath },
        Type = "Warning",
        Reason = reason,
        Message = message,
        LastTimestamp = new DateTimeOffset(2026, 1, 2, 3, minute, 0, TimeSpan.Zero),
    };

    private static PodTrouble? Explain(Pod pod, params PodEvent[] events) => ServiceMeaning.ExplainPod(new ClusterSnapshot { Events = [.. events] }, pod);

    [Fact]
    public void ReadinessProbe_IsNamedWithWhatItLastSaid()
    {
        var silent = Explain(Running)!;
        (silent.Kind, silent.Container, silent.Probe).ShouldBe((PodTroubleKind.ProbeFailing, "web", Http));
        silent.Reason.ShouldBe("the readiness probe of container web (HTTP GET /ok on port 8080) does not pass");
        Explain(Running,
            Warning("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404", 1),
            Warning("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", 2, "spec.containers{web}"),
            Warning("Unhealthy", "Readiness probe failed: of another container", 3, "spec.containers{other}"),
            Warning("Unhealthy", "Readiness probe failed: of its predecessor", 4, null, "u0"),
            Warning("Unhealthy", "Liveness probe failed: something else", 5))!
            .Reason.ShouldBe("the readiness probe of container web (HTTP GET /ok on port 8080) does not pass: HTTP probe failed with statuscode: 503");
        Explain(Running with { Status = Running.Status with { Conditions = [new Condition { Type = "Ready", Status = "True" }] } }).ShouldBeNull();
    }

    [Theory]
    [InlineData("tcp", "TCP connect to port 5432")]
    [InlineData("https", "HTTPS GET /live on port admin of example.org")]
    [InlineData("grpc", "gRPC health check on port 9000 of db")]
    [InlineData("exec", "command pg_isready -q")]
    [InlineData("other", "of a kind not read")]
    public void ProbesOfAllKinds_AreToldInWords(string kind, string words) => ServiceMeaning.Describe(kind switch
    {
        "tcp" => new Probe { TcpSocket = new TcpSocketAction { Port = 5432 } },
        "https" => new Probe { HttpGet = new HttpGetAction { Path = "/live", Port = "admin", Scheme = "HTTPS", Host = "example.org" } },
        "grpc" => new Probe { Grpc = new GrpcAction { Port = 9000, Service = "db" } },
        "exec" => new Probe { Exec = new ExecAction { Command = ["pg_isready", "-q"] } },
        _ => new Probe(),
    }).ShouldBe(words);

    [Fact]
    public void ProbeOfAPortNameNobodyHas_SaysSo()
    {
        var pod = With(new ContainerState { Running = new() }, container: c => c with { ReadinessProbe = new Probe { HttpGet = new HttpGetAction { Path = "/", Port = "htttp" } }, Ports = [new ContainerPort { Name = "http", Port = 80 }] });
        Explain(pod)!.Reason.ShouldBe("the readiness probe of container web (HTTP GET / on port htttp) does not pass, and the container has no port of that name");
        ServiceMeaning.PortOf(pod.Spec.Containers[0], new Probe { TcpSocket = new TcpSocketAction { Port = "http" } }).ShouldBe(80);
        ServiceMeaning.PortOf(pod.Spec.Containers[0], new Probe { HttpGet = new HttpGetAction { Port = 80, Host = "example.org" } }).ShouldBeNull();
    }

    [Fact]
    public void StartupProbe_HoldsTheReadinessProbeBack()
    {
        var pod = With(new ContainerState { Running = new() }, container: c => c with { StartupProbe = new Probe { Exec = new ExecAction { Command = ["/started"] } } });
        pod = pod with { Status = pod.Status with { ContainerStatuses = [pod.Status.ContainerStatuses[0] with { Started = false }] } };
        Explain(pod, Warning("Unhealthy", "Startup probe failed: not yet"))!.Reason.ShouldBe("the startup probe of container web (command /started) does not pass: not yet");
    }

    [Theory]
    [InlineData("OOMKilled", 137, "container web keeps crashing (OOMKilled, exit code 137), restarted 7 times")]
    [InlineData("Error", 139, "container web keeps crashing (Error, exit code 139 by SIGSEGV), restarted 7 times")]
    [InlineData("Error", 1, "container web keeps crashing (Error, exit code 1), restarted 7 times")]
    public void CrashLoop_SaysHowItEnded(string reason, int code, string words)
        => Explain(With(Waiting("CrashLoopBackOff", "back-off 5m0s restarting"), Ended(reason, code), 7))!.ShouldBe(new PodTrouble(Running.Ref, PodTroubleKind.Crashing, "web", words));

    [Fact]
    public void RestartedForItsLivenessProbe_IsNoCrashOfItsOwn()
        => Explain(With(Waiting("CrashLoopBackOff"), Ended("Error", 143), 4, c => c with { LivenessProbe = new Probe { TcpSocket = new TcpSocketAction { Port = 9 } } }),
            Warning("Unhealthy", "Liveness probe failed: dial tcp 10.0.0.1:9: connect: connection refused"))!
            .Reason.ShouldBe("container web keeps crashing (Error, exit code 143 by SIGTERM); its liveness probe (TCP connect to port 9) fails: dial tcp 10.0.0.1:9: connect: connection refused, restarted 4 times");

    [Fact]
    public void ImageThatCannotBePulled_SaysWhatTheRegistrySaid()
    {
        Explain(With(Waiting("ImagePullBackOff", "Back-off pulling image \"registry.example/web:1\"")))!.Reason
            .ShouldBe("the image registry.example/web:1 of container web cannot be had: ImagePullBackOff: Back-off pulling image \"registry.example/web:1\"");
        Explain(With(Waiting("ImagePullBackOff", "Back-off pulling image")), Warning("Failed", "Error: ImagePullBackOff", 2), Warning("Failed", "Failed to pull image \"x\": not found", 1))!.Reason
            .ShouldBe("the image registry.example/web:1 of container web cannot be had: ImagePullBackOff: Failed to pull image \"x\": not found");
    }

    [Fact]
    public void PodWithoutANetwork_SaysWhatTheNetworkPluginSaid()
    {
        Explain(With(Waiting("ContainerCreating")), Warning("FailedCreatePodSandBox", "Failed to create pod sandbox: rpc error: plugin type=\"bridge\" failed (add): no IP addresses available"))!.ShouldBe(
            new PodTrouble(Running.Ref, PodTroubleKind.Waiting, "web", "container web waits: FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: plugin type=\"bridge\" failed (add): no IP addresses available"));
        Explain(With(Waiting("CreateContainerConfigError", "configmap \"web\" not found")))!.Reason.ShouldBe("container web waits: CreateContainerConfigError (configmap \"web\" not found)");
    }

    [Fact]
    public void InitContainerThatFails_IsNamedBeforeThoseThatWaitForIt()
    {
        var pod = With(Waiting("PodInitializing")) with { };
        pod = pod with
        {
            Spec = pod.Spec with { InitContainers = [new Container { Name = "done" }, new Container { Name = "migrate" }] },
            Status = pod.Status with
            {
                InitContainerStatuses =
                [
                    new ContainerStatus { Name = "done", State = Ended("Completed", 0) },
                    new ContainerStatus { Name = "migrate", RestartCount = 2, State = Waiting("CrashLoopBackOff"), LastState = Ended("Error", 1) },
                ],
            },
        };
        Explain(pod)!.Reason.ShouldBe("it is not through with its init containers: container migrate keeps crashing (Error, exit code 1), restarted 2 times");
        pod = pod with { Status = pod.Status with { InitContainerStatuses = [pod.Status.InitContainerStatuses[0], new ContainerStatus { Name = "migrate", State = new ContainerState { Running = new() } }] } };
        Explain(pod)!.Reason.ShouldBe("its init container migrate has not come to an end yet");
    }

    [Fact]
    public void SidecarsReadiness_CountsLikeAContainers()
    {
        var pod = Running with
        {
            Spec = Running.Spec with { InitContainers = [new Container { Name = "proxy", RestartPolicy = "Always", ReadinessProbe = new Probe { TcpSocket = new TcpSocketAction { Port = 15021 } } }] },
            Status = Running.Status with
            {
                ContainerStatuses = [Running.Status.ContainerStatuses[0] with { Ready = true }],
                InitContainerStatuses = [new ContainerStatus { Name = "proxy", Started = true, State = new ContainerState { Running = new() } }],
            },
        };
        Explain(pod)!.Reason.ShouldBe("the readiness probe of container proxy (TCP connect to port 15021) does not pass");
    }

    [Fact]
    public void PodThatIsGoingOrGoneOrNowhere_SaysSo()
    {
        Explain(Running with { Metadata = Running.Metadata with { DeletionTimestamp = DateTimeOffset.UnixEpoch } })!.Kind.ShouldBe(PodTroubleKind.Terminating);
        Explain(Running with { Status = new PodStatus { Phase = "Failed", Reason = "Evicted", Message = "The node was low on resource: memory." } })!.Reason.ShouldBe("it has ended (Failed, Evicted: The node was low on resource: memory.)");
        Explain(Running with { Spec = new PodSpec(), Status = new PodStatus { Phase = "Pending", Conditions = [new Condition { Type = "PodScheduled", Status = "False", Message = "0/3 nodes are available" }] } })!
            .Reason.ShouldBe("no node takes it: 0/3 nodes are available");
    }

    [Fact]
    public void LostNode_SpeaksForItsPods()
    {
        var node = new Core.Cluster.Node
        {
            Metadata = new ObjectMeta { Name = "n1" },
            Status = new NodeStatus { Conditions = [new Condition { Type = "Ready", Status = "Unknown", Reason = "NodeStatusUnknown", Message = "Kubelet stopped posting node status." }] },
        };
        ServiceMeaning.ExplainPod(new ClusterSnapshot { Nodes = [node] }, Running)!.ShouldBe(
            new PodTrouble(Running.Ref, PodTroubleKind.NodeLost, null, "its node n1 does not report any more: Kubelet stopped posting node status."));
    }

    [Fact]
    public void ReadinessGate_IsNamedWithItsCondition()
    {
        var pod = Running with
        {
            Spec = Running.Spec with { ReadinessGates = [new PodReadinessGate("target-health.elbv2.k8s.aws/x")] },
            Status = Running.Status with
            {
                Conditions = [.. Running.Status.Conditions, new Condition { Type = "target-health.elbv2.k8s.aws/x", Status = "False", Message = "Target registration is in progress" }],
                ContainerStatuses = [Running.Status.ContainerStatuses[0] with { Ready = true }],
            },
        };
        Explain(pod)!.Reason.ShouldBe("its readiness gate target-health.elbv2.k8s.aws/x is False: Target registration is in progress");
    }

    [Fact]
    public void LongWarning_IsCut() => Explain(Running, Warning("Unhealthy", $"Readiness probe failed: {new string('x', 5000)}"))!.Reason.Length.ShouldBeLessThan(420);
}
