using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Reads what <c>nft -j list ruleset</c> or <c>nft -j list table …</c> prints (libnftables-json(5)), one such document or several after each other:
/// <code>
/// {"nftables": [{"metainfo": {…}}, {"table": {"family": "ip", "name": "kube-proxy", "handle": 3}}, {"map": {…}}, {"chain": {…}},
///   {"rule": {"family": "ip", "table": "kube-proxy", "chain": "services", "handle": 61, "expr": [{"match": {…}}, {"vmap": {…}}]}}]}
/// </code>
/// Tables of families ip and inet are those of IPv4 packets, ip6 and inet those of IPv6 packets; bridge, arp and netdev are kept in both, their chains
/// being <see cref="Hook.Link"/>. Conditions that nft leaves out because others imply them (<c>tcp dport</c> says tcp) are put back.
/// What is not known is kept as an explicit Unknown with its text; a text that is no such document is an error.
/// </summary>
public static class NftRuleset
{
    /// <summary>Reads one dump.</summary>
    /// <param name="text">What nft printed.</param>
    /// <param name="others">
    /// Tables to leave out, such as <c>ip nat</c>: those of iptables-nft, which iptables-nft-save shows whole and nft does not.
    /// </param>
    /// <returns>The rules of IPv4 packets, then those of IPv6 packets.</returns>
    /// <exception cref="FormatException">The text is no such dump; the message names the place.</exception>
    public static ImmutableArray<RuleSet> Parse(string text, IReadOnlySet<string>? others = null)
    {
        ArgumentNullException.ThrowIfNull(text);
        var utf8 = Encoding.UTF8.GetBytes(text);
        var tables = new Tables(others ?? ImmutableHashSet<string>.Empty);
        var reader = new Utf8JsonReader(utf8, new JsonReaderOptions { AllowMultipleValues = true });
        var tape = new JsonTape(utf8);
        var documents = 0;
        try
        {
            while (reader.Read())
            {
                documents++;
                ReadDocument(ref reader, tape, tables);
            }
        }
        catch (JsonException e)
        {
            throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"byte {reader.BytesConsumed} of the nft dump: {e.Message}"), e);
        }

        return documents > 0 ? tables.Finish() : throw new FormatException("the nft dump is empty");
    }

    private static void ReadDocument(ref Utf8JsonReader reader, JsonTape tape, Tables tables)
    {
        if (reader.TokenType != JsonTokenType.StartObject || !reader.Read() || reader.TokenType != JsonTokenType.PropertyName || !reader.ValueTextEquals("nftables"u8)
            || !reader.Read() || reader.TokenType != JsonTokenType.StartArray)
        {
            throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"byte {reader.TokenStartIndex} of the nft dump: not {{\"nftables\": […]}}, which nft -j prints"));
        }

        for (var i = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; i++)
        {
            var item = tape.Take(ref reader);
            try
            {
                if (!item.IsObject || !item.First.Exists)
                {
                    throw new FormatException("not an object with one property");
                }

                tables.Read(item.First);
            }
            catch (FormatException e)
            {
                throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"nftables[{i}]{(item.IsObject ? $".{item.First.Name}" : "")} of the nft dump: {e.Message}"), e);
            }
        }

        if (!reader.Read() || reader.TokenType != JsonTokenType.EndObject)
        {
            throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"byte {reader.TokenStartIndex} of the nft dump: the document goes on after its list"));
        }
    }

    /// <summary>The tables read so far.</summary>
    private sealed class Tables(IReadOnlySet<string> others)
    {
        private readonly Dictionary<string, NftTable> _tables = new(StringComparer.Ordinal);
        private readonly HashSet<string> _left = new(StringComparer.Ordinal);
        private readonly ImmutableArray<string>.Builder _notes = ImmutableArray.CreateBuilder<string>();
        private NftTable? _last;

        public void Read(JsonTape.Value item)
        {
            switch (item.Name)
            {
                case "metainfo":
                    break;
                case "table":
                    var name = $"{Need(item, "family"u8)} {Need(item, "name"u8)}";
                    if (others.Contains(name))
                    {
                        _left.Add(name);
                        break;
                    }

                    _last = new NftTable(Need(item, "family"u8), Need(item, "name"u8));
                    if (!_tables.TryAdd(name, _last))
                    {
                        throw new FormatException($"the table {name} comes twice");
                    }

                    break;
                case "chain":
                    TableOf(item)?.AddChain(item);
                    break;
                case "set" or "map":
                    TableOf(item)?.AddSet(item);
                    break;
                case "rule":
                    TableOf(item)?.AddRule(item);
                    break;
                case "counter" or "quota" or "limit" or "ct helper" or "ct timeout" or "ct expectation" or "flowtable" or "synproxy" or "secmark" or "tunnel":
                    break; // named in the rules that use them
                default:
                    _notes.Add($"an object of the unknown kind '{item.Name}' was left out");
                    break;
            }
        }

        public ImmutableArray<RuleSet> Finish()
        {
            var notes = _notes.ToImmutable();
            var tables = _tables.Values.Select(t => (t.Family, Table: t.Finish())).ToList();
            RuleSet Of(bool isIPv6) => new(RuleBackend.Nftables, isIPv6, tables.Where(t => t.Family != (isIPv6 ? "ip" : "ip6"))
                .ToImmutableSortedDictionary(t => t.Table.Name, t => t.Table, StringComparer.Ordinal)) { Notes = notes };
            return [Of(false), Of(true)];
        }

        private NftTable? TableOf(JsonTape.Value item)
        {
            if (_last is not null && item["family"u8].Is(_last.Family) && item["table"u8].Is(_last.OwnName))
            {
                return _last;
            }

            var (family, table) = (Need(item, "family"u8), Need(item, "table"u8));
            var name = $"{family} {table}";
            if (_tables.TryGetValue(name, out var found))
            {
                return _last = found;
            }

            return _left.Contains(name) ? null : throw new FormatException($"the table {name} was not declared");
        }
    }

    internal static string Need(JsonTape.Value item, ReadOnlySpan<byte> property)
        => item[property] is { IsString: true } value && value.Text.Length > 0 ? value.Text : throw new FormatException($"it has no {Encoding.UTF8.GetString(property)}");
}

