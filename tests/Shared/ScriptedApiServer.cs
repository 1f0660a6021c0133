using System.Buffers;
using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Tests;

/// <summary>
/// A peer that speaks list and watch over real HTTP as kube-apiserver does, from a script: objects with versions, pages, watches that go on
/// from a version, bookmarks, versions that are forgotten. A test says what goes wrong, and when.
/// </summary>
internal sealed class ScriptedApiServer : IAsyncDisposable
{
    private readonly Dictionary<string, Kind> _kinds = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();
    private WebApplication? _app;
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _version = 100;

    private ScriptedApiServer()
    {
        foreach (var (path, kind, apiVersion) in (ReadOnlySpan<(string, string, string)>)
        [
            ("/api/v1/services", "Service", "v1"), ("/api/v1/pods", "Pod", "v1"), ("/api/v1/nodes", "Node", "v1"), ("/api/v1/namespaces", "Namespace", "v1"),
            ("/api/v1/events", "Event", "v1"), ("/api/v1/endpoints", "Endpoints", "v1"), ("/apis/networking.k8s.io/v1/networkpolicies", "NetworkPolicy", "networking.k8s.io/v1"),
            ("/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice", "discovery.k8s.io/v1"), ("/apis/discovery.k8s.io/v1beta1/endpointslices", "EndpointSlice", "discovery.k8s.io/v1beta1"),
        ])
        {
            _kinds[path] = new Kind(kind, apiVersion);
        }
    }

    /// <summary>What goes wrong with a watch.</summary>
    internal enum Trouble
    {
        Reset,
        End,
        Malformed,
        NotUtf8,
        Expired,
        InternalError,
        Silence,
    }

    /// <summary>Where it listens.</summary>
    public Uri Url { get; private set; } = null!;

    /// <summary>The server as a client knows it.</summary>
    public ApiServer Server => new() { Url = Url, From = "a test" };

    /// <summary>Which versions of discovery.k8s.io it has.</summary>
    public string[] SliceVersions { get; set; } = ["v1", "v1beta1"];

    /// <summary>Whether it knows sendInitialEvents.</summary>
    public bool StreamsLists { get; set; }

    /// <summary>Answers in place of the server when it returns true.</summary>
    public Func<HttpContext, Task<bool>> Instead { get; set; } = _ => Task.FromResult(false);

    /// <summary>What is to go wrong with the next watch, and after how many bytes; null for nothing.</summary>
    public Func<(Trouble What, int AfterBytes)?> TroubleOfWatch { get; set; } = () => null;

    /// <summary>What was asked for, oldest first.</summary>
    public ConcurrentQueue<string> Requests { get; } = [];

    /// <summary>The version of the cluster.</summary>
    public long Version
    {
        get
        {
            lock (_lock)
            {
                return _version;
            }
        }
    }

    /// <summary>How many watches there are now.</summary>
    public int Watches { get; private set; }

