using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Node;

/// <summary>
/// What a node's kube-proxy says of itself: how it was started, and what it answers where its health and metrics are served. Nothing needs
/// it; where it is there, it tells a kube-proxy that is behind from one that does not know.
/// </summary>
public sealed record KubeProxyAccount
{
    /// <summary>When it was asked.</summary>
    public required DateTimeOffset AskedAt { get; init; }

    /// <summary>Its process; null when none was found.</summary>
    public ProcessRef? Process { get; init; }

    /// <summary>Whether its process stands still (stopped by a signal or a debugger), so that it can do nothing.</summary>
    public bool IsStopped { get; init; }

    /// <summary>What its flags, or the configuration file that they name, tell it; null when its process may not be looked at.</summary>
    public KubeProxySettings? Settings { get; init; }

    /// <summary>The mode that it says it works in (<c>/proxyMode</c>); null when it did not say.</summary>
    public string? Mode { get; init; }

    /// <summary>Whether it calls itself healthy (<c>/healthz</c>): it does not when what was queued has waited for a minute or more; null when it did not say.</summary>
    public bool? IsHealthy { get; init; }

    /// <summary>When it last brought its rules up to date; null when it did not say, or never did.</summary>
    public DateTimeOffset? LastSync { get; init; }

    /// <summary>When a change was last queued for the rules; null when it did not say, or none ever was.</summary>
    public DateTimeOffset? LastQueued { get; init; }

    /// <summary>How often writing all its rules has failed since it started; null when it did not say.</summary>
    public long? SyncFailures { get; init; }

    /// <summary>How often writing only what had changed has failed, after which it writes all; null when it did not say.</summary>
    public long? PartialSyncFailures { get; init; }

    /// <summary>Where it was asked and did not answer as a kube-proxy does, each with the reason.</summary>
    public ImmutableArray<Unread> Unread { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether a change waits that is not in the rules yet.</summary>
    public bool IsBehind => LastQueued is { } queued && (LastSync is not { } synced || queued > synced);

    /// <summary>What is worth knowing of it where rules are not as they should be, in sentences without a full stop.</summary>
    /// <param name="node">The node's name.</param>
    /// <param name="found">How the rules found on the node work.</param>
    public IEnumerable<string> Tell(string node, ProxyMode found)
    {
        var who = Process is { } process ? string.Create(CultureInfo.InvariantCulture, $"kube-proxy ({process.Pid}) on {node}") : $"kube-proxy on {node}";
        if (IsStopped)
        {
            yield return $"{who} stands still: its process was stopped by a signal (state T)";
        }

        if (LastSync is { } synced)
        {
            yield return $"{who} last synced {Clock(synced)}, {Ago(AskedAt - synced)} ago, and {(IsBehind ? $"a change has been queued since {Clock(LastQueued!.Value)}" : "nothing has been queued since")}";
        }
        else if (LastQueued is { } queued)
        {
            yield return $"{who} has never synced; a change has been queued since {Clock(queued)}";
        }
        else if (!IsStopped && Process is not null && IsSilent)
        {
            yield return $"{who} runs, but does not say when it last synced ({Unread[0].What}: {Unread[0].Why})";
        }

        if (SyncFailures > 0 || PartialSyncFailures > 0)
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"{who} has failed to write its rules {SyncFailures ?? 0} times{(PartialSyncFailures > 0 ? $", and {PartialSyncFailures} times to write only what had changed" : "")}; its log says why");
        }

        if (IsHealthy == false)
        {
            yield return $"{who} calls itself unhealthy (/healthz)";
        }

