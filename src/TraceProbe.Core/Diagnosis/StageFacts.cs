using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// Puts a journey, and what a healthy one would be, into the same words stage by stage, so that they can be laid side by side.
/// Nothing that differs between two healthy requests (ports, the backend chosen, counts of endpoints) is in them.
/// </summary>
internal static class StageFacts
{
    /// <summary>The stages as they were.</summary>
    public static ImmutableArray<StageRecord> Of(Case c) => [Resolve(c), Define(c), Translate(c), Deliver(c), Accept(c), Exchange(c)];

    /// <summary>The stages as the desired account alone says they should be; empty when it does not know the Service.</summary>
    public static ImmutableArray<StageRecord> Expected(Case c)
    {
        if (c.Meant?.Service is not { } service || c.Target is null)
        {
            return [];
        }

        var stages = ImmutableArray.CreateBuilder<StageRecord>();
        stages.Add(c.Target.Address is null
            ? new(Stage.Resolve, StageStatus.Passed,
                [
                    .. c.Cluster.ClusterDns is { } dns && ServiceMeant.AddressesOf(dns) is { IsEmpty: false } resolvers ? [new StageFact("resolver", ResolverWords(c, resolvers[0]))] : Array.Empty<StageFact>(),
                    new("answer", AddressWords(c, ExpectedAddresses(c, service))),
                ], null)
            : new(Stage.Resolve, StageStatus.NotNeeded, [], null));

        // A target port on which no pod listens is none that a healthy request could have.
        var listened = c.Port is null ? null : DefineChecks.PortPodsListenOn(c, service, c.Port, c.Main?.Asked.Destination.Address.IsIPv4 ?? true);
        var target = listened?.ToString(CultureInfo.InvariantCulture)
            ?? (c.Port is null && c.Target is { } asked ? string.Create(CultureInfo.InvariantCulture, $"port {asked.Port} is in the Service") : TargetPortWords(c, service, c.Port));
        var proxy = c.UserspaceProxyNode is { } node ? $"kube-proxy on {node}" : null;
        stages.Add(new(Stage.Define, StageStatus.Passed,
            [
                new("service", $"{service.Metadata.Namespace}/{service.Metadata.Name}"),
                new("target port", target),
                new("endpoints", "ready"),
            ], null));
        if (!service.Spec.IsHeadless)
        {
            stages.Add(new(Stage.Translate, StageStatus.Passed, [new("translated to", proxy is null ? $"a pod of the Service{(c.Port is null ? "" : $", port {target}")}" : $"kube-proxy's own port on {c.UserspaceProxyNode}")], null));
        }

        stages.Add(new(Stage.Deliver, StageStatus.Passed, [new("delivered to", proxy ?? "a pod of the Service")], null));
        if (c.Target.Protocol == IpProtocol.Tcp)
        {
            stages.Add(new(Stage.Accept, StageStatus.Passed, [new("answered by", proxy is null ? "a pod of the Service: SYN-ACK" : $"{proxy}: SYN-ACK, which reaches a pod")], null));
        }

        stages.Add(new(Stage.Exchange, StageStatus.Passed, [new("answer", "an answer")], null));
        return stages.ToImmutable();
    }

    /// <summary>The addresses that DNS should give for a Service.</summary>
    public static ImmutableArray<IpAddress> ExpectedAddresses(Case c, Service service) => ServiceMeant.Parsed(!service.Spec.IsHeadless
        ? service.Spec.ClusterIPs.Append(service.Spec.ClusterIP)
        : c.Cluster.SlicesOf(service).SelectMany(s => s.Endpoints).Where(e => e.Conditions.Ready ?? true).SelectMany(e => e.Addresses.Take(1)));

