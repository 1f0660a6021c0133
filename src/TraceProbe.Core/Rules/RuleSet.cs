using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Rules;

/// <summary>Which kernel interface a set of rules came through. A node can have all of them; then all apply.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<RuleBackend>))]
public enum RuleBackend
{
    /// <summary>ip_tables / ip6_tables (iptables-legacy).</summary>
    Legacy,

    /// <summary>nf_tables through iptables-nft.</summary>
    Nft,

    /// <summary>nf_tables itself: tables that <c>nft</c>, kube-proxy's nftables mode, firewalld and others made.</summary>
    Nftables,

    /// <summary>IPVS, whose virtual servers take packets at two hooks.</summary>
    Ipvs,
}

/// <summary>The rules of one address family and one backend, as one dump gives them. Immutable.</summary>
/// <param name="Backend">Where they came from.</param>
/// <param name="IsIPv6">Whether they are those that IPv6 packets meet.</param>
/// <param name="Tables">The tables, by name.</param>
public sealed record RuleSet(RuleBackend Backend, bool IsIPv6, ImmutableSortedDictionary<string, RuleTable> Tables)
{
    /// <summary>What the dump says about itself beyond its rules, such as <c># Warning: iptables-legacy tables present</c>.</summary>
    public ImmutableArray<string> Notes { get; init; } = [];

    /// <summary>The ipsets that rules ask with <c>-m set</c>, by name; null when they were not read.</summary>
    public IReadOnlyDictionary<string, IpSet>? IpSets { get; init; }

    /// <summary>The virtual servers behind the rules of <see cref="RuleBackend.Ipvs"/>; null for other backends.</summary>
    public IpvsTable? Ipvs { get; init; }

    /// <summary>Reads a dump of iptables-save or ip6tables-save, of either variant.</summary>
    /// <exception cref="FormatException">The text is no such dump; the message names the line.</exception>
    public static RuleSet Parse(Node.RuleDump dump)
    {
        ArgumentNullException.ThrowIfNull(dump);
        return Named(dump, text => IptablesSave.Parse(text, dump.Tool));
    }

    /// <summary>
    /// Reads all dumps of a node: those of iptables-save and ip6tables-save; that of nft (<see cref="Node.RuleDump.Tool"/> <c>nft</c>), of which the tables that
    /// iptables-nft-save showed are left out, and which has what iptables-nft-save cannot show (<c># Table `filter' is incompatible</c>); that of <c>ipset</c>, whose
    /// sets the others' rules ask; that of <c>ipvsadm</c>.
    /// </summary>
    /// <param name="dumps">The dumps.</param>
    /// <param name="sysctls">The node's sysctls, of which <c>net.ipv4.vs.conntrack</c> matters here; null when not known.</param>
    /// <exception cref="FormatException">A dump is malformed.</exception>
    public static ImmutableArray<RuleSet> ParseAll(IEnumerable<Node.RuleDump> dumps, IReadOnlyDictionary<string, string>? sysctls = null)
    {
        ArgumentNullException.ThrowIfNull(dumps);
        var all = dumps.ToLookup(d => d.Tool is "nft" or "ipset" or "ipvsadm" ? d.Tool : "");
        var sets = ImmutableArray.CreateBuilder<RuleSet>();
        sets.AddRange(all[""].Select(Parse));
        var shown = sets.Where(s => s.Backend == RuleBackend.Nft).SelectMany(s => s.Tables.Keys.Select(t => $"{(s.IsIPv6 ? "ip6" : "ip")} {t}")).ToHashSet(StringComparer.Ordinal);
        foreach (var dump in all["nft"])
        {
            sets.AddRange(NftRuleset.Parse(dump.Text, shown));
        }

        foreach (var dump in all["ipset"])
        {
            var ipsets = Named(dump, IpSetSave.Parse).ToDictionary(s => s.Name, StringComparer.Ordinal);
            for (var i = 0; i < sets.Count; i++)
            {
                sets[i] = sets[i] with { IpSets = ipsets };
            }
        }

        foreach (var dump in all["ipvsadm"])
        {
            var ipvs = Named(dump, IpvsadmSave.Parse) with
            {
                IsTracked = sysctls?.GetValueOrDefault("net.ipv4.vs.conntrack") switch
                {
                    "0" => false,
                    null => null,
                    _ => true,
                },
            };
            sets.Add(ipvs.AsRuleSet(false));
            sets.Add(ipvs.AsRuleSet(true));
        }

        return sets.ToImmutable();
    }

