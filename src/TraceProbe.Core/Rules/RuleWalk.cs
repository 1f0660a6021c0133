using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Carries a <see cref="VirtualPacket"/> through a node's rules in the kernel's order and says how it ends and which rules did it.
/// <list type="number">
/// <item>Entering: PREROUTING (OUTPUT for the node's own packets) of raw, mangle, nat; the node's own also filter.</item>
/// <item>Routing: INPUT when the destination, now translated, is the node's own, else FORWARD; mangle, filter, security.</item>
/// <item>Leaving: POSTROUTING of mangle and nat, where the source is translated.</item>
/// </list>
/// The order is that of the priorities in <c>include/uapi/linux/netfilter_ipv4.h</c>. Where both backends have rules, both are asked at each
/// step; their order among each other depends on which was loaded first, so both orders are walked and must agree.
/// A rule with a <c>statistic</c> splits the packet in two by probability. A condition that cannot be told splits it too: when both ways end
/// alike it did not matter, otherwise the result is <see cref="WalkOutcome.Undecided"/> and names the condition.
/// An instance keeps an index of the long chains; it is not safe for use by several threads at once.
/// </summary>
public sealed class RuleWalk
{
    // The kernel bounds a walk by refusing loops when rules are loaded; a dump need not come from a kernel.
    private const int MaxSteps = 1_000_000;
    private const int MaxJumps = 256;
    private const int MaxOpenQuestions = 12;

    private static readonly (string Hook, string Table)[] Incoming = [("PREROUTING", "raw"), ("PREROUTING", "mangle"), ("PREROUTING", "nat")];

    private static readonly (string Hook, string Table)[] Outgoing =
        [("OUTPUT", "raw"), ("OUTPUT", "mangle"), ("OUTPUT", "nat"), ("OUTPUT", "filter"), ("OUTPUT", "security"), ("POSTROUTING", "mangle"), ("POSTROUTING", "nat")];

    private static readonly (string Hook, string Table)[] Delivery = [("INPUT", "mangle"), ("INPUT", "filter"), ("INPUT", "security"), ("INPUT", "nat")];

    private static readonly (string Hook, string Table)[] Forwarding =
        [("FORWARD", "mangle"), ("FORWARD", "filter"), ("FORWARD", "security"), ("POSTROUTING", "mangle"), ("POSTROUTING", "nat")];

    private readonly ImmutableArray<RuleSet> _sets;
    private readonly Dictionary<RuleChain, ChainIndex> _indexes = new(ReferenceEqualityComparer.Instance);

    /// <summary>Makes a walk over these rules; sets of the other address family are left alone.</summary>
    public RuleWalk(IEnumerable<RuleSet> sets) => _sets = [.. sets];

    /// <summary>Walks one packet through these rules.</summary>
    public static WalkResult Run(IEnumerable<RuleSet> sets, VirtualPacket packet) => new RuleWalk(sets).Run(packet);

    /// <summary>Walks one packet.</summary>
    public WalkResult Run(VirtualPacket packet)
    {
        ArgumentNullException.ThrowIfNull(packet);
        var ipv6 = !packet.Tuple.Destination.Address.IsIPv4;
        var sets = _sets.Where(s => s.IsIPv6 == ipv6 && s.Tables.Values.Any(t => t.Chains.Values.Any(c => !c.Rules.IsEmpty || c.Policy == "DROP"))).ToArray();
        var result = new Course(this, sets, packet).Run();
        if (sets.Length < 2 || result.Outcome == WalkOutcome.Undecided)
        {
            return result;
        }

        Array.Reverse(sets);
        var other = new Course(this, sets, packet).Run();
        return SameEnd(result.Branches, other.Branches) ? result : result with
        {
            Outcome = WalkOutcome.Undecided,
            Unknowns = ["legacy and nft rules both decide about this packet, differently; which of them comes first depends on which was loaded first"],
        };
    }

