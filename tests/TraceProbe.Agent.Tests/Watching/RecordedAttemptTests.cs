using System.Collections.Immutable;
using TraceProbe.Agent.Sessions;
using TraceProbe.Agent.Watching;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Tests;

namespace TraceProbe.Agent.Tests.Watching;

/// <summary>What an agent would have made of the recorded requests, given their events alone and no client that says how it went.</summary>
public class RecordedAttemptTests
{
    // What an agent cannot see, or not as well as who makes the request.
    private static readonly string[] Unseen =
    [
        // Without the cluster's objects.
        "undetermined.tprec", "proxy-dial-refused.tprec",

        // To an address that no Service has, or had while the agent ran; a pod's own, for a headless Service; a node's.
        "service-not-found.ipv4.tprec", "service-not-found.nftables.tprec", "hosts-override.tprec", "headless-port-not-remapped.tprec",
        "masquerade-missing.node-port.tprec", "no-local-endpoints.external.tprec",

        // Only the client knows which family it wanted.
        "address-family-mismatch.tprec",

        // The question that kube-proxy asks for its client in userspace mode is what fails; the client's own is judged, as unanswered.
        "forwarding-disabled.userspace-server-node.tprec",
    ];

    /// <summary>The recordings that eBPF's events are in.</summary>
    public static TheoryData<string> Recordings => [.. Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests/scenarios"), "*.tprec").Select(f => Path.GetFileName(f))
        .Where(f => !f.Contains("packets", StringComparison.Ordinal) && !Unseen.Contains(f)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Recordings))]
    public void RecordedRequest_IsJudgedLikeTheTrace(string file)
    {
        var (recording, trace) = Read(file);
        var (attempts, around) = Watch(recording, recording.Events);

        if (IsHealthy(trace))
        {
            attempts.ShouldNotBeEmpty();
            attempts.ShouldAllBe(a => a.Symptoms == Symptoms.None);
            return;
        }

        // One that failed has symptoms, and with the same accounts the same verdict; where the client's own word was part of it, nothing else is said.
        var judged = attempts.Where(a => a.Symptoms != Symptoms.None && !a.IsArrival && !around.IsForwarded(a)).Select(a => Diagnose.Run(RecordingOf(a, around, recording)).Verdict).ToList();
        judged.ShouldNotBeEmpty();
        judged.ShouldAllBe(v => v.Class == trace.Verdict.Class || v.Class == FailureClass.Undetermined || v.Class == FailureClass.Healthy);
        judged.ShouldContain(v => v.Class == trace.Verdict.Class);
    }

    [Theory]
    [MemberData(nameof(Recordings))]
    public void ReportedBriefly_IsNoOtherFailure(string file)
    {
        var (recording, trace) = Read(file);
        var (attempts, around) = Watch(recording, Briefly(recording));
        var judged = attempts.Where(a => a.Symptoms != Symptoms.None && !a.IsArrival && !around.IsForwarded(a)).Select(a => Diagnose.Run(RecordingOf(a, around, recording)).Verdict).ToList();
        judged.ShouldAllBe(v => v.Class == trace.Verdict.Class || v.Class == FailureClass.Undetermined || v.Class == FailureClass.Healthy);
        if (IsHealthy(trace))
        {
            judged.ShouldBeEmpty();
        }
        else if (trace.Verdict.Stage == Stage.Exchange)
        {
            judged.ShouldContain(v => v.Class == trace.Verdict.Class || v.Class == FailureClass.Undetermined);
        }
    }

    [Theory]
    [MemberData(nameof(Recordings))]
    public void EventsFromSeveralProcessors_OutOfOrder_ChangeNothing(string file)
    {
        var (recording, trace) = Read(file);
        var random = new Random(file.Length);

        // Those of several processors come late by microseconds, and what each sees of one packet in order.
        var late = recording.Events.OrderBy(e => e.BootNanoseconds + random.Next(2_000)).ToImmutableArray();
        var (attempts, _) = Watch(recording, late);
        if (IsHealthy(trace))
        {
            attempts.ShouldAllBe(a => a.Symptoms == Symptoms.None);
        }
        else
        {
            attempts.ShouldContain(a => a.Symptoms != Symptoms.None);
        }
    }

    [Fact]
    public void LostEvents_MakeNoFailureOfHealthyRequests()
    {
        var (recording, _) = Read("healthy.tprec");
        var random = new Random(7);
        for (var round = 0; round < 300; round++)
        {
            // Where some are lost the kernel says so.
            var kept = recording.Events.Where(_ => random.Next(4) != 0).ToList();
            kept.Insert(random.Next(kept.Count), new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = kept[kept.Count / 2].BootNanoseconds, Lost = recording.Events.Length - kept.Count + 1 });
            var (attempts, around) = Watch(recording, [.. kept]);
            foreach (var attempt in attempts.Where(a => a.Symptoms != Symptoms.None && a.Lost == 0))
            {
                Diagnose.Run(RecordingOf(attempt, around, recording)).Verdict.Class.ShouldBeOneOf(FailureClass.Healthy, FailureClass.Undetermined);
            }
        }
    }

    [Fact]
    public void RoomForEventsThatIsUsedAgain_HoldsNothingOfTheConnectionBefore()
    {
        var (recording, _) = Read("healthy.tprec");
        var (around, rooms) = (AroundOf(recording), new HashSet<List<NetworkEvent>>());
        AttemptTable table = null!;
        List<NetworkEvent>? kept = null;
        table = new AttemptTable(around.IsService, around.Arrives, around.LivesElsewhere, _ => [], around.LeadsAstray, attempt =>
        {
            rooms.Add(attempt.Events);
            kept = [.. attempt.Events];
            table.LetGo(attempt);
            attempt.Events.ShouldBeEmpty();
        });
        var sent = Briefly(recording).Where(e => e.Tuple.Protocol == IpProtocol.Tcp).ToList();
        var first = (List<NetworkEvent>?)null;
        for (var round = 0; round < 3; round++)
        {
            var later = round * 60_000_000_000L;
            foreach (var e in sent)
            {
                table.Add(e with { BootNanoseconds = e.BootNanoseconds + later });
            }

            table.Advance(sent[^1].BootNanoseconds + later + 20_000_000_000);
            table.Open.ShouldBe(0);
            first ??= kept!;
            kept!.Select(e => e with { BootNanoseconds = e.BootNanoseconds - later }).ShouldBe(first);
        }

        rooms.Count.ShouldBe(1);
    }

    // As the kernel reports connections that were not drawn: SYN, FIN, RST, and what is first said on either side, of that the beginning at the client alone.
    private static ImmutableArray<NetworkEvent> Briefly(Recording recording)
    {
        var client = recording.Manifest.Places.First(p => p.Name == recording.Manifest.Client).NetNs;
        var said = recording.Events.Where(e => e.Tuple.Protocol == IpProtocol.Tcp && !e.Payload.IsEmpty && !IsDns(e)).DistinctBy(e => e.Sequence).ToDictionary(e => e.Sequence);
        var seen = new HashSet<FiveTuple>();
        return
        [
            .. from e in recording.Events
               let isSegment = e.Kind is EventKind.PacketQueued or EventKind.PacketReceived && e.Tuple.Protocol == IpProtocol.Tcp && !IsDns(e)
               let isFirst = isSegment && e.PayloadLength > 0 && e.NetNs == client && seen.Add(e.Tuple)
               let first = isFirst ? said.GetValueOrDefault(e.Sequence) : default
               where !isSegment || isFirst || (e.Flags & (TcpFlags.Syn | TcpFlags.Fin | TcpFlags.Rst)) != 0
               select isSegment ? e with { IsBrief = true, Payload = first.Payload, AnswerLength = first.AnswerLength } : e,
        ];

        static bool IsDns(in NetworkEvent e) => e.Tuple.Source.Port == 53 || e.Tuple.Destination.Port == 53;
    }

    // The client's resolv.conf is read where the client is, and of that there is only what was recorded.
    private static Recording RecordingOf(Attempt attempt, Surroundings around, Recording recorded)
    {
        var recording = Diagnostician.RecordingOf(attempt, around, recorded.Nodes, recorded.Manifest.Clock, []);
        return recording with { Client = recording.Client! with { Resolver = recorded.Client?.Resolver } };
    }

    // That one is slower than another is told by many, not by itself.
    private static bool IsHealthy(Report trace) => trace.Verdict.Class is FailureClass.Healthy or FailureClass.SlowerThanBaseline or FailureClass.ResolverSlow;

    private static (Recording Recording, Report Trace) Read(string file)
    {
        var recording = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios", file)).Recording;
        return (recording, Diagnose.Run(recording));
    }

    private static Surroundings AroundOf(Recording recording) => new(new Scene { Places = recording.Manifest.Places, IsClosed = true, Objects = () => recording.Cluster! }, node: null);

    private static (List<Attempt> Attempts, Surroundings Around) Watch(Recording recording, ImmutableArray<NetworkEvent> events)
    {
        var around = AroundOf(recording);
        var attempts = new List<Attempt>();
        var table = new AttemptTable(around.IsService, around.Arrives, around.LivesElsewhere, _ => recording.Client?.Resolver?.Search ?? [], around.LeadsAstray, attempts.Add);
        foreach (var e in events)
        {
            table.Advance(e.BootNanoseconds);
            table.Add(e);
        }

        table.Advance(recording.Manifest.EndNanoseconds + 700_000_000_000);
        table.Open.ShouldBe(0);
        return (attempts, around);
    }
}
