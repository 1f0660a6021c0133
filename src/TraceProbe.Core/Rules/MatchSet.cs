using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>A field of a packet by which sets and maps are looked up.</summary>
public enum PacketField
{
    /// <summary><c>ip saddr</c>, <c>ip6 saddr</c>.</summary>
    SourceAddress,

    /// <summary><c>ip daddr</c>, <c>ip6 daddr</c>.</summary>
    DestinationAddress,

    /// <summary><c>meta l4proto</c>, <c>ip protocol</c>.</summary>
    Protocol,

    /// <summary><c>th sport</c>, <c>tcp sport</c>, …</summary>
    SourcePort,

    /// <summary><c>th dport</c>, <c>tcp dport</c>, …</summary>
    DestinationPort,

    /// <summary><c>iifname</c>, <c>iif</c>: the interface it came in by.</summary>
    InInterface,

    /// <summary><c>oifname</c>, <c>oif</c>: the interface it leaves by.</summary>
    OutInterface,

    /// <summary><c>meta mark</c>.</summary>
    Mark,

    /// <summary><c>ct mark</c>.</summary>
    ConnectionMark,

    /// <summary><c>ct state</c>.</summary>
    ConnectionState,

    /// <summary><c>ct original saddr</c>: the source before translation.</summary>
    OriginalSourceAddress,

    /// <summary><c>ct original daddr</c>: the destination before translation.</summary>
    OriginalDestinationAddress,

    /// <summary><c>ct original proto-src</c>: the source port before translation.</summary>
    OriginalSourcePort,

    /// <summary><c>ct original proto-dst</c>: the destination port before translation.</summary>
    OriginalDestinationPort,
}

/// <summary>What the values of one field of a set are.</summary>
public enum FieldType
{
    /// <summary><c>ipv4_addr</c>, <c>ipv6_addr</c>.</summary>
    Address,

    /// <summary><c>inet_proto</c>.</summary>
    Protocol,

    /// <summary><c>inet_service</c>: a port.</summary>
    Port,

    /// <summary><c>mark</c>.</summary>
    Mark,

    /// <summary><c>ifname</c>, <c>iface_index</c>: an interface's name, 15 characters at most.</summary>
    Interface,

    /// <summary><c>ct_state</c>.</summary>
    ConnectionState,

    /// <summary><c>integer</c>: what <c>numgen</c> and hashes give.</summary>
    Number,
}

/// <summary>
/// The value of one field, 16 bytes as network order has them: an address in its mapped form, a name padded with zeros, a number on the right.
/// So a range of values is a range of numbers.
/// </summary>
/// <param name="High">The first eight bytes.</param>
/// <param name="Low">The last eight bytes.</param>
public readonly record struct FieldValue(ulong High, ulong Low) : IComparable<FieldValue>
{
    /// <summary>A number: a port, a protocol, a mark, states as flags.</summary>
    public static FieldValue Of(uint number) => new(0, number);

    /// <summary>An address.</summary>
    public static FieldValue Of(IpAddress address) => new(address.High, address.Low);

    /// <summary>An interface's name.</summary>
    /// <param name="name">The name; what is beyond 16 bytes is cut off.</param>
    /// <param name="padding">What follows the name: 0, or 255 for the last name that begins so.</param>
    public static FieldValue Of(ReadOnlySpan<char> name, byte padding = 0)
    {
        ulong high = 0, low = 0;
        for (var i = 0; i < 16; i++)
        {
            ref var half = ref i < 8 ? ref high : ref low;
            half = (half << 8) | (i < name.Length ? (byte)name[i] : padding);
        }

        return new FieldValue(high, low);
    }

    /// <inheritdoc/>
    public int CompareTo(FieldValue other) => High != other.High ? High.CompareTo(other.High) : Low.CompareTo(other.Low);

    /// <summary>Whether left is smaller.</summary>
    public static bool operator <(FieldValue left, FieldValue right) => left.CompareTo(right) < 0;

    /// <summary>Whether left is greater.</summary>
    public static bool operator >(FieldValue left, FieldValue right) => left.CompareTo(right) > 0;

    /// <summary>Whether left is not greater.</summary>
    public static bool operator <=(FieldValue left, FieldValue right) => left.CompareTo(right) <= 0;

    /// <summary>Whether left is not smaller.</summary>
    public static bool operator >=(FieldValue left, FieldValue right) => left.CompareTo(right) >= 0;

    internal string ToText(FieldType type) => type switch
    {
        FieldType.Address => IpAddress.FromIPv6(High, Low).ToString(),
        FieldType.Protocol => Low switch
        {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            58 => "ipv6-icmp",
            132 => "sctp",
            _ => Low.ToString(CultureInfo.InvariantCulture),
        },
        FieldType.Mark => string.Create(CultureInfo.InvariantCulture, $"0x{Low:x8}"),
        FieldType.Interface => Name(),
        FieldType.ConnectionState => ((ConntrackState)Low).ToString().ToLowerInvariant(),
        _ => Low.ToString(CultureInfo.InvariantCulture),
    };

    private string Name()
    {
        Span<char> name = stackalloc char[16];
        var length = 0;
        for (; length < 16; length++)
        {
            var letter = (byte)((length < 8 ? High : Low) >> (56 - length % 8 * 8));
            if (letter is 0 or 255)
            {
                break;
            }

            name[length] = (char)letter;
        }

        return $"\"{name[..length]}\"";
    }
}

