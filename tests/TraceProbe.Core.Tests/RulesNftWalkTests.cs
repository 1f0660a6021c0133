using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Tests;

/// <summary>What is particular to nftables in a walk: chains at any priority, maps, dice, statements before the last one.</summary>
public sealed class RulesNftWalkTests
{
    private static readonly VirtualPacket FromPod = new()
    {
        Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.244.1.7:40000"), AddressPort.Parse("10.96.0.10:80")),
        InInterface = "veth7",
        BridgePort = "",
        LocalAddresses = [IpAddress.Parse("172.30.0.11")],
    };

    private const string Daddr = """{"payload": {"protocol": "ip", "field": "daddr"}}""";
    private const string Dport = """{"payload": {"protocol": "tcp", "field": "dport"}}""";
    private const string Mark = """{"meta": {"key": "mark"}}""";
    private const string SetMark = """{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}""";
    private const string Drop = """{"drop": null}""";
    private const string Continue = """{"continue": null}""";

    // "chain: hook priority type", then its rules: each a list of statements.
    private static string Table(string family, params (string Head, string[] Rules)[] chains)
    {
        var items = new List<string> { $$$"""{"table": {"family": "{{{family}}}", "name": "t", "handle": 1}}""" };
        var handle = 10;
        foreach (var (head, _) in chains)
        {
            var words = head.Split(' ');
            items.Add(words.Length == 1 ? $$$"""{"chain": {"family": "{{{family}}}", "table": "t", "name": "{{{words[0]}}}", "handle": {{{handle++}}}}}"""
                : $$$"""{"chain": {"family": "{{{family}}}", "table": "t", "name": "{{{words[0]}}}", "handle": {{{handle++}}}, "type": "{{{words[3]}}}", "hook": "{{{words[1]}}}", "prio": {{{words[2]}}}, "policy": "{{{(words.Length > 4 ? words[4] : "accept")}}}"}}""");
        }

        foreach (var (head, rules) in chains)
        {
            items.AddRange(rules.Select(r => $$$"""{"rule": {"family": "{{{family}}}", "table": "t", "chain": "{{{head.Split(' ')[0]}}}", "handle": {{{handle++}}}, "expr": [{{{r}}}]}}"""));
        }

        return $$$"""{"nftables": [{{{string.Join(",\n", items)}}}]}""";
    }

    private static string Match(string left, string right, string op = "==") => $$$"""{"match": {"op": "{{{op}}}", "left": {{{left}}}, "right": {{{right}}}}}""";

    private static WalkResult Walk(params (string Head, string[] Rules)[] chains) => RuleWalk.Run(NftRuleset.Parse(Table("ip", chains)), FromPod);

    [Fact]
    public void ChainsOfAHook_AreMetByPriorityAndAnAcceptEndsOnlyItsOwn()
    {
        Walk(("late forward 10 filter", [Drop]), ("early forward -10 filter", ["""{"accept": null}"""])).Outcome.ShouldBe(WalkOutcome.Dropped);
        var result = Walk(("late forward 10 filter", ["""{"reject": {"type": "icmp", "expr": "port-unreachable"}}"""]), ("early forward -10 filter", [Drop]));
        result.Outcome.ShouldBe(WalkOutcome.Dropped, "a drop is final");
        result.Matched.Single().Chain.ShouldBe("early");
    }

    [Fact]
    public void ChainsOfOneTableAtOnePriority_AreMetLastMadeFirst()
        => Walk(
            ("first forward 0 filter", [$"{Match(Mark, "1")}, {Drop}"]),
            ("second forward 0 filter", [SetMark])).Outcome.ShouldBe(WalkOutcome.Dropped);

