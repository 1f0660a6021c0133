using System.Collections.Immutable;
using TraceProbe.Agent.Requests;
using TraceProbe.Capture;
using TraceProbe.Capture.Bpf;
using TraceProbe.Cluster;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Sessions;

/// <summary>
/// Follows one request and makes a recording of it.
/// <list type="number">
/// <item>Prepare: open the source of events, read the nodes and the cluster's objects, all at the same time.</item>
/// <item>Act: make the request, run the command, or wait for a connection.</item>
/// <item>Linger: take the packets that are still on their way.</item>
/// <item>Compose: put the three accounts into a recording.</item>
/// </list>
/// Nothing but the request itself changes anything: no rule, qdisc or interface is touched.
/// </summary>
public static class TraceSession
{
    // How often to look after the objects while somebody else's connection is waited for.
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Quiet = TimeSpan.FromMilliseconds(15);
    private static readonly TimeSpan QuietAtMost = TimeSpan.FromMilliseconds(100);

    // Behind the second FIN of an answered request comes one acknowledgement.
    private static readonly TimeSpan QuietWhenDone = TimeSpan.FromMilliseconds(2);

    /// <summary>
    /// Begins to load the observation programs, for <see cref="SessionOptions.Opening"/>: it takes as long as everything else before the
    /// request together, and needs nothing of it.
    /// </summary>
    /// <param name="isClosed">Whether the scene will be closed (<see cref="Scene.IsClosed"/>).</param>
    public static Task<KernelObserver> OpenEarly(bool isClosed) => OnItsOwnThread(() => KernelObserver.Open(new ObservationFilter
    {
        // No namespace has this number; those that matter are admitted once they are known.
        Namespaces = isClosed ? [uint.MaxValue] : [],
        FirstLines = true,
    }));

    /// <summary>Makes a request and follows it.</summary>
    /// <param name="options">How.</param>
    /// <param name="target">What to ask, once the cluster's objects are known (null when there are none): they hold the cluster's DNS domain.</param>
    /// <param name="cancellation">Stops the request; what was seen so far is recorded.</param>
    /// <exception cref="SessionException">Nothing can be observed, or the objects cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The client's namespace may not be entered.</exception>
    public static Recording Trace(SessionOptions options, Func<ClusterSnapshot?, RequestTarget> target, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(target);
        using var environment = ClientEnvironment.Open(options.Client, options.Resolver);
        using var scene = Prepared.Make(options, []);
        var asked = target(scene.Cluster);
        scene.Observation.Follow(Environment.ProcessId, FollowMode.Process);

        options.Progress?.Invoke($"asking for {asked} from {options.Client.Name}");
        scene.Rehearse(RecordingMode.Trace, asked);
        var start = BootClock.Now;
        ClientReport? client = null;
        try
        {
            client = RequestSender.Send(asked, environment, options.Timeout, cancellation);
        }
        catch (OperationCanceledException)
        {
            // The journey as far as it came is still worth a diagnosis.
        }

        return scene.Compose(RecordingMode.Trace, asked, client, start, client is null ? ["The request was interrupted before it ended."] : []);
    }

    /// <summary>Runs a command as the client and follows whatever connections it and its children make.</summary>
    /// <param name="options">How.</param>
    /// <param name="command">The command and its arguments.</param>
    /// <param name="cancellation">Ends the command.</param>
    /// <exception cref="SessionException">Nothing can be observed, or the objects cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The client's namespace may not be entered.</exception>
    /// <exception cref="IOException">The client's files could not be put in place for the command.</exception>
    public static Recording Run(SessionOptions options, IReadOnlyList<string> command, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(command);
        using var environment = ClientEnvironment.Open(options.Client, options.Resolver);
        using var scene = Prepared.Make(options, []);

        // Not the command's process but this one, with the children it makes: so the command is followed from its first instruction on.
        scene.Observation.Follow(Environment.ProcessId, FollowMode.WithChildren);
        scene.Rehearse(RecordingMode.Run, null);
        var pid = 0;
        var start = BootClock.Now;
        var exitCode = CommandRunner.Run(command, environment, started => pid = started, cancellation);
        var client = new ClientReport
        {
            Command = string.Join(' ', command),
            Pid = pid,
            Resolver = ReadResolver(environment),
            ExitCode = exitCode,
            StartNanoseconds = start,
            EndNanoseconds = BootClock.Now,
        };
        return scene.Compose(RecordingMode.Run, null, client, start, []);
    }

