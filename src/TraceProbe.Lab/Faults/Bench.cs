using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// What a fault works with: the lab's objects, places and processes. It lives for one operation, within the lab's lock; what it has read
/// of the lab by a command it does not read again.
/// </summary>
internal sealed class Bench(LabFolder folder, LabRecord record)
{
    private readonly Dictionary<(string Place, string Command), string> _said = [];

    internal LabFolder Folder => folder;

    internal LabRecord Record => record;

    /// <summary>The objects as they are now.</summary>
    internal ClusterSnapshot Cluster => folder.Objects.Read();

    internal ObjectStore Objects => folder.Objects;

    internal Reconciler Reconciler => new(folder, record);

    /// <summary>The Service that most faults are about.</summary>
    /// <exception cref="LabException">It was deleted.</exception>
    internal Service Server => Cluster.FindService("default", LabObjects.Server)
        ?? throw new LabException($"Service {LabObjects.Server} is not there. Bring it back with: traceprobe lab mend {Fault.All[0].Name}");

    internal Service? ServerOrNull => Cluster.FindService("default", LabObjects.Server);

    internal Service HostnamesService => Cluster.FindService("default", LabObjects.Hostnames) ?? throw new LabException($"Service {LabObjects.Hostnames} is not there.");

    /// <summary>Its pods, those that are there.</summary>
    internal IEnumerable<Pod> ServerPods => Cluster.Pods.Where(LabProcesses.IsServer);

    internal Pod Hostnames => Cluster.FindPod("default", LabObjects.HostnamesPod) ?? throw new LabException($"Pod {LabObjects.HostnamesPod} is not there.");

    internal Pod Dns => Cluster.Pods.FirstOrDefault(LabProcesses.IsDns) ?? throw new LabException("There is no DNS pod. Bring it back with: traceprobe lab mend");

    internal Service DnsService => Cluster.FindService("kube-system", "kube-dns") ?? throw new LabException("Service kube-dns is not there.");

    internal Pod Client => Cluster.FindPod("default", LabObjects.Client) ?? throw new LabException($"Pod {LabObjects.Client} is not there.");

    /// <summary>Runs a shell command in a place, with its namespaces and files.</summary>
    /// <param name="place">A node, a pod by its name alone, the fabric or the outside.</param>
    /// <param name="command">The command.</param>
    internal string Run(string place, string command)
    {
        _said.Clear();
        return Shell(place, command);
    }

    /// <summary>What a command that changes nothing says in a place.</summary>
    internal string Read(string place, string command)
    {
        if (!_said.TryGetValue((place, command), out var said))
        {
            _said.Add((place, command), said = Shell(place, command));
        }

        return said;
    }

    // The fabric has no processes, and so no files of its own.
    private string Shell(string place, string command) => place == LabNetwork.Fabric
        ? Command.Run(folder.NetNsPath(place), "sh", ["-c", command])
        : LabProcesses.Execute(folder, place, ["sh", "-c", command]);

    /// <summary>Keeps a node's kube-proxy from writing: what is written to its rules from now on stays.</summary>
    /// <param name="node">The node.</param>
    /// <param name="fault">The fault that does so.</param>
    /// <param name="silent">Whether its process stands still as a whole, and says nothing either.</param>
    internal void Pause(string node, string fault, bool silent = false)
    {
        File.WriteAllText(folder.PausedPath(node), fault);
        if (silent)
        {
            LabProcesses.Signal(folder, node, KubeProxy.ProcessName, ProcessTable.SigStop);
        }
    }

    /// <summary>Has a node's kube-proxy write again, in the next round and all of it: what is there is not what it wrote last.</summary>
    internal void Resume(string node)
    {
        LabProcesses.Signal(folder, node, KubeProxy.ProcessName, ProcessTable.SigCont);
        foreach (var applied in Directory.GetFiles(folder.PlaceFolder(node), "rules.*"))
        {
            File.Delete(applied);
        }

        File.Delete(folder.PausedPath(node));
    }

    /// <summary>Starts a node's kube-proxy anew; its rules are written in the next round.</summary>
    internal void RestartProxy(string node)
    {
        Resume(node);
        LabProcesses.RestartProxy(folder, record, node);
    }

    /// <summary>Whether a node's kube-proxy is stopped by a fault.</summary>
    internal bool IsPaused(string node, string fault) => File.Exists(folder.PausedPath(node)) && File.ReadAllText(folder.PausedPath(node)) == fault;

