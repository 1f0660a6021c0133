namespace TraceProbe.Core.Dns;

/// <summary>The part of a message that a record stands in (RFC 1035 section 4.1).</summary>
public enum DnsSection
{
    /// <summary>Records that answer the question.</summary>
    Answer,

    /// <summary>Records that point to an authority.</summary>
    Authority,

    /// <summary>Records that help, and EDNS.</summary>
    Additional,
}
