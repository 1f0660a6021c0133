using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>
/// The lab's API server: what kubectl and TraceProbe ask of one (discovery, list, get, watch, tables), and the changes that mend things. It
/// listens on 127.0.0.1 and, as the endpoint of the Service <c>kubernetes</c>, on node-1; a random token in a kubeconfig that only the
/// lab's owner may read opens it.
/// </summary>
internal sealed class LabApi
{
    private const int InsidePort = 6443;
    private const string Owner = "lab-owner";
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan BetweenBookmarks = TimeSpan.FromSeconds(10);
    private static readonly JsonWriterOptions Form = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    private readonly LabFolder _folder;
    private readonly KubeProxyPods _proxies = new();
    private readonly LabEvents _events = new();
    private readonly ObjectHistory _history;
    private readonly byte[] _token = Encoding.ASCII.GetBytes($"Bearer {RandomNumberGenerator.GetHexString(48, lowercase: true)}");

    private LabApi(LabFolder folder)
    {
        _folder = folder;
        _history = new ObjectHistory(folder.Objects, _proxies, _events);
    }

    /// <summary>Serves until it is cancelled. The kubeconfig is there once it listens.</summary>
    public static async Task RunAsync(LabFolder folder, CancellationToken cancellation)
    {
        var api = new LabApi(folder);
        using var certificate = Certificate();
        var server = new HttpServer(certificate, api.AnswerAsync);
        using var outside = Listen(null, IPAddress.Loopback, 0);
        var serving = server.RunAsync(outside, cancellation);
        api.WriteKubeconfig(certificate, ((IPEndPoint)outside.LocalEndPoint!).Port);
        Socket? inside = null;
        try
        {
            while (!cancellation.IsCancellationRequested)
            {
                // node-1's namespace is made after this process.
                if (inside is null && folder.ReadRecord() is { Up: true })
                {
                    inside = Listen(folder.NetNsPath(LabLayout.Nodes[0].Name), IPAddress.Parse(LabLayout.Nodes[0].IPv4), InsidePort);
                    serving = Task.WhenAll(serving, server.RunAsync(inside, cancellation));
                }

                api._history.Look();
                await Task.Delay(Period, cancellation).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            await serving.ConfigureAwait(false);
        }
        finally
        {
            inside?.Dispose();
        }
    }

    private static Socket Listen(string? netns, IPAddress address, int port)
    {
        // A socket belongs to the namespace of the thread that made it, whoever accepts on it.
        var socket = NetNs.Run(netns, () => new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        socket.Bind(new IPEndPoint(address, port));
        socket.Listen();
        return socket;
    }

    private static X509Certificate2 Certificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=traceprobe-lab", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        names.AddIpAddress(IPAddress.Parse(LabLayout.Nodes[0].IPv4));
        names.AddIpAddress(IPAddress.Parse(LabObjects.ServiceCalled("kubernetes").Spec.ClusterIP!));
        foreach (var name in (string[])["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", $"kubernetes.default.svc.{LabLayout.ClusterDomain}"])
        {
            names.AddDnsName(name);
        }

        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        var now = TimeProvider.System.GetUtcNow();
        return request.CreateSelfSigned(now.AddDays(-1), now.AddYears(1));
    }

    private void WriteKubeconfig(X509Certificate2 certificate, int port)
    {
        var (name, authority) = (_folder.Name, Convert.ToBase64String(Encoding.ASCII.GetBytes(certificate.ExportCertificatePem())));
        var part = $"{_folder.KubeconfigPath}.part";
        using (var file = new FileStream(part, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
        {
            file.Write(Encoding.UTF8.GetBytes($"""
                apiVersion: v1
                kind: Config
                current-context: {name}
                contexts:
                - name: {name}
                  context:
                    cluster: {name}
                    user: {name}
                # From where node-1 is reached: nodes, pods.
                - name: {name}-inside
                  context:
                    cluster: {name}-inside
                    user: {name}
                clusters:
                - name: {name}
                  cluster:
                    server: https://127.0.0.1:{port.ToString(CultureInfo.InvariantCulture)}
                    certificate-authority-data: {authority}
                - name: {name}-inside
                  cluster:
                    server: https://{LabLayout.Nodes[0].IPv4}:{InsidePort.ToString(CultureInfo.InvariantCulture)}
                    certificate-authority-data: {authority}
                users:
                - name: {name}
                  user:
                    token: {Encoding.ASCII.GetString(_token, 7, _token.Length - 7)}

                """));
        }

        File.Move(part, _folder.KubeconfigPath, overwrite: true);
    }

    private async Task<HttpAnswer> AnswerAsync(HttpRequest request)
    {
        try
        {
            return CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(request.Header("Authorization")), _token)
                ? request.Path.Trim('/').Split('/') switch
                {
                    ["version"] => Text("""{"major":"1","minor":"33","gitVersion":"v1.33.0-traceprobe-lab","platform":"linux/amd64"}"""),
                    ["healthz" or "livez" or "readyz"] => new HttpAnswer(200, "ok"u8.ToArray(), "text/plain"),
                    ["api"] => Text("""{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}"""),
                    ["apis"] => Groups(),
                    ["api", "v1"] => Kinds(""),
                    ["apis", var group] when IsGroup(group) => new HttpAnswer(200, Encoding.UTF8.GetBytes(Group(group).ToJsonString())),
                    ["apis", var group, "v1"] when IsGroup(group) => Kinds(group),
                    ["api", "v1", .. var rest] => await ObjectsAsync(request, "", rest).ConfigureAwait(false),
                    ["apis", var group, "v1", .. var rest] when IsGroup(group) => await ObjectsAsync(request, group, rest).ConfigureAwait(false),
                    ["apis", "authentication.k8s.io", "v1", "tokenreviews"] when request.Method == "POST" => TokenReview(request.Body),
                    ["apis", "authorization.k8s.io", "v1", "subjectaccessreviews"] when request.Method == "POST" => AccessReview(request.Body),
                    _ => new HttpAnswer(404, "404 page not found\n"u8.ToArray(), "text/plain"),
                }
                : Failure(401, "Unauthorized", "Unauthorized");
        }
        catch (LabException e)
        {
            return Failure(422, "Invalid", e.Message);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or KeyNotFoundException)
        {
            return Failure(400, "BadRequest", e.Message);
        }
    }

    // The lab has one user, its owner, who may do everything.
    private HttpAnswer TokenReview(byte[] body)
    {
        var review = JsonNode.Parse(body)!.AsObject();
        var isOwner = CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes($"Bearer {review["spec"]?["token"]?.GetValue<string>()}"), _token);
        review["status"] = isOwner ? new JsonObject { ["authenticated"] = true, ["user"] = new JsonObject { ["username"] = Owner, ["groups"] = new JsonArray("system:masters", "system:authenticated") } }
            : new JsonObject { ["authenticated"] = false, ["error"] = "invalid bearer token" };
        return Text(review.ToJsonString()) with { Status = 201 };
    }

    private static HttpAnswer AccessReview(byte[] body)
    {
        var review = JsonNode.Parse(body)!.AsObject();
        var isOwner = review["spec"]?["user"]?.GetValue<string>() == Owner;
        review["status"] = new JsonObject { ["allowed"] = isOwner, ["reason"] = isOwner ? "" : "a lab knows its owner alone" };
        return Text(review.ToJsonString()) with { Status = 201 };
    }

    private static bool IsGroup(string group) => group.Length > 0 && ServedKind.All.Any(k => k.Group == group);

    private static HttpAnswer Groups() => Text(new JsonObject
    {
        ["kind"] = "APIGroupList",
        ["apiVersion"] = "v1",
        ["groups"] = new JsonArray([.. ServedKind.All.Select(k => k.Group).Where(g => g.Length > 0).Distinct().Select(Group)]),
    }.ToJsonString());

    private static JsonObject Group(string name) => new()
    {
        ["kind"] = "APIGroup",
        ["apiVersion"] = "v1",
        ["name"] = name,
        ["versions"] = new JsonArray(new JsonObject { ["groupVersion"] = $"{name}/v1", ["version"] = "v1" }),
        ["preferredVersion"] = new JsonObject { ["groupVersion"] = $"{name}/v1", ["version"] = "v1" },
    };

    private static HttpAnswer Kinds(string group) => Text(new JsonObject
    {
        ["kind"] = "APIResourceList",
        ["apiVersion"] = "v1",
        ["groupVersion"] = group.Length == 0 ? "v1" : $"{group}/v1",
        ["resources"] = new JsonArray([.. ServedKind.All.Where(k => k.Group == group).SelectMany(k => (JsonObject[])
        [
            new JsonObject
            {
                ["name"] = k.Plural, ["singularName"] = k.Kind.ToLowerInvariant(), ["namespaced"] = k.IsNamespaced, ["kind"] = k.Kind,
                ["verbs"] = new JsonArray("get", "list", "watch", "patch", "update", "delete", "create"), ["shortNames"] = new JsonArray([.. k.ShortNames.Select(s => JsonValue.Create(s))]),
            },
            .. k.Kind == "Deployment" ? [new JsonObject { ["name"] = "deployments/scale", ["singularName"] = "", ["namespaced"] = true, ["group"] = "autoscaling", ["version"] = "v1", ["kind"] = "Scale", ["verbs"] = new JsonArray("get", "patch", "update") }] : Array.Empty<JsonObject>(),
        ])]),
    }.ToJsonString());

    private async Task<HttpAnswer> ObjectsAsync(HttpRequest request, string group, string[] path)
    {
        var (ns, plural, name, sub) = path switch
        {
            ["namespaces", var space, var what, .. var rest] => (space, what, rest.ElementAtOrDefault(0), rest.ElementAtOrDefault(1)),
            [var what, .. var rest] => ((string?)null, what, rest.ElementAtOrDefault(0), rest.ElementAtOrDefault(1)),
            _ => (null, "", null, null),
        };
        if (ServedKind.All.FirstOrDefault(k => k.Group == group && k.Plural == plural) is not { } kind)
        {
            return Failure(404, "NotFound", "the server could not find the requested resource");
        }

        if (name is null)
        {
            return request.Method switch
            {
                "GET" when request.Query.GetValueOrDefault("watch") is "1" or "true" => Watch(request, kind, ns),
                "GET" => List(request, kind, ns),
                "POST" => Create(kind, ns, request.Body),
                _ => Failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
            };
        }

        if (_history.Now(kind).Objects.FirstOrDefault(o => o.Object.Metadata.Name == name && (o.Object.Metadata.Namespace == ns || !kind.IsNamespaced)) is not { Object: { } found } at)
        {
            return Failure(404, "NotFound", $"{(group.Length == 0 ? plural : $"{plural}.{group}")} \"{name}\" not found");
        }

        return (request.Method, sub) switch
        {
            ("GET", null) when AsTable(request) => Table(kind, [at], at.Version, null),
            ("GET", null) => One(found, at.Version),
            ("GET", "scale") when kind.Kind == "Deployment" => Scale(found, at.Version),
            ("PATCH" or "PUT", "scale") when kind.Kind == "Deployment" => await Task.Run(() => Rescale(found, request)).ConfigureAwait(false),
            ("PATCH" or "PUT", null) => await Task.Run(() => Change(kind, found, at.Version, request)).ConfigureAwait(false),
            ("DELETE", null) => await Task.Run(() => Delete(kind, found, at.Version)).ConfigureAwait(false),
            _ => Failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        };
    }

    private HttpAnswer List(HttpRequest request, ServedKind kind, string? ns)
    {
        var (version, objects) = _history.Now(kind);
        var selected = objects.Where(o => IsMeant(request, o.Object, ns)).ToList();
        var from = 0;
        if (request.Query.GetValueOrDefault("continue") is { Length: > 0 } token)
        {
            // The objects of then are not kept: when there are others now, the list has to begin anew.
            if (token.Split('-') is not [var then, var next] || !int.TryParse(next, NumberStyles.None, CultureInfo.InvariantCulture, out from) || from > selected.Count)
            {
                return Failure(400, "BadRequest", "continue key is not valid");
            }

            if (then != version.ToString(CultureInfo.InvariantCulture))
            {
                return Failure(410, "Expired", "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.");
            }
        }

        var limit = int.TryParse(request.Query.GetValueOrDefault("limit"), NumberStyles.None, CultureInfo.InvariantCulture, out var most) && most > 0 ? most : int.MaxValue;
        var page = selected.Skip(from).Take(limit).ToList();
        var rest = from + page.Count < selected.Count ? string.Create(CultureInfo.InvariantCulture, $"{version}-{from + page.Count}") : null;
        if (AsTable(request))
        {
            return Table(kind, page, version, rest);
        }

        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer, Form);
        json.WriteStartObject();
        json.WriteString("kind"u8, $"{kind.Kind}List");
        json.WriteString("apiVersion"u8, kind.ApiVersion);
        WriteMetadata(json, version, rest);
        json.WriteStartArray("items"u8);
        foreach (var (at, one) in page)
        {
            json.WriteRawValue(one.Json(at.ToString(CultureInfo.InvariantCulture)), skipInputValidation: true);
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return new HttpAnswer(200, buffer.WrittenSpan.ToArray());
    }

    private HttpAnswer Watch(HttpRequest request, ServedKind kind, string? ns)
    {
        if (request.Query.ContainsKey("sendInitialEvents"))
        {
            return Failure(422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled");
        }

        var asked = request.Query.GetValueOrDefault("resourceVersion");
        if (!long.TryParse(asked is null or "" ? "0" : asked, NumberStyles.None, CultureInfo.InvariantCulture, out var version))
        {
            return Failure(400, "BadRequest", $"Invalid value: \"{asked}\": strconv.ParseUint: parsing \"{asked}\": invalid syntax");
        }

        var seconds = int.TryParse(request.Query.GetValueOrDefault("timeoutSeconds"), NumberStyles.None, CultureInfo.InvariantCulture, out var given) && given > 0 ? given : 1800;
        var (bookmarks, isTable) = (request.Query.GetValueOrDefault("allowWatchBookmarks") is "1" or "true", AsTable(request));
        return new HttpAnswer(200, null)
        {
            Stream = async (send, cancellation) =>
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                limit.CancelAfter(TimeSpan.FromSeconds(seconds));
                if (version == 0)
                {
                    // From anywhere on: first what is there.
                    (version, var objects) = _history.Now(kind);
                    foreach (var (at, one) in objects.Where(o => IsMeant(request, o.Object, ns)))
                    {
                        await send(Event("ADDED", kind, one, at, isTable)).ConfigureAwait(false);
                    }
                }

                while (true)
                {
                    var (changes, now, more) = _history.Since(kind, version);
                    if (changes is null)
                    {
                        await send(Encoding.UTF8.GetBytes($"{{\"type\":\"ERROR\",\"object\":{Status(410, "Expired", $"too old resource version: {version}")}}}\n")).ConfigureAwait(false);
                        return;
                    }

                    foreach (var change in changes.Where(c => IsMeant(request, c.Object, ns)))
                    {
                        await send(Event(change.Type, kind, change.Object, change.Version, isTable)).ConfigureAwait(false);
                    }

                    version = Math.Max(version, now);
                    try
                    {
                        await more.WaitAsync(BetweenBookmarks, limit.Token).ConfigureAwait(false);
                    }
                    catch (TimeoutException)
                    {
                        if (bookmarks && !isTable)
                        {
                            await send(Encoding.UTF8.GetBytes($"{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind.Kind}\",\"apiVersion\":\"{kind.ApiVersion}\",\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n")).ConfigureAwait(false);
                        }
                    }
                    catch (OperationCanceledException)
                    {
                        return;
                    }
                }
            },
        };
    }

    private static byte[] Event(string type, ServedKind kind, ServedObject one, long version, bool isTable)
    {
        var told = isTable ? Table(kind, [(version, one)], version, null).Body! : one.Json(version.ToString(CultureInfo.InvariantCulture));
        return [.. Encoding.UTF8.GetBytes($"{{\"type\":\"{type}\",\"object\":"), .. told, .. "}\n"u8];
    }

    private static bool AsTable(HttpRequest request) => request.Header("Accept").Contains("as=Table", StringComparison.Ordinal);

    private static HttpAnswer Table(ServedKind kind, IEnumerable<(long Version, ServedObject Object)> objects, long version, string? rest)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer, Form);
        json.WriteStartObject();
        json.WriteString("kind"u8, "Table"u8);
        json.WriteString("apiVersion"u8, "meta.k8s.io/v1"u8);
        WriteMetadata(json, version, rest);
        json.WriteStartArray("columnDefinitions"u8);
        foreach (var column in (IEnumerable<Column>)[new("Name"), .. kind.Columns, new("Age")])
        {
            json.WriteStartObject();
            json.WriteString("name"u8, column.Name);
            json.WriteString("type"u8, "string"u8);
            json.WriteString("format"u8, column.Name == "Name" ? "name" : "");
            json.WriteString("description"u8, ""u8);
            json.WriteNumber("priority"u8, column.Priority);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("rows"u8);
        foreach (var (at, one) in objects)
        {
            json.WriteStartObject();
            json.WriteStartArray("cells"u8);
            json.WriteStringValue(one.Metadata.Name);
            foreach (var cell in one.Cells)
            {
                json.WriteStringValue(cell);
            }

            json.WriteStringValue(Age(one.Metadata.CreationTimestamp));
            json.WriteEndArray();
            json.WriteStartObject("object"u8);
            json.WriteString("kind"u8, "PartialObjectMetadata"u8);
            json.WriteString("apiVersion"u8, "meta.k8s.io/v1"u8);
            json.WritePropertyName("metadata"u8);
            json.WriteRawValue(ServedKind.MetadataOf(one.Json(at.ToString(CultureInfo.InvariantCulture))));
            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return new HttpAnswer(200, buffer.WrittenSpan.ToArray());
    }

    private static string Age(DateTimeOffset? since)
    {
        if (since is not { } time)
        {
            return "<unknown>";
        }

        var age = TimeProvider.System.GetUtcNow() - time;
        return age.TotalMinutes < 2 ? $"{(int)age.TotalSeconds}s" : age.TotalHours < 3 ? $"{(int)age.TotalMinutes}m" : age.TotalDays < 2 ? $"{(int)age.TotalHours}h" : $"{(int)age.TotalDays}d";
    }

    private static void WriteMetadata(Utf8JsonWriter json, long version, string? rest)
    {
        json.WriteStartObject("metadata"u8);
        json.WriteString("resourceVersion"u8, version.ToString(CultureInfo.InvariantCulture));
        if (rest is not null)
        {
            json.WriteString("continue"u8, rest);
        }

        json.WriteEndObject();
    }

    // Selectors as kubectl writes them: "a=b,c!=d,e,!f" and "e in (x,y)".
    private static bool IsMeant(HttpRequest request, ServedObject one, string? ns)
    {
        if (ns is not null && one.Metadata.Namespace != ns)
        {
            return false;
        }

        var labels = one.Metadata.Labels;
        return Terms(request.Query.GetValueOrDefault("fieldSelector")).All(t => Holds(t, one.Field)) && Terms(request.Query.GetValueOrDefault("labelSelector")).All(t => Holds(t, k => labels.GetValueOrDefault(k)));

        static IEnumerable<string> Terms(string? selector)
        {
            var (start, depth) = (0, 0);
            for (var i = 0; i <= (selector?.Length ?? -1); i++)
            {
                if (i == selector!.Length || (selector[i] == ',' && depth == 0))
                {
                    if (selector[start..i].Trim() is { Length: > 0 } term)
                    {
                        yield return term;
                    }

                    start = i + 1;
                }
                else
                {
                    depth += selector[i] == '(' ? 1 : selector[i] == ')' ? -1 : 0;
                }
            }
        }

        static bool Holds(string term, Func<string, string?> value)
        {
            if (term.Split((string[])[" notin ", " in "], 2, StringSplitOptions.TrimEntries) is [var key, ['(', .. var list, ')']])
            {
                return list.Split(',', StringSplitOptions.TrimEntries).Contains(value(key)) != term.Contains(" notin ", StringComparison.Ordinal);
            }

            return term.Split("!=", 2) is [var unlike, var other] ? value(unlike.Trim()) != other.Trim()
                : term.Split('=', 2) is [var like, var same] ? value(like.Trim()) == same.TrimStart('=').Trim()
                : term[0] == '!' ? value(term[1..].Trim()) is null : value(term) is not null;
        }
    }

    private HttpAnswer Change(ServedKind kind, ServedObject found, long version, HttpRequest request)
    {
        var (ns, name) = (found.Metadata.Namespace ?? "", found.Metadata.Name);
        var type = request.Header("Content-Type") switch
        {
            var t when t.StartsWith("application/json-patch+json", StringComparison.Ordinal) => "json",
            var t when t.StartsWith("application/merge-patch+json", StringComparison.Ordinal) => "merge",
            var t when t.StartsWith("application/strategic-merge-patch+json", StringComparison.Ordinal) => "strategic",
            _ => null,
        };
        if (request.Method == "PATCH" && type is null)
        {
            return Failure(415, "UnsupportedMediaType", "a lab takes application/json-patch+json, merge-patch+json and strategic-merge-patch+json (not kubectl apply --server-side)");
        }

        var body = JsonNode.Parse(request.Body);
        if (body is JsonObject whole && whole["metadata"]?["resourceVersion"]?.GetValue<string>() is { } of && of != version.ToString(CultureInfo.InvariantCulture))
        {
            return Failure(409, "Conflict", $"Operation cannot be fulfilled on {kind.Plural} \"{name}\": the object has been modified; please apply your changes to the latest version and try again");
        }

        if (kind.Kind == "Event")
        {
            lock (_events)
            {
                if (type is not "merge" and not "strategic" || body is not JsonObject patch || _events.Find(ns, name) is not { } before)
                {
                    return Failure(405, "MethodNotAllowed", "a lab does not change events in this way");
                }

                var changed = before.DeepClone().AsObject();
                ObjectPatch.Merge(changed, patch, strategic: false);
                _events.Put(ns, changed);
            }

            return Again(kind, found);
        }

        using (_folder.Lock())
        {
            var (cluster, text) = (_folder.Objects.Read(), Encoding.UTF8.GetString(request.Body));
            switch (kind.Kind)
            {
                case "Service" when cluster.FindService(ns, name) is { } service:
                    var newService = type is null ? ObjectPatch.FromTree(body!.AsObject(), new ObjectReader().ReadService) : ObjectPatch.Patched(service, text, type, ObjectWriter.Write, new ObjectReader().ReadService);
                    _folder.Objects.Put(newService with { Metadata = Kept(newService.Metadata, service.Metadata) });
                    break;
                case "Pod" when cluster.FindPod(ns, name) is { } pod:
                    var newPod = type is null ? ObjectPatch.FromTree(body!.AsObject(), new ObjectReader().ReadPod) : ObjectPatch.Patched(pod, text, type, ObjectWriter.Write, new ObjectReader().ReadPod);
                    _folder.Objects.Put(newPod with { Metadata = Kept(newPod.Metadata, pod.Metadata) });
                    break;
                case "EndpointSlice" when cluster.EndpointSlices.FirstOrDefault(s => s.Metadata.Namespace == ns && s.Metadata.Name == name) is { } slice:
                    var newSlice = type is null ? ObjectPatch.FromTree(body!.AsObject(), new ObjectReader().ReadEndpointSlice) : ObjectPatch.Patched(slice, text, type, ObjectWriter.Write, new ObjectReader().ReadEndpointSlice);
                    _folder.Objects.Put(newSlice with { Metadata = Kept(newSlice.Metadata, slice.Metadata) });
                    break;
                case "ConfigMap" when _folder.Objects.ReadConfigMaps().FirstOrDefault(m => m.Metadata.Namespace == ns && m.Metadata.Name == name) is { } map:
                    var newMap = type is null ? ObjectPatch.FromTree(body!.AsObject(), new ObjectReader().ReadConfigMap) : ObjectPatch.Patched(map, text, type, ObjectWriter.Write, new ObjectReader().ReadConfigMap);
                    _folder.Objects.Put(newMap with { Metadata = Kept(newMap.Metadata, map.Metadata) });
                    break;
                case "DaemonSet" when IsRestart(body):
                    foreach (var proxy in _proxies.Pods)
                    {
                        _proxies.MakeAnew(proxy);
                        NewBench().RestartProxy(proxy.Spec.NodeName!);
                    }

                    new Reconciler(_folder, Record()).Round(forceRules: true);
                    break;
                case "Deployment" when IsRestart(body):
                    NewBench().Restart(PodsOf(cluster, ns, name));
                    break;
                case "Deployment" when ReplicasOf(body) is { } replicas:
                    NewBench().Scale(name, replicas);
                    break;
                case "Deployment" when type is "strategic" or "merge":
                    foreach (var pod in PodsOf(cluster, ns, name))
                    {
                        _folder.Objects.Put(ObjectPatch.Patched(pod, text, type, ObjectWriter.Write, new ObjectReader().ReadPod));
                    }

                    break;
                default:
                    return Failure(405, "MethodNotAllowed", $"a lab does not change {kind.Plural} in this way");
            }
        }

        return Again(kind, found);
    }

    // What an object is called and when it was made nobody changes; its version is the file's.
    private static ObjectMeta Kept(ObjectMeta changed, ObjectMeta now)
        => changed with { Name = now.Name, Namespace = now.Namespace, Uid = now.Uid, ResourceVersion = now.ResourceVersion, CreationTimestamp = now.CreationTimestamp };

    private static bool IsRestart(JsonNode? patch)
        => patch?["spec"]?["template"]?["metadata"]?["annotations"] is JsonObject annotations && annotations.ContainsKey("kubectl.kubernetes.io/restartedAt");

    private static int? ReplicasOf(JsonNode? patch) => patch?["spec"] is JsonObject spec && !spec.ContainsKey("template") && spec["replicas"] is { } replicas ? replicas.GetValue<int>() : null;

    private static Pod[] PodsOf(ClusterSnapshot cluster, string ns, string workload) => [.. cluster.Pods.Where(p => p.Metadata.Namespace == ns && LabObjects.WorkloadOf(p) == workload)];

    private HttpAnswer Create(ServedKind kind, string? ns, byte[] body)
    {
        if (kind.Kind == "Event")
        {
            var told = JsonNode.Parse(body)!.AsObject();
            var name = told["metadata"]?["name"]?.GetValue<string>() ?? "";
            lock (_events)
            {
                if (_events.Find(ns, name) is not null)
                {
                    return Failure(409, "AlreadyExists", $"events \"{name}\" already exists");
                }

                _events.Put(ns, told);
            }

            return Again(kind, new ServedObject(new ObjectMeta { Name = name, Namespace = ns }, _ => [], []), 201);
        }

        using (_folder.Lock())
        {
            var tree = JsonNode.Parse(body)!.AsObject();
            var cluster = _folder.Objects.Read();
            ObjectMeta metadata;
            switch (kind.Kind)
            {
                case "Service":
                    var service = ObjectPatch.FromTree(tree, new ObjectReader().ReadService);
                    metadata = New(service.Metadata);
                    if (cluster.FindService(metadata.Namespace!, metadata.Name) is not null)
                    {
                        return Failure(409, "AlreadyExists", $"services \"{metadata.Name}\" already exists");
                    }

                    // Who makes a planned Service again gets the address that the plan has for it.
                    var address = service.Spec is { ClusterIP: null or "", Type: not "ExternalName" }
                        ? LabObjects.Services.FirstOrDefault(s => s.Metadata.Name == metadata.Name && s.Metadata.Namespace == metadata.Namespace)?.Spec.ClusterIPs ?? [FreeAddress(cluster)] : service.Spec.ClusterIPs;
                    _folder.Objects.Put(service with
                    {
                        Metadata = metadata,
                        Spec = service.Spec with
                        {
                            ClusterIPs = address,
                            ClusterIP = address.FirstOrDefault() ?? service.Spec.ClusterIP,
                            IpFamilies = [.. address.Where(a => a != "None").Select(a => a.Contains(':', StringComparison.Ordinal) ? "IPv6" : "IPv4")],
                            InternalTrafficPolicy = service.Spec.InternalTrafficPolicy ?? "Cluster",
                            Ports = [.. service.Spec.Ports.Select(p => p.TargetPort == default ? p with { TargetPort = p.Port } : p)],
                        },
                    });
                    break;
                case "EndpointSlice":
                    var slice = ObjectPatch.FromTree(tree, new ObjectReader().ReadEndpointSlice);
                    metadata = New(slice.Metadata);
                    _folder.Objects.Put(slice with { Metadata = metadata });
                    break;
                default:
                    return Failure(405, "MethodNotAllowed", $"a lab does not create {kind.Plural}: it has the pods of its plan");
            }

            return Again(kind, new ServedObject(metadata, _ => [], []), 201);
        }

        ObjectMeta New(ObjectMeta given) => given.Name.Length > 0 && given.Name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '.')
            ? given with { Namespace = ns ?? "default", Uid = null, ResourceVersion = null, CreationTimestamp = null }
            : throw new LabException($"metadata.name: Invalid value: \"{given.Name}\"");
    }

