using System.Collections.Immutable;
using System.Security.Cryptography;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>
/// The pods of kube-proxy's DaemonSet, one on each node. They are in the API only: on a lab's nodes its controller does their work. One that
/// is deleted is made anew under another name, as a DaemonSet's pods are.
/// </summary>
internal sealed class KubeProxyPods
{
    /// <summary>What selects them: <c>k8s-app=kube-proxy</c>.</summary>
    public static ImmutableSortedDictionary<string, string> Labels { get; } = LabObjects.Labels(("k8s-app", "kube-proxy"));

    /// <summary>The pods; the same array as long as none is made anew.</summary>
    public ImmutableArray<Pod> Pods { get; private set; } = [.. LabLayout.Nodes.Select(n => On(n.Name))];

    /// <summary>Makes one anew.</summary>
    /// <param name="pod">The one that is deleted.</param>
    public void MakeAnew(Pod pod) => Pods = Pods.Replace(pod, On(pod.Spec.NodeName!));

    private static Pod On(string node)
    {
        var now = TimeProvider.System.GetUtcNow();
        return new Pod
        {
            Metadata = new ObjectMeta
            {
                Name = $"kube-proxy-{RandomNumberGenerator.GetString("bcdfghjklmnpqrstvwxz2456789", 5)}",
                Namespace = "kube-system",
                Uid = Guid.NewGuid().ToString(),
                CreationTimestamp = now,
                Labels = Labels,
                OwnerReferences = [new OwnerReference("DaemonSet", "kube-proxy")],
            },
            Spec = new PodSpec { NodeName = node, HostNetwork = true, Containers = [new Container { Name = "kube-proxy", Image = "registry.k8s.io/kube-proxy:v1.33.0" }] },
            Status = new PodStatus
            {
                Phase = "Running",
                HostIP = LabLayout.Node(node).IPv4,
                PodIP = LabLayout.Node(node).IPv4,
                PodIPs = [new PodIP(LabLayout.Node(node).IPv4)],
                Conditions = [new Condition { Type = "Ready", Status = "True" }],
                ContainerStatuses = [new ContainerStatus { Name = "kube-proxy", Ready = true, State = new ContainerState { Running = new ContainerStateDetail { StartedAt = now } } }],
            },
        };
    }
}
