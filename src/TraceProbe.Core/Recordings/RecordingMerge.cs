using System.Collections.Immutable;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Recordings;

/// <summary>
/// Puts together what several nodes saw of one request. The client's recording is the one that the others are added to: of these, the events of its connections, in the
/// client's time.
/// </summary>
public static class RecordingMerge
{
    /// <summary>Adds what other nodes saw.</summary>
    /// <param name="client">The recording of the client's node.</param>
    /// <param name="others">Those of other nodes.</param>
    public static Recording Merge(Recording client, IReadOnlyList<Recording> others)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(others);
        var flows = new HashSet<FiveTuple>();
        foreach (var e in client.Events)
        {
            AddTuples(e, flows);
        }

        var events = client.Events.ToList();
        var places = client.Manifest.Places.ToList();
        var nodes = client.Nodes.ToList();
        var notSeen = client.Manifest.NotSeen.ToList();
        for (var i = 0; i < others.Count; i++)
        {
            var other = others[i];
            var kept = Related(other.Events, flows);
            var offset = OffsetOf(client, other, kept, out var isKnown);
            if (!isKnown && kept.Count > 0)
            {
                notSeen.Add($"how {other.Manifest.Client}'s clock differs from the client's, since no packet was seen by both: its times are by its wall clock");
            }

            // Every machine's own namespace has the same number, and so may others by chance.
            var renamed = new Dictionary<uint, uint>();
            foreach (var place in other.Manifest.Places)
            {
                if (places.Exists(p => p.Name == place.Name))
                {
                    continue;
                }

                var number = place.NetNs;
                if (number != 0 && places.Exists(p => p.NetNs == number))
                {
                    number = Enumerable.Range(1, int.MaxValue).Select(n => (uint)n).First(n => places.All(p => p.NetNs != n) && other.Manifest.Places.All(p => p.NetNs != n));
                    renamed[place.NetNs] = number;
                }

                places.Add(place with { NetNs = number });
            }

            var socket = (ulong)(i + 1) << 60;
            events.AddRange(kept.Select(e => e with
            {
                BootNanoseconds = e.BootNanoseconds + offset,
                NetNs = renamed.GetValueOrDefault(e.NetNs, e.NetNs),
                Socket = e.Socket == 0 ? 0 : e.Socket ^ socket,
            }));
            nodes.AddRange(other.Nodes.Where(n => nodes.All(known => known.Name != n.Name)).Select(n => n with
            {
                NetNs = renamed.GetValueOrDefault(n.NetNs, n.NetNs),
                Listeners = [.. n.Listeners.Select(l => l with { NetNs = renamed.GetValueOrDefault(l.NetNs, l.NetNs) })],
                ListenersReadIn = [.. n.ListenersReadIn.Select(l => renamed.GetValueOrDefault(l, l))],
            }));
            notSeen.AddRange(other.Manifest.NotSeen.Select(what => $"{other.Manifest.Client}: {what}"));
        }

        return client with
        {
            Manifest = client.Manifest with { Places = [.. places], NotSeen = [.. notSeen.Distinct()] },
            Events = [.. events.OrderBy(e => e.BootNanoseconds)],
            Nodes = [.. nodes.OrderBy(n => n.Name, StringComparer.Ordinal)],
        };
    }

    /// <summary>
    /// What is to be added to a node's times to have them in the client's: a packet does not arrive before it is sent, in either direction, and between these two limits the
    /// middle is taken, as NTP does (RFC 5905, section 8).
    /// </summary>
    private static long OffsetOf(Recording client, Recording other, List<NetworkEvent> kept, out bool isKnown)
    {
        var (seen, there) = (TimesOf(client.Events), TimesOf(kept));
        var (lower, upper) = (long.MinValue, long.MaxValue);
        var servers = kept.Where(e => (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn).Select(e => e.Tuple.Destination).ToHashSet();
        foreach (var (key, (first, last)) in there)
        {
            if (!seen.TryGetValue(key, out var here))
            {
                continue;
            }

            if (servers.Contains(key.Tuple.Destination))
            {
                lower = Math.Max(lower, here.Last - first);
            }
            else
            {
                upper = Math.Min(upper, here.First - last);
            }
        }

        isKnown = lower != long.MinValue || upper != long.MaxValue;
        return (lower, upper) switch
        {
            (long.MinValue, long.MaxValue) => client.Manifest.Clock.BootNanoseconds - other.Manifest.Clock.BootNanoseconds + ((other.Manifest.Clock.Wall - client.Manifest.Clock.Wall).Ticks * 100),
            (long.MinValue, _) => upper,
            (_, long.MaxValue) => lower,
            _ => lower + ((upper - lower) / 2),
        };
    }

    // Of each packet when it was first seen and when last, on its way through a node. One that was sent again looks the same, and so tells nothing.
    private static Dictionary<PacketKey, (long First, long Last)> TimesOf(IEnumerable<NetworkEvent> events)
    {
        var times = new Dictionary<PacketKey, (long First, long Last)>();
        var passed = new HashSet<(PacketKey, EventKind, uint, int)>();
        var again = new HashSet<PacketKey>();
        foreach (var e in events)
        {
            if (PacketKey.Of(e) is not { } key)
            {
                continue;
            }

            if (!passed.Add((key, e.Kind, e.NetNs, e.InterfaceIndex)))
            {
                again.Add(key);
            }

            times[key] = times.TryGetValue(key, out var known) ? (Math.Min(known.First, e.BootNanoseconds), Math.Max(known.Last, e.BootNanoseconds)) : (e.BootNanoseconds, e.BootNanoseconds);
        }

        foreach (var key in again)
        {
            times.Remove(key);
        }

        return times;
    }

    private static List<NetworkEvent> Related(ImmutableArray<NetworkEvent> events, HashSet<FiveTuple> flows)
    {
        // A translation on that node gives a connection other tuples, which only the packets translated there tell.
        for (var before = -1; before != flows.Count;)
        {
            before = flows.Count;
            foreach (var e in events)
            {
                if (IsOf(e, flows))
                {
                    AddTuples(e, flows);
                }
            }
        }

        return [.. events.Where(e => e.Kind == EventKind.ObservationGap || IsOf(e, flows))];
    }

    private static bool IsOf(in NetworkEvent e, HashSet<FiveTuple> flows)
        => flows.Contains(e.Tuple) || (e.HasConntrack && (flows.Contains(e.Original) || flows.Contains(e.Reply))) || (e.Quoted != default && flows.Contains(e.Quoted));

    private static void AddTuples(in NetworkEvent e, HashSet<FiveTuple> flows)
    {
        foreach (var tuple in (ReadOnlySpan<FiveTuple>)[e.Tuple, e.HasConntrack ? e.Original : default, e.HasConntrack ? e.Reply : default, e.Quoted])
        {
            // Without ports it would stand for all that two hosts say.
            if (tuple.Source.Port != 0 || tuple.Destination.Port != 0)
            {
                flows.Add(tuple);
                flows.Add(tuple.Reverse);
            }
        }
    }

    // Enough to know a TCP segment by.
    private readonly record struct PacketKey(FiveTuple Tuple, uint Sequence, uint Acknowledgment, TcpFlags Flags, int Length)
    {
        public static PacketKey? Of(in NetworkEvent e) => e.Tuple.Protocol == IpProtocol.Tcp && e.Kind is EventKind.PacketQueued or EventKind.PacketReceived
            ? new PacketKey(e.Tuple, e.Sequence, e.Acknowledgment, e.Flags, e.PayloadLength) : null;
    }
}
