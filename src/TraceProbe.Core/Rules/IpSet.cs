using System.Collections.Immutable;
using System.Runtime.InteropServices;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// One ipset with its members, as rules ask it by <c>-m set --match-set</c>. A packet is looked up as the kernel does it (net/netfilter/ipset):
/// of prefixes the longest that holds the packet decides, and one marked <c>nomatch</c> takes its addresses out. Never changed once made.
/// </summary>
public sealed class IpSet
{
    private readonly Dictionary<Key, IpSetMember> _members = [];
    private readonly ImmutableArray<(int First, int Second)> _lengths;
    private readonly ImmutableArray<int> _addresses;

    internal IpSet(string name, string type, bool? isIPv6, ImmutableArray<FieldType> types, int? netmask, ImmutableArray<IpSetMember> members)
    {
        Name = name;
        Type = type;
        IsIPv6 = isIPv6;
        Types = types;
        Netmask = netmask;
        Members = members;
        IsKnown = IsList || !types.IsEmpty && members.All(m => m.Values.Length == types.Length);
        _addresses = [.. Enumerable.Range(0, types.Length).Where(i => types[i] == FieldType.Address)];
        var lengths = new HashSet<(int First, int Second)>();
        foreach (var member in members)
        {
            if (member.Values.Length == types.Length)
            {
                _members.TryAdd(new Key(member.Values, member.Lengths), member);
                lengths.Add(member.Lengths);
            }
        }

        // ip_set_hash_gen.h, mtype_test_cidrs: the longest prefixes are asked first, those of the first address in the outer loop.
        _lengths = [.. lengths.OrderByDescending(l => l.First).ThenByDescending(l => l.Second)];
    }

    /// <summary>Its name, at most 31 characters.</summary>
    public string Name { get; }

    /// <summary>Its type, such as <c>hash:ip,port</c>.</summary>
    public string Type { get; }

    /// <summary>Whether it holds IPv6 addresses; null for types without an address (<c>bitmap:port</c>, <c>list:set</c>), which every packet can be in.</summary>
    public bool? IsIPv6 { get; }

    /// <summary>
    /// What its members consist of, a port being a protocol and a number except in <c>bitmap:port</c>; empty for <c>list:set</c> and for types that
    /// TraceProbe does not know.
    /// </summary>
    public ImmutableArray<FieldType> Types { get; }

    /// <summary>The prefix length to which addresses are cut before they are looked up (<c>netmask</c>); null when they are not.</summary>
    public int? Netmask { get; }

    /// <summary>Its members in the dump's order.</summary>
    public ImmutableArray<IpSetMember> Members { get; }

    /// <summary>Whether it is a list of sets, whose members are their names.</summary>
    public bool IsList => Type == "list:set";

    /// <summary>Whether packets can be looked up in it: all of its members were understood.</summary>
    public bool IsKnown { get; }

    /// <summary>Whether a packet of that protocol can be told to be in it or not: of others than these three, the set may look at more than their ports.</summary>
    public bool Asks(IpProtocol protocol) => IsKnown && (!Types.Contains(FieldType.Port) || protocol is IpProtocol.Tcp or IpProtocol.Udp or IpProtocol.Sctp);

    /// <summary>
    /// The fields of a packet that a rule looks up in it; empty when the rule names too few, which the kernel takes for "not in it"
    /// (ip_set_core.c, ip_set_test).
    /// </summary>
    /// <param name="directions">The rule's words, such as <c>dst,dst,src</c>: one for each part of a member, a protocol with its port being one.</param>
    public ImmutableArray<PacketField> FieldsOf(string directions)
    {
        ArgumentNullException.ThrowIfNull(directions);
        var words = directions.Split(',');
        var fields = ImmutableArray.CreateBuilder<PacketField>(Types.Length);
        var at = 0;
        foreach (var type in Types)
        {
            if (at >= words.Length)
            {
                return [];
            }

            var source = words[at] == "src";
            switch (type)
            {
                case FieldType.Address:
                    fields.Add(source ? PacketField.SourceAddress : PacketField.DestinationAddress);
                    at++;
                    break;
                case FieldType.Protocol: // its port follows
                    fields.Add(PacketField.Protocol);
                    break;
                case FieldType.Port:
                    fields.Add(source ? PacketField.SourcePort : PacketField.DestinationPort);
                    at++;
                    break;
                case FieldType.Mark:
                    fields.Add(PacketField.Mark);
                    at++;
                    break;
                default:
                    fields.Add(source ? PacketField.InInterface : PacketField.OutInterface);
                    at++;
                    break;
            }
        }

        return fields.ToImmutable();
    }

