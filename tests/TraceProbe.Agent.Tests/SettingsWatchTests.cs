using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Telemetry;

namespace TraceProbe.Agent.Tests;

/// <summary>The file with an agent's settings is changed while it runs.</summary>
public sealed class SettingsWatchTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("traceprobe-settings-").FullName;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task ConfigMapThatIsExchanged_HoldsFromThenOn_AndAMistakeInItDoesNot()
    {
        // As a kubelet mounts it: a link to a file in a folder that is a link, which is exchanged.
        var file = Path.Combine(_folder, "agent.json");
        Exchange("1", "100");
        File.CreateSymbolicLink(file, Path.Combine(_folder, "..data", "agent.json"));
        var settings = Read();
        var failures = new FailureFiles(Path.Combine(_folder, "failures"), settings.Recordings);
        using var metrics = new AgentMetrics(null, "node-1");
        using var agent = new NodeAgent(settings, () => throw new InvalidOperationException(), [], failures, metrics, NullLogger<NodeAgent>.Instance);
        using var watch = new SettingsWatch(agent, settings, file, Read, NullLogger<NodeAgent>.Instance);
        await watch.StartAsync(Token);
        await Task.Delay(500, Token);

        Exchange("2", "7");
        await UntilAsync(7);
        Exchange("3", "-1");
        await Task.Delay(4_000, Token);
        failures.Most.ShouldBe(7);
        Exchange("4", "8");
        await UntilAsync(8);
        await watch.StopAsync(Token);

        AgentSettings Read() => new() { State = _folder, Recordings = int.Parse(File.ReadAllText(file), null) };

        async Task UntilAsync(int most)
        {
            for (var i = 0; failures.Most != most; i++)
            {
                i.ShouldBeLessThan(300);
                await Task.Delay(50, Token);
            }
        }
    }

    [Fact]
    public void WhatTakesARestart_IsNamed()
    {
        var now = new AgentSettings { Alertmanagers = { new Uri("http://am:9093") } };
        new AgentSettings { Alertmanagers = { new Uri("http://am:9093") }, Recordings = 5, Alerts = new AlertPolicy { Failures = 9 }, Sampling = { OneIn = 3 } }.Unlike(now).ShouldBeEmpty();
        new AgentSettings { Metrics = ":9464", RingBytes = 1 << 20 }.Unlike(now).ShouldBe(["state, node, ringBytes", "alertmanagers, webhooks, events", "metrics, api"]);
    }

    private void Exchange(string version, string content)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, $"..{version}")).FullName;
        File.WriteAllText(Path.Combine(folder, "agent.json"), content);
        var link = Path.Combine(_folder, "..data");
        File.Delete(link);
        File.CreateSymbolicLink(link, folder);
    }
}
