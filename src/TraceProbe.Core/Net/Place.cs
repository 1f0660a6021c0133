using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using static TraceProbe.Core.Cluster.JsonMembers;

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

/// <summary>A list of places in a file: a JSON array, camelCase, nulls left out.</summary>
public static class PlaceList
{
    /// <summary>Reads a list.</summary>
    /// <param name="text">The JSON text, UTF-8.</param>
    /// <exception cref="JsonException">It is no list of places.</exception>
    public static ImmutableArray<Place> Read(ReadOnlySpan<byte> text)
    {
        var json = new Utf8JsonReader(text);
        Advance(ref json);
        OpenList(ref json);
        var places = ImmutableArray.CreateBuilder<Place>();
        while (NextElement(ref json))
        {
            places.Add(ReadPlace(ref json));
        }

        return !json.Read() ? places.ToImmutable() : throw new JsonException("there is more behind the list.");
    }

    /// <summary>Writes a list.</summary>
    public static byte[] Write(ImmutableArray<Place> places) => JsonSerializer.SerializeToUtf8Bytes(places, PlaceJson.Default.ImmutableArrayPlace);

    private static Place ReadPlace(ref Utf8JsonReader json)
    {
        string name = "", netNsPath = "", etcPath = "";
        string? node = null, podNamespace = null, podName = null, podUid = null;
        var kind = PlaceKind.Node;
        var pid = 0;
        uint netNs = 0;
        var addresses = ImmutableArray.CreateBuilder<IpAddress>();
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = OwnText(ref json);
            }
            else if (member.SequenceEqual("kind"u8))
            {
                kind = OwnText(ref json) switch
                {
                    nameof(PlaceKind.Node) => PlaceKind.Node,
                    nameof(PlaceKind.Pod) => PlaceKind.Pod,
                    nameof(PlaceKind.Outside) => PlaceKind.Outside,
                    _ => throw new JsonException("Node, Pod or Outside was expected."),
                };
            }
            else if (member.SequenceEqual("node"u8))
            {
                node = OwnText(ref json);
            }
            else if (member.SequenceEqual("podNamespace"u8))
            {
                podNamespace = OwnText(ref json);
            }
            else if (member.SequenceEqual("podName"u8))
            {
                podName = OwnText(ref json);
            }
            else if (member.SequenceEqual("podUid"u8))
            {
                podUid = OwnText(ref json);
            }
            else if (member.SequenceEqual("pid"u8))
            {
                pid = Number(ref json);
            }
            else if (member.SequenceEqual("netNs"u8))
            {
                netNs = json.TokenType == JsonTokenType.Number && json.TryGetUInt32(out var inode) ? inode : throw new JsonException("an inode number was expected.");
            }
            else if (member.SequenceEqual("netNsPath"u8))
            {
                netNsPath = OwnText(ref json);
            }
            else if (member.SequenceEqual("etcPath"u8))
            {
                etcPath = OwnText(ref json);
            }
            else if (member.SequenceEqual("addresses"u8))
            {
                OpenList(ref json);
                while (NextElement(ref json))
                {
                    addresses.Add(IpAddress.TryParse(OwnText(ref json), null, out var address) ? address : throw new JsonException("an IP address was expected."));
                }
            }
            else
            {
                json.Skip();
            }
        }

        return new Place
        {
            Name = name,
            Kind = kind,
            Node = node,
            PodNamespace = podNamespace,
            PodName = podName,
            PodUid = podUid,
            Pid = pid,
            NetNs = netNs,
            NetNsPath = netNsPath,
            EtcPath = etcPath,
            Addresses = addresses.ToImmutable(),
        };
    }
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true)]
[JsonSerializable(typeof(ImmutableArray<Place>))]
internal sealed partial class PlaceJson : JsonSerializerContext;
