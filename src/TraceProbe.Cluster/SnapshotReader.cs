using System.Buffers;
using System.Collections.Immutable;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster;

/// <summary>
/// Reads what <c>kubectl get … -o json</c> or <c>-o yaml</c> wrote into a <see cref="ClusterSnapshot"/>: a List, a list of one kind such as
/// ServiceList, single objects, several documents one after the other, gzipped or not, from as many files as there are. EndpointSlices of
/// v1 and v1beta1 are taken; core/v1 Endpoints stand in where there is no slice at all. Of ConfigMaps and Events only those are kept that
/// <see cref="ConfigMap.IsUsed"/> and <see cref="PodEvent.IsPodWarning"/> say. Kinds that TraceProbe does not use are counted in
/// <see cref="Ignored"/>. Where an object comes twice, the later one counts.
/// </summary>
public sealed class SnapshotReader
{
    // What a file may hold, and a packed one unpack to: 50,000 pods as an API server tells them are 400 MB.
    private const int MaxBytes = 512 << 20;

    private readonly Dictionary<(string?, string), Service> _services = [];
    private readonly Dictionary<(string?, string), EndpointSlice> _slices = [];
    private readonly Dictionary<(string?, string), CoreEndpoints> _endpoints = [];
    private readonly Dictionary<(string?, string), Pod> _pods = [];
    private readonly Dictionary<(string?, string), Node> _nodes = [];
    private readonly Dictionary<(string?, string), Namespace> _namespaces = [];
    private readonly Dictionary<(string?, string), NetworkPolicy> _policies = [];
    private readonly Dictionary<(string?, string), PodEvent> _events = [];
    private readonly Dictionary<(string?, string), ConfigMap> _configMaps = [];
    private readonly Dictionary<string, int> _ignored = new(StringComparer.Ordinal);
    private readonly HashSet<string> _kindsSeen = new(StringComparer.Ordinal);
    private readonly ArrayBufferWriter<byte> _buffer = new();

    /// <summary>How many objects of each kind were there that TraceProbe does not use.</summary>
    public IReadOnlyDictionary<string, int> Ignored => _ignored;

    /// <summary>Reads files into one snapshot.</summary>
    /// <exception cref="FormatException">A file is not what kubectl writes; the message names file, object and place.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static ClusterSnapshot Read(params IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var reader = new SnapshotReader();
        foreach (var path in paths)
        {
            reader.Add(path);
        }

