using System.Collections.Immutable;
using System.Text;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Reads a rule of nftables: its statements in order, conditions as <see cref="RuleMatch"/>, the last thing it does as its target, and what it does before
/// that as <see cref="RuleMatch.Effect"/>. One instance reads one rule after another.
/// </summary>
internal sealed class NftRule
{
    private const long MaxChoices = 65536;

    private readonly StringBuilder _text = new();
    private readonly ImmutableArray<RuleMatch>.Builder _matches = ImmutableArray.CreateBuilder<RuleMatch>();
    private readonly List<RuleMatch> _implied = [];
    private NftTable _table = null!;
    private RuleTarget? _pending;
    private bool _isOver;

    /// <summary>Reads one rule object.</summary>
    /// <exception cref="FormatException">It has no list of statements.</exception>
    public Rule Read(NftTable table, string chain, int position, JsonTape.Value rule)
    {
        _table = table;
        _matches.Clear();
        _text.Clear();
        _pending = null;
        _isOver = false;
        long? packets = null;
        if (!rule["expr"u8].IsArray)
        {
            throw new FormatException("it has no expr");
        }

        var words = new NftText(_text, table.Family);
        foreach (var item in rule["expr"u8])
        {
            if (!item.IsObject || !item.First.Exists)
            {
                throw new FormatException("a statement is not an object with one property");
            }

            var statement = item.First;
            var start = _text.Length == 0 ? 0 : _text.Append(' ').Length;
            words.Append(statement);
            if (_isOver)
            {
                continue; // said, but never done
            }

            if (statement.Name == "counter")
            {
                packets = statement["packets"u8].TryNumber(out var counted) ? counted : packets;
                continue;
            }

            _implied.Clear();
            if (statement.Name == "match")
            {
                Settle();
                if (_isOver)
                {
                    continue;
                }

                var match = MatchOf(statement["left"u8], statement["op"u8].Text, statement["right"u8]);
                Imply();
                _matches.Add(match ?? new RuleMatch.Unknown(_text.ToString(start, _text.Length - start)));
            }
            else
            {
                Do(statement, start);
            }
        }

        if (rule["comment"u8] is { IsString: true } comment)
        {
            _text.Append(" comment \"").Append(comment.Text).Append('"');
            _matches.Add(new RuleMatch.Commented(comment.Text));
        }

        return new Rule(table.Name, chain, position, _text.ToString().AsMemory(), _matches.ToImmutable(), _pending, packets);
    }

    // What was last done is done before what follows, and so no longer the rule's target.
    private void Settle()
    {
        if (_pending is RuleTarget.Lookup or RuleTarget.OneOf)
        {
            // A mark out of a map, and then more: what follows would depend on it.
            _pending = new RuleTarget.Unknown(_text.ToString());
            _isOver = true;
        }
        else if (_pending is not null)
        {
            _matches.Add(new RuleMatch.Effect(_pending));
            _pending = null;
        }
    }

    // tcp dport says tcp, ip saddr says IPv4; nft prints neither.
    private void Imply()
    {
        foreach (var match in _implied)
        {
            if (!_matches.Contains(match))
            {
                _matches.Add(match);
            }
        }

        _implied.Clear();
    }

    private string Words(int start) => _text.ToString(start, _text.Length - start);

    private void Do(JsonTape.Value statement, int start)
    {
        Settle();
        if (_isOver)
        {
            return;
        }

        if (IsRate(statement))
        {
            _matches.Add(new RuleMatch.Rate(Words(start)));
            return;
        }

        var targets = TargetsOf(statement, start) ?? [new RuleTarget.Unknown(Words(start))];
        Imply();
        foreach (var target in targets)
        {
            Settle();
            _pending = target;
        }

        // Whatever comes after a verdict, and after what is not understood, is not reached.
        _isOver = statement.Name is "continue" or "vmap" || !(statement.Name == "mangle" || _pending is RuleTarget.PassOn or RuleTarget.Track) || _pending is RuleTarget.Unknown;
    }

