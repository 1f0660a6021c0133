using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Requests;

/// <summary>One line of a hosts file that names a host.</summary>
/// <param name="Address">The address it gives.</param>
/// <param name="Line">The line, without its comment.</param>
public readonly record struct HostsEntry(IpAddress Address, string Line);

/// <summary>
/// Looks names up in hosts(5), which both C libraries ask before any nameserver (glibc as <c>/etc/nsswitch.conf</c> says in every
/// image we know, <c>hosts: files dns</c>). The search domains are not applied to it.
/// <code>
/// 10.244.1.7   web-0.web.default.svc.cluster.local   web-0
/// </code>
/// </summary>
public static class HostsFile
{
    /// <summary>The most lines that are taken for one name (musl's MAXADDRS).</summary>
    public const int MaxEntries = 48;

    /// <summary>All lines that name the host, in order; empty when none does.</summary>
    /// <param name="text">The file's text.</param>
    /// <param name="host">The name. With a dot at its end it stands in no hosts file.</param>
    /// <param name="flavor">glibc compares without regard to case and takes blanks before the address, musl does neither.</param>
    public static ImmutableArray<HostsEntry> Find(ReadOnlySpan<char> text, string host, ResolverFlavor flavor)
    {
        ArgumentNullException.ThrowIfNull(host);
        var comparison = flavor == ResolverFlavor.Musl ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase;
        var entries = ImmutableArray.CreateBuilder<HostsEntry>();
        foreach (var whole in text.EnumerateLines())
        {
            var comment = whole.IndexOf('#');
            var line = comment < 0 ? whole : whole[..comment];
            if (host.Length == 0 || !line.Contains(host, comparison) || flavor == ResolverFlavor.Musl && char.IsWhiteSpace(line[0]))
            {
                continue;
            }

            line = line.Trim();
            var rest = line;
            if (!IpAddress.TryParse(WithoutScope(Word(ref rest)), null, out var address))
            {
                continue;
            }

            while (!rest.IsEmpty)
            {
                if (Word(ref rest).Equals(host, comparison))
                {
                    entries.Add(new HostsEntry(address, line.ToString()));
                    break;
                }
            }

            if (entries.Count == MaxEntries)
            {
                break;
            }
        }

        return entries.DrainToImmutable();
    }

    private static ReadOnlySpan<char> Word(ref ReadOnlySpan<char> text)
    {
        var end = 0;
        while (end < text.Length && !char.IsWhiteSpace(text[end]))
        {
            end++;
        }

        var word = text[..end];
        text = text[word.Length..].TrimStart();
        return word;
    }

    private static ReadOnlySpan<char> WithoutScope(ReadOnlySpan<char> word)
    {
        var scope = word.IndexOf('%');
        return scope < 0 ? word : word[..scope];
    }
}