    /// <summary>Waits for the next connection of the client and follows it.</summary>
    /// <param name="options">How; the time limit holds for the wait, and again for the connection.</param>
    /// <param name="targets">To where, once the cluster's objects are known (null when there are none); empty for anywhere.</param>
    /// <param name="cancellation">Stops the wait; what was seen so far is recorded.</param>
    /// <returns>The recording; null when no connection began.</returns>
    /// <exception cref="SessionException">Nothing can be observed, or the objects cannot be read.</exception>
    public static Recording? Observe(SessionOptions options, Func<ClusterSnapshot?, ImmutableArray<ObservationTarget>> targets, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(targets);

        // What to wait for is decided in the kernel when it opens, so the objects have to be known before.
        var wanted = targets(options.Scene.ReadObjects());
        using var scene = Prepared.Make(options, wanted.IsEmpty ? [new ObservationTarget(Protocol: IpProtocol.Tcp)] : wanted);
        options.Progress?.Invoke($"waiting for a connection from {options.Client.Name}");

        var looked = 0;
        var first = (NetworkEvent?)null;
        for (var left = options.Timeout; first is null && left > TimeSpan.Zero && !cancellation.IsCancellationRequested; left -= Look)
        {
            first = scene.Log.WaitFor(e => Begins(e, options.Client.NetNs, wanted), left < Look ? left : Look, cancellation, ref looked);
            if (first is null)
            {
                scene.Follow();
            }
        }

        if (first is not { } began)
        {
            return null;
        }

        // Until both sides said that they are done, one of them broke off, or it stays open for as long as we wait.
        var finished = 0;
        _ = scene.Log.WaitFor(e => Ends(e, began.Tuple, ref finished), options.Timeout, cancellation, ref looked);
        return scene.Compose(RecordingMode.Observe, null, null, 0, []);
    }

    /// <summary>Follows whatever is sent to some addresses, by whomever, until the time is over or it is stopped: the servers' side of others' requests.</summary>
    /// <param name="options">How; its client is the node that this is seen from.</param>
    /// <param name="targets">To where; at least one.</param>
    /// <param name="ready">Told when everything from now on is seen.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="SessionException">Nothing can be observed, or the objects cannot be read.</exception>
    public static Recording Follow(SessionOptions options, ImmutableArray<ObservationTarget> targets, Action ready, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(ready);
        using var scene = Prepared.Make(options, targets, ofAnyClient: true);
        var start = BootClock.Now;
        ready();
        cancellation.WaitHandle.WaitOne(options.Timeout);
        return scene.Compose(RecordingMode.Observe, null, null, start, []);
    }

    /// <summary>Asks a node of a recording just made once more.</summary>
    /// <param name="recording">The recording.</param>
    /// <param name="question">What to ask, of one of its nodes.</param>
    public static NodeAnswer AskAgain(Recording recording, NodeQuestion question)
    {
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(question);
        return NodeReader.AskAgain(recording.Manifest.Places.First(p => p.Kind == PlaceKind.Node && p.Node == question.Node), question);
    }

