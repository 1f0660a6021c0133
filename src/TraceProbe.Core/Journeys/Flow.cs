using System.Text;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Core.Journeys;

/// <summary>A connection while it is being put together.</summary>
internal sealed class Flow(FiveTuple asked, bool midStream)
{
    private const TcpFlags SynAck = TcpFlags.Syn | TcpFlags.Ack;

    public List<Sighting> Sightings { get; } = [];

    public List<int> SocketErrors { get; } = [];

    /// <summary>Whether this SYN, on the same tuple, has another sequence number than the one that opened the flow.</summary>
    public bool IsReusedBy(in NetworkEvent syn)
    {
        foreach (var s in Sightings)
        {
            if (s.Forward && (s.Event.Flags & SynAck) == TcpFlags.Syn)
            {
                return s.Event.Sequence != syn.Sequence;
            }
        }

        return true;
    }

    public Connection ToConnection()
    {
        var first = Sightings[0].Event;
        var origin = Sightings.Find(s => s.Forward && s.Event.Pid != 0).Event;
        var connection = new Connection
        {
            Asked = asked,
            MidStream = midStream,
            ClientNetNs = first.NetNs,
            Process = origin.Pid != 0 ? new ProcessRef(origin.Pid, origin.Command.ToString()) : null,
            Sightings = [.. Sightings],
            SocketErrors = [.. SocketErrors],
            Drops = [.. Sightings.FindAll(s => s.Event.Kind == EventKind.PacketDropped)],
            StartNanoseconds = first.BootNanoseconds,
            EndNanoseconds = Sightings[^1].Event.BootNanoseconds,
            FarthestNetNs = Sightings.FindLast(s => s.Forward).Event.NetNs,
        };
        connection = WithTranslation(connection);
        connection = WithOutcome(connection);
        return connection.Outcome is ConnectionOutcome.Established or ConnectionOutcome.Unknown ? WithExchange(connection) : connection;
    }

    private static Connection WithTranslation(Connection connection)
    {
        foreach (var s in connection.Sightings)
        {
            // A node further on has an entry of its own, whose original tuple is already the translated one.
            if (s.Event.HasConntrack && s.Event.Original == connection.Asked && s.Event.Reply.Reverse != s.Event.Original)
            {
                return connection with
                {
                    Translated = s.Event.Reply.Reverse,
                    TranslatedInNetNs = s.Event.NetNs,
                    TranslatedNanoseconds = s.Event.BootNanoseconds,
                };
            }
        }

        return connection;
    }

    private static Connection WithOutcome(Connection connection)
    {
        var isTcp = connection.Asked.Protocol == IpProtocol.Tcp;
        var syns = 0;
        var answeredAt = long.MaxValue;
        uint answeredIn = 0;
        Sighting? answer = null, untranslated = null;
        foreach (var s in connection.Sightings)
        {
            var e = s.Event;
            if (e.Kind == EventKind.PacketDropped)
            {
                continue;
            }

            if (s.Forward)
            {
                // On a node's own bridge one SYN is queued more than once in the client's namespace; its first interface counts.
                if (isTcp && (e.Flags & SynAck) == TcpFlags.Syn && e.Kind == EventKind.PacketQueued && e.NetNs == connection.ClientNetNs
                    && e.InterfaceIndex == connection.Sightings[0].Event.InterfaceIndex)
                {
                    syns++;
                }

                continue;
            }

            if (!IsAnswer(e, isTcp))
            {
                continue;
            }

            // Captures of several namespaces may give one moment to all that an answer passes: then whoever was asked last, and so farthest from the client, made it.
            if (e.BootNanoseconds < answeredAt || (e.BootNanoseconds == answeredAt && FirstAsked(connection, e.NetNs) > FirstAsked(connection, answeredIn)))
            {
                (answeredIn, answeredAt) = (e.NetNs, e.BootNanoseconds);
            }

            if (IsUntranslated(connection, e))
            {
                untranslated ??= s;
                continue;
            }

            if (e.NetNs == connection.ClientNetNs && (answer is null || (answer.Value.Event.Kind == EventKind.PacketQueued && e.Kind == EventKind.PacketReceived
                && KindOf(answer.Value.Event) == KindOf(e))))
            {
                // An answer made in the client's own namespace is first queued (on loopback), then received: the latter is its arrival.
                answer = s;
            }
        }

        // Who acknowledges has been answered, also where the answer escaped observation.
        if (isTcp && !connection.MidStream && (answer is null || KindOf(answer.Value.Event) == ConnectionOutcome.Refused)
            && connection.Sightings.FirstOrDefault(s => s.Forward && s.Event.Kind != EventKind.PacketDropped && (s.Event.Flags & (SynAck | TcpFlags.Rst)) == TcpFlags.Ack) is { Event: { Kind: not EventKind.None } acknowledged }
            && (answer is null || acknowledged.BootNanoseconds < answer.Value.Event.BootNanoseconds))
        {
            return connection with
            {
                AnsweredInNetNs = answeredIn,
                Retransmissions = Math.Max(0, syns - 1),
                Outcome = ConnectionOutcome.Established,
                OutcomeNanoseconds = acknowledged.BootNanoseconds,
            };
        }

        connection = connection with { AnsweredInNetNs = answeredIn, Retransmissions = Math.Max(0, syns - 1), UntranslatedAnswer = untranslated };
        if (answer is not { Event: var reached })
        {
            return connection with { Outcome = connection.MidStream ? ConnectionOutcome.Unknown : ConnectionOutcome.Unanswered };
        }

        var outcome = KindOf(reached);
        return connection with
        {
            Outcome = outcome,
            OutcomeNanoseconds = reached.BootNanoseconds,
            Icmp = outcome == ConnectionOutcome.Rejected ? (reached.IcmpType, reached.IcmpCode) : null,
        };
    }

