using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>The core/v1 Events that others have told the lab's API, the newest thousand; an API server keeps them for an hour, a lab for its life.</summary>
internal sealed class LabEvents
{
    private const int Most = 1000;

    /// <summary>The Events; the same array as long as none is told.</summary>
    public ImmutableArray<JsonObject> All { get; private set; } = [];

    /// <summary>The Event of that name, or null.</summary>
    public JsonObject? Find(string? ns, string name) => All.FirstOrDefault(e => MetadataOf(e) is var meta && meta.Namespace == ns && meta.Name == name);

    /// <summary>Adds an Event, or puts it in the place of the one of its name.</summary>
    /// <exception cref="LabException">An API server would not take it.</exception>
    public void Put(string? ns, JsonObject told)
    {
        var meta = MetadataOf(told);
        if (meta.Name.Length == 0)
        {
            throw new LabException("metadata.name: Required value: name or generateName is required");
        }

        // legacyValidateEvent, pkg/apis/core/validation/events.go
        if (Text(told, "involvedObject", "namespace") is var about && (about ?? "default") != ns)
        {
            throw new LabException($"involvedObject.namespace: Invalid value: \"{about}\": does not match event.namespace");
        }

        var now = TimeProvider.System.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
        var kept = told.DeepClone().AsObject();
        var metadata = kept["metadata"]!.AsObject();
        metadata["namespace"] = ns;
        metadata["uid"] ??= Guid.NewGuid().ToString();
        metadata["creationTimestamp"] ??= now;
        metadata.Remove("resourceVersion");
        var rest = Find(ns, meta.Name) is { } before ? All.Remove(before) : All.Length >= Most ? All.RemoveAt(0) : All;
        All = rest.Add(kept);
    }

    /// <summary>An Event as it is served.</summary>
    public static ServedObject Served(JsonObject told)
    {
        var about = $"{Text(told, "involvedObject", "kind")?.ToLowerInvariant()}/{Text(told, "involvedObject", "name")}";
        return new ServedObject(MetadataOf(told), version =>
        {
            var json = told.DeepClone().AsObject();
            json["kind"] = "Event";
            json["apiVersion"] = "v1";
            json["metadata"]!["resourceVersion"] = version;
            return System.Text.Encoding.UTF8.GetBytes(json.ToJsonString());
        }, [Text(told, "type") ?? "", Text(told, "reason") ?? "", about, Text(told, "message") ?? ""])
        {
            // ToSelectableFields, pkg/registry/core/event/strategy.go
            Fields = ImmutableDictionary.CreateRange(new Dictionary<string, string?>
            {
                ["involvedObject.kind"] = Text(told, "involvedObject", "kind"),
                ["involvedObject.namespace"] = Text(told, "involvedObject", "namespace"),
                ["involvedObject.name"] = Text(told, "involvedObject", "name"),
                ["involvedObject.uid"] = Text(told, "involvedObject", "uid"),
                ["reason"] = Text(told, "reason"),
                ["source"] = Text(told, "source", "component") ?? Text(told, "reportingComponent"),
                ["type"] = Text(told, "type"),
            }),
        };
    }

    private static ObjectMeta MetadataOf(JsonObject told)
        => new() { Name = Text(told, "metadata", "name") ?? "", Namespace = Text(told, "metadata", "namespace"), CreationTimestamp = DateTimeOffset.TryParse(Text(told, "metadata", "creationTimestamp"), CultureInfo.InvariantCulture, out var at) ? at : null };

    private static string? Text(JsonObject told, params ReadOnlySpan<string> path)
    {
        JsonNode? at = told;
        foreach (var step in path)
        {
            at = (at as JsonObject)?[step];
        }

        return at is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
    }
}
