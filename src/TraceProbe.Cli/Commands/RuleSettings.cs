using System.Collections.Immutable;
using System.CommandLine;
using System.CommandLine.Completions;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cluster;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cli.Commands;

/// <summary>The rules of one node.</summary>
/// <param name="Name">The node's name; null when not known.</param>
/// <param name="Families">Its rules, by address family.</param>
/// <param name="Routes">Its routes; null when not known.</param>
/// <param name="Unread">What could not be read of it.</param>
internal sealed record NodeRules(string? Name, ImmutableArray<ProxyRules> Families, RouteTable? Routes, ImmutableArray<Unread> Unread)
{
    /// <summary>What kube-proxy there says of itself; null when it was not asked.</summary>
    public Core.Node.KubeProxyAccount? KubeProxy { get; init; }
}

/// <summary>The options that say whose rules are meant: those of nodes as they are, or as they were saved; and what comes of them.</summary>
internal sealed class RuleSettings
{
    private readonly SceneSettings _scene = new();

    private readonly Option<string[]> _rules = new("--rules")
    {
        Description = "Saved rules in place of a node's own: what iptables-save, ip6tables-save (best with -c), 'nft -j list ruleset', 'ip route show table all', 'ip rule', and in IPVS mode 'ipvsadm -Sn' and 'ipset save' printed, as files (gzipped or not) or a folder of them.",
        HelpName = "FILE",
        AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<string?> _node = new("--node", "--node-name")
    {
        Description = "The node: NAME or node/NAME. With --rules, the one that they are of; it is found by its addresses without it.", HelpName = "NODE",
    };

    // Those of a large cluster take as long to read as its objects, and need nothing of them.
    private Task<(ImmutableArray<ProxyRules> Families, RouteTable? Routes)>? _saved;

    /// <summary>The options.</summary>
    public RuleSettings() => _node.CompletionSources.Add(context => QuickSceneOf(context.ParseResult).Places.Where(p => p.Kind == PlaceKind.Node).Select(p => new CompletionItem(p.Node ?? p.Name)));

    /// <summary>Gives the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Options.Add(_rules);
        command.Options.Add(_node);
        _scene.AddTo(command, withNode: false);
    }

    /// <summary>The namespace that names without one are in.</summary>
    public string NamespaceOf(ParseResult parsed)
        => IsSaved(parsed) && !_scene.IsLabAsked(parsed) && !_scene.IsServerAsked(parsed) ? NamespaceAsked(parsed) ?? "default" : _scene.NamespaceOf(parsed);

    /// <summary>The namespace asked for; null when none was.</summary>
    public string? NamespaceAsked(ParseResult parsed) => _scene.NamespaceAsked(parsed);

    /// <summary>The node asked for; null when none was.</summary>
    public string? NodeAsked(ParseResult parsed) => parsed.GetValue(_node) is { } text ? text.StartsWith("node/", StringComparison.Ordinal) ? text["node/".Length..] : text : null;

    /// <summary>Whether the rules were saved, so that no node is asked.</summary>
    public bool IsSaved(ParseResult parsed) => parsed.GetValue(_rules) is { Length: > 0 };

    /// <summary>The places and objects that are meant. With saved rules and objects nothing of this machine is looked at.</summary>
    public Scene SceneOf(ParseResult parsed)
    {
        if (!IsSaved(parsed))
        {
            return _scene.SceneOf(parsed);
        }

        var paths = parsed.GetValue(_rules)!;
        _saved = Task.Run<(ImmutableArray<ProxyRules>, RouteTable?)>(() =>
        {
            var files = RuleFiles.Read(paths);
            return ([.. files.Families], files.Routes);
        });
        return _scene.IsLabAsked(parsed) ? _scene.SceneOf(parsed) : new Scene { Objects = _scene.ObjectsOf(parsed, onlyAsked: true) };
    }

    /// <summary>The same for a completion, which waits for no server.</summary>
    public Scene QuickSceneOf(ParseResult parsed) => _scene.SceneOf(parsed, asking: false);

