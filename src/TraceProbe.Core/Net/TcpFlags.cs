using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>The TCP control bits, RFC 9293 section 3.1, at their positions in byte 13 of the header.</summary>
[Flags]
[JsonConverter(typeof(JsonStringEnumConverter<TcpFlags>))]
public enum TcpFlags : byte
{
    /// <summary>No bit set.</summary>
    None = 0,

    /// <summary>The sender has finished.</summary>
    Fin = 1,

    /// <summary>Synchronise sequence numbers.</summary>
    Syn = 2,

    /// <summary>Reset the connection.</summary>
    Rst = 4,

    /// <summary>Push.</summary>
    Psh = 8,

    /// <summary>The acknowledgment number is significant.</summary>
    Ack = 16,

    /// <summary>The urgent pointer is significant.</summary>
    Urg = 32,

    /// <summary>ECN echo, RFC 3168.</summary>
    Ece = 64,

    /// <summary>Congestion window reduced, RFC 3168.</summary>
    Cwr = 128,
}