    private static T Named<T>(Node.RuleDump dump, Func<string, T> parse)
    {
        try
        {
            return parse(dump.Text);
        }
        catch (FormatException e)
        {
            throw new FormatException($"{dump.Tool}: {e.Message}", e);
        }
    }

    /// <summary>The table of that name, or null.</summary>
    public RuleTable? Table(string name) => Tables.GetValueOrDefault(name);
}

/// <summary>
/// One table: <c>raw</c>, <c>mangle</c>, <c>nat</c>, <c>filter</c>, <c>security</c> of iptables, or one of nftables with its family before its
/// name, such as <c>ip kube-proxy</c>.
/// </summary>
/// <param name="Name">Its name.</param>
/// <param name="Chains">Its chains, by name; never changed. (Tens of thousands of them: an immutable dictionary takes many times as long to build.)</param>
public sealed record RuleTable(string Name, IReadOnlyDictionary<string, RuleChain> Chains)
{
    /// <summary>Its named sets and maps, by name; iptables has none.</summary>
    public IReadOnlyDictionary<string, MatchSet> Sets { get; init; } = ImmutableDictionary<string, MatchSet>.Empty;

    /// <summary>The chain of that name, or null.</summary>
    public RuleChain? Chain(string name) => Chains.GetValueOrDefault(name);
}

/// <summary>One chain with its rules in order.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Policy">The policy of a base chain (built-in, in iptables' words), <c>ACCEPT</c> or <c>DROP</c>; null for the others.</param>
/// <param name="Rules">The rules in order.</param>
public sealed record RuleChain(string Name, string? Policy, ImmutableArray<Rule> Rules)
{
    /// <summary>Where packets meet it by themselves; null for chains that rules lead to.</summary>
    public BaseHook? Hook { get; init; }

    /// <summary>The number nftables gave it when it was made; 0 for chains of iptables.</summary>
    public long Handle { get; init; }
}

/// <summary>A place in a packet's way where the kernel asks rules (<c>enum nf_inet_hooks</c>, include/uapi/linux/netfilter.h).</summary>
public enum Hook
{
    /// <summary>It came in, and its destination was not looked up yet.</summary>
    Prerouting,

    /// <summary>It is for the node itself.</summary>
    Input,

    /// <summary>It came in and goes out.</summary>
    Forward,

    /// <summary>The node sends it.</summary>
    Output,

    /// <summary>It is about to go out.</summary>
    Postrouting,

    /// <summary>Beneath the Internet protocol: at an interface (<c>ingress</c>, <c>egress</c>), in a bridge, among ARP packets. Not walked.</summary>
    Link,
}

/// <summary>Where a base chain stands in a packet's way.</summary>
/// <param name="Hook">The hook.</param>
/// <param name="Priority">The chains of a hook are met lowest priority first (<c>enum nf_ip_hook_priorities</c>).</param>
/// <param name="Translates">Whether it is of type <c>nat</c>: only a connection's first packet meets it, until one of its like has translated.</param>
public sealed record BaseHook(Hook Hook, int Priority, bool Translates);

/// <summary>One rule: parsed matches, target, and the raw text that people will look for.</summary>
/// <param name="Table">The table's name.</param>
/// <param name="Chain">The chain's name; for an element of a verdict map the map's, with an <c>@</c> before it.</param>
/// <param name="Position">The position in the chain, from 1, as <c>iptables -L --line-numbers</c> counts.</param>
/// <param name="Text">The rule as the dump has it, from <c>-A</c> on, counters left out; of nftables as <c>nft list ruleset</c> prints it. A part of the dump where it can be: few are ever shown.</param>
/// <param name="Matches">What a packet must be, all of it.</param>
/// <param name="Target">What happens then; null for rules that only count.</param>
/// <param name="Packets">Packets counted; null when the dump has no counters.</param>
public sealed record Rule(string Table, string Chain, int Position, ReadOnlyMemory<char> Text, ImmutableArray<RuleMatch> Matches, RuleTarget? Target, long? Packets)
{
    /// <summary>Its text as a string, made anew each time unless it is one.</summary>
    public string Raw => Text.ToString();

    /// <summary>The number nftables knows it by (<c>nft delete rule … handle</c>); 0 for rules of iptables.</summary>
    public long Handle { get; init; }

    /// <summary>The text of the <c>comment</c> match, or null.</summary>
    [JsonIgnore]
    public string? Comment => Matches.OfType<RuleMatch.Commented>().FirstOrDefault()?.Text;

    /// <inheritdoc/>
    public override string ToString() => Raw;
}
