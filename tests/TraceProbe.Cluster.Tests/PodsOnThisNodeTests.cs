using System.Diagnostics;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Cluster.Tests;

/// <summary>
/// Which network namespace is which pod's, on a node whose processes are real: in cgroups named as runtimes name them, with namespaces of their
/// own, coming and going.
/// </summary>
public sealed class PodsOnThisNodeTests : IDisposable
{
    private const string Container = "2c61d5e1f7c9a1ab0b7cf1d2f4d3a2c66f0a53d0a2b4a1de9f6c1b7e8a9d0c1b";
    private const string Sandbox = "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d1f7c9a1ab0b7cf1d2f4d3a2c66f0a53d";

    private readonly List<Process> _processes = [];
    private readonly string _tools = Directory.CreateTempSubdirectory("traceprobe-pods-").FullName;
    private readonly string? _cgroup;

    public PodsOnThisNodeTests()
    {
        File.CreateSymbolicLink($"{_tools}/pause", "/bin/sleep");
        if (Environment.IsPrivilegedProcess && File.ReadLines("/proc/self/mounts").Select(l => l.Split(' ')).FirstOrDefault(w => w[2] == "cgroup2") is { } mount)
        {
            var folder = $"{mount[1]}/traceprobe-pods-{Guid.NewGuid():N}";
            try
            {
                Directory.CreateDirectory(folder);
                _cgroup = folder;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The tests say what they lack.
            }
        }
    }

    public void Dispose()
    {
        _processes.ForEach(End);
        Directory.Delete(_tools, recursive: true);
        if (_cgroup is not null)
        {
            Remove(_cgroup);
        }
    }

    public static TheoryData<string, string, string> Layouts => new()
    {
        { "containerd, cgroupfs", "kubepods/besteffort/pod{0}/" + Sandbox, "kubepods/besteffort/pod{0}/" + Container },
        { "containerd, systemd", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{1}.slice/cri-containerd-" + Sandbox + ".scope", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{1}.slice/cri-containerd-" + Container + ".scope" },
        { "containerd with the other driver", "kubepods-burstable-pod{1}.slice:cri-containerd:" + Sandbox, "kubepods-burstable-pod{1}.slice:cri-containerd:" + Container },
        { "CRI-O, systemd, with crun", "kubepods.slice/kubepods-pod{1}.slice/crio-" + Sandbox + ".scope", "kubepods.slice/kubepods-pod{1}.slice/crio-" + Container + ".scope/container" },
        { "CRI-O, cgroupfs", "kubepods/burstable/pod{0}/crio-" + Sandbox, "kubepods/burstable/pod{0}/crio-" + Container },
        { "Docker, systemd", "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{1}.slice/docker-" + Sandbox + ".scope", "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{1}.slice/docker-" + Container + ".scope" },
        { "Docker, cgroupfs", "kubepods/pod{0}/" + Sandbox, "kubepods/pod{0}/" + Container },
    };

    [Theory]
    [MemberData(nameof(Layouts))]
    public void PauseAndContainer_AreOnePod_WithTheFilesOfTheContainer(string runtime, string sandbox, string container)
    {
        var pod = PodCalled("web");
        var pause = Start(pod, sandbox, "pause", own: true);
        PodsOf(pod).ShouldHaveSingleItem(runtime).EtcPath.ShouldBe($"/proc/{pause.Id}/root/etc", "as long as there is no other");

        var app = Start(pod, container, "sleep", own: false, of: pause);
        var place = PodsOf(pod).ShouldHaveSingleItem(runtime);
        (place.Name, place.NetNs, place.PodUid).ShouldBe(("pod/shop/web", NetNsOf(pause), pod.Metadata.Uid));
        place.EtcPath.ShouldBe($"/proc/{app.Id}/root/etc", "a sandbox has no hosts file");
    }

