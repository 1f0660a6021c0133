using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json.Serialization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>
/// The way of one packet through a node's rules. This is the JSON of <c>traceprobe rules walk -o json</c>; its schema is
/// <c>walk.schema.json</c> beside this file, and a test holds the two together. New members may be added within a version.
/// </summary>
public sealed record WalkReport
{
    /// <summary>The version of this form.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The node whose rules they are; null when not known.</summary>
    public string? Node { get; init; }

    /// <summary>The packet, such as <c>TCP 10.244.1.5:40000 > 10.96.0.10:53</c>.</summary>
    public required string Packet { get; init; }

    /// <summary>Who sends it, in words.</summary>
    public required string From { get; init; }

    /// <summary>The interface it comes in by; null when the node sends it, or when not known.</summary>
    public string? InInterface { get; init; }

    /// <summary>How it ends.</summary>
    public required WalkOutcome Outcome { get; init; }

    /// <summary>Every way that it can take.</summary>
    public required ImmutableArray<WalkedWay> Ways { get; init; }

    /// <summary>Where session affinity can send a client that was here before.</summary>
    public ImmutableArray<WalkedAffinity> Affinity { get; init; } = [];

    /// <summary>What the outcome depends on and could not be told, in words.</summary>
    public ImmutableArray<string> Unknowns { get; init; } = [];

    /// <summary>What was taken for granted, in words.</summary>
    public ImmutableArray<string> Assumptions { get; init; } = [];

    /// <summary>Reports a walk.</summary>
    /// <param name="rules">The rules.</param>
    /// <param name="packet">The packet, the first of its connection.</param>
    /// <param name="from">Who sends it, in words.</param>
    /// <param name="cluster">The cluster's objects, for the names of pods.</param>
    /// <param name="node">The node's name; null when not known.</param>
    /// <param name="withReply">Whether the answers' ways back are walked too.</param>
    public static WalkReport Of(ProxyRules rules, VirtualPacket packet, string from, ClusterSnapshot cluster, string? node, bool withReply)
    {
        ArgumentNullException.ThrowIfNull(rules);
        ArgumentNullException.ThrowIfNull(packet);
        ArgumentNullException.ThrowIfNull(cluster);
        var result = rules.Walk(packet);
        var unknowns = result.Unknowns.ToList();
        var assumptions = result.Assumptions.ToList();
        var ways = ImmutableArray.CreateBuilder<WalkedWay>();
        foreach (var branch in result.Branches)
        {
            var way = Way(branch, cluster, rules.IsIPv6);
            if (withReply && branch.Leaves)
            {
                var reply = rules.Walk(packet.ReplyTo(branch));
                unknowns.AddRange(reply.Unknowns);
                assumptions.AddRange(reply.Assumptions);
                way = way with { Reply = [.. reply.Branches.Select(b => Way(b, cluster, rules.IsIPv6))] };
            }

            ways.Add(way);
        }

        return new WalkReport
        {
            Node = node,
            Packet = $"{packet.Tuple.Protocol.ToString().ToUpperInvariant()} {packet.Tuple}",
            From = from,
            InInterface = packet.InInterface,
            Outcome = result.Outcome,
            Ways = ways.ToImmutable(),
            Affinity = [.. result.Affinity.Select(a => new WalkedAffinity(a.Backend.ToString(), a.Seconds, RuleRef.Of(a.Rule, null)))],
            Unknowns = [.. unknowns.Distinct()],
            Assumptions = [.. assumptions.Distinct()],
        };
    }

    private static WalkedWay Way(WalkBranch branch, ClusterSnapshot cluster, bool isIPv6) => new()
    {
        Probability = branch.Probability,
        Outcome = branch.Outcome,
        Backend = branch.Backend?.ToString(),
        Pod = branch.Backend is { } backend && cluster.FindPodByAddress(backend.Address) is { } pod ? pod.Ref : null,
        Becomes = branch.Leaves ? branch.Tuple.ToString() : null,
        Masquerade = branch.Masquerade,
        RejectWith = branch.RejectWith,
        Policy = branch.Policy,
        Unknown = branch.Unknown,
        Steps = [.. branch.Steps.Select(s => new WalkedStep(s.Hook, RuleRef.Of(s, isIPv6), Did(s.Rule)))],
    };

