using System.Collections.Immutable;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>One way in which a packet's walk differs from what should become of it.</summary>
/// <param name="Class">The failure class.</param>
/// <param name="Cause">What is wrong with the rules, as half a sentence.</param>
/// <param name="Effect">What becomes of packets, as half a sentence such as <c>stay untranslated</c>.</param>
internal sealed record Deviation(FailureClass Class, string Cause, string Effect)
{
    /// <summary>What several Service ports may have in common: the rule behind it. Null when it is about the one Service port only.</summary>
    public string? Shared { get; init; }

    /// <summary>The share of the packets that it concerns, 0 to 1.</summary>
    public double Share { get; init; } = 1;

    /// <summary>The missing or offending rules.</summary>
    public ImmutableArray<RuleRef> Rules { get; init; } = [];

    /// <summary>What mends it; null for restarting kube-proxy.</summary>
    public Mend? Mend { get; init; }

    /// <summary>Whether both accounts agree, and it is only worth knowing.</summary>
    public bool IsRemark { get; init; }
}
