using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Rules;

/// <summary>Which kernel interface a set of rules came through. A node can have both; then both apply.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<RuleBackend>))]
public enum RuleBackend
{
    /// <summary>ip_tables / ip6_tables (iptables-legacy).</summary>
    Legacy,

    /// <summary>nf_tables through iptables-nft.</summary>
    Nft,
}

/// <summary>The rules of one address family and one backend, as one dump gives them. Immutable.</summary>
/// <param name="Backend">Where they came from.</param>
/// <param name="IsIPv6">Whether they are ip6tables' rules.</param>
/// <param name="Tables">The tables, by name.</param>
public sealed record RuleSet(RuleBackend Backend, bool IsIPv6, ImmutableSortedDictionary<string, RuleTable> Tables)
{
    /// <summary>What the dump says about itself beyond its rules, such as <c># Warning: iptables-legacy tables present</c>.</summary>
    public ImmutableArray<string> Notes { get; init; } = [];

    /// <summary>Reads a dump of iptables-save or ip6tables-save, of either variant.</summary>
    /// <exception cref="FormatException">The text is no such dump; the message names the line.</exception>
    public static RuleSet Parse(Node.RuleDump dump)
    {
        ArgumentNullException.ThrowIfNull(dump);
        try
        {
            return IptablesSave.Parse(dump.Text, dump.Tool);
        }
        catch (FormatException e)
        {
            throw new FormatException($"{dump.Tool}: {e.Message}", e);
        }
    }

    /// <summary>The table of that name, or null.</summary>
    public RuleTable? Table(string name) => Tables.GetValueOrDefault(name);
}

/// <summary>One table: <c>raw</c>, <c>mangle</c>, <c>nat</c>, <c>filter</c>, <c>security</c>.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Chains">Its chains, by name; never changed. (Tens of thousands of them: an immutable dictionary takes many times as long to build.)</param>
public sealed record RuleTable(string Name, IReadOnlyDictionary<string, RuleChain> Chains)
{
    /// <summary>The chain of that name, or null.</summary>
    public RuleChain? Chain(string name) => Chains.GetValueOrDefault(name);
}

/// <summary>One chain with its rules in order.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Policy">The policy of a built-in chain, <c>ACCEPT</c> or <c>DROP</c>; null for user-defined chains.</param>
/// <param name="Rules">The rules in order.</param>
public sealed record RuleChain(string Name, string? Policy, ImmutableArray<Rule> Rules);

/// <summary>One rule: parsed matches, target, and the raw text that people will look for.</summary>
/// <param name="Table">The table's name.</param>
/// <param name="Chain">The chain's name.</param>
/// <param name="Position">The position in the chain, from 1, as <c>iptables -L --line-numbers</c> counts.</param>
/// <param name="Raw">The rule as the dump has it, from <c>-A</c> on, counters left out.</param>
/// <param name="Matches">What a packet must be, all of it.</param>
/// <param name="Target">What happens then; null for rules that only count.</param>
/// <param name="Packets">Packets counted; null when the dump has no counters.</param>
public sealed record Rule(string Table, string Chain, int Position, string Raw, ImmutableArray<RuleMatch> Matches, RuleTarget? Target, long? Packets)
{
    /// <summary>The text of the <c>comment</c> match, or null.</summary>
    [JsonIgnore]
    public string? Comment => Matches.OfType<RuleMatch.Commented>().FirstOrDefault()?.Text;

    /// <inheritdoc/>
    public override string ToString() => Raw;
}
