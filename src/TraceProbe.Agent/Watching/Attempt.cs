using TraceProbe.Agent.Sessions;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Watching;

/// <summary>One attempt of a client to talk to a Service: its lookup, when one was seen, and its connection, when it came to one.</summary>
internal sealed class Attempt
{
    /// <summary>The most events that are kept of one connection. What comes after is looked at, and then let go.</summary>
    public const int MostEvents = 400;

    private const int MostEndings = 32;

    private bool _asksTls;
    private bool _asksHead;
    private (uint From, long Length)? _answer;
    private uint _farthest;
    private bool _clientFinished;
    private bool _serverFinished;

    /// <summary>A connection that begins.</summary>
    /// <param name="asked">What the client asked for.</param>
    /// <param name="first">The event that it begins with; it is to be added like the others.</param>
    /// <param name="lookup">The lookup that led here; null when none was seen.</param>
    /// <param name="room">Where its events are kept, an empty list; one of its own without it.</param>
    public Attempt(FiveTuple asked, in NetworkEvent first, Lookup? lookup, List<NetworkEvent>? room = null)
    {
        Events = room ?? [];
        Asked = asked;
        NetNs = first.NetNs;
        Pid = first.Pid;
        Command = first.Command;
        Lookup = lookup;
        StartNanoseconds = LastNanoseconds = first.BootNanoseconds;
        IsBrief = first.IsBrief;
        Sequence = first.Sequence;
    }

    /// <summary>A lookup that came to nothing, so that there is no connection.</summary>
    public Attempt(Lookup failed)
    {
        Events = [];
        NetNs = failed.NetNs;
        Pid = failed.Pid;
        Command = failed.Command;
        Lookup = failed;
        StartNanoseconds = failed.StartNanoseconds;
        LastNanoseconds = failed.LastNanoseconds;
        Symptoms = Symptoms.LookupFailed;
    }

    /// <summary>What the client asked for; null when its lookup failed.</summary>
    public FiveTuple? Asked { get; }

    /// <summary>Where the connection went after translation; null when none was seen.</summary>
    public AddressPort? Backend { get; private set; }

    /// <summary>The client's network namespace.</summary>
    public uint NetNs { get; }

    /// <summary>The client's process; 0 when not known.</summary>
    public int Pid { get; private set; }

    /// <summary>Its name.</summary>
    public ShortName Command { get; private set; }

    /// <summary>The lookup that led here; null when none was seen.</summary>
    public Lookup? Lookup { get; }

    /// <summary>Whether only what tells how it went is reported of it (<see cref="NetworkEvent.IsBrief"/>).</summary>
    public bool IsBrief { get; }

    /// <summary>Whether its client is on another node, and this is how it came to an endpoint of this one.</summary>
    public bool IsArrival { get; init; }

    /// <summary>The sequence number of its first SYN.</summary>
    public uint Sequence { get; }

    /// <summary>When it began, in nanoseconds since boot.</summary>
    public long StartNanoseconds { get; }

    /// <summary>When the last event of it happened.</summary>
    public long LastNanoseconds { get; private set; }

    /// <summary>When the handshake was completed at the client; null when it was not.</summary>
    public long? EstablishedNanoseconds { get; private set; }

    /// <summary>When the client sent its first payload.</summary>
    public long? RequestNanoseconds { get; private set; }

    /// <summary>When the first payload reached the client.</summary>
    public long? ReplyNanoseconds { get; private set; }

    /// <summary>Whether nothing more is to be expected.</summary>
    public bool IsOver { get; private set; }

    /// <summary>What is out of the ordinary.</summary>
    public Symptoms Symptoms { get; set; }

    /// <summary>Whether less of an HTTP answer is known to have come than it said it has.</summary>
    public bool IsUnfinished => _answer is { } answer && !_asksHead && (int)(_farthest - answer.From) < answer.Length;

    /// <summary>Whether either side ended it.</summary>
    public bool IsEnded => IsOver || _clientFinished || _serverFinished;

    /// <summary>Its events, without those of its lookup.</summary>
    public List<NetworkEvent> Events { get; private set; }

    /// <summary>The tuples that are known to be its own.</summary>
    public List<FiveTuple> Tuples { get; } = [];

    /// <summary>Events that were lost while it was under way.</summary>
    public long Lost { get; set; }

    /// <summary>Takes an event of it.</summary>
    /// <param name="e">The event.</param>
    /// <param name="forward">Whether its tuple goes from the client to the server; of an error that quotes a packet, whether the error does.</param>
    public void Add(in NetworkEvent e, bool forward)
    {
        LastNanoseconds = Math.Max(LastNanoseconds, e.BootNanoseconds);
        Keep(e);
        if (Pid == 0 && e.Pid != 0 && forward)
        {
            (Pid, Command) = (e.Pid, e.Command);
        }

        switch (e.Kind)
        {
            case EventKind.ObservationGap:
                Lost += e.Lost;
                break;
            case EventKind.PacketDropped:
                // What a socket still holds when it closes is dropped too.
                Symptoms |= IsOver || e.DropReason == "QUEUE_PURGE" ? Symptoms.None : Symptoms.Dropped;
                break;
            case EventKind.SegmentRetransmitted:
                Symptoms |= Symptoms.Retransmitted;
                break;
            case EventKind.SocketErrorReported:
                Symptoms |= Symptoms.SocketError;
                break;
            case EventKind.SocketStateChanged when forward && e.NetNs == NetNs && e is { OldState: TcpState.SynSent, NewState: TcpState.Established }:
                EstablishedNanoseconds ??= e.BootNanoseconds;
                break;
            case EventKind.PacketQueued or EventKind.PacketReceived when e.Tuple.Protocol is IpProtocol.Icmp or IpProtocol.IcmpV6:
                Symptoms |= Symptoms.IcmpError;
                IsOver |= EstablishedNanoseconds is null && e.NetNs == NetNs;
                break;
            case EventKind.PacketQueued or EventKind.PacketReceived when Asked?.Protocol == IpProtocol.Tcp:
                AddSegment(e, forward);
                break;
            case EventKind.PacketQueued or EventKind.PacketReceived when !forward && e.NetNs == NetNs:
                EstablishedNanoseconds ??= e.BootNanoseconds;
                ReplyNanoseconds ??= e.BootNanoseconds;
                break;
            case EventKind.PacketQueued or EventKind.PacketReceived when forward && e.NetNs == NetNs:
                RequestNanoseconds ??= e.BootNanoseconds;
                break;
        }
    }