    // update @seen { ip saddr limit rate over 5/second } holds like a limit of its own per element.
    private static bool IsRate(JsonTape.Value statement)
    {
        if (statement.Name is "limit" or "quota" or "ct count")
        {
            return true;
        }

        foreach (var inner in statement.Name is "set" or "map" ? statement["stmt"u8] : default)
        {
            if (inner.First is { Exists: true, Name: "limit" or "quota" or "ct count" })
            {
                return true;
            }
        }

        return false;
    }

    private List<RuleTarget>? TargetsOf(JsonTape.Value statement, int start)
    {
        if (NftElements.VerdictOf(statement) is { } verdict)
        {
            return [verdict];
        }

        switch (statement.Name)
        {
            case "vmap":
                return One(Lookup(statement, static d => d.Verdict));
            case "dnat":
                return One(Translation(statement, isDestination: true));
            case "snat":
                return One(Translation(statement, isDestination: false));
            case "redirect":
                return One(Redirection(statement));
            case "masquerade":
                return [new RuleTarget.Masquerade(HasFlag(statement["flags"u8], "fully-random"u8))];
            case "reject":
                return One(Rejection(statement));
            case "mangle":
                return Mangling(statement["key"u8], statement["value"u8], start);
            case "notrack":
                return [new RuleTarget.Track(true, Words(start))];
            case "ct helper" or "ct timeout" or "ct expectation":
                return [new RuleTarget.Track(false, Words(start))];
            case "log" or "dup" or "flow" or "set" or "map" or "last":
                return [new RuleTarget.PassOn(Words(start))];
            default:
                return null;
        }
    }

    private static List<RuleTarget>? One(RuleTarget? target) => target is null ? null : [target];

    private static bool HasFlag(JsonTape.Value flags, ReadOnlySpan<byte> flag)
    {
        if (!flags.IsArray)
        {
            return flags.Is(flag);
        }

        foreach (var one in flags)
        {
            if (one.Is(flag))
            {
                return true;
            }
        }

        return false;
    }

    // ---- what is done

    private RuleTarget? Translation(JsonTape.Value nat, bool isDestination)
    {
        if (nat["type_flags"u8].Is("prefix"u8))
        {
            return null; // bit by bit
        }

        if (_table.Family == "inet" && nat["family"u8].Exists)
        {
            _implied.Add(new RuleMatch.Family(nat["family"u8].Is("ip6"u8), false));
        }

        var port = nat["port"u8];
        PortRange? ports = null;
        if (port.Exists && port["map"u8] is var portMap && !portMap.Exists)
        {
            if (!NftElements.TryRange(FieldType.Port, port, out var low, out var high))
            {
                return null;
            }

            ports = new PortRange((ushort)low.Low, (ushort)high.Low);
        }

        var address = nat["addr"u8];
        if (address["map"u8] is { Exists: true } map)
        {
            return port["map"u8].Exists ? null : Lookup(map, d => d.First is not { } to ? null
                : isDestination ? new RuleTarget.Dnat(to, d.Last, d.Ports ?? ports) : new RuleTarget.Snat(to));
        }

        IpAddress? first = null, last = null;
        if (address.Exists)
        {
            if (!NftElements.TryRange(FieldType.Address, address, out var low, out var high) || address["prefix"u8].Exists)
            {
                return null;
            }

            (first, last) = (IpAddress.FromIPv6(low.High, low.Low), IpAddress.FromIPv6(high.High, high.Low));
        }

        if (!isDestination)
        {
            return first is { } source ? new RuleTarget.Snat(source) : null;
        }

        return port["map"u8] is { Exists: true } chosen ? Lookup(chosen, d => d.Ports is { } to ? new RuleTarget.Dnat(first, last, to) : null)
            : first is null && ports is null ? null : new RuleTarget.Dnat(first, last, ports);
    }

    private RuleTarget? Redirection(JsonTape.Value redirect)
    {
        var port = redirect["port"u8];
        if (port["map"u8] is { Exists: true } map)
        {
            return Lookup(map, static d => d.Ports is { } to ? new RuleTarget.Redirect(to) : null);
        }

        return !port.Exists ? new RuleTarget.Redirect(null)
            : NftElements.TryRange(FieldType.Port, port, out var low, out var high) ? new RuleTarget.Redirect(new PortRange((ushort)low.Low, (ushort)high.Low)) : null;
    }

