using System.Collections.Immutable;
using System.Text.Json.Serialization;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Requests;

/// <summary>
/// What the client itself saw of its request, from the outside of the kernel: the lookups it made, the connects and what they
/// returned, the answer's head. For a followed command only its exit code is known; the rest comes from events.
/// All times are nanoseconds since boot (CLOCK_BOOTTIME).
/// </summary>
public sealed record ClientReport
{
    /// <summary>Who made the request: <c>traceprobe</c>, or the command line that was run; null when a connection was only observed.</summary>
    public string? Command { get; init; }

    /// <summary>The process that made it; 0 when not known.</summary>
    public int Pid { get; init; }

    /// <summary>The client's resolv.conf as it was; null when it could not be read.</summary>
    public ResolverConfiguration? Resolver { get; init; }

    /// <summary>The line of the client's hosts file that answered, or null.</summary>
    public string? HostsEntry { get; init; }

    /// <summary>The lookups in order; empty when the target was an address.</summary>
    public ImmutableArray<Lookup> Lookups { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The addresses the name came out as, in the order they were tried.</summary>
    public ImmutableArray<IpAddress> Addresses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The connects in order.</summary>
    public ImmutableArray<ConnectAttempt> Connects { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The TLS handshake's failure; null when there was none.</summary>
    public string? TlsFailure { get; init; }

    /// <summary>
    /// What is wrong with the server's certificate (not trusted, for another name, expired), or null. The request goes on all the
    /// same, since it is the path that is studied; other clients may stop here.
    /// </summary>
    public string? CertificateError { get; init; }

    /// <summary>The HTTP status line of the answer, such as <c>HTTP/1.1 200 OK</c>; null when none came.</summary>
    public string? StatusLine { get; init; }

    /// <summary>
    /// The request's failure in curl's words, such as <c>Connection refused</c>; null when it succeeded. Begins with one of
    /// <see cref="RequestFailure"/>.
    /// </summary>
    public string? Failure { get; init; }

    /// <summary>The followed command's exit code; null when there was no command.</summary>
    public int? ExitCode { get; init; }

    /// <summary>When the request began.</summary>
    public long StartNanoseconds { get; init; }

    /// <summary>When it ended.</summary>
    public long EndNanoseconds { get; init; }
}

/// <summary>Which C library's search order a stub resolver follows.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ResolverFlavor>))]
public enum ResolverFlavor
{
    /// <summary>glibc: with fewer dots than ndots the search list and then the name as given, else the other way round; nameservers one after the other.</summary>
    Glibc,

    /// <summary>musl: all nameservers at once, first answer wins; a search stops at the first definite failure.</summary>
    Musl,
}

/// <summary>resolv.conf(5), parsed; limits and defaults are those of the flavor.</summary>
public sealed record ResolverConfiguration
{
    /// <summary>Where it was read.</summary>
    public string? Path { get; init; }

    /// <summary>The nameservers in order: at most three, the first ones; 127.0.0.1 when the file names none.</summary>
    public ImmutableArray<IpAddress> Nameservers { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The search domains in order, without a trailing dot; the root is <c>.</c>.</summary>
    public ImmutableArray<string> Search { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Names with at least this many dots are tried as given first (default 1, glibc's maximum 15).</summary>
    public int Ndots { get; init; } = 1;

    /// <summary>
    /// glibc: seconds to wait for one answer (default 5, maximum 30). musl: seconds to wait for the answers to one name in all
    /// (default 5, maximum 60).
    /// </summary>
    public int TimeoutSeconds { get; init; } = 5;

    /// <summary>Rounds over the nameservers (default 2, maximum 5 in glibc, 10 in musl).</summary>
    public int Attempts { get; init; } = 2;

    /// <summary>Whether nameservers are taken in turn.</summary>
    public bool Rotate { get; init; }

    /// <summary>Whether TCP is used from the start.</summary>
    public bool UseTcp { get; init; }

    /// <summary>Whether the question for AAAA waits for the answer to the one for A (<c>single-request</c>, glibc only).</summary>
    public bool SingleRequest { get; init; }

    /// <summary>Whether the question for AAAA comes from a socket of its own (<c>single-request-reopen</c>, glibc only).</summary>
    public bool SingleRequestReopen { get; init; }

    /// <summary>Whether AAAA is never asked for (<c>no-aaaa</c>, glibc 2.36).</summary>
    public bool NoAaaa { get; init; }

    /// <summary>Whether queries announce a larger UDP payload (<c>edns0</c>, glibc only).</summary>
    public bool Edns { get; init; }

    /// <summary>The order the client follows.</summary>
    public ResolverFlavor Flavor { get; init; }

    /// <summary>What in the file has no effect, and defaults that stood in for what is missing; at most <see cref="ResolvConf.MaxNotes"/>.</summary>
    public ImmutableArray<string> Notes { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>How one question to one nameserver ended.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<LookupOutcome>))]
public enum LookupOutcome
{
    /// <summary>An answer with addresses.</summary>
    Answered,

    /// <summary>NOERROR without an address of the type.</summary>
    NoData,

    /// <summary>NXDOMAIN.</summary>
    NameError,

    /// <summary>SERVFAIL, REFUSED, NOTIMP or FORMERR: the nameserver would not say.</summary>
    ServerFailure,

    /// <summary>No answer within the time.</summary>
    TimedOut,

    /// <summary>The socket refused (port unreachable) or could not send.</summary>
    Unreachable,

    /// <summary>An answer that could not be read.</summary>
    Malformed,

    /// <summary>An answer cut to fit a datagram (TC); the same question over TCP follows.</summary>
    Truncated,

    /// <summary>No longer awaited: another nameserver answered first (musl asks all at once), or the question was asked again over TCP.</summary>
    Superseded,
}

/// <summary>One question to one nameserver.</summary>
/// <param name="Name">The name asked for, without a trailing dot.</param>
/// <param name="Type">A, AAAA.</param>
/// <param name="Nameserver">Who was asked.</param>
/// <param name="Transport">UDP or TCP.</param>
/// <param name="Outcome">How it ended.</param>
/// <param name="Addresses">The addresses it gave.</param>
/// <param name="SentNanoseconds">When it was sent.</param>
/// <param name="EndNanoseconds">When the answer came or the wait ended.</param>
public sealed record Lookup(string Name, string Type, AddressPort Nameserver, IpProtocol Transport, LookupOutcome Outcome,
    ImmutableArray<IpAddress> Addresses, long SentNanoseconds, long EndNanoseconds)
{
    /// <summary>The answer's response code; null when none came, or none that could be read.</summary>
    public DnsResponseCode? ResponseCode { get; init; }
}

/// <summary>One connect.</summary>
/// <param name="Local">The local side, once it was chosen.</param>
/// <param name="Remote">The address asked for.</param>
/// <param name="Error">0, or the errno (110 ETIMEDOUT also when our own time limit ended it, 111 ECONNREFUSED, 113 EHOSTUNREACH).</param>
/// <param name="StartNanoseconds">When it began.</param>
/// <param name="EndNanoseconds">When it returned.</param>
public sealed record ConnectAttempt(AddressPort? Local, AddressPort Remote, int Error, long StartNanoseconds, long EndNanoseconds);
