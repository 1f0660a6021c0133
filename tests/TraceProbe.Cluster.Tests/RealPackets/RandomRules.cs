using System.Text;

namespace TraceProbe.Cluster.Tests.RealPackets;

/// <summary>
/// Rules that nobody would write, in the words of <c>nft -f</c> or <c>iptables-restore</c>, about the addresses of a <see cref="PacketLab"/>. They let through
/// what answers: otherwise a rejection could be dropped on its way and look like a drop.
/// </summary>
internal sealed class RandomRules(Random random, bool isIPv6)
{
    private static readonly string[] Marks = ["0x1", "0x2", "0x10", "0x4000"];

    private string? _transport;
    private bool _isInet;

    private string Ip => isIPv6 ? "ip6" : "ip";

    private string[] Services => isIPv6 ? ["fd96::1", "fd96::2", "fd96::3"] : ["10.96.0.1", "10.96.0.2", "10.96.0.3"];

    private string[] Backends => isIPv6 ? ["fd02:1::1", "fd02:1::2", "fd02:1::3", "fd02:1::4"] : ["10.2.1.1", "10.2.1.2", "10.2.1.3", "10.2.1.4"];

    private string[] Clients => isIPv6 ? ["fd01::2", "fd01::3", "fd01::4"] : ["10.1.0.2", "10.1.0.3", "10.1.0.4"];

    private string NodeAddress => isIPv6 ? "fd02::254" : "10.2.0.254";

    private string ServicePrefix => isIPv6 ? "fd96::/16" : "10.96.0.0/16";

    private string ClientPrefix => isIPv6 ? "fd01::/64" : "10.1.0.0/24";

    /// <summary>An address that a packet may be sent to.</summary>
    public string Destination() => random.Next(10) switch
    {
        < 6 => One(Services),
        < 8 => One(Backends),
        8 => NodeAddress,
        _ => isIPv6 ? "fd01::1" : "10.1.0.1",
    };

    /// <summary>An address that the client sends from.</summary>
    public string Source() => One(Clients);

    public ushort Port() => PacketLab.Ports[random.Next(PacketLab.Ports.Length)];

    private string One(params ReadOnlySpan<string> choices) => choices[random.Next(choices.Length)];

    private bool Chance(double share) => random.NextDouble() < share;

    // ---- nft

    /// <summary>One or two tables for <c>nft -f</c>.</summary>
    public string Nftables()
    {
        var text = new StringBuilder();
        var tables = random.Next(4) == 0 ? 2 : 1;
        for (var i = 0; i < tables; i++)
        {
            _isInet = Chance(0.3);
            text.AppendLine($"table {(_isInet ? "inet" : Ip)} t{i} {{");
            NftSets(text);
            foreach (var kind in new[] { "filter", "prenat", "postnat" })
            {
                for (var n = 0; n < 2; n++)
                {
                    Chain(text, $"{kind}{n}", "", NftRules(kind, null, n, random.Next(1, 4)));
                }
            }

            var bases = 0;
            foreach (var hook in new[] { "prerouting", "input", "forward", "output", "postrouting" })
            {
                for (var n = random.Next(hook is "forward" or "prerouting" ? 3 : 2); n > 0; n--)
                {
                    var priority = One("-300", "-150", "-50", "0", "5", "10", "150");
                    var policy = Chance(0.1) ? "drop" : "accept";
                    Chain(text, $"base{bases++}", $"type filter hook {hook} priority {priority}; policy {policy};",
                        [$"meta l4proto {{ icmp, ipv6-icmp }} accept", "tcp flags rst,ack accept", .. NftRules("filter", hook, -1, random.Next(1, 5))]);
                }

                if (hook is "prerouting" or "output" or "postrouting" && Chance(0.75))
                {
                    var kind = hook == "postrouting" ? "postnat" : "prenat";
                    Chain(text, $"base{bases++}", $"type nat hook {hook} priority {(kind == "postnat" ? One("100", "90") : One("-100", "-90", "-110"))}; policy accept;",
                        NftRules(kind, hook, -1, random.Next(1, 5)));
                }
            }

            text.AppendLine("}");
        }

        return text.ToString();
    }

    private static void Chain(StringBuilder text, string name, string head, IEnumerable<string> rules)
    {
        text.AppendLine($"  chain {name} {{");
        if (head.Length > 0)
        {
            text.AppendLine($"    {head}");
        }

        foreach (var rule in rules)
        {
            text.AppendLine($"    {rule}");
        }

        text.AppendLine("  }");
    }