    // In iptables' words, of which there is one set for both: icmp-port-unreachable, icmp6-port-unreachable, tcp-reset.
    private RuleTarget.Reject? Rejection(JsonTape.Value reject)
    {
        var expression = reject["expr"u8] is { IsString: true } given ? given.Text : "port-unreachable";
        switch (reject["type"u8].Exists ? reject["type"u8].Text : _table.Family switch { "ip" => "icmp", "ip6" => "icmpv6", _ => "icmpx" })
        {
            case "tcp reset":
                _implied.Add(new RuleMatch.Protocol(IpProtocol.Tcp, false));
                return new RuleTarget.Reject("tcp-reset");
            case "icmp":
                if (_table.Family == "inet")
                {
                    _implied.Add(new RuleMatch.Family(false, false));
                }

                return new RuleTarget.Reject($"icmp-{expression}");
            case "icmpv6":
                if (_table.Family == "inet")
                {
                    _implied.Add(new RuleMatch.Family(true, false));
                }

                return new RuleTarget.Reject($"icmp6-{expression}");
            case "icmpx":
                return new RuleTarget.Reject($"icmpx-{expression}");
            default:
                return null;
        }
    }

    private List<RuleTarget>? Mangling(JsonTape.Value key, JsonTape.Value value, int start)
    {
        var isPacket = IsMark(key, "meta"u8);
        var isConnection = IsMark(key, "ct"u8);
        if (!isPacket && !isConnection)
        {
            // What no rule of a walk asks for may be changed; addresses and ports may not.
            var isHarmless = key["meta"u8]["key"u8] is { IsString: true } meta && meta.Text is "priority" or "nftrace" or "secmark"
                || key["ct"u8]["key"u8] is { IsString: true } ct && ct.Text is "label" or "event" or "helper" or "zone" or "secmark"
                || key["tcp option"u8].Exists
                || key["payload"u8]["field"u8] is { IsString: true } field && field.Text is "dscp" or "ecn" or "ttl" or "hoplimit" or "flowlabel";
            return isHarmless ? [new RuleTarget.PassOn(Words(start))] : null;
        }

        if (value["map"u8] is { Exists: true } map)
        {
            return isPacket ? One(Lookup(map, static d => d.Number is { } mark ? new RuleTarget.SetMark(mark, uint.MaxValue) : null)) : null;
        }

        if (value["numgen"u8] is { Exists: true } && isPacket && TryDice(value, out var modulus, out var offset, out _) && modulus <= 256)
        {
            return [new RuleTarget.OneOf([.. Enumerable.Range(0, (int)modulus).Select(i => new Choice(1.0 / modulus, new RuleTarget.SetMark((uint)(offset + i), uint.MaxValue)))])];
        }

        if (!TryBits(value, out var isOfPacket, out var kept, out var flipped))
        {
            return null;
        }

        // The new mark is (old & kept) ^ flipped, of the mark itself, of the other one, or of none.
        if (isOfPacket is null || isOfPacket == isPacket)
        {
            kept = isOfPacket is null ? 0 : kept;
            return [isPacket ? new RuleTarget.SetMark(flipped, ~kept) : new RuleTarget.ConnectionMark(ConnectionMarkOperation.Set, flipped, ~kept, uint.MaxValue)];
        }

        List<RuleTarget> targets = isPacket
            ? [new RuleTarget.ConnectionMark(ConnectionMarkOperation.Restore, 0, kept, uint.MaxValue)]
            : [new RuleTarget.ConnectionMark(ConnectionMarkOperation.Save, 0, uint.MaxValue, kept)];
        if (flipped != 0)
        {
            targets.Add(isPacket ? new RuleTarget.SetMark(flipped, 0) : new RuleTarget.ConnectionMark(ConnectionMarkOperation.Set, flipped, 0, uint.MaxValue));
        }

        return targets;
    }

    private static bool IsMark(JsonTape.Value expression, ReadOnlySpan<byte> of) => expression[of]["key"u8].Is("mark"u8) && !expression[of]["dir"u8].Exists;

