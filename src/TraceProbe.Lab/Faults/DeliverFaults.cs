using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults between the translation and the pod, and on the way back. They meet Service hostnames, whose only pod is on node-2.</summary>
internal static class DeliverFaults
{
    private const string Url = "http://hostnames";

    // Where the cluster's DNS is cut off too, and its lookups would be the first to fail.
    private const string ByAddress = "http://10.96.0.175";
    private const string Here = "node-1";
    private const string There = "node-2";
    private const string TimesOut = "Connecting times out.";
    private const string PodIPv4 = "10.244.2.13";
    private const string PodIPv6 = "fd00:10:244:2::d";
    private const string SecondCard = "eth1";

    private static readonly Block Drop = new(There, "filter", "FORWARD", "-d {0} -p tcp -m tcp --dport 9376 -j DROP", $"{PodIPv4}/32", $"{PodIPv6}/128");
    private static readonly Block IcmpReject = new(Here, "filter", "FORWARD", "-d {0} -j REJECT --reject-with icmp-admin-prohibited", $"{PodIPv4}/32", "");
    private static readonly Block Icmp6Reject = new(Here, "filter", "FORWARD", "-d {0} -j REJECT --reject-with icmp6-adm-prohibited", "", $"{PodIPv6}/128");
    private static readonly Block Reset = new(Here, "filter", "FORWARD", "-d {0} -p tcp -j REJECT --reject-with tcp-reset", $"{PodIPv4}/32", $"{PodIPv6}/128");
    private static readonly Block TooBig = new(There, "filter", "OUTPUT", "-p icmp -m icmp --icmp-type 3/4 -j DROP{0}", " ", "");
    private static readonly Block TooBig6 = new(There, "filter", "OUTPUT", "-p ipv6-icmp -m icmp6 --icmpv6-type 2 -j DROP{0}", "", " ");

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("dropped-by-rule",
            "A rule of somebody else's on node-2 drops packets to the pod of hostnames.",
            TimesOut,
            make: Drop.Add,
            undo: Drop.Remove,
            holds: Drop.IsThere)
        {
            Url = Url,
        },
        new Fault("dropped-by-rule",
            "The policy of chain FORWARD on node-1 is DROP, as Docker sets it, and no rule lets pods' packets through.",
            TimesOut,
            make: b => ForwardPolicy(b, "DROP"),
            undo: b => ForwardPolicy(b, "ACCEPT"),
            holds: b => b.Read(Here, $"{b.Iptables(false)}-save -t filter").Contains(":FORWARD DROP", StringComparison.Ordinal)
                || b.Read(Here, $"{b.Iptables(true)}-save -t filter").Contains(":FORWARD DROP", StringComparison.Ordinal))
        {
            Variant = "forward-policy",
            Url = ByAddress,
            Lacks = NoProxyBetween,
        },
        new Fault("rejected-by-rule",
            "A firewall on node-1 rejects packets to the pod of hostnames as administratively prohibited.",
            "\"No route to host\" (IPv6: \"Permission denied\").",
            make: b =>
            {
                IcmpReject.Add(b);
                Icmp6Reject.Add(b);
            },
            undo: b =>
            {
                IcmpReject.Remove(b);
                Icmp6Reject.Remove(b);
            },
            holds: b => IcmpReject.IsThere(b) || Icmp6Reject.IsThere(b))
        {
            Url = Url,
            Lacks = NoProxyBetween,
        },
        new Fault("rejected-by-rule",
            "A firewall on node-1 answers packets to the pod of hostnames with a TCP reset.",
            "Connection refused.",
            make: Reset.Add,
            undo: Reset.Remove,
            holds: Reset.IsThere)
        {
            Variant = "tcp-reset",
            Url = Url,
            Lacks = NoProxyBetween,
        },
        new Fault("no-route-to-pod",
            "The route to the pods of node-2 is missing on node-1; what is for them leaves by the default route.",
            TimesOut,
            make: b => Route(b, Here, "del", ""),
            undo: b => LabNetwork.Restore(b.Folder, LabLayout.Node(Here)),
            holds: b => !HasRoutes(b, Here, "10.244.2.0/24", "fd00:10:244:2::/64"))
        {
            Url = ByAddress,
        },
        new Fault("no-route-to-pod",
            "The route to the pods of node-1 is missing on node-2, so their answers leave by the default route.",
            TimesOut,
            make: b => Route(b, There, "del", ""),
            undo: b => LabNetwork.Restore(b.Folder, LabLayout.Node(There)),
            holds: b => !HasRoutes(b, There, "10.244.1.0/24", "fd00:10:244:1::/64"))
        {
            Variant = "back",
            Url = ByAddress,
            Lacks = NoProxyBetween,
        },
        new Fault("no-route-to-pod",
            "The network plugin has declared the pods of node-2 unreachable on node-1.",
            "\"No route to host\".",
            make: b => Route(b, Here, "replace", "unreachable"),
            undo: b => UnRoute(b, "unreachable"),
            holds: b => HasRoute(b, Here, "unreachable 10.244.2.0/24") || HasRoute(b, Here, "unreachable fd00:10:244:2::/64"))
        {
            Variant = "unreachable",
            Url = ByAddress,
        },
        new Fault("no-route-to-pod",
            "A blackhole route for the pods of node-2 was left on node-1.",
            TimesOut,
            make: b => Route(b, Here, "replace", "blackhole"),
            undo: b => UnRoute(b, "blackhole"),
            holds: b => HasRoute(b, Here, "blackhole 10.244.2.0/24") || HasRoute(b, Here, "blackhole fd00:10:244:2::/64"))
        {
            Variant = "blackhole",
            Url = ByAddress,
        },
        Forwarding(null, Here, "Forwarding is off on node-1, as a hardening script leaves it."),
        Forwarding("server-node", There, "Forwarding is off on node-2, where the pod of hostnames is."),
        new Fault("pod-unreachable",
            "node-2 has a permanent neighbour entry with a wrong link address for the pod of hostnames.",
            TimesOut,
            make: b =>
            {
                b.Run(There, $"ip neigh replace {PodIPv4} lladdr 02:00:00:00:00:01 dev cni0 nud permanent");
                b.Run(There, $"ip neigh replace {PodIPv6} lladdr 02:00:00:00:00:01 dev cni0 nud permanent");
            },
            undo: b => b.Run(There, $"ip neigh del {PodIPv4} dev cni0; ip neigh del {PodIPv6} dev cni0 || true"),
            holds: b => b.Read(There, "ip neigh show").Contains("02:00:00:00:00:01", StringComparison.Ordinal))
        {
            Url = Url,
        },
        new Fault("pod-unreachable",
            "The link of the pod of hostnames is down.",
            "\"No route to host\" after some seconds, or connecting times out.",
            make: b =>
            {
                b.Run(LabObjects.HostnamesPod, "ip link set eth0 down");
                b.Run(There, "ip neigh flush dev cni0");
            },
            undo: b => LabNetwork.Restore(b.Folder, b.Hostnames),
            holds: b => !IsUp(b, LabObjects.HostnamesPod))
        {
            Variant = "link-down",
            Url = Url,
        },
        new Fault("pod-unreachable",
            "node-2 is cut off from the network; the cluster has not noticed yet.",
            "\"No route to host\" after some seconds, or connecting times out.",
            make: b =>
            {
                // Its kubelet would probe from within and find all well; ours must not.
                b.Run(There, "ip link set eth0 down");
                b.Run(Here, "ip neigh flush dev eth0");
            },
            undo: b => LabNetwork.Restore(b.Folder, LabLayout.Node(There)),
            holds: b => !IsUp(b, There))
        {
            Variant = "node-down",
            Url = ByAddress,
        },
        new Fault("reverse-path-filtered",
            "node-2 has a second network card, by which its route to the pods of node-1 goes, and a strict rp_filter.",
            TimesOut,
            make: b =>
            {
                b.Run(There, $"ip link add {SecondCard} type veth peer name to-{There}-2 netns {LabLayout.NetNsOf(b.Folder.Name, LabNetwork.Fabric)}");
                b.Run(LabNetwork.Fabric, $"ip link set to-{There}-2 master br0 up");
                b.Run(There, $"ip addr add 10.77.0.112/24 dev {SecondCard} && ip link set {SecondCard} up && ip route replace 10.244.1.0/24 via 10.77.0.11 dev {SecondCard} && sysctl -qw net.ipv4.conf.all.rp_filter=1");
            },
            undo: b =>
            {
                b.Run(There, $"ip link del {SecondCard}; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
                LabNetwork.Restore(b.Folder, LabLayout.Node(There));
            },
            holds: b => b.Read(There, "ip -o link show").Contains($": {SecondCard}@", StringComparison.Ordinal))
        {
            Url = ByAddress,
            Lacks = NoProxyBetween,
        },
        new Fault("hairpin-disabled",
            "The bridge port of the pod of hostnames on node-2 is not in hairpin mode, and the pod asks its own Service.",
            TimesOut,
            make: b => Hairpin(b, "off"),
            undo: b => Hairpin(b, "on"),
            holds: b => b.Read(There, $"bridge -d link show dev {LabNetwork.VethOf(b.Hostnames)}").Contains("hairpin off", StringComparison.Ordinal))
        {
            Url = Url,
            From = $"pod/{LabObjects.HostnamesPod}",
            Lacks = NoProxyBetween,
        },
        new Fault("mtu-blackhole",
            "The uplink of node-2 takes packets up to 1400 bytes, pods send up to 1500, and a firewall drops the ICMP messages that say so.",
            "Small answers arrive, large ones do not: the request hangs.",
            make: b =>
            {
                b.Run(There, "ip link set eth0 mtu 1400");
                TooBig.Add(b);
                TooBig6.Add(b);
            },
            undo: b =>
            {
                b.Run(There, "ip link set eth0 mtu 1500");
                TooBig.Remove(b);
                TooBig6.Remove(b);
            },
            holds: b => b.Read(There, "ip -o link show dev eth0").Contains("mtu 1400", StringComparison.Ordinal))
        {
            Url = "http://hostnames/big",
            Lacks = NoProxyBetween,
        },
        new Fault("reply-untranslated",
            "net.bridge.bridge-nf-call-iptables is 0 on node-2, and client and pod are on the same bridge there.",
            TimesOut,
            make: b => b.Run(There, "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"),
            undo: b => b.Run(There, "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"),
            holds: b => b.Read(There, "sysctl -n net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables").Contains('0', StringComparison.Ordinal))
        {
            Url = ByAddress,
            From = "pod/my-nginx-wu92j",
            Lacks = NoProxyBetween,
        },
    ];

