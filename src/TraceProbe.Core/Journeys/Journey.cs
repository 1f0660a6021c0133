using System.Collections.Immutable;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Core.Journeys;

/// <summary>The observed account of one request: its lookups and connections, put together from events alone. Immutable.</summary>
public sealed record Journey
{
    /// <summary>The questions to nameservers, in the order they were sent.</summary>
    public ImmutableArray<DnsExchange> Lookups { get; init; } = [];

    /// <summary>Every flow that was seen, lookups included, in the order they began.</summary>
    public ImmutableArray<Connection> Connections { get; init; } = [];

    /// <summary>Where events were lost.</summary>
    public ImmutableArray<Gap> Gaps { get; init; } = [];

    /// <summary>When the first event happened, in nanoseconds since boot; 0 when there was none.</summary>
    public long StartNanoseconds { get; init; }

    /// <summary>When the last event happened, in nanoseconds since boot.</summary>
    public long EndNanoseconds { get; init; }
}

/// <summary>Events that are missing from a journey.</summary>
/// <param name="Nanoseconds">When the loss was noticed, in nanoseconds since boot.</param>
/// <param name="Lost">How many events were lost; at least 1.</param>
public sealed record Gap(long Nanoseconds, long Lost);

/// <summary>A packet of a connection, seen at one point of its way.</summary>
/// <param name="Event">What was seen.</param>
/// <param name="Forward">Whether the packet travels from the client to the server.</param>
public readonly record struct Sighting(NetworkEvent Event, bool Forward);

/// <summary>One question to one nameserver, as the packets show it.</summary>
public sealed record DnsExchange
{
    /// <summary>The name asked for, in lower case, without the trailing dot.</summary>
    public required string Name { get; init; }

    /// <summary>A, AAAA, …</summary>
    public required DnsRecordType Type { get; init; }

    /// <summary>The flow that carried it.</summary>
    public required Connection Connection { get; init; }

    /// <summary>When the question left the client, in nanoseconds since boot.</summary>
    public required long SentNanoseconds { get; init; }

    /// <summary>When the answer reached the client; null when none did.</summary>
    public long? AnsweredNanoseconds { get; init; }

    /// <summary>The answer, as the client received it; null when none came.</summary>
    public DnsMessage? Answer { get; init; }

    /// <summary>Whether an answer was seen on its way, also when it never reached the client.</summary>
    public bool AnswerSeen { get; init; }
}

/// <summary>How an attempt to connect came out.</summary>
public enum ConnectionOutcome
{
    /// <summary>Not known: no packet of the handshake was seen.</summary>
    Unknown,

    /// <summary>The handshake was completed (TCP), or an answer came (UDP).</summary>
    Established,

    /// <summary>A TCP reset answered the SYN.</summary>
    Refused,

    /// <summary>An ICMP error answered it.</summary>
    Rejected,

    /// <summary>Nothing answered it.</summary>
    Unanswered,
}

/// <summary>Who did something on a connection.</summary>
public enum Side
{
    /// <summary>Nobody.</summary>
    None,

    /// <summary>The side that connected.</summary>
    Client,

    /// <summary>The side that was connected to.</summary>
    Server,
}

/// <summary>Who spoke TLS on a connection, by the first bytes of either side.</summary>
public enum TlsTalk
{
    /// <summary>Neither side, or both; or it was not seen.</summary>
    Agreed,

    /// <summary>The client alone: the server answered in plain HTTP.</summary>
    ClientOnly,

    /// <summary>The server alone: it answered a plain request with a TLS alert, or with the complaint that it wants TLS.</summary>
    ServerOnly,

    /// <summary>Both, and the server broke it off with an alert.</summary>
    Alerted,
}

/// <summary>One flow from its first packet on, on both sides of its translation.</summary>
public sealed record Connection
{
    /// <summary>What the client asked for: the tuple as its own socket has it.</summary>
    public required FiveTuple Asked { get; init; }

    /// <summary>
    /// What became of it, in the client's direction: conntrack's reply tuple reversed. Null when no conntrack entry was seen
    /// that changes anything.
    /// </summary>
    public FiveTuple? Translated { get; init; }

    /// <summary>The network namespace in which it was translated; 0 when it was not.</summary>
    public uint TranslatedInNetNs { get; init; }

    /// <summary>When the translation was first seen, in nanoseconds since boot.</summary>
    public long? TranslatedNanoseconds { get; init; }

    /// <summary>The namespace of the client's socket: where the first packet was queued.</summary>
    public uint ClientNetNs { get; init; }

