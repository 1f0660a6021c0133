using System.Text.Json.Serialization;

namespace TraceProbe.Core.Dns;

/// <summary>Response codes under their IANA names ("DNS RCODEs"); other values are carried as they are.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DnsResponseCode>))]
public enum DnsResponseCode : ushort
{
    /// <summary>No error. The answer may still hold no record of the type asked for.</summary>
    NoError = 0,

    /// <summary>The server could not read the query.</summary>
    FormErr = 1,

    /// <summary>The server failed.</summary>
    ServFail = 2,

    /// <summary>The name does not exist.</summary>
    NXDomain = 3,

    /// <summary>The server does not do this kind of query.</summary>
    NotImp = 4,

    /// <summary>The server will not answer, by its policy.</summary>
    Refused = 5,

    /// <summary>A name exists when it should not, RFC 2136.</summary>
    YXDomain = 6,

    /// <summary>A record set exists when it should not, RFC 2136.</summary>
    YXRRSet = 7,

    /// <summary>A record set that should exist does not, RFC 2136.</summary>
    NXRRSet = 8,

    /// <summary>The server is not authoritative for the zone, RFC 2136, or the client is not authorised, RFC 8945.</summary>
    NotAuth = 9,

    /// <summary>The name is not within the zone, RFC 2136.</summary>
    NotZone = 10,

    /// <summary>The server does not know this version of EDNS, RFC 6891; needs the extended bits of an OPT record.</summary>
    BadVers = 16,
}
