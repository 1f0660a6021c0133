using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>Faults of what the cluster wants of a Service: its ports, its selector, its endpoints.</summary>
internal static class DefineFaults
{
    private const string Refused = "Connection refused by a REJECT rule (userspace mode: an empty reply).";

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("wrong-target-port",
            "Service my-nginx sends to port 8080 of its pods, where nothing listens; nginx is on port 80.",
            "Connection refused (userspace mode: an empty reply).",
            make: b => b.Objects.Put(WithTargetPort(b.Server, 8080)),
            undo: b => b.Objects.Put(WithTargetPort(b.Server, 80)),
            holds: b => b.Cluster.FindService("default", LabObjects.Server)?.Spec.Ports.Any(p => p.TargetPort.Number is not (80 or null)) == true),
        new Fault("selector-matches-nothing",
            "The nginx pods carry the label run=my-nginxx, which the Service's selector run=my-nginx does not match.",
            Refused,
            // Also after the Service was made to follow the pods.
            make: b => Select(b, selector: LabObjects.Server, labels: "my-nginxx"),
            undo: b => Select(b, selector: LabObjects.Server, labels: LabObjects.Server),
            holds: b => b.Cluster is var cluster && cluster.FindService("default", LabObjects.Server) is { } service
                && cluster.Pods.Any(LabProcesses.IsServer) && !cluster.PodsSelectedBy(service).Any())
        {
            Alias = "wrong-labels",
        },
        new Fault("no-pods",
            "The nginx pods are scaled to none.",
            Refused,
            make: b => b.Scale(LabObjects.Server, 0),
            undo: b => b.Scale(LabObjects.Server, LabObjects.ServerPods.Length),
            holds: b => !b.ServerPods.Any()),
        new Fault("no-ready-endpoints",
            "nginx answers its readiness probe with 503, so no pod of the Service is ready.",
            Refused,
            make: b =>
            {
                foreach (var pod in b.ServerPods)
                {
                    File.WriteAllText(b.NotReadyPath(pod), "");
                }
            },
            undo: b =>
            {
                foreach (var pod in b.ServerPods)
                {
                    File.Delete(b.NotReadyPath(pod));
                }
            },
            holds: b => b.ServerPods.Any(p => File.Exists(b.NotReadyPath(p))))
        {
            Alias = "not-ready",
        },
    ];

    private static Service WithTargetPort(Service service, IntOrString port)
        => service with { Spec = service.Spec with { Ports = [.. service.Spec.Ports.Select(p => p with { TargetPort = port })] } };

    private static void Select(Bench b, string selector, string labels)
    {
        b.Objects.Put(b.Server with { Spec = b.Server.Spec with { Selector = LabObjects.Labels(("run", selector)) } });
        foreach (var pod in b.ServerPods.ToArray())
        {
            b.Objects.Put(pod with { Metadata = pod.Metadata with { Labels = pod.Metadata.Labels.SetItem("run", labels) } });
        }
    }
}
