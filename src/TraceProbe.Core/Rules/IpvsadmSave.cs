using System.Collections.Immutable;
using System.Globalization;
using System.Numerics;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Rules;

/// <summary>
/// Reads what <c>ipvsadm -Sn</c> prints:
/// <code>
/// -A -t 10.96.0.1:443 -s rr
/// -a -t 10.96.0.1:443 -r 172.30.0.11:6443 -m -w 1
/// -A -u [fd00:10:96::a]:53 -s rr -p 10800
/// </code>
/// </summary>
public static class IpvsadmSave
{
    /// <summary>Reads one dump.</summary>
    /// <exception cref="FormatException">The text is no such dump, has names in place of numbers, or is cut off; the message names the line.</exception>
    public static IpvsTable Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var servers = new List<(VirtualServer Server, ImmutableArray<RealServer>.Builder Behind)>();
        var at = new Dictionary<(IpProtocol, AddressPort, uint), int>();
        var number = 0;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            number++;
            var words = new Words(line.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries), number);
            if (words.Next() is not { } command)
            {
                continue;
            }

            if (command is not ("-A" or "-a"))
            {
                throw words.Malformed($"'{line.Trim()}' is neither '-A VIRTUAL-SERVER …' nor '-a VIRTUAL-SERVER -r REAL-SERVER …'");
            }

            var server = Service(words);
            var key = (server.Protocol, server.Address, server.Mark);
            if (command == "-A")
            {
                if (!at.TryAdd(key, servers.Count))
                {
                    throw words.Malformed($"the virtual server {server.Option} comes twice");
                }

                servers.Add((Options(server, words), ImmutableArray.CreateBuilder<RealServer>()));
            }
            else if (at.TryGetValue(key, out var known))
            {
                servers[known].Behind.Add(Real(words));
            }
            else
            {
                throw words.Malformed($"a real server of {server.Option}, which was not added");
            }
        }

        // Without a line break at its end, a weight or a port may be cut short and still look whole.
        return text.Length == 0 || text[^1] == '\n'
            ? new IpvsTable([.. servers.Select(s => s.Server with { RealServers = s.Behind.ToImmutable() })])
            : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {number}: the dump ends within a line; it is cut off, take it again."));
    }

    private static VirtualServer Service(Words words)
    {
        var option = words.Next();
        if (option == "-f")
        {
            var mark = words.Number("a mark");
            var ipv6 = words.Take("-6");
            return mark is > 0 and <= uint.MaxValue
                ? new VirtualServer { Scheduler = "", Mark = (uint)mark, Address = new AddressPort(ipv6 ? IpAddress.IPv6Any : IpAddress.IPv4Any, 0) }
                : throw words.Malformed($"{mark} is no mark");
        }

        var protocol = option switch
        {
            "-t" => IpProtocol.Tcp,
            "-u" => IpProtocol.Udp,
            "--sctp-service" => IpProtocol.Sctp,
            _ => throw words.Malformed($"'{option}' is no kind of virtual server"),
        };
        return new VirtualServer { Scheduler = "", Protocol = protocol, Address = words.Address() };
    }

    private static VirtualServer Options(VirtualServer server, Words words)
    {
        var width = server.Address.Address.Width;
        while (words.Next() is { } option)
        {
            server = option switch
            {
                "-s" => server with { Scheduler = words.Next() ?? throw words.Malformed("no scheduler after -s") },
                "-p" => server with { PersistenceSeconds = (int)Math.Min(words.Number("a time"), int.MaxValue), PersistencePrefix = server.PersistencePrefix == 0 ? width : server.PersistencePrefix },
                "-M" => server with { PersistencePrefix = Prefix(words, width) },
                "--pe" => server with { PersistenceEngine = words.Next() ?? throw words.Malformed("no engine after --pe") },
                "-o" or "--ops" => server with { OnePacket = true },
                "-b" => server with { SchedulerFlags = [.. (words.Next() ?? throw words.Malformed("no flags after -b")).Split(',', StringSplitOptions.RemoveEmptyEntries)] },
                _ => throw words.Malformed($"'{option}' is no option of a virtual server that is known"),
            };
        }

        return server.Scheduler.Length > 0 ? server : throw words.Malformed($"{server.Option} has no scheduler");
    }

    private static int Prefix(Words words, int width)
    {
        var text = words.Next();
        var length = IpAddress.TryParse(text, null, out var mask) && mask.IsIPv4 && uint.LeadingZeroCount(~(uint)mask.Low) is var ones && BitOperations.PopCount((uint)mask.Low) == ones
            ? (int)ones : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : -1;
        return length >= 0 && length <= width ? length : throw words.Malformed($"'{text}' is no netmask");
    }

    private static RealServer Real(Words words)
    {
        AddressPort? address = null;
        Forwarding? forwarding = null;
        var weight = 1L;
        while (words.Next() is { } option)
        {
            switch (option)
            {
                case "-r":
                    address = words.Address();
                    break;
                case "-m":
                    forwarding = Forwarding.Masquerade;
                    break;
                case "-g":
                    forwarding = Forwarding.DirectRouting;
                    break;
                case "-i":
                    forwarding = Forwarding.Tunnel;
                    break;
                case "-w":
                    weight = words.Number("a weight");
                    break;
                case "--tun-type" or "--tun-port" or "-x" or "-y":
                    _ = words.Next() ?? throw words.Malformed($"nothing after {option}");
                    break;
                case "--tun-nocsum" or "--tun-csum" or "--tun-remcsum":
                    break;
                default:
                    throw words.Malformed($"'{option}' is no option of a real server that is known");
            }
        }

        return address is { } known && forwarding is { } how && weight <= int.MaxValue
            ? new RealServer(known, how, (int)weight) : throw words.Malformed("a real server needs an address, a way of forwarding and a weight");
    }

    private sealed class Words(string[] words, int line)
    {
        private int _at;

        public string? Next() => _at < words.Length ? words[_at++] : null;

        public bool Take(string word)
        {
            var taken = _at < words.Length && words[_at] == word;
            _at += taken ? 1 : 0;
            return taken;
        }

        public AddressPort Address()
            => Next() is var text && AddressPort.TryParse(text, out var address) ? address : throw Malformed($"'{text}' is no address with a port; take the dump with -n");

        public long Number(string what)
            => Next() is var text && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : throw Malformed($"'{text}' is not {what}");

        public FormatException Malformed(string what) => new(string.Create(CultureInfo.InvariantCulture, $"line {line}: {what}."));
    }
}
