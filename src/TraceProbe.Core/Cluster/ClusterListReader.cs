using System.Collections.Immutable;
using System.Text;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Collects the objects of JSON texts as kubectl and API servers write them: a List, a list of one kind such as ServiceList, single objects,
/// several of these one after the other. EndpointSlices of v1 and v1beta1 are taken; core/v1 Endpoints stand in where there is no slice at
/// all. Kinds that TraceProbe does not use are counted in <see cref="Ignored"/>. Where an object comes twice, the later one counts.
/// </summary>
/// <param name="yamlToJson">
/// Turns YAML into JSON that means the same, given what error messages are to call it: the cluster's own ConfigMaps hold some.
/// </param>
public sealed class ClusterListReader(Func<string, string, string> yamlToJson)
{
    private static readonly (string Kind, string Plural)[] Kinds =
    [
        ("Service", "services"), ("EndpointSlice", "endpointslices"), ("Pod", "pods"), ("Node", "nodes"), ("Namespace", "namespaces"), ("NetworkPolicy", "networkpolicies"),
        ("Event", "events"), ("Endpoints", "endpoints"),
    ];

    private readonly ObjectReader _objects = new();
    private readonly Dictionary<(string?, string), Service> _services = [];
    private readonly Dictionary<(string?, string), EndpointSlice> _slices = [];
    private readonly Dictionary<(string?, string), ImmutableArray<EndpointSlice>> _endpoints = [];
    private readonly Dictionary<(string?, string), Pod> _pods = [];
    private readonly Dictionary<(string?, string), Node> _nodes = [];
    private readonly Dictionary<(string?, string), NetworkPolicy> _policies = [];
    private readonly Dictionary<(string?, string), Namespace> _namespaces = [];
    private readonly Dictionary<(string?, string), PodEvent> _events = [];
    private readonly Dictionary<(string?, string), ConfigMap> _configMaps = [];
    private readonly Dictionary<string, int> _ignored = new(StringComparer.Ordinal);
    private readonly HashSet<string> _kindsSeen = new(StringComparer.Ordinal);
    private readonly List<Unread> _unread = [];
    private bool _isOurs;
    private string? _clusterDomain;
    private string? _clusterDomainFrom;
    private ClusterSettings? _settings;

    /// <summary>How many objects of each kind were there that TraceProbe does not use.</summary>
    public IReadOnlyDictionary<string, int> Ignored => _ignored;

    /// <summary>Whether a list as <see cref="ClusterList"/> writes it was among what was read.</summary>
    public bool IsOurs { get; private set; }

