using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

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

        if (c.IsBehindProxy(leg.Connection) && leg.Connection.Outcome == ConnectionOutcome.Established)
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
        else if (leg.Connection.Outcome == ConnectionOutcome.Refused || (leg.Connection.Asked.Protocol == IpProtocol.Udp && leg.Connection.Outcome == ConnectionOutcome.Rejected && c.PlaceOf(leg.Connection.AnsweredInNetNs)?.Kind == PlaceKind.Pod))
        {
            // That nothing listens on a wrong port is no second fault.
            if (!portIsWrong)
            {
                yield return RefusedByPod(leg.Connection);
            }
        }
        else if (leg.Connection.Outcome == ConnectionOutcome.Unanswered && leg.Connection.Drops.FirstOrDefault(d => d.Event.DropReason?.Contains("OVERFLOW", StringComparison.Ordinal) == true) is { Event.DropReason: not null } overflow)
        {
            yield return new Finding(FailureClass.AcceptQueueFull, $"The accept queue of {c.HolderWords(leg.Connection.Backend.Address)} on port {leg.Connection.Backend.Port} is full.")
            {
                Objects = [.. leg.PodRef(leg.Connection.Backend.Address)],
                Evidence = [new Evidence(EvidenceSource.Observed, $"the SYN was dropped: {overflow.Event.DropReason}", c.SinceStart(overflow.Event.BootNanoseconds), c.PlaceName(overflow.Event.NetNs))],
            };
        }
    }

    /// <summary>Whether something answered for the Service's address, and who the packet went to is not known.</summary>
    private bool IsTranslationUnseen => leg.Connection!.Translated is null && !leg.Service.Spec.IsHeadless && ServiceMeant.AddressesOf(leg.Service).Contains(leg.Connection.Asked.Destination.Address);

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
        var netns = c.NetNsOf(backend.Address) ?? refused.AnsweredInNetNs;
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

        var others = listeners?.Where(l => l.Protocol == refused.Asked.Protocol).Select(l => l.Local.ToString()).Distinct().ToList();
        var crashed = c.Cluster.FindPodByAddress(backend.Address) is { } pod && pod.Status.ContainerStatuses.Any(s => s.RestartCount > 0 || s.State.Waiting is not null || s.State.Terminated is not null)
            ? " (a container of the pod has restarted or is not running)" : "";
        var silent = SilentPods(backend);
        var neither = silent.Length > 1 && silent.Length == ReadyPods() ? string.Create(CultureInfo.InvariantCulture, $", nor in the Service's other {(silent.Length == 2 ? "pod" : $"{silent.Length - 1} pods")}") : "";
        return new Finding(FailureClass.NoListener, $"Nothing listens on port {backend.Port} in {holder}{neither}: the kernel refused the connection{crashed}.")
        {
            Confidence = listeners is null ? Confidence.Likely : Confidence.Certain,
            Objects = objects,
            Evidence =
            [
                .. leg.Refusal(),
                .. others is null ? Array.Empty<Evidence>() : [new Evidence(EvidenceSource.Programmed, others.Count == 0 ? "no listening socket at all" : $"listening: {string.Join(", ", others)}", Place: c.PlaceName(netns))],
            ],
            NotSeen = listeners is null ? [$"the listening sockets of {holder}"] : [],
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
        if (leg.Connection!.Onward is { Outcome: ConnectionOutcome.Refused } onward)
        {
            var byPod = RefusedByPod(onward);
            mend = byPod.Mend;
            if (byPod.Confidence == Confidence.Certain && !portIsWrong)
            {
                yield return byPod;
            }
        }

        if (UserspaceProxyChecks.Find(c, leg.Connection) is { } finding)
        {
            yield return finding with
            {
                Objects = [leg.Service.Ref, .. finding.Objects],
                Evidence = leg.Connection.Onward is null ? finding.Evidence : [.. leg.Refusal()],
                Mend = mend ?? finding.Mend,
            };
        }
    }
}