/// <summary>One element of a set or map: a value or a range of values per field, and in a map what it stands for.</summary>
public sealed class SetElement
{
    private readonly FieldValue[] _first;
    private readonly FieldValue[]? _last;
    private volatile Made? _made;

    /// <summary>Makes an element.</summary>
    /// <param name="first">The value of each field, or the lowest.</param>
    /// <param name="last">The highest value of each field; null when each has one value.</param>
    /// <param name="target">In a map, what happens to packets it stands for; null in a set.</param>
    /// <param name="comment">The comment it carries, or null.</param>
    /// <param name="position">Its position in the dump, from 1.</param>
    public SetElement(FieldValue[] first, FieldValue[]? last, RuleTarget? target, string? comment, int position)
    {
        _first = first;
        _last = last;
        Target = target;
        Comment = comment;
        Position = position;
    }

    /// <summary>The value of each field, or the lowest.</summary>
    public ReadOnlySpan<FieldValue> First => _first;

    /// <summary>The highest value of each field.</summary>
    public ReadOnlySpan<FieldValue> Last => _last ?? _first;

    /// <summary>Whether each field has just one value.</summary>
    public bool IsExact => _last is null;

    /// <summary>In a map, what happens to packets it stands for; null in a set.</summary>
    public RuleTarget? Target { get; }

    /// <summary>The comment it carries, or null.</summary>
    public string? Comment { get; }

    /// <summary>Its position in the dump, from 1.</summary>
    public int Position { get; }

    internal FieldValue[] Key => _first;

