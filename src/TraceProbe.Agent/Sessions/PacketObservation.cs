using System.Collections.Immutable;
using TraceProbe.Capture;
using TraceProbe.Capture.Bpf;
using TraceProbe.Capture.Pcap;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Sessions;

/// <summary>Packets of some network namespaces, captured by libpcap.</summary>
internal sealed class PacketObservation : Observation
{
    private readonly List<NetworkNamespace> _namespaces = [];
    private readonly PacketSource _source;
    private readonly string _reason;

    public PacketObservation(ImmutableArray<Place> places, EventLog log, string reason)
    {
        _reason = reason;
        _source = new PacketSource(new PacketSourceOptions { KeepFirstLine = true }, log.Add);
        try
        {
            foreach (var place in places.DistinctBy(p => p.NetNs))
            {
                var opened = NetworkNamespace.Open(place.NetNsPath);
                _namespaces.Add(opened);
                _source.Add(opened);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override EventSource Source => EventSource.Libpcap;

    /// <inheritdoc/>
    public override ImmutableArray<string> NotSeen =>
        [$"Only packets were seen, by libpcap, because {_reason}: no processes, no socket states, no reasons for drops, and no conntrack entries."];

    /// <inheritdoc/>
    public override void Follow(int pid, FollowMode mode)
    {
        // Packets do not tell whose they are; all of the namespaces are taken.
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _source.Dispose();
        foreach (var opened in _namespaces)
        {
            opened.Dispose();
        }
    }
}
