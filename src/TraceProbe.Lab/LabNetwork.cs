using System.Net;
using System.Security.Cryptography;
using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// Namespaces, links, addresses and routes. <c>ip -batch</c> does each namespace's share in one process, and both ends of a veth
/// pair are made where they belong, so that nothing of the lab is ever seen in this machine's own namespace.
/// </summary>
internal static class LabNetwork
{
    internal const string Fabric = "fabric";
    internal const string Outside = "outside";

    /// <summary>The namespaces of a lab without its pods.</summary>
    internal static IEnumerable<string> Frame => LabLayout.Nodes.Select(n => n.Name).Append(Fabric).Append(Outside);

    internal static void AddNamespaces(LabFolder lab, IEnumerable<string> whats)
    {
        var names = whats.Select(w => LabLayout.NetNsOf(lab.Name, w)).ToArray();
        foreach (var name in names)
        {
            lab.Journal.NetNs(name);
        }

        Batch(null, names.Select(n => $"netns add {n}"));
    }

    internal static void DeleteNamespaces(IEnumerable<string> names)
    {
        var present = names.Where(n => File.Exists(NetNs.PathOf(n))).ToArray();
        if (present.Length > 0)
        {
            Batch(null, present.Select(n => $"netns del {n}"));
        }
    }

    /// <summary>Lays the fabric, the nodes and the outside; their namespaces are there and empty.</summary>
    internal static void BuildFrame(LabFolder lab)
    {
        foreach (var node in LabLayout.Nodes)
        {
            NetNs.Run(lab.NetNsPath(node.Name), () =>
            {
                SetEndpointSysctls();
                Sysctl("net/ipv4/ip_forward", "1");
                Sysctl("net/ipv6/conf/all/forwarding", "1");
                Sysctl("net/ipv4/conf/all/rp_filter", "0");
                Sysctl("net/ipv4/conf/default/rp_filter", "0");
                // kube-proxy: node ports answer on 127.0.0.1 too.
                Sysctl("net/ipv4/conf/all/route_localnet", "1");
                // Without these a pod's answer to a pod on the same bridge never passes back through the translation.
                Sysctl("net/bridge/bridge-nf-call-iptables", "1");
                Sysctl("net/bridge/bridge-nf-call-ip6tables", "1");
            });
        }

        NetNs.Run(lab.NetNsPath(Fabric), () =>
        {
            SetEndpointSysctls();
            // A router that leads nowhere, and is silent about it.
            Sysctl("net/ipv4/ip_forward", "0");
            Sysctl("net/ipv6/conf/all/forwarding", "0");
            Sysctl("net/bridge/bridge-nf-call-iptables", "0");
            Sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
        });
        NetNs.Run(lab.NetNsPath(Outside), SetEndpointSysctls);

        var ports = LabLayout.Nodes.Select(n => (Port: $"to-{n.Name}", Where: n.Name)).Append((Port: $"to-{Outside}", Where: Outside)).ToArray();
        var fabric = LabLayout.NetNsOf(lab.Name, Fabric);
        Batch(null, ports.Select(p => $"link add name {p.Port} netns {fabric} type veth peer name eth0 netns {LabLayout.NetNsOf(lab.Name, p.Where)}"));

        Parallel.Invoke(
        [
            () => Batch(fabric, (string[])
            [
                "link set lo up",
                "link add name br0 type bridge mcast_snooping 0",
                .. ports.Select(p => $"link set {p.Port} master br0"),
                .. ports.Select(p => $"link set {p.Port} up"),
                $"addr add {LabLayout.GatewayIPv4}/24 dev br0",
                $"addr add {LabLayout.GatewayIPv6}/64 dev br0 nodad",
                "link set br0 up",
                "route add blackhole 0.0.0.0/0",
                "route add blackhole ::/0",
            ]),
            () => Batch(LabLayout.NetNsOf(lab.Name, Outside), (string[])
            [
                "link set lo up",
                $"addr add {LabLayout.OutsideIPv4}/24 dev eth0",
                $"addr add {LabLayout.OutsideIPv6}/64 dev eth0 nodad",
                "link set eth0 up",
                .. DefaultRoutes(LabLayout.GatewayIPv4, LabLayout.GatewayIPv6),
                // The provider's router knows the way back to the pods, so that they need no masquerade to ask its resolver.
                .. LabLayout.Nodes.SelectMany(RoutesToPodsOf),
            ]),
            .. LabLayout.Nodes.Select(node => (Action)(() => Batch(LabLayout.NetNsOf(lab.Name, node.Name), (string[])
            [
                "link set lo up",
                // With an address of its own: a bridge without takes a port's, and changes it as ports come and go, which its pods learn late.
                "link add name cni0 address 0a:58:0a:f4:00:01 type bridge mcast_snooping 0",
                $"addr add {node.BridgeIPv4}/24 dev cni0",
                $"addr add {node.BridgeIPv6}/64 dev cni0 nodad",
                "link set cni0 up",
                .. UplinkOf(node),
            ]))),
        ]);
    }

