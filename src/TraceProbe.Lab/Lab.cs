using System.Collections.Immutable;
using System.Net.Sockets;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// A small Kubernetes-like cluster of this machine's own network namespaces: two nodes, pods with real servers, a real cluster DNS,
/// kube-proxy's rules, and a controller that follows its objects. <see cref="UpAsync"/> makes one, <see cref="Open"/> finds it
/// again from any process, <see cref="Down"/> removes all of it.
/// </summary>
public sealed partial class Lab
{
    private readonly LabFolder _folder;
    private readonly LabRecord _record;

    private Lab(LabFolder folder, LabRecord record)
    {
        _folder = folder;
        _record = record;
    }

    /// <summary>The lab's name.</summary>
    public string Name => _folder.Name;

    /// <summary>How its kube-proxy translates.</summary>
    public ProxyMode Proxy => _record.Proxy;

    /// <summary>When it was made.</summary>
    public DateTimeOffset CreatedAt => _record.CreatedAt;

    /// <summary>The folder with its state and logs.</summary>
    public string StateFolder => _folder.Path;

    /// <summary>The file with all its objects as one <c>v1 List</c>, replaced whole whenever one changes.</summary>
    public string SnapshotPath => _folder.SnapshotPath;

    /// <summary>The kubeconfig that opens its API server to kubectl, and to TraceProbe as to any cluster.</summary>
    public string KubeconfigPath => _folder.KubeconfigPath;

    /// <summary>The file with its places, an array of <see cref="Place"/>.</summary>
    public string PlacesPath => _folder.PlacesPath;

    /// <summary>Its nodes, its pods and the outside.</summary>
    public ImmutableArray<Place> Places => _folder.ReadPlaces();

    /// <summary>Its objects as they are now.</summary>
    public ClusterSnapshot Cluster => _folder.Objects.Read();

    /// <summary>The sockets at which its agents listen, one a node; empty when it has none.</summary>
    public ImmutableArray<string> AgentSockets => [.. LabLayout.Nodes.Select(n => SocketOf(n.Name)).Where(File.Exists)];

    /// <summary>The names of the labs on this machine, half-made ones too.</summary>
    public static ImmutableArray<string> Names => Directory.Exists(LabLayout.LabsFolder)
        ? [.. Directory.GetDirectories(LabLayout.LabsFolder).Select(d => Path.GetFileName(d)).Order(StringComparer.Ordinal)]
        : [];

    /// <summary>The place of that name: <c>pod/default/ubuntu</c>, <c>pod/ubuntu</c>, <c>node/node-1</c>, <c>node-1</c> or <c>outside</c>; null when there is none.</summary>
    public Place? FindPlace(string name)
        => Places.FirstOrDefault(p => p.Name == name || (p.Kind == PlaceKind.Node && p.Node == name) || (p.Kind == PlaceKind.Pod && $"pod/{p.PodName}" == name));

    /// <summary>Whether a lab of that name is there and whole.</summary>
    public static bool IsUp(string name) => LabLayout.IsName(name) && new LabFolder(name).ReadRecord() is { Up: true };

    /// <summary>Finds a lab that is up.</summary>
    /// <exception cref="LabException">There is none of that name, or it is half-made.</exception>
    public static Lab Open(string name = "demo")
    {
        var folder = FolderOf(name);
        return folder.ReadRecord() switch
        {
            { Up: true } record => new Lab(folder, record),
            null when !folder.Exists => throw new LabException($"There is no lab named {name}. Make one with: traceprobe lab up --name {name}"),
            _ => throw new LabException($"Lab {name} is not complete. Remove it with: traceprobe lab down --name {name}"),
        };
    }

    /// <summary>Makes a lab. When it fails or is cancelled, what was made so far is removed again.</summary>
    /// <param name="options">Name and mode.</param>
    /// <param name="progress">Told in a few words what is being made; may be null.</param>
    /// <param name="cancellationToken">Stops the making and removes what there is.</param>
    /// <exception cref="LabException">Not root, a tool or a part of the kernel is missing, or a lab of that name is there already.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static async Task<Lab> UpAsync(LabOptions options, IProgress<string>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        var folder = FolderOf(options.Name);
        RequireRoot();
        if (Needs(options.Proxy).Where(n => !n.Available).Select(n => n.Remedy).ToArray() is { Length: > 0 } remedies)
        {
            throw new LabException(string.Join(' ', remedies));
        }

        if (folder.Exists)
        {
            throw new LabException(folder.ReadRecord() is { Up: true }
                ? $"Lab {options.Name} is up already. Remove it with 'traceprobe lab down --name {options.Name}', or give another --name."
                : $"Lab {options.Name} is half-made, or being made. Remove it with: traceprobe lab down --name {options.Name}");
        }

        try
        {
            return await BuildAsync(folder, options, progress, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            Down(options.Name);
            throw;
        }
    }

