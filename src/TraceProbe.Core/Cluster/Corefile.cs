using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Reads CoreDNS's configuration as far as it says which names it answers itself and where it listens:
/// <code>
/// .:53 {
///     kubernetes cluster.local in-addr.arpa ip6.arpa {
///        pods insecure
///     }
///     forward . /etc/resolv.conf
/// }
/// </code>
/// Words are parted by white space; a word in double quotes may hold white space; <c>#</c> begins a comment; a brace opens a block at the end
/// of a line and closes it on a line of its own (coredns.io, "Configuration").
/// </summary>
public static class Corefile
{
    // Deeper than any plugin's blocks.
    private const int MaxDepth = 16;

    /// <summary>Reads a Corefile.</summary>
    /// <param name="text">Its text.</param>
    /// <returns>The server blocks in order; snippets and imports are left out.</returns>
    /// <exception cref="FormatException">A block is not closed, or one is closed that was not opened; the message has the line.</exception>
    public static ImmutableArray<CorefileServer> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var servers = ImmutableArray.CreateBuilder<CorefileServer>();
        var plugins = ImmutableArray.CreateBuilder<CorefilePlugin>();
        ImmutableArray<string> names = [];
        var depth = 0;
        var number = 0;
        var openedAt = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            var words = Words(line);
            if (words is ["}", ..])
            {
                depth--;
                if (depth < 0)
                {
                    throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {number}: a block is closed that was not opened"));
                }

                if (depth == 0)
                {
                    // (name) { … } is a snippet for imports.
                    if (names is not [['(', ..], ..])
                    {
                        servers.Add(new CorefileServer(names, plugins.ToImmutable()));
                    }

                    plugins.Clear();
                    names = [];
                }

                continue;
            }

            if (words.Count == 0)
            {
                continue;
            }

            var opens = words[^1] == "{";
            if (opens)
            {
                words.RemoveAt(words.Count - 1);
            }

            if (depth == 0)
            {
                // Names may stand on several lines before the brace, with commas between them.
                names = [.. names, .. words.Select(w => w.TrimEnd(',')).Where(w => w.Length > 0)];
                openedAt = opens ? number : openedAt;
            }
            else if (depth == 1 && words.Count > 0)
            {
                plugins.Add(new CorefilePlugin(words[0], [.. words.Skip(1)]));
            }

            if (opens && ++depth > MaxDepth)
            {
                throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {number}: blocks are nested more than {MaxDepth} deep"));
            }
        }

        return depth == 0 ? servers.ToImmutable()
            : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {openedAt}: the block is not closed"));
    }

    private static List<string> Words(ReadOnlySpan<char> line)
    {
        var words = new List<string>();
        StringBuilder? quoted = null;
        var start = -1;
        for (var i = 0; i <= line.Length; i++)
        {
            var c = i < line.Length ? line[i] : ' ';
            if (quoted is not null)
            {
                if (i == line.Length || c == '"')
                {
                    words.Add(quoted.ToString());
                    quoted = null;
                }
                else
                {
                    quoted.Append(c == '\\' && i + 1 < line.Length && line[i + 1] == '"' ? line[++i] : c);
                }
            }
            else if (char.IsWhiteSpace(c))
            {
                if (start >= 0)
                {
                    words.Add(line[start..i].ToString());
                    start = -1;
                }
            }
            else if (start < 0 && c == '#')
            {
                break;
            }
            else if (start < 0 && c == '"')
            {
                quoted = new StringBuilder();
            }
            else if (start < 0)
            {
                start = i;
            }
        }

        return words;
    }
}

/// <summary>One server block of a Corefile.</summary>
/// <param name="Names">What it is for, such as <c>.:53</c> or <c>cluster.local:53</c>.</param>
/// <param name="Plugins">Its plugins.</param>
public sealed record CorefileServer(ImmutableArray<string> Names, ImmutableArray<CorefilePlugin> Plugins);

/// <summary>One plugin of a server block.</summary>
/// <param name="Name">Its name, such as <c>kubernetes</c>.</param>
/// <param name="Arguments">The words behind it on its line.</param>
public sealed record CorefilePlugin(string Name, ImmutableArray<string> Arguments);
