using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Tests.Diagnosis;

public class ServiceMeantTests
{
    private static readonly ClusterSnapshot Cluster = new()
    {
        Services =
        [
            new Service { Metadata = new() { Name = "web", Namespace = "shop" }, Spec = new() { ClusterIP = "10.96.0.11", ClusterIPs = ["10.96.0.11", "fd00::11"] } },
        ],
    };

    [Theory]
    [InlineData("web", "shop", "web", ServiceNameForm.Short, true)]
    [InlineData("WEB", "shop", "web", ServiceNameForm.Short, true)]
    [InlineData("api", "shop", "api", ServiceNameForm.Short, false)]
    [InlineData("web.shop", "shop", "web", ServiceNameForm.Namespaced, true)]
    [InlineData("web.shop.svc", "shop", "web", ServiceNameForm.WithSvc, true)]
    [InlineData("web.shop.svc.cluster.local", "shop", "web", ServiceNameForm.Full, true)]
    [InlineData("web.shop.svc.cluster.local.", "shop", "web", ServiceNameForm.Full, true)]
    [InlineData("web.shop.cluster.local", "shop", "web", ServiceNameForm.WithoutSvc, true)]
    [InlineData("web.shop.svc.example.org", "shop", "web", ServiceNameForm.OtherDomain, true)]
    [InlineData("10.96.0.11", "shop", "web", ServiceNameForm.Address, true)]
    [InlineData("fd00::11", "shop", "web", ServiceNameForm.Address, true)]
    public void HostOfService_IsRecognised(string host, string ns, string name, ServiceNameForm form, bool exists)
    {
        var meant = ServiceMeant.By(host, "shop", Cluster);
        meant.ShouldNotBeNull();
        (meant.Namespace, meant.Name, meant.Form, meant.Service is not null).ShouldBe((ns, name, form, exists));
    }

    [Theory]
    [InlineData("example.com")]
    [InlineData("a.b.example.com")]
    [InlineData("192.0.2.1")]
    [InlineData("pod.svc.example.org")]
    public void OutsideHost_MeansNoService(string host) => ServiceMeant.By(host, "shop", Cluster).ShouldBeNull();
}
