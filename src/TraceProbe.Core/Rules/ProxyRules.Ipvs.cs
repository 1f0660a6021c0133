using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

// kube-proxy's IPVS mode: a virtual server per address and port, each address on the interface kube-ipvs0 so that packets to it are the node's own,
// and rules that ask ipsets whether to masquerade (pkg/proxy/ipvs/proxier.go).
public sealed partial class ProxyRules
{
    /// <summary>The interface that holds the Services' addresses in IPVS mode.</summary>
    public const string IpvsInterface = "kube-ipvs0";

    /// <summary>The virtual servers; null in other modes, and where they were not read.</summary>
    public IpvsTable? Ipvs => _ipvs;

    /// <summary>The ipsets that the rules ask, by name; null where they were not read.</summary>
    public IReadOnlyDictionary<string, IpSet>? IpSets => Sets.Select(s => s.IpSets).FirstOrDefault(s => s is not null);

    /// <summary>How kube-proxy calls one of its ipsets: <c>KUBE-CLUSTER-IP</c>, <c>KUBE-6-CLUSTER-IP</c>; the kernel has 31 characters for it.</summary>
    /// <param name="name">The name without what stands before it, such as <c>CLUSTER-IP</c>.</param>
    internal string SetName(string name)
    {
        var whole = $"KUBE-{(IsIPv6 ? "6-" : "")}{name}";
        return whole.Length > 31 ? whole.Remove(31) : whole;
    }

    private static IpvsTable? IpvsOf(IEnumerable<RuleSet> sets) => sets.Select(s => s.Ipvs).FirstOrDefault(t => t is not null);

    private static bool HasIpvsInterface(RouteTable? routes) => routes?.Routes.Any(r => r.Device == IpvsInterface) ?? false;

    private static bool TakesNothing(VirtualServer server) => server.RealServers.All(r => r.Weight == 0);

    // Where the routes are not known, nothing can be said.
    private bool IsOwnAddress(IpAddress address) => _routes is null || _routes.Lookup(address) is { Type: "local" };
}
