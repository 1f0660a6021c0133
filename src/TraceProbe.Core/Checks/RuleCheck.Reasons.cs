using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

public sealed partial class RuleCheck
{
    private sealed partial class Side
    {
        private static bool AtEntry(WalkStep step) => step.Translates && step.Hook is Hook.Prerouting or Hook.Output;

        /// <summary>The rule by which a packet that should be translated was not, by the way it took.</summary>
        private Deviation WhyUntranslated(Subject subject, TrafficCase one, WalkBranch branch)
        {
            if (IsIpvs)
            {
                return WhyNotScheduled(subject, one, branch);
            }

            var steps = branch.Steps;
            var fromNode = one.Packet.FromNode;

            // 1. Somebody else had it before.
            if (WhoTookIt(branch) is { Rule: not null } taker)
            {
                return Shadowed(taker, branch);
            }

            // 2. kube-proxy's rules as a whole.
            var effect = EffectOf(branch);
            if (rules.DescribeMissing(fromNode) is { } missing)
            {
                return new Deviation(FailureClass.ProxyRulesMissing, $"none of kube-proxy's rules is in effect for packets {(fromNode ? "from the node itself" : "that come in")}: {missing}", effect) { Shared = missing };
            }

            if (!steps.Any(s => AtEntry(s) && s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of(s.Rule.Table, jump.Chain) is ProxyChain.Entry or ProxyChain.Portal))
            {
                var hook = fromNode ? "output" : "prerouting";
                return new Deviation(FailureClass.ProxyRulesMissing, $"none of kube-proxy's rules is in effect for packets {(fromNode ? "from the node itself" : "that come in")}: no rule at {hook} leads to them", effect) { Shared = hook };
            }

            // 3. The rule for this address and port.
            var isNodePort = one.Kind == ServiceAddressKind.NodePort;
            var entries = Entries.For(one.To, subject.Protocol, isNodePort).Where(e => e.Kind is ProxyChain.Entry or ProxyChain.Portal
                && (rules.Mode != ProxyMode.Userspace || e.Rule.Chain == RuleNames.Portal(isNodePort, fromNode))).ToList();
            var place = Names.Entry(isNodePort, fromNode);
            if (entries.Count == 0)
            {
                return isNodePort && !Entries.All.Any(e => e.Address is null && e.Kind is ProxyChain.Entry or ProxyChain.Portal)
                    ? new Deviation(FailureClass.ProxyRulesMissing, $"none of kube-proxy's rules for node ports is there: {place} holds none", effect) { Shared = place }
                    : new Deviation(FailureClass.ServiceRuleMissing, $"{place} has no rule for {subject} at {one.To}", effect) { Rules = [Names.MissingEntry(subject, one)] };
            }

            if (!steps.Any(s => entries.Exists(e => Is(s.Rule, e.Rule))))
            {
                return isNodePort
                    ? new Deviation(FailureClass.ProxyRulesMissing, $"none of kube-proxy's rules for node ports is in effect: no rule leads to {place}", effect) { Shared = $"to {place}", Rules = [Names.MissingNodePortsJump()] }
                    : new Deviation(FailureClass.ServiceRuleMissing, $"the rule for {subject} at {one.To} does not take these packets", effect) { Rules = [entries[0].Rule] };
            }

            // 4. The chains it leads to.
            var last = steps.LastOrDefault(s => AtEntry(s) && s.Rule.Target is RuleTarget.Jump jump
                && ProxyChains.Of(s.Rule.Table, jump.Chain) is ProxyChain.External or ProxyChain.Firewall or ProxyChain.Service or ProxyChain.Endpoint).Rule;
            var chain = (last?.Target as RuleTarget.Jump)?.Chain ?? entries[0].LeadsTo ?? place;
            switch (ProxyChains.Of(last?.Table ?? "nat", chain))
            {
                case ProxyChain.Firewall or ProxyChain.External when one.Fate is Fate.Denied or Fate.Dropped:
                    return new Deviation(FailureClass.ServiceRuleMissing,
                        $"{chain} has no rule that marks packets for {subject} to be dropped {(one.Fate == Fate.Denied ? "that come from others than loadBalancerSourceRanges" : "for want of an endpoint on this node")}", effect) { Rules = [Names.MissingMarkToDrop(chain)] };
                case ProxyChain.Firewall when one.Range is { } range:
                    return new Deviation(FailureClass.SourceRangeDenied, $"{chain} has no rule for sources in {range}, which loadBalancerSourceRanges of {subject.FullName} allows", effect) { Rules = [Names.MissingRange(subject, one, chain, range)] };
                case ProxyChain.Firewall or ProxyChain.External when !(one.From == Origin.Outside && subject.Service.Spec.ExternalTrafficPolicy == "Local" && chain.StartsWith("KUBE-XLB-", StringComparison.Ordinal)):
                    return new Deviation(FailureClass.ServiceRuleMissing, $"{chain} has no rule that leads these packets of {subject} on to its endpoints", effect) { Rules = [Names.MissingOnward(subject, one, chain)] };
                case ProxyChain.Endpoint:
                    return new Deviation(FailureClass.EndpointRuleMissing, $"{chain} of {subject} translates to no endpoint", effect)
                    {
                        Rules = [.. one.Backends.Where(b => one.Backends.Length == 1 || RuleNames.EndpointChain(subject, b.Address) == chain).Select(b => Names.MissingTranslation(subject, chain, b.Address))],
                    };
                default:
                    return new Deviation(FailureClass.EndpointRuleMissing, $"{chain} has no rule that leads {subject} to an endpoint, and {Ready(one)}", effect)
                    {
                        Rules = [.. one.Backends.Take(3).Select(b => Names.MissingEndpoint(subject, chain, b.Address))],
                    };
            }
        }

