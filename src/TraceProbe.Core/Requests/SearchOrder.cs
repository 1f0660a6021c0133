using System.Collections.Immutable;
using TraceProbe.Core.Dns;

namespace TraceProbe.Core.Requests;

/// <summary>One name that a resolver tries on the way to an answer.</summary>
/// <param name="Name">The whole name to ask for, without a trailing dot.</param>
/// <param name="Domain">The search domain it was made with; null for the name as it was given.</param>
public readonly record struct SearchName(string Name, string? Domain);

/// <summary>What a resolver does when a name has brought no address.</summary>
public enum SearchStep
{
    /// <summary>It gives up.</summary>
    Stop,

    /// <summary>It tries the next name.</summary>
    Next,

    /// <summary>It leaves the search domains that remain, and tries the name as given if it has not yet.</summary>
    AsGiven,
}

/// <summary>
/// In which order a C library tries the names that a short name may stand for, and when it stops. This is where <c>ndots:5</c>
/// turns one lookup into eight, and where Alpine and Debian images part.
/// </summary>
public static class SearchOrder
{
    /// <summary>
    /// The names in the order in which they are tried, as long as each one fails with NXDOMAIN.
    /// <list type="number">
    /// <item>A dot at the end makes the name absolute: it alone is tried (glibc <c>resolv/res_query.c</c>,
    /// <c>__res_context_search</c>, trailing_dot; musl <c>src/network/lookup_name.c</c>, <c>name_from_dns_search</c>).</item>
    /// <item>glibc, at least <c>ndots</c> dots: the name as given, then with each search domain.</item>
    /// <item>glibc, fewer dots: with each search domain, then as given, unless the root was among the domains and so tried already.</item>
    /// <item>musl, at least <c>ndots</c> dots: the name as given, and no search at all.</item>
    /// <item>musl, fewer dots: with each search domain, then as given. A root among the domains is passed over; before 1.2.4 it made
    /// a malformed question, which no server answers, and the lookup failed.</item>
    /// </list>
    /// Names longer than a name can be (253 characters) are passed over. Empty for an empty host, a lone dot, and for more than one dot at the end.
    /// </summary>
    /// <param name="host">The name as the application gave it.</param>
    /// <param name="configuration">Search domains and ndots.</param>
    /// <param name="flavor">Whose order; the configuration's own when null.</param>
    public static ImmutableArray<SearchName> Names(string host, ResolverConfiguration configuration, ResolverFlavor? flavor = null)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(configuration);
        var musl = (flavor ?? configuration.Flavor) == ResolverFlavor.Musl;
        var absolute = host.EndsWith('.');
        var given = absolute ? host[..^1] : host;
        if (given.Length is 0 or > MaxLength || given.EndsWith('.'))
        {
            return [];
        }

        var asGiven = new SearchName(given, null);
        // glibc and musl both count the dots of the name as it stands; a trailing one has been dealt with.
        var enough = given.AsSpan().Count('.') >= configuration.Ndots;
        if (absolute || enough && musl)
        {
            return [asGiven];
        }

        var names = ImmutableArray.CreateBuilder<SearchName>(configuration.Search.Length + 1);
        if (enough)
        {
            names.Add(asGiven);
        }

        var rootSearched = false;
        foreach (var domain in configuration.Search)
        {
            // A search domain may be written with a dot before it; "." alone is the root, which makes the name as given.
            var suffix = domain.StartsWith('.') ? domain[1..] : domain;
            if (suffix.Length == 0)
            {
                if (!musl)
                {
                    rootSearched = true;
                    names.Add(new SearchName(given, domain));
                }
            }
            else if (given.Length + 1 + suffix.Length <= MaxLength)
            {
                names.Add(new SearchName($"{given}.{suffix}", domain));
            }
        }

        if (!enough && !rootSearched)
        {
            names.Add(asGiven);
        }

        return names.DrainToImmutable();
    }

    /// <summary>
    /// What the library does after a name that brought no address.
    /// <para>glibc (<c>__res_context_search</c>): after the name as given, the search goes on whatever happened. After a name of the
    /// search, NXDOMAIN, no data and SERVFAIL lead to the next; no reachable nameserver at all (ECONNREFUSED) ends it; anything else,
    /// a timeout or REFUSED, skips to the name as given.</para>
    /// <para>musl (<c>name_from_dns_search</c>): NXDOMAIN leads to the next name; anything else ends it, no data included.</para>
    /// </summary>
    /// <param name="flavor">Whose rules.</param>
    /// <param name="name">The name that was tried.</param>
    /// <param name="outcome">How it ended, A and AAAA taken together.</param>
    /// <param name="code">The response code behind <see cref="LookupOutcome.ServerFailure"/>; null when none came.</param>
    public static SearchStep After(ResolverFlavor flavor, SearchName name, LookupOutcome outcome, DnsResponseCode? code)
    {
        if (flavor == ResolverFlavor.Musl)
        {
            return outcome == LookupOutcome.NameError ? SearchStep.Next : SearchStep.Stop;
        }

        return outcome switch
        {
            _ when name.Domain is null => SearchStep.Next,
            LookupOutcome.NameError or LookupOutcome.NoData => SearchStep.Next,
            LookupOutcome.ServerFailure when code == DnsResponseCode.ServFail => SearchStep.Next,
            LookupOutcome.Unreachable => SearchStep.Stop,
            _ => SearchStep.AsGiven,
        };
    }

    private const int MaxLength = 253;
}
