using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Core.Rules;

/// <summary>
/// A node's routes, both families, as <c>ip route</c> prints them:
/// <code>
/// default via 172.30.0.254 dev eth0
/// 10.244.2.0/24 via 172.30.0.12 dev eth0
/// local 172.30.0.11 dev eth0 table local proto kernel scope host src 172.30.0.11
/// unreachable 10.244.9.0/24
/// </code>
/// Which table a packet is looked up in, policy rules (<c>ip rule</c>) say; where these are not known it is local, then main.
/// </summary>
public sealed class RouteTable
{
    private readonly ImmutableArray<Route> _routes;
    private readonly Dictionary<string, List<Route>> _tables;
    private readonly ImmutableArray<PolicyRule> _rules;

    private RouteTable(List<Route> routes, ImmutableArray<PolicyRule> rules)
    {
        _tables = routes.GroupBy(r => r.Table).ToDictionary(t => t.Key, t => t.ToList(), StringComparer.Ordinal);
        _routes = [.. routes.Where(r => r.Table is "local" or "main")];
        // The usual ones say what is done without them.
        _rules = rules.All(r => r.IsUsual) ? [] : [.. rules.OrderBy(r => r.Priority)];
    }

    /// <summary>The routes of the tables main and local, longest prefix first.</summary>
    public ImmutableArray<Route> Routes => _routes;

    /// <summary>The routes of a node, by its policy rules; null where they were not read.</summary>
    public static RouteTable? Of(NodeAccount node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Routes.IsEmpty ? null : Parse(node.Routes, node.PolicyRules);
    }

    /// <summary>Reads lines of <c>ip route</c>; lines it does not understand are left out.</summary>
    /// <param name="lines">The lines.</param>
    /// <param name="rules">The policy rules of both families, which say what table is asked for whom; none when they are not known.</param>
    public static RouteTable Parse(IEnumerable<string> lines, ImmutableArray<PolicyRule> rules = default)
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
            if (at >= words.Length)
            {
                continue;
            }

            var table = After(words, "table") switch
            {
                null or "254" => "main",
                "255" => "local",
                "253" => "default",
                var name => name,
            };

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

            routes.Add(new Route(type, prefix, via, After(words, "dev"), IpAddress.TryParse(After(words, "src"), null, out var source) ? source : null, metric, line) { Table = table });
        }

        return new RouteTable([.. routes.OrderByDescending(r => r.Prefix.PrefixLength).ThenByDescending(r => r.Type == "local").ThenBy(r => r.Metric)], rules.IsDefault ? [] : rules);
    }

    /// <summary>The route that this packet takes, by the policy rules (fib_rules.c, fib_rules_lookup).</summary>
    /// <param name="packet">Source and destination as they are when it is routed.</param>
    /// <param name="inInterface">Where it came in: <c>lo</c> for the node's own; null when not known.</param>
    /// <param name="mark">Its mark then.</param>
    /// <param name="unknown">A policy rule of which it is not known whether it is for this packet, and which was taken not to be; null without one.</param>
    /// <returns>The route; one of type <c>blackhole</c>, <c>unreachable</c> or <c>prohibit</c> also where a policy rule says so; null when there is none.</returns>
    public Route? Lookup(FiveTuple packet, string? inInterface, uint mark, out string? unknown)
    {
        unknown = null;
        var destination = packet.Destination.Address;
        if (!_rules.Any(r => r.IsIPv6 != destination.IsIPv4))
        {
            return Lookup(destination);
        }

        uint from = 0;
        foreach (var rule in _rules)
        {
            if (rule.IsIPv6 == destination.IsIPv4 || rule.Priority < from)
            {
                continue;
            }

            var isFor = IsFor(rule, packet, inInterface, mark);
            if (isFor is null)
            {
                unknown ??= rule.Raw;
            }

            if (isFor != true)
            {
                continue;
            }

            switch (rule.Action)
            {
                case "lookup":
                    if (InTable(rule.Table!, destination) is { } route && !(route.Prefix.PrefixLength <= rule.SuppressPrefixLength))
                    {
                        return route;
                    }

                    break;
                case "goto":
                    _ = uint.TryParse(rule.Table, NumberStyles.None, CultureInfo.InvariantCulture, out from);
                    break;
                case "blackhole" or "unreachable" or "prohibit":
                    return new Route(rule.Action, new IpNetwork(destination.IsIPv4 ? IpAddress.IPv4Any : IpAddress.IPv6Any, 0), null, null, null, 0, rule.Raw);
            }
        }

        return null;
    }

    // Null when that cannot be told.
    private static bool? IsFor(PolicyRule rule, FiveTuple packet, string? inInterface, uint mark)
    {
        if (rule.From is { } source && !source.Contains(packet.Source.Address) || rule.To is { } destination && !destination.Contains(packet.Destination.Address)
            || rule.Mark is { } marked && (mark & rule.MarkMask) != marked || rule.OutInterface is not null || rule.InInterface is { } inside && inInterface is not null && inside != inInterface
            || rule.Unknown.Contains("[detached]", StringComparison.Ordinal))
        {
            return rule.Not; // a packet that is routed is bound to no interface
        }

        return rule.Unknown.Length > 0 || rule.InInterface is not null && inInterface is null || rule.Table == "[l3mdev-table]" ? null : !rule.Not;
    }

    private Route? InTable(string table, IpAddress destination)
    {
        foreach (var route in _tables.GetValueOrDefault(table) ?? [])
        {
            if (route.Prefix.Contains(destination))
            {
                return route.Type == "throw" ? null : route;
            }
        }

        return null;
    }

    /// <summary>
    /// The route a packet to this address takes, whoever sends it: by the tables local and main alone; null when there is none.
    /// </summary>
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
/// <param name="Raw">The line it was read from, or the policy rule that stands for it.</param>
public sealed record Route(string Type, IpNetwork Prefix, IpAddress? Via, string? Device, IpAddress? Source, int Metric, string Raw)
{
    /// <summary>Its table: <c>main</c>, <c>local</c>, another's name or number.</summary>
    public string Table { get; init; } = "main";
}