        return reader.ToSnapshot();
    }

    /// <summary>Reads one more file.</summary>
    /// <exception cref="FormatException">The file is not what kubectl writes; the message names file, object and place.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public void Add(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        using var file = path.Length > 0 ? File.OpenRead(path) : throw new IOException("A file without a name was given.");
        Add(path, ReadBounded(path, file));
    }

    /// <summary>Reads the content of one more file.</summary>
    /// <param name="name">What error messages call it. A name such as <c>pods.json</c> also says what an empty list is a list of.</param>
    /// <param name="content">JSON or YAML, or either gzipped.</param>
    /// <exception cref="FormatException">The content is not what kubectl writes; the message names object and place.</exception>
    public void Add(string name, ReadOnlyMemory<byte> content)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (content.Span.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]))
        {
            content = Unpack(name, content);
        }

        var json = content.Span;
        if (json.StartsWith((ReadOnlySpan<byte>)[0xef, 0xbb, 0xbf]))
        {
            json = json[3..];
        }

        var first = json.TrimStart(" \t\r\n"u8);
        if (first.IsEmpty)
        {
            throw new FormatException($"{name} is empty; write it with 'kubectl get … -o json'.");
        }

        if (first[0] is not ((byte)'{' or (byte)'['))
        {
            json = YamlJson.Convert(name, json).Span;
        }

        try
        {
            ReadDocuments(name, json);
        }
        catch (JsonException e)
        {
            throw new FormatException($"{name} is not JSON as kubectl writes it: {e.Message}", e);
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            // Strings that are not UTF-8 surface here.
            throw new FormatException($"{name} holds text that is not UTF-8: {e.Message}", e);
        }
    }

    /// <summary>The snapshot of everything read so far. A kind of which nothing was read is in <see cref="ClusterSnapshot.Unread"/>.</summary>
    public ClusterSnapshot ToSnapshot()
    {
        var slices = _slices.Values.ToImmutableArray();
        if (slices.IsEmpty && _endpoints.Count > 0)
        {
            slices = [.. _endpoints.Values.SelectMany(e => e.ToSlices())];
        }

        var unread = ImmutableArray.CreateBuilder<Unread>();
        foreach (var (kind, what) in new[] { ("Service", "services"), ("EndpointSlice", "endpointslices"), ("Pod", "pods"), ("Node", "nodes") })
        {
            if (!_kindsSeen.Contains(kind) && !(kind == "EndpointSlice" && _kindsSeen.Contains("Endpoints")))
            {
                unread.Add(new Unread(what, $"The snapshot's files hold no {what}; add the output of 'kubectl get {what}{(kind == "Node" ? "" : " -A")} -o json'."));
            }
        }

        var settings = ClusterSettings.Of(_configMaps.Values, unread);
        var domain = settings.Kubelet?.ClusterDomain ?? settings.DnsDomain;
        return new ClusterSnapshot
        {
            ClusterDomain = domain!,
            ClusterDomainFrom = domain is null ? null : settings.Kubelet is { ClusterDomain: not null } kubelet ? kubelet.From : settings.DnsDomainFrom,
            Settings = settings,
            AlsoRead = [.. new[] { ("Namespace", "namespaces"), ("NetworkPolicy", "networkpolicies"), ("Event", "events") }.Where(k => _kindsSeen.Contains(k.Item1)).Select(k => k.Item2)],
            Namespaces = [.. _namespaces.Values],
            NetworkPolicies = [.. _policies.Values],
            Events = [.. _events.Values],
            Services = [.. _services.Values],
            EndpointSlices = slices,
            Pods = [.. _pods.Values],
            Nodes = [.. _nodes.Values],
            Unread = unread.ToImmutable(),
        };
    }

    private static ReadOnlyMemory<byte> Unpack(string name, ReadOnlyMemory<byte> content)
    {
        try
        {
            using var packed = new GZipStream(new MemoryStream(content.ToArray()), CompressionMode.Decompress);
            return ReadBounded(name, packed);
        }
        catch (InvalidDataException e)
        {
            throw new FormatException($"{name} is a damaged gzip file: {e.Message}", e);
        }
    }

    // A pipe is welcome, and does not tell how much will come; an endless device must end somewhere.
    private static ReadOnlyMemory<byte> ReadBounded(string name, Stream stream)
    {
        var content = new MemoryStream(stream.CanSeek && stream.Length is > 0 and <= MaxBytes ? (int)stream.Length : 0);
        var chunk = new byte[128 * 1024];
        int read;
        while ((read = stream.Read(chunk)) > 0)
        {
            if (content.Length + read > MaxBytes)
            {
                throw new FormatException($"{name} holds more than {MaxBytes >> 20} MB.");
            }

            content.Write(chunk, 0, read);
        }

        return content.GetBuffer().AsMemory(0, (int)content.Length);
    }

    private void ReadDocuments(string file, ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { AllowMultipleValues = true, MaxDepth = 128 });
        while (reader.Read())
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.StartObject:
                    ReadDocument(file, ref reader);
                    break;
                case JsonTokenType.StartArray:
                    ReadItems(file, ref reader, null, null);
                    break;
                case JsonTokenType.Null:
                    break;
                default:
                    throw new FormatException($"{file}: an object was expected, not '{System.Text.Encoding.UTF8.GetString(reader.ValueSpan[..Math.Min(40, reader.ValueSpan.Length)])}'.");
            }
        }
    }

    // kubectl writes "items" before "kind", so the head is looked up first.
    private void ReadDocument(string file, ref Utf8JsonReader reader)
    {
        var head = Head.Peek(reader);
        if (head.Kind == "Status")
        {
            throw new FormatException($"{file} holds an error of the API server instead of objects: {head.Message ?? "no message"}");
        }

        if (head.Kind is null || !head.Kind.EndsWith("List", StringComparison.Ordinal) || head.Kind.Length == 4 && !head.HasItems)
        {
            ReadObject(file, ref reader, head, null, null);
            return;
        }

        var kind = head.Kind.Length == 4 ? null : head.Kind[..^4];
        if (kind is not null && Known(kind, head.ApiVersion))
        {
            _kindsSeen.Add(kind);
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var isItems = reader.ValueTextEquals("items"u8);
            reader.Read();
            if (!isItems)
            {
                reader.Skip();
            }
            else if (reader.TokenType == JsonTokenType.StartArray)
            {
                ReadItems(file, ref reader, kind, head.ApiVersion);
            }
            else if (reader.TokenType != JsonTokenType.Null)
            {
                throw new FormatException($"{file}: items: a list was expected.");
            }
        }

        if (kind is null)
        {
            // An empty List does not say of what; the file's name may.
            var stem = Path.GetFileName(file);
            foreach (var (prefix, named) in new[] { ("services", "Service"), ("endpointslices", "EndpointSlice"), ("endpoints", "Endpoints"), ("pods", "Pod"), ("nodes", "Node"),
                ("namespaces", "Namespace"), ("networkpolicies", "NetworkPolicy"), ("events", "Event") })
            {
                if (stem.StartsWith(prefix + ".", StringComparison.OrdinalIgnoreCase))
                {
                    _kindsSeen.Add(named);
                }
            }
        }
    }

    private void ReadItems(string file, ref Utf8JsonReader reader, string? kind, string? apiVersion)
    {
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.StartObject)
            {
                ReadObject(file, ref reader, Head.Peek(reader), kind, apiVersion);
            }
            else if (reader.TokenType != JsonTokenType.Null)
            {
                throw new FormatException($"{file}: items: an object was expected, not a {reader.TokenType}.");
            }
        }
    }

    private void ReadObject(string file, ref Utf8JsonReader reader, Head head, string? listKind, string? listVersion)
    {
        var kind = head.Kind ?? listKind;
        if (kind is null || !Known(kind, head.ApiVersion ?? listVersion))
        {
            kind ??= "(no kind)";
            _ignored[kind] = _ignored.GetValueOrDefault(kind) + 1;
            reader.Skip();
            return;
        }

        _kindsSeen.Add(kind);
        _buffer.ResetWrittenCount();
        using (var writer = new Utf8JsonWriter(_buffer, new JsonWriterOptions { SkipValidation = true, MaxDepth = 128 }))
        {
            CopyWithoutNulls(ref reader, writer, kind == "EndpointSlice");
        }

        switch (kind)
        {
            case "Service":
                var service = Convert(KubernetesJson.Default.Service, file, head, kind);
                Put(_services, service, service.Metadata with { Namespace = service.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                break;
            case "EndpointSlice":
                var slice = Convert(KubernetesJson.Default.EndpointSlice, file, head, kind);
                Put(_slices, slice, slice.Metadata with { Namespace = slice.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                break;
            case "Endpoints":
                var endpoints = Convert(CoreEndpointsJson.Default.CoreEndpoints, file, head, kind);
                Put(_endpoints, endpoints, endpoints.Metadata with { Namespace = endpoints.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                break;
            case "Pod":
                var pod = Convert(KubernetesJson.Default.Pod, file, head, kind);
                Put(_pods, pod, pod.Metadata with { Namespace = pod.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                break;
            case "Node":
                var node = Convert(KubernetesJson.Default.Node, file, head, kind);
                Put(_nodes, node, node.Metadata, (o, m) => o with { Metadata = m });
                break;
            case "Namespace":
                var ns = Convert(KubernetesJson.Default.Namespace, file, head, kind);
                Put(_namespaces, ns, ns.Metadata, (o, m) => o with { Metadata = m });
                break;
            case "NetworkPolicy":
                var policy = Convert(KubernetesJson.Default.NetworkPolicy, file, head, kind);
                Put(_policies, policy, policy.Metadata with { Namespace = policy.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                break;
            case "Event":
                var told = Convert(KubernetesJson.Default.PodEvent, file, head, kind);
                if (told.IsPodWarning)
                {
                    Put(_events, told, told.Metadata with { Namespace = told.Metadata.Namespace ?? "default" }, (o, m) => o with { Metadata = m });
                }

                break;
            case "ConfigMap" when ConfigMap.IsUsed(head.Namespace, head.Name ?? ""):
                var map = Convert(KubernetesJson.Default.ConfigMap, file, head, kind);
                Put(_configMaps, map with { Data = WithJson(file, map.Data) }, map.Metadata, (o, m) => o with { Metadata = m });
                break;
        }
    }

    // A Corefile is no YAML; what the kubelet and kube-proxy are configured with is.
    private static ImmutableSortedDictionary<string, string> WithJson(string file, ImmutableSortedDictionary<string, string> data)
    {
        foreach (var (name, text) in data)
        {
            if (name is "kubelet" or "config.conf")
            {
                data = data.SetItem(name, Encoding.UTF8.GetString(YamlJson.Convert($"{file}: {name}", Encoding.UTF8.GetBytes(text)).Span));
            }
        }

        return data;
    }

    private static void Put<T>(Dictionary<(string?, string), T> objects, T value, ObjectMeta metadata, Func<T, ObjectMeta, T> with)
        => objects[(metadata.Namespace, metadata.Name)] = with(value, metadata);

    // Others use these kinds too: serving.knative.dev has a Service.
    private static bool Known(string kind, string? apiVersion) => kind switch
    {
        "Service" or "Pod" or "Node" or "Endpoints" or "Namespace" or "Event" or "ConfigMap" => apiVersion is null or "v1",
        "NetworkPolicy" => apiVersion is null or "networking.k8s.io/v1",
        "EndpointSlice" => apiVersion is null || apiVersion.StartsWith("discovery.k8s.io/", StringComparison.Ordinal),
        _ => false,
    };

    private T Convert<T>(JsonTypeInfo<T> type, string file, Head head, string kind)
    {
        try
        {
            return JsonSerializer.Deserialize(_buffer.WrittenSpan, type) ?? throw new JsonException("The object is null.");
        }
        catch (JsonException e)
        {
            var path = e.Path ?? "$";
            var cause = e;
            while (cause.InnerException is JsonException inner)
            {
                cause = inner;
                path += inner.Path is { Length: > 1 } more ? more[1..] : "";
            }

            throw new FormatException($"{file}: {kind} {head.Namespace ?? "default"}/{head.Name ?? "(no name)"}: {(path.Length > 2 ? path[2..] : "the object")}: {Expected(cause)}", e);
        }
    }

    private static string Expected(JsonException cause)
    {
        var message = cause.InnerException?.Message ?? cause.Message;
        return message switch
        {
            _ when message.Contains("as a number", StringComparison.Ordinal) || message.Contains("Int32", StringComparison.Ordinal) => "a whole number was expected.",
            _ when message.Contains("as a string", StringComparison.Ordinal) || message.Contains("System.String.", StringComparison.Ordinal) => "a string was expected (numbers and true/false need quotes here).",
            _ when message.Contains("as a boolean", StringComparison.Ordinal) || message.Contains("System.Boolean", StringComparison.Ordinal) => "true or false was expected.",
            _ when message.Contains("DateTimeOffset", StringComparison.Ordinal) => "a time such as 2026-01-02T03:04:05Z was expected.",
            _ when message.Contains("ImmutableArray", StringComparison.Ordinal) => "a list was expected.",
            _ when message.Contains("could not be converted", StringComparison.Ordinal) => "an object was expected.",
            _ => message,
        };
    }

    // Copies one object and leaves out nulls (Go writes them for empty lists) and what only the API server needs. The topology of a
    // v1beta1 slice names the node and the zone; v1 has nodeName and zone for that.
    private static void CopyWithoutNulls(ref Utf8JsonReader reader, Utf8JsonWriter writer, bool slice)
    {
        var depth = reader.CurrentDepth;
        while (true)
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.StartObject:
                    writer.WriteStartObject();
                    break;
                case JsonTokenType.EndObject:
                    writer.WriteEndObject();
                    break;
                case JsonTokenType.StartArray:
                    writer.WriteStartArray();
                    break;
                case JsonTokenType.EndArray:
                    writer.WriteEndArray();
                    break;
                case JsonTokenType.PropertyName:
                    if (reader.ValueTextEquals("managedFields"u8))
                    {
                        reader.Skip();
                        break;
                    }

                    if (reader.ValueTextEquals("annotations"u8))
                    {
                        WriteAnnotations(ref reader, writer);
                        break;
                    }

                    var topology = slice && reader.ValueTextEquals("topology"u8);
                    var name = reader;
                    reader.Read();
                    if (reader.TokenType == JsonTokenType.Null)
                    {
                        break;
                    }

                    if (topology)
                    {
                        WriteNodeName(ref reader, writer);
                        break;
                    }

                    if (name.ValueIsEscaped)
                    {
                        writer.WritePropertyName(name.GetString()!);
                    }
                    else
                    {
                        writer.WritePropertyName(name.ValueSpan);
                    }

                    continue; // the value is the current token
                case JsonTokenType.String:
                    if (reader.ValueIsEscaped)
                    {
                        writer.WriteStringValue(reader.GetString());
                    }
                    else
                    {
                        writer.WriteStringValue(reader.ValueSpan);
                    }

                    break;
                case JsonTokenType.Number:
                    writer.WriteRawValue(reader.ValueSpan, skipInputValidation: true);
                    break;
                case JsonTokenType.True:
                    writer.WriteBooleanValue(true);
                    break;
                case JsonTokenType.False:
                    writer.WriteBooleanValue(false);
                    break;
            }

            if (reader.CurrentDepth == depth && reader.TokenType == JsonTokenType.EndObject)
            {
                return;
            }

            reader.Read();
        }
    }

    private static void WriteAnnotations(ref Utf8JsonReader reader, Utf8JsonWriter writer)
    {
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            reader.Skip();
            return;
        }

        writer.WriteStartObject("annotations"u8);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var key = reader.GetString()!;
            reader.Read();
            if (ObjectMeta.UsesAnnotation(key) && reader.TokenType == JsonTokenType.String)
            {
                writer.WriteString(key, reader.GetString());
            }
            else
            {
                reader.Skip();
            }
        }

        writer.WriteEndObject();
    }

    private static void WriteNodeName(ref Utf8JsonReader reader, Utf8JsonWriter writer)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            reader.Skip();
            return;
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var name = reader.ValueTextEquals("kubernetes.io/hostname"u8) ? "nodeName" : reader.ValueTextEquals("topology.kubernetes.io/zone"u8) ? "zone" : null;
            reader.Read();
            if (name is not null && reader.TokenType == JsonTokenType.String)
            {
                writer.WriteString(name, reader.GetString());
            }
            else
            {
                reader.Skip();
            }
        }
    }

    /// <summary>What says how the rest of an object is to be read.</summary>
    private readonly record struct Head(string? Kind, string? ApiVersion, string? Namespace, string? Name, string? Message, bool HasItems)
    {
        public static Head Peek(Utf8JsonReader reader)
        {
            var head = default(Head);
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                var property = reader.ValueTextEquals("kind"u8) ? 1
                    : reader.ValueTextEquals("apiVersion"u8) ? 2
                    : reader.ValueTextEquals("metadata"u8) ? 3
                    : reader.ValueTextEquals("message"u8) ? 4
                    : reader.ValueTextEquals("items"u8) ? 5 : 0;
                reader.Read();
                if (reader.TokenType == JsonTokenType.String)
                {
                    head = property switch
                    {
                        1 => head with { Kind = reader.GetString() },
                        2 => head with { ApiVersion = reader.GetString() },
                        4 => head with { Message = reader.GetString() },
                        _ => head,
                    };
                }
                else if (property == 3 && reader.TokenType == JsonTokenType.StartObject)
                {
                    while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
                    {
                        var member = reader.ValueTextEquals("name"u8) ? 1 : reader.ValueTextEquals("namespace"u8) ? 2 : 0;
                        reader.Read();
                        if (reader.TokenType == JsonTokenType.String && member != 0)
                        {
                            head = member == 1 ? head with { Name = reader.GetString() } : head with { Namespace = reader.GetString() };
                        }
                        else
                        {
                            reader.Skip();
                        }
                    }
                }
                else
                {
                    head = property == 5 ? head with { HasItems = true } : head;
                    reader.Skip();
                }
            }

            return head;
        }
    }
}
