using System.Collections.Immutable;
using System.Text.Json.Serialization;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Diagnosis;

/// <summary>How sure a verdict is.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Confidence>))]
public enum Confidence
{
    /// <summary>Nothing certain can be said.</summary>
    [JsonStringEnumMemberName("none")]
    None,

    /// <summary>It follows from what was seen, but one account that would prove it is missing; see <see cref="Verdict.NotSeen"/>.</summary>
    [JsonStringEnumMemberName("likely")]
    Likely,

    /// <summary>Two accounts disagree, and both were seen.</summary>
    [JsonStringEnumMemberName("certain")]
    Certain,
}

/// <summary>Which account a piece of evidence is from.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<EvidenceSource>))]
public enum EvidenceSource
{
    /// <summary>The Kubernetes API or a snapshot of it.</summary>
    [JsonStringEnumMemberName("desired")]
    Desired,

    /// <summary>The node: rules, sockets, sysctls.</summary>
    [JsonStringEnumMemberName("programmed")]
    Programmed,

    /// <summary>The kernel's events or captured packets.</summary>
    [JsonStringEnumMemberName("observed")]
    Observed,

    /// <summary>What the client itself was told.</summary>
    [JsonStringEnumMemberName("client")]
    Client,
}

/// <summary>One fact that a verdict rests on.</summary>
/// <param name="Source">The account it is from.</param>
/// <param name="Text">The fact, in words: an event, a rule's raw text, a field of an object.</param>
/// <param name="Nanoseconds">When it was seen, in nanoseconds from the beginning of the journey; null for what has no time.</param>
/// <param name="Place">Where, such as <c>node/node-1</c>; null for what has no place.</param>
public sealed record Evidence(EvidenceSource Source, string Text, long? Nanoseconds = null, string? Place = null);

/// <summary>What mends the failure.</summary>
/// <param name="Text">What to do, in a sentence.</param>
/// <param name="Command">The exact command; null when no single command mends it.</param>
/// <param name="On">Where to run the command, such as <c>node-1</c>; null when kubectl reaches it from anywhere.</param>
public sealed record Mend(string Text, string? Command, string? On = null)
{
    /// <summary>
    /// True when the command shows where to look, or opens an editor, and mends nothing itself: there a person has to decide. Null when it mends, or there is
    /// none.
    /// </summary>
    public bool? OnlyShows => Command is not null && Command.Split(' ') is ["kubectl", "logs" or "get" or "describe" or "edit", ..] && !Command.Contains("| kubectl", StringComparison.Ordinal)
        || Command == "ip route" ? true : null;
}

/// <summary>Why the request failed, or that it did not: a named disagreement between accounts, with its evidence.</summary>
public sealed record Verdict
{
    /// <summary>The class.</summary>
    public required FailureClass Class { get; init; }

    /// <summary>The first stage at which the accounts disagree; null for <c>healthy</c> and when no stage can be named.</summary>
    public Stage? Stage { get; init; }

    /// <summary>The cause in one sentence.</summary>
    public required string Sentence { get; init; }

    /// <summary>How sure it is.</summary>
    public required Confidence Confidence { get; init; }

    /// <summary>The objects to look at, the one to change first.</summary>
    public ImmutableArray<ObjectRef> Objects { get; init; } = [];

    /// <summary>What the verdict rests on.</summary>
    public ImmutableArray<Evidence> Evidence { get; init; } = [];

    /// <summary>What mends it; null for <c>healthy</c> and when it is not known.</summary>
    public Mend? Mend { get; init; }

    /// <summary>Other disagreements that were also there, further on in the packet's order.</summary>
    public ImmutableArray<FailureClass> AlsoFound { get; init; } = [];

    /// <summary>What could not be seen, each with the reason; also given where it changed nothing.</summary>
    public ImmutableArray<string> NotSeen { get; init; } = [];
}
