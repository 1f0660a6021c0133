using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

public class LabTextTests
{
    [Fact]
    public void ClusterFirst_NamesClusterDnsAndSearchDomains()
        => ResolvConf.Of(new Pod { Metadata = new ObjectMeta { Name = "a", Namespace = "shop" } }, ResolvConf.OfNode).ShouldBe("""
            search shop.svc.cluster.local svc.cluster.local cluster.local
            nameserver 10.96.0.10
            options ndots:5

            """);

    [Fact]
    public void Default_IsTheNodes()
        => ResolvConf.Of(new Pod { Spec = new PodSpec { DnsPolicy = "Default" } }, ResolvConf.OfNode).ShouldBe("nameserver 10.77.0.53\n");

    [Fact]
    public void None_IsWhatDnsConfigSays()
        => ResolvConf.Of(new Pod { Spec = new PodSpec { DnsPolicy = "None", DnsConfig = new PodDnsConfig { Nameservers = ["192.0.2.1"], Options = [new("ndots", "2"), new("edns0", null)] } } }, ResolvConf.OfNode)
            .ShouldBe("nameserver 192.0.2.1\noptions ndots:2 edns0\n");

    [Fact]
    public void HeadlessService_HasItsReadyPodsAddresses()
    {
        var cluster = SlicesTests.Cluster(s => s with { Spec = s.Spec with { ClusterIP = "None", ClusterIPs = ["None"] } });
        cluster = cluster with { Pods = [.. cluster.Pods.Select(p => p.Metadata.Name == LabObjects.ServerPods[0] ? ReadinessProbes.WithReadiness(p, "no") : p)] };
        cluster = cluster with { EndpointSlices = [.. cluster.Services.SelectMany(s => ServiceMeaning.DesiredSlices(cluster, s))] };

        DnsRecords.Hosts(cluster).Split('\n').Where(l => l.Contains("my-nginx")).ShouldBe(
            ["10.244.2.12 my-nginx.default.svc.cluster.local", "fd00:10:244:2::c my-nginx.default.svc.cluster.local"]);
    }

    [Fact]
    public void NamedPort_HasAnSrvRecord()
        => DnsRecords.Configuration(SlicesTests.Cluster(s => s), "/h").ShouldContain("srv-host=_dns-tcp._tcp.kube-dns.kube-system.svc.cluster.local,kube-dns.kube-system.svc.cluster.local,53,0,100\n");

    [Fact]
    public void ExternalName_HasACname()
        => DnsRecords.Configuration(SlicesTests.Cluster(s => s with { Spec = new ServiceSpec { Type = "ExternalName", ExternalName = "db.example.com" } }), "/h")
            .ShouldContain("cname=my-nginx.default.svc.cluster.local,db.example.com\n");

    [Fact]
    public void UserspaceRules_RedirectFromPodsAndTranslateFromTheNode()
    {
        var nat = UserspaceRules.Write(SlicesTests.Cluster(s => s), IpAddress.Parse("10.77.0.11"), new Dictionary<string, int>
        {
            ["default/kubernetes:https/tcp"] = 35039, ["default/hostnames:http/tcp"] = 35037, ["default/hostnames:udp/udp"] = 35038, ["default/my-nginx:/tcp"] = 35040, ["kube-system/kube-dns:dns/udp"] = 35041, ["kube-system/kube-dns:dns-tcp/tcp"] = 35042,
        })[2];

        nat.Rules.ShouldContain("-A KUBE-PORTALS-CONTAINER -d 10.96.0.159/32 -p tcp -m comment --comment \"default/my-nginx:\" -m tcp --dport 8080 -j REDIRECT --to-ports 35040");
        nat.Rules.ShouldContain("-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p udp -m comment --comment \"kube-system/kube-dns:dns\" -m udp --dport 53 -j DNAT --to-destination 10.77.0.11:35041");
    }

    [Fact]
    public void Compose_LeavesOthersRulesAndRemovesStaleChains()
    {
        var nat = new RuleTable("nat");
        nat.Chains.Add("KUBE-SERVICES");
        nat.Jumps.AddRange(["-A OUTPUT -j KUBE-SERVICES", "-A PREROUTING -j KUBE-SERVICES"]);
        nat.Add("KUBE-SERVICES", "-j RETURN");

        Iptables.Compose([nat], """
            *nat
            :PREROUTING ACCEPT [0:0]
            :MINE - [0:0]
            :KUBE-SEP-OLD - [0:0]
            -A PREROUTING -j MINE
            -A PREROUTING -j KUBE-SERVICES
            -A OUTPUT -j KUBE-PORTALS-HOST
            COMMIT
            """).ShouldBe("""
            *nat
            :KUBE-SERVICES - [0:0]
            :KUBE-SEP-OLD - [0:0]
            -I OUTPUT -j KUBE-SERVICES
            -D OUTPUT -j KUBE-PORTALS-HOST
            -A KUBE-SERVICES -j RETURN
            -X KUBE-SEP-OLD
            COMMIT

            """);
    }

    [Theory]
    [InlineData("kubectl label pod a b=c", "kubectl|label|pod|a|b=c")]
    [InlineData("x -p '{\"a\": 1}'  'it'\\''s'", "x|-p|{\"a\": 1}|it's")]
    [InlineData("printf \"a \\\"b\\\" \\n\"", "printf|a \"b\" \\n")]
    public void Words_AreAShells(string command, string words) => string.Join('|', Lab.SplitWords(command)).ShouldBe(words);

    [Theory]
    [InlineData("demo", true)]
    [InlineData("a", true)]
    [InlineData("a-1", true)]
    [InlineData("", false)]
    [InlineData("-a", false)]
    [InlineData("A", false)]
    [InlineData("../x", false)]
    [InlineData("abcdefghijklmnopqrstu", false)]
    public void LabName_IsSafeInPaths(string name, bool valid) => LabLayout.IsName(name).ShouldBe(valid);

    [Fact]
    public void Faults_HaveNamesOfTheirOwn()
    {
        Fault.All.Select(f => f.ToString()).ShouldBeUnique();
        Should.Throw<LabException>(() => Fault.Find("nope")).Message.ShouldContain("wrong-target-port");
    }
}
