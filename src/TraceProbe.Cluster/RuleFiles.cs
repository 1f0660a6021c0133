using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster;

/// <summary>
/// A node's rules as they were saved: what <c>iptables-save</c>, <c>ip6tables-save</c> (with or without <c>-c</c>), <c>nft -j list ruleset</c>,
/// <c>ipvsadm -Sn</c>, <c>ipset save</c>, <c>ip route show table all</c> and <c>ip rule</c> printed, each in a file, gzipped or not, told apart by what is in them. Of a folder, the files that
/// are none of these are passed over, and of two dumps of the same rules the one with counters is taken.
/// </summary>
public sealed class RuleFiles
{
    // 10,000 Services are 10 MB of it.
    private const int MaxBytes = 256 << 20;

    private readonly List<(string Path, RuleSet Set)> _tables = [];
    private readonly List<(string Path, string Text)> _nft = [];
    private readonly List<string> _routes = [];
    private readonly List<PolicyRule> _policy = [];
    private IpvsTable? _ipvs;
    private Dictionary<string, IpSet>? _ipsets;
    private ImmutableArray<RuleSet> _sets;

    /// <summary>The rules of both families.</summary>
    public ImmutableArray<RuleSet> Sets => _sets;

    /// <summary>The routes; null when none were given.</summary>
    public RouteTable? Routes { get; private set; }

    /// <summary>The rules by family, without those of a family that was not given.</summary>
    public IEnumerable<ProxyRules> Families
    {
        get
        {
            if (IsKnown(isIPv6: false))
            {
                yield return ProxyRules.Of(_sets, false, [], HasIpvs, Routes);
            }

            if (IsKnown(isIPv6: true))
            {
                yield return ProxyRules.Of(_sets, true, [], HasIpvs, Routes);
            }
        }
    }

    private bool HasIpvs => _ipvs is { Servers.IsEmpty: false };

    private bool IsKnown(bool isIPv6) => _nft.Count > 0 || HasIpvs || _tables.Exists(t => t.Set.IsIPv6 == isIPv6);

    /// <summary>Reads files and folders.</summary>
    /// <exception cref="FormatException">A file is none of these, or damaged; the message names the file and the line.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static RuleFiles Read(IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var files = new RuleFiles();
        foreach (var path in paths)
        {
            if (Directory.Exists(path))
            {
                files.AddFolder(path);
            }
            else if (path.Length == 0)
            {
                throw new IOException("A file without a name was given.");
            }
            else if (Text(path) is var text && (path == "-" ? "standard input" : path) is var name && !files.Add(name, text, fromFolder: false))
            {
                throw new FormatException(text.AsSpan().TrimStart() is { IsEmpty: true } ? $"{name} is empty."
                    : text.AsSpan().TrimStart().StartsWith("table ") ? $"{name} is what 'nft list ruleset' prints for people; 'nft -j list ruleset' prints the same to be read."
                    : $"{name} is no dump of rules: it is not what iptables-save, 'nft -j list ruleset', 'ipvsadm -Sn', 'ipset save', 'ip route show table all' or 'ip rule' prints.");
            }
        }

