using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster;

/// <summary>
/// Reads the programmed account of a node from its kernel, and changes nothing:
/// rules by <c>iptables-save</c> and <c>ip6tables-save</c> of both variants and by <c>nft -j</c>, ipsets by <c>ipset save</c>, virtual servers of IPVS, bridges and neighbours by
/// netlink, routes by <c>ip route</c>, waiting sockets and sysctls from
/// <c>/proc</c>, kube-proxy's process. Everything is read at the same time, each in a thread of its own inside the node's network namespace.
/// </summary>
/// <remarks>
/// None of it takes the xtables lock: <c>iptables-legacy-save</c> reads without it, and the nft variants read a generation of the
/// tables through netlink and start over when it changed.
/// </remarks>
public static class NodeReader
{
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(20);

    private static readonly string[] Sysctls =
    [
        "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
        "net.ipv4.conf.all.route_localnet", "net.ipv4.conf.all.src_valid_mark", "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
        "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max", "net.ipv4.vs.conntrack", "net.ipv4.vs.expire_nodest_conn",
    ];

    /// <summary>Reads one node.</summary>
    /// <param name="node">The node's own namespace. Without a path and a process, the current namespace is the node's.</param>
    /// <param name="pods">The namespaces of its pods, whose waiting sockets are read too.</param>
    /// <returns>The account; what could not be read is in <see cref="NodeAccount.Unread"/> with the reason.</returns>
    public static NodeAccount Read(Place node, IEnumerable<Place> pods)
    {
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(pods);
        var name = node.Node ?? (node.Name.StartsWith("node/", StringComparison.Ordinal) ? node.Name["node/".Length..] : node.Name);
        var path = PathOf(node);
        var unread = ImmutableArray.CreateBuilder<Unread>();

        // 1. What the kernel itself says in an instant, and with it which dumps there are to take.
        var facts = Start(path, ReadFacts);
        var places = pods.ToArray();
        var sockets = Start(path, () => ReadSockets(path, places));
        var inNode = Take(facts, "rules and sysctls", unread, name) ?? Facts.None;
        if (inNode.NftTablesError is { } error)
        {
            unread.Add(new Unread($"nftables tables of {name}", error));
        }

        if (inNode.LinksError is { } linksError)
        {
            unread.Add(new Unread($"bridges, neighbours and routing rules of {name}", linksError));
        }

        // 2. What tools have to say, all at the same time.
        (string What, NamespaceThread<RuleDump?> Work)[] dumps = inNode.NetNs == 0 ? [] :
        [
            ("iptables-legacy rules", Start(path, () => inNode.LegacyIPv4 ? Rules("iptables", legacy: true) : null)),
            ("iptables-nft rules", Start(path, () => inNode.HasIptablesNft("ip") ? Rules("iptables", legacy: false) : Empty("iptables-nft-save"))),
            ("ip6tables-legacy rules", Start(path, () => inNode.LegacyIPv6 ? Rules("ip6tables", legacy: true) : null)),
            ("ip6tables-nft rules", Start(path, () => inNode.HasIptablesNft("ip6") ? Rules("ip6tables", legacy: false) : Empty("ip6tables-nft-save"))),
            ("virtual servers of IPVS", Start(path, () => Ipvs(inNode))),
            ("nftables rules", Start(path, () => NftRules([.. inNode.NftTables.Where(t => !IsIptables(t))], all: !inNode.NftTables.Any(IsIptables)))),
        ];
        var routes = Start(path, Routes);
        var policy = inNode.NetNs == 0 || inNode.LinksError is not null ? null : Start(path, () => PolicyRules(inNode.Links.HasUsualRulesOnly));

        // 3. Meanwhile, whose the waiting sockets are.
        ImmutableArray<ListeningSocket> listeners = [];
        ImmutableArray<uint> readIn = [];
        ProcessRef? kubeProxy = null;
        var lookedFor = false;
        if (Take(sockets, "listening sockets", unread, name) is { Sockets: { } found } read)
        {
            foreach (var failure in read.Unread)
            {
                unread.Add(failure);
            }

            readIn = [.. read.Namespaces];
            var processes = ProcessScan.In([.. read.Namespaces]);
            kubeProxy = ProcessScan.KubeProxy(processes, inNode.NetNs);
            lookedFor = processes.Exists(p => p.NetNs == inNode.NetNs);
            var inodes = new HashSet<ulong>();
            foreach (var socket in found)
            {
                inodes.Add(socket.Inode);
            }

            var owners = ProcessScan.Owners(processes, inodes);
            var owned = ImmutableArray.CreateBuilder<ListeningSocket>(found.Count);
            foreach (var s in found)
            {
                owned.Add(new ListeningSocket(s.NetNs, s.Protocol, s.Local, owners.GetValueOrDefault(s.Inode)) { Waiting = s.Waiting, Backlog = s.Backlog });
            }

            listeners = owned.ToImmutable();
        }

        // 4. What iptables-nft turned out not to understand, although it bears the names of its tables.
        var taken = dumps.Select(d => Take(d.Work, d.What, unread, name)).OfType<RuleDump>().ToList();
        if (taken.SelectMany(Incompatible).ToArray() is { Length: > 0 } others && Take(Start(path, () => NftRules(others, all: false)), "nftables rules", unread, name) is { } more)
        {
            taken.Add(more);
        }

        // 5. The ipsets, when a rule asks one.
        if (taken.Any(d => d.Tool != "nft" && d.Text.Contains("--match-set", StringComparison.Ordinal)) && Take(Start(path, IpSets), "ipsets", unread, name) is { } ipsets)
        {
            taken.Add(ipsets);
        }

        return new NodeAccount
        {
            Name = name,
            NetNs = inNode.NetNs == 0 ? node.NetNs : inNode.NetNs,
            Dumps = [.. taken],
            NftTables = inNode.NftTables,
            HasIpvs = inNode.HasIpvs,
            Routes = [.. Take(routes, "routes", unread, name) ?? []],
            PolicyRules = (policy is null ? null : Take(policy, "routing rules", unread, name)) ?? [],
            Neighbours = inNode.Links.Neighbours,
            Bridges = inNode.Links.Bridges,
            BridgePorts = inNode.Links.Ports,
            Sysctls = inNode.Sysctls,
            Listeners = listeners,
            ListenersReadIn = readIn,
            KubeProxy = kubeProxy,
            ProxyLookedFor = lookedFor,
            Unread = unread.ToImmutable(),
        };
    }

