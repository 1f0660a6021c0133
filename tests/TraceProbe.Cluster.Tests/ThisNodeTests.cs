using System.Text;

namespace TraceProbe.Cluster.Tests;

/// <summary>Lines of <c>/proc/PID/cgroup</c> as runtimes and drivers make them, with what pod they are of.</summary>
public class ThisNodeTests
{
    private const string Uid = "1f3a9c2e-7d64-4b1d-9a77-0242ac120002";
    private const string Systemd = "1f3a9c2e_7d64_4b1d_9a77_0242ac120002";
    private const string Container = "2c61d5e1f7c9a1ab0b7cf1d2f4d3a2c66f0a53d0a2b4a1de9f6c1b7e8a9d0c1b";

    // The hash of a static pod's manifest, which its kubelet names it by; the API server gives its mirror another UID.
    private const string Hash = "0a3f1be94d3d1f3a8c0f5f3c2f6b1d7e";

    [Theory]
    [InlineData($"0::/kubepods/besteffort/pod{Uid}/{Container}", Uid)] // containerd, cgroupfs, v2
    [InlineData($"0::/kubepods/pod{Uid}/{Container}", Uid)] // of the guaranteed class, which has no folder of its own
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{Systemd}.slice/cri-containerd-{Container}.scope", Uid)] // containerd, systemd, v2
    [InlineData($"0::/kubepods.slice/kubepods-pod{Systemd}.slice/crio-{Container}.scope", Uid)] // CRI-O, systemd
    [InlineData($"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{Systemd}.slice/crio-conmon-{Container}.scope", Uid)] // its monitor
    [InlineData($"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{Systemd}.slice/crio-{Container}.scope/container", Uid)] // crun makes one more below
    [InlineData($"0::/kubepods/burstable/pod{Uid}/crio-{Container}", Uid)] // CRI-O, cgroupfs
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{Systemd}.slice/docker-{Container}.scope", Uid)] // Docker, systemd
    [InlineData($"12:pids:/kubepods/besteffort/pod{Uid}/{Container}\n11:memory:/kubepods/besteffort/pod{Uid}/{Container}\n1:name=systemd:/kubepods/besteffort/pod{Uid}/{Container}\n0::/\n", Uid)] // Docker, cgroupfs, v1
    [InlineData($"5:net_cls,net_prio:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{Systemd}.slice/cri-containerd-{Container}.scope\n0::/system.slice/containerd.service\n", Uid)] // both versions at once
    [InlineData($"0::/system.slice/docker-{Container}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{Systemd}.slice/cri-containerd-{Container}.scope", Uid)] // kind: a node that is a container
    [InlineData($"1:name=systemd:/kubepods-burstable-pod{Systemd}.slice:cri-containerd:{Container}", Uid)] // containerd with a driver that is not the kubelet's
    [InlineData($"0::/../../kubepods-burstable-pod{Systemd}.slice/cri-containerd-{Container}.scope", Uid)] // seen from another cgroup namespace
    [InlineData($"0::/kubepods/burstable/pod{Hash}/{Container}", Hash)] // a static pod
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{Hash}.slice/cri-containerd-{Container}.scope", Hash)]
    [InlineData("0::/", null)]
    [InlineData("0::/system.slice/kubelet.service", null)]
    [InlineData($"0::/system.slice/docker-{Container}.scope", null)] // somebody's own container
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/podman-1234.scope", null)]
    [InlineData("0::/machine.slice/libpod-conmon-2c61d5e1.scope", null)]
    [InlineData("0::/kubepods/besteffort", null)]
    [InlineData("0::/kubepods/besteffort/podnot-a-uid/2c61", null)]
    [InlineData("", null)]
    public void Cgroups_NameThePod(string cgroups, string? uid) => ThisNode.UidsIn(cgroups).Distinct().SingleOrDefault().ShouldBe(uid);

    [Fact]
    public void StaticPodsMirror_IsKnownByItsManifestsHash()
    {
        var reader = new SnapshotReader();
        reader.Add("pod.json", Encoding.UTF8.GetBytes($$"""{"kind":"Pod","apiVersion":"v1","metadata":{"name":"etcd-a","namespace":"kube-system","uid":"{{Uid}}","annotations":{"kubernetes.io/config.hash":"{{Hash}}","kubernetes.io/config.mirror":"{{Hash}}"} },"spec":{},"status":{} }"""));

        reader.ToSnapshot().Pods.Single().Metadata.StaticPodUid.ShouldBe(Hash);
    }
}