    private ChainIndex IndexOf(RuleChain chain)
    {
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

    private static bool SameSource(List<WalkBranch> left, List<WalkBranch> right)
        => left.Where(b => b.Leaves).Select(b => (b.Masquerade, b.SourceBecomes)).Distinct().Order().SequenceEqual(
            right.Where(b => b.Leaves).Select(b => (b.Masquerade, b.SourceBecomes)).Distinct().Order());

    /// <summary>The rules of a chain that can concern a destination, in order: long chains consist of rules for one address each.</summary>
    private sealed class ChainIndex
    {
        private const int Worthwhile = 16;
        private readonly Dictionary<IpAddress, List<int>>? _byDestination;
        private readonly List<int>? _others;
        private readonly int _count;

        public ChainIndex(RuleChain chain)
        {
            _count = chain.Rules.Length;
            if (_count < Worthwhile)
            {
                return;
            }

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

    private sealed record Trail(Rule Rule, Trail? Before);

    private sealed record Frame(RuleTable Table, RuleChain Chain, ChainIndex Index, Frame? Caller, int ReturnTo, int Depth);

    /// <summary>A packet on its way; copied where the way forks.</summary>
    private sealed record Position
    {
        public FiveTuple Tuple;
        public uint Mark;
        public uint ConnectionMark;
        public ConntrackState State;
        public double Weight = 1;
        public Trail? Trail;
        public AddressPort? Backend;
        public bool IsRedirect;
        public string? Chain;
        public bool DestinationSettled;
        public bool SourceSettled;
        public bool Masquerade;
        public IpAddress? SourceBecomes;

        // Where it is: the step of the plan, the rule set within it, the chain and the rule.
        public (string Hook, string Table)[] Plan = Incoming;
        public int Step;
        public int Set;
        public RuleChain? Base;
        public Frame? Frame;
        public int At;
    }

    /// <summary>One walk of one packet.</summary>
    private sealed class Course(RuleWalk walk, RuleSet[] sets, VirtualPacket packet)
    {
        private readonly List<string> _assumptions = [];
        private readonly List<AddressPort> _affinity = [];
        private int _steps;

        public WalkResult Run()
        {
            var branches = new List<WalkBranch>();
            Follow(
                new Position
                {
                    Tuple = packet.Tuple,
                    Mark = packet.Mark,
                    State = packet.State,
                    Plan = packet.FromNode ? Outgoing : Incoming,
                },
                branches,
                0);

            var backends = ImmutableArray.CreateBuilder<WalkBackend>();
            var at = new Dictionary<AddressPort, int>();
            foreach (var branch in branches)
            {
                if (branch.Backend is not { } backend)
                {
                    continue;
                }

                if (at.TryGetValue(backend, out var i))
                {
                    backends[i] = backends[i] with { Probability = backends[i].Probability + branch.Probability };
                }
                else
                {
                    at.Add(backend, backends.Count);
                    backends.Add(new WalkBackend(backend, branch.Probability, branch.Chain ?? "", branch.IsRedirect));
                }
            }

            var seen = new HashSet<Rule>(ReferenceEqualityComparer.Instance);
            var outcome = branches[0].Outcome;
            foreach (var branch in branches)
            {
                outcome = branch.Outcome == outcome ? outcome
                    : outcome == WalkOutcome.Undecided || branch.Outcome == WalkOutcome.Undecided ? WalkOutcome.Undecided : WalkOutcome.Varies;
            }

            return new WalkResult
            {
                Packet = packet,
                Outcome = outcome,
                Branches = [.. branches],
                Backends = backends.ToImmutable(),
                Matched = [.. branches.SelectMany(b => b.Matched).Where(seen.Add)],
                Unknowns = [.. branches.Select(b => b.Unknown).OfType<string>().Distinct()],
                Assumptions = [.. _assumptions],
                AffinityBackends = [.. _affinity],
            };
        }

        private void Follow(Position p, List<WalkBranch> ends, int openQuestions)
        {
            while (true)
            {
                if (++_steps > MaxSteps)
                {
                    ends.Add(Open(p, $"the walk was given up after {MaxSteps} steps"));
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
                var truth = Holds(rule, p, out var share, out var question);
                if (truth == Truth.No || share <= 0)
                {
                    continue;
                }

                if (truth == Truth.Open)
                {
                    if (rule.Target is null or RuleTarget.PassOn or RuleTarget.Track { NoTrack: false })
                    {
                        continue;
                    }

                    Fork(p, rule, question!, ends, openQuestions);
                    return;
                }

                if (share < 1)
                {
                    // The dice: one copy goes this way, the packet itself carries the rest of the probability on.
                    var taken = p with { Weight = p.Weight * share };
                    p.Weight *= 1 - share;
                    if (Apply(taken, rule, ends))
                    {
                        Follow(taken, ends, openQuestions);
                    }

                    continue;
                }

                if (!Apply(p, rule, ends))
                {
                    return;
                }
            }
        }

        private void Fork(Position p, Rule rule, string question, List<WalkBranch> ends, int openQuestions)
        {
            if (openQuestions >= MaxOpenQuestions)
            {
                ends.Add(Open(p, question));
                return;
            }

            List<WalkBranch> met = [], unmet = [];
            var taken = p with { };
            if (Apply(taken, rule, met))
            {
                Follow(taken, met, openQuestions + 1);
            }

            Follow(p, unmet, openQuestions + 1);
            if (SameEnd(met, unmet))
            {
                if (!SameSource(met, unmet))
                {
                    Assume($"whether the source is translated depends on '{question}', taken as not met");
                }

                ends.AddRange(unmet);
                return;
            }

            foreach (var branch in met.Concat(unmet))
            {
                ends.Add(branch with { Outcome = WalkOutcome.Undecided, Unknown = branch.Unknown ?? question });
            }
        }

        // Sets up the next base chain that exists; false when the packet has passed all of them.
        private bool EnterNextChain(Position p)
        {
            while (true)
            {
                if (p.Step >= p.Plan.Length)
                {
                    if (ReferenceEquals(p.Plan, Incoming))
                    {
                        p.Plan = IsOwn(p.Tuple.Destination.Address, p.IsRedirect) ? Delivery : Forwarding;
                    }
                    else if (ReferenceEquals(p.Plan, Outgoing) && IsOwn(p.Tuple.Destination.Address, p.IsRedirect))
                    {
                        p.Plan = Delivery; // over the loopback interface
                    }
                    else
                    {
                        return false;
                    }

                    p.Step = 0;
                    p.Set = 0;
                    continue;
                }

                var (hook, tableName) = p.Plan[p.Step];
                if (p.Set >= sets.Length || tableName == "nat" && !Translates(p, hook))
                {
                    if (tableName == "nat")
                    {
                        // The kernel settles a null binding when no rule translated (nf_nat_core.c, nf_nat_inet_fn).
                        _ = hook is "PREROUTING" or "OUTPUT" ? p.DestinationSettled = true : p.SourceSettled = true;
                    }

                    p.Step++;
                    p.Set = 0;
                    continue;
                }

                var table = sets[p.Set++].Table(tableName);
                if (table?.Chain(hook) is { } chain)
                {
                    p.Base = chain;
                    p.Frame = new Frame(table, chain, walk.IndexOf(chain), null, 0, 0);
                    p.At = 0;
                    return true;
                }
            }
        }

        // Only a connection's first packet meets the nat table, and each of the two translations is settled once.
        private static bool Translates(Position p, string hook)
            => (p.State & ConntrackState.New) != 0 && !(hook is "PREROUTING" or "OUTPUT" ? p.DestinationSettled : p.SourceSettled);

        private static bool LeaveChain(Position p, List<WalkBranch> ends)
        {
            var frame = p.Frame!;
            if (frame.Caller is { } caller)
            {
                p.Frame = caller;
                p.At = frame.ReturnTo;
                return true;
            }

            p.Frame = null;
            if (p.Base!.Policy != "DROP")
            {
                return true;
            }

            ends.Add(End(p, WalkOutcome.Dropped) with { Policy = $"policy of {frame.Table.Name} {p.Base.Name}" });
            return false;
        }

        // Does what the rule says; false when the packet ended there.
        private bool Apply(Position p, Rule rule, List<WalkBranch> ends)
        {
            p.Trail = new Trail(rule, p.Trail);
            switch (rule.Target)
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
                    if (track.NoTrack)
                    {
                        p.State = ConntrackState.Untracked;
                    }

                    return true;
                case RuleTarget.Dnat dnat:
                    return Translate(p, rule, dnat, ends);
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
                default:
                    ends.Add(Open(p, $"the target '{((RuleTarget.Unknown)rule.Target).Text}' of {rule.Table} {rule.Chain} rule {rule.Position}"));
                    return false;
            }
        }

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
                ends.Add(Open(p, $"the chains call each other in a circle through {jump.Chain}"));
                return false;
            }

            p.Frame = jump.Goto
                ? new Frame(from.Table, chain, walk.IndexOf(chain), from.Caller, from.ReturnTo, from.Depth + 1)
                : new Frame(from.Table, chain, walk.IndexOf(chain), from, p.At, from.Depth + 1);
            p.At = 0;
            return true;
        }

        private bool Translate(Position p, Rule rule, RuleTarget.Dnat dnat, List<WalkBranch> ends)
        {
            var first = dnat.First ?? p.Tuple.Destination.Address;
            var last = dnat.Last ?? first;
            if (first == last)
            {
                SetDestination(p, rule, first, dnat.Ports);
                return true;
            }

            return TranslateToOneOf(p, rule, first, last, dnat.Ports, ends);
        }

        // Apart from the rest: code that holds a UInt128 is left out of ahead-of-time compilation, and ranges are rare.
        private bool TranslateToOneOf(Position p, Rule rule, IpAddress first, IpAddress last, PortRange? ports, List<WalkBranch> ends)
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
                Follow(chosen, ends, 0);
            }

            return false;
        }