        // The rule of somebody else by which a packet did not come to kube-proxy's translation; none when it did.
        private WalkStep WhoTookIt(WalkBranch branch)
        {
            var steps = branch.Steps;
            return steps.FirstOrDefault(s => s.Rule.Target is RuleTarget.Track { NoTrack: true } || AtEntry(s) && TakesBefore(s, steps));
        }

        // Whether a rule that is not kube-proxy's decided before its rules were asked, or in the midst of them.
        private bool TakesBefore(WalkStep step, ImmutableArray<WalkStep> steps)
        {
            if (ProxyChains.Wrote(step.Rule) || step.Rule.Target is not (RuleTarget.Accept or RuleTarget.Return or RuleTarget.Drop or RuleTarget.Reject))
            {
                return false;
            }

            if (ProxyChains.Of(step.Rule.Table, step.Rule.Chain) != ProxyChain.None)
            {
                return true;
            }

            // Behind kube-proxy's rules, which did not take it, it is harmless; and a return out of a chain of its own leads back.
            return (step.Rule.Target is not RuleTarget.Return || IsBase(step.Rule))
                && !steps.TakeWhile(s => !ReferenceEquals(s.Rule, step.Rule)).Any(s => s.Hook == step.Hook && s.Rule.Target is RuleTarget.Jump jump
                    && ProxyChains.Of(s.Rule.Table, s.Rule.Chain) == ProxyChain.None && ProxyChains.Of(s.Rule.Table, jump.Chain) is ProxyChain.Entry or ProxyChain.Portal);
        }

        private bool IsBase(Rule rule) => rules.Sets.Any(s => s.Table(rule.Table)?.Chain(rule.Chain)?.Hook is not null);

        private static bool Is(Rule rule, RuleRef other) => rule.Chain == other.Chain && rule.Position == other.Position && rule.Table == other.Table && rule.Raw == other.Raw;

        private Deviation Shadowed(WalkStep step, WalkBranch branch)
        {
            var rule = Ref(step);
            return new Deviation(FailureClass.TranslationShadowed, $"{OwnerWords(rule)} takes packets before kube-proxy's rules do ({rule})", EffectOf(branch))
            {
                Shared = rule.ToString(),
                Share = branch.Probability,
                Rules = [rule],
                Mend = Removing(step),
            };
        }

