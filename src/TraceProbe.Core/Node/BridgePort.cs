using System.Collections.Immutable;
using System.Globalization;

namespace TraceProbe.Core.Node;

/// <summary>A port of one of the node's bridges, such as a pod's veth.</summary>
/// <param name="Device">The interface.</param>
/// <param name="Bridge">Its bridge.</param>
/// <param name="Hairpin">
/// Whether the bridge sends a packet out again where it came in, as a pod needs that reaches itself through a Service; null when it was not told.
/// </param>
public sealed record BridgePort(string Device, string Bridge, bool? Hairpin)
{
    /// <summary>
    /// Reads what <c>bridge -d link</c> prints:
    /// <code>
    /// 5: veth1a2b@if2: &lt;BROADCAST,MULTICAST,UP,LOWER_UP&gt; mtu 1500 master cni0 state forwarding priority 32 cost 2
    ///     hairpin on guard off root_block off fastleave off learning on flood on
    /// </code>
    /// </summary>
    /// <exception cref="FormatException">The text is none of it; the message names the line.</exception>
    public static ImmutableArray<BridgePort> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ports = ImmutableArray.CreateBuilder<BridgePort>();
        var number = 0;
        var skipping = false;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            var words = line.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 0)
            {
                continue;
            }

            if (!char.IsWhiteSpace(line[0]))
            {
                // The name ends with a colon; of a veth the other end's index follows an @.
                var master = Array.IndexOf(words, "master");
                var name = words.Length > 1 && words[1].EndsWith(':') ? words[1][..^1] : "";
                var at = name.IndexOf('@', StringComparison.Ordinal);
                if (name.Length == 0 || at == 0 || !words[0].EndsWith(':'))
                {
                    throw Malformed("names no interface");
                }

                skipping = master < 0; // the bridge itself
                if (!skipping)
                {
                    ports.Add(new BridgePort(at < 0 ? name : name[..at], master + 1 < words.Length ? words[master + 1] : throw Malformed("names no bridge"), null));
                }
            }
            else if (!skipping && Array.IndexOf(words, "hairpin") is >= 0 and var hairpin)
            {
                if (ports.Count == 0 || hairpin + 1 >= words.Length || words[hairpin + 1] is not ("on" or "off"))
                {
                    throw Malformed("does not say which port's hairpin is on or off");
                }

                ports[^1] = ports[^1] with { Hairpin = words[hairpin + 1] == "on" };
            }
        }

        return ports.ToImmutable();

        FormatException Malformed(string why) => new(string.Create(CultureInfo.InvariantCulture, $"line {number} {why}."));
    }
}

/// <summary>One of the node's bridges.</summary>
/// <param name="Device">Its name.</param>
/// <param name="CallsIptables">
/// Whether it shows IPv4 packets that it passes on to iptables whatever <c>net.bridge.bridge-nf-call-iptables</c> says (its own <c>nf_call_iptables</c>).
/// </param>
/// <param name="CallsIp6tables">The same for IPv6.</param>
/// <param name="IsPromiscuous">Whether it takes in every packet, the other way of letting a pod reach itself.</param>
public sealed record Bridge(string Device, bool CallsIptables, bool CallsIp6tables, bool IsPromiscuous);
