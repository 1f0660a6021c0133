using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults of the socket that should take the connection.</summary>
internal static class AcceptFaults
{
    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("no-listener",
            "nginx has stopped in its pods, which have no readiness probe and stay endpoints.",
            "Connection refused by the pod (userspace mode: an empty reply).",
            make: b =>
            {
                b.GiveProbe(b.ServerPods.ToArray(), _ => null);
                foreach (var pod in b.ServerPods)
                {
                    LabProcesses.StopProgram(b.Folder, pod);
                }
            },
            undo: b => b.Restart(b.ServerPods.ToArray()),
            holds: b => b.ServerPods.Any(p => !LabProcesses.ProgramRuns(b.Folder, p))),
    ];
}
