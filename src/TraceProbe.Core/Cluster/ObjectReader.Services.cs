using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a core/v1 Service.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public Service ReadService(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        ServiceSpec? spec = null;
        ServiceStatus? status = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("spec"u8))
            {
                spec = ReadServiceSpec(ref json);
            }
            else if (member.SequenceEqual("status"u8))
            {
                status = ReadServiceStatus(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Service { Metadata = metadata!, Spec = spec!, Status = status! };
    }

    private ServiceSpec ReadServiceSpec(ref Utf8JsonReader json)
    {
        string? type = null, clusterIP = null, externalName = null, affinity = null, externalPolicy = null, internalPolicy = null, distribution = null;
        ImmutableArray<string> clusterIPs = default, externalIPs = default, sourceRanges = default, families = default;
        ImmutableArray<ServicePort> ports = default;
        ImmutableSortedDictionary<string, string>? selector = null;
        SessionAffinityConfig? affinityConfig = null;
        var healthCheckNodePort = 0;
        var publishNotReady = false;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("type"u8))
            {
                type = Text(ref json);
            }
            else if (member.SequenceEqual("clusterIP"u8))
            {
                clusterIP = Text(ref json);
            }
            else if (member.SequenceEqual("clusterIPs"u8))
            {
                clusterIPs = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("externalIPs"u8))
            {
                externalIPs = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("externalName"u8))
            {
                externalName = Text(ref json);
            }
            else if (member.SequenceEqual("ports"u8))
            {
                ports = SharedArray(ref json, ReadServicePort);
            }
            else if (member.SequenceEqual("selector"u8))
            {
                selector = Dictionary(ref json);
            }
            else if (member.SequenceEqual("sessionAffinity"u8))
            {
                affinity = Text(ref json);
            }
            else if (member.SequenceEqual("sessionAffinityConfig"u8))
            {
                affinityConfig = ReadAffinityConfig(ref json);
            }
            else if (member.SequenceEqual("externalTrafficPolicy"u8))
            {
                externalPolicy = Text(ref json);
            }
            else if (member.SequenceEqual("internalTrafficPolicy"u8))
            {
                internalPolicy = Text(ref json);
            }
            else if (member.SequenceEqual("healthCheckNodePort"u8))
            {
                healthCheckNodePort = Number(ref json);
            }
            else if (member.SequenceEqual("loadBalancerSourceRanges"u8))
            {
                sourceRanges = Array(ref json, ReadText);
            }
            else if (member.SequenceEqual("ipFamilies"u8))
            {
                families = _shared.Array(Items(ref json, ReadText));
            }
            else if (member.SequenceEqual("trafficDistribution"u8))
            {
                distribution = Text(ref json);
            }
            else if (member.SequenceEqual("publishNotReadyAddresses"u8))
            {
                publishNotReady = Flag(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new ServiceSpec
        {
            Type = type!,
            ClusterIP = clusterIP,
            ClusterIPs = clusterIPs,
            ExternalIPs = externalIPs,
            ExternalName = externalName,
            Ports = ports,
            Selector = selector!,
            SessionAffinity = affinity!,
            SessionAffinityConfig = affinityConfig,
            ExternalTrafficPolicy = externalPolicy,
            InternalTrafficPolicy = internalPolicy,
            HealthCheckNodePort = healthCheckNodePort,
            LoadBalancerSourceRanges = sourceRanges,
            IpFamilies = families,
            TrafficDistribution = distribution,
            PublishNotReadyAddresses = publishNotReady,
        };
    }

    private static ServicePort ReadServicePort(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? name = null, protocol = null, appProtocol = null;
        int port = 0, nodePort = 0;
        IntOrString targetPort = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("protocol"u8))
            {
                protocol = reader.Text(ref json);
            }
            else if (member.SequenceEqual("port"u8))
            {
                port = Number(ref json);
            }
            else if (member.SequenceEqual("targetPort"u8))
            {
                targetPort = reader.IntOrText(ref json);
            }
            else if (member.SequenceEqual("nodePort"u8))
            {
                nodePort = Number(ref json);
            }
            else if (member.SequenceEqual("appProtocol"u8))
            {
                appProtocol = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new ServicePort { Name = name, Protocol = protocol!, Port = port, TargetPort = targetPort, NodePort = nodePort, AppProtocol = appProtocol };
    }

    private SessionAffinityConfig ReadAffinityConfig(ref Utf8JsonReader json)
    {
        ClientIPConfig? clientIP = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("clientIP"u8))
            {
                int? seconds = null;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("timeoutSeconds"u8))
                    {
                        seconds = Number(ref json);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                clientIP = new ClientIPConfig { TimeoutSeconds = seconds };
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new SessionAffinityConfig { ClientIP = clientIP });
    }

    private ServiceStatus ReadServiceStatus(ref Utf8JsonReader json)
    {
        LoadBalancerStatus? balancer = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("loadBalancer"u8))
            {
                ImmutableArray<LoadBalancerIngress> ingress = default;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("ingress"u8))
                    {
                        ingress = SharedArray(ref json, ReadIngress);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                balancer = _shared.Value(new LoadBalancerStatus { Ingress = ingress });
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new ServiceStatus { LoadBalancer = balancer! });
    }

    private static LoadBalancerIngress ReadIngress(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? ip = null, hostname = null, mode = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("ip"u8))
            {
                ip = reader.Text(ref json);
            }
            else if (member.SequenceEqual("hostname"u8))
            {
                hostname = reader.Text(ref json);
            }
            else if (member.SequenceEqual("ipMode"u8))
            {
                mode = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new LoadBalancerIngress { Ip = ip, Hostname = hostname, IpMode = mode };
    }
}