    /// <summary>Asks a node once more, when a request is over.</summary>
    /// <param name="node">The node's own namespace.</param>
    /// <param name="question">What to ask.</param>
    /// <returns>The answer, with what could not be read in <see cref="NodeAnswer.Unread"/>.</returns>
    public static NodeAnswer AskAgain(Place node, NodeQuestion question)
    {
        ArgumentNullException.ThrowIfNull(node);
        ArgumentNullException.ThrowIfNull(question);
        var path = PathOf(node);
        var unread = ImmutableArray.CreateBuilder<Unread>();
        var changed = ImmutableArray.CreateBuilder<Unread>();
        var proxy = question.AsksKubeProxy ? new NamespaceThread<KubeProxyAccount>(null, () => KubeProxyReader.Read(path, question.KubeProxy, question.KubeProxyTold)) : null;
        // Connection tracking first: it forgets.
        var conntrack = question.Connections.IsEmpty ? null : Start(path, () => ConntrackReader.Find(question.Connections));
        var entries = conntrack is null ? [] : Take(conntrack, "tracked connections", unread, question.Node);
        var counts = question.Counts.IsEmpty ? [] : Take(Start(path, () => RuleCounters.Read(question.Counts, SaveLegacy, changed)), "what rules counted", unread, question.Node);
        return new NodeAnswer(counts.IsDefault ? [] : counts, entries.IsDefault ? [] : entries, [.. unread, .. changed]) { KubeProxySaid = proxy?.Result };

        static string SaveLegacy(bool isIPv6, string table)
        {
            var tool = Tool.Find(isIPv6 ? "ip6tables-legacy-save" : "iptables-legacy-save", isIPv6 ? "ip6tables-save" : "iptables-save") ?? throw new IOException("iptables-legacy-save is not installed; install the package iptables.");
            return Tool.Run(tool, ToolTimeout, "-c", "-t", table);
        }
    }

    /// <summary>Asks a node's kube-proxy about itself; a second at most.</summary>
    /// <param name="node">The node's own namespace.</param>
    /// <param name="process">kube-proxy's process there; null when none was found.</param>
    /// <param name="told">What the cluster's objects say that it is told; null when they do not.</param>
    public static KubeProxyAccount AskKubeProxy(Place node, ProcessRef? process, KubeProxySettings? told)
    {
        ArgumentNullException.ThrowIfNull(node);
        return KubeProxyReader.Read(PathOf(node), process, told);
    }

    private static string? PathOf(Place place)
        => place.NetNsPath.Length > 0 ? place.NetNsPath : place.Pid > 0 ? $"/proc/{place.Pid}/ns/net" : null;

