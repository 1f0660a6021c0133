using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>What should become of a packet.</summary>
internal enum Fate
{
    /// <summary>It goes to one of the backends.</summary>
    Translated,

    /// <summary>It is refused, since there is no endpoint.</summary>
    Rejected,

    /// <summary>It is dropped, since the node has no endpoint of its own and may use no other.</summary>
    Dropped,

    /// <summary>It is dropped, since its source is in none of the ranges that may use the load balancer.</summary>
    Denied,

    /// <summary>It goes to the node itself as it is.</summary>
    Passed,
}

/// <summary>One packet for a Service port, and what kube-proxy's contract makes of it.</summary>
/// <param name="From">Who sends it.</param>
/// <param name="Kind">What kind of address it is for; null for the health check.</param>
/// <param name="Packet">The packet.</param>
/// <param name="Fate">What should become of it.</param>
internal sealed record TrafficCase(Origin From, ServiceAddressKind? Kind, VirtualPacket Packet, Fate Fate)
{
    /// <summary>The backends it may go to, each equally likely.</summary>
    public ImmutableArray<ExpectedBackend> Backends { get; init; } = [];

    /// <summary>Whether these are known for certain; otherwise the node may use fewer of them.</summary>
    public bool IsCertain { get; init; } = true;

    /// <summary>Whether packets from outside to the same address are dropped for want of an endpoint on this node.</summary>
    public bool IsDroppedForOthers { get; init; }

    /// <summary>Whether its source should become the node's; null when that cannot be told.</summary>
    public bool? Masquerade { get; init; }

    /// <summary>Only what becomes of it when this backend is chosen counts; null when all count.</summary>
    public AddressPort? Hairpin { get; init; }

    /// <summary>The range that its source is in, for a load balancer address with source ranges; null otherwise.</summary>
    public IpNetwork? Range { get; init; }

    public AddressPort To => Packet.Tuple.Destination;

