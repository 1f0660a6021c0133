using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Recordings;

internal static class RecordingSamples
{
    public static Recording Full { get; } = new()
    {
        Manifest = new RecordingManifest
        {
            Mode = RecordingMode.Trace,
            Target = new RequestTarget(RequestScheme.Http, "my-nginx", 8080, "/"),
            Client = "pod/default/ubuntu",
            Cluster = "demo",
            Clock = new ClockAnchor(81_000_000, new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero)),
            StartNanoseconds = 81_000_000,
            EndNanoseconds = 82_000_000,
            Source = EventSource.Ebpf,
            Places = [new Place { Name = "pod/default/ubuntu", Kind = PlaceKind.Pod, NetNs = 4026532190, Addresses = [IpAddress.Parse("10.244.0.5")] }],
            NotSeen = ["one thing"],
        },
        Events =
        [
            new NetworkEvent
            {
                Kind = EventKind.PacketQueued, BootNanoseconds = 81_002_000, NetNs = 4026532190, Flags = TcpFlags.Syn,
                Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.244.0.5:33904"), AddressPort.Parse("10.96.0.11:8080")),
            },
            new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = 81_003_000, Lost = 3 },
        ],
        Client = new ClientReport
        {
            Command = "traceprobe",
            Addresses = [IpAddress.Parse("10.96.0.11")],
            Lookups = [new Lookup("my-nginx", "A", AddressPort.Parse("10.96.0.10:53"), IpProtocol.Udp, LookupOutcome.Answered, [IpAddress.Parse("10.96.0.11")], 81_000_100, 81_000_900)],
            Connects = [new ConnectAttempt(null, AddressPort.Parse("10.96.0.11:8080"), 111, 81_001_000, 81_009_000)],
            Resolver = new ResolverConfiguration { Search = ["default.svc.cluster.local"], Ndots = 5 },
        },
        Cluster = new ClusterSnapshot
        {
            ClusterDomain = "corp.example",
            Services =
            [
                new Service
                {
                    Metadata = new ObjectMeta { Name = "my-nginx", Namespace = "default" },
                    Spec = new ServiceSpec
                    {
                        ClusterIP = "10.96.0.11",
                        Ports = [new ServicePort { Port = 8080 }, new ServicePort { Name = "s", Port = 9376, TargetPort = "9376" }],
                        Selector = ImmutableSortedDictionary<string, string>.Empty.Add("run", "my-nginx"),
                    },
                },
            ],
            Pods = [new Pod { Metadata = new ObjectMeta { Name = "ubuntu", Namespace = "default" }, Spec = new PodSpec { NodeName = "node-1" } }],
            EndpointSlices = [new EndpointSlice { Metadata = new ObjectMeta { Name = "my-nginx-1", Namespace = "default" }, Endpoints = [new Endpoint { Addresses = ["10.244.0.6"] }] }],
            Nodes = [new Cluster.Node { Metadata = new ObjectMeta { Name = "node-1" } }],
            Unread = [new Unread("networkpolicies", "not asked for")],
            AlsoRead = ["namespaces", "events"],
            ClusterDomainFrom = "configmap/kube-system/coredns",
            Settings = new ClusterSettings
            {
                DnsDomain = "corp.example", DnsCaches = [IpAddress.Parse("169.254.20.10")], Kubelet = new KubeletSettings { From = "configmap/kube-system/kubelet-config", ClusterDns = ["10.96.0.10"] },
            },
            Namespaces = [new Namespace { Metadata = new ObjectMeta { Name = "default", Labels = ImmutableSortedDictionary<string, string>.Empty.Add("team", "a") } }],
            NetworkPolicies =
            [
                new NetworkPolicy
                {
                    Metadata = new ObjectMeta { Name = "deny", Namespace = "default" },
                    Spec = new NetworkPolicySpec { PolicyTypes = ["Egress"], Egress = [new NetworkPolicyEgressRule { To = [new NetworkPolicyPeer { PodSelector = new LabelSelector() }], Ports = [new NetworkPolicyPort { Port = "dns", Protocol = "UDP" }] }] },
                },
            ],
            Events = [new PodEvent { Metadata = new ObjectMeta { Name = "e", Namespace = "default" }, Type = "Warning", Reason = "Unhealthy", InvolvedObject = new ObjectReference { Kind = "Pod", Name = "ubuntu" } }],
        },
        Nodes =
        [
            new NodeAccount
            {
                Name = "node-1",
                Dumps = [new RuleDump("iptables-save", "*nat\nCOMMIT\n"), new RuleDump("ip6tables-save", "")],
                Listeners = [new ListeningSocket(7, IpProtocol.Tcp, AddressPort.Parse("0.0.0.0:80"), null)],
                KubeProxy = new ProcessRef(12, "kube-proxy"),
            },
        ],
        Baseline = new Baseline
        {
            Name = "my-nginx",
            Client = "pod/default/ubuntu",
            Service = "service/default/my-nginx:8080",
            Target = new RequestTarget(RequestScheme.Http, "my-nginx", 8080, "/"),
            RecordedAt = new DateTimeOffset(2026, 3, 4, 5, 0, 0, TimeSpan.Zero),
            Stages = [new StageRecord(Stage.Resolve, StageStatus.Passed, [new StageFact("resolver", "10.96.0.10")], 500_000)],
        },
    };

    public static Report Report { get; } = new()
    {
        Verdict = new Verdict { Class = FailureClass.NoListener, Sentence = "Nobody listens.", Confidence = Confidence.Certain, Mend = new Mend("Mend it.", "kubectl -n 'a' > \"b\"") },
        Client = "pod/default/ubuntu",
        Mode = RecordingMode.Trace,
        StartedAt = new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero),
        DurationNanoseconds = 1_000_000,
        Source = EventSource.Ebpf,
        Stages = [],
        Timeline = [],
        Connections = [],
    };
}
