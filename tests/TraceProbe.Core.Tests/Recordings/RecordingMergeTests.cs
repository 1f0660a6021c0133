using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Tests;

namespace TraceProbe.Core.Tests.Recordings;

/// <summary>Recorded requests, taken apart into what each node saw, by its own clock and with its own numbers, and put together again.</summary>
public class RecordingMergeTests
{
    // What two machines do not have in common: when they were started.
    private const long Elsewhere = 987_654_321_987;

    /// <summary>All recordings in which both of the lab's nodes saw something.</summary>
    public static TheoryData<string> Recordings => [.. Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests/scenarios"), "*.tprec").Select(f => Path.GetFileName(f))
        .Where(f => !f.Contains("packets", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Recordings))]
    public void WhatTwoNodesSaw_PutTogether_GivesTheVerdictOfTheWhole(string file)
    {
        var whole = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios", file)).Recording;
        var (client, other) = Split(whole);
        if (other is null)
        {
            return;
        }

        var merged = RecordingMerge.Merge(client, [other]);
        var (expected, actual) = (Diagnose.Run(whole).Verdict, Diagnose.Run(merged).Verdict);
        actual.Class.ShouldBe(expected.Class);
        actual.Sentence.ShouldBe(expected.Sentence);
        merged.Events.Length.ShouldBe(whole.Events.Length);
    }

    [Fact]
    public void OtherNodesClock_IsKnownByThePacketsThatBothSaw()
    {
        var whole = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.other-node.tprec")).Recording;
        var (client, other) = Split(whole);
        var merged = RecordingMerge.Merge(client, [other!]);
        merged.Manifest.NotSeen.ShouldBe(whole.Manifest.NotSeen, ignoreOrder: true);

        // Between two nodes of one machine a packet takes microseconds, and by as much the estimate may be off.
        var times = merged.Events.Where(e => e.Kind == EventKind.PacketReceived).Zip(whole.Events.Where(e => e.Kind == EventKind.PacketReceived), (m, w) => Math.Abs(m.BootNanoseconds - w.BootNanoseconds));
        times.Max().ShouldBeLessThan(1_000_000);
        var (before, after) = (JourneyBuilder.Build(whole.Events).Connections.Last(c => !c.IsDns), JourneyBuilder.Build(merged.Events).Connections.Last(c => !c.IsDns));
        after.Sightings.Select(s => s.Event.Kind).ShouldBe(before.Sightings.Select(s => s.Event.Kind));
    }

    [Fact]
    public void ConnectionsOfOthers_AreLeftOut()
    {
        var whole = RecordingArchive.Read(Path.Combine(Repository.Root, "tests/scenarios/healthy.other-node.tprec")).Recording;
        var (client, other) = Split(whole);
        var stranger = other!.Events.First(e => e.Kind == EventKind.PacketQueued && e.Tuple.Protocol == IpProtocol.Tcp);
        stranger = stranger with { Tuple = stranger.Tuple with { Source = new AddressPort(IpAddress.Parse("10.244.9.9"), 5555) }, HasConntrack = false, Original = default, Reply = default };
        RecordingMerge.Merge(client, [other with { Events = [.. other.Events, stranger] }]).Events.Length.ShouldBe(whole.Events.Length);
    }

    private static (Recording Client, Recording? Other) Split(Recording whole)
    {
        var home = whole.Manifest.Places.FirstOrDefault(p => p.Name == whole.Manifest.Client)?.Node;
        var own = whole.Manifest.Places.Where(p => p.Node is null || p.Node == home).ToList();
        var far = whole.Manifest.Places.Where(p => p.Node is not null && p.Node != home).ToList();
        if (home is null || far.Count == 0)
        {
            return (whole, null);
        }

        // As on every machine, the node's own namespace has the same number here and there.
        var (first, taken) = (far.First(p => p.Kind == PlaceKind.Node).NetNs, own.First(p => p.Kind == PlaceKind.Node).NetNs);
        uint There(uint netNs) => netNs == first ? taken : netNs;
        var theirs = far.Select(p => p.NetNs).ToHashSet();
        var client = whole with
        {
            Manifest = whole.Manifest with { Places = [.. own] },
            Events = [.. whole.Events.Where(e => !theirs.Contains(e.NetNs))],
            Nodes = [.. whole.Nodes.Where(n => n.Name == home)],
        };
        var other = whole with
        {
            Manifest = whole.Manifest with
            {
                Client = $"node/{far[0].Node}",
                Places = [.. far.Select(p => p with { NetNs = There(p.NetNs) })],
                Clock = whole.Manifest.Clock with { BootNanoseconds = whole.Manifest.Clock.BootNanoseconds + Elsewhere },
                NotSeen = [],
            },
            Events = [.. whole.Events.Where(e => theirs.Contains(e.NetNs)).Select(e => e with { BootNanoseconds = e.BootNanoseconds + Elsewhere, NetNs = There(e.NetNs) })],
            Client = null,
            Nodes = [.. whole.Nodes.Where(n => n.Name != home).Select(n => n with
            {
                NetNs = There(n.NetNs),
                Listeners = [.. n.Listeners.Select(l => l with { NetNs = There(l.NetNs) })],
                ListenersReadIn = [.. n.ListenersReadIn.Select(There)],
            })],
        };
        return (client, other.Events.IsEmpty ? null : other);
    }
}