    // What reaches the client from another address than it asked is no answer for its kernel, which resets it. Where the client's own node translates,
    // an answer is seen before it is turned back.
    public static bool IsUntranslated(Connection connection, in NetworkEvent e)
        => connection.Translated is { } translated && e.NetNs == connection.ClientNetNs && connection.TranslatedInNetNs != connection.ClientNetNs && !IsIcmp(e)
            && e.Tuple.Source == translated.Destination && e.Tuple.Destination == connection.Asked.Source && translated.Destination != connection.Asked.Destination;

    // Where among the sightings a namespace was first passed on the way there; -1 for nowhere.
    private static int FirstAsked(Connection connection, uint netNs)
    {
        for (var i = 0; i < connection.Sightings.Length; i++)
        {
            if (connection.Sightings[i] is { Forward: true } s && s.Event.NetNs == netNs)
            {
                return i;
            }
        }

        return -1;
    }

    private static bool IsIcmp(in NetworkEvent e) => e.Tuple.Protocol is IpProtocol.Icmp or IpProtocol.IcmpV6;

    private static bool IsAnswer(in NetworkEvent e, bool isTcp)
        => IsIcmp(e) || !isTcp || (e.Flags & TcpFlags.Rst) != 0 || (e.Flags & SynAck) == SynAck;

    private static ConnectionOutcome KindOf(in NetworkEvent e)
        => IsIcmp(e) ? ConnectionOutcome.Rejected : (e.Flags & TcpFlags.Rst) != 0 ? ConnectionOutcome.Refused : ConnectionOutcome.Established;