    private void NftSets(StringBuilder text)
    {
        var type = isIPv6 ? "ipv6_addr" : "ipv4_addr";
        string Elements(int count, Func<string> element) => string.Join(", ", Enumerable.Range(0, count).Select(_ => element()).DistinctBy(e => e.Split(" : ")[0]));
        text.AppendLine($"  set some {{ type {type}; elements = {{ {Elements(3, () => Chance(0.5) ? One(Services) : One(Backends))} }}; }}");
        text.AppendLine($"  set wide {{ type {type}; flags interval; elements = {{ {One(ServicePrefix, $"{Services[0]}-{Services[1]}")}, {One(ClientPrefix, Clients[0])}, {One(Backends)} }}; }}");
        text.AppendLine($"  set ports {{ type inet_service; flags interval; elements = {{ {One("53", "80-100")}, {One("8080", "8000-9000")} }}; }}");
        text.AppendLine($"  map verdicts {{ type {type} . inet_proto . inet_service : verdict; elements = {{ {Elements(6, () => $"{One(One(Services), One(Backends))} . {One("tcp", "udp")} . {Port()} : {One("drop", "accept", "return", "goto filter1", "jump filter0", "continue")}")} }}; }}");
        text.AppendLine($"  map services {{ type {type} . inet_proto . inet_service : verdict; elements = {{ {Elements(8, () => $"{One(Services)} . {One("tcp", "udp")} . {Port()} : {One("goto prenat0", "goto prenat1", "jump prenat1")}")} }}; }}");
        text.AppendLine($"  map ends {{ type {type} : {type} . inet_service; elements = {{ {Elements(3, () => $"{One(Services)} : {One(Backends)} . {Port()}")} }}; }}");
    }

    // Chains lead only to those with higher numbers, so that none comes back to itself.
    private IEnumerable<string> NftRules(string kind, string? hook, int level, int count)
    {
        for (var i = 0; i < count; i++)
        {
            _transport = null;
            var matches = Enumerable.Range(0, random.Next(3)).Select(_ => NftMatch(hook)).ToList();
            var statement = NftStatement(kind, hook, level);
            if (Chance(0.1))
            {
                matches.Insert(0, One("counter", $"meta mark set {One(Marks)}", $"meta mark set meta mark | {One(Marks)}"));
            }

            yield return string.Join(' ', [.. matches, statement]).Trim();
        }
    }

    // nft refuses a rule that asks for two protocols.
    private string Of(string transport, string words)
    {
        _transport ??= transport;
        return _transport == transport ? words : "counter";
    }

