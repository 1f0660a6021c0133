using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Diagnosis;

/// <summary>Real recordings, changed in what the cluster wants or in where a packet ended: what the verdict makes of it.</summary>
public sealed class MeaningVerdictTests
{
    private static readonly string Scenarios = Path.Combine(Repository.Root, "tests", "scenarios");

    private static Recording Read(string name) => RecordingArchive.Read(Path.Combine(Scenarios, name)).Recording;

    // The healthy request up to the node's translation, where the packet now ends.
    private static Recording Ending(string? dropReason, params NetworkPolicy[] policies)
    {
        var healthy = Read("healthy.ipv4.tprec");
        var translated = healthy.Events[3];
        var events = healthy.Events[..3].ToList();
        events.Add(dropReason is null ? translated : translated with { Kind = EventKind.PacketDropped, DropReason = dropReason });
        return healthy with
        {
            Events = [.. events],
            Baseline = null,
            Client = healthy.Client! with { StatusLine = null, Failure = "Connection timed out", Connects = [healthy.Client.Connects[0] with { Error = 110 }] },
            Cluster = healthy.Cluster! with { NetworkPolicies = [.. policies], AlsoRead = ["networkpolicies", "namespaces"] },
        };
    }

    private static NetworkPolicy DenyAll => new() { Metadata = new ObjectMeta { Name = "deny-all", Namespace = "default" }, Spec = new NetworkPolicySpec { PodSelector = new LabelSelector { MatchLabels = L(("run", "my-nginx")) }, PolicyTypes = ["Ingress"] } };

    private static ImmutableSortedDictionary<string, string> L(params (string, string)[] labels) => ImmutableSortedDictionary.CreateRange(labels.Select(l => KeyValuePair.Create(l.Item1, l.Item2)));

    [Fact]
    public void PacketDroppedForAPolicy_NamesIt()
    {
        var verdict = Diagnose.Run(Ending("NETFILTER_DROP", DenyAll)).Verdict;
        (verdict.Class, verdict.Confidence).ShouldBe((FailureClass.DroppedByRule, Confidence.Certain));
        verdict.Sentence.ShouldBe("node-1 dropped the packet to 10.244.1.11:80: NetworkPolicy default/deny-all selects pod default/my-nginx-tsyps and lets nothing in.");
        verdict.Objects[0].ShouldBe(new ObjectRef("networkpolicy", "default", "deny-all"));
        verdict.Evidence.Select(e => e.Text).ShouldContain("networkpolicy/default/deny-all spec.podSelector: run=my-nginx; ingress: nothing");
        verdict.Mend!.Command.ShouldBe("""kubectl patch networkpolicy deny-all -n default --type=json -p '[{"op":"add","path":"/spec/ingress","value":[{"from":[{"podSelector":{"matchLabels":{"run":"ubuntu"}}}],"ports":[{"protocol":"TCP","port":80}]}]}]'""");
    }

    [Fact]
    public void PolicyWithRules_IsGivenOneMore()
    {
        var egress = new NetworkPolicy
        {
            Metadata = new ObjectMeta { Name = "only-dns", Namespace = "default" },
            Spec = new NetworkPolicySpec { PolicyTypes = ["Egress"], Egress = [new NetworkPolicyEgressRule { Ports = [new NetworkPolicyPort { Port = 53, Protocol = "UDP" }] }] },
        };
        var verdict = Diagnose.Run(Ending("NETFILTER_DROP", egress)).Verdict;
        verdict.Sentence.ShouldBe("node-1 dropped the packet to 10.244.1.11:80: NetworkPolicy default/only-dns selects pod default/ubuntu and lets it out to pod default/my-nginx-tsyps on UDP 53 only, not on TCP 80.");
        verdict.Mend!.Command!.ShouldContain("\"path\":\"/spec/egress/-\",\"value\":{\"to\":[{\"podSelector\":{\"matchLabels\":{\"run\":\"my-nginx\"}}}]");
    }