    /// <summary>Whether these values are in it.</summary>
    public bool Contains(ReadOnlySpan<FieldValue> values)
    {
        for (var i = 0; i < _first.Length; i++)
        {
            if (values[i] < _first[i] || values[i] > Last[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>
    /// The element of a named map as the rule that it is in effect: these fields must have these values, then that happens. The same rule each
    /// time for the same look-up.
    /// </summary>
    /// <param name="lookup">The look-up of the map.</param>
    public Rule AsRule(RuleTarget.Lookup lookup)
    {
        ArgumentNullException.ThrowIfNull(lookup);
        if (_made is not { } made || !ReferenceEquals(made.Lookup, lookup))
        {
            var matches = ImmutableArray.CreateBuilder<RuleMatch>();
            for (var i = 0; i < _first.Length; i++)
            {
                matches.Add(MatchOf(lookup.Fields[i], _first[i], Last[i]) ?? new RuleMatch.Lookup([lookup.Fields[i]], MatchSet.Only(lookup.Map.Types[i], _first[i], Last[i]), false));
            }

            if (Comment is not null)
            {
                matches.Add(new RuleMatch.Commented(Comment));
            }

            _made = made = new Made(lookup, new Rule(lookup.Map.Table, $"@{lookup.Map.Name}", Position, lookup.Map.TextOf(this).AsMemory(), matches.ToImmutable(), Target, null));
        }

        return made.Rule;
    }

    // The words iptables would have for it, where it has any.
    private static RuleMatch? MatchOf(PacketField field, FieldValue first, FieldValue last) => field switch
    {
        PacketField.SourceAddress when first == last => new RuleMatch.Source(Host(first), false),
        PacketField.DestinationAddress when first == last => new RuleMatch.Destination(Host(first), false),
        PacketField.SourceAddress or PacketField.DestinationAddress => new RuleMatch.AddressRange(field == PacketField.SourceAddress, IpAddress.FromIPv6(first.High, first.Low), IpAddress.FromIPv6(last.High, last.Low), false),
        PacketField.Protocol when first == last => new RuleMatch.Protocol((IpProtocol)first.Low, false),
        PacketField.SourcePort => new RuleMatch.Port(PortSide.Source, [new PortRange((ushort)first.Low, (ushort)last.Low)], false),
        PacketField.DestinationPort => new RuleMatch.Port(PortSide.Destination, [new PortRange((ushort)first.Low, (ushort)last.Low)], false),
        _ => null,
    };

    private static IpNetwork Host(FieldValue value)
    {
        var address = IpAddress.FromIPv6(value.High, value.Low);
        return new IpNetwork(address, address.Width);
    }

    private sealed record Made(RuleTarget.Lookup Lookup, Rule Rule);
}

/// <summary>
/// A set or map of nftables: elements looked up by fields of the packet, by hash where they are single values. Named ones belong to a table,
/// anonymous ones to a rule. Never changed once made.
/// </summary>
public sealed class MatchSet
{
    private readonly Dictionary<FieldValue[], SetElement> _exact = new(KeyComparer.Instance);
    private readonly Dictionary<FieldValue[], SetElement>.AlternateLookup<ReadOnlySpan<FieldValue>> _byKey;
    private readonly SetElement[] _ranges;
    private readonly bool _isSorted;

    /// <summary>Makes a set.</summary>
    /// <param name="table">The table it belongs to.</param>
    /// <param name="name">Its name; empty for an anonymous one.</param>
    /// <param name="types">What its fields are.</param>
    /// <param name="elements">Its elements; of two with the same values the first counts.</param>
    public MatchSet(string table, string name, ImmutableArray<FieldType> types, ImmutableArray<SetElement> elements)
    {
        Table = table;
        Name = name;
        Types = types;
        Elements = elements;
        _exact.EnsureCapacity(elements.Length);
        var ranges = new List<SetElement>();
        foreach (var element in elements)
        {
            if (!element.IsExact)
            {
                ranges.Add(element);
            }
            else
            {
                _exact.TryAdd(element.Key, element);
            }
        }

        _byKey = _exact.GetAlternateLookup<ReadOnlySpan<FieldValue>>();
        _ranges = [.. ranges];
        if (types.Length == 1)
        {
            Array.Sort(_ranges, static (a, b) => a.Key[0].CompareTo(b.Key[0]));
            _isSorted = true;
            for (var i = 1; i < _ranges.Length; i++)
            {
                // The kernel's do not overlap.
                _isSorted &= _ranges[i - 1].Last[0] < _ranges[i].First[0];
            }
        }
    }

    /// <summary>The table it belongs to.</summary>
    public string Table { get; }

    /// <summary>Its name; empty for an anonymous one.</summary>
    public string Name { get; }

    /// <summary>What its fields are.</summary>
    public ImmutableArray<FieldType> Types { get; }

    /// <summary>Its elements in the dump's order.</summary>
    public ImmutableArray<SetElement> Elements { get; }

    /// <summary>Whether all of its elements were understood; otherwise one that is not found may be there.</summary>
    public bool IsComplete { get; init; } = true;

    /// <summary>Whether packets themselves put elements in, and time takes them out, as in kube-proxy's sets for session affinity.</summary>
    public bool IsDynamic { get; init; }

    /// <summary>For how many seconds an element stays in after it was last put in; null when without end.</summary>
    public int? Seconds { get; init; }

    /// <summary>What stands for every packet that no other element stands for (<c>*</c>); null when nothing does.</summary>
    public SetElement? CatchAll { get; init; }

    /// <summary>The element that these values are in, or null.</summary>
    /// <param name="values">One value per field.</param>
    public SetElement? Find(ReadOnlySpan<FieldValue> values)
    {
        if (_byKey.TryGetValue(values, out var found))
        {
            return found;
        }

        if (_isSorted)
        {
            int low = 0, high = _ranges.Length - 1;
            while (low <= high)
            {
                var middle = (low + high) >>> 1;
                var element = _ranges[middle];
                if (element.Contains(values))
                {
                    return element;
                }

                (low, high) = element.First[0] > values[0] ? (low, middle - 1) : (middle + 1, high);
            }

            return CatchAll;
        }

        foreach (var element in _ranges)
        {
            if (element.Contains(values))
            {
                return element;
            }
        }

        return CatchAll;
    }

    /// <summary>An element as nft prints it, such as <c>10.96.0.10 . tcp . 53 : goto service-…</c>.</summary>
    public string TextOf(SetElement element)
    {
        ArgumentNullException.ThrowIfNull(element);
        var text = new System.Text.StringBuilder();
        if (ReferenceEquals(element, CatchAll))
        {
            text.Append('*');
        }
        else
        {
            for (var i = 0; i < Types.Length; i++)
            {
                text.Append(i == 0 ? "" : " . ").Append(TextOf(Types[i], element.First[i], element.Last[i]));
            }
        }

        if (element.Comment is not null)
        {
            text.Append(" comment \"").Append(element.Comment).Append('"');
        }

        var what = element.Target switch
        {
            RuleTarget.Jump jump => $"{(jump.Goto ? "goto" : "jump")} {jump.Chain}",
            RuleTarget.Accept => "accept",
            RuleTarget.Drop => "drop",
            RuleTarget.Return => "return",
            RuleTarget.PassOn pass => pass.Text,
            RuleTarget.Unknown unknown => unknown.Text,
            RuleTarget.Dnat { First: { } address } dnat => dnat.Ports is { } ports ? $"{address} . {ports.First}" : address.ToString(),
            RuleTarget.Snat snat => snat.First.ToString(),
            RuleTarget.SetMark mark => FieldValue.Of(mark.Value).ToText(FieldType.Mark),
            _ => null,
        };
        return what is null ? text.ToString() : text.Append(" : ").Append(what).ToString();
    }

    /// <summary>The set of one value, or of one range of them.</summary>
    internal static MatchSet Only(FieldType type, FieldValue first, FieldValue last)
        => new("", "", [type], [new SetElement([first], first == last ? null : [last], null, null, 1)]);

    private static string TextOf(FieldType type, FieldValue first, FieldValue last)
    {
        if (first == last)
        {
            return first.ToText(type);
        }

        if (type == FieldType.Interface)
        {
            return $"{first.ToText(type)[..^1]}*\"";
        }

        if (type == FieldType.Address && PrefixOf(first, last) is { } prefix)
        {
            return prefix.ToString();
        }

        return $"{first.ToText(type)}-{last.ToText(type)}";
    }

    // A range that begins and ends where a prefix does is written as one.
    private static IpNetwork? PrefixOf(FieldValue first, FieldValue last)
    {
        var address = IpAddress.FromIPv6(first.High, first.Low);
        var same = (first.High ^ last.High) != 0
            ? System.Numerics.BitOperations.LeadingZeroCount(first.High ^ last.High)
            : 64 + System.Numerics.BitOperations.LeadingZeroCount(first.Low ^ last.Low);
        var length = address.IsIPv4 ? same - 96 : same;
        if (length < 0)
        {
            return null;
        }

        var network = new IpNetwork(address, length);
        ulong High(int bits) => bits >= 64 ? 0 : ulong.MaxValue >> Math.Max(bits, 0);
        return network.Address == address && last.High == (first.High | High(same)) && last.Low == (first.Low | High(same - 64)) ? network : null;
    }

    private sealed class KeyComparer : IEqualityComparer<FieldValue[]>, IAlternateEqualityComparer<ReadOnlySpan<FieldValue>, FieldValue[]>
    {
        public static readonly KeyComparer Instance = new();

        public bool Equals(FieldValue[]? x, FieldValue[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode([DisallowNull] FieldValue[] obj) => GetHashCode(obj.AsSpan());

        public bool Equals(ReadOnlySpan<FieldValue> alternate, FieldValue[] other) => alternate.SequenceEqual(other);

        public FieldValue[] Create(ReadOnlySpan<FieldValue> alternate) => alternate.ToArray();

        public int GetHashCode(ReadOnlySpan<FieldValue> alternate)
        {
            // Dumps come from anywhere, but their keys are checked by the kernel that made them; a slow look-up would be the worst.
            ulong hash = 0;
            foreach (var value in alternate)
            {
                hash = (hash ^ value.High) * 0x9e3779b97f4a7c15;
                hash = (System.Numerics.BitOperations.RotateLeft(hash, 29) ^ value.Low) * 0xbf58476d1ce4e5b9;
            }

            return (int)(hash >> 32);
        }
    }
}
