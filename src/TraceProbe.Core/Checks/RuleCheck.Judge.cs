using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

public sealed partial class RuleCheck
{
    private sealed partial class Side
    {
        // kube-proxy writes ten digits of a probability, and the kernel keeps 31 bits of it.
        private const double Rounding = 1e-4;

        private void Judge(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            if (IsIpvs && walk.Branches.FirstOrDefault(b => OldTranslation(b).Rule is not null) is { } old)
            {
                found.Add(subject, one, TranslatedBeforeIpvs(old));
                return;
            }

            if (walk.IsTied)
            {
                found.Add(subject, one, Tied(subject, one, walk));
                return;
            }

            switch (one.Fate)
            {
                case Fate.Translated:
                    JudgeTranslated(subject, one, walk, found);
                    break;
                case Fate.Rejected or Fate.Dropped:
                    JudgeRefused(subject, one, walk, found);
                    break;
                case Fate.Denied:
                    JudgeDenied(subject, one, walk, found);
                    break;
                default:
                    JudgePassed(subject, one, walk, found);
                    break;
            }

            if (!IsIpvs && one is { Kind: ServiceAddressKind.Cluster, From: Origin.Pod, Hairpin: null, Fate: Fate.Translated })
            {
                JudgeAffinity(subject, one, walk, found);
            }
        }

        private void JudgeTranslated(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            WalkBranch? lost = null;
            var lostShare = 0.0;
            var isExplained = false;
            foreach (var branch in walk.Branches)
            {
                if (one.Hairpin is not null && branch.Backend != one.Hairpin)
                {
                    continue;
                }

                switch (branch.Outcome)
                {
                    case WalkOutcome.Undecided when branch.Backend is null:
                        found.Add(subject, one, Undecided(branch));
                        break;
                    case WalkOutcome.Undecided:
                        found.Add(subject, one, Undecided(branch) with { IsRemark = true });
                        break;
                    case WalkOutcome.Dropped or WalkOutcome.Rejected when Refusal(branch) is var (role, step):
                        if (role is ProxyChain.NoEndpoints && branch.Backend is null && !(one.IsDroppedForOthers && branch.Outcome == WalkOutcome.Dropped))
                        {
                            isExplained = true;
                            if (one.IsCertain)
                            {
                                found.Add(subject, one, RefusedThoughReady(one, branch, step));
                            }
                        }
                        else if (role is not ProxyChain.None && branch.Backend is null && !IsIpvs && WhoTookIt(branch) is { Rule: not null } before)
                        {
                            isExplained = true;
                            found.Add(subject, one, Shadowed(before, branch));
                        }
                        else if (role is not ProxyChain.None && branch.Backend is null)
                        {
                            // Not translated, and so it met a rule for what is not.
                            lost ??= branch;
                            lostShare += branch.Probability;
                        }
                        else
                        {
                            isExplained |= branch.Backend is null;
                            found.Add(subject, one, Ended(branch, step));
                        }

                        break;
                    case WalkOutcome.Translated when one.IsExpected(branch.Backend!.Value):
                        if (MasqueradeDiffers(one, branch) is { } wanted)
                        {
                            found.Add(subject, one, branch.SourceDependsOn is { } question ? SourceUndecided(branch, question)
                                : wanted ? Unmasqueraded(subject, one, branch) : Masqueraded(subject, one, branch));
                        }

                        break;
                    case WalkOutcome.Translated:
                        var astray = LedAstray(subject, one, branch);
                        isExplained |= astray.Class == FailureClass.TranslationShadowed;
                        found.Add(subject, one, astray);
                        break;
                    case WalkOutcome.Untranslated when !IsIpvs && WhoTookIt(branch) is { Rule: not null } taker:
                        isExplained = true;
                        found.Add(subject, one, Shadowed(taker, branch));
                        break;
                    default:
                        lost ??= branch;
                        lostShare += branch.Probability;
                        break;
                }
            }

            // What somebody took on the way explains what is lacking.
            if (one.Hairpin is not null || isExplained)
            {
                return;
            }

            if (lost is not null && walk.Backends.IsEmpty)
            {
                found.Add(subject, one, WhyUntranslated(subject, one, lost) with { Share = lostShare });
                return;
            }

            // Where something cannot be told, both ways were walked, and their shares say nothing.
            if (walk.Outcome == WalkOutcome.Undecided)
            {
                return;
            }

            var missing = one.IsCertain ? Missing(one, walk) : [];
            if (!missing.IsEmpty)
            {
                found.Add(subject, one, Unreached(subject, one, walk, missing, lostShare));
            }
            else if (lost is not null || IsUneven(one, walk))
            {
                found.Add(subject, one, Uneven(one, walk, lost, lostShare));
            }
        }