    private static StageRecord Resolve(Case c)
    {
        if (c.Target?.Address is not null && c.Lookups.IsEmpty)
        {
            return new(Stage.Resolve, StageStatus.NotNeeded, [], null);
        }

        var facts = ImmutableArray.CreateBuilder<StageFact>();
        var addresses = c.FinalAddresses();
        if (c.Client?.HostsEntry is not null)
        {
            facts.Add(new("resolver", "the client's hosts file"));
        }
        else if (c.AskedResolvers() is { IsEmpty: false } resolvers)
        {
            facts.Add(new("resolver", string.Join(", ", resolvers.Select(r => ResolverWords(c, r)))));
        }
        else
        {
            return new(Stage.Resolve, c.Main is null ? StageStatus.Failed : StageStatus.NotSeen, [], null);
        }

        facts.Add(new("answer", addresses.IsEmpty ? NoAnswerWords(c) : AddressWords(c, addresses)));
        long? duration = c.Lookups.IsEmpty ? null : c.Lookups.Max(l => l.AnsweredNanoseconds ?? l.Connection.EndNanoseconds) - c.Lookups[0].SentNanoseconds;
        return new(Stage.Resolve, addresses.IsEmpty ? StageStatus.Failed : StageStatus.Passed, facts.ToImmutable(), duration);
    }

    private static StageRecord Define(Case c)
    {
        if (c.Recording.Cluster is null)
        {
            return new(Stage.Define, StageStatus.NotSeen, [], null);
        }

        if (c.Meant?.Service is not { } service)
        {
            return c.Meant is null
                ? new(Stage.Define, StageStatus.NotNeeded, [], null)
                : new(Stage.Define, StageStatus.Failed, [new("service", $"{c.Meant.Namespace}/{c.Meant.Name}: none of that name")], null);
        }

        var endpoints = c.Cluster.SlicesOf(service).SelectMany(s => s.Endpoints).ToList();
        var ready = endpoints.Any(e => e.Conditions.Ready ?? true);
        return new(Stage.Define, c.Port is null || !ready ? StageStatus.Failed : StageStatus.Passed,
            [
                new("service", $"{service.Metadata.Namespace}/{service.Metadata.Name}"),
                new("target port", c.Port is null ? $"port {c.Target?.Port.ToString(CultureInfo.InvariantCulture)} is not in the Service" : TargetPortWords(c, service, c.Port)),
                new("endpoints", ready ? "ready" : endpoints.Count > 0 ? "none ready" : "none"),
            ], null);
    }

    private static StageRecord Translate(Case c)
    {
        if (c.Recording.Cluster is null && c.Main is { Translated: null })
        {
            return new(Stage.Translate, StageStatus.NotSeen, [], null); // Nobody knows whether it ought to be.
        }

        if (c.Meant?.Service is { Spec.IsHeadless: true } || (c.Meant is null && c.Main?.Translated is null))
        {
            return new(Stage.Translate, StageStatus.NotNeeded, [], null);
        }

        if (c.Main is not { } main)
        {
            return new(Stage.Translate, Unreached(c), [], null);
        }

        if (main.Translated is not { } translated)
        {
            var words = main.Outcome == ConnectionOutcome.Rejected ? $"nothing: {c.WordsOf(main.AnsweredInNetNs)} rejects it"
                : c.Recording.Manifest.Source == Recordings.EventSource.Libpcap ? null : $"nothing: it stays {main.Asked.Destination}";
            return words is null
                ? new(Stage.Translate, StageStatus.NotSeen, [], null)
                : new(Stage.Translate, main.Outcome == ConnectionOutcome.Established ? StageStatus.Passed : StageStatus.Failed, [new("translated to", words)], null);
        }

        return new(Stage.Translate, StageStatus.Passed, [new("translated to", BackendWords(c, main))], main.TranslatedNanoseconds - main.StartNanoseconds);
    }

    // What a node itself asks is translated before any device has it: of captured packets, none shows that it was for the Service.
    private static StageStatus Unreached(Case c) => c.Main is null && c.Client is { Connects.IsEmpty: false } && c.Recording.Manifest.Source == Recordings.EventSource.Libpcap
        ? StageStatus.NotSeen : StageStatus.NotReached;

