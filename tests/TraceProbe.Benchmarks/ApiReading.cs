using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Tests;

namespace TraceProbe.Benchmarks;

/// <summary>
/// A large cluster read from an API server over HTTP, and followed: 10,000 Services with five endpoints each, 20,000 Pods of about 4 KB. The
/// server is a process of its own, so that what is measured is the reader alone.
/// </summary>
internal static class ApiReading
{
    private const int Services = 10_000;
    private const int Endpoints = 5;
    private const int Pods = 20_000;
    private const int ChangesPerSecond = 1000;
    private const int Seconds = 10;

    // What most of a real object is and nobody here reads.
    private static readonly string Unread = $"\"managedFields\":[{{\"manager\":\"kubelet\",\"operation\":\"Update\",\"fieldsV1\":{{{string.Join(',', Enumerable.Range(0, 60).Select(i => $"\"f:field-{i}\":{{\".\":{{}},\"f:value\":{{}}}}"))}}}}}],";

    /// <summary>Starts the server, and measures.</summary>
    public static async Task<int> RunAsync()
    {
        var own = Environment.ProcessPath!;
        string[] arguments = Path.GetFileName(own) == "dotnet" ? [typeof(ApiReading).Assembly.Location, "api-server"] : ["api-server"];
        using var server = Process.Start(new ProcessStartInfo(own, arguments) { RedirectStandardOutput = true, RedirectStandardInput = true })!;
        var url = new Uri((await server.StandardOutput.ReadLineAsync())!);
        var empty = ResidentMegabytes();
        using var client = new ApiClient(new ApiServer { Url = url, From = "a benchmark" });

        var (start, cpu) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        await using var live = await LiveCluster.FollowAsync(client);
        var snapshot = live.Current;
        Tell($"{snapshot.Services.Length} services, {snapshot.EndpointSlices.Sum(s => s.Endpoints.Length)} endpoints, {snapshot.Pods.Length} pods", Stopwatch.GetElapsedTime(start), Environment.CpuUsage.TotalTime - cpu);
        var peak = ResidentMegabytes();
        GC.Collect();
        var held = GC.GetTotalMemory(forceFullCollection: true) / 1048576.0;
        GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"memory: {held:0.0} MB of objects; resident {empty:0} MB empty, {peak:0} MB just read, {ResidentMegabytes():0} MB settled, {GC.GetGCMemoryInfo().TotalCommittedBytes / 1048576.0:0} MB of it the collector's"));

        await server.StandardInput.WriteLineAsync("change");

        // The just-in-time compiler is busy in the first stretch; the second is what an agent costs that goes on for days.
        foreach (var stretch in (string[])["the first", "the next"])
        {
            (start, cpu) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
            var (asked, made) = (0, 0);
            while (Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(Seconds))
            {
                // As one does who looks at every connection that fails: ten of them a second.
                await Task.Delay(100);
                made += ReferenceEquals(snapshot, snapshot = live.Current) ? 0 : 1;
                asked += snapshot.FindPodByAddress(IpAddress.Parse("10.1.0.7")) is null ? 0 : 1;
                asked += snapshot.FindServiceByAddress(IpAddress.Parse("10.96.0.7")) is { } service && snapshot.SlicesOf(service).Any() ? 1 : 0;
            }

            var busy = Environment.CpuUsage.TotalTime - cpu;
            Tell(string.Create(CultureInfo.InvariantCulture, $"{stretch} {Seconds} s of {ChangesPerSecond} changes a second, {made} snapshots, {asked} look-ups, {busy.TotalSeconds / Seconds:P1} of a core"), Stopwatch.GetElapsedTime(start), busy);
        }

        await server.StandardInput.WriteLineAsync("tell");
        var last = (await server.StandardOutput.ReadLineAsync())!;
        for (var attempt = 0; attempt < 600 && !live.Current.Pods.Any(p => p.Metadata.ResourceVersion == last); attempt++)
        {
            await Task.Delay(100);
        }

        Console.WriteLine(live.Current.Pods.Any(p => p.Metadata.ResourceVersion == last) ? "the last change has arrived" : "THE LAST CHANGE IS MISSING");
        (start, cpu) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        snapshot = await LiveCluster.ReadAsync(client);
        var used = Environment.CpuUsage.TotalTime - cpu;
        Tell($"read once more, warm ({snapshot.Services.Length} services)", Stopwatch.GetElapsedTime(start), used);
        await YardstickAsync(url, used);
        server.StandardInput.Close();
        await server.WaitForExitAsync();
        return 0;
    }

    // What people have at hand that reads the same objects, and prints them to nowhere.
    private static async Task YardstickAsync(Uri url, TimeSpan used)
    {
        try
        {
            var start = Stopwatch.GetTimestamp();
            using var kubectl = Process.Start(new ProcessStartInfo("bash", ["-c", $"TIMEFORMAT='%U %S'; time kubectl --server={url} get services,endpointslices,pods -A -o json --chunk-size=1000 >/dev/null"]) { RedirectStandardError = true })!;
            var told = (await kubectl.StandardError.ReadToEndAsync()).Trim();
            await kubectl.WaitForExitAsync();
            var seconds = told.Split('\n')[^1].Split(' ').Sum(s => double.Parse(s, CultureInfo.InvariantCulture));
            Console.WriteLine(kubectl.ExitCode != 0 ? $"kubectl: {told}" : string.Create(CultureInfo.InvariantCulture,
                $"kubectl get -o json >/dev/null: {Stopwatch.GetElapsedTime(start).TotalSeconds:0.00} s, {seconds:0.00} s of CPU, {seconds / used.TotalSeconds:0.0} times the above"));
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or FormatException)
        {
            Console.WriteLine($"no kubectl to compare with: {e.Message}");
        }
    }

    // What kubectl asks before it asks for objects.
    private static async Task<bool> DiscoverAsync(HttpContext context)
    {
        var answer = context.Request.Path.Value switch
        {
            "/api" => """{"kind":"APIVersions","versions":["v1"]}""",
            "/apis" => """{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"discovery.k8s.io","versions":[{"groupVersion":"discovery.k8s.io/v1","version":"v1"}],"preferredVersion":{"groupVersion":"discovery.k8s.io/v1","version":"v1"}}]}""",
            "/api/v1" => """{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"services","singularName":"service","namespaced":true,"kind":"Service","verbs":["get","list"]},{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list"]}]}""",
            "/apis/discovery.k8s.io/v1" => """{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"discovery.k8s.io/v1","resources":[{"name":"endpointslices","singularName":"endpointslice","namespaced":true,"kind":"EndpointSlice","verbs":["get","list"]}]}""",
            _ => null,
        };
        if (answer is null)
        {
            return false;
        }

        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(answer);
        return true;
    }

    /// <summary>The server, until its standard input ends.</summary>
    public static async Task<int> ServeAsync()
    {
        await using var server = await ScriptedApiServer.StartAsync();
        server.Instead = DiscoverAsync;
        for (var i = 0; i < Services; i++)
        {
            server.Put("/api/v1/services", Meta($"service-{i}", i), version => Json(ServiceOf(i, version), ObjectWriter.Write));
            server.Put("/apis/discovery.k8s.io/v1/endpointslices", Meta($"service-{i}-x7k2p", i), version => Json(SliceOf(i, version), ObjectWriter.Write));
        }

        for (var i = 0; i < Pods; i++)
        {
            PutPod(server, i, 0);
        }

        Console.WriteLine(server.Url);
        if (await Console.In.ReadLineAsync() is not null)
        {
            var start = Stopwatch.GetTimestamp();
            for (var i = 0; i < ChangesPerSecond * Seconds * 2; i++)
            {
                PutPod(server, i * 7 % Pods, 1 + (i / Pods));
                if (i % 10 == 9 && TimeSpan.FromSeconds((double)i / ChangesPerSecond) - Stopwatch.GetElapsedTime(start) is var ahead && ahead > TimeSpan.Zero)
                {
                    await Task.Delay(ahead);
                }

                if (i % 500 == 499)
                {
                    // So that what a watch is told next is found quickly.
                    server.Bookmark();
                }
            }

            PutPod(server, 3, 99);
            await Console.In.ReadLineAsync();
            Console.WriteLine(server.Version.ToString(CultureInfo.InvariantCulture));
            await Console.In.ReadLineAsync();
        }

        return 0;
    }

    private static void PutPod(ScriptedApiServer server, int i, int restarts)
        => server.Put("/api/v1/pods", Meta($"pod-{i}-abcde", i), version => Json(PodOf(i, restarts, version), ObjectWriter.Write));

    private static ObjectMeta Meta(string name, int i, string? version = null) => new()
    {
        Name = name,
        Namespace = $"team-{i % 100}",
        Uid = $"1f3a9c2e-{i:x8}-4b1d-9a77-0242ac120002",
        ResourceVersion = version,
        CreationTimestamp = DateTimeOffset.UnixEpoch.AddSeconds(1_700_000_000 + i),
        Labels = ImmutableSortedDictionary<string, string>.Empty.Add("app", $"service-{i % Services}").Add("app.kubernetes.io/part-of", $"team-{i % 100}").Add("pod-template-hash", $"7d64f4b{i % 500:d3}"),
    };

    private static Service ServiceOf(int i, string version) => new()
    {
        Metadata = Meta($"service-{i}", i, version),
        Spec = new ServiceSpec { ClusterIP = Address(96, i), ClusterIPs = [Address(96, i)], Selector = ImmutableSortedDictionary<string, string>.Empty.Add("app", $"service-{i}"), Ports = [new ServicePort { Name = "http", Port = 80, TargetPort = 8080 }] },
    };

    private static EndpointSlice SliceOf(int i, string version) => new()
    {
        Metadata = Meta($"service-{i}-x7k2p", i, version) with { Labels = ImmutableSortedDictionary<string, string>.Empty.Add(EndpointSlice.ServiceNameLabel, $"service-{i}").Add("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io") },
        Endpoints =
        [
            .. Enumerable.Range(0, Endpoints).Select(e => (i * Endpoints + e) % Pods).Select(p => new Core.Cluster.Endpoint
            {
                Addresses = [Address(1, p)],
                Conditions = new EndpointConditions { Ready = true, Serving = true, Terminating = false },
                NodeName = $"node-{p % 500}",
                TargetRef = new ObjectReference { Kind = "Pod", Namespace = $"team-{p % 100}", Name = $"pod-{p}-abcde", Uid = $"1f3a9c2e-{p:x8}-4b1d-9a77-0242ac120002" },
            }),
        ],
        Ports = [new EndpointPort { Name = "http", Port = 8080 }],
    };

    private static Pod PodOf(int i, int restarts, string version) => new()
    {
        Metadata = Meta($"pod-{i}-abcde", i, version) with { OwnerReferences = [new OwnerReference("ReplicaSet", $"service-{i % Services}-7d64f4b574")] },
        Spec = new PodSpec { NodeName = $"node-{i % 500}", Containers = [new Container { Name = "web", Image = "registry.example/web:1.2.3", Ports = [new ContainerPort { Name = "http", Port = 8080 }], ReadinessProbe = new Probe { HttpGet = new HttpGetAction { Path = "/ready", Port = 8080 } } }] },
        Status = new PodStatus
        {
            Phase = "Running",
            HostIP = Address(0, i % 500),
            PodIP = Address(1, i),
            PodIPs = [new PodIP(Address(1, i))],
            Conditions = [new Condition { Type = "Ready", Status = "True" }, new Condition { Type = "PodScheduled", Status = "True" }],
            ContainerStatuses = [new ContainerStatus { Name = "web", Ready = true, RestartCount = restarts, State = new ContainerState { Running = new ContainerStateDetail { StartedAt = DateTimeOffset.UnixEpoch.AddSeconds(1_700_000_000 + i) } } }],
        },
    };

    private static string Address(int net, int i) => string.Create(CultureInfo.InvariantCulture, $"10.{net}.{i / 250}.{i % 250}");

    private static byte[] Json<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            write(json, value);
        }

        return Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(buffer.ToArray()).Replace("\"metadata\":{", "\"metadata\":{" + Unread, StringComparison.Ordinal));
    }

    private static void Tell(string what, TimeSpan elapsed, TimeSpan cpu)
        => Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {elapsed.TotalSeconds:0.00} s, {cpu.TotalSeconds:0.00} s of CPU, collections so far {GC.CollectionCount(0)}/{GC.CollectionCount(1)}/{GC.CollectionCount(2)}, {GC.GetTotalPauseDuration().TotalSeconds:0.00} s, {GC.GetTotalAllocatedBytes() >> 20} MB allocated"));

    private static double ResidentMegabytes()
    {
        using var self = Process.GetCurrentProcess();
        return self.WorkingSet64 / 1048576.0;
    }
}