    private static bool Begins(in NetworkEvent e, uint netNs, ImmutableArray<ObservationTarget> wanted)
    {
        var (kind, tuple) = (e.Kind, e.Tuple);
        return kind == EventKind.PacketQueued && (e.NetNs == netNs || e.NetNs == 0) && tuple.Destination.Port != 53
            && (tuple.Protocol != IpProtocol.Tcp || (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn)
            && (wanted.IsEmpty || wanted.Any(t => (t.Address is null || t.Address == tuple.Destination.Address) && (t.Port == 0 || t.Port == tuple.Destination.Port)
                && (t.Protocol == IpProtocol.None || t.Protocol == tuple.Protocol)));
    }

    private static bool Ends(in NetworkEvent e, in FiveTuple began, ref int finished)
    {
        if (!began.SameFlow(e.Tuple))
        {
            return false;
        }

        if (e.Kind is EventKind.ResetReceived or EventKind.SocketErrorReported || (e.Kind == EventKind.SocketStateChanged && e.NewState == TcpState.Close))
        {
            return true;
        }

        finished |= e.Kind is EventKind.PacketQueued or EventKind.PacketReceived && e.Flags.HasFlag(TcpFlags.Fin) ? e.Tuple == began ? 1 : 2 : 0;
        return finished == 3 || (e.Flags.HasFlag(TcpFlags.Rst) && e.Kind is EventKind.PacketQueued or EventKind.PacketReceived);
    }

    // The pool has a thread per processor and adds more slowly; what is to overlap must not wait for one.
    private static Task<T> OnItsOwnThread<T>(Func<T> work)
        => Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);

    private static ResolverConfiguration? ReadResolver(ClientEnvironment environment)
        => ClientFile.TryRead(environment.ResolvConfPath, out _) is { } text ? ResolvConf.Parse(text, environment.ResolvConfPath, environment.Flavor) : null;

    // Everything that is open while a request is followed.
    private sealed class Prepared(SessionOptions options, Observation observation, EventLog log, ClusterSnapshot? cluster, ImmutableArray<NodeAccount> nodes) : IDisposable
    {
        public Observation Observation => observation;

        public EventLog Log => log;

        public ClusterSnapshot? Cluster => cluster;

        public static Prepared Make(SessionOptions options, ImmutableArray<ObservationTarget> targets, bool ofAnyClient = false)
        {
            var scene = options.Scene;
            var log = new EventLog();
            options.Progress?.Invoke("loading the observation programs and reading the nodes");

            // The nodes are read before the request and not after it: what the rules were when the packets met them is what counts,
            // and a request takes milliseconds while kube-proxy needs longer than that to change anything. Loading the programs takes
            // about as long as reading the nodes, so one hides the other.
            var filter = new ObservationFilter
            {
                Targets = targets,
                ClientNamespace = targets.IsEmpty || ofAnyClient ? 0 : options.Client.NetNs,
                Namespaces = scene.IsClosed ? [options.Client.NetNs, .. scene.Namespaces] : [],
                FirstLines = true,
            };
            var opening = OnItsOwnThread(() => Observation.Open(options.Source, targets.IsEmpty ? options.Opening : null, filter, [.. scene.Places.Append(options.Client)], log));
            var reading = ReadNodes(scene);
            try
            {
                var cluster = scene.ReadObjects();
                var nodes = Ordered(reading);
                var observation = opening.GetAwaiter().GetResult();
                foreach (var node in nodes)
                {
                    if (node.KubeProxy is { } proxy)
                    {
                        // In userspace mode it dials the pods itself; in the others it makes no connections that anybody asked for.
                        observation.Follow(proxy.Pid, FollowMode.SocketsOnly);
                    }
                }

                return new Prepared(options, observation, log, cluster, nodes);
            }
            catch
            {
                opening.ContinueWith(o => o.Result.Dispose(), CancellationToken.None, TaskContinuationOptions.OnlyOnRanToCompletion, TaskScheduler.Default);
                throw;
            }
        }

