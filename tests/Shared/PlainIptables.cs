using System.Globalization;
using System.Net;

namespace TraceProbe.Tests;

/// <summary>A packet for <see cref="PlainIptables"/>.</summary>
/// <param name="Protocol">tcp, udp or sctp.</param>
/// <param name="Source">The source address; empty for the one that the node takes for that destination.</param>
/// <param name="Destination">The destination address.</param>
/// <param name="Port">The destination port.</param>
/// <param name="FromNode">Whether the node sends it.</param>
/// <param name="SeenIn">The list of <c>-m recent</c> that its sender is in; null when in none.</param>
internal sealed record PlainPacket(string Protocol, string Source, string Destination, int Port, bool FromNode, string? SeenIn = null);

/// <summary>
/// What iptables does with a packet, as plainly as can be written: the lines of a dump, taken word by word, each rule tried in order, every
/// fall of the dice. It knows nothing of kube-proxy, shares no code with what it is to judge, and understands no more than kube-proxy writes:
/// what it does not understand is an error.
/// </summary>
internal sealed class PlainIptables
{
    private readonly Dictionary<string, List<Line>> _chains = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _policies = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<string>> _servers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string Type, HashSet<string> Members)> _sets = new(StringComparer.Ordinal);
    private readonly HashSet<string> _own;
    private readonly string _address;

    /// <summary>Takes dumps.</summary>
    /// <param name="dump">Of iptables-save.</param>
    /// <param name="ownAddresses">The node's addresses, the one it sends from first.</param>
    /// <param name="ipvsadm">Of <c>ipvsadm -Sn</c>.</param>
    /// <param name="ipset">Of <c>ipset save</c>.</param>
    public PlainIptables(IEnumerable<string> dump, IEnumerable<string> ownAddresses, IEnumerable<string>? ipvsadm = null, IEnumerable<string>? ipset = null)
    {
        _own = [.. ownAddresses];
        _address = ownAddresses.First();
        foreach (var words in (ipvsadm ?? []).Select(l => l.Split(' ')))
        {
            // -A -t 10.96.0.1:443 -s rr; -a -t 10.96.0.1:443 -r 172.30.0.11:6443 -m -w 1
            var key = words is [_, var protocol, var at, ..] ? $"{protocol switch { "-t" => "tcp", "-u" => "udp", _ => "sctp" }} {at}" : "";
            if (words[0] == "-A")
            {
                _servers[key] = [];
            }
            else if (words[0] == "-a" && words[^1] != "0")
            {
                _servers[key].Add(words[4]);
            }
        }

        foreach (var words in (ipset ?? []).Select(l => l.Split(' ')))
        {
            if (words[0] == "create")
            {
                _sets[words[1]] = (words[2], []);
            }
            else if (words[0] == "add")
            {
                _sets[words[1]].Members.Add(words[2]);
            }
        }

        var table = "";
        foreach (var text in dump)
        {
            if (text.StartsWith('*'))
            {
                table = text[1..];
            }
            else if (text.StartsWith(':'))
            {
                var words = text[1..].Split(' ');
                _chains[$"{table} {words[0]}"] = [];
                _policies[$"{table} {words[0]}"] = words[1];
            }
            else if (text.StartsWith("-A ", StringComparison.Ordinal))
            {
                var line = new Line(text);
                _chains[$"{table} {line.Chain}"].Add(line);
            }
        }
    }

    /// <summary>How it ends, with the probability of each end; and the chains and rules that it met on the way.</summary>
    public Dictionary<string, double> Ends(PlainPacket packet, HashSet<string>? chains = null, HashSet<string>? rules = null)
    {
        var ends = new Dictionary<string, double>(StringComparer.Ordinal);
        var dice = new List<bool>();
        while (true)
        {
            var run = new Run(this, packet, dice, chains, rules);
            var end = run.End();
            ends[end] = ends.GetValueOrDefault(end) + run.Probability;

            // The next fall of the dice: the last that came up true comes up false.
            var last = dice.FindLastIndex(d => d);
            if (last < 0)
            {
                return ends;
            }

            dice.RemoveRange(last, dice.Count - last);
            dice.Add(false);
        }
    }

    private static bool Within(string address, string prefix)
    {
        var slash = prefix.IndexOf('/', StringComparison.Ordinal);
        var network = IPAddress.Parse(slash < 0 ? prefix : prefix[..slash]).GetAddressBytes();
        var own = IPAddress.Parse(address).GetAddressBytes();
        var bits = slash < 0 ? network.Length * 8 : int.Parse(prefix.AsSpan(slash + 1), CultureInfo.InvariantCulture);
        if (own.Length != network.Length)
        {
            return false;
        }

        for (var i = 0; i < bits; i++)
        {
            if (((own[i / 8] ^ network[i / 8]) & (0x80 >> (i % 8))) != 0)
            {
                return false;
            }
        }

        return true;
    }

    private sealed class Line
    {
        public Line(string text)
        {
            Text = text;
            // Comments are the only words in quotes.
            var open = text.IndexOf('"', StringComparison.Ordinal);
            var close = text.LastIndexOf('"');
            Words = (open < 0 ? text : text[..open] + "comment" + text[(close + 1)..]).Split(' ', StringSplitOptions.RemoveEmptyEntries);
            Chain = Words[1];
        }

        public string Text { get; }

        public string Chain { get; }

        public string[] Words { get; }
    }

    private sealed class Run(PlainIptables tables, PlainPacket packet, List<bool> dice, HashSet<string>? chains, HashSet<string>? rules)
    {
        private readonly string _source = packet.Source.Length > 0 ? packet.Source : tables._own.Contains(packet.Destination) ? packet.Destination : tables._address;
        private string? _scheduled;
        private string _destination = packet.Destination;
        private int _port = packet.Port;
        private uint _mark;
        private bool _translated;
        private bool _masqueraded;
        private int _thrown;

        public double Probability { get; private set; } = 1;

        private bool IsOwn => tables._own.Contains(_destination) || _destination.StartsWith("127.", StringComparison.Ordinal);

        public string End()
        {
            var fate = packet.FromNode
                ? Hook("OUTPUT", "raw", "mangle", "nat") ?? Schedule() ?? Hook("OUTPUT", "filter") ?? Hook("POSTROUTING", "mangle", "nat") ?? (IsOwn ? Hook("PREROUTING", "raw", "mangle") ?? Hook("INPUT", "mangle", "filter") : null)
                : Hook("PREROUTING", "raw", "mangle", "nat") ?? (IsOwn ? Hook("INPUT", "mangle", "filter") ?? Schedule() ?? (IsOwn ? Hook("INPUT", "nat") : Hook("OUTPUT", "raw", "mangle", "filter") ?? Hook("POSTROUTING", "mangle", "nat"))
                    : Hook("FORWARD", "mangle", "filter") ?? Hook("POSTROUTING", "mangle", "nat"));
            // Whose source changes that goes on as it is, is no concern of Services.
            return fate ?? (!_translated ? "as it is" : $"{_destination}:{_port}{(_masqueraded ? " masqueraded" : "")}");
        }

        // IPVS: by turns to the real servers, out through the output hook when they are elsewhere.
        private string? Schedule()
        {
            if (!tables._servers.TryGetValue($"{packet.Protocol} {_destination}:{_port}", out var real))
            {
                return null;
            }

            if (real.Count == 0)
            {
                return "rejected";
            }

            var i = 0;
            while (i < real.Count - 1 && !Throw(1.0 / (real.Count - i)))
            {
                i++;
            }

            _scheduled = $"{packet.Protocol} {_destination}:{_port}";
            _destination = real[i][..real[i].LastIndexOf(':')];
            _port = int.Parse(real[i].AsSpan(real[i].LastIndexOf(':') + 1), CultureInfo.InvariantCulture);
            _translated = true;
            return packet.FromNode && !IsOwn ? Hook("OUTPUT", "raw", "mangle") : null;
        }

        private bool Throw(double share)
        {
            if (_thrown == dice.Count)
            {
                dice.Add(true);
            }

            var held = dice[_thrown++];
            Probability *= held ? share : 1 - share;
            return held;
        }

        private bool IsIn(string name, string directions)
        {
            var (type, members) = tables._sets[name];
            var parts = directions.Split(',').Select(d => d == "src" ? _source : _destination).ToArray();
            var port = string.Create(CultureInfo.InvariantCulture, $"{packet.Protocol}:{_port}");
            return type switch
            {
                "bitmap:port" => packet.Protocol != "sctp" && members.Contains(_port.ToString(CultureInfo.InvariantCulture)),
                "hash:ip" => members.Contains(parts[0]),
                "hash:ip,port" => members.Contains($"{parts[0]},{port}"),
                "hash:ip,port,ip" => members.Contains($"{parts[0]},{port},{parts[2]}"),
                "hash:ip,port,net" => members.Any(m => m.StartsWith($"{parts[0]},{port},", StringComparison.Ordinal) && Within(parts[2], m[(m.LastIndexOf(',') + 1)..])),
                _ => throw new NotSupportedException(type),
            };
        }

        private string? Hook(string chain, params string[] names)
        {
            foreach (var table in names)
            {
                if (table == "nat" && (chain is "PREROUTING" or "OUTPUT" ? _translated : _masqueraded) || !tables._chains.ContainsKey($"{table} {chain}"))
                {
                    continue;
                }

                var verdict = Chain(table, chain);
                if (verdict is null or "RETURN" && tables._policies[$"{table} {chain}"] == "DROP")
                {
                    verdict = "DROP";
                }

                if (verdict is "DROP" or "REJECT")
                {
                    return verdict == "DROP" ? "dropped" : "rejected";
                }
            }

            return null;
        }

        // ACCEPT, DROP, REJECT; null when the chain came to its end or returned.
        private string? Chain(string table, string name)
        {
            chains?.Add($"{table} {name}");
            foreach (var line in tables._chains[$"{table} {name}"])
            {
                if (!Matches(line, out var target))
                {
                    continue;
                }

                rules?.Add(line.Text);
                var words = line.Words;
                switch (words.ElementAtOrDefault(target))
                {
                    case null:
                        break;
                    case "ACCEPT" or "DROP" or "REJECT":
                        return words[target];
                    case "RETURN":
                        return null;
                    case "MARK":
                        var (value, mask) = Pair(words[target + 2]);
                        _mark = (_mark & ~mask) ^ value;
                        break;
                    case "MASQUERADE":
                        _masqueraded = true;
                        return "ACCEPT";
                    case "DNAT":
                        var to = words[target + 2];
                        _destination = to[..to.LastIndexOf(':')];
                        _port = int.Parse(to.AsSpan(to.LastIndexOf(':') + 1), CultureInfo.InvariantCulture);
                        _translated = true;
                        return "ACCEPT";
                    case var chain:
                        if (Chain(table, chain) is { } verdict)
                        {
                            return verdict;
                        }

                        break;
                }
            }

            return null;
        }

        private bool Matches(Line line, out int target)
        {
            target = int.MaxValue;
            var not = false;
            var all = true;
            for (var i = 2; i < line.Words.Length; i++)
            {
                bool holds;
                switch (line.Words[i])
                {
                    case "!":
                        not = true;
                        continue;
                    case "-j":
                        target = i + 1;
                        return all;
                    case "-m":
                        i++;
                        continue;
                    case "--comment" or "--nfacct-name" or "--mask" or "--seconds":
                        i++;
                        continue;
                    case "--reap" or "--rsource":
                        continue;
                    case "--match-set":
                        holds = IsIn(line.Words[++i], line.Words[++i]);
                        break;
                    case "--vproto":
                        i++;
                        holds = _scheduled is not null;
                        break;
                    case "--vaddr":
                        i++;
                        holds = _scheduled?.Contains($" {line.Words[i].Split('/')[0]}:", StringComparison.Ordinal) == true;
                        break;
                    case "--vport":
                        i++;
                        holds = _scheduled?.EndsWith($":{line.Words[i]}", StringComparison.Ordinal) == true;
                        break;
                    case "-s":
                        holds = Within(_source, line.Words[++i]);
                        break;
                    case "-d":
                        holds = Within(_destination, line.Words[++i]);
                        break;
                    case "-p":
                        holds = packet.Protocol == line.Words[++i];
                        break;
                    case "--dport":
                        holds = line.Words[++i] == _port.ToString(CultureInfo.InvariantCulture);
                        break;
                    case "--mark":
                        var (value, mask) = Pair(line.Words[++i]);
                        holds = (_mark & mask) == value;
                        break;
                    case "--ctstate":
                        // A new connection; DNAT among the states asks whether it was translated.
                        holds = line.Words[++i].Split(',').Any(s => s == "NEW" || s == "DNAT" && _translated);
                        break;
                    case "--dst-type":
                        i++;
                        holds = IsOwn;
                        break;
                    case "--src-type":
                        i++;
                        holds = tables._own.Contains(_source);
                        break;
                    case "--physdev-is-in":
                        holds = false;
                        break;
                    case "--rcheck":
                        holds = packet.SeenIn is not null && line.Words[Array.IndexOf(line.Words, "--name") + 1] == packet.SeenIn;
                        And(ref all, holds, ref not);
                        continue;
                    case "--set":
                        continue;
                    case "--name":
                        i++;
                        continue;
                    case "--mode":
                        i += 3;
                        if (!all)
                        {
                            continue;
                        }

                        var share = double.Parse(line.Words[i], CultureInfo.InvariantCulture);
                        holds = Throw(share);
                        break;
                    default:
                        throw new NotSupportedException($"'{line.Words[i]}' in {line.Text}");
                }

                And(ref all, holds, ref not);
            }

            return all;

            static void And(ref bool all, bool holds, ref bool not)
            {
                all &= holds != not;
                not = false;
            }
        }

        private static (uint Value, uint Mask) Pair(string text)
        {
            var parts = text.Split('/');
            return (Convert.ToUInt32(parts[0], 16), parts.Length > 1 ? Convert.ToUInt32(parts[1], 16) : uint.MaxValue);
        }
    }
}