/// <summary>One table of nftables as it is read.</summary>
internal sealed class NftTable(string family, string ownName)
{
    private readonly Dictionary<string, Chain> _chains = new(StringComparer.Ordinal);
    private readonly Dictionary<string, MatchSet> _sets = new(StringComparer.Ordinal);
    private readonly Dictionary<string, NftElements> _elements = new(StringComparer.Ordinal);
    private readonly NftRule _rule = new();
    private Chain? _last;

    /// <summary><c>ip</c>, <c>ip6</c>, <c>inet</c>, <c>bridge</c>, <c>arp</c> or <c>netdev</c>.</summary>
    public string Family { get; } = family;

    /// <summary>The name without the family.</summary>
    public string OwnName { get; } = ownName;

    /// <summary>The family and the name.</summary>
    public string Name { get; } = $"{family} {ownName}";

    public MatchSet? Set(string setName) => _sets.GetValueOrDefault(setName);

    public NftElements? Elements(string setName) => _elements.GetValueOrDefault(setName);

    public void AddChain(JsonTape.Value item)
    {
        var chainName = NftRuleset.Need(item, "name"u8);
        BaseHook? hook = null;
        string? policy = null;
        if (item["hook"u8].Exists)
        {
            var priority = item["prio"u8].Text;
            if (!int.TryParse(priority, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var order))
            {
                throw new FormatException($"'{priority}' is not a priority");
            }

            hook = new BaseHook(HookOf(NftRuleset.Need(item, "hook"u8)), order, item["type"u8].Is("nat"u8));
            policy = item["policy"u8].Is("drop"u8) ? "DROP" : "ACCEPT";
        }

        item["handle"u8].TryNumber(out var handle);
        if (!_chains.TryAdd(chainName, new Chain(new RuleChain(chainName, policy, []) { Hook = hook, Handle = handle })))
        {
            throw new FormatException($"the chain {chainName} of table {Name} comes twice");
        }
    }

