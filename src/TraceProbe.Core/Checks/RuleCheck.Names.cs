using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

public sealed partial class RuleCheck
{
    /// <summary>
    /// How kube-proxy calls its chains and would write the rules that are missing, in the mode it works in: iptables' after
    /// pkg/proxy/iptables/proxier.go, nftables' after pkg/proxy/nftables/proxier.go.
    /// </summary>
    private sealed class RuleNames(ProxyRules rules)
    {
        private readonly string _table = rules.Mode != ProxyMode.Nftables ? "nat" : rules.IsIPv6 ? "ip6 kube-proxy" : "ip kube-proxy";
        private readonly string _ip = rules.IsIPv6 ? "ip6" : "ip";

        private readonly string? _tool = rules.Mode == ProxyMode.Nftables ? "nft"
            : rules.Sets.FirstOrDefault(s => s.Tables.Values.Any(t => t.Chains.Values.Any(c => ProxyChains.Of(t.Name, c.Name) is ProxyChain.Entry or ProxyChain.Portal && !c.Rules.IsEmpty))) is { } set
                ? RuleRef.ToolOf(set.Backend, set.IsIPv6) : null;

        public bool IsNftables => rules.Mode == ProxyMode.Nftables;

        public string Mark => IsNftables ? "mark-for-masquerade" : "KUBE-MARK-MASQ";

        public string Postrouting => IsNftables ? "masquerading" : "KUBE-POSTROUTING";

        public string Entry(bool isNodePort, bool fromNode) => (rules.Mode, isNodePort) switch
        {
            (ProxyMode.Nftables, false) => $"{_table} @service-ips",
            (ProxyMode.Nftables, true) => $"{_table} @service-nodeports",
            (ProxyMode.Userspace, _) => $"nat {Portal(isNodePort, fromNode)}",
            (_, true) => "nat KUBE-NODEPORTS",
            _ => "nat KUBE-SERVICES",
        };

        // pkg/proxy/userspace/proxier.go: of the node's own packets and of those that come in.
        public static string Portal(bool isNodePort, bool fromNode) => $"KUBE-{(isNodePort ? "NODEPORT" : "PORTALS")}-{(fromNode ? "HOST" : "CONTAINER")}";

        public static string EndpointChain(Subject subject, AddressPort endpoint) => ProxyRules.EndpointChainName(subject.FullName, subject.Port.Name, subject.Protocol, endpoint);

        public RuleRef MissingEntry(Subject subject, TrafficCase one)
        {
            var protocol = ProxyRules.Name(subject.Protocol);
            var isNodePort = one.Kind == ServiceAddressKind.NodePort;
            if (IsNftables)
            {
                var leads = NftChain(one.Kind == ServiceAddressKind.Cluster ? subject.Service.Spec.InternalTrafficPolicy == "Local" ? "local" : "service" : "external", subject);
                return isNodePort
                    ? Missing("@service-nodeports", string.Create(CultureInfo.InvariantCulture, $"{protocol} . {one.To.Port} : goto {leads}"))
                    : Missing("@service-ips", string.Create(CultureInfo.InvariantCulture, $"{one.To.Address} . {protocol} . {one.To.Port} : goto {leads}"));
            }

            if (rules.Mode == ProxyMode.Userspace)
            {
                return Missing(Portal(isNodePort, one.Packet.FromNode), string.Create(CultureInfo.InvariantCulture,
                    $"{(isNodePort ? "" : $"-d {Host(one.To.Address)} ")}-p {protocol} -m comment --comment \"{subject.FullName}:{subject.Port.Name}\" -m {protocol} --dport {one.To.Port} -j {(one.Packet.FromNode ? "DNAT --to-destination …" : "REDIRECT --to-ports …")}"));
            }

            var hash = ProxyRules.ServiceChainName(subject.FullName, subject.Port.Name, subject.Protocol)["KUBE-SVC-".Length..];
            var (words, chain) = one.Kind switch
            {
                ServiceAddressKind.Cluster => (" cluster IP", subject.Service.Spec.InternalTrafficPolicy == "Local" ? "KUBE-SVL-" : "KUBE-SVC-"),
                ServiceAddressKind.External => (" external IP", "KUBE-EXT-"),
                ServiceAddressKind.LoadBalancer => (" loadbalancer IP", ServiceMeaning.SourceRanges(subject.Service, rules.IsIPv6).IsEmpty ? "KUBE-EXT-" : "KUBE-FW-"),
                _ => ("", "KUBE-EXT-"),
            };
            return Missing(isNodePort ? "KUBE-NODEPORTS" : "KUBE-SERVICES", string.Create(CultureInfo.InvariantCulture,
                $"{(isNodePort ? "" : $"-d {Host(one.To.Address)} ")}-p {protocol} -m comment --comment \"{subject.RuleName}{words}\" -m {protocol} --dport {one.To.Port} -j {chain}{hash}"));
        }

        public RuleRef MissingNodePortsJump() => IsNftables
            ? Missing("services", $"{_ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports")
            : Missing("KUBE-SERVICES", "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");

