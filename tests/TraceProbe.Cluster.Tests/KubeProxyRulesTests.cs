using System.Collections.Immutable;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>What real kube-proxies wrote, walked, against what they wrote it for.</summary>
public sealed class KubeProxyRulesTests
{
    private static readonly string[] RuleFiles = ["iptables-save-c.txt", "iptables-save.txt", "ip6tables-save.txt"];

    public static TheoryData<string> OwnCases => ["kube-proxy-1.20-legacy", "kube-proxy-1.36-nft"];

    [Theory]
    [MemberData(nameof(OwnCases))]
    public void EveryServicePort_IsWalkedToItsReadyEndpoints(string name)
        => Check(Fixture.Own(name), Fixture.Own(name), Fixture.Own(name), Fixture.Own(name)).ShouldBeGreaterThan(30);

    [Fact]
    public void EverySharedCase_IsWalkedToItsReadyEndpoints()
    {
        var root = Fixture.RequireShared();
        var log = new StringBuilder();
        foreach (var folder in Directory.EnumerateDirectories(root, "*", SearchOption.AllDirectories).Order())
        {
            if (Fixture.Find(folder, "iptables-save-c.txt") is null || folder.Contains("10000x2", StringComparison.Ordinal))
            {
                continue;
            }

            // Other modes of a case share the API objects that are only in one of them.
            var objects = new[] { folder }.Concat(Directory.GetDirectories(Path.GetDirectoryName(folder)!).Order()).ToArray();
            var slices = objects.FirstOrDefault(f => Fixture.Find(f, "endpointslices.json") is not null);
            var services = objects.FirstOrDefault(f => Fixture.Find(f, "services.json") is not null);
            var nodes = objects.FirstOrDefault(f => Fixture.Find(f, "nodes.json") is not null) ?? services!;
            if (slices is null || services is null)
            {
                continue;
            }

            log.AppendLine($"{folder}: {Check(folder, services, slices, nodes)} Service ports");
        }

        TestContext.Current.TestOutputHelper?.WriteLine(log.ToString());
        log.Length.ShouldBeGreaterThan(0);
    }

    [Fact]
    public void EverySharedDump_ParsesWithoutUnknowns()
    {
        var root = Fixture.RequireShared();
        var rules = 0;
        var unknowns = new HashSet<string>();
        foreach (var file in Directory.EnumerateFiles(root, "*tables-save*", SearchOption.AllDirectories))
        {
            var set = RuleSet.Parse(new RuleDump(Path.GetFileName(file), Fixture.Text(file)));
            foreach (var rule in set.Tables.Values.SelectMany(t => t.Chains.Values).SelectMany(c => c.Rules))
            {
                rules++;
                unknowns.UnionWith(rule.Matches.OfType<RuleMatch.Unknown>().Select(m => m.Text));
                if (rule.Target is RuleTarget.Unknown target)
                {
                    unknowns.Add(target.Text);
                }
            }
        }

        unknowns.ShouldBeEmpty();
        rules.ShouldBeGreaterThan(100_000);
    }

    private static int Check(string folder, string servicesFolder, string slicesFolder, string nodesFolder)
    {
        var sets = new List<RuleSet>();
        foreach (var file in RuleFiles)
        {
            if (Fixture.Find(folder, file) is { } path && !(file == "iptables-save.txt" && sets.Count > 0))
            {
                sets.Add(RuleSet.Parse(new RuleDump(Path.GetFileName(path), Fixture.Text(path))));
            }
        }

        var snapshot = SnapshotReader.Read(
            new[] { Fixture.Find(servicesFolder, "services.json"), Fixture.Find(slicesFolder, "endpointslices.json"), Fixture.Find(nodesFolder, "nodes.json") }.OfType<string>());
        var nodeName = folder.Contains("node2", StringComparison.Ordinal) ? "kp-node2" : "kp-node1";
        var walk = new RuleWalk(sets);
        var count = 0;
        var wrong = new StringBuilder();
        foreach (var service in snapshot.Services)
        {
            foreach (var address in ServiceMeaning.ClusterAddresses(service))
            {
                if (!sets.Any(s => s.IsIPv6 != address.IsIPv4 && s.Table("nat") is not null))
                {
                    continue;
                }

                foreach (var port in service.Spec.Ports)
                {
                    count++;
                    var expected = ServiceMeaning.ExpectedBackends(snapshot, service, port, !address.IsIPv4);
                    var used = ServiceMeaning.BackendsInUse(snapshot, service, port, !address.IsIPv4, nodeName).Backends;
                    var source = IpAddress.Parse(address.IsIPv4 ? "10.244.1.199" : "fd00:10:244:1::199");
                    var packet = new VirtualPacket
                    {
                        Tuple = new FiveTuple(ServiceMeaning.ProtocolOf(port), new AddressPort(source, 40000), new AddressPort(address, (ushort)port.Port)),
                        LocalAddresses = [IpAddress.Parse("172.30.0.11"), IpAddress.Parse("fd00:172:30::11")],
                        BridgePort = "",
                    };
                    Compare($"{service.Ref}:{port.Port}/{port.Protocol} at {address}", walk.Run(packet), used, expected, wrong);
                    Compare($"{service.Ref}:{port.Port}/{port.Protocol} at {address} from the node", walk.Run(packet with { FromNode = true }), used, expected, wrong);
                }
            }
        }

        wrong.ToString().ShouldBe("", folder);
        return count;
    }

    private static void Compare(string what, WalkResult result, ImmutableArray<ExpectedBackend> used, ImmutableArray<ExpectedBackend> all, StringBuilder wrong)
    {
        if (used.IsEmpty)
        {
            // Without a local endpoint under a Local policy the packet is dropped, without any it is rejected.
            var expected = all.Any(b => b.Ready) ? WalkOutcome.Dropped : WalkOutcome.Rejected;
            if (result.Outcome != expected)
            {
                wrong.AppendLine($"{what}: {result.Outcome}, expected {expected}; rules: {string.Join(" | ", result.Matched)}");
            }

            return;
        }

        var share = 1.0 / used.Length;
        if (result.Outcome != WalkOutcome.Translated
            || !result.Backends.Select(b => b.Address).Order(Comparer<AddressPort>.Create((a, b) => string.CompareOrdinal(a.ToString(), b.ToString())))
                .SequenceEqual(used.Select(b => b.Address).Order(Comparer<AddressPort>.Create((a, b) => string.CompareOrdinal(a.ToString(), b.ToString()))))
            || result.Backends.Any(b => Math.Abs(b.Probability - share) > 1e-6))
        {
            wrong.AppendLine($"{what}: {result.Outcome} to {string.Join(", ", result.Backends.Select(b => $"{b.Address} {b.Probability:F4}"))}; "
                + $"expected {string.Join(", ", used.Select(b => b.Address))}; unknown {string.Join(", ", result.Unknowns)}; rules: {string.Join(" | ", result.Matched.Take(8))}");
        }
    }
}
