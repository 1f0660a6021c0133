using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can keep a socket in the pod from taking the connection.</summary>
internal sealed class AcceptChecks(Case c, ServiceLeg leg)
{
    /// <summary>What kept the pod from taking it.</summary>
    /// <param name="portIsWrong">Whether the port was found to be wrong: that nothing listens there is then no second fault.</param>
    public IEnumerable<Finding> Find(bool portIsWrong)
    {
        if (leg.Connection is null)
        {
            yield break;
        }

        if (!ReferenceEquals(leg.ToPod, leg))
        {
            foreach (var finding in AcceptBehindProxy(portIsWrong))
            {
                yield return finding;
            }

            yield break;
        }

        if (IsTranslationUnseen && WhatUnseenDid() is { } unseen)
        {
            yield return unseen;
        }
        else if (leg.Connection.Outcome == ConnectionOutcome.Refused || (leg.Connection.Asked.Protocol == IpProtocol.Udp && leg.Connection.Outcome == ConnectionOutcome.Rejected && IsBackends(leg.Connection.AnsweredInNetNs)))
        {
            // That nothing listens on a wrong port is no second fault.
            if (!portIsWrong)
            {
                yield return RefusedByPod(leg.Connection);
            }
        }
        else if (leg.Connection is { Outcome: ConnectionOutcome.Unanswered, AnsweredInNetNs: 0 } silent && c.NetNsOf(silent.Backend.Address) is { } netns
            && silent.Sightings.LastOrDefault(s => s.Forward && s.Event.NetNs == netns) is { Event.NetNs: not 0 } arrived)
        {
            if (Ignored(silent, netns, arrived) is { } ignored)
            {
                yield return ignored;
            }
        }
    }

    /// <summary>Why a pod that the packet came to did not answer it.</summary>
    private Finding? Ignored(Connection silent, uint netns, Sighting arrived)
    {
        var (holder, port) = (c.HolderWords(silent.Backend.Address), silent.Backend.Port);
        var seen = new Evidence(EvidenceSource.Observed, $"the packet {arrived.Event.Tuple} arrived in {c.WordsOf(netns)}{(silent.Retransmissions > 0 ? string.Create(CultureInfo.InvariantCulture, $", {silent.Retransmissions + 1} times,") : "")} and nothing answered it", c.SinceStart(arrived.Event.BootNanoseconds), c.PlaceName(netns));
        var here = c.ListenersIn(netns)?.Where(l => l.Protocol == silent.Asked.Protocol && l.Local.Port == port).ToList() ?? [];
        if (here.Find(l => l.IsFull) is { } full)
        {
            return new Finding(FailureClass.AcceptQueueFull, string.Create(CultureInfo.InvariantCulture,
                $"{full.Process?.Command ?? "The server"} in {holder} does not accept connections fast enough: {full.Waiting} wait at port {port}, its queue takes no more, and the kernel ignores new ones."))
            {
                Objects = [.. leg.PodRef(silent.Backend.Address), leg.Service.Ref],
                Evidence = [seen, new Evidence(EvidenceSource.Programmed, string.Create(CultureInfo.InvariantCulture, $"listening: {full.Local}, {full.Waiting} connections wait to be accepted, backlog {full.Backlog}"), Place: c.PlaceName(netns))],
                Mend = c.Cluster.FindPodByAddress(silent.Backend.Address) is { } pod
                    ? new Mend("Restart the server if it hangs; give it more replicas or threads if it is slow.", $"kubectl delete pod {pod.Metadata.Name} -n {pod.Metadata.Namespace}") : null,
            };
        }

        // A datagram needs no answer of the kernel's: that the program is silent is all that can be said. To an empty one many a server says nothing, and rightly;
        // but not the one that answered it in the baseline.
        var isQuestion = arrived.Event.PayloadLength > 0 || c.Recording.Baseline is { Target.Scheme: RequestScheme.Udp };
        return silent.Asked.Protocol != IpProtocol.Udp || here.Count == 0 ? null : new Finding(FailureClass.NoResponse,
            $"{here[0].Process?.Command ?? "The server"} in {holder} was sent the datagram on port {port}, and never answered.")
        {
            Confidence = isQuestion ? Confidence.Certain : Confidence.Likely,
            NotSeen = isQuestion ? [] : ["whether the server answers an empty datagram at all"],
            Objects = [.. leg.PodRef(silent.Backend.Address), leg.Service.Ref],
            Evidence = [seen, new Evidence(EvidenceSource.Programmed, $"listening: {string.Join(", ", here.Select(l => l.Local))}", Place: c.PlaceName(netns))],
            Mend = c.Cluster.FindPodByAddress(silent.Backend.Address) is { } owner ? isQuestion ? new Mend("Look whether the server hangs, and restart it if so.", $"kubectl delete pod {owner.Metadata.Name} -n {owner.Metadata.Namespace}")
                : new Mend("Look at what the application in the pod says.", $"kubectl logs {owner.Metadata.Name} -n {owner.Metadata.Namespace} --tail=50") : null,
        };
    }

