using System.Globalization;
using System.Text;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Writes what nft prints as JSON (libnftables-json(5)) the way <c>nft list ruleset</c> prints it as text, which is what people know and look for.
/// Counters are left without their numbers, so that a rule reads the same before and after. What has no known words is written as its JSON.
/// </summary>
/// <param name="text">Where to.</param>
/// <param name="family">The table's family, which decides what need not be said.</param>
internal sealed class NftText(StringBuilder text, string family)
{
    /// <summary>How the values that an expression is compared with are written.</summary>
    private enum Style
    {
        Plain,
        Mark,
        Hex,
        Quoted,
        Existence,
        Seconds,
    }

    /// <summary>Appends one statement of a rule.</summary>
    /// <param name="statement">The value of an object's only property, named by the kind of the statement.</param>
    public void Append(JsonTape.Value statement)
    {
        var kind = statement.Name;
        switch (kind)
        {
            case "match":
                AppendMatch(statement);
                break;
            case "accept" or "drop" or "return" or "continue" or "notrack":
                text.Append(kind);
                break;
            case "jump" or "goto":
                text.Append(kind).Append(' ');
                Add(statement["target"u8]);
                break;
            case "counter":
                text.Append(statement.IsString ? $"counter name \"{statement.Text}\"" : "counter");
                break;
            case "vmap":
                AppendLookup(statement, "vmap", Style.Plain);
                break;
            case "mangle":
                var key = statement["key"u8];
                AppendExpression(key);
                text.Append(" set ");
                AppendValue(statement["value"u8], StyleOf(key));
                break;
            case "dnat" or "snat" or "redirect" or "masquerade" or "tproxy":
                AppendNat(statement, kind);
                break;
            case "reject":
                AppendReject(statement);
                break;
            case "limit":
                AppendLimit(statement);
                break;
            case "quota":
                text.Append(statement.IsString ? $"quota name \"{statement.Text}\"" : $"quota {(statement["inv"u8].IsTrue ? "over " : "")}{statement["val"u8].Text} {statement["val_unit"u8].Text}");
                break;
            case "ct count":
                text.Append("ct count ").Append(statement["inv"u8].IsTrue ? "over " : "");
                Add(statement["val"u8]);
                break;
            case "ct helper" or "ct timeout" or "ct expectation":
                text.Append(kind).Append(" set \"");
                Add(statement);
                text.Append('"');
                break;
            case "log":
                AppendLog(statement);
                break;
            case "set" or "map":
                Add(statement["op"u8]);
                text.Append(' ').Append(statement[kind == "set" ? "set"u8 : "map"u8].Text).Append(" { ");
                AppendValue(statement["elem"u8], StyleOf(statement["elem"u8]));
                foreach (var inner in statement["stmt"u8])
                {
                    text.Append(' ');
                    Append(inner.First);
                }

                if (kind == "map")
                {
                    text.Append(" : ");
                    AppendValue(statement["data"u8], StyleOf(statement["data"u8]));
                }

                text.Append(" }");
                break;
            case "dup" or "fwd":
                text.Append(kind).Append(" to ");
                AppendValue(statement["addr"u8], Style.Plain);
                if (statement["dev"u8].Exists)
                {
                    text.Append(statement["addr"u8].Exists ? " device \"" : "\"");
                    Add(statement["dev"u8]);
                    text.Append('"');
                }

                break;
            case "queue":
                text.Append("queue");
                AppendFlags(statement["flags"u8], " flags ");
                if (statement["num"u8].Exists)
                {
                    text.Append(" to ");
                    AppendValue(statement["num"u8], Style.Plain);
                }

                break;
            case "flow":
                text.Append("flow ");
                Add(statement["op"u8]);
                text.Append(' ');
                Add(statement["flowtable"u8]);
                break;
            case "synproxy":
                text.Append(statement.IsString ? $"synproxy name \"{statement.Text}\"" : "synproxy");
                foreach (var option in statement)
                {
                    text.Append(' ').Append(option.Name == "flags" ? "" : $"{option.Name} ").Append(option.Text);
                }

                break;
            case "xt":
                text.Append("xt ");
                Add(statement["type"u8]);
                text.Append(" \"");
                Add(statement["name"u8]);
                text.Append('"');
                break;
            default:
                text.Append(kind).Append(' ').Append(statement.Json);
                break;
        }
    }

