using System.Threading.Channels;
using Microsoft.Extensions.Logging;

namespace TraceProbe.Agent.Alerts;

/// <summary>
/// Tells a receiver of changes, one after the other, and again when it is away: after one second, two, four, up to a minute. Bounded: the oldest give way, and are counted.
/// What a receiver refuses for what it is, it is not told again.
/// </summary>
internal sealed partial class SinkQueue
{
    /// <summary>How many changes wait at most.</summary>
    public const int Room = 1_000;

    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(1);

    private readonly IAlertSink _sink;
    private readonly ILogger _log;
    private readonly Channel<AlertChange> _changes;
    private long _dropped;
    private long _failed;

    public SinkQueue(IAlertSink sink, ILogger log)
    {
        (_sink, _log) = (sink, log);
        _changes = Channel.CreateBounded<AlertChange>(new BoundedChannelOptions(Room) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true }, _ => Interlocked.Increment(ref _dropped));
    }

    /// <summary>Changes that had to give way while the receiver was away.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>How often telling failed.</summary>
    public long Failed => Interlocked.Read(ref _failed);

    /// <summary>Adds a change.</summary>
    public void Add(AlertChange change) => _changes.Writer.TryWrite(change);

    /// <summary>Tells until it is cancelled, and then what is left, each once.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var wait = TimeSpan.Zero;
        while (!cancellation.IsCancellationRequested)
        {
            AlertChange change;
            try
            {
                change = await _changes.Reader.ReadAsync(cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                break;
            }

            while (!await TellAsync(change, wait == TimeSpan.Zero, cancellation).ConfigureAwait(false) && !cancellation.IsCancellationRequested)
            {
                wait = wait == TimeSpan.Zero ? TimeSpan.FromSeconds(1) : wait * 2 < Longest ? wait * 2 : Longest;
                try
                {
                    await Task.Delay(wait, cancellation).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    break;
                }
            }

            wait = TimeSpan.Zero;
        }

        using var last = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        while (_changes.Reader.TryRead(out var left) && await TellAsync(left, first: true, last.Token).ConfigureAwait(false))
        {
        }
    }

    private async Task<bool> TellAsync(AlertChange change, bool first, CancellationToken cancellation)
    {
        try
        {
            await _sink.SendAsync(change, cancellation).ConfigureAwait(false);
            return true;
        }
        catch (HttpRequestException e) when (IsRefusal(e))
        {
            Interlocked.Increment(ref _failed);
            LogRefused(_sink.Name, change.Alert.Key.ToString(), e.Message);
            return true;
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException)
        {
            Interlocked.Increment(ref _failed);
            if (first && !cancellation.IsCancellationRequested)
            {
                LogAway(_sink.Name, e.Message);
            }

            return false;
        }
    }

    // It would be refused each time, and the others wait. What stands in the way may be mended meanwhile where it is about who asks, how often, or at what time.
    private static bool IsRefusal(HttpRequestException e)
        => (int?)e.StatusCode is >= 400 and < 500 and not (401 or 403 or 407 or 408 or 409 or 423 or 425 or 429);

    [LoggerMessage(LogLevel.Warning, "{Sink} could not be told of an alert, and will be again: {Why}")]
    private partial void LogAway(string sink, string why);

    [LoggerMessage(LogLevel.Warning, "{Sink} does not take {Alert}, and will not be told of it again: {Why}")]
    private partial void LogRefused(string sink, string alert, string why);
}
