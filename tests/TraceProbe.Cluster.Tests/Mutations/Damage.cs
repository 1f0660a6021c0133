using System.Globalization;

namespace TraceProbe.Cluster.Tests.Mutations;

/// <summary>One thing done to a dump.</summary>
internal sealed class Damage
{
    private readonly string _what;
    private readonly HashSet<string>? _rules;
    private readonly HashSet<string>? _chains;

    public Damage(string what, List<string> lines, IEnumerable<string> classes, HashSet<string>? rules, HashSet<string>? chains)
    {
        _what = what;
        Lines = lines;
        Classes = [.. classes];
        _rules = rules;
        _chains = chains;
    }

    /// <summary>The damaged dump.</summary>
    public List<string> Lines { get; }

    /// <summary>The classes that it may be told as.</summary>
    public HashSet<string> Classes { get; }

    /// <summary>Whether the packet came by what was damaged. Others meet the same rules as before.</summary>
    public bool Meets(MutationTests.Healthy packet) => _rules is not null && _rules.Overlaps(packet.Rules) || _chains is not null && _chains.Overlaps(packet.Chains);

    public override string ToString() => _what;

    /// <summary>Does something at random.</summary>
    public static Damage At(List<string> lines, Random random)
    {
        while (true)
        {
            var kind = random.Next(100);
            var at = random.Next(lines.Count);
            if (kind == 0)
            {
                return FlushTable(lines, random.Next(3) switch { 0 => "nat", 1 => "filter", _ => "mangle" });
            }

            if (!lines[at].StartsWith("-A ", StringComparison.Ordinal))
            {
                continue;
            }

            var table = TableOf(lines, at);
            var chain = lines[at].Split(' ')[1];
            switch (kind)
            {
                case < 45:
                    return new Damage($"without {table} {lines[at]}", Without(lines, at), ClassesOf(table, lines[at]), [lines[at]], null);
                case < 55:
                    return DropChain(lines, table, chain);
                case < 75 when lines[at].Contains("-j DNAT", StringComparison.Ordinal):
                    return SwapBackend(lines, at, random);
                case >= 75:
                    return Insert(lines, at, table, chain, random);
            }
        }
    }

    private static List<string> Without(List<string> lines, int at) => [.. lines[..at], .. lines[(at + 1)..]];

    private static string TableOf(List<string> lines, int at) => lines[lines.FindLastIndex(at, l => l.StartsWith('*'))][1..];

    private static Damage FlushTable(List<string> lines, string table)
    {
        var here = false;
        var left = new List<string>();
        var gone = new HashSet<string>(StringComparer.Ordinal);
        foreach (var line in lines)
        {
            here = line.StartsWith('*') ? line[1..] == table : here;
            if (here && line.StartsWith("-A ", StringComparison.Ordinal))
            {
                gone.Add(line);
            }
            else
            {
                left.Add(line);
            }
        }

        return new Damage($"table {table} flushed", left, table == "nat" ? ["proxy-rules-missing"] : ["service-rule-missing", "proxy-rules-missing"], gone, null);
    }

    // Its rules, itself, and what leads there: else the kernel would not let it go.
    private static Damage DropChain(List<string> lines, string table, string chain)
    {
        var here = false;
        var left = new List<string>();
        var gone = new HashSet<string>(StringComparer.Ordinal);
        var classes = new HashSet<string>(StringComparer.Ordinal);
        var isBase = chain is "PREROUTING" or "INPUT" or "FORWARD" or "OUTPUT" or "POSTROUTING";
        foreach (var line in lines)
        {
            here = line.StartsWith('*') ? line[1..] == table : here;
            if (here && line.StartsWith($":{chain} ", StringComparison.Ordinal) && !isBase)
            {
                continue;
            }

            if (here && (line.StartsWith($"-A {chain} ", StringComparison.Ordinal) || line.EndsWith($"-j {chain}", StringComparison.Ordinal)))
            {
                gone.Add(line);
                classes.UnionWith(ClassesOf(table, line));
                continue;
            }

            left.Add(line);
        }

        // With all that led to node ports gone, it is told as that.
        if (chain is "KUBE-SERVICES" or "KUBE-NODEPORTS")
        {
            classes.Add("proxy-rules-missing");
        }

        return new Damage($"without chain {table} {chain}", left, classes, gone, null);
    }

