using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Node;

/// <summary>A rule that says which routing table packets are looked up in (ip-rule(8)); asked in the order of their priorities.</summary>
public sealed record PolicyRule
{
    /// <summary>Its place: lower is asked first.</summary>
    public required uint Priority { get; init; }

    /// <summary>Whether it is for IPv6 packets.</summary>
    public bool IsIPv6 { get; init; }

    /// <summary>Whether it is for the packets that do not meet its conditions.</summary>
    public bool Not { get; init; }

    /// <summary>The sources it is for; null for all.</summary>
    public IpNetwork? From { get; init; }

    /// <summary>The destinations it is for; null for all.</summary>
    public IpNetwork? To { get; init; }

    /// <summary>The interface its packets came in by; null for any.</summary>
    public string? InInterface { get; init; }

    /// <summary>The interface a socket is bound to; null for any.</summary>
    public string? OutInterface { get; init; }

    /// <summary>The mark of its packets after masking; null for any.</summary>
    public uint? Mark { get; init; }

    /// <summary>The bits of the mark that are looked at.</summary>
    public uint MarkMask { get; init; } = uint.MaxValue;

    /// <summary>What it does: <c>lookup</c>, <c>unreachable</c>, <c>blackhole</c>, <c>prohibit</c>, <c>goto</c>, …</summary>
    public required string Action { get; init; }

    /// <summary>The table looked up, by name or number; null for other actions.</summary>
    public string? Table { get; init; }

    /// <summary>Routes of prefixes no longer than this are passed over (<c>suppress_prefixlength</c>); null without.</summary>
    public int? SuppressPrefixLength { get; init; }

    /// <summary>The conditions and options that TraceProbe does not know, as printed; empty when it is understood whole.</summary>
    public string Unknown { get; init; } = "";

    /// <summary>The rule as <c>ip rule</c> prints it.</summary>
    public required string Raw { get; init; }

    /// <summary>Whether it is one of those every Linux begins with: local, main, default.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public bool IsUsual => (Priority, Table) is (0, "local") or (32766, "main") or (32767, "default") && Action == "lookup"
        && this is { Not: false, From: null, To: null, InInterface: null, OutInterface: null, Mark: null, Unknown: "" };

    /// <summary>
    /// Reads what <c>ip rule</c> prints:
    /// <code>
    /// 0:	from all lookup local
    /// 100:	from 10.244.0.0/16 fwmark 0x200/0xf00 iif eth0 lookup 2004
    /// 32766:	from all lookup main
    /// </code>
    /// </summary>
    /// <param name="text">What it printed.</param>
    /// <param name="isIPv6">Whether of IPv6 (<c>ip -6 rule</c>).</param>
    /// <exception cref="FormatException">A line is none of it; the message names it.</exception>
    public static ImmutableArray<PolicyRule> Parse(string text, bool isIPv6)
    {
        ArgumentNullException.ThrowIfNull(text);
        var rules = ImmutableArray.CreateBuilder<PolicyRule>();
        var number = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            if (!line.IsWhiteSpace())
            {
                rules.Add(ParseLine(line.Trim().ToString(), number, isIPv6));
            }
        }

        return rules.ToImmutable();
    }

    private static PolicyRule ParseLine(string line, int number, bool isIPv6)
    {
        var words = line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        if (!words[0].EndsWith(':') || !uint.TryParse(words[0].AsSpan(0, words[0].Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var priority))
        {
            throw Malformed("begins with no priority");
        }

        var rule = new PolicyRule { Priority = priority, IsIPv6 = isIPv6, Action = "", Raw = line };
        var unknown = new List<string>();
        for (var i = 1; i < words.Length; i++)
        {
            switch (words[i])
            {
                case "not":
                    rule = rule with { Not = true };
                    break;
                case "from":
                    rule = rule with { From = Prefix(Next()) };
                    break;
                case "to":
                    rule = rule with { To = Prefix(Next()) };
                    break;
                case "iif":
                    rule = rule with { InInterface = Next() };
                    break;
                case "oif":
                    rule = rule with { OutInterface = Next() };
                    break;
                case "[detached]": // of an interface that is gone: it is never met
                    unknown.Add(words[i]);
                    break;
                case "fwmark":
                    var mark = Next();
                    var slash = mark.IndexOf('/', StringComparison.Ordinal);
                    rule = rule with { Mark = Hex(slash < 0 ? mark : mark[..slash]), MarkMask = slash < 0 ? uint.MaxValue : Hex(mark[(slash + 1)..]) };
                    break;
                case "lookup" or "table":
                    rule = rule with { Action = "lookup", Table = Next() };
                    break;
                case "suppress_prefixlength":
                    rule = rule with
                    {
                        SuppressPrefixLength = int.TryParse(Next(), NumberStyles.None, CultureInfo.InvariantCulture, out var length) ? length : throw Malformed($"has the prefix length '{words[i]}'"),
                    };
                    break;
                case "unreachable" or "blackhole" or "prohibit" or "nop":
                    rule = rule with { Action = words[i] };
                    break;
                case "goto":
                    rule = rule with { Action = "goto", Table = Next() };
                    break;
                case "proto":
                    _ = Next(); // who made it
                    break;
                default:
                    unknown.Add(words[i]);
                    break;
            }

            string Next() => i + 1 < words.Length ? words[++i] : throw Malformed($"ends after '{words[i]}'");
        }

        return rule.Action.Length == 0 ? throw Malformed("does nothing") : rule with { Unknown = string.Join(' ', unknown) };

        IpNetwork? Prefix(string word) => word is "all" or "default" ? null : IpNetwork.TryParse(word, out var prefix) ? prefix : throw Malformed($"has the prefix '{word}'");

        uint Hex(string word) => uint.TryParse(word.StartsWith("0x", StringComparison.Ordinal) ? word.AsSpan(2) : word, word.StartsWith("0x", StringComparison.Ordinal) ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture, out var value)
            ? value : throw Malformed($"has the mark '{word}'");

        FormatException Malformed(string why) => new(string.Create(CultureInfo.InvariantCulture, $"line {number} {why}: '{line}'."));
    }
}
