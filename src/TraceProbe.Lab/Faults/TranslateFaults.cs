using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>Faults of the rules that replace a Service's address by a pod's.</summary>
internal static class TranslateFaults
{
    private const string Node = "node-1";
    private const string TimesOut = "Connecting times out.";
    private const string HostnamesUrl = "http://hostnames";
    private const string FromHostnames = $"pod/{LabObjects.HostnamesPod}";

    // For the hook that pods' packets meet, and the one that the node's own meet.
    private static readonly Block[] Accepts = InFront("nat", "-d {0} -j ACCEPT");
    private static readonly Block[] Untracks = InFront("raw", "-d {0} -j CT --notrack");
    private static readonly Block[] Drops = InFront("raw", "-d {0} -j DROP");
    private static readonly Block[] Diversions =
    [
        new(Node, "nat", "PREROUTING", "-d 10.96.0.175/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {0}", "10.244.1.99:8080", ""),
        new(Node, "nat", "OUTPUT", "-d 10.96.0.175/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {0}", "10.244.1.99:8080", ""),
        new(Node, "nat", "PREROUTING", "-d fd00:10:96::af/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination {0}", "", "[fd00:10:244:1::63]:8080"),
        new(Node, "nat", "OUTPUT", "-d fd00:10:96::af/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination {0}", "", "[fd00:10:244:1::63]:8080"),
    ];

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("proxy-rules-missing",
            "A script flushes all rules on node-1 (iptables -F; in nftables mode nft flush ruleset, in IPVS mode ipvsadm -C too), and kube-proxy there stands still and does not write them again.",
            "Service addresses, the DNS server's too, vanish on the way: everything times out (IPVS mode: the node, which has these addresses itself, refuses).",
            make: b =>
            {
                b.Pause(Node, "proxy-rules-missing", silent: true);
                b.Reconciler.FlushNode(LabLayout.Node(Node));
            },
            undo: b => b.Resume(Node),
            holds: b => b.IsPaused(Node, "proxy-rules-missing"))
        {
            Alias = "flush-rules",
        },
        Behind("service-rule-missing", null,
            "The rules of Service my-nginx are missing on node-1, all others are there.", TimesOut,
            cluster => cluster with { Services = [.. cluster.Services.Where(s => s.Metadata.Name != LabObjects.Server)] }, "http://my-nginx:8080"),
        Behind("endpoint-rule-missing", null,
            "kube-proxy on node-1 has not written the endpoint of Service hostnames yet, and rejects what is for it.", "Connection refused by a REJECT rule.",
            cluster => WithEndpoints(cluster, s => s with { Endpoints = [] }), HostnamesUrl),
        new Fault("endpoint-rule-missing",
            "The chains of Service hostnames' endpoint on node-1 were emptied, so that nothing translates to it.",
            TimesOut,
            make: b =>
            {
                b.Pause(Node, "endpoint-rule-missing --variant chain-emptied");
                foreach (var ipv6 in (bool[])[false, true])
                {
                    foreach (var chain in b.ChainsOf(Node, ipv6, "KUBE-SEP-", "default/hostnames:http"))
                    {
                        b.Run(Node, $"{b.Iptables(ipv6)} -t nat -F {chain}");
                    }
                }
            },
            undo: b => b.Resume(Node),
            holds: b => b.IsPaused(Node, "endpoint-rule-missing --variant chain-emptied"))
        {
            Variant = "chain-emptied",
            Url = HostnamesUrl,
            Lacks = IptablesOnly,
        },
        Behind("stale-endpoint-rule", null,
            "kube-proxy on node-1 still sends Service hostnames to the address of a pod that is gone.", TimesOut,
            cluster => WithEndpoints(cluster, WithGonePod), HostnamesUrl),
        new Fault("proxy-backend-conflict",
            "An earlier kube-proxy has left its rules on node-1 in iptables-legacy, and the kernel asks them before today's in nf_tables; they send Service hostnames to a pod that is gone.",
            TimesOut,
            make: b => b.Reconciler.LeaveLegacyRules(LabLayout.Node(Node), WithEndpoints(b.Cluster, WithGonePod)),
            undo: b => b.Reconciler.RemoveLegacyRules(LabLayout.Node(Node)),
            holds: b => b.Read(Node, "iptables-legacy-save -t nat").Contains("KUBE-SVC", StringComparison.Ordinal) || b.Read(Node, "ip6tables-legacy-save -t nat").Contains("KUBE-SVC", StringComparison.Ordinal))
        {
            Url = HostnamesUrl,
            Lacks = mode => mode == ProxyMode.IptablesNft ? null : "kube-proxy works in iptables-legacy itself, or in other tables",
        },
        Shadow(null, Accepts, "A rule of somebody else's on node-1 accepts packets to Service hostnames in the nat table, ahead of kube-proxy's.", lacks: mode => mode == ProxyMode.Nftables ? "accepting in one table ends nothing in kube-proxy's own" : null),
        Shadow("before-translation", Drops, "A rule of somebody else's on node-1 drops packets to Service hostnames in the raw table, before they can be translated.", "dropped-by-rule"),
        Shadow("untracked", Untracks, "A rule of somebody else's on node-1 takes packets to Service hostnames out of connection tracking, without which nothing is translated."),
        Shadow("diverted", Diversions, "A rule of somebody else's on node-1 translates packets to Service hostnames to an address where nobody is, ahead of kube-proxy's."),
        new Fault("masquerade-missing",
            "The rule that masquerades is missing on node-2, and the pod of hostnames asks its own Service.",
            TimesOut,
            make: b =>
            {
                b.Pause("node-2", "masquerade-missing");
                b.Reconciler.RemoveMasquerade(LabLayout.Node("node-2"));
            },
            undo: b => b.Resume("node-2"),
            holds: b => b.IsPaused("node-2", "masquerade-missing"))
        {
            Url = HostnamesUrl,
            From = FromHostnames,
            Lacks = DefineFaults.ModernOnly,
        },
        new Fault("masquerade-missing",
            "The rule that masquerades is missing on node-1, and a client outside asks there for a node port, whose pod is on another node.",
            TimesOut,
            make: b =>
            {
                b.Objects.Put(DefineFaults.WithNodePort(b.HostnamesService));
                b.Reconciler.Round();
                b.Pause(Node, "masquerade-missing --variant node-port");
                b.Reconciler.RemoveMasquerade(LabLayout.Node(Node));
            },
            undo: b =>
            {
                b.Resume(Node);
                b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Hostnames));
            },
            holds: b => b.IsPaused(Node, "masquerade-missing --variant node-port"))
        {
            Variant = "node-port",
            Url = "http://10.77.0.11:30080",
            From = "outside",
            Lacks = DefineFaults.ModernOnly,
        },
    ];

    internal static string? IptablesOnly(ProxyMode mode) => mode is ProxyMode.IptablesNft or ProxyMode.IptablesLegacy ? null : "only iptables mode has a chain for each endpoint";

    /// <summary>A kube-proxy on node-1 that knows other objects than there are.</summary>
    private static Fault Behind(string name, string? variant, string description, string symptom, Func<ClusterSnapshot, ClusterSnapshot> known, string url)
    {
        var id = variant is null ? name : $"{name} --variant {variant}";
        return new Fault(name, description, symptom,
            make: b =>
            {
                b.Pause(Node, id);
                b.Reconciler.ProgramNode(LabLayout.Node(Node), known(b.Cluster));
            },
            undo: b => b.Resume(Node),
            holds: b => b.IsPaused(Node, id))
        {
            Variant = variant,
            Url = url,
            // The old proxy read the API itself and had rules for its own ports only.
            Lacks = mode => mode == ProxyMode.Userspace && name != "service-rule-missing" ? "kube-proxy's userspace mode has no rules for endpoints" : null,
        };
    }

    private static Block[] InFront(string table, string rule)
        => [new(Node, table, "PREROUTING", rule, "10.96.0.175/32", "fd00:10:96::af/128"), new(Node, table, "OUTPUT", rule, "10.96.0.175/32", "fd00:10:96::af/128")];

    private static Fault Shadow(string? variant, Block[] blocks, string description, string name = "translation-shadowed", Func<ProxyMode, string?>? lacks = null) => new(name, description, TimesOut,
        make: b => Array.ForEach(blocks, x => x.Add(b)),
        undo: b => Array.ForEach(blocks, x => x.Remove(b)),
        holds: b => Array.Exists(blocks, x => x.IsThere(b)))
    {
        Variant = variant,
        Url = HostnamesUrl,
        Lacks = lacks ?? (static _ => null),
    };

    private static ClusterSnapshot WithEndpoints(ClusterSnapshot cluster, Func<EndpointSlice, EndpointSlice> change)
        => cluster with { EndpointSlices = [.. cluster.EndpointSlices.Select(s => s.ServiceName == LabObjects.Hostnames ? change(s) : s)] };

    private static EndpointSlice WithGonePod(EndpointSlice slice) => slice with
    {
        Endpoints = [.. slice.Endpoints.Select(e => e with { Addresses = [slice.AddressType == "IPv4" ? "10.244.2.99" : "fd00:10:244:2::63"] })],
    };
}
