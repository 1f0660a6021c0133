using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// What a request that failed would have met further on: it never came there, so nothing was observed, but what the nodes have programmed and what the cluster
/// wants disagree there too. Only what would have ended it for certain, whichever endpoint it had been led to.
/// </summary>
internal sealed class FurtherOn(Case c, Service service, ServicePort port)
{
    // What keeps packets from the endpoints; that they come there with another source, or to some more often than to others, fails none.
    private static readonly FailureClass[] Ending =
    [
        FailureClass.ProxyRulesMissing, FailureClass.ServiceRuleMissing, FailureClass.EndpointRuleMissing, FailureClass.StaleEndpointRule, FailureClass.ProxyBackendConflict,
        FailureClass.TranslationShadowed, FailureClass.IpvsAddressMissing, FailureClass.DroppedByRule, FailureClass.RejectedByRule,
    ];

    /// <summary>What it would have met behind the stage at which it failed, in the packet's order.</summary>
    /// <param name="failed">The stage at which it failed.</param>
    public IEnumerable<FailureClass> Behind(Stage failed)
    {
        var isIPv4 = c.Main?.Asked.Destination.Address.IsIPv4 ?? service.Spec.IpFamilies is not ["IPv6"];
        var backends = ServiceMeaning.BackendsInUse(c.Cluster, service, port, !isIPv4, c.ClientNode).Backends;
        if (failed >= Stage.Accept || backends.IsEmpty)
        {
            yield break;
        }

        if (DefineChecks.PortPodsListenOn(c, service, port, isIPv4) is not null)
        {
            yield return FailureClass.WrongTargetPort;
        }

        var source = c.ClientPlace?.Addresses.FirstOrDefault(a => a.IsIPv4 == isIPv4 && !a.IsLoopback) ?? default;
        if (c.ClientNodeAccount is { } node && source != default)
        {
            if (failed < Stage.Translate && Rules(node, source, isIPv4) is { } byRules)
            {
                yield return byRules;
            }

            if (failed < Stage.Deliver)
            {
                foreach (var onTheWay in OnTheWay(node, source, backends, isIPv4))
                {
                    yield return onTheWay;
                }
            }
        }

        if (Sockets(backends) is { } bySockets)
        {
            yield return bySockets;
        }
    }

    private FailureClass? Rules(NodeAccount node, IpAddress source, bool isIPv4)
    {
        var address = ServiceMeant.AddressesOf(service).FirstOrDefault(a => a.IsIPv4 == isIPv4);
        if (service.Spec.IsHeadless || address == default)
        {
            return null;
        }

        var asked = new FiveTuple(ServiceMeaning.ProtocolOf(port), new AddressPort(source, 40000), new AddressPort(address, (ushort)port.Port));
        return c.Explain(node, service, port, asked, c.ClientPlace?.Kind == PlaceKind.Node).Where(f => Ending.Contains(f.Class)).Select(f => (FailureClass?)f.Class).FirstOrDefault();
    }

    private IEnumerable<FailureClass> OnTheWay(NodeAccount node, IpAddress source, ImmutableArray<ExpectedBackend> backends, bool isIPv4)
    {
        var forwarding = isIPv4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
        var away = backends.Where(b => b.Node is not null && b.Node != node.Name).ToList();
        // A userspace proxy dials from the node itself.
        var isForwarded = c.ClientPlace?.Kind == PlaceKind.Pod && c.RulesOf(node, !isIPv4).Mode != ProxyMode.Userspace;
        if (isForwarded && away.Count == backends.Length && node.Sysctls.GetValueOrDefault(forwarding) == "0"
            || away.Count == backends.Length && away.TrueForAll(b => c.NodeCalled(b.Node)?.Sysctls.GetValueOrDefault(forwarding) == "0"))
        {
            yield return FailureClass.ForwardingDisabled;
        }

        if (away.Count == backends.Length && !node.Routes.IsEmpty
            && away.TrueForAll(b => c.RulesOf(node, !isIPv4).Routes?.Lookup(b.Address.Address) is null or { Type: "blackhole" or "unreachable" or "prohibit" }))
        {
            yield return FailureClass.NoRouteToPod;
        }

        if (isForwarded && away.Count == backends.Length && away.TrueForAll(b => c.NodeCalled(b.Node) is { } home && IsDropped(home, new FiveTuple(ServiceMeaning.ProtocolOf(port), new AddressPort(source, 40000), b.Address))))
        {
            yield return FailureClass.DroppedByRule;
        }
    }

    private bool IsDropped(NodeAccount home, FiveTuple tuple)
    {
        var rules = c.RulesOf(home, !tuple.Destination.Address.IsIPv4);
        return rules.IsRead && rules.Walk(Case.PacketAt(rules, tuple, fromNode: false)).Outcome == WalkOutcome.Dropped;
    }

    private FailureClass? Sockets(ImmutableArray<ExpectedBackend> backends)
    {
        FailureClass? all = null;
        foreach (var backend in backends)
        {
            if (c.NetNsOf(backend.Address.Address) is not { } netns || c.ListenersIn(netns) is not { } listeners)
            {
                return null;
            }

            var here = listeners.Where(l => l.Protocol == ServiceMeaning.ProtocolOf(port) && l.Local.Port == backend.Address.Port).ToList();
            var isFamily = backend.Address.Address.IsIPv4 || here.Exists(l => !l.Local.Address.IsIPv4);
            FailureClass? own = here.Count == 0 ? FailureClass.NoListener
                : here.TrueForAll(l => l.Local.Address.IsLoopback) ? FailureClass.ListenerOnLoopback
                : !isFamily ? FailureClass.ListenerWrongFamily
                : here.TrueForAll(l => l.IsFull) ? FailureClass.AcceptQueueFull : null;
            if (own is null || all is not null && all != own)
            {
                return null;
            }

            all = own;
        }

        // On another port they do listen: that is no missing server.
        return all == FailureClass.NoListener && DefineChecks.PortPodsListenOn(c, service, port, backends[0].Address.Address.IsIPv4) is not null ? null : all;
    }
}