        // kube-proxy's own process takes the connection and picks the endpoint, so that rules lead to the node itself, whatever the endpoints are.
        private void JudgeProxied(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            if (one.Kind is null || one.Hairpin is not null || one.Fate == Fate.Denied || one.Kind != ServiceAddressKind.Cluster && one.From != Origin.Outside)
            {
                return;
            }

            foreach (var branch in walk.Branches)
            {
                switch (branch.Outcome)
                {
                    case WalkOutcome.Undecided:
                        found.Add(subject, one, Undecided(branch));
                        break;
                    case WalkOutcome.Untranslated:
                        found.Add(subject, one, WhyUntranslated(subject, one, branch));
                        break;
                    case WalkOutcome.Dropped or WalkOutcome.Rejected:
                        found.Add(subject, one, Ended(branch, Refusal(branch).Step));
                        break;
                    default:
                        if (!branch.IsRedirect && !check._vantage.IsOwn(branch.Backend!.Value.Address))
                        {
                            found.Add(subject, one, LedAstray(subject, one, branch));
                        }

                        break;
                }
            }
        }

        private void JudgeRefused(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            foreach (var branch in walk.Branches)
            {
                switch (branch.Outcome)
                {
                    case WalkOutcome.Undecided:
                        found.Add(subject, one, Undecided(branch));
                        break;
                    case WalkOutcome.Translated:
                        found.Add(subject, one, LedAstray(subject, one, branch));
                        break;
                    case WalkOutcome.Untranslated when one.Fate == Fate.Dropped && LeavesDroppingToKubelet(branch):
                        break;
                    case WalkOutcome.Untranslated:
                        found.Add(subject, one, Unrefused(subject, one, branch));
                        break;
                    default:
                        var (role, step) = Refusal(branch);
                        if (role == ProxyChain.None)
                        {
                            // Refused is refused, whoever did it; a silent drop keeps clients waiting.
                            if (one.Fate == Fate.Rejected && branch.Outcome == WalkOutcome.Dropped)
                            {
                                found.Add(subject, one, Ended(branch, step));
                            }
                        }
                        else if (role == ProxyChain.NoEndpoints && (one.Fate == Fate.Dropped) != (branch.Outcome == WalkOutcome.Dropped))
                        {
                            found.Add(subject, one, RefusedOtherwise(one, branch, step));
                        }
                        else if (role == ProxyChain.Other && one.Fate == Fate.Dropped && branch.Outcome == WalkOutcome.Rejected)
                        {
                            // It came to where nftables mode refuses ports that no Service has: nothing had dropped it.
                            found.Add(subject, one, Unrefused(subject, one, branch) with { Effect = EffectOf(branch) });
                        }

                        break;
                }
            }
        }

        private void JudgeDenied(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            foreach (var branch in walk.Branches)
            {
                if (branch.Outcome == WalkOutcome.Undecided)
                {
                    found.Add(subject, one, Undecided(branch));
                }
                else if (branch.Leaves && !(branch.Backend is null && LeavesDroppingToKubelet(branch)))
                {
                    found.Add(subject, one, Undenied(subject, one, branch));
                }
            }
        }

