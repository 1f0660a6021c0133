using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Node;

/// <summary>An address on one of the node's links, and whether it answers (ARP, neighbour discovery).</summary>
/// <param name="Address">The address.</param>
/// <param name="Device">The interface.</param>
/// <param name="LinkAddress">Its link-layer address, such as <c>0a:58:0a:f4:01:02</c>; null while none is known.</param>
/// <param name="State">As ip-neighbour(8) names it: <c>REACHABLE</c>, <c>STALE</c>, <c>FAILED</c>, <c>INCOMPLETE</c>, <c>PERMANENT</c>, …</param>
public sealed record Neighbour(IpAddress Address, string Device, string? LinkAddress, string State)
{
    /// <summary>Whether it was asked for and did not answer.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public bool IsSilent => State is "FAILED" or "INCOMPLETE";

    /// <summary>
    /// Reads what <c>ip neigh</c> prints, either family:
    /// <code>
    /// 10.244.1.2 dev cni0 lladdr 0a:58:0a:f4:01:02 REACHABLE
    /// 172.30.0.12 dev eth0 FAILED
    /// fe80::1 dev eth0 lladdr 02:42:ac:1e:00:01 router STALE
    /// </code>
    /// </summary>
    /// <exception cref="FormatException">A line is none of it; the message names it.</exception>
    public static ImmutableArray<Neighbour> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var neighbours = ImmutableArray.CreateBuilder<Neighbour>();
        var number = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            var words = line.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 0)
            {
                continue;
            }

            var device = Array.IndexOf(words, "dev");
            if (!IpAddress.TryParse(words[0], null, out var address) || device < 1 || device + 1 >= words.Length)
            {
                throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {number} names no neighbour: '{line.Trim()}'."));
            }

            // One that the kernel need not ask for (NOARP) has no state in some versions.
            var link = Array.IndexOf(words, "lladdr");
            var state = words[^1];
            neighbours.Add(new Neighbour(address, words[device + 1], link > 0 && link + 1 < words.Length ? words[link + 1] : null, state.All(char.IsAsciiLetterUpper) ? state : "NONE"));
        }

        return neighbours.ToImmutable();
    }
}
