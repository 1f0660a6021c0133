using TraceProbe.Core.Cluster;
using System.Collections.Immutable;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Node;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Recordings;

public static partial class RecordingArchive
{
    // What is written never holds a null, and always every parameter that may not be one: demanding that back means nothing
    // downstream meets a null that its types exclude.
    private static readonly Lazy<JsonSerializerOptions> Strict = new(() => new JsonSerializerOptions(ReportJson.Default.Options)
    {
        RespectNullableAnnotations = true,
        TypeInfoResolver = ReportJson.Default.WithAddedModifier(type =>
        {
            foreach (var property in type.Properties)
            {
                if (property.AssociatedParameter is { IsMemberInitializer: false, IsNullable: false, HasDefaultValue: false, ParameterType: var parameter }
                    && Nullable.GetUnderlyingType(parameter) is null)
                {
                    property.IsRequired = true;
                }
            }
        }),
    });

    private static SavedRecording Compose(Dictionary<string, byte[]> files)
    {
        var manifest = ReadManifest(files);
        var nodes = ImmutableArray.CreateBuilder<NodeAccount>();
        foreach (var name in files.Keys.Where(n => n.StartsWith("nodes/", StringComparison.Ordinal) && n.EndsWith("/node.json", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal))
        {
            var account = ReadJson<NodeAccount>(name, files[name])!;
            var folder = name[..^"node.json".Length];
            nodes.Add(account with { Dumps = [.. account.Dumps.Select(d => d with { Text = ReadText(files, $"{folder}{SafeName(d.Tool, null)}.txt") })] });
        }

        var recording = new Recording
        {
            Manifest = manifest,
            Events = ReadEvents(files),
            Client = files.TryGetValue(ClientFile, out var client) ? ReadJson<ClientReport>(ClientFile, client) : null,
            Cluster = files.TryGetValue(ClusterFile, out var cluster) ? Parse(ClusterFile, cluster, ReadCluster) : null,
            Nodes = nodes.ToImmutable(),
            Baseline = files.TryGetValue(BaselineFile, out var baseline) ? ReadJson<Baseline>(BaselineFile, baseline) : null,
        };
        return new SavedRecording(recording, files.TryGetValue(VerdictFile, out var verdict) ? new ReadOnlyMemory<byte>(verdict) : null);
    }

    private static RecordingManifest ReadManifest(Dictionary<string, byte[]> files)
    {
        if (!files.TryGetValue(ManifestFile, out var json))
        {
            throw new RecordingException($"is no recording: it has no {ManifestFile}.");
        }

        // The version first: a newer form may have members that this one would take for damage.
        var version = Parse(ManifestFile, json, bytes =>
        {
            using var document = JsonDocument.Parse(bytes);
            return document.RootElement.ValueKind == JsonValueKind.Object && document.RootElement.TryGetProperty("version"u8, out var v) && v.TryGetInt32(out var number)
                ? number
                : throw new JsonException("it has no \"version\".");
        });
        if (version is < 1 or > Recording.CurrentVersion)
        {
            throw new RecordingException(string.Create(CultureInfo.InvariantCulture,
                $"{ManifestFile}: the recording has version {version}, and this TraceProbe reads versions up to {Recording.CurrentVersion}. Replay it with the TraceProbe that wrote it, or a newer one."));
        }

        return ReadJson<RecordingManifest>(ManifestFile, json);
    }

    private static ImmutableArray<NetworkEvent> ReadEvents(Dictionary<string, byte[]> files)
    {
        if (!files.TryGetValue(EventsFile, out var lines))
        {
            throw new RecordingException($"has no {EventsFile}; an empty one stands for nothing seen.");
        }

        try
        {
            using var stream = new MemoryStream(lines, writable: false);
            return [.. EventJson.ReadLines(stream)];
        }
        catch (FormatException e)
        {
            throw new RecordingException($"{EventsFile}: {e.Message}", e);
        }
    }

    private static string ReadText(Dictionary<string, byte[]> files, string name) => files.TryGetValue(name, out var text)
        ? Encoding.UTF8.GetString(text)
        : throw new RecordingException($"{name} is missing, though its node.json names it.");

    private static T ReadJson<T>(string name, byte[] json) => Parse(name, json, bytes =>
        JsonSerializer.Deserialize(bytes.Span, (JsonTypeInfo<T>)Strict.Value.GetTypeInfo(typeof(T)))!);

    private static ClusterSnapshot ReadCluster(ReadOnlyMemory<byte> json)
    {
        var reader = new ClusterListReader((name, _) => throw new FormatException($"{name} is YAML, which no recording holds."));
        reader.Add("the list", json.Span);
        return reader.Ignored.Keys.FirstOrDefault() is { } kind ? throw new FormatException($"it holds an object of kind {kind}, which no recording does.")
            : reader.IsOurs ? reader.ToSnapshot() : throw new FormatException("it is not the list of a recording.");
    }

    private static T Parse<T>(string name, byte[] json, Func<ReadOnlyMemory<byte>, T> parse)
    {
        try
        {
            var reader = new Utf8JsonReader(json);
            while (reader.Read())
            {
                if (reader.TokenType == JsonTokenType.Null)
                {
                    throw new JsonException(string.Create(CultureInfo.InvariantCulture, $"null at byte {reader.TokenStartIndex}; members without a value are left out."));
                }
            }

            return parse(json);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException or KeyNotFoundException or NotSupportedException or ArgumentException)
        {
            throw new RecordingException($"{name} is damaged: {e.Message}", e);
        }
    }

    private static Dictionary<string, byte[]> FolderFiles(string folder, RecordingLimits limits)
    {
        var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        var total = 0L;
        foreach (var info in Walk(new DirectoryInfo(folder), depth: 0).Take(limits.Files + 1))
        {
            var name = Path.GetRelativePath(folder, info.FullName);
            if (!IsOurs(name))
            {
                continue;
            }

            if (info.LinkTarget is not null)
            {
                throw new RecordingException($"{Quote(name)} is a symbolic link; a recording's files are its own.");
            }

            // Length 0 is not opened: it is what a pipe or a device says, which could be read for ever.
            if (info.Length == 0)
            {
                Add(files, name, [], limits);
                continue;
            }

            using var stream = info.OpenRead();
            Add(files, name, ReadBounded(name, stream, limits, ref total), limits);
        }

        return files;

        static IEnumerable<FileInfo> Walk(DirectoryInfo directory, int depth)
        {
            foreach (var entry in directory.EnumerateFileSystemInfos())
            {
                if (entry is FileInfo file)
                {
                    yield return file;
                }
                else if (entry is DirectoryInfo child && depth < 2 && child.LinkTarget is null)
                {
                    foreach (var inner in Walk(child, depth + 1))
                    {
                        yield return inner;
                    }
                }
            }
        }
    }

    private static Dictionary<string, byte[]> ZipFiles(ZipArchive zip, RecordingLimits limits)
    {
        var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        var total = 0L;
        if (zip.Entries.Count > limits.Files)
        {
            throw new RecordingException(string.Create(CultureInfo.InvariantCulture, $"has {zip.Entries.Count:N0} entries; a recording has at most {limits.Files:N0}."));
        }

        foreach (var entry in zip.Entries)
        {
            var name = entry.FullName;
            if (name.StartsWith('/') || name.Contains('\\', StringComparison.Ordinal) || name.Split('/').Any(part => part is "." or ".."))
            {
                throw new RecordingException($"the entry {Quote(name)} leads out of the archive; no recording has such a name.");
            }

            if (!IsOurs(name))
            {
                continue;
            }

            using var stream = entry.Open();
            try
            {
                Add(files, name, ReadBounded(name, stream, limits, ref total), limits);
            }
            catch (InvalidDataException e)
            {
                throw new RecordingException($"the entry {Quote(name)} is damaged: {e.Message}", e);
            }
        }

        return files;
    }

    private static void Add(Dictionary<string, byte[]> files, string name, byte[] content, RecordingLimits limits)
    {
        if (!files.TryAdd(name, content))
        {
            throw new RecordingException($"{Quote(name)} is there twice.");
        }

        if (files.Count > limits.Files)
        {
            throw new RecordingException(string.Create(CultureInfo.InvariantCulture, $"has more than {limits.Files:N0} files."));
        }
    }

    private static bool IsOurs(string name) => name is ManifestFile or EventsFile or ClusterFile or ClientFile or BaselineFile or VerdictFile
        || (name.StartsWith("nodes/", StringComparison.Ordinal) && name.Split('/') is [_, { Length: > 0 }, { Length: > 0 } file]
            && (file == "node.json" || file.EndsWith(".txt", StringComparison.Ordinal)));

    // The length that a zip entry declares is the archive's own claim, so it is read until it ends or the limit is met.
    private static byte[] ReadBounded(string name, Stream stream, RecordingLimits limits, ref long total)
    {
        using var content = new MemoryStream();
        var buffer = new byte[64 * 1024];
        for (int read; (read = stream.Read(buffer)) > 0;)
        {
            total += read;
            if (content.Length + read > limits.FileBytes || total > limits.TotalBytes)
            {
                throw new RecordingException(string.Create(CultureInfo.InvariantCulture,
                    $"{Quote(name)} is too large: a file of a recording has at most {limits.FileBytes:N0} bytes, all of them {limits.TotalBytes:N0}."));
            }

            content.Write(buffer, 0, read);
        }

        return content.ToArray();
    }

    private static string Quote(string name) => $"'{(name.Length > 100 ? name[..100] + "…" : name)}'";
}
