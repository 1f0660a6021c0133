namespace TraceProbe.Core.Dns;

/// <summary>How far the reading of a DNS message has come.</summary>
public enum DnsReadState
{
    /// <summary>Everything so far was whole.</summary>
    Whole,

    /// <summary>The bytes end before the message does: the capture, or the sender, cut it. What was read before stands.</summary>
    Cut,

    /// <summary>The bytes break the format; no further reading is possible.</summary>
    Malformed,
}
