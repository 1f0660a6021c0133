namespace TraceProbe.Agent.Watching;

/// <summary>
/// What makes a connection worth a diagnosis, as far as its events tell by themselves. Cheap to see, and no verdict: two failures with the same symptoms may have
/// two causes, and a connection with symptoms may be healthy.
/// </summary>
[Flags]
internal enum Symptoms
{
    /// <summary>Nothing out of the ordinary.</summary>
    None = 0,

    /// <summary>The SYN, or the datagram, got no answer in time.</summary>
    Unanswered = 1,

    /// <summary>A reset before anything was answered.</summary>
    Reset = 2,

    /// <summary>An ICMP error.</summary>
    IcmpError = 4,

    /// <summary>The kernel dropped a packet of it.</summary>
    Dropped = 8,

    /// <summary>A segment was sent again.</summary>
    Retransmitted = 16,

    /// <summary>An error was reported to the client's socket.</summary>
    SocketError = 32,

    /// <summary>An HTTP status of 500 or above, or 400.</summary>
    ServerError = 64,

    /// <summary>Something was asked, and the connection ended without a byte of an answer.</summary>
    NoReply = 128,

    /// <summary>TLS on one side and something else on the other, or a TLS alert before any data.</summary>
    TlsMismatch = 256,

    /// <summary>The lookup before it took longer than any cluster's DNS should: a question was lost or late.</summary>
    SlowLookup = 512,

    /// <summary>The name led to no address.</summary>
    LookupFailed = 1024,

    /// <summary>Far slower than this client's other connections to the Service.</summary>
    Slow = 2048,

    /// <summary>Less of an HTTP answer came than it said it has, or the server reset a connection on which nobody had said that it was done.</summary>
    Cut = 4096,
}
