using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace TraceProbe.Scenarios.Tests;

/// <summary>An agent that watches a lab while its clients go about their business, and a webhook that is told.</summary>
public sealed class AgentWatches(NftLab lab) : IClassFixture<NftLab>, IDisposable
{
    private readonly ConcurrentQueue<JsonElement> _told = new();
    private readonly ConcurrentQueue<string> _said = new();
    private readonly HttpListener _hook = new();
    private readonly string _state = Path.Combine(Path.GetTempPath(), $"traceprobe-agent-{Guid.NewGuid():N}");
    private Process? _agent;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        if (_agent is { HasExited: false } running)
        {
            running.Kill();
            running.WaitForExit();
        }

        _agent?.Dispose();
        _hook.Close();
        if (Directory.Exists(_state))
        {
            Directory.Delete(_state, recursive: true);
        }
    }

    [Fact]
    public void WrongTargetPort_IsAlertedOnceWithItsCause_AndResolvedAfterItsMend()
    {
        Start();
        Ask(15);
        _told.ShouldBeEmpty();

        lab.Lab.Break("wrong-target-port");
        try
        {
            Ask(12);
            WaitFor(() => !_told.IsEmpty, "an alert");
        }
        finally
        {
            lab.Lab.Mend();
        }

        var opened = _told.ShouldHaveSingleItem();
        opened.GetProperty("version").GetInt32().ShouldBe(1);
        opened.GetProperty("event").GetString().ShouldBe("opened");
        opened.GetProperty("class").GetString().ShouldBe("wrong-target-port", Said);
        opened.GetProperty("service").GetString().ShouldBe("default/my-nginx:8080");
        opened.GetProperty("client").GetString().ShouldBe("pod/default/ubuntu");
        opened.GetProperty("mendCommand").GetString()!.ShouldContain("\"targetPort\":80");

        // What is kept of it tells the same again, anywhere.
        var recording = opened.GetProperty("recording").GetString().ShouldNotBeNull(Said);
        lab.Run("replay", recording, "-o", "json").Verdict.Sentence.ShouldBe(opened.GetProperty("sentence").GetString());

        WaitFor(() =>
        {
            Ask(3);
            return _told.Count > 1;
        }, "the end of the alert");
        _told.Count.ShouldBe(2);
        _told.Last().GetProperty("event").GetString().ShouldBe("resolved");
        _told.Last().GetProperty("class").GetString().ShouldBe("wrong-target-port");
        Stop();
        Directory.GetFiles(Path.Combine(_state, "baselines"), "*.json").ShouldNotBeEmpty();
    }

    [Fact]
    public void NameThatNoServiceHas_IsAlerted_ButNotNamesFromBeyondTheCluster()
    {
        Start();
        Shell("for i in 1 2 3 4 5; do curl -s -o /dev/null -m 2 http://my-ngin:8080; curl -s -o /dev/null -m 2 http://nosuch.example.org; done; true");
        WaitFor(() => !_told.IsEmpty, "an alert");
        var opened = _told.ShouldHaveSingleItem();
        opened.GetProperty("class").GetString().ShouldBe("service-not-found", Said);
        opened.GetProperty("service").GetString().ShouldBe("default/my-ngin");
        opened.GetProperty("sentence").GetString()!.ShouldContain("my-nginx");
        Stop();
    }

    [Fact]
    public void AgentKilled_LearnsOnWhereItWas()
    {
        Start();
        Ask(30);
        Thread.Sleep(TimeSpan.FromSeconds(11)); // baselines are stored every ten seconds
        var before = Connections();
        before.ShouldBeGreaterThanOrEqualTo(30);
        _agent!.Kill();
        _agent.WaitForExit();

        Connections().ShouldBe(before);
        Start();
        Ask(20);
        Stop();
        Connections().ShouldBeGreaterThanOrEqualTo(before + 20);
        _told.ShouldBeEmpty();

        long Connections() => Directory.GetFiles(Path.Combine(_state, "baselines"), "*.json").Sum(f => JsonDocument.Parse(File.ReadAllBytes(f)).RootElement.GetProperty("connections").GetInt64());
    }

    private string Said => string.Join('\n', _said);

    private void Start()
    {
        if (!_hook.IsListening)
        {
            var port = FreePort();
            _hook.Prefixes.Add($"http://127.0.0.1:{port}/");
            _hook.Start();
            _ = Task.Run(ReceiveAsync, Token);
        }

        var settings = Path.Combine(_state, "agent.json");
        Directory.CreateDirectory(_state);
        File.WriteAllText(settings, """{ "alerts": { "quietWithSuccess": "00:00:03" }, "sampling": { "oneIn": 3 } }""");
        var agent = lab.Start(ScenarioLab.TraceProbe, "agent", "--lab", lab.Name, "--state", _state, "--config", settings, "--webhook", _hook.Prefixes.First());
        agent.ErrorDataReceived += (_, line) => _said.Enqueue(line.Data ?? "");
        agent.BeginErrorReadLine();
        var seen = _said.Count;
        _agent?.Dispose();
        _agent = agent;
        WaitFor(() => _said.Skip(seen).Any(l => l.Contains("watching", StringComparison.Ordinal)) || agent.HasExited, "the agent");
        agent.HasExited.ShouldBeFalse(Said);
    }

    // As Ctrl-C or a kubelet would.
    private void Stop()
    {
        Process.Start("kill", ["-TERM", $"{_agent!.Id}"]).WaitForExit();
        _agent.WaitForExit(15_000).ShouldBeTrue(Said);
        _agent.ExitCode.ShouldBe(0, Said);
    }

    private void Ask(int times) => Shell($"for i in $(seq {times}); do curl -s -o /dev/null -m 3 http://my-nginx:8080; done; true");

    private void Shell(string script)
    {
        using var process = lab.Start(ScenarioLab.TraceProbe, "lab", "exec", "--lab", lab.Name, "--on", "pod/ubuntu", "--", "sh", "-c", script);
        Outcome.Of(process).ExitCode.ShouldBe(0);
    }

    private void WaitFor(Func<bool> condition, string what)
    {
        for (var start = Stopwatch.GetTimestamp(); !condition();)
        {
            if (Stopwatch.GetElapsedTime(start) > TimeSpan.FromSeconds(40))
            {
                throw new TimeoutException($"Waited in vain for {what}.\n{Said}");
            }

            Thread.Sleep(100);
        }
    }

    private async Task ReceiveAsync()
    {
        while (_hook.IsListening)
        {
            try
            {
                var context = await _hook.GetContextAsync();
                using var body = await JsonDocument.ParseAsync(context.Request.InputStream);
                _told.Enqueue(body.RootElement.Clone());
                context.Response.Close();
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
            {
                return;
            }
        }
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
