using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>What kind of network namespace a <see cref="Place"/> is.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<PlaceKind>))]
public enum PlaceKind
{
    /// <summary>A node's own namespace.</summary>
    Node,

    /// <summary>A pod's namespace.</summary>
    Pod,

    /// <summary>Something beyond the cluster, such as the provider's resolver.</summary>
    Outside,
}

/// <summary>
/// One network namespace with a name that people know it by, and everything needed to enter it and to name it when its number
/// turns up in an event.
/// </summary>
public sealed record Place
{
    /// <summary>How people name it: <c>pod/default/ubuntu</c>, <c>node/node-1</c> or <c>outside</c>.</summary>
    public string Name { get; init => field = value ?? ""; } = "";

    /// <summary>Node, pod or outside.</summary>
    public PlaceKind Kind { get; init; }

    /// <summary>The node it is, or the node the pod is on; null outside.</summary>
    public string? Node { get; init; }

    /// <summary>The pod's namespace in the API; null unless it is a pod.</summary>
    public string? PodNamespace { get; init; }

    /// <summary>The pod's name; null unless it is a pod.</summary>
    public string? PodName { get; init; }

    /// <summary>The pod's UID; null unless it is a pod.</summary>
    public string? PodUid { get; init; }

    /// <summary>
    /// A process that lives in the place's network and mount namespaces as long as the place does (the pod's <c>pause</c>), so
    /// that <c>/proc/PID/root/etc/resolv.conf</c> is the place's own; 0 when there is none.
    /// </summary>
    public int Pid { get; init; }

    /// <summary>The inode number of the network namespace, as events carry it.</summary>
    public uint NetNs { get; init; }

    /// <summary>The file to open to enter the network namespace, such as <c>/run/netns/tp-demo-node-1</c>.</summary>
    public string NetNsPath { get; init => field = value ?? ""; } = "";

    /// <summary>The folder that holds the place's own <c>resolv.conf</c> and <c>hosts</c>, as seen from this mount namespace.</summary>
    public string EtcPath { get; init => field = value ?? ""; } = "";

    /// <summary>The place's addresses, IPv4 first; empty when not known.</summary>
    public ImmutableArray<IpAddress> Addresses { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <inheritdoc/>
    public override string ToString() => Name;
}

/// <summary>How a list of places is read and written: a JSON array, camelCase, nulls left out.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true)]
[JsonSerializable(typeof(Place))]
[JsonSerializable(typeof(ImmutableArray<Place>))]
public sealed partial class PlaceJson : JsonSerializerContext;
