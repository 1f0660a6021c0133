using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Capture;
using TraceProbe.Cluster;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Sessions;

/// <summary>
/// What surrounds a request: the cluster's name, the namespaces that can turn up in it, and where the desired account is to be read.
/// </summary>
public sealed record Scene
{
    /// <summary>The cluster, as its lab or snapshot is called; null when it is not known.</summary>
    public string? Cluster { get; init; }

    /// <summary>The network namespaces with names.</summary>
    public ImmutableArray<Place> Places { get; init; } = [];

    /// <summary>The inode numbers of <see cref="Places"/>, each once.</summary>
    public HashSet<uint> Namespaces
    {
        get
        {
            var namespaces = new HashSet<uint>();
            foreach (var place in Places)
            {
                namespaces.Add(place.NetNs);
            }

            return namespaces;
        }
    }

    /// <summary>Whether these are all there are, as in a lab: then nothing else is looked at, so that labs beside each other do not mix.</summary>
    public bool IsClosed { get; init; }

    /// <summary>Reads the desired account as it is now, the same snapshot as long as nothing changes; null when there is none to read.</summary>
    public Func<ClusterSnapshot>? Objects { get; init; }

    /// <summary>The scene of a cluster that is laid out on this machine.</summary>
    /// <param name="cluster">What it is called.</param>
    /// <param name="placesFile">The file with its places.</param>
    /// <param name="objects">Reads its objects.</param>
    /// <exception cref="SessionException">The places cannot be read.</exception>
    public static Scene Of(string cluster, string placesFile, Func<ClusterSnapshot> objects)
    {
        try
        {
            return new Scene
            {
                Cluster = cluster,
                Places = PlaceList.Read(File.ReadAllBytes(placesFile)),
                IsClosed = true,
                Objects = objects,
            };
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new SessionException($"The places of {cluster} could not be read: {e.Message}", e);
        }
    }

    /// <summary>
    /// The scene of this machine: the network namespace that this process is in as a node, and the pods that run here. Which of the cluster's
    /// nodes it is tell its addresses, else its name.
    /// </summary>
    /// <param name="cluster">The cluster, as people call it; null when it is not known.</param>
    /// <param name="objects">Reads the cluster's objects; null when there are none.</param>
    /// <exception cref="SessionException">The objects cannot be read.</exception>
    public static Scene OfThisMachine(string? cluster = null, Func<ClusterSnapshot>? objects = null)
    {
        using var here = NetworkNamespace.OpenCurrent();
        var scene = new Scene { Cluster = cluster, Objects = objects };
        var known = scene.ReadObjects();
        var node = known is null ? Environment.MachineName : ThisNode.NameIn(known) ?? Environment.MachineName;
        return scene with
        {
            Places =
            [
                new Place { Name = $"node/{node}", Kind = PlaceKind.Node, Node = node, NetNs = here.Inode, NetNsPath = "/proc/self/ns/net", EtcPath = "/etc" },
                .. known is null ? [] : ThisNode.PodsOf(known, node, here.Inode),
            ],
        };
    }

    /// <summary>What is seen of it from one of its nodes.</summary>
    /// <exception cref="SessionException">There is no such node.</exception>
    public Scene Within(string node) => Places.Any(p => p.Node == node) ? this with { Places = [.. Places.Where(p => p.Node == node)] }
        : throw new SessionException($"There is no node {node} here; there are {string.Join(", ", Places.Select(p => p.Node).OfType<string>().Distinct())}.");

    /// <summary>Reads the desired account; null when there is none.</summary>
    /// <exception cref="SessionException">It cannot be read.</exception>
    public ClusterSnapshot? ReadObjects()
    {
        try
        {
            return Objects?.Invoke();
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            throw new SessionException($"The cluster's objects could not be read: {e.Message}", e);
        }
    }

    /// <summary>Finds where a request is made from.</summary>
    /// <param name="from">
    /// <c>pod/NAME</c>, <c>pod/NAMESPACE/NAME</c>, <c>deploy/NAME</c> (or another workload as kubectl calls it: one of its pods here),
    /// <c>node</c>, <c>node/NAME</c>, <c>outside</c>, <c>netns:NAME</c> or <c>netns:/PATH</c>; null for the only node.
    /// </param>
    /// <param name="ns">The namespace of a pod that is named without one.</param>
    /// <exception cref="SessionException">There is no such place, or several; the message names those that there are.</exception>
    public Place FindPlace(string? from, string ns)
    {
        ArgumentNullException.ThrowIfNull(ns);
        if (from is not null && from.StartsWith("netns:", StringComparison.Ordinal))
        {
            return OfNetworkNamespace(from);
        }

        if (from is null or "node")
        {
            return Places.Where(p => p.Kind == PlaceKind.Node).ToList() switch
            {
                [var only] when from is not null || !IsClosed => only,
                _ => throw new SessionException($"Say where the request is made from: --from {string.Join(" or ", Places.Take(6).Select(p => p.Name))}."),
            };
        }

        if (Workloads.TryParse(from, ns, out var workload))
        {
            return PodOf(workload);
        }

        var name = from.Split('/') switch
        {
            ["pod" or "pods" or "po", var pod] => $"pod/{ns}/{pod}",
            ["pods" or "po", var space, var pod] => $"pod/{space}/{pod}",
            _ => from,
        };
        if (Places.FirstOrDefault(p => p.Name == name || (p.Kind == PlaceKind.Node && p.Node == from)) is { } place)
        {
            return place;
        }

        if (name.Split('/') is ["pod", var within, var called] && ReadObjects() is { } objects)
        {
            throw new SessionException(WhyNotHere(objects, within, called));
        }

        var near = from.Contains('/') ? NearestNames.Of(name, Places.Select(p => p.Name))
            : [.. Places.Where(p => p.Name.EndsWith($"/{from}", StringComparison.Ordinal)).Select(p => p.Name)];
        var hint = near.IsEmpty
            ? $"There are: {string.Join(", ", Places.Take(20).Select(p => p.Name))}. Any network namespace can be given as netns:NAME or netns:/PATH."
            : $"The nearest: {string.Join(", ", near)}.";
        throw new SessionException($"There is no {name} here{(Cluster is null ? "" : $" (in {Cluster})")}. {hint}");
    }

