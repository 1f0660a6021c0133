using System.Globalization;

namespace TraceProbe.Lab;

/// <summary>A rule of somebody else's, put first into a chain of iptables, in one family or both.</summary>
/// <param name="Node">The node.</param>
/// <param name="Table">The table.</param>
/// <param name="Chain">The chain.</param>
/// <param name="Rule">The rest of the rule in the words and the order of iptables-save, with {0} for the address.</param>
/// <param name="IPv4">The address in IPv4; empty for a rule of IPv6 alone.</param>
/// <param name="IPv6">The address in IPv6; empty for a rule of IPv4 alone.</param>
internal sealed record Block(string Node, string Table, string Chain, string Rule, string IPv4, string IPv6)
{
    internal void Add(Bench b)
    {
        foreach (var ipv6 in Families)
        {
            b.Run(Node, $"{b.Iptables(ipv6)} -t {Table} -I {Chain} {Filled(ipv6)}");
        }
    }

    /// <summary>Removes it where it is; somebody may have done so in one family already.</summary>
    internal void Remove(Bench b)
    {
        foreach (var ipv6 in Families.Where(f => Has(b, f)))
        {
            b.Run(Node, $"{b.Iptables(ipv6)} -t {Table} -D {Chain} {Filled(ipv6)}");
        }
    }

    internal bool IsThere(Bench b) => Families.Any(f => Has(b, f));

    private IEnumerable<bool> Families => ((bool[])[false, true]).Where(ipv6 => (ipv6 ? IPv6 : IPv4).Length > 0);

    private bool Has(Bench b, bool ipv6) => b.Read(Node, $"{b.Iptables(ipv6)}-save -t {Table}").Contains($"\n-A {Chain} {Filled(ipv6)}\n", StringComparison.Ordinal);

    private string Filled(bool ipv6) => string.Format(CultureInfo.InvariantCulture, Rule, ipv6 ? IPv6 : IPv4).TrimEnd();
}
