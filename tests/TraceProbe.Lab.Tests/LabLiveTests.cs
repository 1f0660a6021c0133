using System.Diagnostics;
using System.Text.Json;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

/// <summary>The lab on a real kernel. Every test has a lab of its own and leaves nothing of it.</summary>
public class LabLiveTests
{
    private const string Url = "http://my-nginx:8080";
    private const string ClusterIPv4 = "http://10.96.0.159:8080";
    private const string ClusterIPv6 = "http://[fd00:10:96::9f]:8080";
    private const string FullName = "http://my-nginx.default.svc.cluster.local:8080";

    [Fact]
    public async Task HealthyLab_ServesByNameAndAddress_AndDownLeavesNothing()
    {
        await using var live = await LiveLab.UpAsync(ProxyMode.IptablesNft);
        var lab = live.Lab;

        foreach (var (url, options) in (ReadOnlySpan<(string, string[])>)[(Url, []), (Url, ["-4"]), (Url, ["-6"]), (FullName, []), (ClusterIPv4, []), (ClusterIPv6, [])])
        {
            live.Curl("pod/ubuntu", url, options).ShouldContain("Served by my-nginx-");
        }

        // A pod that reaches itself through the Service, in one of the first requests: hairpin and masquerade.
        Enumerable.Range(0, 16).Select(_ => live.Curl("pod/my-nginx-tsyps", Url)).ShouldAllBe(said => said.Contains("Served by my-nginx-"));
        live.Curl("node-1", ClusterIPv4).ShouldContain("Served by");
        // The fourth failure of the article: the node asks the provider's resolver, and goes where nobody is.
        live.Curl("node-1", FullName).ShouldContain("(28)");
        live.Curl("pod/ubuntu", "http://nobody:8080").ShouldContain("Could not resolve host");
        lab.Execute("sed -i '1i nameserver 10.96.0.10' /etc/resolv.conf", "node-1");
        live.Curl("node-1", FullName).ShouldContain("Served by");

        var places = lab.Places;
        places.Select(p => p.Name).Order().ShouldBe(["node/node-1", "node/node-2", "outside", "pod/default/hostnames-632524106-bbpiw", "pod/default/my-nginx-tsyps", "pod/default/my-nginx-wu92j", "pod/default/ubuntu", "pod/kube-system/coredns-6d4b75cb6d-x7k2p"]);
        foreach (var place in places)
        {
            new FileInfo($"/proc/{place.Pid}/ns/net").LinkTarget.ShouldBe($"net:[{place.NetNs}]");
            File.ReadAllText($"/proc/{place.Pid}/root/etc/resolv.conf").ShouldBe(File.ReadAllText($"{place.EtcPath}/resolv.conf"));
            (place.Kind == PlaceKind.Pod && Cgroups.Mount() is not null).ShouldBe(File.ReadAllText($"/proc/{place.Pid}/cgroup").Contains($"kubepods/besteffort/pod{place.PodUid}"), place.Name);
        }

        using var snapshot = JsonDocument.Parse(File.ReadAllText(lab.SnapshotPath));
        snapshot.RootElement.GetProperty("items").EnumerateArray().Select(i => i.GetProperty("kind").GetString()).Distinct().Order().ShouldBe(["EndpointSlice", "Node", "Pod", "Service"]);
        File.GetUnixFileMode(lab.StateFolder).ShouldBe(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Should.Throw<LabException>(() => Lab.UpAsync(new LabOptions { Name = lab.Name }).GetAwaiter().GetResult()).Message.ShouldContain("is up already");

        Lab.Down(lab.Name).ShouldBeTrue();
        LiveLab.Traces(lab.Name).ShouldBeEmpty();
        Lab.Down(lab.Name).ShouldBeFalse();
    }

    [Theory]
    [InlineData(ProxyMode.IptablesNft)]
    [InlineData(ProxyMode.IptablesLegacy)]
    [InlineData(ProxyMode.Nftables)]
    [InlineData(ProxyMode.Ipvs)]
    public async Task EveryFault_HasItsSymptom_AndMendHeals(ProxyMode mode)
    {
        await using var live = await LiveLab.UpAsync(mode);
        var symptoms = new (string Fault, string Url, string Symptom)[]
        {
            ("wrong-resolver", Url, "(6)"),
            ("service-deleted", Url, "(6)"),
            ("wrong-target-port", ClusterIPv6, "(7)"),
            ("wrong-labels", ClusterIPv4, "(7)"),
            ("no-pods", ClusterIPv4, "(7)"),
            ("not-ready", ClusterIPv4, "(7)"),
            // In IPVS mode the address is the node's own, which has nothing behind it then.
            ("flush-rules", ClusterIPv4, mode == ProxyMode.Ipvs ? "(7)" : "(28)"),
            ("service-rule-missing", ClusterIPv6, "(28)"),
            ("no-listener", ClusterIPv4, "(7)"),
        };
        foreach (var (name, url, symptom) in symptoms)
        {
            var fault = Fault.Find(name).Name;
            live.Lab.Break(name);
            live.Lab.ActiveFaults.Select(f => f.Name).ShouldBe([fault]);
            live.Curl("pod/ubuntu", url).ShouldContain(symptom, customMessage: fault);

            live.Lab.Mend().Select(f => f.Name).ShouldBe([fault]);
            live.Lab.ActiveFaults.ShouldBeEmpty();
            live.Curl("pod/ubuntu", Url).ShouldContain("Served by", customMessage: fault);
            live.Curl("pod/ubuntu", ClusterIPv6).ShouldContain("Served by", customMessage: fault);
        }

        // What the kernel gives back is what was written, chain by chain.
        foreach (var ipv6 in (bool[])[false, true])
        {
            var node = NetNs.PathOf($"tp-{live.Lab.Name}-node-1");
            if (mode == ProxyMode.Nftables)
            {
                var listed = Command.Run(node, "nft", ["list", "ruleset"]);
                var family = ipv6 ? "ip6" : "ip";
                ListedTables.Normalise(listed, family).ShouldBe(ListedTables.Normalise(NftablesRules.Write(live.Lab.Cluster, Options(), ipv6).ToString(), family));
                continue;
            }

            var wanted = KubeProxyRules.Write(live.Lab.Cluster, Options(), ipv6);
            if (mode == ProxyMode.Ipvs)
            {
                var ipvs = IpvsRules.Write(live.Lab.Cluster, Options(), ipv6);
                wanted = ipvs.Tables;
                Ipvs.ComposeSets(ipvs, Command.Run(node, "ipset", ["save"])).Split('\n').ShouldNotContain(l => l.StartsWith("add") || l.StartsWith("del"));
                // What has been a server and is none may still have connections.
                Ipvs.ComposeServers(ipvs, Ipvs.ReadServers(Command.Run(node, "ipvsadm", ["-L", "-n"])).Where(s => s.Where.Address.IsIPv4 != ipv6))
                    .Split('\n', StringSplitOptions.RemoveEmptyEntries).ShouldAllBe(l => l.StartsWith("-d "));
                Command.Run(node, "ip", ["-json", "addr", "show", "dev", Ipvs.Device]).ShouldContain(ipv6 ? "\"fd00:10:96::9f\"" : "\"10.96.0.159\"");
            }

            // Nothing is missing and nothing is to be removed, so only our own chains are written again.
            var again = Iptables.Compose(wanted, live.Rules("node-1", ipv6));
            again.ShouldNotContain("\n-I ");
            again.ShouldNotContain("\n-D ");
            again.ShouldNotContain("\n-X ");
            foreach (var rule in wanted.SelectMany(t => t.Rules.Concat(t.Jumps)))
            {
                live.Rules("node-1", ipv6).Split('\n').ShouldContain(rule);
            }
        }

        static KubeProxyOptions Options() => new()
        {
            NodeName = "node-1",
            ClusterCidrs = [IpNetwork.Parse(LabLayout.ClusterCidrIPv4), IpNetwork.Parse(LabLayout.ClusterCidrIPv6)],
            ServiceCidrs = [IpNetwork.Parse(LabLayout.ServiceCidrIPv4), IpNetwork.Parse(LabLayout.ServiceCidrIPv6)],
            NodeAddresses = [IpAddress.Parse("10.77.0.11"), IpAddress.Parse("fd00:10:77::11")],
        };
    }

    [Fact]
    public async Task NftablesMode_TreatsEachPacketAsKubeProxysRulesDo()
    {
        await using var live = await LiveLab.UpAsync(ProxyMode.Nftables);
        foreach (var (place, url) in (ReadOnlySpan<(string, string)>)
            [("pod/ubuntu", Url), ("pod/ubuntu", ClusterIPv4), ("pod/ubuntu", ClusterIPv6), ("node-1", ClusterIPv4), ("node-2", ClusterIPv6)])
        {
            live.Curl(place, url).ShouldContain("Served by", customMessage: $"{url} from {place}");
        }

        // A pod that reaches itself through the Service: the hairpin set's masquerade.
        Enumerable.Range(0, 16).Select(_ => live.Curl("pod/my-nginx-tsyps", Url)).ShouldAllBe(said => said.Contains("Served by my-nginx-"));
        // Of an address that a Service has, other ports are rejected; addresses that none has are dropped.
        live.Curl("pod/ubuntu", "http://10.96.0.159:81").ShouldContain("(7)");
        live.Curl("pod/ubuntu", "http://[fd00:10:96::9f]:81").ShouldContain("(7)");
        live.Curl("node-1", "http://10.96.0.159:81").ShouldContain("(7)");
        live.Curl("pod/ubuntu", "http://10.96.7.7:80").ShouldContain("(28)");

        live.Lab.Execute("kubectl patch service my-nginx -n default -p '{\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":8080,\"nodePort\":30080}]}}'");
        foreach (var node in (string[])["10.77.0.11", "[fd00:10:77::12]"])
        {
            live.Curl("outside", $"http://{node}:30080").ShouldContain("Served by");
        }

        // With no endpoint on node-1, its node port is dead to those outside and open to the pods inside.
        live.Lab.Execute("kubectl patch service my-nginx -n default -p '{\"spec\":{\"externalTrafficPolicy\":\"Local\"}}'");
        File.WriteAllText($"{live.Lab.StateFolder}/places/my-nginx-tsyps/not-ready", "");
        await Until(() => live.Lab.Cluster.FindPod("default", "my-nginx-tsyps") is { IsReady: false });
        await Until(() => live.Curl("outside", "http://10.77.0.11:30080").Contains("(28)"));
        live.Curl("outside", "http://10.77.0.12:30080").ShouldContain("Served by my-nginx-wu92j");
        live.Curl("pod/ubuntu", "http://10.77.0.11:30080").ShouldContain("Served by my-nginx-wu92j");
        live.Lab.Break("no-pods");
        live.Curl("outside", "http://10.77.0.11:30080").ShouldContain("(7)");
        live.Curl("node-1", ClusterIPv6).ShouldContain("(7)");
    }

    [Fact]
    public async Task UserspaceMode_ClosesWithoutReply()
    {
        await using var live = await LiveLab.UpAsync(ProxyMode.Userspace);
        foreach (var url in (string[])[Url, ClusterIPv4, ClusterIPv6])
        {
            live.Curl("pod/ubuntu", url).ShouldContain("Served by");
        }

        live.Curl("node-1", ClusterIPv4).ShouldContain("Served by");
        foreach (var fault in (string[])["wrong-target-port", "wrong-labels", "no-pods", "no-listener"])
        {
            live.Lab.Break(fault);
            live.Curl("pod/ubuntu", Url).ShouldContain("(52) Empty reply", customMessage: fault);
            live.Curl("pod/ubuntu", ClusterIPv6).ShouldContain("(52) Empty reply", customMessage: fault);
            live.Lab.Mend();
            live.Curl("pod/ubuntu", Url).ShouldContain("Served by", customMessage: fault);
        }

        File.ReadAllText($"{live.Lab.StateFolder}/places/node-1/kube-proxy.log").ShouldContain(":8080: connection refused");
        ProcessTable.InNamespaces(new HashSet<uint> { live.Lab.FindPlace("node-1")!.NetNs })
            .Select(pid => File.ReadAllText($"/proc/{pid}/comm").Trim()).ShouldContain("kube-proxy");
    }

    [Fact]
    public async Task ChangedObject_IsFollowedByTheController()
    {
        await using var live = await LiveLab.UpAsync(ProxyMode.IptablesNft);

        // By hand, as somebody with an editor would: nobody but the controller sees it.
        var path = Path.Combine(live.Lab.StateFolder, "objects", "services", "default.my-nginx.json");
        File.WriteAllText(path, File.ReadAllText(path).Replace("\"targetPort\": 80\n", "\"targetPort\": 8080\n"));
        await Until(() => live.Rules("node-2", ipv6: false).Contains("10.244.1.11:8080"));
        live.Lab.ActiveFaults.Select(f => f.Name).ShouldBe(["wrong-target-port"]);
        live.Lab.Execute("kubectl patch service my-nginx -n default -p '{\"spec\":{\"ports\":[{\"port\":8080,\"targetPort\":80}]}}'");
        live.Curl("pod/ubuntu", Url).ShouldContain("Served by");

        // A server that stops being ready by itself.
        var pod = live.Lab.FindPlace("pod/my-nginx-wu92j")!;
        File.WriteAllText($"{live.Lab.StateFolder}/places/my-nginx-wu92j/not-ready", "");
        await Until(() => live.Lab.Cluster.FindPod("default", "my-nginx-wu92j") is { IsReady: false });
        await Until(() => !live.Rules("node-1", ipv6: false).Contains("10.244.2.12:80"));
        live.Lab.Mend();

        live.Lab.Break("wrong-labels");
        live.Lab.Execute("kubectl label pod my-nginx-tsyps my-nginx-wu92j -n default run=my-nginx --overwrite");
        live.Curl("pod/ubuntu", Url).ShouldContain("Served by");
        live.Lab.Break("wrong-labels");
        live.Lab.Execute("kubectl set selector service my-nginx -n default 'run=my-nginxx'");
        live.Curl("pod/ubuntu", Url).ShouldContain("Served by");
        live.Lab.Break("flush-rules");
        live.Curl("pod/ubuntu", ClusterIPv4).ShouldContain("(28)");
        live.Lab.Execute("kubectl delete pod -n kube-system -l k8s-app=kube-proxy --field-selector spec.nodeName=node-1");
        live.Curl("pod/ubuntu", Url).ShouldContain("Served by");
        live.Lab.ActiveFaults.ShouldBeEmpty();
        Should.Throw<LabException>(() => live.Lab.Execute("kubectl drain node-1")).Message.ShouldContain("it knows kubectl patch");
    }

    [Fact]
    public async Task CommandThatRunsForLong_KeepsNobodyFromTheLab()
    {
        await using var live = await LiveLab.UpAsync(ProxyMode.IptablesNft);
        var (ready, go) = ($"{live.Lab.StateFolder}/ready", $"{live.Lab.StateFolder}/go");
        var waiting = Task.Run(() => live.Lab.Execute($"touch {ready}; for i in $(seq 300); do [ -e {go} ] && break; sleep 0.1; done; [ -e {go} ] && echo gone on", "node-1"), TestContext.Current.CancellationToken);
        await Until(() => File.Exists(ready));
        live.Lab.Execute("kubectl label pod my-nginx-tsyps -n default colour=green --overwrite");
        File.WriteAllText(go, "");
        (await waiting).Trim().ShouldBe("gone on");
    }

    [Fact]
    public async Task TwoLabs_LiveSideBySide()
    {
        var name = LiveLab.NewName();
        await using var one = await LiveLab.UpAsync(ProxyMode.IptablesNft, name);
        // A name that begins like the other's: what belongs to whom must not be guessed from a prefix.
        await using var other = await LiveLab.UpAsync(ProxyMode.Userspace, $"{name}-node-1");
        Lab.Names.ShouldContain(name);
        one.Lab.Break("wrong-target-port");

        one.Curl("pod/ubuntu", ClusterIPv4).ShouldContain("(7)");
        other.Curl("pod/ubuntu", Url).ShouldContain("Served by");
        Lab.Down(name);
        other.Curl("pod/ubuntu", Url).ShouldContain("Served by");
        Lab.Down(other.Lab.Name);
        LiveLab.Traces(name).ShouldBeEmpty();
    }

    [Theory]
    [InlineData("laying the network")]
    [InlineData("starting nodes, pods and resolvers")]
    [InlineData("waiting for the pods to be ready")]
    public async Task KilledUp_IsCleanedByDown(string when)
    {
        LiveLab.SkipUnlessPossible();
        var name = LiveLab.NewName();
        try
        {
            using var up = Process.Start(new ProcessStartInfo(LiveLab.Self()[0], ["up", name]) { RedirectStandardOutput = true })!;
            while (await up.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken) is { } said && said != when)
            {
                // On to the moment we wait for.
            }

            Thread.Sleep(15);
            up.Kill();
            up.WaitForExit();
            Lab.IsUp(name).ShouldBeFalse();
            Should.Throw<LabException>(() => Lab.Open(name)).Message.ShouldContain("traceprobe lab down");
        }
        finally
        {
            Lab.Down(name);
        }

        await Until(() => LiveLab.Traces(name).Count == 0);
        LiveLab.Traces(name).ShouldBeEmpty();
    }

    [Fact]
    public async Task CancelledUp_CleansUpItself()
    {
        LiveLab.SkipUnlessPossible();
        var name = LiveLab.NewName();
        using var cancel = new CancellationTokenSource();
        var progress = new Stop("starting nodes, pods and resolvers", cancel);

        await Should.ThrowAsync<OperationCanceledException>(() => Lab.UpAsync(new LabOptions { Name = name, SelfCommand = LiveLab.Self() }, progress, cancel.Token));

        LiveLab.Traces(name).ShouldBeEmpty();
    }

    private static async Task Until(Func<bool> condition)
    {
        for (var attempt = 0; attempt < 200 && !condition(); attempt++)
        {
            await Task.Delay(25, TestContext.Current.CancellationToken);
        }

        condition().ShouldBeTrue();
    }

    private sealed class Stop(string when, CancellationTokenSource cancel) : IProgress<string>
    {
        public void Report(string value)
        {
            if (value == when)
            {
                cancel.Cancel();
            }
        }
    }
}
