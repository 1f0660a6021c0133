using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

public sealed partial class Lab
{
    private const string FlushedNode = "node-1";

    /// <summary>
    /// The faults that hold now. Asked of the lab's state and not of a note about it: a fault mended by other means is mended.
    /// </summary>
    public ImmutableArray<Fault> ActiveFaults
    {
        get
        {
            var cluster = Cluster;
            return [.. Fault.All.Where(f => IsActive(f.Name, cluster))];
        }
    }

    /// <summary>Breaks the lab in one way. Its effect is there when this returns.</summary>
    /// <param name="fault">The fault's name.</param>
    /// <exception cref="LabException">There is no such fault, or it cannot be brought about now.</exception>
    public void Break(string fault)
    {
        var name = Fault.Find(fault).Name;
        using var held = _folder.Lock();
        var cluster = Cluster;
        if (IsActive(name, cluster))
        {
            return;
        }

        switch (name)
        {
            case "wrong-resolver":
                GiveDnsPolicy(cluster, "Default");
                break;
            case "service-deleted":
                _folder.Objects.Delete("services", Server(cluster).Metadata);
                break;
            case "wrong-target-port":
                _folder.Objects.Put(WithTargetPort(Server(cluster), 8080));
                break;
            case "wrong-labels":
                // Also after the Service was made to follow the pods.
                _folder.Objects.Put(Server(cluster) with { Spec = Server(cluster).Spec with { Selector = LabObjects.Labels(("run", LabObjects.Server)) } });
                Relabel(cluster, "my-nginxx");
                break;
            case "no-pods":
                ScaleServers(0);
                break;
            case "not-ready":
                foreach (var pod in ServerPods(cluster))
                {
                    File.WriteAllText(NotReadyPath(pod), "");
                }

                break;
            case "flush-rules":
                Pause(name);
                new Reconciler(_folder, _record).FlushNode(LabLayout.Node(FlushedNode));
                break;
            case "service-rule-missing":
                Pause(name);
                new Reconciler(_folder, _record).ProgramNode(LabLayout.Node(FlushedNode),
                    cluster with { Services = [.. cluster.Services.Where(s => s.Metadata.Name != LabObjects.Server)] });
                break;
            case "no-listener":
                foreach (var pod in ServerPods(cluster))
                {
                    _folder.Objects.Put(WithProbe(pod, null));
                    LabProcesses.StopServer(_folder, pod);
                }

                break;
            default:
                throw new InvalidOperationException($"Fault {name} has a description and no effect.");
        }

        Settle();
    }

    /// <summary>Mends one fault, or all that hold. Its effect is there when this returns.</summary>
    /// <param name="fault">The fault's name; null for all.</param>
    /// <returns>The faults that were mended.</returns>
    /// <exception cref="LabException">There is no such fault.</exception>
    public ImmutableArray<Fault> Mend(string? fault = null)
    {
        using var held = _folder.Lock();
        var mended = new List<Fault>();
        // One fault may hide another (a deleted Service selects nobody, pods that are gone have no labels), so what holds is asked again
        // before each, and once more at the end.
        foreach (var one in fault is null ? Fault.All.Concat(Fault.All) : [Fault.Find(fault)])
        {
            if (!IsActive(one.Name, Cluster) || mended.Contains(one))
            {
                continue;
            }

            mended.Add(one);
            var name = one.Name;
            var cluster = Cluster;
            switch (name)
            {
                case "wrong-resolver":
                    GiveDnsPolicy(cluster, "ClusterFirst");
                    break;
                case "service-deleted":
                    _folder.Objects.Put(LabObjects.Services.First(s => s.Metadata.Name == LabObjects.Server));
                    break;
                case "wrong-target-port":
                    _folder.Objects.Put(WithTargetPort(Server(cluster), 80));
                    break;
                case "wrong-labels":
                    Relabel(cluster, LabObjects.Server);
                    _folder.Objects.Put(Server(cluster) with { Spec = Server(cluster).Spec with { Selector = LabObjects.Labels(("run", LabObjects.Server)) } });
                    break;
                case "no-pods":
                    ScaleServers(LabObjects.ServerPods.Length);
                    break;
                case "not-ready":
                    foreach (var pod in ServerPods(cluster))
                    {
                        File.Delete(NotReadyPath(pod));
                    }

                    break;
                case "flush-rules" or "service-rule-missing":
                    ResumeProxy(FlushedNode);
                    break;
                case "no-listener":
                    foreach (var pod in ServerPods(cluster))
                    {
                        LabProcesses.StartServer(_folder, pod);
                        _folder.Objects.Put(WithProbe(pod, LabObjects.Pods.First(p => p.Metadata.Name == pod.Metadata.Name).Spec.Containers[0].ReadinessProbe));
                    }

                    break;
                default:
                    throw new InvalidOperationException($"Fault {name} has a description and no mend.");
            }
        }

        if (mended.Count > 0)
        {
            Settle();
        }

        return [.. mended];
    }

