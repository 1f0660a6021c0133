using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A discovery.k8s.io/v1 (or v1beta1) EndpointSlice: the fields TraceProbe uses.</summary>
public sealed record EndpointSlice
{
    /// <summary>The label that names the Service a slice belongs to.</summary>
    public const string ServiceNameLabel = "kubernetes.io/service-name";

    /// <summary>Name, namespace, labels.</summary>
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    /// <summary>IPv4, IPv6 or FQDN.</summary>
    public string AddressType { get; init => field = value ?? "IPv4"; } = "IPv4";

    /// <summary>The endpoints.</summary>
    public ImmutableArray<Endpoint> Endpoints { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The ports, the same for each endpoint of the slice; empty for a Service without ports.</summary>
    public ImmutableArray<EndpointPort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The Service's name, from the label; null when the slice belongs to none.</summary>
    public string? ServiceName => Metadata.Labels.GetValueOrDefault(ServiceNameLabel);

    /// <summary>How the object is named to people and kubectl.</summary>
    public ObjectRef Ref => new("endpointslice", Metadata.Namespace ?? "default", Metadata.Name);
}

/// <summary>discovery.k8s.io/v1 Endpoint.</summary>
public sealed record Endpoint
{
    /// <summary>The addresses; consumers use the first only (kube-proxy does).</summary>
    public ImmutableArray<string> Addresses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Ready, serving, terminating.</summary>
    public EndpointConditions Conditions { get; init => field = value ?? new(); } = new();

    /// <summary>The object behind the address, mostly a Pod.</summary>
    public ObjectReference? TargetRef { get; init; }

    /// <summary>The first part of its own name under the Service's; null when it has none.</summary>
    public string? Hostname { get; init; }

    /// <summary>The node the endpoint is on; null when not known (v1beta1 has it in its topology).</summary>
    public string? NodeName { get; init; }

    /// <summary>The zone the endpoint is in; null when not known.</summary>
    public string? Zone { get; init; }

    /// <summary>Who should prefer this endpoint (traffic distribution); null when everybody may use it alike.</summary>
    public EndpointHints? Hints { get; init; }
}

/// <summary>discovery.k8s.io/v1 EndpointHints.</summary>
public sealed record EndpointHints
{
    /// <summary>The zones whose clients should use the endpoint.</summary>
    public ImmutableArray<ZoneHint> ForZones { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The nodes whose clients should use the endpoint.</summary>
    public ImmutableArray<NodeHint> ForNodes { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>discovery.k8s.io/v1 ForZone.</summary>
/// <param name="Name">The zone's name.</param>
public sealed record ZoneHint(string Name);

/// <summary>discovery.k8s.io/v1 ForNode.</summary>
/// <param name="Name">The node's name.</param>
public sealed record NodeHint(string Name);

/// <summary>discovery.k8s.io/v1 EndpointConditions; null means unknown, which consumers read as ready and serving.</summary>
public sealed record EndpointConditions
{
    /// <summary>Whether traffic should go there.</summary>
    public bool? Ready { get; init; }

    /// <summary>Whether it answers, also while terminating.</summary>
    public bool? Serving { get; init; }

    /// <summary>Whether it is being deleted.</summary>
    public bool? Terminating { get; init; }
}

/// <summary>core/v1 ObjectReference.</summary>
public sealed record ObjectReference
{
    /// <summary>The kind.</summary>
    public string Kind { get; init => field = value ?? ""; } = "";

    /// <summary>The namespace.</summary>
    public string? Namespace { get; init; }

    /// <summary>The name.</summary>
    public string Name { get; init => field = value ?? ""; } = "";

    /// <summary>The UID.</summary>
    public string? Uid { get; init; }

    /// <summary>The part of the object that is meant, such as <c>spec.containers{web}</c> in an event; null for the whole.</summary>
    public string? FieldPath { get; init; }
}

/// <summary>discovery.k8s.io/v1 EndpointPort.</summary>
public sealed record EndpointPort
{
    /// <summary>The Service port's name; null or empty when it has none.</summary>
    public string? Name { get; init; }

    /// <summary>The port on the endpoint; null means any.</summary>
    public int? Port { get; init; }

    /// <summary>TCP, UDP or SCTP.</summary>
    public string Protocol { get; init => field = value ?? "TCP"; } = "TCP";
}
