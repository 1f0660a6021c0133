using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Meaning;

public sealed class DnsMeaningTests
{
    // As kubeadm writes it.
    private const string Corefile = """
        # the cluster's own names
        .:53 {
            errors
            health {
               lameduck 5s
            }
            kubernetes corp.internal in-addr.arpa ip6.arpa {
               pods insecure
               fallthrough in-addr.arpa ip6.arpa
            }
            template IN A "weird zone" {
               match "^a b\.c\.$"
            }
            forward . /etc/resolv.conf
        }
        (snip) {
            kubernetes nobody.example
        }
        """;

    // As the NodeLocal DNSCache add-on has it, its placeholders filled in.
    private const string NodeLocal = """
        cluster.local:53 {
            cache 30
            bind 169.254.77.10 10.96.0.10
            forward . __PILLAR__CLUSTER__DNS__ {
                force_tcp
            }
        }
        """;

    private static readonly Service KubeDns = Dns("kube-system", "kube-dns", "10.96.0.10");

    private static Service Dns(string ns, string name, string address, params (string, string)[] labels) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = ns, Labels = System.Collections.Immutable.ImmutableSortedDictionary.CreateRange(labels.Select(l => KeyValuePair.Create(l.Item1, l.Item2))) },
        Spec = new ServiceSpec { ClusterIP = address, ClusterIPs = [address], Ports = [new ServicePort { Port = 53, Protocol = "UDP" }] },
    };

    private static Pod PodWith(PodSpec spec) => new() { Metadata = new ObjectMeta { Name = "p", Namespace = "shop" }, Spec = spec };

    private static ConfigMap Map(string name, string key, string text) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = "kube-system" },
        Data = System.Collections.Immutable.ImmutableSortedDictionary<string, string>.Empty.Add(key, text),
    };

    [Fact]
    public void DnsServiceOfOtherDistributions_IsFound()
    {
        Service? Found(params Service[] services) => DnsMeaning.FindService([.. services]);
        var upstream = Dns("kube-system", "kube-dns-upstream", "10.96.0.11", ("k8s-app", "kube-dns"));
        Found(upstream, KubeDns).ShouldBe(KubeDns);
        Found(upstream).ShouldBeNull();
        Found(Dns("openshift-dns", "dns-default", "172.30.0.10"))!.Metadata.Name.ShouldBe("dns-default");
        Found(Dns("kube-system", "rke2-coredns-rke2-coredns", "10.43.0.10", ("k8s-app", "kube-dns")), upstream)!.Metadata.Name.ShouldBe("rke2-coredns-rke2-coredns");
        Found(Dns("kube-system", "coredns-coredns", "10.43.0.10", ("app.kubernetes.io/name", "coredns")))!.Metadata.Name.ShouldBe("coredns-coredns");

        // Somebody's own CoreDNS elsewhere is not the cluster's, nor is a Service that has no DNS port.
        Found(Dns("shop", "coredns", "10.43.0.11", ("k8s-app", "coredns"))).ShouldBeNull();
        Found(Dns("kube-system", "coredns", "10.43.0.11") with { Spec = new ServiceSpec { ClusterIP = "10.43.0.11", Ports = [new ServicePort { Port = 9153 }] } }).ShouldBeNull();
        new ClusterSnapshot { Services = [upstream, KubeDns] }.ClusterDns.ShouldBe(KubeDns);
    }

    [Fact]
    public void DomainOfTheCluster_IsReadFromItsCorefile()
    {
        var unread = new List<Unread>();
        var settings = ClusterSettings.Of([Map("coredns", "Corefile", Corefile), Map("node-local-dns", "Corefile", NodeLocal)], unread);
        (settings.DnsDomain, settings.DnsDomainFrom).ShouldBe(("corp.internal", "configmap/kube-system/coredns"));
        settings.DnsCaches.Select(a => a.ToString()).ShouldBe(["169.254.77.10", "10.96.0.10"]);
        unread.ShouldBeEmpty();
        ClusterSettings.Of([Map("coredns", "Corefile", "cluster.example:1053 {\n kubernetes\n}\n")], unread).DnsDomain.ShouldBe("cluster.example");
        ClusterSettings.Of([Map("coredns", "Corefile", ".:53 {\n forward . 1.1.1.1\n}\n")], unread).DnsDomain.ShouldBeNull();
    }

    [Fact]
    public void BrokenConfiguration_IsToldAndTheRestStands()
    {
        var unread = new List<Unread>();
        var settings = ClusterSettings.Of(
            [Map("coredns", "Corefile", ".:53 {\n errors\n"), Map("kubelet-config", "kubelet", "[]"), Map("kube-proxy", "config.conf", "{\"mode\":\"ipvs\"}"), Map("node-local-dns", "other", "")], unread);
        settings.KubeProxy!.Mode.ShouldBe("ipvs");
        unread.ShouldBe(
        [
            new Unread("configmap/kube-system/node-local-dns", "it holds no Corefile"),
            new Unread("configmap/kube-system/kubelet-config", "The KubeletConfiguration is no object."),
            new Unread("configmap/kube-system/coredns", "line 1: the block is not closed"),
        ], ignoreOrder: true);
        Should.Throw<FormatException>(() => Core.Cluster.Corefile.Parse("a {\n}\n}")).Message.ShouldBe("line 3: a block is closed that was not opened");
    }

    [Fact]
    public void Corefile_CutAnywhere_IsReadOrRefused()
    {
        for (var i = 0; i <= Corefile.Length; i++)
        {
            try
            {
                Core.Cluster.Corefile.Parse(Corefile[..i]);
            }
            catch (FormatException e)
            {
                e.Message.ShouldStartWith("line ");
            }
        }
    }

    [Fact]
    public void DomainOfAPodsSearchList_IsThatOfTheKubelet()
    {
        DnsMeaning.DomainOf("shop", ["shop.svc.corp.internal", "svc.corp.internal", "corp.internal", "example.org"]).ShouldBe("corp.internal");
        DnsMeaning.DomainOf("shop", ["svc.corp.internal", "corp.internal"]).ShouldBeNull();
        DnsMeaning.DomainOf("bank", ["shop.svc.corp.internal", "svc.corp.internal", "corp.internal"]).ShouldBeNull();
    }

    [Fact]
    public void KubeletsFlags_WinOverItsFile()
    {
        var file = Encoding.UTF8.GetBytes("""{"kind":"KubeletConfiguration","clusterDNS":["10.96.0.10"],"clusterDomain":"cluster.local.","resolvConf":"/run/systemd/resolve/resolv.conf"}""");
        var settings = KubeletSettings.Of("kubelet (7) on node-1", ["kubelet", "--config=/var/lib/kubelet/config.yaml", "--cluster-dns", "10.96.0.53,fd00::53", "-v", "2"], file);
        settings.ClusterDns.ShouldBe(["10.96.0.53", "fd00::53"]);
        (settings.ClusterDomain, settings.ResolvConf, settings.From).ShouldBe(("cluster.local", "/run/systemd/resolve/resolv.conf", "kubelet (7) on node-1"));
        KubeletSettings.ConfigFile(["/usr/bin/kubelet", "--config", "/x.yaml"]).ShouldBe("/x.yaml");
        KubeletSettings.ConfigFile(["/usr/bin/kubelet", "--config-dir=/x"]).ShouldBeNull();
        Should.Throw<FormatException>(() => KubeletSettings.Of("", [], Encoding.UTF8.GetBytes("""{"clusterDNS":"10.96.0.10"}"""))).Message.ShouldBe("clusterDNS: a list of strings was expected.");
        for (var i = 1; i < file.Length; i++)
        {
            Should.Throw<FormatException>(() => KubeletSettings.Of("", [], file.AsMemory(0, i)));
        }
    }

    [Fact]
    public void PodsResolver_FollowsDnsPolicyAndConfig()
    {
        var snapshot = new ClusterSnapshot { Services = [KubeDns] };
        ExpectedResolver? For(PodSpec spec, KubeletSettings? kubelet = null, ResolverConfiguration? node = null) => DnsMeaning.ExpectedResolver(snapshot, PodWith(spec), kubelet, node);

        var usual = For(new PodSpec())!;
        usual.Configuration.Nameservers.ShouldBe([IpAddress.Parse("10.96.0.10")]);
        usual.Configuration.Search.ShouldBe(["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        (usual.Configuration.Ndots, usual.From, usual.IsSearchKnown).ShouldBe((5, "service/kube-system/kube-dns", false));

        For(new PodSpec { DnsPolicy = "Default" }).ShouldBeNull();
        For(new PodSpec { HostNetwork = true }).ShouldBeNull();
        For(new PodSpec { HostNetwork = true, DnsPolicy = "ClusterFirstWithHostNet" })!.Configuration.Ndots.ShouldBe(5);

        var node = ResolvConf.Parse("nameserver 192.0.2.53\nsearch example.org .\n", null, ResolverFlavor.Glibc);
        For(new PodSpec { HostNetwork = true }, null, node)!.Configuration.Nameservers.ShouldBe([IpAddress.Parse("192.0.2.53")]);
        For(new PodSpec(), null, node)!.Configuration.Search.ShouldBe(["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"]);

        var custom = For(new PodSpec
        {
            DnsPolicy = "None",
            DnsConfig = new PodDnsConfig { Nameservers = ["192.0.2.1"], Searches = ["x.example."], Options = [new PodDnsConfigOption("ndots", "2"), new PodDnsConfigOption("edns0", null)] },
        })!;
        (custom.Configuration.Nameservers[0].ToString(), custom.Configuration.Search[0], custom.Configuration.Ndots, custom.IsSearchKnown).ShouldBe(("192.0.2.1", "x.example", 2, true));

        // What dnsConfig adds comes behind, and never twice.
        var more = For(new PodSpec { DnsConfig = new PodDnsConfig { Nameservers = ["10.96.0.10", "192.0.2.1"], Searches = ["cluster.local", "x.example"] } })!;
        more.Configuration.Nameservers.Select(a => a.ToString()).ShouldBe(["10.96.0.10", "192.0.2.1"]);
        more.Configuration.Search.ShouldBe(["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "x.example"]);

        // A kubelet may be told another address than the Service's, another domain, or nothing at all.
        var cached = For(new PodSpec(), new KubeletSettings { From = "kubelet (7) on node-1", ClusterDns = ["169.254.20.10"], ClusterDomain = "corp.internal" })!;
        (cached.Configuration.Nameservers[0].ToString(), cached.Configuration.Search[0], cached.From).ShouldBe(("169.254.20.10", "shop.svc.corp.internal", "kubelet (7) on node-1"));
        For(new PodSpec(), new KubeletSettings { From = "kubelet" }, node)!.From.ShouldBe("its node's resolv.conf");
        DnsMeaning.ExpectedResolver(ClusterSnapshot.Empty, PodWith(new PodSpec())).ShouldBeNull();
    }

    [Fact]
    public void ResolvConfThatDiffers_IsToldInWords()
    {
        var expected = DnsMeaning.ExpectedResolver(new ClusterSnapshot { Services = [KubeDns] }, PodWith(new PodSpec()))!;
        string[] Of(string text) => [.. expected.Differences(ResolvConf.Parse(text, null, ResolverFlavor.Glibc))];
        Of("nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n").ShouldBeEmpty();
        Of("nameserver 192.0.2.53\nsearch svc.cluster.local cluster.local\n").ShouldBe(
            ["nameserver 192.0.2.53 in the place of 10.96.0.10", "no search domain shop.svc.cluster.local", "ndots:1 in the place of ndots:5"]);
        Of("nameserver 10.96.0.10\nsearch cluster.local svc.cluster.local shop.svc.cluster.local\noptions ndots:5\n")
            .ShouldBe(["search cluster.local svc.cluster.local shop.svc.cluster.local in the place of shop.svc.cluster.local svc.cluster.local cluster.local"]);
        (expected with { IsSearchKnown = true }).Differences(ResolvConf.Parse("nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n", null, ResolverFlavor.Glibc))
            .ShouldBe(["the further search domain example.org"]);
    }

    [Theory]
    [InlineData("169.254.20.10", true)]
    [InlineData("169.254.25.10", true)]
    [InlineData("169.254.77.10", true)]
    [InlineData("169.254.169.253", false)] // Amazon's own
    [InlineData("169.254.169.254", false)] // Google's own
    [InlineData("10.96.0.1", false)]
    public void ProvidersResolver_IsNotTakenForACacheOfTheClusters(string address, bool isCache)
    {
        var snapshot = new ClusterSnapshot { Settings = ClusterSettings.Of([Map("node-local-dns", "Corefile", NodeLocal)], []) };
        DnsMeaning.IsCache(snapshot, IpAddress.Parse(address)).ShouldBe(isCache);
    }
}
