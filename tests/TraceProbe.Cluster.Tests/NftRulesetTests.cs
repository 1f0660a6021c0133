using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cluster.Tests;

/// <summary>What nft prints as JSON, against what it prints as text of the same tables.</summary>
public sealed partial class NftRulesetTests
{
    // Whose rules these are not: nft is to print both ways all that it can say, see Fixtures/nft-expressions/README.
    private static readonly string Expressions = Fixture.Own("nft-expressions");

    [Fact]
    public void EveryExpression_ReadsAsNftPrintsIt()
        => CompareText(Fixture.Text(Fixture.Find(Expressions, "ruleset.json")!), Fixture.Text(Fixture.Find(Expressions, "ruleset.txt")!)).ShouldBeGreaterThan(200);

    [Fact]
    public void EverySharedDump_ReadsAsNftPrintsIt()
    {
        var root = Fixture.RequireShared();
        var rules = 0;
        foreach (var file in Directory.EnumerateFiles(root, "nft-list-ruleset.txt*", SearchOption.AllDirectories).Where(f => f.Contains("nftables", StringComparison.Ordinal)))
        {
            rules += CompareText(Fixture.Text(Fixture.Find(Path.GetDirectoryName(file)!, "nft-list-ruleset.json")!), Fixture.Text(file));
        }

        rules.ShouldBeGreaterThan(20_000);
    }

    [Fact]
    public void EverySharedDump_ParsesWithoutUnknowns()
    {
        var root = Fixture.RequireShared();
        var unknowns = new HashSet<string>();
        foreach (var file in Directory.EnumerateFiles(root, "nft-list-ruleset.json*", SearchOption.AllDirectories).Where(f => f.Contains("nftables", StringComparison.Ordinal)))
        {
            foreach (var set in NftRuleset.Parse(Fixture.Text(file)))
            {
                set.Notes.ShouldBeEmpty(file);
                unknowns.UnionWith(UnknownsOf(set));
                set.Tables.Values.SelectMany(t => t.Sets.Values).ShouldAllBe(s => s.IsComplete);
            }
        }

        unknowns.ShouldBeEmpty();
    }

    [Fact]
    public void ExpressionsThatAreNotKnown_AreNamedAndNoOthers()
    {
        var unknown = NftRuleset.Parse(Fixture.Text(Fixture.Find(Expressions, "ruleset.json")!)).SelectMany(UnknownsOf).Distinct().Order(StringComparer.Ordinal);
        string.Join('\n', unknown).ShouldBe("""
            @nh,64,8 0x6
            ct bytes > 1000
            ct expiration 30s
            ct helper "ftp"
            ct reply ip saddr 10.0.0.1
            ct status != dnat
            ct zone 5
            ether saddr 00:11:22:33:44:55
            ether type ip
            exthdr frag exists
            fib daddr oifname "lo"
            icmp type echo-request
            icmp type { echo-reply, echo-request }
            icmpv6 type nd-neighbor-solicit
            icmpv6 type { nd-router-advert, nd-neighbor-solicit }
            iifgroup 5
            ip checksum 5
            ip daddr & 255.0.255.0 == 10.0.1.0
            ip dscp cs1
            ip length 100-200
            ip option lsrr exists
            ip saddr & 0.0.0.255 == 0.0.0.1
            ip ttl 5
            ip version 4
            meta cgroup 5
            meta cpu 1
            meta day "Monday"
            meta hour "12:00"-"13:00"
            meta iifkind "veth"
            meta length > 1000
            meta pkttype broadcast
            meta random 2147483648
            meta skgid 1000
            meta skuid 0
            meta skuid 1000
            meta time > "2024-01-01 00:00:00"
            socket transparent 1
            target dnat ip prefix to ip daddr map { 10.1.0.0/24 : 10.2.0.0/24 }
            target fib daddr type vmap { local : accept, broadcast : drop }
            target synproxy mss 1460 wscale 7
            target tproxy ip to 127.0.0.1:1000
            tcp flags { syn, ack }
            tcp option maxseg size 1-500
            vlan id 5
            """);
    }