    // (mark & kept) ^ flipped, whatever is built of and, or and exclusive or with constants.
    private static bool TryBits(JsonTape.Value value, out bool? isOfPacket, out uint kept, out uint flipped)
    {
        isOfPacket = null;
        kept = uint.MaxValue;
        flipped = 0;
        if (value.TryNumber(out var constant))
        {
            flipped = (uint)constant;
            return constant <= uint.MaxValue;
        }

        if (IsMark(value, "meta"u8) || IsMark(value, "ct"u8))
        {
            isOfPacket = IsMark(value, "meta"u8);
            return true;
        }

        if (!value.IsObject || value.First.Name is not ("&" or "|" or "^") || !TryBits(value.First.First, out isOfPacket, out kept, out flipped))
        {
            return false;
        }

        var index = 0;
        foreach (var operand in value.First)
        {
            if (index++ == 0)
            {
                continue;
            }

            if (!operand.TryNumber(out var number) || number > uint.MaxValue)
            {
                return false;
            }

            var bits = (uint)number;
            switch (value.First.Name)
            {
                case "&":
                    kept &= bits;
                    flipped &= bits;
                    break;
                case "|":
                    kept &= ~bits;
                    flipped |= bits;
                    break;
                default:
                    flipped ^= bits;
                    break;
            }
        }

        return true;
    }

    // vmap and map: the target by the packet's fields, or by dice.
    private RuleTarget? Lookup(JsonTape.Value lookup, Func<NftDatum, RuleTarget?> target)
    {
        var key = lookup["key"u8];
        var data = lookup["data"u8];
        var named = data.IsString && data.Text is ['@', .. var name] ? name : null;
        if (TryDice(key, out var modulus, out var offset, out _))
        {
            var drawn = named is null ? NftElements.Read([FieldType.Number], data["set"u8], isMap: true) : _table.Elements(named);
            return drawn?.ToChoices(modulus, offset, target);
        }

        if (!TryFields(key, out var fields, out var types))
        {
            return null;
        }

        // A named map of the table is shared by the rules that ask it for verdicts; what else is made of its values depends on the rule.
        var map = named is null ? NftElements.Read(types, data["set"u8], isMap: true).ToSet(_table.Name, "", target)
            : _table.Set(named) is { } set && set.Elements.All(e => e.Target is not null) && set.CatchAll is not { Target: null } ? set
            : _table.Elements(named)?.ToSet(_table.Name, named, target);
        return map is null || map.Types.Length != fields.Length ? null : new RuleTarget.Lookup(fields, map);
    }

    // ---- what is asked

    private RuleMatch? MatchOf(JsonTape.Value left, string op, JsonTape.Value right)
    {
        var not = op == "!=";
        if (op is not ("==" or "!=" or "in" or "<" or ">" or "<=" or ">="))
        {
            return null;
        }

        if (!left.IsObject)
        {
            return null;
        }

        var isEquality = op is "==" or "!=" or "in";
        var it = left.First;
        switch (it.Name)
        {
            case "&":
                return isEquality ? Masked(it, op, right) : null;
            case "fib":
                return isEquality ? Routing(it, right, not) : null;
            case "numgen" or "jhash" or "symhash":
                return Share(left, op, right);
            case "meta" when it["key"u8].Is("nfproto"u8) || it["key"u8].Is("protocol"u8):
            case "ct" when it["key"u8].Is("l3proto"u8):
                return isEquality && right.IsString && right.Text is "ipv4" or "ip" ? new RuleMatch.Family(false, not)
                    : isEquality && right.IsString && right.Text is "ipv6" or "ip6" ? new RuleMatch.Family(true, not) : null;
            case "ct" when it["key"u8].Is("direction"u8):
                return isEquality && right.IsString && right.Text is "original" or "reply" ? new RuleMatch.Direction(right.Is("original"u8) != not) : null;
            case "ct" when it["key"u8].Is("protocol"u8):
                return isEquality && NftElements.TryProtocol(right, out var protocol) ? new RuleMatch.ConnectionProtocol(protocol, not) : null;
            case "ct" when it["key"u8].Is("status"u8):
                // One bit of several: equality would ask for all of them.
                return op == "in" && NftElements.TryStates(right, out var status) && (status & ~(ConntrackState.Snat | ConntrackState.Dnat)) == 0 ? new RuleMatch.ConnectionState(status, false) : null;
            case "payload" when it["protocol"u8].Is("tcp"u8) && it["field"u8].Is("flags"u8):
                _implied.Add(new RuleMatch.Protocol(IpProtocol.Tcp, false));
                return !isEquality || !TryFlags(right, out var flags) ? null
                    : op == "in" ? new RuleMatch.Flags(flags, TcpFlags.None, true) : new RuleMatch.Flags((TcpFlags)byte.MaxValue, flags, not);
            case "payload" when it["protocol"u8].Is("icmp"u8) || it["protocol"u8].Is("icmpv6"u8):
                _implied.Add(new RuleMatch.Protocol(it["protocol"u8].Is("icmp"u8) ? IpProtocol.Icmp : IpProtocol.IcmpV6, false));
                return null;
            default:
                return TryFields(left, out var fields, out var types) ? FieldMatch(fields, types, op, right) : null;
        }
    }

