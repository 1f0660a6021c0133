using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Requests;

/// <summary>
/// Reads resolv.conf(5) as the C libraries do: glibc 2.26 and later (<c>resolv/res_init.c</c>), musl 1.2
/// (<c>src/network/resolvconf.c</c>). They differ in what they take, so what one of them passes over is noted, not mended:
/// a file that looks right to a person and is not read as it looks is one of the faults we are after.
/// <code>
/// search default.svc.cluster.local svc.cluster.local cluster.local
/// nameserver 10.96.0.10
/// options ndots:5
/// </code>
/// The environment variables LOCALDOMAIN and RES_OPTIONS are not looked at: they are those of one process, not of the client's file.
/// </summary>
public static class ResolvConf
{
    /// <summary>The most nameservers that either library asks (MAXNS).</summary>
    public const int MaxNameservers = 3;

    /// <summary>
    /// The most search domains that are kept. glibc has no limit since 2.26 (six before), musl takes what fits in 256 bytes;
    /// 32 is what Kubernetes lets a Pod have.
    /// </summary>
    public const int MaxSearchDomains = 32;

    /// <summary>The most notes that are kept.</summary>
    public const int MaxNotes = 16;

    private const int MaxNoteLength = 120;
    private const int MuslLineLength = 255;

    /// <summary>Reads the text of a resolv.conf. Whatever it holds, this gives what the library would work with.</summary>
    /// <param name="text">The file's text; empty for a file that does not exist.</param>
    /// <param name="path">Where it was read, for the record.</param>
    /// <param name="flavor">Whose reading.</param>
    public static ResolverConfiguration Parse(ReadOnlySpan<char> text, string? path, ResolverFlavor flavor)
    {
        var nameservers = ImmutableArray.CreateBuilder<IpAddress>(MaxNameservers);
        var notes = ImmutableArray.CreateBuilder<string>();
        var options = new ResolverConfiguration { Path = path, Flavor = flavor };
        ImmutableArray<string> search = [];
        var number = 0;
        foreach (var line in text.EnumerateLines())
        {
            number++;
            // A NUL ends the line for the C libraries.
            var nul = line.IndexOf('\0');
            var rest = nul < 0 ? line : line[..nul];
            if (rest.IsEmpty || rest[0] is '#' or ';' || rest.IsWhiteSpace())
            {
                continue;
            }

            if (flavor == ResolverFlavor.Musl && rest.Length >= MuslLineLength)
            {
                Note(notes, number, line, "is longer than musl reads");
                continue;
            }

            // Both libraries compare at the first column, and want white space behind the word.
            if (TryKeyword(rest, "nameserver", out var value))
            {
                var word = FirstWord(value);
                if (!TryNameserver(word, out var address))
                {
                    Note(notes, number, line, "names no address");
                }
                else if (nameservers.Count == MaxNameservers)
                {
                    Note(notes, number, line, "is beyond the third nameserver, and is never asked");
                }
                else
                {
                    nameservers.Add(address);
                }
            }
            else if (TryKeyword(rest, "search", out value) || TryKeyword(rest, "domain", out value))
            {
                // The last line wins. glibc takes one word of `domain`, musl reads both lines alike.
                var one = flavor == ResolverFlavor.Glibc && rest[0] == 'd';
                if (FirstWord(value).IsEmpty && one)
                {
                    Note(notes, number, line, "names no domain");
                }
                else
                {
                    search = Domains(value, one, number, line, notes);
                }
            }
            else if (TryKeyword(rest, "options", out value))
            {
                options = flavor == ResolverFlavor.Glibc ? GlibcOptions(options, value, number, notes) : MuslOptions(options, value, number, notes);
            }
            else
            {
                Note(notes, number, line, char.IsWhiteSpace(rest[0]) ? "does not begin at the first column, and is not read" : "is not understood");
            }
        }

        if (nameservers.Count == 0)
        {
            nameservers.Add(IpAddress.FromIPv4(0x7f000001));
            Add(notes, "no nameserver is named, so 127.0.0.1 is asked");
        }

        return options with { Nameservers = nameservers.DrainToImmutable(), Search = search, Notes = notes.DrainToImmutable() };
    }

    private static bool TryKeyword(ReadOnlySpan<char> line, ReadOnlySpan<char> keyword, out ReadOnlySpan<char> value)
    {
        value = default;
        if (!line.StartsWith(keyword, StringComparison.Ordinal) || line.Length == keyword.Length || line[keyword.Length] is not (' ' or '\t'))
        {
            return false;
        }

        value = line[keyword.Length..].Trim();
        return true;
    }

    private static ReadOnlySpan<char> FirstWord(ReadOnlySpan<char> text)
    {
        var end = 0;
        while (end < text.Length && !char.IsWhiteSpace(text[end]))
        {
            end++;
        }

        return text[..end];
    }

    private static bool TryNameserver(ReadOnlySpan<char> word, out IpAddress address)
    {
        // fe80::1%eth0: the interface's name means nothing outside its namespace, and Pods are not given such servers.
        var scope = word.IndexOf('%');
        return IpAddress.TryParse(scope < 0 ? word : word[..scope], null, out address);
    }

