using System.Text.Json.Serialization;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// Why a request to a Service failed, one member per cause that can be told apart. The kebab-case names are an API: a verdict, a
/// span's <c>error.type</c>, an alert label and the README's table carry the same word. Members are in the packet's order.
/// </summary>
[JsonConverter(typeof(JsonStringEnumConverter<FailureClass>))]
public enum FailureClass
{
    /// <summary>The request was answered; desired, programmed and observed agree.</summary>
    [JsonStringEnumMemberName("healthy")]
    Healthy,

    /// <summary>What was seen does not single out one cause; the verdict says which account was missing.</summary>
    [JsonStringEnumMemberName("undetermined")]
    Undetermined,

    /// <summary>No Service of that name exists in the namespace asked for.</summary>
    [JsonStringEnumMemberName("service-not-found")]
    ServiceNotFound,

    /// <summary>A Service of that name exists, but in another namespace than the name leads to.</summary>
    [JsonStringEnumMemberName("wrong-namespace")]
    WrongNamespace,

    /// <summary>The client's resolv.conf lacks the search domain that would complete the name.</summary>
    [JsonStringEnumMemberName("search-domain-missing")]
    SearchDomainMissing,

    /// <summary>The name has enough dots to be asked as it is first, and that answer ended the search.</summary>
    [JsonStringEnumMemberName("ndots-too-low")]
    NdotsTooLow,

    /// <summary>The name ends in another cluster domain than the cluster's.</summary>
    [JsonStringEnumMemberName("cluster-domain-mismatch")]
    ClusterDomainMismatch,

    /// <summary>The client asks a nameserver that is not the cluster's DNS.</summary>
    [JsonStringEnumMemberName("wrong-resolver")]
    WrongResolver,

    /// <summary>Questions to the client's nameserver get no answer.</summary>
    [JsonStringEnumMemberName("resolver-unreachable")]
    ResolverUnreachable,

    /// <summary>The cluster DNS Service has no ready endpoint.</summary>
    [JsonStringEnumMemberName("resolver-no-endpoints")]
    ResolverNoEndpoints,

    /// <summary>The nameserver answers SERVFAIL or REFUSED.</summary>
    [JsonStringEnumMemberName("resolver-failure")]
    ResolverFailure,

    /// <summary>The nameserver answers, but far too late.</summary>
    [JsonStringEnumMemberName("resolver-slow")]
    ResolverSlow,

    /// <summary>The cluster's DNS gave an address that no Service holds.</summary>
    [JsonStringEnumMemberName("stale-answer")]
    StaleAnswer,

    /// <summary>A line of the client's hosts file answers in the place of DNS.</summary>
    [JsonStringEnumMemberName("hosts-override")]
    HostsOverride,

    /// <summary>A headless Service without a ready pod has no address in DNS.</summary>
    [JsonStringEnumMemberName("headless-no-ready-pods")]
    HeadlessNoReadyPods,

    /// <summary>The name that an ExternalName Service stands for does not resolve.</summary>
    [JsonStringEnumMemberName("external-name-unresolved")]
    ExternalNameUnresolved,

    /// <summary>The name has addresses only of a family that the client cannot use.</summary>
    [JsonStringEnumMemberName("address-family-mismatch")]
    AddressFamilyMismatch,

    /// <summary>The answer was truncated and the repetition over TCP got nowhere.</summary>
    [JsonStringEnumMemberName("dns-tcp-blocked")]
    DnsTcpBlocked,

    /// <summary>The Service has no such port.</summary>
    [JsonStringEnumMemberName("port-not-in-service")]
    PortNotInService,

    /// <summary>The Service has the port, but for another protocol.</summary>
    [JsonStringEnumMemberName("wrong-protocol")]
    WrongProtocol,

    /// <summary>The Service sends to a port on which the pods do not listen, while they listen on another.</summary>
    [JsonStringEnumMemberName("wrong-target-port")]
    WrongTargetPort,

    /// <summary>targetPort is a name (perhaps a number in quotes) that no selected pod declares.</summary>
    [JsonStringEnumMemberName("target-port-name-unmatched")]
    TargetPortNameUnmatched,

    /// <summary>The Service's selector matches no pod, while pods with nearly these labels run.</summary>
    [JsonStringEnumMemberName("selector-matches-nothing")]
    SelectorMatchesNothing,

    /// <summary>Pods match, but none is ready.</summary>
    [JsonStringEnumMemberName("no-ready-endpoints")]
    NoReadyEndpoints,

    /// <summary>No pod matches the selector and none comes near: the workload has no pods.</summary>
    [JsonStringEnumMemberName("no-pods")]
    NoPods,

    /// <summary>The pods that match keep crashing.</summary>
    [JsonStringEnumMemberName("pods-crashing")]
    PodsCrashing,

    /// <summary>A headless Service does not translate ports, and the pods listen on the target port only.</summary>
    [JsonStringEnumMemberName("headless-port-not-remapped")]
    HeadlessPortNotRemapped,

    /// <summary>An endpoint's address belongs to no pod.</summary>
    [JsonStringEnumMemberName("endpoint-address-unowned")]
    EndpointAddressUnowned,

    /// <summary>The traffic policy is Local and this node has no endpoint.</summary>
    [JsonStringEnumMemberName("no-local-endpoints")]
    NoLocalEndpoints,

    /// <summary>The client's address is not in loadBalancerSourceRanges.</summary>
    [JsonStringEnumMemberName("source-range-denied")]
    SourceRangeDenied,

    /// <summary>This node has none of kube-proxy's rules.</summary>
    [JsonStringEnumMemberName("proxy-rules-missing")]
    ProxyRulesMissing,

