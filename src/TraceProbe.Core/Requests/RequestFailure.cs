namespace TraceProbe.Core.Requests;

/// <summary>How a request fails, in the words curl(1) uses, since these are the ones people search for.</summary>
public static class RequestFailure
{
    /// <summary>No nameserver gave an address; <c>: HOST</c> follows.</summary>
    public const string NotResolved = "Could not resolve host";

    /// <summary>The time for the whole request passed while a nameserver was awaited.</summary>
    public const string ResolvingTimedOut = "Resolving timed out";

    /// <summary>A reset, or an ICMP port unreachable, answered the connect or the datagram (errno 111).</summary>
    public const string ConnectionRefused = "Connection refused";

    /// <summary>Nothing answered the connect in time (errno 110).</summary>
    public const string ConnectionTimedOut = "Connection timed out";

    /// <summary>An ICMP host unreachable, or no neighbour, answered the connect (errno 113).</summary>
    public const string NoRouteToHost = "No route to host";

    /// <summary>The client itself has no route, or no address of the family (errno 101).</summary>
    public const string NetworkUnreachable = "Network is unreachable";

    /// <summary>The peer closed the connection without a byte.</summary>
    public const string EmptyReply = "Empty reply from server";

    /// <summary>The peer reset the connection once it stood (errno 104).</summary>
    public const string ConnectionReset = "Connection reset by peer";

    /// <summary>The connection stood, and the answer, or the rest of it, did not come in time.</summary>
    public const string TimedOut = "Operation timed out";

    /// <summary>What came back is not HTTP.</summary>
    public const string NotHttp = "Received HTTP/0.9 when not allowed";

    /// <summary>The answer's head did not end within what is read of it.</summary>
    public const string HeadTooLarge = "Too large response headers";

    /// <summary>The peer closed the connection within its answer.</summary>
    public const string ClosedEarly = "Transfer closed with outstanding read data remaining";

    /// <summary>The TLS handshake failed; <see cref="ClientReport.TlsFailure"/> says how.</summary>
    public const string TlsFailed = "TLS connect error";

    /// <summary>The words for an errno of a connect, a send or a receive.</summary>
    /// <param name="errno">The number, as Linux numbers it on every architecture .NET runs on.</param>
    /// <returns>One of the words above, or <c>errno N</c>.</returns>
    public static string FromErrno(int errno) => errno switch
    {
        101 => NetworkUnreachable,
        104 or 32 => ConnectionReset,
        110 => ConnectionTimedOut,
        111 => ConnectionRefused,
        113 => NoRouteToHost,
        1 or 13 => "Permission denied",
        22 => "Invalid argument",
        97 => "Address family not supported by protocol",
        99 => "Cannot assign requested address",
        _ => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"errno {errno}"),
    };
}
