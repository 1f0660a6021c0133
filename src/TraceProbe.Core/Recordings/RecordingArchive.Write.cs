using TraceProbe.Core.Cluster;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;

namespace TraceProbe.Core.Recordings;

public static partial class RecordingArchive
{
    private static void WriteFolder(string folder, Recording recording, Report report)
    {
        foreach (var (name, write) in Files(recording, report))
        {
            var path = Path.Combine(folder, name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            using var file = File.Create(path);
            write(file);
            file.Flush(flushToDisk: true);
        }
    }

    private static void WriteZip(Stream stream, Recording recording, Report report)
    {
        using var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true);
        foreach (var (name, write) in Files(recording, report))
        {
            var entry = zip.CreateEntry(name, CompressionLevel.Fastest);

            // The recording's own time, so that the same recording gives the same archive; zip knows none before 1980.
            var at = recording.Manifest.Clock.Wall;
            entry.LastWriteTime = at.Year is >= 1980 and < 2107 ? at.ToUniversalTime() : new DateTimeOffset(1980, 1, 1, 0, 0, 0, TimeSpan.Zero);
            using var content = entry.Open();
            write(content);
        }
    }

    private static IEnumerable<(string Name, Action<Stream> Write)> Files(Recording recording, Report report)
    {
        yield return (ManifestFile, s => WriteJson(s, recording.Manifest, ReportJson.Default.RecordingManifest));
        yield return (VerdictFile, s => s.Write(ReportJson.Write(report)));
        if (recording.Client is { } client)
        {
            yield return (ClientFile, s => WriteJson(s, client, ReportJson.Default.ClientReport));
        }

        if (recording.Baseline is { } baseline)
        {
            yield return (BaselineFile, s => WriteJson(s, baseline, ReportJson.Default.Baseline));
        }

        if (recording.Cluster is { } cluster)
        {
            yield return (ClusterFile, s => s.Write(ClusterList.Write(cluster).Span));
        }

        var folders = new HashSet<string>(StringComparer.Ordinal);
        foreach (var node in recording.Nodes)
        {
            var folder = SafeName(node.Name, folders);

            // The texts go into files of their own; the order of the dumps stays in node.json.
            var account = node with { Dumps = [.. node.Dumps.Select(d => d with { Text = "" })] };
            yield return ($"nodes/{folder}/node.json", s => WriteJson(s, account, ReportJson.Default.NodeAccount));
            foreach (var dump in node.Dumps)
            {
                yield return ($"nodes/{folder}/{SafeName(dump.Tool, null)}.txt", s => s.Write(Encoding.UTF8.GetBytes(dump.Text)));
            }
        }

        yield return (EventsFile, s => EventJson.WriteLines(s, recording.Events));
    }

    private static void WriteJson<T>(Stream stream, T value, JsonTypeInfo<T> type)
    {
        JsonSerializer.Serialize(stream, value, type);
        stream.WriteByte((byte)'\n');
    }

    // A node's name is a DNS name and stays as it is; whatever else somebody wrote becomes a file name that means nothing to a path.
    private static string SafeName(string name, HashSet<string>? taken)
    {
        var safe = new string([.. name.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' ? c : '_')]).TrimStart('.');
        safe = safe.Length is 0 or > 200 ? "node" : safe;
        var unique = safe;
        for (var n = 2; taken is not null && !taken.Add(unique); n++)
        {
            unique = string.Create(CultureInfo.InvariantCulture, $"{safe}_{n}");
        }

        return unique;
    }
}
