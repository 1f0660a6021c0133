using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Alerts;

/// <summary>The cluster itself: Events on the Service and on the client's Pod, so that <c>kubectl describe</c> of either shows the cause.</summary>
public sealed class EventSink(ApiClient api) : IAlertSink
{
    /// <inheritdoc/>
    public string Name => $"events of {api.Server.Url.Authority}";

    /// <inheritdoc/>
    public async Task SendAsync(AlertChange change, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(change);
        var alert = change.Alert;
        foreach (var about in new[] { alert.Example.Service, alert.Example.Pod })
        {
            // An object without a UID is one that the cluster does not have.
            if (about is { Uid: not null })
            {
                try
                {
                    await TellAsync(change, about, cancellation).ConfigureAwait(false);
                }
                catch (ApiException e)
                {
                    throw new HttpRequestException(e.Message, e, e.Status == 0 ? null : (HttpStatusCode)e.Status);
                }
            }
        }
    }

    private async Task TellAsync(AlertChange change, ObjectReference about, CancellationToken cancellation)
    {
        var (alert, reason) = (change.Alert, ReasonOf(change.Alert.Key.Class));
        var failed = new ClusterEvent
        {
            Name = NameOf(alert, about, "failed"),
            About = about,
            IsWarning = true,
            Reason = reason,
            Message = $"{(about.Kind == "Pod" ? $"to {alert.Key.Service}" : $"{alert.Key.Client} to {alert.Key.Service}")}: {alert.Sentence}{(alert.Mend is { } mend ? $" Mend: {mend.Command ?? mend.Text}" : "")}",
            Node = alert.Node,
            First = alert.FirstSeen,
            Last = alert.LastSeen,
            Count = alert.Count,
        };
        await api.TellAsync(failed, cancellation).ConfigureAwait(false);
        if (alert.ResolvedAt is { } resolved)
        {
            await api.TellAsync(failed with
            {
                Name = NameOf(alert, about, "resolved"),
                IsWarning = false,
                Reason = $"{reason}Resolved",
                Message = string.Create(CultureInfo.InvariantCulture, $"{alert.Count} of {alert.Attempts} attempts of {alert.Key.Client} to reach {alert.Key.Service} failed, the last at {alert.LastSeen.UtcDateTime:HH:mm:ss} UTC; none since."),
                First = resolved,
                Last = resolved,
                Count = 1,
            }, cancellation).ConfigureAwait(false);
        }
    }

    // The same for all that is told of one alert, and for no other: who tells it again changes what is there.
    private static string NameOf(Alert alert, ObjectReference about, string what)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{what} {alert.Key} {alert.Node} {alert.FirstSeen.UtcTicks} {about.Uid}")));
        return $"{about.Name}.{Convert.ToHexStringLower(hash, 0, 8)}";
    }

    // "no-ready-endpoints" is NoReadyEndpoints there: a reason is a word in CamelCase (core/v1 Event).
    private static string ReasonOf(FailureClass failure)
        => string.Concat(FailureClassInfo.Of(failure).Name.Split('-').Select(w => char.ToUpperInvariant(w[0]) + w[1..]));
}
