using System.Globalization;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent;

/// <summary>Recordings of failures in a folder, the newest so many; 'traceprobe replay' reads them.</summary>
/// <param name="folder">The folder; made when the first is kept.</param>
/// <param name="most">How many.</param>
public sealed class FailureFiles(string folder, int most)
{
    private volatile int _most = most;
    private int _number;

    /// <summary>How many are kept; 0 for none.</summary>
    public int Most
    {
        get => _most;
        set => _most = value;
    }

    /// <summary>Keeps a recording, and removes the oldest when there are too many.</summary>
    /// <returns>Its path; null when none are kept.</returns>
    /// <exception cref="IOException">It could not be written.</exception>
    /// <exception cref="RecordingException">It could not be written.</exception>
    public string? Keep(Recording recording, Report report)
    {
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(report);
        if (_most == 0)
        {
            return null;
        }

        Directory.CreateDirectory(folder);
        var path = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture,
            $"{report.StartedAt:yyyyMMdd'T'HHmmssfff}-{Interlocked.Increment(ref _number) % 1000:000}-{FailureClassInfo.Of(report.Verdict.Class).Name}{RecordingArchive.Extension}"));
        RecordingArchive.Write(path, recording, report);

        // Names begin with their time, so their order is that of age.
        var files = Directory.GetFiles(folder, $"*{RecordingArchive.Extension}");
        Array.Sort(files, StringComparer.Ordinal);
        foreach (var old in files.AsSpan(0, Math.Max(0, files.Length - _most)))
        {
            File.Delete(old);
        }

        return path;
    }

    /// <summary>The names of those that are kept, the newest first.</summary>
    public IReadOnlyList<string> Names() => !Directory.Exists(folder) ? [] : [.. Directory.GetFiles(folder, $"*{RecordingArchive.Extension}").Select(f => Path.GetFileName(f)).OrderDescending(StringComparer.Ordinal)];

    /// <summary>Where one of them is; null when there is none of that name.</summary>
    public string? PathOf(string name) => Names().Contains(name, StringComparer.Ordinal) ? Path.Combine(folder, name) : null;
}