    private bool IsActive(string fault, ClusterSnapshot cluster) => fault switch
    {
        "wrong-resolver" => !File.ReadAllText($"{_folder.EtcFolder(LabObjects.Client)}/resolv.conf").Contains($"nameserver {LabLayout.DnsIPv4}\n", StringComparison.Ordinal),
        "service-deleted" => cluster.FindService("default", LabObjects.Server) is null,
        "wrong-target-port" => cluster.FindService("default", LabObjects.Server)?.Spec.Ports.Any(p => p.TargetPort != 80) == true,
        "wrong-labels" => cluster.FindService("default", LabObjects.Server) is { } service && ServerPods(cluster).Any() && !cluster.PodsSelectedBy(service).Any(),
        "no-pods" => !ServerPods(cluster).Any(),
        "not-ready" => ServerPods(cluster).Any(p => File.Exists(NotReadyPath(p))),
        "no-listener" => ServerPods(cluster).Any(p => !LabProcesses.ServerRuns(_folder, p)),
        _ => LabLayout.Nodes.Any(n => File.Exists(_folder.PausedPath(n.Name)) && File.ReadAllText(_folder.PausedPath(n.Name)) == fault),
    };

    // Until what was changed has taken effect: probes have run, servers that were started answer.
    private void Settle()
    {
        var reconciler = new Reconciler(_folder, _record);
        for (var attempt = 0; attempt < 100; attempt++)
        {
            var cluster = reconciler.Round(probe: true);
            if (cluster.Pods.All(p => p.IsReady || (LabProcesses.IsServer(p) && (File.Exists(NotReadyPath(p)) || !LabProcesses.ServerRuns(_folder, p)))))
            {
                return;
            }

            Thread.Sleep(20);
        }
    }

    private void GiveDnsPolicy(ClusterSnapshot cluster, string policy)
    {
        var pod = cluster.FindPod("default", LabObjects.Client) ?? throw new LabException($"Pod {LabObjects.Client} is not there.");
        _folder.Objects.Put(pod with { Spec = pod.Spec with { DnsPolicy = policy } });
        // Also when the policy is that already and the file was changed in the pod.
        File.Delete(LabProcesses.GivenResolvConfPath(_folder, pod));
    }

    private static Service Server(ClusterSnapshot cluster) => cluster.FindService("default", LabObjects.Server)
        ?? throw new LabException($"Service {LabObjects.Server} is not there. Bring it back with: traceprobe lab mend service-deleted");

    private static IEnumerable<Pod> ServerPods(ClusterSnapshot cluster) => cluster.Pods.Where(LabProcesses.IsServer);

    private static Service WithTargetPort(Service service, int port)
        => service with { Spec = service.Spec with { Ports = [.. service.Spec.Ports.Select(p => p with { TargetPort = port })] } };

    private static Pod WithProbe(Pod pod, Probe? probe)
        => pod with { Spec = pod.Spec with { Containers = [.. pod.Spec.Containers.Select(c => c with { ReadinessProbe = probe })] } };

    private string NotReadyPath(Pod pod) => $"{_folder.PlaceFolder(pod.Metadata.Name)}/not-ready";

    private void Relabel(ClusterSnapshot cluster, string value)
    {
        foreach (var pod in ServerPods(cluster))
        {
            _folder.Objects.Put(pod with { Metadata = pod.Metadata with { Labels = pod.Metadata.Labels.SetItem("run", value) } });
        }
    }

    private void Pause(string fault)
    {
        File.WriteAllText(_folder.PausedPath(FlushedNode), fault);
        // Whatever is there when it resumes is not what was applied last.
        foreach (var applied in Directory.GetFiles(_folder.PlaceFolder(FlushedNode), "rules.*"))
        {
            File.Delete(applied);
        }
    }

    private void ResumeProxy(string node) => File.Delete(_folder.PausedPath(node));

    // The pods of the one workload there is, made and removed as its ReplicaSet would.
    private void ScaleServers(int replicas)
    {
        var present = ServerPods(Cluster).ToArray();
        var places = _folder.ReadPlaces();
        foreach (var pod in present.Skip(replicas))
        {
            var name = pod.Metadata.Name;
            _folder.Objects.Delete("pods", pod.Metadata);
            ProcessTable.Kill(ProcessTable.InNamespaces(new HashSet<uint> { NetNs.InodeOf(_folder.NetNsPath(name)) }));
            LabNetwork.DisconnectPod(_folder, pod);
            LabNetwork.DeleteNamespaces([LabLayout.NetNsOf(Name, pod)]);
            if (_record.Cgroup is not null)
            {
                Cgroups.Remove($"{_record.Cgroup}/kubepods/besteffort/pod{pod.Metadata.Uid}");
            }

            Directory.Delete(_folder.PlaceFolder(name), recursive: true);
            places = places.RemoveAll(p => p.PodName == name);
        }

        var missing = LabObjects.Pods.Where(LabProcesses.IsServer).Where(p => present.All(q => q.Metadata.Name != p.Metadata.Name)).Take(replicas - present.Length).ToArray();
        if (missing.Length > 0)
        {
            foreach (var pod in missing)
            {
                _folder.Objects.Put(WithContainers(pod));
            }

            var cluster = Cluster;
            LabNetwork.AddNamespaces(_folder, missing.Select(p => p.Metadata.Name));
            LabNetwork.ConnectPods(_folder, missing);
            places = places.AddRange(missing.Select(p => LabProcesses.StartPod(_folder, cluster.FindPod("default", p.Metadata.Name)!, _record.Cgroup, cluster)));
        }

        _folder.Write(places);
    }
}
