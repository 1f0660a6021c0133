using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Capture;
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

    /// <summary>Whether these are all there are, as in a lab: then nothing else is looked at, so that labs beside each other do not mix.</summary>
    public bool IsClosed { get; init; }

    /// <summary>The files that the desired account is read from, as kubectl writes them; empty when there are none.</summary>
    public ImmutableArray<string> SnapshotFiles { get; init; } = [];

    /// <summary>The scene of a cluster that is laid out on this machine.</summary>
    /// <param name="cluster">What it is called.</param>
    /// <param name="placesFile">The file with its places.</param>
    /// <param name="snapshotFiles">The files with its objects.</param>
    /// <exception cref="SessionException">The places cannot be read.</exception>
    public static Scene Of(string cluster, string placesFile, params ImmutableArray<string> snapshotFiles)
    {
        try
        {
            return new Scene
            {
                Cluster = cluster,
                Places = PlaceList.Read(File.ReadAllBytes(placesFile)),
                IsClosed = true,
                SnapshotFiles = snapshotFiles,
            };
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new SessionException($"The places of {cluster} could not be read: {e.Message}", e);
        }
    }

    /// <summary>The scene of this machine: the network namespace that this process is in, as a node of the machine's name.</summary>
    /// <param name="snapshotFiles">The files with the cluster's objects.</param>
    public static Scene OfThisMachine(params ImmutableArray<string> snapshotFiles)
    {
        using var here = NetworkNamespace.OpenCurrent();
        var node = Environment.MachineName;
        return new Scene
        {
            Cluster = snapshotFiles is [var first, ..] ? Path.GetFileNameWithoutExtension(first) : null,
            Places = [new Place { Name = $"node/{node}", Kind = PlaceKind.Node, Node = node, NetNs = here.Inode, NetNsPath = "/proc/self/ns/net", EtcPath = "/etc" }],
            SnapshotFiles = snapshotFiles,
        };
    }

    /// <summary>Finds where a request is made from.</summary>
    /// <param name="from">
    /// <c>pod/NAME</c>, <c>pod/NAMESPACE/NAME</c>, <c>node</c>, <c>node/NAME</c>, <c>outside</c>, <c>netns:NAME</c> or <c>netns:/PATH</c>; null
    /// for the only node.
    /// </param>
    /// <param name="ns">The namespace of a pod that is named without one.</param>
    /// <exception cref="SessionException">There is no such place, or several; the message names those that there are.</exception>
    public Place FindPlace(string? from, string ns)
    {
        ArgumentNullException.ThrowIfNull(ns);
        if (from is not null && from.StartsWith("netns:", StringComparison.Ordinal))
        {
            return OfNetworkNamespace(from["netns:".Length..]);
        }

        if (from is null or "node")
        {
            return Places.Where(p => p.Kind == PlaceKind.Node).ToList() switch
            {
                [var only] when from is not null || !IsClosed => only,
                _ => throw new SessionException($"Say where the request is made from: --from {string.Join(" or ", Places.Take(6).Select(p => p.Name))}."),
            };
        }

        var name = from.Split('/') is ["pod", var pod] ? $"pod/{ns}/{pod}" : from;
        if (Places.FirstOrDefault(p => p.Name == name || (p.Kind == PlaceKind.Node && p.Node == from)) is { } place)
        {
            return place;
        }

        var near = from.Contains('/') ? NearestNames.Of(name, Places.Select(p => p.Name))
            : [.. Places.Where(p => p.Name.EndsWith($"/{from}", StringComparison.Ordinal)).Select(p => p.Name)];
        var hint = near.IsEmpty
            ? $"There are: {string.Join(", ", Places.Take(20).Select(p => p.Name))}. Any network namespace can be given as netns:NAME or netns:/PATH."
            : $"The nearest: {string.Join(", ", near)}.";
        throw new SessionException($"There is no {name} here{(Cluster is null ? "" : $" (in {Cluster})")}. {hint}");
    }

    private Place OfNetworkNamespace(string name)
    {
        var path = name.Contains('/', StringComparison.Ordinal) ? name : $"/run/netns/{name}";
        NetworkNamespace opened;
        try
        {
            opened = NetworkNamespace.Open(path);
        }
        catch (FileNotFoundException e)
        {
            var named = Directory.Exists("/run/netns") ? Directory.EnumerateFileSystemEntries("/run/netns").Select(f => Path.GetFileName(f)!) : [];
            var near = NearestNames.Of(name, named);
            throw new SessionException(near.IsEmpty ? e.Message : $"There is no network namespace {name}. The nearest: {string.Join(", ", near)}.", e);
        }

        using (opened)
        {
            // ip-netns(8): what lies in /etc/netns/NAME is seen in place of /etc's own.
            var etc = $"/etc/netns/{name}";
            return Places.FirstOrDefault(p => p.NetNs == opened.Inode) ?? new Place
            {
                Name = $"netns:{name}",
                Kind = PlaceKind.Outside,
                Node = Places.FirstOrDefault(p => p.Kind == PlaceKind.Node)?.Node,
                NetNs = opened.Inode,
                NetNsPath = path,
                EtcPath = !name.Contains('/', StringComparison.Ordinal) && File.Exists($"{etc}/resolv.conf") ? etc : "/etc",
            };
        }
    }
}
