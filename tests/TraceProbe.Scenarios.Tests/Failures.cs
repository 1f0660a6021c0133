using System.Diagnostics;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

public class WithIptablesNft(NftLab lab) : Failures<NftLab>(lab);

public class WithIptablesLegacy(LegacyLab lab) : Failures<LegacyLab>(lab);

public class WithNftables(NftablesLab lab) : Failures<NftablesLab>(lab);

public class WithUserspaceProxy(UserspaceLab lab) : Failures<UserspaceLab>(lab)
{
    [Fact]
    public void ProxyRefusedByAPodWhoseSocketsWereNotRead_IsADialRefused()
    {
        Break("wrong-target-port");

        var verdict = Diagnose.Run(WithoutPodSockets(Recorded(Url.ByName))).Verdict;

        verdict.Class.ShouldBe(FailureClass.ProxyDialRefused);
        verdict.Objects[0].ToString().ShouldBe("service/default/my-nginx");
        verdict.Sentence.ShouldContain("on port 8080 and was refused");
    }

    [Fact]
    public void ProxyRefusedWhereNoObjectsAreKnown_IsADialRefused()
    {
        Break("wrong-target-port");

        var report = Diagnose.Run(Recorded(Url.IPv4) with { Cluster = null });

        report.Verdict.Class.ShouldBe(FailureClass.ProxyDialRefused);
        report.Verdict.Objects[0].ToString().ShouldStartWith("pod/default/my-nginx-");
        report.Verdict.NotSeen.ShouldContain(n => n.Contains("desired account"));
    }

    [Fact]
    public void ProxyWithoutEndpointsThatTheApiHas_IsClosedWithoutABackend()
    {
        // What the API says is from before: kube-proxy knows no endpoint any more.
        var healthy = Lab.Lab.Cluster;
        Break("no-pods");

        var verdict = Diagnose.Run(Recorded(Url.ByName) with { Cluster = healthy }).Verdict;

        verdict.Class.ShouldBe(FailureClass.ProxyClosedNoBackend);
        verdict.Objects[0].ToString().ShouldBe("service/default/my-nginx");
        Diagnose.Run(Recorded(Url.IPv6) with { Cluster = null }).Verdict.Class.ShouldBe(FailureClass.ProxyClosedNoBackend);
    }

    private static Recording WithoutPodSockets(Recording recording)
    {
        var nodes = recording.Manifest.Places.Where(p => p.PodName is null).Select(p => p.NetNs).ToHashSet();
        return recording with
        {
            Nodes = [.. recording.Nodes.Select(n => n with
            {
                Listeners = [.. n.Listeners.Where(l => nodes.Contains(l.NetNs))],
                ListenersReadIn = [.. n.ListenersReadIn.Where(nodes.Contains)],
            })],
        };
    }
}

