using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Core.Diagnosis;
using YamlDotNet.RepresentationModel;

namespace TraceProbe.Cli.Tests.Deploy;

/// <summary>What deploy/ expects behind the agent's open port is there: the probes' paths, and each metric that the dashboard shows.</summary>
public sealed partial class AgentDoorTests : IAsyncDisposable
{
    private readonly string _state = Directory.CreateTempSubdirectory("traceprobe-deploy-").FullName;
    private readonly AgentMetrics _metrics = new(null, "node-1");
    private readonly HttpClient _http;
    private readonly WebApplication _app;
    private readonly NodeAgent _agent;

    public AgentDoorTests()
    {
        using var free = new TcpListener(IPAddress.Loopback, 0);
        free.Start();
        var port = ((IPEndPoint)free.LocalEndpoint).Port;
        free.Stop();
        var settings = new AgentSettings { State = _state, Metrics = $"127.0.0.1:{port}", Api = new ApiSettings { Socket = "" } };
        _agent = new NodeAgent(settings, () => throw new InvalidOperationException("It is not started."), [], new FailureFiles(_state, 0), _metrics, NullLogger<NodeAgent>.Instance);
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddLogging().AddSingleton(settings).AddSingleton(_metrics).AddSingleton(_agent).AddSingleton(new ApiAccess(null)).AddSingleton(new FailureFiles(_state, 0))
            .AddSingleton(new AgentSessions(_state, "node-1", () => throw new InvalidOperationException("No session is begun."), []));
        builder.AddAgentApi(settings, null);
        _app = builder.Build();
        _app.MapAgentApi();
        _http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}"), Timeout = TimeSpan.FromMinutes(1) };
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _app.DisposeAsync();
        _metrics.Dispose();
        Directory.Delete(_state, recursive: true);
    }

    [Fact]
    public async Task Probes_AskForWhatIsAnswered_ByAnAgentThatDoesNotWatchYet()
    {
        await _app.StartAsync(TestContext.Current.CancellationToken);
        var yaml = new YamlStream();
        yaml.Load(new StringReader(await File.ReadAllTextAsync(Path.Combine(Repository.Root, "deploy", "base", "daemonset.yaml"), TestContext.Current.CancellationToken)));
        var container = yaml.Documents[0].RootNode["spec"]["template"]["spec"]["containers"][0];
        foreach (var (probe, status) in ((string, HttpStatusCode)[])[("startupProbe", HttpStatusCode.ServiceUnavailable), ("readinessProbe", HttpStatusCode.ServiceUnavailable), ("livenessProbe", HttpStatusCode.OK)])
        {
            var get = container[probe]["httpGet"];
            get["port"].ToString().ShouldBe("metrics");
            using var answer = await _http.GetAsync(new Uri(get["path"].ToString(), UriKind.Relative), TestContext.Current.CancellationToken);
            answer.StatusCode.ShouldBe(status, probe);
        }
    }

    [Fact]
    public async Task Dashboard_ShowsOnlyMetricsAndLabels_ThatAnAgentServes()
    {
        await _app.StartAsync(TestContext.Current.CancellationToken);
        _metrics.Attempted("default/web:80", FailureClass.Healthy);
        _metrics.LookedUp(TimeSpan.FromMilliseconds(1));
        _metrics.Connected(TimeSpan.FromMilliseconds(1));
        _metrics.Dropped(default);
        var text = await _http.GetStringAsync(new Uri("/metrics", UriKind.Relative), TestContext.Current.CancellationToken);
        var served = Series().Matches(text).GroupBy(m => m.Groups[1].Value, m => m.Groups[2].Value).ToDictionary(g => g.Key, g => g.SelectMany(l => Label().Matches(l)).Select(l => l.Groups[1].Value).ToHashSet());

        using var dashboard = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(Repository.Root, "deploy", "compose", "grafana", "dashboards", "traceprobe.json"), TestContext.Current.CancellationToken));
        var queries = dashboard.RootElement.GetProperty("panels").EnumerateArray().SelectMany(p => p.GetProperty("targets").EnumerateArray()).Select(t => t.GetProperty("expr").GetString()!)
            .Concat(dashboard.RootElement.GetProperty("templating").GetProperty("list").EnumerateArray().Select(v => v.GetProperty("definition").GetString()!)).ToList();
        queries.Count.ShouldBeGreaterThan(10);
        foreach (var query in queries)
        {
            // Beside the agent's own labels there are Prometheus's, and the node, which it has from a relabelling or from the resource.
            var names = Metric().Matches(query).Select(m => m.Value).Distinct().ToList();
            names.ShouldNotBeEmpty(query);
            names.ShouldBeSubsetOf(served.Keys, query);
            Used().Matches(query).SelectMany(m => m.Groups[1].Value.Split(',', StringSplitOptions.TrimEntries)).Concat(Label().Matches(query).Select(m => m.Groups[1].Value))
                .Except(["job", "k8s_node_name"]).ShouldBeSubsetOf(names.SelectMany(n => served[n]), query);
        }
    }

    // traceprobe_connections_total{class="healthy",outcome="healthy",service="default/web:80"} 1
    [GeneratedRegex(@"^([a-z0-9_]+)(\{.*\})? \S+$", RegexOptions.Multiline)]
    private static partial Regex Series();

    [GeneratedRegex(@"([a-z0-9_]+)=~?""")]
    private static partial Regex Label();

    [GeneratedRegex(@"\b(traceprobe|process)_[a-z0-9_]+")]
    private static partial Regex Metric();

    [GeneratedRegex(@"\bby \(([^)]*)\)")]
    private static partial Regex Used();
}