    // What a rule that held did, in words.
    private static string Did(Rule rule)
    {
        var effects = rule.Matches.OfType<RuleMatch.Effect>().Select(e => Did(e.Target)).Where(w => w.Length > 0);
        var share = rule.Matches.OfType<RuleMatch.Statistic>().Select(s => string.Create(CultureInfo.InvariantCulture, $"for {100 * (s.Negated ? 1 - s.Probability : s.Probability):0.##} %")).ToList();
        var words = string.Join(", ", effects.Append(Did(rule.Target)).Where(w => w.Length > 0));
        return share.Count == 0 ? words : $"{words} {share[0]}";
    }

    private static string Did(RuleTarget? target) => target switch
    {
        null or RuleTarget.PassOn => "counts",
        RuleTarget.Jump jump => $"goes on in {jump.Chain}",
        RuleTarget.Accept => "accepts",
        RuleTarget.Drop => "drops",
        RuleTarget.Reject reject => $"rejects with {reject.With}",
        RuleTarget.Return => "returns",
        RuleTarget.Dnat { First: { } to } dnat => $"translates to {(dnat.Ports is { } ports ? new AddressPort(to, ports.First).ToString() : to.ToString())}",
        RuleTarget.Dnat => "translates the port",
        RuleTarget.Redirect => "redirects to the node itself",
        RuleTarget.Masquerade => "masquerades",
        RuleTarget.Snat snat => $"gives it the source {snat.First}",
        RuleTarget.SetMark { Mask: 0 } mark => $"flips 0x{mark.Value:x} in the mark",
        RuleTarget.SetMark mark => $"sets the mark 0x{mark.Value:x}",
        RuleTarget.ConnectionMark mark => mark.Operation switch
        {
            ConnectionMarkOperation.Save => "saves its mark with the connection",
            ConnectionMarkOperation.Restore => "restores its mark from the connection",
            _ => $"sets the connection's mark 0x{mark.Value:x}",
        },
        RuleTarget.Track { NoTrack: true } => "leaves it untracked",
        RuleTarget.Lookup lookup => lookup.Map.Name.Length == 0 ? "looks it up" : $"looks it up in @{lookup.Map.Name}",
        RuleTarget.OneOf dice => string.Create(CultureInfo.InvariantCulture, $"picks one of {dice.Choices.Length}"),
        RuleTarget.Unknown unknown => $"does {unknown.Text}",
        _ => "",
    };
}

/// <summary>One way that a packet can take.</summary>
public sealed record WalkedWay
{
    /// <summary>How likely the rules' dice take it, 0 to 1.</summary>
    public required double Probability { get; init; }

    /// <summary>How it ends.</summary>
    public required WalkOutcome Outcome { get; init; }

    /// <summary>The destination it was translated to; null when it was not.</summary>
    public string? Backend { get; init; }

    /// <summary>The pod there; null when none is known.</summary>
    public ObjectRef? Pod { get; init; }

    /// <summary>The packet as it goes on; null when it ends here. A source that is masqueraded is still its own.</summary>
    public string? Becomes { get; init; }

    /// <summary>Whether its source becomes the node's.</summary>
    public bool Masquerade { get; init; }

    /// <summary>How the sender is told, when it is rejected.</summary>
    public string? RejectWith { get; init; }

    /// <summary>The policy that dropped it, when no rule did.</summary>
    public string? Policy { get; init; }

    /// <summary>Why it is undecided; null when it is decided.</summary>
    public string? Unknown { get; init; }

    /// <summary>The rules that matched, in order.</summary>
    public required ImmutableArray<WalkedStep> Steps { get; init; }

    /// <summary>The ways of the answer; empty when they were not asked for, or when there is none.</summary>
    public ImmutableArray<WalkedWay> Reply { get; init; } = [];
}

/// <summary>One rule that matched a packet.</summary>
/// <param name="Hook">Where in the packet's way.</param>
/// <param name="Rule">The rule.</param>
/// <param name="Did">What it did, in words.</param>
public sealed record WalkedStep([property: JsonConverter(typeof(JsonStringEnumConverter<Hook>))] Hook Hook, RuleRef Rule, string Did);

/// <summary>A destination to which session affinity sends a client again.</summary>
/// <param name="Backend">Where to.</param>
/// <param name="Seconds">For how long; null when without end, or not told.</param>
/// <param name="Rule">The rule.</param>
public sealed record WalkedAffinity(string Backend, int? Seconds, RuleRef Rule);