    [Theory]
    [InlineData("", "the nft dump is empty")]
    [InlineData("{\"nftables\": [{\"rule\": {\"family\": \"ip\", \"table\": \"t\", \"chain\": \"c\", \"expr\": []}}]}", "nftables[0].rule of the nft dump: the table ip t was not declared")]
    [InlineData("{\"nftables\": [{\"table\": {\"family\": \"ip\", \"name\": \"t\"}}, {\"rule\": {\"family\": \"ip\", \"table\": \"t\", \"chain\": \"c\", \"expr\": []}}]}", "nftables[1].rule of the nft dump: the chain c of table ip t was not declared")]
    [InlineData("{\"nftables\": [{\"table\": {\"family\": \"ip\"}}]}", "nftables[0].table of the nft dump: it has no name")]
    [InlineData("{\"nftables\": [17]}", "nftables[0] of the nft dump: not an object")]
    [InlineData("{\"kind\": \"List\"}", "not {\"nftables\"")]
    [InlineData("*nat\nCOMMIT\n", "of the nft dump")]
    public void WhatIsNoDump_IsRefusedWithThePlace(string text, string why)
        => Should.Throw<FormatException>(() => NftRuleset.Parse(text)).Message.ShouldContain(why);

    [Fact]
    public void EveryTruncation_IsRefusedAndNothingElse()
    {
        var text = Some(12);
        text.Length.ShouldBeGreaterThan(3000);
        NftRuleset.Parse(text).Length.ShouldBe(2);
        for (var length = 0; length < text.Length; length++)
        {
            Should.Throw<FormatException>(() => NftRuleset.Parse(text[..length]));
        }
    }

    [Fact]
    public void DamagedBytes_AreRefusedOrRead()
    {
        var sample = Encoding.UTF8.GetBytes(Some(12));
        var random = new Random(7);
        var read = 0;
        for (var i = 0; i < 5000; i++)
        {
            read += IsReadAndWalked(Encoding.UTF8.GetString(Mutation.Of(sample, random)));
        }

        read.ShouldBeGreaterThan(50);
    }

    [Fact]
    public void JsonThatNoNftWouldPrint_IsRefusedOrRead()
    {
        // Well-formed, with a value anywhere that does not belong there.
        var all = JsonNode.Parse(Fixture.Text(Fixture.Find(Expressions, "ruleset.json")!))!["nftables"]!.AsArray();
        var random = new Random(8);
        var read = 0;
        var nodes = new List<JsonNode>();
        foreach (var item in all)
        {
            Gather(item!, nodes);
        }

        for (var i = 0; i < 5000; i++)
        {
            var items = all.Where(o => o!.AsObject().First() is var (kind, value) && (kind is not "rule" || random.Next(60) == 0)).Select(o => o!.DeepClone()).ToArray();
            var document = new JsonObject { ["nftables"] = new JsonArray(items) };
            for (var times = random.Next(1, 4); times > 0; times--)
            {
                var here = new List<JsonNode>();
                Gather(document["nftables"]!, here);
                Damage(here[random.Next(here.Count)], nodes[random.Next(nodes.Count)], random);
            }

            read += IsReadAndWalked(document.ToJsonString());
        }

        read.ShouldBeGreaterThan(1000);
    }

    private static void Gather(JsonNode node, List<JsonNode> found)
    {
        found.Add(node);
        foreach (var child in node is JsonObject o ? o.Select(p => p.Value) : node is JsonArray a ? a : [])
        {
            if (child is not null)
            {
                Gather(child, found);
            }
        }
    }

    private static void Damage(JsonNode node, JsonNode other, Random random)
    {
        JsonNode? value = random.Next(6) switch
        {
            0 => null,
            1 => JsonValue.Create(random.NextInt64(-5, 1L << 40)),
            2 => JsonValue.Create("@nothing"),
            3 => new JsonArray(),
            4 => new JsonObject(),
            _ => other.DeepClone(),
        };
        if (node is JsonObject { Count: > 0 } o)
        {
            var name = o.ElementAt(random.Next(o.Count)).Key;
            if (random.Next(3) == 0)
            {
                o.Remove(name);
            }
            else
            {
                o[name] = value;
            }
        }
        else if (node is JsonArray { Count: > 0 } a)
        {
            a[random.Next(a.Count)] = value;
        }
        else if (node.Parent is not null)
        {
            node.ReplaceWith(value);
        }
    }