    private static ImmutableArray<string> Domains(ReadOnlySpan<char> value, bool one, int number, ReadOnlySpan<char> line,
        ImmutableArray<string>.Builder notes)
    {
        var domains = ImmutableArray.CreateBuilder<string>();
        while (!value.IsEmpty)
        {
            var word = FirstWord(value);
            value = value[word.Length..].TrimStart();
            if (word.Length > 1 && word[^1] == '.')
            {
                word = word[..^1];
            }

            if (word.Length > 253)
            {
                Note(notes, number, line, "holds a domain that is longer than a name can be");
            }
            else if (domains.Count == MaxSearchDomains)
            {
                Note(notes, number, line, "holds more domains than are followed");
                break;
            }
            else if (!word.IsEmpty)
            {
                domains.Add(word.ToString());
            }

            if (one)
            {
                break;
            }
        }

        return domains.DrainToImmutable();
    }

    // res_setoptions: words, compared by their beginning; numbers as atoi reads them, cut to their limits.
    private static ResolverConfiguration GlibcOptions(ResolverConfiguration options, ReadOnlySpan<char> value, int number, ImmutableArray<string>.Builder notes)
    {
        while (!value.IsEmpty)
        {
            var word = FirstWord(value);
            value = value[word.Length..].TrimStart();
            if (word.StartsWith("ndots:", StringComparison.Ordinal))
            {
                options = options with { Ndots = Number(word[6..], 0, 15) };
            }
            else if (word.StartsWith("timeout:", StringComparison.Ordinal))
            {
                options = options with { TimeoutSeconds = Number(word[8..], 1, 30) };
            }
            else if (word.StartsWith("attempts:", StringComparison.Ordinal))
            {
                options = options with { Attempts = Number(word[9..], 1, 5) };
            }
            else if (word.StartsWith("single-request-reopen", StringComparison.Ordinal))
            {
                options = options with { SingleRequestReopen = true };
            }
            else if (word.StartsWith("single-request", StringComparison.Ordinal))
            {
                options = options with { SingleRequest = true };
            }
            else if (word.StartsWith("rotate", StringComparison.Ordinal))
            {
                options = options with { Rotate = true };
            }
            else if (word.StartsWith("use-vc", StringComparison.Ordinal))
            {
                options = options with { UseTcp = true };
            }
            else if (word.StartsWith("no-aaaa", StringComparison.Ordinal))
            {
                options = options with { NoAaaa = true };
            }
            else if (word.StartsWith("edns0", StringComparison.Ordinal))
            {
                options = options with { Edns = true };
            }
            else if (!word.StartsWith("trust-ad", StringComparison.Ordinal) && !word.StartsWith("no-reload", StringComparison.Ordinal))
            {
                Note(notes, number, word, "is not an option TraceProbe follows");
            }
        }

        return options;
    }

    // musl looks for three words anywhere in the line, and for nothing else.
    private static ResolverConfiguration MuslOptions(ResolverConfiguration options, ReadOnlySpan<char> value, int number, ImmutableArray<string>.Builder notes)
    {
        while (!value.IsEmpty)
        {
            var word = FirstWord(value);
            value = value[word.Length..].TrimStart();
            if (word.StartsWith("ndots:", StringComparison.Ordinal) && word.Length > 6 && char.IsAsciiDigit(word[6]))
            {
                options = options with { Ndots = Number(word[6..], 0, 15) };
            }
            else if (word.StartsWith("timeout:", StringComparison.Ordinal) && word.Length > 8 && char.IsAsciiDigit(word[8]))
            {
                options = options with { TimeoutSeconds = Number(word[8..], 1, 60) };
            }
            else if (word.StartsWith("attempts:", StringComparison.Ordinal) && word.Length > 9 && char.IsAsciiDigit(word[9]))
            {
                options = options with { Attempts = Number(word[9..], 1, 10) };
            }
            else
            {
                Note(notes, number, word, "is not an option of musl");
            }
        }

        return options;
    }

    // atoi: digits from the beginning, 0 where there are none; a number too large for it stands at the limit.
    private static int Number(ReadOnlySpan<char> text, int least, int most)
    {
        var end = 0;
        while (end < text.Length && char.IsAsciiDigit(text[end]))
        {
            end++;
        }

        var digits = text[..end].TrimStart('0');
        var value = digits.Length > 8 ? most : digits.IsEmpty ? 0 : int.Parse(digits, CultureInfo.InvariantCulture);
        return Math.Clamp(value, least, most);
    }

    private static void Note(ImmutableArray<string>.Builder notes, int number, ReadOnlySpan<char> text, string what)
    {
        if (notes.Count < MaxNotes)
        {
            Add(notes, string.Create(CultureInfo.InvariantCulture, $"line {number}: '{Printable(text)}' {what}"));
        }
    }

    private static void Add(ImmutableArray<string>.Builder notes, string note)
    {
        if (notes.Count < MaxNotes)
        {
            notes.Add(note);
        }
    }

    private static string Printable(ReadOnlySpan<char> text)
    {
        var cut = text.Length > MaxNoteLength;
        Span<char> characters = stackalloc char[MaxNoteLength];
        text = cut ? text[..MaxNoteLength] : text;
        for (var i = 0; i < text.Length; i++)
        {
            characters[i] = char.IsControl(text[i]) ? text[i] == '\t' ? ' ' : '?' : text[i];
        }

        return string.Concat(characters[..text.Length].Trim(), cut ? "…" : "");
    }
}
