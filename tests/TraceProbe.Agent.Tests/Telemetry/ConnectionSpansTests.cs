using System.Diagnostics;
using System.Text;
using TraceProbe.Agent.Sessions;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Agent.Watching;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Tests;
using TraceProbe.Tests.Otlp;

namespace TraceProbe.Agent.Tests.Telemetry;

/// <summary>Recorded requests, exported by the SDK to a receiver that decodes what arrives.</summary>
public class ConnectionSpansTests
{
    /// <summary>All recordings.</summary>
    public static TheoryData<string> Recordings => [.. Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests/scenarios"), "*.tprec").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Recordings))]
    public async Task EveryRecordedRequest_IsOneTraceWithNestedTimes(string file)
    {
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios", file)).Recording;
        var report = Diagnose.Run(recording);
        var spans = await ExportAsync(recording, report);

        var root = spans.Where(s => s.ParentSpanId.IsEmpty).ShouldHaveSingleItem();
        spans.Select(s => s.TraceId).Distinct().ShouldHaveSingleItem();
        foreach (var span in spans)
        {
            span.EndTimeUnixNano.ShouldBeGreaterThanOrEqualTo(span.StartTimeUnixNano, span.Name);
            span.StartTimeUnixNano.ShouldBeGreaterThanOrEqualTo(root.StartTimeUnixNano, span.Name);
            span.EndTimeUnixNano.ShouldBeLessThanOrEqualTo(root.EndTimeUnixNano, span.Name);
            span.Events.ShouldAllBe(e => e.TimeUnixNano >= root.StartTimeUnixNano && e.TimeUnixNano <= root.EndTimeUnixNano);
            (span == root || span.ParentSpanId == root.SpanId).ShouldBeTrue();
        }

        var name = FailureClassInfo.Of(report.Verdict.Class).Name;
        Text(root, "traceprobe.class").ShouldBe(name);
        Text(root, "traceprobe.sentence").ShouldBe(report.Verdict.Sentence);
        var failed = report.Verdict.Class is not (FailureClass.Healthy or FailureClass.Undetermined);
        Text(root, "error.type").ShouldBe(failed ? name : null);
        (root.Status?.Code ?? 0).ShouldBe(failed ? 2 : 0);
        spans.Count(s => s.Name == "DNS lookup").ShouldBe(JourneyBuilder.Build(recording.Events).Lookups.Length);
    }

    [Fact]
    public async Task HealthyRequest_HasASpanForEachStep()
    {
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.tprec")).Recording;
        var spans = await ExportAsync(recording, Diagnose.Run(recording));
        foreach (var name in (string[])["DNS lookup", "socket connect", "translation", "delivery", "accept", "request"])
        {
            spans.ShouldContain(s => s.Name == name);
        }

        var translation = spans.First(s => s.Name == "translation");
        Text(translation, "traceprobe.original").ShouldEndWith(":8080");
        Text(translation, "traceprobe.translated").ShouldEndWith(":80");
        spans.First(s => s.Name == "request").Attributes.Single(a => a.Key == "http.response.status_code").Value.IntValue.ShouldBe(200);
        Text(spans.First(s => s.Name == "accept"), "k8s.pod.name").ShouldStartWith("my-nginx-");
    }

    [Fact]
    public async Task ReceiverThatIsAway_CostsSpansAndIsCounted()
    {
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.tprec")).Recording;
        using var spans = new ConnectionSpans();
        using var export = new SpanExport(OtlpSettings.Parse($"http://127.0.0.1:{Loopback.FreePort()}/v1/traces"), "node-1");
        spans.Emit(recording, Diagnose.Run(recording)).ShouldNotBeNull();
        await Task.Run(() => export.Flush(TimeSpan.FromSeconds(20)));
        export.Exported.ShouldBe(0);
        export.Failed.ShouldBeGreaterThan(0);
    }

    [Fact]
    public async Task ServersNode_PutsItsHalfBelowTheRootOfTheClients()
    {
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.other-node.tprec")).Recording;
        var client = JourneyBuilder.Build(recording.Events).Connections.Last(c => !c.IsDns);
        var home = recording.Manifest.Places.First(p => p.Addresses.Contains(client.Backend.Address));
        home.Node.ShouldNotBe(recording.Manifest.Places.First(p => p.NetNs == client.ClientNetNs).Node);

        // Each node's agent has its own namespaces' events, and no more.
        var (sent, _) = Watch(recording, recording.Manifest.Places.First(p => p.NetNs == client.ClientNetNs).Node!);
        var (arrived, around) = Watch(recording, home.Node!);
        var asked = sent.Where(a => a is { IsArrival: false, Asked: not null }).ShouldHaveSingleItem();
        var arrival = arrived.Where(a => a.IsArrival && a.Asked!.Value.Destination == client.Backend).ShouldHaveSingleItem();
        asked.Symptoms.ShouldBe(Symptoms.None);
        arrival.Symptoms.ShouldBe(Symptoms.None);
        var half = Diagnostician.RecordingOf(arrival, around, [], recording.Manifest.Clock, []);

        var spans = await ExportAsync(spans =>
        {
            spans.EmitArrival(half);
            return spans.Emit(recording with { Events = [.. asked.Lookup!.Events, .. asked.Events] }, Diagnose.Run(recording));
        });
        var root = spans.Where(s => s.ParentSpanId.IsEmpty).ShouldHaveSingleItem();
        var below = spans.Where(s => s.Name == "arrival").ShouldHaveSingleItem();
        below.ParentSpanId.ShouldBe(root.SpanId);
        below.StartTimeUnixNano.ShouldBeGreaterThanOrEqualTo(root.StartTimeUnixNano);
        below.EndTimeUnixNano.ShouldBeLessThanOrEqualTo(root.EndTimeUnixNano);
        var accept = spans.Where(s => s.Name == "accept").ShouldHaveSingleItem();
        accept.ParentSpanId.ShouldBe(below.SpanId);
        Text(accept, "k8s.pod.name").ShouldBe(home.PodName);
    }

    [Theory]
    [InlineData("01", true)]
    [InlineData("00", false)]
    public async Task RequestOfAnApplicationsTrace_IsPartOfIt_OnBothNodes_WhereThatIsRecorded(string flags, bool isPart)
    {
        const string Trace = "4bf92f3577b34da6a3ce929d0e0e4736", Parent = "00f067aa0ba902b7";
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.other-node.tprec")).Recording;
        recording = recording with { Events = [.. recording.Events.Select(e => e is { PayloadLength: > 0, Tuple.Protocol: IpProtocol.Tcp, Tuple.Destination.Port: 80 or 8080 } ? e with { TraceParent = $"00-{Trace}-{Parent}-{flags}" } : e)] };
        var client = JourneyBuilder.Build(recording.Events).Connections.Last(c => !c.IsDns);
        client.TraceParent.ShouldNotBeNull();
        var spans = await ExportAsync(spans =>
        {
            spans.EmitArrival(recording);
            return spans.Emit(recording, Diagnose.Run(recording));
        });
        spans.Select(s => s.TraceId).Distinct().ShouldHaveSingleItem();
        var root = spans.Where(s => s.Name.StartsWith("connect ", StringComparison.Ordinal)).ShouldHaveSingleItem();
        (Convert.ToHexStringLower(root.TraceId.Span) == Trace).ShouldBe(isPart);
        Convert.ToHexStringLower(root.ParentSpanId.Span).ShouldBe(isPart ? Parent : "");
        spans.Where(s => s.Name == "arrival").ShouldHaveSingleItem().ParentSpanId.ShouldBe(root.SpanId);
    }

    private static (List<Attempt> Attempts, Surroundings Around) Watch(Recording recording, string node)
    {
        var around = new Surroundings(new Scene { Places = recording.Manifest.Places, IsClosed = true, Objects = () => recording.Cluster! }, node);
        var own = around.Scene.Namespaces;
        var attempts = new List<Attempt>();
        var table = new AttemptTable(around.IsService, around.Arrives, around.LivesElsewhere, _ => recording.Client?.Resolver?.Search ?? [], around.LeadsAstray, attempts.Add);
        foreach (var e in recording.Events.Where(e => own.Contains(e.NetNs)))
        {
            table.Add(e);
        }

        table.Advance(recording.Manifest.EndNanoseconds + 700_000_000_000);
        return (attempts, around);
    }

    private static Task<List<Span>> ExportAsync(Recording recording, Report report) => ExportAsync(spans => spans.Emit(recording, report));

    private static async Task<List<Span>> ExportAsync(Func<ConnectionSpans, ActivityContext?> emit)
    {
        await using var receiver = new OtlpReceiver();
        ActivityContext? root;
        using (var spans = new ConnectionSpans())
        using (var export = new SpanExport(OtlpSettings.Parse($"{receiver.Prefix}v1/traces"), "node-1"))
        {
            root = emit(spans).ShouldNotBeNull();
            export.Flush(TimeSpan.FromSeconds(20)).ShouldBeTrue();
        }

        // Other tests of this process export too.
        var trace = Convert.FromHexString(root.Value.TraceId.ToHexString());
        return [.. receiver.Spans.Select(s => s.Span).Where(s => s.TraceId.Span.SequenceEqual(trace)).DistinctBy(s => s.SpanId)];
    }

    private static string? Text(Span span, string key) => span.Attributes.FirstOrDefault(a => a.Key == key)?.Value.StringValue;
}
