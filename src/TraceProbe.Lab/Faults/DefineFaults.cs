using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>Faults of what the cluster wants of a Service: its ports, its selector, its endpoints.</summary>
internal static class DefineFaults
{
    private const string Rejected = "Connection refused by a REJECT rule (userspace mode: an empty reply).";
    private const string TimesOut = "Connecting times out.";
    private const string Gone = "10.244.2.99";
    private const string LoadBalancerIP = "10.77.0.100";

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("port-not-in-service",
            "Service my-nginx was changed to port 8081, and its clients still ask for 8080.",
            TimesOut,
            make: b => b.Objects.Put(WithPorts(b.Server, p => p with { Port = 8081 })),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server)),
            holds: b => b.ServerOrNull?.Spec.Ports.All(p => p.Port != 8080) == true),
        new Fault("wrong-protocol",
            "The port of Service my-nginx has protocol UDP.",
            TimesOut,
            make: b => b.Objects.Put(WithPorts(b.Server, p => p with { Protocol = "UDP" })),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server)),
            holds: b => b.ServerOrNull?.Spec.Ports.All(p => p.Protocol == "UDP") == true),
        new Fault("wrong-target-port",
            "Service my-nginx sends to port 8080 of its pods, where nothing listens; nginx is on port 80.",
            "Connection refused (userspace mode: an empty reply).",
            make: b => b.Objects.Put(WithPorts(b.Server, p => p with { TargetPort = 8080 })),
            undo: b => b.Objects.Put(WithPorts(b.Server, p => p with { TargetPort = 80 })),
            holds: b => b.ServerOrNull?.Spec.Ports.Any(p => p.TargetPort.Number is not (80 or null)) == true),
        UnmatchedName(null, "web", "Service my-nginx sends to the port named web, and the pods name theirs http."),
        UnmatchedName("number-in-quotes", "80", "Service my-nginx has targetPort \"80\" in quotes, which is the name of a port and not its number."),
        new Fault("selector-matches-nothing",
            "The nginx pods carry the label run=my-nginxx, which the Service's selector run=my-nginx does not match.",
            Rejected,
            // Also after the Service was made to follow the pods.
            make: b => Select(b, selector: LabObjects.Server, labels: "my-nginxx"),
            undo: b => Select(b, selector: LabObjects.Server, labels: LabObjects.Server),
            holds: b => SelectsNobody(b) && b.ServerPods.All(p => p.Metadata.Labels.GetValueOrDefault("run") != LabObjects.Server))
        {
            Alias = "wrong-labels",
        },
        new Fault("selector-matches-nothing",
            "Service my-nginx selects run=my-ngnix, and its pods carry run=my-nginx.",
            Rejected,
            make: b => Select(b, selector: "my-ngnix", labels: LabObjects.Server),
            undo: b => Select(b, selector: LabObjects.Server, labels: LabObjects.Server),
            holds: b => SelectsNobody(b) && b.ServerPods.All(p => p.Metadata.Labels.GetValueOrDefault("run") == LabObjects.Server))
        {
            Variant = "selector",
        },
        new Fault("no-ready-endpoints",
            "nginx answers its readiness probe with 503, so no pod of the Service is ready.",
            Rejected,
            make: b => EachServer(b, p => File.WriteAllText(b.NotReadyPath(p), "")),
            undo: b => EachServer(b, p => File.Delete(b.NotReadyPath(p))),
            holds: b => b.ServerPods.Any(p => File.Exists(b.NotReadyPath(p))))
        {
            Alias = "not-ready",
        },
        new Fault("no-ready-endpoints",
            "The readiness probe of the nginx pods asks port 8080, and nginx is on port 80.",
            Rejected,
            make: b => b.GiveProbe(b.ServerPods.ToArray(), _ => new Probe { HttpGet = new HttpGetAction { Path = "/ready", Port = 8080 } }),
            undo: b => b.GiveProbe(b.ServerPods.ToArray(), LabObjects.ProbeOf),
            holds: b => b.ServerPods.Any(p => p.Spec.Containers[0].ReadinessProbe?.HttpGet?.Port == 8080))
        {
            Variant = "probe-port",
        },
        new Fault("no-pods",
            "The nginx pods are scaled to none.",
            Rejected,
            make: b => b.Scale(LabObjects.Server, 0),
            undo: b => b.Scale(LabObjects.Server, LabObjects.ServerPods.Length),
            holds: b => !b.ServerPods.Any()),
        new Fault("pods-crashing",
            "nginx ends as soon as it is started, over a word in its configuration that it does not know.",
            Rejected,
            make: b => EachServer(b, p => b.Crash(p, restarts: 5)),
            undo: b => b.Restart(b.ServerPods.ToArray()),
            holds: b => b.ServerPods.Any(p => p.Status.ContainerStatuses.Any(s => s.State.Waiting?.Reason == "CrashLoopBackOff"))),
        new Fault("headless-port-not-remapped",
            "Headless Service hostnames-headless has port 80 and targetPort 9376; without a cluster address nothing translates the one to the other.",
            "Connection refused by the pod.",
            make: b => b.Objects.Put(LabObjects.HeadlessOn(80)),
            undo: b => b.DeleteService("default", LabObjects.Headless.Metadata.Name),
            holds: b => b.Cluster.FindService("default", LabObjects.Headless.Metadata.Name)?.Spec.Ports[0].Port == 80)
        {
            Url = "http://hostnames-headless:80",
        },
        new Fault("endpoint-address-unowned",
            "Service db has no selector, and the EndpointSlice that somebody wrote for it names 10.244.2.99, which no pod has.",
            "\"No route to host\", or connecting times out.",
            make: b =>
            {
                b.Objects.Put(LabObjects.ByHand);
                b.Objects.Put(LabObjects.SliceByHand(Gone));
            },
            undo: b => b.DeleteService("default", "db"),
            holds: b => b.Cluster.EndpointSlices.Any(s => s.ServiceName == "db" && s.Endpoints.Any(e => e.Addresses.Contains(Gone))))
        {
            Url = "http://db",
        },
        new Fault("no-local-endpoints",
            "Service hostnames has internalTrafficPolicy Local, and no pod on the client's node.",
            TimesOut,
            make: b => b.Objects.Put(b.HostnamesService with { Spec = b.HostnamesService.Spec with { InternalTrafficPolicy = "Local" } }),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Hostnames)),
            holds: b => b.HostnamesService.Spec.InternalTrafficPolicy == "Local")
        {
            Url = "http://hostnames",
            Lacks = ModernOnly,
        },
        new Fault("no-local-endpoints",
            "Service hostnames has a node port and externalTrafficPolicy Local, and a client outside asks the node without a pod of it.",
            TimesOut,
            make: b => b.Objects.Put(WithNodePort(b.HostnamesService) is var service ? service with { Spec = service.Spec with { ExternalTrafficPolicy = "Local" } } : service),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Hostnames)),
            holds: b => b.HostnamesService.Spec.ExternalTrafficPolicy == "Local")
        {
            Variant = "external",
            Url = "http://10.77.0.11:30080",
            From = "outside",
            Lacks = ModernOnly,
        },
        new Fault("source-range-denied",
            "Service hostnames has a load balancer's address and lets 192.0.2.0/24 use it, where the client is not.",
            TimesOut,
            make: b => b.Objects.Put(b.HostnamesService with
            {
                Spec = b.HostnamesService.Spec with { Type = "LoadBalancer", LoadBalancerSourceRanges = ["192.0.2.0/24"], ExternalTrafficPolicy = "Cluster" },
                Status = new ServiceStatus { LoadBalancer = new LoadBalancerStatus { Ingress = [new LoadBalancerIngress { Ip = LoadBalancerIP }] } },
            }),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Hostnames)),
            holds: b => b.HostnamesService.Spec.LoadBalancerSourceRanges.Contains("192.0.2.0/24") && !b.HostnamesService.Spec.LoadBalancerSourceRanges.Any(r => r.StartsWith("10.244.", StringComparison.Ordinal)))
        {
            Url = $"http://{LoadBalancerIP}",
            Lacks = ModernOnly,
        },
    ];

    /// <summary>Service hostnames with a node port for TCP.</summary>
    internal static Service WithNodePort(Service service) => service with
    {
        Spec = service.Spec with { Type = "NodePort", ExternalTrafficPolicy = "Cluster", Ports = [.. service.Spec.Ports.Select(p => p with { NodePort = p.Protocol == "TCP" ? 30080 : 30081 })] },
    };

    internal static string? ModernOnly(ProxyMode mode) => mode == ProxyMode.Userspace ? "kube-proxy's userspace mode knew nothing of it" : null;

    private static Fault UnmatchedName(string? variant, string name, string description) => new("target-port-name-unmatched", description, Rejected,
        make: b => b.Objects.Put(WithPorts(b.Server, p => p with { TargetPort = name })),
        undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server)),
        holds: b => b.ServerOrNull?.Spec.Ports.Any(p => p.TargetPort.Text == name) == true)
    {
        Variant = variant,
    };

    private static Service WithPorts(Service service, Func<ServicePort, ServicePort> change)
        => service with { Spec = service.Spec with { Ports = [.. service.Spec.Ports.Select(change)] } };

    private static void EachServer(Bench b, Action<Pod> work)
    {
        foreach (var pod in b.ServerPods.ToArray())
        {
            work(pod);
        }
    }

    private static void Select(Bench b, string selector, string labels)
    {
        b.Objects.Put(b.Server with { Spec = b.Server.Spec with { Selector = LabObjects.Labels(("run", selector)) } });
        EachServer(b, pod => b.Objects.Put(pod with { Metadata = pod.Metadata with { Labels = pod.Metadata.Labels.SetItem("run", labels) } }));
    }

    private static bool SelectsNobody(Bench b) => b.Cluster is var cluster && cluster.FindService("default", LabObjects.Server) is { } service
        && cluster.Pods.Any(LabProcesses.IsServer) && !cluster.PodsSelectedBy(service).Any();
}
