using System.Collections.Concurrent;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Recordings;

/// <summary>
/// What a verdict says when an account is missing or events were lost: the same class, one that says less and is true all the same, or that it is not
/// determined and what was missing. Over the scenarios; and, when $TRACEPROBE_RECORDINGS names a folder (that of <c>make test-matrix</c>, say), over the
/// recordings in it, which are named MODE.CLASS.VARIANT.tprec.
/// </summary>
public class BlindnessTests
{
    // What is true still, although the account that was taken away would tell more.
    private static readonly Dictionary<FailureClass, FailureClass[]> SaysLess = new()
    {
        // That a nameserver gave no answer, whoever lost the question.
        [FailureClass.ForwardingDisabled] = [FailureClass.ResolverUnreachable],
        [FailureClass.ProxyRulesMissing] = [FailureClass.ResolverUnreachable],
        [FailureClass.ResolverNoEndpoints] = [FailureClass.ResolverUnreachable],
        // That no rule leads to the endpoint; where the one that is there leads in its place was not seen.
        [FailureClass.StaleEndpointRule] = [FailureClass.EndpointRuleMissing],
        // That the server answered 400; that one side alone spoke TLS stands in the first bytes of both.
        [FailureClass.TlsMismatch] = [FailureClass.HttpError],
        // That it was answered; slow is what takes longer than a baseline, between events that were seen.
        [FailureClass.SlowerThanBaseline] = [FailureClass.Healthy],
        [FailureClass.ResolverSlow] = [FailureClass.Healthy],
    };

    /// <summary>The ways of being blind.</summary>
    public static TheoryData<string> Ways => [.. Blind.Keys];

    private static readonly Dictionary<string, Func<Recording, Random, Recording>> Blind = new(StringComparer.Ordinal)
    {
        ["no objects"] = (r, _) => r with { Cluster = null },
        ["no nodes"] = (r, _) => r with { Nodes = [] },
        ["no rules"] = (r, _) => r with { Nodes = [.. r.Nodes.Select(n => n with { Dumps = [], Counts = null, Unread = n.Unread.Add(new Unread("rules", "taken away")) })] },
        ["no sockets"] = (r, _) => r with { Nodes = [.. r.Nodes.Select(n => n with { Listeners = [], ListenersReadIn = [], Unread = n.Unread.Add(new Unread("listening sockets", "taken away")) })] },
        ["no objects and no nodes"] = (r, _) => r with { Cluster = null, Nodes = [] },
        ["no server node"] = (r, _) => WithoutServerNode(r, account: true, events: true),
        ["no account of the server's node"] = (r, _) => WithoutServerNode(r, account: true, events: false),
        ["no events of the server's node"] = (r, _) => WithoutServerNode(r, account: false, events: true),
        ["a tenth of the events lost"] = (r, random) => Lossy(r, random, 10),
        ["a tenth of the events lost, and nobody noticed"] = (r, random) => r with { Events = [.. r.Events.Where(_ => random.Next(10) != 0)] },
        ["half of the events lost"] = (r, random) => Lossy(r, random, 2),
        ["no events"] = (r, _) => r with { Events = [] },
        ["no baseline"] = (r, _) => r with { Baseline = null },
        ["packets alone"] = (r, _) => PacketsAlone(r),
        ["packets of the client alone"] = (r, _) => PacketsAlone(r with { Events = [.. r.Events.Where(e => e.NetNs == ClientNetNs(r))] }),
    };

    [Theory]
    [MemberData(nameof(Ways))]
    public void WhatWasNotSeen_IsNeverAnotherFailure(string way)
    {
        var given = Environment.GetEnvironmentVariable("TRACEPROBE_RECORDINGS");
        var folder = given is { Length: > 0 } ? given : Path.Combine(Repository.Root, "tests", "scenarios");
        var wrong = new ConcurrentBag<string>();
        Parallel.ForEach(Directory.GetFiles(folder, $"*{RecordingArchive.Extension}"), file =>
        {
            var recording = RecordingArchive.Read(file).Recording;
            var seen = Diagnose.Run(recording).Verdict;
            var random = new Random(Path.GetFileName(file).Length);
            for (var round = 0; round < (way.Contains("lost", StringComparison.Ordinal) ? given is { Length: > 0 } ? 30 : 3 : 1); round++)
            {
                var blind = Diagnose.Run(Blind[way](recording, random)).Verdict;
                if (!IsTrueStill(seen, blind))
                {
                    wrong.Add($"{Path.GetFileName(file)}: {FailureClassInfo.Of(blind.Class).Name} ({blind.Confidence}): {blind.Sentence}");
                }
                else if (blind.Class == FailureClass.Undetermined && seen.Class != FailureClass.Undetermined && blind.NotSeen.IsEmpty && blind.Evidence.IsEmpty)
                {
                    wrong.Add($"{Path.GetFileName(file)}: undetermined, and nothing is said to be missing: {blind.Sentence}");
                }
            }
        });

        Assert.True(wrong.IsEmpty, string.Join('\n', wrong.Distinct().Order(StringComparer.Ordinal)));
    }