        /// <summary>A packet that a rule ended which has nothing to do with whether the Service has endpoints.</summary>
        private Deviation Ended(WalkBranch branch, WalkStep step)
        {
            var effect = EffectOf(branch);
            if (branch.Policy is { } policy)
            {
                return new Deviation(FailureClass.DroppedByRule, $"the {policy} drops what no rule accepted", effect)
                {
                    Shared = policy,
                    Share = branch.Probability,
                    Mend = Mends.LetThrough(branch, IsIPv6, check._vantage.Node),
                };
            }

            var rule = Ref(step);
            var isRejected = branch.Outcome == WalkOutcome.Rejected;
            return new Deviation(isRejected ? FailureClass.RejectedByRule : FailureClass.DroppedByRule, $"{OwnerWords(rule)} {(isRejected ? "rejects" : "drops")} packets ({rule})", effect)
            {
                Shared = rule.ToString(),
                Share = branch.Probability,
                Rules = [rule],
                Mend = Removing(step),
                // What a NetworkPolicy denies is wanted so; who may ask is not this comparison's question.
                IsRemark = ProxyChains.CarriesOutPolicies(rule.Owner),
            };
        }

        private static Deviation Undecided(WalkBranch branch) => new(FailureClass.Undetermined, $"it cannot be told whether {branch.Unknown} holds", "may be treated otherwise")
        {
            Shared = branch.Unknown,
            Share = branch.Probability,
        };

        private static Deviation SourceUndecided(WalkBranch branch, string question) => new(FailureClass.Undetermined, $"it cannot be told whether {question} holds", "may keep their source or not")
        {
            Shared = question,
            Share = branch.Probability,
        };

        private Deviation RefusedThoughReady(TrafficCase one, WalkBranch branch, WalkStep step)
            => new(FailureClass.EndpointRuleMissing, $"a rule refuses packets as for want of endpoints, and {Ready(one)}", EffectOf(branch)) { Share = branch.Probability, Rules = [Ref(step)] };

        private Deviation RefusedOtherwise(TrafficCase one, WalkBranch branch, WalkStep step) => one.Fate == Fate.Dropped
            ? new Deviation(FailureClass.EndpointRuleMissing, "a rule rejects packets as for want of any endpoint, and other nodes have some", EffectOf(branch)) { Rules = [Ref(step)] }
            : new Deviation(FailureClass.StaleEndpointRule, "a rule drops packets as for want of an endpoint on this node only, and no node has one", EffectOf(branch)) { Rules = [Ref(step)] };

        /// <summary>Translated to something else than an endpoint that should be used.</summary>
        private Deviation LedAstray(Subject subject, TrafficCase one, WalkBranch branch)
        {
            var step = branch.Steps.LastOrDefault(s => AtEntry(s) || IsRealServer(s));
            var backend = branch.Backend!.Value;
            if (step.Rule is null || !ProxyChains.Wrote(step.Rule) || ProxyChains.Of(step.Rule.Table, step.Rule.Chain) == ProxyChain.None)
            {
                return step.Rule is null ? Undecided(branch) : Shadowed(step, branch);
            }

            var all = ServiceMeaning.ExpectedBackends(check._cluster, subject.Service, subject.Port, IsIPv6);
            var why = all.FirstOrDefault(b => b.Address == backend) is { } known
                ? !known.Ready ? "which is not ready" : known.Node != check._vantage.Node ? $"which is on {known.Node ?? "no node that is known"} and not to be used from here" : "which is not to be used from here"
                : check._cluster.FindPodByAddress(backend.Address) is { } pod ? $"at pod {pod.Metadata.Namespace}/{pod.Metadata.Name}, which is no endpoint of it" : "which is no endpoint of it";
            if (IsIpvs)
            {
                return StaleServer(subject, branch, step, why);
            }

            return new Deviation(FailureClass.StaleEndpointRule, $"{step.Rule.Chain} still leads {subject} to {backend}, {why}", $"go there{InCases(branch.Probability)}")
            {
                Share = branch.Probability,
                Rules = [Ref(step)],
            };
        }