    [Fact]
    public void PacketThatVanished_IsLaidToThePolicyThatDeniesItAndNoOther()
    {
        var verdict = Diagnose.Run(Ending(null, DenyAll)).Verdict;
        (verdict.Class, verdict.Confidence).ShouldBe((FailureClass.DroppedByRule, Confidence.Likely));
        verdict.Sentence.ShouldStartWith("The packet to 10.244.1.11:80 vanished in ");
        foreach (var others in new[] { Ending(null), Ending(null, DenyAll with { Metadata = DenyAll.Metadata with { Namespace = "other" } }) })
        {
            // It left for the pod and was not seen there, once; that says nothing.
            var lost = Diagnose.Run(others).Verdict;
            (lost.Class, lost.Confidence).ShouldBe((FailureClass.Undetermined, Confidence.None));
            lost.NotSeen.ShouldContain(n => n.StartsWith("what became of the packet behind ", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void DropWithoutAPolicy_IsTheRulesAlone()
    {
        var verdict = Diagnose.Run(Ending("NETFILTER_DROP")).Verdict;
        (verdict.Class, verdict.Confidence).ShouldBe((FailureClass.DroppedByRule, Confidence.Likely));
        verdict.NotSeen.ShouldNotContain(s => s.Contains("NetworkPolicies", StringComparison.Ordinal));
        var unread = Ending("NETFILTER_DROP");
        Diagnose.Run(unread with { Cluster = unread.Cluster! with { AlsoRead = [] } }).Verdict.NotSeen.ShouldContain("the cluster's NetworkPolicies, one of which may want it");
    }

    [Theory]
    [InlineData("TC_INGRESS")]
    [InlineData("XDP")]
    public void ProgramOfTheNetworkPlugin_IsToldApartFromARule(string reason)
    {
        Diagnose.Run(Ending(reason, DenyAll)).Verdict.Sentence
            .ShouldBe("A program of the network plugin in node-1 dropped the packet to 10.244.1.11:80: NetworkPolicy default/deny-all selects pod default/my-nginx-tsyps and lets nothing in.");
        var unexplained = Diagnose.Run(Ending(reason)).Verdict;
        (unexplained.Class, unexplained.Confidence).ShouldBe((FailureClass.DroppedByRule, Confidence.Likely));
    }

    // The pods of the healthy request, none of them ready.
    private static Recording Unready(Func<Pod, Pod> change)
    {
        var recording = Read("no-ready-endpoints.tprec");
        return recording with { Baseline = null, Cluster = recording.Cluster! with { Pods = [.. recording.Cluster.Pods.Select(p => p.Metadata.Labels.GetValueOrDefault("run") == "my-nginx" ? change(p) : p)] } };
    }

    [Fact]
    public void ProbeOfAPortOnWhichNothingListens_IsTheCause()
    {
        var verdict = Diagnose.Run(Unready(p => p with { Spec = p.Spec with { Containers = [p.Spec.Containers[0] with { ReadinessProbe = new Probe { HttpGet = new HttpGetAction { Path = "/ready", Port = 8081 } } }] } })).Verdict;
        verdict.Class.ShouldBe(FailureClass.NoReadyEndpoints);
        verdict.Sentence.ShouldBe("Service default/my-nginx selects 2 pods, but none is ready: for my-nginx-tsyps and 1 more, the readiness probe of container nginx (HTTP GET /ready on port 8081) does not pass, since nothing listens on port 8081 in it; it listens on 80.");
    }

    [Fact]
    public void ReadyPodsThatNoSliceLists_AccuseTheController()
    {
        var verdict = Diagnose.Run(Unready(p => p with { Status = p.Status with { Conditions = [new Condition { Type = "Ready", Status = "True" }] } })).Verdict;
        verdict.Class.ShouldBe(FailureClass.NoReadyEndpoints);
        verdict.Sentence.ShouldBe("2 pods of service default/my-nginx are ready, but its EndpointSlices have none of them: the controller that makes them is behind or does not run.");
        verdict.Evidence[0].Text.ShouldBe("pod/default/my-nginx-tsyps at 10.244.1.11 is ready, but not in its EndpointSlice");
    }

    [Fact]
    public void CrashingPods_SayHowTheyEnded()
    {
        var verdict = Diagnose.Run(Unready(p => p with
        {
            Status = p.Status with { ContainerStatuses = [new ContainerStatus { Name = "nginx", RestartCount = 3, State = new() { Waiting = new() { Reason = "CrashLoopBackOff" } }, LastState = new() { Terminated = new() { Reason = "OOMKilled", ExitCode = 137 } } }] },
        })).Verdict;
        verdict.Class.ShouldBe(FailureClass.PodsCrashing);
        verdict.Sentence.ShouldBe("All pods of service default/my-nginx crash: in my-nginx-tsyps and 1 more, container nginx keeps crashing (OOMKilled, exit code 137), restarted 3 times.");
    }
}
