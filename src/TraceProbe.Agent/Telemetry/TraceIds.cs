using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Telemetry;

/// <summary>
/// Trace ids that every node along a connection comes to by itself: from what no translation of the source changes. For TCP that is the client's initial sequence
/// number (RFC 9293 section 3.4.1) and the backend's address and port; for UDP, which has no number, the ports and the backend. What only its own node can have seen, a
/// lookup or a SYN that was rejected before it was a packet, is told from others by when it began.
/// </summary>
public static class TraceIds
{
    /// <summary>The trace id of a connection.</summary>
    public static ActivityTraceId Of(Connection connection)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        HashOf(connection, hash);
        return ActivityTraceId.CreateFromBytes(hash[..16]);
    }

    /// <summary>The id of the trace's root span, which the client's node makes: so other nodes' spans can lie below it.</summary>
    public static ActivitySpanId RootOf(Connection connection)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        HashOf(connection, hash);
        return ActivitySpanId.CreateFromBytes(hash[16..24]);
    }

    private static void HashOf(Connection connection, Span<byte> hash)
    {
        ArgumentNullException.ThrowIfNull(connection);
        var backend = connection.Backend;
        Span<byte> seen = stackalloc byte[32];
        seen.Clear();
        backend.Address.WriteMapped(seen);
        BinaryPrimitives.WriteUInt16BigEndian(seen[16..], backend.Port);
        seen[18] = (byte)connection.Asked.Protocol;
        var isTcp = connection.Asked.Protocol == IpProtocol.Tcp;
        if (isTcp && InitialSequence(connection) is { } sequence)
        {
            BinaryPrimitives.WriteUInt32BigEndian(seen[20..], sequence);
        }
        else
        {
            BinaryPrimitives.WriteUInt16BigEndian(seen[20..], connection.Asked.Source.Port);
            BinaryPrimitives.WriteInt64BigEndian(seen[24..], isTcp || connection.IsDns ? connection.StartNanoseconds : 0);
        }

        // A hash spreads them; nothing is hidden by it.
        SHA256.HashData(seen, hash);
    }

    private static uint? InitialSequence(Connection connection)
    {
        foreach (var s in connection.Sightings)
        {
            if (s is { Forward: true, Event.Sequence: not 0 } && (s.Event.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn)
            {
                return s.Event.Sequence;
            }
        }

        return null;
    }
}
