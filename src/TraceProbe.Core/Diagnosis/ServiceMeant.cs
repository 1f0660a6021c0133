using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>How a host name refers to a Service (kubernetes.io, "DNS for Services and Pods").</summary>
public enum ServiceNameForm
{
    /// <summary>It does not.</summary>
    None,

    /// <summary>By one of the Service's addresses.</summary>
    Address,

    /// <summary><c>name</c>, in the client's namespace.</summary>
    Short,

    /// <summary><c>name.namespace</c>.</summary>
    Namespaced,

    /// <summary><c>name.namespace.svc</c>.</summary>
    WithSvc,

    /// <summary><c>name.namespace.svc.DOMAIN</c>.</summary>
    Full,

    /// <summary><c>name.namespace.DOMAIN</c>, as before Kubernetes 1.0.</summary>
    WithoutSvc,

    /// <summary><c>name.namespace.svc.OTHER</c>, in another domain than the cluster's.</summary>
    OtherDomain,
}

/// <summary>Which Service a request means, whether or not that Service exists.</summary>
/// <param name="Namespace">The Service's namespace.</param>
/// <param name="Name">The Service's name.</param>
/// <param name="Form">How it was named.</param>
/// <param name="Service">The Service, or null when there is none of that name.</param>
public sealed record ServiceMeant(string Namespace, string Name, ServiceNameForm Form, Service? Service)
{
    /// <summary>Finds out which Service a host means.</summary>
    /// <param name="host">A name or an address.</param>
    /// <param name="clientNamespace">The namespace that a short name is looked up in.</param>
    /// <param name="cluster">The desired account.</param>
    /// <returns>Null when the host means no Service of this cluster: an outside name or address.</returns>
    public static ServiceMeant? By(string host, string clientNamespace, ClusterSnapshot cluster)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(cluster);
        if (IpAddress.TryParse(host, null, out var address))
        {
            return ByAddress(address, cluster);
        }

        var name = host.TrimEnd('.').ToLowerInvariant();
        var domain = "." + cluster.ClusterDomain;
        var inDomain = name.EndsWith(domain, StringComparison.Ordinal);
        var labels = (inDomain ? name[..^domain.Length] : name).Split('.');
        if (inDomain)
        {
            return labels.Length switch
            {
                // A headless pod's own name has its hostname in front.
                >= 3 when labels[^1] == "svc" => Make(labels[^2], labels[^3], ServiceNameForm.Full),
                2 when labels[1] != "svc" => Make(labels[1], labels[0], ServiceNameForm.WithoutSvc),
                _ => null,
            };
        }

        switch (labels.Length)
        {
            case 1:
                return Make(clientNamespace, labels[0], ServiceNameForm.Short);
            case 2:
                // "example.com" looks the same: only what the cluster knows counts.
                var two = Make(labels[1], labels[0], ServiceNameForm.Namespaced);
                return two.Service is not null || KnowsNamespace(cluster, labels[1]) ? two : null;
            case 3 when labels[2] == "svc":
                return Make(labels[1], labels[0], ServiceNameForm.WithSvc);
            default:
                var svc = Array.IndexOf(labels, "svc");
                if (svc >= 2)
                {
                    var other = Make(labels[svc - 1], labels[svc - 2], ServiceNameForm.OtherDomain);
                    return other.Service is not null ? other : null;
                }

                return null;
        }

        ServiceMeant Make(string ns, string service, ServiceNameForm form) => new(ns, service, form, cluster.FindService(ns, service));
    }

    /// <summary>Finds out which Service holds an address; null when none does.</summary>
    public static ServiceMeant? ByAddress(IpAddress address, ClusterSnapshot cluster)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        return cluster.FindServiceByAddress(address) is { } service
            ? new ServiceMeant(service.Metadata.Namespace ?? "default", service.Metadata.Name, ServiceNameForm.Address, service)
            : null;
    }

    /// <summary>Finds out which Service takes connections at a port of the nodes; null when none does.</summary>
    public static ServiceMeant? ByNodePort(ushort port, IpProtocol protocol, ClusterSnapshot cluster)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        return cluster.Services.FirstOrDefault(s => NodePortOf(s, port, protocol) is not null) is { } service
            ? new ServiceMeant(service.Metadata.Namespace ?? "default", service.Metadata.Name, ServiceNameForm.Address, service)
            : null;
    }

    /// <summary>The Service's port that has this port on the nodes; null when none has.</summary>
    public static ServicePort? NodePortOf(Service service, ushort port, IpProtocol protocol)
    {
        ArgumentNullException.ThrowIfNull(service);
        return port == 0 ? null : service.Spec.Ports.FirstOrDefault(p => p.NodePort == port && ServiceMeaning.ProtocolOf(p) == protocol);
    }

    /// <summary>The key that baselines are stored and found under: <c>service/NAMESPACE/NAME:PORT</c>, or <c>HOST:PORT</c> when no Service is meant.</summary>
    public static string Key(RequestTarget target, string clientNamespace, ClusterSnapshot? cluster)
    {
        ArgumentNullException.ThrowIfNull(target);
        var meant = cluster is null ? null : By(target.Host, clientNamespace, cluster);
        return meant is null ? new string($"{target.Host}:{target.Port}") : $"service/{meant.Namespace}/{meant.Name}:{target.Port}";
    }

    /// <summary>The Service's own addresses; none for headless Services.</summary>
    public static ImmutableArray<IpAddress> AddressesOf(Service service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return Parsed(service.Spec.ClusterIPs.Append(service.Spec.ClusterIP).Concat(service.Spec.ExternalIPs).Concat(service.Status.LoadBalancer.Ingress.Select(i => i.Ip)));
    }

    /// <summary>The addresses among texts, each once.</summary>
    public static ImmutableArray<IpAddress> Parsed(IEnumerable<string?> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        var all = ImmutableArray.CreateBuilder<IpAddress>();
        foreach (var text in texts)
        {
            if (text is not null && IpAddress.TryParse(text, null, out var address) && !all.Contains(address))
            {
                all.Add(address);
            }
        }

        return all.ToImmutable();
    }

    private static bool KnowsNamespace(ClusterSnapshot cluster, string ns)
        => cluster.Services.Any(s => s.Metadata.Namespace == ns) || cluster.Pods.Any(p => p.Metadata.Namespace == ns);
}