    /// <summary>Reads the rules.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="scene">The scene.</param>
    /// <param name="cluster">The cluster's objects; null when there are none.</param>
    /// <param name="place">A place whose node is meant; null for the one asked for, or all.</param>
    /// <param name="progress">Told what is being done.</param>
    /// <param name="asksKubeProxy">Whether kube-proxy is asked about itself too.</param>
    public ImmutableArray<NodeRules> Read(ParseResult parsed, Scene scene, ClusterSnapshot? cluster, Place? place, Action<string> progress, bool asksKubeProxy = false)
    {
        var asked = NodeAsked(parsed);
        if (IsSaved(parsed))
        {
            progress("reading the saved rules");
            return [Saved(cluster, asked)];
        }

        if (place?.Node is { } on && asked is not null && on != asked)
        {
            throw new OperatorException($"{place.Name} is on {on}, and --node says {asked}; leave one of them out.", ExitCode.Usage);
        }

        var nodes = scene.Places.Where(p => p.Kind == PlaceKind.Node && (place is null || p.Node == (place.Node ?? asked)) && (asked is null || p.Node == asked)).ToList();
        if (nodes.Count == 0)
        {
            var known = scene.Places.Where(p => p.Kind == PlaceKind.Node).Select(p => p.Node ?? p.Name).ToList();
            throw new OperatorException($"There is no node {asked ?? place?.Node ?? ""} here; there {(known.Count == 1 ? "is" : "are")} {string.Join(", ", known)}.", ExitCode.Usage);
        }

        progress($"reading the rules of {string.Join(", ", nodes.Select(n => n.Node))}");
        var reading = nodes.Select(n => Task.Factory.StartNew(() =>
        {
            var account = NodeReader.Read(n, []);
            return asksKubeProxy ? account with { KubeProxySaid = NodeReader.AskKubeProxy(n, account.KubeProxy, cluster?.Settings.KubeProxy) } : account;
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        return [.. reading.Select(r => Live(r.GetAwaiter().GetResult(), cluster))];
    }

    private NodeRules Saved(ClusterSnapshot? cluster, string? asked)
    {
        try
        {
            var (families, routes) = _saved!.GetAwaiter().GetResult();
            if (asked is not null && cluster is { Nodes.IsEmpty: false } && cluster.FindNode(asked) is null)
            {
                var near = NearestNames.Of(asked, cluster.Nodes.Select(n => n.Metadata.Name));
                throw new OperatorException($"There is no node {asked} among the cluster's objects; {(near.IsEmpty ? $"there are {string.Join(", ", cluster.Nodes.Take(6).Select(n => n.Metadata.Name))}" : $"the nearest: {string.Join(", ", near)}")}.", ExitCode.Usage);
            }

            return new NodeRules(asked ?? NameByAddress(cluster, routes), families, routes, []);
        }
        catch (FormatException e)
        {
            throw new OperatorException(e.Message, e);
        }
    }

    private static NodeRules Live(Core.Node.NodeAccount account, ClusterSnapshot? cluster)
    {
        try
        {
            var sets = RuleSet.ParseAll(account.Dumps, account.Sysctls);
            var routes = RouteTable.Of(account);

            // A machine need not be called as the cluster calls it.
            var name = cluster is null || cluster.FindNode(account.Name) is not null ? account.Name : NameByAddress(cluster, routes) ?? account.Name;
            return new NodeRules(name, [ProxyRules.Of(account, sets, false), ProxyRules.Of(account, sets, true)], routes, account.Unread) { KubeProxy = account.KubeProxySaid };
        }
        catch (FormatException e)
        {
            throw new OperatorException($"The rules of {account.Name} could not be understood: {e.Message}", e);
        }
    }

    // The cluster's node that has one of the addresses that the routes are local to; or the only node there is.
    private static string? NameByAddress(ClusterSnapshot? cluster, RouteTable? routes)
    {
        var own = (routes?.Routes ?? []).Where(r => r.Type == "local").Select(r => r.Prefix.Address).ToHashSet();
        return cluster?.Nodes.FirstOrDefault(n => n.Status.Addresses.Any(a => IpAddress.TryParse(a.Address, null, out var address) && own.Contains(address)))?.Metadata.Name
            ?? (cluster?.Nodes is [var only] ? only.Metadata.Name : null);
    }

    /// <summary>The Service that <c>svc/NAME</c>, <c>svc/NAMESPACE/NAME</c> or either with <c>:PORT</c> means, by the port's number or name.</summary>
    /// <returns>The Service; the port's number, null when none was asked for; and the port itself where it was asked for by its name.</returns>
    /// <exception cref="OperatorException">It means none.</exception>
    public static (Service Service, ushort? Port, ServicePort? Named) FindService(ClusterSnapshot cluster, string text, string ns)
    {
        var words = text.Split('/');
        var own = words[0] is "svc" or "service" or "services" && words.Length > 1 ? words[1..] : words;
        var colon = own[^1].IndexOf(':');
        var port = colon < 0 ? null : own[^1][(colon + 1)..];
        var name = colon < 0 ? own[^1] : own[^1][..colon];
        if (own.Length > 2 || name.Length == 0 || own[0].Length == 0)
        {
            throw new OperatorException($"'{text}' is no Service; give svc/NAME, svc/NAMESPACE/NAME, or either with :PORT.", ExitCode.Usage);
        }

        var space = own.Length == 2 ? own[0] : ns;
        if (cluster.FindService(space, name) is not { } service)
        {
            // pod/ubuntu would be a Service of namespace pod.
            if (own.Length == 2 && own.Length == words.Length && space is "pod" or "pods" or "po" or "node" or "nodes" or "deploy" or "deployment" or "ds" or "sts" or "rs" or "job" or "ep" or "endpoints")
            {
                throw new OperatorException($"'{text}' is no Service; give svc/NAME, svc/NAMESPACE/NAME, or either with :PORT.", ExitCode.Usage);
            }

            var near = ServiceMeaning.NearestServices(cluster, space, name);
            throw new OperatorException($"There is no service {name} in namespace {space}.{(near.IsEmpty ? "" : $" The nearest: {string.Join(", ", near.Select(n => $"svc/{n.Service.Namespace}/{n.Service.Name}"))}.")}", ExitCode.Usage);
        }

        if (port is null)
        {
            return (service, null, null);
        }

        if (ushort.TryParse(port, System.Globalization.NumberStyles.None, null, out var number) && number > 0)
        {
            return (service, number, null);
        }

        return service.Spec.Ports.FirstOrDefault(p => p.Name == port && port.Length > 0) is { } named ? (service, (ushort)named.Port, named)
            : throw new OperatorException($"'{port}' in '{text}' is no port of it; it has {PortsOf(service)}.", ExitCode.Usage);
    }

    /// <summary>A Service's ports, in words: <c>53/UDP (dns), 53/TCP (dns-tcp)</c>.</summary>
    public static string PortsOf(Service service) => service.Spec.Ports.IsEmpty ? "none"
        : string.Join(", ", service.Spec.Ports.Select(p => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{p.Port}/{p.Protocol}{(string.IsNullOrEmpty(p.Name) ? "" : $" ({p.Name})")}")));
}
