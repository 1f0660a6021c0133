using System.CommandLine;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cluster;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cli.Commands;

/// <summary>The options that say which cluster is meant: a lab, or this machine with the objects from an API server or from files.</summary>
internal sealed class SceneSettings
{
    private readonly Option<string> _namespace = new("--namespace", "-n")
    {
        Description = "The Kubernetes namespace of pod/NAME and svc/NAME (the kubeconfig's, or 'default', without it).", HelpName = "NS",
    };

    private readonly Option<string?> _lab = LabCommand.NameOption("--lab", "The lab that is meant; the only one, or $TRACEPROBE_LAB, without it.");

    private readonly Option<string[]> _cluster = new("--cluster")
    {
        Description = "Files with the cluster's objects, as 'traceprobe snapshot' or 'kubectl get services,endpointslices,pods,nodes -A -o json' writes them (JSON or YAML, gzipped or not). Outside of a lab.",
        HelpName = "FILE",
        AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<string?> _kubeconfig = new("--kubeconfig")
    {
        Description = "The kubeconfig to reach the cluster's API with; $KUBECONFIG, ~/.kube/config or the pod's service account without it.", HelpName = "FILE",
    };

    private readonly Option<string?> _context = new("--context") { Description = "The kubeconfig's context; its current one without it.", HelpName = "NAME" };

    private readonly Option<string?> _node = new("--node")
    {
        Description = "In a lab, where one machine has several nodes: the only one whose namespaces are looked at, as from that node.", HelpName = "NODE",
    };

    private ApiServer? _server;
    private bool _isLookedUp;

    /// <summary>The options.</summary>
    public SceneSettings() => _context.CompletionSources.Add(context =>
    {
        try
        {
            return (Kubeconfig.Find(context.ParseResult.GetValue(_kubeconfig))?.Contexts ?? []).Select(c => new System.CommandLine.Completions.CompletionItem(c));
        }
        catch (ApiException)
        {
            return [];
        }
    });

    /// <summary>Gives the options to a command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="withNode">Whether with <c>--node</c>; a command that has its own asks about nodes, and not from one.</param>
    public void AddTo(Command command, bool withNode = true)
    {
        command.Options.Add(_namespace);
        command.Options.Add(_lab);
        if (withNode)
        {
            command.Options.Add(_node);
        }

        AddApiTo(command);
        command.Options.Add(_cluster);
    }

    /// <summary>Gives the options that say which API server is meant to a command.</summary>
    public void AddApiTo(Command command)
    {
        command.Options.Add(_kubeconfig);
        command.Options.Add(_context);
    }

    /// <summary>The namespace that names without one are in.</summary>
    public string NamespaceOf(ParseResult parsed) => NamespaceAsked(parsed) ?? ServerOf(parsed)?.Namespace ?? "default";

    /// <summary>The namespace asked for; null when none was.</summary>
    public string? NamespaceAsked(ParseResult parsed) => parsed.GetValue(_namespace);

    /// <summary>The only node that is looked at in a lab; null for all.</summary>
    public string? NodeOf(ParseResult parsed) => parsed.GetValue(_node);

    /// <summary>What tells another process of this program the same scene.</summary>
    public IReadOnlyList<string> ArgumentsOf(ParseResult parsed) =>
    [
        .. LabOf(parsed) is { } lab ? (string[])["--lab", lab] : [],
        .. NodeOf(parsed) is { } node ? (string[])["--node", node] : [],
        .. parsed.GetValue(_kubeconfig) is { } kubeconfig ? (string[])["--kubeconfig", kubeconfig] : [],
        .. parsed.GetValue(_context) is { } context ? (string[])["--context", context] : [],
        .. FilesOf(parsed).SelectMany(f => (string[])["--cluster", f]),
    ];

    /// <summary>What tells kubectl the same cluster.</summary>
    public IReadOnlyList<string> KubectlArgumentsOf(ParseResult parsed) =>
    [
        .. parsed.GetValue(_kubeconfig) is { } kubeconfig ? (string[])["--kubeconfig", kubeconfig] : [],
        .. parsed.GetValue(_context) is { } context ? (string[])["--context", context] : [],
    ];

    /// <summary>Whether a lab was named on the command line.</summary>
    public bool IsLabAsked(ParseResult parsed) => parsed.GetValue(_lab) is not null;

    /// <summary>Whether an API server was named on the command line.</summary>
    public bool IsServerAsked(ParseResult parsed) => parsed.GetValue(_kubeconfig) is not null || parsed.GetValue(_context) is not null;

    /// <summary>The lab that is meant; null outside of one. Objects from elsewhere are of another cluster than a lab's, unless the lab is named too.</summary>
    public string? LabOf(ParseResult parsed)
        => parsed.GetValue(_lab) is null && (FilesOf(parsed).Length > 0 || IsServerAsked(parsed)) ? null : LabCommand.NameOf(parsed.GetValue(_lab));

    /// <summary>The places and objects that are meant.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="follow">Whether the objects are to be followed, since it may take long until they are needed.</param>
    /// <param name="asking">Whether an API server may be asked: not while somebody waits for a completion.</param>
    public Scene SceneOf(ParseResult parsed, bool follow = false, bool asking = true) => SceneReaderOf(parsed, follow, asking)();

    /// <summary>What gives the places and objects that are meant as they are at the time.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="follow">Whether the objects are to be followed, since it may take long until they are needed.</param>
    /// <param name="asking">Whether an API server may be asked: not while somebody waits for a completion.</param>
    public Func<Scene> SceneReaderOf(ParseResult parsed, bool follow, bool asking = true)
    {
        var objects = asking || FilesOf(parsed).Length > 0 ? ObjectsOf(parsed, follow) : null;
        if (LabOf(parsed) is not { } name)
        {
            var cluster = FilesOf(parsed) is [var first, ..] ? Path.GetFileNameWithoutExtension(first) : _server?.Cluster;
            return () => Scene.OfThisMachine(cluster, objects);
        }

        var lab = Lab.Lab.Open(name);
        var read = objects ?? OfLab(lab.SnapshotPath);
        return NodeOf(parsed) is { } node ? () => Scene.Of(lab.Name, lab.PlacesPath, read).Within(node) : () => Scene.Of(lab.Name, lab.PlacesPath, read);
    }

    /// <summary>What reads the objects outside of a lab, or in its place where that was asked for; null when there is nothing to read.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="follow">Whether they are to be followed.</param>
    /// <param name="onlyAsked">Whether an API server counts only when it was named on the command line.</param>
    public Func<ClusterSnapshot>? ObjectsOf(ParseResult parsed, bool follow = false, bool onlyAsked = false)
    {
        if (FilesOf(parsed) is { Length: > 0 } files)
        {
            ClusterSnapshot? read = null;
            return () => read ??= SnapshotReader.Read(files);
        }

        if ((onlyAsked && !IsServerAsked(parsed)) || ServerOf(parsed) is not { } server)
        {
            return null;
        }

        try
        {
            // They live as long as this process, which does one thing. Whoever is tired of a server or a credential plugin that does not
            // answer may interrupt, also where an interruption asks for what is known so far.
            using var interruption = new Interruption();
            using var progress = new SlowProgress();
            progress.Doing("reading the cluster's objects");
            var client = new ApiClient(server);
            if (follow)
            {
                var live = LiveCluster.FollowAsync(client, interruption.Token).GetAwaiter().GetResult();
                return () => live.Current;
            }

            var snapshot = LiveCluster.ReadAsync(client, interruption.Token).GetAwaiter().GetResult();
            client.Dispose();
            return () => snapshot;
        }
        catch (ApiException e) when (!IsServerAsked(parsed))
        {
            // Nobody asked for this cluster; there is a kubeconfig, that is all. Without the account the verdict says that it is missing.
            CommandLine.Tell($"traceprobe: going on without the cluster's objects: {e.Message}");
            return null;
        }
    }

    /// <summary>The API server that is meant; null in a lab, with files, and where there is no kubeconfig.</summary>
    public ApiServer? ServerOf(ParseResult parsed)
    {
        if (_isLookedUp)
        {
            return _server;
        }

        _isLookedUp = true;
        if (FilesOf(parsed).Length > 0 || (!IsServerAsked(parsed) && LabOf(parsed) is not null))
        {
            return null;
        }

        try
        {
            _server = Kubeconfig.Find(parsed.GetValue(_kubeconfig))?.ServerOf(parsed.GetValue(_context)) ?? (parsed.GetValue(_context) is { } context
                ? throw new ApiException($"There is no kubeconfig that could hold context {context}: give it with --kubeconfig.") : ApiServer.OfThisPod());
        }
        catch (ApiException e) when (IsServerAsked(parsed))
        {
            throw new OperatorException(e.Message, ExitCode.Usage);
        }
        catch (ApiException e)
        {
            CommandLine.Tell($"traceprobe: going on without the cluster's objects: {e.Message}");
        }

        // Where only one namespace may be read, it is the one that was asked for.
        _server = NamespaceAsked(parsed) is { } ns && _server is not null ? _server with { Namespace = ns } : _server;
        return _server;
    }

    private static Func<ClusterSnapshot> OfLab(string path)
    {
        (DateTime At, ClusterSnapshot Objects)? read = null;
        return () => (read = File.GetLastWriteTimeUtc(path) is var at && read is var (last, objects) && last == at ? (at, objects) : (at, SnapshotReader.Read(path))).Value.Objects;
    }

    private string[] FilesOf(ParseResult parsed) => parsed.GetValue(_cluster) ?? [];
}