    /// <summary>
    /// The member that a packet with these values is in, or null. One that is <see cref="IpSetMember.IsException"/> means that the packet is not
    /// in the set.
    /// </summary>
    /// <param name="values">One value per field of <see cref="FieldsOf"/>.</param>
    public IpSetMember? Find(ReadOnlySpan<FieldValue> values)
    {
        if (values.Length != Types.Length || values.IsEmpty)
        {
            return null;
        }

        Span<FieldValue> cut = stackalloc FieldValue[values.Length];
        foreach (var lengths in _lengths)
        {
            values.CopyTo(cut);
            for (var i = 0; i < _addresses.Length; i++)
            {
                var at = _addresses[i];
                cut[at] = Cut(values[at], Math.Min(i == 0 ? lengths.First : lengths.Second, Netmask ?? int.MaxValue));
            }

            if (_members.TryGetValue(new Key([.. cut], lengths), out var member))
            {
                return member;
            }
        }

        return null;
    }

    /// <summary>The member for a destination address, protocol and port of a Service, ignoring what else the set looks at; null when there is none.</summary>
    public IpSetMember? Find(IpAddress address, IpProtocol protocol, ushort port)
    {
        Span<FieldValue> values = [FieldValue.Of(address), FieldValue.Of((uint)protocol), FieldValue.Of(port)];
        return Types.AsSpan() switch
        {
            [FieldType.Address, FieldType.Protocol, FieldType.Port] => Find(values),
            [FieldType.Port] => Find(values[2..]),
            _ => null,
        };
    }

    internal static FieldValue Cut(FieldValue address, int length)
    {
        var ip = IpAddress.FromIPv6(address.High, address.Low);
        return length >= ip.Width ? address : FieldValue.Of(new IpNetwork(ip, Math.Max(length, 0)).Address);
    }

    // An array that is compared by what is in it, with the prefix lengths that belong to it.
    private readonly struct Key(FieldValue[] values, (int First, int Second) lengths) : IEquatable<Key>
    {
        private readonly FieldValue[] _values = values;
        private readonly (int First, int Second) _lengths = lengths;

        public bool Equals(Key other) => _lengths == other._lengths && _values.AsSpan().SequenceEqual(other._values);

        public override bool Equals(object? obj) => obj is Key other && Equals(other);

        public override int GetHashCode()
        {
            var hash = new HashCode();
            hash.Add(_lengths);
            hash.AddBytes(MemoryMarshal.AsBytes<FieldValue>(_values));
            return hash.ToHashCode();
        }
    }
}

/// <summary>A member of an ipset.</summary>
/// <param name="Text">The member as the dump has it, such as <c>10.96.0.1,tcp:443</c>; in a <c>list:set</c> the name of a set.</param>
/// <param name="IsException">Whether it is marked <c>nomatch</c>: its addresses are not in the set.</param>
/// <param name="Comment">The comment it carries, or null.</param>
public sealed record IpSetMember(string Text, bool IsException, string? Comment)
{
    // Empty when the member was not understood.
    internal FieldValue[] Values { get; init; } = [];

    // The prefix lengths of its first and second address.
    internal (int First, int Second) Lengths { get; init; }

    /// <inheritdoc/>
    public override string ToString() => IsException ? $"{Text} nomatch" : Text;
}
