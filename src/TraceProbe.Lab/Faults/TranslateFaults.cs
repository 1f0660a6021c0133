using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults of the rules that replace a Service's address by a pod's.</summary>
internal static class TranslateFaults
{
    private const string Node = "node-1";

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("proxy-rules-missing",
            "A script flushes all rules on node-1 (iptables -F; in nftables mode nft flush ruleset, in IPVS mode ipvsadm -C too), and kube-proxy there has not written them again yet.",
            "Service addresses, the DNS server's too, vanish on the way: everything times out (IPVS mode: the node, which has these addresses itself, refuses).",
            make: b =>
            {
                b.Pause(Node, "proxy-rules-missing");
                b.Reconciler.FlushNode(LabLayout.Node(Node));
            },
            undo: b => b.Resume(Node),
            holds: b => b.IsPaused(Node, "proxy-rules-missing"))
        {
            Alias = "flush-rules",
        },
        new Fault("service-rule-missing",
            "The rules of Service my-nginx are missing on node-1, all others are there.",
            "Connecting times out.",
            make: b =>
            {
                b.Pause(Node, "service-rule-missing");
                b.Reconciler.ProgramNode(LabLayout.Node(Node), b.Cluster with { Services = [.. b.Cluster.Services.Where(s => s.Metadata.Name != LabObjects.Server)] });
            },
            undo: b => b.Resume(Node),
            holds: b => b.IsPaused(Node, "service-rule-missing")),
    ];
}