    public void AddSet(JsonTape.Value item)
    {
        var setName = NftRuleset.Need(item, "name"u8);
        var types = NftElements.TypesOf(item["type"u8]);
        var elements = NftElements.Read(types, item["elem"u8], item["map"u8].Exists);
        var isVerdicts = item["map"u8].Is("verdict"u8);
        var isDynamic = false;
        foreach (var flag in item["flags"u8])
        {
            // nft 1.0 leaves "dynamic" out, but what packets put in is what times out.
            isDynamic |= flag.Is("timeout"u8) || flag.Is("dynamic"u8);
        }

        int? seconds = item["timeout"u8].TryNumber(out var timeout) && timeout <= int.MaxValue ? (int)timeout : null;
        if (!_sets.TryAdd(setName, elements.ToSet(Name, setName, isVerdicts ? static d => d.Verdict : null, isDynamic, seconds)))
        {
            throw new FormatException($"the set {setName} of table {Name} comes twice");
        }

        _elements.Add(setName, elements);
    }

    public void AddRule(JsonTape.Value item)
    {
        if (_last is null || !item["chain"u8].Is(_last.Made.Name))
        {
            var chainName = NftRuleset.Need(item, "chain"u8);
            if (!_chains.TryGetValue(chainName, out _last))
            {
                throw new FormatException($"the chain {chainName} of table {Name} was not declared");
            }
        }

        item["handle"u8].TryNumber(out var handle);
        var chain = _last!;
        chain.Rules.Add(_rule.Read(this, chain.Made.Name, chain.Rules.Count + 1, item) with { Handle = Math.Max(handle, 1) });
    }

    public RuleTable Finish()
    {
        var chains = new Dictionary<string, RuleChain>(_chains.Count, StringComparer.Ordinal);
        foreach (var (chainName, chain) in _chains)
        {
            chains.Add(chainName, chain.Made with { Rules = chain.Rules.DrainToImmutable() });
        }

        return new RuleTable(Name, chains) { Sets = _sets };
    }

    private Hook HookOf(string hook) => Family is "bridge" or "arp" or "netdev" ? Hook.Link : hook switch
    {
        "prerouting" => Hook.Prerouting,
        "input" => Hook.Input,
        "forward" => Hook.Forward,
        "output" => Hook.Output,
        "postrouting" => Hook.Postrouting,
        "ingress" or "egress" => Hook.Link,
        _ => throw new FormatException($"'{hook}' is not a hook"),
    };

    private sealed class Chain(RuleChain made)
    {
        public RuleChain Made { get; } = made;

        public ImmutableArray<Rule>.Builder Rules { get; } = ImmutableArray.CreateBuilder<Rule>(0);
    }
}

/// <summary>What an element of a map stands for.</summary>
/// <param name="Verdict">A verdict.</param>
/// <param name="First">An address, or the lowest of a range.</param>
/// <param name="Last">The highest address.</param>
/// <param name="Ports">A port, or a range.</param>
/// <param name="Number">A number: a mark, a port.</param>
internal readonly record struct NftDatum(RuleTarget? Verdict, IpAddress? First, IpAddress? Last, PortRange? Ports, uint? Number);

/// <summary>The elements of a set or map, named or anonymous, before it is known what a map's values are for.</summary>
internal sealed class NftElements
{
    private static readonly RuleTarget Accept = new RuleTarget.Accept();
    private static readonly RuleTarget Drop = new RuleTarget.Drop();
    private static readonly RuleTarget Return = new RuleTarget.Return();
    private static readonly RuleTarget Continue = new RuleTarget.PassOn("continue");

    private readonly ImmutableArray<FieldType> _types;
    private readonly List<(FieldValue[] First, FieldValue[]? Last, string? Comment, NftDatum Datum)> _elements = [];
    private (string? Comment, NftDatum Datum)? _other;
    private bool _isComplete = true;

    private NftElements(ImmutableArray<FieldType> types) => _types = types;

