using System.Collections.Concurrent;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Watching;

/// <summary>
/// Sorts a node's stream of events into attempts, and hands each over when it is known how it went. Pure: its time is that of the events and of <see cref="Advance"/>.
/// Bounded: what does not fit is counted as shed. One thread.
/// <list type="number">
/// <item>A question to a nameserver opens or continues a lookup of its client.</item>
/// <item>A SYN, or a datagram, to a Service opens an attempt, and takes the lookup along that led to the address.</item>
/// <item>What else is of its tuples is added, and conntrack's tuples become its own.</item>
/// <item>It is over when both sides are done, when it is broken off, or when nothing has answered for <see cref="Patience"/>.</item>
/// </list>
/// </summary>
internal sealed class AttemptTable
{
    /// <summary>How many attempts can be under way at once.</summary>
    public const int MostAttempts = 20_000;

    /// <summary>How many lookups can be under way or remembered at once.</summary>
    public const int MostLookups = 20_000;

    /// <summary>How many events of followed processes' other connections are remembered.</summary>
    public const int MostAside = 2_000;

    /// <summary>How long a SYN may go without an answer. By then it was sent again twice (after one second and after three, RFC 6298).</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(4);

    /// <summary>How long a question may go without an answer: a moment longer than resolv.conf's usual timeout, so that it was sent again once.</summary>
    public static readonly TimeSpan LookupPatience = TimeSpan.FromSeconds(5.5);

    /// <summary>How long the slowest of a healthy lookup's questions takes at most.</summary>
    public static readonly TimeSpan SlowLookup = TimeSpan.FromSeconds(1.5);

    // Events of other processors, and the last acknowledgements, come a little later.
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(150);

    // Between two questions of one lookup a client lets no time pass.
    private static readonly TimeSpan Thought = TimeSpan.FromSeconds(1);

    // How long an answer may be behind a connection: clients keep addresses for a while.
    private static readonly TimeSpan Memory = TimeSpan.FromSeconds(10);

    // What stays open: once answered and quiet it went well; what never says anything is let go.
    private static readonly TimeSpan QuietWhenAnswered = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan QuietWhenUnfinished = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan QuietAtMost = TimeSpan.FromMinutes(10);

    // Room for events is used again: a healthy connection reported briefly has some fifty events, twenty kilobytes, which would else be garbage at its end. What one
    // followed in full needed is not kept, and no more of the others than are under way at a few hundred connections a second.
    private const int RoomOfOne = 64;
    private const int MostRooms = 512;

    private readonly ConcurrentQueue<List<NetworkEvent>> _rooms = new();
    private readonly TupleIndex<Attempt> _attempts = new();
    private readonly TupleIndex<Lookup> _lookupFlows = new();
    private readonly Dictionary<uint, List<Lookup>> _lookups = [];
    private readonly PriorityQueue<Attempt, long> _due = new();
    private readonly HashSet<Attempt> _open = [];
    private readonly Func<IpAddress, bool> _isService;
    private readonly Func<uint, IpAddress, bool> _arrives;
    private readonly Func<uint, IpAddress, bool> _livesElsewhere;
    private readonly Func<uint, IReadOnlyList<string>> _searchOf;
    private readonly Func<Lookup, bool> _leadsAstray;
    private readonly Action<Attempt> _finished;
    private readonly Queue<NetworkEvent> _aside = new();
    private int _lookupCount;
    private long _lostAt = long.MinValue / 2;

    /// <summary>An empty table.</summary>
    /// <param name="isService">Whether an address is a Service's.</param>
    /// <param name="arrives">Whether what passes in a network namespace to an address is for one of this node's endpoints, from a client elsewhere.</param>
    /// <param name="livesElsewhere">Whether an address is that of a pod of this node with another network namespace.</param>
    /// <param name="searchOf">The search list of the client in a network namespace.</param>
    /// <param name="leadsAstray">Whether a lookup was answered with addresses that cannot be meant.</param>
    /// <param name="finished">Takes each attempt once it is over.</param>
    public AttemptTable(Func<IpAddress, bool> isService, Func<uint, IpAddress, bool> arrives, Func<uint, IpAddress, bool> livesElsewhere, Func<uint, IReadOnlyList<string>> searchOf, Func<Lookup, bool> leadsAstray, Action<Attempt> finished)
        => (_isService, _arrives, _livesElsewhere, _searchOf, _leadsAstray, _finished) = (isService, arrives, livesElsewhere, searchOf, leadsAstray, finished);