        if (ModeSaid is { } mode && found is not (ProxyMode.Unknown or ProxyMode.None) && !mode.Equals(found.ToString(), StringComparison.OrdinalIgnoreCase))
        {
            yield return $"{who} works in mode {mode}{(Mode is null ? $" ({Settings!.From})" : "")}, but the rules found are of mode {found.ToString().ToLowerInvariant()}";
        }
    }

    /// <summary>The mode that it says, else the one that it was told; null when neither is known. Without a word it is iptables, but a guess is no evidence.</summary>
    private string? ModeSaid => Mode ?? Settings?.Mode;

    private bool IsSilent => Mode is null && IsHealthy is null && SyncFailures is null && !Unread.IsEmpty;

    private string Clock(DateTimeOffset at)
        => at.ToUniversalTime().ToString(at.UtcDateTime.Date == AskedAt.UtcDateTime.Date ? "HH:mm:ss 'UTC'" : "yyyy-MM-dd HH:mm:ss 'UTC'", CultureInfo.InvariantCulture);

    private static string Ago(TimeSpan time) => time switch
    {
        { TotalSeconds: < 0.95 } => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, time.TotalSeconds):0.0} s"),
        { TotalMinutes: < 2 } => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0} s"),
        { TotalHours: < 2 } => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMinutes:0} min"),
        { TotalDays: < 2 } => string.Create(CultureInfo.InvariantCulture, $"{time.TotalHours:0} h"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{time.TotalDays:0} days"),
    };

    /// <summary>Adds what kube-proxy's metrics say, in Prometheus's text form; other lines are passed over.</summary>
    /// <param name="metrics">The answer of <c>/metrics</c>.</param>
    /// <exception cref="FormatException">None of kube-proxy's metrics are among them.</exception>
    public KubeProxyAccount WithMetrics(ReadOnlySpan<char> metrics)
    {
        const string prefix = "kubeproxy_sync_proxy_rules_";
        // With both families in one process each has its own times from 1.34 on: {ip_family="IPv4"}.
        var times = new SortedDictionary<string, (double Sync, double Queued)>(StringComparer.Ordinal);
        long? failures = null, partial = null;
        foreach (var line in metrics.EnumerateLines())
        {
            if (!line.StartsWith(prefix, StringComparison.Ordinal) || !TryRead(line[prefix.Length..], out var name, out var labels, out var value))
            {
                continue;
            }

            switch (name)
            {
                case "last_timestamp_seconds":
                    times[labels] = times.GetValueOrDefault(labels) with { Sync = value };
                    break;
                case "last_queued_timestamp_seconds":
                    times[labels] = times.GetValueOrDefault(labels) with { Queued = value };
                    break;
                case "iptables_restore_failures_total" or "nftables_sync_failures_total":
                    failures = (failures ?? 0) + Count(value);
                    break;
                case "iptables_partial_restore_failures_total":
                    partial = (partial ?? 0) + Count(value);
                    break;
            }
        }

        if (times.Count == 0)
        {
            throw new FormatException("none of kube-proxy's metrics are in the answer");
        }

        // The family that is behind counts, else the one that was last done.
        var told = times.Values.OrderByDescending(t => t.Queued > t.Sync).ThenByDescending(t => t.Sync).First();
        return this with { LastSync = Time(told.Sync), LastQueued = Time(told.Queued), SyncFailures = failures, PartialSyncFailures = partial };
    }

    // last_queued_timestamp_seconds{ip_family="IPv4"} 1.763760131e+09
    private static bool TryRead(ReadOnlySpan<char> line, out ReadOnlySpan<char> name, out string labels, out double value)
    {
        var end = line.IndexOfAny('{', ' ');
        name = end < 0 ? line : line[..end];
        (labels, value) = ("", 0);
        if (end < 0)
        {
            return false;
        }

        var rest = line[end..];
        if (rest[0] == '{')
        {
            var close = rest.LastIndexOf('}');
            if (close < 0)
            {
                return false;
            }

            labels = rest[1..close].ToString();
            rest = rest[(close + 1)..];
        }

        rest = rest.Trim(' ');
        var space = rest.IndexOf(' '); // a time may stand behind the value
        return double.TryParse(space < 0 ? rest : rest[..space], NumberStyles.Float, CultureInfo.InvariantCulture, out value) && double.IsFinite(value) && value >= 0;
    }

    private static long Count(double value) => value < long.MaxValue ? (long)value : long.MaxValue;

    // Zero is what a gauge says that was never set.
    private static DateTimeOffset? Time(double seconds) => seconds is > 0 and < 253402300799 ? DateTimeOffset.UnixEpoch.AddTicks((long)(seconds * TimeSpan.TicksPerSecond)) : null;
}
