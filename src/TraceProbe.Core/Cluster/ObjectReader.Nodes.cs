using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a core/v1 Node.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public Node ReadNode(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        NodeSpec? spec = null;
        NodeStatus? status = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("spec"u8))
            {
                spec = ReadNodeSpec(ref json);
            }
            else if (member.SequenceEqual("status"u8))
            {
                status = ReadNodeStatus(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Node { Metadata = metadata!, Spec = spec!, Status = status! };
    }

    private NodeSpec ReadNodeSpec(ref Utf8JsonReader json)
    {
        string? prefix = null;
        ImmutableArray<string> prefixes = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("podCIDR"u8))
            {
                prefix = Text(ref json);
            }
            else if (member.SequenceEqual("podCIDRs"u8))
            {
                prefixes = Array(ref json, ReadText);
            }
            else
            {
                json.Skip();
            }
        }

        return new NodeSpec { PodCIDR = prefix, PodCIDRs = prefixes };
    }

    private NodeStatus ReadNodeStatus(ref Utf8JsonReader json)
    {
        ImmutableArray<NodeAddress> addresses = default;
        ImmutableArray<Condition> conditions = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("addresses"u8))
            {
                addresses = Array(ref json, ReadNodeAddress);
            }
            else if (member.SequenceEqual("conditions"u8))
            {
                conditions = SharedArray(ref json, ReadCondition);
            }
            else
            {
                json.Skip();
            }
        }

        return new NodeStatus { Addresses = addresses, Conditions = conditions };
    }

    private static NodeAddress ReadNodeAddress(ObjectReader reader, ref Utf8JsonReader json)
    {
        string type = "", address = "";
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("type"u8))
            {
                type = reader.Text(ref json);
            }
            else if (member.SequenceEqual("address"u8))
            {
                address = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new NodeAddress(type, address);
    }
}
