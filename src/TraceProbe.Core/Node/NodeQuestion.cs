using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Node;

/// <summary>What is worth asking a node once more when a request is over: what its rules counted, and what connection tracking made of the request.</summary>
/// <param name="Node">The node's name.</param>
/// <param name="Connections">The connections to look up, as they came to the node.</param>
/// <param name="Counts">The rules whose counters matter, each with what it had counted before.</param>
public sealed record NodeQuestion(string Node, ImmutableArray<FiveTuple> Connections, ImmutableArray<RuleCount> Counts)
{
    /// <summary>Whether kube-proxy is to be asked about itself.</summary>
    public bool AsksKubeProxy { get; init; }

    /// <summary>kube-proxy's process, as it was found before the request; null when none was.</summary>
    public ProcessRef? KubeProxy { get; init; }

    /// <summary>What the cluster's objects say that all kube-proxies are told; null when they do not.</summary>
    public KubeProxySettings? KubeProxyTold { get; init; }
}

/// <summary>What a node answered to a <see cref="NodeQuestion"/>.</summary>
/// <param name="Counts">What the rules have counted now; those of chains that changed meanwhile are left out.</param>
/// <param name="Conntrack">The entries of the connections that are tracked.</param>
/// <param name="Unread">What could not be read, and why.</param>
public sealed record NodeAnswer(ImmutableArray<RuleCount> Counts, ImmutableArray<ConntrackEntry> Conntrack, ImmutableArray<Unread> Unread)
{
    /// <summary>What kube-proxy said; null when it was not asked.</summary>
    public KubeProxyAccount? KubeProxySaid { get; init; }
}

/// <summary>What one rule has counted.</summary>
/// <param name="Backend">The kernel interface that the rule came through.</param>
/// <param name="IsIPv6">Whether packets of IPv6 meet it.</param>
/// <param name="Table">Its table, as <see cref="Rule.Table"/> names it.</param>
/// <param name="Chain">Its chain.</param>
/// <param name="Position">Its place in the chain, from 1.</param>
/// <param name="Of">How many rules the chain has: with another number it is not the chain that it was.</param>
/// <param name="Packets">Packets counted since the rule was made.</param>
public sealed record RuleCount(RuleBackend Backend, bool IsIPv6, string Table, string Chain, int Position, int Of, long Packets)
{
    /// <summary>Whether another is of the same rule, at another time.</summary>
    public bool IsOfSameRule(RuleCount other) => other is not null && this with { Packets = other.Packets } == other;
}