        public RuleRef MissingRange(Subject subject, TrafficCase one, string chain, IpNetwork range) => IsNftables
            ? Missing(chain, $"{_ip} saddr != {{ …, {range} }} drop")
            : Missing(chain, $"-s {range} -m comment --comment \"{subject.RuleName} loadbalancer IP\" -j {chain.Replace("KUBE-FW-", "KUBE-EXT-", StringComparison.Ordinal)}");

        /// <summary>Of a kube-proxy that leaves dropping to the kubelet.</summary>
        public RuleRef MissingMarkToDrop(string chain) => Missing(chain, "-j KUBE-MARK-DROP");

        public RuleRef MissingOnward(Subject subject, TrafficCase one, string chain)
        {
            var isLocal = one.From == Origin.Outside && subject.Service.Spec.ExternalTrafficPolicy == "Local";
            if (IsNftables)
            {
                return Missing(chain, $"goto {NftChain(isLocal ? "local" : "service", subject)}");
            }

            var to = $"{(isLocal ? "KUBE-SVL-" : "KUBE-SVC-")}{chain[(chain.LastIndexOf('-') + 1)..]}";
            return Missing(chain, (subject.Service.Spec.ExternalTrafficPolicy, one.From) switch
            {
                ("Local", Origin.Node) => $"-m comment --comment \"route LOCAL traffic for {subject.RuleName} external destinations\" -m addrtype --src-type LOCAL -j {to}",
                ("Local", Origin.Pod) => $"-s PODS -m comment --comment \"pod traffic for {subject.RuleName} external destinations\" -j {to}",
                _ => $"-j {to}",
            });
        }

        public RuleRef MissingEndpoint(Subject subject, string chain, AddressPort endpoint)
        {
            if (IsNftables)
            {
                return Missing(chain, string.Create(CultureInfo.InvariantCulture, $"… map {{ …, {endpoint.Address} . {endpoint.Port} }}"));
            }

            var own = EndpointChain(subject, endpoint);
            return rules.Sets.Any(s => s.Table("nat")?.Chain(chain)?.Rules.Any(r => r.Target is RuleTarget.Jump jump && jump.Chain == own) == true)
                ? MissingTranslation(subject, own, endpoint)
                : Missing(chain, $"-m comment --comment \"{subject.RuleName} -> {endpoint}\" … -j {own}");
        }

        public RuleRef MissingTranslation(Subject subject, string chain, AddressPort endpoint)
        {
            var protocol = ProxyRules.Name(subject.Protocol);
            return IsNftables ? Missing(chain, $"meta l4proto {protocol} dnat to {endpoint}")
                : Missing(chain, $"-p {protocol} -m comment --comment \"{subject.RuleName}\" -m {protocol} -j DNAT --to-destination {endpoint}");
        }

        public RuleRef MissingAffinity(Subject subject, string? chain, AddressPort endpoint)
        {
            var own = EndpointChain(subject, endpoint);
            return IsNftables ? Missing(chain ?? "services", $"{_ip} saddr @affinity-… goto endpoint-…__{endpoint.Address}/{endpoint.Port}")
                : Missing(chain ?? "KUBE-SVC-", string.Create(CultureInfo.InvariantCulture,
                    $"-m comment --comment \"{subject.RuleName} -> {endpoint}\" -m recent --rcheck --seconds {subject.Service.Spec.SessionAffinityConfig?.ClientIP?.TimeoutSeconds ?? 10_800} --reap --name {own} --mask {(rules.IsIPv6 ? "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" : "255.255.255.255")} --rsource -j {own}"));
        }

        public RuleRef MissingRefusal(Subject subject, TrafficCase one)
        {
            var protocol = ProxyRules.Name(subject.Protocol);
            var isNodePort = one.Kind == ServiceAddressKind.NodePort;
            var isDropped = one.Fate == Fate.Dropped;
            if (IsNftables)
            {
                return Missing(isNodePort ? "@no-endpoint-nodeports" : "@no-endpoint-services", string.Create(CultureInfo.InvariantCulture,
                    $"{(isNodePort ? "" : $"{one.To.Address} . ")}{protocol} . {one.To.Port} : {(isDropped ? "drop" : "goto reject-chain")}"));
            }

            return Missing(one.Kind == ServiceAddressKind.Cluster ? "KUBE-SERVICES" : "KUBE-EXTERNAL-SERVICES", string.Create(CultureInfo.InvariantCulture,
                $"{(isNodePort ? "" : $"-d {Host(one.To.Address)} ")}-p {protocol} -m comment --comment \"{subject.RuleName} has no {(isDropped ? "local " : "")}endpoints\" {(isNodePort ? "-m addrtype --dst-type LOCAL " : "")}-m {protocol} --dport {one.To.Port} -j {(isDropped ? "DROP" : $"REJECT --reject-with {(rules.IsIPv6 ? "icmp6" : "icmp")}-port-unreachable")}"), "filter");
        }