    private static int IsReadAndWalked(string text)
    {
        try
        {
            var walk = new RuleWalk(NftRuleset.Parse(text));
            foreach (var (source, destination) in new[] { ("10.1.0.2:4000", "10.0.0.1:80"), ("[fd00::9]:4000", "[fd00::1]:80") })
            {
                var packet = new VirtualPacket { Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse(source), AddressPort.Parse(destination)), InInterface = "eth0" };
                walk.Run(packet).Branches.ShouldNotBeEmpty();
                walk.Run(packet with { FromNode = true, LocalAddresses = [packet.Tuple.Destination.Address] }).Branches.Sum(b => b.Steps.Length).ShouldBeGreaterThanOrEqualTo(0);
            }

            return 1;
        }
        catch (FormatException)
        {
            return 0;
        }
    }

    // Every so many rules of the sample, with all that they may name.
    private static string Some(int every)
    {
        var all = JsonNode.Parse(Fixture.Text(Fixture.Find(Expressions, "ruleset.json")!))!["nftables"]!.AsArray();
        var rule = 0;
        return new JsonObject { ["nftables"] = new JsonArray([.. all.Where(o => !o!.AsObject().ContainsKey("rule") || rule++ % every == 0).Select(o => o!.DeepClone())]) }.ToJsonString();
    }

    private static IEnumerable<string> UnknownsOf(RuleSet set)
    {
        foreach (var rule in set.Tables.Values.SelectMany(t => t.Chains.Values).SelectMany(c => c.Rules))
        {
            foreach (var match in rule.Matches.OfType<RuleMatch.Unknown>())
            {
                yield return match.Text;
            }

            if (rule.Target is RuleTarget.Unknown target)
            {
                yield return $"target {target.Text}";
            }
        }
    }

    private static int CompareText(string json, string text)
    {
        var sets = NftRuleset.Parse(json);
        var tables = sets.SelectMany(s => s.Tables.Values).DistinctBy(t => t.Name).ToDictionary(t => t.Name);
        var read = new StringBuilder();
        var printed = new StringBuilder();
        var rules = 0;
        foreach (var (table, chain, lines) in ChainsOf(text))
        {
            foreach (var line in lines)
            {
                printed.Append(table).Append(' ').Append(chain).Append(": ").AppendLine(Counter().Replace(line, "counter"));
                rules++;
            }

            foreach (var rule in tables[table].Chain(chain)!.Rules)
            {
                read.Append(table).Append(' ').Append(chain).Append(": ").AppendLine(rule.Raw);
            }
        }

        var left = read.ToString().Split('\n');
        var right = printed.ToString().Split('\n');
        string.Join('\n', left.Zip(right).Where(p => p.First != p.Second).Select(p => $"read    {p.First}\nprinted {p.Second}")).ShouldBe("");
        left.Length.ShouldBe(right.Length);
        tables.Values.Sum(t => t.Chains.Values.Sum(c => c.Rules.Length)).ShouldBe(rules);
        return rules;
    }

    private static IEnumerable<(string Table, string Chain, List<string> Rules)> ChainsOf(string text)
    {
        string table = "", chain = "";
        List<string>? rules = null;
        foreach (var line in text.Split('\n'))
        {
            if (line.StartsWith("table ", StringComparison.Ordinal))
            {
                table = line["table ".Length..^" {".Length];
            }
            else if (line.StartsWith("\tchain ", StringComparison.Ordinal))
            {
                chain = line["\tchain ".Length..^" {".Length];
                rules = [];
            }
            else if (line == "\t}")
            {
                if (rules is not null)
                {
                    yield return (table, chain, rules);
                }

                rules = null;
            }
            else if (rules is not null && !line.StartsWith("\t\ttype ", StringComparison.Ordinal) && !line.StartsWith("\t\tcomment ", StringComparison.Ordinal))
            {
                rules.Add(line.Trim());
            }
        }
    }

    [GeneratedRegex(@"counter packets \d+ bytes \d+")]
    private static partial Regex Counter();
}
