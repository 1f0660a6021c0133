using System.Globalization;
using System.IO.Compression;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Recordings;

/// <summary>A recording as it was found on disk.</summary>
/// <param name="Recording">Everything the verdict follows from.</param>
/// <param name="Verdict">The report as it was saved, byte for byte; null when the recording holds none.</param>
public sealed record SavedRecording(Recording Recording, ReadOnlyMemory<byte>? Verdict);

/// <summary>
/// Recordings on disk: a folder, or a single <c>.tprec</c> file, which is a zip archive of the same files.
/// <para>
/// <c>manifest.json</c> what it is of · <c>events.ndjson</c> the observed account · <c>cluster.json</c> the desired account, as kubectl
/// prints lists · <c>nodes/NAME/node.json</c> and <c>nodes/NAME/TOOL.txt</c> the programmed accounts · <c>client.json</c> what the
/// client saw · <c>baseline.json</c> what it was compared with · <c>verdict.json</c> the report.
/// </para>
/// Only the manifest and the events are always there. Files with other names are left alone, so notes can lie beside them.
/// </summary>
public static partial class RecordingArchive
{
    /// <summary>What a single-file recording's name ends with.</summary>
    public const string Extension = ".tprec";

    private const string ManifestFile = "manifest.json";
    private const string EventsFile = "events.ndjson";
    private const string ClusterFile = "cluster.json";
    private const string ClientFile = "client.json";
    private const string BaselineFile = "baseline.json";
    private const string VerdictFile = "verdict.json";

    /// <summary>
    /// Writes a recording and its report. It appears under its name only when it is whole: it is written beside it first.
    /// </summary>
    /// <param name="path">A name that ends with <c>.tprec</c> for a single file (replaced when it exists), any other for a folder (which must not exist, unless it is a recording: then it is replaced).</param>
    /// <param name="recording">The recording.</param>
    /// <param name="report">Its report.</param>
    /// <exception cref="RecordingException">It could not be written; nothing is left behind.</exception>
    public static void Write(string path, Recording recording, Report report)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(report);
        var full = Path.GetFullPath(path);
        CheckWritable(path);
        var name = Path.GetFileName(Path.TrimEndingDirectorySeparator(full));
        var temporary = Path.Combine(Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(full))!,
            string.Create(CultureInfo.InvariantCulture, $".{name}.{Environment.ProcessId}.tmp"));
        try
        {
            if (IsSingleFile(full))
            {
                using (var file = new FileStream(temporary, FileMode.Create, FileAccess.ReadWrite))
                {
                    WriteZip(file, recording, report);
                    file.Flush(flushToDisk: true);
                }

                File.Move(temporary, full, overwrite: true);
            }
            else
            {
                WriteFolder(temporary, recording, report);
                if (Directory.Exists(full))
                {
                    // An empty one: otherwise this throws.
                    Directory.Delete(full);
                }

                if (Directory.Exists(full))
                {
                    // Two moves and not one: a folder cannot be renamed over another.
                    Directory.Move(full, temporary + ".old");
                    Directory.Move(temporary, full);
                    Directory.Delete(temporary + ".old", recursive: true);
                }
                else
                {
                    Directory.Move(temporary, full);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RecordingException($"The recording could not be saved as {path}: {e.Message}", e);
        }
        finally
        {
            if (File.Exists(temporary))
            {
                File.Delete(temporary);
            }
            else if (Directory.Exists(temporary))
            {
                Directory.Delete(temporary, recursive: true);
            }
        }
    }

    /// <summary>Says early, before a request is made, whether a recording can be saved under this name.</summary>
    /// <exception cref="RecordingException">It cannot; the message says why.</exception>
    public static void CheckWritable(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (path.Length == 0)
        {
            throw new RecordingException("A recording needs a name to be saved under.");
        }

        var full = Path.GetFullPath(path);
        var parent = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(full));
        if (parent is null || !Directory.Exists(parent))
        {
            throw new RecordingException($"The recording cannot be saved as {path}: there is no folder {parent ?? full}. Make it, or choose another name.");
        }

        if (IsSingleFile(full) ? Directory.Exists(full) : File.Exists(full) || (Directory.Exists(full) && Directory.EnumerateFileSystemEntries(full).Any() && !File.Exists(Path.Combine(full, ManifestFile))))
        {
            throw new RecordingException($"The recording cannot be saved as {path}: that already exists. Remove it, or choose another name ({Extension} at its end makes a single file).");
        }
    }

    /// <summary>Reads a recording.</summary>
    /// <param name="path">A folder or a <c>.tprec</c> file.</param>
    /// <exception cref="RecordingException">There is none, it is damaged, hostile, or of a newer version; the message names the part.</exception>
    public static SavedRecording Read(string path) => Read(path, RecordingLimits.Default);

    internal static SavedRecording Read(string path, RecordingLimits limits)
    {
        ArgumentNullException.ThrowIfNull(path);
        try
        {
            if (Directory.Exists(path))
            {
                return Compose(FolderFiles(path, limits));
            }

            if (!File.Exists(path))
            {
                throw new RecordingException($"There is no recording '{path}'. Give a folder or a {Extension} file, as --save writes them.");
            }

            // Opening a pipe waits for somebody to write into it.
            if ((File.ResolveLinkTarget(path, returnFinalTarget: true) ?? new FileInfo(path)) is not FileInfo { Length: > 0 })
            {
                throw new RecordingException("is empty, or no file; a recording is read from its end, which pipes and devices do not have.");
            }

            using var file = File.OpenRead(path);
            return Read(file, limits);
        }
        catch (RecordingException e)
        {
            throw new RecordingException($"{path}: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RecordingException($"The recording {path} could not be read: {e.Message}", e);
        }
    }

    /// <summary>Reads a single-file recording from a stream that can seek.</summary>
    internal static SavedRecording Read(Stream stream, RecordingLimits limits)
    {
        if (stream.Length > limits.ArchiveBytes)
        {
            throw new RecordingException(string.Create(CultureInfo.InvariantCulture,
                $"is {stream.Length:N0} bytes long; a recording has at most {limits.ArchiveBytes:N0}."));
        }

        try
        {
            using var zip = new ZipArchive(stream, ZipArchiveMode.Read);
            return Compose(ZipFiles(zip, limits));
        }
        catch (InvalidDataException e)
        {
            throw new RecordingException($"is no recording, or a damaged one (a zip archive was expected): {e.Message}", e);
        }
    }

    private static bool IsSingleFile(string path) => path.EndsWith(Extension, StringComparison.OrdinalIgnoreCase);
}