    private RuleMatch? FieldMatch(ImmutableArray<PacketField> fields, ImmutableArray<FieldType> types, string op, JsonTape.Value right)
    {
        var not = op == "!=";
        if (right.IsString && right.Text is ['@', .. var name])
        {
            return op is "==" or "!=" or "in" && _table.Set(name) is { } set && set.Types.Length == fields.Length ? new RuleMatch.Lookup(fields, set, not) : null;
        }

        if (right["set"u8] is { Exists: true } elements)
        {
            return op is "==" or "!=" or "in" ? new RuleMatch.Lookup(fields, NftElements.Read(types, elements, isMap: false).ToSet(_table.Name, "", null), not) : null;
        }

        if (fields is not [var field] || types is not [var type])
        {
            // A concatenation compared with one value.
            var only = NftElements.Only(types, right).ToSet(_table.Name, "", null);
            return op is "==" or "!=" or "in" && only.IsComplete ? new RuleMatch.Lookup(fields, only, not) : null;
        }

        if (field == PacketField.ConnectionState)
        {
            return NftElements.TryStates(right, out var states) && (op == "in" || op is "==" or "!=" && right.IsString) ? new RuleMatch.ConnectionState(states, not) : null;
        }

        if (!NftElements.TryRange(type, right, out var first, out var last))
        {
            return null;
        }

        var max = type switch
        {
            FieldType.Port => FieldValue.Of(ushort.MaxValue),
            FieldType.Protocol => FieldValue.Of(byte.MaxValue),
            FieldType.Mark => FieldValue.Of(uint.MaxValue),
            _ => default,
        };
        if (op is not ("==" or "!=" or "in"))
        {
            if (max == default || first != last)
            {
                return null;
            }

            var at = (uint)first.Low;
            (first, last) = op switch
            {
                "<" => (default, FieldValue.Of(at - 1)),
                "<=" => (default, first),
                ">" => (FieldValue.Of(at + 1), max),
                _ => (first, max),
            };
            if (op == "<" && at == 0 || op == ">" && at >= max.Low)
            {
                return null; // never true, and nft refuses it
            }
        }

        return Single(field, type, first, last, right, not);
    }