    /// <summary>Appends an element of a set with what is noted beside it.</summary>
    private void AppendElement(JsonTape.Value element, JsonTape.Value key)
    {
        var noted = element["elem"u8];
        AppendValue(noted.Exists ? noted["val"u8] : element, key);
        foreach (var note in noted)
        {
            switch (note.Name)
            {
                case "comment":
                    text.Append(" comment \"");
                    Add(note);
                    text.Append('"');
                    break;
                case "timeout" or "expires":
                    text.Append(' ').Append(note.Name).Append(' ');
                    AppendSeconds(note);
                    break;
                case "counter":
                    text.Append(" counter");
                    break;
            }
        }
    }

    // nft prints == only where leaving it out would mean something else.
    private void AppendMatch(JsonTape.Value match)
    {
        var left = match["left"u8];
        var right = match["right"u8];
        var op = match["op"u8].Text;
        if (left["&"u8] is { Exists: true } masked && IsTcpFlags(masked.First))
        {
            // tcp flags syn / fin,syn,rst,ack
            AppendExpression(masked.First);
            text.Append(op == "!=" ? " != " : " ");
            AppendValue(right, Style.Plain);
            text.Append(" / ");
            AppendValue(Second(masked), Style.Plain);
            return;
        }

        AppendExpression(left);
        var isBits = IsTcpFlags(left) || left["ct"u8]["key"u8] is { Exists: true } key && (key.Is("state"u8) || key.Is("status"u8));
        if (op is not ("in" or "==") || op == "==" && (IsBinary(left) || isBits && right.IsString))
        {
            text.Append(' ').Append(op);
        }

        text.Append(' ');
        AppendValue(right, left);
    }

    private static bool IsTcpFlags(JsonTape.Value expression) => expression["payload"u8] is { Exists: true } payload && payload["protocol"u8].Is("tcp"u8) && payload["field"u8].Is("flags"u8);

    private static bool IsBinary(JsonTape.Value expression) => expression.IsObject && expression.First.Name is "&" or "|" or "^" or "<<" or ">>";

    private static JsonTape.Value Second(JsonTape.Value list)
    {
        var index = 0;
        foreach (var value in list)
        {
            if (index++ == 1)
            {
                return value;
            }
        }

        return default;
    }

    private void AppendLookup(JsonTape.Value lookup, string word, Style data)
    {
        var key = lookup["key"u8];
        AppendExpression(key);
        text.Append(' ').Append(word).Append(' ');
        var elements = lookup["data"u8]["set"u8];
        if (!elements.Exists)
        {
            Add(lookup["data"u8]);
            return;
        }

        var separator = "{ ";
        foreach (var element in elements)
        {
            text.Append(separator);
            AppendElement(element.First, key);
            text.Append(" : ");
            var value = Second(element);
            if (value.IsObject && value.First.Name is "accept" or "drop" or "return" or "continue" or "jump" or "goto")
            {
                Append(value.First);
            }
            else
            {
                AppendValue(value, data);
            }

            separator = ", ";
        }

        text.Append(" }");
    }