    /// <summary>The tool that writes rules of others beside kube-proxy's: of iptables-legacy in that mode, else of iptables-nft.</summary>
    internal string Iptables(bool ipv6) => $"{(ipv6 ? "ip6tables" : "iptables")}-{(record.Proxy == ProxyMode.IptablesLegacy ? "legacy" : "nft")}";

    internal string HostsOf(string pod) => File.ReadAllText($"{folder.EtcFolder(pod)}/hosts");

    /// <summary>Gives a pod other host aliases; its hosts file is written anew, also when somebody has changed it in the pod.</summary>
    internal void GiveHosts(Pod pod, ImmutableArray<HostAlias> aliases)
    {
        var given = pod with { Spec = pod.Spec with { HostAliases = aliases } };
        Objects.Put(given);
        File.WriteAllText($"{folder.EtcFolder(pod.Metadata.Name)}/hosts", ResolvConf.HostsOf(given));
    }

    /// <summary>Deletes a Service, and the EndpointSlices that were made for it by hand.</summary>
    internal void DeleteService(string ns, string name)
    {
        var cluster = Cluster;
        if (cluster.FindService(ns, name) is { } service)
        {
            Objects.Delete("services", service.Metadata);
            foreach (var slice in cluster.SlicesOf(service))
            {
                Objects.Delete("endpointslices", slice.Metadata);
            }
        }
    }

    /// <summary>Has a pod's program stand still, as one does that hangs, or go on.</summary>
    internal void Freeze(Pod pod, bool frozen)
    {
        foreach (var pid in LabProcesses.ProcessesOf(folder, pod))
        {
            ProcessTable.Signal(pid, frozen ? ProcessTable.SigStop : ProcessTable.SigCont);
        }
    }

    internal bool IsFrozen(Pod pod) => LabProcesses.ProcessesOf(folder, pod).Any(ProcessTable.IsStopped);

    internal string ResolvConfOf(string pod) => File.ReadAllText($"{folder.EtcFolder(pod)}/resolv.conf");

    /// <summary>Gives a pod another DNS policy; its resolv.conf is written anew, also when somebody has changed it in the pod.</summary>
    internal void GiveDns(Pod pod, string policy, PodDnsConfig? config = null)
    {
        Objects.Put(pod with { Spec = pod.Spec with { DnsPolicy = policy, DnsConfig = config } });
        File.Delete(LabProcesses.GivenResolvConfPath(folder, pod));
    }

    /// <summary>Whether nothing that was done to a pod keeps it from being ready.</summary>
    internal bool ShouldBeReady(Pod pod) => LabProcesses.ProgramRuns(folder, pod) && !File.Exists(NotReadyPath(pod))
        && pod.Spec.Containers[0].ReadinessProbe == LabObjects.ProbeOf(pod);

    /// <summary>Makes all objects those of a new lab again; those that a new lab has not are deleted.</summary>
    internal void RestoreObjects()
    {
        var cluster = Cluster;
        foreach (var service in cluster.Services.Where(s => LabObjects.Services.All(p => p.Metadata.Name != s.Metadata.Name || p.Metadata.Namespace != s.Metadata.Namespace)))
        {
            DeleteService(service.Metadata.Namespace!, service.Metadata.Name);
        }

        foreach (var planned in LabObjects.Services)
        {
            var present = cluster.FindService(planned.Metadata.Namespace!, planned.Metadata.Name);
            if (present is null || ObjectStore.TextOf(present with { Metadata = planned.Metadata }) != ObjectStore.TextOf(planned))
            {
                Objects.Put(planned with { Metadata = planned.Metadata with { Uid = present?.Metadata.Uid, ResourceVersion = present?.Metadata.ResourceVersion, CreationTimestamp = present?.Metadata.CreationTimestamp } });
            }
        }

        foreach (var pod in cluster.Pods)
        {
            var planned = LabObjects.Pods.First(p => p.Metadata.Name == pod.Metadata.Name);
            var wanted = pod with { Spec = planned.Spec, Metadata = pod.Metadata with { Labels = planned.Metadata.Labels } };
            if (ObjectStore.TextOf(pod) != ObjectStore.TextOf(wanted))
            {
                Objects.Put(wanted);
            }
        }
    }

    /// <summary>Gives pods another readiness probe, or none.</summary>
    internal void GiveProbe(IEnumerable<Pod> pods, Func<Pod, Probe?> probe)
    {
        foreach (var pod in pods)
        {
            Objects.Put(pod with { Spec = pod.Spec with { Containers = [.. pod.Spec.Containers.Select(c => c with { ReadinessProbe = probe(pod) })] } });
        }
    }

