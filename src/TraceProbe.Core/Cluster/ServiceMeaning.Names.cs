using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    /// <summary>
    /// The Services that a name which was not found may have meant: the same name in other namespaces, then similar names in the
    /// same namespace, then similar names elsewhere; nearest first.
    /// </summary>
    /// <param name="snapshot">The cluster.</param>
    /// <param name="ns">The namespace asked for.</param>
    /// <param name="name">The name asked for.</param>
    /// <param name="atMost">How many to return.</param>
    public static ImmutableArray<NearbyService> NearestServices(ClusterSnapshot snapshot, string ns, string name, int atMost = 3)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(ns);
        ArgumentNullException.ThrowIfNull(name);
        var near = new List<(int Rank, int Distance, NearbyService Service)>();
        foreach (var service in snapshot.Services)
        {
            var same = service.Metadata.Name == name;
            var here = (service.Metadata.Namespace ?? "default") == ns;
            if (same ? here : !EditDistance.IsNear(service.Metadata.Name, name))
            {
                continue;
            }

            var distance = EditDistance.Between(service.Metadata.Name, name);
            near.Add((same ? 0 : here ? 1 : 2, distance, new NearbyService(service.Ref, distance, !here)));
        }

        return [.. near.OrderBy(n => n.Rank).ThenBy(n => n.Distance).ThenBy(n => n.Service.Service.ToString(), StringComparer.Ordinal).Take(atMost).Select(n => n.Service)];
    }

    /// <summary>
    /// What a name means to the cluster's DNS: <c>NAME.NAMESPACE.svc.DOMAIN</c>, or a pod's name before it for a headless Service;
    /// null for names that do not end in <c>svc.DOMAIN</c>.
    /// </summary>
    /// <param name="snapshot">The cluster, for its domain.</param>
    /// <param name="name">The full name, with or without a trailing dot, in any case.</param>
    public static ServiceName? ParseName(ClusterSnapshot snapshot, string name)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(name);
        var text = name.TrimEnd('.').ToLowerInvariant();
        var suffix = $".svc.{snapshot.ClusterDomain.ToLowerInvariant()}";
        if (!text.EndsWith(suffix, StringComparison.Ordinal))
        {
            return null;
        }

        var labels = text[..^suffix.Length].Split('.');
        return labels.Length < 2 || labels.Any(l => l.Length == 0) ? null
            : new ServiceName(labels[^1], labels[^2], labels.Length > 2 ? string.Join('.', labels[..^2]) : null);
    }
}

/// <summary>A Service that a name may have meant.</summary>
/// <param name="Service">The Service.</param>
/// <param name="Distance">The edits between the names; 0 for the same name in another namespace.</param>
/// <param name="InOtherNamespace">Whether it is in another namespace than the one asked for.</param>
public sealed record NearbyService(ObjectRef Service, int Distance, bool InOtherNamespace);

/// <summary>A name under <c>svc.DOMAIN</c>, taken apart.</summary>
/// <param name="Namespace">The namespace.</param>
/// <param name="Name">The Service's name.</param>
/// <param name="Before">What stands before it: a pod's host name, or <c>_port._protocol</c>; null when nothing does.</param>
public sealed record ServiceName(string Namespace, string Name, string? Before);
