using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Carries a <see cref="VirtualPacket"/> through a node's rules in the kernel's order and says how it ends and which rules did it.
/// <list type="number">
/// <item>Entering: the prerouting hook, or output for the node's own packets.</item>
/// <item>Routing: input when the destination, now translated, is the node's own, else forward; the node's own packets to itself come in
/// again through prerouting.</item>
/// <item>Leaving: postrouting, where the source is translated.</item>
/// </list>
/// What IPVS takes at input is sent on through output (ip_vs_xmit.c), so a service address must be the node's own to be served at all.
/// At each hook the base chains of all backends and tables are met in the order of their priorities (<c>enum nf_ip_hook_priorities</c>), except
/// that those of type nat share one place, the kernel's own priority for translation, and are ordered among each other there
/// (nf_nat_core.c, nf_nat_register_fn). An accept ends a base chain only, a drop is final. Of equal ones the kernel meets the chain that was
/// registered last first, which a dump tells within one table of nftables; between different owners it is not known, so both orders are walked and must agree.
/// A rule with dice (<c>statistic</c>, <c>numgen</c>) splits the packet by probability. A condition that cannot be told splits it too: when both ways end
/// alike it did not matter, otherwise the result is <see cref="WalkOutcome.Undecided"/> and names the condition.
/// An instance keeps an index of the long chains; it is not safe for use by several threads at once.
/// </summary>
public sealed class RuleWalk
{
    // The kernel bounds a walk by refusing loops when rules are loaded; a dump need not come from a kernel.
    // Ten thousand endpoints, each at the end of a hundred rules, stay within these.
    private const int MaxSteps = 1_000_000;
    private const int MaxMet = 262_144;
    private const int MaxTold = 1_000_000;
    private const int MaxJumps = 256;
    private const int MaxOpenQuestions = 12;
    private const int MaxCandidates = 16;

    // nf_conntrack looks at packets at this priority (NF_IP_PRI_CONNTRACK); before, there is no connection to ask about.
    private const int ConnectionKnown = -200;

    private readonly Way _ipv4;
    private readonly Way _ipv6;
    private readonly Dictionary<RuleChain, ChainIndex> _indexes = new(ReferenceEqualityComparer.Instance);

    /// <summary>Makes a walk over these rules; packets meet the sets of their own address family.</summary>
    public RuleWalk(IEnumerable<RuleSet> sets)
    {
        var all = sets.ToArray();
        _ipv4 = new Way(all, false);
        _ipv6 = new Way(all, true);
    }

    /// <summary>Walks one packet through these rules.</summary>
    public static WalkResult Run(IEnumerable<RuleSet> sets, VirtualPacket packet) => new RuleWalk(sets).Run(packet);

    /// <summary>Walks one packet.</summary>
    public WalkResult Run(VirtualPacket packet)
    {
        ArgumentNullException.ThrowIfNull(packet);
        var way = packet.Tuple.Destination.Address.IsIPv4 ? _ipv4 : _ipv6;
        var result = new Course(this, way, way.Stops, packet).Run();
        if (way.Tied.IsEmpty || result.Outcome == WalkOutcome.Undecided)
        {
            return result;
        }

        var other = new Course(this, way, way.StopsReversed, packet).Run();
        var tied = string.Join(" and ", way.Tied);
        if (!SameEnd(result.Branches, other.Branches))
        {
            return result with
            {
                Outcome = WalkOutcome.Undecided,
                IsTied = true,
                Unknowns = [$"{tied} rules both decide about this packet, differently; which of them comes first depends on which was loaded first"],
            };
        }

        return SameSource(result.Branches, other.Branches) ? result : result with
        {
            IsTied = true,
            Assumptions = result.Assumptions.Add($"{tied} rules both translate the source, differently; taken in the order in which they were read"),
        };
    }

    private ChainIndex IndexOf(RuleChain chain)
    {
        if (chain.Rules.Length < ChainIndex.Worthwhile)
        {
            return ChainIndex.None;
        }

        ref var index = ref CollectionsMarshal.GetValueRefOrAddDefault(_indexes, chain, out _);
        return index ??= new ChainIndex(chain);
    }

    // Alike in what becomes of the packet; how it got there may differ.
    private static bool SameEnd(IReadOnlyCollection<WalkBranch> left, IReadOnlyCollection<WalkBranch> right)
    {
        var ends = new Dictionary<(WalkOutcome, AddressPort?, string?), double>();
        foreach (var branch in left)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(ends, (branch.Outcome, branch.Backend, branch.RejectWith), out _) += branch.Probability;
        }

