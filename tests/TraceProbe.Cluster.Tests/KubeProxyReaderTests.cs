using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using TraceProbe.Core.Node;

namespace TraceProbe.Cluster.Tests;

/// <summary>What a node's kube-proxy says of itself: what real ones answered, and what else can answer at those ports.</summary>
public class KubeProxyReaderTests
{
    private const string Good = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

    [Theory]
    [InlineData("1.20.2/a-variety/iptables", "iptables", "2026-11-20T09:31:14.503Z")]
    [InlineData("1.33.13/a-variety/nftables", "nftables", null)]
    [InlineData("1.36.3/a-variety/iptables", "iptables", "2026-11-20T09:33:59.827Z")]
    [InlineData("1.36.3/a-variety/iptables-legacy", "iptables", null)]
    [InlineData("1.36.3/b-1000x5/nftables", "nftables", null)]
    public async Task WhatRealOnesAnswered_IsUnderstood(string folder, string mode, string? synced)
    {
        folder = Path.Combine(Fixture.RequireShared(), folder);
        var account = await AskAsync(new()
        {
            ["/metrics"] = Good + File.ReadAllText(Path.Combine(folder, "kube-proxy-metrics.txt")),
            ["/proxyMode"] = AsSent(Path.Combine(folder, "proxyMode.txt")),
            ["/healthz"] = AsSent(Path.Combine(folder, "healthz.txt")),
        });

        account.Unread.ShouldBeEmpty();
        account.Mode.ShouldBe(mode);
        account.IsHealthy.ShouldBe(true);
        account.LastSync.ShouldNotBeNull();
        account.LastQueued.ShouldNotBeNull().ShouldBeLessThan(account.LastSync.Value);
        account.IsBehind.ShouldBeFalse();
        if (synced is not null)
        {
            account.LastSync.Value.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", null).ShouldBe(synced);
        }

        // And what its configuration says is read the same way whether flags, file or itself tell it.
        KubeProxySettings.Of("configz", [], File.ReadAllBytes(Path.Combine(folder, "kube-proxy-configz.json"))).Mode.ShouldBe(mode);
    }

    [Fact]
    public async Task ChangeThatWaits_IsToldWithSinceWhen()
    {
        var account = await AskAsync(new()
        {
            ["/metrics"] = Good + """
                # TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge
                kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7952967e+09
                kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1.795296700125e+09
                kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.7952966e+09
                kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 1.79529672e+09 1795296999000
                kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 2
                kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 1
                kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="broken} NaN

                """,
            ["/proxyMode"] = Good + "ipvs",
            ["/healthz"] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        });

        account = account with { AskedAt = DateTimeOffset.FromUnixTimeSeconds(1795296738), Process = new ProcessRef(812, "kube-proxy") };
        account.Tell("node-1", ProxyMode.Iptables).ShouldBe(
        [
            "kube-proxy (812) on node-1 last synced 21:31:40 UTC, 38 s ago, and a change has been queued since 21:32:00 UTC",
            "kube-proxy (812) on node-1 has failed to write its rules 3 times; its log says why",
            "kube-proxy (812) on node-1 calls itself unhealthy (/healthz)",
            "kube-proxy (812) on node-1 works in mode ipvs, but the rules found are of mode iptables",
        ]);
    }

