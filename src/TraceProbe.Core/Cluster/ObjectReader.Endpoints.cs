using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a discovery.k8s.io EndpointSlice, v1 or v1beta1 (which has an endpoint's node in its topology).</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public EndpointSlice ReadEndpointSlice(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        string? addressType = null;
        ImmutableArray<Endpoint> endpoints = default;
        ImmutableArray<EndpointPort> ports = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("addressType"u8))
            {
                addressType = Text(ref json);
            }
            else if (member.SequenceEqual("endpoints"u8))
            {
                endpoints = Array(ref json, ReadEndpoint);
            }
            else if (member.SequenceEqual("ports"u8))
            {
                ports = SharedArray(ref json, ReadEndpointPort);
            }
            else
            {
                json.Skip();
            }
        }

        return new EndpointSlice { Metadata = metadata!, AddressType = addressType!, Endpoints = endpoints, Ports = ports };
    }

    /// <summary>
    /// Reads core/v1 Endpoints, the predecessor of EndpointSlices (deprecated from 1.33 on), as the slices that say the same: one for each
    /// subset and address family, as the mirroring controller makes them (kubernetes, pkg/controller/endpointslicemirroring).
    /// </summary>
    /// <param name="json">The JSON.</param>
    /// <param name="metadata">What they are the endpoints of, also when there are none.</param>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public ImmutableArray<EndpointSlice> ReadEndpoints(ref Utf8JsonReader json, out ObjectMeta metadata)
    {
        ObjectMeta? read = null;
        Subset[] subsets = [];
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                read = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("subsets"u8))
            {
                subsets = Items(ref json, ReadSubset);
            }
            else
            {
                json.Skip();
            }
        }

        metadata = read ?? new ObjectMeta();
        var slices = ImmutableArray.CreateBuilder<EndpointSlice>();
        for (var i = 0; i < subsets.Length; i++)
        {
            foreach (var family in (string[])["IPv4", "IPv6"])
            {
                var endpoints = subsets[i].Endpoints.Where(e => e.Addresses[0].Contains(':', StringComparison.Ordinal) == (family == "IPv6")).ToImmutableArray();
                if (!endpoints.IsEmpty)
                {
                    slices.Add(new EndpointSlice
                    {
                        Metadata = metadata with
                        {
                            Name = $"{metadata.Name}{(i == 0 ? "" : $"-{i}")}{(family == "IPv6" ? "-ipv6" : "")}",
                            Labels = metadata.Labels.SetItem(EndpointSlice.ServiceNameLabel, metadata.Name),
                        },
                        AddressType = family,
                        Endpoints = endpoints,
                        Ports = subsets[i].Ports,
                    });
                }
            }
        }

        return slices.ToImmutable();
    }

    private sealed record Subset(ImmutableArray<Endpoint> Endpoints, ImmutableArray<EndpointPort> Ports);

    private static Endpoint ReadEndpoint(ObjectReader reader, ref Utf8JsonReader json)
    {
        ImmutableArray<string> addresses = default;
        EndpointConditions? conditions = null;
        ObjectReference? target = null;
        string? node = null, zone = null, hostname = null, nodeOfTopology = null;
        EndpointHints? hints = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("addresses"u8))
            {
                addresses = reader.SharedArray(ref json, ReadText);
            }
            else if (member.SequenceEqual("conditions"u8))
            {
                conditions = reader.ReadEndpointConditions(ref json);
            }
            else if (member.SequenceEqual("targetRef"u8))
            {
                target = reader.ReadReference(ref json);
            }
            else if (member.SequenceEqual("nodeName"u8))
            {
                node = reader.Text(ref json);
            }
            else if (member.SequenceEqual("zone"u8))
            {
                zone = reader.Text(ref json);
            }
            else if (member.SequenceEqual("hostname"u8))
            {
                hostname = reader.Text(ref json);
            }
            else if (member.SequenceEqual("hints"u8))
            {
                hints = reader.ReadHints(ref json);
            }
            else if (member.SequenceEqual("topology"u8))
            {
                var topology = reader.Dictionary(ref json);
                nodeOfTopology = topology.GetValueOrDefault("kubernetes.io/hostname");
                zone ??= topology.GetValueOrDefault("topology.kubernetes.io/zone");
            }
            else
            {
                json.Skip();
            }
        }

        return new Endpoint { Addresses = addresses, Conditions = conditions!, TargetRef = target, Hostname = hostname, NodeName = node ?? nodeOfTopology, Zone = zone, Hints = hints };
    }

    private static EndpointPort ReadEndpointPort(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? name = null, protocol = null;
        int? port = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("port"u8))
            {
                port = Number(ref json);
            }
            else if (member.SequenceEqual("protocol"u8))
            {
                protocol = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new EndpointPort { Name = name, Port = port, Protocol = protocol! };
    }

    private static Subset ReadSubset(ObjectReader reader, ref Utf8JsonReader json)
    {
        Endpoint[] ready = [], notReady = [];
        ImmutableArray<EndpointPort> ports = [];
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("addresses"u8))
            {
                ready = reader.Items(ref json, ReadReadyAddress);
            }
            else if (member.SequenceEqual("notReadyAddresses"u8))
            {
                notReady = reader.Items(ref json, ReadNotReadyAddress);
            }
            else if (member.SequenceEqual("ports"u8))
            {
                ports = reader.SharedArray(ref json, ReadEndpointPort);
            }
            else
            {
                json.Skip();
            }
        }

        return new Subset([.. ready, .. notReady], ports);
    }

    private static Endpoint ReadReadyAddress(ObjectReader reader, ref Utf8JsonReader json) => reader.ReadAddress(ref json, true);

    private static Endpoint ReadNotReadyAddress(ObjectReader reader, ref Utf8JsonReader json) => reader.ReadAddress(ref json, false);

    private static ZoneHint ReadZoneHint(ObjectReader reader, ref Utf8JsonReader json) => new ZoneHint(reader.ReadNameOnly(ref json));

    private static NodeHint ReadNodeHint(ObjectReader reader, ref Utf8JsonReader json) => new NodeHint(reader.ReadNameOnly(ref json));

    private Endpoint ReadAddress(ref Utf8JsonReader json, bool ready)
    {
        string? ip = null, node = null, hostname = null;
        ObjectReference? target = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("ip"u8))
            {
                ip = Text(ref json);
            }
            else if (member.SequenceEqual("nodeName"u8))
            {
                node = Text(ref json);
            }
            else if (member.SequenceEqual("hostname"u8))
            {
                hostname = Text(ref json);
            }
            else if (member.SequenceEqual("targetRef"u8))
            {
                target = ReadReference(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Endpoint
        {
            Addresses = _shared.Array([ip ?? ""]),
            Conditions = _shared.Value(new EndpointConditions { Ready = ready }),
            TargetRef = target,
            Hostname = hostname,
            NodeName = node,
        };
    }

    private EndpointConditions ReadEndpointConditions(ref Utf8JsonReader json)
    {
        bool? ready = null, serving = null, terminating = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("ready"u8))
            {
                ready = Flag(ref json);
            }
            else if (member.SequenceEqual("serving"u8))
            {
                serving = Flag(ref json);
            }
            else if (member.SequenceEqual("terminating"u8))
            {
                terminating = Flag(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new EndpointConditions { Ready = ready, Serving = serving, Terminating = terminating });
    }

    private ObjectReference ReadReference(ref Utf8JsonReader json)
    {
        string? kind = null, ns = null, name = null, uid = null, fieldPath = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("kind"u8))
            {
                kind = Text(ref json);
            }
            else if (member.SequenceEqual("namespace"u8))
            {
                ns = Text(ref json);
            }
            else if (member.SequenceEqual("name"u8))
            {
                name = Text(ref json);
            }
            else if (member.SequenceEqual("uid"u8))
            {
                uid = Text(ref json);
            }
            else if (member.SequenceEqual("fieldPath"u8))
            {
                fieldPath = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new ObjectReference { Kind = kind!, Namespace = ns, Name = name!, Uid = uid, FieldPath = fieldPath });
    }

    private EndpointHints ReadHints(ref Utf8JsonReader json)
    {
        ImmutableArray<ZoneHint> zones = default;
        ImmutableArray<NodeHint> nodes = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("forZones"u8))
            {
                zones = SharedArray(ref json, ReadZoneHint);
            }
            else if (member.SequenceEqual("forNodes"u8))
            {
                nodes = SharedArray(ref json, ReadNodeHint);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new EndpointHints { ForZones = zones, ForNodes = nodes });
    }

    private string ReadNameOnly(ref Utf8JsonReader json)
    {
        var name = "";
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return name;
    }
}
