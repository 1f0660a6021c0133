using System.Buffers;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading.RateLimiting;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using TraceProbe.Agent.Baselines;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Api;

/// <summary>By which door somebody came in: it says who they are.</summary>
internal enum ApiDoor
{
    /// <summary>The unix socket, which only the node's root can open.</summary>
    Socket,

    /// <summary>TLS, with a bearer token.</summary>
    Tls,

    /// <summary>The port of probes and metrics, open to anybody.</summary>
    Open,
}

/// <summary>
/// What an agent can be asked over HTTP: health and metrics in plain HTTP; alerts, failures, baselines and sessions over TLS with a token of the cluster, or over a unix
/// socket. Every refusal is a <see cref="Refusal"/>.
/// </summary>
internal static class AgentApi
{
    private const int MostRequestsPerSecond = 50;

    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(5);
    private static readonly AccessAsked Watch = new("get", "pods/log");

    /// <summary>Adds what the API needs, and opens its doors when the host starts.</summary>
    public static void AddAgentApi(this WebApplicationBuilder builder, AgentSettings settings, ApiCertificate? certificate)
    {
        var services = builder.Services;
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = 64 * 1024;
            kestrel.Limits.MaxConcurrentConnections = 200;
            kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
            kestrel.Limits.KeepAliveTimeout = TimeSpan.FromSeconds(30);
            if (settings.SocketPath is { } socket)
            {
                // What a crash left; a socket in use is another's file as soon as this one is made.
                File.Delete(socket);
                kestrel.ListenUnixSocket(socket, listen => listen.ComesBy(ApiDoor.Socket));
            }

            if (settings.Metrics is { } metrics && ApiSettings.TryParse(metrics, out var open))
            {
                kestrel.Listen(open, listen => listen.ComesBy(ApiDoor.Open));
            }

            if (certificate is not null && ApiSettings.TryParse(settings.Api.Listen!, out var address))
            {
                kestrel.Listen(address, listen =>
                {
                    listen.ComesBy(ApiDoor.Tls);
                    listen.UseHttps(https => https.ServerCertificateSelector = (_, _) => certificate.Current);
                });
            }
        });
        services.AddRouting();
        services.Configure<RouteHandlerOptions>(routes => routes.ThrowOnBadRequest = true);
        services.AddOpenApi("v1", api =>
        {
            api.AddDocumentTransformer((document, _, _) =>
            {
                document.Info.Title = "TraceProbe agent";
                document.Info.Description = "What a node's agent sees of the connections to the cluster's Services. Bearer tokens of the cluster, or the node's root over the unix socket.";
                document.Servers?.Clear();
                return Task.CompletedTask;
            });
        });
        services.ConfigureHttpJsonOptions(json =>
        {
            json.SerializerOptions.TypeInfoResolverChain.Insert(0, AgentJson.Default);
            json.SerializerOptions.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull;
            json.SerializerOptions.UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow;
        });
        services.AddRateLimiter(limits =>
        {
            limits.RejectionStatusCode = StatusCodes.Status429TooManyRequests;
            limits.OnRejected = async (context, _) => await RefuseAsync(context.HttpContext, new Refusal(429, $"More than {MostRequestsPerSecond} requests in a second.")).ConfigureAwait(false);
            limits.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, ApiDoor>(context => RateLimitPartition.GetFixedWindowLimiter(DoorOf(context),
                _ => new FixedWindowRateLimiterOptions { PermitLimit = MostRequestsPerSecond, Window = TimeSpan.FromSeconds(1) }));
        });
    }

    /// <summary>Says what is answered where.</summary>
    public static void MapAgentApi(this WebApplication app)
    {
        app.UseRateLimiter();
        app.Use(async (context, next) =>
        {
            try
            {
                // Only probes and metrics are for everybody.
                if (DoorOf(context) == ApiDoor.Open != IsForAll(context.Request.Path) && !(DoorOf(context) == ApiDoor.Socket && IsForAll(context.Request.Path)))
                {
                    await RefuseAsync(context, new Refusal(404, "There is no such thing here; /openapi/v1.json lists what there is, on the API's own address.")).ConfigureAwait(false);
                    return;
                }

                await next(context).ConfigureAwait(false);
            }
            catch (Microsoft.AspNetCore.Http.BadHttpRequestException e)
            {
                await RefuseAsync(context, new Refusal(e.StatusCode, e.InnerException is JsonException inner ? $"The body cannot be read: {inner.Message}" : e.Message)).ConfigureAwait(false);
            }
#pragma warning disable CA1031 // Nobody else would tell of it: neither whoever asked nor whoever runs the agent.
            catch (Exception e) when (e is not OperationCanceledException)
#pragma warning restore CA1031
            {
                context.RequestServices.GetRequiredService<NodeAgent>().CouldNotAnswer(context.Request.Path, e);
                await RefuseAsync(context, new Refusal(500, e.Message)).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
            {
                // Whoever asked has left.
            }
        });
        app.UseStatusCodePages(async context =>
        {
            var status = context.HttpContext.Response.StatusCode;
            await RefuseAsync(context.HttpContext, new Refusal(status, status switch
            {
                404 => "There is no such thing here; /openapi/v1.json lists what there is.",
                405 => $"This is not asked for with {context.HttpContext.Request.Method}.",
                415 => "The body is to be JSON: Content-Type: application/json.",
                _ => "It cannot be answered.",
            })).ConfigureAwait(false);
        });
        app.UseRouting();

        app.MapGet("/healthz", (NodeAgent agent) => agent.IsAlive ? Results.Text("ok\n") : Results.Text("it has not judged anything for too long\n", statusCode: 503)).ExcludeFromDescription();
        app.MapGet("/readyz", (NodeAgent agent) => agent.IsWatching ? Results.Text("ok\n") : Results.Text("it does not watch yet\n", statusCode: 503)).ExcludeFromDescription();
        app.MapGet("/metrics", (AgentMetrics metrics) => Results.Text(metrics.ToPrometheusText(), PrometheusText.ContentType)).ExcludeFromDescription();
        app.MapOpenApi("/openapi/{documentName}.json");

        var v1 = app.MapGroup("/v1");
        v1.MapGet("/agent", (NodeAgent agent) => TypedResults.Ok(agent.Message)).Needs(_ => Watch)
            .WithSummary("How this agent is: its node, its places, what it lost.");
        v1.MapGet("/alerts", (NodeAgent agent) => TypedResults.Ok(agent.OpenAlerts)).Needs(_ => Watch)
            .WithSummary("The alerts that are open.");
        v1.MapGet("/failures", (NodeAgent agent) => TypedResults.Ok(agent.RecentFailures)).Needs(_ => Watch)
            .WithSummary("The last connections that were diagnosed, the newest first.");
        v1.MapGet("/live", LiveAsync).Needs(_ => Watch).Produces<LiveMessage>(contentType: "application/x-ndjson")
            .WithSummary("Failures and changes of alerts as they happen, one JSON object a line.");
        v1.MapGet("/recordings", (FailureFiles files) => TypedResults.Ok(files.Names())).Needs(_ => Watch)
            .WithSummary("The recordings of failures that are kept, the newest first.");
        v1.MapGet("/recordings/{name}", Results<PhysicalFileHttpResult, JsonHttpResult<Refusal>> (string name, FailureFiles files) => files.PathOf(name) is { } path
                ? TypedResults.PhysicalFile(path, "application/octet-stream", name) : Refused(404, "There is no such recording; it may have been replaced by newer ones.")).Needs(_ => Watch)
            .WithSummary("A recording, for 'traceprobe replay'.");
        v1.MapGet("/baselines", (AgentSettings settings) => TypedResults.Ok(LearnedBaselines.Read(settings.BaselineFolder))).Needs(_ => Watch)
            .WithSummary("What healthy looks like for each client and Service, as of the last ten seconds.");

        v1.MapPost("/sessions", Results<Created<SessionMessage>, JsonHttpResult<Refusal>> (SessionRequest request, AgentSessions sessions)
                => sessions.Start(request, out var refusal) is { } session ? TypedResults.Created($"/v1/sessions/{session.Id}", session.Message) : Refused(refusal!.Status, refusal.Error))
            .NeedsOf<SessionRequest>(NeededFor)
            .WithSummary("Begins a session: makes a request from a pod and follows it, or follows what others send to some addresses.");
        v1.MapGet("/sessions", (AgentSessions sessions) => TypedResults.Ok<IReadOnlyList<SessionMessage>>([.. sessions.All.Select(s => s.Message with { Id = s.Id[..8] + "…" })])).Needs(_ => Watch)
            .WithSummary("The sessions of the last minutes. A session's whole name is only told to who began it.");
        v1.MapGet("/sessions/{id}", Results<Ok<SessionMessage>, JsonHttpResult<Refusal>> (string id, AgentSessions sessions) => sessions.Find(id) is { } session ? TypedResults.Ok(session.Message) : NoSession())
            .Needs(_ => Watch).WithSummary("How a session is.");
        v1.MapGet("/sessions/{id}/live", SessionLiveAsync).Needs(_ => Watch).Produces<SessionMessage>(contentType: "application/x-ndjson")
            .WithSummary("How a session is, one JSON object a line whenever that changes, until it is over.");
        v1.MapPost("/sessions/{id}/stop", Results<Ok<SessionMessage>, JsonHttpResult<Refusal>> (string id, AgentSessions sessions) =>
            {
                sessions.Find(id)?.Stop();
                return sessions.Find(id) is { } session ? TypedResults.Ok(session.Message) : NoSession();
            })
            .Needs(_ => Watch).WithSummary("Ends a session; what it saw so far can be fetched.");
        v1.MapDelete("/sessions/{id}", Results<NoContent, JsonHttpResult<Refusal>> (string id, AgentSessions sessions) =>
            {
                if (sessions.Find(id) is not { } session)
                {
                    return NoSession();
                }

                sessions.Remove(session);
                return TypedResults.NoContent();
            })
            .Needs(_ => Watch).WithSummary("Cancels a session, and forgets what it found.");
        v1.MapGet("/sessions/{id}/recording", Results<PhysicalFileHttpResult, JsonHttpResult<Refusal>> (string id, AgentSessions sessions) => sessions.Find(id) switch
            {
                null => NoSession(),
                { IsOver: false } => Refused(409, "It is not over yet."),
                var session when File.Exists(session.RecordingPath) => TypedResults.PhysicalFile(session.RecordingPath, "application/octet-stream", "session" + RecordingArchive.Extension),
                var session => Refused(404, session.Message.Error ?? "It has no recording."),
            })
            .Needs(_ => Watch).WithSummary("What a session saw, for 'traceprobe replay'.");
    }

    private static JsonHttpResult<Refusal> NoSession() => Refused(404, "There is no such session; they are forgotten after ten minutes.");

    private static JsonHttpResult<Refusal> Refused(int status, string error) => TypedResults.Json(new Refusal(status, error), AgentJson.Default.Refusal, statusCode: status);

    // Whoever has the agent send something from a pod could as well do it by 'kubectl exec' (a node: by a pod there, which takes the node's proxy).
    private static AccessAsked NeededFor(SessionRequest request) => request switch
    {
        { Url: null } => Watch,
        { From: { } from } when from.Split('/') is ["pod", var ns, var name] => new AccessAsked("create", "pods/exec", ns, name),
        { From: { } from } when from.Split('/') is ["node", var name] => new AccessAsked("create", "nodes/proxy", null, name),
        _ => new AccessAsked("create", "nodes/proxy"),
    };

    private static async Task LiveAsync(HttpContext context, NodeAgent agent)
    {
        using var listener = agent.Feed.Listen();
        if (listener is null)
        {
            await RefuseAsync(context, new Refusal(429, $"{LiveFeed.MostListeners} listen already.")).ConfigureAwait(false);
            return;
        }

        context.Response.ContentType = "application/x-ndjson";
        foreach (var alert in agent.OpenAlerts)
        {
            await LineAsync(context, new LiveMessage { Alert = alert }).ConfigureAwait(false);
        }

        await LineAsync(context, new LiveMessage { Now = TimeProvider.System.GetUtcNow() }).ConfigureAwait(false);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, agent.Stopping);
        while (!ending.IsCancellationRequested)
        {
            try
            {
                await LineAsync(context, await listener.NextAsync(Heartbeat, ending.Token).ConfigureAwait(false)).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private static async Task SessionLiveAsync(string id, HttpContext context, AgentSessions sessions, NodeAgent agent)
    {
        if (sessions.Find(id) is not { } session)
        {
            await RefuseAsync(context, NoSession().Value!).ConfigureAwait(false);
            return;
        }

        context.Response.ContentType = "application/x-ndjson";
        SessionMessage? told = null;
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, agent.Stopping);
        try
        {
            do
            {
                told = await session.ChangedAsync(told, ending.Token).ConfigureAwait(false);
                await WriteLineAsync(context, JsonSerializer.SerializeToUtf8Bytes(told, AgentJson.Default.SessionMessage)).ConfigureAwait(false);
            }
            while (told.State is not ("done" or "failed" or "cancelled"));
        }
        catch (OperationCanceledException)
        {
            // Whoever listened has left, or the agent ends.
        }
    }

    private static Task LineAsync(HttpContext context, LiveMessage message) => WriteLineAsync(context, JsonSerializer.SerializeToUtf8Bytes(message, AgentJson.Default.LiveMessage));

    private static async Task WriteLineAsync(HttpContext context, byte[] json)
    {
        context.Response.BodyWriter.Write(json);
        context.Response.BodyWriter.Write("\n"u8);
        await context.Response.BodyWriter.FlushAsync(context.RequestAborted).ConfigureAwait(false);
    }

    private static async Task RefuseAsync(HttpContext context, Refusal refusal)
    {
        if (context.Response.HasStarted)
        {
            return;
        }

        context.Response.StatusCode = refusal.Status;
        if (refusal.Status == StatusCodes.Status401Unauthorized)
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
        }

        await context.Response.WriteAsJsonAsync(refusal, AgentJson.Default.Refusal, cancellationToken: context.RequestAborted).ConfigureAwait(false);
    }

    private static bool IsForAll(PathString path) => path == "/healthz" || path == "/readyz" || path == "/metrics";

    private static ApiDoor DoorOf(HttpContext context) => context.Features.Get<Door>()!.Kind;

    private static RouteHandlerBuilder Needs(this RouteHandlerBuilder route, Func<HttpContext, AccessAsked> needed) => route
        .Produces<Refusal>(401).Produces<Refusal>(403)
        .AddEndpointFilter(async (context, next) => await RefusalOfAsync(context.HttpContext, needed(context.HttpContext)).ConfigureAwait(false) is { } refusal ? TypedResults.Json(refusal, AgentJson.Default.Refusal, statusCode: refusal.Status) : await next(context).ConfigureAwait(false));

    private static RouteHandlerBuilder NeedsOf<T>(this RouteHandlerBuilder route, Func<T, AccessAsked> needed) => route
        .Produces<Refusal>(400).Produces<Refusal>(401).Produces<Refusal>(403).Produces<Refusal>(429)
        .AddEndpointFilter(async (context, next) => await RefusalOfAsync(context.HttpContext, needed(context.Arguments.OfType<T>().First())).ConfigureAwait(false) is { } refusal ? TypedResults.Json(refusal, AgentJson.Default.Refusal, statusCode: refusal.Status) : await next(context).ConfigureAwait(false));

    private static async Task<Refusal?> RefusalOfAsync(HttpContext context, AccessAsked asked)
    {
        if (DoorOf(context) == ApiDoor.Socket)
        {
            return null;
        }

        var header = context.Request.Headers.Authorization.ToString();
        var token = header.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase) ? header["Bearer ".Length..].Trim() : null;
        return await context.RequestServices.GetRequiredService<ApiAccess>().RefuseAsync(token, asked, context.RequestAborted).ConfigureAwait(false);
    }

    private static void ComesBy(this ListenOptions listen, ApiDoor door) => listen.Use(next => connection =>
    {
        connection.Features.Set(new Door(door));
        return next(connection);
    });

    private sealed record Door(ApiDoor Kind);
}
