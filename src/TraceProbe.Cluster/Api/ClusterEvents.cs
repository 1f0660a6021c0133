using System.Globalization;
using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>Something to tell of an object, where <c>kubectl describe</c> shows it: a core/v1 Event.</summary>
public sealed record ClusterEvent
{
    /// <summary>Its name, which tells it from others of the namespace: telling of the same name again changes what was told.</summary>
    public required string Name { get; init; }

    /// <summary>The object that it is about, with its namespace and UID; of the core group.</summary>
    public required ObjectReference About { get; init; }

    /// <summary>Whether it is a Warning; Normal otherwise.</summary>
    public required bool IsWarning { get; init; }

    /// <summary>A word for what happened, as <c>NoReadyEndpoints</c>.</summary>
    public required string Reason { get; init; }

    /// <summary>What happened; at most 1024 characters of it are told, which is what the newer Event API takes.</summary>
    public required string Message { get; init; }

    /// <summary>The node that it was seen on.</summary>
    public required string Node { get; init; }

    /// <summary>When it was first seen.</summary>
    public required DateTimeOffset First { get; init; }

    /// <summary>When it was last seen.</summary>
    public required DateTimeOffset Last { get; init; }

    /// <summary>How often it was seen.</summary>
    public required long Count { get; init; }
}

/// <summary>Tells a cluster of what happened to its objects.</summary>
public static class ClusterEvents
{
    private const int LongestMessage = 1024;

    /// <summary>Creates an Event, or brings it up to date where there is one of its name. Telling twice does no harm.</summary>
    /// <exception cref="ApiException">The cluster could not be told.</exception>
    public static async Task TellAsync(this ApiClient client, ClusterEvent told, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(told);
        var path = $"/api/v1/namespaces/{told.About.Namespace}/events";
        try
        {
            using var created = await client.CreateAsync(path, Write(told, isNew: true), cancellation).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.Status == 409)
        {
            using var changed = await client.PatchAsync($"{path}/{told.Name}", Write(told, isNew: false), cancellation).ConfigureAwait(false);
        }
    }

    private static byte[] Write(ClusterEvent told, bool isNew)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (isNew)
            {
                json.WriteString("apiVersion", "v1");
                json.WriteString("kind", "Event");
                json.WriteStartObject("metadata");
                json.WriteString("name", told.Name);
                json.WriteString("namespace", told.About.Namespace);
                json.WriteEndObject();
                json.WriteStartObject("involvedObject");
                json.WriteString("apiVersion", "v1");
                json.WriteString("kind", told.About.Kind);
                json.WriteString("namespace", told.About.Namespace);
                json.WriteString("name", told.About.Name);
                json.WriteString("uid", told.About.Uid);
                json.WriteEndObject();
                json.WriteString("type", told.IsWarning ? "Warning" : "Normal");
                json.WriteString("reason", told.Reason);
                json.WriteString("message", told.Message.Length > LongestMessage ? told.Message[..(LongestMessage - 1)] + "…" : told.Message);
                json.WriteStartObject("source");
                json.WriteString("component", PodEvent.Teller);
                json.WriteString("host", told.Node);
                json.WriteEndObject();
                json.WriteString("reportingComponent", PodEvent.Teller);
                json.WriteString("reportingInstance", told.Node);
                json.WriteString("firstTimestamp", Time(told.First));
            }

            // What is left out of a patch stays as it was.
            json.WriteString("lastTimestamp", Time(told.Last));
            json.WriteNumber("count", Math.Min(told.Count, int.MaxValue));
            json.WriteEndObject();
        }

        return buffer.ToArray();
    }

    // metav1.Time is told in whole seconds (apimachinery, pkg/apis/meta/v1/time.go).
    private static string Time(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
