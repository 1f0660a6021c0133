using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

public sealed partial class RuleCheck
{
    // IPVS mode (pkg/proxy/ipvs/proxier.go). Three things must be there for a packet to come through: the address on kube-ipvs0, the virtual server with
    // its real servers, and the member of an ipset that keeps the filter from refusing it; and what is masqueraded is told by ipsets too.
    private sealed partial class Side
    {
        // A command that is longer is none that people type.
        private const int MostByHand = 4;

        private IpvsTable Servers => rules.Ipvs!;

        private IEnumerable<string> NotSeenOfIpvs
        {
            get
            {
                if (rules.IsRead && check._vantage.Routes is null && Servers.Servers.Any(s => s.IsIPv6 == IsIPv6))
                {
                    yield return $"whether the Services' addresses are on {ProxyRules.IpvsInterface} of {check._vantage.Words}: its routes were not read ('ip route show table all' prints them)";
                }

                if (AsksUnreadSets)
                {
                    yield return $"what the ipsets of {check._vantage.Words} hold, which its rules ask ('ipset save' prints it)";
                }
            }
        }

        // Where no rule asks one, none is read.
        private bool AsksUnreadSets => _asksUnreadSets ??= rules.IpSets is null
            && rules.Sets.Any(s => s.Tables.Values.Any(t => t.Chains.Values.Any(c => c.Rules.Any(r => r.Matches.Any(m => m is RuleMatch.InSet)))));

        private bool? _asksUnreadSets;

        // One scheduler is configured for all; where there is no clear majority, nothing is said.
        private string? UsualScheduler => _usualScheduler ??= Servers.Servers.Where(s => s.IsIPv6 == IsIPv6 && s.Mark == 0).GroupBy(s => s.Scheduler).OrderByDescending(g => g.Count()).ToList() switch
        {
            [var most, .. var others] when most.Count() > 2 * others.Sum(o => o.Count()) => most.Key,
            _ => "",
        } is { Length: > 0 } usual ? usual : null;

        private string? _usualScheduler;

        private static bool IsRealServer(WalkStep step) => step.Rule is { Table: "ipvs", Target: RuleTarget.Dnat };

        // A virtual server stands on each of the node's addresses that --nodeport-addresses admits: all of them without.
        private ImmutableArray<IpAddress> FindAddressesOfIpvs()
        {
            var ports = check._cluster.Services.SelectMany(s => s.Spec.Ports).Where(p => p.NodePort is > 0 and <= 65535).ToList();
            var own = check._vantage.Addresses.Where(a => a.IsIPv4 != IsIPv6).ToList();
            var used = own.Where(a => 2 * ports.Count(p => Servers.Find(ServiceMeaning.ProtocolOf(p), new AddressPort(a, (ushort)p.NodePort)) is not null) > ports.Count).ToImmutableArray();
            return used.IsEmpty ? [.. own.Take(1)] : used;
        }

        /// <summary>Compares what packets do not show: whether clients come to the same real server again, and how real servers are picked.</summary>
        private void JudgeServers(Subject subject, FindingList found)
        {
            var wanted = subject.Service.Spec.SessionAffinity == "ClientIP" ? subject.Service.Spec.SessionAffinityConfig?.ClientIP?.TimeoutSeconds ?? 10_800 : (int?)null;
            var seen = new HashSet<VirtualServer>(ReferenceEqualityComparer.Instance);
            foreach (var at in ServiceMeaning.Addresses(subject.Service, subject.Port, IsIPv6, null).Select(a => a.At).Concat(subject.Port.NodePort is > 0 and <= 65535
                ? NodePortAddresses.Select(a => new AddressPort(a, (ushort)subject.Port.NodePort)) : []))
            {
                if (Servers.Find(subject.Protocol, at) is not { RealServers.IsEmpty: false } server || !seen.Add(server))
                {
                    continue;
                }

                if (server.PersistenceSeconds != wanted)
                {
                    found.Add(subject, null, Affinity(subject, server, wanted));
                }

                if (UsualScheduler is { } usual && server.Scheduler != usual)
                {
                    found.Add(subject, null, new Deviation(FailureClass.EndpointShareUneven,
                        $"the virtual server {server.Option} of {subject} picks its real servers by the scheduler {server.Scheduler}, where the others have {usual}", "are shared out otherwise than those of other Services")
                    {
                        Rules = [Ref(Servers.RuleOf(server))],
                        Mend = ByHand($"ipvsadm -E{(server with { Scheduler = usual, SchedulerFlags = [] }).ToString()[2..]}"),
                    });
                }
            }
        }

