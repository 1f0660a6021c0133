using System.Text.RegularExpressions;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

/// <summary>
/// The writer of IPVS mode. There is no dump of a real kube-proxy in this mode to hold it against, so what it says of Services is held
/// against the same kube-proxy's nftables mode, and its texts against the tools that read them.
/// </summary>
public partial class IpvsRulesTests
{
    [Theory]
    [InlineData("kube-proxy-1.36.3", "kp-node1", false)]
    [InlineData("kube-proxy-1.36.3", "kp-node1", true)]
    [InlineData("kube-proxy-1.36.3-node3", "kp-node3", false)]
    [InlineData("kube-proxy-1.36.3-node3", "kp-node3", true)]
    public void VirtualServers_LeadWhereKubeProxysNftablesModeLeads(string cluster, string node, bool ipv6)
    {
        var folder = KubeProxyFixture.Folder(cluster);
        var wanted = IpvsRules.Write(KubeProxyFixture.Objects(folder), Options(node), ipv6);
        var real = ListedTables.Normalise(KubeProxyFixture.Text(Path.Combine(folder, "nftables", "nft-list-ruleset.txt")), ipv6 ? "ip6" : "ip");

        // What kube-proxy's chains of Services lead to.
        var chains = real.Select(l => ChainOfService().Match(l)).Where(m => m.Success)
            .ToDictionary(m => m.Groups["name"].Value, m => Backend().Matches(m.Value).Select(b => $"{b.Groups[1].Value} {b.Groups[2].Value}").Order().ToArray());
        var affinity = real.Select(l => EndpointOfAffinity().Match(l)).Where(m => m.Success).ToLookup(m => m.Groups["service"].Value, m => m.Groups["endpoint"].Value.Replace(':', ' '));
        var compared = 0;
        foreach (var element in real.Select(l => ServiceElement().Match(l)).Where(m => m.Success))
        {
            var where = new AddressPort(IpAddress.Parse(element.Groups["ip"].Value), ushort.Parse(element.Groups["port"].Value));
            var server = wanted.Servers.Single(s => s.Where == where && s.Protocol == element.Groups["protocol"].Value);
            var leadsTo = element.Groups["chain"].Value;
            var backends = server.Servers.Select(s => $"{s.Where.Address} {s.Where.Port}").Order().ToArray();
            if (leadsTo is "reject-chain")
            {
                backends.ShouldBeEmpty(element.Value);
            }
            else if (leadsTo.StartsWith("external-"))
            {
                // Policy Local with nobody here leads pods to all of them, in both modes.
                var name = leadsTo["external-".Length..];
                backends.ShouldBe(chains.GetValueOrDefault($"local-{name}") ?? chains[$"service-{name}"], element.Value);
            }
            else if (chains.TryGetValue(leadsTo, out var theirs))
            {
                backends.ShouldBe(theirs, element.Value);
            }
            else
            {
                server.AffinitySeconds.ShouldBe(600);
                backends.ShouldBe(affinity[leadsTo[(leadsTo.IndexOf('-', 9) + 1)..]].Order(), ignoreOrder: false, customMessage: element.Value);
            }

            compared++;
        }

        compared.ShouldBeGreaterThan(ipv6 ? 2 : 40);
        var nodePorts = real.Count(l => l.Contains("map service-nodeports: element"));
        var addresses = Options(node).LocalAddresses.Count(a => a.IsIPv4 != ipv6);
        wanted.Servers.Count(s => Options(node).LocalAddresses.Contains(s.Where.Address)).ShouldBeGreaterThanOrEqualTo(nodePorts * addresses);
        var dropped = real.Select(l => DroppedElement().Match(l)).Where(m => m.Success).Select(m => m.Groups["ip"].Value);
        wanted.Addresses.Select(a => a.ToString()).ShouldBe(real.Select(l => ServiceElement().Match(l)).Where(m => m.Success).Select(m => m.Groups["ip"].Value).Concat(dropped).Distinct(), ignoreOrder: true);
    }