        /// <summary>Endpoints that should be used and that no packet comes to.</summary>
        private Deviation Unreached(Subject subject, TrafficCase one, WalkResult walk, ImmutableArray<ExpectedBackend> missing, double lostShare)
        {
            if (IsIpvs)
            {
                return UnreachedByIpvs(subject, one, missing);
            }

            // The chain of the Service port, from a branch that did come through.
            var chain = walk.Branches.SelectMany(b => b.Steps).Where(AtEntry).Select(s => s.Rule)
                .Where(r => ProxyChains.Of(r.Table, r.Chain) == ProxyChain.Service || r.Target is RuleTarget.Jump jump && ProxyChains.Of(r.Table, jump.Chain) == ProxyChain.Service)
                .Select(r => ProxyChains.Of(r.Table, r.Chain) == ProxyChain.Service ? r.Chain : ((RuleTarget.Jump)r.Target!).Chain).FirstOrDefault()
                ?? walk.Branches.SelectMany(b => b.Steps).Where(AtEntry).Select(s => s.Rule.Chain).LastOrDefault(c => c.StartsWith("KUBE-XLB-", StringComparison.Ordinal));
            return new Deviation(FailureClass.EndpointRuleMissing, $"no rule leads {subject} to {Words(missing)}", lostShare > 0 ? $"stay untranslated{InCases(lostShare)}" : "never come there")
            {
                Share = lostShare,
                Rules = chain is null ? [] : [.. missing.Take(3).Select(b => Names.MissingEndpoint(subject, chain, b.Address))],
            };
        }

        private Deviation Uneven(TrafficCase one, WalkResult walk, WalkBranch? lost, double lostShare)
        {
            var shares = walk.Backends.Length <= 4 ? string.Join(", ", walk.Backends.Select(b => $"{b.Address} {Percent(b.Probability)}"))
                : $"{Percent(walk.Backends.Min(b => b.Probability))} to {Percent(walk.Backends.Max(b => b.Probability))}";
            var share = Percent(1.0 / Math.Max(1, one.Backends.Length));
            var odd = walk.Backends.MaxBy(b => Math.Abs(b.Probability - 1.0 / one.Backends.Length));
            var step = walk.Branches.FirstOrDefault(b => b.Backend == odd?.Address)?.Steps.LastOrDefault(s => (AtEntry(s) || IsRealServer(s)) && ProxyChains.Of(s.Rule.Table, s.Rule.Chain) is ProxyChain.Service or ProxyChain.External) ?? default;
            return new Deviation(FailureClass.EndpointShareUneven, $"the endpoints' shares of the connections are {shares}, where each should have {share}", lost is null ? "are shared unevenly" : $"stay untranslated{InCases(lostShare)}")
            {
                Share = lost is null ? 1 : lostShare,
                Rules = step.Rule is null ? [] : [Ref(step)],
            };
        }

        /// <summary>A packet for a Service port without endpoints that nothing refuses.</summary>
        private Deviation Unrefused(Subject subject, TrafficCase one, WalkBranch branch)
        {
            if (IsIpvs || !Habits.ServesPodsAtExternal && one.Fate == Fate.Dropped)
            {
                return WhyUntranslated(subject, one, branch);
            }

            var refusing = Entries.For(one.To, subject.Protocol, one.Kind == ServiceAddressKind.NodePort).FirstOrDefault(e => e.Kind == ProxyChain.NoEndpoints);
            return refusing is null
                ? new Deviation(FailureClass.ServiceRuleMissing, $"no rule refuses packets for {subject} at {one.To}, which has no endpoint{(one.Fate == Fate.Dropped ? " on this node" : "")}", "stay untranslated, and their senders wait")
                {
                    Rules = [Names.MissingRefusal(subject, one)],
                }
                : refusing.LeadsTo is { } chain && branch.Steps.Any(s => Is(s.Rule, refusing.Rule))
                    ? new Deviation(FailureClass.ServiceRuleMissing, $"{chain}, which should refuse packets for Services without endpoints, has no rule that does", "stay untranslated, and their senders wait")
                    {
                        Shared = chain,
                        Rules = [Names.MissingRejection(chain)],
                    }
                    : Unasked(branch, refusing.Rule, "the rules that refuse packets for Services without endpoints");
        }

        private Deviation Undenied(Subject subject, TrafficCase one, WalkBranch branch)
        {
            if (IsIpvs)
            {
                return UndeniedByIpvs(subject, one, branch);
            }

            if (!Habits.ServesPodsAtExternal && branch.Backend is null)
            {
                return WhyUntranslated(subject, one, branch);
            }

            var denying = Entries.For(one.To, subject.Protocol, false).FirstOrDefault(e => e.Kind == ProxyChain.Firewall);
            // In nftables mode it is asked before the translation, and not what translates.
            return denying is not null && (branch.Backend is null || Names.IsNftables && !branch.Steps.Any(s => Is(s.Rule, denying.Rule)))
                ? Unasked(branch, denying.Rule, "the rules that keep others than loadBalancerSourceRanges out")
                : new Deviation(FailureClass.ServiceRuleMissing, $"nothing keeps others than loadBalancerSourceRanges from {subject} at {one.To}", branch.Backend is { } backend ? $"go to {backend}" : "are let through")
                {
                    Share = branch.Probability,
                    Rules = branch.Backend is null ? [Names.MissingDenial(subject, one)] : [.. branch.Steps.Where(AtEntry).Select(s => Ref(s)).TakeLast(1)],
                };
        }

