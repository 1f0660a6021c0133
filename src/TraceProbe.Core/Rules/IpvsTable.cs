using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json.Serialization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// The virtual servers of IPVS in one network namespace, found for a packet as the kernel finds them (ip_vs_ctl.c, ip_vs_service_find). Never
/// changed once made.
/// </summary>
public sealed record IpvsTable
{
    // Where the kernel has IPVS look at packets (ip_vs_core.c, ip_vs_ops4): after the filters of what comes in, and right after the translation of
    // what the node itself sends.
    private static readonly BaseHook Incoming = new(Hook.Input, 99, false);
    private static readonly BaseHook Outgoing = new(Hook.Output, -98, false);

    private readonly Dictionary<(IpProtocol, AddressPort), VirtualServer> _byAddress = [];
    private readonly Dictionary<(uint, bool), VirtualServer> _byMark = [];
    private readonly ConditionalWeakTable<VirtualServer, Rule[]> _rules = [];

    /// <summary>Makes a table.</summary>
    /// <param name="servers">The virtual servers; of two alike the first counts.</param>
    public IpvsTable(ImmutableArray<VirtualServer> servers)
    {
        Servers = servers;
        foreach (var server in servers)
        {
            if (server.Mark != 0)
            {
                _byMark.TryAdd((server.Mark, server.IsIPv6), server);
            }
            else
            {
                _byAddress.TryAdd((server.Protocol, server.Address), server);
            }
        }
    }

    /// <summary>As <c>ipvsadm -Sn</c> prints it, which <see cref="IpvsadmSave"/> reads.</summary>
    public string ToText() => string.Concat(Servers.SelectMany(s => s.RealServers.Select(s.LineOf).Prepend(s.ToString())).Select(l => l + "\n"));

    /// <summary>The virtual servers in the order they were read.</summary>
    public ImmutableArray<VirtualServer> Servers { get; }

    /// <summary>
    /// Whether connection tracking knows the connections (<c>net.ipv4.vs.conntrack</c>, which kube-proxy sets to 1): without, no rule translates
    /// their source. Null when not known.
    /// </summary>
    public bool? IsTracked { get; init; }

    /// <summary>Its two hooks as base chains of a table <c>ipvs</c>, so that a walk meets them in their place.</summary>
    /// <param name="isIPv6">Whether for IPv6 packets.</param>
    public RuleSet AsRuleSet(bool isIPv6)
    {
        var chains = new Dictionary<string, RuleChain>(StringComparer.Ordinal);
        if (Servers.Any(s => s.IsIPv6 == isIPv6))
        {
            foreach (var hook in (BaseHook[])[Incoming, Outgoing])
            {
                var name = hook.Hook.ToString().ToUpperInvariant();
                chains.Add(name, new RuleChain(name, "ACCEPT", [new Rule("ipvs", name, 1, default, [], new RuleTarget.Schedule(this), null)]) { Hook = hook });
            }
        }

        var tables = ImmutableSortedDictionary<string, RuleTable>.Empty.WithComparers(StringComparer.Ordinal);
        return new RuleSet(RuleBackend.Ipvs, isIPv6, chains.Count == 0 ? tables : tables.Add("ipvs", new RuleTable("ipvs", chains))) { Ipvs = this };
    }

    /// <summary>
    /// A virtual server as the rule that it is in effect, or one of its real servers as what such a rule leads to; the same rule each time.
    /// </summary>
    /// <param name="server">The virtual server.</param>
    /// <param name="real">The position of a real server of it, from 0; null for itself.</param>
    public Rule RuleOf(VirtualServer server, int? real = null)
    {
        ArgumentNullException.ThrowIfNull(server);
        return _rules.GetValue(server, MakeRules)[real is { } position ? position + 1 : 0];
    }

    private static Rule[] MakeRules(VirtualServer server)
    {
        ImmutableArray<RuleMatch> matches = server.Mark != 0 ? [new RuleMatch.Mark(server.Mark, uint.MaxValue, false)] :
        [
            new RuleMatch.Destination(new IpNetwork(server.Address.Address, server.Address.Address.Width), false),
            new RuleMatch.Protocol(server.Protocol, false),
            .. server.Address.Port == 0 ? (RuleMatch[])[] : [new RuleMatch.Port(PortSide.Destination, [new PortRange(server.Address.Port, server.Address.Port)], false)],
        ];
        return
        [
            new Rule("ipvs", server.Option, 1, server.ToString().AsMemory(), matches, null, null),
            .. server.RealServers.Select((r, i) => new Rule("ipvs", server.Option, i + 2, server.LineOf(r).AsMemory(), matches,
                new RuleTarget.Dnat(r.Address.Address, r.Address.Address, r.Address.Port == 0 ? null : new PortRange(r.Address.Port, r.Address.Port)), null)),
        ];
    }

