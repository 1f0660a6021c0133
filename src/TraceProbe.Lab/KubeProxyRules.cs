using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// Writes the rules that kube-proxy 1.33 to 1.36 writes in iptables mode, for one node and one address family: a pure function of
/// the cluster's objects. Follows kubernetes, pkg/proxy/iptables/proxier.go (syncProxyRules); held against the output of the real
/// ones by a test.
/// </summary>
internal sealed class KubeProxyRules
{
    // proxier.go, largeClusterEndpointsThreshold: beyond it the comments that only people read are left out.
    private const int LargeCluster = 1000;

    private readonly KubeProxyOptions _options;
    private readonly bool _ipv6;
    private readonly string _mark;
    private readonly IpNetwork? _clusterCidr;
    private readonly RuleTable _filter = new("filter");
    private readonly RuleTable _nat = new("nat");
    private readonly RuleTable _mangle = new("mangle");
    private readonly HashSet<string> _declared = [];
    private bool _large;

    private KubeProxyRules(KubeProxyOptions options, bool ipv6)
    {
        _options = options;
        _ipv6 = ipv6;
        _mark = string.Create(CultureInfo.InvariantCulture, $"0x{1u << options.MasqueradeBit:x}");
        _clusterCidr = options.ClusterCidr(ipv6);
    }

    /// <summary>The tables mangle, filter and nat as kube-proxy would want them.</summary>
    internal static IReadOnlyList<RuleTable> Write(ClusterSnapshot cluster, KubeProxyOptions options, bool ipv6)
    {
        var writer = new KubeProxyRules(options, ipv6);
        writer.WriteFrame();
        var ports = ProxiedPort.Of(cluster, options, ipv6);
        writer._large = ports.Sum(p => p.Endpoints.Length) > LargeCluster;
        foreach (var port in ports)
        {
            writer.WritePort(port);
        }

        writer._nat.Add("KUBE-SERVICES", (ipv6 ? "! -d ::1/128 " : options.LocalhostNodePorts ? "" : "! -d 127.0.0.0/8 ")
            + "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");
        return [writer._mangle, writer._filter, writer._nat];
    }

    // What stands whatever the Services are.
    private void WriteFrame()
    {
        _mangle.Chains.Add("KUBE-PROXY-CANARY");

        _filter.Chains.AddRange(["KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"]);
        const string New = "-m conntrack --ctstate NEW -m comment --comment ";
        _filter.Jumps.AddRange(
        [
            "-A INPUT -j KUBE-FIREWALL",
            $"-A INPUT {New}\"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
            "-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS",
            $"-A INPUT {New}\"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
            $"-A FORWARD {New}\"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
            "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
            $"-A FORWARD {New}\"kubernetes service portals\" -j KUBE-SERVICES",
            $"-A FORWARD {New}\"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
            "-A OUTPUT -j KUBE-FIREWALL",
            $"-A OUTPUT {New}\"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
            $"-A OUTPUT {New}\"kubernetes service portals\" -j KUBE-SERVICES",
        ]);
        if (!_ipv6)
        {
            // CVE-2020-8558: with route_localnet on, neighbours on the LAN could reach what listens on 127.0.0.1.
            _filter.Add("KUBE-FIREWALL", "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP");
        }

        var counter = _options.NfacctCounters ? "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts " : "";
        _filter.Add("KUBE-FORWARD", $"-m conntrack --ctstate INVALID {counter}-j DROP");
        _filter.Add("KUBE-FORWARD", $"-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {_mark}/{_mark} -j ACCEPT");
        _filter.Add("KUBE-FORWARD", "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");

        _nat.Chains.AddRange(["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-PROXY-CANARY", "KUBE-SERVICES"]);
        _nat.Jumps.AddRange(
        [
            "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
        ]);
        _nat.Add("KUBE-MARK-MASQ", $"-j MARK --set-xmark {_mark}/{_mark}");
        _nat.Add("KUBE-POSTROUTING", $"-m mark ! --mark {_mark}/{_mark} -j RETURN");
        _nat.Add("KUBE-POSTROUTING", $"-j MARK --set-xmark {_mark}/0x0");
        _nat.Add("KUBE-POSTROUTING", "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully");
    }