        // The rule is there, and packets do not come to it: somebody accepts them before, or nothing leads there.
        private Deviation Unasked(WalkBranch branch, RuleRef rule, string what)
        {
            foreach (var step in branch.Steps)
            {
                if (!step.Translates && step.Rule.Target is RuleTarget.Accept or RuleTarget.Return && !ProxyChains.Wrote(step.Rule)
                    && (step.Rule.Target is RuleTarget.Accept || IsBase(step.Rule) || ProxyChains.Of(step.Rule.Table, step.Rule.Chain) != ProxyChain.None))
                {
                    return Shadowed(step, branch) with { Effect = "stay untranslated, and their senders wait" };
                }
            }

            return new Deviation(FailureClass.ProxyRulesMissing, $"{what} are not in effect for all packets: not every hook leads to {rule.Table} {rule.Chain}", "stay untranslated, and their senders wait")
            {
                Shared = $"to {rule.Table} {rule.Chain}",
            };
        }

        /// <summary>A packet that keeps its source where it should get the node's.</summary>
        private Deviation Unmasqueraded(Subject subject, TrafficCase one, WalkBranch branch)
        {
            var steps = branch.Steps;
            var isHairpin = one.Packet.Tuple.Source.Address == branch.Backend!.Value.Address;
            var effect = (isHairpin ? "come back to the pod as its own" : "keep their source, and the answers pass the node by") + InCases(isHairpin ? 1 : branch.Probability);
            if (IsIpvs)
            {
                return UnmasqueradedByIpvs(subject, one, branch, isHairpin, effect);
            }

            if (!IsMarked(branch))
            {
                if (isHairpin && Names.IsNftables && branch.Steps.Any(s => s.Hook == Hook.Postrouting && s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of(s.Rule.Table, jump.Chain) == ProxyChain.Postrouting) is false)
                {
                    return MasqueradingUnasked(branch, effect);
                }

                var callsMark = steps.Any(s => s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of(s.Rule.Table, jump.Chain) == ProxyChain.Mark);
                if (!isHairpin && !callsMark && one.Kind == ServiceAddressKind.Cluster && Habits.MarksNoneThough is { } told)
                {
                    return new Deviation(FailureClass.MasqueradeMissing, $"the rules of no Service mark packets for masquerading that come from beyond the pods, which kube-proxy should do by {told}", effect)
                    {
                        Shared = told,
                        Rules = [Names.IsNftables ? Names.MissingClusterMarking() : Names.MissingMarking(subject, one, branch, isHairpin)],
                    };
                }

                return callsMark
                    ? new Deviation(FailureClass.MasqueradeMissing, $"{Names.Mark} sets no mark", effect) { Shared = Names.Mark, Rules = [Names.MissingMark()] }
                    : new Deviation(FailureClass.MasqueradeMissing, $"no rule marks {(isHairpin ? $"packets of {branch.Backend.Value.Address} to itself" : "these packets")} for masquerading", effect)
                    {
                        Share = branch.Probability,
                        Rules = [Names.MissingMarking(subject, one, branch, isHairpin)],
                    };
            }

            return MasqueradingUnasked(branch, effect);
        }

