using System.Text;
using TraceProbe.Agent.Baselines;
using TraceProbe.Agent.Watching;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Baselines;

public sealed class LearnedBaselineTests : IDisposable
{
    private static readonly DateTimeOffset Noon = new(2026, 11, 21, 12, 0, 0, TimeSpan.Zero);
    private static readonly FiveTuple Asked = new(IpProtocol.Tcp, AddressPort.Parse("10.244.1.10:40000"), AddressPort.Parse("10.96.0.11:80"));

    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"traceprobe-learned-{Guid.NewGuid():N}");

    public void Dispose()
    {
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Fact]
    public void Quantiles_AreRightToFivePercent()
    {
        var sketch = new LatencySketch();
        for (var i = 1; i <= 10_000; i++)
        {
            sketch.Add(TimeSpan.FromMicroseconds(i * 10));
        }

        foreach (var share in (double[])[0.01, 0.1, 0.5, 0.9, 0.99, 1])
        {
            sketch.Quantile(share).TotalMicroseconds.ShouldBe(share * 100_000, share * 100_000 * 0.05);
        }

        new LatencySketch().Quantile(0.5).ShouldBe(TimeSpan.Zero);
    }

    [Fact]
    public void TwoSketches_AddUpToThatOfBoth()
    {
        var (one, other, both) = (new LatencySketch(), new LatencySketch(), new LatencySketch());
        var random = new Random(3);
        for (var i = 0; i < 5_000; i++)
        {
            var time = TimeSpan.FromMicroseconds(Math.Exp(random.NextDouble() * 20));
            (i % 3 == 0 ? one : other).Add(time);
            both.Add(time);
        }

        one.Add(other);
        one.Buckets.ShouldBe(both.Buckets);
        one.Buckets.Count.ShouldBeLessThan(200);
    }

    [Fact]
    public void NowAndThenASlowAnswer_IsChance()
    {
        var baseline = New();
        for (var i = 0; i < 2_000; i++)
        {
            baseline.Learn(Answered(i % 20 == 0 ? 900 : 2 + (i % 5)), Noon).ShouldBeNull();
        }
    }

    [Fact]
    public void AnswersThatBecomeSlow_AreToldWithTheirReason_AndNeverBecomeUsual()
    {
        var baseline = New();
        for (var i = 0; i < 200; i++)
        {
            baseline.Learn(Answered(2 + (i % 5)), Noon).ShouldBeNull();
        }

        var told = Enumerable.Range(0, 1_000).Select(_ => baseline.Learn(Answered(400), Noon)).ToList();
        told.Count(t => t is not null).ShouldBe(996); // from the fifth on
        told[^1]!.Value.Class.ShouldBe(FailureClass.SlowerThanBaseline);
        told[^1]!.Value.Sentence.ShouldMatch(@"Answers of default/my-nginx:80 to deployment/default/web take 400 ms \(10 of the last 10\), where half of 200 took at most [34].* ms and 99 % at most [56].* ms\.");

        // And when they are quick again, nothing is said.
        baseline.Learn(Answered(3), Noon).ShouldBeNull();
        baseline.Connections.ShouldBe(201);
    }

    [Fact]
    public void AnotherResolver_IsToldOnce_WithItsReason_AndIsUsualFromThenOn()
    {
        var baseline = New();
        for (var i = 0; i < 40; i++)
        {
            baseline.Follow(Journey("10.96.0.10 (kube-system/kube-dns)")).ShouldBeEmpty();
        }

        // As when its resolv.conf was changed: from now on, each of them.
        var told = Enumerable.Range(0, 50).SelectMany(_ => baseline.Follow(Journey("8.8.8.8"))).ToList();
        var (stage, change) = told.ShouldHaveSingleItem();
        stage.ShouldBe(Stage.Resolve);
        change.ShouldBe("resolver: 8.8.8.8 in 5 of the last 10 journeys that were followed, and in none of 40 before; usual was 10.96.0.10 (kube-system/kube-dns).");

        // To and fro between what is known is no change.
        for (var i = 0; i < 200; i++)
        {
            baseline.Follow(Journey(i / 7 % 2 == 0 ? "8.8.8.8" : "10.96.0.10 (kube-system/kube-dns)")).ShouldBeEmpty();
        }
    }

    [Fact]
    public void NowAndThenAnotherResolver_IsChance()
    {
        var baseline = New();
        for (var i = 0; i < 2_000; i++)
        {
            baseline.Follow(Journey(i % 9 == 8 ? $"10.0.0.{i % 250}" : "10.96.0.10")).ShouldBeEmpty();
        }
    }

    [Fact]
    public void Habits_SurviveARestart()
    {
        var baselines = new LearnedBaselines(_folder, _ => { });
        var baseline = baselines.Of("deployment/default/web", "default/my-nginx:80", 4);
        for (var i = 0; i < 40; i++)
        {
            baseline.Follow(Journey("10.96.0.10"));
        }

        baselines.Store();
        var read = new LearnedBaselines(_folder, Unwanted).Of("deployment/default/web", "default/my-nginx:80", 4);
        Enumerable.Range(0, 10).SelectMany(_ => read.Follow(Journey("8.8.8.8"))).ToList().ShouldHaveSingleItem().Change.ShouldContain("in none of 40 before");
    }

    private static Baseline Journey(string resolver) => new()
    {
        Name = "learned",
        Client = "deployment/default/web",
        Service = "service/default/my-nginx:80",
        Target = new RequestTarget(RequestScheme.Http, "my-nginx", 80, "/"),
        RecordedAt = Noon,
        Stages = [new StageRecord(Stage.Resolve, StageStatus.Passed, [new StageFact("resolver", resolver), new StageFact("answer", "10.96.0.159")], 1_000_000)],
    };

    [Fact]
    public void BeforeEnoughIsKnown_NothingIsSlow()
    {
        var baseline = New();
        for (var i = 0; i < LearnedBaseline.Enough; i++)
        {
            baseline.Learn(Answered(i < 40 ? 1 : 5_000), Noon).ShouldBeNull();
        }
    }

    [Fact]
    public void WhatWasLearned_IsThereAgainAfterARestart()
    {
        var store = new LearnedBaselines(_folder, Unwanted);
        for (var i = 0; i < 100; i++)
        {
            store.Of("deployment/default/web", "default/my-nginx:80", 4).Learn(Answered(3), Noon.AddSeconds(i));
        }

        store.Store();
        var again = new LearnedBaselines(_folder, Unwanted).All.ShouldHaveSingleItem();
        again.ShouldSatisfyAllConditions(
            b => b.Client.ShouldBe("deployment/default/web"),
            b => b.Connections.ShouldBe(100),
            b => b.LastSeen.ShouldBe(Noon.AddSeconds(99)),
            b => b.Reply.Count.ShouldBe(100),
            b => b.Reply.Quantile(0.5).TotalMilliseconds.ShouldBe(3, 0.15),
            b => b.Backends.ShouldBe(["10.244.1.11:8080"]));
    }

    [Fact]
    public void FileCutOffAtAnyByte_IsSetAside_AndTheOthersAreRead()
    {
        var store = new LearnedBaselines(_folder, Unwanted);
        store.Of("a", "default/a:80", 4).Learn(Answered(3), Noon);
        store.Of("b", "default/b:80", 4).Learn(Answered(3), Noon);
        store.Store();
        var path = Directory.GetFiles(_folder, "*.json")[0];
        var whole = File.ReadAllBytes(path);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            var told = new List<string>();
            new LearnedBaselines(_folder, told.Add).Count.ShouldBe(1);
            told.ShouldHaveSingleItem().ShouldContain(path);
            File.Exists(path).ShouldBeFalse();
        }
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{\"client\":\"a\",\"service\":\"b\",\"family\":5}")]
    [InlineData("{\"client\":\"a\",\"service\":\"b\",\"family\":4,\"version\":9}")]
    [InlineData("{\"client\":\"a\",\"service\":\"b\",\"family\":4,\"reply\":{\"buckets\":{\"99999\":1}}}")]
    [InlineData("{\"client\":\"a\",\"service\":\"b\",\"family\":4,\"reply\":{\"buckets\":{\"7\":-1}}}")]
    public void FileThatMakesNoSense_IsSetAside(string text)
    {
        Directory.CreateDirectory(_folder);
        File.WriteAllBytes(Path.Combine(_folder, "x.json"), Encoding.UTF8.GetBytes(text));
        var told = new List<string>();
        new LearnedBaselines(_folder, told.Add).Count.ShouldBe(0);
        told.ShouldHaveSingleItem();
        Directory.GetFiles(_folder).ShouldHaveSingleItem().ShouldEndWith(".damaged");
    }

    [Fact]
    public void WhatACrashLeftHalfWritten_IsRemoved()
    {
        Directory.CreateDirectory(_folder);
        File.WriteAllText(Path.Combine(_folder, "x.json.tmp"), "{\"cli");
        new LearnedBaselines(_folder, Unwanted).Count.ShouldBe(0);
        Directory.GetFiles(_folder).ShouldBeEmpty();
    }

    private static void Unwanted(string message) => Assert.Fail(message);

    private static LearnedBaseline New() => new() { Client = "deployment/default/web", Service = "default/my-nginx:80", Family = 4 };

    // A connection whose answer takes so many milliseconds.
    private static Attempt Answered(int milliseconds)
    {
        var at = 1_000_000_000L;
        var syn = Packet(Asked, at) with { Flags = TcpFlags.Syn, NetNs = 1 };
        var attempt = new Attempt(Asked, syn, null);
        attempt.Add(syn, forward: true);
        attempt.TranslatedTo(AddressPort.Parse("10.244.1.11:8080"));
        attempt.Add(Packet(Asked.Reverse, at + 200_000) with { Flags = TcpFlags.Syn | TcpFlags.Ack, NetNs = 1 }, forward: false);
        attempt.Add(Packet(Asked, at + 300_000) with { Flags = TcpFlags.Psh | TcpFlags.Ack, NetNs = 1, PayloadLength = 80 }, forward: true);
        attempt.Add(Packet(Asked.Reverse, at + 300_000 + (milliseconds * 1_000_000L)) with { Flags = TcpFlags.Psh | TcpFlags.Ack, NetNs = 1, PayloadLength = 80 }, forward: false);
        return attempt;
    }

    private static NetworkEvent Packet(FiveTuple tuple, long at) => new() { Kind = EventKind.PacketQueued, BootNanoseconds = at, Tuple = tuple };
}
