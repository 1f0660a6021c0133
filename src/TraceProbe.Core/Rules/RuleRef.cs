using System.Globalization;

namespace TraceProbe.Core.Rules;

/// <summary>A rule as reports name it: one that is there, or one that should be.</summary>
public sealed record RuleRef
{
    /// <summary>Whether it should be there and is not; <see cref="Raw"/> is then how kube-proxy would write it.</summary>
    public bool IsMissing { get; init; }

    /// <summary>The command that shows its like: <c>iptables-legacy</c>, <c>ip6tables-nft</c>, <c>nft</c>, <c>ipvsadm</c>, <c>ipset</c>, …; null when not known.</summary>
    public string? Tool { get; init; }

    /// <summary>The table; <c>ipvs</c> for virtual servers, <c>ipset</c> for members of ipsets.</summary>
    public required string Table { get; init; }

    /// <summary>The chain; of an element of a verdict map the map's, with an <c>@</c> before it; of IPVS's the virtual server, of a member its set.</summary>
    public required string Chain { get; init; }

    /// <summary>The position in the chain, from 1; null when it is missing.</summary>
    public int? Position { get; init; }

    /// <summary>The rule as the dump has it.</summary>
    public required string Raw { get; init; }

    /// <summary>How many packets it counted; null when the dump has no counters.</summary>
    public long? Packets { get; init; }

    /// <summary>Whose it is, such as <c>kube-proxy</c> or <c>Calico</c>; null when nothing tells.</summary>
    public string? Owner { get; init; }

    /// <summary>Names a rule that is there.</summary>
    /// <param name="step">The rule, on a packet's way.</param>
    /// <param name="isIPv6">Whether the packet was one of IPv6.</param>
    public static RuleRef Of(WalkStep step, bool isIPv6) => Of(step.Rule, ToolOf(step.Backend, isIPv6));

    /// <summary>Names a rule that is there.</summary>
    /// <param name="rule">The rule.</param>
    /// <param name="tool">The command that shows it; null when not known.</param>
    public static RuleRef Of(Rule rule, string? tool)
    {
        ArgumentNullException.ThrowIfNull(rule);
        return new RuleRef
        {
            Tool = tool,
            Table = rule.Table,
            Chain = rule.Chain,
            Position = rule.Position,
            Raw = rule.Raw,
            Packets = rule.Packets,
            Owner = ProxyChains.OwnerOf(rule),
        };
    }

    /// <summary>The command for rules of a backend and a family.</summary>
    public static string ToolOf(RuleBackend backend, bool isIPv6) => backend switch
    {
        RuleBackend.Legacy => isIPv6 ? "ip6tables-legacy" : "iptables-legacy",
        RuleBackend.Nft => isIPv6 ? "ip6tables-nft" : "iptables-nft",
        RuleBackend.Ipvs => "ipvsadm",
        _ => "nft",
    };

    /// <summary>Where it is or should be, in words: <c>nat KUBE-SERVICES rule 7</c>, <c>ip kube-proxy @service-ips element 3</c>, <c>ipvs -t 10.96.0.1:443</c>.</summary>
    public string Where => Position is { } position && Table != "ipvs"
        ? string.Create(CultureInfo.InvariantCulture, $"{Table} {Chain} {(Chain.StartsWith('@') ? "element" : Table == "ipset" ? "member" : "rule")} {position}") : $"{Table} {Chain}";

    /// <inheritdoc/>
    public override string ToString() => IsMissing ? $"missing from {Where}: {Raw}" : $"{Where}: {Raw}";
}
