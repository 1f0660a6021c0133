using System.Buffers;
using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Recordings;

/// <summary>
/// A cluster snapshot as the list that <c>kubectl get … -o json</c> prints, so that people can use it with their own tools. What a
/// list has no place for (the cluster's DNS domain, kinds that could not be read) stands in a member <c>traceprobe</c>.
/// </summary>
internal static class ClusterList
{
    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Writes the list: one item per line, for the eye and for diff.</summary>
    public static byte[] Write(ClusterSnapshot cluster)
    {
        var buffer = new ArrayBufferWriter<byte>(64 * 1024);
        buffer.Write("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"traceprobe\":"u8);
        using (var writer = new Utf8JsonWriter(buffer, Options))
        {
            writer.WriteStartObject();
            writer.WriteString("clusterDomain"u8, cluster.ClusterDomain);
            if (cluster.ClusterDomainFrom is { } from)
            {
                writer.WriteString("clusterDomainFrom"u8, from);
            }

            if (cluster.Settings != new ClusterSettings())
            {
                writer.WritePropertyName("settings"u8);
                JsonSerializer.Serialize(writer, cluster.Settings, KubernetesJson.Default.ClusterSettings);
            }

            writer.WriteStartArray("alsoRead"u8);
            foreach (var kind in cluster.AlsoRead)
            {
                writer.WriteStringValue(kind);
            }

            writer.WriteEndArray();
            writer.WriteStartArray("unread"u8);
            foreach (var unread in cluster.Unread)
            {
                writer.WriteStartObject();
                writer.WriteString("what"u8, unread.What);
                writer.WriteString("why"u8, unread.Why);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        buffer.Write(",\"items\":["u8);
        var first = true;
        WriteItems(buffer, ref first, "{\"apiVersion\":\"v1\",\"kind\":\"Node\","u8, cluster.Nodes, KubernetesJson.Default.Node);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\","u8, cluster.Namespaces, KubernetesJson.Default.Namespace);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"v1\",\"kind\":\"Service\","u8, cluster.Services, KubernetesJson.Default.Service);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\","u8, cluster.EndpointSlices, KubernetesJson.Default.EndpointSlice);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\","u8, cluster.Pods, KubernetesJson.Default.Pod);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\","u8, cluster.NetworkPolicies, KubernetesJson.Default.NetworkPolicy);
        WriteItems(buffer, ref first, "{\"apiVersion\":\"v1\",\"kind\":\"Event\","u8, cluster.Events, KubernetesJson.Default.PodEvent);
        buffer.Write("\n]}\n"u8);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Reads what <see cref="Write"/> writes.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static ClusterSnapshot Read(ReadOnlyMemory<byte> json)
    {
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("items"u8, out var items) || items.ValueKind != JsonValueKind.Array)
        {
            throw new JsonException("a list of Kubernetes objects with \"items\" was expected.");
        }

        var services = ImmutableArray.CreateBuilder<Service>();
        var slices = ImmutableArray.CreateBuilder<EndpointSlice>();
        var pods = ImmutableArray.CreateBuilder<Pod>();
        var nodes = ImmutableArray.CreateBuilder<Cluster.Node>();
        var namespaces = ImmutableArray.CreateBuilder<Namespace>();
        var policies = ImmutableArray.CreateBuilder<NetworkPolicy>();
        var events = ImmutableArray.CreateBuilder<PodEvent>();
        var index = 0;
        foreach (var item in items.EnumerateArray())
        {
            var kind = item.ValueKind == JsonValueKind.Object && item.TryGetProperty("kind"u8, out var value) ? value.GetString() : null;
            switch (kind)
            {
                case "Service": services.Add(item.Deserialize(KubernetesJson.Default.Service)!); break;
                case "EndpointSlice": slices.Add(item.Deserialize(KubernetesJson.Default.EndpointSlice)!); break;
                case "Pod": pods.Add(item.Deserialize(KubernetesJson.Default.Pod)!); break;
                case "Node": nodes.Add(item.Deserialize(KubernetesJson.Default.Node)!); break;
                case "Namespace": namespaces.Add(item.Deserialize(KubernetesJson.Default.Namespace)!); break;
                case "NetworkPolicy": policies.Add(item.Deserialize(KubernetesJson.Default.NetworkPolicy)!); break;
                case "Event": events.Add(item.Deserialize(KubernetesJson.Default.PodEvent)!); break;
                default: throw new JsonException($"items[{index}] is of kind '{kind}'; a recording holds Service, EndpointSlice, Pod, Node, Namespace, NetworkPolicy and Event.");
            }

            index++;
        }

        var domain = ClusterSnapshot.Empty.ClusterDomain;
        string? domainFrom = null;
        ClusterSettings? settings = null;
        var alsoRead = ImmutableArray.CreateBuilder<string>();
        var unread = ImmutableArray.CreateBuilder<Unread>();
        if (root.TryGetProperty("traceprobe"u8, out var own) && own.ValueKind == JsonValueKind.Object)
        {
            domain = own.TryGetProperty("clusterDomain"u8, out var d) ? d.GetString() ?? domain : domain;
            foreach (var line in own.TryGetProperty("unread"u8, out var list) ? list.EnumerateArray() : default)
            {
                unread.Add(new Unread(line.GetProperty("what"u8).GetString()!, line.GetProperty("why"u8).GetString()!));
            }

            domainFrom = own.TryGetProperty("clusterDomainFrom"u8, out var f) ? f.GetString() : null;
            settings = own.TryGetProperty("settings"u8, out var s) ? s.Deserialize(KubernetesJson.Default.ClusterSettings) : null;
            foreach (var kind in own.TryGetProperty("alsoRead"u8, out var kinds) ? kinds.EnumerateArray() : default)
            {
                alsoRead.Add(kind.GetString()!);
            }
        }

        return new ClusterSnapshot
        {
            ClusterDomain = domain,
            ClusterDomainFrom = domainFrom,
            Settings = settings!,
            Namespaces = namespaces.ToImmutable(),
            NetworkPolicies = policies.ToImmutable(),
            Events = events.ToImmutable(),
            AlsoRead = alsoRead.ToImmutable(),
            Services = services.ToImmutable(),
            EndpointSlices = slices.ToImmutable(),
            Pods = pods.ToImmutable(),
            Nodes = nodes.ToImmutable(),
            Unread = unread.ToImmutable(),
        };
    }

    // The objects are written without apiVersion and kind; both are put in after the opening brace.
    private static void WriteItems<T>(ArrayBufferWriter<byte> buffer, ref bool first, ReadOnlySpan<byte> opening, ImmutableArray<T> items, JsonTypeInfo<T> type)
    {
        foreach (var item in items)
        {
            buffer.Write(first ? "\n"u8 : ",\n"u8);
            first = false;
            buffer.Write(opening);
            buffer.Write(JsonSerializer.SerializeToUtf8Bytes(item, type).AsSpan(1));
        }
    }
}
