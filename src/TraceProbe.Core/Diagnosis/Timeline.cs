using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>Tells a journey in order of time: who did what, where. A packet that passes several interfaces of one place is one step.</summary>
internal static class Timeline
{
    // Connections, and questions.
    private const int MaxTold = 100;

    // A recording of a long download must not become a book.
    private const int MaxStepsPerConnection = 60;

    public static ImmutableArray<TimelineStep> Of(Case c)
    {
        var steps = new List<TimelineStep>();
        if (c.Client?.HostsEntry is { } entry)
        {
            steps.Add(new TimelineStep(0, c.Recording.Manifest.Client, Stage.Resolve, $"finds the name in its hosts file: {entry}"));
        }

        foreach (var lookup in c.Lookups.Take(MaxTold))
        {
            AddLookup(c, lookup, steps);
        }

        if (c.Lookups.IsEmpty && c.Client is { Lookups.IsEmpty: false } client)
        {
            // The packets were not seen; what the client says of them is better than nothing.
            foreach (var lookup in client.Lookups)
            {
                steps.Add(new TimelineStep(c.SinceStart(lookup.SentNanoseconds), c.Recording.Manifest.Client, Stage.Resolve,
                    $"asks {lookup.Nameserver} for {lookup.Type} {lookup.Name}: {OutcomeWords(lookup)} (as the client tells it)"));
            }
        }

        // A load generator makes more than anybody reads: the first ones, and always what the verdict is about.
        var others = 0;
        foreach (var connection in c.Journey.Connections)
        {
            if (connection.IsDns || IsOthers(c, connection))
            {
                continue;
            }

            if (others < MaxTold || ReferenceEquals(connection, c.Main) || ReferenceEquals(connection, c.Main?.Onward))
            {
                new ConnectionSteps(c, connection, steps).Add();
            }

            others++;
        }

        if (others > MaxTold || c.Lookups.Length > MaxTold)
        {
            steps.Add(new TimelineStep(steps.Max(s => s.Nanoseconds), "observation", Stage.Exchange,
                string.Create(CultureInfo.InvariantCulture, $"{others} connections and {c.Lookups.Length} questions in all; of each the first {MaxTold} are told here")));
        }

        if (c.Main is null && c.Client is not null)
        {
            foreach (var connect in c.Client.Connects)
            {
                steps.Add(new TimelineStep(c.SinceStart(connect.EndNanoseconds), c.Recording.Manifest.Client, Stage.Deliver,
                    $"connect to {connect.Remote} returned {ErrorWords(connect.Error)}", connect.Error != 0));
            }
        }

        foreach (var gap in c.Journey.Gaps)
        {
            steps.Add(new TimelineStep(c.SinceStart(gap.Nanoseconds), "observation", Stage.Exchange,
                string.Create(CultureInfo.InvariantCulture, $"{gap.Lost} event{(gap.Lost == 1 ? "" : "s")} lost here"), true));
        }

        return [.. steps.OrderBy(s => s.Nanoseconds)];
    }

    // Captured packets are everybody's in the namespaces that were listened in, the kubelet's probes among them.
    public static bool IsOthers(Case c, Connection connection) => c.Recording.Manifest.Source == Recordings.EventSource.Libpcap && c.ClientPlace is { } client
        && connection.Asked != c.Main?.Onward?.Asked && (connection.ClientNetNs != client.NetNs || (c.Recording.Manifest.Target is { } target && connection.Asked.Destination.Port != target.Port));

    public static string ErrorWords(int error) => error switch
    {
        0 => "success",
        101 => "\"Network is unreachable\"",
        104 => "\"Connection reset by peer\"",
        110 => "\"Connection timed out\"",
        111 => "\"Connection refused\"",
        113 => "\"No route to host\"",
        1 => "\"Operation not permitted\"",
        13 => "\"Permission denied\"",
        _ => string.Create(CultureInfo.InvariantCulture, $"errno {error}"),
    };

