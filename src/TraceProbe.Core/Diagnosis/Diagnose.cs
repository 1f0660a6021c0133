using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// Says why a recorded request failed. Pure: the same recording gives the same report, byte for byte.
/// 1. Put the events together into a journey.
/// 2. Walk the stages in the packet's order and collect what disagrees.
/// 3. The first disagreement is the verdict; what could not be seen lowers it.
/// 4. Lay the journey beside a healthy one.
/// </summary>
public static class Diagnose
{
    /// <summary>Diagnoses a recording.</summary>
    public static Report Run(Recording recording)
    {
        ArgumentNullException.ThrowIfNull(recording);
        return Report(new Case(recording));
    }

    /// <summary>
    /// Diagnoses a recording whose nodes can still be asked. When the request did not go well they are asked once more: what the rules on its way counted,
    /// and what connection tracking has of it.
    /// </summary>
    /// <param name="recording">The recording.</param>
    /// <param name="ask">Asks a node.</param>
    /// <param name="always">Whether to ask also when the request went well.</param>
    /// <returns>The recording with the answers, and its report.</returns>
    public static (Recording Recording, Report Report) Run(Recording recording, Func<NodeQuestion, NodeAnswer> ask, bool always)
    {
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(ask);
        var c = new Case(recording);
        var report = Report(c);
        if (!always && report.Verdict.Class is FailureClass.Healthy or FailureClass.SlowerThanBaseline || new RulesMet(c).Questions() is not { IsEmpty: false } questions)
        {
            return (recording, report);
        }

        // What kube-proxy says of itself matters where its rules may be at fault.
        if (report.Verdict.Class is not (FailureClass.Healthy or FailureClass.SlowerThanBaseline) && report.Verdict.Stage is Stage.Translate or null)
        {
            questions = [.. questions.Select(q => q with { AsksKubeProxy = true, KubeProxy = c.NodeCalled(q.Node)?.KubeProxy, KubeProxyTold = recording.Cluster?.Settings.KubeProxy })];
        }

        var answers = questions.ToDictionary(q => q.Node, ask, StringComparer.Ordinal);
        recording = recording with
        {
            Nodes = [.. recording.Nodes.Select(n => answers.GetValueOrDefault(n.Name) is { } a ? n with { Counts = a.Counts, Conntrack = a.Conntrack, KubeProxySaid = a.KubeProxySaid, Unread = n.Unread.AddRange(a.Unread) } : n)],
        };
        return (recording, Report(new Case(recording, c)));
    }

    private static Report Report(Case c)
    {
        var recording = c.Recording;
        var stages = StageFacts.Of(c);
        var verdict = Judge(c, stages);
        if (verdict.Stage is { } failed)
        {
            stages = [.. stages.Select(s => s.Stage == failed && s.Status is StageStatus.Passed or StageStatus.NotReached ? s with { Status = StageStatus.Failed } : s)];
        }

        var comparison = recording.Baseline is { } baseline
            ? Comparison.Between(baseline.Name, true, baseline.Stages, stages)
            : StageFacts.Expected(c) is { IsEmpty: false } expected ? Comparison.Between("what the cluster's objects say", false, expected, stages) : null;
        if (verdict.Class == FailureClass.Healthy && Slower(c, comparison) is { } slower)
        {
            verdict = slower;
        }

        var met = new RulesMet(c);
        var counted = met.Counted();
        if (verdict.Class is not (FailureClass.Healthy or FailureClass.SlowerThanBaseline))
        {
            // That the rules did what they should explains no failure further on; but that they did not may explain any.
            verdict = verdict with { Evidence = [.. verdict.Evidence, .. RulesMet.Disagreements(counted ?? []), .. verdict.Stage is Stage.Translate or null ? met.Tracked().Concat(ProxiesSaid(c)) : []] };
        }

        return new Report
        {
            // Only what was asked for was parsed, so this is known last.
            Verdict = c.UnreadableRules.IsEmpty ? verdict : verdict with { NotSeen = verdict.NotSeen.AddRange(c.UnreadableRules) },
            Target = TargetWords(c),
            Client = recording.Manifest.Client,
            Mode = recording.Manifest.Mode,
            StartedAt = recording.Manifest.Clock.WallAt(recording.Manifest.StartNanoseconds),
            DurationNanoseconds = Duration(c),
            Outcome = OutcomeWords(c),
            Source = recording.Manifest.Source,
            LostEvents = c.Journey.Gaps.Sum(g => g.Lost),
            Stages = stages,
            Comparison = comparison,
            Timeline = Timeline.Of(c),
            Connections = [.. c.Journey.Connections.Where(x => !x.IsDns && !Timeline.IsOthers(c, x)).Take(50).Select(x => Summary(c, x))],
            Rules = counted,
            KubeProxies = recording.Nodes.Any(n => n.KubeProxySaid is not null) ? [.. recording.Nodes.Where(n => n.KubeProxySaid is not null).Select(n => new KubeProxyReport(n.Name, n.KubeProxySaid!))] : null,
            ExitCode = recording.Client?.ExitCode,
        };
    }

