using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests;

public sealed class RulesServiceMeaningTests
{
    private static Service Svc(string name = "my-nginx", params (string, string)[] selector) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = "default" },
        Spec = new ServiceSpec { ClusterIP = "10.96.0.1", Ports = [new ServicePort { Port = 8080 }], Selector = System.Collections.Immutable.ImmutableSortedDictionary.CreateRange(selector.Select(s => KeyValuePair.Create(s.Item1, s.Item2))) },
    };

    private static Pod P(string name, params (string, string)[] labels) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = "default", Labels = System.Collections.Immutable.ImmutableSortedDictionary.CreateRange(labels.Select(s => KeyValuePair.Create(s.Item1, s.Item2))) },
        Spec = new PodSpec { NodeName = "n1" },
        Status = new PodStatus { Phase = "Running" },
    };

    [Theory]
    [InlineData("my-nginx", "my-nginxx", 1)]
    [InlineData("my-nginx", "my-ngnix", 1)]
    [InlineData("", "abc", 3)]
    [InlineData("kitten", "sitting", 3)]
    public void EditDistance_CountsSlips(string left, string right, int distance)
    {
        EditDistance.Between(left, right).ShouldBe(distance);
        EditDistance.Between(right, left).ShouldBe(distance);
    }

    [Fact]
    public void MistypedLabelValue_IsNamedWithItsPods()
    {
        var snapshot = new ClusterSnapshot { Services = [Svc(selector: ("run", "my-nginx"))], Pods = [P("ubuntu", ("run", "ubuntu")), P("a", ("run", "my-nginxx")), P("b", ("run", "my-nginxx"))] };
        var nearest = ServiceMeaning.ExplainSelector(snapshot, snapshot.Services[0])!;
        nearest.Pods.Select(p => p.Metadata.Name).ShouldBe(["a", "b"]);
        nearest.Differences.Single().ShouldBe(new LabelDifference("run", "my-nginx", "run", "my-nginxx"));
        nearest.Differences.Single().ToString().ShouldBe("run=my-nginxx instead of run=my-nginx");
        nearest.Distance.ShouldBe(1);
    }

    [Fact]
    public void OtherKeyWithTheValue_IsNamed()
    {
        var snapshot = new ClusterSnapshot { Pods = [P("a", ("app", "my-nginx"))] };
        ServiceMeaning.ExplainSelector(snapshot, Svc(selector: ("run", "my-nginx")))!.Differences.Single().FoundKey.ShouldBe("app");
    }

    [Fact]
    public void MissingSecondLabel_IsNamed()
    {
        var snapshot = new ClusterSnapshot { Pods = [P("a", ("app", "shop")), P("z", ("app", "bank"))] };
        var nearest = ServiceMeaning.ExplainSelector(snapshot, Svc(selector: [("app", "shop"), ("tier", "front")]))!;
        nearest.Pods.Single().Metadata.Name.ShouldBe("a");
        nearest.Differences.Single().ToString().ShouldBe("no label tier (wanted tier=front)");
    }

    [Fact]
    public void UnrelatedPods_AreNotNear()
    {
        var service = Svc(selector: ("run", "my-nginx"));
        ServiceMeaning.ExplainSelector(new ClusterSnapshot { Pods = [P("a", ("run", "ubuntu")), P("b")] }, service).ShouldBeNull();
        ServiceMeaning.ExplainSelector(new ClusterSnapshot { Pods = [P("a", ("run", "my-nginx"))] }, service).ShouldBeNull();
        var elsewhere = P("a", ("run", "my-nginx"));
        ServiceMeaning.ExplainSelector(new ClusterSnapshot { Pods = [elsewhere with { Metadata = elsewhere.Metadata with { Namespace = "prod" } }] }, service)!.InOtherNamespace.ShouldBeTrue();
    }

    [Fact]
    public void TargetPort_IsResolvedPerPod()
    {
        var pod = P("a") with { Spec = new PodSpec { Containers = [new Container { Name = "c", Ports = [new ContainerPort { Name = "http", Port = 80 }, new ContainerPort { Name = "dns", Port = 53, Protocol = "UDP" }] }] } };
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 8080 }).ShouldBe(8080);
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 8080, TargetPort = 9376 }).ShouldBe(9376);
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 8080, TargetPort = "http" }).ShouldBe(80);
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 8080, TargetPort = "dns" }).ShouldBeNull();
        ServiceMeaning.TargetPortOn(pod, new ServicePort { Port = 8080, TargetPort = "9376" }).ShouldBeNull();
    }

    [Fact]
    public void UnmatchedPortName_SaysWhy()
    {
        var pod = P("a", ("run", "x")) with { Spec = new PodSpec { Containers = [new Container { Name = "c", Ports = [new ContainerPort { Name = "http", Port = 80 }] }] } };
        var snapshot = new ClusterSnapshot { Pods = [pod] };
        var service = Svc(selector: ("run", "x"));
        ServiceMeaning.ExplainTargetPort(snapshot, service, new ServicePort { Port = 80, TargetPort = "9376" })!.IsNumberInQuotes.ShouldBeTrue();
        ServiceMeaning.ExplainTargetPort(snapshot, service, new ServicePort { Port = 80, TargetPort = "htp" })!.Nearest.ShouldBe("http");
        ServiceMeaning.ExplainTargetPort(snapshot, service, new ServicePort { Port = 80, TargetPort = "http", Protocol = "UDP" })!.OtherProtocol.ShouldBe("TCP");
        ServiceMeaning.ExplainTargetPort(snapshot, service, new ServicePort { Port = 80, TargetPort = "http" }).ShouldBeNull();
    }

    [Fact]
    public void Backends_AreReadyOnesOrThoseStillServing()
    {
        static Endpoint E(string ip, bool? ready, bool? serving = null, bool? terminating = null)
            => new() { Addresses = [ip], NodeName = "n1", Conditions = new EndpointConditions { Ready = ready, Serving = serving, Terminating = terminating } };

        ClusterSnapshot With(params Endpoint[] endpoints) => new()
        {
            EndpointSlices = [new EndpointSlice
            {
                Metadata = new ObjectMeta { Name = "s", Namespace = "default", Labels = System.Collections.Immutable.ImmutableSortedDictionary<string, string>.Empty.Add(EndpointSlice.ServiceNameLabel, "my-nginx") },
                Endpoints = [.. endpoints],
                Ports = [new EndpointPort { Port = 80 }, new EndpointPort { Name = "other", Port = 81 }],
            }],
        };

        var service = Svc();
        string[] Used(ClusterSnapshot snapshot, Service? s = null) => [.. ServiceMeaning.BackendsInUse(snapshot, s ?? service, service.Spec.Ports[0], false, "n1").Backends.Select(b => b.Address.ToString())];
        Used(With(E("10.0.0.1", true), E("10.0.0.2", false), E("10.0.0.3", null))).ShouldBe(["10.0.0.1:80", "10.0.0.3:80"]);
        Used(With(E("10.0.0.1", false, true, true), E("10.0.0.2", false))).ShouldBe(["10.0.0.1:80"]);
        Used(With(E("10.0.0.1", true) with { NodeName = "n2" }), service with { Spec = service.Spec with { InternalTrafficPolicy = "Local" } }).ShouldBeEmpty();
        ServiceMeaning.ExpectedBackends(With(E("10.0.0.1", true)), service, service.Spec.Ports[0], true).ShouldBeEmpty();
    }

    [Fact]
    public void UnknownName_FindsTheNearestServices()
    {
        Service In(string ns, string name) => new() { Metadata = new ObjectMeta { Name = name, Namespace = ns } };
        var snapshot = new ClusterSnapshot { Services = [In("default", "my-nginx"), In("prod", "web"), In("default", "ubuntu"), In("prod", "my-nginx2")] };
        ServiceMeaning.NearestServices(snapshot, "default", "my-ngnix").Select(s => s.Service.ToString()).ShouldBe(["service/default/my-nginx", "service/prod/my-nginx2"]);
        ServiceMeaning.NearestServices(snapshot, "default", "web").Single().ShouldBe(new NearbyService(new ObjectRef("service", "prod", "web"), 0, true));
        ServiceMeaning.NearestServices(snapshot, "default", "nginx")[0].Service.Name.ShouldBe("my-nginx");
        ServiceMeaning.ParseName(snapshot, "a.my-nginx.default.svc.cluster.local.").ShouldBe(new ServiceName("default", "my-nginx", "a"));
        ServiceMeaning.ParseName(snapshot, "example.com").ShouldBeNull();
    }
}