    /// <summary>This node has kube-proxy's rules, but none for this Service port.</summary>
    [JsonStringEnumMemberName("service-rule-missing")]
    ServiceRuleMissing,

    /// <summary>A ready endpoint has no rule on this node.</summary>
    [JsonStringEnumMemberName("endpoint-rule-missing")]
    EndpointRuleMissing,

    /// <summary>The rules send to an endpoint that is gone.</summary>
    [JsonStringEnumMemberName("stale-endpoint-rule")]
    StaleEndpointRule,

    /// <summary>The rules lead to all ready endpoints, but to some far more often than to others.</summary>
    [JsonStringEnumMemberName("endpoint-share-uneven")]
    EndpointShareUneven,

    /// <summary>kube-proxy's rules exist in iptables-legacy and in nf_tables at once, and differ.</summary>
    [JsonStringEnumMemberName("proxy-backend-conflict")]
    ProxyBackendConflict,

    /// <summary>An earlier rule takes the packet before kube-proxy's.</summary>
    [JsonStringEnumMemberName("translation-shadowed")]
    TranslationShadowed,

    /// <summary>The packet should have got the node's address as source and did not.</summary>
    [JsonStringEnumMemberName("masquerade-missing")]
    MasqueradeMissing,

    /// <summary>The packet should have kept its source and got the node's address.</summary>
    [JsonStringEnumMemberName("masquerade-unexpected")]
    MasqueradeUnexpected,

    /// <summary>The Service's address is not on kube-ipvs0.</summary>
    [JsonStringEnumMemberName("ipvs-address-missing")]
    IpvsAddressMissing,

    /// <summary>An old conntrack entry still sends the flow to a pod that is gone.</summary>
    [JsonStringEnumMemberName("conntrack-stale")]
    ConntrackStale,

    /// <summary>The conntrack table is full; new connections are dropped.</summary>
    [JsonStringEnumMemberName("conntrack-full")]
    ConntrackFull,

    /// <summary>Two questions from one socket raced for one conntrack entry and one was dropped.</summary>
    [JsonStringEnumMemberName("conntrack-insert-race")]
    ConntrackInsertRace,

    /// <summary>A rule dropped the packet.</summary>
    [JsonStringEnumMemberName("dropped-by-rule")]
    DroppedByRule,

    /// <summary>A rule refused the packet with an ICMP error or a reset.</summary>
    [JsonStringEnumMemberName("rejected-by-rule")]
    RejectedByRule,

    /// <summary>The node has no route to the pod's address.</summary>
    [JsonStringEnumMemberName("no-route-to-pod")]
    NoRouteToPod,

    /// <summary>The node does not forward packets.</summary>
    [JsonStringEnumMemberName("forwarding-disabled")]
    ForwardingDisabled,

    /// <summary>The pod's address does not answer on its network: the pod or its node is gone.</summary>
    [JsonStringEnumMemberName("pod-unreachable")]
    PodUnreachable,

    /// <summary>The kernel dropped the packet since its source is not routed back the way it came.</summary>
    [JsonStringEnumMemberName("reverse-path-filtered")]
    ReversePathFiltered,

    /// <summary>A pod that reaches itself through its Service is not let back through its bridge port.</summary>
    [JsonStringEnumMemberName("hairpin-disabled")]
    HairpinDisabled,

    /// <summary>Large packets vanish where small ones pass.</summary>
    [JsonStringEnumMemberName("mtu-blackhole")]
    MtuBlackhole,

    /// <summary>The pod's answer came back without passing through the translation.</summary>
    [JsonStringEnumMemberName("reply-untranslated")]
    ReplyUntranslated,

    /// <summary>Nothing listens on the target port in the pod.</summary>
    [JsonStringEnumMemberName("no-listener")]
    NoListener,

    /// <summary>The server listens on the pod's loopback address only.</summary>
    [JsonStringEnumMemberName("listener-on-loopback")]
    ListenerOnLoopback,

    /// <summary>The server listens on the other address family only.</summary>
    [JsonStringEnumMemberName("listener-wrong-family")]
    ListenerWrongFamily,

    /// <summary>The server does not accept as fast as connections come.</summary>
    [JsonStringEnumMemberName("accept-queue-full")]
    AcceptQueueFull,

    /// <summary>The userspace proxy took the connection and closed it without dialling a pod.</summary>
    [JsonStringEnumMemberName("proxy-closed-no-backend")]
    ProxyClosedNoBackend,

    /// <summary>The userspace proxy took the connection, dialled a pod and was refused.</summary>
    [JsonStringEnumMemberName("proxy-dial-refused")]
    ProxyDialRefused,

    /// <summary>The connection stands, the request was sent, and no answer came.</summary>
    [JsonStringEnumMemberName("no-response")]
    NoResponse,

    /// <summary>The server closed the connection without answering.</summary>
    [JsonStringEnumMemberName("closed-without-reply")]
    ClosedWithoutReply,

    /// <summary>The server reset the standing connection.</summary>
    [JsonStringEnumMemberName("reset-by-peer")]
    ResetByPeer,

    /// <summary>One side speaks TLS and the other does not, or they agree on nothing.</summary>
    [JsonStringEnumMemberName("tls-mismatch")]
    TlsMismatch,

    /// <summary>The server answered with an HTTP error status.</summary>
    [JsonStringEnumMemberName("http-error")]
    HttpError,

    /// <summary>The answer began and did not go on.</summary>
    [JsonStringEnumMemberName("response-stalled")]
    ResponseStalled,

    /// <summary>The request was answered, far more slowly than in the healthy baseline.</summary>
    [JsonStringEnumMemberName("slower-than-baseline")]
    SlowerThanBaseline,
}
