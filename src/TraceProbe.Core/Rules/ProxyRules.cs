using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Core.Rules;

/// <summary>
/// What kube-proxy's rules on one node say about Services, for one address family: the mode it works in, whether its rules are
/// there and in use, and what they do for one Service port. Chains and names are those of kube-proxy's pkg/proxy/iptables, pkg/proxy/nftables and pkg/proxy/ipvs, and
/// of the userspace mode that ended with Kubernetes 1.26.
/// </summary>
public sealed partial class ProxyRules
{
    private static readonly string[] IptablesEntries = ["KUBE-SERVICES"];
    private static readonly string[] UserspaceEntries = ["KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"];

    private readonly RuleWalk _walk;
    private readonly string[] _entryNames;
    private readonly RouteTable? _routes;
    private readonly RuleTable? _nftables;
    private readonly IpvsTable? _ipvs;

    private ProxyRules(ImmutableArray<RuleSet> sets, bool isIPv6, ProxyMode mode, string? bypass, RouteTable? routes)
    {
        _routes = routes;
        Sets = sets;
        IsIPv6 = isIPv6;
        Mode = mode;
        Bypass = bypass;
        _walk = new RuleWalk(sets);
        _entryNames = mode == ProxyMode.Userspace ? UserspaceEntries : IptablesEntries;
        if (mode == ProxyMode.Nftables)
        {
            _nftables = NftablesOf(sets, isIPv6);
            IsRead = sets.Any(s => s.Backend == RuleBackend.Nftables);
            ServiceChains = _nftables?.Chains.Keys.Count(n => n.StartsWith("service-", StringComparison.Ordinal)) ?? 0;
            EntryRules = _nftables is null ? 0 : Elements(_nftables, "services") + Elements(_nftables, "service-endpoints-check");
            HookedForPods = _nftables is not null && LeadsToServices(_nftables, Hook.Prerouting);
            HookedForNode = _nftables is not null && LeadsToServices(_nftables, Hook.Output);
            return;
        }

        if (mode == ProxyMode.Ipvs)
        {
            // Its hooks are there as soon as one virtual server is.
            _ipvs = IpvsOf(sets);
            IsRead = _ipvs is not null;
            EntryRules = _ipvs?.Servers.Count(s => s.IsIPv6 == isIPv6) ?? 0;
            HookedForPods = HookedForNode = EntryRules > 0;
            return;
        }

        IsRead = mode is ProxyMode.None or ProxyMode.Iptables or ProxyMode.Userspace;
        var nat = sets.Select(s => s.Table("nat")).OfType<RuleTable>().ToArray();
        ServiceChains = nat.Sum(t => t.Chains.Keys.Count(n => n.StartsWith("KUBE-SVC-", StringComparison.Ordinal)));
        EntryRules = nat.Sum(t => _entryNames.Sum(n => t.Chain(n)?.Rules.Count(IsEntry) ?? 0));
        HookedForPods = nat.Any(t => JumpsToEntry(t, "PREROUTING"));
        HookedForNode = nat.Any(t => JumpsToEntry(t, "OUTPUT"));
    }

    /// <summary>The rule sets of this family, of all backends that were read.</summary>
    public ImmutableArray<RuleSet> Sets { get; }

    /// <summary>The node's routes; null when not known.</summary>
    public RouteTable? Routes => _routes;

    /// <summary>Whether these are the IPv6 rules.</summary>
    public bool IsIPv6 { get; }

    /// <summary>How kube-proxy works here.</summary>
    public ProxyMode Mode { get; }

    /// <summary>
    /// Whether the rules of that mode are in these sets: those of nftables need nft, IPVS's a dump of its virtual servers. Without, nothing can be
    /// concluded from what is missing here.
    /// </summary>
    public bool IsRead { get; }

    /// <summary>What seems to translate instead of kube-proxy, such as <c>Cilium</c>; null when nothing of the kind shows.</summary>
    public string? Bypass { get; }

    /// <summary>How many <c>KUBE-SVC-…</c> chains (in nftables <c>service-…</c>) there are.</summary>
    public int ServiceChains { get; }

