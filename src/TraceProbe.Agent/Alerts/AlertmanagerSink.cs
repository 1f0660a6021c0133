using System.Globalization;
using System.Net.Http.Headers;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>
/// Prometheus's Alertmanager, by its API v2 (<c>POST /api/v2/alerts</c>, api/v2/openapi.yaml there). It forgets what it is not told again, so what goes on is told with
/// an end a few repetitions ahead.
/// </summary>
public sealed class AlertmanagerSink(HttpClient http, Uri server, TimeSpan repeat) : IAlertSink
{
    private readonly Uri _alerts = new(server.AbsoluteUri.TrimEnd('/') + "/api/v2/alerts");

    /// <inheritdoc/>
    public string Name => $"alertmanager {server}";

    /// <inheritdoc/>
    public async Task SendAsync(AlertChange change, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(change);
        using var content = new ByteArrayContent(Write(change));
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        using var answer = await http.PostAsync(_alerts, content, cancellation).ConfigureAwait(false);
        if (!answer.IsSuccessStatusCode)
        {
            var why = await answer.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
            throw new HttpRequestException($"{(int)answer.StatusCode} {answer.ReasonPhrase}: {(why.Length > 200 ? why[..200] : why)}", null, answer.StatusCode);
        }
    }

    internal byte[] Write(AlertChange change)
    {
        var alert = change.Alert;
        var (ns, service) = alert.Key.Service.IndexOf('/', StringComparison.Ordinal) is > 0 and var slash ? (alert.Key.Service[..slash], alert.Key.Service[(slash + 1)..]) : ("", alert.Key.Service);
        var info = FailureClassInfo.Of(alert.Key.Class);
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            json.WriteStartObject();

            // Labels are the alert's identity there: nothing that changes while it goes on.
            json.WriteStartObject("labels");
            json.WriteString("alertname", "TraceProbe");
            json.WriteString("class", info.Name);
            json.WriteString("stage", info.Stage?.ToString().ToLowerInvariant() ?? "");
            json.WriteString("namespace", ns);
            json.WriteString("service", service);
            json.WriteString("client", alert.Key.Client);
            json.WriteString("node", alert.Node);
            json.WriteString("severity", "warning");
            json.WriteEndObject();
            json.WriteStartObject("annotations");
            json.WriteString("summary", alert.Sentence);
            json.WriteString("description", string.Create(CultureInfo.InvariantCulture,
                $"{alert.Count} of {alert.Attempts} attempts of {alert.Key.Client} to reach {alert.Key.Service} failed so since {alert.FirstSeen:yyyy-MM-ddTHH:mm:ssZ}."));
            if (alert.Mend is { } mend)
            {
                json.WriteString("mend", mend.Command is { } command ? $"{mend.Text} {command}" : mend.Text);
            }

            if (alert.Example.Pod is { } pod)
            {
                json.WriteString("pod", $"{pod.Namespace}/{pod.Name}");
            }

            if (alert.Example.Recording is { } recording)
            {
                json.WriteString("recording", recording);
            }

            json.WriteEndObject();
            json.WriteString("startsAt", alert.FirstSeen);
            json.WriteString("endsAt", alert.ResolvedAt ?? TimeProvider.System.GetUtcNow() + (4 * repeat));
            json.WriteEndObject();
            json.WriteEndArray();
        }

        return buffer.ToArray();
    }
}