    [Fact]
    public void PodOnTheNodesNetwork_IsTheNodeAndNoPlaceOfItsOwn()
    {
        var pod = PodCalled("proxy") with { Spec = new PodSpec { NodeName = "n", HostNetwork = true } };
        Start(pod, "kubepods/besteffort/pod{0}/" + Container, "sleep", own: false);
        PodsOf(pod).ShouldBeEmpty();

        // Nor where the API does not say that it is one: the namespace is the node's all the same.
        PodsOf(PodWith(pod, p => p with { Spec = new PodSpec { NodeName = "n" } })).ShouldBeEmpty();
    }

    [Fact]
    public void StaticPod_IsKnownByTheHashThatItsKubeletNamesItBy()
    {
        const string hash = "0a3f1be94d3d1f3a8c0f5f3c2f6b1d7e";
        var pod = PodCalled("etcd-n");
        pod = pod with { Metadata = pod.Metadata with { Annotations = pod.Metadata.Annotations.Add("kubernetes.io/config.hash", hash).Add("kubernetes.io/config.mirror", hash) } };
        var process = StartIn($"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{hash}.slice/cri-containerd-{Sandbox}.scope", "pause", "unshare --net");
        PodsOf(pod).ShouldHaveSingleItem().NetNs.ShouldBe(NetNsOf(process));
        PodsOf(pod with { Metadata = pod.Metadata with { Annotations = pod.Metadata.Annotations.Clear() } }).ShouldBeEmpty("its UID in the API is another");
    }

