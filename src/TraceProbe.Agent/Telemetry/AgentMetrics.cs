using System.Diagnostics;
using System.Diagnostics.Metrics;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;

namespace TraceProbe.Agent.Telemetry;

/// <summary>
/// What an agent counts, by OTLP and as Prometheus' text. No label holds an address, and those that hold names are bounded: what comes after is counted as <c>other</c>.
/// </summary>
public sealed class AgentMetrics : IDisposable
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "TraceProbe.Agent";

    /// <summary>The most Services with a label of their own.</summary>
    public const int MostServices = 500;

    // A local resolver answers in half a millisecond, a lost question costs five seconds.
    private static readonly double[] Seconds = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

    private readonly Meter _meter = new(MeterName);
    private readonly HashSet<string> _services = new(StringComparer.Ordinal);
    private readonly Counter<long> _connections;
    private readonly Counter<long> _dropped;
    private readonly Histogram<double> _lookup;
    private readonly Histogram<double> _connect;
    private readonly PrometheusText _text = new();
    private readonly BaseExportingMetricReader _reader;
    private readonly MeterProvider _provider;

    /// <summary>Begins to count.</summary>
    /// <param name="otlp">Where to send them; null for nowhere.</param>
    /// <param name="node">The node; null when it is not known.</param>
    public AgentMetrics(OtlpSettings? otlp, string? node)
    {
        _connections = _meter.CreateCounter<long>("traceprobe.connections", description: "Attempts to reach Services, by what became of them.");
        _dropped = _meter.CreateCounter<long>("traceprobe.drops", description: "Packets of followed connections that the kernel dropped, by its reason.");
        _lookup = _meter.CreateHistogram<double>("traceprobe.dns.duration", "s", "From the first question for a name to the first address.");
        _connect = _meter.CreateHistogram<double>("traceprobe.connect.duration", "s", "From the SYN to the completed handshake, at the client.");
        _meter.CreateObservableCounter("process.cpu.time", () => Environment.CpuUsage.TotalTime.TotalSeconds, "s", "Processor time that the agent has used.");
        _meter.CreateObservableGauge("process.memory.usage", () => Environment.WorkingSet, "By", "Memory of the agent that is resident.");
        _reader = new BaseExportingMetricReader(_text) { TemporalityPreference = MetricReaderTemporalityPreference.Cumulative };
        var builder = Sdk.CreateMeterProviderBuilder()
            .AddMeter(MeterName)
            .ConfigureResource(r => r.Clear().AddService("traceprobe", serviceVersion: typeof(AgentMetrics).Assembly.GetName().Version?.ToString(3))
                .AddAttributes(node is null ? [] : [new KeyValuePair<string, object>("k8s.node.name", node)]))
            .AddView(i => i.Name.EndsWith(".duration", StringComparison.Ordinal) ? new ExplicitBucketHistogramConfiguration { Boundaries = Seconds } : null)
            .AddReader(_reader);
        if (otlp is not null)
        {
            builder.AddReader(new PeriodicExportingMetricReader(new OtlpMetricExporter(otlp.OptionsFor("/v1/metrics")), exportIntervalMilliseconds: 15_000, exportTimeoutMilliseconds: 10_000));
        }

        _provider = builder.Build();
    }

    /// <summary>Ends, and sends what was not sent yet, for a few seconds at most.</summary>
    public void Dispose()
    {
        _provider.Dispose();
        _meter.Dispose();
        _text.Dispose();
        _reader.Dispose();
    }

    /// <summary>All of them as Prometheus reads them.</summary>
    public string ToPrometheusText() => _text.Read();

    /// <summary>Adds a number that only rises and is kept elsewhere.</summary>
    internal void Count(string name, string description, Func<long> read) => _meter.CreateObservableCounter(name, read, description: description);

    /// <summary>Adds a number that is kept elsewhere.</summary>
    internal void Gauge(string name, string description, Func<long> read) => _meter.CreateObservableGauge(name, read, description: description);

    /// <summary>Counts an attempt. One thread.</summary>
    /// <param name="service">The Service and port; null for what is none's.</param>
    /// <param name="judged">What became of it.</param>
    internal void Attempted(string? service, FailureClass judged)
    {
        var label = service is null ? "none" : _services.Contains(service) || (_services.Count < MostServices && _services.Add(service)) ? service : "other";
        var outcome = judged switch { FailureClass.Healthy => "healthy", FailureClass.Undetermined => "undetermined", _ => "failed" };
        _connections.Add(1, new TagList { { "class", FailureClassInfo.Of(judged).Name }, { "outcome", outcome }, { "service", label } });
    }

    /// <summary>Notes how long a lookup took.</summary>
    internal void LookedUp(TimeSpan duration) => _lookup.Record(duration.TotalSeconds);

    /// <summary>Notes how long a handshake took.</summary>
    internal void Connected(TimeSpan duration) => _connect.Record(duration.TotalSeconds);

    /// <summary>Counts a dropped packet.</summary>
    internal void Dropped(in NetworkEvent e) => _dropped.Add(1, new KeyValuePair<string, object?>("reason", e.DropReason ?? "unknown"));
}
