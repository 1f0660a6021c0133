using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Tests;

/// <summary>What Services mean, held against the EndpointSlices that real controllers made of the same Services and Pods.</summary>
public sealed class ServiceMeaningTests
{
    public static TheoryData<string> Varieties =>
    [
        "own:kube-proxy-1.20-legacy", "own:kube-proxy-1.36-nft",
        "1.20.2/a-variety/iptables", "1.33.13/a-variety/iptables", "1.33.13/a-variety/nftables", "1.36.3/a-variety/nftables", "1.36.3/a-variety/nftables-node3",
    ];

    private static ClusterSnapshot Read(string folder)
    {
        folder = folder.StartsWith("own:", StringComparison.Ordinal) ? Fixture.Own(folder[4..]) : Path.Combine(Fixture.RequireShared(), folder);
        return SnapshotReader.Read(new[] { "services.json", "endpointslices.json", "pods.json", "nodes.json" }.Select(f => Fixture.Find(folder, f)!));
    }

    // Before 1.22 slices did not tell of serving and terminating, left terminating pods out, and kept, as not ready, pods that had ended and
    // whose restart policy was Always.
    private static List<string> Lines(ClusterSnapshot cluster, IEnumerable<EndpointSlice> slices, bool isOld) =>
    [
        .. from slice in slices
           from endpoint in slice.Endpoints
           where !isOld || endpoint.Conditions.Terminating != true && !(endpoint.Conditions.Ready == false && cluster.FindPod(slice.Metadata.Namespace!, endpoint.TargetRef!.Name)!.Status.Phase == "Succeeded")
           let ports = string.Join(',', slice.Ports.Select(p => $"{p.Name}/{p.Protocol}/{p.Port}").Order(StringComparer.Ordinal))
           let conditions = isOld ? $"{endpoint.Conditions.Ready}" : $"{endpoint.Conditions.Ready} {endpoint.Conditions.Serving} {endpoint.Conditions.Terminating}"
           let hints = string.Join(',', (endpoint.Hints?.ForZones.Select(z => z.Name) ?? []).Concat(endpoint.Hints?.ForNodes.Select(n => n.Name) ?? []))
           let line = $"{slice.Metadata.Namespace}/{slice.ServiceName} {slice.AddressType} {string.Join('+', endpoint.Addresses)} {ports} [{conditions}] [{hints}] {endpoint.NodeName} {endpoint.Zone} {endpoint.Hostname} {endpoint.TargetRef?.Name}"
           orderby line
           select line,
    ];

    [Theory]
    [MemberData(nameof(Varieties))]
    public void SelectorsAndPods_GiveTheSlicesOfTheRealController(string folder)
    {
        var cluster = Read(folder);
        var isOld = cluster.EndpointSlices.All(s => s.Endpoints.All(e => e.Conditions.Serving is null));
        isOld.ShouldBe(folder.Contains("1.20", StringComparison.Ordinal));
        var ready = 0;
        foreach (var service in cluster.Services.Where(s => !s.Spec.Selector.IsEmpty))
        {
            Lines(cluster, ServiceMeaning.DesiredSlices(cluster, service), isOld).ShouldBe(Lines(cluster, cluster.SlicesOf(service), isOld), service.Ref.ToString());
            ServiceMeaning.EndpointDifferences(cluster, service).ShouldBeEmpty();
            ready += service.Spec.Ports.Sum(p => ServiceMeaning.ExpectedBackends(cluster, service, p, ipv6: false).Count(b => b.Ready));
        }

        ready.ShouldBeGreaterThan(150);
    }

    [Theory]
    [MemberData(nameof(Varieties))]
    public void ReadyEndpointsOfAllServicePorts_AreAsManyAsRulesHaveTargets(string folder)
    {
        // The fixtures' note 7: distinct DNAT targets of healthy rules, which headless Services have none in. Hand-made slices count.
        var cluster = Read(folder);
        var backends = cluster.Services.Where(s => !s.Spec.IsHeadless).SelectMany(s => s.Spec.Ports.SelectMany(p => ServiceMeaning.ExpectedBackends(cluster, s, p, ipv6: false).Where(b => b.Ready)
            .Select(b => b.Address))).Distinct().Count();
        backends.ShouldBe(172);
    }

    [Fact]
    public void ControllerThatStoodStill_ShowsInTheSlices()
    {
        var cluster = Read("own:kube-proxy-1.36-nft");
        var service = cluster.FindService("demo", "web")!;
        var slice = cluster.SlicesOf(service).Single();
        var gone = slice.Endpoints.First(e => e.Conditions.Ready == true);
        var changed = cluster with { EndpointSlices = cluster.EndpointSlices.Replace(slice, slice with { Endpoints = slice.Endpoints.Remove(gone).Add(new Endpoint { Addresses = ["10.244.9.9"] }) }) };
        ServiceMeaning.EndpointDifferences(changed, service).Select(d => d.ToString()).ShouldBe(
        [
            $"pod/demo/{gone.TargetRef!.Name} at {gone.Addresses[0]} is selected, but in no EndpointSlice",
            "10.244.9.9 is in an EndpointSlice, but no selected pod has it",
        ]);
        var unready = cluster with { EndpointSlices = cluster.EndpointSlices.Replace(slice, slice with { Endpoints = slice.Endpoints.Replace(gone, gone with { Conditions = new EndpointConditions { Ready = false } }) }) };
        ServiceMeaning.EndpointDifferences(unready, service).Single().ToString().ShouldEndWith("is ready, but not in its EndpointSlice");
    }

    [Fact]
    public void NamedPortOfASidecar_IsFound()
    {
        var pod = new Pod
        {
            Spec = new PodSpec
            {
                Containers = [new Container { Name = "app" }],
                InitContainers =
                [
                    new Container { Name = "setup", Ports = [new ContainerPort { Name = "proxy", Port = 1 }] },
                    new Container { Name = "proxy", RestartPolicy = "Always", Ports = [new ContainerPort { Name = "proxy", Port = 15001 }] },
                ],
            },
        };
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 80, TargetPort = "proxy" }).ShouldBe(15001);
    }

    [Fact]
    public void ServicesWithoutFamilies_HaveThoseOfTheirAddress()
    {
        ImmutableArray<string> Types(ServiceSpec spec) => [.. ServiceMeaning.DesiredSlices(ClusterSnapshot.Empty, new Service { Spec = spec with { Selector = ImmutableSortedDictionary<string, string>.Empty.Add("a", "b") } }).Select(s => s.AddressType)];
        Types(new ServiceSpec { ClusterIP = "10.96.0.1" }).ShouldBe(["IPv4"]);
        Types(new ServiceSpec { ClusterIP = "fd00::1" }).ShouldBe(["IPv6"]);
        Types(new ServiceSpec { ClusterIP = "None" }).ShouldBe(["IPv4", "IPv6"]);
        Types(new ServiceSpec { ClusterIP = "10.96.0.1", IpFamilies = ["IPv6", "IPv4"] }).ShouldBe(["IPv6", "IPv4"]);
        Types(new ServiceSpec { Type = "ExternalName" }).ShouldBeEmpty();
    }
}
