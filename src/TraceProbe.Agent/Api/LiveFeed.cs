using System.Threading.Channels;

namespace TraceProbe.Agent.Api;

/// <summary>Passes what happens on to whoever listens. Bounded: who is too slow misses the oldest, and is told how many.</summary>
public sealed class LiveFeed
{
    /// <summary>How many may listen at once.</summary>
    public const int MostListeners = 16;

    private const int Room = 500;

    private readonly Lock _lock = new();
    private Listener[] _listeners = [];

    /// <summary>Whether anybody listens.</summary>
    internal bool IsHeard => _listeners.Length > 0;

    /// <summary>Passes a message on.</summary>
    internal void Publish(LiveMessage message)
    {
        foreach (var listener in _listeners)
        {
            listener.Add(message);
        }
    }

    /// <summary>Begins to listen; null when too many do.</summary>
    internal Listener? Listen()
    {
        lock (_lock)
        {
            if (_listeners.Length >= MostListeners)
            {
                return null;
            }

            var listener = new Listener(this);
            _listeners = [.. _listeners, listener];
            return listener;
        }
    }

    private void Remove(Listener listener)
    {
        lock (_lock)
        {
            _listeners = [.. _listeners.Where(l => l != listener)];
        }
    }

    /// <summary>One who listens.</summary>
    internal sealed class Listener : IDisposable
    {
        private readonly LiveFeed _feed;
        private readonly Channel<LiveMessage> _messages;
        private long _missed;

        public Listener(LiveFeed feed)
        {
            _feed = feed;
            _messages = Channel.CreateBounded<LiveMessage>(new BoundedChannelOptions(Room) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true }, _ => Interlocked.Increment(ref _missed));
        }

        /// <summary>Waits for the next message; one with the time comes when there is none for a while.</summary>
        public async ValueTask<LiveMessage> NextAsync(TimeSpan quiet, CancellationToken cancellation)
        {
            if (Interlocked.Exchange(ref _missed, 0) is > 0 and var missed)
            {
                return new LiveMessage { Missed = missed };
            }

            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            limit.CancelAfter(quiet);
            try
            {
                return await _messages.Reader.ReadAsync(limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                return new LiveMessage { Now = TimeProvider.System.GetUtcNow() };
            }
        }

        public void Dispose() => _feed.Remove(this);

        internal void Add(LiveMessage message) => _messages.Writer.TryWrite(message);
    }
}