    /// <summary>Attempts under way.</summary>
    public int Open => _open.Count;

    /// <summary>Events that the kernel could not hand over.</summary>
    public long Lost { get; private set; }

    /// <summary>Attempts and lookups there was no room for.</summary>
    public long Shed { get; private set; }

    /// <summary>Takes an event.</summary>
    public void Add(in NetworkEvent e)
    {
        switch (e.Kind)
        {
            case EventKind.ObservationGap:
                Lost += e.Lost;
                _lostAt = e.BootNanoseconds;
                foreach (var attempt in _open)
                {
                    attempt.Add(e, forward: true);
                }

                return;
            case EventKind.ProcessForked or EventKind.ProcessExecuted or EventKind.ProcessExited or EventKind.None:
                return;
        }

        if (IsDns(e.Tuple) || (e.HasConntrack && IsDns(e.Original)) || IsDns(e.Quoted))
        {
            AddDns(e);
        }
        else
        {
            AddConnection(e);
        }
    }

    /// <summary>Hands over what is over by now.</summary>
    /// <param name="now">The time, in nanoseconds since boot.</param>
    public void Advance(long now)
    {
        while (_due.TryPeek(out var attempt, out var at) && at <= now)
        {
            _due.Dequeue();
            if (!_open.Contains(attempt))
            {
                continue;
            }

            if (attempt.IsOver)
            {
                Finish(attempt);
            }
            else if (attempt.EstablishedNanoseconds is null)
            {
                attempt.Symptoms |= Symptoms.Unanswered;
                Finish(attempt);
            }
            else if (now - attempt.LastNanoseconds >= (attempt.ReplyNanoseconds is null ? QuietAtMost : attempt is { IsBrief: true, IsUnfinished: true } ? QuietWhenUnfinished : QuietWhenAnswered).Ticks * 100)
            {
                // Of what is reported briefly only the end tells how much came.
                attempt.Symptoms |= attempt.IsUnfinished && (attempt.IsEnded || !attempt.IsBrief) ? Symptoms.Cut : Symptoms.None;
                attempt.Symptoms |= attempt is { RequestNanoseconds: not null, ReplyNanoseconds: null } ? Symptoms.NoReply : Symptoms.None;
                Finish(attempt);
            }
            else
            {
                _due.Enqueue(attempt, now + (QuietWhenAnswered.Ticks * 100));
            }
        }

        AdvanceLookups(now);
    }

    /// <summary>Takes an attempt's events from it, and their room back. Any thread, one at a time for each attempt.</summary>
    public void LetGo(Attempt attempt)
    {
        var events = attempt.PartWithEvents();
        if (events.Capacity == RoomOfOne && _rooms.Count < MostRooms)
        {
            events.Clear();
            _rooms.Enqueue(events);
        }
    }

    private static bool IsDns(in FiveTuple t) => t.Source.Port == 53 || t.Destination.Port == 53;

    // ---- connections ----

