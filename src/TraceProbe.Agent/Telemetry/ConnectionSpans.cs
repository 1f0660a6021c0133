using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Telemetry;

/// <summary>
/// Makes a trace of a recorded request: one root span, and below it a span for each lookup, for the socket's connect, the translation, the delivery to the pod, its
/// acceptance, and the exchange, with the times at which they happened. Attributes are those of OpenTelemetry's semantic conventions 1.37 where there are any
/// (<c>dns.*</c>, <c>network.*</c>, <c>server.*</c>, <c>k8s.*</c>, <c>error.type</c>), and <c>traceprobe.*</c> where there are none. Where the client's request says which
/// trace it is part of, and that this is recorded, the root is a span of that trace, below the one that sent the request.
/// </summary>
public sealed class ConnectionSpans : IDisposable
{
    /// <summary>The name of the source, for those who listen.</summary>
    public const string SourceName = "TraceProbe";

    /// <summary>The most packets that become events of a span.</summary>
    public const int MostPackets = 64;

    [ThreadStatic]
    private static ActivityTraceId? _next;

    private readonly ActivitySource _source = new(SourceName, typeof(ConnectionSpans).Assembly.GetName().Version?.ToString(3));

    static ConnectionSpans() => Activity.TraceIdGenerator = () => _next ?? ActivityTraceId.CreateRandom();

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    /// <summary>Whether anybody takes them.</summary>
    public bool AreTaken => _source.HasListeners();

    /// <summary>Makes the spans, if anybody listens.</summary>
    /// <param name="recording">What was recorded.</param>
    /// <param name="report">The report on it.</param>
    /// <param name="healthy">The trace of a healthy request of its kind, to be linked; null when none is known.</param>
    /// <returns>The root span; null when nobody listens or nothing was seen.</returns>
    public ActivityContext? Emit(Recording recording, Report report, ActivityContext? healthy = null)
    {
        ArgumentNullException.ThrowIfNull(recording);
        ArgumentNullException.ThrowIfNull(report);
        if (!_source.HasListeners())
        {
            return null;
        }

        var journey = JourneyBuilder.Build(recording.Events);
        var connections = journey.Connections.Where(c => !c.IsDns).ToList();
        var main = connections.LastOrDefault() ?? journey.Lookups.FirstOrDefault()?.Connection;
        if (main is null)
        {
            return null;
        }

        var at = recording.Manifest.Clock;
        var parent = ApplicationOf(main);
        List<ActivityLink> links = healthy is { } context ? [new ActivityLink(context, new ActivityTagsCollection { ["traceprobe.link"] = "baseline" })] : [];
        _next = TraceIds.Of(main);
        try
        {
            using var root = _source.StartActivity(
                RootName(report, main), ActivityKind.Client, parent, startTime: at.WallAt(journey.StartNanoseconds), links: links);
            if (root is null)
            {
                return null;
            }

            SpanIdOf(root) = TraceIds.RootOf(main).ToHexString();
            Describe(root, recording, report, main);
            foreach (var lookup in journey.Lookups)
            {
                Lookup(root, recording, lookup, journey, at);
            }

            foreach (var connection in connections)
            {
                Connection(root, recording, connection, at);
            }

            root.SetEndTime(at.WallAt(journey.EndNanoseconds).UtcDateTime);
            return root.Context;
        }
        finally
        {
            _next = null;
        }
    }

