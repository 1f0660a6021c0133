using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace TraceProbe.Cluster.Tests.Mutations;

/// <summary>Damages to kube-proxy's nftables table, whose dump is a list of objects.</summary>
internal static class NftDamage
{
    // It escapes no more than it must.
    private static readonly JsonSerializerOptions AsNftWritesIt = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The objects of a dump that are about IPv4, each as JSON.</summary>
    public static List<string> Items(string dump)
        => [.. JsonNode.Parse(dump)!["nftables"]!.AsArray().Where(i => i!.AsObject().First().Value!["family"] is { } family && (string)family! == "ip").Select(i => i!.ToJsonString(AsNftWritesIt))];

    /// <summary>The dump of these objects.</summary>
    public static string Dump(IEnumerable<string> items) => $"{{\"nftables\": [{string.Join(", ", items)}]}}";

    /// <summary>Does something at random.</summary>
    public static Damage At(List<string> items, Random random)
    {
        while (true)
        {
            var kind = random.Next(100);
            var at = random.Next(items.Count);
            var (type, value) = JsonNode.Parse(items[at])!.AsObject().First();
            var name = (string?)(value!["chain"] ?? value["name"]);
            switch (type, kind)
            {
                case (_, 0):
                    return new Damage("without the table", [], ["proxy-rules-missing", "service-rule-missing"], null, [.. items.Select(i => JsonNode.Parse(i)!["chain"]).OfType<JsonNode>().Select(c => (string)c["name"]!)]);
                case ("rule", < 30):
                    return new Damage($"without {name} {items[at]}", [.. items[..at], .. items[(at + 1)..]], ClassesOf(name!, items[at]), [items[at]], null);
                case ("rule", < 45) when items[at].Contains("\"dnat\":{", StringComparison.Ordinal):
                    return SwapBackend(items, at, random);
                case ("rule", < 70):
                    return Insert(items, at, name!, random);
                case ("chain", < 60):
                    return DropChain(items, name!);
                case ("set" or "map", _) when value["elem"] is JsonArray { Count: > 0 } elements:
                    return DropElement(items, at, name!, random.Next(elements.Count));
            }
        }
    }

    private static Damage DropElement(List<string> items, int at, string set, int index)
    {
        var changed = JsonNode.Parse(items[at])!;
        var elements = changed.AsObject().First().Value!["elem"]!.AsArray();
        var key = elements[index] is JsonArray pair ? PlainNft.KeyOf(pair[0]!) : PlainNft.KeyOf(elements[index]!);
        elements.RemoveAt(index);
        return new Damage($"without the element {key} of {set}", [.. items[..at], changed.ToJsonString(AsNftWritesIt), .. items[(at + 1)..]], ClassesOf($"@{set}", ""), [$"@{set} {key}"], null);
    }

    // Its rules, itself, and what leads there: else the kernel would not let it go.
    private static Damage DropChain(List<string> items, string chain)
    {
        var target = $"\"target\":{JsonSerializer.Serialize(chain, AsNftWritesIt)}";
        var left = new List<string>();
        var gone = new HashSet<string>(StringComparer.Ordinal);
        var classes = new HashSet<string>(StringComparer.Ordinal);
        foreach (var text in items)
        {
            var (type, value) = JsonNode.Parse(text)!.AsObject().First();
            if (type == "chain" && (string)value!["name"]! == chain)
            {
                continue;
            }

            if (type == "rule" && ((string)value!["chain"]! == chain || text.Contains(target, StringComparison.Ordinal)))
            {
                gone.Add(text);
                classes.UnionWith(ClassesOf((string)value["chain"]!, text));
                continue;
            }

            if (type is "map" && text.Contains(target, StringComparison.Ordinal))
            {
                var changed = JsonNode.Parse(text)!;
                var elements = changed.AsObject().First().Value!["elem"]!.AsArray();
                foreach (var element in elements.Where(e => e!.ToJsonString(AsNftWritesIt).Contains(target, StringComparison.Ordinal)).ToList())
                {
                    gone.Add($"@{(string)value!["name"]!} {PlainNft.KeyOf(element!.AsArray()[0]!)}");
                    elements.Remove(element);
                }

                classes.UnionWith(ClassesOf($"@{(string)value!["name"]!}", ""));
                left.Add(changed.ToJsonString(AsNftWritesIt));
                continue;
            }

            left.Add(text);
        }

        if (chain is "services")
        {
            classes.Add("proxy-rules-missing");
        }

        return new Damage($"without the chain {chain}", left, classes, gone, null);
    }

