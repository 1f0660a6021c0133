using TraceProbe.Agent.Alerts;

namespace TraceProbe.Agent;

/// <summary>
/// What an agent is told: by a file, by environment variables (<c>TRACEPROBE_AGENT_SAMPLING__ONEIN=50</c>) and by the command line, the later over the former.
/// </summary>
public sealed class AgentSettings
{
    /// <summary>Where baselines, recordings of failures and the like are kept.</summary>
    public string State { get; set; } = "/var/lib/traceprobe/agent";

    /// <summary>In a lab, where one machine has several nodes: the only one whose namespaces are watched, as an agent on it would; null for all there are.</summary>
    public string? Node { get; set; }

    /// <summary>Which healthy connections are looked at closely.</summary>
    public SamplingSettings Sampling { get; set; } = new();

    /// <summary>When alerts are opened and resolved.</summary>
    public AlertPolicy Alerts { get; set; } = new();

    /// <summary>Alertmanagers to tell, as <c>http://HOST:9093</c>.</summary>
    public IList<Uri> Alertmanagers { get; } = [];

    /// <summary>Webhooks to tell.</summary>
    public IList<WebhookSettings> Webhooks { get; } = [];

    /// <summary>Where spans and metrics go; nowhere when it is null.</summary>
    public OtlpSettings? Otlp { get; set; }

    /// <summary>The most recordings of failures that are kept, the newest; 0 keeps none.</summary>
    public int Recordings { get; set; } = 200;

    /// <summary>The kernel's ring of events, in bytes.</summary>
    public int RingBytes { get; set; } = 16 << 20;

    /// <summary>What is wrong with it, each a sentence that says what to do; empty when nothing is.</summary>
    public IEnumerable<string> Errors()
    {
        if (State.Length == 0 || !Path.IsPathFullyQualified(State))
        {
            yield return $"state: '{State}' is no absolute path of a folder.";
        }

        if (Sampling.OneIn is < 1 or > 1_000_000)
        {
            yield return $"sampling.oneIn: {Sampling.OneIn} is not from 1 to 1000000.";
        }

        if (Alerts.Failures < 1 || Alerts.Successes < 1)
        {
            yield return "alerts.failures and alerts.successes are at least 1.";
        }

        foreach (var (name, value) in new[] { ("within", Alerts.Within), ("quietWithSuccess", Alerts.QuietWithSuccess), ("quietWithout", Alerts.QuietWithout), ("repeat", Alerts.Repeat) })
        {
            if (value <= TimeSpan.Zero || value > TimeSpan.FromDays(1))
            {
                yield return $"alerts.{name}: {value} is not more than nothing and at most a day; write it as 00:01:30.";
            }
        }

        foreach (var url in Alertmanagers.Concat(Webhooks.Select(w => w.Url)).Append(Otlp?.Endpoint))
        {
            if (url is not null && !(url.IsAbsoluteUri && url.Scheme is "http" or "https"))
            {
                yield return $"'{url}' is no URL of the kind http://HOST:PORT.";
            }
        }

        if (Otlp is { Protocol: not ("grpc" or "http") })
        {
            yield return $"otlp.protocol: '{Otlp.Protocol}' is neither grpc nor http.";
        }

        if (Recordings is < 0 or > 100_000)
        {
            yield return $"recordings: {Recordings} is not from 0 to 100000.";
        }

        if (RingBytes is < 1 << 16 or > 1 << 30)
        {
            yield return $"ringBytes: {RingBytes} is not from 65536 to 1073741824.";
        }
    }
}

/// <summary>Which healthy connections are looked at closely.</summary>
public sealed class SamplingSettings
{
    /// <summary>Of how many new connections to a Service one is followed in full; of the others only what tells how they went. Lots are drawn in the kernel.</summary>
    public int OneIn { get; set; } = 20;
}

/// <summary>A webhook.</summary>
public sealed class WebhookSettings
{
    /// <summary>Where to POST.</summary>
    public Uri? Url { get; set; }

    /// <summary>What it is sent.</summary>
    public WebhookFormat Format { get; set; }
}

/// <summary>A receiver of OpenTelemetry's protocol.</summary>
public sealed class OtlpSettings
{
    /// <summary>Its URL: <c>http://HOST:4317</c> for gRPC, <c>http://HOST:4318</c> for HTTP.</summary>
    public Uri? Endpoint { get; set; }

    /// <summary><c>grpc</c> or <c>http</c>.</summary>
    public string Protocol { get; set; } = "grpc";

    /// <summary>Reads a URL; at the port 4318, or with a path, HTTP is spoken, else gRPC. Null in <see cref="Endpoint"/> when it is none.</summary>
    public static OtlpSettings Parse(string url)
    {
        var endpoint = Uri.TryCreate(url, UriKind.Absolute, out var uri) ? uri : new Uri(url, UriKind.Relative);
        return new OtlpSettings { Endpoint = endpoint, Protocol = endpoint.IsAbsoluteUri && (endpoint.Port == 4318 || endpoint.AbsolutePath != "/") ? "http" : "grpc" };
    }
}
