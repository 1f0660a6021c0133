using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Sessions;

/// <summary>
/// Where events enter a recording, and the only place: what is not to be kept is cut off here. Bounded; what does not fit is
/// counted and becomes a gap. Any thread may add.
/// </summary>
internal sealed class EventLog(int capacity = EventLog.DefaultCapacity)
{
    // One request makes some hundreds; a followed command that moves a gigabyte makes about this many.
    public const int DefaultCapacity = 200_000;

    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(50);
    private readonly object _lock = new();
    private readonly List<NetworkEvent> _events = new(1024);
    private long _lastArrival = Stopwatch.GetTimestamp();
    private long _lost;

    /// <summary>Takes an event.</summary>
    public void Add(in NetworkEvent e)
    {
        var kept = Retained(e);
        lock (_lock)
        {
            _lastArrival = Stopwatch.GetTimestamp();
            if (_events.Count < capacity)
            {
                _events.Add(kept);
            }
            else
            {
                _lost += e.Kind == EventKind.ObservationGap ? e.Lost : 1;
            }

            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Waits until nothing has come for a while: the last packets of a request are on their way when its client has its answer.</summary>
    /// <param name="quiet">How long nothing must have come.</param>
    /// <param name="atMost">When to stop waiting all the same.</param>
    public void WaitUntilQuiet(TimeSpan quiet, TimeSpan atMost)
    {
        for (var start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < atMost;)
        {
            TimeSpan since;
            lock (_lock)
            {
                // A stillness that was there before does not count: the sources deliver some milliseconds late.
                since = Stopwatch.GetElapsedTime(Math.Max(_lastArrival, start));
            }

            if (since >= quiet)
            {
                return;
            }

            Thread.Sleep(quiet - since);
        }
    }

    /// <summary>Waits for an event, among those that came already too.</summary>
    /// <param name="wanted">Whether it is the one. Called once for each event.</param>
    /// <param name="atMost">How long to wait.</param>
    /// <param name="cancellation">Stops waiting.</param>
    /// <param name="from">Where to begin to look; moved behind what was looked at.</param>
    /// <returns>The event; null when none came.</returns>
    public NetworkEvent? WaitFor(Predicate<NetworkEvent> wanted, TimeSpan atMost, CancellationToken cancellation, ref int from)
    {
        var start = Stopwatch.GetTimestamp();
        lock (_lock)
        {
            while (true)
            {
                for (; from < _events.Count; from++)
                {
                    if (wanted(_events[from]))
                    {
                        return _events[from++];
                    }
                }

                var left = atMost - Stopwatch.GetElapsedTime(start);
                if (left <= TimeSpan.Zero || cancellation.IsCancellationRequested)
                {
                    return null;
                }

                // In steps, since cancelling does not pulse.
                Monitor.Wait(_lock, left < Step ? left : Step);
            }
        }
    }

    /// <summary>The events in order of time, with a gap behind them for those that did not fit.</summary>
    public ImmutableArray<NetworkEvent> ToImmutable()
    {
        lock (_lock)
        {
            var sorted = _events.ToArray();
            EventOrder.SortByTime(sorted);
            return _lost == 0 || _events.Count == 0
                ? ImmutableCollectionsMarshal.AsImmutableArray(sorted)
                : [.. sorted, new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = _events[^1].BootNanoseconds, Lost = _lost }];
        }
    }

    /// <summary>
    /// The event with no more of its payload than the diagnosis needs: DNS messages, the status line of an HTTP answer and a TLS server's complaint about plain
    /// HTTP, the method of a request, the record header of TLS. A request's own line, with its path and query, is the user's business.
    /// </summary>
    internal static NetworkEvent Retained(in NetworkEvent e)
    {
        if (e.Payload.IsEmpty || e.Tuple.Source.Port == 53 || e.Tuple.Destination.Port == 53)
        {
            return e;
        }

        var payload = e.Payload.Span;
        if (e.Tuple.Protocol == IpProtocol.Tcp && payload.StartsWith("HTTP/"u8))
        {
            var end = payload.IndexOfAny((byte)'\r', (byte)'\n');
            return end < 0 || AnswerHead.WithComplaint(payload).Length == payload.Length ? e : e with { Payload = e.Payload[..end] };
        }

        // To HEAD there is an answer without the body that its head promises (RFC 9110 section 9.3.2).
        if (e.Tuple.Protocol == IpProtocol.Tcp && payload.IndexOf((byte)' ') is > 0 and < 20 and var method && payload[..method].IndexOfAnyExceptInRange((byte)'A', (byte)'Z') < 0)
        {
            return e with { Payload = e.Payload[..(method + 1)] };
        }

        // RFC 8446 section 5.1: type 20 to 23, version 3.x, length; then the type of an alert or a handshake message.
        return e.Tuple.Protocol == IpProtocol.Tcp && payload is [>= 20 and <= 23, 3, ..]
            ? e with { Payload = e.Payload[..Math.Min(7, payload.Length)] }
            : e with { Payload = default };
    }
}
