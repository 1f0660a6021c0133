using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>From where packets for Services come to a node.</summary>
public enum Origin
{
    /// <summary>A pod on the node.</summary>
    Pod,

    /// <summary>The node itself.</summary>
    Node,

    /// <summary>Beyond the cluster.</summary>
    Outside,
}

/// <summary>A node as packets meet it: its own addresses and routes, and addresses that stand for those who send to it.</summary>
public sealed class Vantage
{
    // Enough that one of them is no backend of the Service at hand, nearly always.
    private const int MostPods = 64;
    private const ushort SourcePort = 40000;

    // Set aside for benchmarks and documentation (RFC 2544, RFC 5737, RFC 3849, RFC 5180): nobody in a cluster has them.
    private static readonly ImmutableArray<IpAddress> OutsideIPv4 = [.. new[] { "198.18.0.1", "192.0.2.254", "203.0.113.254", "198.51.100.254", "198.19.255.254" }.Select(a => IpAddress.Parse(a))];
    private static readonly ImmutableArray<IpAddress> OutsideIPv6 = [.. new[] { "2001:db8:ffff::1", "2001:2::1" }.Select(a => IpAddress.Parse(a))];

    private readonly ImmutableArray<IpAddress> _pods;
    private readonly ImmutableArray<IpAddress> _inPrefix;
    private readonly ImmutableArray<IpAddress> _local;

    /// <summary>Makes a vantage.</summary>
    /// <param name="cluster">The cluster's objects.</param>
    /// <param name="node">The node's name in them; null when not known.</param>
    /// <param name="routes">The node's routes; null when not known.</param>
    /// <param name="bound">Services' addresses that are taken to be the node's own, since its routes do not tell.</param>
    public Vantage(ClusterSnapshot cluster, string? node, RouteTable? routes, IEnumerable<IpAddress>? bound = null)
    {
        ArgumentNullException.ThrowIfNull(cluster);
        Node = node;
        Routes = routes;
        var known = node is null ? null : cluster.FindNode(node);
        var addresses = ImmutableArray.CreateBuilder<IpAddress>();
        foreach (var address in known?.Status.Addresses.Where(a => a.Type == "InternalIP") ?? [])
        {
            Add(address.Address);
        }

        foreach (var route in routes?.Routes ?? [])
        {
            // Those of kube-ipvs0 are Services', and no packet that leaves the node has one.
            if (route.Type == "local" && route.Device != ProxyRules.IpvsInterface && route.Prefix.PrefixLength == route.Prefix.Address.Width && !route.Prefix.Address.IsLoopback && !IsLinkLocal(route.Prefix.Address))
            {
                addresses.Add(route.Prefix.Address);
            }
        }

        foreach (var address in known?.Status.Addresses.Where(a => a.Type != "InternalIP") ?? [])
        {
            Add(address.Address);
        }

        Addresses = [.. addresses.Distinct()];
        _local = bound is null ? Addresses : [.. Addresses.Concat(bound).Distinct()];
        // The node's pods; where the node is not known, those of any one node, since what a node does for its own it need not do for others'.
        var home = known is null ? cluster.Pods.FirstOrDefault(p => !p.Spec.HostNetwork && p.Spec.NodeName is not null)?.Spec.NodeName : node;
        _pods = [.. cluster.Pods.Where(p => !p.Spec.HostNetwork && p.Status.Phase is not ("Succeeded" or "Failed") && (home is null || p.Spec.NodeName == home))
            .Take(MostPods).SelectMany(p => p.Status.PodIPs.Select(i => (string?)i.Ip).Append(p.Status.PodIP)).Select(t => IpAddress.TryParse(t, null, out var a) ? a : default)
            .Where(a => !a.IsUnspecified).Distinct()];
        _inPrefix = [.. (known is null ? cluster.Nodes.Take(1) : [known]).SelectMany(n => n.Spec.PodCIDRs.IsEmpty ? [n.Spec.PodCIDR] : n.Spec.PodCIDRs.Select(c => (string?)c))
            .Where(c => IpNetwork.TryParse(c, out _)).Select(c => IpNetwork.Parse(c)).Where(c => c.Address.Width - c.PrefixLength >= 4).Select(Last)];

        void Add(string text)
        {
            if (IpAddress.TryParse(text, null, out var address))
            {
                addresses.Add(address);
            }
        }
    }

