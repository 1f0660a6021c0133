using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Tests.Api;

/// <summary>What real API servers of Kubernetes 1.20 and 1.36 answered, replayed to the client.</summary>
public class RealAnswersTests
{
    private static readonly ApiClientOptions Impatient = new() { FirstPause = TimeSpan.FromMilliseconds(1), LongestPause = TimeSpan.FromMilliseconds(10), Attempts = 1 };

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("1.20.2", "a-variety/iptables")]
    [InlineData("1.33.13", "a-variety/nftables")]
    [InlineData("1.36.3", "a-variety/iptables")]
    public async Task ListsOfARealServer_GiveTheSameAsItsFiles(string version, string of)
    {
        var folder = Path.Combine(Fixture.RequireShared(), version, of);
        await using var server = await ScriptedApiServer.StartAsync();
        server.SliceVersions = version.StartsWith("1.20", StringComparison.Ordinal) ? ["v1beta1"] : ["v1"];
        server.Instead = async context =>
        {
            var kind = context.Request.Path.Value!.Split('/')[^1];
            if (Fixture.Find(folder, $"{kind}.json") is not { } file)
            {
                return false;
            }

            await context.Response.WriteAsync(Fixture.Text(file));
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);

        var read = await LiveCluster.ReadAsync(client, Token);

        var files = SnapshotReader.Read(((string[])["services", "endpointslices", "pods", "nodes", "namespaces"]).Select(k => Fixture.Find(folder, $"{k}.json")).OfType<string>());
        read.Services.ShouldNotBeEmpty();
        FilledObject.Difference(read.Services, files.Services).ShouldBeNull();
        FilledObject.Difference(read.EndpointSlices, files.EndpointSlices).ShouldBeNull();
        FilledObject.Difference(read.Pods, files.Pods).ShouldBeNull();
        FilledObject.Difference(read.Nodes, files.Nodes).ShouldBeNull();
    }

    [Theory]
    [InlineData("1.20.2")]
    [InlineData("1.36.3")]
    public async Task WatchesOfARealServer_AreFollowed(string version)
    {
        var folder = Path.Combine(Fixture.RequireShared(), version, "api-samples");
        await using var server = await ScriptedApiServer.StartAsync();
        server.SliceVersions = version.StartsWith("1.20", StringComparison.Ordinal) ? ["v1beta1"] : ["v1"];
        server.Instead = async context =>
        {
            var kind = context.Request.Path.Value!.Split('/')[^1];
            var sample = Path.Combine(folder, $"watch-{kind}.jsonl");
            if (!context.Request.Query.ContainsKey("watch") || !File.Exists(sample) || context.Request.Query["resourceVersion"] != "100")
            {
                return false;
            }

            await context.Response.WriteAsync(await File.ReadAllTextAsync(sample));
            await context.Response.Body.FlushAsync();
            await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);
        await using var live = await LiveCluster.FollowAsync(client, Token);

        // What the lines say, put together by themselves.
        var left = new Dictionary<string, string>();
        var lines = 0;
        foreach (var line in await File.ReadAllLinesAsync(Path.Combine(folder, "watch-endpointslices.jsonl"), Token))
        {
            using var json = JsonDocument.Parse(line);
            var (type, meta) = (json.RootElement.GetProperty("type").GetString(), json.RootElement.GetProperty("object").GetProperty("metadata"));
            if (type is "ADDED" or "MODIFIED")
            {
                left[meta.GetProperty("name").GetString()!] = meta.GetProperty("resourceVersion").GetString()!;
            }
            else if (type == "DELETED")
            {
                left.Remove(meta.GetProperty("name").GetString()!);
            }

            lines += type == "BOOKMARK" ? 0 : 1;
        }

        for (var attempt = 0; live.Counts.Changes < lines + 4; attempt++)
        {
            (attempt < 3000).ShouldBeTrue(string.Create(CultureInfo.InvariantCulture, $"{live.Counts} of {lines}"));
            await Task.Delay(10, Token);
        }

        live.Current.EndpointSlices.ToDictionary(s => s.Metadata.Name, s => s.Metadata.ResourceVersion!).ShouldBe(left, ignoreOrder: true);
        live.Current.Services.ShouldBeEmpty("the only one was deleted");
    }

    [Theory]
    [InlineData("anonymous-403.http", 403, "services is forbidden: User \"system:anonymous\" cannot list resource \"services\"")]
    [InlineData("no-rbac-403.http", 403, "bind its user to a ClusterRole")]
    [InlineData("bad-token-401.http", 401, "log in again")]
    [InlineData("list-future-rv-504.http", 504, "Too large resource version")]
    [InlineData("get-404.http", 404, "not found")]
    public async Task RealErrors_AreTold(string sample, int status, string words)
    {
        var text = (await File.ReadAllTextAsync(Path.Combine(Fixture.RequireShared(), "1.36.3", "api-samples", sample), Token)).ReplaceLineEndings("\n");
        var (head, body) = (text[..text.IndexOf("\n\n", StringComparison.Ordinal)], text[(text.IndexOf("\n\n", StringComparison.Ordinal) + 2)..]);
        head.ShouldContain($" {status} ");
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = async context =>
        {
            if (context.Request.Path == "/apis/discovery.k8s.io" && status != 401)
            {
                return false;
            }

            context.Response.StatusCode = status;
            context.Response.ContentType = "application/json";
            await context.Response.Body.WriteAsync(Encoding.UTF8.GetBytes(body));
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);

        var failure = await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token));
        failure.Status.ShouldBe(status);
        failure.Message.ShouldContain(words);
    }

    [Fact]
    public async Task RealInitialEvents_AreAList()
    {
        var lines = await File.ReadAllTextAsync(Path.Combine(Fixture.RequireShared(), "1.36.3", "api-samples", "watch-services-sendInitialEvents.jsonl"), Token);
        await using var server = await ScriptedApiServer.StartAsync();
        var refused = true;
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services")
            {
                return false;
            }

            if (!context.Request.Query.ContainsKey("watch") && refused)
            {
                // So that the first list fails, and the next is a stream.
                refused = false;
                await ScriptedApiServer.FailAsync(context, 500, "not yet");
            }
            else if (context.Request.Query.ContainsKey("sendInitialEvents"))
            {
                await context.Response.WriteAsync(lines);
            }
            else
            {
                await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            }

            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);
        await using var live = await LiveCluster.FollowAsync(client, Token);

        for (var attempt = 0; !live.Current.Unread.IsEmpty; attempt++)
        {
            (attempt < 3000).ShouldBeTrue(string.Join(' ', live.Current.Unread));
            await Task.Delay(10, Token);
        }

        live.Current.Services.Length.ShouldBe(lines.Split('\n').TakeWhile(l => !l.Contains("k8s.io/initial-events-end", StringComparison.Ordinal)).Count(l => l.StartsWith("{\"type\":\"ADDED\"", StringComparison.Ordinal)));
    }
}
