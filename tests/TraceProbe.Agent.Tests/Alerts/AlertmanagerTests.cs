using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Tests.Alerts;

/// <summary>Debian's own Alertmanager, told by the sink.</summary>
public sealed class AlertmanagerTests : IDisposable
{
    private const string Program = "/usr/bin/prometheus-alertmanager";

    private static readonly TimeSpan Repeat = TimeSpan.FromMinutes(1);

    private readonly HttpClient _http = new();
    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"traceprobe-am-{Guid.NewGuid():N}");
    private readonly Uri _server = new($"http://127.0.0.1:{FreePort()}");
    private Process? _process;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static Alert Alert => new()
    {
        Key = new AlertKey(FailureClass.WrongTargetPort, "default/my-nginx:8080", "deployment/default/web"),
        Node = "node-1",
        FirstSeen = DateTimeOffset.UtcNow.AddSeconds(-20),
        LastSeen = DateTimeOffset.UtcNow,
        Count = 3,
        Attempts = 4,
        Sentence = "Service default/my-nginx sends port 8080 to target port 8080, but the pod listens on port 80 (nginx).",
        Mend = new Mend("Correct the port.", "kubectl patch service my-nginx -p '{\"spec\":…}'"),
    };

    public void Dispose()
    {
        Stop();
        _http.Dispose();
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Fact]
    public async Task OpenedAlert_StandsThereWithItsCause_AndIsGoneOnceResolved()
    {
        await StartAsync();
        var sink = new AlertmanagerSink(_http, _server, Repeat);
        await sink.SendAsync(new AlertChange(AlertEvent.Opened, Alert), Token);
        await sink.SendAsync(new AlertChange(AlertEvent.Continues, Alert), Token);

        var shown = (await ActiveAsync()).ShouldHaveSingleItem();
        var labels = shown.GetProperty("labels");
        labels.GetProperty("class").GetString().ShouldBe("wrong-target-port");
        labels.GetProperty("namespace").GetString().ShouldBe("default");
        labels.GetProperty("service").GetString().ShouldBe("my-nginx:8080");
        labels.GetProperty("client").GetString().ShouldBe("deployment/default/web");
        var annotations = shown.GetProperty("annotations");
        annotations.GetProperty("summary").GetString().ShouldBe(Alert.Sentence);
        annotations.GetProperty("description").GetString()!.ShouldStartWith("3 of 4 attempts");
        annotations.GetProperty("mend").GetString()!.ShouldContain("kubectl patch");

        await sink.SendAsync(new AlertChange(AlertEvent.Resolved, Alert with { ResolvedAt = DateTimeOffset.UtcNow }), Token);
        (await ActiveAsync()).ShouldBeEmpty();
    }

    [Fact]
    public async Task AlertmanagerThatIsAway_IsToldOnceItIsBack()
    {
        var queue = new SinkQueue(new AlertmanagerSink(_http, _server, Repeat), NullLogger.Instance);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(Token);
        var running = queue.RunAsync(ending.Token);
        queue.Add(new AlertChange(AlertEvent.Opened, Alert));
        for (var i = 0; queue.Failed < 2 && i < 200; i++)
        {
            await Task.Delay(50, Token);
        }

        queue.Failed.ShouldBeGreaterThanOrEqualTo(2);
        await StartAsync();
        for (var i = 0; i < 200 && (await ActiveAsync()).Count == 0; i++)
        {
            await Task.Delay(50, Token);
        }

        (await ActiveAsync()).ShouldHaveSingleItem();
        await ending.CancelAsync();
        await running;
    }

    [Fact]
    public async Task MoreThanThereIsRoomFor_WhileItIsAway_IsCounted()
    {
        var queue = new SinkQueue(new AlertmanagerSink(_http, _server, Repeat), NullLogger.Instance);
        for (var i = 0; i < SinkQueue.Room + 5; i++)
        {
            queue.Add(new AlertChange(AlertEvent.Opened, Alert));
        }

        queue.Dropped.ShouldBe(5);
        using var ending = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        await queue.RunAsync(ending.Token);
        queue.Failed.ShouldBeGreaterThan(0);
    }

    [Theory]
    [InlineData(AlertEvent.Opened, ":warning: *wrong-target-port* deployment/default/web → default/my-nginx:8080")]
    [InlineData(AlertEvent.Resolved, ":white_check_mark: resolved *wrong-target-port*")]
    public void Slack_GetsOneTextWithItsThreeCharactersEscaped(AlertEvent change, string begins)
    {
        var alert = Alert with { Sentence = "a < b & c > d" };
        var text = JsonDocument.Parse(WebhookSink.Write(new AlertChange(change, alert), WebhookFormat.Slack)).RootElement.GetProperty("text").GetString()!;
        text.ShouldStartWith(begins);
        text.ShouldContain("a &lt; b &amp; c &gt; d");
    }

    private async Task StartAsync()
    {
        Assert.SkipUnless(File.Exists(Program), "needs prometheus-alertmanager");
        Directory.CreateDirectory(_folder);
        var config = Path.Combine(_folder, "alertmanager.yml");
        await File.WriteAllTextAsync(config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", Token);
        _process = Process.Start(new ProcessStartInfo(Program,
            [$"--config.file={config}", $"--storage.path={_folder}", $"--web.listen-address={_server.Authority}", "--cluster.listen-address="]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        _process.ErrorDataReceived += (_, _) => { };
        _process.BeginErrorReadLine();
        for (var i = 0; i < 300; i++)
        {
            try
            {
                if ((await _http.GetAsync(new Uri(_server, "/-/ready"), Token)).IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // It is still starting.
            }

            await Task.Delay(100, Token);
        }

        Assert.Fail("Alertmanager did not start.");
    }

    private void Stop()
    {
        if (_process is { HasExited: false } running)
        {
            running.Kill();
            running.WaitForExit();
        }

        _process?.Dispose();
    }

    private async Task<List<JsonElement>> ActiveAsync()
    {
        await using var body = await _http.GetStreamAsync(new Uri(_server, "/api/v2/alerts?active=true"), Token);
        using var json = await JsonDocument.ParseAsync(body, cancellationToken: Token);
        return [.. json.RootElement.EnumerateArray().Select(e => e.Clone())];
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
