namespace TraceProbe.Lab.Tests;

/// <summary>A dump of rules made comparable: per table and chain, the chain's rules in their order.</summary>
internal static class SavedRules
{
    // kube-proxy walks a map of Services, so between Services the order in these is chance. Within one Service it is not.
    private static readonly string[] AnyOrder = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];

    internal static List<string> Normalise(string saved)
    {
        var table = "";
        var lines = new List<(string Key, string Text)>();
        var position = new Dictionary<string, int>();
        foreach (var line in saved.Split('\n'))
        {
            if (line.StartsWith('*'))
            {
                table = line[1..];
            }
            else if (line.StartsWith(':'))
            {
                var chain = line[1..line.IndexOf(' ')];
                if (chain.StartsWith("KUBE-"))
                {
                    lines.Add(($"{table} {chain} 0", $"{table} :{chain}"));
                }
            }
            else if (line.StartsWith("-A "))
            {
                var chain = line.Split(' ')[1];
                var place = table + chain;
                position[place] = position.GetValueOrDefault(place) + 1;
                // The rule that must be last stays last.
                var key = AnyOrder.Contains(chain) && !line.Contains("must be the last rule") ? $"1 {line}" : $"2 {position[place],6:D6}";
                lines.Add(($"{table} {chain} {key}", $"{table} {line}"));
            }
        }

        return [.. lines.OrderBy(l => l.Key, StringComparer.Ordinal).Select(l => l.Text)];
    }
}