    private static StageRecord Deliver(Case c)
    {
        if (c.Main is not { } main)
        {
            return new(Stage.Deliver, Unreached(c), [], null);
        }

        if (main.Outcome is ConnectionOutcome.Rejected)
        {
            return new(Stage.Deliver, StageStatus.Failed, [new("delivered to", $"nobody: {c.WordsOf(main.AnsweredInNetNs)} rejects it")], null);
        }

        if (main.AnsweredInNetNs == 0)
        {
            var arrived = main.Translated is { } t && c.NetNsOf(t.Destination.Address) == main.FarthestNetNs;
            return arrived
                ? new(Stage.Deliver, StageStatus.Passed, [new("delivered to", AnswererWords(c, main, main.FarthestNetNs))], null)
                : new(Stage.Deliver, StageStatus.Failed, [new("delivered to", $"nobody: last seen in {c.WordsOf(main.FarthestNetNs)}")], null);
        }

        // What the proxy dials has a way of its own to go.
        if (c.IsBehindProxy(main) && main.Onward is { AnsweredInNetNs: 0 } or { Outcome: ConnectionOutcome.Rejected } && main.Onward is { } onward && c.NetNsOf(onward.Backend.Address) != onward.FarthestNetNs)
        {
            return new(Stage.Deliver, StageStatus.Failed, [new("delivered to", $"{AnswererWords(c, main, main.AnsweredInNetNs)}, and nobody behind it: last seen in {c.WordsOf(onward.FarthestNetNs)}")], null);
        }

        return new(Stage.Deliver, StageStatus.Passed, [new("delivered to", AnswererWords(c, main, main.AnsweredInNetNs))], null);
    }

    private static StageRecord Accept(Case c)
    {
        if (c.Main is not { } main || main.Outcome == ConnectionOutcome.Rejected)
        {
            return new(Stage.Accept, Unreached(c), [], null);
        }

        if (main.Asked.Protocol != IpProtocol.Tcp)
        {
            return new(Stage.Accept, StageStatus.NotNeeded, [], null);
        }

        var duration = main.OutcomeNanoseconds - main.StartNanoseconds;
        var who = AnswererWords(c, main, main.AnsweredInNetNs);
        switch (main.Outcome)
        {
            case ConnectionOutcome.Established:
                // A userspace proxy accepts whatever comes; what counts is whether the pod accepted the proxy.
                if (c.IsBehindProxy(main))
                {
                    var pod = main.Onward is null ? "which dials no pod"
                        : main.Onward.Outcome == ConnectionOutcome.Established ? "which reaches a pod"
                        : $"which dials a pod on port {main.Onward.Asked.Destination.Port} and is {OutcomeWords(main.Onward)}";
                    return new(Stage.Accept, main.Onward?.Outcome == ConnectionOutcome.Established ? StageStatus.Passed : StageStatus.Failed,
                        [new("answered by", $"{who}: SYN-ACK, {pod}")], duration);
                }

                return new(Stage.Accept, StageStatus.Passed, [new("answered by", $"{who}: SYN-ACK")], duration);
            case ConnectionOutcome.Refused:
                return new(Stage.Accept, StageStatus.Failed, [new("answered by", $"{who}: RST")], duration);
            case ConnectionOutcome.Unknown:
                return new(Stage.Accept, StageStatus.NotSeen, [], null);
            default:
                var arrived = main.Translated is { } t && c.NetNsOf(t.Destination.Address) == main.FarthestNetNs;
                return new(Stage.Accept, arrived ? StageStatus.Failed : StageStatus.NotReached, arrived ? [new("answered by", "nobody")] : [], null);
        }
    }

