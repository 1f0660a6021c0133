using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;

namespace TraceProbe.Capture.PcapNg;

/// <summary>One packet of a pcapng file. Its frame is good until the next one is read.</summary>
internal ref struct PcapNgPacket
{
    /// <summary>What the frame begins with; any number, as the file says.</summary>
    public LinkType Link;

    /// <summary>Nanoseconds since 1970; that of the packet before where the block tells no time.</summary>
    public long UnixNanoseconds;

    /// <summary>The bytes captured.</summary>
    public ReadOnlySpan<byte> Frame;

    /// <summary>The length as it was sent.</summary>
    public int OriginalLength;

    /// <summary>Incoming or outgoing, where the file says so.</summary>
    public PacketDirection Direction;

    /// <summary>The interface's name, without what stands behind an <c>@</c>; empty where the file has none.</summary>
    public ShortName Interface;
}
