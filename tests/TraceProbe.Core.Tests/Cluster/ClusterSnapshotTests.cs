using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests;

/// <summary>Objects are found by what they are asked for by, in the snapshot at hand and no other.</summary>
public sealed class ClusterSnapshotTests
{
    private static Service Service(string ns, string name, string address) => new()
    {
        Metadata = new ObjectMeta { Namespace = ns, Name = name },
        Spec = new ServiceSpec { ClusterIP = address, ClusterIPs = [address], Ports = [new ServicePort { Port = 80 }] },
    };

    private static Pod Pod(string name, string address, bool hostNetwork = false, string phase = "Running") => new()
    {
        Metadata = new ObjectMeta { Namespace = "a", Name = name },
        Spec = new PodSpec { HostNetwork = hostNetwork },
        Status = new PodStatus { Phase = phase, PodIP = address },
    };

    [Fact]
    public void ServiceAskedByNameAddressOrPort_IsFound()
    {
        var cluster = new ClusterSnapshot { Services = [Service("a", "web", "10.96.0.1"), Service("b", "web", "10.96.0.2")] };
        cluster.FindService("b", "web")!.Spec.ClusterIP.ShouldBe("10.96.0.2");
        cluster.FindService("c", "web").ShouldBeNull();
        cluster.FindServiceByAddress(IpAddress.Parse("10.96.0.1"))!.Metadata.Namespace.ShouldBe("a");
        cluster.FindServiceByAddress(IpAddress.Parse("10.96.0.3")).ShouldBeNull();
        cluster.FindServicePort(AddressPort.Parse("10.96.0.2:80"), IpProtocol.Tcp)!.Port.ShouldBe(80);
        cluster.FindServicePort(AddressPort.Parse("10.96.0.2:80"), IpProtocol.Udp).ShouldBeNull();
    }

    [Fact]
    public void AddressWrittenInAnotherForm_IsTheSameAddress()
        => new ClusterSnapshot { Services = [Service("a", "six", "fd00:10:96:0::0001")] }.FindServiceByAddress(IpAddress.Parse("fd00:10:96::1"))!.Metadata.Name.ShouldBe("six");

    [Fact]
    public void CopyWithOtherObjects_FindsThoseAndNotTheOldOnes()
    {
        var before = new ClusterSnapshot { Services = [Service("a", "web", "10.96.0.1")] };
        before.FindService("a", "web").ShouldNotBeNull();
        var after = before with { Services = [Service("a", "other", "10.96.0.9")] };
        after.FindService("a", "web").ShouldBeNull();
        after.FindServiceByAddress(IpAddress.Parse("10.96.0.9"))!.Metadata.Name.ShouldBe("other");
        before.FindService("a", "web").ShouldNotBeNull();
        (before with { }).ShouldBe(before);
        after.ShouldNotBe(before);
    }

    [Fact]
    public void PodAddress_IsThatOfTheLivingPodThatHasItToItself()
    {
        var cluster = new ClusterSnapshot
        {
            Pods = [Pod("done", "10.244.1.5", phase: "Succeeded"), Pod("on-host", "172.30.0.11", hostNetwork: true), Pod("here", "10.244.1.5")],
        };
        cluster.FindPodByAddress(IpAddress.Parse("10.244.1.5"))!.Metadata.Name.ShouldBe("here");
        cluster.FindPodByAddress(IpAddress.Parse("172.30.0.11")).ShouldBeNull();
        cluster.FindPod("a", "on-host").ShouldNotBeNull();
    }
}
