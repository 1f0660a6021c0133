using System.Collections.Immutable;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Tests.Diagnosis;

public class ComparisonTests
{
    private static StageRecord Record(Stage stage, StageStatus status = StageStatus.Passed, long? ns = null, params (string, string)[] facts)
        => new(stage, status, [.. facts.Select(f => new StageFact(f.Item1, f.Item2))], ns);

    private static Comparison Between(ImmutableArray<StageRecord> healthy, ImmutableArray<StageRecord> now) => Comparison.Between("monday", true, healthy, now);

    [Fact]
    public void SameFacts_NoDivergence()
    {
        ImmutableArray<StageRecord> stages = [Record(Stage.Resolve, facts: ("resolver", "10.96.0.10")), Record(Stage.Exchange, facts: ("answer", "an answer"))];
        var comparison = Between(stages, stages);
        comparison.FirstDivergence.ShouldBeNull();
        comparison.Stages.ShouldAllBe(s => s.Difference == Difference.Same);
    }

    [Fact]
    public void AnotherValue_IsDifferentAndTheFirstOneIsNamed()
    {
        var comparison = Between(
            [Record(Stage.Resolve, facts: ("resolver", "10.96.0.10")), Record(Stage.Define, facts: ("target port", "80")), Record(Stage.Accept, facts: ("answered by", "SYN-ACK"))],
            [Record(Stage.Resolve, facts: ("resolver", "10.96.0.10")), Record(Stage.Define, facts: ("target port", "8080")), Record(Stage.Accept, facts: ("answered by", "RST"))]);
        comparison.FirstDivergence.ShouldBe(Stage.Define);
        comparison.Stages[1].Facts.ShouldBe([new FactDifference("target port", "80", "8080", Difference.Different)]);
    }

    [Fact]
    public void AbsentFact_IsMissing_AndAdditionalOneIsNew()
    {
        var comparison = Between([Record(Stage.Translate, facts: ("translated to", "a pod"))], [Record(Stage.Translate, facts: ("hop", "a proxy"))]);
        comparison.Stages[0].Facts.Select(f => f.Difference).ShouldBe([Difference.Missing, Difference.New]);
        comparison.Stages[0].Difference.ShouldBe(Difference.Missing);
    }

    [Fact]
    public void StageNotReached_IsMissing()
        => Between([Record(Stage.Exchange, facts: [])], [Record(Stage.Exchange, StageStatus.NotReached)]).Stages[0].Difference.ShouldBe(Difference.Missing);

    [Fact]
    public void StageNotSeen_IsNoDivergence()
        => Between([Record(Stage.Translate, facts: ("translated to", "a pod"))], [Record(Stage.Translate, StageStatus.NotSeen)]).FirstDivergence.ShouldBeNull();

    [Theory]
    [InlineData(1_000_000, 100_000_000, Difference.Same)] // A hundred times slower, and nobody notices.
    [InlineData(1_000_000, 900_000_000, Difference.Slower)]
    [InlineData(300_000_000, 900_000_000, Difference.Same)]
    public void MuchLonger_IsSlower(long healthy, long now, Difference expected)
        => Between([Record(Stage.Exchange, ns: healthy)], [Record(Stage.Exchange, ns: now)]).Stages[0].Difference.ShouldBe(expected);
}