    /// <summary>Connects pods to their nodes' bridges; the pods' namespaces are there and empty.</summary>
    internal static void ConnectPods(LabFolder lab, IReadOnlyCollection<Pod> pods)
    {
        foreach (var pod in pods)
        {
            NetNs.Run(lab.NetNsPath(pod.Metadata.Name), SetEndpointSysctls);
        }

        Batch(null, pods.Select(p => $"link add name {VethOf(p)} netns {LabLayout.NetNsOf(lab.Name, p.Spec.NodeName!)} type veth peer name eth0 netns {LabLayout.NetNsOf(lab.Name, p)}"));
        Parallel.Invoke(
        [
            .. pods.GroupBy(p => p.Spec.NodeName!).Select(node => (Action)(() => Batch(LabLayout.NetNsOf(lab.Name, node.Key), node.SelectMany(p => (string[])
            [
                $"link set {VethOf(p)} master cni0",
                // A pod that reaches itself through a Service comes back on the port it left by.
                $"link set {VethOf(p)} type bridge_slave hairpin on",
                $"link set {VethOf(p)} up",
            ])))),
            .. pods.Select(pod => (Action)(() => Batch(LabLayout.NetNsOf(lab.Name, pod), (string[])
            [
                "link set lo up",
                $"link set eth0 address {MacOf(pod)}",
                .. UplinkOf(pod),
            ]))),
        ]);
    }

    /// <summary>
    /// Removes a pod's link. The kernel would do so with the pod's namespace, but a while after the namespace's name is gone, and
    /// until then no other link can have its name.
    /// </summary>
    internal static void DisconnectPod(LabFolder lab, Pod pod) => Batch(LabLayout.NetNsOf(lab.Name, pod.Spec.NodeName!), [$"link del {VethOf(pod)}"]);

    /// <summary>The node's end of a pod's link, named as CNI plugins do.</summary>
    internal static string VethOf(Pod pod) => "veth" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(pod.Metadata.Name)).AsSpan(0, 4));

    // From the address, as the CNI's bridge plugin did it: a pod that comes back under its address is then known to its neighbours.
    private static string MacOf(Pod pod) => "0a:58:" + Convert.ToHexStringLower(IPAddress.Parse(pod.Status.PodIP!).GetAddressBytes())
        .Insert(6, ":").Insert(4, ":").Insert(2, ":");

    /// <summary>Gives a pod's link its addresses and routes again: the kernel forgets them when it goes down.</summary>
    internal static void Restore(LabFolder lab, Pod pod) => Batch(LabLayout.NetNsOf(lab.Name, pod), UplinkOf(pod));

    /// <inheritdoc cref="Restore(LabFolder, Pod)"/>
    internal static void Restore(LabFolder lab, NodePlan node) => Batch(LabLayout.NetNsOf(lab.Name, node.Name), UplinkOf(node));

    private static string[] UplinkOf(Pod pod) =>
    [
        $"addr replace {pod.Status.PodIPs[0].Ip}/24 dev eth0",
        $"addr replace {pod.Status.PodIPs[1].Ip}/64 dev eth0 nodad",
        "link set eth0 up",
        .. DefaultRoutes(LabLayout.Node(pod.Spec.NodeName!).BridgeIPv4, LabLayout.Node(pod.Spec.NodeName!).BridgeIPv6),
    ];

    private static string[] UplinkOf(NodePlan node) =>
    [
        $"addr replace {node.IPv4}/24 dev eth0",
        $"addr replace {node.IPv6}/64 dev eth0 nodad",
        "link set eth0 up",
        .. DefaultRoutes(LabLayout.GatewayIPv4, LabLayout.GatewayIPv6),
        .. LabLayout.Nodes.Where(n => n != node).SelectMany(RoutesToPodsOf),
    ];

    private static string[] DefaultRoutes(string ipv4, string ipv6) => [$"route replace 0.0.0.0/0 via {ipv4}", $"route replace ::/0 via {ipv6}"];

    private static string[] RoutesToPodsOf(NodePlan node)
        => [$"route replace {node.PodCidrIPv4} via {node.IPv4}", $"route replace {node.PodCidrIPv6} via {node.IPv6}"];

    // Addresses usable at once and none but ours.
    private static void SetEndpointSysctls()
    {
        foreach (var scope in (string[])["all", "default"])
        {
            Sysctl($"net/ipv6/conf/{scope}/disable_ipv6", "0");
            Sysctl($"net/ipv6/conf/{scope}/accept_dad", "0");
            Sysctl($"net/ipv6/conf/{scope}/accept_ra", "0");
        }
    }

    internal static void Sysctl(string name, string value)
    {
        try
        {
            File.WriteAllText($"/proc/sys/{name}", value);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new LabException(name.StartsWith("net/bridge", StringComparison.Ordinal)
                ? "This kernel has no bridge netfilter loaded, which every Kubernetes node needs. Load it with: modprobe br_netfilter"
                : name.StartsWith("net/ipv4/vs", StringComparison.Ordinal)
                ? $"This kernel has no /proc/sys/{name}; IPVS mode needs it. Load it with: modprobe ip_vs"
                : $"This kernel has no /proc/sys/{name}; the lab needs IPv4 and IPv6.", e);
        }
    }

    private static void Batch(string? netns, IEnumerable<string> lines)
    {
        var text = string.Join('\n', lines) + "\n";
        Command.Run(null, "ip", netns is null ? ["-batch", "-"] : ["-netns", netns, "-batch", "-"], text);
    }

}
