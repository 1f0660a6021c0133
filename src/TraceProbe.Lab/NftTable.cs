using System.Text;

namespace TraceProbe.Lab;

/// <summary>
/// One nftables table in the words of <c>nft list table</c>, which <c>nft -f</c> takes too; so what is written can be compared with
/// what the kernel gives back.
/// </summary>
/// <param name="family"><c>ip</c> or <c>ip6</c>.</param>
/// <param name="name">The table's name.</param>
/// <param name="comment">What it says of itself.</param>
internal sealed class NftTable(string family, string name, string comment)
{
    private readonly List<NftSet> _sets = [];
    private readonly Dictionary<string, NftChain> _chains = [];

    /// <summary>Family and name, as commands take them: <c>ip kube-proxy</c>.</summary>
    internal string Name { get; } = $"{family} {name}";

    internal IEnumerable<NftSet> Sets => _sets;

    internal IEnumerable<NftChain> Chains => _chains.Values;

    internal NftSet Add(NftSet set)
    {
        _sets.Add(set);
        return set;
    }

    /// <summary>Adds a chain.</summary>
    /// <param name="chain">Its name, one that no other chain of the table has.</param>
    /// <param name="head">The hook of a base chain or the comment of another, as a listing has them; null when it has neither.</param>
    /// <param name="rules">Its first rules.</param>
    internal NftChain Chain(string chain, string? head, params ReadOnlySpan<string> rules)
    {
        var made = new NftChain(chain, head);
        made.Rules.AddRange(rules);
        _chains.Add(chain, made);
        return made;
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append("table ").Append(Name).Append(" {\n\tcomment \"").Append(comment).Append("\"\n");
        var blocks = new List<string>();
        blocks.AddRange(_sets.Select(s => s.ToString()));
        blocks.AddRange(_chains.Values.Select(c => c.ToString()));
        return text.AppendJoin('\n', blocks).Append("}\n").ToString();
    }
}

/// <summary>A set or a map of a table.</summary>
/// <param name="Kind"><c>set</c> or <c>map</c>.</param>
/// <param name="Name">Its name.</param>
/// <param name="Type">The type of its keys, and of a map's values behind a colon.</param>
/// <param name="Comment">What it says of itself; null for nothing.</param>
/// <param name="Seconds">After how long its elements, which rules add, go; null for a set whose elements are kube-proxy's own and stay.</param>
internal sealed record NftSet(string Kind, string Name, string Type, string? Comment, int? Seconds = null)
{
    private readonly List<string> _elements = [];
    private readonly HashSet<string> _known = [];

    /// <summary>Its elements: <c>10.96.0.1 . tcp . 443 : goto …</c>.</summary>
    internal IReadOnlyList<string> Elements => _elements;

    /// <summary>Adds an element, once: two ports of a Service share its address, and Services may share an endpoint.</summary>
    internal void Add(string element)
    {
        if (_known.Add(element))
        {
            _elements.Add(element);
        }
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append('\t').Append(Kind).Append(' ').Append(Name).Append(" {\n\t\ttype ").Append(Type).Append('\n');
        if (Seconds is { } seconds)
        {
            text.Append("\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout ").Append(Duration(seconds)).Append('\n');
        }

        if (Comment is not null)
        {
            text.Append("\t\tcomment \"").Append(Comment).Append("\"\n");
        }

        if (_elements.Count > 0)
        {
            text.Append("\t\telements = { ").AppendJoin(",\n\t\t\t     ", _elements).Append(" }\n");
        }

        return text.Append("\t}\n").ToString();
    }

    // 5400 seconds are 1h30m.
    private static string Duration(int seconds)
    {
        var text = new StringBuilder();
        foreach (var (unit, length) in (ReadOnlySpan<(char, int)>)[('d', 86400), ('h', 3600), ('m', 60), ('s', 1)])
        {
            if (seconds >= length)
            {
                text.Append(seconds / length).Append(unit);
                seconds %= length;
            }
        }

        return text.ToString();
    }
}

/// <summary>A chain of a table.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Head">The hook of a base chain or the comment of another; null when it has neither.</param>
internal sealed record NftChain(string Name, string? Head)
{
    internal List<string> Rules { get; } = [];

    public override string ToString()
        => $"\tchain {Name} {{\n{(Head is null ? "" : $"\t\t{Head}\n")}{string.Concat(Rules.Select(r => $"\t\t{r}\n"))}\t}}\n";
}
