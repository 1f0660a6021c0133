using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>The objects a new lab starts with, and what a mended fault goes back to.</summary>
internal static class LabObjects
{
    internal const string Client = "ubuntu";
    internal const string Server = "my-nginx";
    internal static readonly string[] ServerPods = ["my-nginx-tsyps", "my-nginx-wu92j"];
    internal const string Dns = "coredns";
    internal const string Hostnames = "hostnames";
    internal const string HostnamesPod = "hostnames-632524106-bbpiw";
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
        new Service
        {
            Metadata = new ObjectMeta { Name = Hostnames, Namespace = "default", Labels = Labels(("app", Hostnames)) },
            Spec = new ServiceSpec
            {
                ClusterIP = "10.96.0.175",
                ClusterIPs = ["10.96.0.175", "fd00:10:96::af"],
                IpFamilies = ["IPv4", "IPv6"],
                InternalTrafficPolicy = "Cluster",
                Selector = Labels(("app", Hostnames)),
                Ports =
                [
                    new ServicePort { Name = "http", Port = 80, TargetPort = TraceProbe.Lab.Hostnames.Port },
                    new ServicePort { Name = "udp", Protocol = "UDP", Port = 80, TargetPort = TraceProbe.Lab.Hostnames.Port },
                ],
            },
        },
    ];

    /// <summary>A Service that a team may have besides: hostnames' pods by themselves, without an address of its own.</summary>
    internal static Service Headless { get; } = HeadlessOn(TraceProbe.Lab.Hostnames.Port);

    /// <summary>The same with another port before the same target port.</summary>
    internal static Service HeadlessOn(int port) => new()
    {
        Metadata = new ObjectMeta { Name = "hostnames-headless", Namespace = "default", Labels = Labels(("app", Hostnames)) },
        Spec = new ServiceSpec
        {
            ClusterIP = "None",
            ClusterIPs = ["None"],
            IpFamilies = ["IPv4", "IPv6"],
            Selector = Labels(("app", Hostnames)),
            Ports = [new ServicePort { Name = "http", Port = port, TargetPort = TraceProbe.Lab.Hostnames.Port }],
        },
    };

    /// <summary>A Service whose endpoints somebody writes by hand.</summary>
    internal static Service ByHand { get; } = new()
    {
        Metadata = new ObjectMeta { Name = "db", Namespace = "default" },
        Spec = new ServiceSpec { ClusterIP = "10.96.0.99", ClusterIPs = ["10.96.0.99"], IpFamilies = ["IPv4"], InternalTrafficPolicy = "Cluster", Ports = [new ServicePort { Port = 80, TargetPort = TraceProbe.Lab.Hostnames.Port }] },
    };

    /// <summary>Its endpoint.</summary>
    /// <param name="address">Where it is.</param>
    internal static EndpointSlice SliceByHand(string address) => new()
    {
        Metadata = new ObjectMeta { Name = "db-1", Namespace = "default", Labels = Labels((EndpointSlice.ServiceNameLabel, "db")) },
        AddressType = "IPv4",
        Endpoints = [new Endpoint { Addresses = [address], Conditions = new EndpointConditions { Ready = true } }],
        Ports = [new EndpointPort { Name = "", Port = TraceProbe.Lab.Hostnames.Port, Protocol = "TCP" }],
    };

    /// <summary>A Service that stands for a name outside the cluster.</summary>
    internal static Service Outside(string name) => new()
    {
        Metadata = new ObjectMeta { Name = "db", Namespace = "default" },
        Spec = new ServiceSpec { Type = "ExternalName", ExternalName = name },
    };

    /// <summary>The Service of that name, as a new lab has it.</summary>
    internal static Service ServiceCalled(string name) => Services.First(s => s.Metadata.Name == name);

    /// <summary>The readiness probe that a pod has in a new lab.</summary>
    internal static Probe? ProbeOf(Pod pod) => Pods.First(p => p.Metadata.Name == pod.Metadata.Name).Spec.Containers[0].ReadinessProbe;

    internal static ImmutableArray<Pod> Pods { get; } =
    [
        PodOf("default", Client, "node-1", 10, new Container { Name = "ubuntu", Image = "ubuntu:24.04" }, ("run", Client)),
        PodOf("default", ServerPods[0], "node-1", 11, Nginx(), ("run", Server)) with { Metadata = Owned("default", ServerPods[0], "my-nginx-7d64f4b574", ("run", Server)) },
        PodOf("default", ServerPods[1], "node-2", 12, Nginx(), ("run", Server)) with { Metadata = Owned("default", ServerPods[1], "my-nginx-7d64f4b574", ("run", Server)) },
        // Without a readiness probe, as many are: it stays an endpoint, whatever becomes of it.
        PodOf("default", HostnamesPod, "node-2", 13, new Container
        {
            Name = Hostnames,
            Image = "registry.k8s.io/serve_hostname:v1.4",
            Ports = [new ContainerPort { Port = TraceProbe.Lab.Hostnames.Port }, new ContainerPort { Port = TraceProbe.Lab.Hostnames.Port, Protocol = "UDP" }],
        }, ("app", Hostnames)) with { Metadata = Owned("default", HostnamesPod, "hostnames-632524106", ("app", Hostnames)) },
        PodOf("kube-system", DnsPod, "node-2", 2, new Container
        {
            Name = "coredns",
            Image = "registry.k8s.io/coredns/coredns:v1.12.0",
            Ports = [new ContainerPort { Name = "dns", Port = 53, Protocol = "UDP" }, new ContainerPort { Name = "dns-tcp", Port = 53 }],
            ReadinessProbe = new Probe { TcpSocket = new TcpSocketAction { Port = 53 } },
        }, ("k8s-app", "kube-dns")) with { Metadata = Owned("kube-system", DnsPod, "coredns-6d4b75cb6d", ("k8s-app", "kube-dns")) },
    ];

    /// <summary>The Deployment that a pod is of; null for one that nobody would make anew.</summary>
    internal static string? WorkloadOf(Pod pod) => pod.Metadata.OwnerReferences is [{ Kind: "ReplicaSet", Name: var set }] ? set[..set.LastIndexOf('-')] : null;

    /// <summary>A pod with what the kubelet adds when it starts its containers.</summary>
    internal static Pod WithContainers(Pod pod) => pod with
    {
        Status = pod.Status with
        {
            ContainerStatuses =
            [
                .. pod.Spec.Containers.Select(c => new ContainerStatus
                {
                    Name = c.Name,
                    State = new ContainerState { Running = new ContainerStateDetail() },
                }),
            ],
        },
    };

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

    private static ObjectMeta Owned(string ns, string name, string replicaSet, (string, string) label) => new()
    {
        Name = name,
        Namespace = ns,
        Labels = Labels(label),
        OwnerReferences = [new OwnerReference("ReplicaSet", replicaSet)],
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