    /// <summary>Keeps an event, if there is room; of those for which there is none the last, and those that end it, since they tell how far it came.</summary>
    public void Keep(in NetworkEvent e)
    {
        if (Events.Count < MostEvents || ((e.Flags & (TcpFlags.Fin | TcpFlags.Rst)) != 0 && Events.Count < MostEvents + MostEndings))
        {
            Events.Add(EventLog.Retained(e));
        }
        else
        {
            Events[MostEvents - 1] = EventLog.Retained(e);
        }
    }

    /// <summary>Keeps an event that is not its own, if there is room.</summary>
    public void KeepAside(in NetworkEvent e)
    {
        if (Events.Count < MostEvents)
        {
            Events.Add(EventLog.Retained(e));
        }
    }

    /// <summary>Parts with its events: what is known of how it went stays.</summary>
    /// <returns>The list that they are in.</returns>
    public List<NetworkEvent> PartWithEvents()
    {
        var events = Events;
        Events = [];
        return events;
    }

    /// <summary>Notes where it was translated to.</summary>
    public void TranslatedTo(AddressPort backend) => Backend ??= backend;

    private void AddSegment(in NetworkEvent e, bool forward)
    {
        var isHere = e.NetNs == NetNs;
        if ((e.Flags & TcpFlags.Rst) != 0)
        {
            // After the answer a reset is a way to hang up, unless it is the server's and nobody was done.
            Symptoms |= ReplyNanoseconds is null ? Symptoms.Reset : !forward && !IsEnded && (_answer is null || IsUnfinished) ? Symptoms.Cut : Symptoms.None;
            IsOver |= isHere;
        }

        if (!forward && isHere && (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == (TcpFlags.Syn | TcpFlags.Ack))
        {
            EstablishedNanoseconds ??= e.BootNanoseconds;
        }

        // What the client acknowledges has come; a FIN stands behind the last byte.
        if (isHere && (forward ? (e.Flags & TcpFlags.Ack) != 0 : e.PayloadLength > 0 || (e.Flags & TcpFlags.Fin) != 0))
        {
            var reached = forward ? e.Acknowledgment - (_serverFinished ? 1u : 0) : e.Sequence + (uint)e.PayloadLength;
            _farthest = _farthest == 0 || (int)(reached - _farthest) > 0 ? reached : _farthest;
        }

        if (e.PayloadLength > 0)
        {
            // The first bytes are kept at one of the places that they pass, and which is not told beforehand; when they were sent and came is the client's to say.
            AddPayload(e.Payload.Span, forward);
            _answer ??= !forward && e.AnswerLength > 0 ? (e.Sequence, e.AnswerLength) : null;
            if (isHere && forward)
            {
                RequestNanoseconds ??= e.BootNanoseconds;
            }
            else if (isHere)
            {
                ReplyNanoseconds ??= e.BootNanoseconds;
            }
        }

        if (isHere && (e.Flags & TcpFlags.Fin) != 0)
        {
            _clientFinished |= forward;
            _serverFinished |= !forward;
            IsOver |= _clientFinished && _serverFinished;
            Symptoms |= IsUnfinished ? Symptoms.Cut : Symptoms.None;

            // A server that hangs up first without a word has not served, whether or not it was asked yet.
            // What was said is told by the client's node.
            Symptoms |= !IsArrival && ReplyNanoseconds is null && (RequestNanoseconds is not null || (_serverFinished && !_clientFinished)) ? Symptoms.NoReply : Symptoms.None;
        }
    }

    private void AddPayload(ReadOnlySpan<byte> first, bool forward)
    {
        if (forward)
        {
            _asksTls |= first is [0x16, 3, ..];
            _asksHead |= first.StartsWith("HEAD "u8);
            return;
        }

        // RFC 8446 section 6: content type 21 is an alert. RFC 9112 section 4: the status is the second word.
        Symptoms |= ReplyNanoseconds is null && first is [0x15, 3, ..] ? Symptoms.TlsMismatch : Symptoms.None;
        Symptoms |= _asksTls && first.StartsWith("HTTP/"u8) ? Symptoms.TlsMismatch : Symptoms.None;

        // A server of TLS that is asked in plain HTTP may say so with 400.
        Symptoms |= first.Length > 11 && first.StartsWith("HTTP/1."u8) && (first[9] == (byte)'5' || first[9..12].SequenceEqual("400"u8)) ? Symptoms.ServerError : Symptoms.None;
    }
}
