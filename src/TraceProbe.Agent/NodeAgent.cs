using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Threading.Channels;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Baselines;
using TraceProbe.Agent.Sessions;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Agent.Watching;
using TraceProbe.Capture;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Rules;

namespace TraceProbe.Agent;

/// <summary>
/// Watches a node: every connection through a Service and every lookup of its clients, in the kernel; diagnoses those that are out of the ordinary, and tells of what
/// goes on failing.
/// <list type="number">
/// <item>Watch: one thread reads events and sorts them into attempts.</item>
/// <item>Judge: one thread diagnoses the attempts with symptoms; what it cannot keep up with is counted.</item>
/// <item>Tell: alerts are opened and resolved, and each receiver is told at its own pace.</item>
/// <item>Look around: the objects, the namespaces and the Services' addresses are followed as they change.</item>
/// </list>
/// </summary>
public sealed partial class NodeAgent : BackgroundService
{
    // Failures with other causes than these few per second are counted as not looked at.
    private const int MostWaiting = 512;

    // At a thousand a second this is what comes while a node is read on a busy machine. The first of them hold their events, some twenty kilobytes each.
    private const int MostHealthyWaiting = 32_768;
    private const int MostHealthyHolding = 512;

    private const int MostKinds = 10_000;
    private const int MostExamples = 64;
    private const int MostRecent = 500;

    // Connections that become spans, beside failures: each costs a millisecond or two.
    private const int MostSpannedPerSecond = 25;

    private static readonly TimeSpan LookAround = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan StoreEvery = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan CloserLook = TimeSpan.FromSeconds(10);

    // Judging an attempt takes milliseconds, reading a large node's rules a second.
    private static readonly TimeSpan StuckAfter = TimeSpan.FromSeconds(60);

    private volatile AgentSettings _settings;
    private readonly Func<Scene> _scene;
    private readonly ILogger<NodeAgent> _log;
    private readonly Channel<Attempt> _symptomatic = Channel.CreateBounded<Attempt>(new BoundedChannelOptions(MostWaiting) { SingleReader = true, SingleWriter = true });
    private readonly Channel<Attempt> _healthy = Channel.CreateBounded<Attempt>(new BoundedChannelOptions(MostHealthyWaiting) { SingleReader = true, SingleWriter = true });
    private readonly List<SinkQueue> _sinks = [];
    private readonly FailureFiles _failures;
    private readonly ConnectionSpans _spans = new();
    private readonly SpanBudget _budget = new(MostSpannedPerSecond);
    private readonly SpanBudget _rare = new(1);
    private readonly LearnedBaselines _baselines;
    private readonly Dictionary<(string Service, string Client), long> _lookedAt = [];
    private readonly Dictionary<AlertKey, Outcome> _examples = [];
    private readonly Dictionary<string, int> _proxies = [];
    private readonly AgentMetrics _metrics;
    private readonly Queue<FailureMessage> _recent = new();
    private readonly DateTimeOffset _since = TimeProvider.System.GetUtcNow();
    private readonly string? _node;
    private string _name;
    private volatile string? _away;
    private volatile IReadOnlyList<AlertMessage> _open = [];
    private long _judgedAt = Environment.TickCount64;
    private CancellationToken _stopping;
    private AlertBook _alerts = null!;
    private Surroundings _around = null!;
    private KernelObserver _observer = null!;
    private AttemptTable _table = null!;
    private long _notJudged;
    private long _changes;

