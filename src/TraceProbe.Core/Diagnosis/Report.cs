using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// What is told about one request: the verdict first, then how it came to be. This is the JSON of <c>-o json</c>; its schema is
/// <c>report.schema.json</c> beside this file, and a test holds the two together. New members may be added within a version.
/// </summary>
public sealed record Report
{
    /// <summary>The version of this form.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The verdict.</summary>
    public required Verdict Verdict { get; init; }

    /// <summary>What was asked for, as text; null when nothing was asked for by name.</summary>
    public string? Target { get; init; }

    /// <summary>The client's place.</summary>
    public required string Client { get; init; }

    /// <summary>How the request came to be followed.</summary>
    public required RecordingMode Mode { get; init; }

    /// <summary>When the request began.</summary>
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>How long the request took, in nanoseconds.</summary>
    public required long DurationNanoseconds { get; init; }

    /// <summary>What the client got, in its own words, such as <c>HTTP/1.1 200 OK</c> or <c>Connection refused</c>; null when unknown.</summary>
    public string? Outcome { get; init; }

    /// <summary>Where events came from.</summary>
    public required EventSource Source { get; init; }

    /// <summary>How many events were lost during the request.</summary>
    public long LostEvents { get; init; }

    /// <summary>The stages of this request.</summary>
    public required ImmutableArray<StageRecord> Stages { get; init; }

    /// <summary>The request beside a healthy one.</summary>
    public Comparison? Comparison { get; init; }

    /// <summary>What happened, in order of time.</summary>
    public required ImmutableArray<TimelineStep> Timeline { get; init; }

    /// <summary>The connections, lookups left out.</summary>
    public required ImmutableArray<ConnectionSummary> Connections { get; init; }

    /// <summary>
    /// The rules that should have met the request's first packet, and others that could have ended it, with what they counted while the request was
    /// under way; null when the nodes were not asked again.
    /// </summary>
    public ImmutableArray<CountedRule>? Rules { get; init; }

    /// <summary>What the kube-proxies on the request's way said of themselves; null when they were not asked.</summary>
    public ImmutableArray<KubeProxyReport>? KubeProxies { get; init; }

    /// <summary>The command's exit code; null unless a command was run.</summary>
    public int? ExitCode { get; init; }
}

/// <summary>One line of the timeline.</summary>
/// <param name="Nanoseconds">Nanoseconds from the beginning of the request.</param>
/// <param name="Place">Where: <c>pod/default/ubuntu</c>, <c>node/node-1</c>.</param>
/// <param name="Stage">The stage it belongs to.</param>
/// <param name="Text">Who did what.</param>
/// <param name="Notable">Whether this is where things went wrong.</param>
public sealed record TimelineStep(long Nanoseconds, string Place, Stage Stage, string Text, bool Notable = false);

/// <summary>A rule with what it counted while a request was under way, everybody's packets.</summary>
/// <param name="Place">Where, such as <c>node/node-1</c>.</param>
/// <param name="Rule">The rule, with what it had counted before.</param>
/// <param name="IsExpected">Whether the request's first packet should have met it, by the walk.</param>
/// <param name="Counted">The packets; null when the rule has no counter, or its chain changed meanwhile.</param>
public sealed record CountedRule(string Place, RuleRef Rule, bool IsExpected, long? Counted);

/// <summary>What a node's kube-proxy said of itself.</summary>
/// <param name="Node">The node.</param>
/// <param name="Said">What it said.</param>
public sealed record KubeProxyReport(string Node, KubeProxyAccount Said);

/// <summary>One connection in a report.</summary>
/// <param name="Asked">The five-tuple as the client has it.</param>
/// <param name="Translated">The five-tuple after translation; null when there was none.</param>
/// <param name="Backend">The pod or place that it went to; null when unknown.</param>
/// <param name="Process">Who connected.</param>
/// <param name="Outcome">How it came out: established, refused, rejected, unanswered, unknown.</param>
/// <param name="Nanoseconds">From the first packet to the outcome; null when there was none.</param>
public sealed record ConnectionSummary(string Asked, string? Translated, string? Backend, string? Process, string Outcome, long? Nanoseconds);

/// <summary>How reports, baselines and recordings are written as JSON.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true, NewLine = "\n")]
[JsonSerializable(typeof(Report))]
[JsonSerializable(typeof(Baseline))]
[JsonSerializable(typeof(RecordingManifest))]
[JsonSerializable(typeof(Requests.ClientReport))]
[JsonSerializable(typeof(NodeAccount))]
public sealed partial class ReportJson : JsonSerializerContext
{
    // Commands are full of quotes and angle brackets; people read this too, and nobody pastes it into HTML.
    private static readonly JsonWriterOptions Readable = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The report as UTF-8 JSON, ended by a newline; the same report gives the same bytes.</summary>
    public static byte[] Write(Report report)
    {
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json, Readable))
        {
            JsonSerializer.Serialize(writer, report, Default.Report);
        }

        json.WriteByte((byte)'\n');
        return json.ToArray();
    }
}
