using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Tests;

internal static class ReportSamples
{
    public static Report WrongPort { get; } = new()
    {
        Verdict = new Verdict
        {
            Class = FailureClass.WrongTargetPort,
            Stage = Stage.Define,
            Sentence = "Service default/my-nginx sends port 8080 to target port 8080, but pod default/my-nginx-wu92j listens on port 80 (nginx).",
            Confidence = Confidence.Certain,
            Objects = [new ObjectRef("service", "default", "my-nginx")],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, "service/default/my-nginx spec.ports: port 8080, targetPort 8080"),
                new Evidence(EvidenceSource.Observed, "pod default/my-nginx-wu92j answered the SYN to 10.244.2.12:8080 with RST (kernel: NO_SOCKET)", 41_962_000, "pod/default/my-nginx-wu92j"),
            ],
            Mend = new Mend("Send port 8080 to the port that the pods listen on, 80.",
                """kubectl patch service my-nginx -n default -p '{"spec":{"ports":[{"port":8080,"targetPort":80}]}}'"""),
            AlsoFound = [FailureClass.NoListener],
            NotSeen = ["The rules of node-2 were not read: iptables-save is not installed; install the package iptables."],
        },
        Target = "http://my-nginx:8080/",
        Client = "pod/default/ubuntu",
        Mode = RecordingMode.Trace,
        StartedAt = new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero),
        DurationNanoseconds = 1_045_607_000,
        Outcome = "Connection refused",
        Source = EventSource.Ebpf,
        LostEvents = 3,
        Stages =
        [
            new StageRecord(Stage.Resolve, StageStatus.Passed, [], 500_000),
            new StageRecord(Stage.Define, StageStatus.Failed, [], null),
            new StageRecord(Stage.Translate, StageStatus.Passed, [], 3_000),
            new StageRecord(Stage.Deliver, StageStatus.Passed, [], 90_000),
            new StageRecord(Stage.Accept, StageStatus.Failed, [], null),
            new StageRecord(Stage.Exchange, StageStatus.NotReached, [], null),
        ],
        Comparison = new Comparison
        {
            With = "my-nginx",
            IsRecorded = true,
            Stages =
            [
                new StageDifference(Stage.Resolve, Difference.Same, [], 400_000, 500_000),
                new StageDifference(Stage.Define, Difference.Different,
                    [
                        new FactDifference("service", "default/my-nginx", "default/my-nginx", Difference.Same),
                        new FactDifference("target port", "80", "8080", Difference.Different),
                        new FactDifference("named after", null, "a-rather-long-name.of-something.default.svc.cluster.local", Difference.New),
                    ], null, null),
                new StageDifference(Stage.Translate, Difference.Different, [], null, null),
                new StageDifference(Stage.Deliver, Difference.Same, [], null, null),
                new StageDifference(Stage.Accept, Difference.Different, [], null, null),
                new StageDifference(Stage.Exchange, Difference.Missing, [], null, null),
            ],
        },
        Timeline =
        [
            new TimelineStep(0, "pod/default/ubuntu", Stage.Resolve, "curl (7576) asks 10.96.0.10 for A my-nginx.default.svc.cluster.local: 10.96.0.159"),
            new TimelineStep(412_000, "node/node-1", Stage.Translate, "translates 10.96.0.159:8080 to 10.244.2.12:8080 (pod default/my-nginx-wu92j)"),
            new TimelineStep(460_000, "pod/default/my-nginx-wu92j", Stage.Deliver, "SYN to 10.244.2.12:8080 arrives"),
            new TimelineStep(41_940_000, "pod/default/my-nginx-wu92j", Stage.Accept, "refuses: RST from 10.244.2.12:8080", Notable: true),
            new TimelineStep(1_045_607_000, "pod/default/ubuntu", Stage.Accept, "is told: connection refused", Notable: true),
        ],
        Connections = [],
        ExitCode = 7,
    };

    public static Report Healthy { get; } = WrongPort with
    {
        Verdict = new Verdict
        {
            Class = FailureClass.Healthy,
            Sentence = "Pod default/my-nginx-wu92j answered for service default/my-nginx: HTTP/1.1 200 OK.",
            Confidence = Confidence.Certain,
        },
        Outcome = "HTTP/1.1 200 OK",
        LostEvents = 0,
        ExitCode = null,
        Stages = [.. WrongPort.Stages.Select(s => s with { Status = StageStatus.Passed })],
        Comparison = WrongPort.Comparison! with { Stages = [.. WrongPort.Comparison!.Stages.Select(s => s with { Difference = Difference.Same, Facts = [] })] },
        Timeline = [WrongPort.Timeline[0], WrongPort.Timeline[1]],
    };

    public static Report Undetermined { get; } = Healthy with
    {
        Verdict = new Verdict
        {
            Class = FailureClass.Undetermined,
            Sentence = "The request failed, and what was seen does not say why.",
            Confidence = Confidence.None,
            NotSeen = ["The cluster's objects were not given."],
        },
        Mode = RecordingMode.Run,
        Target = null,
        Outcome = null,
        Comparison = null,
        Timeline = [],
    };
}
