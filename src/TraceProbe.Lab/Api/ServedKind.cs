using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>A column of what <c>kubectl get</c> prints; those of priority 1 only with <c>-o wide</c>.</summary>
internal sealed record Column(string Name, int Priority = 0);

/// <summary>An object as the lab's API tells it.</summary>
/// <param name="Metadata">Its name, labels and the like.</param>
/// <param name="Json">It, with a resourceVersion.</param>
/// <param name="Cells">What kubectl prints of it behind its name, column by column, its age excepted.</param>
internal sealed record ServedObject(ObjectMeta Metadata, Func<string, byte[]> Json, ImmutableArray<string> Cells)
{
    /// <summary>What its fields are that can be selected by.</summary>
    public string? Field(string name) => name switch
    {
        "metadata.name" => Metadata.Name,
        "metadata.namespace" => Metadata.Namespace,
        _ => Fields.GetValueOrDefault(name),
    };

    /// <summary>Its own fields that can be selected by.</summary>
    public ImmutableDictionary<string, string?> Fields { get; init; } = ImmutableDictionary<string, string?>.Empty;
}

/// <summary>What a lab has at one moment.</summary>
internal sealed record ObjectsNow(ClusterSnapshot Cluster, ImmutableArray<ConfigMap> Maps, ImmutableArray<JsonObject> Events);

/// <summary>A kind of object that the lab's API serves.</summary>
/// <param name="Group">Its API group; empty for the core.</param>
/// <param name="Plural">What it is called in paths.</param>
/// <param name="Kind">What it is called in objects.</param>
/// <param name="IsNamespaced">Whether its objects are in namespaces.</param>
/// <param name="ShortNames">What kubectl may call it.</param>
/// <param name="Columns">What kubectl prints of one, between its name and its age.</param>
/// <param name="Of">Those there are.</param>
internal sealed record ServedKind(string Group, string Plural, string Kind, bool IsNamespaced, ImmutableArray<string> ShortNames, ImmutableArray<Column> Columns, Func<ObjectsNow, IEnumerable<ServedObject>> Of)
{
    /// <summary>What objects call group and version.</summary>
    public string ApiVersion => Group.Length == 0 ? "v1" : $"{Group}/v1";

    /// <summary>Where it is served.</summary>
    public string Root => Group.Length == 0 ? "/api/v1" : $"/apis/{Group}/v1";

    /// <summary>All that there are. Deployments and the DaemonSet of kube-proxy stand for what a lab does in their place.</summary>
    public static ImmutableArray<ServedKind> All { get; } =
    [
        new("", "services", "Service", true, ["svc"], [new("Type"), new("Cluster-IP"), new("External-IP"), new("Port(s)"), new("Selector", 1)], n => n.Cluster.Services.Select(Served)),
        new("", "pods", "Pod", true, ["po"], [new("Ready"), new("Status"), new("Restarts"), new("IP", 1), new("Node", 1)], n => n.Cluster.Pods.Select(Served)),
        new("", "nodes", "Node", false, ["no"], [new("Status"), new("Roles"), new("Internal-IP", 1)], n => n.Cluster.Nodes.Select(Served)),
        new("", "namespaces", "Namespace", false, ["ns"], [new("Status")], n => Namespaces(n.Cluster)),
        new("", "configmaps", "ConfigMap", true, ["cm"], [new("Data")], n => n.Maps.Select(Served)),
        new("discovery.k8s.io", "endpointslices", "EndpointSlice", true, [], [new("AddressType"), new("Ports"), new("Endpoints")], n => n.Cluster.EndpointSlices.Select(Served)),
        new("networking.k8s.io", "networkpolicies", "NetworkPolicy", true, ["netpol"], [new("Pod-Selector")], _ => []),
        new("", "events", "Event", true, ["ev"], [new("Type"), new("Reason"), new("Object"), new("Message")], n => n.Events.Select(LabEvents.Served)),
        new("apps", "deployments", "Deployment", true, ["deploy"], [new("Ready"), new("Up-to-date"), new("Available")], n => Deployments(n.Cluster)),
        new("apps", "statefulsets", "StatefulSet", true, ["sts"], [new("Ready")], _ => []),
        new("apps", "replicasets", "ReplicaSet", true, ["rs"], [new("Ready")], _ => []),
        new("apps", "daemonsets", "DaemonSet", true, ["ds"], [new("Desired"), new("Ready")], n => [KubeProxy(n.Cluster)]),
    ];

