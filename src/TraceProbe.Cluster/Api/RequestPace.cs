namespace TraceProbe.Cluster.Api;

/// <summary>Spreads requests over time: so many at once, and so many a second from then on (the generic cell rate algorithm).</summary>
/// <param name="perSecond">How many a second.</param>
/// <param name="burst">How many at once.</param>
/// <param name="time">The clock.</param>
internal sealed class RequestPace(double perSecond, int burst, TimeProvider time)
{
    private readonly Lock _lock = new();
    private readonly TimeSpan _each = TimeSpan.FromSeconds(1 / perSecond);
    private readonly long _start = time.GetTimestamp();
    private TimeSpan _next;

    /// <summary>Waits for a request's turn.</summary>
    public Task WaitAsync(CancellationToken cancellation)
    {
        TimeSpan wait;
        lock (_lock)
        {
            var now = time.GetElapsedTime(_start);
            _next = (_next > now ? _next : now) + _each;
            wait = _next - (burst * _each) - now;
        }

        return wait > TimeSpan.Zero ? Task.Delay(wait, time, cancellation) : Task.CompletedTask;
    }
}
