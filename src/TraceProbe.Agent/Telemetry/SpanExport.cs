using System.Diagnostics;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace TraceProbe.Agent.Telemetry;

/// <summary>Sends spans to a receiver of OpenTelemetry's protocol, by the SDK's exporter; when that is away, what it misses is bounded and counted.</summary>
public sealed class SpanExport : IDisposable
{
    private const int Room = 8_192;

    private readonly Counting _exporter;
    private readonly TracerProvider _provider;

    /// <summary>Begins to export what <see cref="ConnectionSpans"/> makes in this process.</summary>
    /// <param name="otlp">Where to.</param>
    /// <param name="node">The node this runs on; null when it is not known.</param>
    /// <param name="metrics">Where what arrived and what did not is counted; may be null.</param>
    public SpanExport(OtlpSettings otlp, string? node, AgentMetrics? metrics = null)
    {
        ArgumentNullException.ThrowIfNull(otlp);
        metrics?.Count("traceprobe.spans.exported", "Spans that arrived at their receiver.", () => Exported);
        metrics?.Count("traceprobe.spans.failed", "Spans that could not be sent.", () => Failed);
        _exporter = new Counting(new OtlpTraceExporter(otlp.OptionsFor("/v1/traces")));
        _provider = Sdk.CreateTracerProviderBuilder()
            .AddSource(ConnectionSpans.SourceName)
            .SetSampler(new AlwaysOnSampler())
            .ConfigureResource(r => r.Clear().AddService("traceprobe", serviceVersion: typeof(SpanExport).Assembly.GetName().Version?.ToString(3))
                .AddAttributes(node is null ? [] : [new KeyValuePair<string, object>("k8s.node.name", node)]))
            .AddProcessor(new BatchActivityExportProcessor(_exporter, Room, scheduledDelayMilliseconds: 1_000, exporterTimeoutMilliseconds: 10_000))
            .Build();
    }

    /// <summary>Spans that arrived.</summary>
    public long Exported => Interlocked.Read(ref _exporter.Exported);

    /// <summary>Spans that could not be sent.</summary>
    public long Failed => Interlocked.Read(ref _exporter.Failed);

    /// <summary>Sends what waits.</summary>
    /// <returns>Whether all of it went within the time.</returns>
    public bool Flush(TimeSpan atMost) => _provider.ForceFlush((int)atMost.TotalMilliseconds);

    /// <summary>Sends what waits, for a few seconds at most, and ends.</summary>
    public void Dispose()
    {
        _provider.Dispose();
        _exporter.Dispose();
    }

    private sealed class Counting(BaseExporter<Activity> exporter) : BaseExporter<Activity>
    {
        public long Exported;
        public long Failed;

        public override ExportResult Export(in Batch<Activity> batch)
        {
            var count = batch.Count;
            var result = exporter.Export(batch);
            Interlocked.Add(ref result == ExportResult.Success ? ref Exported : ref Failed, count);
            return result;
        }

        protected override bool OnForceFlush(int timeoutMilliseconds) => exporter.ForceFlush(timeoutMilliseconds);

        protected override bool OnShutdown(int timeoutMilliseconds) => exporter.Shutdown(timeoutMilliseconds);

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                exporter.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
