using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Reads what <c>ipset save</c> prints:
/// <code>
/// create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5da9e5fb
/// add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
/// create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
/// add KUBE-NODE-PORT-TCP 30080
/// </code>
/// A set of a type that is not known, or with a member that is not understood, is kept and says so (<see cref="IpSet.IsKnown"/>); a text that is
/// no such dump is an error.
/// </summary>
public static class IpSetSave
{
    /// <summary>Reads one dump.</summary>
    /// <exception cref="FormatException">The text is no such dump, or cut off within a line; the message names the line.</exception>
    public static ImmutableArray<IpSet> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var sets = new List<Draft>();
        var byName = new Dictionary<string, Draft>(StringComparer.Ordinal);
        var number = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            var words = Words(line, number);
            switch (words)
            {
                case []:
                    break;
                case ["create", var name, var type, .. var options]:
                    var created = Draft.Of(name, type, options, number);
                    if (!byName.TryAdd(name, created))
                    {
                        throw Malformed(number, $"the set {name} comes twice");
                    }

                    sets.Add(created);
                    break;
                case ["add", var name, var member, .. var options]:
                    if (!byName.TryGetValue(name, out var draft))
                    {
                        throw Malformed(number, $"a member of the set {name}, which was not created");
                    }

                    draft.Members.Add(draft.Member(member, options));
                    break;
                default:
                    throw Malformed(number, $"'{line.Trim()}' is neither 'create NAME TYPE …' nor 'add NAME MEMBER …'");
            }
        }

        // A dump ends with a line break; without one, its last member may be cut short and still look whole.
        return text.Length == 0 || text[^1] == '\n' ? [.. sets.Select(s => s.Finish())] : throw Malformed(number, "the dump ends within a line; it is cut off, take it again");
    }

    // Words are separated by spaces; a comment is quoted.
    private static string[] Words(ReadOnlySpan<char> line, int number)
    {
        var words = new List<string>();
        var at = 0;
        while (true)
        {
            while (at < line.Length && line[at] is ' ' or '\t')
            {
                at++;
            }

            if (at >= line.Length)
            {
                return [.. words];
            }

            if (line[at] == '"')
            {
                var end = line[(at + 1)..].IndexOf('"');
                if (end < 0)
                {
                    throw Malformed(number, "a quotation mark that is not closed");
                }

                words.Add(line.Slice(at + 1, end).ToString());
                at += end + 2;
            }
            else
            {
                var end = line[at..].IndexOfAny(' ', '\t');
                end = end < 0 ? line.Length : at + end;
                words.Add(line[at..end].ToString());
                at = end;
            }
        }
    }

    private static FormatException Malformed(int line, string what) => new(string.Create(CultureInfo.InvariantCulture, $"line {line}: {what}."));

    private sealed class Draft
    {
        private string _name = "";
        private string _type = "";
        private bool? _isIPv6;
        private int? _netmask;
        private bool _isOpen;
        private ImmutableArray<FieldType> _types = [];

        public List<IpSetMember> Members { get; } = [];

        public static Draft Of(string name, string type, ReadOnlySpan<string> options, int line)
        {
            var draft = new Draft { _name = name, _type = type, _types = TypesOf(type) };
            for (var i = 0; i + 1 < options.Length; i++)
            {
                switch (options[i])
                {
                    case "family":
                        draft._isIPv6 = options[i + 1] switch
                        {
                            "inet" => false,
                            "inet6" => true,
                            var other => throw Malformed(line, $"the set {name} has the family '{other}'"),
                        };
                        break;
                    case "netmask":
                        draft._netmask = int.TryParse(options[i + 1], NumberStyles.None, CultureInfo.InvariantCulture, out var length) && length is > 0 and <= 128
                            ? length : throw Malformed(line, $"the set {name} has the netmask '{options[i + 1]}'");
                        break;
                    case "bitmask" or "markmask":
                        draft._isOpen |= options[i + 1] != "0xffffffff"; // cut by arbitrary bits, which nobody does in a cluster
                        break;
                }
            }

            if (draft._isIPv6 is null && type.StartsWith("bitmap:ip", StringComparison.Ordinal))
            {
                draft._isIPv6 = false;
            }

            return draft;
        }

        public IpSetMember Member(string text, ReadOnlySpan<string> options)
        {
            string? comment = null;
            bool exception = false, prefix = false;
            for (var i = 0; i < options.Length; i++)
            {
                if (options[i] == "comment" && i + 1 < options.Length)
                {
                    comment = options[++i];
                }
                else
                {
                    exception |= options[i] == "nomatch";
                    prefix |= options[i] == "wildcard"; // hash:net,iface: whatever begins with that name
                }
            }

            var member = new IpSetMember(text, exception, comment);
            return _types.IsEmpty || _isOpen || prefix ? member : Read(text, out var values, out var lengths) ? member with { Values = values, Lengths = lengths } : member;
        }

        public IpSet Finish() => new(_name, _type, _isIPv6, _isOpen ? [] : _types, _netmask, [.. Members]);

        // bitmap:port has ports without a protocol; packets of TCP and UDP are looked up in it (ip_set_bitmap_port.c).
        private static ImmutableArray<FieldType> TypesOf(string type)
        {
            if (type == "bitmap:port")
            {
                return [FieldType.Port];
            }

            var colon = type.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0 || type[..colon] is not ("hash" or "bitmap"))
            {
                return [];
            }

            var types = ImmutableArray.CreateBuilder<FieldType>();
            foreach (var part in type[(colon + 1)..].Split(','))
            {
                switch (part)
                {
                    case "ip" or "net":
                        types.Add(FieldType.Address);
                        break;
                    case "port":
                        types.Add(FieldType.Protocol);
                        types.Add(FieldType.Port);
                        break;
                    case "mark":
                        types.Add(FieldType.Mark);
                        break;
                    case "iface":
                        types.Add(FieldType.Interface);
                        break;
                    default: // mac
                        return [];
                }
            }

            return types.ToImmutable();
        }

        private bool Read(string text, out FieldValue[] values, out (int First, int Second) lengths)
        {
            values = new FieldValue[_types.Length];
            lengths = default;
            var parts = text.Split(',');
            int at = 0, addresses = 0;
            for (var i = 0; i < _types.Length; i++)
            {
                if (at >= parts.Length)
                {
                    return false;
                }

                switch (_types[i])
                {
                    case FieldType.Address:
                        if (!IpNetwork.TryParse(parts[at++], out var network) || network.Address.IsIPv4 == (_isIPv6 ?? !network.Address.IsIPv4))
                        {
                            return false;
                        }

                        values[i] = FieldValue.Of(_netmask is { } mask && mask < network.PrefixLength ? new IpNetwork(network.Address, mask).Address : network.Address);
                        lengths = addresses++ == 0 ? (network.PrefixLength, lengths.Second) : (lengths.First, network.PrefixLength);
                        break;
                    case FieldType.Protocol:
                        var colon = parts[at].IndexOf(':', StringComparison.Ordinal);
                        if (colon <= 0)
                        {
                            return false;
                        }

                        var protocol = ProtocolOf(parts[at][..colon]);
                        if (!ushort.TryParse(parts[at].AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port) && protocol != IpProtocol.None)
                        {
                            return false;
                        }

                        values[i] = FieldValue.Of((uint)protocol);
                        values[++i] = FieldValue.Of(port);
                        at++;
                        break;
                    case FieldType.Port:
                        if (!ushort.TryParse(parts[at++], NumberStyles.None, CultureInfo.InvariantCulture, out var number))
                        {
                            return false;
                        }

                        values[i] = FieldValue.Of(number);
                        break;
                    case FieldType.Mark:
                        if (!parts[at].StartsWith("0x", StringComparison.Ordinal) || !uint.TryParse(parts[at++].AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var mark))
                        {
                            return false;
                        }

                        values[i] = FieldValue.Of(mark);
                        break;
                    default:
                        // 'physdev:eth0' is the port of a bridge.
                        if (parts[at].Length is 0 or > 15 || parts[at].Contains(':', StringComparison.Ordinal))
                        {
                            return false;
                        }

                        values[i] = FieldValue.Of(parts[at++]);
                        break;
                }
            }

            return at == parts.Length;
        }

        // No packet of the three has the protocol None; what ICMP has in place of a port, a virtual packet has not (see IpSet.Asks).
        private static IpProtocol ProtocolOf(string name) => name switch
        {
            "tcp" => IpProtocol.Tcp,
            "udp" => IpProtocol.Udp,
            "sctp" => IpProtocol.Sctp,
            _ => IpProtocol.None,
        };
    }
}