    private void AppendNat(JsonTape.Value nat, string kind)
    {
        text.Append(kind);
        var address = nat["addr"u8];
        var port = nat["port"u8];
        if (nat["family"u8].Exists)
        {
            text.Append(' ');
            Add(nat["family"u8]);
        }

        if (nat["type_flags"u8].Is("prefix"u8))
        {
            text.Append(" prefix");
        }

        if (address.Exists || port.Exists)
        {
            text.Append(" to ");
            var bracket = port.Exists && address.IsString && address.Text.Contains(':');
            text.Append(bracket ? "[" : "");
            AppendValue(address, Style.Plain);
            text.Append(bracket ? "]" : "");
            if (port.Exists)
            {
                text.Append(':');
                AppendValue(port, Style.Plain);
            }
        }

        if (!nat["flags"u8].Is("netmap"u8))
        {
            AppendFlags(nat["flags"u8], " ");
        }
    }

    private void AppendFlags(JsonTape.Value flags, string before)
    {
        if (flags.Exists)
        {
            text.Append(before);
            AppendValue(flags, Style.Plain);
        }
    }

    private void AppendReject(JsonTape.Value reject)
    {
        text.Append("reject");
        var type = reject["type"u8].Text;
        var usual = family switch
        {
            "ip" => "icmp",
            "ip6" => "icmpv6",
            _ => "icmpx",
        };
        if (type.Length > 0 && !(type == usual && reject["expr"u8].Is("port-unreachable"u8)))
        {
            text.Append(" with ").Append(type);
            if (reject["expr"u8].Exists)
            {
                text.Append(' ');
                Add(reject["expr"u8]);
            }
        }
    }

    private void AppendLimit(JsonTape.Value limit)
    {
        if (limit.IsString)
        {
            text.Append("limit name \"");
            Add(limit);
            text.Append('"');
            return;
        }

        var unit = limit["rate_unit"u8];
        text.Append("limit rate ").Append(limit["inv"u8].IsTrue ? "over " : "");
        Add(limit["rate"u8]);
        if (unit.Exists && !unit.Is("packets"u8))
        {
            text.Append(' ');
            Add(unit);
        }

        text.Append('/');
        Add(limit["per"u8]);
        var burst = limit["burst"u8];
        var usual = unit.Exists && !unit.Is("packets"u8) ? 0 : 5;
        if (burst.TryNumber(out var number) && number != usual)
        {
            text.Append(" burst ").Append(number).Append(' ').Append(limit["burst_unit"u8].Exists ? limit["burst_unit"u8].Text : "packets");
        }
    }

    private void AppendLog(JsonTape.Value log)
    {
        text.Append("log");
        if (log["prefix"u8].Exists)
        {
            text.Append(" prefix \"");
            Add(log["prefix"u8]);
            text.Append('"');
        }

        foreach (var option in new[] { "group", "snaplen", "queue-threshold", "level" })
        {
            if (log[Encoding.UTF8.GetBytes(option)] is { Exists: true } value)
            {
                text.Append(' ').Append(option).Append(' ');
                Add(value);
            }
        }

        AppendFlags(log["flags"u8], " flags ");
    }