    /// <summary>An agent; it begins when its host starts.</summary>
    /// <param name="settings">What it is told.</param>
    /// <param name="scene">Gives the scene as it is now.</param>
    /// <param name="sinks">Who is told of alerts.</param>
    /// <param name="failures">Where recordings of failures are kept.</param>
    /// <param name="metrics">What is counted.</param>
    /// <param name="log">Where it says what it does.</param>
    public NodeAgent(AgentSettings settings, Func<Scene> scene, IEnumerable<IAlertSink> sinks, FailureFiles failures, AgentMetrics metrics, ILogger<NodeAgent> log)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(sinks);
        ArgumentNullException.ThrowIfNull(metrics);
        (_settings, _scene, _failures, _metrics, _log) = (settings, scene, failures, metrics, log);
        _node = settings.Node;
        _name = _node ?? Environment.MachineName;
        _sinks.AddRange(sinks.Select(s => new SinkQueue(s, log)));
        _baselines = new LearnedBaselines(settings.BaselineFolder, LogDamaged);
        metrics.Count("traceprobe.events.lost", "Events that the kernel could not hand over.", () => _table?.Lost ?? 0);
        metrics.Count("traceprobe.attempts.shed", "Attempts there was no room for.", () => _table?.Shed ?? 0);
        metrics.Count("traceprobe.attempts.not_judged", "Attempts that there was no time to judge.", () => Interlocked.Read(ref _notJudged));
        metrics.Gauge("traceprobe.attempts.open", "Attempts under way.", () => _table?.Open ?? 0);
        metrics.Gauge("traceprobe.alerts.open", "Alerts that are open.", () => _open.Count);
        metrics.Count("traceprobe.alerts.unsent", "Changes of alerts that gave way since their receiver was away.", () => _sinks.Sum(s => s.Dropped));
        metrics.Count("traceprobe.alerts.send_failures", "How often a receiver of alerts could not be told.", () => _sinks.Sum(s => s.Failed));
        metrics.Count("traceprobe.behaviour.changes", "How often healthy connections were found to go another way than they used to.", () => Interlocked.Read(ref _changes));
        metrics.Gauge("traceprobe.cluster.away", "1 while it goes on with the cluster's objects as they were known last.", () => _away is null ? 0 : 1);
    }

    /// <summary>What happens, as it does.</summary>
    public LiveFeed Feed { get; } = new();

    /// <summary>Whether the kernel's programs are loaded and read.</summary>
    public bool IsWatching { get; private set; }

    /// <summary>Whether it goes on judging.</summary>
    public bool IsAlive => Environment.TickCount64 - Interlocked.Read(ref _judgedAt) < StuckAfter.TotalMilliseconds;

    /// <summary>The alerts that are open.</summary>
    public IReadOnlyList<AlertMessage> OpenAlerts => _open;

    /// <summary>The last connections that were diagnosed, the newest first.</summary>
    public IReadOnlyList<FailureMessage> RecentFailures
    {
        get
        {
            lock (_recent)
            {
                return [.. _recent.Reverse()];
            }
        }
    }

    /// <summary>How it is.</summary>
    public AgentMessage Message => new()
    {
        Program = typeof(NodeAgent).Assembly.GetName().Version?.ToString(3) ?? "0",
        Node = _name,
        Since = _since,
        Places = [.. Volatile.Read(ref _around)?.Scene.Places.Select(p => p.Name) ?? []],
        Away = _away,
        Open = _table?.Open ?? 0,
        Lost = _table?.Lost ?? 0,
        Shed = _table?.Shed ?? 0,
        NotJudged = Interlocked.Read(ref _notJudged),
    };

    /// <summary>Tells of a question to the API that could not be answered.</summary>
    internal void CouldNotAnswer(string path, Exception e) => LogNotAnswered(path, e.Message);

    /// <summary>Told when it stops.</summary>
    internal CancellationToken Stopping => _stopping;

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        _stopping = stoppingToken;
        _around = new Surroundings(_scene(), _node);
        _name = _node ?? _around.Scene.Places.FirstOrDefault(p => p.Kind == PlaceKind.Node)?.Node ?? Environment.MachineName;
        _alerts = new AlertBook(_name, _settings.Alerts);
        _table = new AttemptTable(
            address => Volatile.Read(ref _around).IsService(address),
            (netNs, address) => Volatile.Read(ref _around).Arrives(netNs, address),
            (netNs, address) => Volatile.Read(ref _around).LivesElsewhere(netNs, address),
            netNs => Volatile.Read(ref _around).SearchOf(netNs),
            lookup => Volatile.Read(ref _around).LeadsAstray(lookup),
            Sort);
        using (_observer = Open())
        {
            LogWatching(_name, _around.ServiceAddresses.Count, _around.Scene.Places.Length, _observer.OpenTime.TotalMilliseconds);

            // When one of them cannot go on, none does: half an agent would say that all is well.
            using var ending = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken);
            List<Task> parts =
            [
                OnItsOwnThread("watch", () => Watch(ending.Token)),
                OnItsOwnThread("judge", () => Judge(ending.Token)),
                FollowAsync(ending.Token),
                .. _sinks.Select(s => s.RunAsync(ending.Token)),
            ];
            IsWatching = true;
            await Task.WhenAny(parts).ConfigureAwait(false);
            IsWatching = false;
            await ending.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(parts).ConfigureAwait(false);
        }

        _spans.Dispose();
        LogStopped(_table.Lost, _table.Shed, _notJudged);
    }

    private KernelObserver Open()
    {
        // A destination of the shape that all others have: opened with none, every connection would be followed.
        return KernelObserver.Open(new ObservationFilter
        {
            Targets = [new ObservationTarget(IpAddress.IPv4Any), .. _around.ServiceAddresses.Concat(_around.LocalEndpoints).Select(a => new ObservationTarget(a))],
            OneIn = (uint)_settings.Sampling.OneIn,
            Namespaces = _around.Scene.IsClosed ? [.. _around.Scene.Places.Select(p => p.NetNs).Where(n => n != 0).Append(uint.MaxValue)] : [],
            FirstLines = true,
            RingBytes = _settings.RingBytes,
            MaxFlows = 1 << 16,
            MaxTargets = 1 << 16,
        });
    }

    // ---- watch ----

    private void Watch(CancellationToken stopping)
    {
        var next = 0L;
        while (!stopping.IsCancellationRequested)
        {
            _observer.Poll(Take, TimeSpan.FromMilliseconds(100));
            if (BootClock.Now is var now && now >= next)
            {
                _table.Advance(now);
                next = now + 50_000_000;
            }
        }

        // What is over by now still counts.
        _table.Advance(BootClock.Now + 500_000_000);
        _symptomatic.Writer.TryComplete();
    }

    private void Take(in NetworkEvent e)
    {
        // What a socket still holds when it closes is no loss.
        if (e.Kind == EventKind.PacketDropped && e.DropReason != "QUEUE_PURGE")
        {
            _metrics.Dropped(e);
        }

        _table.Add(e);
    }

    private void Sort(Attempt attempt)
    {
        // The client's node tells what became of it; what this one has to add are spans.
        if (attempt is { IsArrival: true, IsBrief: true, Symptoms: Symptoms.None })
        {
            _table.LetGo(attempt);
            return;
        }

        if (attempt.Symptoms == Symptoms.None && _healthy.Reader.Count >= MostHealthyHolding)
        {
            // That it went well, and how long it took, is known without them.
            _table.LetGo(attempt);
        }

        if (!(attempt.Symptoms == Symptoms.None ? _healthy : _symptomatic).Writer.TryWrite(attempt))
        {
            Interlocked.Increment(ref _notJudged);
        }
    }

    // ---- judge ----

    private void Judge(CancellationToken stopping)
    {
        var diagnostician = new Diagnostician(_observer.Unavailable, FollowProxies);
        try
        {
            // How kube-proxy works here is to be known before the first failure.
            diagnostician.ReadNodes(Volatile.Read(ref _around), BootClock.Now);
        }
        catch (Exception e) when (e is IOException or SessionException or UnauthorizedAccessException or FormatException)
        {
            LogNotJudged(e.Message);
        }

        var told = DateTimeOffset.MinValue;
        var stored = TimeProvider.System.GetUtcNow();
        while (!stopping.IsCancellationRequested)
        {
            Interlocked.Exchange(ref _judgedAt, Environment.TickCount64);
            var around = Volatile.Read(ref _around);
            var waited = false;
            if (_symptomatic.Reader.TryRead(out var attempt))
            {
                try
                {
                    if (attempt.IsArrival)
                    {
                        Arrived(attempt, around);
                    }
                    else if (diagnostician.Judge(attempt, around, (client, service) => _baselines.Find(client, service)?.Journey) is { } outcome)
                    {
                        _metrics.Attempted(around.LabelOf(attempt), outcome.Class);
                        Measure(attempt);
                        Take(outcome);
                        if (outcome is { Recording: null, Report: { } report } && !attempt.IsBrief && _spans.AreTaken && _budget.Take())
                        {
                            // It was drawn, on every node along its way, and its cause is known from another.
                            _spans.Emit(diagnostician.Compose(attempt, around, BootClock.Anchor(), CloserLook), report);
                        }
                    }
                }
                catch (Exception e) when (e is IOException or SessionException or UnauthorizedAccessException or FormatException)
                {
                    LogNotJudged(e.Message);
                }
            }
            else
            {
                waited = true;
            }

            LearnAll(around, diagnostician);

            var now = TimeProvider.System.GetUtcNow();
            if (now - told >= TimeSpan.FromSeconds(1))
            {
                told = now;
                _alerts.Policy = _settings.Alerts;
                foreach (var change in _alerts.Advance(now))
                {
                    Tell(change);
                }

                _open = [.. _alerts.Open.Select(AlertMessage.Of)];
            }

            if (now - stored >= StoreEvery)
            {
                stored = now;
                Store();
            }

            if (waited)
            {
                stopping.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(50));
            }
        }

        // The watch ends at the same time, and hands over what is left.
        SpinWait.SpinUntil(() => _symptomatic.Reader.Completion.IsCompleted || _symptomatic.Reader.Count > 0, TimeSpan.FromSeconds(1));
        LearnAll(Volatile.Read(ref _around), diagnostician);
        Store();
    }

    // Healthy ones are as many as there are connections: their names are enough, and of each kind one now and then for a closer look.
    private void LearnAll(Surroundings around, Diagnostician diagnostician)
    {
        while (_healthy.Reader.TryRead(out var healthy))
        {
            Learn(healthy, around, diagnostician);
            _table.LetGo(healthy);
        }
    }

    private void Learn(Attempt healthy, Surroundings around, Diagnostician diagnostician)
    {
        if (healthy.IsArrival)
        {
            Arrived(healthy, around);
            return;
        }

        var destination = healthy.Asked!.Value.Destination;
        var (service, client) = (around.ServiceOf(healthy)!, around.ClientOf(healthy.NetNs));
        var clock = BootClock.Anchor();
        var at = clock.WallAt(healthy.StartNanoseconds);
        var baseline = _baselines.Of(client, service, destination.Address.IsIPv4 ? 4 : 6);
        Measure(healthy);
        if (baseline.Learn(healthy, at) is var (slow, sentence))
        {
            var info = FailureClassInfo.Of(slow);
            _metrics.Attempted(around.LabelOf(healthy), slow);
            var verdict = new Verdict { Class = slow, Stage = info.Stage, Sentence = sentence, Confidence = Confidence.Certain, Mend = new Mend(info.Mend, null) };
            if (_alerts.Failed(new AlertKey(slow, service, client), at, verdict, () => Example(service, around.PodOf(healthy.NetNs), healthy.Events.Count == 0 ? null : diagnostician.Compose(healthy, around, clock), null)) is { } opened)
            {
                Tell(opened);
            }

            return;
        }

        _metrics.Attempted(around.LabelOf(healthy), FailureClass.Healthy);
        Succeeded(service, client, at);
        if (healthy.IsBrief || healthy.Events.Count == 0 || (!IsDue(service, client) && !(_spans.AreTaken && _budget.Take())))
        {
            return;
        }

        var recording = diagnostician.Compose(healthy, around, clock, CloserLook);
        var report = Diagnose.Run(recording);
        var trace = _spans.Emit(recording, report);
        if (report.Verdict.Class == FailureClass.Healthy)
        {
            foreach (var (stage, change) in baseline.Follow(Diagnose.ToBaseline("learned", recording, report)))
            {
                Changed(client, service, stage, change, at);
            }

            baseline.TraceParent = trace is { } root ? $"00-{root.TraceId}-{root.SpanId}-01" : baseline.TraceParent;
        }
    }

    // Not an alert: nobody has come to harm, and what changed may have been meant to.
    private void Changed(string client, string service, Stage stage, string change, DateTimeOffset at)
    {
        Interlocked.Increment(ref _changes);
        LogChanged(client, service, change);
        Feed.Publish(new LiveMessage { Change = new ChangeMessage { At = at, Node = _name, Client = client, Service = service, Stage = stage.ToString().ToLowerInvariant(), Sentence = change } });
    }

    // The half of a connection that its client's node does not see.
    private void Arrived(Attempt attempt, Surroundings around)
    {
        // One that was not drawn is part of a trace only if its client's node diagnosed that very one, which it does of few when many fail.
        if (_spans.AreTaken && (attempt.IsBrief ? _rare : _budget).Take())
        {
            _spans.EmitArrival(Diagnostician.RecordingOf(attempt, around, [], BootClock.Anchor(), _observer.Unavailable));
        }
    }

    private void Measure(Attempt attempt)
    {
        if (attempt.Lookup is { ResolvedNanoseconds: { } answered } lookup)
        {
            _metrics.LookedUp(TimeSpan.FromTicks((answered - lookup.StartNanoseconds) / 100));
        }

        if (attempt is { Asked: not null, EstablishedNanoseconds: { } established })
        {
            _metrics.Connected(TimeSpan.FromTicks(Math.Max(0, established - attempt.StartNanoseconds) / 100));
        }
    }

    private void Store()
    {
        try
        {
            _baselines.Store();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotStored(e.Message);
        }
    }

    // In userspace mode it dials the pods itself, on behalf of those who asked for the Service; in the others it makes no connections that anybody asked for.
    private void FollowProxies(ImmutableArray<NodeAccount> nodes)
    {
        foreach (var node in nodes)
        {
            if (node.KubeProxy is { } proxy && _proxies.GetValueOrDefault(node.Name) != proxy.Pid && ProxyRules.Of(node, isIPv6: false).Mode == ProxyMode.Userspace)
            {
                _observer.Follow(proxy.Pid, FollowMode.SocketsOnly);
                _proxies[node.Name] = proxy.Pid;
            }
        }
    }

    // One of each kind in ten seconds, whatever the rate.
    private bool IsDue(string service, string client)
    {
        var now = Environment.TickCount64;
        if (_lookedAt.TryGetValue((service, client), out var last) && now - last < CloserLook.TotalMilliseconds)
        {
            return false;
        }

        if (_lookedAt.Count >= MostKinds)
        {
            _lookedAt.Clear();
        }

        _lookedAt[(service, client)] = now;
        return true;
    }

    private void Take(Outcome outcome)
    {
        ActivityContext? trace = null;
        if (outcome.Recording is { } recording)
        {
            var healthy = _baselines.Find(outcome.Client, outcome.Service)?.TraceParent;
            trace = _spans.Emit(recording, outcome.Report!, ActivityContext.TryParse(healthy, null, isRemote: true, out var root) ? root : null);
        }

        if (outcome.Class is not (FailureClass.Healthy or FailureClass.SlowerThanBaseline) && outcome.Report is { } report && (outcome.IsFailure || outcome.Class != FailureClass.Undetermined))
        {
            Show(outcome, report, trace);
        }

        switch (outcome.Class)
        {
            // That one connection took longer than one other is chance; what is slow is told by many (see Learn).
            case FailureClass.Healthy or FailureClass.SlowerThanBaseline:
                Succeeded(outcome.Service, outcome.Client, outcome.At);
                break;
            case FailureClass.Undetermined when !outcome.IsFailure:
                if (outcome.Recording is not null)
                {
                    LogUndetermined(outcome.Client, outcome.Service, outcome.Report!.Verdict.Sentence);
                }

                break;
            default:
                var key = new AlertKey(outcome.Class, outcome.Service, outcome.Client);
                if (outcome.Recording is not null)
                {
                    Remember(key, outcome);
                }

                if (_alerts.Failed(key, outcome.At, outcome.Report!.Verdict, () => _examples.Remove(key, out var example) ? Example(key.Service, example.Pod, example.Recording, example.Report) : Example(key.Service, outcome.Pod, null, null)) is { } opened)
                {
                    Tell(opened);
                }

                break;
        }
    }

    private void Show(Outcome outcome, Report report, ActivityContext? trace)
    {
        var failure = new FailureMessage
        {
            At = outcome.At,
            Node = _name,
            Class = FailureClassInfo.Of(outcome.Class).Name,
            Service = outcome.Service,
            Client = outcome.Client,
            Sentence = outcome.Class == report.Verdict.Class ? report.Verdict.Sentence : "Events were lost while it was under way, so what looks like a failure may be what was not seen.",
            MendCommand = outcome.Class == report.Verdict.Class ? report.Verdict.Mend?.Command : null,
            TraceId = trace?.TraceId.ToHexString(),
        };
        lock (_recent)
        {
            if (_recent.Count == MostRecent)
            {
                _recent.Dequeue();
            }

            _recent.Enqueue(failure);
        }

        Feed.Publish(new LiveMessage { Failure = failure });
    }

    // One that was diagnosed by itself, until enough others have come to make an alert of it.
    private void Remember(AlertKey key, Outcome example)
    {
        if (_examples.ContainsKey(key))
        {
            return;
        }

        if (_examples.Count >= MostExamples)
        {
            _examples.Remove(_examples.MinBy(e => e.Value.At).Key);
        }

        _examples[key] = example;
    }

    // What came to a port came past the name too, and it is the name that a failed lookup is counted with.
    private void Succeeded(string service, string client, DateTimeOffset at)
    {
        _alerts.Succeeded(service, client, at);
        if (service.LastIndexOf(':') is > 0 and var colon)
        {
            _alerts.Succeeded(service[..colon], client, at);
        }
    }

    private AlertExample Example(string service, ObjectReference? pod, Recording? recording, Report? report) => new()
    {
        Recording = recording is null ? null : Keep(recording, report),
        Service = Volatile.Read(ref _around).ServiceCalled(service),
        Pod = pod,
    };

    private string? Keep(Recording recording, Report? report)
    {
        try
        {
            return _failures.Keep(recording, report ?? Diagnose.Run(recording));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or RecordingException)
        {
            LogNotKept(e.Message);
            return null;
        }
    }

    private void Tell(AlertChange change)
    {
        var alert = change.Alert;
        var name = FailureClassInfo.Of(alert.Key.Class).Name;
        if (change.Event == AlertEvent.Opened)
        {
            LogOpened(name, alert.Key.Client, alert.Key.Service, alert.Sentence, alert.Mend?.Command ?? alert.Mend?.Text ?? "-");
        }
        else if (change.Event == AlertEvent.Resolved)
        {
            LogResolved(name, alert.Key.Client, alert.Key.Service, string.Create(CultureInfo.InvariantCulture, $"{alert.Count} of {alert.Attempts}"), alert.LastSeen - alert.FirstSeen);
        }

        if (change.Event != AlertEvent.Continues)
        {
            Feed.Publish(new LiveMessage { Alert = AlertMessage.Of(change) });
        }

        foreach (var sink in _sinks)
        {
            sink.Add(change);
        }
    }

    // ---- look around ----

    private async Task FollowAsync(CancellationToken stopping)
    {
        using var timer = new PeriodicTimer(LookAround);
        try
        {
            while (await timer.WaitForNextTickAsync(stopping).ConfigureAwait(false))
            {
                try
                {
                    var scene = _scene();
                    if (!_around.IsOf(scene))
                    {
                        Update(new Surroundings(scene, _node, _around));
                    }

                    Away(_around.Cluster?.Unread.FirstOrDefault(u => u.IsStale) is { } stale ? $"{stale.What}: {stale.Why}" : null);
                }
                catch (SessionException e)
                {
                    Away(e.Message);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The host stops.
        }
    }

    /// <summary>Goes on with other settings; what they say of sampling, alerts and recordings holds from now on, the rest from the next start on.</summary>
    internal void Take(AgentSettings settings)
    {
        var before = _settings;
        _settings = settings;
        _failures.Most = settings.Recordings;
        if (before.Sampling.OneIn != settings.Sampling.OneIn && IsWatching)
        {
            var around = Volatile.Read(ref _around);
            foreach (var address in around.ServiceAddresses.Concat(around.LocalEndpoints))
            {
                _observer.Aim(new ObservationTarget(address), (uint)settings.Sampling.OneIn);
            }
        }
    }

    // What was known last goes on to hold, and it is said once.
    private void Away(string? why)
    {
        if (why is not null && _away is null)
        {
            LogAway(why);
        }
        else if (why is null && _away is not null)
        {
            LogBack();
        }

        _away = why;
    }

    private void Update(Surroundings now)
    {
        var before = _around;
        foreach (var address in before.LocalEndpoints.Except(now.LocalEndpoints).Except(now.ServiceAddresses))
        {
            _observer.Release(new ObservationTarget(address));
        }

        foreach (var address in now.ServiceAddresses.Except(before.ServiceAddresses).Concat(now.LocalEndpoints.Except(before.LocalEndpoints)))
        {
            _observer.Aim(new ObservationTarget(address), (uint)_settings.Sampling.OneIn);
        }

        if (now.Scene.IsClosed)
        {
            foreach (var place in now.Scene.Places.Where(p => p.NetNs != 0 && before.PlaceOf(p.NetNs) is null))
            {
                _observer.Admit(place.NetNs);
            }
        }

        Volatile.Write(ref _around, now);
    }

    private static Task OnItsOwnThread(string name, Action work) => Task.Factory.StartNew(() =>
    {
        Thread.CurrentThread.Name = name;
        work();
    }, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);

    [LoggerMessage(LogLevel.Information, "watching {Node}: {Addresses} Service addresses, {Places} namespaces; programs loaded in {Milliseconds:0} ms")]
    private partial void LogWatching(string node, int addresses, int places, double milliseconds);

    [LoggerMessage(LogLevel.Information, "stopped; {Lost} events lost, {Shed} attempts shed, {NotJudged} not judged")]
    private partial void LogStopped(long lost, long shed, long notJudged);

    [LoggerMessage(LogLevel.Warning, "opened {Class}: {Client} to {Service}: {Sentence} Mend: {Mend}")]
    private partial void LogOpened(string @class, string client, string service, string sentence, string mend);

    [LoggerMessage(LogLevel.Information, "resolved {Class}: {Client} to {Service}: {Share} attempts failed within {Lasted}")]
    private partial void LogResolved(string @class, string client, string service, string share, TimeSpan lasted);

    [LoggerMessage(LogLevel.Warning, "changed: {Client} to {Service}: {Change}")]
    private partial void LogChanged(string client, string service, string change);

    [LoggerMessage(LogLevel.Information, "undetermined: {Client} to {Service}: {Sentence}")]
    private partial void LogUndetermined(string client, string service, string sentence);

    [LoggerMessage(LogLevel.Warning, "an attempt could not be judged: {Why}")]
    private partial void LogNotJudged(string why);

    [LoggerMessage(LogLevel.Warning, "{Path} could not be answered: {Why}")]
    private partial void LogNotAnswered(string path, string why);

    [LoggerMessage(LogLevel.Warning, "baselines could not be stored, and will be tried again: {Why}")]
    private partial void LogNotStored(string why);

    [LoggerMessage(LogLevel.Warning, "a baseline cannot be read and is set aside; it will be learned anew: {Why}")]
    private partial void LogDamaged(string why);

    [LoggerMessage(LogLevel.Warning, "a recording could not be kept: {Why}")]
    private partial void LogNotKept(string why);

    [LoggerMessage(LogLevel.Information, "the cluster's objects are as of now again")]
    private partial void LogBack();

    [LoggerMessage(LogLevel.Warning, "going on with what was known last: {Why}")]
    private partial void LogAway(string why);
}
