using System.Collections.Immutable;

namespace TraceProbe.Cluster;

/// <summary>
/// Asks the kernel through netlink which nftables tables exist (include/uapi/linux/netfilter/nf_tables.h). It takes well under a
/// millisecond, says which dumps are worth taking, and needs no nft on the node.
/// </summary>
internal static class NftTables
{
    private const ushort NFT_MSG_GETTABLE = (10 << 8) | 1;
    private const int NFTA_TABLE_NAME = 1;
    private const int FamilySize = 4; // nfgenmsg

    /// <summary>The tables of the calling thread's network namespace, named as nft does: <c>ip nat</c>, <c>ip6 kube-proxy</c>.</summary>
    /// <exception cref="IOException">The kernel refused; the message says what is missing.</exception>
    public static ImmutableArray<string> List()
    {
        using var socket = NetlinkSocket.Open(NetlinkSocket.NETLINK_NETFILTER);
        if (socket is null)
        {
            return []; // a kernel without netfilter's netlink has no nftables
        }

        var tables = ImmutableArray.CreateBuilder<string>();
        var error = socket.Ask(new NetlinkMessage(NFT_MSG_GETTABLE, NetlinkSocket.NLM_F_DUMP, [0, 0, 0, 0]), (_, payload) => Take(payload, tables), tables.Clear);
        // Anything but a refusal means that this kernel has no nf_tables.
        return error == NetlinkSocket.EPERM ? throw new IOException("The kernel does not let nftables tables be listed; that needs root, or CAP_NET_ADMIN.") : tables.ToImmutable();
    }

    internal static void Take(ReadOnlySpan<byte> payload, ImmutableArray<string>.Builder tables)
    {
        if (payload.Length < FamilySize)
        {
            return;
        }

        var attributes = new NetlinkAttributes(payload[FamilySize..]);
        while (attributes.Next())
        {
            if (attributes.Type == NFTA_TABLE_NAME)
            {
                tables.Add($"{FamilyName(payload[0])} {attributes.Text}");
            }
        }
    }

    // NFPROTO_…, include/uapi/linux/netfilter.h
    private static string FamilyName(byte family) => family switch
    {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => $"family-{family}",
    };
}