    /// <summary>How many rules of the entry chains (in nftables elements of their maps, in IPVS virtual servers) are about a Service's address.</summary>
    public int EntryRules { get; }

    /// <summary>Whether the translation that packets from pods meet leads to the entry chain.</summary>
    public bool HookedForPods { get; }

    /// <summary>Whether the translation that the node's own packets meet leads to the entry chain.</summary>
    public bool HookedForNode { get; }

    /// <summary>
    /// The first rule of each tool's that leads to rules of kube-proxy's for Services. More than one says that an earlier kube-proxy, of another mode or
    /// backend, left its rules in effect: only one of them is kept up to date.
    /// </summary>
    public ImmutableArray<RuleRef> Entrances => [.. Sets.Select(s => EntranceOf(s) is { } rule ? RuleRef.Of(rule, RuleRef.ToolOf(s.Backend, IsIPv6)) : null).OfType<RuleRef>()];

    /// <summary>
    /// The ways in which packets for Services are translated here, each with the tool that shows it. None where kube-proxy's rules are not in effect; more than
    /// one as <see cref="Entrances"/> says, of which <see cref="Mode"/> is the one that comes first by the rules that it has.
    /// </summary>
    public ImmutableArray<ProxyInEffect> InEffect
        => [.. Mode == ProxyMode.Ipvs && EntryRules > 0 ? [new ProxyInEffect(ProxyMode.Ipvs, "ipvsadm")] : Array.Empty<ProxyInEffect>(), .. Sets.Select(s => (Set: s, Rule: EntranceOf(s))).Where(e => e.Rule is not null)
            .Select(e => new ProxyInEffect(e.Set.Backend == RuleBackend.Nftables ? ProxyMode.Nftables : LeadsToPortals(e.Rule!) ? ProxyMode.Userspace : ProxyMode.Iptables, RuleRef.ToolOf(e.Set.Backend, IsIPv6)))];

    /// <summary>Where these rules are kept, in words: <c>iptables</c>, <c>ip6tables</c>, <c>nftables</c>, <c>IPVS</c>.</summary>
    public string Kind => Mode == ProxyMode.Nftables ? "nftables" : Mode == ProxyMode.Ipvs ? "IPVS" : IsIPv6 ? "ip6tables" : "iptables";

    /// <summary>
    /// Whether kube-proxy's rules are not in effect as a whole: there are none, or nothing leads to them. Always false where they were not read
    /// (<see cref="IsRead"/>).
    /// </summary>
    /// <param name="fromNode">Whether the node's own packets are meant, else those of pods.</param>
    public bool AreMissing(bool fromNode)
        => IsRead && Bypass is null && (EntryRules == 0 || !(fromNode ? HookedForNode : HookedForPods));

    /// <summary>What of them is missing, as half a sentence for people; null when nothing is.</summary>
    /// <param name="fromNode">Whether the node's own packets are meant, else those of pods.</param>
    public string? DescribeMissing(bool fromNode)
    {
        if (!AreMissing(fromNode))
        {
            return null;
        }

        var table = NameOfNftables(IsIPv6);
        if (Mode == ProxyMode.Nftables)
        {
            return _nftables is null ? $"there is no table {table}"
                : EntryRules == 0 ? $"the maps of table {table} hold no Service"
                : $"nothing in table {table} leads {(fromNode ? "the node's own packets" : "packets from pods")} to the chain services";
        }

        if (Mode == ProxyMode.Ipvs)
        {
            return $"there is no virtual server for {(IsIPv6 ? "IPv6" : "IPv4")}";
        }

        var existing = _entryNames.Where(n => Sets.Any(s => s.Table("nat")?.Chain(n) is not null)).ToArray();
        return existing.Length == 0
            ? $"the nat table has no chain {string.Join(" nor ", _entryNames)}{(Mode == ProxyMode.None && Sets.Any(s => s.Backend == RuleBackend.Nftables) ? $", and there is no table {table}" : "")}"
            : EntryRules == 0 ? $"the nat {(existing.Length == 1 ? "chain" : "chains")} {string.Join(" and ", existing)} {(existing.Length == 1 ? "holds" : "hold")} no rule of a Service"
            : $"no rule of nat {(fromNode ? "OUTPUT" : "PREROUTING")} jumps to {string.Join(" or ", existing)}";
    }

