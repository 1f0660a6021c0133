using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults of the socket that should take the connection.</summary>
internal static class AcceptFaults
{
    private const string RefusedByPod = "Connection refused by the pod (userspace mode: an empty reply).";

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("no-listener",
            "nginx has stopped in its pods, which have no readiness probe and stay endpoints.",
            RefusedByPod,
            make: b =>
            {
                b.GiveProbe(b.ServerPods.ToArray(), _ => null);
                foreach (var pod in b.ServerPods)
                {
                    LabProcesses.StopProgram(b.Folder, pod);
                }
            },
            undo: b => b.Restart(b.ServerPods.ToArray()),
            holds: b => b.ServerPods.Any(p => !LabProcesses.ProgramRuns(b.Folder, p) && p.Spec.Containers[0].ReadinessProbe is null)),
        ExchangeFaults.Misbehaving("listener-on-loopback", null, Behaviours.Loopback, "The server of hostnames listens on 127.0.0.1 only, as many do in development.", RefusedByPod),
        ExchangeFaults.Misbehaving("listener-wrong-family", null, Behaviours.IPv4Only, "The server of hostnames listens on IPv4 only (0.0.0.0), and is asked by IPv6.", RefusedByPod, "http://[fd00:10:96::af]"),
        ExchangeFaults.Misbehaving("accept-queue-full", null, Behaviours.NeverAccept, "The server of hostnames does not accept any more, and its queue is full.", "Connecting times out."),
    ];
}