    private static string FreeAddress(ClusterSnapshot cluster)
        => Enumerable.Range(1, 250).Select(i => string.Create(CultureInfo.InvariantCulture, $"10.96.1.{i}")).First(a => cluster.Services.All(s => s.Spec.ClusterIP != a));

    private HttpAnswer Delete(ServedKind kind, ServedObject found, long version)
    {
        using (_folder.Lock())
        {
            switch (kind.Kind)
            {
                case "Service":
                    NewBench().DeleteService(found.Metadata.Namespace!, found.Metadata.Name);
                    break;
                case "EndpointSlice":
                    _folder.Objects.Delete("endpointslices", found.Metadata);
                    break;
                case "Pod" when _proxies.Pods.FirstOrDefault(p => p.Metadata.Uid == found.Metadata.Uid) is { } proxy:
                    // A new kube-proxy writes everything anew.
                    _proxies.MakeAnew(proxy);
                    NewBench().RestartProxy(proxy.Spec.NodeName!);
                    new Reconciler(_folder, Record()).Round(forceRules: true);
                    break;
                case "Pod" when _folder.Objects.Read().FindPod(found.Metadata.Namespace!, found.Metadata.Name) is { } pod:
                    NewBench().Restart([pod]);

                    // Its workload makes it again under its old name, here even with its UID. To whom waits until it is gone, the one that is gone
                    // is another.
                    var gone = JsonNode.Parse(found.Json(version.ToString(CultureInfo.InvariantCulture)))!;
                    gone["metadata"]!["uid"] = Guid.NewGuid().ToString();
                    return Text(gone.ToJsonString());
                default:
                    return Failure(405, "MethodNotAllowed", $"a lab does not delete {kind.Plural}");
            }
        }

        return One(found, version);
    }