    // In the words that iptables has for it, where it has any.
    private static RuleMatch Single(PacketField field, FieldType type, FieldValue first, FieldValue last, JsonTape.Value right, bool not)
    {
        RuleMatch InRange() => new RuleMatch.Lookup([field], MatchSet.Only(type, first, last), not);
        switch (field)
        {
            case PacketField.SourceAddress or PacketField.DestinationAddress or PacketField.OriginalSourceAddress or PacketField.OriginalDestinationAddress:
                var low = IpAddress.FromIPv6(first.High, first.Low);
                if (first == last || NftElements.TryPrefix(right["prefix"u8], out _))
                {
                    var network = NftElements.TryPrefix(right["prefix"u8], out var prefix) ? prefix : new IpNetwork(low, low.Width);
                    return field switch
                    {
                        PacketField.SourceAddress => new RuleMatch.Source(network, not),
                        PacketField.DestinationAddress => new RuleMatch.Destination(network, not),
                        _ => new RuleMatch.OriginalAddress(field == PacketField.OriginalSourceAddress, network, not),
                    };
                }

                return field is PacketField.SourceAddress or PacketField.DestinationAddress
                    ? new RuleMatch.AddressRange(field == PacketField.SourceAddress, low, IpAddress.FromIPv6(last.High, last.Low), not) : InRange();
            case PacketField.SourcePort or PacketField.DestinationPort:
                return new RuleMatch.Port(field == PacketField.SourcePort ? PortSide.Source : PortSide.Destination, [new PortRange((ushort)first.Low, (ushort)last.Low)], not);
            case PacketField.OriginalSourcePort or PacketField.OriginalDestinationPort:
                return new RuleMatch.OriginalPort(field == PacketField.OriginalSourcePort, new PortRange((ushort)first.Low, (ushort)last.Low), not);
            case PacketField.Protocol when first == last:
                return new RuleMatch.Protocol((IpProtocol)first.Low, not);
            case PacketField.Mark when first == last:
                return new RuleMatch.Mark((uint)first.Low, uint.MaxValue, not);
            case PacketField.ConnectionMark when first == last:
                return new RuleMatch.ConnectionMark((uint)first.Low, uint.MaxValue, not);
            case PacketField.InInterface or PacketField.OutInterface:
                var name = right.Text is [.. var start, '*'] ? $"{start}+" : right.Text;
                return field == PacketField.InInterface ? new RuleMatch.InInterface(name, not) : new RuleMatch.OutInterface(name, not);
            default:
                return InRange();
        }
    }

    private RuleMatch? Masked(JsonTape.Value operands, string op, JsonTape.Value right)
    {
        var not = op == "!=";
        var of = operands.First;
        var mask = default(JsonTape.Value);
        foreach (var operand in operands)
        {
            mask = operand;
        }

        if (operands.Count != 2)
        {
            return null;
        }

        if (IsMark(of, "meta"u8) || IsMark(of, "ct"u8))
        {
            return !mask.TryNumber(out var bits) || !right.TryNumber(out var value) || bits > uint.MaxValue || value > uint.MaxValue ? null
                : IsMark(of, "meta"u8) ? new RuleMatch.Mark((uint)value, (uint)bits, not) : new RuleMatch.ConnectionMark((uint)value, (uint)bits, not);
        }

        if (of["payload"u8] is { Exists: true } payload && payload["protocol"u8].Is("tcp"u8) && payload["field"u8].Is("flags"u8))
        {
            _implied.Add(new RuleMatch.Protocol(IpProtocol.Tcp, false));
            return TryFlags(mask, out var looked) && TryFlags(right, out var set) ? new RuleMatch.Flags(looked, set, not) : null;
        }

        if (of["payload"u8] is { Exists: true } fragment && fragment["protocol"u8].Is("ip"u8) && fragment["field"u8].Is("frag-off"u8))
        {
            ImplyFamily(false);
            return mask.TryNumber(out var offset) && offset == 0x1fff && right.TryNumber(out var zero) && zero == 0 ? new RuleMatch.Fragment(!not) : null;
        }

        // ct status & dnat == dnat, and ct status & (snat | dnat) != 0
        if (of["ct"u8]["key"u8] is { Exists: true } key && (key.Is("status"u8) || key.Is("state"u8)) && NftElements.TryStates(mask, out var asked))
        {
            if (key.Is("status"u8) && (asked & ~(ConntrackState.Snat | ConntrackState.Dnat)) != 0)
            {
                return null;
            }

            return right.TryNumber(out var none) && none == 0 ? new RuleMatch.ConnectionState(asked, !not)
                : NftElements.TryStates(right, out var wanted) && wanted == asked && (asked & (asked - 1)) == 0 ? new RuleMatch.ConnectionState(asked, not) : null;
        }

        return null;
    }

