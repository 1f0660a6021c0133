namespace TraceProbe.Capture.Packets;

/// <summary>Which way a captured packet went, as far as its link header tells.</summary>
public enum PacketDirection : byte
{
    /// <summary>The link type does not tell.</summary>
    Unknown,

    /// <summary>It came in from an interface.</summary>
    Incoming,

    /// <summary>It was handed to an interface for sending.</summary>
    Outgoing,

    /// <summary>It was sent from one other machine to another.</summary>
    Passing,
}
