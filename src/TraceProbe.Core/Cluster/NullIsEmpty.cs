using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Reads a JSON null as an empty array. API servers write <c>"endpoints": null, "ports": null</c> for the slice of a Service whose
/// selector finds nobody: these fields have no <c>omitempty</c> in discovery.k8s.io/v1.
/// </summary>
internal sealed class NullIsEmpty<T> : JsonConverter<ImmutableArray<T>>
{
    public override bool HandleNull => true;

    public override ImmutableArray<T> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.Null)
        {
            return [];
        }

        try
        {
            return JsonSerializer.Deserialize(ref reader, TypeInfo(options));
        }
        catch (JsonException e)
        {
            // Its path begins at this array; without one the reader around gives its own, and the inner one says the rest.
            throw new JsonException(e.Message, e);
        }
    }

    public override void Write(Utf8JsonWriter writer, ImmutableArray<T> value, JsonSerializerOptions options)
        => JsonSerializer.Serialize(writer, value, TypeInfo(options));

    private static JsonTypeInfo<ImmutableArray<T>> TypeInfo(JsonSerializerOptions options)
        => (JsonTypeInfo<ImmutableArray<T>>)options.GetTypeInfo(typeof(ImmutableArray<T>));
}