    private void AppendExpression(JsonTape.Value expression)
    {
        if (!expression.IsObject)
        {
            AppendValue(expression, Style.Plain);
            return;
        }

        var it = expression.First;
        switch (it.Name)
        {
            case "payload" when it["base"u8].Exists:
                text.Append('@');
                Add(it["base"u8]);
                text.Append(',');
                Add(it["offset"u8]);
                text.Append(',');
                Add(it["len"u8]);
                break;
            case "payload":
                Add(it["protocol"u8]);
                text.Append(' ');
                Add(it["field"u8]);
                break;
            case "meta":
                var key = it["key"u8].Text;
                text.Append(key is "iif" or "oif" or "iifname" or "oifname" or "iifgroup" or "oifgroup" ? "" : "meta ").Append(key);
                break;
            case "ct":
                text.Append("ct ");
                if (it["dir"u8].Exists)
                {
                    Add(it["dir"u8]);
                    text.Append(' ');
                }

                // In a table of one family the JSON leaves the family out, the text does not.
                text.Append(it["key"u8].Text is "saddr" or "daddr" ? $"{family} " : "").Append(it["key"u8].Text);
                break;
            case "numgen":
                text.Append("numgen ");
                Add(it["mode"u8]);
                text.Append(" mod ");
                Add(it["mod"u8]);
                AppendOffset(it);
                break;
            case "jhash":
                text.Append("jhash ");
                AppendExpression(it["expr"u8]);
                text.Append(" mod ");
                Add(it["mod"u8]);
                if (it["seed"u8].TryNumber(out var seed))
                {
                    text.Append(CultureInfo.InvariantCulture, $" seed 0x{seed:x}");
                }

                AppendOffset(it);
                break;
            case "symhash":
                text.Append("symhash mod ");
                Add(it["mod"u8]);
                AppendOffset(it);
                break;
            case "fib":
                var separator = "fib ";
                if (it["flags"u8].IsArray)
                {
                    foreach (var flag in it["flags"u8])
                    {
                        text.Append(separator);
                        Add(flag);
                        separator = " . ";
                    }
                }
                else
                {
                    text.Append("fib ");
                    Add(it["flags"u8]);
                }

                text.Append(' ');
                Add(it["result"u8]);
                break;
            case "concat":
                separator = "";
                foreach (var part in it)
                {
                    text.Append(separator);
                    AppendExpression(part);
                    separator = " . ";
                }

                break;
            case "&" or "|" or "^" or "<<" or ">>":
                separator = "";
                var style = StyleOf(expression);
                foreach (var part in it)
                {
                    text.Append(separator);
                    AppendValue(part, style);
                    separator = $" {it.Name} ";
                }

                break;
            case "map":
                AppendLookup(it, "map", Style.Plain);
                break;
            case "exthdr":
                text.Append(it["field"u8].Exists ? $"{it["name"u8].Text} {it["field"u8].Text}" : $"exthdr {it["name"u8].Text}");
                break;
            case "tcp option" or "ip option" or "sctp chunk" or "dccp option":
                text.Append(it.Name).Append(' ');
                Add(it["name"u8]);
                if (it["field"u8].Exists)
                {
                    text.Append(' ');
                    Add(it["field"u8]);
                }

                break;
            case "rt" or "socket" or "osf":
                text.Append(it.Name).Append(' ').Append(it["family"u8].Exists ? $"{it["family"u8].Text} " : "").Append(it["key"u8].Text);
                break;
            default:
                text.Append(expression.Json);
                break;
        }
    }

    private void AppendOffset(JsonTape.Value generator)
    {
        if (generator["offset"u8].TryNumber(out var offset) && offset != 0)
        {
            text.Append(" offset ").Append(offset);
        }
    }

    private static Style StyleOf(JsonTape.Value expression)
    {
        if (!expression.IsObject)
        {
            return Style.Plain;
        }

        var it = expression.First;
        switch (it.Name)
        {
            case "payload":
                return it["base"u8].Exists ? Style.Hex : Style.Plain;
            case "meta":
                return it["key"u8].Text switch
                {
                    "mark" => Style.Mark,
                    "iif" or "oif" or "iifname" or "oifname" or "iifkind" or "oifkind" or "ibrname" or "obrname" or "hour" or "day" or "time" => Style.Quoted,
                    _ => Style.Plain,
                };
            case "ct":
                return it["key"u8].Text switch
                {
                    "mark" => Style.Mark,
                    "helper" => Style.Quoted,
                    "expiration" => Style.Seconds,
                    _ => Style.Plain,
                };
            case "fib":
                return it["result"u8].Is("oifname"u8) ? Style.Quoted : Style.Existence;
            case "exthdr" or "tcp option" or "ip option" or "sctp chunk":
                return it["field"u8].Exists ? Style.Plain : Style.Existence;
            case "&" or "|" or "^" or "<<" or ">>":
                return StyleOf(it.First);
            case "elem":
                return StyleOf(it["val"u8]);
            default:
                return Style.Plain;
        }
    }