    private static NamespaceThread<T> Start<T>(string? path, Func<T> work) => new(path, work);

    private static T? Take<T>(NamespaceThread<T> work, string what, ImmutableArray<Unread>.Builder unread, string node)
    {
        try
        {
            return work.Result;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            unread.Add(new Unread($"{what} of {node}", e.Message));
            return default;
        }
    }

    /// <summary>What can be read without a tool.</summary>
    private sealed record Facts(
        uint NetNs, bool LegacyIPv4, bool LegacyIPv6, ImmutableArray<string> NftTables, string? NftTablesError, bool HasIpvs, ImmutableSortedDictionary<string, string> Sysctls,
        LinkReader.Found Links, string? LinksError)
    {
        public static Facts None { get; } = new(0, false, false, [], null, false, ImmutableSortedDictionary<string, string>.Empty, new LinkReader.Found([], [], [], [], true), null);

        // When tables could not be listed, the tool is asked in any case.
        public bool HasIptablesNft(string family) => NftTablesError is not null || NftTables.Any(t => t.StartsWith($"{family} ", StringComparison.Ordinal) && IsIptables(t));
    }

    // iptables-nft keeps its rules in tables of these names, and shows those of others too if it understands them.
    private static bool IsIptables(string table) => table.IndexOf(' ') is var at && table.AsSpan(0, at) is "ip" or "ip6" && table.AsSpan(at + 1) is "raw" or "mangle" or "nat" or "filter" or "security";

    private static Facts ReadFacts()
    {
        ImmutableArray<string> tables = [];
        string? error = null;
        try
        {
            tables = Cluster.NftTables.List();
        }
        catch (IOException e)
        {
            error = e.Message;
        }

        var links = Facts.None.Links;
        string? linksError = null;
        try
        {
            links = LinkReader.Read();
        }
        catch (IOException e)
        {
            linksError = e.Message;
        }

        return new Facts(
            NamespaceEntry.InodeOf("/proc/thread-self/ns/net"),
            HasLegacy("/proc/thread-self/net/ip_tables_names"),
            HasLegacy("/proc/thread-self/net/ip6_tables_names"),
            tables,
            error,
            HasIpvs(),
            ReadSysctls(),
            links,
            linksError);
    }

    // The kernel names the legacy tables that exist; only root may ask, so others have the tool complain.
    private static bool HasLegacy(string path)
    {
        try
        {
            return File.Exists(path) && File.ReadAllText(path).Trim().Length > 0;
        }
        catch (UnauthorizedAccessException)
        {
            return true;
        }
    }

    // On a system with one variant only, plain iptables-save is that one.
    private static RuleDump? Rules(string command, bool legacy)
    {
        var variant = legacy ? "legacy" : "nft";
        var tool = Tool.Find($"{command}-{variant}-save", $"{command}-save")
            ?? throw new IOException($"{command}-{variant}-save is not installed, but there are {variant} tables; install the package iptables.");
        var text = Tool.Run(tool, ToolTimeout, "-c");
        var name = Path.GetFileName(tool);
        var isOther = name == $"{command}-save" && text.Length > 0 && text.AsSpan(0, Math.Min(200, text.Length)).Contains("(nf_tables)", StringComparison.Ordinal) == legacy;
        return isOther
            ? throw new IOException($"{command}-{variant}-save is not installed, but there are {variant} tables, which {name} here does not show; install the package iptables.")
            : new RuleDump(name, text);
    }

    // One document per table: nft 1.0 fails to list several at once, and all of them can be a hundred thousand rules of iptables-nft.
    private static RuleDump? NftRules(string[] tables, bool all)
    {
        if (tables.Length == 0)
        {
            return null;
        }

        var tool = Tool.Find("nft") ?? throw new IOException($"nft is not installed, but there are the tables {string.Join(", ", tables)}; install the package nftables.");
        return new RuleDump("nft", all ? Tool.Run(tool, ToolTimeout, "-j", "list", "ruleset")
            : string.Concat(tables.Select(t => Tool.Run(tool, ToolTimeout, ["-j", "list", "table", .. t.Split(' ', 2)]))));
    }

    // # Table `filter' is incompatible, use 'nft' tool.
    private static List<string> Incompatible(RuleDump dump)
    {
        const string before = "# Table `";
        var tables = new List<string>();
        foreach (var line in dump.Text.AsSpan().EnumerateLines())
        {
            if (line.StartsWith(before) && line.IndexOf('\'') is > 0 and var end)
            {
                tables.Add($"{(dump.Tool.StartsWith("ip6", StringComparison.Ordinal) ? "ip6" : "ip")} {line[before.Length..end]}");
            }
        }

        return tables;
    }