    private string NftMatch(string? hook)
    {
        var not = Chance(0.2) ? "!= " : "";
        switch (random.Next(15))
        {
            case 0:
                return $"{Ip} saddr {not}{One(One(Clients), ClientPrefix, $"{Clients[0]}-{Clients[1]}", $"{{ {Clients[0]}, {Clients[2]} }}")}";
            case 1 or 2:
                return $"{Ip} daddr {not}{One(One(Services), One(Backends), ServicePrefix, $"{Services[0]}-{Services[1]}", $"{{ {Services[0]}, {Backends[0]}-{Backends[1]} }}")}";
            case 3:
                return $"{Ip} daddr {not}@{One("some", "wide")}";
            case 4:
                return not.Length > 0 ? "meta l4proto != tcp" : Chance(0.5) ? Of("tcp", "meta l4proto tcp") : Of("udp", "meta l4proto udp");
            case 5:
                return random.Next(6) switch
                {
                    0 => Of("tcp", $"tcp dport {not}{Port()}"),
                    1 => Of("udp", $"udp dport {not}{{ 53, {One("80", "8080")} }}"),
                    2 => Of("udp", $"udp dport {not}53-80"),
                    3 => Of("tcp", $"tcp sport {not}1024-30000"),
                    4 => $"th dport {not}@ports",
                    _ => "th dport > 100",
                };
            case 6:
                return hook is "output" or "postrouting" ? $"oifname {not}{One("\"out\"", "\"lo\"", "\"o*\"")}" : hook is "prerouting" or "input" or "forward" ? $"iifname {not}{One("\"in\"", "\"lo\"", "\"i*\"", "{ \"in\", \"lo\" }")}" : "counter";
            case 7:
                return One($"meta mark {not}{One(Marks)}", $"meta mark & {One("0xff", "0x4000", "0x3")} {One("==", "!=")} {One("0x0", "0x1", "0x10")}", $"meta mark {not}{{ 0x1, 0x4000 }}", $"ct mark {not}0x1");
            case 8:
                return One("ct state new", "ct state established,related", "ct state invalid", "ct state != new", "ct state { new, untracked }", "ct status dnat", "ct direction original", "ct status snat");
            case 9:
                return $"ct original {Ip} daddr {not}{One(Services)}";
            case 10:
                return $"fib {One("saddr", "daddr")} type {not}local";
            case 11:
                return Of("tcp", One("tcp flags syn / fin,syn,rst,ack", "tcp flags != syn / syn,ack", "tcp flags syn", "tcp flags ack,rst"));
            case 12:
                return Chance(0.5) ? "numgen random mod 4 < 2" : "numgen inc mod 3 != 1";
            case 13:
                return $"{Ip} saddr . {Ip} daddr {not}{{ {Clients[0]} . {Services[0]}, {One(Clients)} . {Backends[0]}-{Backends[2]} }}";
            default:
                return $"meta l4proto . th dport {not}{{ tcp . 80, udp . {One("53", "8000-8090")} }}";
        }
    }

    private string NftStatement(string kind, string? hook, int level)
    {
        switch (random.Next(10))
        {
            case 0 when level < 1:
                return $"{One("jump", "goto")} {kind}{level + 1}";
            case 1:
                return One("return", "continue", "counter", "accept", "");
            case 2:
                return One($"meta mark set {One(Marks)}", $"meta mark set meta mark | {One(Marks)}", "meta mark set meta mark & 0xff", $"meta mark set meta mark ^ {One(Marks)}", "ct mark set 0x1", "ct mark set meta mark", "meta mark set ct mark",
                    $"meta mark set {Ip} daddr map {{ {Services[0]} : 0x1, {Services[1]} : 0x10 }}");
        }

        switch (kind)
        {
            case "prenat":
                return random.Next(8) switch
                {
                    < 2 => $"dnat {Ip} to {One(Backends)}",
                    2 => $"meta l4proto {{ tcp, udp }} dnat {Ip} to {To(One(Backends), Port())}",
                    3 => $"meta l4proto {{ tcp, udp }} dnat {Ip} to numgen random mod 3 map {{ 0 : {One(Backends)} . {Port()}, 1 : {One(Backends)} . {Port()}, 2 : {One(Backends)} . {Port()} }}",
                    4 when level < 0 => $"{Ip} daddr . meta l4proto . th dport vmap @services",
                    5 => $"meta l4proto {{ tcp, udp }} redirect to :{Port()}",
                    6 => $"meta l4proto {{ tcp, udp }} dnat {Ip} to {Ip} daddr map @ends",
                    _ => $"dnat {Ip} to {Backends[0]}-{Backends[2]}",
                };
            case "postnat":
                return One("masquerade", "masquerade fully-random", $"snat {Ip} to {(isIPv6 ? "fd02::77" : "10.2.0.77")}");
        }

        return random.Next(8) switch
        {
            0 => "accept",
            1 => "drop",
            2 when hook is "input" or "forward" or "output" => random.Next(4) switch
            {
                0 => "reject",
                1 => Of("tcp", "meta l4proto tcp reject with tcp reset"),
                2 when _isInet => "reject with icmpx type admin-prohibited",
                _ => isIPv6 ? "reject with icmpv6 type addr-unreachable" : "reject with icmp type host-unreachable",
            },
            3 when level < 0 => $"{Ip} daddr . meta l4proto . th dport vmap @verdicts",
            4 => $"th dport vmap {{ 53 : {One("accept", "return", "drop")}, 80-100 : {One("continue", "accept")} }}",
            5 when level < 0 => $"numgen random mod 2 vmap {{ 0 : {One("jump", "goto")} filter0, 1 : jump filter1 }}",
            6 when hook == "prerouting" && Chance(0.3) => "notrack",
            7 when hook is "prerouting" or "input" or "forward" => $"iifname vmap {{ \"in\" : {One("jump filter1", "accept", "continue")}, \"lo\" : accept }}",
            _ => "counter",
        };
    }

    private static string To(string address, ushort port) => address.Contains(':') ? $"[{address}]:{port}" : $"{address}:{port}";

    // ---- iptables

    /// <summary>Tables for <c>iptables-restore</c> or <c>ip6tables-restore</c>.</summary>
    public string Iptables()
    {
        var text = new StringBuilder();
        foreach (var (table, hooks) in new[] { ("raw", "PREROUTING OUTPUT"), ("mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING"), ("nat", "PREROUTING OUTPUT POSTROUTING"), ("filter", "INPUT FORWARD OUTPUT") })
        {
            if (table is "raw" or "mangle" && Chance(0.5))
            {
                continue;
            }

            text.AppendLine($"*{table}");
            foreach (var hook in hooks.Split(' '))
            {
                text.AppendLine($":{hook} {(table == "filter" && Chance(0.1) ? "DROP" : "ACCEPT")} [0:0]");
            }

            text.AppendLine(table == "nat" ? ":TO0 - [0:0]\n:TO1 - [0:0]\n:FROM0 - [0:0]\n:FROM1 - [0:0]" : ":SUB0 - [0:0]\n:SUB1 - [0:0]");
            foreach (var hook in hooks.Split(' '))
            {
                if (table != "nat")
                {
                    text.AppendLine($"-A {hook} -p {(isIPv6 ? "ipv6-icmp" : "icmp")} -j ACCEPT\n-A {hook} -p tcp -m tcp --tcp-flags RST RST -j ACCEPT\n-A {hook} -p tcp -m tcp --tcp-flags ACK ACK -j ACCEPT");
                }

                for (var n = random.Next(5); n > 0; n--)
                {
                    text.AppendLine(IptablesRule(table, hook, hook, -1));
                }
            }

            foreach (var chain in table == "nat" ? new[] { "TO0", "TO1", "FROM0", "FROM1" } : ["SUB0", "SUB1"])
            {
                for (var n = random.Next(1, 4); n > 0; n--)
                {
                    text.AppendLine(IptablesRule(table, chain, chain[0] == 'T' ? "TO" : chain[0] == 'F' && table == "nat" ? "POSTROUTING" : "", chain[^1] - '0'));
                }
            }

            text.AppendLine("COMMIT");
        }

        return text.ToString();
    }

    private string IptablesRule(string table, string chain, string hook, int level)
    {
        var parts = new List<string> { $"-A {chain}" };
        var protocol = Chance(0.5) ? One("tcp", "udp") : null;
        if (protocol is not null)
        {
            parts.Add($"-p {protocol} -m {protocol}");
            parts.Add(random.Next(4) switch
            {
                0 => $"{Not()}--dport {Port()}",
                1 => $"--dport {One("53:80", "8000:9000")}",
                2 when protocol == "tcp" => "--tcp-flags FIN,SYN,RST,ACK SYN",
                _ => "",
            });
        }

        for (var n = random.Next(3); n > 0; n--)
        {
            parts.Add(random.Next(10) switch
            {
                0 => $"{Not()}-s {One(One(Clients), ClientPrefix)}",
                1 or 2 => $"{Not()}-d {One(One(Services), One(Backends), ServicePrefix)}",
                3 => $"-m mark {Not()}--mark {One("0x1", "0x4000/0x4000", "0x0/0xff")}",
                4 => $"-m conntrack {Not()}--ctstate {One("NEW", "ESTABLISHED,RELATED", "INVALID", "DNAT")}",
                5 => $"-m conntrack --ctorigdst {One(Services)}",
                6 => $"-m addrtype {Not()}--dst-type LOCAL",
                7 => $"-m statistic --mode random --probability {One("0.5", "0.25")}",
                8 => $"-m iprange {Not()}--dst-range {Services[0]}-{Services[1]}",
                _ => hook is "OUTPUT" or "POSTROUTING" ? $"{Not()}-o {One("out", "lo", "o+")}" : hook is "PREROUTING" or "INPUT" or "FORWARD" ? $"{Not()}-i {One("in", "lo", "i+")}" : "",
            });
        }

        // Each of these can stand in a rule once.
        parts = [.. parts.DistinctBy(p => p.Replace("! ", "", StringComparison.Ordinal) is var plain && plain.StartsWith("-m", StringComparison.Ordinal) ? string.Join(' ', plain.Split(' ').Take(2)) : plain.Split(' ')[0])];
        parts.Add(IptablesTarget(table, hook, level, protocol));
        return string.Join(' ', parts.Where(p => p.Length > 0));
    }

    private string Not() => Chance(0.2) ? "! " : "";

    private string IptablesTarget(string table, string hook, int level, string? protocol)
    {
        var isTranslation = table == "nat";
        var isSource = hook == "POSTROUTING";
        var next = isTranslation ? isSource ? "FROM" : "TO" : "SUB";
        switch (random.Next(8))
        {
            case 0 when level < 1:
                return $"-{One("j", "g")} {next}{level + 1}";
            case 1:
                return $"-j {One("RETURN", "ACCEPT")}";
            case 2 when table == "mangle":
                return $"-j {One("MARK --set-xmark 0x1/0xffffffff", "MARK --set-xmark 0x4000/0x4000", "CONNMARK --save-mark", "CONNMARK --restore-mark")}";
            case 3 when table == "raw":
                return "-j CT --notrack";
        }

        if (isTranslation)
        {
            return isSource ? $"-j {One("MASQUERADE", "MASQUERADE --random-fully", $"SNAT --to-source {(isIPv6 ? "fd02::77" : "10.2.0.77")}")}"
                : protocol is null ? $"-j DNAT --to-destination {One(One(Backends), $"{Backends[0]}-{Backends[2]}")}"
                : One($"-j DNAT --to-destination {To(One(Backends), Port())}", $"-j REDIRECT --to-ports {Port()}");
        }

        return table == "filter" && Chance(0.4)
            ? $"-j REJECT --reject-with {(protocol == "tcp" && Chance(0.4) ? "tcp-reset" : isIPv6 ? One("icmp6-port-unreachable", "icmp6-addr-unreachable") : One("icmp-port-unreachable", "icmp-host-prohibited"))}"
            : $"-j {One("DROP", "ACCEPT", "RETURN")}";
    }
}
