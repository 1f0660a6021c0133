using System.Collections.Concurrent;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Tests;

namespace TraceProbe.Agent.Tests.Alerts;

/// <summary>Alerts told to an API server as Events, over HTTP.</summary>
public sealed class EventSinkTests
{
    private static readonly DateTimeOffset Noon = new(2026, 11, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly ConcurrentQueue<(string Method, string Path, string Body)> _told = [];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static Alert Alert => new()
    {
        Key = new AlertKey(FailureClass.NoReadyEndpoints, "shop/web:80", "deployment/shop/basket"),
        Node = "node-1",
        FirstSeen = Noon,
        LastSeen = Noon.AddSeconds(20),
        Count = 3,
        Attempts = 4,
        Sentence = "Service shop/web has no ready endpoint.",
        Mend = new Mend("Make the pod ready.", "kubectl -n shop rollout restart deployment/web"),
        Example = new AlertExample
        {
            Service = new ObjectReference { Kind = "Service", Namespace = "shop", Name = "web", Uid = "uid-web" },
            Pod = new ObjectReference { Kind = "Pod", Namespace = "shop", Name = "basket-1", Uid = "uid-basket" },
        },
    };

    [Fact]
    public async Task OpenedAlert_StandsAtTheServiceAndAtTheClientsPod()
    {
        await SendAsync(_ => 201, new AlertChange(AlertEvent.Opened, Alert));
        _told.Select(t => $"{t.Method} {t.Path}").ShouldBe(["POST /api/v1/namespaces/shop/events", "POST /api/v1/namespaces/shop/events"]);
        var bodies = _told.Select(t => JsonDocument.Parse(t.Body).RootElement).ToList();
        bodies.Select(b => b.GetProperty("involvedObject").GetProperty("uid").GetString()).ShouldBe(["uid-web", "uid-basket"]);
        bodies.Select(b => b.GetProperty("metadata").GetProperty("name").GetString()).ShouldBeUnique();
        var service = bodies[0];
        service.GetProperty("type").GetString().ShouldBe("Warning");
        service.GetProperty("reason").GetString().ShouldBe("NoReadyEndpoints");
        service.GetProperty("message").GetString().ShouldBe("deployment/shop/basket to shop/web:80: Service shop/web has no ready endpoint. Mend: kubectl -n shop rollout restart deployment/web");
        service.GetProperty("firstTimestamp").GetString().ShouldBe("2026-11-01T12:00:00Z");
        service.GetProperty("lastTimestamp").GetString().ShouldBe("2026-11-01T12:00:20Z");
        service.GetProperty("count").GetInt32().ShouldBe(3);
        service.GetProperty("source").GetProperty("host").GetString().ShouldBe("node-1");
        bodies[1].GetProperty("message").GetString()!.ShouldStartWith("to shop/web:80: ");
    }

    [Fact]
    public async Task AlertThatGoesOn_CountsOnWhereItStands()
    {
        await SendAsync(method => method == "POST" ? 409 : 200, new AlertChange(AlertEvent.Continues, Alert with { Count = 70 }));
        var changed = _told.Where(t => t.Method == "PATCH").ToList();
        changed.Count.ShouldBe(2);
        changed[0].Path.ShouldStartWith("/api/v1/namespaces/shop/events/web.");
        changed[0].Body.ShouldBe("""{"lastTimestamp":"2026-11-01T12:00:20Z","count":70}""");
    }

    [Fact]
    public async Task ResolvedAlert_IsToldAsSuch()
    {
        await SendAsync(_ => 201, new AlertChange(AlertEvent.Resolved, Alert with { ResolvedAt = Noon.AddMinutes(1) }));
        var last = JsonDocument.Parse(_told.ElementAt(1).Body).RootElement;
        last.GetProperty("type").GetString().ShouldBe("Normal");
        last.GetProperty("reason").GetString().ShouldBe("NoReadyEndpointsResolved");
    }

    [Fact]
    public async Task ClientThatIsANode_AndServiceThatIsGone_AreToldNothing()
    {
        await SendAsync(_ => 201, new AlertChange(AlertEvent.Opened, Alert with { Example = new AlertExample { Service = Alert.Example.Service! with { Uid = null } } }));
        _told.ShouldBeEmpty();
    }

    [Theory]
    [InlineData(404)]
    [InlineData(422)]
    public async Task NamespaceThatIsGone_KeepsNothingElseFromBeingTold(int refusal)
    {
        await using var server = await ServerAsync(_ => refusal);
        using var client = new ApiClient(server.Server);
        var queue = new SinkQueue(new EventSink(client), NullLogger.Instance);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(Token);
        var running = queue.RunAsync(ending.Token);
        queue.Add(new AlertChange(AlertEvent.Opened, Alert));
        queue.Add(new AlertChange(AlertEvent.Opened, Alert with { FirstSeen = Noon.AddHours(1) }));
        for (var i = 0; queue.Failed < 2; i++)
        {
            i.ShouldBeLessThan(200);
            await Task.Delay(50, Token);
        }

        _told.Select(t => t.Body).ShouldBeUnique();
        await ending.CancelAsync();
        await running;
    }

    private async Task SendAsync(Func<string, int> status, AlertChange change)
    {
        await using var server = await ServerAsync(status);
        using var client = new ApiClient(server.Server);
        await new EventSink(client).SendAsync(change, Token);
    }

    private async Task<ScriptedApiServer> ServerAsync(Func<string, int> status)
    {
        var server = await ScriptedApiServer.StartAsync();
        server.Instead = async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            _told.Enqueue((context.Request.Method, context.Request.Path.Value!, await reader.ReadToEndAsync(context.RequestAborted)));
            context.Response.StatusCode = status(context.Request.Method);
            await context.Response.Body.WriteAsync("{}"u8.ToArray(), context.RequestAborted);
            return true;
        };
        return server;
    }
}