        private Deviation MasqueradingUnasked(WalkBranch branch, string effect)
        {
            var steps = branch.Steps;
            var post = steps.Where(s => s.Hook == Hook.Postrouting && s.Translates).ToList();
            foreach (var step in post)
            {
                if (step.Rule.Target is RuleTarget.Accept or RuleTarget.Return && !ProxyChains.Wrote(step.Rule)
                    && (step.Rule.Target is RuleTarget.Accept || IsBase(step.Rule) || ProxyChains.Of(step.Rule.Table, step.Rule.Chain) != ProxyChain.None))
                {
                    var rule = Ref(step);
                    return new Deviation(FailureClass.MasqueradeMissing, $"{OwnerWords(rule)} takes packets before they are masqueraded ({rule})", effect) { Shared = rule.ToString(), Rules = [rule], Mend = Removing(step) };
                }
            }

            return post.Exists(s => s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of(s.Rule.Table, jump.Chain) == ProxyChain.Postrouting)
                ? new Deviation(FailureClass.MasqueradeMissing, $"{Names.Postrouting} has no rule that masquerades what is marked", effect) { Shared = Names.Postrouting, Rules = [Names.MissingMasquerade()] }
                : new Deviation(FailureClass.MasqueradeMissing, $"no rule at postrouting leads to {Names.Postrouting}", effect) { Shared = $"to {Names.Postrouting}", Rules = [Names.MissingPostroutingJump()] };
        }

        /// <summary>A packet that gets the node's source where it should keep its own.</summary>
        private Deviation Masqueraded(Subject subject, TrafficCase one, WalkBranch branch)
        {
            const string effect = "lose their source, so that pods and policies see the node in place of the client";
            if (!IsMarked(branch))
            {
                return new Deviation(FailureClass.MasqueradeUnexpected, $"{Names.Postrouting} masquerades also what is not marked", effect) { Shared = $"all {Names.Postrouting}", Rules = [Names.MissingReturn()] };
            }

            if (IsIpvs && UnsparedByIpvs(subject, one) is { } unspared)
            {
                return unspared with { Effect = effect, Share = branch.Probability };
            }

            // That most Services' rules mark no such packets can also be the fault of most.
            if (one is { Kind: ServiceAddressKind.Cluster, Hairpin: null } && !IsIpvs && !ToldNotToMark(one.Packet.Tuple.Source.Address))
            {
                return new Deviation(FailureClass.Undetermined, "some Services' rules mark such packets for masquerading and most do not; which is right only kube-proxy's configuration tells (masqueradeAll and clusterCIDR in ConfigMap kube-system/kube-proxy)", effect)
                {
                    Shared = "marked for some",
                    Share = branch.Probability,
                };
            }

            var marking = branch.Steps.LastOrDefault(s => AtEntry(s) && (SetsMark(s.Rule) && ProxyChains.Of(s.Rule.Table, s.Rule.Chain) != ProxyChain.Mark || s.Rule.Target is RuleTarget.Jump jump && ProxyChains.Of(s.Rule.Table, jump.Chain) == ProxyChain.Mark));
            return new Deviation(FailureClass.MasqueradeUnexpected, "a rule marks packets for masquerading that should keep their source", effect) { Share = branch.Probability, Rules = marking.Rule is null ? [] : [Ref(marking)] };
        }

        /// <summary>Several owners' rules decide about the packet, each otherwise.</summary>
        private Deviation Tied(Subject subject, TrafficCase one, WalkResult walk)
        {
            var alone = _alone ??= [.. rules.Sets.Where(s => s.Tables.Values.Any(t => t.Chains.Values.Any(c => !c.Rules.IsEmpty))).Select(s => (s, new RuleWalk([s])))];
            var words = new List<string>();
            var evidence = ImmutableArray.CreateBuilder<RuleRef>();
            var stale = new List<string>();
            WalkStep? others = null;
            foreach (var (set, only) in alone)
            {
                var result = only.Run(one.Packet);
                var tool = RuleRef.ToolOf(set.Backend, IsIPv6);
                words.Add($"by {tool} they {EffectOf(result)}");
                foreach (var step in result.Branches.SelectMany(b => b.Steps).Where(s => AtEntry(s) && s.Rule.Target is not RuleTarget.SetMark).TakeLast(1))
                {
                    evidence.Add(Ref(step));
                    others ??= ProxyChains.Wrote(step.Rule) ? null : step;
                }

                if (!result.Backends.Select(b => b.Address).ToHashSet().SetEquals(one.Backends.Select(b => b.Address)))
                {
                    stale.Add(tool);
                }
            }

            var both = alone.Count(a => a.Set.Tables.Values.Any(t => t.Chains.Values.Any(c => ProxyChains.Of(t.Name, c.Name) == ProxyChain.Entry && !c.Rules.IsEmpty))) > 1;
            return new Deviation(both ? FailureClass.ProxyBackendConflict : FailureClass.TranslationShadowed,
                $"{string.Join(" and ", alone.Select(a => RuleRef.ToolOf(a.Set.Backend, IsIPv6)))} both have rules for them, which differ ({string.Join(", ", words)})", "go by those that were loaded first")
            {
                Shared = "tied",
                Rules = evidence.ToImmutable(),
                Mend = both ? new Mend($"Remove kube-proxy's rules from the backend that it does not use{(stale is [var left] ? $": those of {left} do not agree with the API" : "")}.",
                    stale is [var old] && old != "nft" ? $"{old}-save | grep -v KUBE- | {old}-restore" : null, check._vantage.Node) : others is { } taker ? Removing(taker) : null,
            };
        }