    [Fact]
    public void RecordingsOfTheMatrix_AreOfTheirClass()
    {
        var folder = Environment.GetEnvironmentVariable("TRACEPROBE_RECORDINGS");
        Assert.SkipWhen(string.IsNullOrEmpty(folder), "TRACEPROBE_RECORDINGS names no folder");
        var wrong = new ConcurrentBag<string>();
        Parallel.ForEach(Directory.GetFiles(folder!, $"*{RecordingArchive.Extension}"), file =>
        {
            var verdict = Diagnose.Run(RecordingArchive.Read(file).Recording).Verdict;
            if (FailureClassInfo.Of(verdict.Class).Name != Path.GetFileName(file).Split('.')[1] || verdict.Confidence != Confidence.Certain)
            {
                wrong.Add($"{Path.GetFileName(file)}: {FailureClassInfo.Of(verdict.Class).Name} ({verdict.Confidence}): {verdict.Sentence}");
            }
        });
        Assert.True(wrong.IsEmpty, string.Join('\n', wrong.Order(StringComparer.Ordinal)));
    }

    private static bool IsTrueStill(Verdict seen, Verdict blind) => blind.Class == seen.Class || blind.Class == FailureClass.Undetermined || seen.AlsoFound.Contains(blind.Class)
        || SaysLess.TryGetValue(seen.Class, out var less) && less.Contains(blind.Class);

    private static uint ClientNetNs(Recording r) => r.Manifest.Places.FirstOrDefault(p => p.Name == r.Manifest.Client)?.NetNs ?? 0;

    // The other node than the client's, with its pods: as when TraceProbe runs on one node of a cluster.
    private static Recording WithoutServerNode(Recording r, bool account, bool events)
    {
        var home = r.Manifest.Places.FirstOrDefault(p => p.Name == r.Manifest.Client)?.Node;
        var gone = r.Manifest.Places.Where(p => p.Node is not null && p.Node != home).Select(p => p.NetNs).ToHashSet();
        return r with
        {
            Manifest = events ? r.Manifest with { Places = [.. r.Manifest.Places.Where(p => !gone.Contains(p.NetNs))] } : r.Manifest,
            Nodes = account ? [.. r.Nodes.Where(n => !gone.Contains(n.NetNs) && (home is null || n.Name == home))] : r.Nodes,
            Events = events ? [.. r.Events.Where(e => !gone.Contains(e.NetNs))] : r.Events,
        };
    }

    // As the ring buffer loses: events are gone, and that some are is told.
    private static Recording Lossy(Recording r, Random random, int every)
    {
        var kept = r.Events.Where(_ => random.Next(every) != 0).ToList();
        if (kept.Count < r.Events.Length)
        {
            kept.Add(new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = kept.Count > 0 ? kept[^1].BootNanoseconds : 1, Lost = r.Events.Length - kept.Count });
        }

        return r with { Events = [.. kept] };
    }

    // What libpcap would have had of it: packets at devices, without conntrack, processes and drops.
    private static Recording PacketsAlone(Recording r) => r with
    {
        Manifest = r.Manifest with { Source = EventSource.Libpcap, NotSeen = r.Manifest.NotSeen.Add("all but packets") },
        Events =
        [
            .. r.Events.Where(e => e.Kind is EventKind.PacketQueued or EventKind.PacketReceived)
                .Select(e => e with { HasConntrack = false, Original = default, Reply = default, Pid = 0, Command = default, Socket = 0 }),
        ],
    };
}