    /// <summary>The process that connected; null when it was not seen.</summary>
    public ProcessRef? Process { get; init; }

    /// <summary>Whether it began before observation did, so that its handshake was not seen.</summary>
    public bool MidStream { get; init; }

    /// <summary>
    /// Every packet seen, in order of time; never empty. Of an attempt of which no interface was handed a packet it is the socket's beginning to connect alone
    /// (<see cref="EventKind.SocketStateChanged"/>).
    /// </summary>
    public ImmutableArray<Sighting> Sightings { get; init; } = [];

    /// <summary>Errors reported to the client's socket, positive errno values.</summary>
    public ImmutableArray<int> SocketErrors { get; init; } = [];

    /// <summary>How the attempt came out.</summary>
    public ConnectionOutcome Outcome { get; init; }

    /// <summary>
    /// An answer that reached the client from the backend's own address, which nothing had turned back into the one that was asked: the client's kernel
    /// does not know it. Null when there was none.
    /// </summary>
    public Sighting? UntranslatedAnswer { get; init; }

    /// <summary>When the outcome reached the client, in nanoseconds since boot; null when none did.</summary>
    public long? OutcomeNanoseconds { get; init; }

    /// <summary>The ICMP or ICMPv6 type and code of a rejection.</summary>
    public (byte Type, byte Code)? Icmp { get; init; }

    /// <summary>The namespace in which the answer to the attempt (SYN-ACK, RST, ICMP error, datagram) was first seen leaving; 0 when none was.</summary>
    public uint AnsweredInNetNs { get; init; }

    /// <summary>The namespace of the last sighting in the client's direction: how far the packets came.</summary>
    public uint FarthestNetNs { get; init; }

    /// <summary>How often the SYN was sent again.</summary>
    public int Retransmissions { get; init; }

    /// <summary>Bytes of payload that left the client.</summary>
    public long RequestBytes { get; init; }

    /// <summary>Bytes of payload that reached the client.</summary>
    public long ReplyBytes { get; init; }

    /// <summary>When the first byte of the answer reached the client.</summary>
    public long? FirstReplyNanoseconds { get; init; }

    /// <summary>The HTTP status line of the answer; null when there was none or it could not be seen.</summary>
    public string? StatusLine { get; init; }

    /// <summary>How many bytes the first HTTP answer has at least, by its own word; null where it did not say so, or nothing of it was seen.</summary>
    public long? AnswerLength { get; init; }

    /// <summary>The <c>traceparent</c> of the plain HTTP request that the client sent first; null when it sent none, or none was seen.</summary>
    public string? TraceParent { get; init; }

    /// <summary>How many bytes the server had sent, by sequence numbers, from the beginning of that answer on: also where not each packet was reported.</summary>
    public long AnswerBytes { get; init; }

    /// <summary>When the last byte of payload reached the client; null when none did, or that packet was not reported.</summary>
    public long? LastReplyNanoseconds { get; init; }

    /// <summary>What the two sides first said, where one of them spoke TLS.</summary>
    public TlsTalk Tls { get; init; }

    /// <summary>When the first FIN or RST of either side was seen at the client; null when none was.</summary>
    public long? EndedNanoseconds { get; init; }

    /// <summary>Whether less of the answer came than it said it has, and the server is the one who ended it.</summary>
    public bool IsCutByServer => AnswerLength > AnswerBytes && (FinishedBy == Side.Server || (ResetBy == Side.Server && FinishedBy == Side.None));

    /// <summary>Who ended a standing connection first with a FIN.</summary>
    public Side FinishedBy { get; init; }

    /// <summary>Who reset a standing connection.</summary>
    public Side ResetBy { get; init; }

    /// <summary>Packets of it that the kernel dropped, with the reason.</summary>
    public ImmutableArray<Sighting> Drops { get; init; } = [];

    /// <summary>When its first packet was seen, in nanoseconds since boot.</summary>
    public long StartNanoseconds { get; init; }

    /// <summary>When its last packet was seen.</summary>
    public long EndNanoseconds { get; init; }

    /// <summary>The connection that a proxy opened to serve this one (kube-proxy's userspace mode); null when there was none.</summary>
    public Connection? Onward { get; init; }

    /// <summary>Where the packets really went: after translation when there was one.</summary>
    public AddressPort Backend => (Translated ?? Asked).Destination;

    /// <summary>Whether this carries lookups.</summary>
    public bool IsDns => Asked.Destination.Port == 53;
}
