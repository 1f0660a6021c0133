using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>A rule (or an element of a verdict map) of kube-proxy that is about one address and port.</summary>
/// <param name="Kind">What the chain is for that it stands in.</param>
/// <param name="Address">The Service's address; null for a node port.</param>
/// <param name="Port">The port.</param>
/// <param name="Protocol">The protocol.</param>
/// <param name="LeadsTo">The chain it leads to; null when it leads to none.</param>
/// <param name="Name">Makes how reports name it, which few are.</param>
internal sealed record ProxyEntry(ProxyChain Kind, IpAddress? Address, ushort Port, IpProtocol Protocol, string? LeadsTo, Func<RuleRef> Name)
{
    /// <summary>How reports name it.</summary>
    public RuleRef Rule => field ??= Name();
}

/// <summary>kube-proxy's rules of one family by the address and port that they are about.</summary>
internal sealed class ProxyEntries
{
    private readonly ILookup<(IpAddress?, ushort, IpProtocol), ProxyEntry> _byAddress;

    public ProxyEntries(IEnumerable<RuleSet> sets)
    {
        All = [.. sets.SelectMany(s => s.Tables.Values.SelectMany(t => Of(s, t)))];
        _byAddress = All.ToLookup(e => (e.Address, e.Port, e.Protocol));
    }

    /// <summary>All of them.</summary>
    public IReadOnlyList<ProxyEntry> All { get; }

    /// <summary>Those about an address and port; of a node port with <paramref name="isNodePort"/>, whatever the address.</summary>
    public IEnumerable<ProxyEntry> For(AddressPort at, IpProtocol protocol, bool isNodePort) => _byAddress[(isNodePort ? null : at.Address, at.Port, protocol)];

    private static IEnumerable<ProxyEntry> Of(RuleSet set, RuleTable table)
    {
        var tool = RuleRef.ToolOf(set.Backend, set.IsIPv6);
        foreach (var chain in table.Chains.Values)
        {
            if (ProxyChains.Of(table.Name, chain.Name) is ProxyChain.Entry or ProxyChain.NoEndpoints or ProxyChain.Firewall or ProxyChain.Portal)
            {
                foreach (var rule in chain.Rules)
                {
                    if (Of(rule, tool) is { } entry)
                    {
                        yield return entry;
                    }
                }
            }
        }

        foreach (var map in table.Sets.Values)
        {
            var kind = ProxyChains.Of(table.Name, $"@{map.Name}");
            if (kind is not (ProxyChain.Entry or ProxyChain.NoEndpoints or ProxyChain.Firewall))
            {
                continue;
            }

            foreach (var element in map.Elements)
            {
                if (Of(map, element, kind, tool) is { } entry)
                {
                    yield return entry;
                }
            }
        }
    }

    private static ProxyEntry? Of(Rule rule, string tool)
    {
        IpAddress? address = null;
        ushort? port = null;
        var protocol = IpProtocol.None;
        var local = false;
        foreach (var match in rule.Matches)
        {
            switch (match)
            {
                case RuleMatch.Destination { Negated: false } destination when destination.Network.PrefixLength == destination.Network.Address.Width:
                    address = destination.Network.Address;
                    break;
                case RuleMatch.Destination { Negated: false }:
                    // KUBE-NODEPORTS has a second rule for 127.0.0.0/8, which counts.
                    return null;
                case RuleMatch.Port { Side: PortSide.Destination, Negated: false, Ranges: [var range] } when range.First == range.Last:
                    port = range.First;
                    break;
                case RuleMatch.Protocol { Negated: false } wanted:
                    protocol = wanted.Value;
                    break;
                case RuleMatch.AddressType { OfSource: false, Negated: false, Types: ["LOCAL"] }:
                    local = true;
                    break;
            }
        }

        var isNodePort = rule.Chain == "KUBE-NODEPORTS" || rule.Chain.StartsWith("KUBE-NODEPORT-", StringComparison.Ordinal) || local && address is null;
        var mark = rule.Target is RuleTarget.Jump jump ? jump.Chain : null;
        return port is not { } known || rule.Target is null or RuleTarget.Jump { Chain: "KUBE-MARK-MASQ" } || address is null && !isNodePort ? null
            : new ProxyEntry(ProxyChains.Of(rule.Table, rule.Chain), address, known, protocol, mark, () => RuleRef.Of(rule, tool));
    }

    // 10.96.0.10 . tcp . 53 : goto …, or tcp . 30080 : goto … for node ports.
    private static ProxyEntry? Of(MatchSet map, SetElement element, ProxyChain kind, string tool)
    {
        var fields = element.First;
        var at = map.Types is [FieldType.Address, ..] ? 1 : 0;
        if (!element.IsExact || fields.Length != at + 2 || map.Types[at] != FieldType.Protocol || map.Types[at + 1] != FieldType.Port)
        {
            return null;
        }

        return new ProxyEntry(kind, at == 1 ? IpAddress.FromIPv6(fields[0].High, fields[0].Low) : null, (ushort)fields[at + 1].Low, (IpProtocol)fields[at].Low,
            element.Target is RuleTarget.Jump jump ? jump.Chain : null,
            () => new RuleRef { Tool = tool, Table = map.Table, Chain = $"@{map.Name}", Position = element.Position, Raw = map.TextOf(element), Owner = "kube-proxy" });
    }
}