    /// <summary>Reads the rules of one family from a node's account.</summary>
    /// <exception cref="FormatException">A dump is malformed.</exception>
    public static ProxyRules Of(NodeAccount node, bool isIPv6)
    {
        ArgumentNullException.ThrowIfNull(node);
        return Of(node, RuleSet.ParseAll(node.Dumps, node.Sysctls), isIPv6);
    }

    /// <summary>Takes the rules of one family from a node's account whose dumps were parsed already.</summary>
    /// <param name="node">The account.</param>
    /// <param name="sets">What its dumps hold (<see cref="RuleSet.ParseAll"/>).</param>
    /// <param name="isIPv6">Which family.</param>
    public static ProxyRules Of(NodeAccount node, IEnumerable<RuleSet> sets, bool isIPv6)
    {
        ArgumentNullException.ThrowIfNull(node);
        var rules = Of(sets, isIPv6, node.NftTables, node.HasIpvs, RouteTable.Of(node));
        // Nothing found is not "none" where something could not be looked at.
        return rules.Mode == ProxyMode.None && node.Unread.Any(u => u.What.Contains("rules", StringComparison.Ordinal) || u.What.Contains("nftables", StringComparison.Ordinal))
            ? new ProxyRules(rules.Sets, isIPv6, ProxyMode.Unknown, null, rules._routes) : rules;
    }

    /// <summary>Takes rules that were parsed already.</summary>
    /// <param name="sets">The rule sets of the node; those of the other family are left out.</param>
    /// <param name="isIPv6">Which family.</param>
    /// <param name="nftTables">The names of the nftables tables, as <see cref="NodeAccount.NftTables"/>.</param>
    /// <param name="hasIpvs">Whether IPVS has virtual servers.</param>
    /// <param name="routes">The node's routes; null when not known.</param>
    public static ProxyRules Of(IEnumerable<RuleSet> sets, bool isIPv6, ImmutableArray<string> nftTables, bool hasIpvs, RouteTable? routes = null)
    {
        var own = sets.Where(s => s.IsIPv6 == isIPv6).ToImmutableArray();
        var chains = own.SelectMany(s => s.Tables.Values).SelectMany(t => t.Chains.Values).ToArray();
        bool Any(Func<RuleChain, bool> condition) => Array.Exists(chains, c => condition(c));

        // KUBE-MARK-DROP, KUBE-FIREWALL and KUBE-KUBELET-CANARY are the kubelet's; they tell nothing.
        var iptables = Any(c => c.Name == "KUBE-SERVICES" || c.Name.StartsWith("KUBE-SVC-", StringComparison.Ordinal));
        var userspace = Any(c => c.Name.StartsWith("KUBE-PORTALS-", StringComparison.Ordinal));
        if (iptables && userspace)
        {
            // One of them is what an earlier kube-proxy left behind: the one with rules is alive.
            userspace = Any(c => c.Name.StartsWith("KUBE-PORTALS-", StringComparison.Ordinal) && !c.Rules.IsEmpty)
                && !Any(c => c.Name == "KUBE-SERVICES" && !c.Rules.IsEmpty);
        }

        // In IPVS mode KUBE-SERVICES asks ipsets such as KUBE-CLUSTER-IP.
        var ipsets = Any(c => c.Name == "KUBE-SERVICES" && c.Rules.Any(r => r.Matches.Any(m => m is RuleMatch.InSet set && set.Name.StartsWith("KUBE-", StringComparison.Ordinal))));
        // The table of one family can be lost while that of the other shows the mode.
        var nftables = NftablesOf(own, isIPv6) is not null || !nftTables.IsDefault && (nftTables.Contains(NameOfNftables(false)) || nftTables.Contains(NameOfNftables(true)));
        var bypass = Any(c => c.Name.StartsWith("CILIUM_", StringComparison.Ordinal)) ? "Cilium" : null;
        var mode = ipsets || (hasIpvs || HasIpvsInterface(routes)) && !Any(c => c.Name.StartsWith("KUBE-SVC-", StringComparison.Ordinal)) ? ProxyMode.Ipvs
            : userspace ? ProxyMode.Userspace
            : iptables && Any(c => c.Name == "KUBE-SERVICES" && !c.Rules.IsEmpty) ? ProxyMode.Iptables
            : nftables ? ProxyMode.Nftables
            : iptables ? ProxyMode.Iptables
            : own.IsEmpty || bypass is not null ? ProxyMode.Unknown
            : ProxyMode.None;
        // Beside rules for Services, Cilium's chains say only that it does the pods' network.
        return new ProxyRules(own, isIPv6, mode, mode == ProxyMode.Unknown ? bypass : null, routes);
    }