    private void WritePort(ProxiedPort port)
    {
        var (name, protocol) = (port.Name, port.Protocol);
        var svc = ChainName.OfService("KUBE-SVC-", name, protocol);
        var svl = ChainName.OfService("KUBE-SVL-", name, protocol);
        var ext = ChainName.OfService("KUBE-EXT-", name, protocol);
        var firewall = ChainName.OfService("KUBE-FW-", name, protocol);

        var internalChain = port.InternalLocal ? svl : svc;
        var externalChain = port.ExternalLocal ? svl : svc;
        // No endpoint anywhere: say so at once. None on this node only: drop, as another node may well have one.
        var (target, lack) = port.HasAny
            ? ("DROP", $"{name} has no local endpoints")
            : ($"REJECT --reject-with {(_ipv6 ? "icmp6-port-unreachable" : "icmp-port-unreachable")}", $"{name} has no endpoints");
        var usesFirewall = port.HasAny && port.LoadBalancerIPs.Length > 0 && port.SourceRanges.Length > 0;
        var usesExternal = port.HasAny && port.ExternallyAccessible;

        // The cluster address.
        if (port.HasInternal)
        {
            _nat.Add("KUBE-SERVICES", $"{To(port, port.ClusterIP, $"{name} cluster IP")} -j {internalChain}");
        }
        else
        {
            _filter.Add("KUBE-SERVICES", $"{To(port, port.ClusterIP, lack)} -j {target}");
        }

        // Addresses from outside: external, load balancer's, node ports.
        foreach (var address in port.ExternalIPs)
        {
            if (port.HasAny)
            {
                _nat.Add("KUBE-SERVICES", $"{To(port, address, $"{name} external IP")} -j {ext}");
            }

            if (!port.HasExternal)
            {
                _filter.Add("KUBE-EXTERNAL-SERVICES", $"{To(port, address, lack)} -j {target}");
            }
        }

        foreach (var address in port.LoadBalancerIPs)
        {
            if (port.HasAny)
            {
                _nat.Add("KUBE-SERVICES", $"{To(port, address, $"{name} loadbalancer IP")} -j {(usesFirewall ? firewall : ext)}");
            }

            if (usesFirewall)
            {
                _filter.Add("KUBE-PROXY-FIREWALL", $"{To(port, address, $"{name} traffic not accepted by {firewall}")} -j DROP");
            }

            if (!port.HasExternal)
            {
                _filter.Add("KUBE-EXTERNAL-SERVICES", $"{To(port, address, lack)} -j {target}");
            }
        }

        if (port.NodePort != 0)
        {
            var match = string.Create(CultureInfo.InvariantCulture, $"-p {protocol} -m comment --comment \"{name}\" -m {protocol} --dport {port.NodePort}");
            if (port.HasAny)
            {
                if (!_ipv6 && _options is { LocalhostNodePorts: true, NfacctCounters: true })
                {
                    _nat.Add("KUBE-NODEPORTS", $"-d 127.0.0.0/8 {match} -m nfacct --nfacct-name  localhost_nps_accepted_pkts -j {ext}");
                }

                _nat.Add("KUBE-NODEPORTS", $"{match} -j {ext}");
            }

            if (!port.HasExternal)
            {
                _filter.Add("KUBE-EXTERNAL-SERVICES", string.Create(CultureInfo.InvariantCulture,
                    $"-p {protocol} -m comment --comment \"{lack}\" -m addrtype --dst-type LOCAL -m {protocol} --dport {port.NodePort} -j {target}"));
            }
        }

        if (port.HealthCheckNodePort != 0)
        {
            _filter.Add("KUBE-NODEPORTS", string.Create(CultureInfo.InvariantCulture,
                $"-p tcp -m comment --comment \"{name} health check node port\" -m tcp --dport {port.HealthCheckNodePort} -j ACCEPT"));
        }

        if (port.HasInternal && _clusterCidr is { } cidr)
        {
            _nat.Add(internalChain, $"! -s {cidr} {To(port, port.ClusterIP, $"{name} cluster IP")} -j KUBE-MARK-MASQ");
        }

        if (usesExternal)
        {
            WriteExternal(port, ext, svc, port.HasExternal ? externalChain : null);
        }

        if (usesFirewall)
        {
            WriteFirewall(port, firewall, ext);
        }

        if (port.Cluster.Length > 0)
        {
            WriteBalancing(port, svc, port.Cluster);
        }

        if (port.Local.Length > 0)
        {
            WriteBalancing(port, svl, port.Local);
        }

        foreach (var endpoint in port.Reachable)
        {
            WriteEndpoint(port, endpoint);
        }
    }

