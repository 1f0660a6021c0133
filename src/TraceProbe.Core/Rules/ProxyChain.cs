namespace TraceProbe.Core.Rules;

/// <summary>What a chain (or a verdict map) of kube-proxy is for.</summary>
public enum ProxyChain
{
    /// <summary>It is not one of kube-proxy's.</summary>
    None,

    /// <summary>Picks the Service port by address and port: <c>KUBE-SERVICES</c>, <c>KUBE-NODEPORTS</c>; <c>services</c>, <c>@service-ips</c>.</summary>
    Entry,

    /// <summary>Traffic for one Service port from outside: <c>KUBE-EXT-</c>, <c>KUBE-XLB-</c>; <c>external-</c>.</summary>
    External,

    /// <summary>Who may use a load balancer address: <c>KUBE-FW-</c>, <c>KUBE-PROXY-FIREWALL</c>, <c>KUBE-SOURCE-RANGES-FIREWALL</c>; <c>firewall-</c>, <c>@firewall-ips</c>.</summary>
    Firewall,

    /// <summary>Picks an endpoint of one Service port: <c>KUBE-SVC-</c>, <c>KUBE-SVL-</c>; <c>service-</c>, <c>local-</c>; a virtual server of IPVS.</summary>
    Service,

    /// <summary>Translates to one endpoint: <c>KUBE-SEP-</c>; <c>endpoint-</c>.</summary>
    Endpoint,

    /// <summary>Refuses what has no endpoint: <c>KUBE-EXTERNAL-SERVICES</c> and <c>KUBE-SERVICES</c> of the filter table; <c>@no-endpoint-services</c>, <c>reject-chain</c>.</summary>
    NoEndpoints,

    /// <summary>Marks packets to be masqueraded: <c>KUBE-MARK-MASQ</c>; <c>mark-for-masquerade</c>.</summary>
    Mark,

    /// <summary>Marks packets to be dropped, by the kubelet's rule: <c>KUBE-MARK-DROP</c>.</summary>
    MarkDrop,

    /// <summary>Masquerades what is marked: <c>KUBE-POSTROUTING</c>; <c>masquerading</c>.</summary>
    Postrouting,

    /// <summary>The userspace mode's: <c>KUBE-PORTALS-</c>, <c>KUBE-NODEPORT-</c>.</summary>
    Portal,

    /// <summary>Another of kube-proxy's or the kubelet's: <c>KUBE-FORWARD</c>, <c>KUBE-FIREWALL</c>; <c>cluster-ips-check</c>.</summary>
    Other,
}

/// <summary>Tells kube-proxy's chains and rules from those of others (pkg/proxy/iptables/proxier.go, pkg/proxy/nftables/proxier.go).</summary>
public static class ProxyChains
{
    /// <summary>What a chain is for.</summary>
    /// <param name="table">Its table.</param>
    /// <param name="chain">Its name; of a verdict map with an <c>@</c> before it.</param>
    public static ProxyChain Of(string table, string chain)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(chain);
        if (table == "ipvs")
        {
            return ProxyChain.Service;
        }

        if (table is "ip kube-proxy" or "ip6 kube-proxy")
        {
            return OfNftables(chain);
        }

        if (!chain.StartsWith("KUBE-", StringComparison.Ordinal))
        {
            return ProxyChain.None;
        }