        private Deviation Affinity(Subject subject, VirtualServer server, int? wanted)
        {
            var right = server with { PersistenceSeconds = wanted, PersistencePrefix = server.Address.Address.Width };
            var deviation = (server.PersistenceSeconds, wanted) switch
            {
                (null, _) => new Deviation(FailureClass.EndpointRuleMissing, $"the virtual server {server.Option} of {subject} keeps no client at its endpoint, which sessionAffinity ClientIP asks for", "lose their endpoint between connections"),
                (_, null) => new Deviation(FailureClass.StaleEndpointRule, $"the virtual server {server.Option} keeps clients of {subject} at the endpoint they had, which sessionAffinity None does not ask for", "go where they went before"),
                ({ } seconds, { } right2) => new Deviation(FailureClass.StaleEndpointRule,
                    string.Create(CultureInfo.InvariantCulture, $"the virtual server {server.Option} keeps clients of {subject} at their endpoint for {seconds} s, and the Service says {right2} s"), "go where they went before for another time than is wanted"),
            };
            return deviation with
            {
                Rules = [Ref(Servers.RuleOf(server)), .. wanted is null ? Array.Empty<RuleRef>() : [MissingServer(right)]],
                Mend = ByHand($"ipvsadm -E{right.ToString()[2..]}"),
            };
        }

        /// <summary>What keeps a packet from the real servers of its Service port.</summary>
        private Deviation WhyNotScheduled(Subject subject, TrafficCase one, WalkBranch branch)
        {
            var effect = EffectOf(branch);
            if (rules.DescribeMissing(one.Packet.FromNode) is { } missing)
            {
                return new Deviation(FailureClass.ProxyRulesMissing, $"none of kube-proxy's virtual servers is there: {missing}", effect) { Shared = missing };
            }

            // 1. The virtual server.
            if (Servers.Find(subject.Protocol, one.To) is not { } server)
            {
                var right = Wanted(subject, one);
                return new Deviation(FailureClass.ServiceRuleMissing, $"IPVS has no virtual server for {subject} at {one.To}", effect)
                {
                    Rules = [MissingServer(right)],
                    Mend = ByHand([$"ipvsadm {right}", .. right.RealServers.Select(r => $"ipvsadm {right.LineOf(r)}")]),
                };
            }

            // 2. Its address; what the node itself sends meets IPVS on the way out, wherever the address is.
            if (!one.Packet.FromNode && branch.Outcome == WalkOutcome.Untranslated && check._vantage.Routes?.Lookup(one.To.Address) is not { Type: "local" })
            {
                var prefix = new IpNetwork(one.To.Address, one.To.Address.Width);
                return new Deviation(FailureClass.IpvsAddressMissing, $"{one.To.Address} of {subject} is not on {ProxyRules.IpvsInterface}, so that packets to it are not the node's own and never come to its virtual server", effect)
                {
                    Rules = [new RuleRef { IsMissing = true, Tool = "ip", Table = "address", Chain = ProxyRules.IpvsInterface, Raw = $"ip address add {prefix} dev {ProxyRules.IpvsInterface}", Owner = "kube-proxy" }],
                    Mend = ByHand($"ip address add {prefix} dev {ProxyRules.IpvsInterface}"),
                };
            }

            // 3. The filters before it.
            var last = branch.Steps.LastOrDefault();
            if (last.Rule is { Table: "filter" })
            {
                return ProxyChains.Of(last.Rule.Table, last.Rule.Chain) == ProxyChain.Firewall ? KeptOut(subject, one, last, effect) : Filtered(subject, one, last, effect);
            }

            // 4. Its real servers.
            return one.Backends.IsEmpty
                ? new Deviation(FailureClass.ServiceRuleMissing, $"the virtual server {server.Option} of {subject} does not take these packets", effect) { Rules = [Ref(Servers.RuleOf(server))] }
                : Lacking(subject, one, server, one.Backends) with { Effect = effect };
        }

