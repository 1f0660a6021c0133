using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Http;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Tests.Api;

/// <summary>How a server is reached and as whom, and what is said when that does not work.</summary>
public sealed class ApiClientTests : IDisposable
{
    private static readonly ApiClientOptions Impatient = new() { FirstPause = TimeSpan.FromMilliseconds(1), Attempts = 2, Stall = TimeSpan.FromSeconds(10) };

    private readonly string _folder = Directory.CreateTempSubdirectory("traceprobe-api-").FullName;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Server_IsAskedOverHttp2WithGzipAndAName()
    {
        using var certificate = ScriptedApiServer.MakeCertificate();
        await using var server = await ScriptedApiServer.StartAsync(certificate);
        var seen = new ConcurrentBag<string>();
        server.Instead = Look(c => seen.Add($"{c.Request.Protocol} {c.Request.Headers.AcceptEncoding} {c.Request.Headers.UserAgent} {c.Request.Headers.Accept}"));

        await ReadAsync(server.Server with { Authorities = [certificate] });

        seen.Distinct().ShouldHaveSingleItem().ShouldMatch(@"^HTTP/2 gzip traceprobe/\d+\.\d+\.\d+ \(linux/\w+\) application/json$");
    }

    [Fact]
    public async Task GzippedAnswer_IsUnpacked()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services")
            {
                return false;
            }

