using System.Globalization;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// What kube-proxy 1.33 wants in IPVS mode, for one node and one address family: virtual servers, their addresses on an interface
/// of the node, and iptables rules that masquerade and filter by ipsets. A pure function of the cluster's objects; follows
/// kubernetes, pkg/proxy/ipvs/proxier.go (syncProxyRules, writeIptablesRules) and ipset.go.
/// </summary>
internal sealed class IpvsRules
{
    private readonly KubeProxyOptions _options;
    private readonly bool _ipv6;
    private readonly List<IpSet> _sets = [];
    private readonly SortedDictionary<string, VirtualServer> _servers = new(StringComparer.Ordinal);
    private readonly SortedSet<IpAddress> _addresses = [];
    private readonly SortedSet<string> _closedToTheNode = new(StringComparer.Ordinal);
    private readonly RuleTable _filter = new("filter");
    private readonly RuleTable _nat = new("nat");

    // In the order that kube-proxy makes them (ipsetInfo).
    private readonly IpSet _loopBack;
    private readonly IpSet _clusterIP;
    private readonly IpSet _externalIP;
    private readonly IpSet _externalIPLocal;
    private readonly IpSet _loadBalancer;
    private readonly IpSet _loadBalancerFirewall;
    private readonly IpSet _loadBalancerLocal;
    private readonly IpSet _sourceIP;
    private readonly IpSet _sourceCidr;
    private readonly IpSet _nodePortTcp;
    private readonly IpSet _nodePortLocalTcp;
    private readonly IpSet _nodePortUdp;
    private readonly IpSet _nodePortLocalUdp;
    private readonly IpSet _nodePortSctp;
    private readonly IpSet _nodePortLocalSctp;
    private readonly IpSet _healthCheckNodePort;
    private readonly IpSet _bound;

    private IpvsRules(KubeProxyOptions options, bool ipv6)
    {
        _options = options;
        _ipv6 = ipv6;
        _loopBack = Set("KUBE-LOOP-BACK", "hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose");
        _clusterIP = Set("KUBE-CLUSTER-IP", "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose");
        _externalIP = Set("KUBE-EXTERNAL-IP", "hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose");
        _externalIPLocal = Set("KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port", "Kubernetes service external ip + port with externalTrafficPolicy=local");
        _loadBalancer = Set("KUBE-LOAD-BALANCER", "hash:ip,port", "Kubernetes service lb portal");
        _loadBalancerFirewall = Set("KUBE-LOAD-BALANCER-FW", "hash:ip,port", "Kubernetes service load balancer ip + port for load balancer with sourceRange");
        _loadBalancerLocal = Set("KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port", "Kubernetes service load balancer ip + port with externalTrafficPolicy=local");
        _sourceIP = Set("KUBE-LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip", "Kubernetes service load balancer ip + port + source IP for packet filter purpose");
        _sourceCidr = Set("KUBE-LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net", "Kubernetes service load balancer ip + port + source cidr for packet filter purpose");
        _nodePortTcp = Set("KUBE-NODE-PORT-TCP", "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose");
        _nodePortLocalTcp = Set("KUBE-NODE-PORT-LOCAL-TCP", "bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local");
        _nodePortUdp = Set("KUBE-NODE-PORT-UDP", "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose");
        _nodePortLocalUdp = Set("KUBE-NODE-PORT-LOCAL-UDP", "bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local");
        _nodePortSctp = Set("KUBE-NODE-PORT-SCTP-HASH", "hash:ip,port", "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'");
        _nodePortLocalSctp = Set("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port", "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'");
        _healthCheckNodePort = Set("KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port", "Kubernetes health check node port");
        _bound = Set("KUBE-IPVS-IPS", "hash:ip", "Addresses on the ipvs interface");
    }

    /// <summary>The ipsets, those without entries too.</summary>
    internal IReadOnlyList<IpSet> Sets => _sets;