        // Refused as to a port of the Service's address that it has not: the set of those that it has lacks this one, or is not asked.
        private Deviation Filtered(Subject subject, TrafficCase one, WalkStep last, string effect)
        {
            var set = SetOf(subject, one);
            return Member(set, one) is null
                ? Unlisted(FailureClass.ServiceRuleMissing, set, MemberOf(subject, one), $"so that {last.Rule.Chain} takes it for a port that the Service has not", effect)
                : new Deviation(FailureClass.ProxyRulesMissing, $"{last.Rule.Chain} refuses what is in {set}", effect)
                {
                    Shared = $"{last.Rule.Chain} {set}",
                    Rules = [Ref(last), Missing("filter", "KUBE-IPVS-FILTER", $"-m set --match-set {set} dst,dst -j RETURN")],
                };
        }

        private Deviation KeptOut(Subject subject, TrafficCase one, WalkStep last, string effect)
        {
            var ranges = ServiceMeaning.SourceRanges(subject.Service, IsIPv6);
            if (ranges.IsEmpty)
            {
                var firewall = rules.SetName("LOAD-BALANCER-FW");
                return new Deviation(FailureClass.SourceRangeDenied, $"{firewall} holds {subject} at {one.To}, which has no loadBalancerSourceRanges", effect)
                {
                    Rules = [.. Member(firewall, one) is { } member ? [Ref(firewall, member)] : Array.Empty<RuleRef>(), Ref(last)],
                    Mend = ByHand($"ipset del {firewall} {MemberOf(subject, one)}"),
                };
            }

            var allowed = rules.SetName("LOAD-BALANCER-SOURCE-CIDR");
            var range = one.Range ?? ranges.FirstOrDefault(r => r.Contains(one.Packet.Tuple.Source.Address));
            var entry = $"{MemberOf(subject, one)},{(range.PrefixLength == range.Address.Width ? range.Address.ToString() : range.ToString())}";
            return rules.IpSets?.GetValueOrDefault(allowed)?.Members.Any(m => m.Text == entry) == true
                ? new Deviation(FailureClass.SourceRangeDenied, $"KUBE-SOURCE-RANGES-FIREWALL lets nobody through, whatever {allowed} holds", effect)
                {
                    Shared = allowed,
                    Rules = [Asking("filter", "KUBE-SOURCE-RANGES-FIREWALL", "LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src", "RETURN"), Ref(last)],
                }
                : Unlisted(FailureClass.SourceRangeDenied, allowed, entry, $"which loadBalancerSourceRanges of {subject.FullName} allows", effect);
        }

