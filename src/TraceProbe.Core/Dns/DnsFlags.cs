namespace TraceProbe.Core.Dns;

/// <summary>The single-bit flags of a DNS header, at their positions in its second 16-bit word (RFC 1035 section 4.1.1).</summary>
[Flags]
public enum DnsFlags : ushort
{
    /// <summary>No bit set: a query that wants no recursion.</summary>
    None = 0,

    /// <summary>QR: this is a response.</summary>
    Response = 0x8000,

    /// <summary>AA: the server is an authority for the name.</summary>
    AuthoritativeAnswer = 0x0400,

    /// <summary>TC: the server cut the message to fit; the client should ask again over TCP.</summary>
    Truncated = 0x0200,

    /// <summary>RD: the client wants recursion.</summary>
    RecursionDesired = 0x0100,

    /// <summary>RA: the server offers recursion.</summary>
    RecursionAvailable = 0x0080,

    /// <summary>AD: the server holds the data to be authentic, RFC 4035.</summary>
    AuthenticData = 0x0020,

    /// <summary>CD: the client does not want the data checked, RFC 4035.</summary>
    CheckingDisabled = 0x0010,
}