    /// <summary>Reads one more text.</summary>
    /// <param name="name">What error messages call it. A name such as <c>pods.json</c> also says what an empty list is a list of.</param>
    /// <param name="json">The text.</param>
    /// <param name="hasLines">Whether its lines are those that people see; not when it was made from something else.</param>
    /// <exception cref="FormatException">The text is not what kubectl writes; the message names line, object and place.</exception>
    public void Add(string name, ReadOnlySpan<byte> json, bool hasLines = true)
    {
        ArgumentNullException.ThrowIfNull(name);
        var file = new File(name, json, hasLines);
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { AllowMultipleValues = true, MaxDepth = ObjectReader.Options.MaxDepth });
        try
        {
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
                        throw file.Error($"an object was expected, not '{Encoding.UTF8.GetString(reader.ValueSpan[..Math.Min(40, reader.ValueSpan.Length)])}'.", reader.TokenStartIndex);
                }
            }
        }
        catch (JsonException e) when (e.LineNumber is { } line)
        {
            // "'}' is invalid after a value. LineNumber: 0 | BytePositionInLine: 17."
            var cut = e.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
            throw new FormatException($"{name}{(hasLines ? $", line {line + 1}" : "")}: this is not JSON as kubectl writes it: {(cut < 0 ? e.Message : e.Message[..cut])}", e);
        }
        catch (JsonException e)
        {
            throw file.Error(e.Message, reader.TokenStartIndex, e);
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            // Strings that are not UTF-8 surface here.
            throw file.Error($"text that is not UTF-8: {e.Message}", reader.TokenStartIndex, e);
        }
    }

    /// <summary>The snapshot of everything read so far. A kind of which nothing was read is in <see cref="ClusterSnapshot.Unread"/>.</summary>
    public ClusterSnapshot ToSnapshot()
    {
        var slices = _slices.Values.ToImmutableArray();
        if (slices.IsEmpty && _endpoints.Count > 0)
        {
            slices = [.. _endpoints.Values.SelectMany(e => e)];
        }

        var unread = ImmutableArray.CreateBuilder<Unread>();
        foreach (var told in _unread)
        {
            if (!_kindsSeen.Contains(Kinds.FirstOrDefault(k => k.Plural == told.What).Kind ?? ""))
            {
                unread.Add(told);
            }
        }

        if (!IsOurs)
        {
            foreach (var (kind, what) in Kinds.AsSpan(0, 4))
            {
                if (!_kindsSeen.Contains(kind) && !(kind == "EndpointSlice" && _kindsSeen.Contains("Endpoints")))
                {
                    unread.Add(new Unread(what, $"The snapshot's files hold no {what}; add the output of 'kubectl get {what}{(kind == "Node" ? "" : " -A")} -o json'."));
                }
            }
        }

        var (settings, domain, from) = (_settings, _clusterDomain, _clusterDomainFrom);
        if (_configMaps.Count > 0)
        {
            settings = ClusterSettings.Of(_configMaps.Values, unread);
            (domain, from) = settings.ClusterDomain is var (name, source) ? (name, source) : (domain, from);
        }

        return new ClusterSnapshot
        {
            ClusterDomain = domain!,
            ClusterDomainFrom = from,
            Settings = settings!,
            AlsoRead = [.. Kinds[4..7].Where(k => _kindsSeen.Contains(k.Kind)).Select(k => k.Plural)],
            Services = [.. _services.Values],
            EndpointSlices = slices,
            Pods = [.. _pods.Values],
            Nodes = [.. _nodes.Values],
            NetworkPolicies = [.. _policies.Values],
            Namespaces = [.. _namespaces.Values],
            Events = [.. _events.Values],
            Unread = unread.ToImmutable(),
        };
    }

    // kubectl writes "items" before "kind", so the head is looked up first.
    private void ReadDocument(File file, ref Utf8JsonReader reader)
    {
        _isOurs = false;
        var head = Head.Peek(reader, all: false);
        if (head.Kind is null or "List" or "Status")
        {
            head = Head.Peek(reader, all: true);
        }

        if (head.Kind == "Status")
        {
            throw new FormatException($"{file.Name} holds an error of the API server instead of objects: {head.Message ?? "no message"}");
        }

        if (head.Kind is null ? !head.HasItems : !head.Kind.EndsWith("List", StringComparison.Ordinal) || head.Kind.Length == 4 && !head.HasItems)
        {
            ReadObject(file, ref reader, head.Kind, head.ApiVersion);
            return;
        }

        var kind = head.Kind is { Length: > 4 } ? head.Kind[..^4] : null;
        if (kind is not null && IsKnown(kind, head.ApiVersion))
        {
            _kindsSeen.Add(kind);
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var isItems = reader.ValueTextEquals("items"u8);
            var isOurs = kind is null && reader.ValueTextEquals("traceprobe"u8);
            reader.Read();
            if (isItems && reader.TokenType == JsonTokenType.StartArray)
            {
                ReadItems(file, ref reader, kind, head.ApiVersion);
            }
            else if (isItems && reader.TokenType != JsonTokenType.Null)
            {
                throw file.Error("a list was expected.", reader.TokenStartIndex);
            }
            else if (isOurs)
            {
                ReadOurs(ref reader);
            }
            else
            {
                reader.Skip();
            }
        }

        if (kind is null)
        {
            // An empty List does not say of what; the file's name may.
            var stem = Path.GetFileName(file.Name);
            foreach (var (named, plural) in Kinds)
            {
                if (stem.StartsWith(plural + ".", StringComparison.OrdinalIgnoreCase))
                {
                    _kindsSeen.Add(named);
                }
            }
        }
    }

    private void ReadOurs(ref Utf8JsonReader reader)
    {
        IsOurs = _isOurs = true;
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an object was expected.");
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var isDomain = reader.ValueTextEquals("clusterDomain"u8);
            var isSource = reader.ValueTextEquals("clusterDomainFrom"u8);
            var isUnread = reader.ValueTextEquals("unread"u8);
            var isAlsoRead = reader.ValueTextEquals("alsoRead"u8);
            var isSettings = reader.ValueTextEquals("settings"u8);
            reader.Read();
            if (isDomain)
            {
                _clusterDomain = Text(ref reader);
            }
            else if (isSource)
            {
                _clusterDomainFrom = Text(ref reader);
            }
            else if (isSettings)
            {
                _settings = _objects.ReadSettings(ref reader);
            }
            else if (!isUnread && !isAlsoRead)
            {
                reader.Skip();
            }
            else if (reader.TokenType != JsonTokenType.StartArray)
            {
                throw new JsonException("a list was expected.");
            }
            else
            {
                while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
                {
                    if (isUnread)
                    {
                        _unread.Add(ReadUnread(ref reader));
                    }
                    else
                    {
                        var plural = Text(ref reader);
                        _kindsSeen.Add(Kinds.FirstOrDefault(k => k.Plural == plural).Kind ?? plural);
                    }
                }
            }
        }
    }

    private static string Text(ref Utf8JsonReader reader) => reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw new JsonException("a string was expected.");

    private static Unread ReadUnread(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an object was expected.");
        }

        string? what = null, why = null;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            var member = reader.ValueTextEquals("what"u8) ? 1 : reader.ValueTextEquals("why"u8) ? 2 : 0;
            reader.Read();
            what = member == 1 ? Text(ref reader) : what;
            why = member == 2 ? Text(ref reader) : why;
            reader.Skip();
        }

        return what is not null && why is not null ? new Unread(what, why) : throw new JsonException("\"what\" and \"why\" were expected.");
    }

    private void ReadItems(File file, ref Utf8JsonReader reader, string? kind, string? apiVersion)
    {
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.StartObject)
            {
                // Objects in a list of one kind do not repeat what they are.
                var head = kind is not null ? new Head { Kind = kind, ApiVersion = apiVersion } : Head.Peek(reader, all: false);
                ReadObject(file, ref reader, head.Kind, head.ApiVersion);
            }
            else if (reader.TokenType != JsonTokenType.Null)
            {
                throw file.Error($"an object was expected, not a {reader.TokenType}.", reader.TokenStartIndex);
            }
        }
    }

    private void ReadObject(File file, ref Utf8JsonReader reader, string? kind, string? apiVersion)
    {
        if (kind is null || !IsKnown(kind, apiVersion))
        {
            kind ??= "(no kind)";
            _ignored[kind] = _ignored.GetValueOrDefault(kind) + 1;
            reader.Skip();
            return;
        }

        if (!_isOurs)
        {
            _kindsSeen.Add(kind);
        }

        var start = reader;
        try
        {
            switch (kind)
            {
                case "Service":
                    var service = _objects.ReadService(ref reader);
                    _services[Key(service.Metadata)] = service.Metadata.Namespace is null ? service with { Metadata = InDefault(service.Metadata) } : service;
                    break;
                case "EndpointSlice":
                    var slice = _objects.ReadEndpointSlice(ref reader);
                    _slices[Key(slice.Metadata)] = slice.Metadata.Namespace is null ? slice with { Metadata = InDefault(slice.Metadata) } : slice;
                    break;
                case "Endpoints":
                    var slices = _objects.ReadEndpoints(ref reader, out var metadata);
                    _endpoints[Key(metadata)] = metadata.Namespace is null ? [.. slices.Select(s => s with { Metadata = InDefault(s.Metadata) })] : slices;
                    break;
                case "Pod":
                    var pod = _objects.ReadPod(ref reader);
                    _pods[Key(pod.Metadata)] = pod.Metadata.Namespace is null ? pod with { Metadata = InDefault(pod.Metadata) } : pod;
                    break;
                case "Node":
                    var node = _objects.ReadNode(ref reader);
                    _nodes[(null, node.Metadata.Name)] = node;
                    break;
                case "NetworkPolicy":
                    var policy = _objects.ReadNetworkPolicy(ref reader);
                    _policies[Key(policy.Metadata)] = policy.Metadata.Namespace is null ? policy with { Metadata = InDefault(policy.Metadata) } : policy;
                    break;
                case "Namespace":
                    var ns = _objects.ReadNamespace(ref reader);
                    _namespaces[(null, ns.Metadata.Name)] = ns;
                    break;
                case "Event":
                    var told = _objects.ReadEvent(ref reader);
                    if (told.IsPodWarning)
                    {
                        _events[Key(told.Metadata)] = told.Metadata.Namespace is null ? told with { Metadata = InDefault(told.Metadata) } : told;
                    }

                    break;
                case "ConfigMap" when Head.Peek(reader, all: true) is { Name: { } name } head && ConfigMap.IsUsed(head.Namespace, name):
                    var map = _objects.ReadConfigMap(ref reader);
                    var source = file.Name;
                    _configMaps[Key(map.Metadata)] = map.WithJson((name, text) => yamlToJson($"{source}: {name}", text));
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
        catch (JsonException e) when (e.LineNumber is null)
        {
            var head = Head.Peek(start, all: true);
            throw file.Error(e.Message, reader.TokenStartIndex, e, start.TokenStartIndex, $"{kind} {head.Namespace ?? "default"}/{head.Name ?? "(no name)"}: ");
        }
    }

    private static (string?, string) Key(ObjectMeta metadata) => (metadata.Namespace ?? "default", metadata.Name);

    private static ObjectMeta InDefault(ObjectMeta metadata) => metadata with { Namespace = "default" };

    // Others use these kinds too: serving.knative.dev has a Service.
    private static bool IsKnown(string kind, string? apiVersion) => kind switch
    {
        "Service" or "Pod" or "Node" or "Endpoints" or "Namespace" or "Event" or "ConfigMap" => apiVersion is null or "v1",
        "EndpointSlice" => apiVersion is null || apiVersion.StartsWith("discovery.k8s.io/", StringComparison.Ordinal),
        "NetworkPolicy" => apiVersion is null or "networking.k8s.io/v1",
        _ => false,
    };

    private readonly ref struct File(string name, ReadOnlySpan<byte> json, bool hasLines)
    {
        private readonly ReadOnlySpan<byte> _json = json;

        public string Name => name;

        public FormatException Error(string message, long offset, Exception? inner = null, long from = 0, string prefix = "")
        {
            var path = JsonPlace.Path(_json[(int)from..], offset - from);
            var line = hasLines ? $", line {JsonPlace.Line(_json, offset)}" : "";
            return new FormatException($"{name}{line}: {prefix}{path}{(path.Length > 0 ? ": " : "")}{message}", inner);
        }
    }

    /// <summary>What says how the rest of an object is to be read.</summary>
    private readonly record struct Head(string? Kind, string? ApiVersion, string? Namespace, string? Name, string? Message, bool HasItems)
    {
        /// <summary>Looks ahead in the object that the reader stands on.</summary>
        /// <param name="reader">A copy.</param>
        /// <param name="all">Whether everything is wanted; else kind and version, which mostly come first.</param>
        public static Head Peek(Utf8JsonReader reader, bool all)
        {
            var head = default(Head);
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject && (all || head.Kind is null || head.ApiVersion is null))
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
