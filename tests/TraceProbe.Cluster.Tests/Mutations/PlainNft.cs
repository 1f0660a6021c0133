using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;

namespace TraceProbe.Cluster.Tests.Mutations;

/// <summary>
/// What nftables does with a packet of IPv4, as plainly as can be written: the objects of <c>nft -j list table ip kube-proxy</c>, each rule tried in order,
/// each element of a set looked at, every fall of the dice. Like <see cref="PlainIptables"/> it shares no code with what it is to judge, and what it does not
/// understand is an error.
/// </summary>
internal sealed class PlainNft
{
    private readonly Dictionary<string, List<(string Text, JsonArray Statements)>> _chains = new(StringComparer.Ordinal);
    private readonly List<(string Name, string Hook, int Priority, bool Translates)> _bases = [];
    private readonly Dictionary<string, JsonArray> _sets = new(StringComparer.Ordinal);
    private readonly HashSet<string> _dynamic = new(StringComparer.Ordinal);
    private readonly HashSet<string> _own;

    public PlainNft(IEnumerable<string> items, IEnumerable<string> ownAddresses)
    {
        _own = [.. ownAddresses];
        foreach (var text in items)
        {
            var (kind, value) = JsonNode.Parse(text)!.AsObject().First();
            switch (kind)
            {
                case "chain":
                    _chains.Add((string)value!["name"]!, []);
                    if (value["hook"] is { } hook)
                    {
                        _bases.Add(((string)value["name"]!, (string)hook!, (int)value["prio"]!, (string)value["type"]! == "nat"));
                    }

                    break;
                case "set" or "map":
                    _sets.Add((string)value!["name"]!, value["elem"]?.AsArray() ?? []);
                    if (value["flags"] is not null)
                    {
                        _dynamic.Add((string)value["name"]!);
                    }

                    break;
                case "rule":
                    _chains[(string)value!["chain"]!].Add((text, value["expr"]!.AsArray()));
                    break;
            }
        }

        _bases.Sort((a, b) => a.Priority.CompareTo(b.Priority));
    }

    /// <summary>How it ends, with the probability of each end; and the chains, rules and elements that it met on the way.</summary>
    public Dictionary<string, double> Ends(PlainPacket packet, HashSet<string>? chains = null, HashSet<string>? rules = null)
    {
        var ends = new Dictionary<string, double>(StringComparer.Ordinal);
        var dice = new List<(int Fallen, int Sides)>();
        while (true)
        {
            var run = new Run(this, packet, dice, chains, rules);
            var end = run.End();
            ends[end] = ends.GetValueOrDefault(end) + dice.Aggregate(1.0, (p, d) => p / d.Sides);

            // The next fall of the dice: the last that has a side left.
            while (dice.Count > 0 && dice[^1].Fallen + 1 == dice[^1].Sides)
            {
                dice.RemoveAt(dice.Count - 1);
            }

            if (dice.Count == 0)
            {
                return ends;
            }

            dice[^1] = (dice[^1].Fallen + 1, dice[^1].Sides);
        }
    }

    /// <summary>An element's key as text: <c>10.96.0.1 . tcp . 443</c>.</summary>
    public static string KeyOf(JsonNode element) => element switch
    {
        JsonObject o when o["elem"] is { } noted => KeyOf(noted["val"]!),
        JsonObject o when o["concat"] is { } parts => string.Join(" . ", parts.AsArray().Select(p => p!.ToString())),
        JsonObject o when o["prefix"] is { } prefix => $"{prefix["addr"]}/{prefix["len"]}",
        JsonValue value => value.ToString(),
        _ => throw new NotSupportedException(element.ToJsonString()),
    };

    private sealed class Run(PlainNft table, PlainPacket packet, List<(int Fallen, int Sides)> dice, HashSet<string>? chains, HashSet<string>? rules)
    {
        private string _destination = packet.Destination;
        private int _port = packet.Port;
        private uint _mark;
        private bool _translated;
        private bool _masqueraded;
        private int _thrown;

        private bool IsOwn(string address) => table._own.Contains(address) || address.StartsWith("127.", StringComparison.Ordinal);

        public string End()
        {
            var fate = packet.FromNode
                ? Hook("output") ?? Hook("postrouting") ?? (IsOwn(_destination) ? Hook("prerouting", withoutNat: true) ?? Hook("input", withoutNat: true) : null)
                : Hook("prerouting") ?? (IsOwn(_destination) ? Hook("input") : Hook("forward") ?? Hook("postrouting"));
            return fate ?? (!_translated ? "as it is" : $"{_destination}:{_port}{(_masqueraded ? " masqueraded" : "")}");
        }

        private string? Hook(string hook, bool withoutNat = false)
        {
            foreach (var (name, _, _, translates) in table._bases.Where(b => b.Hook == hook))
            {
                if (translates && (withoutNat || (hook is "prerouting" or "output" ? _translated : _masqueraded)))
                {
                    continue;
                }

                if (Chain(name) is ("dropped" or "rejected") and var end)
                {
                    return end;
                }
            }

            return null;
        }

        // Null when the chain came to its end or returned.
        private string? Chain(string name)
        {
            chains?.Add(name);
            foreach (var (text, statements) in table._chains[name])
            {
                if (Statements(text, statements, out var verdict) && verdict is not null)
                {
                    return verdict == "return" ? null : verdict;
                }
            }

            return null;
        }

