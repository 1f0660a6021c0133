using System.Collections.Immutable;
using System.Globalization;
using Microsoft.AspNetCore.Http;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;
using Trouble = TraceProbe.Tests.ScriptedApiServer.Trouble;

namespace TraceProbe.Cluster.Tests.Api;

/// <summary>What becomes of the desired account while connections break, versions are forgotten and permissions are missing.</summary>
public class LiveClusterTests
{
    private static readonly ApiClientOptions Impatient = new()
    {
        PageSize = 7,
        RequestsPerSecond = 100_000,
        FirstPause = TimeSpan.FromMilliseconds(1),
        LongestPause = TimeSpan.FromMilliseconds(20),
        Silence = TimeSpan.FromMilliseconds(150),
    };

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("v1", "/apis/discovery.k8s.io/v1/endpointslices")]
    [InlineData("v1beta1", "/apis/discovery.k8s.io/v1beta1/endpointslices")]
    [InlineData("", "/api/v1/endpoints")]
    public async Task OlderServer_EndpointsAreReadAsItHasThem(string versions, string path)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.SliceVersions = versions.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        server.Put(path, new ObjectMeta { Namespace = "default", Name = "web" }, version => System.Text.Encoding.UTF8.GetBytes(path.EndsWith("endpoints", StringComparison.Ordinal)
            ? $$"""{"metadata":{"name":"web","namespace":"default","resourceVersion":"{{version}}"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}"""
            : $$"""{"metadata":{"name":"web-x","namespace":"default","resourceVersion":"{{version}}","labels":{"kubernetes.io/service-name":"web"} },"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":80}]}"""));
        using var client = new ApiClient(server.Server, Impatient);

        var cluster = await LiveCluster.ReadAsync(client, Token);

        cluster.EndpointSlices.ShouldHaveSingleItem().Endpoints.ShouldHaveSingleItem().Addresses.ShouldBe(["10.0.0.1"]);
        cluster.EndpointSlices[0].ServiceName.ShouldBe("web");
        cluster.Unread.ShouldBeEmpty();
        cluster.AlsoRead.ShouldBe(["namespaces", "networkpolicies", "events"]);
        server.Requests.ShouldContain(r => r.StartsWith(path + "?", StringComparison.Ordinal));
    }

    [Fact]
    public async Task ForbiddenKind_IsToldAndTheRestIsThere()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 20);
        server.Instead = Refuse(path => path.EndsWith("/pods", StringComparison.Ordinal) || path.EndsWith("/networkpolicies", StringComparison.Ordinal));
        using var client = new ApiClient(server.Server, Impatient);

        var cluster = await LiveCluster.ReadAsync(client, Token);

        cluster.Services.Length.ShouldBe(20);
        cluster.IsRead("services").ShouldBeTrue();
        cluster.IsRead("networkpolicies").ShouldBeFalse();
        cluster.Unread.Select(u => u.What).ShouldBe(["pods", "networkpolicies"]);
        cluster.Unread[0].Why.ShouldContain("pods is forbidden: User \"reader\" cannot list resource \"pods\"");
    }

    [Fact]
    public async Task ConfigMaps_AreReadByNameAndAgain_AndStayKnownWhileTheServerHasTrouble()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 2);
        var (answer, asked) = ((Status: 200, Version: 1, Cidr: "10.244.0.0/16"), 0);
        server.Instead = async context =>
        {
            if (!context.Request.Path.Value!.EndsWith("/configmaps/kube-proxy", StringComparison.Ordinal))
            {
                return false;
            }

            context.Request.Path.Value.ShouldBe("/api/v1/namespaces/kube-system/configmaps/kube-proxy");
            Interlocked.Increment(ref asked);
            context.Response.StatusCode = answer.Status;
            await context.Response.WriteAsync($$$"""{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"kube-proxy","namespace":"kube-system","resourceVersion":"{{{answer.Version}}}"},"data":{"config.conf":"kind: KubeProxyConfiguration\nclusterCIDR: {{{answer.Cidr}}}\n"}}""", Token);
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient with { SettingsPeriod = TimeSpan.FromMilliseconds(10), Attempts = 1 });
        await using var live = await LiveCluster.FollowAsync(client, Token);
        live.Current.Settings.KubeProxy!.ClusterCidrs.ShouldBe(["10.244.0.0/16"]);
        var before = live.Current;
        await AskedAgain();
        live.Current.Settings.ShouldBeSameAs(before.Settings, "nothing has changed");

        answer = (200, 2, "10.1.0.0/16");
        await UntilAsync(() => live.Current.Settings.KubeProxy?.ClusterCidrs[0] == "10.1.0.0/16", "a changed one is read");
        answer = (500, 3, "");
        await AskedAgain();
        live.Current.Settings.KubeProxy!.ClusterCidrs.ShouldBe(["10.1.0.0/16"]);
        answer = (200, 4, "[");
        await UntilAsync(() => live.Current.Unread.Any(u => u.What == "configmap/kube-system/kube-proxy"), "a broken one is told");
        live.Current.Settings.KubeProxy.ShouldBeNull("what it says now is not known");
        answer = (404, 5, "");
        await UntilAsync(() => live.Current.Unread.IsEmpty, "one that is gone is nothing to tell");

        async Task AskedAgain()
        {
            var so = Volatile.Read(ref asked);
            await UntilAsync(() => Volatile.Read(ref asked) > so + 2, "it is read again");
        }
    }

    [Fact]
    public async Task OnlyOneNamespaceAllowed_ItIsReadAndFollowed_AndTheRestNamedAsUnread()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 20);
        var refuse = Refuse(path => !path.Contains("/namespaces/default/", StringComparison.Ordinal) && path != "/apis/discovery.k8s.io");
        server.Instead = async context =>
        {
            if (await refuse(context))
            {
                return true;
            }

            // The script has its objects in one namespace.
            context.Request.Path = context.Request.Path.Value!.Replace("/namespaces/default", "", StringComparison.Ordinal);
            return false;
        };
        using var client = new ApiClient(server.Server, Impatient);

        await using var live = await LiveCluster.FollowAsync(client, Token);

        live.Current.Services.Length.ShouldBe(20);
        live.Current.Unread.Select(u => u.What).ShouldBe(["services", "endpointslices", "pods", "nodes", "namespaces", "networkpolicies", "events"]);
        live.Current.Unread[0].Why.ShouldStartWith("Only those of namespace default may be read: services is forbidden");
        server.Put(new Service { Metadata = new ObjectMeta { Name = "newcomer", Namespace = "default" } });
        await UntilAsync(() => live.Current.FindService("default", "newcomer") is not null, "what is new is seen");
        live.Current.Unread[0].Why.ShouldStartWith("Only those of namespace default");
    }

    [Fact]
    public async Task EverythingForbidden_SaysWhatToGrant()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = Refuse(_ => true);
        using var client = new ApiClient(server.Server, Impatient);

        var failure = await Should.ThrowAsync<ApiException>(() => LiveCluster.ReadAsync(client, Token));

        failure.Message.ShouldContain("services is forbidden");
        failure.Message.ShouldContain("bind its user to a ClusterRole");
    }

    [Fact]
    public async Task VersionForgottenBetweenTwoPages_ListBeginsAnew()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 20);
        var once = 0;
        server.Instead = context =>
        {
            if (context.Request.Path == "/api/v1/services" && context.Request.Query.ContainsKey("continue") && Interlocked.Exchange(ref once, 1) == 0)
            {
                server.Put(ServiceOf(99, 0));
                server.Compact();
            }

            return Task.FromResult(false);
        };
        using var client = new ApiClient(server.Server, Impatient);

        var cluster = await LiveCluster.ReadAsync(client, Token);

        cluster.Services.Length.ShouldBe(21);
        server.Requests.Count(r => r == "/api/v1/services?limit=7").ShouldBe(2);
    }

    [Theory]
    [InlineData(429, "0")]
    [InlineData(503, null)]
    [InlineData(500, null)]
    [InlineData(504, "0")]
    public async Task ServerInTrouble_IsAskedAgain(int status, string? retryAfter)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 3);
        var failures = 0;
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services" || Interlocked.Increment(ref failures) > 2)
            {
                return false;
            }

            await ScriptedApiServer.FailAsync(context, status, "not now", retryAfter);
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);

        (await LiveCluster.ReadAsync(client, Token)).Services.Length.ShouldBe(3);
    }

    [Fact]
    public async Task ServerThatWantsToBeLeftAlone_IsLeftAloneForThatLong()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        var times = new List<long>();
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services")
            {
                return false;
            }

            times.Add(TimeProvider.System.GetTimestamp());
            if (times.Count > 1)
            {
                return false;
            }

            await ScriptedApiServer.FailAsync(context, 429, "too many requests, please try again later", "1");
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient with { LongestPause = TimeSpan.FromSeconds(10) });

        await LiveCluster.ReadAsync(client, Token);

        TimeProvider.System.GetElapsedTime(times[0], times[1]).ShouldBeGreaterThanOrEqualTo(TimeSpan.FromMilliseconds(999), "Retry-After: 1");
    }

    [Theory]
    [InlineData("""{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}},{"metadata":""")]
    [InlineData("""{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":3}}]}""")]
    [InlineData("""{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[}]}""")]
    [InlineData("""{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{}}]}""")]
    [InlineData("<html>Please log in</html>")]
    [InlineData("")]
    public async Task MalformedList_KindIsUnreadAndTheRestGoesOn(string body)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 3);
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services")
            {
                return false;
            }

            await context.Response.WriteAsync(body);
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);

        var cluster = await LiveCluster.ReadAsync(client, Token);

        cluster.Pods.Length.ShouldBe(3);
        cluster.Unread.ShouldHaveSingleItem().What.ShouldBe("services");
    }

    [Fact]
    public async Task EndlessObject_IsNotTaken()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = async context =>
        {
            if (context.Request.Path != "/api/v1/services")
            {
                return false;
            }

            await context.Response.WriteAsync("""{"items":[{"metadata":{"name":"a","labels":{"x":" """);
            var chunk = new string('x', 64 * 1024);
            while (!context.RequestAborted.IsCancellationRequested)
            {
                await context.Response.WriteAsync(chunk);
            }

            return true;
        };
        using var client = new ApiClient(server.Server, Impatient with { LargestObject = 1 << 20 });

        (await LiveCluster.ReadAsync(client, Token)).Unread.ShouldHaveSingleItem().Why.ShouldContain("more than 1 MB");
    }

    [Fact]
    public async Task MoreObjectsThanBearable_AreNotTaken()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 30);
        using var client = new ApiClient(server.Server, Impatient with { MostObjects = 25 });

        (await LiveCluster.ReadAsync(client, Token)).Unread.Select(u => u.Why).ShouldBe(["There are more than 25 services.", "There are more than 25 endpointslices.", "There are more than 25 pods."]);
    }

    [Fact]
    public async Task NothingChanges_SnapshotStaysTheSame_AndAChangeTouchesItsKindOnly()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 20);
        using var client = new ApiClient(server.Server, Impatient with { Silence = TimeSpan.FromMinutes(1) });
        await using var live = await LiveCluster.FollowAsync(client, Token);
        var before = live.Current;
        live.Current.ShouldBeSameAs(before);

        server.Put(ServiceOf(3, 1));
        await UntilAsync(() => !ReferenceEquals(live.Current, before), "the change arrives");

        live.Current.FindService("ns-0", "web-3")!.Spec.Ports[0].Port.ShouldBe(1);
        live.Current.Pods.ShouldBe(before.Pods);
        before.FindService("ns-0", "web-3")!.Spec.Ports[0].Port.ShouldBe(8000, "a snapshot does not change");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task DeletedWhileNobodyWatched_IsGoneAfterTheNextList(bool streams)
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.StreamsLists = streams;
        Fill(server, 20);
        using var client = new ApiClient(server.Server, Impatient with { Silence = TimeSpan.FromMinutes(1) });
        await using var live = await LiveCluster.FollowAsync(client, Token);
        await UntilAsync(() => server.Watches == 7, "all kinds are watched");

        // The server ends all watches, and forgets what happens next.
        server.TroubleOfWatch = () => (Trouble.End, 0);
        server.Put(ServiceOf(1, 1));
        server.Delete("/api/v1/services", ServiceOf(7, 0).Metadata).ShouldBeTrue();
        server.Compact();
        server.Bookmark();
        server.TroubleOfWatch = () => null;

        await UntilAsync(() => live.Current.FindService("ns-1", "web-7") is null && live.Current.Services.Length == 19, "the deletion is seen");
        Same(live.Current, await FreshAsync(server)).ShouldBeNull();
        server.Requests.Any(r => r.Contains("sendInitialEvents=true", StringComparison.Ordinal)).ShouldBeTrue("a server that can stream lists is asked to");
    }

    [Fact]
    public async Task Bookmark_IsWhereAWatchGoesOn()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 3);
        using var client = new ApiClient(server.Server, Impatient with { Silence = TimeSpan.FromMilliseconds(300) });
        await using var live = await LiveCluster.FollowAsync(client, Token);
        await UntilAsync(() => server.Watches == 7, "all kinds are watched");

        // Only pods change; the bookmark tells the watch of services that it has missed nothing.
        server.Put(PodOf(1, 5));
        server.Bookmark();
        await UntilAsync(() => server.Requests.Any(r => r.StartsWith("/api/v1/services?watch=1", StringComparison.Ordinal) && r.Contains("resourceVersion=110&", StringComparison.Ordinal)),
            $"a silent watch goes on at the bookmark's version: {string.Join(' ', server.Requests.Where(r => r.Contains("services?watch", StringComparison.Ordinal)))}");
        server.Requests.Count(r => r.StartsWith("/api/v1/services?limit", StringComparison.Ordinal)).ShouldBe(1, "nothing is listed again");
    }

    [Fact]
    public async Task PermissionTakenAway_IsToldWhileTheRestIsFollowed()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 3);
        using var client = new ApiClient(server.Server, Impatient);
        await using var live = await LiveCluster.FollowAsync(client, Token);
        live.Current.Unread.ShouldBeEmpty();

        server.Instead = Refuse(path => path == "/api/v1/pods");
        await UntilAsync(() => live.Current.Unread.Any(u => u.What == "pods" && u.Why.StartsWith("They are no longer followed: pods is forbidden", StringComparison.Ordinal)), "it is told");
        server.Put(ServiceOf(2, 2));
        await UntilAsync(() => live.Current.FindService("ns-2", "web-2")!.Spec.Ports[0].Port == 2, "the rest goes on");

        server.Instead = _ => Task.FromResult(false);
        await UntilAsync(() => live.Current.Unread.IsEmpty, "and once it is given back, all is well");
    }

    [Fact]
    public async Task Following_EndsWhenToldTo()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        Fill(server, 3);
        using var client = new ApiClient(server.Server);
        await using (await LiveCluster.FollowAsync(client, Token))
        {
            await UntilAsync(() => server.Watches == 7, "all kinds are watched");
        }

        await UntilAsync(() => server.Watches == 0, "nothing is left behind");
    }

    // $TRACEPROBE_BROKEN_WATCHES for more of them: 10000 take some minutes.
    [Theory]
    [InlineData(false, 1)]
    [InlineData(true, 2)]
    public async Task BrokenWatches_SnapshotIsRightInTheEnd(bool streams, int seed)
    {
        var count = int.TryParse(Environment.GetEnvironmentVariable("TRACEPROBE_BROKEN_WATCHES"), CultureInfo.InvariantCulture, out var asked) ? asked / 2 : 150;
        var random = new Random(seed);
        await using var server = await ScriptedApiServer.StartAsync();
        server.StreamsLists = streams;
        Fill(server, 25);
        var broken = 0;
        var healthy = false;
        server.TroubleOfWatch = () =>
        {
            lock (random)
            {
                return healthy ? null : (++broken is var _ ? random.Next(20) == 0 ? Trouble.Silence : (Trouble)random.Next(6) : default, random.Next(3000));
            }
        };
        server.Instead = async context =>
        {
            int dice;
            lock (random)
            {
                dice = healthy ? 100 : random.Next(100);
            }

            if (dice >= 12)
            {
                return false;
            }

            if (dice < 4)
            {
                context.Abort();
                return true;
            }

            await ScriptedApiServer.FailAsync(context, dice < 6 ? 410 : dice < 8 ? 429 : dice < 10 ? 500 : 403, "as the dice fell", dice == 6 ? "0" : null);
            return true;
        };
        using var client = new ApiClient(server.Server, Impatient);
        LiveCluster? followed = null;
        while (followed is null)
        {
            try
            {
                followed = await LiveCluster.FollowAsync(client, Token);
            }
            catch (ApiException)
            {
                // The dice refused everything.
            }
        }

        await using var live = followed;
        while (broken < count)
        {
            Token.ThrowIfCancellationRequested();
            int which, what;
            lock (random)
            {
                (which, what) = (random.Next(40), random.Next(100));
            }

            switch (what)
            {
                case < 40:
                    server.Put(ServiceOf(which, what));
                    break;
                case < 60:
                    server.Put(PodOf(which, what));
                    break;
                case < 70:
                    server.Put(SliceOf(which, what));
                    break;
                case < 80:
                    server.Delete("/api/v1/services", ServiceOf(which, 0).Metadata);
                    break;
                case < 90:
                    server.Delete("/api/v1/pods", PodOf(which, 0).Metadata);
                    break;
                case < 93:
                    server.Compact();
                    break;
                default:
                    server.Bookmark();
                    break;
            }

            await Task.Delay(1, Token);
        }

        lock (random)
        {
            healthy = true;
        }

        server.Bookmark();
        var fresh = await FreshAsync(server);
        await UntilAsync(() => Same(live.Current, fresh) is null && live.Current.Unread.IsEmpty, () => Same(live.Current, fresh) ?? string.Join("; ", live.Current.Unread));
        live.Counts.Lists.ShouldBeGreaterThan(7, "lists were taken anew");
        live.Counts.Changes.ShouldBeGreaterThan(0, "and changes came by watches");
    }

    private static Func<HttpContext, Task<bool>> Refuse(Func<string, bool> which) => async context =>
    {
        var path = context.Request.Path.Value!;
        if (!which(path) || path == "/apis/discovery.k8s.io")
        {
            return false;
        }

        var kind = path[(path.LastIndexOf('/') + 1)..];
        await ScriptedApiServer.FailAsync(context, 403, $"{kind} is forbidden: User \"reader\" cannot list resource \"{kind}\" in API group \"\" at the cluster scope");
        return true;
    };

    private static void Fill(ScriptedApiServer server, int count)
    {
        for (var i = 0; i < count; i++)
        {
            server.Put(ServiceOf(i, 8000));
            server.Put(PodOf(i, 0));
            server.Put(SliceOf(i, 0));
        }

        server.Put(new Node { Metadata = new ObjectMeta { Name = "node-1" } });
    }

    private static Service ServiceOf(int i, int port) => new()
    {
        Metadata = new ObjectMeta { Name = $"web-{i}", Namespace = $"ns-{i % 3}", Uid = $"s-{i}" },
        Spec = new ServiceSpec { ClusterIP = $"10.96.0.{i}", Selector = ImmutableSortedDictionary<string, string>.Empty.Add("app", $"web-{i}"), Ports = [new ServicePort { Port = port == 0 ? 8000 : port, TargetPort = 80 }] },
    };

    private static Pod PodOf(int i, int restarts) => new()
    {
        Metadata = new ObjectMeta { Name = $"web-{i}-x", Namespace = $"ns-{i % 3}", Uid = $"p-{i}" },
        Spec = new PodSpec { NodeName = "node-1", Containers = [new Container { Name = "web" }] },
        Status = new PodStatus { Phase = "Running", PodIP = $"10.244.0.{i}", ContainerStatuses = [new ContainerStatus { Name = "web", RestartCount = restarts }] },
    };

    private static EndpointSlice SliceOf(int i, int port) => new()
    {
        Metadata = new ObjectMeta { Name = $"web-{i}-abc", Namespace = $"ns-{i % 3}", Labels = ImmutableSortedDictionary<string, string>.Empty.Add(EndpointSlice.ServiceNameLabel, $"web-{i}") },
        Endpoints = [new Core.Cluster.Endpoint { Addresses = [$"10.244.0.{i}"] }],
        Ports = [new EndpointPort { Port = port + 80 }],
    };

    private static async Task<ClusterSnapshot> FreshAsync(ScriptedApiServer server)
    {
        using var client = new ApiClient(server.Server, Impatient);
        return await LiveCluster.ReadAsync(client, Token);
    }

    // The first difference, object by object in the order of their names; null when there is none.
    private static string? Same(ClusterSnapshot left, ClusterSnapshot right)
        => FilledObject.Difference(left.Services.OrderBy(s => s.Metadata.Name).ToArray(), right.Services.OrderBy(s => s.Metadata.Name).ToArray(), "services")
            ?? FilledObject.Difference(left.Pods.OrderBy(s => s.Metadata.Name).ToArray(), right.Pods.OrderBy(s => s.Metadata.Name).ToArray(), "pods")
            ?? FilledObject.Difference(left.EndpointSlices.OrderBy(s => s.Metadata.Name).ToArray(), right.EndpointSlices.OrderBy(s => s.Metadata.Name).ToArray(), "slices")
            ?? FilledObject.Difference(left.Nodes.ToArray(), right.Nodes.ToArray(), "nodes");

    private static Task UntilAsync(Func<bool> condition, string what) => UntilAsync(condition, () => what);

    // Not how fast, but that it comes to it; a minute is for machines that are busy with other things.
    private static async Task UntilAsync(Func<bool> condition, Func<string> what)
    {
        for (var attempt = 0; !condition(); attempt++)
        {
            (attempt < 6000).ShouldBeTrue(what());
            await Task.Delay(10, Token);
        }
    }
}