        private void JudgePassed(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            foreach (var branch in walk.Branches)
            {
                switch (branch.Outcome)
                {
                    case WalkOutcome.Undecided:
                        found.Add(subject, one, Undecided(branch));
                        break;
                    case WalkOutcome.Dropped or WalkOutcome.Rejected:
                        found.Add(subject, one, Ended(branch, Refusal(branch).Step));
                        break;
                    case WalkOutcome.Translated:
                        found.Add(subject, one, Shadowed(branch.Steps.Last(s => s.Translates && s.Hook is Hook.Prerouting or Hook.Output), branch));
                        break;
                }
            }
        }

        private void JudgeAffinity(Subject subject, TrafficCase one, WalkResult walk, FindingList found)
        {
            var isWanted = subject.Service.Spec.SessionAffinity == "ClientIP";
            if (!isWanted && walk.Affinity.IsEmpty)
            {
                return;
            }

            if (!isWanted)
            {
                found.Add(subject, one, new Deviation(FailureClass.StaleEndpointRule, $"the rules keep clients of {subject} at the endpoint they had, which sessionAffinity None does not ask for", "go where they went before")
                {
                    Rules = [.. walk.Affinity.Select(a => Ref(a.Rule))],
                });
                return;
            }

            var kept = walk.Affinity.Select(a => a.Backend).ToHashSet();
            if (one.IsCertain && walk.Backends.Where(b => one.IsExpected(b.Address) && !kept.Contains(b.Address)).ToList() is [_, ..] unkept)
            {
                found.Add(subject, one, new Deviation(FailureClass.EndpointRuleMissing,
                    $"no rule keeps clients of {subject} at {Words(unkept.Select(b => b.Address))}, which sessionAffinity ClientIP asks for", "lose their endpoint between connections")
                {
                    Rules = [.. unkept.Select(b => MissingAffinity(subject, one, b.Address))],
                });
            }

            // 10800 s is what the API fills in (core/v1 ClientIPConfig).
            var wanted = subject.Service.Spec.SessionAffinityConfig?.ClientIP?.TimeoutSeconds ?? 10_800;
            if (walk.Affinity.Where(a => a.Seconds is { } seconds && seconds != wanted).ToList() is [var other, ..] others)
            {
                found.Add(subject, one, new Deviation(FailureClass.StaleEndpointRule,
                    string.Create(CultureInfo.InvariantCulture, $"the rules keep clients of {subject} at their endpoint for {other.Seconds} s, and the Service says {wanted} s"), "go where they went before for another time than is wanted")
                {
                    Rules = [.. others.Select(a => Ref(a.Rule))],
                });
            }
        }

        private bool _isNotDropped;

        // Before Kubernetes 1.25 (KEP-3178) kube-proxy only marked what is to be dropped, and a rule of the kubelet's dropped it: it does not at
        // FORWARD, and where the kubelet left its chain empty it makes no difference what leads there.
        private bool LeavesDroppingToKubelet(WalkBranch branch)
        {
            var leaves = branch.Steps.Any(s => s.Rule.Target is RuleTarget.Jump { Chain: "KUBE-MARK-DROP" })
                || !Habits.ServesPodsAtExternal && rules.Mode != ProxyMode.None && !rules.Sets.Any(s => s.Table("nat")?.Chain("KUBE-MARK-DROP") is { Rules.IsEmpty: false });
            _isNotDropped |= leaves;
            return leaves;
        }

