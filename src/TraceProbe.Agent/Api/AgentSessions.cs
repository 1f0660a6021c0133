using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using TraceProbe.Agent.Sessions;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Api;

/// <summary>
/// The sessions that others ask an agent for. A request is made by a process of its own, the same program's <c>trace</c>: what the agent itself connects to
/// meanwhile is not taken for it, and its end ends all of it.
/// </summary>
/// <param name="folder">Where recordings wait to be fetched; made when the first is.</param>
/// <param name="node">The node.</param>
/// <param name="scene">Gives the scene as it is now.</param>
/// <param name="sceneArguments">What tells another process of this program the same scene.</param>
public sealed class AgentSessions(string folder, string node, Func<Scene> scene, IReadOnlyList<string> sceneArguments) : IAsyncDisposable
{
    /// <summary>The most sessions that may be under way at once.</summary>
    public const int MostRunning = 4;

    /// <summary>The most that are remembered.</summary>
    public const int MostKept = 32;

    /// <summary>The most addresses that a session follows.</summary>
    public const int MostTargets = 64;

    /// <summary>For how long what a session found can be fetched.</summary>
    public static readonly TimeSpan KeptFor = TimeSpan.FromMinutes(10);

    private readonly ConcurrentDictionary<string, AgentSession> _sessions = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    /// <summary>Those that are remembered, the newest first.</summary>
    public IReadOnlyList<AgentSession> All => [.. _sessions.Values.OrderByDescending(s => s.Started)];

    /// <summary>One of them; null when there is none of that name.</summary>
    public AgentSession? Find(string id) => _sessions.GetValueOrDefault(id);

    /// <summary>Begins a session.</summary>
    /// <param name="request">What it is to do.</param>
    /// <param name="refusal">Why it is not begun.</param>
    /// <returns>The session; null when it is refused.</returns>
    public AgentSession? Start(SessionRequest request, out Refusal? refusal)
    {
        ArgumentNullException.ThrowIfNull(request);
        refusal = request switch
        {
            { Seconds: not (>= 1 and <= 60) } => new Refusal(400, "seconds: it is from 1 to 60."),
            { Resolver: not ("glibc" or "musl") } => new Refusal(400, "resolver: it is glibc or musl."),
            { Url: not null, From: null } => new Refusal(400, "from: it says where the request is made from, as pod/NAMESPACE/NAME or node/NAME."),
            { From: { } from } when !IsPlace(from) => new Refusal(400, $"from: '{from}' is neither pod/NAMESPACE/NAME nor node/NAME."),
            { Url: not null, To: not null } or { Url: null, To: null or { Count: 0 } } => new Refusal(400, "Either url and from are given, to make a request, or to, to follow what others make."),
            { To.Count: > MostTargets } => new Refusal(400, $"to: at most {MostTargets} addresses."),
            _ => null,
        };
        var targets = ImmutableArray.CreateBuilder<ObservationTarget>();
        foreach (var to in refusal is null ? request.To ?? [] : [])
        {
            if (AddressPort.TryParse(to, out var both) && both.Port != 0)
            {
                targets.Add(new ObservationTarget(both.Address, both.Port));
            }
            else if (IpAddress.TryParse(to, null, out var address) && !address.IsUnspecified)
            {
                targets.Add(new ObservationTarget(address));
            }
            else
            {
                refusal = new Refusal(400, $"to: '{to}' is no ADDRESS:PORT, nor an address.");
            }
        }

        if (refusal is not null)
        {
            return null;
        }

        lock (_lock)
        {
            foreach (var old in _sessions.Values.Where(s => s.IsOver && TimeProvider.System.GetUtcNow() - s.Started > KeptFor).Concat(All.Where(s => s.IsOver).Skip(MostKept - 1)).ToList())
            {
                Remove(old);
            }

            if (_sessions.Values.Count(s => !s.IsOver) >= MostRunning)
            {
                refusal = new Refusal(429, $"{MostRunning} sessions are under way on {node} already; wait until one is over.");
                return null;
            }

            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
            var session = new AgentSession(id, node, request, Path.Combine(folder, id + RecordingArchive.Extension));
            _sessions[id] = session;
            session.Work = request.Url is null
                ? Task.Run(() => Follow(session, targets.ToImmutable()))
                : Task.Run(() => TraceAsync(session));
            return session;
        }
    }

    // Whole names alone: what is allowed is asked of the cluster by the same name that the request is then made from.
    private static bool IsPlace(string from) => from.Split('/') is ["pod", { Length: > 0 }, { Length: > 0 }] or ["node", { Length: > 0 }];

    /// <summary>Ends a session, and forgets it with what it found.</summary>
    public void Remove(AgentSession session)
    {
        ArgumentNullException.ThrowIfNull(session);
        session.Cancel();
        _sessions.TryRemove(session.Id, out _);
        _ = session.Work.ContinueWith(_ =>
        {
            File.Delete(session.RecordingPath);
            session.Dispose();
        }, TaskScheduler.Default);
    }

