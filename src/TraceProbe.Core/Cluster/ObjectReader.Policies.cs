using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a networking.k8s.io/v1 NetworkPolicy.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public NetworkPolicy ReadNetworkPolicy(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        NetworkPolicySpec? spec = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("spec"u8))
            {
                spec = ReadPolicySpec(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new NetworkPolicy { Metadata = metadata!, Spec = spec! };
    }

    private NetworkPolicySpec ReadPolicySpec(ref Utf8JsonReader json)
    {
        LabelSelector? pods = null;
        ImmutableArray<string> types = default;
        ImmutableArray<NetworkPolicyIngressRule> ingress = default;
        ImmutableArray<NetworkPolicyEgressRule> egress = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("podSelector"u8))
            {
                pods = ReadSelector(ref json);
            }
            else if (member.SequenceEqual("policyTypes"u8))
            {
                types = SharedArray(ref json, ReadText);
            }
            else if (member.SequenceEqual("ingress"u8))
            {
                ingress = Array(ref json, ReadIngressRule);
            }
            else if (member.SequenceEqual("egress"u8))
            {
                egress = Array(ref json, ReadEgressRule);
            }
            else
            {
                json.Skip();
            }
        }

        return new NetworkPolicySpec { PodSelector = pods!, PolicyTypes = types, Ingress = ingress, Egress = egress };
    }

    private static NetworkPolicyIngressRule ReadIngressRule(ObjectReader reader, ref Utf8JsonReader json)
    {
        var (peers, ports) = reader.ReadPolicyRule(ref json, "from"u8);
        return new NetworkPolicyIngressRule { From = peers, Ports = ports };
    }

    private static NetworkPolicyEgressRule ReadEgressRule(ObjectReader reader, ref Utf8JsonReader json)
    {
        var (peers, ports) = reader.ReadPolicyRule(ref json, "to"u8);
        return new NetworkPolicyEgressRule { To = peers, Ports = ports };
    }

    private (ImmutableArray<NetworkPolicyPeer> Peers, ImmutableArray<NetworkPolicyPort> Ports) ReadPolicyRule(ref Utf8JsonReader json, ReadOnlySpan<byte> nameOfPeers)
    {
        ImmutableArray<NetworkPolicyPeer> peers = default;
        ImmutableArray<NetworkPolicyPort> ports = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual(nameOfPeers))
            {
                peers = Array(ref json, ReadPolicyPeer);
            }
            else if (member.SequenceEqual("ports"u8))
            {
                ports = SharedArray(ref json, ReadPolicyPort);
            }
            else
            {
                json.Skip();
            }
        }

        return (peers, ports);
    }

    private static NetworkPolicyPeer ReadPolicyPeer(ObjectReader reader, ref Utf8JsonReader json)
    {
        LabelSelector? pods = null, namespaces = null;
        IpBlock? block = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("podSelector"u8))
            {
                pods = reader.ReadSelector(ref json);
            }
            else if (member.SequenceEqual("namespaceSelector"u8))
            {
                namespaces = reader.ReadSelector(ref json);
            }
            else if (member.SequenceEqual("ipBlock"u8))
            {
                block = reader.ReadIpBlock(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new NetworkPolicyPeer { PodSelector = pods, NamespaceSelector = namespaces, IpBlock = block };
    }

    private static NetworkPolicyPort ReadPolicyPort(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? protocol = null;
        IntOrString port = default;
        int? end = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("protocol"u8))
            {
                protocol = reader.Text(ref json);
            }
            else if (member.SequenceEqual("port"u8))
            {
                port = reader.IntOrText(ref json);
            }
            else if (member.SequenceEqual("endPort"u8))
            {
                end = Number(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new NetworkPolicyPort { Protocol = protocol!, Port = port, EndPort = end };
    }

    private static LabelExpression ReadExpression(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? key = null, comparison = null;
        ImmutableArray<string> values = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("key"u8))
            {
                key = reader.Text(ref json);
            }
            else if (member.SequenceEqual("operator"u8))
            {
                comparison = reader.Text(ref json);
            }
            else if (member.SequenceEqual("values"u8))
            {
                values = reader.SharedArray(ref json, ReadText);
            }
            else
            {
                json.Skip();
            }
        }

        return new LabelExpression { Key = key!, Operator = comparison!, Values = values };
    }

    private LabelSelector ReadSelector(ref Utf8JsonReader json)
    {
        ImmutableSortedDictionary<string, string>? labels = null;
        ImmutableArray<LabelExpression> expressions = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("matchLabels"u8))
            {
                labels = Dictionary(ref json);
            }
            else if (member.SequenceEqual("matchExpressions"u8))
            {
                expressions = SharedArray(ref json, ReadExpression);
            }
            else
            {
                json.Skip();
            }
        }

        return new LabelSelector { MatchLabels = labels!, MatchExpressions = expressions };
    }

    private IpBlock ReadIpBlock(ref Utf8JsonReader json)
    {
        string? prefix = null;
        ImmutableArray<string> except = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("cidr"u8))
            {
                prefix = Text(ref json);
            }
            else if (member.SequenceEqual("except"u8))
            {
                except = Array(ref json, ReadText);
            }
            else
            {
                json.Skip();
            }
        }

        return new IpBlock { Cidr = prefix!, Except = except };
    }
}