    public bool IsExpected(AddressPort backend)
    {
        foreach (var one in Backends)
        {
            if (one.Address == backend)
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>What a node's kube-proxy was told that the cluster's Services do not say: by its own configuration, or as what it does for most Services shows.</summary>
/// <param name="MarksPods">Whether packets from pods to cluster addresses are masqueraded (<c>--masquerade-all</c>); null when not known.</param>
/// <param name="MarksNode">Whether those of the node are.</param>
/// <param name="MarksOutside">Whether those from outside are (it knows pods' addresses, or masquerades all).</param>
/// <param name="ServesPodsAtExternal">Whether packets from pods to external addresses are its business; before Kubernetes 1.24 they were not, nor the node's.</param>
internal sealed record ProxyHabits(bool? MarksPods, bool? MarksNode, bool? MarksOutside, bool ServesPodsAtExternal)
{
    /// <summary>
    /// Whether it works with IPVS, whose virtual servers tell nobody from anybody: policy Local leads everyone to the node's own endpoints, and for want
    /// of one to all of them, and the source stays as it is for all (syncEndpoint in pkg/proxy/ipvs/proxier.go).
    /// </summary>
    public bool IsIpvs { get; init; }

    /// <summary>Where it was told to masquerade packets to cluster addresses from beyond the pods, when it does so for no Service; null otherwise.</summary>
    public string? MarksNoneThough { get; init; }

    /// <summary>Whether it tells pods from others, which lets them past externalTrafficPolicy Local; null when that cannot be told.</summary>
    public bool? KnowsPods => MarksOutside == true && MarksPods == false ? true : MarksOutside == false ? false : null;
}

/// <summary>
/// The packets for a Service port that a node can meet: from its pods, from itself and from outside, to each of the Service's addresses, and
/// from each backend to its own Service. What becomes of them is what kube-proxy promises in every mode (syncProxyRules in
/// pkg/proxy/iptables/proxier.go and pkg/proxy/nftables/proxier.go), IPVS mode's own ways excepted.
/// </summary>
internal static class Traffic
{
    private static readonly ImmutableArray<Origin> Everybody = [Origin.Pod, Origin.Node, Origin.Outside];

    /// <summary>The packets.</summary>
    /// <param name="service">The Service.</param>
    /// <param name="port">One of its ports.</param>
    /// <param name="ipv6">The family.</param>
    /// <param name="endpoints">Its endpoints of that family.</param>
    /// <param name="vantage">The node.</param>
    /// <param name="nodePortAddresses">The node's addresses at which it serves node ports, of which one stands for all but in IPVS mode; none when not known.</param>
    /// <param name="habits">What the node's kube-proxy does beyond what the objects say.</param>
    public static IEnumerable<TrafficCase> Of(Service service, ServicePort port, bool ipv6, EndpointChoice endpoints, Vantage vantage, ImmutableArray<IpAddress> nodePortAddresses, ProxyHabits habits)
    {
        var protocol = ServiceMeaning.ProtocolOf(port);
        IpAddress? nodePortAddress = nodePortAddresses.IsEmpty ? null : nodePortAddresses[0];
        var addresses = ServiceMeaning.Addresses(service, port, ipv6, nodePortAddress);
        var others = addresses.LastOrDefault() is { Kind: ServiceAddressKind.NodePort } first ? nodePortAddresses.Skip(1).Select(a => first with { At = first.At with { Address = a } }) : [];
        foreach (var (kind, to) in addresses.Concat(others))
        {
            if (kind == ServiceAddressKind.Cluster)
            {
                foreach (var one in ToClusterAddress(service, port, endpoints, vantage, habits, to, protocol))
                {
                    yield return one;
                }
            }
            else
            {
                var ranges = kind == ServiceAddressKind.LoadBalancer ? ServiceMeaning.SourceRanges(service, ipv6) : [];
                foreach (var one in FromAbroad(service, endpoints, vantage, habits, kind, to, protocol, ranges))
                {
                    yield return one;
                }
            }
        }

        if (service.Spec is { ExternalTrafficPolicy: "Local", HealthCheckNodePort: > 0 and <= 65535 } && nodePortAddress is { } own && ReferenceEquals(port, service.Spec.Ports[0])
            && vantage.Packet(Origin.Outside, new AddressPort(own, (ushort)service.Spec.HealthCheckNodePort), IpProtocol.Tcp, _ => false) is { } health)
        {
            yield return new TrafficCase(Origin.Outside, null, health, Fate.Passed);
        }
    }

    private static IEnumerable<TrafficCase> ToClusterAddress(Service service, ServicePort port, EndpointChoice endpoints, Vantage vantage, ProxyHabits habits, AddressPort to, IpProtocol protocol)
    {
        var isLocal = service.Spec.InternalTrafficPolicy == "Local";
        endpoints = habits.IsIpvs && isLocal ? OfIpvs(endpoints, isReachable: IsReachableFromOutside(service, port)) : endpoints;
        var backends = isLocal ? endpoints.Local : endpoints.Cluster;
        foreach (var from in Everybody)
        {
            if (vantage.Packet(from, to, protocol, a => Holds(backends, a)) is { } packet)
            {
                yield return Decided(from, ServiceAddressKind.Cluster, packet, endpoints, isLocal, from switch { Origin.Pod => habits.MarksPods, Origin.Node => habits.MarksNode, _ => habits.MarksOutside });
            }
        }

        // A pod of another node asks there, and is translated there.
        foreach (var backend in backends)
        {
            var isOwn = vantage.IsOwn(backend.Address.Address);
            if (!isOwn && backend.Node != vantage.Node)
            {
                continue;
            }

            var packet = vantage.PacketFrom(isOwn ? Origin.Node : Origin.Pod, backend.Address.Address, to, protocol);
            yield return new TrafficCase(isOwn ? Origin.Node : Origin.Pod, ServiceAddressKind.Cluster, packet, Fate.Translated)
            {
                Backends = backends,
                IsCertain = false,
                Hairpin = backend.Address,
                Masquerade = true,
            };
        }
    }

    private static IEnumerable<TrafficCase> FromAbroad(
        Service service, EndpointChoice endpoints, Vantage vantage, ProxyHabits habits, ServiceAddressKind kind, AddressPort to, IpProtocol protocol, ImmutableArray<IpNetwork> ranges)
    {
        var isLocal = service.Spec.ExternalTrafficPolicy == "Local";
        endpoints = habits.IsIpvs && isLocal ? OfIpvs(endpoints, isReachable: true) : endpoints;
        foreach (var from in Everybody)
        {
            if (from != Origin.Outside && kind == ServiceAddressKind.External && !habits.ServesPodsAtExternal)
            {
                continue;
            }

            if (vantage.Packet(from, to, protocol, a => Holds(endpoints.Cluster, a) || from == Origin.Outside && Contain(ranges, a)) is not { } packet)
            {
                continue;
            }

            // What the node sends to an address of kube-ipvs0 has that as its source, but it is the node's own that has to be in a range.
            var source = habits.IsIpvs && from == Origin.Node && vantage.Own(!to.Address.IsIPv4) is { } own ? own : packet.Tuple.Source.Address;
            if (ranges.IsEmpty || Contain(ranges, source))
            {
                // What the node itself sends elsewhere passes no rule that refuses it, in iptables mode.
                if (Allowed(from, kind, packet) is { } one && (from != Origin.Node || kind == ServiceAddressKind.NodePort || habits.IsIpvs || one.Fate == Fate.Translated))
                {
                    yield return one;
                }
            }
            else
            {
                yield return new TrafficCase(from, kind, packet, Fate.Denied);
            }
        }

        foreach (var range in ranges)
        {
            // Somebody in the middle of the range, so that neither a network's own address nor one of the node's stands for it.
            var member = MemberOf(range);
            if (!vantage.IsOwn(member) && !Holds(endpoints.Cluster, member) && Allowed(Origin.Outside, kind, vantage.PacketFrom(Origin.Outside, member, to, protocol)) is { } one)
            {
                yield return one with { Range = range };
            }
        }

        // Under policy Local the source stays as it is, and only the node's own endpoints serve; but who is in the cluster already goes where
        // he would by the cluster address.
        TrafficCase? Allowed(Origin from, ServiceAddressKind which, VirtualPacket packet) => (isLocal, from) switch
        {
            (false, _) => Decided(from, which, packet, endpoints, false, true),
            _ when habits.IsIpvs => Decided(from, which, packet, endpoints, true, false),
            (true, Origin.Node) => Decided(from, which, packet, endpoints, false, true) with { IsDroppedForOthers = endpoints.Local.IsEmpty },
            (true, Origin.Pod) => habits.KnowsPods switch
            {
                true => Decided(from, which, packet, endpoints, false, false) with { IsDroppedForOthers = endpoints.Local.IsEmpty },
                false => Decided(from, which, packet, endpoints, true, false),
                _ => null,
            },
            _ => Decided(from, which, packet, endpoints, true, false),
        };
    }

    private static bool IsReachableFromOutside(Service service, ServicePort port)
        => port.NodePort > 0 || !service.Spec.ExternalIPs.IsEmpty || service.Status.LoadBalancer.Ingress.Any(i => i is { Ip: not null, IpMode: not "Proxy" });

    // For want of an endpoint of the node's own, policy Local leads to all, unless nothing but the cluster address is served: then there is no other
    // list of endpoints to take them from, and the virtual server refuses.
    private static EndpointChoice OfIpvs(EndpointChoice endpoints, bool isReachable) => !endpoints.Local.IsEmpty ? endpoints
        : endpoints with { Local = isReachable ? endpoints.Cluster : [], IsLocalCertain = endpoints is { IsLocalCertain: true, IsClusterCertain: true }, HasAny = isReachable && endpoints.HasAny };

    private static TrafficCase Decided(Origin from, ServiceAddressKind kind, VirtualPacket packet, EndpointChoice endpoints, bool isLocal, bool? masquerade)
    {
        var backends = isLocal ? endpoints.Local : endpoints.Cluster;
        var isCertain = isLocal ? endpoints.IsLocalCertain : endpoints.IsClusterCertain;
        return new TrafficCase(from, kind, packet, !backends.IsEmpty ? Fate.Translated : endpoints.HasAny ? Fate.Dropped : Fate.Rejected) { Backends = backends, IsCertain = isCertain, Masquerade = masquerade };
    }

    private static bool Holds(ImmutableArray<ExpectedBackend> backends, IpAddress address)
    {
        foreach (var backend in backends)
        {
            if (backend.Address.Address == address)
            {
                return true;
            }
        }

        return false;
    }

    private static bool Contain(ImmutableArray<IpNetwork> ranges, IpAddress address)
    {
        foreach (var range in ranges)
        {
            if (range.Contains(address))
            {
                return true;
            }
        }

        return false;
    }

    private static IpAddress MemberOf(IpNetwork range)
    {
        var free = range.Address.Width - range.PrefixLength;
        return free < 2 ? range.Address
            : range.Address.IsIPv4 ? IpAddress.FromIPv4((uint)range.Address.Low + (1U << (free - 1)) + 1)
            : free <= 64 ? IpAddress.FromIPv6(range.Address.High, range.Address.Low + (1UL << (free - 1)) + 1) : IpAddress.FromIPv6(range.Address.High, range.Address.Low + 0x8001);
    }
}
