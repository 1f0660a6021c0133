using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Diagnosis;

/// <summary>How far a request got with a stage.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<StageStatus>))]
public enum StageStatus
{
    /// <summary>The request never came so far.</summary>
    [JsonStringEnumMemberName("not-reached")]
    NotReached,

    /// <summary>It was not needed: an address was given in place of a name.</summary>
    [JsonStringEnumMemberName("not-needed")]
    NotNeeded,

    /// <summary>It may have happened, but could not be seen.</summary>
    [JsonStringEnumMemberName("not-seen")]
    NotSeen,

    /// <summary>It went well.</summary>
    [JsonStringEnumMemberName("passed")]
    Passed,

    /// <summary>It failed.</summary>
    [JsonStringEnumMemberName("failed")]
    Failed,
}

/// <summary>One property of a stage, worded so that two journeys can be laid side by side.</summary>
/// <param name="Name">What it is, such as <c>resolver</c> or <c>translated to</c>.</param>
/// <param name="Value">Its value, without anything that differs between two healthy requests (ports, chosen backend, times).</param>
public sealed record StageFact(string Name, string Value);

/// <summary>What happened in one stage of a journey.</summary>
/// <param name="Stage">The stage.</param>
/// <param name="Status">How far it got.</param>
/// <param name="Facts">What to compare.</param>
/// <param name="DurationNanoseconds">How long it took; null when it cannot be timed.</param>
public sealed record StageRecord(Stage Stage, StageStatus Status, ImmutableArray<StageFact> Facts, long? DurationNanoseconds);
