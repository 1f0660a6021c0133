using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults while the name becomes an address.</summary>
internal static class ResolveFaults
{
    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("wrong-resolver",
            "Pod ubuntu gets dnsPolicy Default, so its resolv.conf names the provider's resolver instead of the cluster's.",
            "The short name is not found, the full name leads to an address that nobody has.",
            make: b => b.GiveDns(b.Client, "Default"),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => !b.ResolvConfOf(LabObjects.Client).Contains($"nameserver {LabLayout.DnsIPv4}\n", StringComparison.Ordinal)),
        new Fault("service-not-found",
            "Service my-nginx is deleted.",
            "The name is not found.",
            make: b => b.Objects.Delete("services", b.Server.Metadata),
            undo: b => b.Objects.Put(LabObjects.Services.First(s => s.Metadata.Name == LabObjects.Server)),
            holds: b => b.Cluster.FindService("default", LabObjects.Server) is null)
        {
            Alias = "service-deleted",
        },
    ];
}
