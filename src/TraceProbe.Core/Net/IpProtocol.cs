using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>IP protocol numbers TraceProbe names (IANA "Protocol Numbers"); other values are carried as they are.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<IpProtocol>))]
public enum IpProtocol : byte
{
    /// <summary>None, or not known.</summary>
    None = 0,

    /// <summary>ICMP for IPv4, RFC 792.</summary>
    Icmp = 1,

    /// <summary>TCP, RFC 9293.</summary>
    Tcp = 6,

    /// <summary>UDP, RFC 768.</summary>
    Udp = 17,

    /// <summary>ICMP for IPv6, RFC 4443.</summary>
    IcmpV6 = 58,

    /// <summary>SCTP, RFC 9260.</summary>
    Sctp = 132,
}