    [Fact]
    public void VirtualServers_AreSaidAsIpvsadmTakesThem()
    {
        var lines = Ipvs.ComposeServers(Wanted("kp-node1"), []).Split('\n');

        lines.ShouldContain("-A -t 10.96.0.10:53 -s rr");
        lines.ShouldContain("-A -u 10.96.0.10:53 -s rr");
        lines.ShouldContain("-a -u 10.96.0.10:53 -r 10.244.1.4:53 -m -w 1");
        lines.ShouldContain("-A -t 10.106.110.188:80 -s rr -p 600");
        lines.ShouldContain(l => l.StartsWith("-A --sctp-service 10."));
        lines.ShouldContain("-A -t 172.30.0.11:30080 -s rr");
        lines.ShouldContain("-A -t 10.244.1.1:30080 -s rr");
        Ipvs.ComposeServers(IpvsRules.Write(KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3")), Options("kp-node1"), ipv6: true), []).Split('\n')
            .ShouldContain("-a -t [fd00:10:96::ed4e]:80 -r [fd00:10:244:1::2]:8080 -m -w 1");
    }

    [Fact]
    public void ServerThatIsNotWantedAnyMore_KeepsItsConnectionsAndGetsNoMore()
    {
        var wanted = Wanted("kp-node1");
        var dns = wanted.Servers.Single(s => s.Key == "-u 10.96.0.10:53");
        var metrics = wanted.Servers.Single(s => s.Key == "-t 10.96.0.10:9153");
        var present = wanted.Servers.Except([dns, metrics]).Concat(
        [
            dns with { Servers = dns.Servers.Add(new RealServer(AddressPort.Parse("10.244.9.1:53"), 1, 7)) },
            metrics with
            {
                AffinitySeconds = 60,
                Servers =
                [
                    new RealServer(metrics.Servers[0].Where, 0, 3), metrics.Servers[1],
                    new RealServer(AddressPort.Parse("10.244.9.1:9153"), 1, 2), new RealServer(AddressPort.Parse("10.244.9.2:9153"), 0, 1), new RealServer(AddressPort.Parse("10.244.9.3:9153"), 0, 0),
                ],
            },
            new VirtualServer("tcp", AddressPort.Parse("10.96.9.9:80"), null, []),
        ]).ToArray();

        Ipvs.ComposeServers(wanted, wanted.Servers).ShouldBe("");
        Ipvs.ComposeServers(wanted, present).ShouldBe("""
            -E -t 10.96.0.10:9153 -s rr
            -e -t 10.96.0.10:9153 -r 10.244.1.4:9153 -m -w 1
            -e -t 10.96.0.10:9153 -r 10.244.9.1:9153 -m -w 0
            -d -t 10.96.0.10:9153 -r 10.244.9.3:9153
            -d -u 10.96.0.10:53 -r 10.244.9.1:53
            -D -t 10.96.9.9:80

            """);
    }

    [Fact]
    public void ListingOfIpvsadm_IsRead()
    {
        var servers = Ipvs.ReadServers("""
            IP Virtual Server version 1.2.1 (size=4096)
            Prot LocalAddress:Port Scheduler Flags
              -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
            TCP  10.96.0.1:443 rr
              -> 172.30.0.1:6443              Masq    1      3          0         
            UDP  10.96.0.10:53 rr persistent 10800
            FWM  7 rr
              -> 10.0.0.9:0                   Masq    1      0          0         
            TCP  [fd00:10:96::1]:443 rr persistent 360 mask 128
              -> [fd00:172:30::1]:6443        Masq    0      1          4         
            SCTP 10.96.0.2:3868 rr
            """);

        servers.Select(s => s.Definition).ShouldBe(["-t 10.96.0.1:443 -s rr", "-u 10.96.0.10:53 -s rr -p 10800", "-t [fd00:10:96::1]:443 -s rr -p 360", "--sctp-service 10.96.0.2:3868 -s rr"]);
        servers[0].Servers.ShouldBe([new RealServer(AddressPort.Parse("172.30.0.1:6443"), 1, 3)]);
        servers[1].Servers.ShouldBeEmpty();
        servers[2].Servers.ShouldBe([new RealServer(AddressPort.Parse("[fd00:172:30::1]:6443"), 0, 5)]);
    }

    [Fact]
    public void Rules_StandInKubeProxysOrder()
    {
        var rules = Wanted("kp-node1").Tables.SelectMany(t => t.Rules.Select(r => $"{t.Name} {r}")).ToList();
        string[] Of(string chain) => [.. rules.Where(r => r.Contains($" -A {chain} ")).Select(r => r[(r.IndexOf(chain) + chain.Length + 1)..])];

        Of("KUBE-SERVICES").ShouldBe(
        [
            "-s 127.0.0.0/8 -j RETURN",
            "-m comment --comment \"Kubernetes service lb portal\" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER",
            "! -s 10.244.0.0/16 -m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
            "-m comment --comment \"Kubernetes service external ip + port for masquerade and filter purpose\" -m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ",
            "-m comment --comment \"Kubernetes service external ip + port for masquerade and filter purpose\" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
            "-m comment --comment \"Kubernetes service external ip + port for masquerade and filter purpose\" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT",
            "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
            "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
            "-m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT",
        ]);
        rules.Where(r => r.StartsWith("nat -A KUBE-NODE-PORT ")).ShouldBe(
        [
            "nat -A KUBE-NODE-PORT -p tcp -m comment --comment \"Kubernetes nodeport TCP port with externalTrafficPolicy=local\" -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN",
            "nat -A KUBE-NODE-PORT -p tcp -m comment --comment \"Kubernetes nodeport TCP port for masquerade purpose\" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
            "nat -A KUBE-NODE-PORT -p udp -m comment --comment \"Kubernetes nodeport UDP port for masquerade purpose\" -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ",
        ]);
        Of("KUBE-LOAD-BALANCER").ShouldBe(
        [
            "-m comment --comment \"Kubernetes service load balancer ip + port with externalTrafficPolicy=local\" -m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN",
            "-j KUBE-MARK-MASQ",
        ]);
        Of("KUBE-POSTROUTING")[0].ShouldBe("-m comment --comment \"Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose\" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE");
        Of("KUBE-SOURCE-RANGES-FIREWALL").ShouldBe(
        [
            "-m comment --comment \"Kubernetes service load balancer ip + port + source cidr for packet filter purpose\" -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN",
            "-j DROP",
        ]);
        Of("KUBE-IPVS-OUT-FILTER").ShouldContain("-s 203.0.113.12/32 -m ipvs --vproto 6 --vaddr 203.0.113.12/32 --vport 80 -j DROP");
        Of("KUBE-IPVS-FILTER")[^1].ShouldBe("-m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable");
    }

    [Fact]
    public void Sets_HoldWhatRulesAsk()
    {
        var sets = Wanted("kp-node1").Sets.ToDictionary(s => s.Name);
        sets["KUBE-CLUSTER-IP"].Entries.ShouldContain("10.96.0.10,udp:53");
        sets["KUBE-CLUSTER-IP"].Entries.ShouldContain("10.103.209.252,tcp:80", "a Service without endpoints has its address too");
        sets["KUBE-LOOP-BACK"].Entries.ShouldContain("10.244.1.2,tcp:8080,10.244.1.2");
        sets["KUBE-LOOP-BACK"].Entries.ShouldAllBe(e => e.StartsWith("10.244.1.") || e.StartsWith("172.30.0.11,"));
        sets["KUBE-EXTERNAL-IP"].Entries.ShouldBe(["198.51.100.77,tcp:80"]);
        sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"].Entries.ShouldBe(["203.0.113.11,tcp:443,192.0.2.0/25", "203.0.113.11,tcp:443,198.51.100.0/24", "203.0.113.11,tcp:80,192.0.2.0/25", "203.0.113.11,tcp:80,198.51.100.0/24", "203.0.113.12,tcp:80,198.51.100.0/24"]);
        sets["KUBE-NODE-PORT-TCP"].Entries.ShouldContain("30080");
        sets["KUBE-NODE-PORT-LOCAL-TCP"].Entries.ShouldContain("30081");
        sets["KUBE-NODE-PORT-UDP"].Entries.ShouldBe(["30053"]);
        sets["KUBE-HEALTH-CHECK-NODE-PORT"].Entries.ShouldHaveSingleItem();
        sets["KUBE-IPVS-IPS"].Entries.Count.ShouldBe(Wanted("kp-node1").Addresses.Count);

        // Names of IPv6 sets are cut where the kernel's 31 characters end.
        IpvsRules.Write(ClusterSnapshot.Empty, Options("kp-node1"), ipv6: true).Sets.Select(s => s.Name).ShouldContain("KUBE-6-LOAD-BALANCER-SOURCE-CID");
    }

    [Fact]
    public void SourceRangeOfEverybody_IsLeftOutOfTheSetAsTheKernelRefusesIt()
    {
        var objects = KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3"));
        var wanted = IpvsRules.Write(objects with
        {
            Services = [.. objects.Services.Select(s => s with { Spec = s.Spec with { LoadBalancerSourceRanges = s.Spec.LoadBalancerSourceRanges.IsEmpty ? [] : ["0.0.0.0/0", "192.0.2.9/32"] } })],
        }, Options("kp-node1"), ipv6: false);

        wanted.Sets.Single(s => s.Name == "KUBE-LOAD-BALANCER-SOURCE-CIDR").Entries.ShouldBe(["203.0.113.11,tcp:443,192.0.2.9", "203.0.113.11,tcp:80,192.0.2.9", "203.0.113.12,tcp:80,192.0.2.9"]);
        // They admit the node too.
        wanted.Sets.Single(s => s.Name == "KUBE-LOAD-BALANCER-SOURCE-IP").Entries.ShouldContain("203.0.113.12,tcp:80,203.0.113.12");
        wanted.Tables.SelectMany(t => t.Rules).ShouldNotContain(r => r.Contains("KUBE-IPVS-OUT-FILTER -s"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SetsAndRules_AreTakenByTheKernelAndGivenBackTheSame(bool ipv6)
    {
        using var place = new EmptyNamespace("ipset", "iptables-nft-restore", "ip6tables-nft-restore");
        Assert.SkipUnless(Command.Try(place.Path, "ipset", ["create", "probe", "hash:ip,port"]).ExitCode == 0, "needs ipset in the kernel");
        var objects = KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3"));
        foreach (var part in (int[])[2, 1])
        {
            var wanted = IpvsRules.Write(objects with { Services = [.. objects.Services.Where((_, i) => i % part == 0)] }, Options("kp-node1"), ipv6);
            string Sets() => Command.Run(place.Path, "ipset", ["save"]);
            Command.Run(place.Path, "ipset", ["restore"], Ipvs.ComposeSets(wanted, Sets()));
            Ipvs.ComposeSets(wanted, Sets()).Split('\n', StringSplitOptions.RemoveEmptyEntries).ShouldAllBe(l => l.StartsWith("create "));

            // The match of IPVS's own is of kernels that have IPVS.
            foreach (var table in wanted.Tables)
            {
                table.Rules.RemoveAll(r => r.Contains("-m ipvs "));
            }

            var iptables = new Iptables(place.Path, ProxyMode.Ipvs, ipv6);
            iptables.Apply(wanted.Tables);
            var saved = iptables.Save();
            foreach (var rule in wanted.Tables.SelectMany(t => t.Jumps.Concat(t.Rules)))
            {
                saved.Split('\n').ShouldContain(rule);
            }

            Iptables.Compose(wanted.Tables, saved).Split('\n').ShouldNotContain(l => l.StartsWith("-I") || l.StartsWith("-D") || l.StartsWith("-X"));
        }
    }

    [Fact]
    public async Task KernelWithoutIpvs_IsToldBeforeAnythingIsBuilt()
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        var lacking = Lab.Needs(ProxyMode.Ipvs).Where(n => !n.Available).ToArray();
        Assert.SkipWhen(lacking.Length == 0, "this kernel has all that IPVS mode needs");
        var name = LiveLab.NewName();
        var said = new List<string>();

        var error = await Should.ThrowAsync<LabException>(() => Lab.UpAsync(new LabOptions { Name = name, Proxy = ProxyMode.Ipvs, SelfCommand = LiveLab.Self() }, new Said(said), TestContext.Current.CancellationToken));

        lacking.ShouldAllBe(n => error.Message.Contains(n.Remedy!));
        error.Message.ShouldMatch("Install it with: apt-get install|Load it with: modprobe -a");
        said.ShouldBeEmpty();
        LiveLab.Traces(name).ShouldBeEmpty();
    }

    private static IpvsRules Wanted(string node) => IpvsRules.Write(KubeProxyFixture.Objects(KubeProxyFixture.Folder("kube-proxy-1.36.3")), Options(node), ipv6: false);

    private static KubeProxyOptions Options(string node) => new()
    {
        NodeName = node,
        ClusterCidrs = [IpNetwork.Parse("10.244.0.0/16"), IpNetwork.Parse("fd00:10:244::/56")],
        NodeAddresses = [IpAddress.Parse($"172.30.0.1{node[^1]}"), IpAddress.Parse($"fd00:172:30::1{node[^1]}")],
        LocalAddresses = [IpAddress.Parse($"172.30.0.1{node[^1]}"), IpAddress.Parse($"fd00:172:30::1{node[^1]}"), IpAddress.Parse($"10.244.{node[^1]}.1")],
    };

    [GeneratedRegex(@"chain (?<name>(service|local)-\S+): 1 meta l4proto \w+ dnat ip6? to numgen random mod \d+ map \{.*")]
    private static partial Regex ChainOfService();

    [GeneratedRegex(@"\d+ : ([0-9a-f.:]+) \. (\d+)")]
    private static partial Regex Backend();

    [GeneratedRegex(@"chain endpoint-\w+-(?<service>\S+)__\S+: 2 meta l4proto \w+ dnat to (?<endpoint>\S+)")]
    private static partial Regex EndpointOfAffinity();

    [GeneratedRegex(@"map (service-ips|no-endpoint-services): element (?<ip>\S+) \. (?<protocol>\w+) \. (?<port>\d+) .*goto (?<chain>\S+)")]
    private static partial Regex ServiceElement();

    [GeneratedRegex(@"map no-endpoint-services: element (?<ip>\S+) \. .* : drop")]
    private static partial Regex DroppedElement();

    private sealed class Said(List<string> words) : IProgress<string>
    {
        public void Report(string value) => words.Add(value);
    }
}
