using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Journeys;

/// <summary>Gives each packet to the flow it belongs to, whichever side of a translation it was seen on.</summary>
internal sealed class FlowTable
{
    private readonly List<Flow> _flows = [];
    private readonly Dictionary<FiveTuple, (Flow Flow, bool Forward)> _byTuple = [];

    // Errors that quote packets which nobody has seen yet: what a rule rejects on its way out is answered before it is dropped.
    private readonly Dictionary<FiveTuple, List<NetworkEvent>> _early = [];

    // Sockets that have begun to connect, by their address in the kernel. They have no port yet.
    private readonly Dictionary<ulong, NetworkEvent> _dialling = [];

    public void AddPacket(in NetworkEvent e)
    {
        var isIcmp = e.Tuple.Protocol is IpProtocol.Icmp or IpProtocol.IcmpV6;
        if (isIcmp && e.Quoted.Protocol == IpProtocol.None)
        {
            return; // An echo or a neighbour discovery: of no flow.
        }

        // An ICMP error travels against the packet that it quotes.
        var tuple = isIcmp ? e.Quoted.Reverse : e.Tuple;
        var found = _byTuple.TryGetValue(tuple, out var hit) || (e.HasConntrack && TryByConntrack(e, tuple, out hit));
        var opens = e.Tuple.Protocol == IpProtocol.Tcp && (e.Flags & (TcpFlags.Syn | TcpFlags.Ack)) == TcpFlags.Syn;
        if (found && opens && hit.Forward && hit.Flow.IsReusedBy(e))
        {
            found = false; // The same ports again: a new connection.
        }

        if (!found)
        {
            if (isIcmp)
            {
                (_early.TryGetValue(e.Quoted, out var waiting) ? waiting : _early[e.Quoted] = []).Add(e);
                return;
            }

            // A process on the node itself is translated before its packet reaches a device (nf_nat in LOCAL_OUT), so no packet shows
            // what it asked for; conntrack remembers.
            var translated = e.HasConntrack && e.Original != e.Reply.Reverse;
            hit = (new Flow(translated ? e.Original : tuple, midStream: e.Tuple.Protocol == IpProtocol.Tcp && !opens), !translated || !IsReply(e, tuple));
            _flows.Add(hit.Flow);
            if (hit.Forward && _early.Remove(tuple, out var answers))
            {
                hit.Flow.Sightings.AddRange(answers.Select(a => new Sighting(a, Forward: false)));
            }
        }

        Remember(tuple, hit);
        if (e.HasConntrack && !isIcmp)
        {
            Remember(e.Original, (hit.Flow, true));
            Remember(e.Reply, (hit.Flow, false));
        }

        hit.Flow.Sightings.Add(new Sighting(e, hit.Forward));
    }

    public void AddSocketError(in NetworkEvent e)
    {
        // The socket's own tuple: its source is local, so only the client's socket has the forward one.
        if (_byTuple.TryGetValue(e.Tuple, out var hit) && hit.Forward)
        {
            hit.Flow.SocketErrors.Add(e.Error);
        }
    }

    /// <summary>
    /// Takes in that a socket began to connect, or gave up. What waits for a neighbour that does not answer is given to no interface, so that only the socket
    /// tells that there was an attempt.
    /// </summary>
    public void AddSocketState(in NetworkEvent e)
    {
        if (e is { OldState: TcpState.Close, NewState: TcpState.SynSent })
        {
            _dialling[e.Socket] = e;
        }
        else if (e.OldState == TcpState.SynSent && _dialling.Remove(e.Socket, out var dial) && e.NewState == TcpState.Close && !_byTuple.ContainsKey(e.Tuple))
        {
            var flow = new Flow(e.Tuple, midStream: false);
            flow.Sightings.Add(new Sighting(dial with { Tuple = e.Tuple }, Forward: true));
            _flows.Add(flow);
            Remember(e.Tuple, (flow, true));
        }
    }

    /// <summary>What came of each flow, in the order they began.</summary>
    public List<Connection> ToConnections() => [.. _flows.Select(f => f.ToConnection()).OrderBy(c => c.StartNanoseconds)];

    private bool TryByConntrack(in NetworkEvent e, FiveTuple tuple, out (Flow Flow, bool Forward) hit)
    {
        if (!_byTuple.TryGetValue(e.Original, out hit) && !_byTuple.TryGetValue(e.Reply.Reverse, out hit))
        {
            return false;
        }

        hit = (hit.Flow, !IsReply(e, tuple));
        return true;
    }

    // Whatever of source and destination is rewritten at this point, one of the two is still that of its direction.
    private static bool IsReply(in NetworkEvent e, FiveTuple tuple)
        => tuple.Source == e.Reply.Source || tuple.Destination == e.Reply.Destination || tuple == e.Original.Reverse;

    private void Remember(FiveTuple tuple, (Flow Flow, bool Forward) hit)
    {
        _byTuple[tuple] = hit;
        _byTuple[tuple.Reverse] = (hit.Flow, !hit.Forward);
    }
}
