using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>What a rule does with a packet that meets it.</summary>
public abstract record RuleTarget
{
    /// <summary><c>-j CHAIN</c> or <c>-g CHAIN</c>.</summary>
    /// <param name="Chain">The chain to go on in.</param>
    /// <param name="Goto">Whether it does not come back here (<c>-g</c>).</param>
    public sealed record Jump(string Chain, bool Goto) : RuleTarget;

    /// <summary>A target TraceProbe does not know; a walk that reaches it is undecided.</summary>
    /// <param name="Text">The target's words as the dump has them.</param>
    public sealed record Unknown(string Text) : RuleTarget;

    /// <summary><c>ACCEPT</c>: the table is done, the packet goes on.</summary>
    public sealed record Accept : RuleTarget;

    /// <summary><c>DROP</c>: the packet ends without a word.</summary>
    public sealed record Drop : RuleTarget;

    /// <summary><c>RETURN</c>: on with the calling chain, or with the policy.</summary>
    public sealed record Return : RuleTarget;

    /// <summary><c>REJECT</c>: the packet ends and its sender is told.</summary>
    /// <param name="With">How, such as <c>icmp-port-unreachable</c>, <c>icmp6-port-unreachable</c> or <c>tcp-reset</c>.</param>
    public sealed record Reject(string With) : RuleTarget;

    /// <summary><c>DNAT</c>: another destination.</summary>
    /// <param name="First">The address, or the lowest of a range; null when only the port changes.</param>
    /// <param name="Last">The highest address of a range; equals <paramref name="First"/> otherwise.</param>
    /// <param name="Ports">The port, or a range to choose from; null leaves the port as it is.</param>
    public sealed record Dnat(IpAddress? First, IpAddress? Last, PortRange? Ports) : RuleTarget;

    /// <summary><c>REDIRECT</c>: to this node itself, at the address of the interface it came in by (127.0.0.1 for its own packets).</summary>
    /// <param name="Ports">The port, or a range to choose from; null leaves the port as it is.</param>
    public sealed record Redirect(PortRange? Ports) : RuleTarget;

    /// <summary><c>SNAT</c>: another source.</summary>
    /// <param name="First">The address, or the lowest of a range.</param>
    public sealed record Snat(IpAddress First) : RuleTarget;

    /// <summary><c>MASQUERADE</c>: the address of the interface it leaves by becomes its source.</summary>
    /// <param name="RandomFully">Whether the source port is random (<c>--random-fully</c>), which avoids the insert race of parallel requests.</param>
    public sealed record Masquerade(bool RandomFully) : RuleTarget;

    /// <summary><c>MARK --set-xmark</c>: the mark becomes <c>(mark &amp; ~Mask) ^ Value</c>.</summary>
    /// <param name="Value">The bits to flip in.</param>
    /// <param name="Mask">The bits to clear first.</param>
    public sealed record SetMark(uint Value, uint Mask) : RuleTarget;

    /// <summary><c>CONNMARK</c>: copies between the packet's mark and the connection's, or sets the latter.</summary>
    /// <param name="Operation">Which of these.</param>
    /// <param name="Value">The bits to flip in, for setting.</param>
    /// <param name="ConnectionMask">The connection's bits concerned.</param>
    /// <param name="PacketMask">The packet's bits concerned.</param>
    public sealed record ConnectionMark(ConnectionMarkOperation Operation, uint Value, uint ConnectionMask, uint PacketMask) : RuleTarget;

    /// <summary><c>CT</c>, <c>NOTRACK</c>: how the connection is tracked.</summary>
    /// <param name="NoTrack">Whether it is not tracked, and so never translated.</param>
    /// <param name="Text">The target's words as the dump has them.</param>
    public sealed record Track(bool NoTrack, string Text) : RuleTarget;

    /// <summary>nft: the target that a map has for the packet's fields (<c>vmap</c>, <c>dnat to … map</c>); the rule does nothing when it has none.</summary>
    /// <param name="Fields">The fields, in the order of the map's elements.</param>
    /// <param name="Map">The map, each element with its target.</param>
    public sealed record Lookup(ImmutableArray<PacketField> Fields, MatchSet Map) : RuleTarget;

    /// <summary>
    /// nft: a target chosen by dice (<c>numgen</c>), or by a hash of the packet, which seen from outside is the same. Shares that sum to less
    /// than 1 leave the rest to the next rule.
    /// </summary>
    /// <param name="Choices">The targets, each with how likely it is, 0 to 1.</param>
    public sealed record OneOf(ImmutableArray<Choice> Choices) : RuleTarget;

    /// <summary>IPVS looks for a virtual server that takes the packet, and chooses a real server of it; without one the packet goes on.</summary>
    /// <param name="Table">The virtual servers.</param>
    public sealed record Schedule(IpvsTable Table) : RuleTarget;

    /// <summary><c>LOG</c>, <c>NFLOG</c>, <c>TRACE</c>, <c>TCPMSS</c>, <c>DSCP</c>, <c>SET</c> and others after which the walk goes on as if they were not there.</summary>
    /// <param name="Text">The target's words as the dump has them.</param>
    public sealed record PassOn(string Text) : RuleTarget;
}

/// <summary>One of the targets of <see cref="RuleTarget.OneOf"/>.</summary>
/// <param name="Share">How likely it is, 0 to 1.</param>
/// <param name="Target">What happens then.</param>
public readonly record struct Choice(double Share, RuleTarget Target);

/// <summary>What a <see cref="RuleTarget.ConnectionMark"/> does.</summary>
public enum ConnectionMarkOperation
{
    /// <summary><c>--set-xmark</c>: sets the connection's mark.</summary>
    Set,

    /// <summary><c>--save-mark</c>: from the packet to the connection.</summary>
    Save,

    /// <summary><c>--restore-mark</c>: from the connection to the packet.</summary>
    Restore,
}
