using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json.Serialization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Node;

/// <summary>What connection tracking knows of one connection on a node.</summary>
/// <param name="Original">The connection as the client makes it.</param>
/// <param name="Reply">The packets that come back, as the node expects them: their source is the backend that the client was translated to.</param>
public sealed record ConntrackEntry(FiveTuple Original, FiveTuple Reply)
{
    /// <summary>What became of it so far.</summary>
    public ConntrackStatus Status { get; init; }

    /// <summary>The state of TCP or SCTP, such as <c>ESTABLISHED</c>; null for other protocols and where it was not told.</summary>
    public string? State { get; init; }

    /// <summary>In how many seconds it is forgotten; null when not told.</summary>
    public long? TimeoutSeconds { get; init; }

    /// <summary>Its mark.</summary>
    public uint Mark { get; init; }

    /// <summary>Its zone; 0 without one.</summary>
    public int Zone { get; init; }

    /// <summary>Where its packets go: the destination after translation.</summary>
    [JsonIgnore]
    public AddressPort Backend => Reply.Source;

    /// <summary>Whether the destination is translated.</summary>
    [JsonIgnore]
    public bool IsTranslated => Reply.Source != Original.Destination;

    /// <summary>
    /// Reads lines of <c>conntrack -L</c> (with or without <c>-o extended</c>) or of <c>/proc/net/nf_conntrack</c>:
    /// <code>
    /// ipv4     2 tcp      6 431998 ESTABLISHED src=10.244.1.5 dst=10.96.0.1 sport=54262 dport=80 src=10.244.3.2 dst=10.244.1.5 sport=8080 dport=54262 [ASSURED] mark=0 use=1
    /// udp      17 28 src=10.244.1.5 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] src=10.244.2.2 dst=10.244.1.5 sport=53 dport=40000 mark=0 use=1
    /// </code>
    /// </summary>
    /// <returns>The entries; connections of protocols without ports (ICMP) are left out.</returns>
    /// <exception cref="FormatException">A line is none of connection tracking; the message names it.</exception>
    public static ImmutableArray<ConntrackEntry> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var entries = ImmutableArray.CreateBuilder<ConntrackEntry>();
        var number = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            if (!line.IsWhiteSpace() && ParseLine(line.ToString(), number) is { } entry)
            {
                entries.Add(entry);
            }
        }

        return entries.ToImmutable();
    }

    private static ConntrackEntry? ParseLine(string line, int number)
    {
        var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        var at = words[0] is "ipv4" or "ipv6" ? 2 : 0;
        if (words.Length < at + 3 || !byte.TryParse(words[at + 1], NumberStyles.None, CultureInfo.InvariantCulture, out var protocol))
        {
            throw Malformed("it begins with no protocol");
        }

        var hasTimeout = long.TryParse(words[at + 2], NumberStyles.None, CultureInfo.InvariantCulture, out var timeout);
        string? state = null;
        var status = ConntrackStatus.SeenReply | ConntrackStatus.Confirmed;
        uint mark = 0;
        var zone = 0;
        Span<IpAddress?> addresses = [null, null, null, null];
        Span<ushort?> ports = [null, null, null, null];
        int sources = 0, destinations = 0, sourcePorts = 0, destinationPorts = 0;
        foreach (var word in words.AsSpan(at + (hasTimeout ? 3 : 2)))
        {
            var equals = word.IndexOf('=', StringComparison.Ordinal);
            var value = word.AsSpan(equals + 1);
            switch (equals < 0 ? word : word[..equals])
            {
                case "src" when sources < 2:
                    addresses[sources++ * 2] = Address(value);
                    break;
                case "dst" when destinations < 2:
                    addresses[destinations++ * 2 + 1] = Address(value);
                    break;
                case "sport" when sourcePorts < 2:
                    ports[sourcePorts++ * 2] = Port(value);
                    break;
                case "dport" when destinationPorts < 2:
                    ports[destinationPorts++ * 2 + 1] = Port(value);
                    break;
                case "mark" when !uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out mark):
                case "zone" when !int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out zone):
                    throw Malformed($"'{word}' is no number");
                case "[UNREPLIED]":
                    status &= ~ConntrackStatus.SeenReply;
                    break;
                case "[ASSURED]":
                    status |= ConntrackStatus.Assured;
                    break;
                case var other when equals < 0 && state is null && other.All(c => char.IsAsciiLetterUpper(c) || c == '_'):
                    state = other;
                    break;
            }
        }

        if (addresses.Contains(null))
        {
            throw Malformed("it has not two addresses for each direction");
        }

        if (ports.Contains(null))
        {
            return protocol is (byte)IpProtocol.Tcp or (byte)IpProtocol.Udp or (byte)IpProtocol.Sctp ? throw Malformed("it has not two ports for each direction") : null;
        }

        var original = new FiveTuple((IpProtocol)protocol, new(addresses[0]!.Value, ports[0]!.Value), new(addresses[1]!.Value, ports[1]!.Value));
        var reply = new FiveTuple((IpProtocol)protocol, new(addresses[2]!.Value, ports[2]!.Value), new(addresses[3]!.Value, ports[3]!.Value));
        return new ConntrackEntry(original, reply)
        {
            Status = status | (reply.Source == original.Destination ? 0 : ConntrackStatus.Dnat) | (reply.Destination == original.Source ? 0 : ConntrackStatus.Snat),
            State = state,
            TimeoutSeconds = hasTimeout ? timeout : null,
            Mark = mark,
            Zone = zone,
        };

        IpAddress Address(ReadOnlySpan<char> value) => IpAddress.TryParse(value, null, out var address) ? address : throw Malformed($"'{value}' is no address");

        ushort Port(ReadOnlySpan<char> value)
            => ushort.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var port) ? port : throw Malformed($"'{value}' is no port");

        FormatException Malformed(string why) => new(string.Create(CultureInfo.InvariantCulture, $"line {number} is none of connection tracking: {why}."));
    }

    /// <summary>As <c>conntrack -L</c> prints it.</summary>
    public override string ToString()
    {
        static string Words(FiveTuple t) => string.Create(CultureInfo.InvariantCulture, $"src={t.Source.Address} dst={t.Destination.Address} sport={t.Source.Port} dport={t.Destination.Port}");
        return string.Create(CultureInfo.InvariantCulture,
            $"{Original.Protocol.ToString().ToLowerInvariant()} {(byte)Original.Protocol}{(TimeoutSeconds is { } seconds ? string.Create(CultureInfo.InvariantCulture, $" {seconds}") : "")}{(State is null ? "" : $" {State}")} {Words(Original)}{(Status.HasFlag(ConntrackStatus.SeenReply) ? "" : " [UNREPLIED]")} {Words(Reply)}{(Status.HasFlag(ConntrackStatus.Assured) ? " [ASSURED]" : "")} mark={Mark}");
    }
}

/// <summary>What became of a tracked connection (<c>enum ip_conntrack_status</c>, include/uapi/linux/netfilter/nf_conntrack_common.h).</summary>
[Flags]
[JsonConverter(typeof(JsonStringEnumConverter<ConntrackStatus>))]
public enum ConntrackStatus
{
    /// <summary>Nothing yet.</summary>
    None = 0,

    /// <summary>It was expected by another connection.</summary>
    Expected = 1,

    /// <summary>Packets were seen both ways.</summary>
    SeenReply = 2,

    /// <summary>It is not forgotten early when the table is full.</summary>
    Assured = 4,

    /// <summary>Its first packet left the node.</summary>
    Confirmed = 8,

    /// <summary>Its source is translated.</summary>
    Snat = 16,

    /// <summary>Its destination is translated.</summary>
    Dnat = 32,

    /// <summary>It was looked up for translation of the source, whether it has one or not.</summary>
    SnatDone = 128,

    /// <summary>It was looked up for translation of the destination, whether it has one or not.</summary>
    DnatDone = 256,

    /// <summary>It is being forgotten.</summary>
    Dying = 512,
}