/// <summary>What people meet, in one mode of kube-proxy: each failure by name and by address, from pod and node, by our client and by theirs.</summary>
public abstract class Failures<TLab>(TLab lab) : IClassFixture<TLab>, IDisposable
    where TLab : ScenarioLab
{
    private static readonly string[] FromPod = [Url.ByName, Url.IPv4, Url.IPv6];

    protected TLab Lab { get; } = lab;

    private bool IsUserspace => Lab.Mode == ProxyMode.Userspace;

    // Whatever came of the test.
    public void Dispose()
    {
        if (TestContext.Current.TestState?.Result != TestResult.Skipped)
        {
            Lab.Lab.Mend();
            Lab.Timeout = "3s";
        }

        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(Url.ByName, "pod/ubuntu")]
    [InlineData(Url.ByFullName, "pod/ubuntu")]
    [InlineData("http://my-nginx.default:8080", "pod/default/ubuntu")]
    [InlineData(Url.IPv4, "pod/ubuntu")]
    [InlineData(Url.IPv6, "pod/ubuntu")]
    [InlineData("tcp://my-nginx:8080", "pod/ubuntu")]
    [InlineData("svc/my-nginx:8080", "pod/ubuntu")]
    [InlineData(Url.ByName, "pod/my-nginx-wu92j")]
    [InlineData(Url.IPv4, "node/node-1")]
    [InlineData(Url.IPv6, "node/node-1")]
    [InlineData("tcp://kube-dns.kube-system:53", "pod/ubuntu")]
    public void NothingWrong_IsHealthy(string url, string from)
    {
        _ = Lab.Lab;
        var verdict = Lab.Trace(url, from).ShouldBe(FailureClass.Healthy, url.Contains("kube-dns", StringComparison.Ordinal) ? "service/kube-system/kube-dns" : "service/default/my-nginx");

        verdict.NotSeen.ShouldBeEmpty();
        verdict.Mend.ShouldBeNull();
    }

    [Fact]
    public void NothingWrong_IsHealthyByMuslAndByCurl()
    {
        _ = Lab.Lab;
        Lab.Trace(Url.ByName, "pod/ubuntu", "--resolver", "musl").ShouldBe(FailureClass.Healthy);
        var curl = Lab.Curl(Url.ByName);
        curl.ShouldBe(FailureClass.Healthy, "service/default/my-nginx");
        curl.Report.ExitCode.ShouldBe(0);
    }

    [Fact]
    public void ServiceSendsToAPortThatNoPodHas_NamesBothPorts()
    {
        Break("wrong-target-port");
        foreach (var told in FailsEverywhere(FailureClass.WrongTargetPort, "service/default/my-nginx", Stage.Define, IsUserspace ? FailureClass.ProxyDialRefused : null))
        {
            told.Sentence.ShouldContain("target port 8080");
            told.Sentence.ShouldContain("listens on port 80 (nginx)");
        }

        Lab.Trace(Url.ByName, "pod/ubuntu", "--resolver", "musl").ShouldBe(FailureClass.WrongTargetPort, "service/default/my-nginx", Stage.Define);
        Heals(Url.ByName);
    }

    [Fact]
    public void PodsLabelledOtherwise_NamesBothLabels()
    {
        Break("wrong-labels");
        foreach (var told in FailsEverywhere(FailureClass.SelectorMatchesNothing, "service/default/my-nginx", Stage.Define, IsUserspace ? FailureClass.ProxyClosedNoBackend : null))
        {
            told.Sentence.ShouldContain("run=my-nginx,");
            told.Sentence.ShouldContain("run=my-nginxx");
        }

        Heals(Url.ByName);
    }

    [Fact]
    public void PodsNotReady_NamesTheProbe()
    {
        Break("not-ready");
        foreach (var told in FailsEverywhere(FailureClass.NoReadyEndpoints, "pod/default/my-nginx-tsyps", Stage.Define, IsUserspace ? FailureClass.ProxyClosedNoBackend : null))
        {
            told.Sentence.ShouldContain("/ready on port 80");
        }
    }

    [Fact]
    public void WorkloadScaledToNothing_SaysThatThereAreNoPods()
    {
        Break("no-pods");
        FailsEverywhere(FailureClass.NoPods, "service/default/my-nginx", Stage.Define, IsUserspace ? FailureClass.ProxyClosedNoBackend : null);
    }

    [Fact]
    public void RulesFlushed_NamesTheNode()
    {
        Lab.Timeout = "1s";
        Break("flush-rules");
        Lab.Trace(Url.ByName).ShouldBe(FailureClass.ProxyRulesMissing, "node/node-1", Stage.Resolve);
        Lab.Curl(Url.ByName).ShouldBe(FailureClass.ProxyRulesMissing, "node/node-1", Stage.Resolve);
        foreach (var (url, from) in (ReadOnlySpan<(string, string)>)[(Url.IPv4, "pod/ubuntu"), (Url.IPv6, "pod/ubuntu"), (Url.IPv4, "node/node-1")])
        {
            Lab.Trace(url, from).ShouldBe(FailureClass.ProxyRulesMissing, "node/node-1", Stage.Translate).Sentence.ShouldContain("untranslated and vanished");
        }

        // It was stopped, and so it says nothing; its process says that it was.
        Lab.Trace(Url.IPv4).Verdict.Evidence.ShouldContain(e => e.Text.EndsWith("on node-1 stands still: its process was stopped by a signal (state T)", StringComparison.Ordinal));
        var check = CheckedProxies();
        check[0].IsStopped.ShouldBeTrue();
        check[0].LastSync.ShouldBeNull();
        check[1].IsBehind.ShouldBeFalse();
        check[1].IsHealthy.ShouldBe(true);
        check[1].LastSync.ShouldNotBeNull();

        // The other node's are all there.
        Lab.Trace(Url.IPv4, "pod/my-nginx-wu92j").ShouldBe(FailureClass.Healthy);
        Heals(Url.ByName);
    }

    private List<Core.Node.KubeProxyAccount> CheckedProxies()
        => [.. System.Text.Json.JsonSerializer.Deserialize(Lab.Run("check", "-o", "json").Output, Core.Checks.CheckJson.Default.CheckReport)!.Nodes.Select(n => n.KubeProxy.ShouldNotBeNull())];

    [Fact]
    public void OneServicesRulesMissing_NamesTheService()
    {
        Lab.Timeout = "1s";
        Break("service-rule-missing");
        foreach (var told in FailsEverywhere(FailureClass.ServiceRuleMissing, "service/default/my-nginx", Stage.Translate, null))
        {
            told.Evidence.ShouldContain(e => e.Place == "node/node-1" && e.Text.Contains(" last synced ", StringComparison.Ordinal) && e.Text.Contains("a change has been queued since", StringComparison.Ordinal), string.Join('\n', told.Evidence));
        }

        var said = Lab.Trace(Url.IPv4).Report.KubeProxies.ShouldNotBeNull().ShouldHaveSingleItem().Said;
        said.Mode.ShouldBe(Lab.Mode is ProxyMode.Nftables or ProxyMode.Userspace ? Lab.Mode.ToString().ToLowerInvariant() : "iptables");
        said.Settings.ShouldNotBeNull().ClusterCidrs.ShouldBe(["10.244.0.0/16", "fd00:10:244::/56"]);
        said.IsBehind.ShouldBeTrue();
        said.Unread.ShouldBeEmpty();
        CheckedProxies()[0].IsBehind.ShouldBeTrue();
        Heals(Url.ByName);
    }

    [Fact]
    public void RulesOnTheWay_CountedThePacket()
    {
        Break("no-listener");
        var rules = Lab.Trace(Url.IPv4).Report.Rules!.Value;
        var (expected, others) = (rules.Where(r => r.IsExpected).ToList(), rules.Where(r => !r.IsExpected));
        others.ShouldBeEmpty();
        expected.ShouldContain(r => r.Rule.Raw.Contains("10.96.0.159", StringComparison.Ordinal) && r.Rule.Owner == "kube-proxy");
        foreach (var rule in expected)
        {
            // kube-proxy's nftables mode writes no counters, and none are made up.
            // What all new connections pass, such as readiness probes', counts those too.
            var isItsOwn = rule.Rule.Table == "nat" && (rule.Rule.Raw.Contains("10.96.0.159", StringComparison.Ordinal) || rule.Rule.Chain.StartsWith("KUBE-SVC-", StringComparison.Ordinal) || rule.Rule.Chain.StartsWith("KUBE-SEP-", StringComparison.Ordinal));
            rule.Counted.ShouldBe(Lab.Mode == ProxyMode.Nftables ? null : isItsOwn ? 1 : rule.Counted, rule.Rule.ToString());
            (rule.Counted == 0).ShouldBeFalse(rule.Rule.ToString());
        }

        // A request that went well is not kept waiting for it.
        Lab.Lab.Mend();
        Lab.Trace(Url.IPv4).Report.Rules.ShouldBeNull();
        Lab.Trace(Url.IPv4, "pod/ubuntu", "--counters").Report.Rules.ShouldNotBeNull();
    }

    [Fact]
    public void ServersStopped_SaysThatNothingListens()
    {
        Break("no-listener");
        foreach (var told in FailsEverywhere(FailureClass.NoListener, null, Stage.Accept, IsUserspace ? FailureClass.ProxyDialRefused : null))
        {
            told.Objects[0].Name.ShouldStartWith("my-nginx-");
            told.Sentence.ShouldContain("Nothing listens on port 80");
        }

        Heals(Url.ByName);
    }

    [Fact]
    public void PodAsksTheProvidersResolver_NamesThePodAndItsPolicy()
    {
        Break("wrong-resolver");
        foreach (var url in (ReadOnlySpan<string>)[Url.ByName, Url.ByFullName])
        {
            var told = Lab.Trace(url).ShouldBe(FailureClass.WrongResolver, "pod/default/ubuntu", Stage.Resolve);
            told.Sentence.ShouldContain("10.77.0.53");
            told.Sentence.ShouldContain("dnsPolicy is Default");
        }

        Lab.Trace(Url.ByName, "pod/ubuntu", "--resolver", "musl").ShouldBe(FailureClass.WrongResolver, "pod/default/ubuntu", Stage.Resolve);
        Lab.Trace(Url.IPv4).ShouldBe(FailureClass.Healthy);
        Heals(Url.ByName);
    }

    [Fact]
    public void NodeAsksTheProvidersResolver_NamesTheNode()
    {
        _ = Lab.Lab;
        try
        {
            Lab.Trace(Url.ByName, "node/node-1").ShouldBe(FailureClass.WrongResolver, "node/node-1", Stage.Resolve).Mend!.Text.ShouldContain("my-nginx.default.svc.cluster.local");
            Lab.Trace(Url.ByFullName, "node/node-1").ShouldBe(FailureClass.WrongResolver, "node/node-1", Stage.Resolve).Mend!.On.ShouldBe("node-1");
            Lab.Curl(Url.ByFullName, "node/node-1").ShouldBe(FailureClass.WrongResolver, "node/node-1", Stage.Resolve);
            Heals(Url.ByFullName, "node/node-1");
        }
        finally
        {
            Lab.Lab.Execute("sed -i '/10.96.0.10/d' /etc/resolv.conf", "node-1");
        }
    }

    [Fact]
    public void ServiceDeleted_IsNotFound()
    {
        Lab.Timeout = "1s";
        Break("service-deleted");
        Lab.Trace(Url.ByName).ShouldBe(FailureClass.ServiceNotFound, "service/default/my-nginx", Stage.Resolve).Sentence.ShouldContain("no service my-nginx in namespace default");
        Lab.Curl(Url.ByName).ShouldBe(FailureClass.ServiceNotFound, "service/default/my-nginx", Stage.Resolve);

        // By its old address it may be deleted or never have been.
        var byAddress = Lab.Trace(Url.IPv4);
        byAddress.Verdict.Class.ShouldBe(FailureClass.ServiceNotFound);
        byAddress.Verdict.Confidence.ShouldBe(Confidence.Likely);
        byAddress.ExitCode.ShouldBe(1);
        Lab.Trace(Url.IPv6).Verdict.Class.ShouldBe(FailureClass.ServiceNotFound);
    }

    [Fact]
    public void NameMisspelt_GivesTheNearest()
    {
        _ = Lab.Lab;
        var told = Lab.Trace("http://my-ngnix:8080");
        told.Verdict.Class.ShouldBe(FailureClass.ServiceNotFound);
        told.ExitCode.ShouldBe(1);
        told.Verdict.Sentence.ShouldBe("There is no service my-ngnix in namespace default; the nearest name is my-nginx.");
        told.Verdict.Mend!.Command.ShouldBe("kubectl get service my-nginx -n default");
    }

    [Fact]
    public void PortThatTheServiceLacks_NamesThoseItHas()
    {
        _ = Lab.Lab;
        Lab.Timeout = "1s";
        foreach (var url in (ReadOnlySpan<string>)["http://my-nginx:8081", "http://10.96.0.159:8081", "http://[fd00:10:96::9f]:8081"])
        {
            var told = Lab.Trace(url);
            told.Verdict.Class.ShouldBe(FailureClass.PortNotInService, told.Verdict.Sentence);
            told.ExitCode.ShouldBe(1);
        }
    }

    [Fact]
    public void OnlyPacketsSeen_AccusesNothingElse()
    {
        _ = Lab.Lab;
        var healthy = Lab.Trace(Url.ByName, "pod/ubuntu", "--source", "libpcap");
        healthy.ShouldBe(FailureClass.Healthy, "service/default/my-nginx");
        healthy.Verdict.NotSeen.ShouldContain(n => n.Contains("Only packets were seen"));
        Lab.Trace(Url.IPv4, "node/node-1", "--source", "libpcap").ShouldBe(FailureClass.Healthy);
        foreach (var (fault, right) in (ReadOnlySpan<(string, FailureClass)>)
            [
                ("wrong-target-port", FailureClass.WrongTargetPort), ("wrong-labels", FailureClass.SelectorMatchesNothing),
                ("flush-rules", FailureClass.ProxyRulesMissing), ("wrong-resolver", FailureClass.WrongResolver), ("no-listener", FailureClass.NoListener),
            ])
        {
            Break(fault);
            // A SYN's sequence number and a question's bytes tie both sides of a translation together, so the right one is found.
            Lab.Trace(Url.ByName, "pod/ubuntu", "--source", "libpcap").Verdict.Class.ShouldBe(right);
            if (fault != "wrong-resolver")
            {
                // On the node itself no packet shows what was asked for.
                var told = Lab.Trace(Url.IPv4, "node/node-1", "--source", "libpcap");
                new[] { right, FailureClass.Undetermined }.ShouldContain(told.Verdict.Class, $"{fault}: {told.Verdict.Sentence}");
                told.ExitCode.ShouldBe(told.Verdict.Class == right ? 1 : 3);
                told.Verdict.NotSeen.ShouldContain(n => n.Contains("Only packets were seen"));
            }

            Lab.Lab.Mend();
        }
    }

    [Fact]
    public void NeitherObjectsNorRulesKnown_IsUndeterminedAndSaysSo()
    {
        Break("flush-rules");
        var recording = Recorded(Url.IPv4) with { Cluster = null, Nodes = [] };
        var file = Path.Combine(Path.GetTempPath(), $"{Lab.Name}-stripped.tprec");
        try
        {
            RecordingArchive.Write(file, recording, Diagnose.Run(recording));
            var told = Lab.Run("replay", file, "-o", "json");
            told.ExitCode.ShouldBe(3);
            told.Verdict.Class.ShouldBe(FailureClass.Undetermined);
            told.Verdict.NotSeen.ShouldContain(n => n.StartsWith("the desired account"));
            told.Verdict.NotSeen.ShouldContain(n => n.StartsWith("the programmed account"));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public async Task ConnectionOfAnotherProgram_IsObserved()
    {
        Break("wrong-target-port");
        using var observer = Lab.Start(["observe", "--from", "pod/ubuntu", "--to", "svc/my-nginx", "--timeout", "8s", "-o", "json"]);
        var observed = Task.Run(() => Outcome.Of(observer), TestContext.Current.CancellationToken);
        var pod = Lab.Lab.FindPlace("pod/ubuntu")!;
        // It does not say when it is ready, and needs none: real clients go on asking as well.
        while (await Task.WhenAny(observed, Task.Delay(200, TestContext.Current.CancellationToken)) != observed)
        {
            using var curl = Lab.Start("nsenter", $"--target={pod.Pid}", "--net", "--mount", "curl", "-s", "--max-time", "1", Url.ByName);
            Outcome.Of(curl);
        }

        var outcome = await observed;
        outcome.ShouldBe(FailureClass.WrongTargetPort, "service/default/my-nginx", Stage.Define);
        outcome.Report.Mode.ShouldBe(RecordingMode.Observe);
        outcome.Report.Connections[0].Process!.ShouldStartWith("curl");
    }

    [Fact]
    public async Task InterruptedTrace_EndsAtOnceAndTellsWhatItSaw()
    {
        SkipWhereInterruptsAreIgnored();
        Break("flush-rules");
        using var trace = Lab.Start(["trace", Url.IPv4, "--from", "pod/ubuntu", "--timeout", "20s", "-o", "json"]);

        // Once its SYN is on its way to nowhere.
        var sockets = $"/proc/{Lab.Lab.FindPlace("pod/ubuntu")!.Pid}/net/tcp";
        for (var i = 0; i < 200 && !File.ReadLines(sockets).Any(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, _, _, "02", ..]); i++)
        {
            await Task.Delay(100, TestContext.Current.CancellationToken);
        }

        var outcome = await Interrupt(trace, trace.Id.ToString());

        outcome.Verdict.Class.ShouldBe(FailureClass.ProxyRulesMissing);
        outcome.ExitCode.ShouldBe(1);
        outcome.Verdict.NotSeen.ShouldContain("The request was interrupted before it ended.");
    }

    [Fact]
    public async Task InterruptedRun_EndsWithItsCommand()
    {
        SkipWhereInterruptsAreIgnored();
        Break("flush-rules");
        var mark = $"{Url.IPv4}/{Guid.NewGuid():N}";
        // As a terminal does, which sends Ctrl-C to the command and to us.
        using var run = Lab.Start("setsid", ScenarioLab.TraceProbe, "run", "--from", "pod/ubuntu", "-o", "json", "--", "curl", "-sS", mark);
        // On a busy machine it takes a while until there is anything to interrupt.
        for (var attempt = 0; attempt < 2000 && !run.HasExited && !Directory.GetDirectories("/proc").Any(p => CommandLineOf(p).StartsWith("curl\0", StringComparison.Ordinal) && CommandLineOf(p).Contains(mark)); attempt++)
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        var outcome = await Interrupt(run, $"-{run.Id}");

        outcome.Verdict.Class.ShouldBe(FailureClass.ProxyRulesMissing);
        outcome.ExitCode.ShouldBe(1);
        outcome.Report.ExitCode.ShouldBe(130);
        Directory.GetDirectories("/proc").Where(p => CommandLineOf(p).Contains(mark)).ShouldBeEmpty();
    }

    protected void Break(string fault) => Lab.Lab.Break(fault);

    /// <summary>A request as it was recorded, now.</summary>
    protected Recording Recorded(string url)
    {
        var file = Path.Combine(Path.GetTempPath(), $"{Lab.Name}.tprec");
        try
        {
            var traced = Lab.Trace(url, "pod/ubuntu", "--save", file);
            File.Exists(file).ShouldBeTrue(traced.Error);
            return RecordingArchive.Read(file).Recording;
        }
        finally
        {
            File.Delete(file);
        }
    }

    // The same cause, however it is asked: by name, by both addresses, from the node itself, and by curl.
    private List<Verdict> FailsEverywhere(FailureClass expected, string? firstObject, Stage diverges, FailureClass? also)
    {
        List<Verdict> told = [.. FromPod.Select(url => Lab.Trace(url).ShouldBe(expected, firstObject, diverges))];
        told.Add(Lab.Trace(Url.IPv4, "node/node-1").ShouldBe(expected, firstObject, diverges));
        told.Add(Lab.Trace(Url.IPv6, "node/node-1").ShouldBe(expected, firstObject, diverges));
        told.Add(Lab.Curl(Url.ByName).ShouldBe(expected, firstObject, diverges));
        told.ShouldAllBe(v => v.AlsoFound.SequenceEqual(also == null ? Array.Empty<FailureClass>() : new[] { also.Value }));
        return told;
    }

    // What the verdict says to do is done, word for word.
    private void Heals(string url, string from = "pod/ubuntu")
    {
        var mend = Lab.Trace(url, from).Verdict.Mend.ShouldNotBeNull();
        var said = Lab.Lab.Execute(mend.Command.ShouldNotBeNull(), mend.On);
        Lab.Lab.ActiveFaults.ShouldBeEmpty(said);
        Lab.Timeout = "3s";
        Lab.Trace(url, from).ShouldBe(FailureClass.Healthy);
    }

    // A shell without job control ignores Ctrl-C for what it starts in the background, and so does everything below it (POSIX, section 2.11 of the shell's language).
    private static void SkipWhereInterruptsAreIgnored()
    {
        var ignored = File.ReadLines("/proc/self/status").First(l => l.StartsWith("SigIgn:", StringComparison.Ordinal)).Split('\t')[1];
        Assert.SkipWhen((Convert.ToUInt64(ignored, 16) & 2) != 0, "needs to be started where SIGINT is not ignored");
    }

    private static async Task<Outcome> Interrupt(Process process, string whom)
    {
        var outcome = Task.Run(() => Outcome.Of(process));
        await Task.Delay(1500);
        using (var kill = Process.Start("kill", ["-INT", "--", whom]))
        {
            await kill.WaitForExitAsync();
        }

        (await Task.WhenAny(outcome, Task.Delay(5000))).ShouldBeSameAs(outcome, "it goes on after Ctrl-C");
        return await outcome;
    }

    private static string CommandLineOf(string process)
    {
        try
        {
            return File.ReadAllText($"{process}/cmdline");
        }
        catch (IOException)
        {
            return "";
        }
    }
}
