using System.Collections.Immutable;
using TraceProbe.Capture;
using TraceProbe.Cluster;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Watching;

/// <summary>What became of an attempt.</summary>
/// <param name="Client">Who: its workload or node.</param>
/// <param name="Service">To which Service and port; or the name, when it is none's.</param>
/// <param name="At">When it began.</param>
/// <param name="Report">The report on it, or on one with the same symptoms just before; null when nothing was out of the ordinary.</param>
/// <param name="Recording">The recording, when it was diagnosed by itself.</param>
internal sealed record Outcome(string Client, string Service, DateTimeOffset At, Report? Report, Recording? Recording)
{
    /// <summary>Its class. Where events were lost meanwhile, what looks like a failure may be what was not seen.</summary>
    public FailureClass Class => Report?.Verdict.Class is not { } judged ? FailureClass.Healthy : EventsLost && judged != FailureClass.Healthy ? FailureClass.Undetermined : judged;

    /// <summary>Whether events were lost while it was under way.</summary>
    public bool EventsLost { get; init; }

    /// <summary>What was out of the ordinary.</summary>
    public Symptoms Symptoms { get; init; }

    /// <summary>The Pod that asked; null when none did.</summary>
    public ObjectReference? Pod { get; init; }

    /// <summary>Whether it failed for certain, whatever the cause.</summary>
    public bool IsFailure => !EventsLost && (Symptoms & (Symptoms.Unanswered | Symptoms.Reset | Symptoms.SocketError | Symptoms.LookupFailed)) != 0;
}

/// <summary>
/// Diagnoses attempts with the classifier that a trace uses: makes a recording of each, with the node's account as it is now. Those that come with the same symptoms
/// within seconds are counted with the one that was diagnosed. One thread.
/// </summary>
/// <param name="unavailable">What the source of events lacks.</param>
/// <param name="read">Told of the nodes whenever they have been read; may be null.</param>
internal sealed class Diagnostician(IReadOnlyList<string> unavailable, Action<ImmutableArray<NodeAccount>>? read = null)
{
    /// <summary>For how long failures with the same symptoms count as one that was diagnosed.</summary>
    public static readonly TimeSpan SameCause = TimeSpan.FromSeconds(3);

    private const int MostRemembered = 10_000;

    private static readonly string Tool = $"traceprobe {typeof(Diagnostician).Assembly.GetName().Version?.ToString(3)}";

    private readonly Dictionary<(string Client, string Service, Symptoms Symptoms, AddressPort? Backend), (long At, Report Report)> _diagnosed = [];
    private ImmutableArray<NodeAccount> _nodes = [];
    private long _nodesReadAt = long.MinValue;

    /// <summary>Says what became of an attempt.</summary>
    /// <param name="attempt">The attempt.</param>
    /// <param name="around">What is around it.</param>
    /// <param name="baselineOf">The baseline to compare it with; may give null.</param>
    /// <returns>What became of it; null when it is not ours to explain.</returns>
    public Outcome? Judge(Attempt attempt, Surroundings around, Func<string, string, Baseline?> baselineOf)
    {
        var client = around.ClientOf(attempt.NetNs);
        if (around.IsForwarded(attempt))
        {
            return null;
        }

        if (around.ServiceOf(attempt) is not { } service)
        {
            return null;
        }

        var clock = BootClock.Anchor();
        var at = clock.WallAt(attempt.StartNanoseconds);
        var pod = around.PodOf(attempt.NetNs);
        var key = (client, service, attempt.Symptoms, attempt.Backend);
        if (_diagnosed.TryGetValue(key, out var known) && attempt.StartNanoseconds - known.At < SameCause.Ticks * 100)
        {
            return new Outcome(client, service, at, known.Report, null) { EventsLost = attempt.Lost > 0, Symptoms = attempt.Symptoms, Pod = pod };
        }

        var recording = Compose(attempt, around, clock) with { Baseline = baselineOf(client, service) };
        var report = Diagnose.Run(recording);
        if (attempt.Lost > 0)
        {
            return new Outcome(client, service, at, report, recording) { EventsLost = true, Symptoms = attempt.Symptoms, Pod = pod };
        }

        if (_diagnosed.Count >= MostRemembered)
        {
            _diagnosed.Clear();
        }

        _diagnosed[key] = (attempt.StartNanoseconds, report);
        return new Outcome(client, service, at, report, recording) { Symptoms = attempt.Symptoms, Pod = pod };
    }

    /// <summary>A recording of an attempt.</summary>
    /// <param name="attempt">The attempt.</param>
    /// <param name="around">What is around it.</param>
    /// <param name="clock">The time.</param>
    /// <param name="age">How long before it the node's rules may have been read; not at all without it.</param>
    public Recording Compose(Attempt attempt, Surroundings around, ClockAnchor clock, TimeSpan age = default)
    {
        if (_nodesReadAt < attempt.StartNanoseconds - (age.Ticks * 100))
        {
            // The rules that its packets met are those of now, unless kube-proxy has just changed them: then the next one of its kind will tell.
            ReadNodes(around, clock.BootNanoseconds);
        }

        return RecordingOf(attempt, around, _nodes, clock, unavailable);
    }

    /// <summary>Reads the nodes.</summary>
    public void ReadNodes(Surroundings around, long now)
    {
        _nodesReadAt = now;
        _nodes = [.. around.Scene.Places.Where(p => p.Kind == PlaceKind.Node).Select(n => NodeReader.Read(n, around.Scene.Places.Where(p => p.Kind == PlaceKind.Pod && p.Node == n.Node)))];
        read?.Invoke(_nodes);
    }

    /// <summary>A recording of an attempt, with the nodes' accounts as they were read.</summary>
    public static Recording RecordingOf(Attempt attempt, Surroundings around, ImmutableArray<NodeAccount> nodes, ClockAnchor clock, IReadOnlyList<string> unavailable)
    {
        var start = attempt.Lookup?.StartNanoseconds ?? attempt.StartNanoseconds;
        return new Recording
        {
            Manifest = new RecordingManifest
            {
                Tool = Tool,
                Mode = RecordingMode.Observe,
                Client = around.PlaceOf(attempt.NetNs)?.Name ?? $"netns:{attempt.NetNs}",
                Cluster = around.Scene.Cluster,
                Clock = clock,
                StartNanoseconds = start,
                EndNanoseconds = clock.BootNanoseconds,
                Source = EventSource.Ebpf,
                Places = around.Scene.Places,
                NotSeen = [.. unavailable, .. attempt.IsBrief ? ["its data packets but the first of each direction, since it was not drawn to be followed in full"] : ImmutableArray<string>.Empty],
            },
            Events = [.. (attempt.Lookup?.Events ?? []).Concat(attempt.Events).OrderBy(e => e.BootNanoseconds)],
            Client = new ClientReport
            {
                Command = attempt.Command.ToString(),
                Pid = attempt.Pid,
                Resolver = around.ResolverOf(attempt.NetNs),
                StartNanoseconds = start,
                EndNanoseconds = attempt.LastNanoseconds,
            },
            Cluster = around.Cluster,
            Nodes = nodes,
        };
    }
}