        var rest = chain.AsSpan(5);
        return rest switch
        {
            "SERVICES" => table == "filter" ? ProxyChain.NoEndpoints : ProxyChain.Entry,
            "NODEPORTS" => table == "filter" ? ProxyChain.Other : ProxyChain.Entry,
            "EXTERNAL-SERVICES" => ProxyChain.NoEndpoints,
            "PROXY-FIREWALL" => ProxyChain.Firewall,
            "MARK-MASQ" => ProxyChain.Mark,
            "MARK-DROP" => ProxyChain.MarkDrop,
            "POSTROUTING" => ProxyChain.Postrouting,
            "FORWARD" or "FIREWALL" or "PROXY-CANARY" or "KUBELET-CANARY" or "KUBELET-HINT" => ProxyChain.Other,
            // IPVS mode's, which ask ipsets.
            "LOAD-BALANCER" or "NODE-PORT" or "IPVS-FILTER" or "IPVS-OUT-FILTER" => ProxyChain.Other,
            "SOURCE-RANGES-FIREWALL" => ProxyChain.Firewall,
            _ when rest.StartsWith("SVC-") || rest.StartsWith("SVL-") => ProxyChain.Service,
            _ when rest.StartsWith("SEP-") => ProxyChain.Endpoint,
            _ when rest.StartsWith("EXT-") || rest.StartsWith("XLB-") => ProxyChain.External,
            _ when rest.StartsWith("FW-") => ProxyChain.Firewall,
            _ when rest.StartsWith("PORTALS-") || rest.StartsWith("NODEPORT-") => ProxyChain.Portal,
            // kube-router's KUBE-NWPLCY-, KUBE-POD-FW- and KUBE-ROUTER- are somebody else's.
            _ => ProxyChain.None,
        };
    }

    private static ProxyChain OfNftables(ReadOnlySpan<char> chain) => chain switch
    {
        "services" or "@service-ips" or "@service-nodeports" => ProxyChain.Entry,
        "service-endpoints-check" or "nodeport-endpoints-check" or "reject-chain" or "@no-endpoint-services" or "@no-endpoint-nodeports" => ProxyChain.NoEndpoints,
        "firewall-check" or "@firewall-ips" => ProxyChain.Firewall,
        "mark-for-masquerade" => ProxyChain.Mark,
        "masquerading" => ProxyChain.Postrouting,
        _ when chain.StartsWith("service-") || chain.StartsWith("local-") => ProxyChain.Service,
        _ when chain.StartsWith("endpoint-") => ProxyChain.Endpoint,
        _ when chain.StartsWith("external-") => ProxyChain.External,
        _ when chain.StartsWith("firewall-") => ProxyChain.Firewall,
        _ => ProxyChain.Other,
    };

    /// <summary>
    /// Whether kube-proxy (or the kubelet) wrote a rule. In its own chains everything that ends a packet's way carries a comment or asks for the
    /// marks and states that it works with; a bare verdict there was put in by hand.
    /// </summary>
    public static bool Wrote(Rule rule)
    {
        ArgumentNullException.ThrowIfNull(rule);
        var chain = Of(rule.Table, rule.Chain);
        if (chain == ProxyChain.None)
        {
            return rule.Target is RuleTarget.Jump jump && Of(rule.Table, jump.Chain) != ProxyChain.None;
        }

        if (rule.Chain[0] == '@' || rule.Target is not (RuleTarget.Accept or RuleTarget.Drop or RuleTarget.Reject or RuleTarget.Return))
        {
            return true;
        }

        foreach (var match in rule.Matches)
        {
            if (match is RuleMatch.Commented or RuleMatch.Mark or RuleMatch.ConnectionState or RuleMatch.InSet or RuleMatch.Scheduled
                || rule.Chain.StartsWith("firewall-", StringComparison.Ordinal) && rule.Chain != "firewall-check" && match is RuleMatch.Source or RuleMatch.Lookup)
            {
                return true;
            }
        }

        // In IPVS mode: -A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN, -A KUBE-SOURCE-RANGES-FIREWALL -j DROP.
        return rule.Chain == "reject-chain" && rule.Target is RuleTarget.Reject
            || rule.Chain == "KUBE-SOURCE-RANGES-FIREWALL" && rule.Target is RuleTarget.Drop && rule.Matches.IsEmpty
            || rule.Chain == "KUBE-SERVICES" && rule.Target is RuleTarget.Return && rule.Matches is [RuleMatch.Source { Negated: false, Network.Address.IsLoopback: true }];
    }

    /// <summary>
    /// Whose a rule is, where its chain, table or comment tells, such as <c>Calico</c>; null for one that carries nobody's name, as those have
    /// that were put in by hand.
    /// </summary>
    public static string? OwnerOf(Rule rule)
    {
        ArgumentNullException.ThrowIfNull(rule);
        if (Wrote(rule))
        {
            return "kube-proxy";
        }

        var chain = rule.Chain;
        if (Of(rule.Table, chain) == ProxyChain.None && ByName(chain) is { } owner)
        {
            return owner;
        }

        if (rule.Table.Contains("firewalld", StringComparison.Ordinal))
        {
            return "firewalld";
        }

        if (rule.Table.Contains("libvirt", StringComparison.Ordinal))
        {
            return "libvirt";
        }

        // Calico's rules carry a hash of themselves wherever they are; who jumps from a shared chain owns the jump.
        return rule.Comment?.StartsWith("cali:", StringComparison.Ordinal) == true ? "Calico"
            : rule.Target is RuleTarget.Jump jump ? ByName(jump.Chain) : null;
    }

    /// <summary>Whether rules of that owner carry out NetworkPolicies.</summary>
    public static bool CarriesOutPolicies(string? owner) => owner is "Calico" or "kube-router" or "Antrea" or "Cilium" or "Weave Net";

    private static string? ByName(string chain) => chain switch
    {
        _ when chain.StartsWith("cali-", StringComparison.Ordinal) || chain.StartsWith("felix-", StringComparison.Ordinal) => "Calico",
        _ when chain.StartsWith("KUBE-NWPLCY", StringComparison.Ordinal) || chain.StartsWith("KUBE-POD-FW", StringComparison.Ordinal) || chain.StartsWith("KUBE-ROUTER", StringComparison.Ordinal) => "kube-router",
        _ when chain.StartsWith("ANTREA-", StringComparison.Ordinal) => "Antrea",
        _ when chain.StartsWith("CILIUM_", StringComparison.Ordinal) || chain.StartsWith("OLD_CILIUM_", StringComparison.Ordinal) => "Cilium",
        _ when chain.StartsWith("WEAVE", StringComparison.Ordinal) => "Weave Net",
        _ when chain.StartsWith("FLANNEL-", StringComparison.Ordinal) => "flannel",
        _ when chain.StartsWith("DOCKER", StringComparison.Ordinal) => "Docker",
        _ when chain.StartsWith("CNI-", StringComparison.Ordinal) => "a CNI plugin",
        _ when chain.StartsWith("NETAVARK", StringComparison.Ordinal) => "Podman",
        _ when chain.StartsWith("ufw-", StringComparison.Ordinal) || chain.StartsWith("ufw6-", StringComparison.Ordinal) => "ufw",
        _ when chain.StartsWith("ISTIO_", StringComparison.Ordinal) => "Istio",
        _ when chain.StartsWith("LIBVIRT_", StringComparison.Ordinal) => "libvirt",
        _ when chain.StartsWith("IP-MASQ", StringComparison.Ordinal) => "ip-masq-agent",
        _ when chain.StartsWith("f2b-", StringComparison.Ordinal) => "fail2ban",
        _ when chain.StartsWith("FWDI_", StringComparison.Ordinal) || chain.StartsWith("FWDO_", StringComparison.Ordinal) || chain.EndsWith("_ZONES", StringComparison.Ordinal)
            || chain.EndsWith("_direct", StringComparison.Ordinal) || chain.StartsWith("IN_public", StringComparison.Ordinal) || chain.StartsWith("FORWARD_IN_", StringComparison.Ordinal) => "firewalld",
        _ => null,
    };
}
