using System.Net;
using System.Net.Http.Headers;
using TraceProbe.Cluster;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;

namespace TraceProbe.Scenarios.Tests;

/// <summary>
/// TraceProbe on a node, as on any cluster's: it runs in the node's own network, knows nothing of a lab, and has its objects from the API
/// server. kubectl itself makes the mends.
/// </summary>
public sealed class ClusterApiTests(NftLab lab) : IClassFixture<NftLab>
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string[] Access => ["--kubeconfig", lab.Lab.KubeconfigPath, "--context", $"{lab.Name}-inside"];

    [Fact]
    public void KubectlGet_ShowsWhatThereIs()
    {
        var shown = Kubectl("get", "svc,endpointslices,pods,nodes", "-A", "-o", "wide");

        shown.ExitCode.ShouldBe(0, shown.Error);
        foreach (var words in (string[])["service/my-nginx", "8080/TCP", "run=my-nginx", "endpointslice.discovery.k8s.io/kubernetes", "10.77.0.11", "pod/coredns-6d4b75cb6d-x7k2p", "node/node-2"])
        {
            shown.Output.ShouldContain(words);
        }

        shown.Output.ShouldMatch(@"default +pod/my-nginx-tsyps +1/1 +Running +0 +10\.244\.1\.11 +node-1 +\d+[smh]");
        Kubectl("get", "pods", "-l", "run in (my-nginx)", "--field-selector", "spec.nodeName=node-2", "-o", "name").Output.ShouldBe("pod/my-nginx-wu92j\n");
        Kubectl("get", "pods", "-A", "--chunk-size=2", "-o", "name").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length.ShouldBe(lab.Lab.Cluster.Pods.Length + 2, "with the two of kube-proxy");
        Kubectl("get", "pod", "nobody").Error.ShouldContain("pods \"nobody\" not found");
    }

    [Fact]
    public void ConfigMapsOfKubeProxyAndCoreDns_AreServedAndSaidToBeWhereThingsStand()
    {
        Kubectl("get", "cm", "-n", "kube-system").Output.ShouldMatch(@"coredns +1 +\d+");
        Kubectl("get", "configmap", "kube-proxy", "-n", "kube-system", "-o", "jsonpath={.data.config\\.conf}").Output.ShouldContain("clusterCIDR: 10.244.0.0/16,fd00:10:244::/56\n");
        Kubectl("get", "cm", "nobody", "-n", "kube-system").Error.ShouldContain("configmaps \"nobody\" not found");

        var file = Path.GetTempFileName();
        try
        {
            OnNode("snapshot", "-o", file).ExitCode.ShouldBe(0);
            var cluster = SnapshotReader.Read(file);
            (cluster.ClusterDomain, cluster.ClusterDomainFrom).ShouldBe(("cluster.local", "configmap/kube-system/coredns"));
            var told = cluster.Settings.KubeProxy.ShouldNotBeNull();
            (told.Mode, told.MasqueradeAll, told.From).ShouldBe(("iptables", false, "configmap/kube-system/kube-proxy"));
            told.ClusterCidrs.ShouldBe(["10.244.0.0/16", "fd00:10:244::/56"]);
            cluster.Unread.ShouldBeEmpty();
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Theory]
    [InlineData("wrong-target-port", FailureClass.WrongTargetPort)]
    [InlineData("wrong-labels", FailureClass.SelectorMatchesNothing)]
    [InlineData("proxy-rules-missing", FailureClass.ProxyRulesMissing)]
    public void FailureOnANode_IsNamedThroughTheApi_AndKubectlMendsItAsTheVerdictSays(string fault, FailureClass expected)
    {
        // Of pods on other nodes a node does not know what listens in them.
        Kubectl("scale", "deployment", "my-nginx", "--replicas=1").ExitCode.ShouldBe(0);
        lab.Lab.Break(fault);
        try
        {
            var verdict = OnNode("trace", Url.ByName, "--from", "pod/ubuntu", "-o", "json").Verdict;
            verdict.Class.ShouldBe(expected, verdict.Sentence);
            verdict.Confidence.ShouldBe(Confidence.Certain);

            var command = verdict.Mend.ShouldNotBeNull().Command.ShouldNotBeNull();
            command.ShouldStartWith("kubectl ");
            var mended = Outcome.Of(lab.Start("sh", "-c", $"export KUBECONFIG={lab.Lab.KubeconfigPath}; {command}"));
            mended.ExitCode.ShouldBe(0, $"{command}: {mended.Error}");

            // kubectl does not wait until controllers and kube-proxies have followed.
            Outcome after;
            for (var attempt = 0; (after = OnNode("trace", Url.ByName, "--from", "pod/ubuntu", "-o", "json")).ExitCode != 0; attempt++)
            {
                (attempt < 10).ShouldBeTrue(after.Verdict.Sentence);
            }

            after.Verdict.Class.ShouldBe(FailureClass.Healthy);
        }
        finally
        {
            lab.Lab.Mend();
            Kubectl("scale", "deployment", "my-nginx", "--replicas=2").ExitCode.ShouldBe(0);
        }
    }

    [Fact]
    public void DeletedKubeProxy_IsMadeAnewUnderAnotherNameAndUid()
    {
        string[] select = ["pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy", "--field-selector", "spec.nodeName=node-1"];
        string[] uid = ["get", .. select, "-o", "jsonpath={.items[*].metadata.uid}"];
        var before = Kubectl(uid).Output;
        Guid.TryParse(before, out _).ShouldBeTrue(before);

        Kubectl(["delete", .. select, "--timeout=20s"]).Output.ShouldMatch("pod \"kube-proxy-.{5}\" deleted");

        var after = Kubectl(uid).Output;
        Guid.TryParse(after, out _).ShouldBeTrue(after);
        after.ShouldNotBe(before);
    }

    [Fact]
    public void ConnectionThatIsWaitedFor_MeetsTheObjectsOfItsTime()
    {
        using var watching = lab.Start("ip", ["netns", "exec", $"tp-{lab.Name}-node-1", ScenarioLab.TraceProbe, "observe", "--from", "pod/ubuntu", "--to", "svc/my-nginx", "--timeout", "20s", "-o", "json", .. Access]);
        try
        {
            // Once it waits, nobody needs to hurry: the objects are looked after every two seconds.
            Thread.Sleep(3000);
            Kubectl("patch", "service", "my-nginx", "--type", "json", "-p", """[{"op":"replace","path":"/spec/ports/0/targetPort","value":82}]""").ExitCode.ShouldBe(0);
            Thread.Sleep(5000);
            using var client = lab.Start("nsenter", $"--target={lab.Lab.FindPlace("pod/ubuntu")!.Pid}", "--net", "--mount", "curl", "-s", "-4", "--max-time", "2", Url.ByName);
            Outcome.Of(client).ExitCode.ShouldNotBe(0);

            var report = Outcome.Of(watching).Report;
            report.Verdict.Class.ShouldNotBe(FailureClass.Healthy);
            report.Verdict.Sentence.ShouldContain("82");
        }
        finally
        {
            lab.Lab.Execute("""kubectl patch service my-nginx --type json -p '[{"op":"replace","path":"/spec/ports/0/targetPort","value":80}]'""");
        }
    }

    [Fact]
    public void WorkloadsPodOnThisNode_IsWhereTheRequestIsMade()
    {
        OnNode("trace", "svc/hostnames:80", "--from", "deploy/my-nginx", "-o", "json").Report.Client.ShouldBe("pod/default/my-nginx-tsyps");
        Refused("deploy/hostnames", "hostnames-632524106-bbpiw is on node node-2");
        Refused("pod/my-nginx-wu92j", "runs on node node-2, and this is node-1");
        Refused("pod/ubunto", "The nearest: pod/default/ubuntu");
        Refused("deploy/my-ngins", "The nearest: my-nginx");
        Refused("pod/defualt/ubuntu", "There is no namespace defualt. The nearest: default");

        foreach (var (to, words) in (ReadOnlySpan<(string, string)>)[("svc/my-ngnix", "There is no Service my-ngnix in namespace default. The nearest: my-nginx."), ("svc/my-nginx:81", "has no port 81; it has 8080")])
        {
            var outcome = OnNode("observe", "--from", "pod/ubuntu", "--to", to);
            outcome.Error.ShouldContain(words);
            outcome.ExitCode.ShouldBe(2);
        }

        void Refused(string from, string words)
        {
            var outcome = OnNode("trace", Url.ByName, "--from", from);
            outcome.ExitCode.ShouldBe(2);
            outcome.Error.ShouldContain(words);
        }
    }

    [Fact]
    public void SnapshotAndRules_GiveTheSameAnywhere()
    {
        var folder = Directory.CreateTempSubdirectory("traceprobe-snapshot-").FullName;
        try
        {
            var file = Path.Combine(folder, "cluster.json.gz");
            var saved = OnNode("snapshot", "-o", file);
            saved.ExitCode.ShouldBe(0, saved.Error);
            Directory.GetFiles(folder).ShouldBe([file], "nothing half done is left");

            // As /dev/stdout is one, and what is behind it may be a device.
            var (link, behind) = (Path.Combine(folder, "link.json"), Path.Combine(folder, "behind.json"));
            File.CreateSymbolicLink(link, behind);
            File.WriteAllText(behind, new string(' ', 1 << 20));
            OnNode("snapshot", "-o", link).ExitCode.ShouldBe(0);
            new FileInfo(link).LinkTarget.ShouldBe(behind, "no file took its place");
            SnapshotReader.Read(behind).Services.ShouldNotBeEmpty();
            OnNode("snapshot", "-o", "-").Output.ShouldBe(File.ReadAllText(behind));
            var cluster = SnapshotReader.Read(file);
            cluster.Services.Select(s => s.Metadata.Name).Order().ShouldBe(lab.Lab.Cluster.Services.Select(s => s.Metadata.Name).Order());
            cluster.IsRead("networkpolicies").ShouldBeTrue();

            OnNode("check").ExitCode.ShouldBe(0);
            var walked = OnNode("rules", "walk", "--from", "pod/ubuntu", "--to", "svc/my-nginx:8080");
            walked.ExitCode.ShouldBe(0, walked.Error);
            walked.Output.ShouldContain("pod default/my-nginx-");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task NobodyElse_GetsIn()
    {
        File.GetUnixFileMode(lab.Lab.KubeconfigPath).ShouldBe(UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var server = Kubeconfig.Load([lab.Lab.KubeconfigPath]).ServerOf();
#pragma warning disable CA5359 // This one is not after the server's identity.
        using var handler = new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, _, _, _) => true } };
#pragma warning restore CA5359
        using var http = new HttpClient(handler) { BaseAddress = server.Url };
        (await http.GetAsync(new Uri("/api/v1/pods", UriKind.Relative), Token)).StatusCode.ShouldBe(HttpStatusCode.Unauthorized);
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", new string('0', 48));
        using var patch = new StringContent("{}", new MediaTypeHeaderValue("application/merge-patch+json"));
        (await http.PatchAsync(new Uri("/api/v1/namespaces/default/services/my-nginx", UriKind.Relative), patch, Token)).StatusCode.ShouldBe(HttpStatusCode.Unauthorized);
    }

    [Fact]
    public async Task LabThatChanges_IsFollowed()
    {
        using var client = new ApiClient(Kubeconfig.Load([lab.Lab.KubeconfigPath]).ServerOf(), new ApiClientOptions { PageSize = 2 });
        await using var live = await LiveCluster.FollowAsync(client, Token);
        live.Current.Unread.ShouldBeEmpty();
        live.Current.Pods.Length.ShouldBe(lab.Lab.Cluster.Pods.Length + 2, "with the two of kube-proxy");
        live.Current.FindServiceByAddress(IpAddress.Parse("10.96.0.159"))!.Metadata.Name.ShouldBe("my-nginx");

        Kubectl("label", "pod", "ubuntu", "mood=good").ExitCode.ShouldBe(0);
        await UntilAsync(() => live.Current.FindPod("default", "ubuntu")!.Metadata.Labels.GetValueOrDefault("mood") == "good");
        Kubectl("scale", "deployment", "my-nginx", "--replicas=1").ExitCode.ShouldBe(0);
        await UntilAsync(() => live.Current.Pods.Count(p => p.Metadata.Name.StartsWith("my-nginx-", StringComparison.Ordinal)) == 1);
        Kubectl("scale", "deployment/my-nginx", "--replicas=2").ExitCode.ShouldBe(0);
        await UntilAsync(() => live.Current.Pods.Count(p => p.Metadata.Name.StartsWith("my-nginx-", StringComparison.Ordinal) && p.IsReady) == 2);
        Kubectl("delete", "pod", "my-nginx-tsyps", "--timeout=20s").ExitCode.ShouldBe(0);
        Kubectl("rollout", "restart", "daemonset", "kube-proxy", "-n", "kube-system").ExitCode.ShouldBe(0);
        Kubectl("label", "pod", "ubuntu", "mood-").ExitCode.ShouldBe(0);
        await UntilAsync(() => live.Current.Unread.IsEmpty && !live.Current.FindPod("default", "ubuntu")!.Metadata.Labels.ContainsKey("mood"));
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        for (var attempt = 0; !condition(); attempt++)
        {
            (attempt < 3000).ShouldBeTrue();
            await Task.Delay(10, Token);
        }
    }

    private Outcome OnNode(params string[] arguments)
    {
        Assert.SkipUnless(File.Exists("/sbin/ip") || File.Exists("/usr/sbin/ip") || File.Exists("/bin/ip"), "needs ip");
        return Outcome.Of(lab.Start("ip", ["netns", "exec", $"tp-{lab.Lab.Name}-node-1", ScenarioLab.TraceProbe, .. arguments, .. Access]));
    }

    private Outcome Kubectl(params string[] arguments)
    {
        Assert.SkipUnless((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(p => File.Exists(Path.Combine(p, "kubectl"))), "needs kubectl");
        return Outcome.Of(lab.Start("kubectl", ["--kubeconfig", lab.Lab.KubeconfigPath, .. arguments]));
    }
}
