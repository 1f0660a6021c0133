using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>One way to break a lab.</summary>
/// <param name="Name">Its name on the command line, kebab-case.</param>
/// <param name="Description">What it does, in a sentence.</param>
/// <param name="Symptom">What a client then sees, in a sentence.</param>
public sealed record Fault(string Name, string Description, string Symptom)
{
    /// <summary>All faults, in the packet's order from the name to the server.</summary>
    public static ImmutableArray<Fault> All { get; } =
    [
        new("wrong-resolver", "Pod ubuntu gets dnsPolicy Default, so its resolv.conf names the provider's resolver instead of the cluster's.",
            "The short name is not found, the full name leads to an address that nobody has."),
        new("service-deleted", "Service my-nginx is deleted.", "The name is not found."),
        new("wrong-target-port", "Service my-nginx sends to port 8080 of its pods, where nothing listens; nginx is on port 80.",
            "Connection refused (userspace mode: an empty reply)."),
        new("wrong-labels", "The nginx pods carry the label run=my-nginxx, which the Service's selector run=my-nginx does not match.",
            "Connection refused by a REJECT rule (userspace mode: an empty reply)."),
        new("no-pods", "The nginx pods are scaled to none.", "Connection refused by a REJECT rule (userspace mode: an empty reply)."),
        new("not-ready", "nginx answers its readiness probe with 503, so no pod of the Service is ready.",
            "Connection refused by a REJECT rule (userspace mode: an empty reply)."),
        new("flush-rules", "A script flushes all rules on node-1 (iptables -F; nft flush ruleset in nftables mode), and kube-proxy there has not written them again yet.",
            "Service addresses, the DNS server's too, vanish on the way: everything times out."),
        new("service-rule-missing", "The rules of Service my-nginx are missing on node-1, all others are there.", "Connecting times out."),
        new("no-listener", "nginx has stopped in its pods, which have no readiness probe and stay endpoints.",
            "Connection refused by the pod (userspace mode: an empty reply)."),
    ];

    /// <summary>The fault of that name.</summary>
    /// <exception cref="LabException">There is none.</exception>
    public static Fault Find(string name) => All.FirstOrDefault(f => f.Name == name)
        ?? throw new LabException($"There is no fault named '{name}'. There are: {string.Join(", ", All.Select(f => f.Name))}.");
}