    public static async Task<ScriptedApiServer> StartAsync(X509Certificate2? certificate = null)
    {
        var server = new ScriptedApiServer();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = certificate is null ? HttpProtocols.Http1 : HttpProtocols.Http1AndHttp2;
            if (certificate is not null)
            {
                listen.UseHttps(certificate, https =>
                {
                    https.ClientCertificateMode = Microsoft.AspNetCore.Server.Kestrel.Https.ClientCertificateMode.AllowCertificate;
                    https.AllowAnyClientCertificate();
                });
            }
        }));
        server._app = builder.Build();
        server._app.Run(server.AnswerAsync);
        await server._app.StartAsync();
        server.Url = new Uri(server._app.Urls.Single());
        return server;
    }

    /// <summary>A certificate for 127.0.0.1 and a name, made now, that vouches for itself.</summary>
    public static X509Certificate2 MakeCertificate(string name = "kubernetes.test")
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        if (name == "kubernetes.test")
        {
            names.AddIpAddress(IPAddress.Loopback);
        }

        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    public void Put(Service value) => Put("/api/v1/services", value.Metadata, version => Json(value with { Metadata = value.Metadata with { ResourceVersion = version } }, ObjectWriter.Write));

    public void Put(Pod value) => Put("/api/v1/pods", value.Metadata, version => Json(value with { Metadata = value.Metadata with { ResourceVersion = version } }, ObjectWriter.Write));

    public void Put(Node value) => Put("/api/v1/nodes", value.Metadata, version => Json(value with { Metadata = value.Metadata with { ResourceVersion = version } }, ObjectWriter.Write));

    public void Put(EndpointSlice value) => Put("/apis/discovery.k8s.io/v1/endpointslices", value.Metadata, version => Json(value with { Metadata = value.Metadata with { ResourceVersion = version } }, ObjectWriter.Write));

    /// <summary>Creates or changes an object.</summary>
    public void Put(string path, ObjectMeta metadata, Func<string, byte[]> json)
    {
        lock (_lock)
        {
            var (kind, key) = (_kinds[path], KeyOf(metadata));
            var version = ++_version;
            var text = json(version.ToString(CultureInfo.InvariantCulture));
            kind.Log.Add((version, kind.Objects.ContainsKey(key) ? "MODIFIED" : "ADDED", text));
            kind.Objects[key] = text;
            Changed();
        }
    }

    /// <summary>Deletes an object; says whether it was there.</summary>
    public bool Delete(string path, ObjectMeta metadata)
    {
        lock (_lock)
        {
            var kind = _kinds[path];
            if (!kind.Objects.Remove(KeyOf(metadata), out var text))
            {
                return false;
            }

            // As etcd tells it: the object with the version of its deletion.
            var version = ++_version;
            var told = Encoding.UTF8.GetString(text);
            var from = told.IndexOf("\"resourceVersion\":\"", StringComparison.Ordinal) + 19;
            told = told[..from] + version.ToString(CultureInfo.InvariantCulture) + told[told.IndexOf('"', from)..];
            kind.Log.Add((version, "DELETED", Encoding.UTF8.GetBytes(told)));
            Changed();
            return true;
        }
    }

    /// <summary>Forgets what happened so far, as etcd does after five minutes.</summary>
    public void Compact()
    {
        lock (_lock)
        {
            foreach (var kind in _kinds.Values)
            {
                kind.Log.Clear();
                kind.Floor = _version;
            }
        }
    }

    /// <summary>Sends a bookmark to every watch.</summary>
    public void Bookmark()
    {
        lock (_lock)
        {
            foreach (var kind in _kinds.Values)
            {
                kind.Bookmark = _version;
            }

            Changed();
        }
    }

    public async ValueTask DisposeAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.Zero);
        await _app!.StopAsync(limit.Token);
        await _app.DisposeAsync();
    }

    public static Task FailAsync(HttpContext context, int status, string message, string? retryAfter = null)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/json";
        if (retryAfter is not null)
        {
            context.Response.Headers.RetryAfter = retryAfter;
        }

        return context.Response.WriteAsync($$"""{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":{{JsonSerializer.Serialize(message)}},"code":{{status}}}""");
    }

    private static byte[] Json<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        write(json, value);
        json.Flush();
        return buffer.WrittenSpan.ToArray();
    }

    private static string KeyOf(ObjectMeta metadata) => $"{metadata.Namespace}/{metadata.Name}";

    private void Changed()
    {
        var changed = _changed;
        _changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        changed.SetResult();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        Requests.Enqueue($"{context.Request.Path}{context.Request.QueryString}");
        if (await Instead(context))
        {
            return;
        }

        var path = context.Request.Path.Value!;
        var query = context.Request.Query;
        if (path == "/apis/discovery.k8s.io" && SliceVersions.Length > 0)
        {
            await context.Response.WriteAsync(JsonSerializer.Serialize(new { kind = "APIGroup", name = "discovery.k8s.io", versions = SliceVersions.Select(v => new { groupVersion = $"discovery.k8s.io/{v}", version = v }) }));
        }
        else if (!_kinds.TryGetValue(path, out var kind) || (path.Split('/') is [_, "apis", "discovery.k8s.io", var version, ..] && !SliceVersions.Contains(version)))
        {
            context.Response.StatusCode = 404;
            await context.Response.WriteAsync("404 page not found\n");
        }
        else if (query.ContainsKey("watch"))
        {
            await WatchAsync(context, kind);
        }
        else
        {
            await ListAsync(context, kind);
        }
    }

    private async Task ListAsync(HttpContext context, Kind kind)
    {
        var limit = int.TryParse(context.Request.Query["limit"], NumberStyles.None, CultureInfo.InvariantCulture, out var asked) && asked > 0 ? asked : int.MaxValue;
        List<byte[]> page;
        long version;
        string? next = null;
        lock (_lock)
        {
            // The first page's state is kept for the next ones, as etcd keeps old versions.
            (version, var at) = (_version, 0);
            List<byte[]> all;
            if (context.Request.Query["continue"] is [{ } token] && token.Split(':') is [var of, var from])
            {
                (version, at) = (long.Parse(of, CultureInfo.InvariantCulture), int.Parse(from, CultureInfo.InvariantCulture));
                if (version < kind.Floor || !kind.Kept.TryGetValue(version, out all!))
                {
                    all = null!;
                }
            }
            else
            {
                all = [.. kind.Objects.Values];
                if (all.Count > limit)
                {
                    kind.Kept[version] = all;
                }
            }

            page = all is null ? null! : all.GetRange(at, Math.Min(limit, all.Count - at));
            next = all is not null && at + page.Count < all.Count ? $"{version}:{at + page.Count}" : null;
        }

        if (page is null)
        {
            await FailAsync(context, 410, "The provided continue parameter is too old to display a consistent list result.");
            return;
        }

        context.Response.ContentType = "application/json";
        var body = context.Response.BodyWriter;
        body.Write(Encoding.UTF8.GetBytes($$"""{"kind":"{{kind.Name}}List","apiVersion":"{{kind.ApiVersion}}","metadata":{"resourceVersion":"{{version}}"{{(next is null ? "" : $",\"continue\":\"{next}\"")}}},"items":["""));
        for (var i = 0; i < page.Count; i++)
        {
            body.Write(i == 0 ? ""u8 : ","u8);
            body.Write(page[i]);
            if (i % 100 == 99)
            {
                await body.FlushAsync();
            }
        }

        body.Write("]}"u8);
        await body.FlushAsync();
    }

    private async Task WatchAsync(HttpContext context, Kind kind)
    {
        var query = context.Request.Query;
        var initial = query.ContainsKey("sendInitialEvents");
        if (initial && !StreamsLists)
        {
            await FailAsync(context, 422, "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled");
            return;
        }

        context.Response.ContentType = "application/json";
        var stream = new Stream(context, TroubleOfWatch());
        long version;
        List<byte[]> first = [];
        lock (_lock)
        {
            version = initial ? _version : long.Parse(query["resourceVersion"]!, CultureInfo.InvariantCulture);
            if (initial)
            {
                first = [.. kind.Objects.Values];
            }

            Watches++;
        }

        try
        {
            await context.Response.BodyWriter.FlushAsync();
            foreach (var one in first)
            {
                await stream.WriteAsync("ADDED", one);
            }

            if (initial)
            {
                await stream.WriteAsync("BOOKMARK", Encoding.UTF8.GetBytes($$"""{"kind":"{{kind.Name}}","apiVersion":"{{kind.ApiVersion}}","metadata":{"resourceVersion":"{{version}}","creationTimestamp":null,"annotations":{"k8s.io/initial-events-end":"true"} } }"""));
            }

            long bookmark = 0;
            while (true)
            {
                (long Version, string Type, byte[] Json)[] news;
                Task changed;
                long due;
                bool expired;
                lock (_lock)
                {
                    expired = version < kind.Floor;
                    news = [.. kind.Log.Skip(FirstAfter(kind.Log, version))];
                    changed = _changed.Task;
                    due = kind.Bookmark;
                }

                if (expired)
                {
                    await stream.WriteAsync("ERROR", Encoding.UTF8.GetBytes($$"""{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: {{version}} ({{kind.Floor}})","reason":"Expired","code":410}"""));
                    return;
                }

                foreach (var (at, type, json) in news)
                {
                    await stream.WriteAsync(type, json);
                    version = at;
                }

                if (due > bookmark)
                {
                    (bookmark, version) = (due, Math.Max(due, version));
                    await stream.WriteAsync("BOOKMARK", Encoding.UTF8.GetBytes($$"""{"kind":"{{kind.Name}}","apiVersion":"{{kind.ApiVersion}}","metadata":{"resourceVersion":"{{version}}","creationTimestamp":null},"spec":{} }"""));
                }

                await stream.FlushAsync();
                await changed.WaitAsync(context.RequestAborted);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The client, or the trouble, has ended it.
        }
        finally
        {
            lock (_lock)
            {
                Watches--;
            }
        }
    }

    private static int FirstAfter(List<(long Version, string, byte[])> log, long version)
    {
        var (low, high) = (0, log.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = log[middle].Version > version ? (low, middle) : (middle + 1, high);
        }

        return low;
    }

    private sealed class Kind(string name, string apiVersion)
    {
        public string Name => name;

        public string ApiVersion => apiVersion;

        public SortedDictionary<string, byte[]> Objects { get; } = new(StringComparer.Ordinal);

        public List<(long Version, string Type, byte[] Json)> Log { get; } = [];

        public Dictionary<long, List<byte[]>> Kept { get; } = [];

        public long Floor { get; set; }

        public long Bookmark { get; set; }
    }

    // The events of one watch, until its trouble comes.
    private sealed class Stream(HttpContext context, (Trouble What, int AfterBytes)? trouble)
    {
        private int _left = trouble?.AfterBytes ?? int.MaxValue;

        public async Task WriteAsync(string type, byte[] json)
        {
            byte[] line = [.. Encoding.UTF8.GetBytes($"{{\"type\":\"{type}\",\"object\":"), .. json, .. "}\n"u8];
            var body = context.Response.BodyWriter;
            if (line.Length <= _left)
            {
                body.Write(line);
                _left -= line.Length;
                return;
            }

            switch (trouble!.Value.What)
            {
                case Trouble.Malformed:
                    body.Write(line.AsSpan(0, line.Length / 2));
                    body.Write("}}]\n"u8);
                    break;
                case Trouble.NotUtf8:
                    body.Write("{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"\xC3\x28\x80\"}}}\n"u8);
                    body.Write((ReadOnlySpan<byte>)[(byte)'{', (byte)'"', 0xff, 0xfe, (byte)'"', (byte)'\n']);
                    break;
                case Trouble.Expired:
                    body.Write("{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n"u8);
                    break;
                case Trouble.InternalError:
                    body.Write("{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"etcdserver: no leader\",\"code\":500}}\n"u8);
                    break;
                default:
                    body.Write(line.AsSpan(0, Math.Min(line.Length, Math.Max(0, _left))));
                    break;
            }

            await body.FlushAsync();
            if (trouble.Value.What == Trouble.Silence)
            {
                await Task.Delay(Timeout.Infinite, context.RequestAborted);
            }

            if (trouble.Value.What == Trouble.Reset)
            {
                context.Features.Get<IHttpRequestLifetimeFeature>()!.Abort();
            }

            throw new OperationCanceledException("as the script wants it");
        }

        public async Task FlushAsync() => await context.Response.BodyWriter.FlushAsync(context.RequestAborted);
    }
}
