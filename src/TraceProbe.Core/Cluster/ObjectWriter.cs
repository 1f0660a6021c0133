using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Writes objects as <see cref="ObjectReader"/> reads them and kubectl prints them: apiVersion and kind first, what is empty or not given
/// left out.
/// </summary>
public static class ObjectWriter
{
    /// <summary>Writes a Service.</summary>
    public static void Write(Utf8JsonWriter json, Service value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        var spec = value.Spec;
        Begin(json, "v1"u8, "Service"u8, value.Metadata);
        json.WriteStartObject("spec"u8);
        json.WriteString("type"u8, spec.Type);
        Text(json, "clusterIP"u8, spec.ClusterIP);
        Texts(json, "clusterIPs"u8, spec.ClusterIPs);
        Texts(json, "externalIPs"u8, spec.ExternalIPs);
        Text(json, "externalName"u8, spec.ExternalName);
        Items(json, "ports"u8, spec.Ports, static (json, port) =>
        {
            Text(json, "name"u8, port.Name);
            json.WriteString("protocol"u8, port.Protocol);
            json.WriteNumber("port"u8, port.Port);
            IntOrText(json, "targetPort"u8, port.TargetPort);
            Number(json, "nodePort"u8, port.NodePort);
            Text(json, "appProtocol"u8, port.AppProtocol);
        });
        Dictionary(json, "selector"u8, spec.Selector);
        json.WriteString("sessionAffinity"u8, spec.SessionAffinity);
        if (spec.SessionAffinityConfig is { } affinity)
        {
            json.WriteStartObject("sessionAffinityConfig"u8);
            if (affinity.ClientIP is { } client)
            {
                json.WriteStartObject("clientIP"u8);
                Number(json, "timeoutSeconds"u8, client.TimeoutSeconds);
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        Text(json, "externalTrafficPolicy"u8, spec.ExternalTrafficPolicy);
        Text(json, "internalTrafficPolicy"u8, spec.InternalTrafficPolicy);
        Number(json, "healthCheckNodePort"u8, spec.HealthCheckNodePort);
        Texts(json, "loadBalancerSourceRanges"u8, spec.LoadBalancerSourceRanges);
        Texts(json, "ipFamilies"u8, spec.IpFamilies);
        Text(json, "trafficDistribution"u8, spec.TrafficDistribution);
        Flag(json, "publishNotReadyAddresses"u8, spec.PublishNotReadyAddresses);
        json.WriteEndObject();
        json.WriteStartObject("status"u8);
        json.WriteStartObject("loadBalancer"u8);
        Items(json, "ingress"u8, value.Status.LoadBalancer.Ingress, static (json, ingress) =>
        {
            Text(json, "ip"u8, ingress.Ip);
            Text(json, "hostname"u8, ingress.Hostname);
            Text(json, "ipMode"u8, ingress.IpMode);
        });
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes an EndpointSlice, as discovery.k8s.io/v1.</summary>
    public static void Write(Utf8JsonWriter json, EndpointSlice value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "discovery.k8s.io/v1"u8, "EndpointSlice"u8, value.Metadata);
        json.WriteString("addressType"u8, value.AddressType);
        Items(json, "endpoints"u8, value.Endpoints, always: true, write: static (json, endpoint) =>
        {
            Texts(json, "addresses"u8, endpoint.Addresses);
            json.WriteStartObject("conditions"u8);
            Flag(json, "ready"u8, endpoint.Conditions.Ready);
            Flag(json, "serving"u8, endpoint.Conditions.Serving);
            Flag(json, "terminating"u8, endpoint.Conditions.Terminating);
            json.WriteEndObject();
            if (endpoint.TargetRef is { } target)
            {
                Write(json, "targetRef"u8, target);
            }

            Text(json, "hostname"u8, endpoint.Hostname);
            Text(json, "nodeName"u8, endpoint.NodeName);
            Text(json, "zone"u8, endpoint.Zone);
            if (endpoint.Hints is { } hints)
            {
                json.WriteStartObject("hints"u8);
                Items(json, "forZones"u8, hints.ForZones, static (json, zone) => json.WriteString("name"u8, zone.Name));
                Items(json, "forNodes"u8, hints.ForNodes, static (json, node) => json.WriteString("name"u8, node.Name));
                json.WriteEndObject();
            }
        });
        Items(json, "ports"u8, value.Ports, always: true, write: static (json, port) =>
        {
            Text(json, "name"u8, port.Name);
            Number(json, "port"u8, port.Port);
            json.WriteString("protocol"u8, port.Protocol);
        });
        json.WriteEndObject();
    }

    /// <summary>Writes a Pod.</summary>
    public static void Write(Utf8JsonWriter json, Pod value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        var (spec, status) = (value.Spec, value.Status);
        Begin(json, "v1"u8, "Pod"u8, value.Metadata);
        json.WriteStartObject("spec"u8);
        Text(json, "nodeName"u8, spec.NodeName);
        Flag(json, "hostNetwork"u8, spec.HostNetwork);
        json.WriteString("dnsPolicy"u8, spec.DnsPolicy);
        if (spec.DnsConfig is { } dns)
        {
            json.WriteStartObject("dnsConfig"u8);
            Texts(json, "nameservers"u8, dns.Nameservers);
            Texts(json, "searches"u8, dns.Searches);
            Items(json, "options"u8, dns.Options, static (json, option) =>
            {
                json.WriteString("name"u8, option.Name);
                Text(json, "value"u8, option.Value);
            });
            json.WriteEndObject();
        }

        Text(json, "hostname"u8, spec.Hostname);
        Text(json, "subdomain"u8, spec.Subdomain);
        Items(json, "hostAliases"u8, spec.HostAliases, static (json, alias) =>
        {
            json.WriteString("ip"u8, alias.Ip);
            Texts(json, "hostnames"u8, alias.Hostnames);
        });
        Items(json, "readinessGates"u8, spec.ReadinessGates, static (json, gate) => json.WriteString("conditionType"u8, gate.ConditionType));
        Items(json, "initContainers"u8, spec.InitContainers, Write);
        Items(json, "containers"u8, spec.Containers, Write);
        json.WriteEndObject();
        json.WriteStartObject("status"u8);
        Text(json, "phase"u8, status.Phase);
        Text(json, "podIP"u8, status.PodIP);
        Items(json, "podIPs"u8, status.PodIPs, static (json, address) => json.WriteString("ip"u8, address.Ip));
        Text(json, "hostIP"u8, status.HostIP);
        Write(json, status.Conditions);
        Items(json, "initContainerStatuses"u8, status.InitContainerStatuses, Write);
        Items(json, "containerStatuses"u8, status.ContainerStatuses, Write);
        Text(json, "reason"u8, status.Reason);
        Text(json, "message"u8, status.Message);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes a Node.</summary>
    public static void Write(Utf8JsonWriter json, Node value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "v1"u8, "Node"u8, value.Metadata);
        json.WriteStartObject("spec"u8);
        Text(json, "podCIDR"u8, value.Spec.PodCIDR);
        Texts(json, "podCIDRs"u8, value.Spec.PodCIDRs);
        json.WriteEndObject();
        json.WriteStartObject("status"u8);
        Items(json, "addresses"u8, value.Status.Addresses, static (json, address) =>
        {
            json.WriteString("type"u8, address.Type);
            json.WriteString("address"u8, address.Address);
        });
        Write(json, value.Status.Conditions);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes a Namespace.</summary>
    public static void Write(Utf8JsonWriter json, Namespace value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "v1"u8, "Namespace"u8, value.Metadata);
        json.WriteEndObject();
    }

    /// <summary>Writes a NetworkPolicy.</summary>
    public static void Write(Utf8JsonWriter json, NetworkPolicy value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "networking.k8s.io/v1"u8, "NetworkPolicy"u8, value.Metadata);
        json.WriteStartObject("spec"u8);
        Write(json, "podSelector"u8, value.Spec.PodSelector);
        Texts(json, "policyTypes"u8, value.Spec.PolicyTypes);
        Items(json, "ingress"u8, value.Spec.Ingress, static (json, rule) => Write(json, "from"u8, rule.From, rule.Ports));
        Items(json, "egress"u8, value.Spec.Egress, static (json, rule) => Write(json, "to"u8, rule.To, rule.Ports));
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes a core/v1 Event.</summary>
    public static void Write(Utf8JsonWriter json, PodEvent value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "v1"u8, "Event"u8, value.Metadata);
        Write(json, "involvedObject"u8, value.InvolvedObject);
        Text(json, "type"u8, value.Type);
        Text(json, "reason"u8, value.Reason);
        Text(json, "message"u8, value.Message);
        Number(json, "count"u8, value.Count);
        Time(json, "lastTimestamp"u8, value.LastTimestamp);
        Time(json, "eventTime"u8, value.EventTime);
        if (value.Source is { } source)
        {
            json.WriteStartObject("source"u8);
            json.WriteString("component"u8, source);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    /// <summary>Writes a ConfigMap.</summary>
    public static void Write(Utf8JsonWriter json, ConfigMap value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        Begin(json, "v1"u8, "ConfigMap"u8, value.Metadata);
        Dictionary(json, "data"u8, value.Data);
        json.WriteEndObject();
    }

    /// <summary>Writes a cluster's settings, which are no object of the API.</summary>
    public static void Write(Utf8JsonWriter json, ClusterSettings value)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(value);
        json.WriteStartObject();
        Text(json, "dnsDomain"u8, value.DnsDomain);
        Text(json, "dnsDomainFrom"u8, value.DnsDomainFrom);
        Texts(json, "dnsCaches"u8, [.. value.DnsCaches.Select(a => a.ToString())]);
        if (value.Kubelet is { } kubelet)
        {
            json.WriteStartObject("kubelet"u8);
            json.WriteString("from"u8, kubelet.From);
            Texts(json, "clusterDns"u8, kubelet.ClusterDns);
            Text(json, "clusterDomain"u8, kubelet.ClusterDomain);
            Text(json, "resolvConf"u8, kubelet.ResolvConf);
            json.WriteEndObject();
        }

        if (value.KubeProxy is { } proxy)
        {
            json.WriteStartObject("kubeProxy"u8);
            json.WriteString("from"u8, proxy.From);
            Text(json, "mode"u8, proxy.Mode);
            Texts(json, "clusterCidrs"u8, proxy.ClusterCidrs);
            Flag(json, "masqueradeAll"u8, proxy.MasqueradeAll);
            Texts(json, "nodePortAddresses"u8, proxy.NodePortAddresses);
            Text(json, "detectLocalMode"u8, proxy.DetectLocalMode);
            Text(json, "healthzBindAddress"u8, proxy.HealthzBindAddress);
            Text(json, "metricsBindAddress"u8, proxy.MetricsBindAddress);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void Begin(Utf8JsonWriter json, ReadOnlySpan<byte> apiVersion, ReadOnlySpan<byte> kind, ObjectMeta metadata)
    {
        json.WriteStartObject();
        json.WriteString("apiVersion"u8, apiVersion);
        json.WriteString("kind"u8, kind);
        json.WriteStartObject("metadata"u8);
        json.WriteString("name"u8, metadata.Name);
        Text(json, "namespace"u8, metadata.Namespace);
        Text(json, "uid"u8, metadata.Uid);
        Text(json, "resourceVersion"u8, metadata.ResourceVersion);
        Dictionary(json, "labels"u8, metadata.Labels);
        Dictionary(json, "annotations"u8, metadata.Annotations);
        Time(json, "creationTimestamp"u8, metadata.CreationTimestamp);
        Time(json, "deletionTimestamp"u8, metadata.DeletionTimestamp);
        Items(json, "ownerReferences"u8, metadata.OwnerReferences, static (json, owner) =>
        {
            json.WriteString("kind"u8, owner.Kind);
            json.WriteString("name"u8, owner.Name);
        });
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, ObjectReference reference)
    {
        json.WriteStartObject(name);
        json.WriteString("kind"u8, reference.Kind);
        Text(json, "namespace"u8, reference.Namespace);
        json.WriteString("name"u8, reference.Name);
        Text(json, "uid"u8, reference.Uid);
        Text(json, "fieldPath"u8, reference.FieldPath);
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, Container container)
    {
        json.WriteString("name"u8, container.Name);
        Text(json, "image"u8, container.Image);
        Items(json, "ports"u8, container.Ports, static (json, port) =>
        {
            Text(json, "name"u8, port.Name);
            json.WriteNumber("containerPort"u8, port.Port);
            json.WriteString("protocol"u8, port.Protocol);
        });
        Write(json, "readinessProbe"u8, container.ReadinessProbe);
        Write(json, "livenessProbe"u8, container.LivenessProbe);
        Write(json, "startupProbe"u8, container.StartupProbe);
        Text(json, "restartPolicy"u8, container.RestartPolicy);
    }

    private static void Write(Utf8JsonWriter json, ContainerStatus container)
    {
        json.WriteString("name"u8, container.Name);
        json.WriteBoolean("ready"u8, container.Ready);
        Flag(json, "started"u8, container.Started);
        json.WriteNumber("restartCount"u8, container.RestartCount);
        Write(json, "state"u8, container.State);
        Write(json, "lastState"u8, container.LastState);
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, Probe? probe)
    {
        if (probe is null)
        {
            return;
        }

        json.WriteStartObject(name);
        if (probe.HttpGet is { } http)
        {
            json.WriteStartObject("httpGet"u8);
            Text(json, "path"u8, http.Path);
            IntOrText(json, "port"u8, http.Port);
            Text(json, "scheme"u8, http.Scheme);
            Text(json, "host"u8, http.Host);
            json.WriteEndObject();
        }

        if (probe.TcpSocket is { } tcp)
        {
            json.WriteStartObject("tcpSocket"u8);
            IntOrText(json, "port"u8, tcp.Port);
            json.WriteEndObject();
        }

        if (probe.Exec is { } exec)
        {
            json.WriteStartObject("exec"u8);
            Texts(json, "command"u8, exec.Command);
            json.WriteEndObject();
        }

        if (probe.Grpc is { } grpc)
        {
            json.WriteStartObject("grpc"u8);
            json.WriteNumber("port"u8, grpc.Port);
            Text(json, "service"u8, grpc.Service);
            json.WriteEndObject();
        }

        Number(json, "initialDelaySeconds"u8, probe.InitialDelaySeconds);
        Number(json, "timeoutSeconds"u8, probe.TimeoutSeconds);
        Number(json, "periodSeconds"u8, probe.PeriodSeconds);
        Number(json, "failureThreshold"u8, probe.FailureThreshold);
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, ContainerState state)
    {
        json.WriteStartObject(name);
        Write(json, "running"u8, state.Running);
        Write(json, "waiting"u8, state.Waiting);
        Write(json, "terminated"u8, state.Terminated);
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, ContainerStateDetail? detail)
    {
        if (detail is not null)
        {
            json.WriteStartObject(name);
            Number(json, "exitCode"u8, detail.ExitCode);
            Number(json, "signal"u8, detail.Signal);
            Text(json, "reason"u8, detail.Reason);
            Text(json, "message"u8, detail.Message);
            Time(json, "startedAt"u8, detail.StartedAt);
            Time(json, "finishedAt"u8, detail.FinishedAt);
            json.WriteEndObject();
        }
    }

    private static void Write(Utf8JsonWriter json, ImmutableArray<Condition> conditions)
        => Items(json, "conditions"u8, conditions, static (json, condition) =>
        {
            json.WriteString("type"u8, condition.Type);
            json.WriteString("status"u8, condition.Status);
            Text(json, "reason"u8, condition.Reason);
            Text(json, "message"u8, condition.Message);
        });

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> nameOfPeers, ImmutableArray<NetworkPolicyPeer> peers, ImmutableArray<NetworkPolicyPort> ports)
    {
        Items(json, nameOfPeers, peers, static (json, peer) =>
        {
            Write(json, "podSelector"u8, peer.PodSelector);
            Write(json, "namespaceSelector"u8, peer.NamespaceSelector);
            if (peer.IpBlock is { } block)
            {
                json.WriteStartObject("ipBlock"u8);
                json.WriteString("cidr"u8, block.Cidr);
                Texts(json, "except"u8, block.Except);
                json.WriteEndObject();
            }
        });
        Items(json, "ports"u8, ports, static (json, port) =>
        {
            json.WriteString("protocol"u8, port.Protocol);
            IntOrText(json, "port"u8, port.Port);
            Number(json, "endPort"u8, port.EndPort);
        });
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, LabelSelector? selector)
    {
        if (selector is not null)
        {
            json.WriteStartObject(name);
            Dictionary(json, "matchLabels"u8, selector.MatchLabels);
            Items(json, "matchExpressions"u8, selector.MatchExpressions, static (json, expression) =>
            {
                json.WriteString("key"u8, expression.Key);
                json.WriteString("operator"u8, expression.Operator);
                Texts(json, "values"u8, expression.Values);
            });
            json.WriteEndObject();
        }
    }

    private static void Text(Utf8JsonWriter json, ReadOnlySpan<byte> name, string? value)
    {
        if (value is not null)
        {
            json.WriteString(name, value);
        }
    }

    private static void Number(Utf8JsonWriter json, ReadOnlySpan<byte> name, int? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
    }

    // Where 0 is "none".
    private static void Number(Utf8JsonWriter json, ReadOnlySpan<byte> name, int value) => Number(json, name, value == 0 ? null : (int?)value);

    private static void Flag(Utf8JsonWriter json, ReadOnlySpan<byte> name, bool? value)
    {
        if (value is { } flag)
        {
            json.WriteBoolean(name, flag);
        }
    }

    // Where false is "not given".
    private static void Flag(Utf8JsonWriter json, ReadOnlySpan<byte> name, bool value) => Flag(json, name, value ? true : (bool?)null);

    private static void Time(Utf8JsonWriter json, ReadOnlySpan<byte> name, DateTimeOffset? value)
    {
        if (value is { } time)
        {
            json.WriteString(name, time.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.FFFFFFFZ", CultureInfo.InvariantCulture));
        }
    }

    private static void IntOrText(Utf8JsonWriter json, ReadOnlySpan<byte> name, IntOrString value)
    {
        if (value.Text is { } text)
        {
            json.WriteString(name, text);
        }
        else if (value.Number is { } number)
        {
            json.WriteNumber(name, number);
        }
    }

    private static void Texts(Utf8JsonWriter json, ReadOnlySpan<byte> name, ImmutableArray<string> values)
    {
        if (!values.IsEmpty)
        {
            json.WriteStartArray(name);
            foreach (var value in values)
            {
                json.WriteStringValue(value);
            }

            json.WriteEndArray();
        }
    }

    private static void Dictionary(Utf8JsonWriter json, ReadOnlySpan<byte> name, ImmutableSortedDictionary<string, string> values)
    {
        if (!values.IsEmpty)
        {
            json.WriteStartObject(name);
            foreach (var (key, value) in values)
            {
                json.WriteString(key, value);
            }

            json.WriteEndObject();
        }
    }

    private static void Items<T>(Utf8JsonWriter json, ReadOnlySpan<byte> name, ImmutableArray<T> items, Action<Utf8JsonWriter, T> write, bool always = false)
    {
        if (!items.IsEmpty || always)
        {
            json.WriteStartArray(name);
            foreach (var item in items)
            {
                json.WriteStartObject();
                write(json, item);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }
    }
}