    /// <summary>The node's name; null when not known.</summary>
    public string? Node { get; }

    /// <summary>Its routes; null when not known.</summary>
    public RouteTable? Routes { get; }

    /// <summary>Its own addresses, those it is known by in the cluster first.</summary>
    public ImmutableArray<IpAddress> Addresses { get; }

    /// <summary>How sentences call it.</summary>
    public string Words => Node ?? "the node";

    /// <summary>The node's first address of a family; null when it has none that is known.</summary>
    public IpAddress? Own(bool ipv6) => First(Addresses, a => a.IsIPv4 != ipv6);

    /// <summary>Whether an address is the node's own.</summary>
    public bool IsOwn(IpAddress address) => Addresses.Contains(address) || address.IsLoopback;

    /// <summary>A packet of a new connection to an address, from somebody of that kind; null when nobody of the kind is known.</summary>
    /// <param name="from">Who sends it.</param>
    /// <param name="to">The address asked for.</param>
    /// <param name="protocol">The protocol.</param>
    /// <param name="others">Addresses that the sender must not have.</param>
    public VirtualPacket? Packet(Origin from, AddressPort to, IpProtocol protocol, Func<IpAddress, bool> others)
    {
        ArgumentNullException.ThrowIfNull(others);
        var ipv6 = !to.Address.IsIPv4;
        IpAddress? source = from switch
        {
            Origin.Node => SourceTo(to.Address),
            Origin.Outside => First(ipv6 ? OutsideIPv6 : OutsideIPv4, a => !others(a)),
            _ => First(_pods, a => a.IsIPv4 != ipv6 && !others(a)) ?? First(_inPrefix, a => a.IsIPv4 != ipv6 && !others(a)),
        };
        return source is { } known ? PacketFrom(from, known, to, protocol) : null;
    }

    /// <summary>A packet of a new connection to an address, from this address.</summary>
    /// <param name="from">Who has it.</param>
    /// <param name="source">The source address.</param>
    /// <param name="to">The address asked for.</param>
    /// <param name="protocol">The protocol.</param>
    public VirtualPacket PacketFrom(Origin from, IpAddress source, AddressPort to, IpProtocol protocol) => new()
    {
        Tuple = new FiveTuple(protocol, new AddressPort(source, SourcePort), to),
        FromNode = from == Origin.Node,
        InInterface = from == Origin.Node ? null : InterfaceOf(from, source),
        BridgePort = from == Origin.Pod ? null : "",
        LocalAddresses = _local,
        Routes = Routes,
    };

    // What goes to an address of the node's own comes from it.
    private IpAddress? SourceTo(IpAddress destination)
        => Routes is null && _local.Contains(destination) ? destination : Routes?.Lookup(destination) is { Type: "local" } route && route.Prefix.PrefixLength == destination.Width ? route.Source ?? destination : Own(!destination.IsIPv4);

    // A pod is behind the interface of its own route or its node's pod prefix; the default route leads elsewhere.
    private string? InterfaceOf(Origin from, IpAddress source)
        => Routes?.Lookup(source) is { Device: { } device } route && (from == Origin.Outside || route.Prefix.PrefixLength > 0) && route.Type == "unicast" ? device : null;

    private static IpAddress? First(ImmutableArray<IpAddress> addresses, Func<IpAddress, bool> condition)
    {
        foreach (var address in addresses)
        {
            if (condition(address))
            {
                return address;
            }
        }

        return null;
    }

    private static bool IsLinkLocal(IpAddress address) => !address.IsIPv4 && address.High >> 54 == 0xfe80 >> 6;

    // The last but one address of a prefix, which nothing gives out.
    private static IpAddress Last(IpNetwork prefix) => prefix.Address.IsIPv4
        ? IpAddress.FromIPv4((uint)prefix.Address.Low + (uint)((1UL << (32 - prefix.PrefixLength)) - 2))
        : IpAddress.FromIPv6(prefix.Address.High, prefix.Address.Low | (prefix.PrefixLength >= 64 ? (1UL << (128 - prefix.PrefixLength)) - 2 : 0xfffe));
}
