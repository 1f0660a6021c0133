using TraceProbe.Core.Net;

namespace TraceProbe.Core.Dns;

/// <summary>A resource record of a type that a client's resolver acts on: A, AAAA, CNAME, NS, PTR, SRV or SOA.</summary>
public sealed record DnsRecord
{
    /// <summary>The name it belongs to, lower case, without a dot at its end.</summary>
    public required string Name { get; init; }

    /// <summary>Its type; says which of the members below mean something.</summary>
    public required DnsRecordType Type { get; init; }

    /// <summary>Seconds that it may be kept. For SOA: seconds that an absence may be kept (RFC 2308 section 5).</summary>
    public required uint TimeToLive { get; init; }

    /// <summary>The address of an A or AAAA record.</summary>
    public IpAddress? Address { get; init; }

    /// <summary>The name that a CNAME, NS, PTR or SRV record leads to, or the primary server of an SOA.</summary>
    public string? Target { get; init; }

    /// <summary>The port of an SRV record.</summary>
    public ushort Port { get; init; }

    /// <summary>The priority of an SRV record; lower comes first.</summary>
    public ushort Priority { get; init; }

    /// <summary>The weight of an SRV record among those of its priority.</summary>
    public ushort Weight { get; init; }

    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant(Type switch
    {
        DnsRecordType.A or DnsRecordType.AAAA => (FormattableString)$"{Name} {TimeToLive} {Type} {Address}",
        DnsRecordType.SRV => $"{Name} {TimeToLive} {Type} {Priority} {Weight} {Port} {Target}",
        _ => $"{Name} {TimeToLive} {Type} {Target}",
    });
}
