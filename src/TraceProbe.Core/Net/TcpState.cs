using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>Socket states as the kernel numbers them (include/net/tcp_states.h).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<TcpState>))]
public enum TcpState : byte
{
    /// <summary>Not known.</summary>
    None = 0,

    /// <summary>ESTABLISHED.</summary>
    Established = 1,

    /// <summary>SYN_SENT.</summary>
    SynSent = 2,

    /// <summary>SYN_RECV.</summary>
    SynReceived = 3,

    /// <summary>FIN_WAIT1.</summary>
    FinWait1 = 4,

    /// <summary>FIN_WAIT2.</summary>
    FinWait2 = 5,

    /// <summary>TIME_WAIT.</summary>
    TimeWait = 6,

    /// <summary>CLOSE.</summary>
    Close = 7,

    /// <summary>CLOSE_WAIT.</summary>
    CloseWait = 8,

    /// <summary>LAST_ACK.</summary>
    LastAck = 9,

    /// <summary>LISTEN.</summary>
    Listen = 10,

    /// <summary>CLOSING.</summary>
    Closing = 11,

    /// <summary>NEW_SYN_RECV.</summary>
    NewSynReceived = 12,
}