    /// <summary>
    /// Removes a lab, whole or half-made: its processes, namespaces, cgroups and files. Without a lab of that name it does nothing.
    /// </summary>
    /// <returns>Whether there was one.</returns>
    /// <exception cref="LabException">Not root, or something of it cannot be removed.</exception>
    public static bool Down(string name = "demo", IProgress<string>? progress = null)
    {
        var lab = FolderOf(name);
        RequireRoot();
        if (!lab.Exists)
        {
            return false;
        }

        // The controller first, or it would restart what we end. It also goes by itself once its lab.json is gone.
        progress?.Report("ending the controller");
        File.Delete($"{lab.Path}/lab.json");
        var (namespaces, cgroups, pids) = lab.Journal.Read();
        ProcessTable.Kill(pids.ToList());

        progress?.Report("ending what runs in its namespaces");
        // By namespace and by cgroup: either alone finds them all, unless an earlier down was stopped between the two.
        var inodes = namespaces.Select(n => NetNs.InodeOf(NetNs.PathOf(n))).Concat(lab.ReadPlaces().Select(p => p.NetNs)).Where(i => i != 0).ToHashSet();
        for (var left = Left(); left.Count > 0; left = Left())
        {
            ProcessTable.Kill(left);
        }

        List<int> Left() => [.. ProcessTable.InNamespaces(inodes), .. cgroups.SelectMany(Cgroups.Members)];

        progress?.Report("removing namespaces, cgroups and files");
        LabNetwork.DeleteNamespaces(namespaces);
        foreach (var cgroup in cgroups)
        {
            Cgroups.Remove(cgroup);
        }

        while (lab.Exists)
        {
            try
            {
                Directory.Delete(lab.Path, recursive: true);
            }
            catch (DirectoryNotFoundException)
            {
                // Somebody else removes the same lab; what is left is looked at again.
            }
        }

        foreach (var parent in (string[])[LabLayout.LabsFolder, Path.GetDirectoryName(LabLayout.LabsFolder)!])
        {
            try
            {
                Directory.Delete(parent);
            }
            catch (IOException)
            {
                // Another lab lives there.
                break;
            }
        }

        return true;
    }

