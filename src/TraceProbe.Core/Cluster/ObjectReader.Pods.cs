using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a core/v1 Pod.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public Pod ReadPod(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        PodSpec? spec = null;
        PodStatus? status = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("spec"u8))
            {
                spec = ReadPodSpec(ref json);
            }
            else if (member.SequenceEqual("status"u8))
            {
                status = ReadPodStatus(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Pod { Metadata = metadata!, Spec = spec!, Status = status! };
    }

    private PodSpec ReadPodSpec(ref Utf8JsonReader json)
    {
        string? node = null, dnsPolicy = null, hostname = null, subdomain = null;
        var hostNetwork = false;
        PodDnsConfig? dnsConfig = null;
        ImmutableArray<Container> containers = default, initContainers = default;
        ImmutableArray<HostAlias> aliases = default;
        ImmutableArray<PodReadinessGate> gates = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("nodeName"u8))
            {
                node = Text(ref json);
            }
            else if (member.SequenceEqual("hostNetwork"u8))
            {
                hostNetwork = Flag(ref json);
            }
            else if (member.SequenceEqual("dnsPolicy"u8))
            {
                dnsPolicy = Text(ref json);
            }
            else if (member.SequenceEqual("dnsConfig"u8))
            {
                dnsConfig = ReadDnsConfig(ref json);
            }
            else if (member.SequenceEqual("containers"u8))
            {
                containers = SharedArray(ref json, ReadContainer);
            }
            else if (member.SequenceEqual("initContainers"u8))
            {
                initContainers = SharedArray(ref json, ReadContainer);
            }
            else if (member.SequenceEqual("hostname"u8))
            {
                hostname = Text(ref json);
            }
            else if (member.SequenceEqual("subdomain"u8))
            {
                subdomain = Text(ref json);
            }
            else if (member.SequenceEqual("hostAliases"u8))
            {
                aliases = SharedArray(ref json, ReadHostAlias);
            }
            else if (member.SequenceEqual("readinessGates"u8))
            {
                gates = SharedArray(ref json, ReadGate);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new PodSpec
        {
            NodeName = node,
            HostNetwork = hostNetwork,
            DnsPolicy = dnsPolicy!,
            DnsConfig = dnsConfig,
            Containers = containers,
            InitContainers = initContainers,
            Hostname = hostname,
            Subdomain = subdomain,
            HostAliases = aliases,
            ReadinessGates = gates,
        });
    }

    private static HostAlias ReadHostAlias(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? ip = null;
        ImmutableArray<string> names = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("ip"u8))
            {
                ip = reader.Text(ref json);
            }
            else if (member.SequenceEqual("hostnames"u8))
            {
                names = reader.SharedArray(ref json, ReadText);
            }
            else
            {
                json.Skip();
            }
        }

        return new HostAlias { Ip = ip!, Hostnames = names };
    }

    private static PodReadinessGate ReadGate(ObjectReader reader, ref Utf8JsonReader json)
    {
        var type = "";
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("conditionType"u8))
            {
                type = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new PodReadinessGate(type);
    }

    private PodDnsConfig ReadDnsConfig(ref Utf8JsonReader json)
    {
        ImmutableArray<string> servers = default, searches = default;
        ImmutableArray<PodDnsConfigOption> options = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("nameservers"u8))
            {
                servers = SharedArray(ref json, ReadText);
            }
            else if (member.SequenceEqual("searches"u8))
            {
                searches = SharedArray(ref json, ReadText);
            }
            else if (member.SequenceEqual("options"u8))
            {
                options = SharedArray(ref json, ReadDnsOption);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new PodDnsConfig { Nameservers = servers, Searches = searches, Options = options });
    }

    private static PodDnsConfigOption ReadDnsOption(ObjectReader reader, ref Utf8JsonReader json)
    {
        var name = "";
        string? value = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("value"u8))
            {
                value = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new PodDnsConfigOption(name, value);
    }

    private static Container ReadContainer(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? name = null, image = null, restartPolicy = null;
        ImmutableArray<ContainerPort> ports = default;
        Probe? readiness = null, liveness = null, startup = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("image"u8))
            {
                image = reader.Text(ref json);
            }
            else if (member.SequenceEqual("ports"u8))
            {
                ports = reader.SharedArray(ref json, ReadContainerPort);
            }
            else if (member.SequenceEqual("readinessProbe"u8))
            {
                readiness = reader.ReadProbe(ref json);
            }
            else if (member.SequenceEqual("livenessProbe"u8))
            {
                liveness = reader.ReadProbe(ref json);
            }
            else if (member.SequenceEqual("startupProbe"u8))
            {
                startup = reader.ReadProbe(ref json);
            }
            else if (member.SequenceEqual("restartPolicy"u8))
            {
                restartPolicy = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Container
        {
            Name = name!,
            Image = image,
            Ports = ports,
            ReadinessProbe = readiness,
            LivenessProbe = liveness,
            StartupProbe = startup,
            RestartPolicy = restartPolicy,
        };
    }

    private static ContainerPort ReadContainerPort(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? name = null, protocol = null;
        var port = 0;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("containerPort"u8))
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

        return new ContainerPort { Name = name, Port = port, Protocol = protocol! };
    }

    private Probe ReadProbe(ref Utf8JsonReader json)
    {
        HttpGetAction? httpGet = null;
        TcpSocketAction? tcpSocket = null;
        ExecAction? exec = null;
        GrpcAction? grpc = null;
        int? delay = null, timeout = null, period = null, failures = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("httpGet"u8))
            {
                string? path = null, scheme = null, host = null;
                IntOrString port = default;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("path"u8))
                    {
                        path = Text(ref json);
                    }
                    else if (inner.SequenceEqual("scheme"u8))
                    {
                        scheme = Text(ref json);
                    }
                    else if (inner.SequenceEqual("host"u8))
                    {
                        host = Text(ref json);
                    }
                    else if (inner.SequenceEqual("port"u8))
                    {
                        port = IntOrText(ref json);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                httpGet = _shared.Value(new HttpGetAction { Path = path, Port = port, Scheme = scheme, Host = host });
            }
            else if (member.SequenceEqual("tcpSocket"u8))
            {
                IntOrString port = default;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("port"u8))
                    {
                        port = IntOrText(ref json);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                tcpSocket = _shared.Value(new TcpSocketAction { Port = port });
            }
            else if (member.SequenceEqual("exec"u8))
            {
                ImmutableArray<string> command = default;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("command"u8))
                    {
                        command = SharedArray(ref json, ReadText);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                exec = _shared.Value(new ExecAction { Command = command });
            }
            else if (member.SequenceEqual("grpc"u8))
            {
                var port = 0;
                string? service = null;
                Open(ref json);
                while (Next(ref json, out var inner))
                {
                    if (inner.SequenceEqual("port"u8))
                    {
                        port = Number(ref json);
                    }
                    else if (inner.SequenceEqual("service"u8))
                    {
                        service = Text(ref json);
                    }
                    else
                    {
                        json.Skip();
                    }
                }

                grpc = _shared.Value(new GrpcAction { Port = port, Service = service });
            }
            else if (member.SequenceEqual("initialDelaySeconds"u8))
            {
                delay = Number(ref json);
            }
            else if (member.SequenceEqual("timeoutSeconds"u8))
            {
                timeout = Number(ref json);
            }
            else if (member.SequenceEqual("periodSeconds"u8))
            {
                period = Number(ref json);
            }
            else if (member.SequenceEqual("failureThreshold"u8))
            {
                failures = Number(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new Probe
        {
            HttpGet = httpGet,
            TcpSocket = tcpSocket,
            Exec = exec,
            Grpc = grpc,
            InitialDelaySeconds = delay,
            TimeoutSeconds = timeout,
            PeriodSeconds = period,
            FailureThreshold = failures,
        });
    }

    private PodStatus ReadPodStatus(ref Utf8JsonReader json)
    {
        string? phase = null, podIP = null, hostIP = null, reason = null, message = null;
        ImmutableArray<PodIP> podIPs = default;
        ImmutableArray<Condition> conditions = default;
        ImmutableArray<ContainerStatus> containers = default, initContainers = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("phase"u8))
            {
                phase = Text(ref json);
            }
            else if (member.SequenceEqual("podIP"u8))
            {
                podIP = Text(ref json);
            }
            else if (member.SequenceEqual("podIPs"u8))
            {
                podIPs = Array(ref json, ReadPodIP);
            }
            else if (member.SequenceEqual("hostIP"u8))
            {
                hostIP = Text(ref json);
            }
            else if (member.SequenceEqual("conditions"u8))
            {
                conditions = SharedArray(ref json, ReadCondition);
            }
            else if (member.SequenceEqual("containerStatuses"u8))
            {
                containers = Array(ref json, ReadContainerStatus);
            }
            else if (member.SequenceEqual("initContainerStatuses"u8))
            {
                initContainers = Array(ref json, ReadContainerStatus);
            }
            else if (member.SequenceEqual("reason"u8))
            {
                reason = Text(ref json);
            }
            else if (member.SequenceEqual("message"u8))
            {
                message = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new PodStatus
        {
            Phase = phase,
            PodIP = podIP,
            PodIPs = podIPs,
            HostIP = hostIP,
            Conditions = conditions,
            ContainerStatuses = containers,
            InitContainerStatuses = initContainers,
            Reason = reason,
            Message = message,
        };
    }

    private static PodIP ReadPodIP(ObjectReader reader, ref Utf8JsonReader json)
    {
        var ip = "";
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("ip"u8))
            {
                ip = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new PodIP(ip);
    }

    private static ContainerStatus ReadContainerStatus(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? name = null;
        var ready = false;
        bool? started = null;
        var restarts = 0;
        ContainerState? state = null, last = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else if (member.SequenceEqual("ready"u8))
            {
                ready = Flag(ref json);
            }
            else if (member.SequenceEqual("started"u8))
            {
                started = Flag(ref json);
            }
            else if (member.SequenceEqual("restartCount"u8))
            {
                restarts = Number(ref json);
            }
            else if (member.SequenceEqual("state"u8))
            {
                state = reader.ReadContainerState(ref json);
            }
            else if (member.SequenceEqual("lastState"u8))
            {
                last = reader.ReadContainerState(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new ContainerStatus { Name = name!, Ready = ready, Started = started, RestartCount = restarts, State = state!, LastState = last! };
    }

    private ContainerState ReadContainerState(ref Utf8JsonReader json)
    {
        ContainerStateDetail? running = null, waiting = null, terminated = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("running"u8))
            {
                running = ReadStateDetail(ref json);
            }
            else if (member.SequenceEqual("waiting"u8))
            {
                waiting = ReadStateDetail(ref json);
            }
            else if (member.SequenceEqual("terminated"u8))
            {
                terminated = ReadStateDetail(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new ContainerState { Running = running, Waiting = waiting, Terminated = terminated });
    }

    private ContainerStateDetail ReadStateDetail(ref Utf8JsonReader json)
    {
        string? reason = null, message = null;
        int? exitCode = null, signal = null;
        DateTimeOffset? started = null, finished = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("reason"u8))
            {
                reason = Text(ref json);
            }
            else if (member.SequenceEqual("message"u8))
            {
                message = Text(ref json);
            }
            else if (member.SequenceEqual("exitCode"u8))
            {
                exitCode = Number(ref json);
            }
            else if (member.SequenceEqual("signal"u8))
            {
                signal = Number(ref json);
            }
            else if (member.SequenceEqual("startedAt"u8))
            {
                started = Time(ref json);
            }
            else if (member.SequenceEqual("finishedAt"u8))
            {
                finished = Time(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return _shared.Value(new ContainerStateDetail { Reason = reason, Message = message, ExitCode = exitCode, Signal = signal, StartedAt = started, FinishedAt = finished });
    }
}
