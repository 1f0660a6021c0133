using System.Collections.Immutable;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Sessions;

/// <summary>An open source of events that fills a log until it is disposed.</summary>
internal abstract class Observation : IDisposable
{
    /// <summary>What it is.</summary>
    public abstract EventSource Source { get; }

    /// <summary>What it cannot see here, each a sentence.</summary>
    public abstract ImmutableArray<string> NotSeen { get; }

    /// <summary>Opens the best source there is, or the one that was asked for.</summary>
    /// <param name="wanted">The one that was asked for; null for the best.</param>
    /// <param name="opening">The observation programs, when they are being loaded already; they only lack the filter's namespaces.</param>
    /// <param name="filter">What eBPF is asked for; libpcap sees all packets of the places.</param>
    /// <param name="places">The namespaces that libpcap listens in.</param>
    /// <param name="log">Where events go.</param>
    /// <exception cref="SessionException">None can be opened; the message says why each could not.</exception>
    public static Observation Open(EventSource? wanted, Task<KernelObserver>? opening, ObservationFilter filter, ImmutableArray<Place> places, EventLog log)
    {
        if (wanted == EventSource.Libpcap)
        {
            return OpenPackets(places, log, "libpcap was asked for");
        }

        try
        {
            var observer = opening is null ? KernelObserver.Open(filter) : opening.GetAwaiter().GetResult();
            if (opening is not null)
            {
                foreach (var inode in filter.Namespaces)
                {
                    observer.Admit(inode);
                }
            }

            return new KernelObservation(observer, log);
        }
        catch (ObservationRefusedException e) when (wanted is null)
        {
            try
            {
                return OpenPackets(places, log, $"eBPF is refused here ({e.What}: {e.Why})");
            }
            catch (SessionException second)
            {
                throw new SessionException($"Nothing can be observed here. By eBPF: {e.Message} By libpcap: {second.Message} 'traceprobe doctor' lists what is missing.", e);
            }
        }
        catch (ObservationRefusedException e)
        {
            throw new SessionException($"{e.Message} 'traceprobe doctor' lists what is missing; --source libpcap captures packets instead.", e);
        }
    }

    /// <summary>Follows a process from now on, as far as the source can.</summary>
    public abstract void Follow(int pid, FollowMode mode);

    /// <summary>Ends the observation; no event comes once it returns.</summary>
    public abstract void Dispose();

    private static PacketObservation OpenPackets(ImmutableArray<Place> places, EventLog log, string reason)
    {
        try
        {
            return new PacketObservation(places, log, reason);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SessionException(e.Message, e);
        }
    }
}
