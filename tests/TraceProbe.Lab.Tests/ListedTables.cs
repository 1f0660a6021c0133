namespace TraceProbe.Lab.Tests;

/// <summary>A listing of nftables made comparable: a line for each property, element and rule, rules in their order.</summary>
internal static class ListedTables
{
    internal static List<string> Normalise(string listing, string family)
    {
        var lines = new List<string>();
        var (table, block, rule, elements) = ("", "", 0, false);
        foreach (var line in listing.Split('\n').Select(l => l.Trim()))
        {
            if (elements || line.StartsWith("elements = {"))
            {
                elements = !line.EndsWith('}');
                // No element of these tables has a comma within.
                var text = line.Replace("elements = {", "").TrimEnd('}');
                lines.AddRange(text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(e => $"{table} {block}: element {e}"));
            }
            else if (line.StartsWith("table "))
            {
                table = line.TrimEnd('{', ' ');
            }
            else if (line.Split(' ') is ["chain" or "set" or "map", _, "{"])
            {
                (block, rule) = (line.TrimEnd('{', ' '), 0);
                lines.Add($"{table} {block}");
            }
            else if (line == "}")
            {
                block = "";
            }
            else if (line.Length > 0)
            {
                lines.Add($"{table} {block}: {(block.StartsWith("chain") ? $"{++rule} " : "")}{line}");
            }
        }

        return [.. lines.Where(l => l.StartsWith($"table {family} ")).Order(StringComparer.Ordinal)];
    }
}