    /// <summary>The words for an ICMP error, RFC 792 and RFC 4443.</summary>
    public static string IcmpWords(bool isIPv4, byte type, byte code) => (isIPv4, type, code) switch
    {
        (true, 3, 0) => "ICMP network unreachable",
        (true, 3, 1) => "ICMP host unreachable",
        (true, 3, 2) => "ICMP protocol unreachable",
        (true, 3, 3) => "ICMP port unreachable",
        (true, 3, 4) => "ICMP fragmentation needed",
        (true, 3, 9 or 10 or 13) => "ICMP administratively prohibited",
        (true, 11, _) => "ICMP time exceeded",
        (false, 1, 0) => "ICMPv6 no route to destination",
        (false, 1, 1) => "ICMPv6 administratively prohibited",
        (false, 1, 3) => "ICMPv6 address unreachable",
        (false, 1, 4) => "ICMPv6 port unreachable",
        (false, 2, _) => "ICMPv6 packet too big",
        (false, 3, _) => "ICMPv6 time exceeded",
        _ => string.Create(CultureInfo.InvariantCulture, $"ICMP{(isIPv4 ? "" : "v6")} type {type} code {code}"),
    };

    private static string OutcomeWords(Lookup lookup) => lookup.Outcome switch
    {
        LookupOutcome.Answered => string.Join(", ", lookup.Addresses),
        LookupOutcome.NoData => "no such record",
        LookupOutcome.NameError => "NXDOMAIN",
        LookupOutcome.ServerFailure => "a server failure",
        LookupOutcome.TimedOut => "no answer",
        LookupOutcome.Unreachable => "unreachable",
        LookupOutcome.Truncated => "a truncated answer",
        LookupOutcome.Superseded => "no matter any more, another nameserver was quicker",
        _ => "an answer that cannot be read",
    };

    private static void AddLookup(Case c, DnsExchange lookup, List<TimelineStep> steps)
    {
        var connection = lookup.Connection;
        var resolver = connection.Asked.Destination;
        var who = connection.Process is { } process ? $"{process} " : "";
        var question = $"{who}asks {resolver.Address} for {lookup.Type} {lookup.Name}{(connection.Asked.Protocol == IpProtocol.Tcp ? " over TCP" : "")}";
        var answered = lookup is { AnsweredNanoseconds: not null, Answer: not null };
        steps.Add(new TimelineStep(c.SinceStart(lookup.SentNanoseconds), c.PlaceName(connection.ClientNetNs), Stage.Resolve,
            answered ? $"{question}: {AnswerWords(lookup.Answer!)}, after {Duration(lookup.AnsweredNanoseconds!.Value - lookup.SentNanoseconds)}" : question,
            // Who does not serve the cluster's names is asked for one.
            c.Cluster.ClusterDns is not null && c.Meant is { Form: not ServiceNameForm.Address } && !c.IsClusterDns(resolver.Address)));

        // Every question to one nameserver takes the same way: telling it once is enough.
        if (connection.Translated is { } translated && connection.TranslatedNanoseconds is { } at
            && ReferenceEquals(c.Lookups.First(l => l.Connection.Asked.Destination == resolver && l.Connection.Translated is not null), lookup))
        {
            steps.Add(new TimelineStep(c.SinceStart(Math.Max(at, lookup.SentNanoseconds)), c.PlaceName(connection.TranslatedInNetNs), Stage.Resolve,
                $"translates {resolver} to {translated.Destination} ({c.HolderWords(translated.Destination.Address)})"));
        }

        if (answered)
        {
            return;
        }

        if (connection.Outcome == ConnectionOutcome.Rejected && connection.Icmp is { } icmp)
        {
            steps.Add(new TimelineStep(c.SinceStart(connection.OutcomeNanoseconds ?? connection.EndNanoseconds), c.PlaceName(connection.AnsweredInNetNs), Stage.Resolve,
                $"rejects the question to {connection.Backend}: {IcmpWords(connection.Asked.Source.Address.IsIPv4, icmp.Type, icmp.Code)}", true));
        }
        else if (ReferenceEquals(c.Lookups.Last(l => ReferenceEquals(l.Connection, connection)), lookup))
        {
            var last = connection.Sightings.Where(s => s.Forward).Select(s => s.Event).LastOrDefault(e => e.Kind != EventKind.PacketDropped);
            steps.Add(new TimelineStep(c.SinceStart(last.BootNanoseconds), c.PlaceName(connection.FarthestNetNs), Stage.Resolve,
                lookup.AnswerSeen ? "sees an answer that never reaches the client" : $"is the last place where the question to {last.Tuple.Destination} was seen: no answer", true));
        }
    }