    /// <summary>Makes the spans of what a server's node saw of a connection from elsewhere, if anybody listens: below the root that the client's node makes of it.</summary>
    /// <param name="recording">What was seen.</param>
    public void EmitArrival(Recording recording)
    {
        ArgumentNullException.ThrowIfNull(recording);
        if (!_source.HasListeners() || JourneyBuilder.Build(recording.Events) is not { Connections: [.., var connection] })
        {
            return;
        }

        var at = recording.Manifest.Clock;
        using var arrival = _source.StartActivity("arrival", ActivityKind.Server,
            new ActivityContext(ApplicationOf(connection) is { TraceId: var told } && told != default ? told : TraceIds.Of(connection), TraceIds.RootOf(connection), ActivityTraceFlags.Recorded, isRemote: true), startTime: at.WallAt(connection.StartNanoseconds));
        if (arrival is null)
        {
            return;
        }

        arrival.SetTag("k8s.node.name", PlaceOf(recording, connection.ClientNetNs)?.Node);
        arrival.SetTag("network.peer.address", connection.Asked.Source.Address.ToString());
        arrival.SetTag("server.address", connection.Asked.Destination.Address.ToString());
        arrival.SetTag("server.port", (int)connection.Asked.Destination.Port);

        // What the server's side says last still reaches the client; what it hears last, the client has said before, and its root is over by then.
        var end = connection.StartNanoseconds;
        foreach (var (e, forward) in connection.Sightings)
        {
            end = forward ? end : Math.Max(end, e.BootNanoseconds);
        }

        Connection(arrival, recording, connection, at, end);
        arrival.SetEndTime(at.WallAt(end).UtcDateTime);
    }

    // An id that another node can come to by itself cannot be given otherwise; the tests' receiver sees whether it is still what is sent.
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_spanId")]
    private static extern ref string? SpanIdOf(Activity activity);

    // What the application does not record itself would lie below a span that nobody has.
    private static ActivityContext ApplicationOf(Connection connection)
        => ActivityContext.TryParse(connection.TraceParent, null, isRemote: true, out var told) && told.TraceFlags.HasFlag(ActivityTraceFlags.Recorded) ? told : default;

    private static string RootName(Report report, Connection main) => $"{(main.Asked.Protocol == IpProtocol.Tcp ? "connect" : "send")} {report.Target ?? main.Asked.Destination.ToString()}";

    private static void Describe(Activity root, Recording recording, Report report, Connection main)
    {
        var verdict = report.Verdict;
        var name = FailureClassInfo.Of(verdict.Class).Name;
        var client = PlaceOf(recording, main.ClientNetNs);
        root.SetTag("traceprobe.class", name);
        root.SetTag("traceprobe.sentence", verdict.Sentence);
        root.SetTag("traceprobe.confidence", verdict.Confidence.ToString().ToLowerInvariant());
        root.SetTag("traceprobe.service", Diagnose.ServiceKey(recording));
        root.SetTag("traceprobe.mend", verdict.Mend?.Command ?? verdict.Mend?.Text);
        root.SetTag("server.address", main.Asked.Destination.Address.ToString());
        root.SetTag("server.port", (int)main.Asked.Destination.Port);
        root.SetTag("network.transport", main.Asked.Protocol.ToString().ToLowerInvariant());
        root.SetTag("network.type", main.Asked.Destination.Address.IsIPv4 ? "ipv4" : "ipv6");
        root.SetTag("k8s.cluster.name", recording.Manifest.Cluster);
        root.SetTag("k8s.node.name", client?.Node);
        root.SetTag("k8s.namespace.name", client?.PodNamespace);
        root.SetTag("k8s.pod.name", client?.PodName);
        root.SetTag("k8s.pod.uid", client?.PodUid);
        root.SetTag("process.pid", main.Process?.Pid);
        root.SetTag("process.executable.name", main.Process?.Command);
        if (verdict.Class is not (FailureClass.Healthy or FailureClass.Undetermined))
        {
            root.SetTag("error.type", name);
            root.SetStatus(ActivityStatusCode.Error, verdict.Sentence);
        }
    }