    private HttpAnswer Rescale(ServedObject found, HttpRequest request)
    {
        var replicas = JsonNode.Parse(request.Body)?["spec"]?["replicas"]?.GetValue<int>() ?? throw new LabException("spec.replicas: Required value");
        using (_folder.Lock())
        {
            NewBench().Scale(found.Metadata.Name, replicas is >= 0 and <= 100 ? replicas : throw new LabException("spec.replicas: Invalid value"));
        }

        var deployments = ServedKind.All.First(k => k.Kind == "Deployment");
        var now = _history.Now(deployments).Objects.First(o => o.Object.Metadata.Name == found.Metadata.Name && o.Object.Metadata.Namespace == found.Metadata.Namespace);
        return Scale(now.Object, now.Version);
    }

    private static HttpAnswer Scale(ServedObject deployment, long version)
    {
        var json = JsonNode.Parse(deployment.Json(version.ToString(CultureInfo.InvariantCulture)))!;
        return Text(new JsonObject
        {
            ["kind"] = "Scale",
            ["apiVersion"] = "autoscaling/v1",
            ["metadata"] = json["metadata"]!.DeepClone(),
            ["spec"] = new JsonObject { ["replicas"] = json["spec"]!["replicas"]!.DeepClone() },
            ["status"] = new JsonObject { ["replicas"] = json["status"]!["replicas"]!.DeepClone() },
        }.ToJsonString());
    }