    /// <summary>Walks a packet through these rules.</summary>
    public WalkResult Walk(VirtualPacket packet) => _walk.Run(packet);

    /// <summary>What the rules do for one Service port at one of its addresses.</summary>
    /// <param name="service">The Service's namespace and name as <c>namespace/name</c>, which the rules' comments carry; null when not known.</param>
    /// <param name="portName">The Service port's name; null or empty when it has none.</param>
    /// <param name="address">The address and port asked for.</param>
    /// <param name="protocol">The protocol asked for.</param>
    /// <param name="packet">The packet to walk; null for one from a pod elsewhere.</param>
    public ServiceRules Find(string? service, string? portName, AddressPort address, IpProtocol protocol, VirtualPacket? packet = null)
    {
        var fromNode = packet?.FromNode ?? false;
        var entries = ImmutableArray.CreateBuilder<Rule>();
        Rule? reject = null;
        if (_nftables is not null)
        {
            entries.AddRange(ElementsFor(_nftables, "services", address, protocol));
            reject = ElementsFor(_nftables, "service-endpoints-check", address, protocol).Concat(ElementsFor(_nftables, "nodeport-endpoints-check", address, protocol)).FirstOrDefault();
        }

        var server = _ipvs?.Find(protocol, address);
        if (server is not null)
        {
            entries.Add(_ipvs!.RuleOf(server));
            reject = TakesNothing(server) ? entries[0] : null;
        }

        foreach (var set in Mode is ProxyMode.Nftables or ProxyMode.Ipvs ? [] : Sets)
        {
            foreach (var name in Mode == ProxyMode.Userspace ? [fromNode ? "KUBE-PORTALS-HOST" : "KUBE-PORTALS-CONTAINER"] : IptablesEntries)
            {
                foreach (var rule in set.Table("nat")?.Chain(name)?.Rules ?? [])
                {
                    if (IsFor(rule, address, protocol) && rule.Target is not null && !IsMarking(rule))
                    {
                        entries.Add(rule);
                    }
                }
            }

            foreach (var name in new[] { "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES" })
            {
                reject ??= set.Table("filter")?.Chain(name)?.Rules.FirstOrDefault(r => r.Target is RuleTarget.Reject or RuleTarget.Drop && IsFor(r, address, protocol));
            }
        }

        var walk = _walk.Run(packet is not null ? packet with { Routes = packet.Routes ?? _routes } : new VirtualPacket
        {
            Tuple = new FiveTuple(protocol, new AddressPort(IsIPv6 ? IpAddress.Parse("2001:db8::1") : IpAddress.Parse("192.0.2.1"), 40000), address),
            BridgePort = "",
            Routes = _routes,
        });
        var chain = entries.Select(e => e.Target).OfType<RuleTarget.Jump>().FirstOrDefault()?.Chain;
        // Only where there is no entry: hashing loads OpenSSL, which a healthy trace need not wait for.
        var expected = service is null || entries.Count > 0 || Mode == ProxyMode.Ipvs ? null : ServiceChainName(service, portName, protocol, Mode);
        return new ServiceRules
        {
            Address = address,
            Protocol = protocol,
            Entries = entries.ToImmutable(),
            Chain = chain,
            ChainExpected = expected,
            ChainExists = chain is not null || expected is not null && Sets.Any(s => (_nftables ?? s.Table("nat"))?.Chain(expected) is { Rules.IsEmpty: false }),
            Reject = reject,
            IsAddressMissing = server is not null && !IsOwnAddress(address.Address),
            RedirectPort = Mode == ProxyMode.Userspace ? PortOf(entries) : null,
            Walk = walk,
        };
    }

