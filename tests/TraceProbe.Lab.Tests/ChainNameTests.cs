namespace TraceProbe.Lab.Tests;

public class ChainNameTests
{
    // As real kube-proxies named them; the first is on every cluster there is.
    [Theory]
    [InlineData("default/kubernetes:https", "tcp", "KUBE-SVC-NPX46M4PTMTKRN6Y")]
    [InlineData("kube-system/kube-dns:dns", "udp", "KUBE-SVC-TCOU7JCQXEZGVUNU")]
    [InlineData("kube-system/kube-dns:dns-tcp", "tcp", "KUBE-SVC-ERIFXISQEP7F7OF4")]
    [InlineData("demo/web", "tcp", "KUBE-SVC-YTGZ2JEENUBCE3T3")]
    [InlineData("demo/sctp:diameter", "sctp", "KUBE-SVC-HUFUYN4QKOLKRXPG")]
    public void ServicePort_IsNamedAsByKubeProxy(string name, string protocol, string chain)
        => ChainName.OfService("KUBE-SVC-", name, protocol).ShouldBe(chain);

    [Theory]
    [InlineData("kube-system/kube-dns:dns", "udp", "10.244.1.4:53", "KUBE-SEP-222YD7DQOUNKFRLL")]
    [InlineData("demo/ds-prefer", "tcp", "[fd00:10:244:3::2]:8080", "KUBE-SEP-3DGBETM55CECHUWZ")]
    public void Endpoint_IsNamedAsByKubeProxy(string name, string protocol, string endpoint, string chain)
        => ChainName.OfEndpoint(name, protocol, endpoint).ShouldBe(chain);

    [Theory]
    [InlineData(1, "1.00000000000")]
    [InlineData(2, "0.50000000000")]
    [InlineData(3, "0.33333333349")]
    [InlineData(149, "0.00671140943")]
    [InlineData(150, "0.00666666683")]
    public void Probability_IsWrittenAsTheKernelKeepsIt(int n, string text) => KubeProxyRules.Probability(n).ShouldBe(text);
}
