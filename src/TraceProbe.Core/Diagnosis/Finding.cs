using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Diagnosis;

/// <summary>A disagreement that one of the checks found; the first in the packet's order becomes the verdict.</summary>
internal sealed record Finding(FailureClass Class, string Sentence)
{
    public Confidence Confidence { get; init; } = Confidence.Certain;

    public ImmutableArray<ObjectRef> Objects { get; init; } = [];

    public ImmutableArray<Evidence> Evidence { get; init; } = [];

    public Mend? Mend { get; init; }

    public ImmutableArray<string> NotSeen { get; init; } = [];
}
