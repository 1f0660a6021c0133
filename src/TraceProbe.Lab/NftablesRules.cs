using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// Writes the table that kube-proxy 1.36 writes in nftables mode, for one node and one address family: a pure function of the
/// cluster's objects. Follows kubernetes, pkg/proxy/nftables/proxier.go (setupNFTables and syncProxyRules); held against the output
/// of the real one by a test.
/// </summary>
internal sealed class NftablesRules
{
    private readonly KubeProxyOptions _options;
    private readonly bool _ipv6;
    // "ip" or "ip6", the word before saddr and daddr.
    private readonly string _ip;
    private readonly IpNetwork? _clusterCidr;
    private readonly string _setMark;
    private readonly NftTable _table;
    private readonly NftSet _hairpin;
    private readonly NftSet _clusterIPs;
    private readonly NftSet _noEndpointServices;
    private readonly NftSet _noEndpointNodePorts;
    private readonly NftSet _firewallIPs;
    private readonly NftSet _serviceIPs;
    private readonly NftSet _serviceNodePorts;

    private NftablesRules(KubeProxyOptions options, bool ipv6)
    {
        _options = options;
        _ipv6 = ipv6;
        _ip = ipv6 ? "ip6" : "ip";
        _clusterCidr = options.ClusterCidr(ipv6);
        var mark = string.Create(CultureInfo.InvariantCulture, $"0x{1u << options.MasqueradeBit:x8}");
        _setMark = $"meta mark set meta mark | {mark}";
        _table = new NftTable(_ip, "kube-proxy", "rules for kube-proxy");

        var address = ipv6 ? "ipv6_addr" : "ipv4_addr";
        var service = $"{address} . inet_proto . inet_service";
        _hairpin = _table.Add(new NftSet("set", "hairpin-connections", $"{address} . {service}", "service hairpin connections"));
        _clusterIPs = _table.Add(new NftSet("set", "cluster-ips", address, "Active ClusterIPs"));
        var nodePortIPs = _table.Add(new NftSet("set", "nodeport-ips", address, "IPs that accept NodePort traffic"));
        foreach (var own in options.NodeAddresses.Where(a => a.IsIPv4 != ipv6))
        {
            nodePortIPs.Add(own.ToString());
        }

        _noEndpointServices = _table.Add(new NftSet("map", "no-endpoint-services", $"{service} : verdict", "vmap to drop or reject packets to services with no endpoints"));
        _noEndpointNodePorts = _table.Add(new NftSet("map", "no-endpoint-nodeports", "inet_proto . inet_service : verdict", "vmap to drop or reject packets to service nodeports with no endpoints"));
        _firewallIPs = _table.Add(new NftSet("map", "firewall-ips", $"{service} : verdict", "destinations that are subject to LoadBalancerSourceRanges"));
        _serviceIPs = _table.Add(new NftSet("map", "service-ips", $"{service} : verdict", "ClusterIP, ExternalIP and LoadBalancer IP traffic"));
        _serviceNodePorts = _table.Add(new NftSet("map", "service-nodeports", "inet_proto . inet_service : verdict", "NodePort traffic"));
        WriteFrame(mark);
    }

    /// <summary>The table as kube-proxy would want it.</summary>
    internal static NftTable Write(ClusterSnapshot cluster, KubeProxyOptions options, bool ipv6)
    {
        var writer = new NftablesRules(options, ipv6);
        foreach (var port in ProxiedPort.Of(cluster, options, ipv6))
        {
            writer.WritePort(port);
        }

        return writer._table;
    }