        files.Finish();
        return files;
    }

    private void AddFolder(string folder)
    {
        var any = false;
        foreach (var path in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal))
        {
            // Objects and counters of a large cluster are a hundred times the rules.
            var name = Path.GetFileName(path);
            if (!IsRegular(path))
            {
                continue;
            }

            if (name.Contains("tables", StringComparison.Ordinal) || name.Contains("nft", StringComparison.Ordinal)
                || name.Contains("route", StringComparison.Ordinal) || name.Contains("rule", StringComparison.Ordinal) || name.Contains("ipvs", StringComparison.Ordinal) || name.Contains("ipset", StringComparison.Ordinal))
            {
                any |= Add(path, Text(path), fromFolder: true);
            }
        }

        if (!any)
        {
            throw new FormatException($"The folder {folder} holds no dump of rules: no file with 'tables', 'nft', 'ipvs', 'ipset', 'rule' or 'route' in its name is what one of these tools prints.");
        }
    }

    // Whoever reads a pipe or a terminal that lies in a folder may wait for ever.
    private static unsafe bool IsRegular(string path)
    {
        const int currentFolder = -100; // AT_FDCWD
        const uint type = 1; // STATX_TYPE
        const int modeAt = 28, kinds = 0xf000, regular = 0x8000; // stx_mode; S_IFMT and S_IFREG
        var buffer = stackalloc byte[256];
        // What cannot be looked at is told by its reading.
        return Libc.statx(currentFolder, path, 0, type, buffer) != 0 || (*(ushort*)(buffer + modeAt) & kinds) == regular;
    }

    private bool Add(string path, string text, bool fromFolder)
    {
        var start = text.AsSpan().TrimStart();
        if (start.StartsWith("{"))
        {
            if (!start[..Math.Min(start.Length, 200)].Contains("\"nftables\"", StringComparison.Ordinal))
            {
                return false;
            }

            if (_nft.Count > 0)
            {
                throw new FormatException($"{path} and {_nft[0].Path} are both dumps of nft; give the one of the node.");
            }

            _nft.Add((path, text));
            return true;
        }

        if (start.StartsWith("*") || start.StartsWith(":") || start.StartsWith("# Generated by ip") || start.StartsWith("# Warning: ip") || start.StartsWith("# Table `"))
        {
            AddTables(path, text, fromFolder);
            return true;
        }

        // Without a virtual server ipvsadm prints nothing, which is something to know.
        if (start.IsEmpty && Path.GetFileName(path) is var name && name.StartsWith("ipvsadm", StringComparison.Ordinal) && !name.Contains(".err", StringComparison.Ordinal))
        {
            _ipvs ??= new IpvsTable([]);
            return true;
        }

        if (start.StartsWith("-A -"))
        {
            if (HasIpvs)
            {
                throw new FormatException($"{path} is a second dump of ipvsadm; give the one of the node.");
            }

            _ipvs = Named(path, text, IpvsadmSave.Parse);
            return true;
        }

        if (start.StartsWith("create "))
        {
            _ipsets = Named(path, text, IpSetSave.Parse).ToDictionary(s => s.Name, StringComparer.Ordinal);
            return true;
        }

        if (IsPolicy(start))
        {
            AddPolicy(path, text);
            return true;
        }

        if (!IsRoutes(start))
        {
            return false;
        }

        AddRoutes(path, text);
        return true;
    }

    private void AddTables(string path, string text, bool fromFolder)
    {
        // (iptables-save; ip6tables-save) > dump, either way around.
        const string four = "# Generated by iptables", six = "# Generated by ip6tables";
        if (Math.Max(text.IndexOf(four, StringComparison.Ordinal), text.IndexOf(six, StringComparison.Ordinal)) is > 0 and var second
            && text.AsSpan().TrimStart().StartsWith(text.AsSpan(second).StartsWith(four) ? six : four))
        {
            AddTables(path, text[..second], fromFolder);
            AddTables(path, text[second..], fromFolder);
            return;
        }

        var set = Named(path, text, t => IptablesSave.Parse(t, ToolOf(path, t)));
        var same = _tables.FindIndex(t => t.Set.Backend == set.Backend && t.Set.IsIPv6 == set.IsIPv6);
        if (same < 0)
        {
            _tables.Add((path, set));
        }
        else if (!fromFolder)
        {
            throw new FormatException($"{path} and {_tables[same].Path} are both dumps of {RuleRef.ToolOf(set.Backend, set.IsIPv6)}; give the one of the node.");
        }
        else if (Counts(set) && !Counts(_tables[same].Set))
        {
            _tables[same] = (path, set);
        }
    }

    private void AddRoutes(string path, string text)
    {
        var number = 0;
        foreach (var line in text.Split('\n'))
        {
            number++;
            var words = line.Trim();
            // The further ways of a route stand on lines of their own.
            if (words.Length > 0 && !words.StartsWith("nexthop ", StringComparison.Ordinal))
            {
                if (RouteTable.Parse([words]).Routes.IsEmpty)
                {
                    throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"{path}: line {number}: this is no route: {(words.Length > 200 ? $"{words[..200]}…" : words)}"));
                }

                _routes.Add(words);
            }
        }
    }

    // 32766:	from all lookup main
    private static bool IsPolicy(ReadOnlySpan<char> text)
    {
        var colon = text.IndexOf(':');
        return colon is > 0 and <= 10 && !text[..colon].ContainsAnyExceptInRange('0', '9') && text[(colon + 1)..].TrimStart() is var rest && (rest.StartsWith("from ") || rest.StartsWith("not "));
    }

    // 'ip rule' prints one family, and not which. Its addresses tell; where all are meant, only IPv4 begins with a rule for the table default
    // (fib4_rules_init and fib6_rules_init). Both families in one file are told apart by the first rule's coming again.
    private void AddPolicy(string path, string text)
    {
        var second = text.LastIndexOf("\n0:", StringComparison.Ordinal);
        if (second > 0 && text.AsSpan(0, second).TrimStart().StartsWith("0:"))
        {
            AddPolicy(path, text[..second]);
            AddPolicy(path, text[second..]);
            return;
        }

        var rules = Named(path, text, t => PolicyRule.Parse(t, isIPv6: false));
        var networks = rules.SelectMany(r => new[] { r.From, r.To }).OfType<IpNetwork>().ToList();
        var ipv6 = networks.Count > 0 ? !networks[0].Address.IsIPv4
            : !rules.Any(r => r is { Table: "default", Priority: 32767 }) || Path.GetFileName(path) is var name && (name.Contains("ip6", StringComparison.Ordinal) || name.Contains("-6", StringComparison.Ordinal));
        if (networks.Exists(n => n.Address.IsIPv4 == ipv6))
        {
            throw new FormatException($"{path} has rules of both families mixed; give what 'ip rule' and 'ip -6 rule' printed.");
        }

        if (_policy.Exists(r => r.IsIPv6 == ipv6))
        {
            throw new FormatException($"{path} is a second dump of 'ip {(ipv6 ? "-6 " : "")}rule'; give the one of the node.");
        }

        _policy.AddRange(ipv6 ? rules.Select(r => r with { IsIPv6 = true }) : rules);
    }

    private static T Named<T>(string path, string text, Func<string, T> parse)
    {
        try
        {
            return parse(text);
        }
        catch (FormatException e)
        {
            throw new FormatException($"{path}: {e.Message}", e);
        }
    }

    private static bool Counts(RuleSet set) => set.Tables.Values.Any(t => t.Chains.Values.Any(c => c.Rules.Any(r => r.Packets is not null)));

    // The dump's first line tells; where it was cut off, the file's name may, and the addresses do.
    private static string ToolOf(string path, string text)
    {
        var name = Path.GetFileName(path);
        var head = text.AsSpan(0, Math.Min(text.Length, 200));
        var ipv6 = head.Contains("by ip6tables", StringComparison.Ordinal)
            || !head.Contains("by iptables", StringComparison.Ordinal) && (name.Contains("ip6", StringComparison.Ordinal) || text.Contains("/128 ", StringComparison.Ordinal));
        var nft = head.Contains("(nf_tables)", StringComparison.Ordinal)
            || !head.Contains("Generated by", StringComparison.Ordinal) && name.Contains("nft", StringComparison.Ordinal);
        return $"{(ipv6 ? "ip6tables" : "iptables")}-{(nft ? "nft" : "legacy")}-save";
    }

    // default via 172.30.0.254 dev eth0
    private static bool IsRoutes(ReadOnlySpan<char> text)
    {
        var end = text.IndexOf('\n');
        var line = end < 0 ? text : text[..end];
        // One of several ways has no device of its own.
        return (line.Contains(" dev ", StringComparison.Ordinal) || line.StartsWith("default ")) && RouteTable.Parse([line.ToString()]).Routes.Length == 1
            || line.StartsWith("unreachable ") || line.StartsWith("blackhole ") || line.StartsWith("prohibit ");
    }

    private void Finish()
    {
        var sets = ImmutableArray.CreateBuilder<RuleSet>();
        sets.AddRange(_tables.Select(t => t.Set));
        var shown = sets.Where(s => s.Backend == RuleBackend.Nft).SelectMany(s => s.Tables.Keys.Select(t => $"{(s.IsIPv6 ? "ip6" : "ip")} {t}")).ToHashSet(StringComparer.Ordinal);
        foreach (var (path, text) in _nft)
        {
            try
            {
                sets.AddRange(NftRuleset.Parse(text, shown));
            }
            catch (FormatException e)
            {
                var line = e.InnerException is System.Text.Json.JsonException { LineNumber: { } number } ? string.Create(CultureInfo.InvariantCulture, $" line {number + 1}:") : "";
                throw new FormatException($"{path}:{line} {e.Message}", e);
            }
        }

        if (_ipvs is not null)
        {
            sets.Add(_ipvs.AsRuleSet(false));
            sets.Add(_ipvs.AsRuleSet(true));
        }

        _sets = _ipsets is null ? sets.ToImmutable() : [.. sets.Select(s => s with { IpSets = _ipsets })];
        Routes = _routes.Count == 0 ? null : RouteTable.Parse(_routes, [.. _policy]);
        if (Routes is null && _policy.Count > 0)
        {
            throw new FormatException("What 'ip rule' printed tells nothing without routes; give what 'ip route show table all' printed too.");
        }

        if (_sets.IsEmpty)
        {
            throw new FormatException("Routes alone are no rules; give what iptables-save or 'nft -j list ruleset' printed too.");
        }
    }

    private static string Text(string path)
    {
        using var file = File.OpenRead(path == "-" ? "/dev/stdin" : path);
        using var content = ReadBounded(path, file, file.CanSeek ? file.Length : 0);
        var length = content.Length;
        return Decode(path, !GzipFile.Is(Bytes(content)) ? Bytes(content) : GzipFile.Unpack(path, content.GetBuffer().AsMemory(0, (int)length), packed =>
        {
            var unpacked = ReadBounded(path, packed, 8 * length);
            return unpacked.GetBuffer().AsMemory(0, (int)unpacked.Length);
        }).Span);
    }

    private static ReadOnlySpan<byte> Bytes(MemoryStream content) => content.GetBuffer().AsSpan(0, (int)content.Length);

    private static string Decode(string path, ReadOnlySpan<byte> content)
    {
        // PowerShell writes what it is given as UTF-16.
        var text = content is [0xff, 0xfe, ..] ? Encoding.Unicode.GetString(content[2..]) : Encoding.UTF8.GetString(content is [0xef, 0xbb, 0xbf, ..] ? content[3..] : content);
        return text.Contains('\0') ? throw new FormatException($"{path} is no text.") : text;
    }

    // A large dump is read into one piece of memory, and not into one that is copied whenever it is full.
    private static MemoryStream ReadBounded(string path, Stream stream, long expected)
    {
        var content = new MemoryStream((int)Math.Clamp(expected, 0, MaxBytes));
        var chunk = new byte[128 * 1024];
        int read;
        while ((read = stream.Read(chunk)) > 0)
        {
            if (content.Length + read > MaxBytes)
            {
                throw new FormatException($"{path} holds more than {MaxBytes >> 20} MB.");
            }

            content.Write(chunk, 0, read);
        }

        return content;
    }
}