    private static Damage SwapBackend(List<string> lines, int at, Random random)
    {
        var targets = lines.Where(l => l.Contains("-j DNAT", StringComparison.Ordinal)).ToList();
        var target = random.Next(2) == 0 ? "10.244.77.7:8080" : targets[random.Next(targets.Count)].Split(' ')[^1];
        var to = lines[at].LastIndexOf(' ') + 1;
        var swapped = lines[at][..to] + target;
        var changed = new List<string>(lines) { [at] = swapped };
        // Another endpoint's address may be one that comes from here itself, and then lacks its masquerading; or be counted twice.
        return new Damage($"{swapped} in place of {lines[at][to..]}", changed, ["stale-endpoint-rule", "endpoint-rule-missing", "masquerade-missing", "masquerade-unexpected"], [lines[at]], null);
    }

    private static Damage Insert(List<string> lines, int at, string table, string chain, Random random)
    {
        var verdict = random.Next(2) == 0 ? "DROP" : "ACCEPT";
        var destinations = lines.Where(l => l.StartsWith("-A KUBE-SERVICES -d ", StringComparison.Ordinal)).ToList();
        var match = random.Next(4) switch
        {
            0 => "-p tcp ",
            1 => "-s 10.244.0.0/16 ",
            2 => $"-d {destinations[random.Next(destinations.Count)].Split(' ')[3]} ",
            _ => "",
        };
        var rule = $"-A {chain} {match}-j {verdict}";
        // What is accepted before it is marked or translated stays as it is; behind the translation it lacks the masquerading.
        string[] classes = verdict == "DROP" ? ["dropped-by-rule"] : ["translation-shadowed", "masquerade-missing"];
        return new Damage(string.Create(CultureInfo.InvariantCulture, $"{table} {rule} before {lines[at]}"), [.. lines[..at], rule, .. lines[at..]], classes, null, [$"{table} {chain}"]);
    }

    // What its lack is, by where a rule stands and where it leads.
    private static string[] ClassesOf(string table, string rule)
    {
        var words = rule.Split(' ');
        var chain = words[1];
        var target = Array.IndexOf(words, "-j") is >= 0 and var j ? words[j + 1] : "";
        return (table, chain) switch
        {
            (_, "PREROUTING" or "OUTPUT" or "INPUT" or "FORWARD") => ["proxy-rules-missing"],
            ("nat", "POSTROUTING" or "KUBE-MARK-MASQ") => ["masquerade-missing"],
            ("nat", "KUBE-POSTROUTING") => target == "RETURN" ? ["masquerade-unexpected"] : ["masquerade-missing"],
            ("nat", _) when target == "KUBE-MARK-MASQ" => ["masquerade-missing"],
            ("nat", "KUBE-SERVICES") when target == "KUBE-NODEPORTS" => ["proxy-rules-missing"],
            ("nat", "KUBE-SERVICES" or "KUBE-NODEPORTS") => ["service-rule-missing"],
            ("nat", _) when chain.StartsWith("KUBE-FW-", StringComparison.Ordinal) => rule.Contains(" -s ", StringComparison.Ordinal) ? ["source-range-denied"] : ["service-rule-missing"],
            // Pods and the node go on to what is left for others: to too few endpoints, or to none.
            ("nat", _) when chain.StartsWith("KUBE-EXT-", StringComparison.Ordinal) || chain.StartsWith("KUBE-XLB-", StringComparison.Ordinal) => ["service-rule-missing", "endpoint-rule-missing"],
            ("nat", _) => ["endpoint-rule-missing"],
            _ => ["service-rule-missing"],
        };
    }
}