    private static Damage SwapBackend(List<string> items, int at, Random random)
    {
        var changed = JsonNode.Parse(items[at])!;
        var dnat = changed["rule"]!["expr"]!.AsArray().Select(e => e!["dnat"]).First(d => d is not null)!;
        if (dnat["addr"] is JsonObject map)
        {
            var choices = map["map"]!["data"]!["set"]!.AsArray();
            choices[random.Next(choices.Count)]!.AsArray()[1]!["concat"]!.AsArray()[0] = random.Next(2) == 0 ? "10.244.77.7" : "10.244.1.2";
        }
        else
        {
            dnat["addr"] = random.Next(2) == 0 ? "10.244.77.7" : "10.244.1.2";
        }

        var swapped = changed.ToJsonString(AsNftWritesIt);
        return new Damage($"{swapped} in place of {items[at]}", [.. items[..at], swapped, .. items[(at + 1)..]],
            ["stale-endpoint-rule", "endpoint-rule-missing", "endpoint-share-uneven", "masquerade-missing", "masquerade-unexpected"], [items[at]], null);
    }

    private static Damage Insert(List<string> items, int at, string chain, Random random)
    {
        var drops = random.Next(2) == 0;
        var rule = JsonNode.Parse(items[at])!;
        var match = random.Next(3) switch
        {
            0 => """{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}, """,
            1 => """{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.244.0.0", "len": 16}}}}, """,
            _ => "",
        };
        rule["rule"]!["expr"] = JsonNode.Parse($"[{match}{{\"{(drops ? "drop" : "accept")}\": null}}]");
        rule["rule"]!.AsObject().Remove("comment");
        rule["rule"]!["handle"] = 100_000 + random.Next(100_000);
        // What is accepted before it is marked or translated stays as it is; behind the translation it lacks the masquerading, ahead of a refusal that.
        string[] classes = drops ? ["dropped-by-rule"] : chain.Contains("check", StringComparison.Ordinal) || chain.StartsWith("filter-", StringComparison.Ordinal) || chain.StartsWith("firewall-", StringComparison.Ordinal)
            || chain == "reject-chain" ? ["translation-shadowed", "service-rule-missing", "source-range-denied", "proxy-rules-missing"] : ["translation-shadowed", "masquerade-missing"];
        return new Damage(string.Create(CultureInfo.InvariantCulture, $"{(drops ? "drop" : "accept")} ({match}) in {chain} before {items[at]}"), [.. items[..at], rule.ToJsonString(AsNftWritesIt), .. items[at..]], classes, null, [chain]);
    }

    // What its lack is, by where a rule or an element stands.
    private static string[] ClassesOf(string chain, string rule) => chain switch
    {
        "masquerading" when rule.Contains("return", StringComparison.Ordinal) => ["masquerade-unexpected"],
        "nat-postrouting" or "masquerading" or "@hairpin-connections" => ["masquerade-missing"],
        "mark-for-masquerade" => ["masquerade-missing"],
        _ when rule.Contains("mangle", StringComparison.Ordinal) || rule.Contains("mark-for-masquerade", StringComparison.Ordinal) => ["masquerade-missing"],
        "@cluster-ips" => ["masquerade-missing"],
        "services" or "@nodeport-ips" => ["proxy-rules-missing", "service-rule-missing"],
        "reject-chain" => ["service-rule-missing"],
        "@firewall-ips" => ["source-range-denied", "service-rule-missing"],
        _ when chain.StartsWith("filter-", StringComparison.Ordinal) || chain.StartsWith("nat-", StringComparison.Ordinal) => ["proxy-rules-missing"],
        _ when chain.EndsWith("-check", StringComparison.Ordinal) => ["proxy-rules-missing", "service-rule-missing"],
        _ when chain.StartsWith("firewall-", StringComparison.Ordinal) => ["source-range-denied", "service-rule-missing"],
        _ when chain.StartsWith("external-", StringComparison.Ordinal) => ["service-rule-missing", "endpoint-rule-missing"],
        ['@', ..] => ["service-rule-missing"],
        _ => ["endpoint-rule-missing"],
    };
}