    /// <summary>The virtual servers.</summary>
    internal IEnumerable<VirtualServer> Servers => _servers.Values;

    /// <summary>The addresses wanted on <c>kube-ipvs0</c>.</summary>
    internal IReadOnlyCollection<IpAddress> Addresses => _addresses;

    /// <summary>The iptables rules.</summary>
    internal IReadOnlyList<RuleTable> Tables => [_filter, _nat];

    /// <summary>All of it as kube-proxy would want it.</summary>
    internal static IpvsRules Write(ClusterSnapshot cluster, KubeProxyOptions options, bool ipv6)
    {
        var wanted = new IpvsRules(options, ipv6);
        foreach (var port in ProxiedPort.Of(cluster, options, ipv6))
        {
            wanted.WritePort(port);
        }

        wanted._bound.Entries.UnionWith(wanted._addresses.Select(a => a.ToString()));
        wanted.WriteRules();
        return wanted;
    }

    /// <summary>All of it as one text, to be compared.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append(Ipvs.ComposeSets(this, "")).Append(Ipvs.ComposeServers(this, [])).AppendJoin('\n', _addresses).Append('\n');
        return text.Append(Iptables.Compose(Tables, "")).ToString();
    }

    private IpSet Set(string name, string type, string comment)
    {
        if (_ipv6)
        {
            // Both families' sets are of one namespace, whose names have 31 characters at most; kube-proxy cuts what is longer.
            name = "KUBE-6-" + name[5..];
            name = name[..Math.Min(name.Length, 31)];
        }

        var set = new IpSet(name, type, _ipv6 ? "inet6" : "inet", comment);
        _sets.Add(set);
        return set;
    }

    private void WritePort(ProxiedPort port)
    {
        // Hairpin: a pod that reaches itself through the Service must not see its own address as the source.
        foreach (var backend in port.Endpoints.Where(b => b.Node == _options.NodeName))
        {
            _loopBack.Entries.Add($"{Entry(backend.Address, backend.Where.Port)},{backend.Address}");
        }

        _clusterIP.Entries.Add(Entry(port.ClusterIP, port.Number));
        WriteServer(port, port.ClusterIP, port.Number, port.InternalLocal);
        _addresses.Add(port.ClusterIP);

        foreach (var address in port.ExternalIPs)
        {
            (port.ExternalLocal ? _externalIPLocal : _externalIP).Entries.Add(Entry(address, port.Number));
            WriteOutside(port, address);
        }

        foreach (var address in port.LoadBalancerIPs)
        {
            var entry = Entry(address, port.Number);
            _loadBalancer.Entries.Add(entry);
            if (port.ExternalLocal)
            {
                _loadBalancerLocal.Entries.Add(entry);
            }

            if (!port.SourceRanges.IsEmpty)
            {
                _loadBalancerFirewall.Entries.Add(entry);
                // The kernel takes no network of length 0 into a set: kube-proxy logs so and goes on without it.
                _sourceCidr.Entries.UnionWith(port.SourceRanges.Where(r => r.PrefixLength > 0)
                    .Select(r => r.PrefixLength == r.Address.Width ? $"{entry},{r.Address}" : $"{entry},{r}"));
                if (port.AdmitsNode(_options))
                {
                    _sourceIP.Entries.Add($"{entry},{address}");
                }
                else
                {
                    // The node's own packets to this address, which is the node's too, have it as their source.
                    _closedToTheNode.Add(string.Create(CultureInfo.InvariantCulture,
                        $"-s {new IpNetwork(address, address.Width)} -m ipvs --vproto {ProtocolNumber(port.Protocol)} --vaddr {new IpNetwork(address, address.Width)} --vport {port.Number} -j DROP"));
                }
            }

            WriteOutside(port, address);
        }

        if (port.NodePort != 0)
        {
            WriteNodePort(port);
        }

        if (port.HealthCheckNodePort != 0)
        {
            _healthCheckNodePort.Entries.Add(Number(port.HealthCheckNodePort));
        }

        string Entry(IpAddress address, int number) => string.Create(CultureInfo.InvariantCulture, $"{address},{port.Protocol}:{number}");
    }

    private void WriteNodePort(ProxiedPort port)
    {
        var nodes = _options.LocalAddresses.Where(a => a.IsIPv4 != _ipv6).ToArray();
        var (all, local) = port.Protocol switch
        {
            "udp" => (_nodePortUdp, _nodePortLocalUdp),
            "sctp" => (_nodePortSctp, _nodePortLocalSctp),
            _ => (_nodePortTcp, _nodePortLocalTcp),
        };
        // A bitmap of ports knows no SCTP.
        var entries = port.Protocol == "sctp"
            ? nodes.Select(a => string.Create(CultureInfo.InvariantCulture, $"{a},sctp:{port.NodePort}"))
            : [Number(port.NodePort)];
        all.Entries.UnionWith(entries);
        if (port.ExternalLocal)
        {
            local.Entries.UnionWith(entries);
        }

        foreach (var address in nodes)
        {
            WriteServer(port, address, port.NodePort, port.ExternalLocal);
        }
    }

    private void WriteOutside(ProxiedPort port, IpAddress address)
    {
        WriteServer(port, address, port.Number, port.ExternalLocal);
        // An address that the node has otherwise is local already.
        if (!_options.LocalAddresses.Contains(address))
        {
            _addresses.Add(address);
        }
    }

    // syncEndpoint.
    private void WriteServer(ProxiedPort port, IpAddress address, int number, bool onlyLocal)
    {
        // With policy Local and no endpoint here, pods of this node still get to the others' endpoints.
        var backends = onlyLocal && !port.Local.IsEmpty ? port.Local : port.Cluster;
        var server = new VirtualServer(port.Protocol, new AddressPort(address, (ushort)number), port.AffinitySeconds, [.. backends.Select(b => new RealServer(b.Where))]);
        _servers[server.Key] = server;
    }

    private void WriteRules()
    {
        var mark = string.Create(CultureInfo.InvariantCulture, $"0x{1u << _options.MasqueradeBit:x}");
        _nat.Chains.AddRange(["KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-SERVICES"]);
        _nat.Jumps.AddRange(
        [
            "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
        ]);
        _filter.Chains.AddRange(["KUBE-FORWARD", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-NODE-PORT", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL"]);
        _filter.Jumps.AddRange(
        [
            "-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER",
            "-A INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL",
            "-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT",
            "-A FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL",
            "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
            "-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER",
        ]);

        _nat.Add("KUBE-SERVICES", $"-s {(_ipv6 ? "::1/128" : "127.0.0.0/8")} -j RETURN");
        AskFilled(_nat, "KUBE-POSTROUTING", _loopBack, "dst,dst,src", "MASQUERADE");
        AskFilled(_nat, "KUBE-SERVICES", _loadBalancer, "dst,dst", "KUBE-LOAD-BALANCER");
        AskFilled(_nat, "KUBE-LOAD-BALANCER", _loadBalancerLocal, "dst,dst", "RETURN");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortLocalTcp, "dst", "RETURN", "-p tcp ");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortTcp, "dst", "KUBE-MARK-MASQ", "-p tcp ");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortLocalUdp, "dst", "RETURN", "-p udp ");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortUdp, "dst", "KUBE-MARK-MASQ", "-p udp ");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortLocalSctp, "dst,dst", "RETURN", "-p sctp ");
        AskFilled(_nat, "KUBE-NODE-PORT", _nodePortSctp, "dst,dst", "KUBE-MARK-MASQ", "-p sctp ");
        AskFilled(_filter, "KUBE-PROXY-FIREWALL", _loadBalancerFirewall, "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL");
        AskFilled(_filter, "KUBE-SOURCE-RANGES-FIREWALL", _sourceCidr, "dst,dst,src", "RETURN");
        AskFilled(_filter, "KUBE-SOURCE-RANGES-FIREWALL", _sourceIP, "dst,dst,src", "RETURN");

        // Without a pods' prefix it is the node's own packets that are masqueraded, which have a Service's address as their source.
        if (_options.ClusterCidr(_ipv6) is { } cidr)
        {
            AskFilled(_nat, "KUBE-SERVICES", _clusterIP, "dst,dst", "KUBE-MARK-MASQ", $"! -s {cidr} ");
        }
        else
        {
            AskFilled(_nat, "KUBE-SERVICES", _clusterIP, "src,dst", "KUBE-MARK-MASQ");
        }

        AskFilled(_nat, "KUBE-SERVICES", _externalIP, "dst,dst", "KUBE-MARK-MASQ");
        foreach (var set in (IpSet[])[_externalIP, _externalIPLocal])
        {
            // What comes from outside the machine, and what the machine itself is meant by.
            AskFilled(_nat, "KUBE-SERVICES", set, "dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL", "ACCEPT");
            AskFilled(_nat, "KUBE-SERVICES", set, "dst,dst -m addrtype --dst-type LOCAL", "ACCEPT");
        }

        _nat.Add("KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT");
        _nat.Add("KUBE-LOAD-BALANCER", "-j KUBE-MARK-MASQ");
        _filter.Add("KUBE-SOURCE-RANGES-FIREWALL", "-j DROP");
        foreach (var rule in _closedToTheNode)
        {
            _filter.Add("KUBE-IPVS-OUT-FILTER", rule);
        }

        foreach (var set in (IpSet[])[_clusterIP, _loadBalancer])
        {
            if (set.Entries.Count > 0)
            {
                _nat.Add("KUBE-SERVICES", $"-m set --match-set {set.Name} dst,dst -j ACCEPT");
            }
        }

        _filter.Add("KUBE-FORWARD", $"-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT");
        _filter.Add("KUBE-FORWARD", "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        _filter.Add("KUBE-NODE-PORT", $"{Asks(_healthCheckNodePort, "dst")} -j ACCEPT");

        // The addresses on kube-ipvs0 are the node's; nothing but Services is to be reached by them.
        foreach (var set in (IpSet[])[_loadBalancer, _clusterIP, _externalIP, _externalIPLocal])
        {
            _filter.Add("KUBE-IPVS-FILTER", $"-m set --match-set {set.Name} dst,dst -j RETURN");
        }

        _filter.Add("KUBE-IPVS-FILTER", $"-m set --match-set {_healthCheckNodePort.Name} dst -j RETURN");
        _filter.Add("KUBE-IPVS-FILTER", $"-m conntrack --ctstate NEW -m set --match-set {_bound.Name} dst -j REJECT --reject-with {(_ipv6 ? "icmp6-port-unreachable" : "icmp-port-unreachable")}");

        _nat.Add("KUBE-POSTROUTING", $"-m mark ! --mark {mark}/{mark} -j RETURN");
        _nat.Add("KUBE-POSTROUTING", $"-j MARK --set-xmark {mark}/0x0");
        _nat.Add("KUBE-POSTROUTING", "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully");
        _nat.Add("KUBE-MARK-MASQ", $"-j MARK --set-xmark {mark}/{mark}");
    }

    // ipsetWithIptablesChain: a set with nothing in it is not asked.
    private static void AskFilled(RuleTable table, string chain, IpSet set, string how, string target, string first = "")
    {
        if (set.Entries.Count > 0)
        {
            table.Add(chain, $"{first}{Asks(set, how)} -j {target}");
        }
    }

    private static string Asks(IpSet set, string how) => $"-m comment --comment \"{set.Comment}\" -m set --match-set {set.Name} {how}";

    private static string Number(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static int ProtocolNumber(string protocol) => protocol switch { "udp" => 17, "sctp" => 132, _ => 6 };
}
