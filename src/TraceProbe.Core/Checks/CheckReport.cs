using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

/// <summary>
/// What a comparison of nodes' rules with the cluster's objects found. This is the JSON of <c>traceprobe check -o json</c>; its schema is
/// <c>check.schema.json</c> beside this file, and a test holds the two together. New members may be added within a version.
/// </summary>
public sealed record CheckReport
{
    /// <summary>The version of this form.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The worst of it.</summary>
    public CheckStatus Status => Nodes.Any(n => n.Status == CheckStatus.Differs) ? CheckStatus.Differs
        : Nodes.Any(n => n.Status == CheckStatus.Undetermined) ? CheckStatus.Undetermined : CheckStatus.Agrees;

    /// <summary>The nodes that were compared.</summary>
    public required ImmutableArray<NodeCheck> Nodes { get; init; }
}

/// <summary>What a comparison of one node's rules with the cluster's objects found.</summary>
public sealed record NodeCheck
{
    /// <summary>The node whose rules they are; null when not known.</summary>
    public string? Node { get; init; }

    /// <summary>The worst of it.</summary>
    public CheckStatus Status => Findings.Any(f => f.Status == CheckStatus.Differs) ? CheckStatus.Differs
        : Findings.Any(f => f.Status == CheckStatus.Undetermined) ? CheckStatus.Undetermined : CheckStatus.Agrees;

    /// <summary>How kube-proxy works there, by address family.</summary>
    public required ImmutableArray<CheckedFamily> Families { get; init; }

    /// <summary>The Service ports that were compared, by name.</summary>
    public required ImmutableArray<CheckedPort> Ports { get; init; }

    /// <summary>What was found, failures first.</summary>
    public required ImmutableArray<CheckFinding> Findings { get; init; }

    /// <summary>What kube-proxy there says of itself; null when it was not asked, as with saved rules.</summary>
    public KubeProxyAccount? KubeProxy { get; init; }

    /// <summary>What could not be compared, each with the reason, and what was taken for granted.</summary>
    public ImmutableArray<string> NotSeen { get; init; } = [];

    /// <summary>What kube-proxy there says of itself, in sentences without a full stop.</summary>
    public IEnumerable<string> TellOfKubeProxy() => KubeProxy?.Tell(Node ?? "the node", Families.Select(f => f.Mode).Distinct().ToList() is [var only] ? only : ProxyMode.Unknown) ?? [];
}

/// <summary>How a comparison came out.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<CheckStatus>))]
public enum CheckStatus
{
    /// <summary>The rules do what the objects want.</summary>
    [JsonStringEnumMemberName("agrees")]
    Agrees,

    /// <summary>They do something else.</summary>
    [JsonStringEnumMemberName("differs")]
    Differs,

    /// <summary>It could not be told.</summary>
    [JsonStringEnumMemberName("undetermined")]
    Undetermined,
}

/// <summary>The rules of one address family.</summary>
/// <param name="Family"><c>IPv4</c> or <c>IPv6</c>.</param>
/// <param name="Mode">How kube-proxy works.</param>
/// <param name="Bypass">What translates in its place, such as <c>Cilium</c>; null when nothing does.</param>
public sealed record CheckedFamily(string Family, ProxyMode Mode, string? Bypass)
{
    /// <summary>The ways in which packets for Services are translated there: none where nothing does, several where an earlier kube-proxy left its own in effect.</summary>
    public ImmutableArray<ProxyInEffect> InEffect { get; init; } = [];

    /// <summary>What is told of a family's rules.</summary>
    public static CheckedFamily Of(ProxyRules rules)
    {
        ArgumentNullException.ThrowIfNull(rules);
        return new CheckedFamily(rules.IsIPv6 ? "IPv6" : "IPv4", rules.Mode, rules.Bypass) { InEffect = rules.InEffect };
    }

    /// <summary>How kube-proxy works, in a word or two: <c>nftables</c>; <c>iptables-legacy and iptables-nft</c> where both are in effect.</summary>
    public string Describe() => Bypass ?? (InEffect is [_, _, ..] several
        ? string.Join(" and ", several.Select(e => e.Mode switch { ProxyMode.Iptables => e.Tool, ProxyMode.Userspace => $"userspace by {e.Tool}", _ => e.Mode.ToString().ToLowerInvariant() }))
        : Mode.ToString().ToLowerInvariant());
}

/// <summary>One Service port.</summary>
/// <param name="Service">The Service.</param>
/// <param name="Port">Port and protocol, such as <c>80/TCP</c>.</param>
/// <param name="Name">The port's name; null when it has none.</param>
/// <param name="Endpoints">How many endpoints this node should use for it at its cluster addresses.</param>
/// <param name="Status">How the comparison came out.</param>
/// <param name="Classes">The classes of what was found, each once, the first one first; empty when nothing was.</param>
public sealed record CheckedPort(ObjectRef Service, string Port, string? Name, int Endpoints, CheckStatus Status, ImmutableArray<FailureClass> Classes);

/// <summary>Something that was found.</summary>
public sealed record CheckFinding
{
    /// <summary>The class.</summary>
    public required FailureClass Class { get; init; }

    /// <summary>Whether rules and objects differ; <see cref="CheckStatus.Agrees"/> for what is worth knowing although they agree.</summary>
    public required CheckStatus Status { get; init; }

    /// <summary>What is wrong, in a sentence or two.</summary>
    public required string Sentence { get; init; }

    /// <summary>The objects concerned: Services, nodes, pods.</summary>
    public ImmutableArray<ObjectRef> Objects { get; init; } = [];

    /// <summary>The Service ports concerned, such as <c>demo/web 80/TCP</c>.</summary>
    public ImmutableArray<string> Ports { get; init; } = [];

    /// <summary>The missing or offending rules.</summary>
    public ImmutableArray<RuleRef> Rules { get; init; } = [];

    /// <summary>What the finding rests on beside the rules.</summary>
    public ImmutableArray<Evidence> Evidence { get; init; } = [];

    /// <summary>What mends it; null when that is not known.</summary>
    public Mend? Mend { get; init; }
}

/// <summary>How comparisons and walks are written as JSON.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(CheckReport))]
[JsonSerializable(typeof(WalkReport))]
public sealed partial class CheckJson : JsonSerializerContext
{
    private static readonly JsonWriterOptions Readable = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>A comparison as UTF-8 JSON, ended by a newline; the same comparison gives the same bytes.</summary>
    public static byte[] Write(CheckReport report) => Write(report, Default.CheckReport);

    /// <summary>A walk as UTF-8 JSON, ended by a newline; the same walk gives the same bytes.</summary>
    public static byte[] Write(WalkReport report) => Write(report, Default.WalkReport);

    private static byte[] Write<T>(T report, JsonTypeInfo<T> type)
    {
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json, Readable))
        {
            JsonSerializer.Serialize(writer, report, type);
        }

        json.WriteByte((byte)'\n');
        return json.ToArray();
    }
}