        /// <summary>What ended a packet: the role of the chain of kube-proxy's that did, or none for somebody else's rule, and the rule.</summary>
        private static (ProxyChain Role, WalkStep Step) Refusal(WalkBranch branch)
        {
            var steps = branch.Steps;
            if (branch.Policy is not null || steps.IsEmpty || !ProxyChains.Wrote(steps[^1].Rule))
            {
                return (ProxyChain.None, steps.IsEmpty ? default : steps[^1]);
            }

            // KUBE-MARK-DROP is called where the reason is known, and the drop comes later.
            for (var i = steps.Length - 1; i >= 0; i--)
            {
                if (steps[i].Rule is { Target: RuleTarget.Jump { Chain: "KUBE-MARK-DROP" } } marking)
                {
                    return (ProxyChains.Of(marking.Table, marking.Chain) == ProxyChain.External ? ProxyChain.NoEndpoints : ProxyChains.Of(marking.Table, marking.Chain), steps[i]);
                }
            }

            var last = steps[^1];
            var role = ProxyChains.Of(last.Rule.Table, last.Rule.Chain);
            // The element that led to reject-chain says more than its only rule.
            return role == ProxyChain.NoEndpoints && steps.LastOrDefault(s => s.Rule.Chain.StartsWith("@no-endpoint", StringComparison.Ordinal)) is { Rule: not null } element ? (role, element) : (role, last);
        }

        // What should be: true for masqueraded, false for not; null when it is as it should be.
        private bool? MasqueradeDiffers(TrafficCase one, WalkBranch branch)
        {
            var backend = branch.Backend!.Value.Address;
            if (IsIpvs && AsksUnreadSets)
            {
                return null; // What is masqueraded depends on ipsets.
            }

            if (!one.Packet.FromNode && check._vantage.IsOwn(backend))
            {
                return null; // Delivered here: it never passes where sources are translated.
            }

            var isOwnSource = backend == one.Packet.Tuple.Source.Address;
            var has = branch.Masquerade || branch.SourceBecomes is not null;
            return (isOwnSource ? true : one.Masquerade) switch
            {
                // A network plugin may well translate sources; kube-proxy has to leave those alone that it was not asked for.
                false when branch.Masquerade && branch.Steps.Any(s => s.Hook == Hook.Postrouting && Masquerades(s.Rule) && ProxyChains.Wrote(s.Rule)) => false,
                // What cannot be told is told by the caller.
                true when !has || branch.SourceDependsOn is not null => true,
                _ => null,
            };
        }

        private static bool Masquerades(Rule rule) => rule.Target is RuleTarget.Masquerade || rule.Matches.Any(m => m is RuleMatch.Effect { Target: RuleTarget.Masquerade });

        private static ImmutableArray<ExpectedBackend> Missing(TrafficCase one, WalkResult walk)
        {
            var reached = 0;
            foreach (var backend in walk.Backends)
            {
                reached += one.IsExpected(backend.Address) ? 1 : 0;
            }

            if (reached == one.Backends.Length)
            {
                return [];
            }

            var all = walk.Backends.Select(b => b.Address).ToHashSet();
            return [.. one.Backends.Where(b => !all.Contains(b.Address))];
        }

        private static bool IsUneven(TrafficCase one, WalkResult walk)
        {
            if (walk.Backends.Length != one.Backends.Length)
            {
                return false;
            }

            var share = 1.0 / walk.Backends.Length;
            foreach (var backend in walk.Backends)
            {
                if (Math.Abs(backend.Probability - share) > share * Rounding)
                {
                    return true;
                }
            }

            return false;
        }

        private RuleRef Ref(Rule rule)
        {
            foreach (var set in rules.Sets)
            {
                if (set.Table(rule.Table)?.Chain(rule.Chain) is { } chain && chain.Rules.Length >= rule.Position && rule.Position > 0 && ReferenceEquals(chain.Rules[rule.Position - 1], rule))
                {
                    return RuleRef.Of(rule, RuleRef.ToolOf(set.Backend, set.IsIPv6));
                }
            }

            return RuleRef.Of(rule, null);
        }

        private RuleRef Ref(WalkStep step) => RuleRef.Of(step, IsIPv6);
    }
}
