namespace TraceProbe.Capture.Packets;

/// <summary>What stands before the IP header of a captured frame: the link types read here, numbered as in capture files (tcpdump.org/linktypes.html).</summary>
public enum LinkType
{
    /// <summary>BSD loopback: a protocol family in the byte order of the machine that captured.</summary>
    Null = 0,

    /// <summary>Ethernet II, VLAN tags included.</summary>
    Ethernet = 1,

    /// <summary>An IP packet with nothing before it.</summary>
    Raw = 101,

    /// <summary>OpenBSD loopback: a protocol family in network order.</summary>
    Loop = 108,

    /// <summary>Linux "cooked" capture, as the device <c>any</c> gives it.</summary>
    LinuxSll = 113,

    /// <summary>An IPv4 packet with nothing before it.</summary>
    IPv4 = 228,

    /// <summary>An IPv6 packet with nothing before it.</summary>
    IPv6 = 229,

    /// <summary>Linux "cooked" capture, version 2, which also tells the interface.</summary>
    LinuxSll2 = 276,
}