    private static IEnumerable<Evidence> ProxiesSaid(Case c)
        => c.Recording.Nodes.Where(n => n.KubeProxySaid is not null).SelectMany(n => n.KubeProxySaid!.Tell(n.Name, c.RulesOf(n, false) is { IsRead: true } rules ? rules.Mode : ProxyMode.Unknown)
            .Select(said => new Evidence(EvidenceSource.Programmed, said, Place: $"node/{n.Name}")));

    /// <summary>The baseline that a healthy report makes.</summary>
    /// <param name="name">The name to store it under.</param>
    /// <param name="recording">What was recorded.</param>
    /// <param name="report">Its report.</param>
    /// <exception cref="ArgumentException">The report is not healthy, or names no target.</exception>
    public static Baseline ToBaseline(string name, Recording recording, Report report)
    {
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(report);
        if (report.Verdict.Class != FailureClass.Healthy)
        {
            throw new ArgumentException($"A baseline is made of a healthy request; this one is {FailureClassInfo.Of(report.Verdict.Class).Name}.", nameof(report));
        }

        var c = new Case(recording);
        var target = c.Target ?? throw new ArgumentException("Nothing was asked for.", nameof(recording));
        return new Baseline
        {
            Name = name,
            Cluster = recording.Manifest.Cluster,
            Client = recording.Manifest.Client,
            Service = ServiceMeant.Key(target, c.ClientNamespace, recording.Cluster),
            Target = target,
            RecordedAt = report.StartedAt,
            Stages = report.Stages,
        };
    }

    /// <summary>The key of the Service that a recorded request was for, as <see cref="Baseline.Service"/> has it; null when nobody can tell.</summary>
    /// <param name="recording">What was recorded.</param>
    public static string? ServiceKey(Recording recording)
    {
        ArgumentNullException.ThrowIfNull(recording);
        var c = new Case(recording);
        return c.Target is { } target ? ServiceMeant.Key(target, c.ClientNamespace, recording.Cluster) : null;
    }