    /// <summary>Brings the pods of a workload to a number, as its ReplicaSet would: the first ones of the lab's plan.</summary>
    /// <param name="workload">Its name.</param>
    /// <param name="replicas">How many there shall be; more than the plan has are no more than it has.</param>
    internal void Scale(string workload, int replicas)
    {
        var present = Cluster.Pods.Where(p => LabObjects.WorkloadOf(p) == workload).ToArray();
        var places = folder.ReadPlaces();
        foreach (var pod in present.Skip(replicas))
        {
            var name = pod.Metadata.Name;
            Objects.Delete("pods", pod.Metadata);
            ProcessTable.Kill(ProcessTable.InNamespaces(new HashSet<uint> { NetNs.InodeOf(folder.NetNsPath(name)) }));
            LabNetwork.DisconnectPod(folder, pod);
            LabNetwork.DeleteNamespaces([LabLayout.NetNsOf(folder.Name, pod)]);
            if (record.Cgroup is not null)
            {
                Cgroups.Remove($"{record.Cgroup}/kubepods/besteffort/pod{pod.Metadata.Uid}");
            }

            Directory.Delete(folder.PlaceFolder(name), recursive: true);
            places = places.RemoveAll(p => p.PodName == name);
        }

        var missing = LabObjects.Pods.Where(p => LabObjects.WorkloadOf(p) == workload && present.All(q => q.Metadata.Name != p.Metadata.Name))
            .Take(Math.Max(0, replicas - present.Length)).ToArray();
        if (missing.Length > 0)
        {
            foreach (var pod in missing)
            {
                Objects.Put(LabObjects.WithContainers(pod));
            }

            var cluster = Cluster;
            LabNetwork.AddNamespaces(folder, missing.Select(p => p.Metadata.Name));
            LabNetwork.ConnectPods(folder, missing);
            places = places.AddRange(missing.Select(p => LabProcesses.StartPod(folder, cluster.FindPod(p.Metadata.Namespace!, p.Metadata.Name)!, record, cluster)));
        }

        folder.Write(places);
    }

    /// <summary>Starts pods anew, as their workload makes them: with its containers, and nothing of what was written into them.</summary>
    internal void Restart(IEnumerable<Pod> pods)
    {
        foreach (var pod in pods)
        {
            LabProcesses.StopProgram(folder, pod);
            File.Delete(NotReadyPath(pod));
            File.Delete(Behaviours.PathOf(folder, pod.Metadata.Name));
            LabProcesses.StartProgram(folder, pod, record);
            Objects.Put(LabObjects.WithContainers(pod with { Spec = pod.Spec with { Containers = LabObjects.Pods.First(p => p.Metadata.Name == pod.Metadata.Name).Spec.Containers } }));
        }
    }

    /// <summary>Ends a pod's program, as one does that cannot go on, with the pod's status as the kubelet then keeps it.</summary>
    internal void Crash(Pod pod, int restarts)
    {
        LabProcesses.StopProgram(folder, pod);
        var now = TimeProvider.System.GetUtcNow();
        Objects.Put(pod with
        {
            Status = pod.Status with
            {
                ContainerStatuses = [.. pod.Status.ContainerStatuses.Select(c => c with
                {
                    RestartCount = restarts,
                    State = new ContainerState { Waiting = new ContainerStateDetail { Reason = "CrashLoopBackOff", Message = $"back-off 2m40s restarting failed container={c.Name} pod={pod.Metadata.Name}" } },
                    LastState = new ContainerState { Terminated = new ContainerStateDetail { Reason = "Error", ExitCode = 1, StartedAt = now.AddSeconds(-1), FinishedAt = now } },
                })],
            },
        });
    }

    /// <summary>The chains on a node with this prefix whose rules carry this comment.</summary>
    internal IEnumerable<string> ChainsOf(string node, bool ipv6, string prefix, string comment) => Read(node, $"{Iptables(ipv6)}-save -t nat").Split('\n')
        .Where(l => l.StartsWith($"-A {prefix}", StringComparison.Ordinal) && l.Contains($"\"{comment}\"", StringComparison.Ordinal)).Select(l => l.Split(' ')[1]).Distinct();

    /// <summary>Has a pod's program misbehave in one way, from its start on.</summary>
    internal void Misbehave(Pod pod, string behaviour)
    {
        LabProcesses.StopProgram(folder, pod);
        File.WriteAllText(Behaviours.PathOf(folder, pod.Metadata.Name), behaviour);
        LabProcesses.StartProgram(folder, pod, record);
    }

    /// <summary>The file that makes nginx answer its readiness probe with 503.</summary>
    internal string NotReadyPath(Pod pod) => $"{folder.PlaceFolder(pod.Metadata.Name)}/not-ready";
}
