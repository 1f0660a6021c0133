using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>
/// Groups failures into alerts: one per class, Service and client workload, opened after a threshold and resolved after quiet, never one per packet. Pure: its time is
/// what it is given. Bounded. One thread.
/// </summary>
public sealed class AlertBook(string node, AlertPolicy policy)
{
    /// <summary>The most alerts, open or about to be; failures beyond are counted in <see cref="Shed"/>.</summary>
    public const int MostAlerts = 2_000;

    // What cannot be told from this node is alerted as such only when nothing else is said of that client and Service.
    private const int MoreWhenUndetermined = 4;

    // As many attempts with another end in between make two failures two matters.
    private const int ManyOthers = 100;

    private const int MostPairs = 50_000;

    private readonly Dictionary<AlertKey, Entry> _entries = [];
    private readonly Dictionary<(string Service, string Client), Pair> _pairs = [];

    /// <summary>When alerts are opened and resolved, from now on.</summary>
    public AlertPolicy Policy { get; set; } = policy;

    /// <summary>Failures that there was no room for.</summary>
    public long Shed { get; private set; }

    /// <summary>The alerts that are open.</summary>
    public IEnumerable<Alert> Open => _entries.Where(e => e.Value.IsOpen).Select(e => ToAlert(e.Key, e.Value));

    /// <summary>Notes an attempt that went well.</summary>
    public void Succeeded(string service, string client, DateTimeOffset at) => PairOf(service, client, at)?.Succeed();

    /// <summary>Notes a failure.</summary>
    /// <param name="key">What, for which Service, for whom.</param>
    /// <param name="at">When.</param>
    /// <param name="verdict">The verdict on it, or on one with the same symptoms just before.</param>
    /// <param name="example">Gives it as an example, and keeps its recording, when one is needed; may be null.</param>
    /// <returns>The alert that this opened; null when it opened none.</returns>
    public AlertChange? Failed(AlertKey key, DateTimeOffset at, Verdict verdict, Func<AlertExample>? example = null)
    {
        ArgumentNullException.ThrowIfNull(verdict);
        var pair = PairOf(key.Service, key.Client, at);
        if (pair is not null)
        {
            pair.Attempts++;
            pair.Failures++;
        }

        if (key.Class == FailureClass.Undetermined && _entries.Keys.Any(k => k.Class != FailureClass.Undetermined && k.Service == key.Service && k.Client == key.Client))
        {
            return null;
        }

        // What came in passing when something broke may come so again when it is mended; in between they failed for another cause, or went well for long.
        var isKnown = _entries.TryGetValue(key, out var entry) && (entry.IsOpen || at - entry.LastSeen <= Policy.Lasting
            || ((pair?.Failures ?? 0) - entry.FailuresUntil <= Policy.Failures && (pair?.Attempts ?? 0) - entry.AttemptsUntil <= ManyOthers));
        if (!isKnown)
        {
            _entries.Remove(key);
            if (_entries.Count >= MostAlerts)
            {
                Shed++;
                return null;
            }

            _entries[key] = entry = new Entry { FirstSeen = at, AttemptsBefore = (pair?.Attempts ?? 1) - 1 };
        }

        entry!.LastSeen = at;
        entry.FailuresUntil = pair?.Failures ?? 0;
        entry.Count++;
        entry.SuccessesBefore = pair?.Successes ?? 0;
        entry.AttemptsUntil = pair?.Attempts ?? 0;
        entry.First ??= verdict;
        entry.Recent.Enqueue(at);
        var enough = Policy.Failures * (key.Class == FailureClass.Undetermined ? MoreWhenUndetermined : 1);
        while (entry.Recent.Count > enough || entry.Recent.Peek() < at - Policy.Within)
        {
            entry.Recent.Dequeue();
        }

        if (entry.IsOpen || entry.Recent.Count < enough)
        {
            return null;
        }

        entry.Example ??= example?.Invoke();
        entry.IsEnough = true;
        return at - entry.FirstSeen >= LastingOf(key) ? Opened(key, entry, at) : null;
    }