    // fib daddr type local; fib saddr . iif oif missing
    private static RuleMatch? Routing(JsonTape.Value fib, JsonTape.Value right, bool not)
    {
        var ofSource = HasFlag(fib["flags"u8], "saddr"u8);
        var limit = HasFlag(fib["flags"u8], "iif"u8) ? "--limit-iface-in" : HasFlag(fib["flags"u8], "oif"u8) ? "--limit-iface-out" : null;
        if (fib["result"u8].Is("type"u8))
        {
            var values = right["set"u8] is { IsArray: true } set ? set : right;
            var types = ImmutableArray.CreateBuilder<string>();
            if (values.IsString)
            {
                types.Add(values.Text.ToUpperInvariant());
            }

            foreach (var type in values)
            {
                if (!type.IsString)
                {
                    return null;
                }

                types.Add(type.Text.ToUpperInvariant());
            }

            return types.Count == 0 ? null : new RuleMatch.AddressType(ofSource, types.ToImmutable(), limit, not);
        }

        // Whether there is a way back, which is what rpfilter asks.
        return ofSource && (right.IsTrue || right.IsFalse || right.Is("0"u8)) ? new RuleMatch.ReversePath(right.IsTrue == not) : null;
    }

    private static RuleMatch.Statistic? Share(JsonTape.Value dice, string op, JsonTape.Value right)
    {
        if (!TryDice(dice, out var modulus, out var offset, out var isCounted) || !NftElements.TryRange(FieldType.Number, right, out var low, out var high))
        {
            return null;
        }

        long Below(long value) => Math.Clamp(value - offset, 0, modulus);
        var (first, last) = ((long)low.Low, (long)high.Low);
        var drawn = op switch
        {
            "==" or "in" => Below(last + 1) - Below(first),
            "!=" => modulus - (Below(last + 1) - Below(first)),
            "<" => Below(first),
            "<=" => Below(first + 1),
            ">" => modulus - Below(first + 1),
            _ => modulus - Below(first),
        };
        return new RuleMatch.Statistic((double)drawn / modulus, isCounted, false);
    }

    // A number drawn by dice, by counting, or by a hash, which seen from outside is the same.
    private static bool TryDice(JsonTape.Value expression, out long modulus, out long offset, out bool isCounted)
    {
        offset = 0;
        modulus = 0;
        isCounted = false;
        if (!expression.IsObject || expression.First.Name is not ("numgen" or "jhash" or "symhash"))
        {
            return false;
        }

        var it = expression.First;
        isCounted = it["mode"u8].Is("inc"u8);
        return it["mod"u8].TryNumber(out modulus) && modulus is > 0 and <= MaxChoices && (!it["offset"u8].Exists || it["offset"u8].TryNumber(out offset) && offset <= uint.MaxValue);
    }

    private bool TryFields(JsonTape.Value expression, out ImmutableArray<PacketField> fields, out ImmutableArray<FieldType> types)
    {
        (fields, types) = ([], []);
        if (expression["concat"u8] is not { IsArray: true } parts)
        {
            if (!TryField(expression, out var field, out var type))
            {
                return false;
            }

            (fields, types) = ([field], [type]);
            return true;
        }

        var allFields = ImmutableArray.CreateBuilder<PacketField>();
        var allTypes = ImmutableArray.CreateBuilder<FieldType>();
        foreach (var part in parts)
        {
            if (!TryField(part, out var field, out var type))
            {
                return false;
            }

            allFields.Add(field);
            allTypes.Add(type);
        }

        (fields, types) = (allFields.ToImmutable(), allTypes.ToImmutable());
        return fields.Length > 0;
    }

    private void ImplyFamily(bool isIPv6)
    {
        if (_table.Family is not ("ip" or "ip6"))
        {
            _implied.Add(new RuleMatch.Family(isIPv6, false));
        }
    }