    private void WriteExternal(ProxiedPort port, string chain, string svc, string? next)
    {
        Declare(chain);
        if (!port.ExternalLocal)
        {
            _nat.Add(chain, $"-m comment --comment \"masquerade traffic for {port.Name} external destinations\" -j KUBE-MARK-MASQ");
        }
        else
        {
            // Pods and the node itself are inside: the Local policy is for those who come from outside.
            if (_clusterCidr is { } cidr)
            {
                _nat.Add(chain, $"-s {cidr} -m comment --comment \"pod traffic for {port.Name} external destinations\" -j {svc}");
            }

            _nat.Add(chain, $"-m comment --comment \"masquerade LOCAL traffic for {port.Name} external destinations\" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ");
            _nat.Add(chain, $"-m comment --comment \"route LOCAL traffic for {port.Name} external destinations\" -m addrtype --src-type LOCAL -j {svc}");
        }

        if (next is not null)
        {
            _nat.Add(chain, $"-j {next}");
        }
    }

    private void WriteFirewall(ProxiedPort port, string chain, string ext)
    {
        Declare(chain);
        var comment = $"-m comment --comment \"{port.Name} loadbalancer IP\" -j {ext}";
        foreach (var range in port.Admitted(_options))
        {
            _nat.Add(chain, $"-s {range} {comment}");
        }

        _nat.Add(chain, $"-m comment --comment \"other traffic to {port.Name} will be dropped by KUBE-PROXY-FIREWALL\"");
    }

    private void WriteBalancing(ProxiedPort port, string chain, ImmutableArray<Backend> backends)
    {
        Declare(chain);
        if (port.AffinitySeconds is { } seconds)
        {
            foreach (var backend in backends)
            {
                var sep = ChainName.OfEndpoint(port.Name, port.Protocol, backend.Text);
                _nat.Add(chain, string.Create(CultureInfo.InvariantCulture,
                    $"{Comment($"{port.Name} -> {backend.Text}")}-m recent --rcheck --seconds {seconds} --reap --name {sep} --mask {RecentMask} --rsource -j {sep}"));
            }
        }

        for (var i = 0; i < backends.Length; i++)
        {
            var statistic = i == backends.Length - 1 ? "" : $"-m statistic --mode random --probability {Probability(backends.Length - i)} ";
            _nat.Add(chain, $"{Comment($"{port.Name} -> {backends[i].Text}")}{statistic}-j {ChainName.OfEndpoint(port.Name, port.Protocol, backends[i].Text)}");
        }
    }

    private void WriteEndpoint(ProxiedPort port, Backend backend)
    {
        var chain = ChainName.OfEndpoint(port.Name, port.Protocol, backend.Text);
        Declare(chain);
        // Hairpin: a pod that reaches itself through the Service must not see its own address as the source.
        _nat.Add(chain, $"-s {new IpNetwork(backend.Address, backend.Address.Width)} {Comment(port.Name)}-j KUBE-MARK-MASQ");
        var recent = port.AffinitySeconds is null ? "" : $"-m recent --set --name {chain} --mask {RecentMask} --rsource ";
        _nat.Add(chain, $"-p {port.Protocol} {Comment(port.Name)}{recent}-m {port.Protocol} -j DNAT --to-destination {backend.Text}");
    }

    private string RecentMask => _ipv6 ? "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" : "255.255.255.255";

    private string Comment(string text) => _large ? "" : $"-m comment --comment \"{text}\" ";

    // One in n, as the kernel keeps it: kube-proxy gives ten digits, xt_statistic takes 31 bits, iptables-save prints eleven digits.
    internal static string Probability(int n)
    {
        var given = Math.Round(1.0 / n, 10, MidpointRounding.AwayFromZero);
        var kept = Math.Round(given * 0x80000000, MidpointRounding.AwayFromZero) / 0x80000000;
        return kept.ToString("F11", CultureInfo.InvariantCulture);
    }

    private static string To(ProxiedPort port, IpAddress address, string comment) => string.Create(CultureInfo.InvariantCulture,
        $"-d {new IpNetwork(address, address.Width)} -p {port.Protocol} -m comment --comment \"{comment}\" -m {port.Protocol} --dport {port.Number}");

    private void Declare(string chain)
    {
        if (_declared.Add(chain))
        {
            _nat.Chains.Add(chain);
        }
    }
}