    private static Connection WithExchange(Connection connection)
    {
        long sent = 0, received = 0;
        long? firstReply = null;
        var finished = Side.None;
        var reset = Side.None;
        string? status = null, traceParent = null;
        ReadOnlyMemory<byte> question = default, answer = default;
        (uint From, long Length)? head = null;
        (uint Farthest, long At)? last = null;
        long? ended = null;
        uint farthest = 0;
        var serverFinished = false;
        var counted = new HashSet<(bool Forward, uint Sequence, int Length)>();
        foreach (var s in connection.Sightings)
        {
            var e = s.Event;
            if (e.Kind == EventKind.PacketDropped || IsIcmp(e))
            {
                continue;
            }

            status ??= s.Forward ? null : HttpStatusLine(e.Payload.Span);
            traceParent ??= s.Forward ? e.TraceParent : null;
            question = s.Forward && question.IsEmpty ? e.Payload : question;
            answer = !s.Forward && answer.IsEmpty ? e.Payload : answer;
            head ??= !s.Forward && e.AnswerLength > 0 ? (e.Sequence, e.AnswerLength) : null;
            if (e.NetNs != connection.ClientNetNs)
            {
                continue;
            }

            // One packet passes several interfaces of a namespace, and a lost one is sent again: count each segment once.
            if (e.PayloadLength > 0 && counted.Add((s.Forward, e.Sequence, e.PayloadLength)))
            {
                sent += s.Forward ? e.PayloadLength : 0;
                received += s.Forward ? 0 : e.PayloadLength;
                firstReply ??= s.Forward ? null : e.BootNanoseconds;
            }

            var side = s.Forward ? Side.Client : Side.Server;
            // What the client acknowledges has come, and a FIN or RST stands behind the last byte that was sent, whether or not each packet was reported.
            if (s.Forward ? (e.Flags & TcpFlags.Ack) != 0 : e.PayloadLength > 0 || (e.Flags & (TcpFlags.Fin | TcpFlags.Rst)) != 0)
            {
                var reached = s.Forward ? e.Acknowledgment - (serverFinished ? 1u : 0) : e.Sequence + (uint)e.PayloadLength;
                farthest = farthest == 0 || (int)(reached - farthest) > 0 ? reached : farthest;
                last = !s.Forward && e.PayloadLength > 0 && (last is null || (int)(reached - last.Value.Farthest) > 0) ? (reached, e.BootNanoseconds) : last;
            }

            serverFinished |= !s.Forward && (e.Flags & TcpFlags.Fin) != 0;
            ended ??= (e.Flags & (TcpFlags.Fin | TcpFlags.Rst)) != 0 ? e.BootNanoseconds : null;
            if ((e.Flags & TcpFlags.Fin) != 0 && finished == Side.None)
            {
                finished = side;
            }

            if ((e.Flags & TcpFlags.Rst) != 0 && reset == Side.None)
            {
                reset = side;
            }
        }

        return connection with
        {
            RequestBytes = sent,
            ReplyBytes = received,
            FirstReplyNanoseconds = firstReply,
            StatusLine = status,
            TraceParent = traceParent,
            AnswerLength = head is { } whole && !question.IsEmpty && IsAnsweredWithABody(question.Span) ? whole.Length : null,
            AnswerBytes = head is { } began ? Math.Max(0, (int)(farthest - began.From)) : 0,
            LastReplyNanoseconds = last is { } end && end.Farthest == farthest ? end.At : null,
            EndedNanoseconds = ended,
            Tls = Talk(question.Span, answer.Span),
            FinishedBy = finished,
            ResetBy = reset,
        };
    }

    // RFC 9110 section 9.3.2: the answer to HEAD says how long it would be, and has no body.
    private static bool IsAnsweredWithABody(ReadOnlySpan<byte> question) => !question.StartsWith("HEAD "u8) && !question.StartsWith("CONNECT "u8);

    // RFC 8446 section 5.1: the first byte of a record is its type, 21 an alert, 22 a handshake; then the version, 3.x.
    private static TlsTalk Talk(ReadOnlySpan<byte> question, ReadOnlySpan<byte> answer)
    {
        if (question.IsEmpty || answer.IsEmpty)
        {
            return TlsTalk.Agreed;
        }

        var (asksTls, alerts) = (question is [0x16, 3, ..], answer is [0x15, 3, ..]);
        return asksTls ? alerts ? TlsTalk.Alerted : answer.StartsWith("HTTP/"u8) ? TlsTalk.ClientOnly : TlsTalk.Agreed
            : alerts || answer.IndexOf("\r\n\r\n"u8) > 0 ? TlsTalk.ServerOnly : TlsTalk.Agreed;
    }

    private static string? HttpStatusLine(ReadOnlySpan<byte> payload)
    {
        if (!payload.StartsWith("HTTP/1."u8))
        {
            return null;
        }

        var end = payload.IndexOfAny((byte)'\r', (byte)'\n');
        var line = end < 0 ? payload : payload[..end];
        return line.ContainsAnyExceptInRange((byte)0x20, (byte)0x7e) ? null : Encoding.ASCII.GetString(line);
    }
}
