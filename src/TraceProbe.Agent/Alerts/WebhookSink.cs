using System.Net.Http.Headers;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>What a webhook is sent.</summary>
public enum WebhookFormat
{
    /// <summary>The alert as JSON (<see cref="AlertMessage"/>).</summary>
    Json,

    /// <summary>A message of one text, as Slack, Mattermost and others take it.</summary>
    Slack,
}

/// <summary>Any URL that takes a POST. What merely goes on is not told again.</summary>
public sealed class WebhookSink(HttpClient http, Uri url, WebhookFormat format) : IAlertSink
{
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

    internal static byte[] Write(AlertChange change, WebhookFormat format) => format == WebhookFormat.Slack
        ? JsonSerializer.SerializeToUtf8Bytes(new SlackMessage(SlackText(change)), AgentJson.Default.SlackMessage)
        : JsonSerializer.SerializeToUtf8Bytes(AlertMessage.Of(change), AgentJson.Default.AlertMessage);

    // Slack escapes three characters, and three alone (api.slack.com, "Formatting text for app surfaces").
    private static string SlackText(AlertChange change)
    {
        var alert = change.Alert;
        var text = $"{(change.Event == AlertEvent.Resolved ? ":white_check_mark: resolved" : ":warning:")} *{FailureClassInfo.Of(alert.Key.Class).Name}* {alert.Key.Client} → {alert.Key.Service}\n{alert.Sentence}"
            + (change.Event == AlertEvent.Opened && alert.Mend?.Command is { } command ? $"\n```{command}```" : "");
        return text.Replace("&", "&amp;", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal).Replace(">", "&gt;", StringComparison.Ordinal);
    }
}

/// <summary>A message as Slack takes it.</summary>
internal sealed record SlackMessage(string Text);
