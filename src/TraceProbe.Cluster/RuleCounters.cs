using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster;

/// <summary>
/// Reads again what single rules have counted, in the calling thread's network namespace. nf_tables hands out one chain at a time over netlink
/// (include/uapi/linux/netfilter/nf_tables.h), however many there are; the legacy tables come whole or not at all, so a tool reads those.
/// </summary>
internal static class RuleCounters
{
    private const ushort NFT_MSG_GETRULE = (10 << 8) | 7;
    private const int FamilySize = 4; // nfgenmsg
    private const ushort NFTA_RULE_TABLE = 1;
    private const ushort NFTA_RULE_CHAIN = 2;
    private const int NFTA_RULE_EXPRESSIONS = 4;
    private const int NFTA_EXPR_NAME = 1;
    private const int NFTA_EXPR_DATA = 2;
    private const int NFTA_COUNTER_PACKETS = 2;

    /// <summary>Reads them.</summary>
    /// <param name="before">The rules, each with what it had counted before.</param>
    /// <param name="saveLegacy">Has iptables-legacy-save (ip6tables-legacy-save, if the argument is true) print one table with its counters.</param>
    /// <param name="unread">Gets the chains that could not be read, or are not what they were.</param>
    /// <exception cref="IOException">The kernel or the tool refused; the message says what is missing.</exception>
    public static ImmutableArray<RuleCount> Read(IEnumerable<RuleCount> before, Func<bool, string, string> saveLegacy, ImmutableArray<Unread>.Builder unread)
    {
        var counts = ImmutableArray.CreateBuilder<RuleCount>();
        foreach (var table in before.GroupBy(c => (c.Backend, c.IsIPv6, c.Table)))
        {
            var text = table.Key.Backend == RuleBackend.Legacy ? saveLegacy(table.Key.IsIPv6, table.Key.Table) : null;
            foreach (var chain in table.GroupBy(c => c.Chain))
            {
                var now = text is not null ? OfChain(text, chain.Key) : OfChain(table.Key.IsIPv6, table.Key.Table, chain.Key);
                var any = false;
                foreach (var rule in chain)
                {
                    if (now.Count == rule.Of && now[rule.Position - 1] is { } packets && packets >= rule.Packets)
                    {
                        counts.Add(rule with { Packets = packets });
                        any = true;
                    }
                }

                if (!any)
                {
                    unread.Add(new Unread($"what the rules of {table.Key.Table} {chain.Key} counted", "the chain changed meanwhile"));
                }
            }
        }

        return counts.ToImmutable();
    }

    // [3:180] -A KUBE-SERVICES -d 10.96.0.1/32 …
    internal static List<long?> OfChain(string save, string chain)
    {
        var counts = new List<long?>();
        var rule = $" -A {chain} ";
        foreach (var line in save.AsSpan().EnumerateLines())
        {
            if (line.StartsWith('[') && line.IndexOf(']') is > 0 and var close && $"{line[(close + 1)..]} ".StartsWith(rule, StringComparison.Ordinal))
            {
                counts.Add(line.IndexOf(':') is > 0 and var colon && long.TryParse(line[1..colon], NumberStyles.None, CultureInfo.InvariantCulture, out var packets) ? packets : null);
            }
        }

        return counts;
    }

    // Null for a rule without a counter.
    private static List<long?> OfChain(bool isIPv6, string table, string chain)
    {
        using var socket = NetlinkSocket.Open(NetlinkSocket.NETLINK_NETFILTER) ?? throw new IOException("The kernel does not speak netfilter's netlink any more.");
        var space = table.IndexOf(' ', StringComparison.Ordinal);
        byte family = table.AsSpan(0, Math.Max(space, 0)) switch
        {
            "inet" => 1,
            "ip" => 2,
            "ip6" => 10,
            _ => isIPv6 ? (byte)10 : (byte)2, // of iptables, whose tables are named without
        };
        var counts = new List<long?>();
        var error = socket.Ask(
            new NetlinkMessage(NFT_MSG_GETRULE, NetlinkSocket.NLM_F_DUMP, [family, 0, 0, 0]).Add(NFTA_RULE_TABLE, Name(table[(space + 1)..])).Add(NFTA_RULE_CHAIN, Name(chain)),
            (_, payload) => Take(payload, counts), counts.Clear);
        return error switch
        {
            0 => counts,
            NetlinkSocket.ENOENT => [],
            NetlinkSocket.EPERM => throw new IOException("The kernel does not let rules be listed; that needs root, or CAP_NET_ADMIN."),
            _ => throw new IOException($"The kernel did not list the rules of {table} {chain}: error {error}."),
        };
    }

    private static byte[] Name(string name) => Encoding.UTF8.GetBytes(name + '\0');

    internal static void Take(ReadOnlySpan<byte> payload, List<long?> counts)
    {
        if (payload.Length < FamilySize)
        {
            return;
        }

        long? packets = null;
        var attributes = new NetlinkAttributes(payload[FamilySize..]);
        while (attributes.Next())
        {
            if (attributes.Type != NFTA_RULE_EXPRESSIONS)
            {
                continue;
            }

            var expressions = new NetlinkAttributes(attributes.Value);
            while (expressions.Next())
            {
                packets ??= OfExpression(expressions.Value);
            }
        }

        counts.Add(packets);
    }

    private static long? OfExpression(ReadOnlySpan<byte> expression)
    {
        var isCounter = false;
        var parts = new NetlinkAttributes(expression);
        while (parts.Next())
        {
            if (parts.Type == NFTA_EXPR_NAME)
            {
                isCounter = parts.Value.TrimEnd((byte)0).SequenceEqual("counter"u8);
            }
            else if (parts.Type == NFTA_EXPR_DATA && isCounter)
            {
                var fields = new NetlinkAttributes(parts.Value);
                while (fields.Next())
                {
                    if (fields.Type == NFTA_COUNTER_PACKETS && fields.Value.Length == sizeof(long))
                    {
                        return BinaryPrimitives.ReadInt64BigEndian(fields.Value);
                    }
                }
            }
        }

        return null;
    }
}