    /// <summary>Whether something answered for the Service's address, and who the packet went to is not known.</summary>
    private bool IsTranslationUnseen => (leg.Connection!.Translated is not { } to || to.Destination == leg.Connection.Asked.Destination) && !leg.Service.Spec.IsHeadless && ServiceMeant.AddressesOf(leg.Service).Contains(leg.Connection.Asked.Destination.Address);

    // An error that only the client was seen to get came from anywhere.
    private bool IsBackends(uint netNs) => c.PlaceOf(netNs)?.Kind == PlaceKind.Pod && (netNs != leg.Connection!.ClientNetNs || c.NetNsOf(leg.Connection.Backend.Address) == netNs);

    private Finding? WhatUnseenDid()
    {
        var where = c.WordsOf(leg.Connection!.AnsweredInNetNs);
        var sentence = leg.Connection.Outcome switch
        {
            ConnectionOutcome.Refused => $"{where} refused the connection to {leg.Name} at {leg.Connection.Asked.Destination}, but to which pod and port it was sent was not seen.",
            ConnectionOutcome.Established when leg.Connection.ReplyBytes == 0 && c.UserspaceProxyNode is { } node
                => $"kube-proxy on {node} took the connection to {leg.Name} and gave no answer, but what it did for it was not seen.",
            _ => null,
        };
        return sentence is null ? null : new Finding(FailureClass.Undetermined, sentence)
        {
            Confidence = Confidence.None,
            Objects = [leg.Service.Ref],
            Evidence = [.. leg.Refusal()],
        };
    }