    [Theory]
    [InlineData("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n", "the answer is 404")]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP")]
    [InlineData("HTTP/1.1 200 OK", "not HTTP")]
    [InlineData("HTTP/1.1 \r\n\r\n", "not HTTP")]
    [InlineData("", "without an answer")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nkubeproxy_sync", "ends early")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "transfer coding")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body>Log in</body></html>", "none of kube-proxy's metrics")]
    [InlineData("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "the answer is 302")]
    [InlineData("reset", "reset")]
    [InlineData("slow", "no answer within 1 s")]
    [InlineData("drops", "no answer within 1 s")]
    [InlineData("huge", "longer than 4096 KiB")]
    public async Task WhateverElseAnswers_IsToldAndHoldsNothingUp(string answer, string why)
    {
        var watch = Stopwatch.StartNew();
        var account = await AskAsync(new() { ["/metrics"] = answer, ["/proxyMode"] = answer, ["/healthz"] = Good + "ok" });

        watch.Elapsed.ShouldBeLessThan(TimeSpan.FromSeconds(10), "its limit is a second, and this machine may be slow");
        account.LastSync.ShouldBeNull();
        account.Mode.ShouldBeNull();
        account.IsHealthy.ShouldBe(true, "the others are asked all the same");
        account.Unread.ShouldContain(u => u.What.EndsWith("/metrics", StringComparison.Ordinal) && u.Why.Contains(why, StringComparison.Ordinal), string.Join('\n', account.Unread));
        account.Unread.ShouldContain(u => u.What.EndsWith("/proxyMode", StringComparison.Ordinal));
    }

    [Fact]
    public void NobodyThere_IsToldAsSuch()
    {
        var account = KubeProxyReader.Read(null, null, new KubeProxySettings { MetricsBindAddress = "127.0.0.1:1", HealthzBindAddress = "[::1]:1" });

        account.Unread.Length.ShouldBe(3);
        account.Unread.ShouldAllBe(u => u.Why.Contains("refused", StringComparison.Ordinal) || u.Why.Contains("unreachable", StringComparison.Ordinal) || u.Why.Contains("assign", StringComparison.Ordinal));
        account.Tell("node-1", ProxyMode.Iptables).ShouldBeEmpty("that none answers is no evidence where no process is known");
    }

    [Theory]
    [InlineData("--proxy-mode=ipvs --cluster-cidr 10.0.0.0/8,fd00::/48 --detect-local-mode=BridgeInterface --masquerade-all", "ipvs", true)]
    [InlineData("--masquerade-all --proxy-mode=nftables --masquerade-all=false", "nftables", false)]
    [InlineData("--v=2", null, null)]
    public void FlagsOfTheProcess_AreReadFromProc(string flags, string? mode, bool? all)
    {
        using var process = Process.Start(new ProcessStartInfo("sh", ["-c", "read x", "kube-proxy", .. flags.Split(' ')]) { RedirectStandardInput = true })!;
        try
        {
            var settings = OnceStarted(process).Settings.ShouldNotBeNull();
            settings.Mode.ShouldBe(mode);
            settings.MasqueradeAll.ShouldBe(all);
            settings.From.ShouldBe($"the flags of kube-proxy ({process.Id})");
            if (mode == "ipvs")
            {
                settings.ClusterCidrs.ShouldBe(["10.0.0.0/8", "fd00::/48"]);
                settings.DetectLocalMode.ShouldBe("BridgeInterface");
            }
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    [Fact]
    public void ConfigurationFile_CountsAndIsReadAsTheProcessSeesIt()
    {
        var folder = Directory.CreateTempSubdirectory("traceprobe-kube-proxy-").FullName;
        try
        {
            // As a ConfigMap is mounted: config.conf is a link into a folder that is one too.
            Directory.CreateDirectory($"{folder}/..2026_11_21");
            File.WriteAllText($"{folder}/..2026_11_21/config.conf", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: 10.244.0.0/16\nmode: \"nftables\"\nmetricsBindAddress: \"\"\nnftables:\n  masqueradeAll: true\n");
            Directory.CreateSymbolicLink($"{folder}/..data", "..2026_11_21");
            File.CreateSymbolicLink($"{folder}/config.conf", "..data/config.conf");
            var read = Told($"{folder}/config.conf");
            read.Settings.ShouldNotBeNull().Mode.ShouldBe("nftables");
            read.Settings.MasqueradeAll.ShouldBe(true);
            read.Settings.MetricsBindAddress.ShouldBeNull();

            File.WriteAllText($"{folder}/secret", "- hunter2: [\n");
            Unreadable($"{folder}/secret", "no configuration of kube-proxy");
            Unreadable($"{folder}/absent", "no such file");
            Unreadable(folder, "");
            Unreadable("/dev/zero", "no plain file");
            File.WriteAllText($"{folder}/empty", "");
            Unreadable($"{folder}/empty", "empty");
            File.WriteAllBytes($"{folder}/long", new byte[2 << 20]);
            Unreadable($"{folder}/long", "too long");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        static void Unreadable(string file, string why)
        {
            var account = Told(file);
            account.Settings.ShouldBeNull("its flags alone would say what is not so");
            var unread = account.Unread[0];
            unread.Why.ShouldContain(why);
            unread.Why.ShouldNotContain("hunter2", customMessage: "what is in somebody's files is not for messages");
        }

        static KubeProxyAccount Told(string file)
        {
            using var process = Process.Start(new ProcessStartInfo("sh", ["-c", "read x", "kube-proxy", "--proxy-mode=userspace", $"--config={file}"]) { RedirectStandardInput = true })!;
            try
            {
                return OnceStarted(process);
            }
            finally
            {
                process.Kill();
                process.WaitForExit();
            }
        }
    }

    [Fact]
    public void ProcessThatStandsStill_IsToldAsSuch()
    {
        using var process = Process.Start(new ProcessStartInfo("sh", ["-c", "read x", "kube-proxy"]) { RedirectStandardInput = true })!;
        try
        {
            OnceStarted(process).IsStopped.ShouldBeFalse();
            Libc.kill(process.Id, 19).ShouldBe(0);
            SpinWait.SpinUntil(() => File.ReadAllText($"/proc/{process.Id}/stat").Contains(") T ", StringComparison.Ordinal), TimeSpan.FromSeconds(10)).ShouldBeTrue();
            var account = OnceStarted(process);
            account.IsStopped.ShouldBeTrue();
            account.Tell("node-1", ProxyMode.None).ShouldBe([$"kube-proxy ({process.Id}) on node-1 stands still: its process was stopped by a signal (state T)"]);
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    // A process that has just been forked still has our own command line.
    private static KubeProxyAccount OnceStarted(Process process)
    {
        SpinWait.SpinUntil(() => File.ReadAllText($"/proc/{process.Id}/cmdline").StartsWith("sh\0", StringComparison.Ordinal), TimeSpan.FromSeconds(10)).ShouldBeTrue();
        return KubeProxyReader.Read(null, new ProcessRef(process.Id, "kube-proxy"), new KubeProxySettings { MetricsBindAddress = "127.0.0.1:1", HealthzBindAddress = "127.0.0.1:1" });
    }

    private static string AsSent(string file) => File.ReadAllText(file) is var text && text.StartsWith("HTTP/", StringComparison.Ordinal) ? text.ReplaceLineEndings("\n").Replace("\n", "\r\n", StringComparison.Ordinal) : Good + text;

    private static async Task<KubeProxyAccount> AskAsync(Dictionary<string, string> answers)
    {
        using var stop = new CancellationTokenSource();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    _ = ServeAsync(await listener.AcceptSocketAsync(stop.Token), answers, stop.Token);
                }
            }
            catch (OperationCanceledException)
            {
                // That was the point.
            }
        });
        var at = listener.LocalEndpoint.ToString();
        var account = await Task.Run(() => KubeProxyReader.Read(null, null, new KubeProxySettings { MetricsBindAddress = at, HealthzBindAddress = at }));
        await stop.CancelAsync();
        await serving;
        return account;
    }

    private static async Task ServeAsync(Socket client, Dictionary<string, string> answers, CancellationToken stop)
    {
        try
        {
            var buffer = new byte[4096];
            var length = await client.ReceiveAsync(buffer, stop);
            var path = Encoding.ASCII.GetString(buffer, 0, length).Split(' ')[1];
            switch (answers[path])
            {
                case "reset":
                    client.LingerState = new LingerOption(true, 0);
                    break;
                case "slow":
                    await Task.Delay(Timeout.Infinite, stop);
                    break;
                case "drops":
                    while (true)
                    {
                        await client.SendAsync("H"u8.ToArray(), stop);
                        await Task.Delay(50, stop);
                    }

                case "huge":
                    await client.SendAsync(Encoding.ASCII.GetBytes(Good), stop);
                    while (true)
                    {
                        await client.SendAsync(new byte[1 << 20], stop);
                    }

                case var text:
                    await client.SendAsync(Encoding.UTF8.GetBytes(text), stop);
                    client.Shutdown(SocketShutdown.Send);
                    await client.ReceiveAsync(buffer, stop);
                    break;
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // It gave up, as it may.
        }
        finally
        {
            client.Dispose();
        }
    }
}