    private TimeSpan LastingOf(AlertKey key) => Policy.Lasting * (key.Class == FailureClass.Undetermined ? MoreWhenUndetermined : 1);

    private AlertChange Opened(AlertKey key, Entry entry, DateTimeOffset at)
    {
        entry.IsOpen = true;
        entry.ToldAt = at;
        return new AlertChange(AlertEvent.Opened, ToAlert(key, entry));
    }

    /// <summary>What has changed as time went by.</summary>
    public IReadOnlyList<AlertChange> Advance(DateTimeOffset now)
    {
        var changes = new List<AlertChange>();
        foreach (var (key, entry) in _entries)
        {
            var quiet = now - entry.LastSeen;
            var pair = _pairs.GetValueOrDefault((key.Service, key.Client));
            var successes = (pair?.Successes ?? 0) - entry.SuccessesBefore;
            if (quiet >= Policy.QuietWithout || (quiet >= Policy.QuietWithSuccess && successes >= Policy.Successes))
            {
                _entries.Remove(key);
                if (entry.IsOpen)
                {
                    changes.Add(new AlertChange(AlertEvent.Resolved, ToAlert(key, entry) with { ResolvedAt = now }));
                }
            }
            else if (entry is { IsOpen: false, IsEnough: true } && now - entry.FirstSeen >= LastingOf(key) && entry.AttemptsUntil == (pair?.Attempts ?? 0))
            {
                // Nobody has tried again, so it is as it was.
                changes.Add(Opened(key, entry, now));
            }
            else if (entry.IsOpen && now - entry.ToldAt >= Policy.Repeat)
            {
                entry.ToldAt = now;
                changes.Add(new AlertChange(AlertEvent.Continues, ToAlert(key, entry)));
            }
        }

        foreach (var (key, pair) in _pairs)
        {
            if (now - pair.LastSeen >= Policy.QuietWithout)
            {
                _pairs.Remove(key);
            }
        }

        return changes;
    }

    private Alert ToAlert(AlertKey key, Entry entry) => new()
    {
        Key = key,
        Node = node,
        FirstSeen = entry.FirstSeen,
        LastSeen = entry.LastSeen,
        Count = entry.Count,
        Attempts = Math.Max(entry.Count, (_pairs.GetValueOrDefault((key.Service, key.Client))?.Attempts ?? 0) - entry.AttemptsBefore),
        Sentence = entry.First!.Sentence,
        Mend = entry.First.Mend,
        Example = entry.Example ?? new AlertExample(),
    };

    private Pair? PairOf(string service, string client, DateTimeOffset at)
    {
        if (!_pairs.TryGetValue((service, client), out var pair))
        {
            if (_pairs.Count >= MostPairs)
            {
                return null;
            }

            _pairs[(service, client)] = pair = new Pair();
        }

        pair.LastSeen = at;
        return pair;
    }

    private sealed class Entry
    {
        public DateTimeOffset FirstSeen { get; init; }

        public long AttemptsBefore { get; init; }

        public DateTimeOffset LastSeen { get; set; }

        public DateTimeOffset ToldAt { get; set; }

        public long Count { get; set; }

        public long SuccessesBefore { get; set; }

        public Verdict? First { get; set; }

        public AlertExample? Example { get; set; }

        public bool IsOpen { get; set; }

        public bool IsEnough { get; set; }

        public long AttemptsUntil { get; set; }

        public long FailuresUntil { get; set; }

        public Queue<DateTimeOffset> Recent { get; } = [];
    }

    private sealed class Pair
    {
        public long Attempts { get; set; }

        public long Failures { get; set; }

        public long Successes { get; private set; }

        public DateTimeOffset LastSeen { get; set; }

        public void Succeed()
        {
            Attempts++;
            Successes++;
        }
    }
}