            context.Response.Headers.ContentEncoding = "gzip";
            await using var packed = new System.IO.Compression.GZipStream(context.Response.Body, System.IO.Compression.CompressionLevel.Fastest);
            await packed.WriteAsync("""{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a","namespace":"b"}}]}"""u8.ToArray());
            return true;
        };

        (await ReadAsync(server.Server)).Services.ShouldHaveSingleItem().Metadata.Name.ShouldBe("a");
    }

    [Fact]
    public async Task UnknownCertificate_IsNotTrusted_UnlessAskedFor()
    {
        using var certificate = ScriptedApiServer.MakeCertificate();
        using var other = ScriptedApiServer.MakeCertificate();
        await using var server = await ScriptedApiServer.StartAsync(certificate);

        var failure = await Should.ThrowAsync<ApiException>(() => ReadAsync(server.Server with { Authorities = [other] }));
        failure.Message.ShouldStartWith($"No trust in the API server {server.Url.Authority} (a test): ");
        await Should.ThrowAsync<ApiException>(() => ReadAsync(server.Server));
        await ReadAsync(server.Server with { IsInsecure = true });
    }

    [Fact]
    public async Task CertificateForAnotherName_NeedsTlsServerName()
    {
        using var certificate = ScriptedApiServer.MakeCertificate("api.example.test");
        await using var server = await ScriptedApiServer.StartAsync(certificate);

        await Should.ThrowAsync<ApiException>(() => ReadAsync(server.Server with { Authorities = [certificate] }));
        await ReadAsync(server.Server with { Authorities = [certificate], TlsServerName = "api.example.test" });
    }

    [Fact]
    public async Task ClientCertificate_IsShown()
    {
        using var certificate = ScriptedApiServer.MakeCertificate();
        using var mine = ScriptedApiServer.MakeCertificate("jane");
        await using var server = await ScriptedApiServer.StartAsync(certificate);
        var seen = new ConcurrentBag<string?>();
        server.Instead = Look(c => seen.Add(c.Connection.ClientCertificate?.Subject));

        await ReadAsync(server.Server with { Authorities = [certificate], Credentials = new Credentials { Certificate = mine } });

        seen.Distinct().ShouldBe(["CN=jane"]);
    }

    [Fact]
    public async Task NameAndPasswordAndImpersonation_AreSent()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        var seen = new ConcurrentBag<string>();
        server.Instead = Look(c => seen.Add($"{c.Request.Headers.Authorization} {c.Request.Headers["Impersonate-User"]} {c.Request.Headers["Impersonate-Group"]}"));

        await ReadAsync(server.Server with { Credentials = new Credentials { Basic = ("jane", "se:cret") }, Impersonation = [("Impersonate-User", "joe"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")] });

        seen.Distinct().ShouldHaveSingleItem().Replace(", ", ",", StringComparison.Ordinal).ShouldBe("Basic amFuZTpzZTpjcmV0 joe a,b");
    }

    [Fact]
    public async Task TokenFileThatIsWrittenAnew_IsReadAnewWhenTheOldTokenIsRefused()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        var file = Path.Combine(_folder, "token");
        await File.WriteAllTextAsync(file, "old\n", Token);
        var valid = "Bearer old";
        server.Instead = Guard(() => valid);
        using var client = new ApiClient(server.Server with { Credentials = new Credentials { TokenFile = file, User = "jane" } }, Impatient);
        await LiveCluster.ReadAsync(client, Token);

        (valid, _) = ("Bearer new", 0);
        await File.WriteAllTextAsync(file, "new\n", Token);
        await LiveCluster.ReadAsync(client, Token);

        valid = "Bearer newer";
        var failure = await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token));
        failure.Status.ShouldBe(401);
        failure.Message.ShouldContain("does not accept user jane: Unauthorized. A token or certificate has probably expired");
    }

    [Fact]
    public async Task ServiceAccount_IsFoundAndItsTokenFollowed()
    {
        using var certificate = ScriptedApiServer.MakeCertificate();
        await using var server = await ScriptedApiServer.StartAsync(certificate);
        await File.WriteAllTextAsync(Path.Combine(_folder, "token"), "of-the-pod", Token);
        await File.WriteAllTextAsync(Path.Combine(_folder, "ca.crt"), certificate.ExportCertificatePem(), Token);
        await File.WriteAllTextAsync(Path.Combine(_folder, "namespace"), "observability", Token);
        server.Instead = Guard(() => "Bearer of-the-pod");
        ApiServer.OfThisPod(_folder).ShouldBeNull("this is no pod");
        Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_HOST", server.Url.Host);
        Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_PORT", $"{server.Url.Port}");
        try
        {
            var own = ApiServer.OfThisPod(_folder).ShouldNotBeNull();
            own.Namespace.ShouldBe("observability");
            await ReadAsync(own);
        }
        finally
        {
            Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_HOST", null);
            Environment.SetEnvironmentVariable("KUBERNETES_SERVICE_PORT", null);
        }
    }

    [Theory]
    [InlineData("client.authentication.k8s.io/v1")]
    [InlineData("client.authentication.k8s.io/v1beta1")]
    public async Task Plugin_IsAskedOnceAndAgainWhenItsTokenIsRefused(string version)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        var valid = "Bearer token-1";
        server.Instead = Guard(() => valid);
        var count = Path.Combine(_folder, "count");
        var plugin = Plugin($$"""
            test "$GREETING" = "hello $1" || exit 7
            case "$KUBERNETES_EXEC_INFO" in *'"apiVersion":"{{version}}"'*'"server":"https://x"'*) ;; *) exit 8 ;; esac
            echo x >> {{count}}
            echo '{"kind":"ExecCredential","apiVersion":"{{version}}","status":{"token":"token-'$(wc -l < {{count}})'","expirationTimestamp":"2100-01-01T00:00:00Z"} }'
            """);
        var config = Path.Combine(_folder, "config");
        await File.WriteAllTextAsync(config, $$"""
            current-context: a
            contexts: [{name: a, context: {cluster: c, user: u} }]
            clusters: [{name: c, cluster: {server: "https://x"} }]
            users:
            - name: u
              user:
                exec: {apiVersion: {{version}}, command: ./plugin, args: [world], env: [{name: GREETING, value: hello world}], provideClusterInfo: true, interactiveMode: Never}
            """, Token);
        plugin.ShouldBe(Path.Combine(_folder, "plugin"));
        using var client = new ApiClient(server.Server with { Credentials = Kubeconfig.Load([config]).ServerOf().Credentials }, Impatient);

        await LiveCluster.ReadAsync(client, Token);
        (await File.ReadAllLinesAsync(count, Token)).Length.ShouldBe(1);
        valid = "Bearer token-2";
        await LiveCluster.ReadAsync(client, Token);
        (await File.ReadAllLinesAsync(count, Token)).Length.ShouldBe(2);
    }

    [Fact]
    public async Task PluginsTokenThatHasExpired_IsNotSent()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        var count = Path.Combine(_folder, "count");
        Plugin($$"""
            echo x >> {{count}}
            echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t","expirationTimestamp":"2001-01-01T00:00:00Z"} }'
            """);
        await using var _ = server;
        using var client = new ApiClient(server.Server with { Credentials = new Credentials { Plugin = Exec() } }, Impatient);

        await LiveCluster.ReadAsync(client, Token);

        (await File.ReadAllLinesAsync(count, Token)).Length.ShouldBeGreaterThan(5, "asked for each request");
    }

    [Theory]
    [InlineData("exit 3", "failed with exit code 3")]
    [InlineData("echo not json", "is no ExecCredential")]
    [InlineData("""echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1","status":{"token":"t"} }'""", "was to print an ExecCredential of client.authentication.k8s.io/v1, and printed")]
    [InlineData("""echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{} }'""", "neither a token nor a certificate")]
    [InlineData("""echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"clientCertificateData":"x","clientKeyData":"y"} }'""", "is no ExecCredential")]
    [InlineData("cat /dev/zero", "prints more than")]
    [InlineData("sleep 60", "did not end within")]
    public async Task PluginThatFails_IsToldWithWhatToDo(string script, string words)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Plugin(script);
        using var client = new ApiClient(server.Server with { Credentials = new Credentials { Plugin = Exec() } }, Impatient);

        (await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token))).Message.ShouldContain(words);
    }

    [Fact]
    public async Task PluginThatPrintsItsTokenBare_IsAskedOnceAndTheTokenNotTold()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Plugin($"echo x >> {_folder}/asked; echo nosecret-eyJhbGciOiJSUzI1NiJ9");
        using var client = new ApiClient(server.Server with { Credentials = new Credentials { Plugin = Exec() } }, Impatient);

        var failure = await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token));

        failure.ToString().ShouldNotContain("secret");
        File.ReadAllLines($"{_folder}/asked").Length.ShouldBe(1, "it fails the same way a moment later");
        server.Requests.ShouldBeEmpty();
    }

    [Fact]
    public async Task LoginPageInItsPlace_IsNotFollowedAndSaid()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = context =>
        {
            context.Response.Redirect("https://login.example/");
            return Task.FromResult(true);
        };

        (await Should.ThrowAsync<ApiException>(() => ReadAsync(server.Server))).Message.ShouldContain("is no API server, since it sends to another place, https://login.example/");
    }

    [Fact]
    public async Task PluginThatIsNotThere_SaysHowToGetIt()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        using var client = new ApiClient(server.Server with { Credentials = new Credentials { Plugin = Exec() } }, Impatient);

        (await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token))).Message.ShouldEndWith("Get it from your cloud.");
    }

    [Fact]
    public async Task ServerThatIsNotThere_IsSaid()
    {
        var server = new ApiServer { Url = new Uri("http://127.0.0.1:1"), From = "context a of b" };
        using var client = new ApiClient(server, Impatient);

        (await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token))).Message
            .ShouldBe("The API server 127.0.0.1:1 (context a of b) cannot be reached: Connection refused. Is it the right context, and does kubectl get there?");
    }

    [Fact]
    public async Task SomethingElseThatAnswers_IsNoApiServer()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = async context =>
        {
            await context.Response.WriteAsync("<html>Welcome to nginx!</html>");
            return true;
        };

        (await Should.ThrowAsync<ApiException>(() => ReadAsync(server.Server))).Message.ShouldContain("does not answer like an API server");
    }

    [Fact]
    public async Task Proxy_IsAskedForTheServer()
    {
        await using var proxy = await ScriptedApiServer.StartAsync();
        var seen = new ConcurrentBag<string>();
        proxy.Instead = Look(c => seen.Add($"{c.Request.Host} {c.Request.Headers.ProxyAuthorization}"));
        using var client = new ApiClient(new ApiServer { Url = new Uri("http://api.example.test:8080"), Proxy = new Uri(proxy.Url.AbsoluteUri.Replace("//", "//me:se%63ret@", StringComparison.Ordinal)) }, Impatient);
        proxy.Instead = async context =>
        {
            if (context.Request.Headers.ProxyAuthorization.Count == 0)
            {
                context.Response.StatusCode = 407;
                context.Response.Headers.ProxyAuthenticate = "Basic realm=\"proxy\"";
                return true;
            }

            seen.Add($"{context.Request.Host} {context.Request.Headers.ProxyAuthorization}");
            return await Task.FromResult(false);
        };

        await LiveCluster.ReadAsync(client, Token);

        seen.Distinct().ShouldBe(["api.example.test:8080 Basic bWU6c2VjcmV0"]);
    }

    [Fact]
    public async Task ManyRequests_AreSpread()
    {
        var pace = new RequestPace(perSecond: 200, burst: 5, TimeProvider.System);
        var start = TimeProvider.System.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, 45).Select(_ => pace.WaitAsync(Token)));
        TimeProvider.System.GetElapsedTime(start).ShouldBeGreaterThanOrEqualTo(TimeSpan.FromMilliseconds(190), "five at once, then one each 5 ms");
    }

    private async Task<ClusterSnapshot> ReadAsync(ApiServer server)
    {
        using var client = new ApiClient(server, Impatient);
        return await LiveCluster.ReadAsync(client, Token);
    }

    private static Func<HttpContext, Task<bool>> Look(Action<HttpContext> look) => context =>
    {
        look(context);
        return Task.FromResult(false);
    };

    private static Func<HttpContext, Task<bool>> Guard(Func<string> valid) => async context =>
    {
        if (context.Request.Headers.Authorization == valid())
        {
            return false;
        }

        await ScriptedApiServer.FailAsync(context, (int)HttpStatusCode.Unauthorized, "Unauthorized");
        return true;
    };

    private ExecPlugin Exec() => new() { ApiVersion = "client.authentication.k8s.io/v1", Command = Path.Combine(_folder, "plugin"), InstallHint = "Get it from your cloud.", Timeout = TimeSpan.FromSeconds(2) };

    private string Plugin(string script)
    {
        var path = Path.Combine(_folder, "plugin");
        File.WriteAllText(path, $"#!/bin/sh\n{script}\n");
#pragma warning disable CA1416
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
#pragma warning restore CA1416
        return path;
    }
}