    private static StageRecord Exchange(Case c)
    {
        if (c.Main is not { Outcome: ConnectionOutcome.Established or ConnectionOutcome.Unknown } main)
        {
            return new(Stage.Exchange, Unreached(c), [], null);
        }

        var status = c.Client?.StatusLine ?? main.StatusLine;
        var words = status is not null ? Case.HttpStatus(status) < 400 ? "an answer" : status
            : main.ReplyBytes > 0 ? "an answer"
            : c.Target?.Scheme == Requests.RequestScheme.Tcp && main.RequestBytes == 0 && c.Recording.Manifest.Mode == Recordings.RecordingMode.Trace ? "an answer"
            : main.ResetBy == Side.Server ? "none: the connection was reset" : main.FinishedBy == Side.Server ? "none: the connection was closed" : "none";
        return new(Stage.Exchange, words == "an answer" ? StageStatus.Passed : StageStatus.Failed,
            [new("answer", words)], main.FirstReplyNanoseconds - main.OutcomeNanoseconds);
    }

    public static string OutcomeWords(Connection connection) => connection.Outcome switch
    {
        ConnectionOutcome.Established => "accepted",
        ConnectionOutcome.Refused => "refused",
        ConnectionOutcome.Rejected => "rejected",
        ConnectionOutcome.Unanswered => "not answered",
        _ => "not seen",
    };

    public static string ResolverWords(Case c, IpAddress resolver)
        => c.Cluster.FindServiceByAddress(resolver) is { } service ? $"{resolver} ({service.Metadata.Namespace}/{service.Metadata.Name})" : resolver.ToString();

    private static string AddressWords(Case c, ImmutableArray<IpAddress> addresses)
    {
        // The pods behind a headless Service come and go; that they are its pods is what matters.
        if (c.Meant?.Service is { Spec.IsHeadless: true } headless && !addresses.IsEmpty && addresses.All(a => ExpectedAddresses(c, headless).Contains(a)))
        {
            return "the Service's pods";
        }

        var texts = addresses.Select(a => a.ToString()).ToArray();
        Array.Sort(texts, StringComparer.Ordinal);
        return string.Join(", ", texts);
    }

    private static string NoAnswerWords(Case c)
    {
        var answers = c.Lookups.Where(l => l.Answer is not null).Select(l => Timeline.AnswerWords(l.Answer!)).Distinct().ToList();
        return answers.Count == 0 ? "none" : string.Join(", ", answers);
    }

    private static string TargetPortWords(Case c, Service service, ServicePort? port)
    {
        if (port is null)
        {
            return $"that of port {string.Join(" or ", service.Spec.Ports.Select(p => p.Port.ToString(CultureInfo.InvariantCulture)))}";
        }

        var resolved = c.Cluster.SlicesOf(service).SelectMany(s => s.Ports)
            .Where(p => (p.Name ?? "") == (port.Name ?? "") && p.Port is not null && p.Protocol == port.Protocol).Select(p => p.Port!.Value).Distinct().Order().ToList();
        return resolved.Count > 0 ? string.Join(" or ", resolved) : (port.TargetPort.IsEmpty ? port.Port : port.TargetPort).ToString();
    }

    private static string BackendWords(Case c, Connection main)
    {
        var backend = main.Backend;
        return c.IsOfService(backend.Address) ? $"a pod of the Service, port {backend.Port}"
            : c.IsBehindProxy(main) ? $"kube-proxy's own port on {c.WordsOf(main.TranslatedInNetNs)}"
            : $"{c.HolderWords(backend.Address)}, port {backend.Port}";
    }

    private static string AnswererWords(Case c, Connection main, uint netns)
    {
        if (c.PlaceOf(netns) is { PodName: not null } && c.IsOfService(main.Backend.Address))
        {
            return "a pod of the Service";
        }

        return c.IsBehindProxy(main) ? $"kube-proxy on {c.WordsOf(main.TranslatedInNetNs)}" : c.WordsOf(netns);
    }
}
