using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.RegularExpressions;
using TraceProbe.Lab;
using TraceProbe.Tests;
using TraceProbe.Tests.Otlp;

namespace TraceProbe.Scenarios.Tests;

/// <summary>
/// Agents on both nodes of a lab with a hundred clients, for as many minutes as $TRACEPROBE_SOAK says: faults come and go at random, then agents are killed, then what they
/// talk to is taken away. <c>make test-soak</c>.
/// </summary>
public sealed partial class Soak : IAsyncDisposable
{
    // Each is another way to fail, at another stage.
    private static readonly string[] Faults = ["wrong-target-port", "selector-matches-nothing", "service-rule-missing", "no-pods", "port-not-in-service", "resolver-no-endpoints", "no-ready-endpoints", "no-listener"];
    private static readonly string[] Nodes = ["node-1", "node-2"];

    private readonly string _name = ScenarioLab.NewName();
    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"traceprobe-soak-{Guid.NewGuid():N}");
    private readonly OtlpReceiver _receiver = new();
    private readonly Alertmanager _manager = new();
    private readonly Relay _api = new();
    private readonly Dictionary<string, Process> _agents = [];
    private readonly Dictionary<string, ConcurrentQueue<string>> _said = Nodes.ToDictionary(n => n, _ => new ConcurrentQueue<string>());
    private readonly List<Process> _clients = [];
    private readonly List<string> _wrong = [];
    private readonly int _seed = Environment.TickCount;
    private Lab.Lab _lab = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        // Hundreds of shells, in the session that setsid made of each place's: one signal for each, since they beget others faster than one can look for them.
        foreach (var client in _clients.Where(c => !c.HasExited))
        {
            using var kill = Process.Start("kill", ["-KILL", "--", $"-{client.Id}"]);
            await kill.WaitForExitAsync();
        }

        foreach (var process in _clients.Concat(_agents.Values))
        {
            End(process);
        }

        _api.Dispose();
        _manager.Dispose();
        await _receiver.DisposeAsync();
        global::TraceProbe.Lab.Lab.Down(_name);
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Fact]
    public async Task EveryFaultIsAlertedWithItsCause_NothingElseIs_AndNothingIsForgotten()
    {
        Assert.SkipUnless(double.TryParse(Environment.GetEnvironmentVariable("TRACEPROBE_SOAK"), CultureInfo.InvariantCulture, out var minutes) && minutes > 0, "takes its time: make test-soak");
        ScenarioLab.SkipUnlessPossible(ProxyMode.IptablesNft);
        Directory.CreateDirectory(_folder);
        var random = new Random(_seed);
        await _manager.StartAsync(Token);
        _lab = await global::TraceProbe.Lab.Lab.UpAsync(new LabOptions { Name = _name, SelfCommand = [ScenarioLab.TraceProbe] }, null, Token);
        StartRelay();
        foreach (var node in Nodes)
        {
            await StartAgentAsync(node);
        }

        StartClients();
        await Task.Delay(TimeSpan.FromSeconds(20), Token);
        Check(await AlertsAsync() is { Count: 0 }, "an alert before anything was broken");
        var (begun, cpu, before) = (Stopwatch.GetTimestamp(), _agents.ToDictionary(a => a.Key, a => a.Value.TotalProcessorTime), Connections());
        while (Stopwatch.GetElapsedTime(begun).TotalMinutes < minutes)
        {
            await BreakAsync(Faults[random.Next(Faults.Length)]);
            await Task.Delay(random.Next(1000, 6000), Token);
        }

        var elapsed = Stopwatch.GetElapsedTime(begun);
        foreach (var (node, agent) in _agents)
        {
            agent.Refresh();
            var peak = PeakOf().Match(await File.ReadAllTextAsync($"/proc/{agent.Id}/status", Token)).Groups[1].Value;
            Say($"agent of {node}: {(agent.TotalProcessorTime - cpu[node]) / elapsed:P1} of a core, {agent.WorkingSet64 >> 20} MB resident, {int.Parse(peak, CultureInfo.InvariantCulture) >> 10} MB at most");
        }

        await Task.Delay(TimeSpan.FromSeconds(11), Token);
        Say($"{(Connections() - before) / elapsed.TotalSeconds:0} healthy connections a second");
        CompareSpans();
        await KillAsync(random);
        await TakeAwayAsync();
        _wrong.ShouldBeEmpty();
    }

    // One fault, from its beginning to the end of its alerts.
    private async Task BreakAsync(string fault, Func<Task>? meanwhile = null)
    {
        var before = (await AlertsAsync()).ToHashSet();
        var expected = Core.Diagnosis.FailureClassInfo.Of(Fault.Find(fault).Class).Name;
        var seen = new Dictionary<string, double>();
        _lab.Break(fault);
        var broken = Stopwatch.GetTimestamp();
        await (meanwhile?.Invoke() ?? Task.CompletedTask);
        while (Stopwatch.GetElapsedTime(broken).TotalSeconds < 40 && !(Stopwatch.GetElapsedTime(broken).TotalSeconds > 12 && seen.Keys.Any(IsRight)))
        {
            await LookAsync();
        }

        _lab.Mend();
        var mended = Stopwatch.GetTimestamp();
        do
        {
            await LookAsync();
        }
        while (Stopwatch.GetElapsedTime(mended).TotalSeconds < 90 && (await AlertsAsync()).Except(before).Any());

        var left = (await AlertsAsync()).Except(before).ToList();
        Say(string.Create(CultureInfo.InvariantCulture, $"{fault,-26} {string.Join(", ", seen.Select(s => $"{s.Key} after {s.Value:0.0} s"))}; over {Stopwatch.GetElapsedTime(mended).TotalSeconds:0.0} s after the mend"));
        Check(seen.Keys.Any(IsRight), $"{fault}: no alert with its class");

        // What another node's pod does is seen from there; this one says that it does not know.
        Check(seen.Keys.All(k => IsRight(k) || k.StartsWith("undetermined ", StringComparison.Ordinal)), $"{fault}: {string.Join(", ", seen.Keys)}");
        Check(left.Count == 0, $"{fault}: still open are {string.Join(", ", left)}");

        bool IsRight(string alert) => alert.StartsWith($"{expected} ", StringComparison.Ordinal);

        async Task LookAsync()
        {
            foreach (var alert in (await AlertsAsync()).Except(before))
            {
                seen.TryAdd(alert, Stopwatch.GetElapsedTime(broken).TotalSeconds);
            }

            await Task.Delay(300, Token);
        }
    }

    // What each node saw of a connection is one trace, whose times lie within each other.
    private void CompareSpans()
    {
        var traces = _receiver.Spans.GroupBy(s => s.Span.TraceId).Select(g => g.ToList()).ToList();
        var across = traces.Where(t => t.Any(s => s.Span.Name == "arrival")).ToList();
        var joined = across.Count(t => t.Any(s => s.Span.ParentSpanId.IsEmpty));
        var notNested = traces.SelectMany(t => t.Select(s => (s.Span, Parent: t.FirstOrDefault(p => p.Span.SpanId == s.Span.ParentSpanId).Span)))
            .Select(s => (s.Span, s.Parent, Beyond: s.Parent is null ? 0 : Math.Max((long)(s.Parent.StartTimeUnixNano - s.Span.StartTimeUnixNano), (long)(s.Span.EndTimeUnixNano - s.Parent.EndTimeUnixNano))))
            .Where(s => s.Beyond > 0 || s.Span.EndTimeUnixNano < s.Span.StartTimeUnixNano).ToList();
        Say($"{traces.Sum(t => t.Count)} spans in {traces.Count} traces; {across.Count} of connections that came from the other node, {joined} of them below their client's root; {notNested.Count} spans not within their parent's time");
        foreach (var kind in notNested.GroupBy(n => $"{n.Span.Name} below {n.Parent?.Name.Split(' ')[0]}"))
        {
            Say($"    {kind.Count()} {kind.Key}, by at most {kind.Max(n => n.Beyond) / 1000} µs");
        }

        Check(joined > 0, "no trace of both nodes");
        Check(notNested.Count == 0, $"{notNested.Count} spans are not within their parent's time");
    }

    private async Task KillAsync(Random random)
    {
        for (var i = 0; i < 20; i++)
        {
            var node = Nodes[random.Next(Nodes.Length)];
            var before = Learned(node);
            await Task.Delay(random.Next(100, 4000), Token);
            _agents[node].Kill();
            await _agents[node].WaitForExitAsync(Token);
            var after = Learned(node);
            foreach (var (file, connections) in before)
            {
                Check(after.GetValueOrDefault(file, -1) >= connections, $"killed for the {i + 1}. time: the baseline {file} of {node} knew {connections} connections, and knows {after.GetValueOrDefault(file, -1)}");
            }

            await StartAgentAsync(node);
            Check(!_said[node].Any(l => l.Contains("set aside", StringComparison.Ordinal)), $"a damaged baseline of {node}");
        }

        Say("killed twenty times");
    }

    private async Task TakeAwayAsync()
    {
        await BreakAsync("wrong-target-port", () => _receiver.BeAwayAsync(TimeSpan.FromSeconds(15)));
        var spans = _receiver.Spans.Count;
        Say("the collector was away");

        await BreakAsync("no-pods", async () =>
        {
            _manager.Stop();
            await Task.Delay(TimeSpan.FromSeconds(15), Token);
            await _manager.StartAsync(Token);
        });
        Check(_receiver.Spans.Count > spans, "no span has come since the collector is back");
        Say("Alertmanager was away");

        // The rules are broken by hand, which no object tells, while the server is away.
        await BreakAsync("service-rule-missing", async () =>
        {
            _api.IsAway = true;
            await Task.Delay(TimeSpan.FromSeconds(20), Token);
            _api.IsAway = false;
        });
        foreach (var node in Nodes)
        {
            await UntilSaidAsync(node, "going on with what was known last");
            await UntilSaidAsync(node, "as of now again");
        }

        Say("the API server was away");
    }

    private async Task UntilSaidAsync(string node, string what)
    {
        for (var i = 0; i < 600 && !_said[node].Any(l => l.Contains(what, StringComparison.Ordinal)); i++)
        {
            await Task.Delay(100, Token);
        }

        Check(_said[node].Any(l => l.Contains(what, StringComparison.Ordinal)), $"the agent of {node} has not said: {what}\n{string.Join('\n', _said[node].TakeLast(5))}");
    }

    private void StartRelay()
    {
        var own = File.ReadAllText(_lab.KubeconfigPath);
        _api.Target = int.Parse(ServerPort().Match(own).Groups[1].Value, CultureInfo.InvariantCulture);
        File.WriteAllText(Path.Combine(_folder, "kubeconfig"), own.Replace($"127.0.0.1:{_api.Target}", $"127.0.0.1:{_api.Port}", StringComparison.Ordinal));
        File.WriteAllText(Path.Combine(_folder, "agent.json"), """{ "alerts": { "quietWithSuccess": "00:00:05" } }""");
    }

    private async Task StartAgentAsync(string node)
    {
        var said = _said[node];
        said.Clear();
        var agent = Process.Start(new ProcessStartInfo(ScenarioLab.TraceProbe,
        [
            "agent", "--lab", _name, "--kubeconfig", Path.Combine(_folder, "kubeconfig"), "--node", node, "--state", Path.Combine(_folder, node), "--config", Path.Combine(_folder, "agent.json"),
            "--otlp", $"{_receiver.Prefix}v1/traces", "--alertmanager", _manager.Url.AbsoluteUri,
        ]) { RedirectStandardError = true })!;
        agent.ErrorDataReceived += (_, line) => said.Enqueue(line.Data ?? "");
        agent.BeginErrorReadLine();
        _agents[node] = agent;
        for (var i = 0; !said.Any(l => l.Contains("watching", StringComparison.Ordinal)); i++)
        {
            (i < 600 && !agent.HasExited).ShouldBeTrue(string.Join('\n', said));
            await Task.Delay(100, Token);
        }
    }

    // A hundred clients that ask three times a second, each with a new connection, and some whose every request begins with a lookup.
    private void StartClients()
    {
        foreach (var (place, clients, url) in (ReadOnlySpan<(string, int, string)>)[("pod/ubuntu", 60, "http://my-nginx:8080"), ("node/node-2", 30, "http://10.96.0.159:8080"), ("pod/my-nginx-tsyps", 10, "http://hostnames")])
        {
            var steady = $"while :; do curl -s -o /dev/null -m 3 -H 'Connection: close' --rate 3/s '{url}/?[1-60]'; sleep 0.2; done";
            var afresh = $"while :; do curl -s -o /dev/null -m 3 {url}; sleep 0.5; done";
            _clients.Add(Process.Start(new ProcessStartInfo("setsid",
                ["--wait", ScenarioLab.TraceProbe, "lab", "exec", "--lab", _name, "--on", place, "--", "sh", "-c", $"for i in $(seq {clients}); do ({steady}) & done; for i in 1 2 3 4; do ({afresh}) & done; wait"]) { RedirectStandardOutput = true, RedirectStandardError = true })!);
        }
    }

    private async Task<List<string>> AlertsAsync()
    {
        try
        {
            return [.. (await _manager.ActiveAsync(Token)).Select(a => a.GetProperty("labels")).Select(l => $"{l.GetProperty("class")} {l.GetProperty("client")} to {l.GetProperty("service")} on {l.GetProperty("node")}")];
        }
        catch (HttpRequestException)
        {
            return []; // it is away
        }
    }

    private Dictionary<string, long> Learned(string node) => Directory.Exists(Path.Combine(_folder, node, "baselines"))
        ? Directory.GetFiles(Path.Combine(_folder, node, "baselines"), "*.json").ToDictionary(f => Path.GetFileName(f), f => JsonDocument.Parse(File.ReadAllBytes(f)).RootElement.GetProperty("connections").GetInt64()) : [];

    private long Connections() => Nodes.Sum(n => Learned(n).Values.Sum());

    private void Check(bool isRight, string what)
    {
        if (!isRight)
        {
            Say($"WRONG: {what}");
            _wrong.Add(what);
        }
    }

    private void Say(string what) => Console.WriteLine($"{DateTime.UtcNow:HH:mm:ss} {what} ({_seed})");

    private static void End(Process process)
    {
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
        }

        process.Dispose();
    }

    [GeneratedRegex(@"https://127\.0\.0\.1:(\d+)")]
    private static partial Regex ServerPort();

    [GeneratedRegex(@"VmHWM:\s+(\d+)")]
    private static partial Regex PeakOf();

    /// <summary>Passes connections on to a port of loopback, or for a while none.</summary>
    private sealed class Relay : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly ConcurrentDictionary<TcpClient, bool> _open = [];

        public Relay()
        {
            _listener.Start();
            _ = Task.Run(AcceptAsync);
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public int Target { get; set; }

        public bool IsAway
        {
            get;
            set
            {
                field = value;
                foreach (var (client, _) in value ? [.. _open] : Array.Empty<KeyValuePair<TcpClient, bool>>())
                {
                    client.Dispose();
                }
            }
        }

        public void Dispose()
        {
            _listener.Dispose();
            IsAway = true;
        }

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    var client = await _listener.AcceptTcpClientAsync();
                    if (IsAway)
                    {
                        client.Dispose();
                        continue;
                    }

                    _ = PassAsync(client);
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // It is over.
            }
        }

        private async Task PassAsync(TcpClient client)
        {
            using var server = new TcpClient();
            try
            {
                (_open[client], _open[server]) = (true, true);
                await server.ConnectAsync(IPAddress.Loopback, Target);
                await Task.WhenAny(client.GetStream().CopyToAsync(server.GetStream()), server.GetStream().CopyToAsync(client.GetStream()));
            }
            catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or InvalidOperationException)
            {
                // One of them has hung up.
            }
            finally
            {
                _open.TryRemove(client, out _);
                _open.TryRemove(server, out _);
                client.Dispose();
            }
        }
    }
}
