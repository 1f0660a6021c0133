using System.Collections.Immutable;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>kube-proxy's IPVS mode, walked: what the lab's nodes had in a real kernel (6.1), whole and damaged.</summary>
public sealed class IpvsRulesTests
{
    private const string Folder = "lab-ipvs";
    private static readonly ClusterSnapshot Snapshot = SnapshotReader.Read([Fixture.Find(Fixture.Own(Folder), "cluster.json")!]);
    private static readonly NodeAccount Node = Account("node-1");

    private static NodeAccount Account(string node)
    {
        string Text(string name) => Fixture.Text(Fixture.Find(Fixture.Own($"{Folder}/{node}"), name)!);
        return new NodeAccount
        {
            Name = node,
            HasIpvs = true,
            Dumps = [new("iptables-nft-save", Text("iptables-save-c.txt")), new("ip6tables-nft-save", Text("ip6tables-save-c.txt")), new("ipset", Text("ipset-save.txt")), new("ipvsadm", Text("ipvsadm-Sn.txt"))],
            Routes = [.. Text("ip-route-all.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)],
            Sysctls = ImmutableSortedDictionary<string, string>.Empty.Add("net.ipv4.vs.conntrack", "1"),
        };
    }

    private static NodeAccount With(string tool, Func<string, string> change) => Node with { Dumps = [.. Node.Dumps.Select(d => d.Tool == tool ? d with { Text = change(d.Text) } : d)] };

    private static string Without(string text, string line)
    {
        text.ShouldContain(line);
        return string.Join('\n', text.Split('\n').Where(l => !l.Contains(line, StringComparison.Ordinal)));
    }

    private static WalkResult Walk(NodeAccount node, string from, string to, bool fromNode = false, IpProtocol protocol = IpProtocol.Tcp)
    {
        var destination = AddressPort.Parse(to);
        return ProxyRules.Of(node, !destination.Address.IsIPv4).Find(null, null, destination, protocol, new VirtualPacket
        {
            Tuple = new FiveTuple(protocol, AddressPort.Parse(from), destination),
            FromNode = fromNode,
            InInterface = fromNode ? null : "cni0",
            BridgePort = fromNode ? null : "veth7804a56a",
        }).Walk;
    }

    [Theory]
    [InlineData("node-1", false)]
    [InlineData("node-1", true)]
    [InlineData("node-2", false)]
    [InlineData("node-2", true)]
    public void EveryServicePort_GoesToItsEndpointsInEqualShares(string nodeName, bool isIPv6)
    {
        var rules = ProxyRules.Of(Account(nodeName), isIPv6);
        rules.Mode.ShouldBe(ProxyMode.Ipvs);
        rules.IsRead.ShouldBeTrue();
        rules.AreMissing(fromNode: false).ShouldBeFalse();
        rules.AreMissing(fromNode: true).ShouldBeFalse();
        var seen = 0;
        foreach (var service in Snapshot.Services)
        {
            foreach (var address in ServiceMeaning.ClusterAddresses(service).Where(a => a.IsIPv4 != isIPv6))
            {
                foreach (var port in service.Spec.Ports)
                {
                    seen++;
                    var wanted = ServiceMeaning.BackendsInUse(Snapshot, service, port, isIPv6, nodeName).Backends;
                    var found = rules.Find($"{service.Metadata.Namespace}/{service.Metadata.Name}", port.Name, new AddressPort(address, (ushort)port.Port), ServiceMeaning.ProtocolOf(port));
                    found.Exist.ShouldBeTrue();
                    found.IsAddressMissing.ShouldBeFalse();
                    found.Walk.Outcome.ShouldBe(WalkOutcome.Translated, string.Join("; ", found.Walk.Unknowns));
                    found.Backends.Select(b => b.Address).ShouldBe(wanted.Select(b => b.Address), ignoreOrder: true);
                    found.Backends.ShouldAllBe(b => Math.Abs(b.Probability - 1.0 / wanted.Length) < 1e-9);
                    found.Walk.Assumptions.ShouldBeEmpty();
                }
            }
        }

        seen.ShouldBe(isIPv6 ? 3 : 4);
    }

    [Theory]
    [InlineData("node-1")]
    [InlineData("node-2")]
    public void DumpsOfARealKernel_AgreeWithTheObjects(string node)
    {
        var files = RuleFiles.Read([Fixture.Own($"{Folder}/{node}")]);
        var report = new RuleCheck(Snapshot, node, files.Families, files.Routes).Run();
        report.Findings.Where(f => f.Status != CheckStatus.Agrees).Select(f => f.Sentence).ShouldBeEmpty();
        report.NotSeen.ShouldBeEmpty();
        report.Families.ShouldAllBe(f => f.Mode == ProxyMode.Ipvs);
        report.Ports.Length.ShouldBe(4);
    }

    [Fact]
    public void EmptyDumpOfIpvsadm_SaysThatNoVirtualServerIsThere()
    {
        var folder = Directory.CreateTempSubdirectory("tp-ipvs-").FullName;
        foreach (var name in (string[])["iptables-save-c.txt", "ipset-save.txt", "ip-route-all.txt"])
        {
            File.WriteAllText(Path.Combine(folder, name), Fixture.Text(Fixture.Find(Fixture.Own($"{Folder}/node-1"), name)!));
        }

        File.WriteAllText(Path.Combine(folder, "ipvsadm-Sn.txt"), "");
        var files = RuleFiles.Read([folder]);
        Directory.Delete(folder, recursive: true);
        var finding = new RuleCheck(Snapshot, "node-1", files.Families, files.Routes).Run().Findings.ShouldHaveSingleItem();
        finding.Class.ShouldBe(Core.Diagnosis.FailureClass.ProxyRulesMissing);
        finding.Sentence.ShouldContain("there is no virtual server for IPv4");
    }

    [Theory]
    [InlineData("10.244.1.10:40000", "10.96.0.159:8080", false, false)] // from a pod to pods: as it is
    [InlineData("10.77.0.12:40000", "10.96.0.159:8080", false, true)] // from outside of the pods' network
    [InlineData("10.96.0.159:40000", "10.96.0.159:8080", true, true)] // the node itself, whose source is an address of kube-ipvs0
    [InlineData("[fd00:10:77::12]:40000", "[fd00:10:96::9f]:8080", false, true)]
    [InlineData("[fd00:10:244:1::a]:40000", "[fd00:10:96::9f]:8080", false, false)]
    public void Source_IsMasqueradedWhereItHasToBe(string from, string to, bool fromNode, bool masquerade)
    {
        var walk = Walk(Node, from, to, fromNode);
        walk.Outcome.ShouldBe(WalkOutcome.Translated);
        walk.Branches.ShouldAllBe(b => b.Masquerade == masquerade);
    }

    [Fact]
    public void PodThatReachesItself_IsMasqueraded()
    {
        var walk = Walk(Node, "10.244.1.11:40000", "10.96.0.159:8080");
        walk.BranchTo(AddressPort.Parse("10.244.1.11:80"))!.Masquerade.ShouldBeTrue();
        walk.BranchTo(AddressPort.Parse("10.244.2.12:80"))!.Masquerade.ShouldBeFalse();
    }

    [Fact]
    public void Packet_MeetsTheRulesInTheKernelsOrder()
    {
        // As counted by the kernel that the dumps are from: KUBE-IPVS-OUT-FILTER stands at output, which packets from pods pass too.
        var walk = Walk(Node, "10.77.0.12:40000", "10.96.0.159:8080");
        walk.Branches[0].Steps.Select(s => (s.Hook, s.Rule.Chain)).ShouldBe(
        [
            (Hook.Prerouting, "PREROUTING"), (Hook.Prerouting, "KUBE-SERVICES"), (Hook.Prerouting, "KUBE-MARK-MASQ"), (Hook.Prerouting, "KUBE-SERVICES"), (Hook.Prerouting, "KUBE-SERVICES"),
            (Hook.Input, "INPUT"), (Hook.Input, "KUBE-IPVS-FILTER"), (Hook.Input, "INPUT"), (Hook.Input, "INPUT"),
            (Hook.Input, "-t 10.96.0.159:8080"), (Hook.Input, "-t 10.96.0.159:8080"),
            (Hook.Output, "OUTPUT"),
            (Hook.Postrouting, "POSTROUTING"), (Hook.Postrouting, "KUBE-POSTROUTING"), (Hook.Postrouting, "KUBE-POSTROUTING"),
        ]);
        walk.Branches[0].Steps.Single(s => s.Rule.Target is RuleTarget.Dnat).Rule.Raw.ShouldBe("-a -t 10.96.0.159:8080 -r 10.244.1.11:80 -m -w 1");
        walk.Branches[0].Steps[9].Backend.ShouldBe(RuleBackend.Ipvs);
    }

    [Fact]
    public void PortThatTheServiceHasNot_IsRejectedByKubeProxysFilter()
    {
        var walk = Walk(Node, "10.244.1.10:40000", "10.96.0.159:9999");
        walk.Outcome.ShouldBe(WalkOutcome.Rejected);
        walk.Matched[^1].Raw.ShouldBe("-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable");
        // The node's own are not filtered on the way in, but nothing translates them.
        Walk(Node, "10.77.0.11:40000", "10.96.0.159:9999", fromNode: true).Outcome.ShouldBe(WalkOutcome.Rejected);
    }

    [Fact]
    public void ServiceWithoutEndpoints_IsRejectedByIpvsItself()
    {
        var walk = Walk(With("ipvsadm", t => Without(t, "-a -t 10.96.0.159:8080")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Outcome.ShouldBe(WalkOutcome.Rejected);
        walk.RejectWith.ShouldBe("icmp-port-unreachable");
        walk.Matched[^1].Raw.ShouldBe("-A -t 10.96.0.159:8080 -s rr");
        Walk(With("ipvsadm", t => Without(t, "-a -t 10.96.0.159:8080")), "10.96.0.159:40000", "10.96.0.159:8080", fromNode: true).RejectWith.ShouldBe("icmp-port-unreachable");
        var rules = ProxyRules.Of(With("ipvsadm", t => Without(t, "-a -t 10.96.0.159:8080")), false);
        rules.Find("default/my-nginx", null, AddressPort.Parse("10.96.0.159:8080"), IpProtocol.Tcp).Reject.ShouldNotBeNull();
        Walk(With("ipvsadm", t => Without(t, "-a -t [fd00:10:96::9f]:8080")), "[fd00:10:244:1::a]:40000", "[fd00:10:96::9f]:8080").RejectWith.ShouldBe("icmp6-port-unreachable");
    }

    [Fact]
    public void RealServerThatDrains_GetsNoNewConnections()
    {
        var walk = Walk(With("ipvsadm", t => t.Replace("-r 10.244.2.12:80 -m -w 1", "-r 10.244.2.12:80 -m -w 0")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Backends.Select(b => (b.Address.ToString(), b.Probability)).ShouldBe([("10.244.1.11:80", 1.0)]);
    }

    [Theory]
    [InlineData("rr", 0.5, false)]
    [InlineData("wrr", 0.75, false)]
    [InlineData("fo", 1.0, false)]
    [InlineData("lc", 0.5, true)]
    [InlineData("wlc", 0.75, true)]
    [InlineData("sh", 0.75, true)]
    public void Scheduler_DecidesTheShares(string scheduler, double share, bool assumed)
    {
        var walk = Walk(With("ipvsadm", t => t.Replace("-A -t 10.96.0.159:8080 -s rr", $"-A -t 10.96.0.159:8080 -s {scheduler}").Replace("-r 10.244.1.11:80 -m -w 1", "-r 10.244.1.11:80 -m -w 3")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Backends.Single(b => b.Address == AddressPort.Parse("10.244.1.11:80")).Probability.ShouldBe(share, 1e-9);
        walk.Backends.Sum(b => b.Probability).ShouldBe(1.0, 1e-9);
        walk.Assumptions.Any(a => a.Contains(scheduler, StringComparison.Ordinal)).ShouldBe(assumed);
    }

    [Fact]
    public void SessionAffinity_NamesWhereAClientComesAgain()
    {
        var walk = Walk(With("ipvsadm", t => t.Replace("-A -t 10.96.0.159:8080 -s rr", "-A -t 10.96.0.159:8080 -s rr -p 10800")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Affinity.Select(a => (a.Backend.ToString(), a.Seconds)).ShouldBe([("10.244.1.11:80", 10800), ("10.244.2.12:80", 10800)]);
        walk.Assumptions.ShouldBe(["the client has no session affinity yet"]);
    }

    [Fact]
    public void AddressThatIsNotOnTheInterface_IsToldFromAMissingVirtualServer()
    {
        var node = Node with { Routes = [.. Node.Routes.Where(r => !r.StartsWith("local 10.96.0.159 ", StringComparison.Ordinal))] };
        var rules = ProxyRules.Of(node, false);
        var found = rules.Find("default/my-nginx", null, AddressPort.Parse("10.96.0.159:8080"), IpProtocol.Tcp);
        found.IsAddressMissing.ShouldBeTrue();
        found.Walk.Outcome.ShouldBe(WalkOutcome.Untranslated);
        found.Exist.ShouldBeTrue();

        var gone = ProxyRules.Of(With("ipvsadm", t => Without(t, " 10.96.0.159:8080 ")), false);
        gone.AreMissing(fromNode: false).ShouldBeFalse();
        found = gone.Find("default/my-nginx", null, AddressPort.Parse("10.96.0.159:8080"), IpProtocol.Tcp);
        found.Exist.ShouldBeFalse();
        found.IsAddressMissing.ShouldBeFalse();
        // The address is still the node's own, where nobody listens.
        found.Walk.Outcome.ShouldBe(WalkOutcome.Untranslated);
    }

    [Fact]
    public void FlushedNode_IsStillKnownToWorkWithIpvs()
    {
        var flushed = With("ipvsadm", _ => "") with { HasIpvs = false };
        flushed = flushed with { Dumps = [.. flushed.Dumps.Select(d => d.Tool.StartsWith("ip", StringComparison.Ordinal) && d.Tool.EndsWith("save", StringComparison.Ordinal) ? d with { Text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\nCOMMIT\n" } : d)] };
        var rules = ProxyRules.Of(flushed, false);
        rules.Mode.ShouldBe(ProxyMode.Ipvs);
        rules.DescribeMissing(fromNode: false).ShouldBe("there is no virtual server for IPv4");
    }

    [Fact]
    public void VirtualServersThatWereNotRead_AllowNoConclusion()
    {
        var rules = ProxyRules.Of(Node with { Dumps = [.. Node.Dumps.Where(d => d.Tool != "ipvsadm")] }, false);
        rules.Mode.ShouldBe(ProxyMode.Ipvs);
        rules.IsRead.ShouldBeFalse();
        rules.AreMissing(fromNode: false).ShouldBeFalse();
    }

    [Fact]
    public void SetsThatWereNotRead_LeaveTheWalkUndecided()
    {
        var walk = Walk(Node with { Dumps = [.. Node.Dumps.Where(d => d.Tool != "ipset")] }, "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Outcome.ShouldBe(WalkOutcome.Undecided);
        walk.Unknowns.ShouldContain(u => u.Contains("--match-set KUBE-", StringComparison.Ordinal));
    }

    [Fact]
    public void WithoutConnectionTracking_NothingIsMasqueraded()
    {
        var walk = Walk(Node with { Sysctls = ImmutableSortedDictionary<string, string>.Empty.Add("net.ipv4.vs.conntrack", "0") }, "10.77.0.12:40000", "10.96.0.159:8080");
        walk.Outcome.ShouldBe(WalkOutcome.Translated);
        walk.Masquerade.ShouldBeFalse();
    }

    [Fact]
    public void DroppedAtOutput_CountsForPodsToo()
    {
        var walk = Walk(With("iptables-nft-save", t => t.Replace(":OUTPUT ACCEPT [0:0]\n:KUBE-FORWARD", ":OUTPUT DROP [0:0]\n:KUBE-FORWARD")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Outcome.ShouldBe(WalkOutcome.Dropped);
        walk.Branches[0].Policy.ShouldBe("policy of filter OUTPUT");
        // And forwarding rules do not.
        Walk(With("iptables-nft-save", t => t.Replace(":FORWARD ACCEPT", ":FORWARD DROP")), "10.244.1.10:40000", "10.96.0.159:8080").Outcome.ShouldBe(WalkOutcome.Translated);
    }

    [Fact]
    public void HandWrittenDropThatAsksASet_IsFound()
    {
        var walk = Walk(With("iptables-nft-save", t => t.Replace("-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN", "-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j DROP")), "10.244.1.10:40000", "10.96.0.159:8080");
        walk.Outcome.ShouldBe(WalkOutcome.Dropped);
        Walk(With("iptables-nft-save", t => t.Replace("-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN", "-A KUBE-IPVS-FILTER -m set ! --match-set KUBE-CLUSTER-IP dst,dst -j DROP")), "10.244.1.10:40000", "10.96.0.159:8080").Outcome.ShouldBe(WalkOutcome.Rejected);
    }
}
