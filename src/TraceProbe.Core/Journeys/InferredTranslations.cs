using System.Text;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Journeys;

/// <summary>
/// Where only packets were captured, nobody says which belong together before and after a translation. A SYN keeps its sequence number
/// through it, 32 bits that its sender chose at random (RFC 6528), and a question to a resolver all of its bytes: the same again in
/// another namespace, from or to other addresses, is the same packet.
/// </summary>
internal static class InferredTranslations
{
    // A packet is a few microseconds on its way; the same question to the next nameserver comes seconds later.
    private const long AtMostNanoseconds = 1_000_000_000;
    private const TcpFlags SynAck = TcpFlags.Syn | TcpFlags.Ack;

    /// <summary>Puts into the events what conntrack would have said, unless it was there to say it.</summary>
    /// <param name="events">In order of time.</param>
    public static void Add(Span<NetworkEvent> events)
    {
        foreach (ref readonly var e in events)
        {
            if (e.HasConntrack)
            {
                return;
            }
        }

        var first = new Dictionary<(IpProtocol Protocol, uint Sequence, string Payload), (FiveTuple Tuple, uint NetNs, long At)>();
        foreach (ref var e in events)
        {
            if (KeyOf(e) is not { } key)
            {
                continue;
            }

            if (!first.TryGetValue(key, out var asked) || e.BootNanoseconds - asked.At > AtMostNanoseconds)
            {
                first[key] = (e.Tuple, e.NetNs, e.BootNanoseconds);
            }
            else if (e.Tuple != asked.Tuple && e.NetNs != asked.NetNs)
            {
                e = e with { HasConntrack = true, Original = asked.Tuple, Reply = e.Tuple.Reverse };
            }
        }
    }

    private static (IpProtocol Protocol, uint Sequence, string Payload)? KeyOf(in NetworkEvent e)
    {
        if (e.Kind is not (EventKind.PacketQueued or EventKind.PacketReceived))
        {
            return null;
        }

        return e.Tuple.Protocol switch
        {
            IpProtocol.Tcp when (e.Flags & SynAck) == TcpFlags.Syn => (IpProtocol.Tcp, e.Sequence, ""),
            IpProtocol.Udp when e.Tuple.Destination.Port == 53 && !e.Payload.IsEmpty => (IpProtocol.Udp, 0, Encoding.Latin1.GetString(e.Payload.Span)),
            _ => null,
        };
    }
}
