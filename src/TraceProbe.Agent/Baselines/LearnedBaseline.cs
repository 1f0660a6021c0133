using System.Globalization;
using System.Text.Json.Serialization;
using TraceProbe.Agent.Watching;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Baselines;

/// <summary>What healthy looks like for one client workload, Service, port and address family, learned from all of its healthy connections.</summary>
public sealed class LearnedBaseline
{
    /// <summary>From how many connections on it says what is usual.</summary>
    public const int Enough = 50;

    /// <summary>The most resolvers, names and backends that are remembered, each.</summary>
    public const int MostRemembered = 32;

    // Of the last so many, how many have to be slow before slowness is more than chance: with one in a hundred above the 99th percentile as a rule, and none of these
    // three times above it, five of ten do not come together.
    private const int Window = 10;
    private const int SlowInWindow = 5;
    private const double SlowFactor = 3;

    private static readonly TimeSpan SlowAtLeast = TimeSpan.FromMilliseconds(20);

    private readonly Queue<TimeSpan> _lastReplies = new();
    private readonly Queue<TimeSpan> _lastLookups = new();

    /// <summary>The version of this form.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The client's workload or node.</summary>
    public required string Client { get; init; }

    /// <summary>The Service and port.</summary>
    public required string Service { get; init; }

    /// <summary>4 or 6.</summary>
    public required int Family { get; init; }

    /// <summary>How many connections it was learned from.</summary>
    public long Connections { get; set; }

    /// <summary>When the last of them began.</summary>
    public DateTimeOffset LastSeen { get; set; }

    /// <summary>From the first question to the first address.</summary>
    public LatencySketch Lookup { get; init; } = new();

    /// <summary>From the SYN to the completed handshake.</summary>
    public LatencySketch Connect { get; init; } = new();

    /// <summary>From the request's first byte to the answer's.</summary>
    public LatencySketch Reply { get; init; } = new();

    /// <summary>The nameservers that were asked, the latest last.</summary>
    public IList<string> Resolvers { get; init; } = [];

    /// <summary>The names that were asked for, in the order of the search path.</summary>
    public IList<string> Names { get; init; } = [];

    /// <summary>The backends that answered, the latest last.</summary>
    public IList<string> Backends { get; init; } = [];

    /// <summary>The most properties of journeys that are remembered.</summary>
    public const int MostHabits = 32;

    /// <summary>What the properties of its journeys usually are.</summary>
    public IList<LearnedHabit> Habits { get; init; } = [];

    /// <summary>A healthy journey of it, stage by stage, to lay others beside; null until one was followed in full.</summary>
    public Baseline? Journey { get; set; }

    /// <summary>The root span of that journey's trace, as a W3C <c>traceparent</c>; null when it was not exported.</summary>
    public string? TraceParent { get; set; }

    /// <summary>Whether something changed that is not stored yet.</summary>
    [JsonIgnore]
    internal bool IsDirty { get; set; }

    /// <summary>Takes a healthy connection: as a part of what is usual, unless it is one of those that are far slower.</summary>
    /// <returns>What is slow, when several before it were too: the class and a sentence. Else null.</returns>
    internal (FailureClass Class, string Sentence)? Learn(Attempt attempt, DateTimeOffset at)
    {
        var reply = attempt is { RequestNanoseconds: { } asked, ReplyNanoseconds: { } answered } && answered >= asked ? TimeSpan.FromTicks((answered - asked) / 100) : (TimeSpan?)null;
        var lookup = attempt.Lookup is { ResolvedNanoseconds: { } resolved } ? TimeSpan.FromTicks((resolved - attempt.Lookup.StartNanoseconds) / 100) : (TimeSpan?)null;
        var (isSlowLookup, manyLookups) = Compare(lookup, Lookup, _lastLookups);
        var (isSlowReply, manyReplies) = Compare(reply, Reply, _lastReplies);
        if (isSlowLookup || isSlowReply)
        {
            return manyLookups ? (FailureClass.ResolverSlow, Words($"Lookups of {Client} for {Service} take", Lookup, _lastLookups))
                : manyReplies ? (FailureClass.SlowerThanBaseline, Words($"Answers of {Service} to {Client} take", Reply, _lastReplies)) : null;
        }

        Connections++;
        LastSeen = at;
        IsDirty = true;
        if (reply is { } usual)
        {
            Reply.Add(usual);
        }

        if (attempt.EstablishedNanoseconds is { } established && established >= attempt.StartNanoseconds)
        {
            Connect.Add(TimeSpan.FromTicks((established - attempt.StartNanoseconds) / 100));
        }

        if (lookup is { } took)
        {
            Lookup.Add(took);
            Remember(Resolvers, attempt.Lookup!.Resolver.ToString());
            foreach (var name in attempt.Lookup.Names)
            {
                Remember(Names, name);
            }
        }

        if (attempt.Backend is { } backend)
        {
            Remember(Backends, backend.ToString());
        }

        return null;
    }