        private void SetDestination(Position p, Rule rule, IpAddress address, PortRange? ports)
        {
            if (ports is { } range && range.First != range.Last)
            {
                Assume(string.Create(CultureInfo.InvariantCulture, $"of the ports {range.First} to {range.Last}, the first is taken"));
            }

            var to = new AddressPort(address, ports?.First ?? p.Tuple.Destination.Port);
            p.Tuple = p.Tuple with { Destination = to };
            p.State |= ConntrackState.Dnat;
            p.DestinationSettled = true;
            p.Backend = to;
            p.Chain = rule.Chain;
            p.Frame = null;
        }

        private static void SetSource(Position p, IpAddress? source)
        {
            p.Masquerade = source is null;
            p.SourceBecomes = source;
            p.State |= ConntrackState.Snat;
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
            return back is { Via: null, Source: { } source } ? source : ipv4 ? IpAddress.IPv4Any : IpAddress.IPv6Any;
        }

        private Truth Holds(Rule rule, Position p, out double share, out string? question)
        {
            share = 1;
            question = null;
            foreach (var match in rule.Matches)
            {
                if (match is RuleMatch.Statistic statistic)
                {
                    share *= statistic.Negated ? 1 - statistic.Probability : statistic.Probability;
                    continue;
                }

                switch (Holds(match, rule, p))
                {
                    case Truth.No:
                        return Truth.No;
                    case Truth.Open:
                        question ??= $"{Words(match)} ({rule.Table} {rule.Chain} rule {rule.Position.ToString(CultureInfo.InvariantCulture)})";
                        break;
                }
            }

            return question is null ? Truth.Yes : Truth.Open;
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
                    return Is((p.ConnectionMark & mark.Mask) == mark.Value, match);
                case RuleMatch.ConnectionState state:
                    return Is((p.State & state.States) != 0, match);
                case RuleMatch.OriginalAddress original:
                    return Is(original.Network.Contains(original.OfSource ? packet.Tuple.Source.Address : packet.Tuple.Destination.Address), match);
                case RuleMatch.OriginalPort original:
                    return Is(original.Range.Contains(original.OfSource ? packet.Tuple.Source.Port : packet.Tuple.Destination.Port), match);
                case RuleMatch.ConnectionProtocol protocol:
                    return Is(p.Tuple.Protocol == protocol.Value, match);
                case RuleMatch.Direction direction:
                    return direction.Original ? Truth.Yes : Truth.No;
                case RuleMatch.Flags flags:
                    return Is((packet.Flags & flags.Mask) == flags.Set, match);
                case RuleMatch.Fragment:
                    return Is(false, match);
                case RuleMatch.AddressType type:
                    return Negate(TypeHolds(type, type.OfSource ? p.Tuple.Source.Address : p.Tuple.Destination.Address, p.IsRedirect && !type.OfSource), type.Negated);
                case RuleMatch.InInterface inside:
                    var name = packet.FromNode ? p.Base!.Name == "INPUT" ? "lo" : "" : packet.InInterface;
                    return name is null ? Truth.Open : Is(Named(name, inside.Name), match);
                case RuleMatch.OutInterface outside:
                    name = p.Base!.Name is "INPUT" or "PREROUTING" ? "" : Leaving(p);
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
                case RuleMatch.ReversePath:
                    Assume("the reply would leave where the packet came in (rpfilter)");
                    return Is(true, match);
                default:
                    return Truth.Open;
            }
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
                    var backend = new AddressPort(address, dnat.Ports?.First ?? p.Tuple.Destination.Port);
                    if (!_affinity.Contains(backend))
                    {
                        _affinity.Add(backend);
                    }
                }
            }
        }

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

        private string? Leaving(Position p)
            => IsOwn(p.Tuple.Destination.Address, p.IsRedirect, quiet: true) ? "lo" : packet.Routes is null ? null : packet.Routes.Lookup(p.Tuple.Destination.Address)?.Device ?? "";

        private static bool Named(string name, string pattern)
            => pattern.EndsWith('+') ? name.AsSpan().StartsWith(pattern.AsSpan(0, pattern.Length - 1)) : name == pattern;

        private static Truth Is(bool held, RuleMatch match) => held != match.Negated ? Truth.Yes : Truth.No;

        private static Truth Negate(Truth truth, bool negated) => !negated || truth == Truth.Open ? truth : truth == Truth.Yes ? Truth.No : Truth.Yes;

        private void Assume(string what)
        {
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

        private static WalkBranch End(Position p, WalkOutcome outcome)
        {
            var matched = ImmutableArray.CreateBuilder<Rule>();
            for (var trail = p.Trail; trail is not null; trail = trail.Before)
            {
                matched.Add(trail.Rule);
            }

            matched.Reverse();
            return new WalkBranch
            {
                Outcome = outcome,
                Probability = p.Weight,
                Backend = p.Backend,
                IsRedirect = p.IsRedirect,
                Chain = p.Chain,
                Masquerade = p.Masquerade,
                SourceBecomes = p.SourceBecomes,
                Matched = matched.ToImmutable(),
            };
        }

        private static WalkBranch Open(Position p, string question) => End(p, WalkOutcome.Undecided) with { Unknown = question };
    }
}