        foreach (var branch in right)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(ends, (branch.Outcome, branch.Backend, branch.RejectWith), out _) -= branch.Probability;
        }

        return ends.Values.All(difference => Math.Abs(difference) < 1e-6);
    }

    private static bool SameSource(IReadOnlyCollection<WalkBranch> left, IReadOnlyCollection<WalkBranch> right)
        => left.Where(b => b.Leaves).Select(b => (b.Masquerade, b.SourceBecomes)).Distinct().Order().SequenceEqual(
            right.Where(b => b.Leaves).Select(b => (b.Masquerade, b.SourceBecomes)).Distinct().Order());

    /// <summary>A base chain that packets meet at a hook.</summary>
    private sealed record Stop(RuleSet Set, RuleTable Table, RuleChain Chain, BaseHook Hook, int Priority, string Owner)
    {
        public RuleBackend Backend => Set.Backend;

        /// <summary>Where every packet starts in it; made when the first comes.</summary>
        public Frame? Frame { get; set; }
    }

    /// <summary>The base chains that packets of one family meet, by hook, in order.</summary>
    private sealed class Way
    {
        // The priorities of the kernel's own translation hooks (nf_nat_proto.c).
        public const int TranslateDestination = -100;
        public const int TranslateSource = 100;

        public Way(RuleSet[] sets, bool isIPv6)
        {
            var stops = new List<Stop>();
            var beneath = ImmutableArray.CreateBuilder<string>();
            foreach (var set in sets)
            {
                if (set.IsIPv6 != isIPv6)
                {
                    continue;
                }

                foreach (var table in set.Tables.Values)
                {
                    foreach (var chain in table.Chains.Values)
                    {
                        if (chain.Hook is not { } hook || chain.Rules.IsEmpty && chain.Policy != "DROP")
                        {
                            continue;
                        }

                        if (hook.Hook == Hook.Link)
                        {
                            beneath.Add($"the chain {chain.Name} of table {table.Name}, beneath the Internet protocol, is taken to let it pass");
                            continue;
                        }

                        var priority = !hook.Translates ? hook.Priority : hook.Hook is Hook.Prerouting or Hook.Output ? TranslateDestination : TranslateSource;
                        stops.Add(new Stop(set, table, chain, hook, priority, set.Backend switch
                        {
                            RuleBackend.Legacy => "legacy",
                            RuleBackend.Nft => "nft",
                            RuleBackend.Ipvs => "IPVS",
                            _ => $"nftables {table.Name}",
                        }));
                    }
                }
            }

            // In the order of registration the last of equals is met first.
            var owners = stops.Select(s => s.Owner).Distinct().ToList();
            Beneath = beneath.ToImmutable();
            Stops = InOrder(stops, owners);
            owners.Reverse();
            StopsReversed = InOrder(stops, owners);
            Tied = [.. owners.Where(o => stops.Exists(s => s.Owner == o && stops.Exists(t => t.Owner != o && IsTied(s, t)))).Order(StringComparer.Ordinal)];
        }

        public Stop[][] Stops { get; }

        public Stop[][] StopsReversed { get; }

        /// <summary>The owners of chains whose order among each other is not known.</summary>
        public ImmutableArray<string> Tied { get; }

        /// <summary>What is not walked, in words.</summary>
        public ImmutableArray<string> Beneath { get; }

        private static bool IsTied(Stop one, Stop other) => one.Hook.Hook == other.Hook.Hook && one.Priority == other.Priority
            && (one.Hook.Priority == other.Hook.Priority || one.Hook.Translates != other.Hook.Translates);

        private static Stop[][] InOrder(List<Stop> stops, List<string> owners)
        {
            var hooks = new Stop[(int)Hook.Link][];
            for (var hook = Hook.Prerouting; hook < Hook.Link; hook++)
            {
                var here = stops.FindAll(s => s.Hook.Hook == hook);
                // Translation is one place, and takes its turn with the first chain of it.
                var translator = here.Find(s => s.Hook.Translates)?.Owner;
                hooks[(int)hook] =
                [
                    .. here.OrderBy(s => s.Priority)
                        .ThenBy(s => owners.IndexOf(s.Hook.Translates ? translator! : s.Owner))
                        .ThenBy(s => s.Hook.Translates ? s.Hook.Priority : 0)
                        .ThenBy(s => owners.IndexOf(s.Owner))
                        .ThenByDescending(s => s.Chain.Handle),
                ];
            }

            return hooks;
        }
    }

    /// <summary>The rules of a chain that can concern a destination, in order: long chains consist of rules for one address each.</summary>
    private sealed class ChainIndex
    {
        /// <summary>How many rules a chain must have for an index to be quicker than going through them.</summary>
        public const int Worthwhile = 16;

        /// <summary>That of short chains, whose rules are gone through.</summary>
        public static readonly ChainIndex None = new();

        private readonly Dictionary<IpAddress, List<int>>? _byDestination;
        private readonly List<int>? _others;
        private readonly int _count;

        private ChainIndex()
        {
        }

        public ChainIndex(RuleChain chain)
        {
            _count = chain.Rules.Length;
            _byDestination = [];
            _others = [];
            for (var i = 0; i < _count; i++)
            {
                var list = _others;
                foreach (var match in chain.Rules[i].Matches)
                {
                    if (match is RuleMatch.Destination { Negated: false } destination && destination.Network.PrefixLength == destination.Network.Address.Width)
                    {
                        list = CollectionsMarshal.GetValueRefOrAddDefault(_byDestination, destination.Network.Address, out _) ??= [];
                        break;
                    }
                }

                list.Add(i);
            }
        }

        public int Next(IpAddress destination, int from)
        {
            if (_byDestination is null)
            {
                return from;
            }

            var next = After(_others!, from);
            return _byDestination.TryGetValue(destination, out var own) ? Math.Min(next, After(own, from)) : next;
        }

        private int After(List<int> positions, int from)
        {
            var at = positions.BinarySearch(from);
            at = at < 0 ? ~at : at;
            return at < positions.Count ? positions[at] : _count;
        }
    }

    private enum Truth
    {
        No,
        Yes,
        Open,
    }

    private sealed class Frame(RuleTable table, RuleChain chain, ChainIndex index, Frame? caller, int returnTo, int depth)
    {
        private Frame?[]? _called;

        public RuleTable Table => table;

        public RuleChain Chain => chain;

        public ChainIndex Index => index;

        public Frame? Caller => caller;

        public int ReturnTo => returnTo;

        public int Depth => depth;

        /// <summary>The frame of a chain that the rule before a position calls. Base chains keep theirs: every packet meets the same.</summary>
        public Frame Call(RuleChain called, ChainIndex indexOfCalled, int at)
        {
            if (depth > 0)
            {
                return new Frame(table, called, indexOfCalled, this, at, depth + 1);
            }

            _called ??= new Frame?[chain.Rules.Length + 1];
            return _called[at] is { } known && ReferenceEquals(known.Chain, called) ? known : _called[at] = new Frame(table, called, indexOfCalled, this, at, 1);
        }
    }

    /// <summary>A packet on its way; copied where the way forks.</summary>
    private sealed record Position
    {
        public FiveTuple Tuple;
        public uint Mark;
        public uint RoutedMark;
        public uint ConnectionMark;
        public ConntrackState State;
        public double Weight = 1;
        public WalkTrail? Trail;
        public AddressPort? Backend;
        public bool IsRedirect;
        public string? Chain;
        public bool DestinationSettled;
        public bool SourceSettled;
        public bool Masquerade;
        public IpAddress? SourceBecomes;

        // What it was sent to when IPVS took it.
        public AddressPort? Scheduled;

        // Where it is: the hook, the next of its base chains, the chain, the rule and, within a rule taken up again, the condition.
        public Hook Hook;
        public int Next;
        public Stop? Stop;
        public Frame? Frame;
        public int At;
        public int Condition;
    }

    /// <summary>One walk of one packet.</summary>
    private sealed class Course(RuleWalk walk, Way way, Stop[][] stops, VirtualPacket packet)
    {
        // Few walks have any of these.
        private List<string>? _assumptions;
        private List<WalkAffinity>? _affinity;
        private int _steps;
        private int _met;
        private int _told;

        private FiveTuple Original => packet.Connection?.Original ?? packet.Tuple;

        public WalkResult Run()
        {
            var branches = new List<WalkBranch>();
            Follow(
                new Position
                {
                    Tuple = packet.Tuple,
                    Mark = packet.Mark,
                    ConnectionMark = packet.Connection?.Mark ?? 0,
                    State = packet.State,
                    Hook = packet.FromNode ? Hook.Output : Hook.Prerouting,
                },
                branches,
                0);

            var backends = BackendsOf(branches);
            var outcome = branches[0].Outcome;
            var isUnknown = false;
            foreach (var branch in branches)
            {
                isUnknown |= branch.Unknown is not null;
                outcome = branch.Outcome == outcome ? outcome
                    : outcome == WalkOutcome.Undecided || branch.Outcome == WalkOutcome.Undecided ? WalkOutcome.Undecided : WalkOutcome.Varies;
            }

            return new WalkResult
            {
                Packet = packet,
                Outcome = outcome,
                Branches = [.. branches],
                Backends = backends,
                Unknowns = isUnknown ? [.. branches.Select(b => b.Unknown).OfType<string>().Distinct()] : [],
                Assumptions = _assumptions is null ? way.Beneath : [.. way.Beneath, .. _assumptions],
                Affinity = _affinity is null ? [] : [.. _affinity],
            };
        }

        private static ImmutableArray<WalkBackend> BackendsOf(List<WalkBranch> branches)
        {
            // A hash is quicker for the many endpoints that few Services have.
            const int many = 16;
            var at = branches.Count > many ? new Dictionary<AddressPort, int>() : null;
            var backends = ImmutableArray.CreateBuilder<WalkBackend>(branches.Count);
            foreach (var branch in branches)
            {
                if (branch.Backend is not { } backend)
                {
                    continue;
                }

                var i = at is null ? IndexOf(backends, backend) : at.TryGetValue(backend, out var known) ? known : -1;
                if (i >= 0)
                {
                    backends[i] = backends[i] with { Probability = backends[i].Probability + branch.Probability };
                    continue;
                }

                at?.Add(backend, backends.Count);
                backends.Add(new WalkBackend(backend, branch.Probability, branch.Chain ?? "", branch.IsRedirect));
            }

            return backends.DrainToImmutable();

            static int IndexOf(ImmutableArray<WalkBackend>.Builder backends, AddressPort address)
            {
                for (var i = 0; i < backends.Count; i++)
                {
                    if (backends[i].Address == address)
                    {
                        return i;
                    }
                }

                return -1;
            }
        }

        private void Follow(Position p, List<WalkBranch> ends, int openQuestions)
        {
            var isTooDeep = !RuntimeHelpers.TryEnsureSufficientExecutionStack();
            while (true)
            {
                if (++_steps > MaxSteps || _met > MaxMet || _told > MaxTold || isTooDeep)
                {
                    // Of what is left on each level there is an end too, which need not tell its way.
                    ends.Add(Open(p, "the walk was given up: its ways are too many or too long") with { Trail = null });
                    return;
                }

                if (p.Frame is null)
                {
                    if (!EnterNextChain(p))
                    {
                        ends.Add(End(p, p.Backend is null ? WalkOutcome.Untranslated : WalkOutcome.Translated));
                        return;
                    }

                    continue;
                }

                var frame = p.Frame;
                var i = frame.Index.Next(p.Tuple.Destination.Address, p.At);
                if (i >= frame.Chain.Rules.Length)
                {
                    if (!LeaveChain(p, ends))
                    {
                        return;
                    }

                    continue;
                }

                p.At = i + 1;
                var rule = frame.Chain.Rules[i];
                var truth = Holds(rule, p, out var share, out var question, out var effect);
                p.Condition = 0;
                if (truth == Truth.No || share <= 0)
                {
                    continue;
                }

                if (truth == Truth.Open)
                {
                    if (effect == 0 && rule.Target is null or RuleTarget.PassOn or RuleTarget.Track { NoTrack: false })
                    {
                        continue;
                    }

                    Fork(p, rule, effect, question!, ends, openQuestions);
                    return;
                }

                // What samples packets for a log changes nothing for them.
                if (share < 1 && effect == 0 && rule.Target is null or RuleTarget.PassOn && !rule.Matches.Any(m => m is RuleMatch.Effect))
                {
                    continue;
                }

                if (share < 1)
                {
                    // The dice: one copy goes this way, the packet itself carries the rest of the probability on.
                    var taken = p with { Weight = p.Weight * share };
                    p.Weight *= 1 - share;
                    Take(taken, rule, effect, ends, openQuestions);
                    continue;
                }

                if (!Apply(p, rule, ends, openQuestions))
                {
                    return;
                }
            }
        }

        // The way of a packet for which the rule holds, as far as the statement at that place, or whole when that is 0.
        private void Take(Position p, Rule rule, int effect, List<WalkBranch> ends, int openQuestions)
        {
            if (effect > 0)
            {
                p.At--;
                p.Condition = effect;
                Follow(p, ends, openQuestions);
            }
            else if (Apply(p, rule, ends, openQuestions))
            {
                Follow(p, ends, openQuestions);
            }
        }

        private void Fork(Position p, Rule rule, int effect, string question, List<WalkBranch> ends, int openQuestions)
        {
            if (openQuestions >= MaxOpenQuestions)
            {
                ends.Add(Open(p, question));
                return;
            }

            List<WalkBranch> met = [], unmet = [];
            Take(p with { }, rule, effect, met, openQuestions + 1);
            Follow(p, unmet, openQuestions + 1);
            Join(met, unmet, question, ends);
        }

        // Two ways of which one is taken, and it is not known which.
        private void Join(List<WalkBranch> met, List<WalkBranch> unmet, string question, List<WalkBranch> ends)
        {
            if (SameEnd(met, unmet))
            {
                if (!SameSource(met, unmet))
                {
                    Assume($"whether the source is translated depends on '{question}', taken as not met");
                    unmet = [.. unmet.Select(b => b with { SourceDependsOn = b.SourceDependsOn ?? question })];
                }

                ends.AddRange(unmet);
                return;
            }

            foreach (var branch in met.Concat(unmet))
            {
                ends.Add(branch with { Outcome = WalkOutcome.Undecided, Unknown = branch.Unknown ?? question });
            }
        }

        // Sets up the next base chain; false when the packet has passed all of them.
        private bool EnterNextChain(Position p)
        {
            while (true)
            {
                var here = stops[(int)p.Hook];
                while (p.Next < here.Length)
                {
                    var stop = here[p.Next];
                    if (stop.Priority > (p.Hook is Hook.Prerouting or Hook.Output ? Way.TranslateDestination : Way.TranslateSource))
                    {
                        TranslateAsBefore(p);
                    }

                    p.Next++;
                    if (!stop.Hook.Translates || Translates(p))
                    {
                        p.Stop = stop;
                        p.Frame = stop.Frame ??= new Frame(stop.Table, stop.Chain, walk.IndexOf(stop.Chain), null, 0, 0);
                        p.At = 0;
                        return true;
                    }
                }

                TranslateAsBefore(p);
                // The kernel settles a null binding when no rule translated (nf_nat_core.c, nf_nat_inet_fn).
                p.DestinationSettled |= p.Hook is Hook.Prerouting or Hook.Output;
                p.SourceSettled |= p.Hook is Hook.Input or Hook.Postrouting;
                p.Next = 0;
                switch (p.Hook)
                {
                    case Hook.Prerouting:
                        p.RoutedMark = p.Mark;
                        p.Hook = IsOwn(p.Tuple.Destination.Address, p.IsRedirect) ? Hook.Input : Hook.Forward;
                        break;
                    case Hook.Output or Hook.Forward:
                        p.RoutedMark = p.Hook == Hook.Output ? p.Mark : p.RoutedMark;
                        p.Hook = Hook.Postrouting;
                        break;
                    case Hook.Postrouting when packet.FromNode && IsOwn(p.Tuple.Destination.Address, p.IsRedirect):
                        p.Hook = Hook.Prerouting; // it comes in again through the loopback interface
                        break;
                    default:
                        return false;
                }
            }
        }

        // Later packets are translated as the first was, with no rule asked: destinations where they come in, sources where they leave
        // (nf_nat_core.c, nf_nat_packet).
        private void TranslateAsBefore(Position p)
        {
            if (packet.Connection is not { } connection)
            {
                return;
            }

            p.Tuple = p.Hook switch
            {
                Hook.Prerouting or Hook.Output => p.Tuple with { Destination = connection.Becomes.Destination },
                Hook.Input or Hook.Postrouting => p.Tuple with { Source = connection.Becomes.Source },
                _ => p.Tuple,
            };
        }

        // Only a connection's first packet meets translation, and each of the two translations is settled once.
        private static bool Translates(Position p)
            => (p.State & ConntrackState.New) != 0 && !(p.Hook is Hook.Prerouting or Hook.Output ? p.DestinationSettled : p.SourceSettled);

        private bool LeaveChain(Position p, List<WalkBranch> ends)
        {
            var frame = p.Frame!;
            if (frame.Caller is { } caller)
            {
                p.Frame = caller;
                p.At = frame.ReturnTo;
                return true;
            }

            p.Frame = null;
            if (p.Stop!.Chain.Policy != "DROP")
            {
                return true;
            }

            ends.Add(End(p, WalkOutcome.Dropped) with { Policy = $"policy of {p.Stop.Table.Name} {p.Stop.Chain.Name}", PolicyBackend = p.Stop.Backend });
            return false;
        }

        // Does what the rule says; false when the packet ended there.
        private bool Apply(Position p, Rule rule, List<WalkBranch> ends, int openQuestions)
        {
            if (rule.Target is RuleTarget.Lookup lookup)
            {
                return LookUp(p, rule, lookup, ends, openQuestions);
            }

            if (rule.Target is not RuleTarget.Schedule) // whose virtual servers are the rules
            {
                Note(p, rule);
            }

            return Do(p, rule, rule.Target, ends, openQuestions);
        }

        // A rule whose earlier statements were done already is on the trail.
        private void Note(Position p, Rule rule)
        {
            if (!ReferenceEquals(p.Trail?.Step.Rule, rule))
            {
                _met++;
                p.Trail = new WalkTrail(new WalkStep(rule, p.Hook, p.Stop!.Hook.Translates, p.Stop.Backend), p.Trail);
            }
        }

        private bool Do(Position p, Rule rule, RuleTarget? target, List<WalkBranch> ends, int openQuestions)
        {
            switch (target)
            {
                case null or RuleTarget.PassOn:
                    return true;
                case RuleTarget.Accept:
                    p.Frame = null;
                    return true;
                case RuleTarget.Drop:
                    ends.Add(End(p, WalkOutcome.Dropped));
                    return false;
                case RuleTarget.Reject reject:
                    ends.Add(End(p, WalkOutcome.Rejected) with { RejectWith = reject.With });
                    return false;
                case RuleTarget.Return:
                    return LeaveChain(p, ends);
                case RuleTarget.Jump jump:
                    return Jump(p, jump, ends);
                case RuleTarget.SetMark mark:
                    p.Mark = (p.Mark & ~mark.Mask) ^ mark.Value;
                    return true;
                case RuleTarget.ConnectionMark mark:
                    switch (mark.Operation)
                    {
                        case ConnectionMarkOperation.Set:
                            p.ConnectionMark = (p.ConnectionMark & ~mark.ConnectionMask) ^ mark.Value;
                            break;
                        case ConnectionMarkOperation.Save:
                            p.ConnectionMark = (p.ConnectionMark & ~mark.ConnectionMask) ^ (p.Mark & mark.PacketMask);
                            break;
                        default:
                            p.Mark = (p.Mark & ~mark.PacketMask) ^ (p.ConnectionMark & mark.ConnectionMask);
                            break;
                    }

                    return true;
                case RuleTarget.Track track:
                    // Only what conntrack has not seen yet can be taken out (nft_ct.c, nft_notrack_eval).
                    if (track.NoTrack && StateOf(p) == ConntrackState.Invalid)
                    {
                        p.State = ConntrackState.Untracked;
                    }

                    return true;
                case RuleTarget.Dnat dnat:
                    return Translate(p, rule, dnat, ends, openQuestions);
                case RuleTarget.Redirect redirect:
                    SetDestination(p, rule, OwnAddress(), redirect.Ports);
                    p.IsRedirect = true;
                    return true;
                case RuleTarget.Masquerade:
                    SetSource(p, null);
                    return true;
                case RuleTarget.Snat snat:
                    SetSource(p, snat.First);
                    return true;
                case RuleTarget.OneOf dice:
                    return Throw(p, rule, dice, ends, openQuestions);
                case RuleTarget.Schedule schedule:
                    return Schedule(p, schedule.Table, ends, openQuestions);
                default:
                    ends.Add(Open(p, $"the target '{(target as RuleTarget.Unknown)?.Text ?? target.ToString()}' of {rule.Table} {rule.Chain} rule {rule.Position}"));
                    return false;
            }
        }

        // A copy of the packet per choice, the packet itself carries what remains on to the next rule.
        private bool Throw(Position p, Rule rule, RuleTarget.OneOf dice, List<WalkBranch> ends, int openQuestions)
        {
            var whole = p.Weight;
            var remaining = 1.0;
            foreach (var (share, target) in dice.Choices)
            {
                remaining -= share;
                var taken = p with { Weight = whole * share };
                if (Do(taken, rule, target, ends, openQuestions))
                {
                    Follow(taken, ends, openQuestions);
                }
            }

            p.Weight = whole * remaining;
            return remaining > 1e-9;
        }

        // ip_vs_core.c: ip_vs_in, ip_vs_schedule, ip_vs_leave. False when the packet goes its way from here, or ended.
        private bool Schedule(Position p, IpvsTable table, List<WalkBranch> ends, int openQuestions)
        {
            const ushort ftpData = 20; // never scheduled, since the server opens it
            if (p.Scheduled is not null || p.Tuple.Source.Port == ftpData || p.Tuple.Protocol == IpProtocol.Tcp && (packet.Flags & TcpFlags.Syn) == 0
                || table.Find(p.Tuple.Protocol, p.Tuple.Destination, p.Mark) is not { } server)
            {
                return true;
            }

            Note(p, table.RuleOf(server));
            if ((p.State & (ConntrackState.New | ConntrackState.Untracked)) == 0)
            {
                ends.Add(Open(p, $"to which real server of {server.Option} the connection went when it began"));
                return false;
            }

            // Port 0 takes every port for clients that persist only.
            var whole = server is { Address.Port: 0, Mark: 0, PersistenceSeconds: null } ? 0 : server.RealServers.Sum(r => (long)ShareOf(server, r));
            if (whole == 0)
            {
                // ip_vs_leave tells whoever asks, the node itself too (tests/kernels holds kernels to it); with IPv6 the node hears it after its second SYN.
                ends.Add(End(p, WalkOutcome.Rejected) with { RejectWith = p.Tuple.Destination.Address.IsIPv4 ? "icmp-port-unreachable" : "icmp6-port-unreachable" });
                return false;
            }

            if (server.PersistenceSeconds is not null)
            {
                Assume("the client has no session affinity yet");
            }

            if (server.Scheduler is not ("rr" or "wrr" or "fo"))
            {
                Assume($"which real server of {server.Option} the scheduler {server.Scheduler} takes depends on the addresses or on open connections; each is taken to be as likely as its weight");
            }

            for (var i = 0; i < server.RealServers.Length; i++)
            {
                var real = server.RealServers[i];
                if (ShareOf(server, real) is not (> 0 and var share))
                {
                    continue;
                }

                var rule = table.RuleOf(server, i);
                var taken = p with { Weight = p.Weight * share / whole };
                Note(taken, rule);
                if (real.Forwarding != Forwarding.Masquerade)
                {
                    ends.Add(Open(taken, $"what becomes of a packet that IPVS passes on to {real.Address} untranslated ({rule.Raw})"));
                    continue;
                }

                var to = real.Address with { Port = real.Address.Port == 0 ? p.Tuple.Destination.Port : real.Address.Port };
                if (server.PersistenceSeconds is { } seconds)
                {
                    NoteAffinity(to, seconds, rule);
                }

                Forward(taken, table, rule, to);
                Follow(taken, ends, openQuestions);
            }

            return false;
        }

        // The part of the new connections that a real server gets, in parts of the sum of all.
        private static int ShareOf(VirtualServer server, RealServer real) => real.Weight == 0 ? 0 : server.Scheduler switch
        {
            "rr" or "lc" or "lblc" or "lblcr" or "dh" => 1,
            "fo" => ReferenceEquals(real, server.RealServers.MaxBy(r => r.Weight)) ? 1 : 0, // the first of the heaviest takes all
            _ => real.Weight,
        };

        // ip_vs_nat_xmit: to another host it goes out as if the node had sent it, with IPVS leaving it alone from then on; to the node itself it goes on where it is.
        private void Forward(Position p, IpvsTable table, Rule rule, AddressPort to)
        {
            p.Scheduled = p.Tuple.Destination;
            p.Tuple = p.Tuple with { Destination = to };
            p.Backend = to;
            p.Chain = rule.Chain;
            p.DestinationSettled = true;
            p.Frame = null;
            if (table.IsTracked is null)
            {
                Assume("connection tracking knows the connections of IPVS (net.ipv4.vs.conntrack)");
            }
            else if (table.IsTracked == false)
            {
                p.State = ConntrackState.Untracked; // ip_vs_notrack
            }

            if (!IsOwn(to.Address, false))
            {
                p.Hook = Hook.Output;
                p.Next = 0;
            }
        }

        private bool LookUp(Position p, Rule rule, RuleTarget.Lookup lookup, List<WalkBranch> ends, int openQuestions)
        {
            var truth = Find(lookup.Fields, lookup.Map, p, out var element);
            if (truth != Truth.Open)
            {
                // Without an element the rule does nothing (nft_lookup.c: NFT_BREAK).
                return element is null || Use(p, rule, lookup, element, ends, openQuestions);
            }

            // Which element cannot be told: it does not matter if all that come into question end alike.
            var question = WordsOf(rule);
            var candidates = Candidates(lookup.Fields, lookup.Map, p);
            if (candidates is null || openQuestions >= MaxOpenQuestions)
            {
                ends.Add(Open(p, question));
                return false;
            }

            List<WalkBranch> all = [];
            foreach (var candidate in candidates)
            {
                List<WalkBranch> ways = [];
                var taken = p with { };
                if (Use(taken, rule, lookup, candidate, ways, openQuestions + 1))
                {
                    Follow(taken, ways, openQuestions + 1);
                }

                all = all.Count == 0 ? ways : Joined(ways, all);
            }

            List<WalkBranch> none = [];
            Follow(p, none, openQuestions + 1);
            ends.AddRange(all.Count == 0 ? none : Joined(all, none));
            return false;

            List<WalkBranch> Joined(List<WalkBranch> one, List<WalkBranch> other)
            {
                List<WalkBranch> joined = [];
                Join(one, other, question, joined);
                return joined;
            }
        }

        private bool Use(Position p, Rule rule, RuleTarget.Lookup lookup, SetElement element, List<WalkBranch> ends, int openQuestions)
        {
            Note(p, rule);
            if (lookup.Map.Name.Length > 0)
            {
                Note(p, element.AsRule(lookup));
            }

            return Do(p, rule, element.Target, ends, openQuestions);
        }

        // The element of the packet's values; null with No when there is none, and with Open when it cannot be told.
        private Truth Find(ImmutableArray<PacketField> fields, MatchSet set, Position p, out SetElement? element)
        {
            element = null;
            if (fields.Length > MaxCandidates)
            {
                return Truth.Open;
            }

            Span<FieldValue> values = stackalloc FieldValue[fields.Length];
            for (var i = 0; i < fields.Length; i++)
            {
                var known = ValueOf(fields[i], p, out values[i]);
                if (known != Truth.Yes)
                {
                    return known;
                }
            }

            element = set.Find(values);
            return element is not null ? Truth.Yes : set.IsComplete ? Truth.No : Truth.Open;
        }

        // The elements that the packet's values can be in as far as these are known; null when there are too many.
        private List<SetElement>? Candidates(ImmutableArray<PacketField> fields, MatchSet set, Position p)
        {
            if (!set.IsComplete || fields.Length > MaxCandidates)
            {
                return null;
            }

            var found = new List<SetElement>();
            foreach (var element in set.Elements)
            {
                var fits = true;
                for (var i = 0; i < fields.Length && fits; i++)
                {
                    fits = ValueOf(fields[i], p, out var value) != Truth.Yes || value >= element.First[i] && value <= element.Last[i];
                }

                if (fits && found.Count == MaxCandidates)
                {
                    return null;
                }

                if (fits)
                {
                    found.Add(element);
                }
            }

            if (set.CatchAll is { } other)
            {
                found.Add(other);
            }

            return found;
        }

        // Yes with the value; No when the packet has no such field, and so does not match; Open when it is not known.
        private Truth ValueOf(PacketField field, Position p, out FieldValue value)
        {
            value = default;
            string? name;
            switch (field)
            {
                case PacketField.SourceAddress:
                    value = FieldValue.Of(p.Tuple.Source.Address);
                    return Truth.Yes;
                case PacketField.DestinationAddress:
                    value = FieldValue.Of(p.Tuple.Destination.Address);
                    return Truth.Yes;
                case PacketField.Protocol:
                    value = FieldValue.Of((uint)p.Tuple.Protocol);
                    return Truth.Yes;
                case PacketField.SourcePort:
                    value = FieldValue.Of(p.Tuple.Source.Port);
                    return Truth.Yes;
                case PacketField.DestinationPort:
                    value = FieldValue.Of(p.Tuple.Destination.Port);
                    return Truth.Yes;
                case PacketField.Mark:
                    value = FieldValue.Of(p.Mark);
                    return Truth.Yes;
                case PacketField.ConnectionMark:
                    value = FieldValue.Of(p.ConnectionMark);
                    return HasConnection(p);
                case PacketField.ConnectionState:
                    value = FieldValue.Of((uint)(StateOf(p) & ~(ConntrackState.Snat | ConntrackState.Dnat)));
                    return Truth.Yes;
                case PacketField.OriginalSourceAddress:
                    value = FieldValue.Of(Original.Source.Address);
                    return HasConnection(p);
                case PacketField.OriginalDestinationAddress:
                    value = FieldValue.Of(Original.Destination.Address);
                    return HasConnection(p);
                case PacketField.OriginalSourcePort:
                    value = FieldValue.Of(Original.Source.Port);
                    return HasConnection(p);
                case PacketField.OriginalDestinationPort:
                    value = FieldValue.Of(Original.Destination.Port);
                    return HasConnection(p);
                case PacketField.InInterface:
                    name = Entering(p);
                    value = FieldValue.Of(name);
                    return name is null ? Truth.Open : Truth.Yes;
                case PacketField.OutInterface:
                    name = Leaving(p);
                    value = FieldValue.Of(name);
                    return name is null ? Truth.Open : Truth.Yes;
                default:
                    return Truth.Open;
            }
        }

        private Truth HasConnection(Position p) => (StateOf(p) & (ConntrackState.Invalid | ConntrackState.Untracked)) == 0 ? Truth.Yes : Truth.No;

        // Before conntrack has seen it, a packet belongs to no connection; the node's own to itself was seen when it left.
        private ConntrackState StateOf(Position p)
            => p.Stop!.Hook.Priority > ConnectionKnown || p.Scheduled is not null || p.Hook is not (Hook.Prerouting or Hook.Output) || packet.FromNode && p.Hook == Hook.Prerouting ? p.State
                : (p.State & ConntrackState.Untracked) != 0 ? ConntrackState.Untracked : ConntrackState.Invalid;

        private string? Entering(Position p) => !packet.FromNode ? p.Hook == Hook.Output ? "" : packet.InInterface : p.Hook is Hook.Prerouting or Hook.Input ? "lo" : "";

        private bool Jump(Position p, RuleTarget.Jump jump, List<WalkBranch> ends)
        {
            var from = p.Frame!;
            if (from.Table.Chain(jump.Chain) is not { } chain)
            {
                ends.Add(Open(p, $"the chain {jump.Chain} is not in the dump of table {from.Table.Name}"));
                return false;
            }

            var loop = from.Depth >= MaxJumps;
            for (var frame = from; frame is not null && !loop; frame = frame.Caller)
            {
                loop = ReferenceEquals(frame.Chain, chain);
            }

            if (loop)
            {
                ends.Add(Open(p, $"the chains call each other in a circle, or more than {MaxJumps} deep, through {jump.Chain}"));
                return false;
            }

            p.Frame = jump.Goto
                ? new Frame(from.Table, chain, walk.IndexOf(chain), from.Caller, from.ReturnTo, from.Depth + 1)
                : from.Call(chain, walk.IndexOf(chain), p.At);
            p.At = 0;
            return true;
        }

        private bool Translate(Position p, Rule rule, RuleTarget.Dnat dnat, List<WalkBranch> ends, int openQuestions)
        {
            var first = dnat.First ?? p.Tuple.Destination.Address;
            var last = dnat.Last ?? first;
            if (first == last)
            {
                SetDestination(p, rule, first, dnat.Ports);
                return true;
            }

            return TranslateToOneOf(p, rule, first, last, dnat.Ports, ends, openQuestions);
        }

        // Apart from the rest: code that holds a UInt128 is left out of ahead-of-time compilation, and ranges are rare.
        private bool TranslateToOneOf(Position p, Rule rule, IpAddress first, IpAddress last, PortRange? ports, List<WalkBranch> ends, int openQuestions)
        {
            if (first.IsIPv4 != last.IsIPv4 || first > last || last.Bits - first.Bits > 1023)
            {
                ends.Add(Open(p, $"which of {first} to {last} is chosen"));
                return false;
            }

            // A range is chosen from by a hash of the addresses: equally likely, seen from outside.
            var count = (int)(last.Bits - first.Bits) + 1;
            for (var i = 0; i < count; i++)
            {
                var bits = first.Bits + (UInt128)i;
                var chosen = p with { Weight = p.Weight / count };
                SetDestination(chosen, rule, first.IsIPv4 ? IpAddress.FromIPv4((uint)bits) : IpAddress.FromIPv6(bits), ports);
                Follow(chosen, ends, openQuestions);
            }

            return false;
        }

        private void SetDestination(Position p, Rule rule, IpAddress address, PortRange? ports)
        {
            if (ports is { } range && range.First != range.Last)
            {
                Assume(string.Create(CultureInfo.InvariantCulture, $"of the ports {range.First} to {range.Last}, the first is taken"));
            }

            // A translation to where it goes anyway is none in conntrack's eyes (nf_nat_core.c, nf_nat_setup_info).
            var to = new AddressPort(address, ports?.First ?? p.Tuple.Destination.Port);
            p.State |= to == p.Tuple.Destination ? 0 : ConntrackState.Dnat;
            p.Tuple = p.Tuple with { Destination = to };
            p.DestinationSettled = true;
            p.Backend = to;
            p.Chain = rule.Chain;
            p.Frame = null;
        }

        private void SetSource(Position p, IpAddress? source)
        {
            p.Masquerade = source is null;
            p.SourceBecomes = source;
            var becomes = source ?? OwnSourceFor(p);
            p.State |= becomes == p.Tuple.Source.Address ? 0 : ConntrackState.Snat;
            p.Tuple = p.Tuple with { Source = p.Tuple.Source with { Address = becomes ?? p.Tuple.Source.Address } };
            p.SourceSettled = true;
            p.Frame = null;
        }

        // REDIRECT goes to the first address of the interface that the packet came in by (nf_nat_redirect.c); unspecified when it cannot be told.
        private IpAddress OwnAddress()
        {
            var ipv4 = packet.Tuple.Destination.Address.IsIPv4;
            if (packet.FromNode)
            {
                return ipv4 ? IpAddress.FromIPv4(0x7f000001) : IpAddress.FromIPv6(1);
            }

            var back = packet.Routes?.Lookup(packet.Tuple.Source.Address);
            if (back is { Via: null, Source: { } source })
            {
                return source;
            }

            // Routes of IPv6 name no source: it is the device's first address beyond fe80::/10 (nf_nat_redirect_ipv6).
            return back is { Via: null, Device: { } device } && !ipv4 && packet.Routes!.Routes.FirstOrDefault(r => r.Type == "local" && r.Device == device && !r.Prefix.Address.IsIPv4 && r.Prefix.Address.High >> 54 != 0x3fa) is { } own
                ? own.Prefix.Address : ipv4 ? IpAddress.IPv4Any : IpAddress.IPv6Any;
        }

        // Whether the rule holds from the condition that the packet stands at: as far as the statement at 'effect' when that is not 0, because a
        // share of the packets only, or perhaps none, undergoes it.
        private Truth Holds(Rule rule, Position p, out double share, out string? question, out int effect)
        {
            share = 1;
            question = null;
            effect = 0;
            for (var i = p.Condition; i < rule.Matches.Length; i++)
            {
                var match = rule.Matches[i];
                if (match is RuleMatch.Statistic statistic)
                {
                    share *= statistic.Negated ? 1 - statistic.Probability : statistic.Probability;
                    continue;
                }

                if (match is RuleMatch.Effect { Target: var target })
                {
                    if (question is not null || share < 1)
                    {
                        effect = i;
                        break;
                    }

                    Note(p, rule);
                    Do(p, rule, target, [], 0);
                    continue;
                }

                switch (Holds(match, rule, p))
                {
                    case Truth.No:
                        return Truth.No;
                    case Truth.Open:
                        question ??= rule.Handle > 0 ? WordsOf(rule, match) : $"{Words(match)} ({rule.Table} {rule.Chain} rule {rule.Position.ToString(CultureInfo.InvariantCulture)})";
                        break;
                }
            }

            return question is null ? Truth.Yes : Truth.Open;
        }

        // nft has no option per condition: the rule itself says it best.
        private static string WordsOf(Rule rule, RuleMatch? match = null)
        {
            var words = match switch
            {
                RuleMatch.Unknown unknown => unknown.Text,
                RuleMatch.Rate rate => rate.Text,
                _ => rule.Raw.Length > 200 ? $"{rule.Raw.AsSpan(0, 200)}…" : rule.Raw,
            };
            return string.Create(CultureInfo.InvariantCulture, $"'{words}' ({rule.Table} {rule.Chain} rule {rule.Position})");
        }

        private Truth Holds(RuleMatch match, Rule rule, Position p)
        {
            switch (match)
            {
                case RuleMatch.Commented or RuleMatch.Accounted:
                    return Truth.Yes;
                case RuleMatch.Protocol protocol:
                    return Is(p.Tuple.Protocol == protocol.Value, match);
                case RuleMatch.Destination destination:
                    return Is(destination.Network.Contains(p.Tuple.Destination.Address), match);
                case RuleMatch.Source source:
                    return Is(source.Network.Contains(p.Tuple.Source.Address), match);
                case RuleMatch.Port port:
                    var held = false;
                    foreach (var range in port.Ranges)
                    {
                        held |= port.Side != PortSide.Destination && range.Contains(p.Tuple.Source.Port)
                            || port.Side != PortSide.Source && range.Contains(p.Tuple.Destination.Port);
                    }

                    return Is(held, match);
                case RuleMatch.AddressRange range:
                    var address = range.OfSource ? p.Tuple.Source.Address : p.Tuple.Destination.Address;
                    return Is(address >= range.First && address <= range.Last, match);
                case RuleMatch.Mark mark:
                    return Is((p.Mark & mark.Mask) == mark.Value, match);
                case RuleMatch.ConnectionMark mark:
                    return HasConnection(p) == Truth.No ? Truth.No : Is((p.ConnectionMark & mark.Mask) == mark.Value, match);
                case RuleMatch.ConnectionState state:
                    return Is((StateOf(p) & state.States) != 0, match);
                case RuleMatch.OriginalAddress or RuleMatch.OriginalPort or RuleMatch.ConnectionProtocol or RuleMatch.Direction when HasConnection(p) == Truth.No:
                    return Truth.No;
                case RuleMatch.OriginalAddress original:
                    return Is(original.Network.Contains(original.OfSource ? Original.Source.Address : Original.Destination.Address), match);
                case RuleMatch.OriginalPort original:
                    return Is(original.Range.Contains(original.OfSource ? Original.Source.Port : Original.Destination.Port), match);
                case RuleMatch.ConnectionProtocol protocol:
                    return Is(p.Tuple.Protocol == protocol.Value, match);
                case RuleMatch.Direction direction:
                    return direction.Original != (packet.Connection?.IsReply ?? false) ? Truth.Yes : Truth.No;
                case RuleMatch.Flags flags:
                    return Is((packet.Flags & flags.Mask) == flags.Set, match);
                case RuleMatch.Fragment:
                    return Is(false, match);
                case RuleMatch.AddressType type:
                    return Negate(TypeHolds(type, type.OfSource ? p.Tuple.Source.Address : p.Tuple.Destination.Address, p.IsRedirect && !type.OfSource), type.Negated);
                case RuleMatch.InInterface inside:
                    var name = Entering(p);
                    return name is null ? Truth.Open : Is(Named(name, inside.Name), match);
                case RuleMatch.OutInterface outside:
                    name = Leaving(p);
                    return name is null ? Truth.Open : Is(Named(name, outside.Name), match);
                case RuleMatch.PhysicalDevice device:
                    var port2 = packet.FromNode ? "" : packet.BridgePort;
                    return port2 switch
                    {
                        null => Truth.Open,
                        "" => Is(false, match),
                        _ when device.Question == PhysicalDeviceQuestion.IsIn => Is(true, match),
                        _ when device.Question == PhysicalDeviceQuestion.In => Is(Named(port2, device.Name!), match),
                        _ => Truth.Open,
                    };
                case RuleMatch.Recent recent:
                    if (recent.Operation == RecentOperation.Set)
                    {
                        return Is(true, match);
                    }

                    Assume("the client has no session affinity yet");
                    NoteAffinity(rule, p);
                    return Is(false, match);
                case RuleMatch.InSet set:
                    return p.Stop!.Set.IpSets?.GetValueOrDefault(set.Name) is { } named ? Negate(IsIn(named, set.Fields, p), set.Negated) : Truth.Open;
                case RuleMatch.Scheduled when packet.Connection is not null:
                    return Truth.Open; // of later packets IPVS's own table of connections tells
                case RuleMatch.Scheduled { OfProtocol: null, OfAddress: null, OfPort: null }:
                    return Is(p.Scheduled is not null, match);
                case RuleMatch.Scheduled taken:
                    // xt_ipvs.c, ipvs_mt
                    return p.Scheduled is not { } virtualServer ? Truth.No
                        : Is((taken.OfProtocol ?? p.Tuple.Protocol) == p.Tuple.Protocol && taken.OfAddress?.Contains(virtualServer.Address) != false && (taken.OfPort ?? virtualServer.Port) == virtualServer.Port, match);
                case RuleMatch.Family family:
                    return Is(family.IsIPv6 != p.Tuple.Destination.Address.IsIPv4, match);
                case RuleMatch.Lookup lookup:
                    return LookupHolds(lookup, rule, p);
                case RuleMatch.ReversePath:
                    Assume("the reply would leave where the packet came in (rpfilter)");
                    return Is(true, match);
                default:
                    return Truth.Open;
            }
        }

        // ip_set_core.c, ip_set_test.
        private Truth IsIn(IpSet set, string directions, Position p)
        {
            if (set.IsList)
            {
                // list_set_ktest: in one of its sets.
                var any = Truth.No;
                foreach (var member in set.Members)
                {
                    var truth = p.Stop!.Set.IpSets!.GetValueOrDefault(member.Text) is { IsList: false } named ? IsIn(named, directions, p) : Truth.Open;
                    any = truth == Truth.No ? any : truth == Truth.Yes || any == Truth.Yes ? Truth.Yes : Truth.Open;
                }

                return any;
            }

            if (set.IsIPv6 == p.Tuple.Destination.Address.IsIPv4)
            {
                return Truth.No;
            }

            var fields = set.FieldsOf(directions);
            if (!set.Asks(p.Tuple.Protocol))
            {
                return Truth.Open;
            }

            // bitmap_port knows the ports of TCP and UDP only.
            if (fields.IsEmpty || fields is [PacketField.SourcePort or PacketField.DestinationPort] && p.Tuple.Protocol == IpProtocol.Sctp)
            {
                return Truth.No;
            }

            Span<FieldValue> values = stackalloc FieldValue[fields.Length];
            for (var i = 0; i < fields.Length; i++)
            {
                var known = ValueOf(fields[i], p, out values[i]);
                if (known != Truth.Yes)
                {
                    return known;
                }
            }

            return set.Find(values) is { IsException: false } ? Truth.Yes : Truth.No;
        }

        private Truth LookupHolds(RuleMatch.Lookup lookup, Rule rule, Position p)
        {
            var truth = Find(lookup.Fields, lookup.Set, p, out _);
            if (lookup.Set.IsDynamic)
            {
                // kube-proxy's sets are named so, one per endpoint.
                var isAffinity = rule.Target is RuleTarget.Jump && lookup.Set.Name.StartsWith("affinity-", StringComparison.Ordinal);
                Assume(!isAffinity ? $"the set {lookup.Set.Name} of table {lookup.Set.Table}, which packets themselves change, is as it was when the rules were read"
                    : truth == Truth.Yes ? "the client still has the session affinity that it had when the rules were read" : "the client has no session affinity yet");
                NoteAffinity(rule, p);
            }

            if (truth != Truth.Open || !lookup.Set.IsComplete)
            {
                return Negate(truth, lookup.Negated);
            }

            // What is known of the packet can be enough to tell that it is not in the set.
            return Candidates(lookup.Fields, lookup.Set, p) is { Count: 0 } ? Negate(Truth.No, lookup.Negated) : Truth.Open;
        }

        private void NoteAffinity(Rule rule, Position p)
        {
            if (rule.Target is not RuleTarget.Jump jump || p.Frame!.Table.Chain(jump.Chain) is not { } chain)
            {
                return;
            }

            foreach (var translation in chain.Rules)
            {
                if (translation.Target is RuleTarget.Dnat { First: { } address } dnat)
                {
                    NoteAffinity(new AddressPort(address, dnat.Ports?.First ?? p.Tuple.Destination.Port), AffinitySeconds(rule), rule);
                }
            }
        }

        private void NoteAffinity(AddressPort backend, int? seconds, Rule rule)
        {
            _affinity ??= [];
            if (!_affinity.Exists(a => a.Backend == backend && ReferenceEquals(a.Rule, rule)))
            {
                _affinity.Add(new WalkAffinity(backend, seconds, rule));
            }
        }

        private static int? AffinitySeconds(Rule rule) => rule.Matches.Select(m => m switch
        {
            RuleMatch.Recent recent => recent.Seconds,
            RuleMatch.Lookup { Set.IsDynamic: true } lookup => lookup.Set.Seconds,
            _ => null,
        }).FirstOrDefault(s => s is not null);

        private Truth TypeHolds(RuleMatch.AddressType type, IpAddress address, bool redirected)
        {
            var known = !packet.LocalAddresses.IsEmpty || packet.Routes is not null;
            var local = IsOwn(address, redirected, quiet: true);
            var answer = Truth.No;
            foreach (var name in type.Types)
            {
                switch (name)
                {
                    case "LOCAL" when local:
                        return type.LimitedTo is null ? Truth.Yes : Truth.Open;
                    case "LOCAL":
                        answer = known ? answer : Truth.Open;
                        break;
                    case "MULTICAST" when address.IsMulticast:
                        return Truth.Yes;
                    case "BROADCAST" when address.IsIPv4 && (uint)address.Low == uint.MaxValue:
                        return Truth.Yes;
                    case "UNSPEC" when address.IsUnspecified:
                        return Truth.Yes;
                    case "MULTICAST" or "UNSPEC":
                        break;
                    default:
                        // UNICAST, BROADCAST, BLACKHOLE, …: what the routes say.
                        var route = packet.Routes?.Lookup(address);
                        if (packet.Routes is null)
                        {
                            answer = Truth.Open;
                        }
                        else if (!local && !address.IsMulticast && name.Equals(route?.Type, StringComparison.OrdinalIgnoreCase))
                        {
                            return Truth.Yes;
                        }

                        break;
                }
            }

            return answer;
        }

        // What the tables say of a packet as it stands at the hook, by the policy rules.
        private Route? RouteOf(FiveTuple tuple, uint mark)
        {
            if (packet.Routes is null)
            {
                return null;
            }

            var route = packet.Routes.Lookup(tuple, packet.FromNode ? "lo" : packet.InInterface, mark, out var unknown);
            if (unknown is not null)
            {
                Assume($"the policy rule '{unknown}' is not for this packet");
            }

            return route;
        }

        private bool IsOwn(IpAddress address, bool redirected, bool quiet = false)
        {
            if (redirected || address.IsLoopback || packet.LocalAddresses.Contains(address))
            {
                return true;
            }

            if (packet.Routes?.Lookup(address) is { Type: "local" })
            {
                return true;
            }

            if (!quiet && packet.LocalAddresses.IsEmpty && packet.Routes is null)
            {
                Assume($"{address} is not the node's own, whose addresses are not known");
            }

            return false;
        }

        // MASQUERADE takes the address of the interface on the next hop's network; null when the routes do not say.
        private IpAddress? OwnSourceFor(Position p)
        {
            var route = RouteOf(p.Tuple, p.RoutedMark);
            return route?.Source ?? (route?.Via is { } gateway ? packet.Routes!.Lookup(gateway)?.Source : null);
        }

        private string? Leaving(Position p)
        {
            if (p.Hook is Hook.Prerouting or Hook.Input)
            {
                return "";
            }

            // The output hook is told the interface once, before any translation there (nf_hook_slow keeps its state).
            var isBefore = p.Hook == Hook.Output;
            var destination = isBefore ? packet.Tuple.Destination.Address : p.Tuple.Destination.Address;
            return IsOwn(destination, !isBefore && p.IsRedirect, quiet: true) ? "lo" : packet.Routes is null ? null : RouteOf(isBefore ? packet.Tuple : p.Tuple, isBefore ? packet.Mark : p.RoutedMark)?.Device ?? "";
        }

        private static bool Named(string name, string pattern)
            => pattern.EndsWith('+') ? name.AsSpan().StartsWith(pattern.AsSpan(0, pattern.Length - 1)) : name == pattern;

        private static Truth Is(bool held, RuleMatch match) => held != match.Negated ? Truth.Yes : Truth.No;

        private static Truth Negate(Truth truth, bool negated) => !negated || truth == Truth.Open ? truth : truth == Truth.Yes ? Truth.No : Truth.Yes;

        private void Assume(string what)
        {
            _assumptions ??= [];
            if (!_assumptions.Contains(what))
            {
                _assumptions.Add(what);
            }
        }

        private static string Words(RuleMatch match) => match switch
        {
            RuleMatch.Unknown unknown => unknown.Text,
            RuleMatch.Rate rate => rate.Text,
            RuleMatch.InSet set => $"-m set {(set.Negated ? "! " : "")}--match-set {set.Name} {set.Fields}",
            RuleMatch.InInterface inside => $"{(inside.Negated ? "! " : "")}-i {inside.Name}",
            RuleMatch.OutInterface outside => $"{(outside.Negated ? "! " : "")}-o {outside.Name}",
            RuleMatch.AddressType type => $"-m addrtype {(type.Negated ? "! " : "")}{(type.OfSource ? "--src-type" : "--dst-type")} {string.Join(',', type.Types)}",
            RuleMatch.PhysicalDevice device => $"-m physdev {(device.Negated ? "! " : "")}{device.Question} {device.Name}".TrimEnd(),
            _ => match.ToString(),
        };

        private WalkBranch End(Position p, WalkOutcome outcome)
        {
            _told += 1 + (p.Trail?.Length ?? 0);
            return new WalkBranch
            {
                Outcome = outcome,
                Probability = p.Weight,
                Backend = p.Backend,
                IsRedirect = p.IsRedirect,
                Chain = p.Chain,
                Masquerade = p.Masquerade,
                SourceBecomes = p.SourceBecomes,
                ConnectionMark = p.ConnectionMark,
                Tuple = p.Tuple,
                Trail = p.Trail,
            };
        }

        private WalkBranch Open(Position p, string question) => End(p, WalkOutcome.Undecided) with { Unknown = question };
    }
}