    // Any of its pods does, and a ready one does best.
    private Place PodOf(Workload workload)
    {
        var objects = ReadObjects() ?? throw new SessionException($"To know the pods of {workload}, the cluster's objects are needed: --kubeconfig FILE, --cluster FILE, or a lab.");
        var pods = Workloads.PodsOf(objects, workload);
        var places = Places.ToLookup(p => p.Name);
        foreach (var pod in pods.OrderByDescending(p => p.IsReady).ThenBy(p => p.Metadata.Name, StringComparer.Ordinal))
        {
            if (places[$"pod/{pod.Metadata.Namespace}/{pod.Metadata.Name}"].FirstOrDefault() is { } place)
            {
                return place;
            }
        }

        if (!pods.IsEmpty)
        {
            throw new SessionException($"No pod of {workload} runs here; {string.Join(", ", pods.Take(5).Select(p => $"{p.Metadata.Name} is on node {p.Spec.NodeName ?? "(none yet)"}"))}. Run TraceProbe there.");
        }

        throw new SessionException(NoNamespace(objects, workload.Namespace)
            ?? (NearestNames.Of(workload.Name, Workloads.Names(objects, workload.Kind, workload.Namespace)) is [_, ..] near
                ? $"There is no pod of {workload}. The nearest: {string.Join(", ", near)}." : $"There is no pod of {workload}."));
    }

    private string WhyNotHere(ClusterSnapshot objects, string ns, string name)
    {
        if (objects.FindPod(ns, name) is { } pod)
        {
            var node = Places.FirstOrDefault(p => p.Kind == PlaceKind.Node)?.Node;
            return pod.Spec.NodeName is not { } own ? $"Pod {ns}/{name} is not on any node yet."
                : own != node ? $"Pod {ns}/{name} runs on node {own}, and this is {node}: run TraceProbe there."
                : pod.Spec.HostNetwork ? $"Pod {ns}/{name} uses its node's network: make the request with --from node."
                : $"Pod {ns}/{name} should run on this node ({node}), and no process of it is found: it is {pod.Status.Phase}, or /proc here is not the node's (hostPID).";
        }

        var near = NearestNames.Of($"{ns}/{name}", objects.Pods.Select(p => $"{p.Metadata.Namespace ?? "default"}/{p.Metadata.Name}"));
        return NoNamespace(objects, ns) ?? $"There is no pod {name} in namespace {ns}.{(near.IsEmpty ? "" : $" The nearest: {string.Join(", ", near.Select(n => $"pod/{n}"))}.")}"
            + (objects.Unread.FirstOrDefault(u => u.What == "pods") is { } unread ? $" Pods could not be read: {unread.Why}" : "");
    }

    private static string? NoNamespace(ClusterSnapshot objects, string ns)
        => !objects.IsRead("namespaces") || objects.Namespaces.IsEmpty || objects.FindNamespace(ns) is not null ? null
            : $"There is no namespace {ns}.{(NearestNames.Of(ns, objects.Namespaces.Select(n => n.Metadata.Name)) is [_, ..] near ? $" The nearest: {string.Join(", ", near)}." : $" There {(objects.Namespaces.Length == 1 ? "is" : "are")} {string.Join(", ", objects.Namespaces.Take(6).Select(n => n.Metadata.Name))}{(objects.Namespaces.Length > 6 ? ", …" : "")}.")}";

    /// <summary>Opens the network namespace that <c>netns:NAME</c> or <c>netns:/PATH</c> names.</summary>
    /// <exception cref="SessionException">There is none of that name.</exception>
    public static NetworkNamespace OpenNetworkNamespace(string from)
    {
        ArgumentNullException.ThrowIfNull(from);
        var name = from["netns:".Length..];
        var path = name.Contains('/', StringComparison.Ordinal) ? name : $"/run/netns/{name}";
        try
        {
            return NetworkNamespace.Open(path);
        }
        catch (FileNotFoundException e)
        {
            var named = Directory.Exists("/run/netns") ? Directory.EnumerateFileSystemEntries("/run/netns").Select(f => Path.GetFileName(f)!) : [];
            var near = NearestNames.Of(name, named);
            throw new SessionException(near.IsEmpty ? e.Message : $"There is no network namespace {name}. The nearest: {string.Join(", ", near)}.", e);
        }
    }

    private Place OfNetworkNamespace(string from)
    {
        var name = from["netns:".Length..];
        using var opened = OpenNetworkNamespace(from);

        // ip-netns(8): what lies in /etc/netns/NAME is seen in place of /etc's own.
        var etc = $"/etc/netns/{name}";
        return Places.FirstOrDefault(p => p.NetNs == opened.Inode) ?? new Place
        {
            Name = $"netns:{name}",
            Kind = PlaceKind.Outside,
            Node = Places.FirstOrDefault(p => p.Kind == PlaceKind.Node)?.Node,
            NetNs = opened.Inode,
            NetNsPath = opened.Path,
            EtcPath = !name.Contains('/', StringComparison.Ordinal) && File.Exists($"{etc}/resolv.conf") ? etc : "/etc",
        };
    }
}