    private static ServedObject Served(Service s) => new(s.Metadata, v => Json(s with { Metadata = s.Metadata with { ResourceVersion = v } }, ObjectWriter.Write),
    [
        s.Spec.Type, s.Spec.ClusterIP ?? "<none>",
        s.Spec.Type == "ExternalName" ? s.Spec.ExternalName ?? "<none>" : Or([.. s.Spec.ExternalIPs, .. s.Status.LoadBalancer.Ingress.Select(i => i.Ip).OfType<string>()]),
        Or([.. s.Spec.Ports.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Port}{(p.NodePort is > 0 and var node ? $":{node}" : "")}/{p.Protocol}"))]),
        Or([.. s.Spec.Selector.Select(l => $"{l.Key}={l.Value}")]),
    ]);

    private static ServedObject Served(Pod p) => new(p.Metadata, v => Json(p with { Metadata = p.Metadata with { ResourceVersion = v } }, ObjectWriter.Write),
    [
        string.Create(CultureInfo.InvariantCulture, $"{p.Status.ContainerStatuses.Count(c => c.Ready)}/{p.Spec.Containers.Length}"),
        p.Status.ContainerStatuses.Select(c => c.State.Waiting?.Reason).FirstOrDefault(r => r is not null) ?? p.Status.Phase ?? "Unknown",
        string.Create(CultureInfo.InvariantCulture, $"{p.Status.ContainerStatuses.Sum(c => c.RestartCount)}"), p.Status.PodIP ?? "<none>", p.Spec.NodeName ?? "<none>",
    ])
    {
        Fields = ImmutableDictionary<string, string?>.Empty.Add("spec.nodeName", p.Spec.NodeName).Add("status.phase", p.Status.Phase),
    };

    private static ServedObject Served(Node n) => new(n.Metadata, v => Json(n with { Metadata = n.Metadata with { ResourceVersion = v } }, ObjectWriter.Write),
        [n.Status.Conditions.Any(c => c is { Type: "Ready", Status: "True" }) ? "Ready" : "NotReady", "<none>", n.Status.Addresses.FirstOrDefault(a => a.Type == "InternalIP")?.Address ?? "<none>"]);

    private static ServedObject Served(EndpointSlice s) => new(s.Metadata, v => Json(s with { Metadata = s.Metadata with { ResourceVersion = v } }, ObjectWriter.Write),
        [s.AddressType, Or([.. s.Ports.Select(p => p.Port?.ToString(CultureInfo.InvariantCulture) ?? "*")]), Or([.. s.Endpoints.SelectMany(e => e.Addresses)])]);

    private static ServedObject Served(ConfigMap m) => new(m.Metadata, v => Json(m with { Metadata = m.Metadata with { ResourceVersion = v } }, ObjectWriter.Write), [m.Data.Count.ToString(CultureInfo.InvariantCulture)]);

    private static IEnumerable<ServedObject> Namespaces(ClusterSnapshot cluster)
        => cluster.Services.Select(s => s.Metadata.Namespace).Concat(cluster.Pods.Select(p => p.Metadata.Namespace)).Append("default").Append("kube-system").OfType<string>().Distinct().Select(name =>
        {
            var ns = new Namespace { Metadata = new ObjectMeta { Name = name, Uid = $"namespace-{name}", Labels = LabObjects.Labels(("kubernetes.io/metadata.name", name)) } };
            return new ServedObject(ns.Metadata, v => Json(ns with { Metadata = ns.Metadata with { ResourceVersion = v } }, ObjectWriter.Write), ["Active"]);
        });

    private static IEnumerable<ServedObject> Deployments(ClusterSnapshot cluster) => LabObjects.Pods.GroupBy(p => (p.Metadata.Namespace, Name: LabObjects.WorkloadOf(p))).Where(g => g.Key.Name is not null).Select(planned =>
    {
        var pods = cluster.Pods.Where(p => p.Metadata.Namespace == planned.Key.Namespace && LabObjects.WorkloadOf(p) == planned.Key.Name).ToList();
        var ready = pods.Count(p => p.IsReady);
        return Workload("Deployment", planned.Key.Namespace!, planned.Key.Name!, planned.First().Metadata.Labels, pods.Count, ready,
            [string.Create(CultureInfo.InvariantCulture, $"{ready}/{pods.Count}"), $"{pods.Count}", $"{ready}"]);
    });

    private static ServedObject KubeProxy(ClusterSnapshot cluster)
        => Workload("DaemonSet", "kube-system", "kube-proxy", KubeProxyPods.Labels, cluster.Nodes.Length, cluster.Nodes.Length, [$"{cluster.Nodes.Length}", $"{cluster.Nodes.Length}"]);

    private static ServedObject Workload(string kind, string ns, string name, ImmutableSortedDictionary<string, string> labels, int replicas, int ready, ImmutableArray<string> cells)
    {
        var metadata = new ObjectMeta { Name = name, Namespace = ns, Uid = $"{kind}-{ns}-{name}".ToLowerInvariant(), Labels = labels };
        return new ServedObject(metadata, version =>
        {
            var buffer = new ArrayBufferWriter<byte>();
            using var json = new Utf8JsonWriter(buffer);
            json.WriteStartObject();
            json.WriteString("apiVersion"u8, "apps/v1"u8);
            json.WriteString("kind"u8, kind);
            json.WritePropertyName("metadata"u8);
            json.WriteRawValue(MetadataOf(Json(new Namespace { Metadata = metadata with { ResourceVersion = version } }, ObjectWriter.Write)));
            json.WriteStartObject("spec"u8);
            json.WriteNumber("replicas"u8, replicas);
            json.WriteStartObject("selector"u8);
            Labels("matchLabels");
            json.WriteEndObject();
            json.WriteStartObject("template"u8);
            json.WriteStartObject("metadata"u8);
            Labels("labels");
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteStartObject("status"u8);
            foreach (var (member, number) in (ReadOnlySpan<(string, int)>)[("replicas", replicas), ("readyReplicas", ready), ("availableReplicas", ready), ("updatedReplicas", replicas)])
            {
                json.WriteNumber(member, number);
            }

            json.WriteEndObject();
            json.WriteEndObject();
            json.Flush();
            return buffer.WrittenSpan.ToArray();

            void Labels(string member)
            {
                json.WriteStartObject(member);
                foreach (var (key, value) in labels)
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }
        }, cells);
    }

    /// <summary>The metadata in an object's JSON.</summary>
    internal static string MetadataOf(byte[] json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("metadata").GetRawText();
    }

    private static byte[] Json<T>(T value, Action<Utf8JsonWriter, T> write) => Encoding.UTF8.GetBytes(ObjectPatch.ToTree(value, write).ToJsonString());

    // As kubectl shows a list: at most three, and how many more.
    private static string Or(string[] words) => words.Length == 0 ? "<none>" : words.Length <= 3 ? string.Join(',', words)
        : string.Create(CultureInfo.InvariantCulture, $"{string.Join(',', words.Take(3))} + {words.Length - 3} more...");
}