    /// <summary>
    /// The chain that kube-proxy makes for a Service port: <c>KUBE-SVC-</c> and the first 16 characters of the base32 of the SHA-256 of
    /// name and protocol (portProtoHash in pkg/proxy/iptables/proxier.go), the same as in the port's other chains KUBE-SVL-, KUBE-EXT-, KUBE-FW-,
    /// KUBE-XLB-; in nftables <c>service-</c>, 8 such characters and what they are made of (hashAndTruncate in pkg/proxy/nftables/proxier.go).
    /// </summary>
    /// <param name="service">Namespace and name as <c>namespace/name</c>.</param>
    /// <param name="portName">The port's name; null or empty when it has none.</param>
    /// <param name="protocol">The protocol.</param>
    /// <param name="mode">The mode.</param>
    public static string ServiceChainName(string service, string? portName, IpProtocol protocol, ProxyMode mode = ProxyMode.Iptables)
    {
        if (mode == ProxyMode.Nftables)
        {
            var name = $"{service}/{Name(protocol)}/{portName}";
            name = $"{HashOf(name, 8)}-{name}";
            return $"service-{(name.Length <= LongestNftablesName ? name : $"{name.AsSpan(0, LongestNftablesName - 3)}...")}";
        }

        return $"KUBE-SVC-{HashOf(PortName(service, portName) + Name(protocol), 16)}";
    }

    /// <summary>The chain that kube-proxy makes for one endpoint of a Service port: <c>KUBE-SEP-</c> and a hash of name, protocol and endpoint (servicePortEndpointChainName).</summary>
    /// <param name="service">Namespace and name as <c>namespace/name</c>.</param>
    /// <param name="portName">The port's name; null or empty when it has none.</param>
    /// <param name="protocol">The protocol.</param>
    /// <param name="endpoint">The endpoint.</param>
    public static string EndpointChainName(string service, string? portName, IpProtocol protocol, AddressPort endpoint)
        => $"KUBE-SEP-{HashOf(PortName(service, portName) + Name(protocol) + endpoint, 16)}";

    /// <summary>How kube-proxy calls a Service port: <c>namespace/name:port</c>, or <c>namespace/name</c> when the port has no name.</summary>
    public static string PortName(string service, string? portName) => string.IsNullOrEmpty(portName) ? service : $"{service}:{portName}";

    internal static string Name(IpProtocol protocol) => protocol switch
    {
        IpProtocol.Udp => "udp",
        IpProtocol.Sctp => "sctp",
        _ => "tcp",
    };

    private static string HashOf(string text, int length)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(text), hash);
        // RFC 4648 base32: five bytes are eight characters.
        Span<char> digits = stackalloc char[length];
        for (var i = 0; i < digits.Length; i++)
        {
            var bits = BinaryPrimitives.ReadUInt64BigEndian(hash[(i / 8 * 5)..]) >> 24;
            digits[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(int)(bits >> (35 - i % 8 * 5)) & 31];
        }

        return digits.ToString();
    }

    private Rule? EntranceOf(RuleSet set)
        => set.Backend == RuleBackend.Nftables
            ? set.Table(NameOfNftables(IsIPv6)) is { } table && Elements(table, "services") > 0 ? JumpsToServices(table).FirstOrDefault() : null
            : set.Table("nat") is { } nat
                ? ((string[])["PREROUTING", "OUTPUT"]).SelectMany(h => nat.Chain(h)?.Rules ?? [])
                    .FirstOrDefault(r => r.Target is RuleTarget.Jump jump && ProxyChains.Of("nat", jump.Chain) is ProxyChain.Entry or ProxyChain.Portal && nat.Chain(jump.Chain)?.Rules.Any(IsEntry) == true)
                : null;

    private static bool LeadsToPortals(Rule rule) => rule.Target is RuleTarget.Jump { Chain: var chain } && ProxyChains.Of("nat", chain) == ProxyChain.Portal;

    private static bool IsEntry(Rule rule) => rule.Matches.Any(m => m is RuleMatch.Destination { Negated: false });

    private bool JumpsToEntry(RuleTable table, string hook)
        => table.Chain(hook)?.Rules.Any(r => r.Target is RuleTarget.Jump jump && _entryNames.Contains(jump.Chain)) ?? false;

    private static bool IsMarking(Rule rule) => rule.Target is RuleTarget.Jump { Chain: "KUBE-MARK-MASQ" };

    private static bool IsFor(Rule rule, AddressPort address, IpProtocol protocol)
    {
        var named = false;
        foreach (var match in rule.Matches)
        {
            switch (match)
            {
                case RuleMatch.Destination destination:
                    if (destination.Negated || !destination.Network.Contains(address.Address))
                    {
                        return false;
                    }

                    named = true;
                    break;
                case RuleMatch.Port { Side: PortSide.Destination } port:
                    if (port.Negated || !port.Ranges.Any(r => r.Contains(address.Port)))
                    {
                        return false;
                    }

                    break;
                case RuleMatch.Protocol { Negated: false } wanted when wanted.Value != protocol:
                    return false;
            }
        }

        return named;
    }

    private static ushort? PortOf(ImmutableArray<Rule>.Builder entries)
    {
        foreach (var entry in entries)
        {
            switch (entry.Target)
            {
                case RuleTarget.Redirect { Ports: { } ports }:
                    return ports.First;
                case RuleTarget.Dnat { Ports: { } ports }:
                    return ports.First;
            }
        }

        return null;
    }
}

