using System.Text.Json.Serialization;

namespace TraceProbe.Agent.Baselines;

/// <summary>
/// A distribution of durations in buckets whose borders grow by a tenth, after DDSketch (Masson, Rim, Lee, 2019): any quantile is right to five percent, two sketches
/// add up to that of both, and from one microsecond to a hundred seconds there are fewer than 200 buckets.
/// </summary>
public sealed class LatencySketch
{
    private const double Growth = 1.1;
    private const int Highest = 194;

    private static readonly double Scale = 1 / Math.Log(Growth);

    /// <summary>How many durations there are in each bucket that has any; bucket N holds those of at most 1.1^N microseconds.</summary>
    public SortedDictionary<int, long> Buckets { get; init => field = value ?? []; } = [];

    /// <summary>How many there are in all.</summary>
    [JsonIgnore]
    public long Count => Buckets.Values.Sum();

    /// <summary>Adds a duration.</summary>
    public void Add(TimeSpan duration)
    {
        var bucket = BucketOf(duration);
        Buckets[bucket] = Buckets.GetValueOrDefault(bucket) + 1;
    }

    /// <summary>Adds another sketch's durations.</summary>
    public void Add(LatencySketch other)
    {
        ArgumentNullException.ThrowIfNull(other);
        foreach (var (bucket, count) in other.Buckets)
        {
            Buckets[bucket] = Buckets.GetValueOrDefault(bucket) + count;
        }
    }

    /// <summary>The duration that a share of all stays at or below.</summary>
    /// <param name="share">The share, 0 to 1.</param>
    /// <returns>The duration, within five percent; zero when there are none.</returns>
    public TimeSpan Quantile(double share)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(share);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(share, 1);
        var rank = (long)Math.Ceiling(share * Count);
        foreach (var (bucket, count) in Buckets)
        {
            rank -= count;
            if (rank <= 0)
            {
                // The middle of the bucket, so that the error is the same on both sides.
                return TimeSpan.FromMicroseconds(2 * Math.Pow(Growth, bucket) / (Growth + 1));
            }
        }

        return TimeSpan.Zero;
    }

    /// <summary>Whether what was read makes sense.</summary>
    internal bool IsValid => Buckets.All(b => b is { Key: >= 0 and <= Highest, Value: > 0 and < long.MaxValue / 1024 });

    private static int BucketOf(TimeSpan duration) => (int)Math.Clamp(Math.Ceiling(Math.Log(Math.Max(1, duration.TotalMicroseconds)) * Scale), 0, Highest);
}
