using System.Buffers;
using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// A cluster snapshot as the list that <c>kubectl get … -o json</c> prints, so that people can use it with their own tools, one object to a
/// line, for the eye and for diff. What a list has no place for (the cluster's DNS domain, kinds that could not be read) stands in a
/// member <c>traceprobe</c>; a list that has it tells itself of which kinds it does not tell.
/// </summary>
public static class ClusterList
{
    // Readable, and a plus sign in a label as a plus sign.
    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Writes the list.</summary>
    public static ReadOnlyMemory<byte> Write(ClusterSnapshot cluster)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        var buffer = new ArrayBufferWriter<byte>(64 * 1024);
        using var json = new Utf8JsonWriter(buffer, Options);
        buffer.Write("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"metadata\":{},\"traceprobe\":"u8);
        json.WriteStartObject();
        json.WriteString("clusterDomain"u8, cluster.ClusterDomain);
        if (cluster.ClusterDomainFrom is { } from)
        {
            json.WriteString("clusterDomainFrom"u8, from);
        }

        if (cluster.Settings != new ClusterSettings())
        {
            json.WritePropertyName("settings"u8);
            ObjectWriter.Write(json, cluster.Settings);
        }

        json.WriteStartArray("alsoRead"u8);
        foreach (var kind in cluster.AlsoRead)
        {
            json.WriteStringValue(kind);
        }

        json.WriteEndArray();
        json.WriteStartArray("unread"u8);
        foreach (var unread in cluster.Unread)
        {
            json.WriteStartObject();
            json.WriteString("what"u8, unread.What);
            json.WriteString("why"u8, unread.Why);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        buffer.Write(",\"items\":["u8);
        var first = true;
        WriteItems(buffer, json, ref first, cluster.Namespaces, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.Nodes, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.Services, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.EndpointSlices, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.Pods, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.NetworkPolicies, ObjectWriter.Write);
        WriteItems(buffer, json, ref first, cluster.Events, ObjectWriter.Write);
        buffer.Write("\n]}\n"u8);
        return buffer.WrittenMemory;
    }

    private static void WriteItems<T>(ArrayBufferWriter<byte> buffer, Utf8JsonWriter json, ref bool first, ImmutableArray<T> items, Action<Utf8JsonWriter, T> write)
    {
        foreach (var item in items)
        {
            buffer.Write(first ? "\n"u8 : ",\n"u8);
            first = false;
            json.Reset();
            write(json, item);
            json.Flush();
        }
    }
}
