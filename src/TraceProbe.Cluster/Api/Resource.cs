using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>Reads the object that the JSON reader stands on.</summary>
internal delegate T ReadObject<T>(ObjectReader objects, ref Utf8JsonReader json);

/// <summary>A kind of object that an API server serves.</summary>
/// <param name="Name">What verdicts and RBAC call it: <c>endpointslices</c>.</param>
/// <param name="Path">Where it is served, for all namespaces: <c>/apis/discovery.k8s.io/v1/endpointslices</c>.</param>
/// <param name="Read">Reads one.</param>
/// <param name="MetadataOf">Its name and version.</param>
internal sealed record Resource<T>(string Name, string Path, ReadObject<T> Read, Func<T, ObjectMeta> MetadataOf)
{
    /// <summary>Which of them are wanted, as the server is told; null for all.</summary>
    public string? FieldSelector { get; init; }

    /// <summary>Whether its objects are in namespaces.</summary>
    public bool IsNamespaced { get; init; } = true;

    /// <summary>Those of one namespace only.</summary>
    public Resource<T> In(string ns) => this with { Path = Path.Insert(Path.LastIndexOf('/'), $"/namespaces/{Uri.EscapeDataString(ns)}") };

    /// <summary>Where some of it is, with everything that a query can say.</summary>
    public string Query(params ReadOnlySpan<string> more)
    {
        var query = string.Join('&', [.. FieldSelector is null ? Array.Empty<string>() : [$"fieldSelector={Uri.EscapeDataString(FieldSelector)}"], .. more]);
        return query.Length == 0 ? Path : $"{Path}?{query}";
    }
}

/// <summary>What the core/v1 Endpoints of a Service say, as slices.</summary>
/// <param name="Metadata">Its own name and version.</param>
/// <param name="Slices">The slices.</param>
internal sealed record EndpointsObject(ObjectMeta Metadata, ImmutableArray<EndpointSlice> Slices);

/// <summary>The kinds that TraceProbe uses.</summary>
internal static class Resources
{
    public static Resource<Service> Services { get; } = new("services", "/api/v1/services", (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadService(ref json), s => s.Metadata);

    public static Resource<Pod> Pods { get; } = new("pods", "/api/v1/pods", (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadPod(ref json), p => p.Metadata);

    public static Resource<Node> Nodes { get; } = new("nodes", "/api/v1/nodes", (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadNode(ref json), n => n.Metadata) { IsNamespaced = false };

    public static Resource<Namespace> Namespaces { get; } = new("namespaces", "/api/v1/namespaces", (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadNamespace(ref json), n => n.Metadata) { IsNamespaced = false };

    public static Resource<NetworkPolicy> NetworkPolicies { get; } = new("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies",
        (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadNetworkPolicy(ref json), p => p.Metadata);

    public static Resource<PodEvent> Events { get; } = new("events", "/api/v1/events", (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadEvent(ref json), e => e.Metadata)
    {
        FieldSelector = $"type=Warning,involvedObject.kind=Pod,source!={PodEvent.Teller}",
    };

    /// <summary>core/v1 Endpoints, where the server has no EndpointSlices.</summary>
    public static Resource<EndpointsObject> Endpoints { get; } = new("endpoints", "/api/v1/endpoints", static (ObjectReader objects, ref Utf8JsonReader json) =>
    {
        var slices = objects.ReadEndpoints(ref json, out var metadata);
        return new EndpointsObject(metadata, slices);
    }, e => e.Metadata);

    /// <summary>EndpointSlices.</summary>
    /// <param name="version"><c>v1</c> or <c>v1beta1</c>.</param>
    public static Resource<EndpointSlice> EndpointSlices(string version) => new("endpointslices", $"/apis/discovery.k8s.io/{version}/endpointslices",
        (ObjectReader objects, ref Utf8JsonReader json) => objects.ReadEndpointSlice(ref json), s => s.Metadata);
}
