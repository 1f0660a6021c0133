using System.Text;

namespace TraceProbe.Lab;

/// <summary>
/// Brings the rules of a node to what a writer wants, as kube-proxy does: <c>iptables-restore --noflush</c> with the chains that
/// are ours, rules of others untouched, chains nobody wants any more removed.
/// </summary>
internal sealed class Iptables
{
    private readonly string _netns;
    private readonly string _prefix;

    /// <param name="netns">The node's namespace.</param>
    /// <param name="mode">The mode, which tells in which of the kernel's two rule sets: x_tables for iptables-legacy, nf_tables for all others.</param>
    /// <param name="ipv6">Which family.</param>
    internal Iptables(string netns, ProxyMode mode, bool ipv6)
    {
        _netns = netns;
        _prefix = $"{(ipv6 ? "ip6tables" : "iptables")}-{(mode == ProxyMode.IptablesLegacy ? "legacy" : "nft")}";
    }

    /// <summary>The tools a mode needs.</summary>
    internal static IEnumerable<string> Tools(ProxyMode mode)
    {
        var backend = mode == ProxyMode.IptablesLegacy ? "legacy" : "nft";
        foreach (var family in (string[])["iptables", "ip6tables"])
        {
            yield return $"{family}-{backend}-save";
            yield return $"{family}-{backend}-restore";
        }
    }

    internal void Apply(IReadOnlyList<RuleTable> tables)
        => Command.Run(_netns, $"{_prefix}-restore", ["--noflush", "-w", "10"], Compose(tables, Save()));

    /// <summary>Empties every chain of every table, ours and others'; the chains themselves stay (<c>iptables -F</c>).</summary>
    internal void Flush()
    {
        var text = new StringBuilder();
        foreach (var line in Save().Split('\n'))
        {
            if (line.StartsWith('*') || line == "COMMIT")
            {
                text.Append(line).Append('\n');
            }
            else if (line.StartsWith(':'))
            {
                text.Append("-F ").Append(line.AsSpan(1, line.IndexOf(' ', StringComparison.Ordinal) - 1)).Append('\n');
            }
        }

        Command.Run(_netns, $"{_prefix}-restore", ["--noflush", "-w", "10"], text.ToString());
    }

    internal string Save() => Command.Run(_netns, $"{_prefix}-save", []);

    /// <summary>The text for <c>iptables-restore --noflush</c> that leads from what is saved to what is wanted.</summary>
    internal static string Compose(IReadOnlyList<RuleTable> wanted, string saved)
    {
        var present = ReadSaved(saved);
        var text = new StringBuilder();
        foreach (var table in wanted)
        {
            var (chains, rules) = present.TryGetValue(table.Name, out var found) ? found : ([], []);
            text.Append('*').Append(table.Name).Append('\n');

            // Declaring a chain makes it or empties it.
            var stale = chains.Where(c => c.StartsWith("KUBE-", StringComparison.Ordinal) && !table.Chains.Contains(c)).ToArray();
            foreach (var chain in table.Chains.Concat(stale))
            {
                text.Append(':').Append(chain).Append(" - [0:0]\n");
            }

            // Ours come first in the built-in chains, in their order; so the missing ones are inserted from the last to the first.
            var missing = table.Jumps.Where(j => !rules.Contains(j)).ToArray();
            for (var i = missing.Length - 1; i >= 0; i--)
            {
                text.Append("-I").Append(missing[i].AsSpan(2)).Append('\n');
            }

            foreach (var jump in rules.Where(r => IsOurJump(r) && !table.Jumps.Contains(r)))
            {
                text.Append("-D").Append(jump.AsSpan(2)).Append('\n');
            }

            foreach (var rule in table.Rules)
            {
                text.Append(rule).Append('\n');
            }

            foreach (var chain in stale)
            {
                text.Append("-X ").Append(chain).Append('\n');
            }

            text.Append("COMMIT\n");
        }

        return text.ToString();
    }

    private static bool IsOurJump(string rule)
    {
        var words = rule.Split(' ');
        return !words[1].StartsWith("KUBE-", StringComparison.Ordinal) && words[^1].StartsWith("KUBE-", StringComparison.Ordinal) && words[^2] == "-j";
    }

    private static Dictionary<string, (List<string> Chains, List<string> Rules)> ReadSaved(string saved)
    {
        var tables = new Dictionary<string, (List<string> Chains, List<string> Rules)>();
        var table = (Chains: new List<string>(), Rules: new List<string>());
        foreach (var line in saved.Split('\n'))
        {
            if (line.StartsWith('*'))
            {
                tables[line[1..]] = table = ([], []);
            }
            else if (line.StartsWith(':'))
            {
                table.Chains.Add(line[1..line.IndexOf(' ', StringComparison.Ordinal)]);
            }
            else if (line.StartsWith("-A ", StringComparison.Ordinal))
            {
                table.Rules.Add(line);
            }
        }

        return tables;
    }
}