    // A value beside the expression that it is compared with; of a concatenation each part has its own style.
    private void AppendValue(JsonTape.Value value, JsonTape.Value key)
    {
        if (value["set"u8] is { IsArray: true } set)
        {
            var separator = "{ ";
            foreach (var element in set)
            {
                text.Append(separator);
                AppendElement(element, key);
                separator = ", ";
            }

            text.Append(" }");
        }
        else if (key["concat"u8] is { IsArray: true } keys && value["concat"u8] is { IsArray: true } values)
        {
            var part = keys.GetEnumerator();
            var separator = "";
            foreach (var one in values)
            {
                text.Append(separator);
                AppendValue(one, part.MoveNext() ? StyleOf(part.Current) : Style.Plain);
                separator = " . ";
            }
        }
        else
        {
            AppendValue(value, StyleOf(key));
        }
    }

    private void AppendValue(JsonTape.Value value, Style style)
    {
        if (!value.Exists)
        {
            return;
        }

        if (value.IsArray)
        {
            var separator = "";
            foreach (var flag in value)
            {
                text.Append(separator);
                AppendValue(flag, style);
                separator = ",";
            }
        }
        else if (value.IsTrue || value.IsFalse)
        {
            text.Append(style == Style.Existence ? value.IsTrue ? "exists" : "missing" : value.IsTrue ? "1" : "0");
        }
        else if (!value.IsObject)
        {
            AppendScalar(value, style);
        }
        else
        {
            var it = value.First;
            switch (it.Name)
            {
                case "prefix":
                    AppendValue(it["addr"u8], style);
                    text.Append('/');
                    Add(it["len"u8]);
                    break;
                case "range":
                    AppendValue(it.First, style);
                    text.Append('-');
                    AppendValue(Second(it), style);
                    break;
                case "concat" when it.First is { IsObject: false }:
                    var separator = "";
                    foreach (var part in it)
                    {
                        text.Append(separator);
                        AppendValue(part, style);
                        separator = " . ";
                    }

                    break;
                case "map":
                    AppendLookup(it, "map", style);
                    break;
                case "elem":
                    AppendExpression(it["val"u8]);
                    if (it["timeout"u8].Exists)
                    {
                        text.Append(" timeout ");
                        AppendSeconds(it["timeout"u8]);
                    }

                    break;
                default:
                    AppendExpression(value);
                    break;
            }
        }
    }

    private void AppendScalar(JsonTape.Value value, Style style)
    {
        if (style is Style.Mark or Style.Hex && value.TryNumber(out var number))
        {
            text.Append("0x").Append(number.ToString(style == Style.Mark ? "x8" : "x", CultureInfo.InvariantCulture));
            return;
        }

        if (style == Style.Seconds)
        {
            AppendSeconds(value);
            return;
        }

        Span<char> scratch = stackalloc char[64];
        var chars = value.Chars(scratch);
        // An interface that is gone is its number, without quotes.
        if (style == Style.Quoted && value.IsString && chars is not [>= '0' and <= '9', ..] && chars is not ['@', ..])
        {
            text.Append('"').Append(chars).Append('"');
        }
        else if (style == Style.Quoted && value.IsString && chars.ContainsAny(" :".AsSpan()))
        {
            text.Append('"').Append(chars).Append('"');
        }
        else
        {
            text.Append(chars);
        }
    }

    // The words of a string or number, without making one more of them.
    private void Add(JsonTape.Value value)
    {
        Span<char> scratch = stackalloc char[128];
        text.Append(value.Chars(scratch));
    }

    private void AppendSeconds(JsonTape.Value value)
    {
        if (!value.TryNumber(out var seconds) || seconds == 0)
        {
            Add(value);
            return;
        }

        foreach (var (unit, length) in new[] { ("d", 86400L), ("h", 3600L), ("m", 60L), ("s", 1L) })
        {
            if (seconds >= length)
            {
                text.Append(seconds / length).Append(unit);
                seconds %= length;
            }
        }
    }
}