        private List<(RuleSet Set, RuleWalk Walk)>? _alone;

        /// <summary>kube-proxy's rules in two places at once, which agree as yet: of those that differ each Service port tells.</summary>
        public void FindTwice(FindingList found)
        {
            if (rules.Entrances is not [_, _, ..] entrances || found.Has(FailureClass.ProxyBackendConflict))
            {
                return;
            }

            found.Add(new Finding(FailureClass.ProxyBackendConflict, $"on {check._vantage.Words} kube-proxy's {(IsIPv6 ? "IPv6" : "IPv4")} rules are in effect twice, in {string.Join(" and in ", entrances.Select(PlaceOf))}: "
                + "packets meet those that were loaded first, and only one of them is kept up to date.")
            {
                Mend = new Mend("Find out how kube-proxy works (its log, or its ConfigMap), and remove the rules that it does not keep: 'kube-proxy --cleanup' removes those of all modes; restart kube-proxy then.", null, check._vantage.Node),
            }, entrances);

            static string PlaceOf(RuleRef entrance) => entrance.Tool == "nft" ? $"nftables (table {entrance.Table})" : entrance.Tool!;
        }

        /// <summary>What is worth knowing although rules and objects agree: that packets are refused, and why.</summary>
        private void Remark(Subject subject, EndpointChoice endpoints, FindingList found)
        {
            var (service, port) = subject;
            if (!endpoints.HasAny)
            {
                if (EndpointChecks.WhyNoneReady(check._cluster, service, port) is { } why)
                {
                    found.Remark(subject, why);
                }

                return;
            }

            var isInternal = service.Spec.InternalTrafficPolicy == "Local";
            var isExternal = service.Spec.ExternalTrafficPolicy == "Local" && !ServiceMeaning.Addresses(service, port, IsIPv6, NodePortAddress).All(a => a.Kind == ServiceAddressKind.Cluster);
            if (endpoints.Local.IsEmpty && endpoints.IsLocalCertain && (isInternal || isExternal))
            {
                var policy = isInternal ? "internalTrafficPolicy" : "externalTrafficPolicy";
                var what = !IsIpvs ? $"packets {(isInternal ? "from its pods and from itself" : "from outside")} are dropped there"
                    : isInternal && ServiceMeaning.Addresses(service, port, IsIPv6, NodePortAddress).All(a => a.Kind == ServiceAddressKind.Cluster) ? "its virtual server there has no real server and refuses"
                    : "for want of one IPVS mode sends packets on to other nodes', whose answers to clients outside do not come back this way";
                var rule = ServiceMeaning.Addresses(service, port, IsIPv6, NodePortAddress).Where(a => a.Kind == ServiceAddressKind.Cluster == isInternal)
                    .SelectMany(a => Entries.For(a.At, subject.Protocol, a.Kind == ServiceAddressKind.NodePort)).FirstOrDefault(e => e.Kind == ProxyChain.NoEndpoints)?.Rule;
                found.Remark(subject, new Finding(FailureClass.NoLocalEndpoints,
                    $"service {subject.FullName} has {policy} Local, and none of its {(endpoints.Cluster.Length == 1 ? "one endpoint" : string.Create(CultureInfo.InvariantCulture, $"{endpoints.Cluster.Length} endpoints"))} is on {check._vantage.Words}: {what}.")
                {
                    Objects = [service.Ref],
                    Mend = new Mend($"Use {policy} Cluster, or run a pod on each node that is to serve it.",
                        $"kubectl patch service {service.Metadata.Name} -n {service.Metadata.Namespace ?? "default"} -p '{{\"spec\":{{\"{policy}\":\"Cluster\"}}}}'"),
                }, rule);
            }
        }

