using System.Collections.Immutable;

namespace TraceProbe.Core.Diagnosis;

/// <summary>Two failure classes that look the same to the application, and what tells them apart.</summary>
/// <param name="One">One of the two, in the enum's order.</param>
/// <param name="Other">The other.</param>
/// <param name="ToldApart">What tells them apart: what is seen, read or wanted with the one and not with the other, in a sentence.</param>
public sealed record LookAlike(FailureClass One, FailureClass Other, string ToldApart)
{
    /// <summary>All pairs, each once, in the order of the packet's way.</summary>
    public static ImmutableArray<LookAlike> All { get; } =
    [
        // The name is not found.
        new(FailureClass.ServiceNotFound, FailureClass.WrongNamespace, "Whether a Service of that name exists in another namespace."),
        new(FailureClass.ServiceNotFound, FailureClass.SearchDomainMissing, "Whether the Service exists; and whether its full name was among the questions."),
        new(FailureClass.WrongNamespace, FailureClass.SearchDomainMissing, "Whether the search domains that the client has lead to the namespace where the Service is."),
        new(FailureClass.SearchDomainMissing, FailureClass.NdotsTooLow, "Whether the client's resolv.conf has the search domain that the questions lack."),
        new(FailureClass.SearchDomainMissing, FailureClass.ClusterDomainMismatch, "Whether the Service was asked for in another domain, or in none."),
        new(FailureClass.ClusterDomainMismatch, FailureClass.WrongResolver, "Who was asked: the cluster's DNS, or somebody else."),
        new(FailureClass.ServiceNotFound, FailureClass.HeadlessNoReadyPods, "Whether the Service exists; of a headless one without ready pods the DNS has no address."),
        new(FailureClass.ServiceNotFound, FailureClass.ExternalNameUnresolved, "Whether the Service exists and stands for another name, which has no address."),
        new(FailureClass.HeadlessNoReadyPods, FailureClass.AddressFamilyMismatch, "Whether the name has addresses at all, of the family that the client has not."),
        // The name has no answer.
        new(FailureClass.ResolverUnreachable, FailureClass.ResolverNoEndpoints, "Whether the DNS Service has a ready endpoint."),
        new(FailureClass.ResolverUnreachable, FailureClass.ResolverFailure, "Whether nothing came back, or SERVFAIL, REFUSED or no DNS message."),
        new(FailureClass.ResolverUnreachable, FailureClass.WrongResolver, "Whether the nameserver that does not answer is the cluster's."),
        new(FailureClass.ResolverUnreachable, FailureClass.DnsTcpBlocked, "Whether a truncated answer came over UDP before."),
        new(FailureClass.ResolverUnreachable, FailureClass.ProxyRulesMissing, "Whether the question was translated, and whether the node has any of kube-proxy's rules."),
        new(FailureClass.ResolverUnreachable, FailureClass.ForwardingDisabled, "Whether the node where the question ended has forwarding on."),
        new(FailureClass.ResolverSlow, FailureClass.ConntrackInsertRace, "Whether one of two questions from one socket was dropped, and asked again after five seconds."),
        new(FailureClass.ResolverSlow, FailureClass.SlowerThanBaseline, "Which stage takes longer than in the baseline."),
        // The name leads elsewhere.
        new(FailureClass.WrongResolver, FailureClass.StaleAnswer, "Who gave the address that no Service holds."),
        new(FailureClass.StaleAnswer, FailureClass.HostsOverride, "Whether anybody was asked, or a line of the hosts file answered."),
        new(FailureClass.WrongResolver, FailureClass.NdotsTooLow, "Whether an outside name was answered by the cluster's DNS, which passed it on."),
        // Refused: by a rule, by the pod, by the node, by the proxy.
        new(FailureClass.PortNotInService, FailureClass.WrongProtocol, "Whether the Service has the port, for the other protocol."),
        new(FailureClass.PortNotInService, FailureClass.ServiceRuleMissing, "Whether the Service has the port for which the node has no rule."),
        new(FailureClass.WrongTargetPort, FailureClass.NoListener, "Whether the pod listens on another port, where the Service or the baseline does not show that this one was right."),
        new(FailureClass.WrongTargetPort, FailureClass.TargetPortNameUnmatched, "Whether the target port is a number, or a name that no pod declares."),
        new(FailureClass.WrongTargetPort, FailureClass.HeadlessPortNotRemapped, "Whether there is an address whose rules translate the port at all."),
        new(FailureClass.NoListener, FailureClass.ListenerOnLoopback, "On which addresses the pod's listening sockets are."),
        new(FailureClass.NoListener, FailureClass.ListenerWrongFamily, "Of which address family the pod's listening sockets are."),
        new(FailureClass.NoListener, FailureClass.PodsCrashing, "Whether the pod is an endpoint still: the kernel of a pod refuses, or a rule for want of endpoints."),
        new(FailureClass.NoListener, FailureClass.RejectedByRule, "Where the reset was first seen: in the pod, or on a node before it."),
        new(FailureClass.NoReadyEndpoints, FailureClass.NoPods, "Whether pods match the selector."),
        new(FailureClass.SelectorMatchesNothing, FailureClass.NoPods, "Whether pods with nearly these labels run."),
        new(FailureClass.NoReadyEndpoints, FailureClass.PodsCrashing, "Whether a container runs and its probe fails, or none stays up."),
        new(FailureClass.NoReadyEndpoints, FailureClass.EndpointRuleMissing, "Whether the API has ready endpoints that the node's rules deny."),
        new(FailureClass.NoReadyEndpoints, FailureClass.RejectedByRule, "Which rule rejects: kube-proxy's for want of endpoints, or somebody else's."),
        new(FailureClass.NoReadyEndpoints, FailureClass.TargetPortNameUnmatched, "Whether pods are ready, and it is the port's name that they lack."),
        // Silence: no rule, a drop, no route, no neighbour, a filter, a full queue.
        new(FailureClass.ProxyRulesMissing, FailureClass.ServiceRuleMissing, "Whether other Services' rules are there."),
        new(FailureClass.ServiceRuleMissing, FailureClass.EndpointRuleMissing, "Whether the rule for the Service's address is there and leads nowhere."),
        new(FailureClass.ServiceRuleMissing, FailureClass.TranslationShadowed, "Whether the rule is there and another one had the packet before."),
        new(FailureClass.ProxyRulesMissing, FailureClass.IpvsAddressMissing, "Whether the virtual servers are there, and only the address is not the node's."),
        new(FailureClass.StaleEndpointRule, FailureClass.ConntrackStale, "Whether the rules still lead to the address that is gone, or only an entry of before."),
        new(FailureClass.StaleEndpointRule, FailureClass.EndpointAddressUnowned, "Whether the API has the address too."),
        new(FailureClass.StaleEndpointRule, FailureClass.ProxyBackendConflict, "Whether one set of kube-proxy's rules leads there and the other does not."),
        new(FailureClass.StaleEndpointRule, FailureClass.TranslationShadowed, "Whose rule leads the packet to where no endpoint is."),
        new(FailureClass.StaleEndpointRule, FailureClass.PodUnreachable, "Whether the address that does not answer is a ready endpoint's."),
        new(FailureClass.NoLocalEndpoints, FailureClass.DroppedByRule, "Whether it is kube-proxy's own drop, for a policy that is Local."),
        new(FailureClass.SourceRangeDenied, FailureClass.DroppedByRule, "Whether it is kube-proxy's own drop, for the Service's source ranges."),
        new(FailureClass.DroppedByRule, FailureClass.TranslationShadowed, "Whether the rule dropped the packet, or let it pass untranslated."),
        new(FailureClass.DroppedByRule, FailureClass.RejectedByRule, "Whether the sender was told."),
        new(FailureClass.DroppedByRule, FailureClass.ReversePathFiltered, "The kernel's reason for the drop: NETFILTER_DROP, or IP_RPFILTER."),
        new(FailureClass.DroppedByRule, FailureClass.ConntrackFull, "Whether a rule dropped it, or the table of connections had no room."),
        new(FailureClass.DroppedByRule, FailureClass.ForwardingDisabled, "Whether the kernel names a rule's drop; a node that does not forward names none."),
        new(FailureClass.NoRouteToPod, FailureClass.ForwardingDisabled, "Whether the node where the packet ended has a route, and may forward."),
        new(FailureClass.NoRouteToPod, FailureClass.PodUnreachable, "Whether the node's routes lead to the pod's node; then it is the link or the neighbour that does not answer."),
        new(FailureClass.NoRouteToPod, FailureClass.ReversePathFiltered, "Whether the packet was sent elsewhere, or came and was dropped for where its answer would go."),
        new(FailureClass.PodUnreachable, FailureClass.AcceptQueueFull, "Whether the packet came into the pod."),
        new(FailureClass.PodUnreachable, FailureClass.HairpinDisabled, "Whether the pod asks for itself, through a bridge port that sends nothing back."),
        new(FailureClass.HairpinDisabled, FailureClass.MasqueradeMissing, "Whether the packet came back to the pod that sent it, with its own address as source."),
        new(FailureClass.MasqueradeMissing, FailureClass.ReplyUntranslated, "Whether the packet had to get the node's address, or the answer had to pass the bridge's rules."),
        new(FailureClass.MasqueradeMissing, FailureClass.NoRouteToPod, "Whether the answer went astray for want of a route, or since its source was to be the node's."),
        new(FailureClass.AcceptQueueFull, FailureClass.NoResponse, "Whether the kernel still takes connections for the server."),
        new(FailureClass.AcceptQueueFull, FailureClass.DroppedByRule, "Whether the packet was dropped on its way, or ignored where it arrived."),
        // What seems slow or uneven without failing outright.
        new(FailureClass.EndpointShareUneven, FailureClass.EndpointRuleMissing, "Whether the rules lead to every endpoint, if seldom."),
        new(FailureClass.MasqueradeMissing, FailureClass.MasqueradeUnexpected, "Whether the source should have become the node's and did not, or the reverse."),
        // The connection stands.
        new(FailureClass.MtuBlackhole, FailureClass.NoResponse, "Whether the server sent what a link on its way was too small for."),
        new(FailureClass.MtuBlackhole, FailureClass.ResponseStalled, "Whether the rest of the answer was sent and dropped as too big, or never sent."),
        new(FailureClass.NoResponse, FailureClass.ResponseStalled, "Whether a part of the answer came."),
        new(FailureClass.NoResponse, FailureClass.SlowerThanBaseline, "Whether the answer came in the end."),
        new(FailureClass.ClosedWithoutReply, FailureClass.ProxyClosedNoBackend, "Who closed: the pod, or the userspace proxy that dialled none."),
        new(FailureClass.ProxyClosedNoBackend, FailureClass.ProxyDialRefused, "Whether the userspace proxy dialled a pod."),
        new(FailureClass.ProxyDialRefused, FailureClass.NoListener, "Whether the pod's listening sockets could be read; then its own class is told."),
        new(FailureClass.ClosedWithoutReply, FailureClass.ResetByPeer, "Whether the server ended the connection with a FIN or with a RST."),
        new(FailureClass.ClosedWithoutReply, FailureClass.TlsMismatch, "Whether what the two sides say shows that only one of them speaks TLS."),
        new(FailureClass.ResetByPeer, FailureClass.RejectedByRule, "Whether the connection stood before the reset."),
        new(FailureClass.TlsMismatch, FailureClass.HttpError, "Whether the server's 400 says that it was asked in plain HTTP on a TLS port."),
    ];

    /// <summary>The other of the two.</summary>
    /// <param name="than">One of the two.</param>
    /// <exception cref="ArgumentException">It is neither.</exception>
    public FailureClass OtherThan(FailureClass than) => than == One ? Other : than == Other ? One : throw new ArgumentException($"{than} is neither {One} nor {Other}.", nameof(than));
}
