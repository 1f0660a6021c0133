using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Packets;

/// <summary>What one captured frame says, as far as it concerns a connection. Refers to the frame's bytes: not to be kept longer than these.</summary>
public ref struct PacketView
{
    /// <summary>Which way it went.</summary>
    public PacketDirection Direction { get; internal set; }

    /// <summary>The interface's index; 0 where the link type does not tell.</summary>
    public int InterfaceIndex { get; internal set; }

    /// <summary>Protocol, addresses and ports. Ports are 0 where the protocol has none, and in all fragments but the first.</summary>
    public FiveTuple Tuple { get; internal set; }

    /// <summary>Whether this is a fragment of a larger packet.</summary>
    public bool IsFragment { get; internal set; }

    /// <summary>Where the fragment's bytes belong in the larger packet; over 0 there is no transport header to read.</summary>
    public int FragmentOffset { get; internal set; }

    /// <summary>TCP control bits.</summary>
    public TcpFlags Flags { get; internal set; }

    /// <summary>TCP sequence number.</summary>
    public uint Sequence { get; internal set; }

    /// <summary>TCP acknowledgment number.</summary>
    public uint Acknowledgment { get; internal set; }

    /// <summary>ICMP or ICMPv6 type, where the protocol is one of these.</summary>
    public byte IcmpType { get; internal set; }

    /// <summary>ICMP or ICMPv6 code.</summary>
    public byte IcmpCode { get; internal set; }

    /// <summary>The tuple of the packet that an ICMP error quotes; default when this is none, or quotes too little.</summary>
    public FiveTuple Quoted { get; internal set; }

    /// <summary>Bytes of transport payload in the packet as it was sent, also when fewer were captured.</summary>
    public int PayloadLength { get; internal set; }

    /// <summary>The transport payload as far as it was captured; empty for ICMP.</summary>
    public ReadOnlySpan<byte> Payload { get; internal set; }
}
