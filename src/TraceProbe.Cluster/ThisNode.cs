using System.Collections.Immutable;
using System.Globalization;
using System.Net.NetworkInformation;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Cluster;

/// <summary>
/// What of a cluster is on this machine: which of its nodes it is, and which network namespaces are its pods'. No container runtime is
/// asked: kubelets name a pod's cgroups after its UID, whichever runtime and driver there is.
/// </summary>
public static class ThisNode
{
    /// <summary>The name that the cluster has for this machine: that of the node with one of its addresses, else of one that is called like it; null when there is none.</summary>
    public static string? NameIn(ClusterSnapshot cluster)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        if (Environment.GetEnvironmentVariable("NODE_NAME") is { Length: > 0 } told && cluster.FindNode(told) is not null)
        {
            return told;
        }

        var own = NetworkInterface.GetAllNetworkInterfaces().SelectMany(i => i.GetIPProperties().UnicastAddresses)
            .Select(a => IpAddress.TryParse(a.Address.ToString(), null, out var address) ? address : default).Where(a => !a.IsUnspecified).ToHashSet();
        return (cluster.Nodes.FirstOrDefault(n => n.Status.Addresses.Any(a => IpAddress.TryParse(a.Address, null, out var address) && own.Contains(address)))
            ?? cluster.Nodes.FirstOrDefault(n => n.Metadata.Name.Equals(Environment.MachineName, StringComparison.OrdinalIgnoreCase)))?.Metadata.Name;
    }

    /// <summary>The places of the pods that run on this node, those in the node's own network left out.</summary>
    /// <param name="cluster">The cluster.</param>
    /// <param name="node">The node's name in it.</param>
    /// <param name="nodeNetNs">The inode number of its network namespace.</param>
    public static ImmutableArray<Place> PodsOf(ClusterSnapshot cluster, string node, uint nodeNetNs)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        var byUid = new Dictionary<string, Pod>(StringComparer.Ordinal);
        foreach (var pod in cluster.Pods.Where(p => p.Spec.NodeName == node && !p.Spec.HostNetwork && p.Status.Phase is not ("Succeeded" or "Failed")))
        {
            foreach (var uid in (string?[])[pod.Metadata.Uid, pod.Metadata.StaticPodUid])
            {
                if (uid is not null)
                {
                    byUid.TryAdd(uid, pod);
                }
            }
        }

        var found = new Dictionary<Pod, Place>(ReferenceEqualityComparer.Instance);
        if (byUid.Count == 0)
        {
            return [];
        }

        foreach (var pid in Directory.EnumerateDirectories("/proc").Select(f => int.TryParse(f.AsSpan("/proc/".Length), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) ? pid : 0).Where(p => p > 0).Order())
        {
            if (Read($"/proc/{pid}/cgroup") is not { } cgroups || UidsIn(cgroups).Select(u => byUid.GetValueOrDefault(u)).FirstOrDefault(p => p is not null) is not { } pod)
            {
                continue;
            }

            if (NamespaceEntry.InodeOf($"/proc/{pid}/ns/net") is not 0 and var netNs && netNs != nodeNetNs)
            {
                // The first process is the one that holds the namespace; the pod's hosts file is only in the containers that come after it. What a
                // container makes for itself came later, whatever its number: those begin anew some day.
                found[pod] = found.TryGetValue(pod, out var place) && (place.NetNs == netNs || StartOf(place.Pid) <= StartOf(pid))
                    ? place.NetNs != netNs || Read($"/proc/{place.Pid}/comm") != "pause\n" ? place : place with { EtcPath = $"/proc/{pid}/root/etc" }
                    : new Place
                    {
                        Name = $"pod/{pod.Metadata.Namespace ?? "default"}/{pod.Metadata.Name}",
                        Kind = PlaceKind.Pod,
                        Node = node,
                        PodNamespace = pod.Metadata.Namespace ?? "default",
                        PodName = pod.Metadata.Name,
                        PodUid = pod.Metadata.Uid,
                        Pid = pid,
                        NetNs = netNs,
                        NetNsPath = $"/proc/{pid}/ns/net",
                        EtcPath = $"/proc/{pid}/root/etc",
                        Addresses = [.. pod.Status.PodIPs.Select(i => i.Ip).Append(pod.Status.PodIP ?? "").Select(t => IpAddress.TryParse(t, null, out var a) ? a : default).Where(a => !a.IsUnspecified).Distinct()],
                    };
            }
        }

        return [.. found.Values.OrderBy(p => p.Name, StringComparer.Ordinal)];
    }

    /// <summary>
    /// The pods' UIDs in a <c>/proc/PID/cgroup</c>, of either version: <c>0::/kubepods/besteffort/pod1f3a…-…/2c61…</c> with the cgroupfs driver,
    /// <c>…/kubepods-burstable-pod1f3a…_….slice/cri-containerd-2c61….scope</c> with systemd's, which has no dashes in a name, and
    /// <c>…/kubepods-burstable-pod1f3a…_….slice:cri-containerd:2c61…</c> where the kubelet has systemd's and containerd the other.
    /// </summary>
    internal static IEnumerable<string> UidsIn(string cgroups)
    {
        foreach (var step in cgroups.Split('/', ':', '\n'))
        {
            var at = step.LastIndexOf("pod", StringComparison.Ordinal);
            if (at < 0 || (at > 0 && step[at - 1] != '-'))
            {
                continue;
            }

            var uid = step[(at + 3)..].Replace(".slice", "", StringComparison.Ordinal).Replace('_', '-');
            if (uid.Length is 32 or 36 && uid.All(c => char.IsAsciiHexDigitLower(c) || c == '-'))
            {
                yield return uid;
            }
        }
    }

    // Field 22 of proc(5)'s stat, in clock ticks since boot; the name before it, in parentheses, may hold anything.
    private static ulong StartOf(int pid)
        => Read($"/proc/{pid}/stat") is { } stat && stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is { Length: > 19 } fields
            && ulong.TryParse(fields[19], NumberStyles.None, CultureInfo.InvariantCulture, out var start) ? start : ulong.MaxValue;

    private static string? Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // the process has ended meanwhile
        }
    }
}