    /// <summary>Reads elements.</summary>
    /// <param name="types">What the fields are; default when that is not known, and then nothing is.</param>
    /// <param name="list">The JSON list; no value when there are none.</param>
    /// <param name="isMap">Whether each has a value.</param>
    public static NftElements Read(ImmutableArray<FieldType> types, JsonTape.Value list, bool isMap)
    {
        var elements = new NftElements(types.IsDefault ? [FieldType.Number] : types) { _isComplete = !types.IsDefault };
        elements._elements.EnsureCapacity(list.Count);
        foreach (var item in list)
        {
            var key = isMap ? item.First : item;
            var value = default(JsonTape.Value);
            if (isMap)
            {
                foreach (var part in item)
                {
                    value = part;
                }
            }

            var noted = key["elem"u8];
            var comment = noted["comment"u8] is { IsString: true } text ? text.Text : null;
            elements.Add(noted.Exists ? noted["val"u8] : key, comment, isMap ? DatumOf(value) : default);
        }

        return elements;
    }

    /// <summary>The one element that a single value is.</summary>
    public static NftElements Only(ImmutableArray<FieldType> types, JsonTape.Value key)
    {
        var elements = new NftElements(types);
        elements.Add(key, null, default);
        return elements;
    }

    /// <summary>The types that a set declares; default when one of them is not known.</summary>
    public static ImmutableArray<FieldType> TypesOf(JsonTape.Value type)
    {
        var types = ImmutableArray.CreateBuilder<FieldType>();
        foreach (var name in type.IsArray ? type.Select(t => t.Text) : type.Text.Split(" . "))
        {
            FieldType? known = name switch
            {
                "ipv4_addr" or "ipv6_addr" => FieldType.Address,
                "inet_proto" => FieldType.Protocol,
                "inet_service" => FieldType.Port,
                "mark" => FieldType.Mark,
                "ifname" or "iface_index" => FieldType.Interface,
                "ct_state" => FieldType.ConnectionState,
                "integer" => FieldType.Number,
                _ => null,
            };
            if (known is not { } of)
            {
                return default;
            }

            types.Add(of);
        }

        return types.ToImmutable();
    }

    /// <summary>The set or map of these elements.</summary>
    /// <param name="table">The table it belongs to.</param>
    /// <param name="name">Its name; empty for an anonymous one.</param>
    /// <param name="target">What the values of a map are for; null from it for one that does not fit; null for a set.</param>
    /// <param name="isDynamic">Whether packets themselves put elements in.</param>
    /// <param name="seconds">For how long they stay in; null when without end.</param>
    public MatchSet ToSet(string table, string name, Func<NftDatum, RuleTarget?>? target, bool isDynamic = false, int? seconds = null)
    {
        RuleTarget? Of(NftDatum datum) => target is null ? null : target(datum) ?? new RuleTarget.Unknown("a value of the map that is not understood");
        var made = ImmutableArray.CreateBuilder<SetElement>(_elements.Count);
        foreach (var (first, last, comment, datum) in _elements)
        {
            made.Add(new SetElement(first, last, Of(datum), comment, made.Count + 1));
        }

        return new MatchSet(table, name, _types, made.MoveToImmutable())
        {
            IsComplete = _isComplete,
            IsDynamic = isDynamic,
            Seconds = seconds,
            CatchAll = _other is { } other ? new SetElement([], null, Of(other.Datum), other.Comment, _elements.Count + 1) : null,
        };
    }

    /// <summary>
    /// The choices of a map whose key is a number drawn from <paramref name="offset"/> on; null when that cannot be told.
    /// </summary>
    public RuleTarget? ToChoices(long modulus, long offset, Func<NftDatum, RuleTarget?> target)
    {
        var choices = ImmutableArray.CreateBuilder<Choice>(_elements.Count);
        long drawn = 0;
        foreach (var (first, last, _, datum) in _elements)
        {
            if (target(datum) is not { } chosen)
            {
                return null;
            }

            var low = Math.Max((long)first[0].Low, offset);
            var high = Math.Min((long)(last ?? first)[0].Low, offset + modulus - 1);
            if (high >= low)
            {
                drawn += high - low + 1;
                choices.Add(new Choice((double)(high - low + 1) / modulus, chosen));
            }
        }

        if (_other is { } other)
        {
            if (target(other.Datum) is not { } chosen)
            {
                return null;
            }

            choices.Add(new Choice((double)(modulus - drawn) / modulus, chosen));
        }

        return _isComplete && _types is [FieldType.Number] && drawn <= modulus ? new RuleTarget.OneOf(choices.ToImmutable()) : null;
    }

