using TraceProbe.Capture;

namespace TraceProbe.Agent.Requests;

/// <summary>The moment at which waiting ends, in nanoseconds since boot, and who may end it sooner.</summary>
internal readonly record struct Deadline(long Nanoseconds, CancellationToken Cancellation)
{
    // A cancelled wait ends within this; a descriptor to wake it would be one more thing to close.
    private const int SliceMilliseconds = 50;

    internal static Deadline In(TimeSpan span, CancellationToken cancellation) => new(BootClock.Now + ((long)span.TotalMilliseconds * 1_000_000), cancellation);

    /// <summary>Nanoseconds left; never negative.</summary>
    internal long Left => Math.Max(0, Nanoseconds - BootClock.Now);

    internal bool HasPassed => Left == 0;

    /// <summary>This deadline, or the one so many nanoseconds from now if that comes first.</summary>
    internal Deadline Within(long nanoseconds) => this with { Nanoseconds = Math.Min(Nanoseconds, BootClock.Now + nanoseconds) };

    /// <summary>What to give to poll(2) now; throws when cancelled.</summary>
    internal int PollMilliseconds()
    {
        Cancellation.ThrowIfCancellationRequested();
        return (int)Math.Min(SliceMilliseconds, (Left + 999_999) / 1_000_000);
    }
}