    [Fact]
    public void TranslationHappensAtTheKernelsPlaceWhateverTheChainsPriority()
    {
        // dnat at -150 is not seen at -120, but at -50 (nf_nat_register_fn).
        (string, string[]) dnat = ("n prerouting -150 nat", ["""{"dnat": {"addr": "10.244.1.1"}}"""]);
        var dropBackend = $"{Match(Daddr, "\"10.244.1.1\"")}, {Drop}";
        Walk(dnat, ("f prerouting -120 filter", [dropBackend])).Outcome.ShouldBe(WalkOutcome.Translated);
        Walk(dnat, ("f prerouting -50 filter", [dropBackend])).Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void StatementBeforeACondition_IsDoneEvenIfTheConditionFails()
        => Walk(
            ("f forward 0 filter",
            [
                $"{SetMark}, {Match(Dport, "443")}, {Continue}",
                $"{Match(Mark, "1")}, {Drop}",
            ])).Outcome.ShouldBe(WalkOutcome.Dropped);

    [Fact]
    public void StatementAfterDice_IsDoneForThatShareOnly()
    {
        var result = Walk(
            ("f forward 0 filter",
            [
                $"{Match("""{"numgen": {"mode": "random", "mod": 4, "offset": 0}}""", "1", "<")}, {SetMark}, {Match(Dport, "80")}, {Continue}",
                $"{Match(Mark, "1")}, {Drop}",
            ]));
        result.Outcome.ShouldBe(WalkOutcome.Varies);
        result.Branches.Where(b => b.Outcome == WalkOutcome.Dropped).Sum(b => b.Probability).ShouldBe(0.25, 1e-9);
    }

    [Fact]
    public void DiceThatDoNotAddUp_LeaveTheRestToTheNextRule()
    {
        var result = Walk(("n prerouting -100 nat",
            ["""{"dnat": {"addr": {"map": {"key": {"numgen": {"mode": "random", "mod": 4, "offset": 0}}, "data": {"set": [[0, "10.244.1.1"], [{"range": [1, 2]}, "10.244.1.2"]]}}}}}""", """{"dnat": {"addr": "10.244.1.3"}}"""]));
        result.Backends.Select(b => (b.Address.Address.ToString(), b.Probability)).ShouldBe([("10.244.1.1", 0.25), ("10.244.1.2", 0.5), ("10.244.1.3", 0.25)]);
    }

    [Fact]
    public void MapWithoutTheKey_DoesNothing()
    {
        var vmap = $$$$"""{"vmap": {"key": {{{{Dport}}}}, "data": {"set": [[443, {"drop": null}]]}}}""";
        var result = Walk(("f forward 0 filter", [vmap]));
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Matched.ShouldBeEmpty("a map that did not have it decided nothing");
        Walk(("f forward 0 filter", [vmap.Replace("443", "\"*\"", StringComparison.Ordinal)])).Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void MapByAnInterfaceNobodyKnows_MattersOnlyIfTheEndsDiffer()
    {
        string Vmap(string other) => $$$$"""{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["lo", {"accept": null}], ["eth0", {{{{other}}}}]]}}}""";
        WalkResult Of(string other) => RuleWalk.Run(NftRuleset.Parse(Table("ip", ("f forward 0 filter", [Vmap(other)]))), FromPod with { InInterface = null });
        Of("{\"accept\": null}").Outcome.ShouldBe(WalkOutcome.Untranslated);
        var open = Of("{\"drop\": null}");
        open.Outcome.ShouldBe(WalkOutcome.Undecided);
        open.Unknowns.Single().ShouldContain("iifname vmap");
    }

    [Fact]
    public void TcpPort_SaysTcp()
    {
        // nft leaves out the condition that the port implies.
        var sets = NftRuleset.Parse(Table("ip", ("f forward 0 filter", [$"{Match(Dport, "80")}, {Drop}"])));
        RuleWalk.Run(sets, FromPod with { Tuple = FromPod.Tuple with { Protocol = IpProtocol.Udp } }).Outcome.ShouldBe(WalkOutcome.Untranslated);
        RuleWalk.Run(sets, FromPod).Outcome.ShouldBe(WalkOutcome.Dropped);
    }

    [Fact]
    public void TableOfBothFamilies_TellsThemApart()
    {
        var sets = NftRuleset.Parse(Table("inet", ("f forward 0 filter", [$"{Match(Daddr, "\"10.0.0.1\"", "!=")}, {Drop}"])));
        RuleWalk.Run(sets, FromPod).Outcome.ShouldBe(WalkOutcome.Dropped);
        RuleWalk.Run(sets, FromPod with { Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("[fd00::7]:40000"), AddressPort.Parse("[fd00::8]:80")) })
            .Outcome.ShouldBe(WalkOutcome.Untranslated, "an IPv6 packet has no IPv4 address that could differ");
    }

    [Fact]
    public void NotrackAfterConntrack_ComesTooLate()
    {
        (string, string[]) dnat = ("n prerouting -100 nat", ["""{"dnat": {"addr": "10.244.1.1"}}"""]);
        Walk(("r prerouting -300 filter", ["""{"notrack": null}"""]), dnat).Outcome.ShouldBe(WalkOutcome.Untranslated);
        Walk(("r prerouting -150 filter", ["""{"notrack": null}"""]), dnat).Outcome.ShouldBe(WalkOutcome.Translated);
    }

    [Fact]
    public void BridgeAndDeviceTables_AreKeptAndSaidNotToBeWalked()
    {
        var sets = NftRuleset.Parse(Table("bridge", ("f forward 0 filter", [Drop])));
        sets[0].Table("bridge t")!.Chain("f")!.Rules.Length.ShouldBe(1);
        var result = RuleWalk.Run(sets, FromPod);
        result.Outcome.ShouldBe(WalkOutcome.Untranslated);
        result.Assumptions.Single().ShouldContain("the chain f of table bridge t");
    }

    [Fact]
    public void TablesOfIptables_AreLeftToIptablesSave()
    {
        const string save = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DNAT --to-destination 10.244.1.1:1\nCOMMIT\n";
        const string nft = """
            {"nftables": [{"table": {"family": "ip", "name": "nat"}},
              {"chain": {"family": "ip", "table": "nat", "name": "PREROUTING", "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
              {"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING", "handle": 2, "expr": [{"counter": {"packets": 1, "bytes": 2}}, {"xt": {"type": "target", "name": "DNAT"}}]}}]}
            """;
        var both = RuleSet.ParseAll([new RuleDump("iptables-nft-save", save), new RuleDump("nft", nft)]);
        both.Single(s => s is { Backend: RuleBackend.Nftables, IsIPv6: false }).Tables.ShouldBeEmpty();
        RuleWalk.Run(both, FromPod).Backends.Single().Address.ToString().ShouldBe("10.244.1.1:1");
        // Without iptables-nft-save's word the rule is there, and its target is not known.
        var alone = RuleWalk.Run(RuleSet.ParseAll([new RuleDump("nft", nft)]), FromPod);
        alone.Outcome.ShouldBe(WalkOutcome.Undecided);
        alone.Unknowns.Single().ShouldContain("xt target \"DNAT\"");
    }

    [Fact]
    public void RulesOfTwoTablesAtOnePriority_MustAgree()
    {
        string Dnat(string to) => Table("ip", ("n prerouting -100 nat", [$$$"""{"dnat": {"addr": "{{{to}}}"}}"""]));
        var other = Dnat("10.244.1.2").Replace("\"t\"", "\"u\"", StringComparison.Ordinal);
        var tied = RuleWalk.Run(RuleSet.ParseAll([new RuleDump("nft", Dnat("10.244.1.1") + other)]), FromPod);
        tied.Outcome.ShouldBe(WalkOutcome.Undecided);
        tied.IsTied.ShouldBeTrue();
        tied.Unknowns.Single().ShouldContain("nftables ip t and nftables ip u");
        RuleWalk.Run(RuleSet.ParseAll([new RuleDump("nft", Dnat("10.244.1.1") + Dnat("10.244.1.1").Replace("\"t\"", "\"u\"", StringComparison.Ordinal))]), FromPod).Outcome.ShouldBe(WalkOutcome.Translated);
    }

    [Fact]
    public void EvidenceOfAMap_IsItsElement()
    {
        const string text = """
            {"nftables": [{"table": {"family": "ip", "name": "t"}},
              {"map": {"family": "ip", "name": "services", "table": "t", "type": ["ipv4_addr", "inet_proto", "inet_service"], "map": "verdict", "elem": [
                [{"elem": {"val": {"concat": ["10.96.0.10", "tcp", 80]}, "comment": "ns/web"}}, {"goto": {"target": "web"}}],
                [{"concat": ["10.96.0.11", "tcp", 80]}, {"drop": null}]]}},
              {"chain": {"family": "ip", "table": "t", "name": "n", "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
              {"chain": {"family": "ip", "table": "t", "name": "web"}},
              {"rule": {"family": "ip", "table": "t", "chain": "n", "handle": 4, "expr": [{"vmap": {"key": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@services"}}]}},
              {"rule": {"family": "ip", "table": "t", "chain": "web", "handle": 5, "expr": [{"dnat": {"addr": "10.244.1.1", "port": 8080}}]}}]}
            """;
        var result = RuleWalk.Run(NftRuleset.Parse(text), FromPod);
        result.Matched.Select(r => r.Raw).ShouldBe(["ip daddr . meta l4proto . th dport vmap @services", "10.96.0.10 . tcp . 80 comment \"ns/web\" : goto web", "dnat to 10.244.1.1:8080"]);
        var element = result.Matched[1];
        element.Table.ShouldBe("ip t");
        element.Chain.ShouldBe("@services");
        element.Comment.ShouldBe("ns/web");
    }
}