    /// <summary>The verdict that a JSON object with one property is; null when it is none.</summary>
    public static RuleTarget? VerdictOf(JsonTape.Value verdict) => verdict.Name switch
    {
        "accept" => Accept,
        "drop" => Drop,
        "return" => Return,
        "continue" => Continue,
        "jump" => new RuleTarget.Jump(NftRuleset.Need(verdict, "target"u8), false),
        "goto" => new RuleTarget.Jump(NftRuleset.Need(verdict, "target"u8), true),
        _ => null,
    };

    /// <summary>Reads the value of a field, or a range or prefix of them.</summary>
    public static bool TryRange(FieldType type, JsonTape.Value value, out FieldValue first, out FieldValue last)
    {
        last = default;
        if (value["range"u8] is { IsArray: true } range)
        {
            var end = default(JsonTape.Value);
            foreach (var part in range)
            {
                end = part;
            }

            return TryValue(type, range.First, out first) & TryValue(type, end, out last) && first <= last;
        }

        if (value["prefix"u8] is { IsObject: true } prefix)
        {
            first = default;
            if (type != FieldType.Address || !TryPrefix(prefix, out var network))
            {
                return false;
            }

            (first, last) = RangeOf(network);
            return true;
        }

        if (type == FieldType.Interface && value.IsString && value.Text is [.. var start, '*'])
        {
            // eth* is every name that begins so.
            first = FieldValue.Of(start);
            last = FieldValue.Of(start, 255);
            return true;
        }

        var known = TryValue(type, value, out first);
        last = first;
        return known;
    }

    /// <summary>Reads <c>{"addr": "10.0.0.0", "len": 8}</c>.</summary>
    public static bool TryPrefix(JsonTape.Value prefix, out IpNetwork network)
    {
        network = default;
        if (!TryAddress(prefix["addr"u8], out var address) || !prefix["len"u8].TryNumber(out var length) || length > address.Width)
        {
            return false;
        }

        network = new IpNetwork(address, (int)length);
        return true;
    }

    /// <summary>Reads an address.</summary>
    public static bool TryAddress(JsonTape.Value value, out IpAddress address)
    {
        address = default;
        Span<char> scratch = stackalloc char[64];
        return value.IsString && IpAddress.TryParse(value.Chars(scratch), null, out address);
    }

    /// <summary>Reads names of connection states, one or a list.</summary>
    public static bool TryStates(JsonTape.Value value, out ConntrackState states)
    {
        states = ConntrackState.None;
        if (value["|"u8] is { IsArray: true } bits)
        {
            value = bits;
        }

        if (!value.IsArray)
        {
            return TryState(value, ref states);
        }

        foreach (var one in value)
        {
            if (!TryState(one, ref states))
            {
                return false;
            }
        }

        return states != 0;
    }

    private static bool TryState(JsonTape.Value value, ref ConntrackState states)
    {
        var state = value.IsString ? value.Text switch
        {
            "invalid" => ConntrackState.Invalid,
            "new" => ConntrackState.New,
            "established" => ConntrackState.Established,
            "related" => ConntrackState.Related,
            "untracked" => ConntrackState.Untracked,
            "snat" => ConntrackState.Snat,
            "dnat" => ConntrackState.Dnat,
            _ => ConntrackState.None,
        } : ConntrackState.None;
        states |= state;
        return state != ConntrackState.None;
    }

    /// <summary>Reads a protocol's name or number.</summary>
    public static bool TryProtocol(JsonTape.Value value, out IpProtocol protocol)
    {
        if (value.TryNumber(out var number))
        {
            protocol = (IpProtocol)number;
            return number <= byte.MaxValue;
        }

        Span<char> scratch = stackalloc char[32];
        var known = value.IsString ? IptablesSave.ProtocolOf(value.Chars(scratch)) : null;
        protocol = known ?? default;
        return known is not null;
    }

