using System.Net.Http.Headers;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>What a webhook is sent.</summary>
public enum WebhookFormat
{
    /// <summary>The alert as JSON, with a version.</summary>
    Json,

    /// <summary>A message of one text, as Slack, Mattermost and others take it.</summary>
    Slack,
}

/// <summary>Any URL that takes a POST. What merely goes on is not told again.</summary>
public sealed class WebhookSink(HttpClient http, Uri url, WebhookFormat format) : IAlertSink
{
    /// <summary>The version of the JSON form. Members are added, never renamed.</summary>
    public const int Version = 1;

    /// <inheritdoc/>
    public string Name => $"webhook {url.GetLeftPart(UriPartial.Authority)}";

    /// <inheritdoc/>
    public async Task SendAsync(AlertChange change, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(change);
        if (change.Event == AlertEvent.Continues)
        {
            return;
        }

        using var content = new ByteArrayContent(Write(change, format));
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        using var answer = await http.PostAsync(url, content, cancellation).ConfigureAwait(false);
        answer.EnsureSuccessStatusCode();
    }

    internal static byte[] Write(AlertChange change, WebhookFormat format)
    {
        var alert = change.Alert;
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (format == WebhookFormat.Slack)
            {
                json.WriteString("text", SlackText(change));
            }
            else
            {
                json.WriteNumber("version", Version);
                json.WriteString("event", change.Event.ToString().ToLowerInvariant());
                json.WriteString("class", FailureClassInfo.Of(alert.Key.Class).Name);
                json.WriteString("service", alert.Key.Service);
                json.WriteString("client", alert.Key.Client);
                json.WriteString("node", alert.Node);
                json.WriteString("sentence", alert.Sentence);
                json.WriteString("mend", alert.Mend?.Text);
                json.WriteString("mendCommand", alert.Mend?.Command);
                json.WriteString("mendOn", alert.Mend?.On);
                json.WriteString("firstSeen", alert.FirstSeen);
                json.WriteString("lastSeen", alert.LastSeen);
                if (alert.ResolvedAt is { } resolved)
                {
                    json.WriteString("resolvedAt", resolved);
                }

                json.WriteNumber("count", alert.Count);
                json.WriteNumber("attempts", alert.Attempts);
                json.WriteString("recording", alert.Recording);
            }

            json.WriteEndObject();
        }

        return buffer.ToArray();
    }

    // Slack escapes three characters, and three alone (api.slack.com, "Formatting text for app surfaces").
    private static string SlackText(AlertChange change)
    {
        var alert = change.Alert;
        var text = $"{(change.Event == AlertEvent.Resolved ? ":white_check_mark: resolved" : ":warning:")} *{FailureClassInfo.Of(alert.Key.Class).Name}* {alert.Key.Client} → {alert.Key.Service}\n{alert.Sentence}"
            + (change.Event == AlertEvent.Opened && alert.Mend?.Command is { } command ? $"\n```{command}```" : "");
        return text.Replace("&", "&amp;", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal).Replace(">", "&gt;", StringComparison.Ordinal);
    }
}