        // True with the verdict when one was come to.
        private bool Statements(string rule, JsonArray statements, out string? verdict)
        {
            verdict = null;
            var isGoto = false;
            foreach (var statement in statements)
            {
                var (kind, value) = statement!.AsObject().First();
                switch (kind)
                {
                    case "match":
                        if (!Holds(value!))
                        {
                            return false;
                        }

                        continue;
                    case "counter":
                        continue;
                }

                rules?.Add(rule);
                switch (kind)
                {
                    case "set":
                        continue;
                    case "mangle":
                        var change = value!["value"]!.AsObject().First();
                        var bits = (uint)change.Value!.AsArray()[1]!;
                        _mark = change.Key == "|" ? _mark | bits : _mark ^ bits;
                        continue;
                    case "masquerade":
                        _masqueraded = true;
                        verdict = "accepted";
                        return true;
                    case "dnat":
                        if (Translation(value!) is not { } to)
                        {
                            return false;
                        }

                        (_destination, _port) = to;
                        _translated = true;
                        verdict = "accepted";
                        return true;
                    case "vmap":
                        if (Element(value!["key"]!, value["data"]!) is not { } chosen)
                        {
                            return false;
                        }

                        (kind, value) = chosen.AsObject().First();
                        goto default;
                    default:
                        verdict = kind switch
                        {
                            "accept" => "accepted",
                            "drop" => "dropped",
                            "reject" => "rejected",
                            "return" => "return",
                            "jump" or "goto" => Chain((string)value!["target"]!),
                            _ => throw new NotSupportedException($"'{kind}' in {rule}"),
                        };
                        isGoto = kind == "goto";
                        break;
                }

                break;
            }

            // After a goto the chain is not come back to.
            verdict ??= isGoto ? "return" : null;
            return true;
        }

        private (string, int)? Translation(JsonNode dnat)
        {
            if (dnat["addr"] is JsonObject addr && addr["map"] is { } map)
            {
                var parts = Element(map["key"]!, map["data"]!)?["concat"]!.AsArray();
                return parts is null ? null : ((string)parts[0]!, (int)parts[1]!);
            }

            return ((string)dnat["addr"]!, (int)dnat["port"]!);
        }

        private JsonNode? Element(JsonNode key, JsonNode data)
        {
            var wanted = Value(key);
            var (name, elements) = data is JsonValue named ? ((string)named!, table._sets[((string)named!)[1..]]) : ("", data["set"]!.AsArray());
            foreach (var pair in elements)
            {
                if (KeyOf(pair!.AsArray()[0]!) == wanted)
                {
                    rules?.Add($"{name} {wanted}");
                    return pair.AsArray()[1];
                }
            }

            return null;
        }

        private bool Holds(JsonNode match)
        {
            var (left, right, not) = (match["left"]!, match["right"]!, (string)match["op"]! == "!=");
            if (right is JsonValue text && text.GetValueKind() == System.Text.Json.JsonValueKind.String && (string)text! is ['@', .. var set])
            {
                var key = Value(left);
                var held = table._dynamic.Contains(set) ? packet.SeenIn == set : table._sets[set].Any(e => KeyOf(e!) == key);
                if (held)
                {
                    rules?.Add($"@{set} {key}");
                }

                return held != not;
            }

            var value = Value(left);
            return (right is JsonObject o && o["set"] is { } any ? any.AsArray().Any(e => Is(value, e!)) : Is(value, right)) != not;
        }

        private static bool Is(string value, JsonNode right)
        {
            if (right is JsonObject o && o["prefix"] is { } prefix)
            {
                var (network, own, bits) = (IPAddress.Parse((string)prefix["addr"]!).GetAddressBytes(), IPAddress.Parse(value).GetAddressBytes(), (int)prefix["len"]!);
                return network.Length == own.Length && Enumerable.Range(0, bits).All(i => ((own[i / 8] ^ network[i / 8]) & (0x80 >> (i % 8))) == 0);
            }

            return value == KeyOf(right);
        }

        private string Value(JsonNode expression)
        {
            var (kind, value) = expression.AsObject().First();
            switch (kind, (string?)(value as JsonObject)?["key"] ?? (string?)(value as JsonObject)?["field"])
            {
                case ("concat", _):
                    return string.Join(" . ", value!.AsArray().Select(e => Value(e!)));
                case ("payload", "saddr"):
                    return packet.Source;
                case ("payload", "daddr"):
                    return _destination;
                case ("payload", "dport"):
                    return _port.ToString(CultureInfo.InvariantCulture);
                case ("meta", "l4proto"):
                    return packet.Protocol;
                case ("&", _):
                    return (_mark & (uint)value!.AsArray()[1]!).ToString(CultureInfo.InvariantCulture);
                case ("ct", "state"):
                    return "new";
                case ("ct", "status"):
                    return _translated ? "dnat" : "";
                case ("fib", _):
                    return IsOwn((string)value!["flags"]!.AsArray()[0]! == "saddr" ? packet.Source : _destination) ? "local" : "unicast";
                case ("numgen", _):
                    if (_thrown == dice.Count)
                    {
                        dice.Add((0, (int)value!["mod"]!));
                    }

                    return (dice[_thrown++].Fallen + (int)value!["offset"]!).ToString(CultureInfo.InvariantCulture);
                default:
                    throw new NotSupportedException(expression.ToJsonString());
            }
        }
    }
}