    // A process on the node that dials pods itself is met by other chains and other addresses.
    private static string? NoProxyBetween(ProxyMode mode) => mode == ProxyMode.Userspace ? "kube-proxy's process dials pods from the node itself" : null;

    private static Fault Forwarding(string? variant, string node, string description) => new("forwarding-disabled", description, TimesOut,
        make: b => b.Run(node, "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"),
        undo: b =>
        {
            b.Run(node, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
            // Turning forwarding on and off may have cost what was learnt of neighbours, and routes of IPv6.
            LabNetwork.Restore(b.Folder, LabLayout.Node(node));
        },
        holds: b => b.Read(node, "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding").Contains('0', StringComparison.Ordinal))
    {
        Variant = variant,
        Url = Url,
        Lacks = mode => node == Here ? NoProxyBetween(mode) : null,
    };

    private static void ForwardPolicy(Bench b, string policy)
    {
        b.Run(Here, $"{b.Iptables(false)} -P FORWARD {policy}");
        b.Run(Here, $"{b.Iptables(true)} -P FORWARD {policy}");
    }

    private static void Route(Bench b, string node, string verb, string type)
    {
        var number = node == Here ? 2 : 1;
        b.Run(node, $"ip route {verb} {type} 10.244.{number}.0/24 && ip -6 route {verb} {type} fd00:10:244:{number}::/64");
    }

    private static bool HasRoutes(Bench b, string node, params string[] routes) => Array.TrueForAll(routes, r => HasRoute(b, node, r));

    private static bool HasRoute(Bench b, string node, string route)
        => (b.Read(node, "ip route show") + b.Read(node, "ip -6 route show")).Contains(route, StringComparison.Ordinal);

    // In IPv6 a route of another type is another route, and does not take the place of one that is there.
    private static void UnRoute(Bench b, string type)
    {
        b.Run(Here, $"ip -6 route del {type} fd00:10:244:2::/64 2>/dev/null || true");
        LabNetwork.Restore(b.Folder, LabLayout.Node(Here));
    }

    private static void Hairpin(Bench b, string state) => b.Run(There, $"ip link set {LabNetwork.VethOf(b.Hostnames)} type bridge_slave hairpin {state}");

    private static bool IsUp(Bench b, string place) => b.Read(place, "ip -o link show dev eth0").Contains(",UP", StringComparison.Ordinal);
}