    private static async Task<Lab> BuildAsync(LabFolder folder, LabOptions options, IProgress<string>? progress, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(LabLayout.LabsFolder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
        Directory.CreateDirectory(folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var record = new LabRecord { Name = options.Name, Proxy = options.Proxy, SelfCommand = options.SelfCommand, CreatedAt = TimeProvider.System.GetUtcNow() };
        folder.Write(record);
        Directory.CreateDirectory($"{folder.Path}/bin");
        File.CreateSymbolicLink(folder.PausePath, Command.Find("sleep")!);
        record = record with { Cgroup = Cgroups.TryMake(folder) };
        folder.Write(record);

        progress?.Report("writing the cluster's objects");
        WriteObjects(folder, options.Proxy);
        var cluster = folder.Objects.Read();
        var reconciler = new Reconciler(folder, record);

        // Our own processes take longest to start; they wait for lab.json to say that the lab is up.
        progress?.Report("starting the controller");
        LabProcesses.StartDetached(folder, null, [.. options.SelfCommand, LabProcess.ControllerVerb, "--name", options.Name], $"{folder.Path}/controller.log");
        cancellationToken.ThrowIfCancellationRequested();

        progress?.Report("laying the network");
        LabNetwork.AddNamespaces(folder, LabNetwork.Frame.Concat(cluster.Pods.Select(p => p.Metadata.Name)));
        LabNetwork.BuildFrame(folder);
        if (options.Proxy == ProxyMode.Ipvs)
        {
            foreach (var node in LabLayout.Nodes)
            {
                NetNs.Run(folder.NetNsPath(node.Name), Ipvs.SetSysctls);
            }
        }

        foreach (var node in LabLayout.Nodes)
        {
            LabProcesses.StartProxy(folder, record, node.Name);
        }

        LabNetwork.ConnectPods(folder, cluster.Pods);
        cancellationToken.ThrowIfCancellationRequested();

        progress?.Report("starting nodes, pods and resolvers");
        var starts = LabLayout.Nodes.Select(n => n.Name).Append(LabNetwork.Outside)
            .Select(what => Task.Run(() => LabProcesses.StartFrame(folder, what), cancellationToken))
            .Concat(cluster.Pods.Select(pod => Task.Run(() => LabProcesses.StartPod(folder, pod, record, cluster), cancellationToken)));
        folder.Write([.. await Task.WhenAll(starts).ConfigureAwait(false)]);

        progress?.Report("waiting for the pods to be ready");
        using (folder.Lock())
        {
            for (var attempt = 0; ; attempt++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                cluster = reconciler.Round(probe: true);
                if (cluster.Pods.All(p => p.IsReady && LabProcesses.ProgramServes(folder, p))
                    && LabLayout.Nodes.All(n => LabProcesses.ProxyServes(folder, record, n.Name)))
                {
                    break;
                }

                if (attempt == 200)
                {
                    throw new LabException(cluster.Pods.FirstOrDefault(p => !p.IsReady || !LabProcesses.ProgramServes(folder, p)) is { } pod
                        ? $"Pod {pod.Metadata.Name} does not become ready. {LastLines(folder, pod.Metadata.Name)}"
                        : $"kube-proxy does not listen. {LastLines(folder, LabLayout.Nodes[0].Name)}");
                }

                await Task.Delay(20, cancellationToken).ConfigureAwait(false);
            }
        }

        for (var attempt = 0; !File.Exists(folder.KubeconfigPath); attempt++)
        {
            await Task.Delay(attempt < 500 ? 20 : throw new LabException($"The lab's API server does not come up. {string.Join(' ', File.ReadLines($"{folder.Path}/controller.log").TakeLast(3))}"), cancellationToken).ConfigureAwait(false);
        }

        progress?.Report("letting the neighbours meet");
        await MeetAsync(folder, cluster, cancellationToken).ConfigureAwait(false);
        record = record with { Up = true };
        folder.Write(record);
        if (options.HasAgents)
        {
            progress?.Report("starting the agents");
            await new Lab(folder, record).StartAgentsAsync(options.AgentArguments, cancellationToken).ConfigureAwait(false);
        }

        return new Lab(folder, record);
    }

    // A neighbour's first address resolution on links just laid can take a second; a first request must not be the one to pay for it,
    // least of all one that becomes a baseline.
    private static async Task MeetAsync(LabFolder folder, ClusterSnapshot cluster, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(3));
        var places = LabLayout.Nodes.Select(n => n.Name).Concat(cluster.Pods.Select(p => p.Metadata.Name));
        var meetings = from source in places
                       from pod in cluster.Pods
                       from ip in pod.Status.PodIPs
                       select ConnectAsync(folder.NetNsPath(source), IpAddress.Parse(ip.Ip), limit.Token);
        await Task.WhenAll(meetings).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();

        static async Task ConnectAsync(string netns, IpAddress address, CancellationToken token)
        {
            using var socket = NetNs.Run(netns, () => new Socket(address.Family, SocketType.Stream, ProtocolType.Tcp));
            try
            {
                // The echo port: a refusal is an answer too.
                await socket.ConnectAsync(new AddressPort(address, 7).ToIPEndPoint(), token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException)
            {
                // Whoever cannot be met now is met, or missed, by the request that needs it.
            }
        }
    }

    private static void WriteObjects(LabFolder folder, ProxyMode proxy)
    {
        foreach (var node in LabLayout.Nodes)
        {
            folder.Objects.Put(LabObjects.NodeOf(node));
        }

        foreach (var service in LabObjects.Services)
        {
            folder.Objects.Put(service);
        }

        foreach (var pod in LabObjects.Pods)
        {
            folder.Objects.Put(LabObjects.WithContainers(pod));
        }

        folder.Objects.Put(LabObjects.KubernetesSlice);
        folder.Objects.Put(ClusterConfiguration.OfKubeProxy(proxy));
        folder.Objects.Put(ClusterConfiguration.CoreDns);
    }

    private string SocketOf(string node) => $"{_folder.AgentFolder(node)}/agent.sock";

    // As a DaemonSet would: one each, with nothing in common but the API server.
    private async Task StartAgentsAsync(ImmutableArray<string> arguments, CancellationToken cancellationToken)
    {
        var started = new List<(string Node, int Pid)>();
        foreach (var node in LabLayout.Nodes)
        {
            var state = _folder.AgentFolder(node.Name);
            Directory.CreateDirectory(state);
            started.Add((node.Name, LabProcesses.StartDetached(_folder, null,
                [.. _record.SelfCommand, "agent", "--lab", Name, "--kubeconfig", _folder.KubeconfigPath, "--node", node.Name, "--state", state, .. arguments], $"{state}/agent.log")));
        }

        foreach (var (node, pid) in started)
        {
            for (var attempt = 0; !File.Exists(SocketOf(node)); attempt++)
            {
                if (attempt == 600 || ProcessTable.StartTime(pid) is null)
                {
                    throw new LabException($"The agent of {node} does not come up. {string.Join(' ', File.ReadLines($"{_folder.AgentFolder(node)}/agent.log").TakeLast(3))}");
                }

                await Task.Delay(50, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    // What its logs say: they are removed with the lab.
    private static string LastLines(LabFolder folder, string what) => string.Join(' ', Directory.GetFiles(folder.PlaceFolder(what), "*.log")
        .SelectMany(f => File.ReadLines(f).TakeLast(3).Select(line => $"{Path.GetFileName(f)}: {line}")));

    private static LabFolder FolderOf(string name) => LabLayout.IsName(name)
        ? new LabFolder(name)
        : throw new LabException($"'{name}' cannot be a lab's name: use 1 to 20 of a-z, 0-9 and dashes, no dash at either end.");

    private static void RequireRoot()
    {
        if (ProcessTable.EffectiveUser() != 0)
        {
            throw new LabException(OnlyRoot);
        }
    }
}