    /// <summary>
    /// The virtual server that takes a packet, or null: one for its mark first, then one for its address and port, then one for all ports of its
    /// address.
    /// </summary>
    /// <param name="protocol">The packet's protocol.</param>
    /// <param name="destination">Where it goes.</param>
    /// <param name="mark">Its mark.</param>
    public VirtualServer? Find(IpProtocol protocol, AddressPort destination, uint mark = 0)
        => mark != 0 && _byMark.TryGetValue((mark, !destination.Address.IsIPv4), out var found)
            || _byAddress.TryGetValue((protocol, destination), out found)
            || _byAddress.TryGetValue((protocol, destination with { Port = 0 }), out found) ? found : null;
}

/// <summary>A virtual server of IPVS: an address and port, or a mark, whose connections go to real servers.</summary>
public sealed record VirtualServer
{
    /// <summary>Its protocol; <see cref="IpProtocol.None"/> when it is for a mark.</summary>
    public IpProtocol Protocol { get; init; }

    /// <summary>Its address and port; port 0 takes every port. Of a mark's, an address that tells no more than the family.</summary>
    public AddressPort Address { get; init; }

    /// <summary>The mark of the packets it takes; 0 when it is for an address.</summary>
    public uint Mark { get; init; }

    /// <summary>How it chooses a real server: <c>rr</c>, <c>wrr</c>, <c>lc</c>, <c>sh</c>, …</summary>
    public required string Scheduler { get; init; }

    /// <summary>The scheduler's flags (<c>flag-1</c> to <c>flag-3</c>, or as ipvsadm names them: <c>sh-fallback</c>, <c>sh-port</c>, …); empty without.</summary>
    public ImmutableArray<string> SchedulerFlags { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>For how many seconds a client comes to the same real server again (session affinity); null when it need not.</summary>
    public int? PersistenceSeconds { get; init; }

    /// <summary>The prefix of clients that count as one for that; 32 or 128 for each its own.</summary>
    public int PersistencePrefix { get; init; }

    /// <summary>The persistence engine, such as <c>sip</c>; null without.</summary>
    public string? PersistenceEngine { get; init; }

    /// <summary>Whether each datagram is a connection of its own (<c>--ops</c>).</summary>
    public bool OnePacket { get; init; }

    /// <summary>Its real servers in order.</summary>
    public ImmutableArray<RealServer> RealServers { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether it takes IPv6 packets.</summary>
    [JsonIgnore]
    public bool IsIPv6 => !Address.Address.IsIPv4;

    /// <summary>What it is called by ipvsadm: <c>-t 10.96.0.1:443</c>, <c>-u …</c>, <c>--sctp-service …</c>, <c>-f 5</c>.</summary>
    [JsonIgnore]
    public string Option => Mark != 0 ? string.Create(CultureInfo.InvariantCulture, $"-f {Mark}{(IsIPv6 ? " -6" : "")}") : Protocol switch
    {
        IpProtocol.Udp => $"-u {Address}",
        IpProtocol.Sctp => $"--sctp-service {Address}",
        _ => $"-t {Address}",
    };

    /// <summary>As <c>ipvsadm -Sn</c> prints it, without its real servers.</summary>
    public override string ToString()
    {
        var text = $"-A {Option} -s {Scheduler}";
        if (PersistenceSeconds is { } seconds)
        {
            text += string.Create(CultureInfo.InvariantCulture, $" -p {seconds}");
            if (PersistencePrefix != Address.Address.Width)
            {
                text += IsIPv6 ? string.Create(CultureInfo.InvariantCulture, $" -M {PersistencePrefix}")
                    : $" -M {new IpNetwork(IpAddress.FromIPv4(uint.MaxValue), PersistencePrefix).Address}";
            }
        }

        return text + (PersistenceEngine is null ? "" : $" --pe {PersistenceEngine}") + (OnePacket ? " -o" : "") + (SchedulerFlags.IsEmpty ? "" : $" -b {string.Join(',', SchedulerFlags)}");
    }

    /// <summary>A real server of it as <c>ipvsadm -Sn</c> prints it.</summary>
    public string LineOf(RealServer server)
    {
        ArgumentNullException.ThrowIfNull(server);
        return string.Create(CultureInfo.InvariantCulture, $"-a {Option} -r {server.Address} {server.Forwarding switch { Forwarding.Masquerade => "-m", Forwarding.Tunnel => "-i", _ => "-g" }} -w {server.Weight}");
    }
}

/// <summary>A real server behind a <see cref="VirtualServer"/>.</summary>
/// <param name="Address">Its address and port.</param>
/// <param name="Forwarding">How packets are passed to it.</param>
/// <param name="Weight">Its share relative to the others; 0 takes no new connections.</param>
public sealed record RealServer(AddressPort Address, Forwarding Forwarding, int Weight);

/// <summary>How IPVS passes packets to a real server.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Forwarding>))]
public enum Forwarding
{
    /// <summary>Their destination is translated (<c>-m</c>); what kube-proxy uses.</summary>
    Masquerade,

    /// <summary>They are sent on as they are (<c>-g</c>): the real server has the address too.</summary>
    DirectRouting,

    /// <summary>They are wrapped into another packet (<c>-i</c>).</summary>
    Tunnel,
}
