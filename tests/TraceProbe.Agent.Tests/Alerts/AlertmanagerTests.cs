using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Tests;

namespace TraceProbe.Agent.Tests.Alerts;

/// <summary>Debian's own Alertmanager, told by the sink.</summary>
public sealed class AlertmanagerTests : IDisposable
{
    private static readonly TimeSpan Repeat = TimeSpan.FromMinutes(1);

    private readonly HttpClient _http = new();
    private readonly Alertmanager _manager = new();

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
        _manager.Dispose();
        _http.Dispose();
    }

    [Fact]
    public async Task OpenedAlert_StandsThereWithItsCause_AndIsGoneOnceResolved()
    {
        await _manager.StartAsync(Token);
        var sink = new AlertmanagerSink(_http, _manager.Url, Repeat);
        await sink.SendAsync(new AlertChange(AlertEvent.Opened, Alert), Token);
        await sink.SendAsync(new AlertChange(AlertEvent.Continues, Alert), Token);

        var shown = (await _manager.ActiveAsync(Token)).ShouldHaveSingleItem();
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
        (await _manager.ActiveAsync(Token)).ShouldBeEmpty();
    }

    [Fact]
    public async Task AlertmanagerThatIsAway_IsToldOnceItIsBack()
    {
        var queue = new SinkQueue(new AlertmanagerSink(_http, _manager.Url, Repeat), NullLogger.Instance);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(Token);
        var running = queue.RunAsync(ending.Token);
        queue.Add(new AlertChange(AlertEvent.Opened, Alert));
        for (var i = 0; queue.Failed < 2 && i < 200; i++)
        {
            await Task.Delay(50, Token);
        }

        queue.Failed.ShouldBeGreaterThanOrEqualTo(2);
        await _manager.StartAsync(Token);
        for (var i = 0; i < 200 && (await _manager.ActiveAsync(Token)).Count == 0; i++)
        {
            await Task.Delay(50, Token);
        }

        (await _manager.ActiveAsync(Token)).ShouldHaveSingleItem();
        await ending.CancelAsync();
        await running;
    }

    [Fact]
    public async Task MoreThanThereIsRoomFor_WhileItIsAway_IsCounted()
    {
        var queue = new SinkQueue(new AlertmanagerSink(_http, _manager.Url, Repeat), NullLogger.Instance);
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
}
