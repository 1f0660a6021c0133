using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// The rules that the request's first packet should have met on its nodes, by the walk, beside those whose counters moved while the request was
/// under way; and what connection tracking keeps of it there.
/// </summary>
internal sealed class RulesMet
{
    private readonly Case _c;
    private readonly Connection? _connection;

    public RulesMet(Case c)
    {
        _c = c;
        // Where the request never came so far, the last lookup is what failed.
        _connection = c.Main ?? c.Lookups.LastOrDefault()?.Connection;
    }

    /// <summary>What to ask the nodes of the connection once more.</summary>
    public ImmutableArray<NodeQuestion> Questions() => [.. Passages().Select(p => new NodeQuestion(p.Node.Name, [p.Tuple], [.. p.Rules.Where(r => r.Before is not null).Select(r => r.Before!)]))];

    /// <summary>The rules with what they counted; null when no node was asked again.</summary>
    public ImmutableArray<CountedRule>? Counted()
    {
        if (_c.Recording.Nodes.All(n => n.Counts is null))
        {
            return null;
        }

        var counted = ImmutableArray.CreateBuilder<CountedRule>();
        foreach (var passage in Passages())
        {
            foreach (var rule in passage.Rules)
            {
                var packets = rule.Before is null ? null : passage.Node.Counts?.FirstOrDefault(rule.Before.IsOfSameRule)?.Packets - rule.Before.Packets;
                if (passage.Node.Counts is not null && (rule.IsExpected || packets > 0))
                {
                    counted.Add(new CountedRule($"node/{passage.Node.Name}", rule.Rule, rule.IsExpected, packets));
                }
            }
        }

        return counted.ToImmutable();
    }

    /// <summary>Where the counters say otherwise than the walk.</summary>
    public static IEnumerable<Evidence> Disagreements(ImmutableArray<CountedRule> counted)
    {
        foreach (var rule in counted)
        {
            if (rule is { IsExpected: true, Counted: 0 })
            {
                yield return new Evidence(EvidenceSource.Observed, $"{rule.Rule.Where} counted no packet, though by the rules this one should have met it: {rule.Rule.Raw}", Place: rule.Place);
            }
            else if (!rule.IsExpected)
            {
                yield return new Evidence(EvidenceSource.Observed, $"{rule.Rule.Where} counted {Packets(rule.Counted ?? 0)} meanwhile, though by the rules this one should not have met it: {rule.Rule.Raw}", Place: rule.Place);
            }
        }
    }

    /// <summary>What connection tracking kept of the connection, on each of its nodes that was asked.</summary>
    public IEnumerable<Evidence> Tracked()
        => _connection is null ? [] : _c.Recording.Nodes.SelectMany(n => n.Conntrack.Where(e => e.Original == _connection.Asked || e.Original == _connection.Translated)
            .Select(e => new Evidence(EvidenceSource.Observed, $"connection tracking has {e}", Place: $"node/{n.Name}")));

    public static string Packets(long count) => string.Create(CultureInfo.InvariantCulture, $"{count} packet{(count == 1 ? "" : "s")}");

    private sealed record Passage(NodeAccount Node, FiveTuple Tuple, ImmutableArray<MetRule> Rules);

    private sealed record MetRule(RuleRef Rule, bool IsExpected, RuleCount? Before);

    private IEnumerable<Passage> Passages()
    {
        if (_connection is not { } connection)
        {
            yield break;
        }

        if (_c.ClientNodeAccount is { } first)
        {
            yield return Pass(first, connection, _c.ClientPlace?.Kind == PlaceKind.Node);
        }

        // The node of the pod, when the packet was seen to come there.
        var last = _c.NodeCalled(_c.NetNsOf(connection.Backend.Address) is { } pod ? _c.PlaceOf(pod)?.Node : null);
        if (last is not null && last.Name != _c.ClientNodeAccount?.Name && connection.Sightings.Any(s => s.Forward && s.Event.NetNs == last.NetNs))
        {
            yield return Pass(last, connection with { Asked = connection.Translated ?? connection.Asked, Translated = null }, fromNode: false);
        }
    }