        private Deviation UndeniedByIpvs(Subject subject, TrafficCase one, WalkBranch branch)
        {
            var effect = branch.Backend is { } backend ? $"go to {backend}" : "are let through";
            var words = $"nothing keeps others than loadBalancerSourceRanges from {subject} at {one.To}";
            var hook = one.Packet.FromNode ? Hook.Output : Hook.Input;
            if (branch.Steps.FirstOrDefault(s => s.Hook == hook && s.Rule is { Table: "filter", Target: RuleTarget.Accept or RuleTarget.Return } && !ProxyChains.Wrote(s.Rule)) is { Rule: not null } before)
            {
                var rule = Ref(before);
                return new Deviation(FailureClass.TranslationShadowed, $"{OwnerWords(rule)} lets packets in before kube-proxy's rules ask for loadBalancerSourceRanges ({rule})", effect) { Shared = rule.ToString(), Rules = [rule], Mend = Removing(before) };
            }

            if (one.Packet.FromNode && branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-IPVS-OUT-FILTER" }))
            {
                var host = new IpNetwork(one.To.Address, one.To.Address.Width);
                return new Deviation(FailureClass.ServiceRuleMissing, words, effect)
                {
                    Rules = [Missing("filter", "KUBE-IPVS-OUT-FILTER", string.Create(CultureInfo.InvariantCulture, $"-s {host} -m ipvs --vproto {(int)subject.Protocol} --vaddr {host} --vport {one.To.Port} -j DROP"))],
                };
            }

            var firewall = rules.SetName("LOAD-BALANCER-FW");
            if (!one.Packet.FromNode && rules.IpSets is not null && Member(firewall, one) is null)
            {
                return Unlisted(FailureClass.ServiceRuleMissing, firewall, MemberOf(subject, one), "so that its loadBalancerSourceRanges are not asked", effect);
            }

            // A member that lets too many in, or a rule that is missing.
            if (branch.Steps.FirstOrDefault(s => s.Rule is { Chain: "KUBE-SOURCE-RANGES-FIREWALL", Target: RuleTarget.Return }) is { Rule: not null } lets)
            {
                var allowed = rules.SetName("LOAD-BALANCER-SOURCE-CIDR");
                var member = rules.IpSets?.GetValueOrDefault(allowed)?.Members.FirstOrDefault(m => m.Text.StartsWith($"{MemberOf(subject, one)},", StringComparison.Ordinal)
                    && IpNetwork.TryParse(m.Text.AsSpan(m.Text.LastIndexOf(',') + 1), out var range) && range.Contains(one.Packet.Tuple.Source.Address));
                return new Deviation(FailureClass.ServiceRuleMissing, $"the rules let in who is in none of loadBalancerSourceRanges of {subject.FullName}", effect)
                {
                    Rules = [Ref(lets), .. member is null ? Array.Empty<RuleRef>() : [Ref(allowed, member)]],
                    Mend = member is null ? null : ByHand($"ipset del {allowed} {member.Text}"),
                };
            }

            // What serves all Services is missing, not one Service's.
            return new Deviation(FailureClass.ProxyRulesMissing, $"the rules that keep others than loadBalancerSourceRanges out are not in effect for packets {(one.Packet.FromNode ? "from the node itself" : "that come in")}", effect)
            {
                Shared = one.Packet.FromNode ? "KUBE-IPVS-OUT-FILTER" : firewall,
                Rules =
                [
                    one.Packet.FromNode ? Missing("filter", "OUTPUT", "-m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER")
                        : branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-SOURCE-RANGES-FIREWALL" }) ? Missing("filter", "KUBE-SOURCE-RANGES-FIREWALL", "-j DROP")
                        : branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-PROXY-FIREWALL" }) ? Asking("filter", "KUBE-PROXY-FIREWALL", "LOAD-BALANCER-FW", "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL")
                        : Missing("filter", "INPUT", "-m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL"),
                ],
            };
        }

        private Deviation UnreachedByIpvs(Subject subject, TrafficCase one, ImmutableArray<ExpectedBackend> missing)
            => Servers.Find(subject.Protocol, one.To) is { } server ? Lacking(subject, one, server, missing)
                : new Deviation(FailureClass.EndpointRuleMissing, $"no virtual server leads {subject} to {Words(missing)}", "never come there");

        // Real servers that are not there, or take nothing new.
        private Deviation Lacking(Subject subject, TrafficCase one, VirtualServer server, ImmutableArray<ExpectedBackend> missing)
        {
            var draining = missing.Where(m => server.RealServers.Any(r => r.Address == m.Address && r.Weight == 0)).ToList();
            var isDraining = draining.Count == missing.Length;
            var weight = server.RealServers.FirstOrDefault(r => r.Weight > 0)?.Weight ?? 1;
            var lines = missing.Select(m => server.LineOf(new RealServer(m.Address, Forwarding.Masquerade, weight)));
            return new Deviation(FailureClass.EndpointRuleMissing, isDraining
                ? $"the virtual server {server.Option} of {subject} gives {Words(missing)} no new connections (weight 0), though {(missing.Length == 1 ? "it is" : "they are")} ready"
                : $"the virtual server {server.Option} of {subject} has no real server {Words(missing)}{(one.Backends.Length == missing.Length ? $", and {Ready(one)}" : "")}", "never come there")
            {
                Rules = isDraining ? [.. server.RealServers.Select((r, i) => (r, i)).Where(x => draining.Exists(d => d.Address == x.r.Address)).Take(3).Select(x => Ref(Servers.RuleOf(server, x.i)))]
                    : [.. missing.Take(3).Select(m => MissingReal(server, server.LineOf(new RealServer(m.Address, Forwarding.Masquerade, weight))))],
                Mend = ByHand([.. lines.Select(l => $"ipvsadm {(isDraining ? $"-e{l[2..]}" : l)}")]),
            };
        }

        private Deviation StaleServer(Subject subject, WalkBranch branch, WalkStep step, string why) => new(FailureClass.StaleEndpointRule,
            $"the virtual server {step.Rule.Chain} still leads {subject} to {branch.Backend}, {why}", $"go there{InCases(branch.Probability)}")
        {
            Share = branch.Probability,
            Rules = [Ref(step)],
            Mend = ByHand($"ipvsadm -d {step.Rule.Chain} -r {branch.Backend}"),
        };

        private Deviation UnmasqueradedByIpvs(Subject subject, TrafficCase one, WalkBranch branch, bool isHairpin, string effect)
        {
            if (Servers.IsTracked == false)
            {
                return new Deviation(FailureClass.MasqueradeMissing, "connection tracking does not know the connections of IPVS (net.ipv4.vs.conntrack is 0), so that no rule translates their source", effect)
                {
                    Shared = "net.ipv4.vs.conntrack",
                    Mend = ByHand("sysctl -w net.ipv4.vs.conntrack=1"),
                };
            }

            // Whoever takes it before it is marked, or out of connection tracking.
            if (branch.Steps.FirstOrDefault(s => s.Rule.Target is RuleTarget.Track { NoTrack: true } || !IsMarked(branch) && AtEntry(s) && TakesBefore(s, branch.Steps)) is { Rule: not null } taker)
            {
                var rule = Ref(taker);
                return new Deviation(FailureClass.MasqueradeMissing, $"{OwnerWords(rule)} takes packets before they are masqueraded ({rule})", effect) { Shared = rule.ToString(), Rules = [rule], Mend = Removing(taker) };
            }

            if (isHairpin)
            {
                var backend = branch.Backend!.Value;
                var entry = string.Create(CultureInfo.InvariantCulture, $"{backend.Address},{ProxyRules.Name(subject.Protocol)}:{backend.Port},{backend.Address}");
                var set = rules.SetName("LOOP-BACK");
                return rules.IpSets is { } sets && sets.GetValueOrDefault(set)?.Members.Any(m => m.Text == entry) != true
                        ? Unlisted(FailureClass.MasqueradeMissing, set, entry, "so that the pod gets its own packets with its own source", effect)
                    : branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-POSTROUTING" })
                        ? new Deviation(FailureClass.MasqueradeMissing, $"KUBE-POSTROUTING does not ask {set}", effect) { Shared = set, Rules = [Asking("nat", "KUBE-POSTROUTING", "LOOP-BACK", "dst,dst,src", "MASQUERADE")] }
                        : MasqueradingUnasked(branch, effect);
            }

            if (IsMarked(branch))
            {
                return MasqueradingUnasked(branch, effect);
            }

            if (branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-MARK-MASQ" }))
            {
                return new Deviation(FailureClass.MasqueradeMissing, "KUBE-MARK-MASQ sets no mark", effect) { Shared = Names.Mark, Rules = [Names.MissingMark()] };
            }

            var asked = SetOf(subject, one);
            if (rules.IpSets is not null && Member(asked, one) is null)
            {
                return Unlisted(FailureClass.MasqueradeMissing, asked, MemberOf(subject, one), "so that nothing marks these packets for masquerading", effect);
            }

            var hook = one.Packet.FromNode ? "OUTPUT" : "PREROUTING";
            var right = !branch.Steps.Any(s => AtEntry(s) && s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-SERVICES" }) ? Missing("nat", hook, "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES")
                : one.Kind switch
                {
                    ServiceAddressKind.Cluster => Asking("nat", "KUBE-SERVICES", "CLUSTER-IP", "dst,dst", "KUBE-MARK-MASQ", "! -s PODS "),
                    ServiceAddressKind.External => Asking("nat", "KUBE-SERVICES", "EXTERNAL-IP", "dst,dst", "KUBE-MARK-MASQ"),
                    ServiceAddressKind.LoadBalancer when branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-LOAD-BALANCER" }) => Missing("nat", "KUBE-LOAD-BALANCER", "-j KUBE-MARK-MASQ"),
                    ServiceAddressKind.LoadBalancer => Asking("nat", "KUBE-SERVICES", "LOAD-BALANCER", "dst,dst", "KUBE-LOAD-BALANCER"),
                    _ when branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-NODE-PORT" })
                        => Asking("nat", "KUBE-NODE-PORT", NodePortSet(subject, ""), subject.Protocol == IpProtocol.Sctp ? "dst,dst" : "dst", "KUBE-MARK-MASQ", $"-p {ProxyRules.Name(subject.Protocol)} "),
                    _ => Missing("nat", "KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"),
                };
            return new Deviation(FailureClass.MasqueradeMissing, $"no rule of {right.Chain} marks these packets for masquerading", effect) { Shared = $"{right.Chain} {right.Raw}", Rules = [right] };
        }

        // What should have kept a packet under externalTrafficPolicy Local from being marked; null when something else marked it.
        private Deviation? UnsparedByIpvs(Subject subject, TrafficCase one)
        {
            if (one.Kind is ServiceAddressKind.Cluster or null || subject.Service.Spec.ExternalTrafficPolicy != "Local")
            {
                return null;
            }

            if (one.Kind == ServiceAddressKind.External)
            {
                var cluster = rules.SetName("EXTERNAL-IP");
                return Member(cluster, one) is not { } stray ? null
                    : new Deviation(FailureClass.MasqueradeUnexpected, $"{cluster} holds {subject} at {one.To}, which has externalTrafficPolicy Local", "") { Rules = [Ref(cluster, stray)], Mend = ByHand($"ipset del {cluster} {stray.Text}") };
            }

            var local = one.Kind == ServiceAddressKind.LoadBalancer ? "LOAD-BALANCER-LOCAL" : NodePortSet(subject, "LOCAL-");
            var set = rules.SetName(local);
            return rules.IpSets is not null && Member(set, one) is null
                ? Unlisted(FailureClass.MasqueradeUnexpected, set, MemberOf(subject, one), "so that packets are marked for masquerading although externalTrafficPolicy is Local", "")
                : one.Kind == ServiceAddressKind.LoadBalancer
                    ? new Deviation(FailureClass.MasqueradeUnexpected, $"KUBE-LOAD-BALANCER does not ask {set} before it marks", "") { Shared = set, Rules = [Asking("nat", "KUBE-LOAD-BALANCER", local, "dst,dst", "RETURN")] }
                    : new Deviation(FailureClass.MasqueradeUnexpected, $"KUBE-NODE-PORT does not ask {set} before it marks", "")
                    {
                        Shared = set,
                        Rules = [Asking("nat", "KUBE-NODE-PORT", local, subject.Protocol == IpProtocol.Sctp ? "dst,dst" : "dst", "RETURN", $"-p {ProxyRules.Name(subject.Protocol)} ")],
                    };
        }

        // The rule of iptables mode that translated a packet before IPVS could see it; none when none did.
        private static WalkStep OldTranslation(WalkBranch branch)
        {
            for (var trail = branch.Backend is null ? null : branch.Trail; trail is not null; trail = trail.Before)
            {
                if (trail.Step is { Translates: true, Rule.Target: RuleTarget.Dnat } && ProxyChains.Of(trail.Step.Rule.Table, trail.Step.Rule.Chain) == ProxyChain.Endpoint)
                {
                    return trail.Step;
                }
            }

            return default;
        }

        private Deviation TranslatedBeforeIpvs(WalkBranch branch)
        {
            var step = OldTranslation(branch);
            var old = Ref(step);
            var entry = branch.Steps.FirstOrDefault(s => AtEntry(s) && s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of("nat", jump.Chain) is ProxyChain.Service or ProxyChain.External or ProxyChain.Firewall);
            var isElsewhere = rules.Sets.Any(s => s.Backend == step.Backend && s.Table("nat")?.Chain("KUBE-SERVICES")?.Rules.Any(r => r.Matches.Any(m => m is RuleMatch.InSet)) != true);
            return new Deviation(FailureClass.ProxyBackendConflict, $"kube-proxy works in IPVS mode, and its rules of iptables mode are still there ({old.Tool}): they translate packets before IPVS sees them, and nobody keeps them up to date", "go by the old rules")
            {
                Shared = $"iptables mode beside IPVS in {old.Tool}",
                Rules = [.. entry.Rule is null ? Array.Empty<RuleRef>() : [Ref(entry)], old],
                Mend = new Mend("Remove the rules that kube-proxy left from iptables mode: 'kube-proxy --cleanup' does so for all modes; restart kube-proxy then.",
                    isElsewhere ? $"{old.Tool}-save | grep -v KUBE- | {old.Tool}-restore" : null, check._vantage.Node),
            };
        }

        // Virtual servers at addresses that are kube-proxy's to serve, and ports that no Service has.
        private void FindServersLeftOver(HashSet<(IpAddress?, ushort, IpProtocol)> wanted, FindingList found)
        {
            foreach (var server in IsIpvs && rules.IsRead ? Servers.Servers : [])
            {
                var (address, port) = (server.Address.Address, server.Address.Port);
                var isBound = check._vantage.Routes?.Lookup(address) is { Device: ProxyRules.IpvsInterface };
                if (server.IsIPv6 != IsIPv6 || server.Mark != 0 || wanted.Contains((address, port, server.Protocol)) || !isBound && !NodePortAddresses.Contains(address)
                    || !isBound && wanted.Contains((null, port, server.Protocol)))
                {
                    continue;
                }

                var service = check._cluster.FindServiceByAddress(address);
                var mend = ByHand($"ipvsadm -D {server.Option}");
                found.Add(service is null
                    ? new Finding(FailureClass.StaleEndpointRule, $"on {check._vantage.Words} there is still the virtual server {server.Option}, which no Service has.") { Mend = mend }
                    : new Finding(FailureClass.PortNotInService, $"on {check._vantage.Words} there is still the virtual server {server.Option}, but service {service.Metadata.Namespace}/{service.Metadata.Name} has no such port.") { Objects = [service.Ref], Mend = mend },
                    Ref(Servers.RuleOf(server)));
            }
        }

        // As kube-proxy would make it.
        private VirtualServer Wanted(Subject subject, TrafficCase one) => new()
        {
            Protocol = subject.Protocol,
            Address = one.To,
            Scheduler = UsualScheduler ?? "rr",
            PersistenceSeconds = subject.Service.Spec.SessionAffinity == "ClientIP" ? subject.Service.Spec.SessionAffinityConfig?.ClientIP?.TimeoutSeconds ?? 10_800 : null,
            PersistencePrefix = one.To.Address.Width,
            RealServers = [.. one.Backends.Select(b => new RealServer(b.Address, Forwarding.Masquerade, 1))],
        };

        private string SetOf(Subject subject, TrafficCase one) => rules.SetName(one.Kind switch
        {
            ServiceAddressKind.Cluster => "CLUSTER-IP",
            ServiceAddressKind.External => subject.Service.Spec.ExternalTrafficPolicy == "Local" ? "EXTERNAL-IP-LOCAL" : "EXTERNAL-IP",
            ServiceAddressKind.LoadBalancer => "LOAD-BALANCER",
            _ => NodePortSet(subject, ""),
        });

        private static string NodePortSet(Subject subject, string local) => subject.Protocol switch
        {
            IpProtocol.Udp => $"NODE-PORT-{local}UDP",
            IpProtocol.Sctp => $"NODE-PORT-{local}SCTP-HASH",
            _ => $"NODE-PORT-{local}TCP",
        };

        // 10.96.0.1,tcp:443; of a bitmap of ports the port only.
        private static string MemberOf(Subject subject, TrafficCase one) => one.Kind == ServiceAddressKind.NodePort && subject.Protocol != IpProtocol.Sctp
            ? one.To.Port.ToString(CultureInfo.InvariantCulture) : string.Create(CultureInfo.InvariantCulture, $"{one.To.Address},{ProxyRules.Name(subject.Protocol)}:{one.To.Port}");

        private IpSetMember? Member(string set, TrafficCase one) => rules.IpSets?.GetValueOrDefault(set)?.Find(one.To.Address, one.Packet.Tuple.Protocol, one.To.Port);

        private Deviation Unlisted(FailureClass @class, string set, string entry, string so, string effect) => new(@class, $"the ipset {set} lacks {entry}, {so}", effect)
        {
            Rules = [new RuleRef { IsMissing = true, Tool = "ipset", Table = "ipset", Chain = set, Raw = $"add {set} {entry}", Owner = "kube-proxy" }],
            Mend = ByHand($"ipset add {set} {entry}"),
        };

        private RuleRef Ref(string set, IpSetMember member) => new()
        {
            Tool = "ipset",
            Table = "ipset",
            Chain = set,
            Position = rules.IpSets![set].Members.IndexOf(member) + 1,
            Raw = $"add {set} {member}",
            Owner = "kube-proxy",
        };

        private static RuleRef MissingServer(VirtualServer server) => MissingReal(server, server.ToString());

        private static RuleRef MissingReal(VirtualServer server, string line) => new() { IsMissing = true, Tool = "ipvsadm", Table = "ipvs", Chain = server.Option, Raw = line, Owner = "kube-proxy" };

        private RuleRef Asking(string table, string chain, string set, string how, string target, string first = "")
            => Missing(table, chain, $"{first}-m comment --comment \"{CommentOf(set)}\" -m set --match-set {rules.SetName(set)} {how} -j {target}");

        private RuleRef Missing(string table, string chain, string spec) => new()
        {
            IsMissing = true,
            Tool = rules.Sets.FirstOrDefault(s => s.Table("nat")?.Chain("KUBE-SERVICES") is not null) is { } own ? RuleRef.ToolOf(own.Backend, IsIPv6) : null,
            Table = table,
            Chain = chain,
            Raw = $"-A {chain} {spec}",
            Owner = "kube-proxy",
        };

        // pkg/proxy/ipvs/ipset.go
        private static string CommentOf(string set) => set switch
        {
            "LOOP-BACK" => "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
            "CLUSTER-IP" => "Kubernetes service cluster ip + port for masquerade purpose",
            "EXTERNAL-IP" => "Kubernetes service external ip + port for masquerade and filter purpose",
            "LOAD-BALANCER" => "Kubernetes service lb portal",
            "LOAD-BALANCER-FW" => "Kubernetes service load balancer ip + port for load balancer with sourceRange",
            "LOAD-BALANCER-LOCAL" => "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
            "LOAD-BALANCER-SOURCE-CIDR" => "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
            "NODE-PORT-SCTP-HASH" => "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
            "NODE-PORT-LOCAL-SCTP-HASH" => "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
            _ when set.StartsWith("NODE-PORT-LOCAL-", StringComparison.Ordinal) => $"Kubernetes nodeport {set["NODE-PORT-LOCAL-".Length..]} port with externalTrafficPolicy=local",
            _ => $"Kubernetes nodeport {set["NODE-PORT-".Length..]} port for masquerade purpose",
        };

        // What kube-proxy does when it syncs, and what does it at once.
        private Mend ByHand(params string[] commands) => Mends.RestartKubeProxy(check._vantage.Node) is var restart && commands.Length > MostByHand ? restart
            : new Mend($"{restart.Text} Until then, by hand:", string.Join(" && ", commands), check._vantage.Node);
    }
}
