using System.Text;
using System.Text.Json;

namespace TraceProbe.Lab;

/// <summary>
/// Brings a node's nftables table to what a writer wants, as kube-proxy does: in one transaction, so that a packet meets the old
/// table or the new one; tables of others untouched, and clients that stay with an endpoint remembered.
/// </summary>
/// <param name="netns">The node's namespace.</param>
internal sealed class Nftables(string netns)
{
    internal void Apply(NftTable table)
    {
        var listed = Command.Try(netns, "nft", ["--json", "--terse", "list", "table", .. table.Name.Split(' ')]);
        // nft fails alike for a table that is not there and for want of a privilege; the second shows when the table is written.
        var present = listed.ExitCode == 0 ? NftPresence.Read(listed.Output) : NftPresence.Nothing;

        // A kernel before 6.2 lets go of a chain a moment after the last element that led to it. So what is not wanted any more is
        // emptied with the rest, and deleted at a later time, when it is found empty; what still cannot go then has its next chance
        // after that (kubernetes, pkg/proxy/nftables/proxier.go, staleChains).
        if (Deletions(table, present) is { Length: > 0 } deletions)
        {
            Command.Try(netns, "nft", ["-f", "-"], deletions);
        }

        Command.Run(netns, "nft", ["-f", "-"], Compose(table, present));
    }

    /// <summary>Removes every table there is, ours and others' (<c>nft flush ruleset</c>).</summary>
    internal void Flush() => Command.Run(netns, "nft", ["flush", "ruleset"]);

    /// <summary>The commands for <c>nft -f</c> that lead from what is there to what is wanted.</summary>
    internal static string Compose(NftTable wanted, NftPresence present)
    {
        var text = new StringBuilder();
        if (present.Exists)
        {
            text.Append("flush table ").Append(wanted.Name).Append('\n');
        }

        var sets = wanted.Sets.ToDictionary(s => s.Name);
        foreach (var (kind, name, seconds) in present.Sets)
        {
            if (!sets.TryGetValue(name, out var set) || set.Kind != kind || set.Seconds != seconds)
            {
                text.Append("delete ").Append(kind).Append(' ').Append(wanted.Name).Append(' ').Append(name).Append('\n');
            }
            else if (seconds is null)
            {
                text.Append("flush ").Append(kind).Append(' ').Append(wanted.Name).Append(' ').Append(name).Append('\n');
            }
        }

        return text.Append(wanted).ToString();
    }

    private static string Deletions(NftTable wanted, NftPresence present)
    {
        var chains = wanted.Chains.Select(c => c.Name).ToHashSet();
        return string.Concat(present.Chains.Where(c => c.IsEmpty && !chains.Contains(c.Name)).Select(c => $"delete chain {wanted.Name} {c.Name}\n"));
    }
}

/// <summary>What of a table is in the kernel.</summary>
/// <param name="Exists">Whether the table is.</param>
/// <param name="Sets">Its sets and maps, with the seconds after which elements go; null where they stay.</param>
/// <param name="Chains">Its chains.</param>
internal sealed record NftPresence(bool Exists, IReadOnlyList<(string Kind, string Name, int? Seconds)> Sets, IReadOnlyList<(string Name, bool IsEmpty)> Chains)
{
    internal static NftPresence Nothing { get; } = new(false, [], []);

    /// <summary>Reads what <c>nft --json --terse list table</c> prints.</summary>
    internal static NftPresence Read(string json)
    {
        var sets = new List<(string, string, int?)>();
        var chains = new List<string>();
        var filled = new HashSet<string?>();
        using var listing = JsonDocument.Parse(json);
        foreach (var item in listing.RootElement.GetProperty("nftables").EnumerateArray().SelectMany(o => o.EnumerateObject()))
        {
            switch (item.Name)
            {
                case "set" or "map":
                    sets.Add((item.Name, item.Value.GetProperty("name").GetString()!, item.Value.TryGetProperty("timeout", out var seconds) ? seconds.GetInt32() : null));
                    break;
                case "chain":
                    chains.Add(item.Value.GetProperty("name").GetString()!);
                    break;
                case "rule":
                    filled.Add(item.Value.GetProperty("chain").GetString());
                    break;
            }
        }

        return new NftPresence(true, sets, [.. chains.Select(c => (c, !filled.Contains(c)))]);
    }
}