    private Finding RefusedByPod(Connection refused)
    {
        var backend = refused.Backend;
        var holder = c.HolderWords(backend.Address);
        // A pod whose namespace is not known may have refused behind the place where its answer was first seen.
        var netns = c.NetNsOf(backend.Address) ?? (c.PlaceOf(refused.AnsweredInNetNs) is { Kind: PlaceKind.Pod } ? refused.AnsweredInNetNs : 0);
        var listeners = c.ListenersIn(netns);
        var here = listeners?.Where(l => l.Protocol == refused.Asked.Protocol && l.Local.Port == backend.Port).ToList() ?? [];
        ImmutableArray<ObjectRef> objects = [.. leg.PodRef(backend.Address), leg.Service.Ref];
        if (here.Count > 0)
        {
            if (here.TrueForAll(l => l.Local.Address.IsLoopback))
            {
                return new Finding(FailureClass.ListenerOnLoopback, $"{here[0].Process?.Command ?? "The server"} in {holder} listens on {here[0].Local} only, where nothing from outside the pod arrives.")
                {
                    Objects = objects,
                    Evidence = [new Evidence(EvidenceSource.Programmed, $"listening: {here[0].Local}", Place: c.PlaceName(netns)), .. leg.Refusal()],
                    Mend = new Mend($"Let it listen on {(leg.IsIPv4 ? "0.0.0.0" : "[::]")}:{backend.Port}.", null),
                };
            }

            if (!leg.IsIPv4 && here.TrueForAll(l => l.Local.Address.IsIPv4))
            {
                return new Finding(FailureClass.ListenerWrongFamily, $"{here[0].Process?.Command ?? "The server"} in {holder} listens on IPv4 only ({here[0].Local}), and was asked by IPv6.")
                {
                    Objects = objects,
                    Evidence = [new Evidence(EvidenceSource.Programmed, $"listening: {here[0].Local}", Place: c.PlaceName(netns)), .. leg.Refusal()],
                    Mend = new Mend($"Let it listen on [::]:{backend.Port} too.", null),
                };
            }

            // Something does listen there. A rule may have refused in its place, or it was not yet there, or no longer.
            var elsewhere = refused.AnsweredInNetNs != netns && refused.AnsweredInNetNs != refused.ClientNetNs;
            return new Finding(elsewhere ? FailureClass.RejectedByRule : FailureClass.Undetermined, elsewhere
                ? $"{c.WordsOf(refused.AnsweredInNetNs)} answered with RST in place of {holder}, where {here[0].Process?.Command ?? "a server"} listens on port {backend.Port}."
                : $"{holder} refused the connection to port {backend.Port}, although {here[0].Process?.Command ?? "a server"} listens there: it may have stopped in between.")
            {
                Confidence = elsewhere ? Confidence.Likely : Confidence.None,
                Objects = objects,
                Evidence = [.. leg.Refusal(), new Evidence(EvidenceSource.Programmed, $"listening: {string.Join(", ", here.Select(l => l.Local))}", Place: c.PlaceName(netns))],
                NotSeen = elsewhere ? [$"the rule of {c.WordsOf(refused.AnsweredInNetNs)} that refused it"] : [],
            };
        }

        if (listeners is null)
        {
            return new Finding(FailureClass.Undetermined, $"{holder} refused the connection to port {backend.Port}; without its listening sockets it is not known whether its server is missing, listens on another port or on another address.")
            {
                Confidence = Confidence.None,
                Objects = objects,
                Evidence = [.. leg.Refusal()],
                NotSeen = [$"the listening sockets of {holder}"],
            };
        }

        var others = listeners.Value.Where(l => l.Protocol == refused.Asked.Protocol).Select(l => l.Local.ToString()).Distinct().ToList();
        var crashed = c.Cluster.FindPodByAddress(backend.Address) is { } pod && pod.Status.ContainerStatuses.Any(s => s.RestartCount > 0 || s.State.Waiting is not null || s.State.Terminated is not null)
            ? " (a container of the pod has restarted or is not running)" : "";
        var silent = SilentPods(backend);
        var neither = silent.Length > 1 && silent.Length == ReadyPods() ? string.Create(CultureInfo.InvariantCulture, $", nor in the Service's other {(silent.Length == 2 ? "pod" : $"{silent.Length - 1} pods")}") : "";
        return new Finding(FailureClass.NoListener, $"Nothing listens on port {backend.Port} in {holder}{neither}: the kernel refused the connection{crashed}.")
        {
            Objects = objects,
            Evidence =
            [
                .. leg.Refusal(),
                new Evidence(EvidenceSource.Programmed, others.Count == 0 ? "no listening socket at all" : $"listening: {string.Join(", ", others)}", Place: c.PlaceName(netns)),
            ],
            Mend = silent.IsEmpty ? null : new Mend($"Look why the server stopped, and restart the {(silent.Length == 1 ? "pod" : "pods")}.",
                $"kubectl delete pod {string.Join(' ', silent.Select(p => p.Metadata.Name))} -n {silent[0].Metadata.Namespace}"),
        };
    }

    /// <summary>The refusing pod, and the other ready ones of the Service in which, as was read, nothing listens on that port either.</summary>
    private ImmutableArray<Pod> SilentPods(AddressPort refusing)
    {
        if (c.Cluster.FindPodByAddress(refusing.Address) is not { } first)
        {
            return [];
        }

        var others = leg.Backends.Where(b => b.Address.Port == refusing.Port && c.NetNsOf(b.Address.Address) is { } netns
            && c.ListenersIn(netns) is { } listeners && !listeners.Any(l => l.Local.Port == refusing.Port && l.Protocol == leg.Connection!.Asked.Protocol));
        return [first, .. others.Select(b => c.Cluster.FindPodByAddress(b.Address.Address)).OfType<Pod>().Where(p => p.Metadata.Name != first.Metadata.Name && p.Metadata.Namespace == first.Metadata.Namespace).DistinctBy(p => p.Metadata.Name)];
    }

    private int ReadyPods() => leg.Backends.Select(b => c.Cluster.FindPodByAddress(b.Address.Address)?.Metadata.Name).Distinct().Count();

    private IEnumerable<Finding> AcceptBehindProxy(bool portIsWrong)
    {
        Mend? mend = null;
        if (leg.ToPod is { } toPod)
        {
            foreach (var byPod in new AcceptChecks(c, toPod).Find(portIsWrong))
            {
                mend ??= byPod.Mend;
                if (byPod.Confidence == Confidence.Certain)
                {
                    yield return byPod;
                }
            }
        }

        if (UserspaceProxyChecks.Find(c, leg.Connection!) is { } finding)
        {
            yield return finding with
            {
                Objects = [leg.Service.Ref, .. finding.Objects],
                Evidence = leg.Connection!.Onward is null ? finding.Evidence : [.. leg.Refusal()],
                Mend = mend ?? finding.Mend,
            };
        }
    }
}
