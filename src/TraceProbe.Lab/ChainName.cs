using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace TraceProbe.Lab;

/// <summary>
/// The names kube-proxy gives its chains: a prefix and the first 16 characters of the base32 form (RFC 4648) of a SHA-256
/// (kubernetes, pkg/proxy/iptables/proxier.go, portProtoHash). Sixteen, so that the whole stays below the kernel's limit of 28.
/// nftables has room for names, so there 8 characters are followed by what was hashed (pkg/proxy/nftables/proxier.go, hashAndTruncate).
/// </summary>
internal static class ChainName
{
    // NFT_NAME_MAXLEN of include/uapi/linux/netfilter/nf_tables.h, less what kube-proxy keeps for its prefixes.
    private const int LongestInNftables = 256 - 16;
    private const string Base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    /// <summary>The chain of a Service port: <c>KUBE-SVC-</c>, <c>KUBE-SVL-</c>, <c>KUBE-EXT-</c> or <c>KUBE-FW-</c>.</summary>
    /// <param name="prefix">The prefix with its last dash.</param>
    /// <param name="servicePort">The name as in rule comments: <c>namespace/service</c> or <c>namespace/service:port</c>.</param>
    /// <param name="protocol">In lower case.</param>
    internal static string OfService(string prefix, string servicePort, string protocol) => prefix + Hash(servicePort + protocol);

    /// <summary>The chain of one endpoint of a Service port.</summary>
    /// <param name="servicePort">The name as in rule comments.</param>
    /// <param name="protocol">In lower case.</param>
    /// <param name="endpoint">Address and port: <c>10.244.1.2:80</c> or <c>[fd00::2]:80</c>.</param>
    internal static string OfEndpoint(string servicePort, string protocol, string endpoint) => "KUBE-SEP-" + Hash(servicePort + protocol + endpoint);

    /// <summary>
    /// The name in nftables of a Service port's chain, of one of its endpoints' chains or of the set of clients that stay with the
    /// endpoint: <c>service-2QRHZV4L-default/kubernetes/tcp/https</c>.
    /// </summary>
    /// <param name="prefix">The prefix with its last dash.</param>
    /// <param name="port">The Service port.</param>
    /// <param name="endpoint">The endpoint; null for a chain of the port's own.</param>
    internal static string InNftables(string prefix, ProxiedPort port, Backend? endpoint = null)
    {
        var name = $"{port.Namespace}/{port.Service}/{port.Protocol}/{port.PortName}";
        if (endpoint is not null)
        {
            // A colon cannot stand in a name.
            name = string.Create(CultureInfo.InvariantCulture, $"{name}__{endpoint.Address.ToString().Replace(':', '.')}/{endpoint.Where.Port}");
        }

        name = $"{Hash(name)[..8]}-{name}";
        return prefix + (name.Length <= LongestInNftables ? name : name[..(LongestInNftables - 3)] + "...");
    }

    private static string Hash(string text)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(text), hash);
        return string.Create(16, hash[..10].ToArray(), static (name, bytes) =>
        {
            // Ten bytes are exactly sixteen digits of five bits.
            for (var i = 0; i < name.Length; i++)
            {
                var bit = i * 5;
                var pair = (bytes[bit / 8] << 8) | (bit / 8 + 1 < bytes.Length ? bytes[bit / 8 + 1] : 0);
                name[i] = Base32[(pair >> (11 - bit % 8)) & 31];
            }
        });
    }
}