    // The field that an expression reads, noting what the packet must be for it to be there.
    private bool TryField(JsonTape.Value expression, out PacketField field, out FieldType type)
    {
        (field, type) = (default, default);
        if (!expression.IsObject)
        {
            return false;
        }

        var it = expression.First;
        switch (it.Name)
        {
            case "payload":
                return TryPayload(it["protocol"u8].Text, it["field"u8].Text, out field, out type);
            case "meta":
                switch (it["key"u8].Text)
                {
                    case "l4proto":
                        (field, type) = (PacketField.Protocol, FieldType.Protocol);
                        return true;
                    case "mark":
                        (field, type) = (PacketField.Mark, FieldType.Mark);
                        return true;
                    case "iif" or "iifname":
                        (field, type) = (PacketField.InInterface, FieldType.Interface);
                        return true;
                    case "oif" or "oifname":
                        (field, type) = (PacketField.OutInterface, FieldType.Interface);
                        return true;
                }

                return false;
            case "ct":
                var direction = it["dir"u8].Text;
                switch (it["key"u8].Text)
                {
                    case "state":
                        (field, type) = (PacketField.ConnectionState, FieldType.ConnectionState);
                        return true;
                    case "mark":
                        (field, type) = (PacketField.ConnectionMark, FieldType.Mark);
                        return true;
                    case "saddr" or "ip saddr" or "ip6 saddr" when direction == "original":
                        (field, type) = (PacketField.OriginalSourceAddress, FieldType.Address);
                        break;
                    case "daddr" or "ip daddr" or "ip6 daddr" when direction == "original":
                        (field, type) = (PacketField.OriginalDestinationAddress, FieldType.Address);
                        break;
                    case "proto-src" when direction == "original":
                        (field, type) = (PacketField.OriginalSourcePort, FieldType.Port);
                        return true;
                    case "proto-dst" when direction == "original":
                        (field, type) = (PacketField.OriginalDestinationPort, FieldType.Port);
                        return true;
                    default:
                        return false;
                }

                if (it["key"u8].Text.StartsWith("ip", StringComparison.Ordinal))
                {
                    ImplyFamily(it["key"u8].Text.StartsWith("ip6", StringComparison.Ordinal));
                }

                return true;
            default:
                return false;
        }
    }

    private bool TryPayload(string protocol, string name, out PacketField field, out FieldType type)
    {
        (field, type) = (default, default);
        switch (protocol)
        {
            case "ip" or "ip6":
                switch (name)
                {
                    case "saddr":
                        (field, type) = (PacketField.SourceAddress, FieldType.Address);
                        break;
                    case "daddr":
                        (field, type) = (PacketField.DestinationAddress, FieldType.Address);
                        break;
                    case "protocol" or "nexthdr":
                        (field, type) = (PacketField.Protocol, FieldType.Protocol);
                        break;
                    default:
                        return false;
                }

                ImplyFamily(protocol == "ip6");
                return true;
            case "tcp" or "udp" or "sctp" or "dccp" or "udplite" or "th" when name is "sport" or "dport":
                (field, type) = (name == "sport" ? PacketField.SourcePort : PacketField.DestinationPort, FieldType.Port);
                if (protocol != "th")
                {
                    _implied.Add(new RuleMatch.Protocol(IptablesSave.ProtocolOf(protocol)!.Value, false));
                }

                return true;
            default:
                return false;
        }
    }

    private static bool TryFlags(JsonTape.Value value, out TcpFlags flags)
    {
        flags = TcpFlags.None;
        if (value["|"u8] is { IsArray: true } bits)
        {
            value = bits;
        }

        if (value.TryNumber(out var number))
        {
            flags = (TcpFlags)number;
            return number <= byte.MaxValue;
        }

        if (!value.IsArray)
        {
            return TryFlag(value, ref flags);
        }

        foreach (var one in value)
        {
            if (!TryFlag(one, ref flags))
            {
                return false;
            }
        }

        return true;
    }

    private static bool TryFlag(JsonTape.Value value, ref TcpFlags flags)
    {
        var flag = value.IsString ? value.Text switch
        {
            "fin" => TcpFlags.Fin,
            "syn" => TcpFlags.Syn,
            "rst" => TcpFlags.Rst,
            "psh" => TcpFlags.Psh,
            "ack" => TcpFlags.Ack,
            "urg" => TcpFlags.Urg,
            "ecn" => TcpFlags.Ece,
            "cwr" => TcpFlags.Cwr,
            _ => TcpFlags.None,
        } : TcpFlags.None;
        flags |= flag;
        return flag != TcpFlags.None;
    }
}
