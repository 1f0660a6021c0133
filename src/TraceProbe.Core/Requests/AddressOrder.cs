using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Requests;

/// <summary>A destination and the source address the kernel would choose for it.</summary>
/// <param name="Destination">The address to connect to.</param>
/// <param name="Source">The source for it; null when there is no route, or no address of the family.</param>
public readonly record struct AddressPair(IpAddress Destination, IpAddress? Source);

/// <summary>
/// The order in which getaddrinfo(3) returns addresses: RFC 6724 section 6, rules 1 (usable), 2 (same scope), 5 (same label), 6
/// (precedence) and 8 (smaller scope), the order of the answers deciding the rest. Left out: home addresses, deprecated addresses and
/// native transport (3, 4, 7), which a Pod does not have, and longest prefix (9), which glibc applies only within one subnet for IPv4.
/// <para>
/// The policy tables differ. musl has that of RFC 6724, where IPv4 comes before unique local addresses (fc00::/7); glibc has that of
/// RFC 3484, where every IPv6 address comes before IPv4. With dual-stack Services that decides which ClusterIP is tried first.
/// </para>
/// </summary>
public static class AddressOrder
{
    /// <summary>
    /// Orders the addresses. Those without a source are left out unless there are only such: a client that asks with
    /// AI_ADDRCONFIG never sees them, and one that does not gets ENETUNREACH from them at once, after all others.
    /// </summary>
    /// <param name="addresses">Destinations with their sources, as the answers gave them.</param>
    /// <param name="flavor">Whose policy table.</param>
    public static ImmutableArray<IpAddress> Sort(List<AddressPair> addresses, ResolverFlavor flavor)
    {
        ArgumentNullException.ThrowIfNull(addresses);
        var usable = new List<AddressPair>(addresses.Count);
        foreach (var pair in addresses)
        {
            if (pair.Source is not null)
            {
                usable.Add(pair);
            }
        }

        if (usable.Count == 0)
        {
            usable.AddRange(addresses);
        }

        // Insertion keeps equals in the order they came; lists of addresses are short.
        for (var i = 1; i < usable.Count; i++)
        {
            for (var j = i; j > 0 && Compare(usable[j], usable[j - 1], flavor) < 0; j--)
            {
                (usable[j], usable[j - 1]) = (usable[j - 1], usable[j]);
            }
        }

        var sorted = ImmutableArray.CreateBuilder<IpAddress>(usable.Count);
        foreach (var pair in usable)
        {
            if (!sorted.Contains(pair.Destination))
            {
                sorted.Add(pair.Destination);
            }
        }

        return sorted.DrainToImmutable();
    }

    private static int Compare(AddressPair left, AddressPair right, ResolverFlavor flavor)
    {
        var rule2 = (right.Source is { } r && Scope(r) == Scope(right.Destination)).CompareTo(left.Source is { } l && Scope(l) == Scope(left.Destination));
        if (rule2 != 0)
        {
            return rule2;
        }

        var (leftPrecedence, leftLabel) = Policy(left.Destination, flavor);
        var (rightPrecedence, rightLabel) = Policy(right.Destination, flavor);
        var rule5 = (right.Source is { } rs && Policy(rs, flavor).Label == rightLabel).CompareTo(left.Source is { } ls && Policy(ls, flavor).Label == leftLabel);
        if (rule5 != 0)
        {
            return rule5;
        }

        var rule6 = rightPrecedence.CompareTo(leftPrecedence);
        return rule6 != 0 ? rule6 : Scope(left.Destination).CompareTo(Scope(right.Destination));
    }

    // RFC 6724 section 3.1; RFC 4291 section 2.7 for the numbers.
    private static int Scope(IpAddress address)
    {
        const int linkLocal = 2;
        const int siteLocal = 5;
        const int global = 14;
        if (address.IsIPv4)
        {
            return address.IsLoopback || (ushort)(address.Low >> 16) == 0xa9fe ? linkLocal : global;
        }

        if (address.IsMulticast)
        {
            return (int)(address.High >> 48) & 15;
        }

        return address.IsLoopback || Prefix(address, 10) == 0xfe80 >> 6 ? linkLocal : Prefix(address, 10) == 0xfec0 >> 6 ? siteLocal : global;
    }

    private static (int Precedence, int Label) Policy(IpAddress address, ResolverFlavor flavor)
    {
        var musl = flavor == ResolverFlavor.Musl;
        if (address.IsIPv4)
        {
            return (musl ? 35 : 10, 4);
        }

        if (address.IsLoopback)
        {
            return (50, 0);
        }

        if (Prefix(address, 16) == 0x2002)
        {
            return (30, 2);
        }

        if (Prefix(address, 7) == 0xfc >> 1)
        {
            return musl ? (3, 13) : (40, 6);
        }

        if (Prefix(address, 32) == 0x20010000)
        {
            return musl ? (5, 5) : (40, 7);
        }

        return !musl && Prefix(address, 10) == 0xfec0 >> 6 ? (40, 5) : (40, 1);
    }

    private static uint Prefix(IpAddress address, int length) => (uint)(address.High >> (64 - length));
}
