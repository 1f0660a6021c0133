using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// A node's routes, both families, as <c>ip route</c> prints them:
/// <code>
/// default via 172.30.0.254 dev eth0
/// 10.244.2.0/24 via 172.30.0.12 dev eth0
/// local 172.30.0.11 dev eth0 table local proto kernel scope host src 172.30.0.11
/// unreachable 10.244.9.0/24
/// </code>
/// Policy rules (<c>ip rule</c>) are not looked at: lines of tables other than main and local are left out.
/// </summary>
public sealed class RouteTable
{
    private readonly ImmutableArray<Route> _routes;

    private RouteTable(ImmutableArray<Route> routes) => _routes = routes;

    /// <summary>The routes, longest prefix first.</summary>
    public ImmutableArray<Route> Routes => _routes;

    /// <summary>Reads lines of <c>ip route</c>; lines it does not understand are left out.</summary>
    public static RouteTable Parse(IEnumerable<string> lines)
    {
        ArgumentNullException.ThrowIfNull(lines);
        var routes = new List<Route>();
        foreach (var line in lines)
        {
            var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 0)
            {
                continue;
            }

            var typed = words[0] is "local" or "broadcast" or "multicast" or "anycast" or "unreachable" or "blackhole" or "prohibit" or "throw" or "unicast";
            var type = typed ? words[0] : "unicast";
            var at = typed ? 1 : 0;
            var table = After(words, "table");
            if (at >= words.Length || table is not (null or "main" or "local" or "255" or "254"))
            {
                continue;
            }

            IpAddress? via = IpAddress.TryParse(After(words, "via") is "inet6" ? After(words, "inet6") : After(words, "via"), null, out var gateway) ? gateway : null;
            var metric = int.TryParse(After(words, "metric"), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0;
            IpNetwork prefix;
            if (words[at] == "default") // which does not say its family
            {
                var ipv6 = via is { } address ? !address.IsIPv4 : words.Contains("pref") || words.Contains("metric") && words.Contains("1024");
                prefix = new IpNetwork(ipv6 ? IpAddress.IPv6Any : IpAddress.IPv4Any, 0);
            }
            else if (!IpNetwork.TryParse(words[at], out prefix))
            {
                continue;
            }

            routes.Add(new Route(type, prefix, via, After(words, "dev"), IpAddress.TryParse(After(words, "src"), null, out var source) ? source : null, metric, line));
        }

        return new RouteTable([.. routes.OrderByDescending(r => r.Prefix.PrefixLength).ThenByDescending(r => r.Type == "local").ThenBy(r => r.Metric)]);
    }

    /// <summary>The route a packet to this address takes; null when there is none.</summary>
    public Route? Lookup(IpAddress destination)
    {
        foreach (var route in _routes)
        {
            // The local table is asked first, but its prefixes are host routes and loopback, so the longest prefix finds them too.
            if (route.Prefix.Contains(destination) && route.Type is not "throw")
            {
                return route;
            }
        }

        return null;
    }

    private static string? After(string[] words, string word)
    {
        var at = Array.IndexOf(words, word);
        return at >= 0 && at + 1 < words.Length ? words[at + 1] : null;
    }
}

/// <summary>One route.</summary>
/// <param name="Type"><c>unicast</c>, <c>local</c>, <c>broadcast</c>, <c>unreachable</c>, <c>blackhole</c>, <c>prohibit</c>, …</param>
/// <param name="Prefix">The destinations it is for.</param>
/// <param name="Via">The next hop; null when the destinations are neighbours.</param>
/// <param name="Device">The interface; null for types without one.</param>
/// <param name="Source">The node's address used there (<c>src</c>); null when not given.</param>
/// <param name="Metric">Its metric; lower wins among equal prefixes.</param>
/// <param name="Raw">The line it was read from.</param>
public sealed record Route(string Type, IpNetwork Prefix, IpAddress? Via, string? Device, IpAddress? Source, int Metric, string Raw);
