using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>The objects a new lab starts with, and what a mended fault goes back to.</summary>
internal static class LabObjects
{
    internal const string Client = "ubuntu";
    internal const string Server = "my-nginx";
    internal static readonly string[] ServerPods = ["my-nginx-tsyps", "my-nginx-wu92j"];
    internal const string DnsPod = "coredns-6d4b75cb6d-x7k2p";

    internal static Node NodeOf(NodePlan plan) => new()
    {
        Metadata = new ObjectMeta { Name = plan.Name, Labels = Labels(("kubernetes.io/hostname", plan.Name), ("kubernetes.io/os", "linux")) },
        Spec = new NodeSpec { PodCIDR = plan.PodCidrIPv4, PodCIDRs = [plan.PodCidrIPv4, plan.PodCidrIPv6] },
        Status = new NodeStatus
        {
            Addresses = [new("InternalIP", plan.IPv4), new("InternalIP", plan.IPv6), new("Hostname", plan.Name)],
            Conditions = [new Condition { Type = "Ready", Status = "True", Reason = "KubeletReady", Message = "kubelet is posting ready status" }],
        },
    };

    internal static ImmutableArray<Service> Services { get; } =
    [
        new Service
        {
            Metadata = new ObjectMeta { Name = "kubernetes", Namespace = "default", Labels = Labels(("component", "apiserver"), ("provider", "kubernetes")) },
            Spec = new ServiceSpec
            {
                ClusterIP = "10.96.0.1",
                ClusterIPs = ["10.96.0.1"],
                IpFamilies = ["IPv4"],
                InternalTrafficPolicy = "Cluster",
                Ports = [new ServicePort { Name = "https", Port = 443, TargetPort = 6443 }],
            },
        },
        new Service
        {
            Metadata = new ObjectMeta
            {
                Name = "kube-dns",
                Namespace = "kube-system",
                Labels = Labels(("k8s-app", "kube-dns"), ("kubernetes.io/cluster-service", "true"), ("kubernetes.io/name", "CoreDNS")),
            },
            Spec = new ServiceSpec
            {
                ClusterIP = LabLayout.DnsIPv4,
                ClusterIPs = [LabLayout.DnsIPv4, LabLayout.DnsIPv6],
                IpFamilies = ["IPv4", "IPv6"],
                InternalTrafficPolicy = "Cluster",
                Selector = Labels(("k8s-app", "kube-dns")),
                Ports =
                [
                    new ServicePort { Name = "dns", Protocol = "UDP", Port = 53, TargetPort = 53 },
                    new ServicePort { Name = "dns-tcp", Protocol = "TCP", Port = 53, TargetPort = 53 },
                ],
            },
        },
        new Service
        {
            Metadata = new ObjectMeta { Name = Server, Namespace = "default", Labels = Labels(("run", Server)) },
            Spec = new ServiceSpec
            {
                ClusterIP = "10.96.0.159",
                ClusterIPs = ["10.96.0.159", "fd00:10:96::9f"],
                IpFamilies = ["IPv4", "IPv6"],
                InternalTrafficPolicy = "Cluster",
                Selector = Labels(("run", Server)),
                Ports = [new ServicePort { Port = 8080, TargetPort = 80 }],
            },
        },
    ];

    internal static ImmutableArray<Pod> Pods { get; } =
    [
        PodOf("default", Client, "node-1", 10, new Container { Name = "ubuntu", Image = "ubuntu:24.04" }, ("run", Client)),
        PodOf("default", ServerPods[0], "node-1", 11, Nginx(), ("run", Server)) with { Metadata = MetaOfServer(ServerPods[0]) },
        PodOf("default", ServerPods[1], "node-2", 12, Nginx(), ("run", Server)) with { Metadata = MetaOfServer(ServerPods[1]) },
        PodOf("kube-system", DnsPod, "node-2", 2, new Container
        {
            Name = "coredns",
            Image = "registry.k8s.io/coredns/coredns:v1.12.0",
            Ports = [new ContainerPort { Name = "dns", Port = 53, Protocol = "UDP" }, new ContainerPort { Name = "dns-tcp", Port = 53 }],
            ReadinessProbe = new Probe { TcpSocket = new TcpSocketAction { Port = 53 } },
        }, ("k8s-app", "kube-dns")),
    ];

    /// <summary>The slice of the API server itself, which no selector makes.</summary>
    internal static EndpointSlice KubernetesSlice { get; } = new()
    {
        Metadata = new ObjectMeta { Name = "kubernetes", Namespace = "default", Labels = Labels((EndpointSlice.ServiceNameLabel, "kubernetes")) },
        AddressType = "IPv4",
        Endpoints = [new Endpoint { Addresses = [LabLayout.Nodes[0].IPv4], Conditions = new EndpointConditions { Ready = true } }],
        Ports = [new EndpointPort { Name = "https", Port = 6443, Protocol = "TCP" }],
    };

    internal static ImmutableSortedDictionary<string, string> Labels(params ReadOnlySpan<(string Key, string Value)> pairs)
    {
        var labels = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach (var (key, value) in pairs)
        {
            labels[key] = value;
        }

        return labels.ToImmutable();
    }

    private static ObjectMeta MetaOfServer(string name) => new()
    {
        Name = name,
        Namespace = "default",
        Labels = Labels(("run", Server)),
        OwnerReferences = [new OwnerReference("ReplicaSet", Server)],
    };

    private static Container Nginx() => new()
    {
        Name = "nginx",
        Image = "nginx",
        Ports = [new ContainerPort { Name = "http", Port = 80 }],
        ReadinessProbe = new Probe { HttpGet = new HttpGetAction { Path = "/ready", Port = 80 } },
    };

    private static Pod PodOf(string ns, string name, string node, int host, Container container, (string, string) label)
    {
        var plan = LabLayout.Node(node);
        var addresses = new[] { $"10.244.{plan.Number}.{host}", $"fd00:10:244:{plan.Number}::{host:x}" };
        return new Pod
        {
            Metadata = new ObjectMeta { Name = name, Namespace = ns, Labels = Labels(label) },
            Spec = new PodSpec { NodeName = node, Containers = [container] },
            Status = new PodStatus
            {
                Phase = "Running",
                HostIP = plan.IPv4,
                PodIP = addresses[0],
                PodIPs = [new PodIP(addresses[0]), new PodIP(addresses[1])],
            },
        };
    }
}