    private static Verdict Judge(Case c, ImmutableArray<StageRecord> stages)
    {
        ImmutableArray<string> notSeen = [.. c.Recording.Manifest.NotSeen, .. Missing(c)];
        if (ExchangeChecks.Succeeded(c))
        {
            return new Verdict
            {
                Class = FailureClass.Healthy,
                Sentence = Begin(HealthySentence(c)),
                Confidence = Confidence.Certain,
                Objects = c.Meant?.Service is { } service ? [service.Ref] : [],
                Evidence = c.Client?.CertificateError is { } certificate ? [new Evidence(EvidenceSource.Client, $"the server's certificate was not verified: {certificate}")] : [],
                NotSeen = notSeen,
            };
        }

        notSeen = [.. notSeen, .. MissingOfFailure(c)];
        var findings = Findings(c).ToList();
        if (findings.Count == 0 || findings[0].Class == FailureClass.Undetermined)
        {
            return Undetermined(c, findings.FirstOrDefault(), stages, notSeen);
        }

        var first = findings[0];
        var lost = c.Journey.Gaps.Sum(g => g.Lost);
        if (lost > 0 && first.Confidence == Confidence.Likely)
        {
            // What was but likely rests on what was not seen, and here that may have been lost.
            return Undetermined(c, first with { Class = FailureClass.Undetermined, Sentence = $"Events were lost, so this is not certain: {first.Sentence}", Mend = null }, stages, notSeen);
        }

        return new Verdict
        {
            Class = first.Class,
            Stage = FailureClassInfo.Of(first.Class).Stage,
            Sentence = Begin(first.Sentence),
            // Events lost in the window may have told another story, unless the accounts disagree whatever was observed.
            Confidence = lost > 0 && first.Confidence == Confidence.Certain ? Confidence.Likely : first.Confidence,
            Objects = [.. first.Objects.Distinct()],
            Evidence = [.. first.Evidence.Distinct()],
            Mend = first.Mend,
            AlsoFound = [.. findings.Skip(1).Select(f => f.Class).Concat(Further(c, first)).Where(k => k != first.Class && k != FailureClass.Undetermined && !IsHow(first.Class, k)).Distinct()],
            NotSeen = [.. first.NotSeen, .. notSeen, .. lost > 0 ? [LostWords(lost)] : Array.Empty<string>()],
        };
    }

    private static IEnumerable<Finding> Findings(Case c)
    {
        foreach (var finding in new ResolveChecks(c).Find())
        {
            yield return finding;
        }

        // A name that led elsewhere: what stands there is not the Service's business.
        var main = c.Main;
        if (main is not null && c.Meant?.Service is { } named && !Leads(c, named, main))
        {
            yield break;
        }

        var stopped = false;
        if (c.Meant?.Service is { } service)
        {
            foreach (var finding in ServiceChecks.Find(c, service, c.Port, main))
            {
                // What a proxy does after it was refused follows from that.
                stopped |= finding.Class is FailureClass.ProxyClosedNoBackend or FailureClass.ProxyDialRefused or FailureClass.Undetermined;
                yield return finding;
            }
        }
        else if (main is not null && UserspaceProxyChecks.Find(c, main) is { } byProxy)
        {
            stopped = true;
            yield return byProxy;
        }

        if (main is not null && !stopped)
        {
            foreach (var finding in new ExchangeChecks(c, main).Find())
            {
                yield return finding;
            }
        }
    }

    // What only carries the first out is no second failure: kube-proxy's own drop for a policy or a range, the closed port of a pod that was asked at another.
    private static bool IsHow(FailureClass first, FailureClass other) => (first, other) is (FailureClass.NoLocalEndpoints or FailureClass.SourceRangeDenied, FailureClass.DroppedByRule)
        or (FailureClass.HeadlessPortNotRemapped, FailureClass.NoListener);

    private static IEnumerable<FailureClass> Further(Case c, Finding first)
        => c.Meant?.Service is { } service && c.Port is { } port && FailureClassInfo.Of(first.Class).Stage is { } stage ? new FurtherOn(c, service, port).Behind(stage) : [];

    private static bool Leads(Case c, Service service, Connection main)
        => ServiceMeant.AddressesOf(service).Contains(main.Asked.Destination.Address) || c.IsOfService(main.Asked.Destination.Address)
            || StageFacts.ExpectedAddresses(c, service).Contains(main.Asked.Destination.Address) || c.Target?.Address is not null;