    // Three digits at most: more would be noise beside the times at the left.
    private static string Duration(long nanoseconds) => nanoseconds switch
    {
        < 1_000_000 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1000} µs"),
        < 10_000_000 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e6:0.0} ms"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1_000_000} ms"),
    };

    public static string AnswerWords(DnsMessage answer)
    {
        if (answer.Addresses is { IsEmpty: false } addresses)
        {
            return IpAddress.Join(addresses);
        }

        return answer.ResponseCode == DnsResponseCode.NoError
            ? $"no {answer.Question?.Type} record{(answer.IsTruncated ? " (truncated)" : "")}"
            : answer.ResponseCode.ToString().ToUpperInvariant();
    }

    private sealed class ConnectionSteps(Case c, Connection connection, List<TimelineStep> steps)
    {
        private const TcpFlags SynAck = TcpFlags.Syn | TcpFlags.Ack;

        // What a packet is, whatever its addresses are at this point.
        private readonly HashSet<(bool Forward, TcpFlags Flags, uint Sequence, int Length, bool Icmp, uint NetNs, EventKind Drop)> _told = [];
        // A proxy that was refused tries other pods, so what counts is who dials.
        private readonly bool _isOnward = connection.Process is not null && c.Journey.Connections.Any(o => o.Onward?.Process == connection.Process && o.Onward!.StartNanoseconds <= connection.StartNanoseconds);

        // Whether client and server are in one place: then a step says whose it is.
        private readonly bool _inOnePlace = connection.AnsweredInNetNs == connection.ClientNetNs;
        private int _count;
        private bool _established;
        private bool _translationTold;

        public void Add()
        {
            if (NeverLeft() is { } attempt)
            {
                steps.Add(new TimelineStep(c.SinceStart(connection.StartNanoseconds), c.PlaceName(attempt.NetNs), Stage.Translate, $"{Who()}{(_isOnward ? "dials" : "connects to")} {connection.Asked.Destination}"));
            }

            foreach (var sighting in connection.Sightings)
            {
                var e = sighting.Event;
                var icmp = e.Tuple.Protocol is IpProtocol.Icmp or IpProtocol.IcmpV6;
                var flags = e.Flags & (TcpFlags.Syn | TcpFlags.Fin | TcpFlags.Rst);
                if (flags == 0 && e.PayloadLength == 0 && !icmp && e.Kind != EventKind.PacketDropped && e.Tuple.Protocol == IpProtocol.Tcp)
                {
                    continue; // A bare ACK.
                }

                var key = (sighting.Forward, flags, e.Sequence, e.PayloadLength, icmp, e.NetNs, e.Kind == EventKind.PacketDropped ? e.Kind : EventKind.None);
                var repeated = _told.Contains(key);
                if (repeated && !IsRetransmission(sighting))
                {
                    continue;
                }

                if (Tell(sighting, icmp, repeated) is { } text && _told.Add(key) | repeated && _count++ < MaxStepsPerConnection)
                {
                    var bad = e.Kind == EventKind.PacketDropped && connection.Outcome != ConnectionOutcome.Established
                        || icmp || (e.Flags & TcpFlags.Rst) != 0 && !sighting.Forward;
                    // On a node the client's packet is translated before any device sees it: first what was asked for, then that.
                    var translatedAtOnce = sighting.Forward && connection.Translated is not null && e.NetNs == connection.ClientNetNs && e.NetNs == connection.TranslatedInNetNs;
                    steps.Add(new TimelineStep(c.SinceStart(e.BootNanoseconds), c.PlaceName(e.NetNs), translatedAtOnce ? Stage.Deliver : StageOf(sighting, icmp), text, bad));
                    if (translatedAtOnce && !_translationTold)
                    {
                        _translationTold = true;
                        steps.Add(new TimelineStep(c.SinceStart(e.BootNanoseconds), c.PlaceName(e.NetNs), Stage.Translate, Translation()));
                    }
                }
            }

            if (connection.Outcome == ConnectionOutcome.Unanswered && _count < MaxStepsPerConnection)
            {
                var last = connection.Sightings.Where(s => s.Forward).Select(s => s.Event).Last();
                steps.Add(new TimelineStep(c.SinceStart(last.BootNanoseconds), c.PlaceName(last.NetNs), connection.Translated is null ? Stage.Translate : Stage.Deliver,
                    $"is the last place where the packet to {last.Tuple.Destination} was seen: no answer", true));
            }
        }

        // What a rule stops on its way out comes to no device, and is only seen as it is dropped; what waits for a neighbour is not seen at all.
        private NetworkEvent? NeverLeft() => connection.Sightings.FirstOrDefault(s => s.Forward) is { Event: { Pid: not 0 } e } && e.NetNs == connection.ClientNetNs
            && (e.Kind == EventKind.SocketStateChanged || e.Kind == EventKind.PacketDropped && (e.Flags & SynAck) == TcpFlags.Syn) ? e : null;

        private bool IsRetransmission(Sighting s) => s.Event.NetNs == connection.ClientNetNs && s.Forward && s.Event.Kind == EventKind.PacketQueued
            && (s.Event.Flags & SynAck) == TcpFlags.Syn && s.Event.InterfaceIndex == connection.Sightings[0].Event.InterfaceIndex;

        private Stage StageOf(Sighting s, bool icmp)
        {
            var e = s.Event;
            if (icmp)
            {
                return Stage.Deliver;
            }

            if ((e.Flags & TcpFlags.Syn) == 0 && _established)
            {
                return Stage.Exchange;
            }

            return s.Forward ? e.NetNs == connection.TranslatedInNetNs ? Stage.Translate : Stage.Deliver : Stage.Accept;
        }

        private string? Tell(Sighting s, bool icmp, bool again)
        {
            var e = s.Event;
            var atClient = e.NetNs == connection.ClientNetNs;
            if (e.Kind == EventKind.PacketDropped)
            {
                // After the end the kernel tidies up, and a drop without a reason proves nothing: healthy closes have them too.
                return connection.Outcome == ConnectionOutcome.Established || icmp || e.DropReason is null ? null
                    : $"drops the {PacketWords(e, s.Forward)}: {e.DropReason}";
            }

            if (icmp)
            {
                return e.Kind == EventKind.PacketQueued && e.NetNs == connection.AnsweredInNetNs
                    ? $"rejects the packet to {e.Quoted.Destination}: {IcmpWords(connection.Asked.Source.Address.IsIPv4, e.IcmpType, e.IcmpCode)}"
                    : atClient && e.Kind == EventKind.PacketReceived ? $"is told: {IcmpWords(connection.Asked.Source.Address.IsIPv4, e.IcmpType, e.IcmpCode)}" : null;
            }

            if (e.Tuple.Protocol != IpProtocol.Tcp)
            {
                return s.Forward
                    ? atClient ? $"{Who()}sends {Bytes(e.PayloadLength)} to {connection.Asked.Destination}" : Passing(e, "datagram")
                    : atClient ? $"receives {Bytes(e.PayloadLength)} from {connection.Asked.Destination}" : e.NetNs == connection.AnsweredInNetNs ? $"answers with {Bytes(e.PayloadLength)}" : null;
            }

            if ((e.Flags & TcpFlags.Rst) != 0)
            {
                return s.Forward ? atClient ? "resets the connection" : null
                    : atClient && e.NetNs != connection.AnsweredInNetNs || (atClient && e.Kind == EventKind.PacketReceived) ? $"{Whose()}is told: connection {(_established ? "reset" : "refused")}"
                    : e.Kind == EventKind.PacketQueued && IsOrigin(s) ? (_established ? "resets the connection (RST)" : $"refuses: RST from {e.Tuple.Source}") : null;
            }

            if ((e.Flags & SynAck) == TcpFlags.Syn)
            {
                return atClient && e.Kind == EventKind.PacketQueued && ReferenceEqualsFirstHop(e)
                    ? $"{Who()}{(again ? "sends the SYN to " : _isOnward ? "dials " : "connects to ")}{connection.Asked.Destination}{(again ? " again" : "")}"
                    : Passing(e, "SYN");
            }

            if ((e.Flags & SynAck) == SynAck)
            {
                if (atClient && (e.Kind == EventKind.PacketReceived || _inOnePlace))
                {
                    _established = true;
                    return _inOnePlace ? $"{Listener(e)}accepts: SYN-ACK from {e.Tuple.Source}" : $"{Whose()}has its connection";
                }

                return IsOrigin(s) ? $"{Listener(e)}accepts: SYN-ACK from {e.Tuple.Source}" : null;
            }

            if (e.PayloadLength > 0)
            {
                if (s.Forward)
                {
                    return atClient && e.Kind == EventKind.PacketQueued ? $"{Whose()}sends {Bytes(e.PayloadLength)}" : null;
                }

                var head = connection.StatusLine is { } line && e.Payload.Length > 0 ? $": {line}" : "";
                return atClient && e.Kind == EventKind.PacketReceived ? $"{Whose()}receives {Bytes(e.PayloadLength)}{head}" : null;
            }

            if ((e.Flags & TcpFlags.Fin) != 0)
            {
                return s.Forward ? (atClient && e.Kind == EventKind.PacketQueued ? $"{Whose()}closes" : null)
                    : IsOrigin(s) ? $"{(c.PlaceOf(e.NetNs)?.Kind == PlaceKind.Node ? Listener(e) : "")}{(connection.ReplyBytes == 0 ? "closes without having answered" : "closes")}" : null;
            }

            return null;
        }

        // The first place where a packet of the server's was seen leaving is the one that made it.
        // What was only seen arriving has no such place.
        private bool IsOrigin(Sighting s) => s.Event.Kind == EventKind.PacketQueued && !s.Forward
            && connection.Sightings.First(o => !o.Forward && o.Event.Kind == EventKind.PacketQueued
                && (o.Event.Flags & (SynAck | TcpFlags.Rst | TcpFlags.Fin)) == (s.Event.Flags & (SynAck | TcpFlags.Rst | TcpFlags.Fin))).Event.NetNs == s.Event.NetNs;

        private bool ReferenceEqualsFirstHop(in NetworkEvent e) => e.InterfaceIndex == connection.Sightings[0].Event.InterfaceIndex;

        private string? Passing(in NetworkEvent e, string what)
        {
            var place = c.PlaceOf(e.NetNs);
            var to = e.Tuple.Destination;
            var translatedHere = e.NetNs == connection.TranslatedInNetNs && connection.Translated is not null;
            if (translatedHere)
            {
                return Translation();
            }

            if (e.NetNs == connection.ClientNetNs || place is null || place.Kind == PlaceKind.Outside)
            {
                return null;
            }

            // What ends on this node (rejected, or never seen again) it did not pass on.
            var endsHere = e.NetNs == connection.FarthestNetNs && (connection.AnsweredInNetNs == 0 || connection.AnsweredInNetNs == e.NetNs);
            return place.Kind == PlaceKind.Pod || endsHere ? $"{what} to {to} arrives" : $"passes the {what} on to {to}";
        }

        private string Translation()
        {
            var translated = connection.Translated!.Value;
            var source = translated.Source.Address != connection.Asked.Source.Address ? $", source becomes {translated.Source.Address}" : "";
            return $"translates {connection.Asked.Destination} to {translated.Destination} ({c.HolderWords(translated.Destination.Address)}){source}";
        }

        private string Listener(in NetworkEvent e)
        {
            if (c.ListenersIn(e.NetNs) is not { } listeners)
            {
                return "";
            }

            var port = e.NetNs == connection.TranslatedInNetNs ? connection.Backend.Port : e.Tuple.Source.Port;
            return listeners.FirstOrDefault(l => l.Protocol == IpProtocol.Tcp && l.Local.Port == port)?.Process is { } process ? $"{process} " : "";
        }

        private string Who() => connection.Process is { } process ? $"{process} " : "";

        // On a node, where client and server may both be and kube-proxy too, a step says whose it is.
        private string Whose() => _inOnePlace || _isOnward ? Who() : "";

        private static string PacketWords(in NetworkEvent e, bool forward) => e.Tuple.Protocol != IpProtocol.Tcp ? "datagram"
            : (e.Flags & SynAck) == SynAck ? "SYN-ACK" : (e.Flags & TcpFlags.Syn) != 0 ? "SYN" : (e.Flags & TcpFlags.Rst) != 0 ? "RST" : (e.Flags & TcpFlags.Fin) != 0 ? "FIN"
            : forward ? "client's packet" : "server's packet";

        private static string Bytes(int count) => string.Create(CultureInfo.InvariantCulture, $"{count} byte{(count == 1 ? "" : "s")}");
    }
}