/// <summary>One way in which packets for Services are translated.</summary>
/// <param name="Mode">kube-proxy's mode that it belongs to.</param>
/// <param name="Tool">The command that shows its rules, such as <c>iptables-legacy</c>, <c>nft</c> or <c>ipvsadm</c>.</param>
public sealed record ProxyInEffect(ProxyMode Mode, string Tool);

/// <summary>What kube-proxy's rules on a node do for one Service port.</summary>
public sealed record ServiceRules
{
    /// <summary>The address and port asked for.</summary>
    public required AddressPort Address { get; init; }

    /// <summary>The protocol asked for.</summary>
    public required IpProtocol Protocol { get; init; }

    /// <summary>
    /// The rules of the entry chains that are for it, in nftables the elements of the entry chain's maps, in IPVS the virtual server; empty when the
    /// Service port has none.
    /// </summary>
    public required ImmutableArray<Rule> Entries { get; init; }

    /// <summary>The chain that the entry leads to, such as <c>KUBE-SVC-…</c> or <c>service-…</c>; null in userspace mode and without an entry.</summary>
    public string? Chain { get; init; }

    /// <summary>The chain that kube-proxy would make for it, when no entry leads to one; null otherwise and when the Service's name was not given.</summary>
    public string? ChainExpected { get; init; }

    /// <summary>Whether the Service port's chain exists and has rules, even if no entry leads there.</summary>
    public bool ChainExists { get; init; }

    /// <summary>
    /// The rule of the filter table, in nftables the element of <c>no-endpoint-services</c> or <c>no-endpoint-nodeports</c>, in IPVS the virtual server without real
    /// servers, that rejects (or, for want of local endpoints, drops) it; null when there is none.
    /// </summary>
    public Rule? Reject { get; init; }

    /// <summary>
    /// Whether, in IPVS mode, the Service has a virtual server that no packet comes to, since its address is not the node's own: it is not on
    /// <see cref="ProxyRules.IpvsInterface"/>. False where the routes are not known.
    /// </summary>
    public bool IsAddressMissing { get; init; }

    /// <summary>In userspace mode the proxy's own port that the portal rule leads to; null otherwise.</summary>
    public ushort? RedirectPort { get; init; }

    /// <summary>What becomes of a packet to it, all rules of the node considered.</summary>
    public required WalkResult Walk { get; init; }

    /// <summary>Whether kube-proxy knows this Service port: it has an entry, or a rule that rejects it for want of endpoints.</summary>
    public bool Exist => !Entries.IsEmpty || Reject is not null;

    /// <summary>The backends that the rules lead to.</summary>
    public ImmutableArray<WalkBackend> Backends => Walk.Backends;
}
