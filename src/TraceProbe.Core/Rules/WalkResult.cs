using System.Collections.Immutable;
using System.Text.Json.Serialization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>How a virtual packet ends.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<WalkOutcome>))]
public enum WalkOutcome
{
    /// <summary>It goes on to another destination than it was sent to; see <see cref="WalkResult.Backends"/>.</summary>
    Translated,

    /// <summary>It goes on to where it was sent to.</summary>
    Untranslated,

    /// <summary>A rule ends it and tells the sender.</summary>
    Rejected,

    /// <summary>A rule or a policy ends it silently.</summary>
    Dropped,

    /// <summary>It depends on the backend chosen; see <see cref="WalkResult.Branches"/>.</summary>
    Varies,

    /// <summary>It cannot be told; see <see cref="WalkResult.Unknowns"/>.</summary>
    Undecided,
}

/// <summary>What a node's rules do with a virtual packet, and which rules do it.</summary>
public sealed record WalkResult
{
    /// <summary>The packet that was walked.</summary>
    public required VirtualPacket Packet { get; init; }

    /// <summary>How it ends.</summary>
    public required WalkOutcome Outcome { get; init; }

    /// <summary>Every way it can take, their probabilities summing to 1 (unless <see cref="WalkOutcome.Undecided"/>).</summary>
    public required ImmutableArray<WalkBranch> Branches { get; init; }

    /// <summary>The destinations it can be translated to, each once, also those whose branch ends in a drop or a rejection later.</summary>
    public required ImmutableArray<WalkBackend> Backends { get; init; }

    /// <summary>The rules that matched in any branch, in order, each once. This is the evidence.</summary>
    public ImmutableArray<Rule> Matched
    {
        get
        {
            var seen = new HashSet<Rule>(ReferenceEqualityComparer.Instance);
            return [.. Branches.SelectMany(b => b.Steps).Select(s => s.Rule).Where(seen.Add)];
        }
    }

    /// <summary>The conditions, targets and facts that the outcome depends on and that could not be told, in words; empty unless undecided.</summary>
    public required ImmutableArray<string> Unknowns { get; init; }

    /// <summary>What was taken for granted on the way, in words: that the client has no session affinity yet, that reverse paths are in order.</summary>
    public required ImmutableArray<string> Assumptions { get; init; }

    /// <summary>
    /// Where session affinity can send a client that was here before; the destinations are a subset of <see cref="Backends"/> when the rules
    /// are sound.
    /// </summary>
    public required ImmutableArray<WalkAffinity> Affinity { get; init; }

    /// <summary>
    /// Whether the rules of several owners (legacy and nft, say) both decide about the packet, differently, and which of them comes first depends on
    /// which was loaded first: then it is undecided, or, if only the source is translated differently, that is an assumption.
    /// </summary>
    public bool IsTied { get; init; }

    /// <summary>Whether its source is masqueraded in every branch that leaves the node.</summary>
    public bool Masquerade => Branches.Any(b => b.Leaves) && Branches.All(b => !b.Leaves || b.Masquerade);

    /// <summary>How the sender is told of a rejection, such as <c>icmp-port-unreachable</c>; null when no branch is rejected.</summary>
    public string? RejectWith => Branches.Select(b => b.RejectWith).FirstOrDefault(w => w is not null);

    /// <summary>The branch that goes to this backend, or null.</summary>
    public WalkBranch? BranchTo(AddressPort backend) => Branches.FirstOrDefault(b => b.Backend == backend);
}

/// <summary>One way a virtual packet can take.</summary>
public sealed record WalkBranch
{
    /// <summary>How it ends: never <see cref="WalkOutcome.Varies"/>.</summary>
    public required WalkOutcome Outcome { get; init; }

    /// <summary>How likely the rules' dice take this way, 0 to 1.</summary>
    public required double Probability { get; init; }

    /// <summary>The destination it was translated to; null when it was not.</summary>
    public AddressPort? Backend { get; init; }

    /// <summary>Whether the translation was a redirection to the node itself (<c>REDIRECT</c>).</summary>
    public bool IsRedirect { get; init; }

    /// <summary>The chain whose rule translated it, such as <c>KUBE-SEP-…</c>; null when none did.</summary>
    public string? Chain { get; init; }

    /// <summary>Whether its source becomes the node's.</summary>
    public bool Masquerade { get; init; }

    /// <summary>The source that a SNAT rule gives it; null when none does.</summary>
    public IpAddress? SourceBecomes { get; init; }

    /// <summary>The connection's mark at the end.</summary>
    public uint ConnectionMark { get; init; }

    /// <summary>The packet as it is at the end; a source that is masqueraded is still its own.</summary>
    public FiveTuple Tuple { get; init; }

    /// <summary>How the sender is told, when it is rejected.</summary>
    public string? RejectWith { get; init; }

    /// <summary>Why a drop happened when no rule but a policy did it, such as <c>policy of filter FORWARD</c>; null otherwise.</summary>
    public string? Policy { get; init; }

    /// <summary>Whose chain that policy is of; null when no policy ended it.</summary>
    public RuleBackend? PolicyBackend { get; init; }

    /// <summary>Why this way is undecided; null when it is decided.</summary>
    public string? Unknown { get; init; }

    /// <summary>The condition that decides what becomes of the source, and of which it is not known whether it holds (it was taken not to); null when the source is known.</summary>
    public string? SourceDependsOn { get; init; }

    /// <summary>The rules that matched on this way, in order; the last one decided.</summary>
    public ImmutableArray<WalkStep> Steps
    {
        get
        {
            var steps = ImmutableArray.CreateBuilder<WalkStep>();
            for (var trail = Trail; trail is not null; trail = trail.Before)
            {
                steps.Add(trail.Step);
            }

            steps.Reverse();
            return steps.ToImmutable();
        }
    }

    // Most walks are of healthy rules, whose steps nobody asks for.
    internal WalkTrail? Trail { get; init; }

    /// <summary>Whether it passes the rules at all.</summary>
    public bool Leaves => Outcome is WalkOutcome.Translated or WalkOutcome.Untranslated;
}

/// <summary>A rule that matched a packet.</summary>
/// <param name="Rule">The rule.</param>
/// <param name="Hook">Where in the packet's way.</param>
/// <param name="Translates">Whether the base chain that led to it is one of translation (type <c>nat</c>).</param>
/// <param name="Backend">The kernel interface that the rule came through.</param>
public readonly record struct WalkStep(Rule Rule, Hook Hook, bool Translates, RuleBackend Backend);

/// <summary>The steps so far, the last one first; branches share what they have in common.</summary>
internal sealed class WalkTrail(WalkStep step, WalkTrail? before)
{
    public WalkStep Step => step;

    public WalkTrail? Before => before;

    /// <summary>How many steps it has.</summary>
    public int Length { get; } = 1 + (before?.Length ?? 0);
}

/// <summary>A destination to which rules send a client again that was sent there before.</summary>
/// <param name="Backend">Where to.</param>
/// <param name="Seconds">For how long after the client's last packet; null when without end, or not told.</param>
/// <param name="Rule">The rule.</param>
public sealed record WalkAffinity(AddressPort Backend, int? Seconds, Rule Rule);

/// <summary>A destination that rules translate to.</summary>
/// <param name="Address">Where to.</param>
/// <param name="Probability">How likely, 0 to 1.</param>
/// <param name="Chain">The chain whose rule does it.</param>
/// <param name="IsRedirect">Whether it is a redirection to the node itself.</param>
public sealed record WalkBackend(AddressPort Address, double Probability, string Chain, bool IsRedirect);
