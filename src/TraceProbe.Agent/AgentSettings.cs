using System.Diagnostics.CodeAnalysis;
using System.Net;
using OpenTelemetry.Exporter;
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

    /// <summary>Whether alerts are told as Events on the Service and the client's Pod, where there is an API server.</summary>
    public bool Events { get; set; } = true;

    /// <summary>Where spans and metrics go; nowhere when it is null.</summary>
    public OtlpSettings? Otlp { get; set; }

    /// <summary>The most recordings of failures that are kept, the newest; 0 keeps none.</summary>
    public int Recordings { get; set; } = 200;

    /// <summary>Who may ask what it knows, and how.</summary>
    public ApiSettings Api { get; set; } = new();

    /// <summary>Where <c>/metrics</c>, <c>/healthz</c> and <c>/readyz</c> are served, in plain HTTP and to anybody: <c>ADDRESS:PORT</c>, or <c>:PORT</c> for all addresses; nowhere when it is null.</summary>
    public string? Metrics { get; set; }

    /// <summary>The kernel's ring of events, in bytes.</summary>
    public int RingBytes { get; set; } = 16 << 20;

    /// <summary>The unix socket that is listened on; null for none.</summary>
    internal string? SocketPath => Api.Socket is { Length: 0 } ? null : Api.Socket ?? Path.Combine(State, "agent.sock");

    /// <summary>Where baselines are kept.</summary>
    internal string BaselineFolder => Path.Combine(State, "baselines");

    /// <summary>Which of those that hold for as long as an agent runs are other than in the settings it runs with.</summary>
    internal IEnumerable<string> Unlike(AgentSettings now)
    {
        if (State != now.State || Node != now.Node || RingBytes != now.RingBytes)
        {
            yield return "state, node, ringBytes";
        }

        if (!Alertmanagers.SequenceEqual(now.Alertmanagers) || !Webhooks.Select(w => (w.Url, w.Format)).SequenceEqual(now.Webhooks.Select(w => (w.Url, w.Format))) || Events != now.Events)
        {
            yield return "alertmanagers, webhooks, events";
        }

        if (Otlp?.Endpoint != now.Otlp?.Endpoint || Otlp?.Protocol != now.Otlp?.Protocol)
        {
            yield return "otlp";
        }

        if (Metrics != now.Metrics || (Api.Listen, Api.Certificate, Api.Key, Api.Socket) != (now.Api.Listen, now.Api.Certificate, now.Api.Key, now.Api.Socket))
        {
            yield return "metrics, api";
        }
    }

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

        if (Alerts.Lasting < TimeSpan.Zero || Alerts.Lasting > Alerts.Within)
        {
            yield return $"alerts.lasting: {Alerts.Lasting} is not from nothing to alerts.within ({Alerts.Within}); write it as 00:00:04.";
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

        foreach (var (name, value) in new[] { ("metrics", Metrics), ("api.listen", Api.Listen) })
        {
            if (value is not null && !ApiSettings.TryParse(value, out _))
            {
                yield return $"{name}: '{value}' is no address to listen on; write it as 0.0.0.0:9464, [::]:9464 or :9464.";
            }
        }

        if ((Api.Certificate is null) != (Api.Key is null))
        {
            yield return "api.certificate and api.key go together: a certificate and its private key, as PEM files.";
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

/// <summary>Who may ask an agent, and how.</summary>
public sealed class ApiSettings
{
    /// <summary>Where it listens with TLS, for whoever has a bearer token of the cluster: <c>ADDRESS:PORT</c>, or <c>:PORT</c> for all addresses; nowhere when it is null.</summary>
    public string? Listen { get; set; }

    /// <summary>Its certificate, a PEM file; one is made and signed by itself without it.</summary>
    public string? Certificate { get; set; }

    /// <summary>The private key to it, a PEM file.</summary>
    public string? Key { get; set; }

    /// <summary>The unix socket for root of this node; <c>agent.sock</c> in the folder of its state without it, none when it is empty.</summary>
    public string? Socket { get; set; }

    /// <summary>Reads <c>ADDRESS:PORT</c>; without an address all are meant.</summary>
    internal static bool TryParse(string text, [NotNullWhen(true)] out IPEndPoint? listen)
        => IPEndPoint.TryParse(text.StartsWith(':') ? $"{(System.Net.Sockets.Socket.OSSupportsIPv6 ? "[::]" : "0.0.0.0")}{text}" : text, out listen) && listen.Port != 0;
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

    /// <summary>The exporter's options for one kind of signal. A path of the URL is that of spans, and the others' lie beside it.</summary>
    /// <param name="path">Where OTLP/HTTP has that kind, as <c>/v1/traces</c> (OTLP specification, "OTLP/HTTP Request"); gRPC needs none.</param>
    internal OtlpExporterOptions OptionsFor(string path)
    {
        var isHttp = Protocol == "http";
        return new OtlpExporterOptions
        {
            // Given here and not by the environment, the path has to be named (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
            Endpoint = !isHttp ? Endpoint! : Endpoint!.AbsolutePath == "/" ? new Uri(Endpoint, path) : new Uri(Endpoint.AbsoluteUri.Replace("/v1/traces", path, StringComparison.Ordinal)),
            Protocol = isHttp ? OtlpExportProtocol.HttpProtobuf : OtlpExportProtocol.Grpc,
        };
    }
}
