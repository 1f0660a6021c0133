using System.Text.Json.Serialization;

namespace TraceProbe.Core.Dns;

/// <summary>Record types under their IANA mnemonics ("Resource Record (RR) TYPEs"); other values are carried as they are.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DnsRecordType>))]
public enum DnsRecordType : ushort
{
    /// <summary>None, or not known.</summary>
    None = 0,

    /// <summary>An IPv4 address, RFC 1035.</summary>
    A = 1,

    /// <summary>A name server, RFC 1035.</summary>
    NS = 2,

    /// <summary>The canonical name of an alias, RFC 1035.</summary>
    CNAME = 5,

    /// <summary>The start of a zone of authority, RFC 1035.</summary>
    SOA = 6,

    /// <summary>A pointer to a name, as reverse lookups return it, RFC 1035.</summary>
    PTR = 12,

    /// <summary>A mail exchange, RFC 1035.</summary>
    MX = 15,

    /// <summary>Text, RFC 1035.</summary>
    TXT = 16,

    /// <summary>An IPv6 address, RFC 3596.</summary>
    AAAA = 28,

    /// <summary>Where a service is offered, RFC 2782.</summary>
    SRV = 33,

    /// <summary>The pseudo-record of EDNS, RFC 6891.</summary>
    OPT = 41,

    /// <summary>Service binding, RFC 9460.</summary>
    SVCB = 64,

    /// <summary>Service binding for HTTP, RFC 9460.</summary>
    HTTPS = 65,

    /// <summary>Any type, in a question only, RFC 8482.</summary>
    ANY = 255,
}
