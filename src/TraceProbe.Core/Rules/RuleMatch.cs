using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>One condition of a rule, as the iptables extension of that name means it (iptables-extensions(8)), or the expression of nft(8) that means the same.</summary>
/// <param name="Negated">Whether a <c>!</c> stands before it.</param>
public abstract record RuleMatch(bool Negated)
{
    /// <summary><c>-m comment --comment</c>: always true; says who wrote the rule and why.</summary>
    /// <param name="Text">The comment.</param>
    public sealed record Commented(string Text) : RuleMatch(false);

    /// <summary>A condition TraceProbe does not know; a walk that needs it is undecided.</summary>
    /// <param name="Text">The condition's words as the dump has them.</param>
    public sealed record Unknown(string Text) : RuleMatch(false);

    /// <summary><c>-p</c>.</summary>
    /// <param name="Value">The transport protocol.</param>
    /// <param name="Negated">Whether any other protocol is meant.</param>
    public sealed record Protocol(IpProtocol Value, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-s</c>.</summary>
    /// <param name="Network">The prefix.</param>
    /// <param name="Negated">Whether addresses outside of it are meant.</param>
    public sealed record Source(IpNetwork Network, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-d</c>.</summary>
    /// <param name="Network">The prefix.</param>
    /// <param name="Negated">Whether addresses outside of it are meant.</param>
    public sealed record Destination(IpNetwork Network, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m iprange --src-range</c> or <c>--dst-range</c>.</summary>
    /// <param name="OfSource">Whether the source address is meant, else the destination.</param>
    /// <param name="First">The lowest address.</param>
    /// <param name="Last">The highest address.</param>
    /// <param name="Negated">Whether addresses outside of it are meant.</param>
    public sealed record AddressRange(bool OfSource, IpAddress First, IpAddress Last, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-i</c>.</summary>
    /// <param name="Name">The interface; a trailing <c>+</c> stands for any ending.</param>
    /// <param name="Negated">Whether any other interface is meant.</param>
    public sealed record InInterface(string Name, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-o</c>.</summary>
    /// <param name="Name">The interface; a trailing <c>+</c> stands for any ending.</param>
    /// <param name="Negated">Whether any other interface is meant.</param>
    public sealed record OutInterface(string Name, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-f</c>: the second or a later fragment of an IPv4 packet.</summary>
    /// <param name="Negated">Whether only unfragmented packets and first fragments are meant.</param>
    public sealed record Fragment(bool Negated) : RuleMatch(Negated);

    /// <summary><c>--sport</c>, <c>--dport</c>, and the lists of <c>-m multiport</c>.</summary>
    /// <param name="Side">Which port.</param>
    /// <param name="Ranges">The ports, each range with both ends included.</param>
    /// <param name="Negated">Whether any other port is meant.</param>
    public sealed record Port(PortSide Side, ImmutableArray<PortRange> Ranges, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m tcp --tcp-flags</c> (also written <c>--syn</c>).</summary>
    /// <param name="Mask">The flags looked at.</param>
    /// <param name="Set">Those of them that must be set.</param>
    /// <param name="Negated">Whether any other combination is meant.</param>
    public sealed record Flags(TcpFlags Mask, TcpFlags Set, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m addrtype --src-type</c> or <c>--dst-type</c>.</summary>
    /// <param name="OfSource">Whether the source address is meant, else the destination.</param>
    /// <param name="Types">The routing types in capitals, such as <c>LOCAL</c>; one of them must hold.</param>
    /// <param name="LimitedTo">The option that limits the look-up to one interface, such as <c>--limit-iface-in</c>; null when none does.</param>
    /// <param name="Negated">Whether none of them may hold.</param>
    public sealed record AddressType(bool OfSource, ImmutableArray<string> Types, string? LimitedTo, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m mark --mark</c>: the packet's mark.</summary>
    /// <param name="Value">What it must be after masking.</param>
    /// <param name="Mask">The bits looked at.</param>
    /// <param name="Negated">Whether it must differ.</param>
    public sealed record Mark(uint Value, uint Mask, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m connmark --mark</c>: the connection's mark.</summary>
    /// <param name="Value">What it must be after masking.</param>
    /// <param name="Mask">The bits looked at.</param>
    /// <param name="Negated">Whether it must differ.</param>
    public sealed record ConnectionMark(uint Value, uint Mask, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m conntrack --ctstate</c> and <c>-m state --state</c>.</summary>
    /// <param name="States">The states, one of which must hold.</param>
    /// <param name="Negated">Whether none of them may hold.</param>
    public sealed record ConnectionState(ConntrackState States, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m conntrack --ctorigsrc|--ctorigdst</c>: an address before translation.</summary>
    /// <param name="OfSource">Whether the source address is meant, else the destination.</param>
    /// <param name="Network">The prefix.</param>
    /// <param name="Negated">Whether addresses outside of it are meant.</param>
    public sealed record OriginalAddress(bool OfSource, IpNetwork Network, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m conntrack --ctorigsrcport|--ctorigdstport</c>: a port before translation.</summary>
    /// <param name="OfSource">Whether the source port is meant, else the destination.</param>
    /// <param name="Range">The ports, both ends included.</param>
    /// <param name="Negated">Whether any other port is meant.</param>
    public sealed record OriginalPort(bool OfSource, PortRange Range, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m conntrack --ctproto</c>.</summary>
    /// <param name="Value">The connection's protocol.</param>
    /// <param name="Negated">Whether any other protocol is meant.</param>
    public sealed record ConnectionProtocol(IpProtocol Value, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m conntrack --ctdir</c>.</summary>
    /// <param name="Original">Whether packets from the client are meant, else the replies.</param>
    public sealed record Direction(bool Original) : RuleMatch(false);

    /// <summary><c>-m statistic</c>: true for a share of the packets.</summary>
    /// <param name="Probability">The share, 0 to 1; for <c>--mode nth</c> one of <c>--every</c>.</param>
    /// <param name="IsNth">Whether it counts instead of throwing dice.</param>
    /// <param name="Negated">Whether the other packets are meant.</param>
    public sealed record Statistic(double Probability, bool IsNth, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m recent</c>: a list of addresses seen; kube-proxy keeps session affinity in them.</summary>
    /// <param name="Operation">What it does with the list.</param>
    /// <param name="List">The list's name.</param>
    /// <param name="Seconds">How far back <see cref="RecentOperation.Check"/> and <see cref="RecentOperation.Update"/> look; null for any time.</param>
    /// <param name="Negated">Whether the answer is turned round.</param>
    public sealed record Recent(RecentOperation Operation, string List, int? Seconds, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m physdev</c>: the bridge port a bridged packet came through.</summary>
    /// <param name="Question">Which of the module's questions.</param>
    /// <param name="Name">The port for the questions that name one, with <c>+</c> as in <see cref="InInterface"/>; null for the others.</param>
    /// <param name="Negated">Whether the answer is turned round.</param>
    public sealed record PhysicalDevice(PhysicalDeviceQuestion Question, string? Name, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m set --match-set</c>: membership of an ipset, which a rule dump does not list; see <see cref="RuleSet.IpSets"/>.</summary>
    /// <param name="Name">The set.</param>
    /// <param name="Fields">The packet's fields looked up, such as <c>dst,dst</c>.</param>
    /// <param name="Negated">Whether the packet must not be in it.</param>
    public sealed record InSet(string Name, string Fields, bool Negated) : RuleMatch(Negated);

    /// <summary>That IPVS took it (<c>-m ipvs</c>), and as what it was sent to the virtual server; one condition each.</summary>
    /// <param name="OfProtocol">The virtual server's protocol; null when not asked.</param>
    /// <param name="OfAddress">Its address; null when not asked.</param>
    /// <param name="OfPort">Its port; null when not asked.</param>
    /// <param name="Negated">Whether it must not be so. A packet that IPVS did not take meets only the bare negation.</param>
    public sealed record Scheduled(IpProtocol? OfProtocol, IpNetwork? OfAddress, ushort? OfPort, bool Negated) : RuleMatch(Negated);

    /// <summary>nft: fields of the packet, looked up in a set of a table.</summary>
    /// <param name="Fields">The fields, in the order of the set's elements.</param>
    /// <param name="Set">The set.</param>
    /// <param name="Negated">Whether the packet must not be in it.</param>
    public sealed record Lookup(ImmutableArray<PacketField> Fields, MatchSet Set, bool Negated) : RuleMatch(Negated);

    /// <summary>nft: a statement before a rule's last, which a packet that met the conditions before it undergoes whether or not it meets those after it.</summary>
    /// <param name="Target">What the statement does; nothing that ends the rule.</param>
    public sealed record Effect(RuleTarget Target) : RuleMatch(false);

    /// <summary>nft: whether it is an IPv6 packet, where a table holds rules for both families.</summary>
    /// <param name="IsIPv6">Whether IPv6 is meant, else IPv4.</param>
    /// <param name="Negated">Whether the other one is meant.</param>
    public sealed record Family(bool IsIPv6, bool Negated) : RuleMatch(Negated);

    /// <summary><c>-m nfacct</c>: counts, and is always true.</summary>
    /// <param name="Name">The counter.</param>
    public sealed record Accounted(string Name) : RuleMatch(false);

    /// <summary><c>-m limit</c>, <c>-m hashlimit</c>: true while a rate is not exceeded.</summary>
    /// <param name="Text">The condition's words as the dump has them.</param>
    public sealed record Rate(string Text) : RuleMatch(false);

    /// <summary><c>-m rpfilter</c>: whether the reply would leave where the packet came in.</summary>
    /// <param name="Negated"><c>--invert</c>.</param>
    public sealed record ReversePath(bool Negated) : RuleMatch(Negated);
}

/// <summary>Which port a <see cref="RuleMatch.Port"/> means.</summary>
public enum PortSide
{
    /// <summary>The source port.</summary>
    Source,

    /// <summary>The destination port.</summary>
    Destination,

    /// <summary>Either.</summary>
    Either,
}

/// <summary>A range of ports.</summary>
/// <param name="First">The lowest.</param>
/// <param name="Last">The highest, included.</param>
public readonly record struct PortRange(ushort First, ushort Last)
{
    /// <summary>Whether the port lies in it.</summary>
    public bool Contains(ushort port) => port >= First && port <= Last;
}

/// <summary>Connection states as <c>xt_conntrack</c> sees them; a connection can be in several.</summary>
[Flags]
public enum ConntrackState
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>No connection can be told.</summary>
    Invalid = 1,

    /// <summary>The first packet.</summary>
    New = 2,

    /// <summary>Packets were seen both ways.</summary>
    Established = 4,

    /// <summary>Belongs to another connection.</summary>
    Related = 8,

    /// <summary>Taken out of tracking in the raw table.</summary>
    Untracked = 16,

    /// <summary>Its source is translated.</summary>
    Snat = 32,

    /// <summary>Its destination is translated.</summary>
    Dnat = 64,
}

/// <summary>What a <see cref="RuleMatch.Recent"/> does.</summary>
public enum RecentOperation
{
    /// <summary><c>--set</c>: puts the address in; always true.</summary>
    Set,

    /// <summary><c>--rcheck</c>: whether the address is in.</summary>
    Check,

    /// <summary><c>--update</c>: whether the address is in, and renews it.</summary>
    Update,

    /// <summary><c>--remove</c>: whether the address is in, and takes it out.</summary>
    Remove,
}

/// <summary>What a <see cref="RuleMatch.PhysicalDevice"/> asks.</summary>
public enum PhysicalDeviceQuestion
{
    /// <summary><c>--physdev-is-in</c>: whether it came through a bridge port.</summary>
    IsIn,

    /// <summary><c>--physdev-is-out</c>: whether it leaves through a bridge port.</summary>
    IsOut,

    /// <summary><c>--physdev-is-bridged</c>: whether it is bridged and not routed.</summary>
    IsBridged,

    /// <summary><c>--physdev-in</c>: the port it came through.</summary>
    In,

    /// <summary><c>--physdev-out</c>: the port it leaves through.</summary>
    Out,
}
