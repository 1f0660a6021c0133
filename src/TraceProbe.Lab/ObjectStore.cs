using System.Collections.Immutable;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// The lab's API server: one JSON file per object, <c>objects/services/default.my-nginx.json</c>, as kubectl would print it. Files
/// are replaced by renaming, so a reader meets an old object or a new one, never half of one.
/// </summary>
internal sealed class ObjectStore(string folder)
{
    // Readable, and a plus sign in a time stamp as a plus sign.
    private static readonly JsonWriterOptions Form = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };


    internal ClusterSnapshot Read() => new()
    {
        ClusterDomain = LabLayout.ClusterDomain,
        Services = ReadAll("services", KubernetesJson.Default.Service),
        EndpointSlices = ReadAll("endpointslices", KubernetesJson.Default.EndpointSlice),
        Pods = ReadAll("pods", KubernetesJson.Default.Pod),
        Nodes = ReadAll("nodes", KubernetesJson.Default.Node),
    };

    internal void Put(Service value) => Write("services", "v1", "Service", value.Metadata, value, (v, m) => v with { Metadata = m }, KubernetesJson.Default.Service);

    internal void Put(EndpointSlice value) => Write("endpointslices", "discovery.k8s.io/v1", "EndpointSlice", value.Metadata, value, (v, m) => v with { Metadata = m }, KubernetesJson.Default.EndpointSlice);

    internal void Put(Pod value) => Write("pods", "v1", "Pod", value.Metadata, value, (v, m) => v with { Metadata = m }, KubernetesJson.Default.Pod);

    internal void Put(Node value) => Write("nodes", "v1", "Node", value.Metadata, value, (v, m) => v with { Metadata = m }, KubernetesJson.Default.Node);

    internal void Delete(string kind, ObjectMeta metadata) => File.Delete(PathOf(kind, metadata.Namespace, metadata.Name));

    internal string PathOf(string kind, string? ns, string name) => Path.Combine(folder, kind, ns is null ? $"{name}.json" : $"{ns}.{name}.json");

    /// <summary>Changes whenever any object does, whoever changed it.</summary>
    internal string Fingerprint()
    {
        var text = new System.Text.StringBuilder();
        foreach (var kind in (string[])["services", "endpointslices", "pods", "nodes"])
        {
            var path = Path.Combine(folder, kind);
            foreach (var file in Directory.Exists(path) ? [.. new DirectoryInfo(path).EnumerateFiles("*.json").OrderBy(f => f.Name, StringComparer.Ordinal)] : Array.Empty<FileInfo>())
            {
                text.Append(CultureInfo.InvariantCulture, $"{kind}/{file.Name} {file.LastWriteTimeUtc.Ticks} {file.Length}\n");
            }
        }

        return text.ToString();
    }

    /// <summary>All objects as one <c>v1 List</c>, the form that <c>kubectl get -o json</c> prints.</summary>
    internal static byte[] ToList(ClusterSnapshot snapshot)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, Form))
        {
            writer.WriteStartObject();
            writer.WriteString("apiVersion", "v1");
            writer.WriteString("kind", "List");
            writer.WriteStartArray("items");
            foreach (var item in snapshot.Services)
            {
                WriteObject(writer, "v1", "Service", item, KubernetesJson.Default.Service);
            }

            foreach (var item in snapshot.EndpointSlices)
            {
                WriteObject(writer, "discovery.k8s.io/v1", "EndpointSlice", item, KubernetesJson.Default.EndpointSlice);
            }

            foreach (var item in snapshot.Pods)
            {
                WriteObject(writer, "v1", "Pod", item, KubernetesJson.Default.Pod);
            }

            foreach (var item in snapshot.Nodes)
            {
                WriteObject(writer, "v1", "Node", item, KubernetesJson.Default.Node);
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        return buffer.ToArray();
    }

    private void Write<T>(string kind, string apiVersion, string kindName, ObjectMeta metadata, T value, Func<T, ObjectMeta, T> with, JsonTypeInfo<T> type)
    {
        var version = (metadata.ResourceVersion is null ? 0 : long.Parse(metadata.ResourceVersion, CultureInfo.InvariantCulture)) + 1;
        value = with(value, metadata with
        {
            Uid = metadata.Uid ?? Guid.NewGuid().ToString(),
            CreationTimestamp = metadata.CreationTimestamp ?? DateTimeOffset.FromUnixTimeSeconds(TimeProvider.System.GetUtcNow().ToUnixTimeSeconds()),
            ResourceVersion = version.ToString(CultureInfo.InvariantCulture),
        });
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, Form))
        {
            WriteObject(writer, apiVersion, kindName, value, type);
        }

        Directory.CreateDirectory(Path.Combine(folder, kind));
        Files.Replace(PathOf(kind, metadata.Namespace, metadata.Name), buffer.ToArray());
    }

    private static void WriteObject<T>(Utf8JsonWriter writer, string apiVersion, string kind, T value, JsonTypeInfo<T> type)
    {
        writer.WriteStartObject();
        writer.WriteString("apiVersion", apiVersion);
        writer.WriteString("kind", kind);
        foreach (var member in JsonSerializer.SerializeToElement(value, type).EnumerateObject())
        {
            member.WriteTo(writer);
        }

        writer.WriteEndObject();
    }

    private ImmutableArray<T> ReadAll<T>(string kind, JsonTypeInfo<T> type)
    {
        var path = Path.Combine(folder, kind);
        if (!Directory.Exists(path))
        {
            return [];
        }

        var found = ImmutableArray.CreateBuilder<T>();
        foreach (var file in Directory.EnumerateFiles(path, "*.json").Order(StringComparer.Ordinal))
        {
            try
            {
                found.Add(JsonSerializer.Deserialize(File.ReadAllBytes(file), type) ?? throw new JsonException("it holds null"));
            }
            catch (JsonException e)
            {
                throw new LabException($"{file} is not a {kind} object: {e.Message}", e);
            }
        }

        return found.ToImmutable();
    }
}
