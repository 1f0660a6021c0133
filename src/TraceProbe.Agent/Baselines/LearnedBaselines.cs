using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

using TraceProbe.Agent.Api;

namespace TraceProbe.Agent.Baselines;

/// <summary>
/// The baselines that an agent learns, one file each. A file is replaced whole (written beside it, flushed, renamed), so that a crash at any moment leaves the old one or the
/// new one. Bounded; those not seen for longest give way. One thread.
/// </summary>
public sealed class LearnedBaselines
{
    /// <summary>The most that are kept.</summary>
    public const int Most = 5_000;

    private const long MaxBytes = 1 << 20;

    private readonly string _folder;
    private readonly Dictionary<(string Client, string Service, int Family), LearnedBaseline> _baselines = [];

    /// <summary>Reads what is in a folder.</summary>
    /// <param name="folder">The folder; made when the first is stored.</param>
    /// <param name="unreadable">Told of each file that cannot be read, and why; it is left where it is under another name.</param>
    public LearnedBaselines(string folder, Action<string> unreadable)
    {
        ArgumentNullException.ThrowIfNull(unreadable);
        _folder = folder;
        foreach (var file in Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*.json").Take(Most * 2) : [])
        {
            if (TryRead(file, out var baseline, out var why))
            {
                _baselines[(baseline.Client, baseline.Service, baseline.Family)] = baseline;
                continue;
            }

            unreadable($"{file}: {why}");
            try
            {
                File.Move(file, Path.ChangeExtension(file, ".damaged"), overwrite: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                unreadable($"{file}: {e.Message}");
            }
        }

        // What a crash left half written.
        foreach (var file in Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*.tmp") : [])
        {
            File.Delete(file);
        }
    }

    /// <summary>How many there are.</summary>
    public int Count => _baselines.Count;

    /// <summary>All of them.</summary>
    public IEnumerable<LearnedBaseline> All => _baselines.Values;

    /// <summary>The baseline of a client, Service and family; a new one when there is none.</summary>
    public LearnedBaseline Of(string client, string service, int family)
    {
        if (!_baselines.TryGetValue((client, service, family), out var baseline))
        {
            if (_baselines.Count >= Most)
            {
                var oldest = _baselines.Values.MinBy(b => b.LastSeen)!;
                _baselines.Remove((oldest.Client, oldest.Service, oldest.Family));
                File.Delete(PathOf(oldest));
            }

            _baselines[(client, service, family)] = baseline = new LearnedBaseline { Client = client, Service = service, Family = family };
        }

        return baseline;
    }

    /// <summary>A healthy journey of a client to a Service, in either family; null when none was followed.</summary>
    public LearnedBaseline? Find(string client, string service)
        => _baselines.GetValueOrDefault((client, service, 4)) is { Journey: not null } four ? four : _baselines.GetValueOrDefault((client, service, 6)) is { Journey: not null } six ? six : null;

    /// <summary>Stores what has changed.</summary>
    /// <exception cref="IOException">It cannot be written; it is tried again next time.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    public void Store()
    {
        foreach (var baseline in _baselines.Values)
        {
            if (!baseline.IsDirty)
            {
                continue;
            }

            Directory.CreateDirectory(_folder);
            var path = PathOf(baseline);
            var temporary = path + ".tmp";
            using (var file = File.Create(temporary))
            {
                JsonSerializer.Serialize(file, baseline, LearnedJson.Default.LearnedBaseline);
                file.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
            baseline.IsDirty = false;
        }
    }

    /// <summary>What is stored in a folder, for whoever asks; what cannot be read is left out.</summary>
    internal static IReadOnlyList<BaselineMessage> Read(string folder)
    {
        return !Directory.Exists(folder) ? [] : [.. Directory.EnumerateFiles(folder, "*.json").Take(Most).Select(f => TryRead(f, out var b, out _) ? b : null).OfType<LearnedBaseline>()
            .OrderBy(b => b.Service, StringComparer.Ordinal).ThenBy(b => b.Client, StringComparer.Ordinal).Select(b => new BaselineMessage
            {
                Client = b.Client,
                Service = b.Service,
                Family = b.Family,
                Connections = b.Connections,
                LastSeen = b.LastSeen,
                Resolvers = [.. b.Resolvers],
                Names = [.. b.Names],
                Backends = [.. b.Backends],
                LookupMilliseconds = Of(b.Lookup),
                ConnectMilliseconds = Of(b.Connect),
                ReplyMilliseconds = Of(b.Reply),
            })];

        static Percentiles? Of(LatencySketch sketch) => sketch.Count == 0 ? null : new Percentiles(Math.Round(sketch.Quantile(0.5).TotalMilliseconds, 3), Math.Round(sketch.Quantile(0.99).TotalMilliseconds, 3));
    }

    private string PathOf(LearnedBaseline baseline)
        => Path.Combine(_folder, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{baseline.Client}\n{baseline.Service}\n{baseline.Family}")))[..24] + ".json");

    private static bool TryRead(string file, [NotNullWhen(true)] out LearnedBaseline? baseline, [NotNullWhen(false)] out string? why)
    {
        (baseline, why) = (null, null);
        try
        {
            if (new FileInfo(file).Length > MaxBytes)
            {
                why = "it is too large to be one";
                return false;
            }

            baseline = JsonSerializer.Deserialize(File.ReadAllBytes(file), LearnedJson.Default.LearnedBaseline);
            if (baseline is { IsValid: true })
            {
                return true;
            }

            why = "it is damaged, or of another version";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException or ArgumentException)
        {
            why = e.Message;
        }

        return false;
    }
}

/// <summary>How learned baselines are written.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(LearnedBaseline))]
internal sealed partial class LearnedJson : JsonSerializerContext;
