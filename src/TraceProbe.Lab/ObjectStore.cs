using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
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

    private delegate T ReadObject<T>(ref Utf8JsonReader json);

    internal ClusterSnapshot Read()
    {
        var objects = new ObjectReader();
        return new ClusterSnapshot
        {
            ClusterDomain = LabLayout.ClusterDomain,
            Services = ReadAll("services", objects.ReadService),
            EndpointSlices = ReadAll("endpointslices", objects.ReadEndpointSlice),
            Pods = ReadAll("pods", objects.ReadPod),
            Nodes = ReadAll("nodes", objects.ReadNode),
        };
    }

    internal void Put(Service value) => Write("services", value.Metadata, m => value with { Metadata = m }, ObjectWriter.Write);

    internal void Put(EndpointSlice value) => Write("endpointslices", value.Metadata, m => value with { Metadata = m }, ObjectWriter.Write);

    internal void Put(Pod value) => Write("pods", value.Metadata, m => value with { Metadata = m }, ObjectWriter.Write);

    internal void Put(ConfigMap value) => Write("configmaps", value.Metadata, m => value with { Metadata = m }, ObjectWriter.Write);

    /// <summary>The ConfigMaps: what kubeadm writes of kube-proxy and CoreDNS.</summary>
    internal ImmutableArray<ConfigMap> ReadConfigMaps() => ReadAll("configmaps", new ObjectReader().ReadConfigMap);

    internal void Put(Node value) => Write("nodes", value.Metadata, m => value with { Metadata = m }, ObjectWriter.Write);

    /// <summary>An object's text. Records with arrays compare by reference; their text says whether they mean the same.</summary>
    internal static string TextOf(Service value) => TextOf(value, ObjectWriter.Write);

    /// <inheritdoc cref="TextOf(Service)"/>
    internal static string TextOf(Pod value) => TextOf(value, ObjectWriter.Write);

    /// <inheritdoc cref="TextOf(Service)"/>
    internal static string TextOf(EndpointSlice value) => TextOf(value, ObjectWriter.Write);

    private static string TextOf<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        write(json, value);
        json.Flush();
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    internal void Delete(string kind, ObjectMeta metadata) => File.Delete(PathOf(kind, metadata.Namespace, metadata.Name));

    internal string PathOf(string kind, string? ns, string name) => Path.Combine(folder, kind, ns is null ? $"{name}.json" : $"{ns}.{name}.json");

    /// <summary>Changes whenever any object does, whoever changed it.</summary>
    internal string Fingerprint()
    {
        var text = new StringBuilder();
        foreach (var kind in (string[])["services", "endpointslices", "pods", "nodes", "configmaps"])
        {
            var path = Path.Combine(folder, kind);
            foreach (var file in Directory.Exists(path) ? [.. new DirectoryInfo(path).EnumerateFiles("*.json").OrderBy(f => f.Name, StringComparer.Ordinal)] : Array.Empty<FileInfo>())
            {
                text.Append(CultureInfo.InvariantCulture, $"{kind}/{file.Name} {file.LastWriteTimeUtc.Ticks} {file.Length}\n");
            }
        }

        return text.ToString();
    }

    private void Write<T>(string kind, ObjectMeta metadata, Func<ObjectMeta, T> with, Action<Utf8JsonWriter, T> write)
    {
        var version = (metadata.ResourceVersion is null ? 0 : long.Parse(metadata.ResourceVersion, CultureInfo.InvariantCulture)) + 1;
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, Form))
        {
            write(writer, with(metadata with
            {
                Uid = metadata.Uid ?? Guid.NewGuid().ToString(),
                CreationTimestamp = metadata.CreationTimestamp ?? DateTimeOffset.FromUnixTimeSeconds(TimeProvider.System.GetUtcNow().ToUnixTimeSeconds()),
                ResourceVersion = version.ToString(CultureInfo.InvariantCulture),
            }));
        }

        Directory.CreateDirectory(Path.Combine(folder, kind));
        Files.Replace(PathOf(kind, metadata.Namespace, metadata.Name), buffer.ToArray());
    }

    private ImmutableArray<T> ReadAll<T>(string kind, ReadObject<T> read)
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
                var json = new Utf8JsonReader(File.ReadAllBytes(file), ObjectReader.Options);
                json.Read();
                found.Add(read(ref json));
            }
            catch (JsonException e)
            {
                throw new LabException($"{file} is not a {kind} object: {e.Message}", e);
            }
        }

        return found.ToImmutable();
    }
}
