using System.Collections.Immutable;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

public sealed partial class ObjectReader
{
    /// <summary>Reads a core/v1 Event; <see cref="PodEvent.IsPodWarning"/> says whether it is one to keep.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public PodEvent ReadEvent(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        ObjectReference? involved = null;
        string? type = null, reason = null, message = null, source = null, reporter = null;
        int? count = null;
        DateTimeOffset? last = null, time = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("involvedObject"u8))
            {
                involved = ReadReference(ref json);
            }
            else if (member.SequenceEqual("type"u8))
            {
                type = Text(ref json);
            }
            else if (member.SequenceEqual("reason"u8))
            {
                reason = Text(ref json);
            }
            else if (member.SequenceEqual("message"u8))
            {
                message = Text(ref json);
            }
            else if (member.SequenceEqual("source"u8))
            {
                source = ReadComponent(ref json);
            }
            else if (member.SequenceEqual("reportingComponent"u8))
            {
                reporter = Text(ref json);
            }
            else if (member.SequenceEqual("count"u8))
            {
                count = Number(ref json);
            }
            else if (member.SequenceEqual("lastTimestamp"u8))
            {
                last = Time(ref json);
            }
            else if (member.SequenceEqual("eventTime"u8))
            {
                time = Time(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new PodEvent { Metadata = metadata!, InvolvedObject = involved!, Type = type, Reason = reason, Message = message, Count = count, LastTimestamp = last, EventTime = time, Source = string.IsNullOrEmpty(source) ? reporter : source };
    }

    private string? ReadComponent(ref Utf8JsonReader json)
    {
        string? component = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("component"u8))
            {
                component = Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return component;
    }

    /// <summary>Reads a core/v1 ConfigMap, with the values as they are.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public ConfigMap ReadConfigMap(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        ImmutableSortedDictionary<string, string>? data = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else if (member.SequenceEqual("data"u8))
            {
                data = Dictionary(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new ConfigMap { Metadata = metadata!, Data = data! };
    }
}
