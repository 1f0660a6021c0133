using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Tests;

public class SlicesTests
{
    [Theory]
    [InlineData("kube-proxy-1.36.3")]
    [InlineData("kube-proxy-1.36.3-node3")]
    [InlineData("kube-proxy-1.33.13")]
    public void SameServicesAndPods_SameEndpointsAsTheRealController(string name)
    {
        var cluster = KubeProxyFixture.Objects(KubeProxyFixture.Folder(name));
        var real = cluster.EndpointSlices.Where(s => s.Metadata.Labels.GetValueOrDefault("endpointslice.kubernetes.io/managed-by") == "endpointslice-controller.k8s.io");

        var ours = Lines(Of(cluster));

        ours.Count.ShouldBeGreaterThan(150);
        ours.ShouldBe(Lines(real));
    }

    [Fact]
    public void NumberAsText_IsAPortNameThatNobodyHas()
    {
        var slices = Of(Cluster(service => service with { Spec = service.Spec with { Ports = [new ServicePort { Port = 8080, TargetPort = "80" }] } }));

        slices.Where(s => s.ServiceName == "my-nginx").ShouldAllBe(s => s.Ports.IsEmpty && s.Endpoints.Length == 2);
    }

    [Fact]
    public void NamedPort_IsThePodsOwnNumber()
    {
        var slices = Of(Cluster(service => service with { Spec = service.Spec with { Ports = [new ServicePort { Port = 8080, TargetPort = "http" }] } }));

        slices.Where(s => s.ServiceName == "my-nginx").SelectMany(s => s.Ports).ShouldAllBe(p => p.Port == 80);
    }

    [Fact]
    public void SelectorThatFindsNobody_GivesEmptySlice()
    {
        var slices = Of(Cluster(service => service with { Spec = service.Spec with { Selector = LabObjects.Labels(("run", "other")) } }));

        slices.Count(s => s.ServiceName == "my-nginx").ShouldBe(2);
        slices.Where(s => s.ServiceName == "my-nginx").ShouldAllBe(s => s.Endpoints.IsEmpty && s.Ports.IsEmpty);
    }

    [Fact]
    public void UnreadyPod_IsAnEndpointThatIsNotReady()
    {
        var cluster = Cluster(s => s);
        var pod = cluster.Pods.First(LabProcesses.IsServer);
        cluster = cluster with { Pods = cluster.Pods.Replace(pod, ReadinessProbes.WithReadiness(pod, "HTTP probe failed with statuscode: 503")) };

        var endpoint = Of(cluster).Where(s => s.ServiceName == "my-nginx").SelectMany(s => s.Endpoints).First(e => e.TargetRef!.Name == pod.Metadata.Name);

        endpoint.Conditions.ShouldBe(new EndpointConditions { Ready = false, Serving = false, Terminating = false });
    }

    private static List<EndpointSlice> Of(ClusterSnapshot cluster) => [.. cluster.Services.SelectMany(s => ServiceMeaning.DesiredSlices(cluster, s))];

    internal static ClusterSnapshot Cluster(Func<Service, Service> change) => new()
    {
        Services = [.. LabObjects.Services.Select(s => s.Metadata.Name == LabObjects.Server ? change(s) : s)],
        Pods = [.. LabObjects.Pods.Select(p => ReadinessProbes.WithReadiness(p, null))],
        Nodes = [.. LabLayout.Nodes.Select(LabObjects.NodeOf)],
        EndpointSlices = [LabObjects.KubernetesSlice],
    };

    private static List<string> Lines(IEnumerable<EndpointSlice> slices) =>
    [
        .. from slice in slices
           from endpoint in slice.Endpoints
           let ports = string.Join(',', slice.Ports.Select(p => $"{p.Name}/{p.Protocol}/{p.Port}").Order(StringComparer.Ordinal))
           let conditions = $"ready {endpoint.Conditions.Ready} serving {endpoint.Conditions.Serving} terminating {endpoint.Conditions.Terminating}"
           let line = $"{slice.Metadata.Namespace}/{slice.ServiceName} {slice.AddressType} {endpoint.Addresses[0]} {ports} {conditions} {endpoint.NodeName} {endpoint.TargetRef?.Name}"
           orderby line
           select line,
    ];
}