        public RuleRef MissingDenial(Subject subject, TrafficCase one)
        {
            var protocol = ProxyRules.Name(subject.Protocol);
            var hash = ProxyRules.ServiceChainName(subject.FullName, subject.Port.Name, subject.Protocol)["KUBE-SVC-".Length..];
            return IsNftables ? Missing("@firewall-ips", string.Create(CultureInfo.InvariantCulture, $"{one.To.Address} . {protocol} . {one.To.Port} : goto {NftChain("firewall", subject)}"))
                : Missing("KUBE-PROXY-FIREWALL", string.Create(CultureInfo.InvariantCulture,
                    $"-d {Host(one.To.Address)} -p {protocol} -m comment --comment \"{subject.RuleName} traffic not accepted by KUBE-FW-{hash}\" -m {protocol} --dport {one.To.Port} -j DROP"), "filter");
        }

        public RuleRef MissingMark() => IsNftables ? Missing(Mark, "meta mark set meta mark | 0x00004000") : Missing(Mark, "-j MARK --set-xmark 0x4000/0x4000");

        public RuleRef MissingMasquerade() => IsNftables ? Missing(Postrouting, "masquerade fully-random")
            : Missing(Postrouting, "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully");

        public RuleRef MissingReturn() => IsNftables ? Missing(Postrouting, "meta mark & 0x00004000 == 0x00000000 return") : Missing(Postrouting, "-m mark ! --mark 0x4000/0x4000 -j RETURN");

        public RuleRef MissingPostroutingJump() => IsNftables ? Missing("nat-postrouting", "jump masquerading")
            : Missing("POSTROUTING", "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING");

        public RuleRef MissingRejection(string chain) => Missing(chain, "reject");

        public RuleRef MissingClusterMarking() => Missing("services", "ip daddr @cluster-ips ip saddr != PODS meta mark set meta mark | 0x00004000 comment \"masquerade clusterIP traffic from outside cluster\"");

        public RuleRef MissingMarking(Subject subject, TrafficCase one, WalkBranch branch, bool isHairpin)
        {
            var protocol = ProxyRules.Name(subject.Protocol);
            if (isHairpin)
            {
                var backend = branch.Backend!.Value;
                return IsNftables ? Missing("@hairpin-connections", string.Create(CultureInfo.InvariantCulture, $"{backend.Address} . {backend.Address} . {protocol} . {backend.Port}"))
                    : Missing(branch.Chain ?? EndpointChain(subject, backend), $"-s {Host(backend.Address)} -m comment --comment \"{subject.RuleName}\" -j KUBE-MARK-MASQ");
            }

            if (IsNftables)
            {
                return one.Kind == ServiceAddressKind.Cluster ? Missing("@cluster-ips", one.To.Address.ToString()) : Missing(NftChain("external", subject), "meta mark set meta mark | 0x00004000 comment \"masquerade\"");
            }

            // The rule stands in the Service's chain since Kubernetes 1.21, beside its entry before.
            var chain = branch.Steps.Where(s => AtNat(s) && s.Rule.Target is RuleTarget.Jump).Select(s => ((RuleTarget.Jump)s.Rule.Target!).Chain)
                .FirstOrDefault(c => ProxyChains.Of("nat", c) == (one.Kind == ServiceAddressKind.Cluster ? ProxyChain.Service : ProxyChain.External));
            return one.Kind == ServiceAddressKind.Cluster
                ? Missing(chain ?? "KUBE-SERVICES", string.Create(CultureInfo.InvariantCulture,
                    $"{(one.From == Origin.Pod ? "" : "! -s PODS ")}-d {Host(one.To.Address)} -p {protocol} -m comment --comment \"{subject.RuleName} cluster IP\" -m {protocol} --dport {one.To.Port} -j KUBE-MARK-MASQ"))
                : subject.Service.Spec.ExternalTrafficPolicy == "Local"
                    ? Missing(chain ?? "KUBE-NODEPORTS", $"-m comment --comment \"masquerade LOCAL traffic for {subject.RuleName} external destinations\" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ")
                    : Missing(chain ?? "KUBE-NODEPORTS", $"-m comment --comment \"masquerade traffic for {subject.RuleName} external destinations\" -j KUBE-MARK-MASQ");
        }

        private static bool AtNat(WalkStep step) => step.Translates && step.Hook is Hook.Prerouting or Hook.Output;

        private static string NftChain(string what, Subject subject)
            => $"{what}{ProxyRules.ServiceChainName(subject.FullName, subject.Port.Name, subject.Protocol, ProxyMode.Nftables)["service".Length..]}";

        private RuleRef Missing(string chain, string spec, string? table = null) => new()
        {
            IsMissing = true,
            Tool = _tool,
            Table = table is null || IsNftables ? _table : table,
            Chain = chain,
            Raw = IsNftables ? spec : $"-A {chain} {spec}",
            Owner = "kube-proxy",
        };

        private static string Host(IpAddress address) => $"{address}/{address.Width}";
    }
}
