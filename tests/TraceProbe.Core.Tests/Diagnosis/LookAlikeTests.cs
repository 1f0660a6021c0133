using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Diagnosis;

/// <summary>What looks alike to the application, and is told apart: over the recordings of the scenarios.</summary>
public class LookAlikeTests
{
    // Of these no recording is at hand: they need IPVS, a race, a table of the whole machine that is full, or an old entry for the very port that a request gets; and the last two
    // are told by `check` alone, since a single request succeeds with them.
    private static readonly FailureClass[] Unrecorded =
    [
        FailureClass.ConntrackInsertRace, FailureClass.ConntrackFull, FailureClass.ConntrackStale, FailureClass.IpvsAddressMissing, FailureClass.EndpointShareUneven, FailureClass.MasqueradeUnexpected,
    ];

    private static readonly Lazy<ILookup<FailureClass, (string Name, Recording Recording, Verdict Verdict)>> Recorded = new(() => Directory
        .GetFiles(Path.Combine(Repository.Root, "tests", "scenarios"), $"*{RecordingArchive.Extension}").Order(StringComparer.Ordinal)
        .Select(f => (Name: Path.GetFileName(f), RecordingArchive.Read(f).Recording)).Select(r => (r.Name, r.Recording, Diagnose.Run(r.Recording).Verdict))
        .ToLookup(r => FailureClassInfo.Find(r.Name.Split('.')[0])!.Class));

    /// <summary>Every pair, by the names of its classes.</summary>
    public static TheoryData<string, string> Pairs => [.. LookAlike.All.Select(p => (FailureClassInfo.Of(p.One).Name, FailureClassInfo.Of(p.Other).Name))];

    /// <summary>What an application is told, and the failures that all tell it so.</summary>
    public static TheoryData<string, string[]> Families => new()
    {
        // By a rule of kube-proxy's, by somebody else's, by the pod's kernel.
        { "Connection refused", ["no-pods", "endpoint-rule-missing", "wrong-target-port", "no-listener", "listener-on-loopback", "listener-wrong-family", "rejected-by-rule"] },
        // No rule, a rule that drops, no route, no neighbour, the reverse path, a full queue.
        { "Connection timed out", ["service-rule-missing", "stale-endpoint-rule", "translation-shadowed", "dropped-by-rule", "no-route-to-pod", "pod-unreachable", "reverse-path-filtered", "hairpin-disabled", "masquerade-missing", "reply-untranslated", "accept-queue-full"] },
        // Too big for a link, a server that is silent, one that stops.
        { "Operation timed out", ["mtu-blackhole", "no-response", "response-stalled"] },
        // The pod, and a proxy before it.
        { "Empty reply from server", ["closed-without-reply", "proxy-dial-refused", "no-listener", "wrong-target-port"] },
    };

    [Fact]
    public void EachClass_HasItsLookAlikes_NamedOnceAndFromBothSides()
    {
        LookAlike.All.Select(p => p.One < p.Other ? (p.One, p.Other) : (p.Other, p.One)).ShouldBeUnique();
        foreach (var pair in LookAlike.All)
        {
            pair.One.ShouldNotBe(pair.Other);
            pair.ToldApart.ShouldEndWith(".");
            FailureClassInfo.Of(pair.One).LookAlikes.ShouldContain(pair);
            FailureClassInfo.Of(pair.Other).LookAlikes.ShouldContain(pair);
        }

        FailureClassInfo.All.Where(i => i.Stage is not null && !i.LookAlikes.Any()).Select(i => i.Name).ShouldBeEmpty();
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void LookAlikes_AreToldApart(string one, string other)
    {
        var (first, second) = (FailureClassInfo.Find(one)!.Class, FailureClassInfo.Find(other)!.Class);
        Assert.SkipWhen(Unrecorded.Contains(first) || Unrecorded.Contains(second), "there is no recording of one of them");
        foreach (var (own, looksLike) in new[] { (first, second), (second, first) })
        {
            Recorded.Value[own].ShouldNotBeEmpty();
            foreach (var (name, _, verdict) in Recorded.Value[own])
            {
                verdict.Class.ShouldBe(own, name);
                // That a userspace proxy was refused, or had nobody, is how it comes out there; of slowness the baseline beside it is the evidence.
                if (looksLike is not (FailureClass.ProxyDialRefused or FailureClass.ProxyClosedNoBackend))
                {
                    verdict.AlsoFound.ShouldNotContain(looksLike, name);
                }

                if (own != FailureClass.SlowerThanBaseline)
                {
                    verdict.Evidence.ShouldNotBeEmpty(name);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void WhatTheApplicationIsToldAlike_HasACauseOfItsOwn(string told, string[] classes)
    {
        foreach (var name in classes)
        {
            Recorded.Value[FailureClassInfo.Find(name)!.Class].Where(r => r.Recording.Client?.Failure == told).ShouldNotBeEmpty($"{name}: \"{told}\"");
        }
    }
}