    // No virtual server is something to know too, on a node that works with them.
    private static RuleDump? Ipvs(Facts facts) => IpvsReader.Read() is { } table ? new RuleDump("ipvsadm", table.ToText())
        : facts.Links.Names.ContainsValue(ProxyRules.IpvsInterface) ? Empty("ipvsadm") : null;

    private static RuleDump IpSets()
    {
        var tool = Tool.Find("ipset") ?? throw new IOException("ipset is not installed, but rules ask ipsets; install the package ipset.");
        return new RuleDump("ipset", Tool.Run(tool, ToolTimeout, "save"));
    }

    // What the kernel said to be usual is what ip prints then.
    private static ImmutableArray<PolicyRule>? PolicyRules(bool usual)
    {
        if (usual)
        {
            return [.. PolicyRule.Parse("0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n", isIPv6: false), .. PolicyRule.Parse("0:\tfrom all lookup local\n32766:\tfrom all lookup main\n", isIPv6: true)];
        }

        var tool = Tool.Find("ip") ?? throw new IOException("ip is not installed; install the package iproute2.");
        return [.. PolicyRule.Parse(Tool.Run(tool, ToolTimeout, "-4", "rule", "show"), isIPv6: false), .. PolicyRule.Parse(Tool.Run(tool, ToolTimeout, "-6", "rule", "show"), isIPv6: true)];
    }

    // Without tables there is nothing to run a tool for, but it is known that there is nothing.
    private static RuleDump? Empty(string tool) => new(tool, "");

    private static string[] Routes()
    {
        var tool = Tool.Find("ip") ?? throw new IOException("ip is not installed; install the package iproute2.");
        // Of all tables, both families come at once.
        return Tool.Run(tool, ToolTimeout, "route", "show", "table", "all").Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }

    private static ImmutableSortedDictionary<string, string> ReadSysctls()
    {
        var values = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach (var name in Sysctls)
        {
            AddSysctl(values, name);
        }

        // The stricter of "all" and the interface's own value counts (ip-sysctl.rst).
        const string interfaces = "/proc/sys/net/ipv4/conf";
        if (Directory.Exists(interfaces))
        {
            foreach (var folder in Directory.EnumerateDirectories(interfaces))
            {
                var value = $"{folder}/rp_filter";
                if (File.Exists(value))
                {
                    values[$"net.ipv4.conf.{Path.GetFileName(folder)}.rp_filter"] = File.ReadAllText(value).Trim();
                }
            }
        }

        return values.ToImmutable();
    }

    // One that does not exist is left out: without the module br_netfilter there is no bridge-nf-call-iptables.
    private static void AddSysctl(ImmutableSortedDictionary<string, string>.Builder values, string name)
    {
        var path = $"/proc/sys/{name.Replace('.', '/')}";
        if (File.Exists(path))
        {
            values[name] = File.ReadAllText(path).Trim();
        }
    }

    // IP Virtual Server version 1.2.1 (size=4096)
    // Prot LocalAddress:Port Scheduler Flags
    //   -> RemoteAddress:Port Forward Weight ActiveConn InActConn
    // TCP  0A600001:01BB rr
    private static bool HasIpvs()
    {
        const string path = "/proc/thread-self/net/ip_vs";
        return File.Exists(path) && File.ReadLines(path).Any(l => l.StartsWith("TCP", StringComparison.Ordinal) || l.StartsWith("UDP", StringComparison.Ordinal) || l.StartsWith("SCTP", StringComparison.Ordinal) || l.StartsWith("FWM", StringComparison.Ordinal));
    }

    private sealed record Found(List<SocketEntry> Sockets, List<uint> Namespaces, List<Unread> Unread);

    private static Found ReadSockets(string? nodePath, Place[] pods)
    {
        var found = new Found([], [], []);
        Read();
        foreach (var pod in pods)
        {
            if (PathOf(pod) is not { } path || path == nodePath)
            {
                continue;
            }

            try
            {
                NamespaceEntry.Enter(path);
                Read();
            }
            catch (IOException e)
            {
                found.Unread.Add(new Unread($"listening sockets of {pod.Name}", e.Message));
            }
        }

        return found;

        void Read()
        {
            var netNs = NamespaceEntry.InodeOf("/proc/thread-self/ns/net");
            if (!found.Namespaces.Contains(netNs))
            {
                found.Namespaces.Add(netNs);
                ListenerReader.Read(netNs, found.Sockets);
            }
        }
    }
}
