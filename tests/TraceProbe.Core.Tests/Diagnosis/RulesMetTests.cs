using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Diagnosis;

/// <summary>What nodes say when they are asked again after a failed request: counters of the rules on its way, and connection tracking.</summary>
public sealed class RulesMetTests
{
    private static Recording Scenario(string name) => RecordingArchive.Read(Path.Combine(Repository.Root, "tests", "scenarios", name)).Recording;

    private static Recording WithCounts(Recording recording, Func<RuleCount, RuleCount> change)
        => recording with { Nodes = [.. recording.Nodes.Select(n => n with { Counts = n.Counts is { } counts ? [.. counts.Select(change)] : null })] };

    [Fact]
    public void PacketDropped_TheDroppingRuleCountedIt()
    {
        var report = Diagnose.Run(Scenario("dropped-by-rule.tprec"));
        var dropping = report.Rules!.Value.ShouldHaveSingle(r => r.Rule.Raw.EndsWith("-j DROP", StringComparison.Ordinal));
        dropping.IsExpected.ShouldBeTrue();
        dropping.Place.ShouldBe("node/node-2");
        dropping.Counted!.Value.ShouldBeGreaterThan(0);
        report.Rules!.Value.ShouldContain(r => r.Place == "node/node-1" && r.Rule.Chain.StartsWith("KUBE-SEP-", StringComparison.Ordinal) && r.Counted == 1);
        report.Verdict.Evidence.ShouldNotContain(e => e.Text.Contains(" counted ", StringComparison.Ordinal));
    }

    [Fact]
    public void RuleThatShouldHaveMatched_CountedNothing_IsEvidence()
    {
        var dumps = Scenario("dropped-by-rule.tprec");
        var before = Diagnose.Run(dumps).Rules!.Value.ShouldHaveSingle(r => r.Rule.Raw.EndsWith("-j DROP", StringComparison.Ordinal));
        var report = Diagnose.Run(WithCounts(dumps, c => c.Chain == "FORWARD" && c.Position == before.Rule.Position ? c with { Packets = before.Rule.Packets!.Value } : c));
        report.Verdict.Evidence.ShouldContain(e => e.Place == "node/node-2" && e.Text.StartsWith($"{before.Rule.Where} counted no packet", StringComparison.Ordinal));
    }

    [Fact]
    public void RuleThatShouldNotHaveMatched_CountedPackets_IsEvidence()
    {
        // The rule is for another port, as far as the dump says; its counter says that it took something.
        var recorded = Scenario("dropped-by-rule.tprec");
        var other = recorded with
        {
            Nodes = [.. recorded.Nodes.Select(n => n with { Dumps = [.. n.Dumps.Select(d => d with { Text = d.Text.Replace("--dport 9376 -j DROP", "--dport 9377 -j DROP", StringComparison.Ordinal) })] })],
        };
        var report = Diagnose.Run(other);
        report.Verdict.Evidence.ShouldContain(e => e.Place == "node/node-2" && e.Text.Contains("though by the rules this one should not have met it", StringComparison.Ordinal) && e.Text.EndsWith("--dport 9377 -j DROP", StringComparison.Ordinal));
    }

    [Fact]
    public void FlowOfBeforeTheRules_KeptUntranslated_IsAStaleEntry()
    {
        // The packets went untranslated, by what was recorded; the rules are the healthy ones, made since.
        var missing = Scenario("service-rule-missing.ipv4.tprec");
        var since = missing with { Nodes = Scenario("healthy.ipv4.tprec").Nodes };
        Diagnose.Run(since).Verdict.Class.ShouldBe(FailureClass.Undetermined);

        var asked = JourneyOf(missing);
        var report = Diagnose.Run(since with { Nodes = [.. since.Nodes.Select(n => n.Name == "node-1" ? n with { Conntrack = [new ConntrackEntry(asked, asked.Reverse) { State = "SYN_SENT" }] } : n)] });
        report.Verdict.Class.ShouldBe(FailureClass.ConntrackStale);
        report.Verdict.Mend!.Command.ShouldBe("conntrack -D -d 10.96.0.159 -p tcp --dport 8080");
        report.Verdict.Evidence.ShouldContain(e => e.Text.Contains("[UNREPLIED]", StringComparison.Ordinal) && e.Place == "node/node-1");
    }

    [Fact]
    public void HealthyRequest_IsNotAskedAbout_UnlessWanted()
    {
        var healthy = Scenario("healthy.tprec");
        var asked = 0;
        NodeAnswer Ask(NodeQuestion question)
        {
            asked++;
            return new NodeAnswer([.. question.Counts.Select(c => c with { Packets = c.Packets + 1 })], [], []);
        }

        Diagnose.Run(healthy, Ask, always: false).Report.Rules.ShouldBeNull();
        asked.ShouldBe(0);
        var (recording, report) = Diagnose.Run(healthy, Ask, always: true);
        asked.ShouldBeGreaterThan(0);
        report.Rules!.Value.Where(r => r.IsExpected).ShouldAllBe(r => r.Counted == 1);
        ReportJson.Write(Diagnose.Run(recording)).ShouldBe(ReportJson.Write(report));
    }

    private static FiveTuple JourneyOf(Recording recording)
        => JourneyBuilder.Build(recording.Events).Connections.Single(c => !c.IsDns && c.Asked.Destination.Port == 8080).Asked;
}

file static class Single
{
    public static T ShouldHaveSingle<T>(this IEnumerable<T> all, Func<T, bool> condition) => all.Where(condition).ShouldHaveSingleItem();
}
