using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Cluster;

/// <summary>How Kubernetes objects are read and written: camelCase, unknown members ignored, nulls left out.</summary>
/// <remarks>
/// Generated readers assign every init-only property, also those absent from the text, with the type's default. So the records'
/// init accessors put their own defaults in the place of null and of <c>default(ImmutableArray)</c>; no consumer meets either.
/// </remarks>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.Strict, RespectNullableAnnotations = false)]
[JsonSerializable(typeof(ClusterSnapshot))]
[JsonSerializable(typeof(Service))]
[JsonSerializable(typeof(EndpointSlice))]
[JsonSerializable(typeof(ImmutableArray<Endpoint>))]
[JsonSerializable(typeof(ImmutableArray<EndpointPort>))]
[JsonSerializable(typeof(Pod))]
[JsonSerializable(typeof(Node))]
[JsonSerializable(typeof(Namespace))]
[JsonSerializable(typeof(NetworkPolicy))]
[JsonSerializable(typeof(PodEvent))]
[JsonSerializable(typeof(ConfigMap))]
[JsonSerializable(typeof(ClusterSettings))]
public sealed partial class KubernetesJson : JsonSerializerContext;
