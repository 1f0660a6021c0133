using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

// kube-proxy's nftables mode: a table kube-proxy per family, whose chains look Services up in maps (pkg/proxy/nftables/proxier.go).
public sealed partial class ProxyRules
{
    // NFT_NAME_MAXLEN of include/uapi/linux/netfilter/nf_tables.h, less what kube-proxy keeps for its prefixes.
    private const int LongestNftablesName = 256 - 16;

    private static string NameOfNftables(bool isIPv6) => isIPv6 ? "ip6 kube-proxy" : "ip kube-proxy";

    private static RuleTable? NftablesOf(ImmutableArray<RuleSet> sets, bool isIPv6)
        => sets.Where(s => s.Backend == RuleBackend.Nftables).Select(s => s.Table(NameOfNftables(isIPv6))).FirstOrDefault(t => t is not null);

    // How many addresses and ports the chain's maps have, NodePorts apart.
    private static int Elements(RuleTable table, string chain)
        => table.Chain(chain)?.Rules.Select(r => r.Target).OfType<RuleTarget.Lookup>().Where(l => l.Fields.Contains(PacketField.DestinationAddress)).Sum(l => l.Map.Elements.Length) ?? 0;

    private static bool LeadsToServices(RuleTable table, Hook hook)
        => table.Chain("services") is { } services && services.Rules.Any(r => r.Target is RuleTarget.Lookup)
            && table.Chains.Values.Any(c => c.Hook?.Hook == hook && JumpsToServices(c).Any());

    private static IEnumerable<Rule> JumpsToServices(RuleTable table) => table.Chains.Values.SelectMany(JumpsToServices);

    private static IEnumerable<Rule> JumpsToServices(RuleChain chain)
        => chain.Hook is { Translates: true } ? chain.Rules.Where(r => r.Target is RuleTarget.Jump { Chain: "services" }) : [];

    // The elements for an address and port of the maps that a chain's rules ask.
    private static ImmutableArray<Rule> ElementsFor(RuleTable table, string chain, AddressPort address, IpProtocol protocol)
    {
        var found = ImmutableArray.CreateBuilder<Rule>();
        foreach (var rule in table.Chain(chain)?.Rules ?? [])
        {
            if (rule.Target is RuleTarget.Lookup lookup && Concerns(rule, address.Address) && ElementFor(lookup, address, protocol) is { } element)
            {
                found.Add(element);
            }
        }

        return found.ToImmutable();
    }

    private static Rule? ElementFor(RuleTarget.Lookup lookup, AddressPort address, IpProtocol protocol)
    {
        var key = new FieldValue[lookup.Fields.Length];
        for (var i = 0; i < key.Length; i++)
        {
            switch (lookup.Fields[i])
            {
                case PacketField.DestinationAddress:
                    key[i] = FieldValue.Of(address.Address);
                    break;
                case PacketField.Protocol:
                    key[i] = FieldValue.Of((uint)protocol);
                    break;
                case PacketField.DestinationPort:
                    key[i] = FieldValue.Of(address.Port);
                    break;
                default:
                    return null;
            }
        }

        return lookup.Map.Find(key)?.AsRule(lookup);
    }

    // ip daddr @nodeport-ips
    private static bool Concerns(Rule rule, IpAddress address) => rule.Matches.All(m => m switch
    {
        RuleMatch.Destination destination => destination.Network.Contains(address) != destination.Negated,
        RuleMatch.Lookup { Fields: [PacketField.DestinationAddress] } lookup => lookup.Set.Find([FieldValue.Of(address)]) is not null != lookup.Negated,
        _ => true,
    });
}
