using System.Diagnostics;

namespace TraceProbe.Agent.Telemetry;

/// <summary>Lets so many through in a second, as many at once at most. One thread.</summary>
internal sealed class SpanBudget(int perSecond)
{
    private double _left = perSecond;
    private long _at = Stopwatch.GetTimestamp();

    /// <summary>Whether another one may pass.</summary>
    public bool Take()
    {
        var now = Stopwatch.GetTimestamp();
        _left = Math.Min(perSecond, _left + (Stopwatch.GetElapsedTime(_at, now).TotalSeconds * perSecond));
        _at = now;
        if (_left < 1)
        {
            return false;
        }

        _left--;
        return true;
    }
}
