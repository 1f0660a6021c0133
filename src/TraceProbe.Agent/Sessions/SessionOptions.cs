using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Sessions;

/// <summary>How a request is followed.</summary>
public sealed record SessionOptions
{
    /// <summary>What surrounds it.</summary>
    public required Scene Scene { get; init; }

    /// <summary>Where it is made from.</summary>
    public required Place Client { get; init; }

    /// <summary>The source of events; null for the best that there is.</summary>
    public EventSource? Source { get; init; }

    /// <summary>Whose resolver the client has.</summary>
    public ResolverFlavor Resolver { get; init; }

    /// <summary>The time for the request, or for a connection to begin and then to end; more than zero.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The observation programs, when somebody began to load them early (<see cref="TraceSession.OpenEarly"/>); the session owns them.</summary>
    public Task<KernelObserver>? Opening { get; init; }

    /// <summary>
    /// Given, on another thread and while the request is under way, what a recording will hold but its events; may be null. Whoever makes
    /// something of recordings can rehearse it there, so that its code is compiled when it matters.
    /// </summary>
    public Action<Recording>? Rehearsal { get; init; }

    /// <summary>Told what is being done, in a few words; may be null.</summary>
    public Action<string>? Progress { get; init; }
}
