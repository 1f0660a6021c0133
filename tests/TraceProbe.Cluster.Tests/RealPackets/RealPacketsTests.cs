using System.Diagnostics;
using System.Globalization;
using System.Text;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests.RealPackets;

/// <summary>Random rules in a real kernel and packets really sent through them: they must come out where the walk said.</summary>
public sealed class RealPacketsTests
{
    private const int RuleSets = 30;
    private const int PacketsPerSet = 12;
    private static readonly TimeSpan Budget = TimeSpan.FromSeconds(10);

    [Theory]
    [InlineData("nftables")]
    [InlineData("iptables-legacy")]
    [InlineData("iptables-nft")]
    public void RandomPackets_ComeOutWhereTheWalkSays(string tool)
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        foreach (var needed in tool == "nftables" ? new[] { "ip", "nft" } : ["ip", $"{tool}-restore", $"{tool}-save"])
        {
            Assert.SkipWhen(Tool.Find(needed) is null, $"needs {needed}");
        }

        // TRACEPROBE_SEED repeats a run that failed.
        var seed = int.TryParse(Environment.GetEnvironmentVariable("TRACEPROBE_SEED"), CultureInfo.InvariantCulture, out var given) ? given : 20261120;
        using var lab = new PacketLab($"tp{tool[^1]}{Environment.ProcessId}");
        var watch = Stopwatch.StartNew();
        int sets = 0, pairs = 0, undecided = 0, outcomes = 0;
        uint number = 1;
        var counts = new SortedDictionary<string, int>();
        for (; sets < RuleSets && watch.Elapsed < Budget; sets++)
        {
            var random = new Random(seed + sets);
            var isIPv6 = random.Next(3) == 0;
            var generator = new RandomRules(random, isIPv6);
            var text = Load(lab, tool, isIPv6, tool == "nftables" ? generator.Nftables() : generator.Iptables());
            var walk = new RuleWalk(text.Sets);
            var sent = new Dictionary<uint, (WalkResult Walk, HashSet<string?> Expected)>();
            var seen = new Dictionary<uint, HashSet<string>>();
            for (var i = 0; i < PacketsPerSet; i++, number++)
            {
                var packet = Packet(random, generator, lab, isIPv6, (ushort)(1024 + number % 60000));
                var result = walk.Run(packet);
                if (result.IsTied)
                {
                    undecided++;
                    continue;
                }

                result.Outcome.ShouldNotBe(WalkOutcome.Undecided, $"{string.Join("; ", result.Unknowns)}\n{text.Rules}");

                var expected = result.Branches.Where(b => b.Probability > 1e-9).Select(b => PacketLab.Expected(packet, b)).ToHashSet();
                sent.Add(number, (result, expected));
                seen.Add(number, []);
                lab.Send(packet.Tuple, packet.FromNode, number);
                foreach (var branch in result.Branches)
                {
                    counts[$"{branch.Outcome}{(branch.Masquerade ? " masqueraded" : branch.SourceBecomes is null ? "" : " from elsewhere")}"] = counts.GetValueOrDefault($"{branch.Outcome}{(branch.Masquerade ? " masqueraded" : branch.SourceBecomes is null ? "" : " from elsewhere")}") + 1;
                }
            }

            // A drop is waited for a little while, as it could be none.
            for (var waited = Stopwatch.StartNew(); waited.ElapsedMilliseconds < 1000;)
            {
                lab.Collect(seen);
                if (sent.All(s => seen[s.Key].Count > 0 || s.Value.Expected.Contains(null)))
                {
                    break;
                }

                Thread.Sleep(1);
            }

            Thread.Sleep(2);
            lab.Collect(seen);
            foreach (var (id, (result, expected)) in sent)
            {
                pairs++;
                outcomes += expected.Count > 1 ? 1 : 0;
                // A sender under an address that is not its own is not told.
                if (result.Packet.FromNode && result.Branches.Any(b => b is { Outcome: WalkOutcome.Rejected, SourceBecomes: not null }))
                {
                    expected.Add(null);
                }

                var ok = seen[id].Count == 0 ? expected.Contains(null) : seen[id].Count == 1 && expected.Contains(seen[id].Single());
                ok.ShouldBeTrue(Explain(seed, sets, result, expected, seen[id], text.Rules));
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{sets} sets of rules, {pairs} packets ({outcomes} of them left to dice), {undecided} undecided; {string.Join(", ", counts.Select(c => $"{c.Key}: {c.Value}"))}; {watch.Elapsed.TotalSeconds:F1} s");
        // However slow the machine, some must have been tried; most packets of most rules can be decided.
        pairs.ShouldBeGreaterThan(3 * PacketsPerSet);
        undecided.ShouldBeLessThan(pairs / 2);
    }

    private static (ICollection<RuleSet> Sets, string Rules) Load(PacketLab lab, string tool, bool isIPv6, string rules)
    {
        var file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, rules);
            if (tool == "nftables")
            {
                lab.OnNode("nft flush ruleset");
                lab.OnNode($"nft -f {file}");
                var dump = lab.OnNode("nft -j list ruleset");
                return (NftRuleset.Parse(dump), lab.OnNode("nft list ruleset"));
            }

            // The other family's rules of the last time would change nothing.
            var command = isIPv6 ? tool.Replace("ip", "ip6", StringComparison.Ordinal) : tool;
            lab.OnNode($"sh -c 'for t in raw mangle nat filter; do {command} -t $t -F; {command} -t $t -X; for c in PREROUTING INPUT FORWARD OUTPUT POSTROUTING; do {command} -t $t -P $c ACCEPT 2>/dev/null; done; done; true'");
            lab.OnNode($"{command}-restore {file}");
            var saved = lab.OnNode($"{command}-save");
            return ([RuleSet.Parse(new RuleDump($"{command}-save", saved))], saved);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static VirtualPacket Packet(Random random, RandomRules generator, PacketLab lab, bool isIPv6, ushort sourcePort)
    {
        var fromNode = random.Next(4) == 0;
        var source = fromNode ? isIPv6 ? "fd02::254" : "10.2.0.254" : generator.Source();
        return new VirtualPacket
        {
            Tuple = new FiveTuple(
                fromNode || random.Next(2) == 0 ? IpProtocol.Udp : IpProtocol.Tcp,
                new AddressPort(IpAddress.Parse(source), sourcePort),
                new AddressPort(IpAddress.Parse(generator.Destination()), generator.Port())),
            FromNode = fromNode,
            InInterface = fromNode ? null : "in",
            BridgePort = "",
            LocalAddresses = [.. PacketLab.OwnAddresses],
            Routes = lab.Routes,
        };
    }

    private static string Explain(int seed, int set, WalkResult result, HashSet<string?> expected, HashSet<string> seen, string rules)
    {
        var text = new StringBuilder();
        text.AppendLine(CultureInfo.InvariantCulture, $"seed {seed}, rules {set} (TRACEPROBE_SEED={seed + set} begins with them)");
        text.AppendLine(CultureInfo.InvariantCulture, $"packet {result.Packet.Tuple.Protocol} {result.Packet.Tuple}{(result.Packet.FromNode ? " from the node" : "")}");
        text.AppendLine($"the walk said: {string.Join(" or ", expected.Select(e => e ?? "dropped"))}");
        text.AppendLine($"what happened: {(seen.Count == 0 ? "nothing arrived" : string.Join(", ", seen))}");
        foreach (var branch in result.Branches.Take(3))
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"  {branch.Outcome} {branch.Probability:F3} {branch.Policy}");
            foreach (var step in branch.Steps)
            {
                text.AppendLine($"    {step.Hook} {step.Rule.Table} {step.Rule.Chain} {step.Rule.Position}: {step.Rule.Raw}");
            }
        }

        return text.AppendLine(rules).ToString();
    }
}