        /// <summary>
        /// Reads objects and nodes again when the objects have changed: both or neither, since a rule for a pod that came meanwhile is no
        /// stale one. Before the first packet, because rules are asked afterwards what they have counted.
        /// </summary>
        public void Follow()
        {
            if (options.Scene.ReadObjects() is var now && !ReferenceEquals(now, cluster))
            {
                cluster = now;
                nodes = Ordered(ReadNodes(options.Scene));
            }
        }

        private static Task<NodeAccount>[] ReadNodes(Scene scene) => [.. scene.Places.Where(p => p.Kind == PlaceKind.Node).Select(node => OnItsOwnThread(() =>
            NodeReader.Read(node, scene.Places.Where(p => p.Kind == PlaceKind.Pod && p.Node == node.Node))))];

        private static ImmutableArray<NodeAccount> Ordered(Task<NodeAccount>[] reading) => [.. reading.Select(r => r.GetAwaiter().GetResult()).OrderBy(n => n.Name, StringComparer.Ordinal)];

        public void Rehearse(RecordingMode mode, RequestTarget? target)
        {
            if (options.Rehearsal is { } rehearsal)
            {
                var recording = WithEvents([], mode, target, null, BootClock.Now, []);
                _ = Task.Run(() => rehearsal(recording));
            }
        }

        public Recording Compose(RecordingMode mode, RequestTarget? target, ClientReport? client, long start, ImmutableArray<string> notSeen)
        {
            log.WaitUntilQuiet(IsDone(client) ? QuietWhenDone : Quiet, QuietAtMost);
            observation.Dispose();
            var events = log.ToImmutable();
            return WithEvents(observation.Source == EventSource.Libpcap && client is not null ? WithoutLaterFlows(events, client.EndNanoseconds) : events,
                mode, target, client, start, notSeen);
        }

        public void Dispose() => observation.Dispose();

        // Whether the request was answered, and both sides are seen to have closed its connection.
        private bool IsDone(ClientReport? client)
        {
            if (client is not { Failure: null, Connects: [.., { Error: 0, Local: { } local } connected] })
            {
                return false;
            }

            var (looked, finished, tuple) = (0, 0, new FiveTuple(IpProtocol.Tcp, local, connected.Remote));
            return log.WaitFor(e => Ends(e, tuple, ref finished), Quiet, CancellationToken.None, ref looked) is not null;
        }

        // libpcap takes in whatever passes. What began when the request was over (the next readiness probe, say) is not of it.
        private static ImmutableArray<NetworkEvent> WithoutLaterFlows(ImmutableArray<NetworkEvent> events, long end)
        {
            var earlier = new HashSet<FiveTuple>();
            foreach (var e in events)
            {
                if (e.BootNanoseconds <= end)
                {
                    earlier.Add(e.Tuple);
                    earlier.Add(e.Tuple.Reverse);
                }
            }

            return [.. events.Where(e => earlier.Contains(e.Tuple))];
        }

        private Recording WithEvents(ImmutableArray<NetworkEvent> events, RecordingMode mode, RequestTarget? target, ClientReport? client, long start, ImmutableArray<string> notSeen)
            => new()
            {
                Manifest = new RecordingManifest
                {
                    Tool = $"traceprobe {typeof(TraceSession).Assembly.GetName().Version?.ToString(3)}",
                    Mode = mode,
                    Target = target,
                    Client = options.Client.Name,
                    Cluster = options.Scene.Cluster,
                    Clock = BootClock.Anchor(),
                    StartNanoseconds = start != 0 ? start : events is [var first, ..] ? first.BootNanoseconds : BootClock.Now,
                    EndNanoseconds = BootClock.Now,
                    Source = observation.Source,
                    Places = options.Scene.Places.Any(p => p.Name == options.Client.Name) ? options.Scene.Places : [.. options.Scene.Places, options.Client],
                    NotSeen = [.. notSeen, .. observation.NotSeen],
                },
                Events = events,
                Client = client,
                Cluster = cluster,
                Nodes = nodes,
            };
    }
}