    // The connection as it came to the node.
    private Passage Pass(NodeAccount node, Connection connection, bool fromNode)
    {
        var tuple = connection.Asked;
        var rules = _c.RulesOf(node, !tuple.Destination.Address.IsIPv4);
        var walk = rules.Walk(Case.PacketAt(rules, tuple, fromNode));
        var expected = ExpectedSteps(walk, node, connection);
        var met = expected.Select(s => new MetRule(RuleRef.Of(s, rules.IsIPv6), true, CountOf(rules, s.Backend, s.Rule))).ToList();
        var onWay = expected.Select(s => s.Rule).ToHashSet(ReferenceEqualityComparer.Instance);

        // What else could have ended it: the rules of the chains it came through that end packets, as far as their addresses allow.
        foreach (var (backend, table, chain) in ChainsOn(walk, rules))
        {
            met.AddRange(chain.Rules.Where(r => r.Target is RuleTarget.Drop or RuleTarget.Reject && r.Packets is not null && !onWay.Contains(r) && CouldBeFor(r, connection))
                .Select(r => new MetRule(RuleRef.Of(r, RuleRef.ToolOf(backend, rules.IsIPv6)), false, new RuleCount(backend, rules.IsIPv6, table, chain.Name, r.Position, chain.Rules.Length, r.Packets ?? 0))));
        }

        return new Passage(node, tuple, [.. met]);
    }

    // The way that the packet really took, where one of the walk's is it; else what all ways have in common.
    private static ImmutableArray<WalkStep> ExpectedSteps(WalkResult walk, NodeAccount node, Connection connection)
    {
        if (walk.Outcome == WalkOutcome.Undecided)
        {
            return [];
        }

        var dropped = connection.Drops.Any(d => d.Forward && d.Event.NetNs == node.NetNs && d.Event.DropReason == "NETFILTER_DROP");
        var rejected = connection.Outcome == ConnectionOutcome.Rejected && connection.AnsweredInNetNs == node.NetNs;
        var branch = connection.Translated is { Destination: var backend } ? walk.BranchTo(backend) ?? walk.Branches.FirstOrDefault(b => b.IsRedirect && b.Backend?.Port == backend.Port)
            : walk.Branches.FirstOrDefault(b => b.Outcome == (rejected ? WalkOutcome.Rejected : dropped ? WalkOutcome.Dropped : WalkOutcome.Untranslated));
        var steps = (branch ?? walk.Branches[0]).Steps;
        return [.. (branch is not null ? steps : steps.Where(s => walk.Branches.All(b => b.Steps.Any(t => ReferenceEquals(t.Rule, s.Rule))))).DistinctBy(s => s.Rule, ReferenceEqualityComparer.Instance)];
    }

    private static RuleCount? CountOf(ProxyRules rules, RuleBackend backend, Rule rule)
        => rule.Packets is { } packets && TableOf(rules, backend, rule.Table)?.Chain(rule.Chain) is { } chain ? new RuleCount(backend, rules.IsIPv6, rule.Table, rule.Chain, rule.Position, chain.Rules.Length, packets) : null;

    private static RuleTable? TableOf(ProxyRules rules, RuleBackend backend, string table) => rules.Sets.Where(s => s.Backend == backend).Select(s => s.Table(table)).FirstOrDefault(t => t is not null);

    private static IEnumerable<(RuleBackend Backend, string Table, RuleChain Chain)> ChainsOn(WalkResult walk, ProxyRules rules)
    {
        var seen = new HashSet<RuleChain>(ReferenceEqualityComparer.Instance);
        foreach (var step in walk.Branches.SelectMany(b => b.Steps))
        {
            var table = TableOf(rules, step.Backend, step.Rule.Table);
            foreach (var chain in new[] { table?.Chain(step.Rule.Chain), step.Rule.Target is RuleTarget.Jump jump ? table?.Chain(jump.Chain) : null })
            {
                if (chain is not null && seen.Add(chain))
                {
                    yield return (step.Backend, step.Rule.Table, chain);
                }
            }
        }
    }

    private static bool CouldBeFor(Rule rule, Connection connection)
    {
        var (asked, became) = (connection.Asked, connection.Translated ?? connection.Asked);
        return rule.Matches.All(m => m switch
        {
            RuleMatch.Destination to => to.Network.Contains(asked.Destination.Address) != to.Negated || to.Network.Contains(became.Destination.Address) != to.Negated,
            RuleMatch.Source from => from.Network.Contains(asked.Source.Address) != from.Negated || from.Network.Contains(became.Source.Address) != from.Negated,
            RuleMatch.Protocol protocol => protocol.Value == asked.Protocol != protocol.Negated,
            _ => true,
        });
    }
}