    private void Lookup(Activity root, Recording recording, DnsExchange lookup, Journey journey, ClockAnchor at)
    {
        using var span = Start(root, "DNS lookup", ActivityKind.Client, at.WallAt(lookup.SentNanoseconds));
        if (span is null)
        {
            return;
        }

        span.SetTag("dns.question.name", lookup.Name);
        span.SetTag("traceprobe.dns.question.type", lookup.Type.ToString());
        span.SetTag("server.address", lookup.Connection.Asked.Destination.Address.ToString());
        span.SetTag("server.port", (int)lookup.Connection.Asked.Destination.Port);
        span.SetTag("network.transport", lookup.Connection.Asked.Protocol.ToString().ToLowerInvariant());
        span.SetTag("traceprobe.backend", lookup.Connection.Backend.ToString());
        if (lookup.Answer is { } answer)
        {
            span.SetTag("dns.answers", answer.Addresses.Select(a => a.ToString()).ToArray());
            if (answer.ResponseCode != DnsResponseCode.NoError)
            {
                // A name of the search path that does not exist is no failure: the next is tried.
                span.SetTag("error.type", answer.ResponseCode.ToString());
            }
        }
        else
        {
            span.SetTag("error.type", "timeout");
            span.SetStatus(ActivityStatusCode.Error, "No answer.");
            Packets(span, recording, lookup.Connection, at);
        }

        span.SetEndTime(at.WallAt(lookup.AnsweredNanoseconds ?? journey.EndNanoseconds).UtcDateTime);
    }

    private void Connection(Activity root, Recording recording, Connection connection, ClockAnchor at, long? arrivalsEnd = null)
    {
        var (isArrival, end) = (arrivalsEnd is not null, arrivalsEnd ?? long.MaxValue);
        var backend = recording.Manifest.Places.FirstOrDefault(p => p.Addresses.Contains(connection.Backend.Address));
        var arrived = connection.Sightings.FirstOrDefault(s => s.Forward && s.Event.Kind == EventKind.PacketReceived && backend is not null && s.Event.NetNs == backend.NetNs).Event;
        var answered = connection.Sightings.FirstOrDefault(s => !s.Forward && s.Event.NetNs == connection.AnsweredInNetNs && s.Event.Kind != EventKind.PacketDropped).Event;
        var connected = connection.OutcomeNanoseconds ?? connection.EndNanoseconds;

        using (var connect = isArrival ? null : Start(root, "socket connect", ActivityKind.Internal, at.WallAt(connection.StartNanoseconds)))
        {
            connect?.SetTag("network.peer.address", connection.Asked.Destination.Address.ToString());
            connect?.SetTag("network.peer.port", (int)connection.Asked.Destination.Port);
            connect?.SetTag("network.local.address", connection.Asked.Source.Address.ToString());
            connect?.SetTag("network.local.port", (int)connection.Asked.Source.Port);
            if (connect is not null && connection.Outcome is ConnectionOutcome.Refused or ConnectionOutcome.Rejected or ConnectionOutcome.Unanswered)
            {
                connect.SetTag("error.type", connection.Outcome switch { ConnectionOutcome.Refused => "ECONNREFUSED", ConnectionOutcome.Rejected => "icmp", _ => "timeout" });
                connect.SetStatus(ActivityStatusCode.Error, connection.Outcome.ToString());
            }

            if (connect is not null)
            {
                Packets(connect, recording, connection, at);
                connect.SetEndTime(at.WallAt(connected).UtcDateTime);
            }
        }

        if (connection is { Translated: { } translated, TranslatedNanoseconds: { } translatedAt })
        {
            using var translation = Start(root, "translation", ActivityKind.Internal, at.WallAt(connection.StartNanoseconds));
            translation?.SetTag("traceprobe.original", connection.Asked.Destination.ToString());
            translation?.SetTag("traceprobe.translated", translated.Destination.ToString());
            translation?.SetTag("k8s.node.name", PlaceOf(recording, connection.TranslatedInNetNs)?.Node);
            translation?.SetEndTime(at.WallAt(Math.Min(translatedAt, end)).UtcDateTime);
        }

        using (var delivery = Start(root, "delivery", ActivityKind.Internal, at.WallAt(connection.TranslatedNanoseconds ?? connection.StartNanoseconds)))
        {
            delivery?.SetTag("network.peer.address", connection.Backend.Address.ToString());
            delivery?.SetTag("network.peer.port", (int)connection.Backend.Port);
            delivery?.SetTag("k8s.pod.name", backend?.PodName);
            delivery?.SetTag("k8s.namespace.name", backend?.PodNamespace);
            delivery?.SetTag("k8s.node.name", backend?.Node);
            if (delivery is not null && isArrival)
            {
                Packets(delivery, recording, connection, at, end);
            }

            delivery?.SetTag("traceprobe.delivered", arrived.Kind != EventKind.None);
            delivery?.SetEndTime(at.WallAt(Math.Min(arrived.Kind != EventKind.None ? arrived.BootNanoseconds : connected, end)).UtcDateTime);
        }

        if (arrived.Kind != EventKind.None && arrived.BootNanoseconds <= end)
        {
            using var accept = Start(root, "accept", ActivityKind.Server, at.WallAt(arrived.BootNanoseconds));
            accept?.SetTag("k8s.pod.name", backend?.PodName);
            accept?.SetTag("k8s.namespace.name", backend?.PodNamespace);
            accept?.SetTag("k8s.node.name", backend?.Node);
            accept?.SetTag("traceprobe.answer", answered.Kind == EventKind.None ? "none" : connection.Outcome.ToString().ToLowerInvariant());
            accept?.SetEndTime(at.WallAt(Math.Min(answered.Kind == EventKind.None ? connected : Math.Max(answered.BootNanoseconds, arrived.BootNanoseconds), end)).UtcDateTime);
        }

        if (!isArrival && connection.Outcome == ConnectionOutcome.Established && connection.Asked.Protocol == IpProtocol.Tcp)
        {
            using var request = Start(root, "request", ActivityKind.Client, at.WallAt(connected));
            request?.SetTag("traceprobe.request.bytes", connection.RequestBytes);
            request?.SetTag("traceprobe.reply.bytes", connection.ReplyBytes);
            if (connection.StatusLine?.Split(' ') is [_, var code, ..] && int.TryParse(code, NumberStyles.None, CultureInfo.InvariantCulture, out var status))
            {
                request?.SetTag("http.response.status_code", status);
            }

            if (connection.FirstReplyNanoseconds is { } first)
            {
                request?.AddEvent(new ActivityEvent("first byte", at.WallAt(first)));
            }

            request?.SetEndTime(at.WallAt(Math.Max(connected, connection.EndNanoseconds)).UtcDateTime);
        }
    }

