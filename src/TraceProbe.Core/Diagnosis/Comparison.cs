using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Diagnosis;

/// <summary>How a stage compares with the healthy one.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Difference>))]
public enum Difference
{
    /// <summary>As in the baseline.</summary>
    [JsonStringEnumMemberName("same")]
    Same,

    /// <summary>Both have it, with another value.</summary>
    [JsonStringEnumMemberName("different")]
    Different,

    /// <summary>The baseline has it; this journey does not.</summary>
    [JsonStringEnumMemberName("missing")]
    Missing,

    /// <summary>This journey has it; the baseline does not.</summary>
    [JsonStringEnumMemberName("new")]
    New,

    /// <summary>The same, far more slowly.</summary>
    [JsonStringEnumMemberName("slower")]
    Slower,
}

/// <summary>One line of the side-by-side difference.</summary>
/// <param name="Name">What is compared.</param>
/// <param name="Healthy">The baseline's value; null when it has none.</param>
/// <param name="This">This journey's value; null when it has none.</param>
/// <param name="Difference">How they compare.</param>
public sealed record FactDifference(string Name, string? Healthy, string? This, Difference Difference);

/// <summary>One stage beside its healthy counterpart.</summary>
/// <param name="Stage">The stage.</param>
/// <param name="Difference">The stage's difference: that of its first fact that is not the same.</param>
/// <param name="Facts">The facts side by side.</param>
/// <param name="HealthyNanoseconds">The baseline's duration; null when it has none.</param>
/// <param name="ThisNanoseconds">This journey's duration; null when it has none.</param>
public sealed record StageDifference(Stage Stage, Difference Difference, ImmutableArray<FactDifference> Facts, long? HealthyNanoseconds, long? ThisNanoseconds);

/// <summary>A journey laid beside a healthy one.</summary>
public sealed record Comparison
{
    // Below this nobody notices, and scheduling noise lives there.
    private const long SlowFloorNanoseconds = 200_000_000;
    private const int SlowFactor = 5;

    /// <summary>What the healthy side is: a recorded baseline's name, or the expectation derived from the desired and programmed accounts.</summary>
    public required string With { get; init; }

    /// <summary>Whether the healthy side is a recording (true) or derived (false).</summary>
    public required bool IsRecorded { get; init; }

    /// <summary>The stages in order.</summary>
    public required ImmutableArray<StageDifference> Stages { get; init; }

    /// <summary>The first stage that is not the same; null when all are.</summary>
    public Stage? FirstDivergence => Stages.FirstOrDefault(s => s.Difference != Difference.Same)?.Stage;

    /// <summary>Lays stages side by side.</summary>
    /// <param name="with">What the healthy side is called.</param>
    /// <param name="isRecorded">Whether it is a recording.</param>
    /// <param name="healthy">The healthy stages.</param>
    /// <param name="stages">This journey's stages.</param>
    public static Comparison Between(string with, bool isRecorded, ImmutableArray<StageRecord> healthy, ImmutableArray<StageRecord> stages)
    {
        var lines = ImmutableArray.CreateBuilder<StageDifference>();
        foreach (var stage in Enum.GetValues<Stage>())
        {
            var left = healthy.FirstOrDefault(s => s.Stage == stage);
            var right = stages.FirstOrDefault(s => s.Stage == stage);
            if (left is null && right is null)
            {
                continue;
            }

            lines.Add(Between(stage, left, right));
        }

        return new Comparison { With = with, IsRecorded = isRecorded, Stages = lines.ToImmutable() };
    }

    private static StageDifference Between(Stage stage, StageRecord? healthy, StageRecord? other)
    {
        var facts = ImmutableArray.CreateBuilder<FactDifference>();
        var theirs = healthy?.Facts ?? [];
        var ours = other?.Facts ?? [];
        foreach (var fact in theirs)
        {
            var match = ours.FirstOrDefault(f => f.Name == fact.Name);
            facts.Add(new FactDifference(fact.Name, fact.Value, match?.Value,
                match is null ? Difference.Missing : match.Value == fact.Value ? Difference.Same : Difference.Different));
        }

        foreach (var fact in ours)
        {
            if (!theirs.Any(f => f.Name == fact.Name))
            {
                facts.Add(new FactDifference(fact.Name, null, fact.Value, Difference.New));
            }
        }

        var difference = facts.FirstOrDefault(f => f.Difference != Difference.Same)?.Difference ?? Difference.Same;
        // A stage that could not be seen is no divergence: it would accuse what nobody looked at. Nor is one that only one of the two
        // needed, as where one asked by name and the other by address; unless it failed.
        if (healthy?.Status is StageStatus.NotSeen || other?.Status is StageStatus.NotSeen or StageStatus.NotNeeded
            || (healthy?.Status is StageStatus.NotNeeded && other?.Status is StageStatus.Passed))
        {
            difference = Difference.Same;
        }
        else if (difference == Difference.Same && other is not null && healthy is not null && other.Status != healthy.Status)
        {
            difference = other.Status == StageStatus.NotReached ? Difference.Missing : Difference.Different;
        }

        if (difference == Difference.Same && healthy?.DurationNanoseconds is { } was && other?.DurationNanoseconds is { } now
            && now - was > SlowFloorNanoseconds && now > was * SlowFactor)
        {
            difference = Difference.Slower;
        }

        return new StageDifference(stage, difference, facts.ToImmutable(), healthy?.DurationNanoseconds, other?.DurationNanoseconds);
    }
}