    private static Verdict Undetermined(Case c, Finding? finding, ImmutableArray<StageRecord> stages, ImmutableArray<string> notSeen)
    {
        var lost = c.Journey.Gaps.Sum(g => g.Lost);
        if (lost > 0)
        {
            notSeen = notSeen.Add(LostWords(lost));
        }

        if (notSeen.IsEmpty && finding is null or { NotSeen.IsEmpty: true })
        {
            notSeen = [c.Main is { Outcome: ConnectionOutcome.Unanswered } main ? $"what became of the packet behind {c.WordsOf((main.Onward ?? main).FarthestNetNs)}" : "the packets that would tell"];
        }

        var nothing = c.Journey.Connections.IsEmpty && c.Client is null or { Failure: null, Connects.IsEmpty: true, Lookups.IsEmpty: true };
        var far = stages.LastOrDefault(s => s.Status == StageStatus.Passed)?.Stage;
        var sentence = finding is null ? null : Begin(finding.Sentence);
        sentence ??= nothing ? $"No connection of {c.ClientWords} was seen, so there is nothing to judge."
            : $"The request {(OutcomeWords(c) is { } words ? $"ended with \"{words}\"" : "was not answered")}{(far is null ? "" : $" after the stage {far.ToString()!.ToLowerInvariant()} went well")}, and what was seen does not single out one cause{Without(c)}.";
        return new Verdict
        {
            Class = FailureClass.Undetermined,
            Stage = stages.FirstOrDefault(s => s.Status == StageStatus.Failed)?.Stage,
            Sentence = sentence,
            Confidence = Confidence.None,
            Objects = finding is { Objects.IsEmpty: false } ? finding.Objects : c.Meant?.Service is { } service ? [service.Ref] : [],
            Evidence = finding?.Evidence ?? [],
            Mend = finding?.Mend,
            NotSeen = [.. finding?.NotSeen ?? [], .. notSeen],
        };
    }

    private static string Without(Case c) => (c.Recording.Cluster is null, c.Recording.Nodes.IsEmpty) switch
    {
        (true, true) => " without the cluster's objects and the nodes' rules",
        (true, _) => " without the cluster's objects",
        (_, true) => " without the nodes' rules",
        _ => "",
    };

    // "service" and "pod" begin sentences; names of nodes stay as they are.
    private static string Begin(string sentence) => sentence.StartsWith("service ", StringComparison.Ordinal) || sentence.StartsWith("pod ", StringComparison.Ordinal)
        ? char.ToUpperInvariant(sentence[0]) + sentence[1..] : sentence;

    private static string LostWords(long lost) => string.Create(CultureInfo.InvariantCulture, $"{lost} event{(lost == 1 ? "" : "s")} lost while the request was followed");

    private static IEnumerable<string> Missing(Case c)
    {
        if (c.Recording.Cluster is not { } cluster)
        {
            yield return "the desired account: no cluster snapshot was given";
        }
        else
        {
            foreach (var unread in cluster.Unread)
            {
                yield return $"{unread.What}: {unread.Why}";
            }
        }

        if (c.Recording.Nodes.IsEmpty)
        {
            yield return "the programmed account: no node could be read";
        }

        foreach (var unread in c.Recording.Nodes.SelectMany(n => n.Unread.Select(u => $"{u.What}{(u.What.EndsWith($" of {n.Name}", StringComparison.Ordinal) ? "" : $" of {n.Name}")}: {u.Why}")).Distinct())
        {
            yield return unread;
        }
    }

    // Which of the accounts that a failure may need was not there.
    private static IEnumerable<string> MissingOfFailure(Case c)
    {
        if (!c.Recording.Nodes.IsEmpty && c.Main is { } main && c.Cluster.FindPodByAddress((main.Onward ?? main).Backend.Address) is { Spec.NodeName: { } home } pod)
        {
            if (c.NodeCalled(home) is null)
            {
                yield return $"the programmed account of {home}, where pod {pod.Metadata.Namespace}/{pod.Metadata.Name} is";
            }

            if (!c.Recording.Manifest.Places.Any(p => p.Node == home))
            {
                yield return $"what happened on {home}, where pod {pod.Metadata.Namespace}/{pod.Metadata.Name} is";
            }
        }

        if (c.Recording.Events.IsEmpty)
        {
            yield return "the observed account: not one event was seen";
        }
    }

    private static Verdict? Slower(Case c, Comparison? comparison)
    {
        if (comparison is not { IsRecorded: true } || comparison.Stages.FirstOrDefault(s => s.Difference == Difference.Slower) is not { } stage)
        {
            return null;
        }

        return new Verdict
        {
            // The name's own slowness has a class of its own: it delays every request alike.
            Class = stage.Stage == Stage.Resolve ? FailureClass.ResolverSlow : FailureClass.SlowerThanBaseline,
            Stage = stage.Stage,
            Sentence = string.Create(CultureInfo.InvariantCulture, $"The request was answered, but its stage {stage.Stage.ToString().ToLowerInvariant()} took {stage.ThisNanoseconds / 1e6:0.0} ms where the baseline {comparison.With} has {stage.HealthyNanoseconds / 1e6:0.0} ms."),
            Confidence = Confidence.Certain,
            Objects = stage.Stage == Stage.Resolve && c.Cluster.ClusterDns is { } dns && c.AskedResolvers().Any(c.IsClusterDns) ? [dns.Ref] : c.Meant?.Service is { } service ? [service.Ref] : [],
            Evidence = [.. c.Lookups.Where(l => stage.Stage == Stage.Resolve && l.AnsweredNanoseconds is not null).OrderByDescending(l => l.AnsweredNanoseconds - l.SentNanoseconds).Take(2).Select(l => new Evidence(EvidenceSource.Observed,
                string.Create(CultureInfo.InvariantCulture, $"{l.Connection.Asked.Destination.Address} took {(l.AnsweredNanoseconds!.Value - l.SentNanoseconds) / 1e6:0.0} ms to answer {l.Type} {l.Name}"), c.SinceStart(l.SentNanoseconds), c.PlaceName(l.Connection.ClientNetNs)))],
        };
    }

    private static string HealthySentence(Case c)
    {
        var who = c.Main is { } main ? c.IsBehindProxy(main) && main.Onward is { } onward ? $"{c.HolderWords(onward.Backend.Address)} through kube-proxy" : c.HolderWords(main.Backend.Address) : c.Target?.Host ?? "The server";
        var service = c.Meant?.Service is { } s ? $" for service {s.Metadata.Namespace}/{s.Metadata.Name}" : "";
        var status = c.Client?.StatusLine ?? c.Main?.StatusLine;
        return c.Target?.Scheme == RequestScheme.Tcp && status is null && c.Recording.Manifest.Mode == RecordingMode.Trace
            ? $"{who} accepted the connection{service}."
            : $"{who} answered{service}{(status is null ? "" : $": {status}")}.";
    }

    private static string? TargetWords(Case c) => c.Target switch
    {
        null => null,
        { Port: 0 } target => target.Host,
        var target when c.Recording.Manifest.Target is null => $"{(target.Address is { IsIPv4: false } ? $"[{target.Host}]" : target.Host)}:{target.Port.ToString(CultureInfo.InvariantCulture)}",
        var target => target.ToString(),
    };

    private static string? OutcomeWords(Case c)
    {
        if (c.Client is { } client)
        {
            if ((client.StatusLine ?? client.TlsFailure ?? client.Failure) is { } words)
            {
                return words;
            }

            if (c.Recording.Manifest.Mode == RecordingMode.Trace)
            {
                return "connected";
            }
        }

        else if (c.Recording.Manifest.Mode == RecordingMode.Trace)
        {
            return "no answer before it was interrupted";
        }

        return c.Main is { } main ? main.StatusLine ?? StageFacts.OutcomeWords(main)
            : c.Lookups.IsEmpty || !c.FinalAddresses().IsEmpty ? null : $"no address for {c.Target?.Host ?? c.Lookups[0].Name}";
    }

    private static long Duration(Case c)
    {
        var start = c.Recording.Manifest.StartNanoseconds;
        var end = c.Client is { EndNanoseconds: > 0 } client ? client.EndNanoseconds
            : c.Recording.Manifest.Mode == RecordingMode.Trace ? c.Recording.Manifest.EndNanoseconds : c.Journey.EndNanoseconds;
        return Math.Max(0, end - start);
    }

    private static ConnectionSummary Summary(Case c, Connection connection) => new(
        connection.Asked.ToString(),
        connection.Translated?.ToString(),
        c.HolderWords(connection.Backend.Address) is var holder && holder != connection.Backend.Address.ToString() ? holder : null,
        connection.Process?.ToString(),
        connection.Outcome.ToString().ToLowerInvariant(),
        connection.OutcomeNanoseconds - connection.StartNanoseconds);
}
