using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;

namespace TraceProbe.Core.Cluster;

/// <summary>What makes pods, named as kubectl names it.</summary>
/// <param name="Kind">Its kind: <c>Deployment</c>.</param>
/// <param name="Namespace">Its namespace.</param>
/// <param name="Name">Its name.</param>
public sealed record Workload(string Kind, string Namespace, string Name)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Kind.ToLowerInvariant()}/{Namespace}/{Name}";
}

/// <summary>
/// Which pods are whose, as far as the pods' own <c>ownerReferences</c> tell: workloads themselves are not read.
/// </summary>
public static class Workloads
{
    /// <summary>Reads <c>deploy/NAME</c>, <c>deploy/NAMESPACE/NAME</c> and the like, in all forms that kubectl knows of the kind.</summary>
    /// <param name="text">What was written.</param>
    /// <param name="ns">The namespace of one that is named without.</param>
    /// <param name="workload">What it means.</param>
    public static bool TryParse(string text, string ns, [NotNullWhen(true)] out Workload? workload)
    {
        ArgumentNullException.ThrowIfNull(text);
        var words = text.Split('/');
        var kind = words[0] switch
        {
            "deploy" or "deployment" or "deployments" or "deployment.apps" or "deployments.apps" => "Deployment",
            "ds" or "daemonset" or "daemonsets" or "daemonset.apps" or "daemonsets.apps" => "DaemonSet",
            "sts" or "statefulset" or "statefulsets" or "statefulset.apps" or "statefulsets.apps" => "StatefulSet",
            "rs" or "replicaset" or "replicasets" or "replicaset.apps" or "replicasets.apps" => "ReplicaSet",
            "job" or "jobs" or "job.batch" or "jobs.batch" => "Job",
            _ => null,
        };
        workload = (kind, words) switch
        {
            (not null, [_, { Length: > 0 } name]) => new Workload(kind, ns, name),
            (not null, [_, { Length: > 0 } space, { Length: > 0 } name]) => new Workload(kind, space, name),
            _ => null,
        };
        return workload is not null;
    }

    /// <summary>What made a pod; the pod itself when nothing did.</summary>
    public static Workload Of(Pod pod)
    {
        ArgumentNullException.ThrowIfNull(pod);
        var ns = pod.Metadata.Namespace ?? "default";
        return OwnersOf(pod, "Deployment").FirstOrDefault() is { } deployment ? new Workload("Deployment", ns, deployment)
            : pod.Metadata.OwnerReferences is [var owner, ..] ? new Workload(owner.Kind, ns, owner.Name) : new Workload("Pod", ns, pod.Metadata.Name);
    }

    /// <summary>The pods of a workload.</summary>
    public static ImmutableArray<Pod> PodsOf(ClusterSnapshot cluster, Workload workload)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(workload);
        return [.. cluster.Pods.Where(p => (p.Metadata.Namespace ?? "default") == workload.Namespace && OwnersOf(p, workload.Kind).Contains(workload.Name))];
    }

    /// <summary>The names of the workloads of a kind that have pods in a namespace.</summary>
    public static IEnumerable<string> Names(ClusterSnapshot cluster, string kind, string ns)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        return cluster.Pods.Where(p => (p.Metadata.Namespace ?? "default") == ns).SelectMany(p => OwnersOf(p, kind)).Distinct(StringComparer.Ordinal);
    }

    // A Deployment's ReplicaSets are called after it, with a hash behind the last dash.
    private static IEnumerable<string> OwnersOf(Pod pod, string kind) => kind == "Deployment"
        ? pod.Metadata.OwnerReferences.Where(o => o.Kind == "ReplicaSet" && o.Name.LastIndexOf('-') > 0).Select(o => o.Name[..o.Name.LastIndexOf('-')])
        : pod.Metadata.OwnerReferences.Where(o => o.Kind == kind).Select(o => o.Name);
}
