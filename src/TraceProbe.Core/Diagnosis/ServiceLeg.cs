using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// One leg of the journey: the way to one Service, that of the request or, since a lookup is a request too, to the cluster's DNS.
/// What the checks of several stages ask of it.
/// </summary>
/// <param name="c">The case.</param>
/// <param name="service">The Service.</param>
/// <param name="port">Its port; null when it has none of that number and protocol.</param>
/// <param name="connection">The connection; null when the client never came so far.</param>
/// <param name="isDns">Whether this is a lookup's.</param>
internal sealed class ServiceLeg(Case c, Service service, ServicePort? port, Connection? connection, bool isDns)
{
    public Service Service => service;

    public ServicePort? Port => port;

    public Connection? Connection => connection;

    public bool IsDns => isDns;

    /// <summary>The Service, as a sentence calls it.</summary>
    public string Name => $"service {service.Metadata.Namespace}/{service.Metadata.Name}";

    public bool IsIPv4 => connection?.Asked.Destination.Address.IsIPv4 ?? true;

    /// <summary>Whether the connection was made to an address or a port that the rules should translate: one of the Service's, or its port on a node.</summary>
    public bool IsToService => connection is not null && !service.Spec.IsHeadless && (ServiceMeant.AddressesOf(service).Contains(connection.Asked.Destination.Address)
        || ServiceMeant.NodePortOf(service, connection.Asked.Destination.Port, connection.Asked.Protocol) is not null && c.IsNodeAddress(connection.Asked.Destination.Address));

    /// <summary>Whether it was made to an address that is not the cluster's own: an external one, a load balancer's, a node's.</summary>
    public bool IsToExternal => IsToService && !ServiceMeaning.ClusterAddresses(service).Contains(connection!.Asked.Destination.Address);

    /// <summary>The node whose rules it meets first; null when that could not be read.</summary>
    public NodeAccount? EntryNode => connection is null ? c.ClientNodeAccount : c.EntryNode(connection);

    public bool IsFromNode => c.IsFromNode(connection);

    // A connection that not even the proxy took is one to a process on a node like any other; a datagram is taken by whoever it comes to.
    private bool IsTakenByProxy => connection is not null && c.IsBehindProxy(connection) && (connection.Onward is not null || connection.Outcome == ConnectionOutcome.Established || connection.Asked.Protocol == IpProtocol.Udp);

    /// <summary>The attempt that reached the pod itself: the client's, or the userspace proxy's on its behalf.</summary>
    public Connection? AtPod => ToPod?.Connection;

    /// <summary>
    /// The leg on which the pod itself was dialled: this one, or the one that the userspace proxy's process went on its behalf, from its node straight to the
    /// pod. Null when the proxy dialled nobody. Whatever can happen on the way to a pod can happen on either.
    /// </summary>
    public ServiceLeg? ToPod => !IsTakenByProxy ? this : connection!.Onward is { } onward ? new ServiceLeg(c, service, port, onward, isDns) : null;

    /// <summary>The endpoints that the client's node should send this connection to.</summary>
    public ImmutableArray<ExpectedBackend> Backends
        => port is null ? [] : ServiceMeaning.BackendsInUse(c.Cluster, service, port, !IsIPv4, c.ClientNode).Backends;

    /// <summary>What a node's rules do with this connection.</summary>
    public ServiceRules Rules(ProxyRules rules) => rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port?.Name, connection!.Asked.Destination, connection.Asked.Protocol,
        new VirtualPacket { Tuple = connection.Asked, FromNode = IsFromNode });

    /// <summary>Whether an attempt was refused as kube-proxy refuses one to a Service without endpoints: ICMP port unreachable.</summary>
    public bool IsPortUnreachable(Connection attempt) => attempt.Icmp is { } icmp && (IsIPv4 ? icmp is (3, 3) : icmp is (1, 4));

    public IEnumerable<ObjectRef> PodRef(IpAddress address) => c.Cluster.FindPodByAddress(address) is { } pod ? [pod.Ref] : [];

    public Evidence LastSeen(Connection of, bool forward)
    {
        var last = of.Sightings.Last(s => s.Forward == forward).Event;
        if (last.Kind == EventKind.SocketStateChanged)
        {
            return new Evidence(EvidenceSource.Observed, $"{of.Process?.ToString() ?? "a process"} tried to connect, {last.Tuple}, and no interface of {c.WordsOf(last.NetNs)} was handed a packet", c.SinceStart(last.BootNanoseconds), c.PlaceName(last.NetNs));
        }

        return new Evidence(EvidenceSource.Observed, $"{(forward ? "the packet" : "the answer")} {last.Tuple} was last seen in {c.WordsOf(last.NetNs)} on {last.Interface}", c.SinceStart(last.BootNanoseconds), c.PlaceName(last.NetNs));
    }

    /// <summary>
    /// The rule of a node that ends packets to a Service port: for want of endpoints, or, in nftables mode, because its maps do not have the port.
    /// </summary>
    public static IEnumerable<Evidence> Ending(ServiceRules rules, string node)
        => (rules.Reject ?? rules.Walk.Branches.Where(b => b is { Outcome: WalkOutcome.Rejected or WalkOutcome.Dropped, Policy: null }).Select(b => b.Steps[^1].Rule).FirstOrDefault()) is { } rule
            ? [new Evidence(EvidenceSource.Programmed, rule.Raw, Place: $"node/{node}")] : [];

    /// <summary>What answered the attempt, and how.</summary>
    public IEnumerable<Evidence> Refusal()
    {
        for (var at = connection; at is not null; at = at.Onward)
        {
            var via = c.IsOnward(at) ? $"{at.Process} dialled {at.Asked.Destination}: " : "";
            if (at.Outcome is ConnectionOutcome.Refused)
            {
                var drop = at.Drops.FirstOrDefault(d => d.Forward && d.Event.NetNs == at.AnsweredInNetNs).Event.DropReason;
                yield return new Evidence(EvidenceSource.Observed, $"{via}{c.WordsOf(at.AnsweredInNetNs)} answered the SYN to {at.Backend} with RST{(drop is null ? "" : $" (kernel: {drop})")}", c.SinceStart(at.OutcomeNanoseconds ?? at.EndNanoseconds), c.PlaceName(at.AnsweredInNetNs));
            }
            else if (at.Outcome == ConnectionOutcome.Rejected && at.Icmp is { } icmp)
            {
                yield return new Evidence(EvidenceSource.Observed, $"{via}{c.WordsOf(at.AnsweredInNetNs)} rejected the packet to {at.Backend}: {Timeline.IcmpWords(at.Asked.Source.Address.IsIPv4, icmp.Type, icmp.Code)}", c.SinceStart(at.OutcomeNanoseconds ?? at.EndNanoseconds), c.PlaceName(at.AnsweredInNetNs));
                if (ReferenceEquals(at, connection) && c.ClientNodeAccount is { } node)
                {
                    foreach (var rule in Ending(Rules(c.RulesOf(node, !IsIPv4)), node.Name))
                    {
                        yield return rule;
                    }
                }
            }
            else if (at.Outcome == ConnectionOutcome.Established && c.IsBehindProxy(at) && at.Onward is null)
            {
                yield return new Evidence(EvidenceSource.Observed, $"kube-proxy on {c.WordsOf(at.TranslatedInNetNs)} accepted the connection and dialled no pod", c.SinceStart(at.EndNanoseconds), c.PlaceName(at.TranslatedInNetNs));
            }
        }
    }
}