    /// <summary>Takes a healthy journey that was followed in full: the one to lay others beside from now on.</summary>
    /// <returns>What is other than it used to be, each a sentence with its reason; empty when nothing is.</returns>
    internal IReadOnlyList<(Stage Stage, string Change)> Follow(Baseline journey)
    {
        (Journey, IsDirty) = (journey, true);
        List<(Stage, string)> changes = [];
        foreach (var stage in journey.Stages.Where(s => s.Status == StageStatus.Passed))
        {
            foreach (var fact in stage.Facts)
            {
                var habit = Habits.FirstOrDefault(h => h.Stage == stage.Stage && h.Name == fact.Name);
                if (habit is null && Habits.Count < MostHabits)
                {
                    Habits.Add(habit = new LearnedHabit { Stage = stage.Stage, Name = fact.Name });
                }

                if (habit?.Learn(fact.Value) is { } change)
                {
                    changes.Add((stage.Stage, change));
                }
            }
        }

        return changes;
    }

    /// <summary>Whether what was read makes sense.</summary>
    internal bool IsValid => Version == 1 && Client.Length > 0 && Service.Length > 0 && Family is 4 or 6 && Connections >= 0 && Lookup.IsValid && Connect.IsValid && Reply.IsValid
        && Resolvers.Count <= MostRemembered && Names.Count <= MostRemembered && Backends.Count <= MostRemembered
        && Habits.Count <= MostHabits && Habits.All(h => h.IsValid);

    private static TimeSpan LimitOf(LatencySketch sketch) => sketch.Quantile(0.99) is var high && high * (SlowFactor - 1) < SlowAtLeast ? high + SlowAtLeast : high * SlowFactor;

    private static void Remember(IList<string> list, string value)
    {
        if (list.Count > 0 && list[^1] == value)
        {
            return;
        }

        if (!list.Remove(value) && list.Count == MostRemembered)
        {
            list.RemoveAt(0);
        }

        list.Add(value);
    }

    // The limit is that of the usual ones alone: what is slow does not become usual by being so for long.
    private static (bool IsSlow, bool AreMany) Compare(TimeSpan? took, LatencySketch usual, Queue<TimeSpan> last)
    {
        if (took is not { } time || usual.Count < Enough)
        {
            return (false, false);
        }

        last.Enqueue(time);
        if (last.Count > Window)
        {
            last.Dequeue();
        }

        var limit = LimitOf(usual);
        return (time > limit, time > limit && last.Count(l => l > limit) >= SlowInWindow);
    }

    private static string Words(string what, LatencySketch usual, Queue<TimeSpan> last)
    {
        var limit = LimitOf(usual);
        var slow = last.Where(l => l > limit).Order().ToList();
        return string.Create(CultureInfo.InvariantCulture,
            $"{what} {slow[slow.Count / 2].TotalMilliseconds:0.#} ms ({slow.Count} of the last {last.Count}), where half of {usual.Count} took at most {usual.Quantile(0.5).TotalMilliseconds:0.##} ms and 99 % at most {usual.Quantile(0.99).TotalMilliseconds:0.##} ms.");
    }
}
