using System.Globalization;
using System.Text;
using OpenTelemetry;
using OpenTelemetry.Metrics;

namespace TraceProbe.Agent.Telemetry;

/// <summary>
/// Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats"), of what the SDK has summed up; names as OpenTelemetry's compatibility specification
/// makes them: dots become underscores, the unit and, for sums that only rise, <c>total</c> are added.
/// </summary>
[ExportModes(ExportModes.Pull)]
internal sealed class PrometheusText : BaseExporter<Metric>, IPullMetricExporter
{
    /// <summary>The content type of the format.</summary>
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    private readonly StringBuilder _text = new();
    private readonly Lock _lock = new();

    /// <inheritdoc/>
    public Func<int, bool>? Collect { get; set; }

    /// <summary>All metrics as they are now.</summary>
    public string Read()
    {
        lock (_lock)
        {
            _text.Clear();
            return Collect?.Invoke(5_000) == true ? _text.ToString() : throw new InvalidOperationException("The metrics could not be collected.");
        }
    }

    /// <inheritdoc/>
    public override ExportResult Export(in Batch<Metric> batch)
    {
        foreach (var metric in batch)
        {
            Write(metric);
        }

        return ExportResult.Success;
    }

    private void Write(Metric metric)
    {
        var rises = metric.MetricType is MetricType.LongSum or MetricType.DoubleSum;
        var name = NameOf(metric.Name, metric.Unit, rises);
        _text.Append("# HELP ").Append(name).Append(' ').Append(metric.Description.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)).Append('\n');
        _text.Append("# TYPE ").Append(name).Append(' ').Append(rises ? "counter" : metric.MetricType == MetricType.Histogram ? "histogram" : "gauge").Append('\n');
        foreach (ref readonly var point in metric.GetMetricPoints())
        {
            switch (metric.MetricType)
            {
                case MetricType.Histogram:
                    var upTo = 0L;
                    foreach (var bucket in point.GetHistogramBuckets())
                    {
                        upTo += bucket.BucketCount;
                        Line($"{name}_bucket", point.Tags, bucket.ExplicitBound, upTo);
                    }

                    Line($"{name}_sum", point.Tags, null, point.GetHistogramSum());
                    Line($"{name}_count", point.Tags, null, point.GetHistogramCount());
                    break;
                case MetricType.LongSum or MetricType.LongSumNonMonotonic:
                    Line(name, point.Tags, null, point.GetSumLong());
                    break;
                case MetricType.DoubleSum or MetricType.DoubleSumNonMonotonic:
                    Line(name, point.Tags, null, point.GetSumDouble());
                    break;
                case MetricType.LongGauge:
                    Line(name, point.Tags, null, point.GetGaugeLastValueLong());
                    break;
                case MetricType.DoubleGauge:
                    Line(name, point.Tags, null, point.GetGaugeLastValueDouble());
                    break;
            }
        }
    }

    private static string NameOf(string name, string unit, bool rises)
    {
        var text = name.Replace('.', '_');
        text = unit switch { "s" => $"{text}_seconds", "By" => $"{text}_bytes", _ => text };
        return rises ? $"{text}_total" : text;
    }

    private void Line(string name, ReadOnlyTagCollection tags, double? upTo, double value)
    {
        _text.Append(name);
        var separator = '{';
        foreach (var tag in tags)
        {
            _text.Append(separator).Append(tag.Key.Replace('.', '_')).Append("=\"");
            foreach (var c in Convert.ToString(tag.Value, CultureInfo.InvariantCulture) ?? "")
            {
                _ = c switch { '\\' => _text.Append("\\\\"), '"' => _text.Append("\\\""), '\n' => _text.Append("\\n"), _ => _text.Append(c) };
            }

            _text.Append('"');
            separator = ',';
        }

        if (upTo is { } bound)
        {
            _text.Append(separator).Append("le=\"").Append(double.IsPositiveInfinity(bound) ? "+Inf" : bound.ToString(CultureInfo.InvariantCulture)).Append('"');
            separator = ',';
        }

        _text.Append(separator == ',' ? "} " : " ").Append(value.ToString(CultureInfo.InvariantCulture)).Append('\n');
    }
}
