namespace TraceProbe.Cluster.Api;

/// <summary>Pauses between attempts: each twice as long as the last, and up to twice that by chance, so that clients do not come back together.</summary>
/// <param name="first">The first pause.</param>
/// <param name="longest">The longest.</param>
internal sealed class Backoff(TimeSpan first, TimeSpan longest)
{
    private int _failures;

    /// <summary>Begins anew, after something went well.</summary>
    public void Reset() => _failures = 0;

    /// <summary>Pauses.</summary>
    /// <param name="asked">How long the server asked for; null when it did not.</param>
    /// <param name="cancellation">Ends the pause.</param>
    public Task PauseAsync(TimeSpan? asked, CancellationToken cancellation)
    {
        var pause = (asked ?? TimeSpan.Zero) + (first * Math.Pow(2, Math.Min(_failures++, 20)) * (1 + Random.Shared.NextDouble()));
        return Task.Delay(pause < longest ? pause : longest, cancellation);
    }
}