        /// <summary>Rules for addresses and ports that no Service has.</summary>
        public void FindLeftOver(FindingList found)
        {
            var wanted = new HashSet<(IpAddress?, ushort, IpProtocol)>();
            foreach (var service in check._cluster.Services)
            {
                foreach (var port in service.Spec.Ports)
                {
                    foreach (var (kind, at) in ServiceMeaning.Addresses(service, port, IsIPv6, IsIPv6 ? IpAddress.IPv6Any : IpAddress.IPv4Any))
                    {
                        wanted.Add((kind == ServiceAddressKind.NodePort ? null : at.Address, at.Port, ServiceMeaning.ProtocolOf(port)));
                    }
                }
            }

            FindServersLeftOver(wanted, found);
            foreach (var entry in Entries.All)
            {
                if (entry.Kind is not (ProxyChain.Entry or ProxyChain.Portal) || wanted.Contains((entry.Address, entry.Port, entry.Protocol)))
                {
                    continue;
                }

                var at = string.Create(CultureInfo.InvariantCulture, $"{(entry.Address is { } address ? $"{address} port {entry.Port}" : $"node port {entry.Port}")}/{entry.Protocol.ToString().ToUpperInvariant()}");
                var service = entry.Address is { } of ? check._cluster.FindServiceByAddress(of) : null;
                found.Add(service is null
                    ? new Finding(FailureClass.StaleEndpointRule, $"on {check._vantage.Words} there are still rules for {at}, which no Service has.")
                    : new Finding(FailureClass.PortNotInService, $"on {check._vantage.Words} there are still rules for {at}, but service {service.Metadata.Namespace}/{service.Metadata.Name} has no such port.") { Objects = [service.Ref] }, entry.Rule);
            }
        }

        private static string EffectOf(WalkBranch branch) => branch.Outcome switch
        {
            WalkOutcome.Dropped => "are dropped",
            WalkOutcome.Rejected => "are refused",
            WalkOutcome.Translated => $"go to {branch.Backend}",
            _ => "stay untranslated",
        } + InCases(branch.Probability);

        private static string EffectOf(WalkResult result) => result.Outcome switch
        {
            WalkOutcome.Dropped => "are dropped",
            WalkOutcome.Rejected => "are refused",
            WalkOutcome.Translated => $"go to {Words(result.Backends.Select(b => b.Address))}",
            WalkOutcome.Untranslated => "stay untranslated",
            _ => "may do either",
        };

        private static string InCases(double share) => share > 0.9999 ? "" : $" in {Percent(share)} of the cases";

        private static string Percent(double share) => string.Create(CultureInfo.InvariantCulture, $"{share * 100:0.##} %");

        private static string Ready(TrafficCase one) => one.Backends.Length == 1 ? $"{Words(one.Backends)} is ready" : string.Create(CultureInfo.InvariantCulture, $"{one.Backends.Length} are ready");

        private static string Words(ImmutableArray<ExpectedBackend> backends)
            => backends.Length == 1 ? $"{backends[0].Address}{(backends[0].Pod is { } pod ? $" (pod {pod.Namespace}/{pod.Name})" : "")}" : Words(backends.Select(b => b.Address));

        private static string Words(IEnumerable<AddressPort> addresses)
        {
            var all = addresses.ToList();
            return string.Join(", ", all.Take(3)) + (all.Count > 3 ? string.Create(CultureInfo.InvariantCulture, $" and {all.Count - 3} more") : "");
        }

        private static string OwnerWords(RuleRef rule) => rule.Owner is { } owner ? $"a rule of {owner}" : "a rule that is not kube-proxy's";

        private Mend Removing(WalkStep step) => Mends.RemoveRule(step, IsIPv6, check._vantage.Node);

        private RuleRef MissingAffinity(Subject subject, TrafficCase one, AddressPort backend)
            => Names.MissingAffinity(subject, Entries.For(one.To, subject.Protocol, false).FirstOrDefault(e => e.Kind == ProxyChain.Entry)?.LeadsTo, backend);

        private RuleNames Names => field ??= new RuleNames(rules);
    }
}