    private static void Packets(Activity span, Recording recording, Connection connection, ClockAnchor at, long end = long.MaxValue)
    {
        var seen = connection.Sightings.Where(s => s.Event.BootNanoseconds <= end);
        foreach (var (e, forward) in seen.Where(s => s.Event.Kind == EventKind.PacketDropped).Concat(seen.Where(s => s.Event.Kind != EventKind.PacketDropped)).Take(MostPackets))
        {
            span.AddEvent(new ActivityEvent(e.Kind switch { EventKind.PacketDropped => "packet dropped", EventKind.PacketReceived => "packet received", _ => "packet sent" }, at.WallAt(e.BootNanoseconds), new ActivityTagsCollection
            {
                ["traceprobe.place"] = PlaceOf(recording, e.NetNs)?.Name ?? $"netns:{e.NetNs}",
                ["traceprobe.tuple"] = e.Tuple.ToString(),
                ["traceprobe.flags"] = e.Tuple.Protocol == IpProtocol.Tcp ? e.Flags.ToString() : null,
                ["traceprobe.direction"] = forward ? "request" : "reply",
                ["traceprobe.drop.reason"] = e.DropReason,
                ["network.interface.name"] = e.Interface.ToString() is { Length: > 0 } name ? name : null,
            }));
        }
    }

    private Activity? Start(Activity root, string name, ActivityKind kind, DateTimeOffset start) => _source.StartActivity(name, kind, root.Context, startTime: start);

    private static Place? PlaceOf(Recording recording, uint netNs) => netNs == 0 ? null : recording.Manifest.Places.FirstOrDefault(p => p.NetNs == netNs);
}