    /// <summary>Ends all of them.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var session in _sessions.Values)
        {
            session.Cancel();
            await session.Work.ConfigureAwait(false);
            File.Delete(session.RecordingPath);
            session.Dispose();
        }
    }

    private void Follow(AgentSession session, ImmutableArray<ObservationTarget> targets)
    {
        try
        {
            var here = scene();
            var options = new SessionOptions
            {
                Scene = here,
                Client = here.Places.First(p => p.Kind == PlaceKind.Node && (here.IsClosed is false || p.Node == node)),
                Timeout = TimeSpan.FromSeconds(session.Request.Seconds),
            };
            var recording = TraceSession.Follow(options, targets, () => session.Become("following"), session.Ending);
            if (!session.IsCancelled)
            {
                RecordingArchive.Write(session.RecordingPath, recording, Diagnose.Run(recording));
            }

            session.Become(session.IsCancelled ? "cancelled" : "done");
        }
#pragma warning disable CA1031 // Whatever ended it: one that did not say so would count as under way for ever.
        catch (Exception e)
#pragma warning restore CA1031
        {
            session.Fail(e.Message);
        }
    }

    private async Task TraceAsync(AgentSession session)
    {
        var request = session.Request;
        try
        {
            var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true, RedirectStandardError = true };
            foreach (var argument in (string[])["trace", .. sceneArguments, "--from", request.From!, "--resolver", request.Resolver, "--timeout", string.Create(CultureInfo.InvariantCulture, $"{request.Seconds}s"),
                "--save", session.RecordingPath, "--output", "json", "--", request.Url!])
            {
                start.ArgumentList.Add(argument);
            }

            using var process = Process.Start(start)!;
            session.Become("following");
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(session.Ending);
            limit.CancelAfter(TimeSpan.FromSeconds(request.Seconds + 30));
            var (report, errors) = (process.StandardOutput.ReadToEndAsync(CancellationToken.None), process.StandardError.ReadToEndAsync(CancellationToken.None));
            try
            {
                await process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            }

            _ = await report.ConfigureAwait(false);
            var said = (await errors.ConfigureAwait(false)).Trim();
            if (session.IsCancelled)
            {
                session.Become("cancelled");
            }
            else if (process.ExitCode is 0 or 1 or 3)
            {
                var verdict = Diagnose.Run(RecordingArchive.Read(session.RecordingPath).Recording).Verdict;
                session.Done(FailureClassInfo.Of(verdict.Class).Name, verdict.Sentence);
            }
            else
            {
                session.Fail(said.Length > 0 ? said : $"trace ended with {process.ExitCode} and said nothing.");
            }
        }
#pragma warning disable CA1031 // As above.
        catch (Exception e)
#pragma warning restore CA1031
        {
            session.Fail(e.Message);
        }
    }
}

/// <summary>A session of an agent.</summary>
public sealed class AgentSession : IDisposable
{
    private readonly CancellationTokenSource _ending = new();
    private readonly string _node;
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile SessionMessage _message;

    internal AgentSession(string id, string node, SessionRequest request, string recordingPath)
    {
        (Id, _node, Request, RecordingPath) = (id, node, request, recordingPath);
        Started = TimeProvider.System.GetUtcNow();
        _message = new SessionMessage { Id = id, Node = node, State = "starting" };
    }

    /// <summary>Its name, which nobody can guess.</summary>
    public string Id { get; }

    /// <summary>What it is to do.</summary>
    public SessionRequest Request { get; }

    /// <summary>When it was begun.</summary>
    public DateTimeOffset Started { get; }

    /// <summary>How it is.</summary>
    public SessionMessage Message => _message;

    /// <summary>Whether it is over.</summary>
    public bool IsOver => _message.State is "done" or "failed" or "cancelled";

    /// <summary>Where its recording is once it is done.</summary>
    internal string RecordingPath { get; }

    internal Task Work { get; set; } = Task.CompletedTask;

    internal CancellationToken Ending => _ending.Token;

    internal bool IsCancelled { get; private set; }

    /// <summary>Gives back what it holds, once its work is over.</summary>
    public void Dispose() => _ending.Dispose();

    /// <summary>Ends it; what was seen so far is kept when it follows others.</summary>
    public void Stop() => _ending.Cancel();

    /// <summary>Waits until it is otherwise than a message said.</summary>
    public async Task<SessionMessage> ChangedAsync(SessionMessage? told, CancellationToken cancellation)
    {
        while (true)
        {
            var changed = Volatile.Read(ref _changed);
            if (_message != told)
            {
                return _message;
            }

            await changed.Task.WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    internal void Cancel()
    {
        IsCancelled = true;
        _ending.Cancel();
    }

    internal void Become(string state) => Set(_message with { State = state });

    internal void Done(string @class, string sentence) => Set(_message with { State = "done", Class = @class, Sentence = sentence });

    internal void Fail(string error) => Set(_message with { State = "failed", Error = error });

    private void Set(SessionMessage message)
    {
        _message = message;
        Interlocked.Exchange(ref _changed, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();
    }
}