    private static bool TryValue(FieldType type, JsonTape.Value value, out FieldValue result)
    {
        result = default;
        long number;
        switch (type)
        {
            case FieldType.Address:
                var isAddress = TryAddress(value, out var address);
                result = FieldValue.Of(address);
                return isAddress;
            case FieldType.Protocol:
                var isProtocol = TryProtocol(value, out var protocol);
                result = FieldValue.Of((uint)protocol);
                return isProtocol;
            case FieldType.Port:
                var isPort = value.TryNumber(out number) && number <= ushort.MaxValue;
                result = FieldValue.Of((uint)number);
                return isPort;
            case FieldType.Interface:
                Span<char> scratch = stackalloc char[16];
                if (value.IsString)
                {
                    result = FieldValue.Of(value.Chars(scratch));
                }

                // nft 1.0 prints a range of names as empty ones; and a number is an interface that is gone.
                return value.IsString && value.Text.Length > 0;
            case FieldType.ConnectionState:
                var isState = TryStates(value, out var states);
                result = FieldValue.Of((uint)states);
                return isState;
            default:
                var isNumber = value.TryNumber(out number) && number <= uint.MaxValue;
                result = FieldValue.Of((uint)number);
                return isNumber;
        }
    }

    private static (FieldValue First, FieldValue Last) RangeOf(IpNetwork network)
    {
        // In the mapped form an IPv4 prefix is 96 bits longer.
        var length = network.Address.IsIPv4 ? network.PrefixLength + 96 : network.PrefixLength;
        static ulong Free(int bits) => bits >= 64 ? 0 : ulong.MaxValue >> Math.Max(bits, 0);
        return (FieldValue.Of(network.Address), new FieldValue(network.Address.High | Free(length), network.Address.Low | Free(length - 64)));
    }

    private static NftDatum DatumOf(JsonTape.Value value)
    {
        if (value.IsObject && VerdictOf(value.First) is { } verdict)
        {
            return new NftDatum(verdict, null, null, null, null);
        }

        var address = value;
        PortRange? ports = null;
        if (value["concat"u8] is { IsArray: true } parts)
        {
            address = parts.First;
            var port = default(JsonTape.Value);
            foreach (var part in parts)
            {
                port = part;
            }

            if (parts.Count != 2 || !TryRange(FieldType.Port, port, out var low, out var high))
            {
                return default;
            }

            ports = new PortRange((ushort)low.Low, (ushort)high.Low);
        }

        if (value.TryNumber(out var number) && number <= uint.MaxValue)
        {
            return new NftDatum(null, null, null, number <= ushort.MaxValue ? new PortRange((ushort)number, (ushort)number) : null, (uint)number);
        }

        // A prefix is translated bit by bit, which is another thing.
        return !address["prefix"u8].Exists && TryRange(FieldType.Address, address, out var first, out var last)
            ? new NftDatum(null, IpAddress.FromIPv6(first.High, first.Low), IpAddress.FromIPv6(last.High, last.Low), ports, null) : default;
    }

    private void Add(JsonTape.Value key, string? comment, NftDatum datum)
    {
        if (key.Is("*"u8))
        {
            _other = (comment, datum);
            return;
        }

        var first = new FieldValue[_types.Length];
        FieldValue[]? last = null;
        if (key["concat"u8] is { IsArray: true } parts)
        {
            var i = 0;
            foreach (var part in parts)
            {
                if (i == first.Length || !TryRange(_types[i], part, out first[i], out var end))
                {
                    _isComplete = false;
                    return;
                }

                if (end != first[i])
                {
                    last ??= [.. first];
                }

                if (last is not null)
                {
                    last[i] = end;
                }

                i++;
            }

            _isComplete &= i == first.Length;
            if (i == first.Length)
            {
                _elements.Add((first, last, comment, datum));
            }
        }
        else if (first.Length == 1 && TryRange(_types[0], key, out first[0], out var end))
        {
            _elements.Add((first, end == first[0] ? null : [end], comment, datum));
        }
        else
        {
            _isComplete = false;
        }
    }
}
