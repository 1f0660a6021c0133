using System.Collections.Immutable;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Journeys;

/// <summary>
/// Puts events together into a journey. Pure: the same events give the same journey.
/// 1. Sort by time, since each CPU has its own order.
/// 2. Give each packet to a flow by its tuple; conntrack's two tuples tie both sides of a translation together, or where only packets
/// were captured what a packet keeps.
/// 3. Read off each flow what came of it.
/// 4. Find the lookups among the flows, and the onward connections of a proxy.
/// </summary>
public static class JourneyBuilder
{
    // How long a proxy may take to pass a datagram on; in nanoseconds.
    private const long DialDelay = 1_000_000_000;

    /// <summary>Builds the journey.</summary>
    /// <param name="events">The events of one request, in any order.</param>
    public static Journey Build(IEnumerable<NetworkEvent> events)
    {
        ArgumentNullException.ThrowIfNull(events);

        // 1.
        var sorted = events.ToArray();
        EventOrder.SortByTime(sorted);
        InferredTranslations.Add(sorted);

        // 2.
        var flows = new FlowTable();
        var gaps = ImmutableArray.CreateBuilder<Gap>();
        foreach (ref readonly var e in sorted.AsSpan())
        {
            switch (e.Kind)
            {
                case EventKind.ObservationGap:
                    gaps.Add(new Gap(e.BootNanoseconds, Math.Max(1, e.Lost)));
                    break;
                case EventKind.PacketQueued or EventKind.PacketReceived or EventKind.PacketDropped:
                    flows.AddPacket(e);
                    break;
                case EventKind.SocketStateChanged:
                    flows.AddSocketState(e);
                    break;
                case EventKind.SocketErrorReported:
                    flows.AddSocketError(e);
                    break;
            }
        }

        // 3.
        var connections = flows.ToConnections();

        // 4.
        TieOnwardConnections(connections);
        return new Journey
        {
            Connections = [.. connections],
            Lookups = FindLookups(connections),
            Gaps = gaps.ToImmutable(),
            StartNanoseconds = sorted.Length > 0 ? sorted[0].BootNanoseconds : 0,
            EndNanoseconds = sorted.Length > 0 ? sorted[^1].BootNanoseconds : 0,
        };
    }

    private static void TieOnwardConnections(List<Connection> connections)
    {
        // By who dials, or a load generator's connections would each be held against all others.
        var dialled = connections.ToLookup(c => c.ClientNetNs);
        for (var i = 0; i < connections.Count; i++)
        {
            var asked = connections[i];
            if (asked.Translated is null || (asked.AnsweredInNetNs != asked.TranslatedInNetNs && asked.AnsweredInNetNs != asked.ClientNetNs && asked.AnsweredInNetNs != 0))
            {
                continue;
            }

            // A proxy answers in its own namespace and dials from there while the first connection stands. Of several candidates
            // the one that begins first is taken: observation follows one client, so another would be the proxy's retry.
            // A datagram that nothing answers leaves the client's flow without an end, and a client that only connects has closed before the proxy gets to dial.
            var end = asked.EndNanoseconds + (asked.Asked.Protocol == IpProtocol.Udp || asked.RequestBytes == 0 ? DialDelay : 0);
            var onward = dialled[asked.TranslatedInNetNs].FirstOrDefault(c => !ReferenceEquals(c, asked)
                && c.Asked.Protocol == asked.Asked.Protocol
                && c.StartNanoseconds >= asked.StartNanoseconds && c.StartNanoseconds <= end
                && (c.Process is null || c.Process.Pid != asked.Process?.Pid));
            if (onward is not null)
            {
                connections[i] = asked with { Onward = onward };
            }
        }
    }

    private static ImmutableArray<DnsExchange> FindLookups(List<Connection> connections)
    {
        var onward = new HashSet<Connection>(connections.Where(c => c.Onward is not null).Select(c => c.Onward!), ReferenceEqualityComparer.Instance);
        var lookups = new List<DnsExchange>();
        foreach (var connection in connections)
        {
            if (connection.IsDns && !onward.Contains(connection))
            {
                lookups.AddRange(LookupsOf(connection));
            }
        }

        return [.. lookups.OrderBy(l => l.SentNanoseconds)];
    }

    private static List<DnsExchange> LookupsOf(Connection connection)
    {
        var open = new List<(ushort Id, DnsExchange Exchange)>();
        foreach (var sighting in connection.Sightings)
        {
            var e = sighting.Event;
            if (e.Payload.IsEmpty || e.Kind == EventKind.PacketDropped)
            {
                continue;
            }

            var read = e.Tuple.Protocol == IpProtocol.Tcp
                ? DnsMessage.TryReadTcp(e.Payload.Span, out var message)
                : DnsMessage.TryRead(e.Payload.Span, out message);
            if (!read || message.Question is not { } question)
            {
                continue;
            }

            var at = open.FindLastIndex(o => o.Id == message.Id && o.Exchange.Name == question.Name && o.Exchange.Type == question.Type);
            if (sighting.Forward && !message.IsResponse)
            {
                // The same question further on its way is no new one; a question after its answer is.
                if (at < 0 || open[at].Exchange.Answer is not null)
                {
                    open.Add((message.Id, new DnsExchange
                    {
                        Name = question.Name,
                        Type = question.Type,
                        Connection = connection,
                        SentNanoseconds = e.BootNanoseconds,
                    }));
                }
            }
            else if (!sighting.Forward && message.IsResponse && at >= 0)
            {
                var exchange = open[at].Exchange with { AnswerSeen = true };
                if (e.NetNs == connection.ClientNetNs && exchange.Answer is null && !Flow.IsUntranslated(connection, e))
                {
                    exchange = exchange with { Answer = message, AnsweredNanoseconds = e.BootNanoseconds };
                }

                open[at] = (message.Id, exchange);
            }
        }

        return open.ConvertAll(o => o.Exchange);
    }
}