    private void AddConnection(in NetworkEvent e)
    {
        var quotes = e.Quoted != default;
        var tuple = quotes ? e.Quoted : e.Tuple;
        var begins = !quotes && (e.Tuple.Protocol != IpProtocol.Tcp || (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn)
            && e.Kind is EventKind.PacketQueued or EventKind.PacketDropped;
        if (!_attempts.TryFind(tuple, e, out var found))
        {
            // What is rejected on its way out of its own host is seen by its error alone, which comes back over loopback.
            if ((!begins && !(quotes && e.InterfaceIndex == 1)) || Begin(e, e.HasConntrack && !quotes ? e.Original : tuple) is not { } begun)
            {
                PutAside(e);
                return;
            }

            found = new TupleOwner<Attempt>(begun, true);
        }
        else if (begins && found.Forward && e.Tuple.Protocol == IpProtocol.Tcp && e.NetNs == found.Of.NetNs && e.Sequence != found.Of.Sequence && tuple == found.Of.Asked)
        {
            // The port was used again, and this is another connection.
            Finish(found.Of);
            if (Begin(e, tuple) is not { } begun)
            {
                return;
            }

            found = new TupleOwner<Attempt>(begun, true);
        }

        if (found.Of.IsArrival)
        {
            // It may be what kube-proxy on another node that is watched here too dials for its client.
            PutAside(e);
        }

        var wasOver = found.Of.IsOver;
        found.Of.Add(e, quotes ? !found.Forward : found.Forward);
        _attempts.Tie(found, e, found.Of.Tuples);
        if (e.HasConntrack && found.Of.Asked == e.Original && e.Reply.Reverse != e.Original)
        {
            found.Of.TranslatedTo(e.Reply.Source);
        }

        if (found.Of.IsOver && !wasOver)
        {
            _due.Enqueue(found.Of, e.BootNanoseconds + (Grace.Ticks * 100));
        }
    }

    // What kube-proxy does in userspace mode to serve a connection is of no Service's address, and of the attempts that were under way.
    private void PutAside(in NetworkEvent e)
    {
        if (_aside.Count == MostAside)
        {
            _aside.Dequeue();
        }

        _aside.Enqueue(e);
    }

    private Attempt? Begin(in NetworkEvent e, FiveTuple asked)
    {
        var isArrival = !_isService(asked.Destination.Address);
        if (isArrival && (e.Pid != 0 || !_arrives(e.NetNs, asked.Destination.Address)))
        {
            return null;
        }

        // What a pod sent began with the pod: where that was not seen, or is over, what happens to it on its node's way is no beginning, and none of the node's own.
        if (!isArrival && _livesElsewhere(e.NetNs, asked.Source.Address))
        {
            return null;
        }

        if (_open.Count >= MostAttempts)
        {
            Shed++;
            return null;
        }

        var lookup = isArrival ? null : LookupBehind(e.NetNs, asked.Destination.Address, e.BootNanoseconds);
        var attempt = new Attempt(asked, e, lookup, _rooms.TryDequeue(out var room) ? room : new List<NetworkEvent>(RoomOfOne)) { IsArrival = isArrival, Lost = e.BootNanoseconds - _lostAt < Thought.Ticks * 100 ? 1 : 0 };
        if (lookup is not null && lookup.SlowestNanoseconds >= SlowLookup.Ticks * 100)
        {
            attempt.Symptoms |= Symptoms.SlowLookup;
        }

        _open.Add(attempt);
        _attempts.Own(asked, new TupleOwner<Attempt>(attempt, true), attempt.Tuples);
        _due.Enqueue(attempt, e.BootNanoseconds + (Patience.Ticks * 100));
        return attempt;
    }

    private void Finish(Attempt attempt)
    {
        _open.Remove(attempt);
        _attempts.Forget(attempt, attempt.Tuples);
        if (attempt.Symptoms != Symptoms.None)
        {
            foreach (var e in _aside)
            {
                if (e.BootNanoseconds >= attempt.StartNanoseconds && e.BootNanoseconds <= attempt.LastNanoseconds + (Grace.Ticks * 100))
                {
                    attempt.KeepAside(e);
                }
            }
        }

        _finished(attempt);
    }

    // ---- lookups ----

    private void AddDns(in NetworkEvent e)
    {
        var quotes = e.Quoted != default;
        var tuple = quotes ? e.Quoted : e.Tuple;
        var message = !quotes && !e.Payload.IsEmpty ? Read(e) : null;
        if (_lookupFlows.TryFind(tuple, e, out var found))
        {
            if (quotes && e.NetNs == found.Of.NetNs)
            {
                found.Of.Refuse(e);
            }
            else if (e.NetNs == found.Of.NetNs && message?.Question is not null)
            {
                if (!message.IsResponse && e.Kind == EventKind.PacketQueued && found.Forward)
                {
                    // A resolver's socket serves all of its questions: this may be one of another lookup.
                    var candidates = CandidatesOf(message.Question.Name, e.NetNs);
                    var lookup = found.Of.Accepts(message.Question, candidates) && !found.Of.IsReported ? found.Of : Of(e, message.Question, candidates);
                    if (lookup is null)
                    {
                        return;
                    }

                    lookup.Ask(e, message, candidates);
                    found = new TupleOwner<Lookup>(lookup, true);
                    _lookupFlows.Own(tuple, found, lookup.Tuples);
                }
                else if (message.IsResponse && !found.Forward && e.Kind == EventKind.PacketReceived)
                {
                    found.Of.Answer(e, message);
                }
            }
        }
        else
        {
            if (e.Kind is not (EventKind.PacketQueued or EventKind.PacketDropped) || message is not { IsResponse: false, Question: { } question } || tuple.Destination.Port != 53)
            {
                return;
            }

            // What comes to a DNS server of this node from elsewhere is no lookup of the node's own.
            if (_livesElsewhere(e.NetNs, tuple.Source.Address) || (e.Pid == 0 && _arrives(e.NetNs, tuple.Destination.Address)))
            {
                return;
            }

            var candidates = CandidatesOf(question.Name, e.NetNs);
            if (Of(e, question, candidates) is not { } lookup)
            {
                return;
            }

            lookup.Ask(e, message, candidates);
            found = new TupleOwner<Lookup>(lookup, true);
            _lookupFlows.Own(e.HasConntrack ? e.Original : tuple, found, lookup.Tuples);
        }

        found.Of.Keep(e);
        _lookupFlows.Tie(found, e, found.Of.Tuples);
    }

    // The client's lookup that a question belongs to, or a new one; null when there is no room.
    private Lookup? Of(in NetworkEvent e, DnsQuestion question, HashSet<string> candidates)
    {
        if (!_lookups.TryGetValue(e.NetNs, out var lookups))
        {
            _lookups[e.NetNs] = lookups = [];
        }

        // Two processes that ask for the same name at the same time each have a lookup of their own.
        var (at, pid) = (e.BootNanoseconds, e.Pid);
        var open = lookups.FindLast(l => !l.IsReported && (l.Pid == pid || l.Pid == 0 || pid == 0) && l.Accepts(question, candidates) && (at - l.LastNanoseconds < Thought.Ticks * 100 || l.HasUnanswered));
        if (open is not null)
        {
            return open;
        }

        if (lookups.FindLast(l => !l.IsReported && (l.Pid == pid || l.Pid == 0 || pid == 0) && l.Addresses.Count == 0 && l.IsBegunAnewBy(question)) is { } failed)
        {
            Report(failed);
        }

        if (_lookupCount >= MostLookups)
        {
            Shed++;
            return null;
        }

        _lookupCount++;
        lookups.Add(new Lookup(e.NetNs, e.Pid, e.Command, at, candidates));
        return lookups[^1];
    }

    // The names that somebody may have typed for the resolver to ask this one: itself, and what is left of it without a search domain.
    private HashSet<string> CandidatesOf(string name, uint netNs)
    {
        var candidates = new HashSet<string>(StringComparer.Ordinal) { name };
        foreach (var domain in _searchOf(netNs))
        {
            if (name.Length > domain.Length + 1 && name[name.Length - domain.Length - 1] == '.' && name.EndsWith(domain, StringComparison.OrdinalIgnoreCase))
            {
                candidates.Add(name[..(name.Length - domain.Length - 1)]);
            }
        }

        return candidates;
    }

    private Lookup? LookupBehind(uint netNs, IpAddress address, long at)
        => _lookups.TryGetValue(netNs, out var lookups) ? lookups.FindLast(l => l.Addresses.Contains(address) && at - l.LastNanoseconds < Memory.Ticks * 100) : null;

    private void AdvanceLookups(long now)
    {
        foreach (var (netNs, lookups) in _lookups)
        {
            for (var i = lookups.Count - 1; i >= 0; i--)
            {
                var lookup = lookups[i];
                if (!lookup.IsReported && (lookup.Addresses.Count == 0 || _leadsAstray(lookup)) && (lookup.WaitingSince is { } since
                    ? now - since >= LookupPatience.Ticks * 100
                    : now - lookup.LastNanoseconds >= Thought.Ticks * 100))
                {
                    Report(lookup);
                }

                if (now - lookup.LastNanoseconds >= Memory.Ticks * 100)
                {
                    lookups.RemoveAt(i);
                    _lookupCount--;
                    _lookupFlows.Forget(lookup, lookup.Tuples);
                }
            }

            if (lookups.Count == 0)
            {
                _lookups.Remove(netNs);
            }
        }
    }

    private void Report(Lookup failed)
    {
        failed.IsReported = true;
        _finished(new Attempt(failed) { Lost = _lostAt > failed.StartNanoseconds - (Thought.Ticks * 100) ? 1 : 0 });
    }

    private static DnsMessage? Read(in NetworkEvent e)
    {
        var payload = e.Payload.Span;
        return (e.Tuple.Protocol == IpProtocol.Tcp ? DnsMessage.TryReadTcp(payload, out var message) : DnsMessage.TryRead(payload, out message)) ? message : null;
    }
}