    [Fact]
    public void PodsThatComeAndGo_AreThoseOfEachLook()
    {
        var (first, second) = (PodCalled("first"), PodCalled("second"));
        var old = Start(first, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        PodsOf(first, second).Select(p => p.PodName).ShouldBe(["first"]);

        var young = Start(second, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        PodsOf(first, second).Select(p => p.PodName).ShouldBe(["first", "second"]);

        // Its object stays known for a while after its processes are gone, and the other way about.
        End(old);
        PodsOf(first, second).Select(p => p.PodName).ShouldBe(["second"]);
        PodsOf(first).ShouldBeEmpty();
        var again = Start(first, "kubepods/besteffort/pod{0}/" + Container, "pause", own: true);
        PodsOf(first, second).Select(p => p.NetNs).ShouldBe([NetNsOf(again), NetNsOf(young)]);
    }

    [Fact]
    public void LookWhileProcessesEnd_FindsTheOthers()
    {
        var pod = PodCalled("stays");
        var stays = Start(pod, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        var isOver = 0;
        var churn = new Thread(() =>
        {
            while (Volatile.Read(ref isOver) == 0)
            {
                using var gone = Process.Start(new ProcessStartInfo("true"))!;
                gone.WaitForExit();
            }
        });
        churn.Start();
        for (var look = 0; look < 30; look++)
        {
            PodsOf(pod).ShouldHaveSingleItem().NetNs.ShouldBe(NetNsOf(stays));
        }

        Volatile.Write(ref isOver, 1);
        churn.Join();
    }

    [Fact]
    public void PodMadeAnewUnderItsName_IsNotTakenForTheOneThatStillEnds()
    {
        var (old, anew) = (PodCalled("db-0"), PodCalled("db-0"));
        old.Metadata.Uid.ShouldNotBe(anew.Metadata.Uid);
        Start(old, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        PodsOf(anew).ShouldBeEmpty("its sandbox is not there yet");
        var process = Start(anew, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        PodsOf(anew).ShouldHaveSingleItem().NetNs.ShouldBe(NetNsOf(process));
    }

    [Fact]
    public void NamespaceThatAContainerMakesItself_IsNotThePods()
    {
        var pod = PodCalled("builder");
        var pause = Start(pod, "kubepods/besteffort/pod{0}/" + Sandbox, "pause", own: true);
        var nested = Start(pod, "kubepods/besteffort/pod{0}/" + Container, "sleep", own: true);
        NetNsOf(nested).ShouldNotBe(NetNsOf(pause));
        PodsOf(pod).ShouldHaveSingleItem().NetNs.ShouldBe(NetNsOf(pause), "the sandbox came first");
    }

    [Fact]
    public void AddressOfAPodThatIsGone_IsThatOfTheOneThatHasItNow()
    {
        var address = IpAddress.Parse("10.244.1.7");
        var (ended, ending, now) = (WithAddress("job", p => p with { Phase = "Succeeded" }), WithAddress("web-old", p => p), WithAddress("web-new", p => p));
        ending = ending with { Metadata = ending.Metadata with { DeletionTimestamp = DateTimeOffset.UnixEpoch } };
        foreach (var order in (Pod[][])[[ended, ending, now], [now, ending, ended], [ending, now, ended]])
        {
            new ClusterSnapshot { Pods = [.. order] }.FindPodByAddress(address)!.Metadata.Name.ShouldBe("web-new");
        }

        new ClusterSnapshot { Pods = [ended, ending] }.FindPodByAddress(address)!.Metadata.Name.ShouldBe("web-old", "until it has ended the address is its own");
        new ClusterSnapshot { Pods = [ended] }.FindPodByAddress(address).ShouldBeNull();

        static Pod WithAddress(string name, Func<PodStatus, PodStatus> status) => PodCalled(name) with { Status = status(new PodStatus { Phase = "Running", PodIP = "10.244.1.7", PodIPs = [new PodIP("10.244.1.7")] }) };
    }

    private static Pod PodCalled(string name) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = "shop", Uid = Guid.NewGuid().ToString() },
        Spec = new PodSpec { NodeName = "n" },
        Status = new PodStatus { Phase = "Running" },
    };

    private static Pod PodWith(Pod pod, Func<Pod, Pod> change) => change(pod);

    private static IReadOnlyList<Place> PodsOf(params Pod[] pods) => ThisNode.PodsOf(new ClusterSnapshot { Pods = [.. pods] }, "n", NamespaceEntry.InodeOf("/proc/self/ns/net"));

    private static uint NetNsOf(Process process) => NamespaceEntry.InodeOf($"/proc/{process.Id}/ns/net");

    private Process Start(Pod pod, string layout, string program, bool own, Process? of = null)
        => StartIn(string.Format(null, layout, pod.Metadata.Uid, pod.Metadata.Uid!.Replace('-', '_')), program, own ? "unshare --net" : of is null ? "" : $"nsenter --net=/proc/{of.Id}/ns/net");

    private Process StartIn(string cgroup, string program, string enter)
    {
        Assert.SkipWhen(_cgroup is null, "needs root and a cgroup v2 that can be written to");
        var folder = $"{_cgroup}/{cgroup}";
        Directory.CreateDirectory(folder);
        var path = program == "pause" ? $"{_tools}/pause" : "/bin/sleep";
        var process = Process.Start(new ProcessStartInfo("sh", ["-c", $"echo $$ > '{folder}/cgroup.procs' && exec {enter} {path} 300"]))!;
        _processes.Add(process);
        // Its name is the program's once it is all that it is to be.
        SpinWait.SpinUntil(() => File.ReadAllText($"/proc/{process.Id}/comm") == $"{program}\n", TimeSpan.FromSeconds(20)).ShouldBeTrue();
        return process;
    }

    private static void End(Process process)
    {
        process.Kill();
        process.WaitForExit();
    }

    private static void Remove(string folder)
    {
        foreach (var inner in Directory.GetDirectories(folder))
        {
            Remove(inner);
        }

        // The kernel lets go of a dead process's cgroup a moment after the process is gone.
        for (var attempt = 0; Directory.Exists(folder); attempt++)
        {
            try
            {
                Directory.Delete(folder);
            }
            catch (IOException) when (attempt < 500)
            {
                Thread.Sleep(4);
            }
        }
    }
}
