using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// What kube-proxy's userspace mode did with a connection that it took: it closes one that it has no pod for, and one whose pod
/// refused. Both look alike to the client. Seen from packets and sockets alone, so it can be told without the cluster's objects.
/// </summary>
internal static class UserspaceProxyChecks
{
    /// <summary>What it did, where that is a failure; null otherwise, and when the connection went past no such proxy.</summary>
    public static Finding? Find(Case c, Connection connection)
    {
        if (connection.Outcome != ConnectionOutcome.Established || !c.IsBehindProxy(connection))
        {
            return null;
        }

        var node = c.WordsOf(connection.TranslatedInNetNs);
        var proxy = c.NodeCalled(c.PlaceOf(connection.TranslatedInNetNs)?.Node)?.KubeProxy;
        if (connection.Onward is not { } onward)
        {
            if (c.Recording.Manifest.Source == Recordings.EventSource.Libpcap && c.Meant?.Service is null)
            {
                return null; // Whether it dialled one is not to be told from packets alone.
            }

            var hasReady = c.Meant?.Service is { } service && c.Port is { } port && (!ServiceMeaning.BackendsInUse(c.Cluster, service, port, ipv6: false, c.ClientNode).Backends.IsEmpty || !ServiceMeaning.BackendsInUse(c.Cluster, service, port, ipv6: true, c.ClientNode).Backends.IsEmpty);
            var closed = connection.ReplyBytes == 0 && connection.FinishedBy == Side.Server || connection.ResetBy == Side.Server;
            // Its socket tells that it dialled, where the packets escaped observation.
            if (closed && c.Recording.Events.Any(e => e is { Kind: EventKind.SocketStateChanged, NewState: TcpState.SynSent } && e.NetNs == connection.TranslatedInNetNs
                && e.Pid != connection.Process?.Pid && e.BootNanoseconds >= connection.StartNanoseconds && e.BootNanoseconds <= connection.EndNanoseconds))
            {
                return new Finding(FailureClass.Undetermined, $"kube-proxy on {node} took the connection to {connection.Asked.Destination}, dialled somebody and closed it; what came of the dial was not seen.")
                {
                    Confidence = Confidence.None,
                    Evidence = [new Evidence(EvidenceSource.Observed, $"{proxy?.ToString() ?? "the proxy"} accepted and closed", c.SinceStart(connection.EndNanoseconds), c.PlaceName(connection.TranslatedInNetNs))],
                    NotSeen = [$"whom kube-proxy on {node} dialled"],
                };
            }

            return !closed ? null : new Finding(FailureClass.ProxyClosedNoBackend,
                $"kube-proxy on {node} took the connection to {connection.Asked.Destination} and closed it without dialling a pod: {(hasReady ? "the API has ready endpoints, so it is behind, or its node did not let it dial" : $"it knows no endpoint for it{(c.Recording.Cluster is null ? ", or its node did not let it dial" : "")}")}.")
            {
                Confidence = hasReady || c.Recording.Cluster is null ? Confidence.Likely : Confidence.Certain,
                Evidence = [new Evidence(EvidenceSource.Observed, $"{proxy?.ToString() ?? "the proxy"} accepted and closed; no connection to a pod followed", c.SinceStart(connection.EndNanoseconds), c.PlaceName(connection.TranslatedInNetNs))],
                Mend = c.Meant?.Service is null
                    ? new Mend($"Look which Service has the address {connection.Asked.Destination.Address}, and whether it has endpoints.", "kubectl get services,endpointslices -A")
                    : Mends.RestartKubeProxy(c.PlaceOf(connection.TranslatedInNetNs)?.Node),
            };
        }

        if (onward.Outcome != ConnectionOutcome.Refused)
        {
            return null;
        }

        var listeners = c.ListenersIn(onward.AnsweredInNetNs)?.Where(l => l.Protocol == onward.Asked.Protocol).Select(l => l.Local.ToString()).Distinct().ToList();
        return new Finding(FailureClass.ProxyDialRefused, string.Create(CultureInfo.InvariantCulture,
            $"kube-proxy on {node} took the connection, dialled {c.HolderWords(onward.Backend.Address)} on port {onward.Backend.Port} and was refused."))
        {
            Objects = c.PlaceOf(onward.AnsweredInNetNs) is { PodName: { } pod } place ? [new ObjectRef("pod", place.PodNamespace, pod)] : [],
            Evidence =
            [
                new Evidence(EvidenceSource.Observed, $"{onward.Process} dialled {onward.Asked.Destination}: {c.WordsOf(onward.AnsweredInNetNs)} answered the SYN with RST", c.SinceStart(onward.OutcomeNanoseconds ?? onward.EndNanoseconds), c.PlaceName(onward.AnsweredInNetNs)),
                .. listeners is null ? Array.Empty<Evidence>()
                    : [new Evidence(EvidenceSource.Programmed, listeners.Count == 0 ? "no listening socket at all" : $"listening: {string.Join(", ", listeners)}", Place: c.PlaceName(onward.AnsweredInNetNs))],
            ],
            Mend = new Mend(string.Create(CultureInfo.InvariantCulture, $"Let the Service's targetPort be a port that the pod listens on, or let the pod listen on {onward.Backend.Port}."), null),
        };
    }
}