    // What stands whatever the Services are.
    private void WriteFrame(string mark)
    {
        const string New = "ct state new jump ";
        _table.Chain("filter-prerouting-pre-dnat", "type filter hook prerouting priority dstnat - 10; policy accept;", $"{New}firewall-check");
        _table.Chain("filter-output-pre-dnat", "type filter hook output priority -110; policy accept;", $"{New}firewall-check");
        _table.Chain("filter-input", "type filter hook input priority filter; policy accept;", $"{New}nodeport-endpoints-check", $"{New}service-endpoints-check");
        _table.Chain("filter-forward", "type filter hook forward priority filter; policy accept;", $"{New}service-endpoints-check", $"{New}cluster-ips-check");
        _table.Chain("filter-output", "type filter hook output priority filter; policy accept;", $"{New}service-endpoints-check", $"{New}cluster-ips-check");
        _table.Chain("nat-prerouting", "type nat hook prerouting priority dstnat; policy accept;", "jump services");
        _table.Chain("nat-output", "type nat hook output priority -100; policy accept;", "jump services");
        _table.Chain("nat-postrouting", "type nat hook postrouting priority srcnat; policy accept;", "jump masquerading");

        var destination = $"{_ip} daddr . meta l4proto . th dport";
        var nodePort = $"{_ip} daddr @nodeport-ips meta l4proto . th dport";
        _table.Chain("nodeport-endpoints-check", null, $"{nodePort} vmap @no-endpoint-nodeports");
        _table.Chain("service-endpoints-check", null, $"{destination} vmap @no-endpoint-services");
        _table.Chain("firewall-check", null, $"{destination} vmap @firewall-ips");

        var services = _table.Chain("services", null);
        if (_clusterCidr is { } cidr)
        {
            services.Rules.Add($"{_ip} daddr @cluster-ips {_ip} saddr != {cidr} {_setMark} comment \"masquerade clusterIP traffic from outside cluster\"");
        }

        services.Rules.Add($"{destination} vmap @service-ips");
        services.Rules.Add($"{nodePort} vmap @service-nodeports");

        _table.Chain("masquerading", null,
            $"meta mark & {mark} != 0x00000000 meta mark set meta mark ^ {mark} masquerade fully-random",
            // Hairpin: a pod that reaches itself through the Service must not see its own address as the source.
            $"ct status dnat {_ip} saddr . {_ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random");

        var check = _table.Chain("cluster-ips-check", null, $"{_ip} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"");
        if (_options.ServiceCidrs.Where(c => c.Address.IsIPv4 != _ipv6).ToArray() is { Length: > 0 } serviceCidrs)
        {
            check.Rules.Add($"{_ip} daddr {AnyOf(serviceCidrs)} drop comment \"Drop traffic to unallocated ClusterIPs\"");
        }

        _table.Chain("reject-chain", "comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"", "reject");
    }

    private void WritePort(ProxiedPort port)
    {
        string Chain(string kind) => ChainName.InNftables(kind, port);
        var (service, local, external) = (Chain("service-"), Chain("local-"), Chain("external-"));

        // No endpoint anywhere: say so at once. None on this node only: drop, as another node may well have one.
        var lack = $"comment \"{port.Name}\" : {(port.HasAny ? "drop" : "goto reject-chain")}";
        string To(IpAddress address) => string.Create(CultureInfo.InvariantCulture, $"{address} . {port.Protocol} . {port.Number}");

        _clusterIPs.Add(port.ClusterIP.ToString());
        if (port.HasInternal)
        {
            _serviceIPs.Add($"{To(port.ClusterIP)} : goto {(port.InternalLocal ? local : service)}");
        }
        else
        {
            _noEndpointServices.Add($"{To(port.ClusterIP)} {lack}");
        }

        foreach (var address in port.ExternalIPs.Concat(port.LoadBalancerIPs))
        {
            if (port.HasAny)
            {
                _serviceIPs.Add($"{To(address)} : goto {external}");
            }

            if (!port.HasExternal)
            {
                _noEndpointServices.Add($"{To(address)} {lack}");
            }
        }

        if (port.LoadBalancerIPs.Length > 0 && port.SourceRanges.Length > 0)
        {
            var firewall = Chain("firewall-");
            foreach (var address in port.LoadBalancerIPs)
            {
                _firewallIPs.Add($"{To(address)} : goto {firewall}");
            }

            _table.Chain(firewall, null, $"{_ip} saddr != {AnyOf(port.Admitted(_options))} drop");
        }

        if (port.NodePort != 0)
        {
            var to = string.Create(CultureInfo.InvariantCulture, $"{port.Protocol} . {port.NodePort}");
            if (port.HasAny)
            {
                _serviceNodePorts.Add($"{to} : goto {external}");
            }

            if (!port.HasExternal)
            {
                _noEndpointNodePorts.Add($"{to} {lack}");
            }
        }

        foreach (var backend in port.Reachable.Where(b => b.Node == _options.NodeName))
        {
            _hairpin.Add(string.Create(CultureInfo.InvariantCulture, $"{backend.Address} . {backend.Address} . {port.Protocol} . {backend.Where.Port}"));
        }

        if (port.AffinitySeconds is { } seconds)
        {
            foreach (var backend in port.Reachable)
            {
                WriteAffinity(port, backend, seconds);
            }
        }

        if (!port.Cluster.IsEmpty)
        {
            WriteBalancing(port, service, port.Cluster);
        }

        if (!port.Local.IsEmpty)
        {
            WriteBalancing(port, local, port.Local);
        }

        if (port.HasAny && port.ExternallyAccessible)
        {
            WriteExternal(port, external, service, local);
        }
    }

    private void WriteAffinity(ProxiedPort port, Backend backend, int seconds)
    {
        var affinity = ChainName.InNftables("affinity-", port, backend);
        _table.Add(new NftSet("set", affinity, _ipv6 ? "ipv6_addr" : "ipv4_addr", null, seconds));
        _table.Chain(ChainName.InNftables("endpoint-", port, backend), null,
            $"update @{affinity} {{ {_ip} saddr }}",
            $"meta l4proto {port.Protocol} dnat to {backend.Text}");
    }

    private void WriteBalancing(ProxiedPort port, string chain, ImmutableArray<Backend> backends)
    {
        var rules = _table.Chain(chain, null).Rules;
        string Choices(Func<Backend, string> leadsTo)
            => string.Join(", ", backends.Select((b, i) => string.Create(CultureInfo.InvariantCulture, $"{i} : {leadsTo(b)}")));
        var random = string.Create(CultureInfo.InvariantCulture, $"numgen random mod {backends.Length}");
        if (port.AffinitySeconds is null)
        {
            rules.Add($"meta l4proto {port.Protocol} dnat {_ip} to {random} map {{ {Choices(b => string.Create(CultureInfo.InvariantCulture, $"{b.Address} . {b.Where.Port}"))} }}");
            return;
        }

        rules.AddRange(backends.Select(b => $"{_ip} saddr @{ChainName.InNftables("affinity-", port, b)} goto {ChainName.InNftables("endpoint-", port, b)}"));
        rules.Add($"{random} vmap {{ {Choices(b => "goto " + ChainName.InNftables("endpoint-", port, b))} }}");
    }

    private void WriteExternal(ProxiedPort port, string chain, string service, string local)
    {
        var rules = _table.Chain(chain, null).Rules;
        if (!port.ExternalLocal)
        {
            rules.Add($"{_setMark} comment \"masquerade\"");
        }
        else
        {
            // Pods and the node itself are inside: the Local policy is for those who come from outside.
            if (_clusterCidr is { } cidr)
            {
                rules.Add($"{_ip} saddr {cidr} goto {service} comment \"short-circuit pod traffic\"");
            }

            rules.Add($"fib saddr type local {_setMark} comment \"masquerade local traffic\"");
            rules.Add($"fib saddr type local goto {service} comment \"short-circuit local traffic\"");
        }

        if (port.HasExternal)
        {
            rules.Add($"goto {(port.ExternalLocal ? local : service)}");
        }
    }

    // As nft lists an unnamed set of networks: in their order, one alone without braces, an address without its length.
    private static string AnyOf(IEnumerable<IpNetwork> networks)
    {
        var texts = networks.OrderBy(n => n.Address).ThenBy(n => n.PrefixLength)
            .Select(n => n.PrefixLength == n.Address.Width ? n.Address.ToString() : n.ToString()).Distinct().ToArray();
        return texts.Length == 1 ? texts[0] : $"{{ {string.Join(", ", texts)} }}";
    }
}
