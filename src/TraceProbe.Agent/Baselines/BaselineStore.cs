using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Baselines;

/// <summary>Recorded healthy journeys, one JSON file each, in one folder. Files are replaced whole, so readers never see half of one.</summary>
/// <param name="folder">The folder; made when the first is stored.</param>
public sealed class BaselineStore(string folder)
{
    private const long MaxBytes = 4 << 20;

    /// <summary>The folder.</summary>
    public string Folder { get; } = folder;

    /// <summary>
    /// The store of this user: <c>$TRACEPROBE_STATE/baselines</c>, else <c>/var/lib/traceprobe/baselines</c> for root, else
    /// <c>$XDG_STATE_HOME/traceprobe/baselines</c> (<c>~/.local/state</c> when that is not set).
    /// </summary>
    public static BaselineStore Default
    {
        get
        {
            if (Environment.GetEnvironmentVariable("TRACEPROBE_STATE") is { Length: > 0 } state)
            {
                return new(Path.Combine(state, "baselines"));
            }

            if (Environment.IsPrivilegedProcess)
            {
                return new("/var/lib/traceprobe/baselines");
            }

            var home = Environment.GetEnvironmentVariable("XDG_STATE_HOME") is { Length: > 0 } xdg
                ? xdg
                : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local", "state");
            return new(Path.Combine(home, "traceprobe", "baselines"));
        }
    }

    /// <summary>Whether a name can be stored under: 1 to 63 of a-z, 0-9, dot, dash and underscore, a letter or digit first.</summary>
    public static bool IsName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name.Length is > 0 and <= 63 && char.IsAsciiLetterOrDigit(name[0]) && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '.' or '-' or '_');
    }

    /// <summary>Stores a baseline, in place of one of the same name.</summary>
    /// <exception cref="BaselineException">It cannot be written, or the name is none.</exception>
    public void Save(Baseline baseline)
    {
        ArgumentNullException.ThrowIfNull(baseline);
        var path = PathOf(baseline.Name);
        var temporary = $"{path}.{Environment.ProcessId}.tmp";
        try
        {
            Directory.CreateDirectory(Folder);
            using (var file = File.Create(temporary))
            {
                JsonSerializer.Serialize(file, baseline, ReportJson.Default.Baseline);
                file.WriteByte((byte)'\n');
                file.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (File.Exists(temporary))
            {
                File.Delete(temporary);
            }

            throw new BaselineException($"The baseline could not be stored in {Folder}: {e.Message} Set TRACEPROBE_STATE to a folder that can be written.", e);
        }
    }

    /// <summary>All baselines, by name.</summary>
    /// <exception cref="BaselineException">One cannot be read; the message names its file.</exception>
    public ImmutableArray<Baseline> List() => [.. Names().Select(Read)];

    /// <summary>The names, in order.</summary>
    public IEnumerable<string> Names() => Directory.Exists(Folder)
        ? Directory.EnumerateFiles(Folder, "*.json").Select(f => Path.GetFileNameWithoutExtension(f)).Where(IsName).Order(StringComparer.Ordinal)
        : [];

    /// <summary>The baseline of that name.</summary>
    /// <exception cref="BaselineException">There is none, and the message names the nearest; or it cannot be read.</exception>
    public Baseline Get(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (IsName(name) && File.Exists(PathOf(name)))
        {
            return Read(name);
        }

        var near = NearestNames.Of(name, Names());
        throw new BaselineException($"There is no baseline '{name}'. " + (near.IsEmpty
            ? "'traceprobe baseline list' shows those there are; 'traceprobe baseline record NAME URL' makes one."
            : $"The nearest: {string.Join(", ", near)}."));
    }

    /// <summary>The newest baseline of the same client and Service in the same cluster; null when there is none.</summary>
    /// <param name="cluster">The cluster's name; null when it has none.</param>
    /// <param name="client">The client's place.</param>
    /// <param name="service">
    /// The Service and port, as <see cref="Baseline.Service"/> has it; with port 0, as of a command that came no farther than the name, any port.
    /// </param>
    /// <param name="unreadable">Told of each that cannot be read, and is passed over: nobody asked for that one by name.</param>
    public Baseline? Pick(string? cluster, string client, string service, Action<BaselineException>? unreadable = null)
    {
        Baseline? newest = null;
        foreach (var name in Names())
        {
            try
            {
                var b = Read(name);
                newest = b.Cluster == cluster && b.Client == client && IsFor(b.Service, service) && !(newest?.RecordedAt >= b.RecordedAt) ? b : newest;
            }
            catch (BaselineException e)
            {
                unreadable?.Invoke(e);
            }
        }

        return newest;
    }

    private static bool IsFor(string has, string wanted)
        => has == wanted || (wanted.EndsWith(":0", StringComparison.Ordinal) && has.StartsWith(wanted[..^1], StringComparison.Ordinal));

    /// <summary>Removes a baseline.</summary>
    /// <exception cref="BaselineException">There is none, or it cannot be removed.</exception>
    public void Remove(string name)
    {
        _ = Get(name);
        try
        {
            File.Delete(PathOf(name));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BaselineException($"The baseline '{name}' could not be removed: {e.Message}", e);
        }
    }

    private string PathOf(string name) => IsName(name)
        ? Path.Combine(Folder, $"{name}.json")
        : throw new BaselineException($"'{name}' cannot be a baseline's name: 1 to 63 of a-z, 0-9, '.', '-' and '_', beginning with a letter or digit.");

    private Baseline Read(string name)
    {
        var path = PathOf(name);
        try
        {
            // A pipe is of length 0 too; opening it would wait for somebody to write into it.
            if (new FileInfo(path).Length is 0 or > MaxBytes)
            {
                throw new BaselineException($"{path} is empty, or too large to be a baseline. Remove it.");
            }

            var baseline = Baseline.Read(File.ReadAllBytes(path));
            return baseline.Version <= Baseline.NewestVersion
                ? baseline with { Name = name }
                : throw new BaselineException($"{path} is of version {baseline.Version}, newer than this TraceProbe knows. Record it again, or use a newer TraceProbe.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new BaselineException($"The baseline {path} could not be read: {e.Message} Remove the file, or record it again.", e);
        }
    }
}
