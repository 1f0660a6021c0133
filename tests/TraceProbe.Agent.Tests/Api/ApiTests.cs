using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Sessions;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Tests.Api;

/// <summary>An agent's API over its three doors, with a peer that reviews tokens as kube-apiserver does.</summary>
public sealed partial class ApiTests : IAsyncDisposable
{
    private static readonly AlertMessage SomeAlert = new()
    {
        Event = "opened", Class = "wrong-target-port", Service = "default/my-nginx:8080", Client = "deployment/default/web", Node = "node-1", Sentence = "It is the port.",
        FirstSeen = DateTimeOffset.UnixEpoch, LastSeen = DateTimeOffset.UnixEpoch, Count = 3, Attempts = 3,
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("traceprobe-api-").FullName;
    private readonly AgentMetrics _metrics = new(null, "node-1");
    private readonly AgentSettings _settings;
    private WebApplication? _reviews;
    private ApiClient? _client;
    private AgentSessions? _sessions;
    private WebApplication _app = null!;
    private NodeAgent _agent = null!;
    private ApiCertificate _certificate = null!;

    public ApiTests()
    {
        _settings = new AgentSettings { State = _folder, Node = "node-1", Metrics = $"127.0.0.1:{FreePort()}" };
        _settings.Api.Listen = $"127.0.0.1:{FreePort()}";
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string Tls => $"https://{_settings.Api.Listen}#sha256={_certificate.Fingerprint}";

    public async ValueTask DisposeAsync()
    {
        if (_app is not null)
        {
            await _app.DisposeAsync();
            await _sessions!.DisposeAsync();
            _agent.Dispose();
        }

        if (_reviews is not null)
        {
            await _reviews.DisposeAsync();
        }

        _client?.Dispose();
        _metrics.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task WhoMayReadPodsLogs_MayAsk_AndNobodyElse()
    {
        await StartAsync();
        (await AskAsync("good")).Node.ShouldBe("node-1");
        (await Should.ThrowAsync<AgentException>(() => AskAsync(null))).Message.ShouldContain("bearer token");
        (await Should.ThrowAsync<AgentException>(() => AskAsync("stranger"))).Message.ShouldContain("does not know this token");
        var forbidden = (await Should.ThrowAsync<AgentException>(() => AskAsync("weak"))).Message;
        forbidden.ShouldContain("(403)");
        forbidden.ShouldContain("weak may not get pods/log in all namespaces: no rule says so");
    }

    [Fact]
    public async Task RequestsFromAPod_NeedExecThere()
    {
        await StartAsync();
        using var client = new AgentClient(Tls, _ => ValueTask.FromResult<string?>("good"));
        var refused = await Should.ThrowAsync<AgentException>(() => client.StartAsync(new SessionRequest { Url = "http://my-nginx:8080", From = "pod/shop/web" }, Token));
        refused.Message.ShouldContain("good may not create pods/exec web in namespace shop");
        refused = await Should.ThrowAsync<AgentException>(() => client.StartAsync(new SessionRequest { Url = "http://my-nginx:8080", From = "node/node-1" }, Token));
        refused.Message.ShouldContain("good may not create nodes/proxy node-1 in all namespaces");
    }

    [Fact]
    public async Task ApiServerThatIsAway_LetsNobodyIn_ButTheNodesRoot()
    {
        await StartAsync();
        await _reviews!.StopAsync(Token);
        (await Should.ThrowAsync<AgentException>(() => AskAsync("good"))).Message.ShouldContain("(503)");
        using var root = new AgentClient(Path.Combine(_folder, "agent.sock"), _ => default);
        (await root.AgentAsync(Token)).Node.ShouldBe("node-1");
    }

    [Fact]
    public async Task CertificateOfAnother_IsNotTrusted()
    {
        await StartAsync();
        foreach (var address in (string[])[$"https://{_settings.Api.Listen}", $"https://{_settings.Api.Listen}#sha256={new string('0', 64)}"])
        {
            using var client = new AgentClient(address, _ => ValueTask.FromResult<string?>("good"));
            (await Should.ThrowAsync<AgentException>(() => client.AgentAsync(Token))).Message.ShouldContain("No agent answers");
        }

        // The same after a restart, so that whoever noted it need not again.
        new ApiCertificate(_settings, "node-1").Fingerprint.ShouldBe(_certificate.Fingerprint);
#pragma warning disable CA1416 // Linux is all there is.
        File.GetUnixFileMode(Path.Combine(_folder, "tls.key")).ShouldBe(UnixFileMode.UserRead | UnixFileMode.UserWrite);
#pragma warning restore CA1416
    }

    [Theory]
    [InlineData("{}", 400, "Either url and from")]
    [InlineData("""{"url":"http://a"}""", 400, "from:")]
    [InlineData("""{"url":"http://a","from":"pod/a"}""", 400, "neither pod/NAMESPACE/NAME nor node/NAME")]
    [InlineData("""{"url":"http://a","from":"netns:/proc/1/ns/net"}""", 400, "neither pod/NAMESPACE/NAME nor node/NAME")]
    [InlineData("""{"url":"http://a","from":"node"}""", 400, "neither pod/NAMESPACE/NAME nor node/NAME")]
    [InlineData("""{"url":"http://a","from":"pod/a/b","to":["10.0.0.1"]}""", 400, "Either url and from")]
    [InlineData("""{"to":["my-nginx"]}""", 400, "'my-nginx' is no ADDRESS:PORT")]
    [InlineData("""{"to":["10.0.0.1"],"seconds":0}""", 400, "from 1 to 60")]
    [InlineData("""{"to":["10.0.0.1"],"seconds":1e9}""", 400, "from 1 to 60")]
    [InlineData("""{"to":["10.0.0.1"],"resolver":"bsd"}""", 400, "glibc or musl")]
    [InlineData("""{"to":["10.0.0.1"],"sekonds":3}""", 400, "sekonds")]
    [InlineData("""{"to":["10.0.0.1"]""", 400, "cannot be read")]
    [InlineData("[]", 400, "cannot be read")]
    [InlineData("null", 400, "")]
    [InlineData("", 400, "")]
    public async Task RefusedSession_SaysWhy(string body, int status, string says)
    {
        await StartAsync();
        using var http = Socket();
        using var answer = await http.PostAsync(new Uri("http://agent/v1/sessions"), new StringContent(body, Encoding.UTF8, "application/json"), Token);
        ((int)answer.StatusCode).ShouldBe(status);
        var refusal = JsonSerializer.Deserialize(await answer.Content.ReadAsStringAsync(Token), AgentJson.Default.Refusal).ShouldNotBeNull();
        refusal.Status.ShouldBe(status);
        refusal.Error.ShouldContain(says);
    }

    [Fact]
    public async Task TooLargeABody_TooManyAddresses_UnknownPaths_AreRefused()
    {
        await StartAsync();
        using var http = Socket();
        using var large = await http.PostAsync(new Uri("http://agent/v1/sessions"), new StringContent($"{{\"url\":\"{new string('x', 100_000)}\"}}", Encoding.UTF8, "application/json"), Token);
        large.StatusCode.ShouldBe(HttpStatusCode.RequestEntityTooLarge);
        var many = string.Join(',', Enumerable.Range(0, 65).Select(i => $"\"10.0.0.{i}\""));
        using var crowd = await http.PostAsync(new Uri("http://agent/v1/sessions"), new StringContent($"{{\"to\":[{many}]}}", Encoding.UTF8, "application/json"), Token);
        (await crowd.Content.ReadAsStringAsync(Token)).ShouldContain("at most 64");
        foreach (var path in (string[])["/", "/v2", "/v1/sessions/nobody", "/v1/recordings/..%2Fagent.lock", "/v1/recordings/agent.lock"])
        {
            using var answer = await http.GetAsync(new Uri($"http://agent{path}"), Token);
            answer.StatusCode.ShouldBe(HttpStatusCode.NotFound, path);
            JsonDocument.Parse(await answer.Content.ReadAsStringAsync(Token)).RootElement.GetProperty("error").GetString().ShouldNotBeNullOrEmpty(path);
        }
    }

    [Fact]
    public async Task ProbesAndMetrics_AreForAll_AndNothingElseAtTheirDoor()
    {
        await StartAsync();
        using var http = new HttpClient { BaseAddress = new Uri($"http://{_settings.Metrics}") };
        (await http.GetStringAsync("/healthz", Token)).ShouldBe("ok\n");
        (await http.GetAsync(new Uri("/readyz", UriKind.Relative), Token)).StatusCode.ShouldBe(HttpStatusCode.ServiceUnavailable);
        (await http.GetAsync(new Uri("/v1/agent", UriKind.Relative), Token)).StatusCode.ShouldBe(HttpStatusCode.NotFound);
        (await http.GetAsync(new Uri("/openapi/v1.json", UriKind.Relative), Token)).StatusCode.ShouldBe(HttpStatusCode.NotFound);

        _metrics.Attempted("default/my-nginx:8080", FailureClass.Healthy);
        _metrics.Attempted("default/a\"b\\c\n:80", FailureClass.NoListener);
        _metrics.Attempted(null, FailureClass.Undetermined);
        _metrics.Connected(TimeSpan.FromMilliseconds(3));
        var text = await http.GetStringAsync("/metrics", Token);
        text.ShouldContain("""traceprobe_connections_total{class="healthy",outcome="healthy",service="default/my-nginx:8080"} 1""" + "\n");
        text.ShouldContain("""traceprobe_connections_total{class="no-listener",outcome="failed",service="default/a\"b\\c\n:80"} 1""" + "\n");
        text.ShouldContain("traceprobe_connect_duration_seconds_bucket{le=\"0.005\"} 1\n");
        text.ShouldContain("traceprobe_connect_duration_seconds_count 1\n");
        foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            Exposition().IsMatch(line).ShouldBeTrue(line);
        }
    }

    [Fact]
    public void MetricsOfMoreServicesThanThereIsRoomFor_AreCountedTogether()
    {
        for (var i = 0; i < AgentMetrics.MostServices + 50; i++)
        {
            _metrics.Attempted($"default/s{i}:80", FailureClass.Healthy);
        }

        var text = _metrics.ToPrometheusText();
        text.ShouldContain("service=\"other\"} 50\n");
        text.Split('\n').Count(l => l.StartsWith("traceprobe_connections_total", StringComparison.Ordinal)).ShouldBe(AgentMetrics.MostServices + 1);
    }

    [Fact]
    public async Task WhoListens_IsToldWhatHappens_AndTheSeventeenthIsRefused()
    {
        await StartAsync();
        using var root = new AgentClient(Path.Combine(_folder, "agent.sock"), _ => default);
        var listeners = Enumerable.Range(0, LiveFeed.MostListeners).Select(_ => root.LiveAsync(Token).GetAsyncEnumerator(Token)).ToList();
        foreach (var listener in listeners)
        {
            (await listener.MoveNextAsync()).ShouldBeTrue();
            listener.Current.Now.ShouldNotBeNull();
        }

        (await Should.ThrowAsync<AgentException>(async () => await root.LiveAsync(Token).GetAsyncEnumerator(Token).MoveNextAsync())).Message.ShouldContain("16 listen already");
        _agent.Feed.Publish(new LiveMessage { Alert = SomeAlert });
        foreach (var listener in listeners)
        {
            (await listener.MoveNextAsync()).ShouldBeTrue();
            listener.Current.Alert.ShouldBe(SomeAlert);
            await listener.DisposeAsync();
        }
    }

    [Fact]
    public async Task WhoListensTooSlowly_IsToldHowMuchWasMissed()
    {
        var feed = new LiveFeed();
        using var listener = feed.Listen().ShouldNotBeNull();
        for (var i = 0; i < 600; i++)
        {
            feed.Publish(new LiveMessage { Alert = SomeAlert });
        }

        (await listener.NextAsync(TimeSpan.FromSeconds(5), Token)).Missed.ShouldBe(100);
        (await listener.NextAsync(TimeSpan.FromSeconds(5), Token)).Alert.ShouldNotBeNull();
    }

    [Fact]
    public async Task Document_ListsEveryRoute()
    {
        await StartAsync();
        using var http = Socket();
        using var document = JsonDocument.Parse(await http.GetStringAsync("http://agent/openapi/v1.json", Token));
        var documented = document.RootElement.GetProperty("paths").EnumerateObject().SelectMany(p => p.Value.EnumerateObject().Select(o => $"{o.Name.ToUpperInvariant()} {p.Name}")).Order(StringComparer.Ordinal);
        var served = _app.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>().Where(e => e.RoutePattern.RawText!.StartsWith("/v1/", StringComparison.Ordinal))
            .Select(e => $"{e.Metadata.GetRequiredMetadata<HttpMethodMetadata>().HttpMethods[0]} {e.RoutePattern.RawText}").Order(StringComparer.Ordinal);
        documented.ShouldBe(served);
        documented.Count().ShouldBeGreaterThan(10);
        foreach (var operation in document.RootElement.GetProperty("paths").EnumerateObject().SelectMany(p => p.Value.EnumerateObject()))
        {
            operation.Value.GetProperty("summary").GetString().ShouldNotBeNullOrEmpty();
        }
    }

    private async Task<AgentMessage> AskAsync(string? token)
    {
        using var client = new AgentClient(Tls, _ => ValueTask.FromResult(token));
        return await client.AgentAsync(Token);
    }

    private async Task StartAsync()
    {
        var port = FreePort();
        _reviews = Reviews(port);
        await _reviews.StartAsync(Token);
        _client = new ApiClient(new ApiServer { Url = new Uri($"http://127.0.0.1:{port}"), From = "a test" });
        _certificate = new ApiCertificate(_settings, "node-1");
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        var failures = new FailureFiles(Path.Combine(_folder, "failures"), 10);
        _agent = new NodeAgent(_settings, () => new Scene(), [], failures, _metrics, NullLogger<NodeAgent>.Instance);
        _sessions = new AgentSessions(Path.Combine(_folder, "sessions"), "node-1", () => new Scene(), []);
        builder.Services.AddLogging().AddSingleton(_settings).AddSingleton(_metrics).AddSingleton(_sessions).AddSingleton(new ApiAccess(_client)).AddSingleton(failures).AddSingleton(_agent);
        builder.AddAgentApi(_settings, _certificate);
        _app = builder.Build();
        _app.MapAgentApi();
        await _app.StartAsync(Token);
    }

    // As kube-apiserver answers: a token of "stranger" is nobody's, "weak" may do nothing, "good" may read logs.
    private static WebApplication Reviews(int port)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls($"http://127.0.0.1:{port}");
        builder.Services.AddRouting().AddLogging();
        var app = builder.Build();
        app.UseRouting();
        app.MapPost("/apis/authentication.k8s.io/v1/tokenreviews", async context =>
        {
            using var review = await JsonDocument.ParseAsync(context.Request.Body);
            var token = review.RootElement.GetProperty("spec").GetProperty("token").GetString();
            context.Response.StatusCode = StatusCodes.Status201Created;
            await context.Response.WriteAsync(token == "stranger" ? """{"kind":"TokenReview","status":{"error":"unknown"}}"""
                : """{"kind":"TokenReview","status":{"authenticated":true,"user":{"username":"TOKEN","uid":"1","groups":["system:authenticated"]}}}""".Replace("TOKEN", token, StringComparison.Ordinal));
        });
        app.MapPost("/apis/authorization.k8s.io/v1/subjectaccessreviews", async context =>
        {
            using var review = await JsonDocument.ParseAsync(context.Request.Body);
            var spec = review.RootElement.GetProperty("spec");
            var asked = spec.GetProperty("resourceAttributes");
            var may = spec.GetProperty("user").GetString() == "good" && asked.GetProperty("resource").GetString() == "pods" && asked.TryGetProperty("subresource", out var sub) && sub.GetString() == "log";
            context.Response.StatusCode = StatusCodes.Status201Created;
            await context.Response.WriteAsync(may ? """{"status":{"allowed":true}}""" : """{"status":{"allowed":false,"reason":"no rule says so"}}""");
        });
        return app;
    }

    private HttpClient Socket() => new(new SocketsHttpHandler
    {
        ConnectCallback = async (_, cancellation) =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(Path.Combine(_folder, "agent.sock")), cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        },
    });

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    [GeneratedRegex("""^(# (HELP|TYPE) [a-z0-9_]+ .+|[a-z0-9_]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [-+0-9.eEInf]+)$""")]
    private static partial Regex Exposition();
}