    private HttpAnswer Again(ServedKind kind, ServedObject found, int status = 200)
    {
        var now = _history.Now(kind).Objects.FirstOrDefault(o => o.Object.Metadata.Name == found.Metadata.Name && o.Object.Metadata.Namespace == found.Metadata.Namespace);
        return now.Object is null ? Failure(404, "NotFound", $"{kind.Plural} \"{found.Metadata.Name}\" not found") : One(now.Object, now.Version) with { Status = status };
    }

    private Bench NewBench() => new(_folder, Record());

    private LabRecord Record() => _folder.ReadRecord() ?? throw new LabException($"Lab {_folder.Name} is being removed.");

    private static HttpAnswer One(ServedObject one, long version) => new(200, one.Json(version.ToString(CultureInfo.InvariantCulture)));

    private static HttpAnswer Text(string json) => new(200, Encoding.UTF8.GetBytes(json));

    private static HttpAnswer Failure(int status, string reason, string message) => new(status, Encoding.UTF8.GetBytes(Status(status, reason, message)));

    private static string Status(int status, string reason, string message) => new JsonObject
    {
        ["kind"] = "Status",
        ["apiVersion"] = "v1",
        ["metadata"] = new JsonObject(),
        ["status"] = "Failure",
        ["message"] = message,
        ["reason"] = reason,
        ["code"] = status,
    }.ToJsonString();
}
