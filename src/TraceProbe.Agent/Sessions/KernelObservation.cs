using System.Collections.Immutable;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Sessions;

/// <summary>Events from the running kernel, read on a thread of its own.</summary>
internal sealed class KernelObservation : Observation
{
    private readonly KernelObserver _observer;
    private readonly EventLog _log;
    private readonly Thread _reader;
    private volatile bool _stopping;

    public KernelObservation(KernelObserver observer, EventLog log)
    {
        _observer = observer;
        _log = log;
        _reader = new Thread(Read) { IsBackground = true, Name = "events" };
        _reader.Start();
    }

    /// <inheritdoc/>
    public override EventSource Source => EventSource.Ebpf;

    /// <inheritdoc/>
    public override ImmutableArray<string> NotSeen => [.. _observer.Unavailable];

    /// <inheritdoc/>
    public override void Follow(int pid, FollowMode mode) => _observer.Follow(pid, mode);

    /// <inheritdoc/>
    public override void Dispose()
    {
        _stopping = true;
        _reader.Join();

        // Taking a dozen programs off takes the kernel a while, and nothing waits for it; a process that ends before has it done by the kernel.
        _ = Task.Run(_observer.Dispose);
    }

    private void Read()
    {
        // The last round begins after the stop was asked for, so that what happened before it is in.
        for (var last = false; !last;)
        {
            last = _stopping;
            _observer.Poll(_log.Add, last ? TimeSpan.Zero : TimeSpan.FromMilliseconds(5));
        }
    }
}
