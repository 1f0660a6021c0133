using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>What an event of a watch says has happened.</summary>
internal enum WatchEventType
{
    Added,
    Modified,
    Deleted,

    /// <summary>Nothing, but that everything up to its version was told.</summary>
    Bookmark,

    /// <summary>The watch is over; the object is a Status.</summary>
    Error,
}

/// <summary>A line of a watch: <c>{"type":"ADDED","object":{…}}</c>.</summary>
internal readonly ref struct WatchEvent
{
    private readonly Utf8JsonReader _object;

    private WatchEvent(WatchEventType type, Utf8JsonReader json, ReadOnlySpan<byte> text)
    {
        Type = type;
        _object = json;
        Text = text;
    }

    /// <summary>What has happened.</summary>
    public WatchEventType Type { get; }

    /// <summary>The object's JSON, and what follows it in the line.</summary>
    public ReadOnlySpan<byte> Text { get; }

    /// <summary>A reader that stands on the object.</summary>
    public Utf8JsonReader Object => _object;

    /// <summary>Takes a line apart.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static WatchEvent Parse(ReadOnlySpan<byte> line)
    {
        var json = new Utf8JsonReader(line, ObjectReader.Options);
        WatchEventType? type = null;
        Utf8JsonReader at = default;
        var from = 0L;
        if (!json.Read() || json.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an event was expected.");
        }

        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            var (isType, isObject) = (json.ValueTextEquals("type"u8), json.ValueTextEquals("object"u8));
            json.Read();
            if (isType && json.TokenType == JsonTokenType.String)
            {
                type = json.ValueTextEquals("ADDED"u8) ? WatchEventType.Added
                    : json.ValueTextEquals("MODIFIED"u8) ? WatchEventType.Modified
                    : json.ValueTextEquals("DELETED"u8) ? WatchEventType.Deleted
                    : json.ValueTextEquals("BOOKMARK"u8) ? WatchEventType.Bookmark
                    : json.ValueTextEquals("ERROR"u8) ? WatchEventType.Error
                    : throw new JsonException($"an event of unknown type {json.GetString()}.");
            }
            else if (isObject && json.TokenType == JsonTokenType.StartObject && type is { } told)
            {
                // The type comes first, and the object is read once: whoever reads it sees whether it ends.
                return new WatchEvent(told, json, line[(int)json.TokenStartIndex..]);
            }
            else if (isObject && json.TokenType == JsonTokenType.StartObject)
            {
                at = json;
                from = json.TokenStartIndex;
                json.Skip();
            }
            else
            {
                json.Skip();
            }
        }

        return type is { } late && from > 0 ? new WatchEvent(late, at, line[(int)from..]) : throw new JsonException("an event without type or object.");
    }

    /// <summary>Sees that an event ends behind its object.</summary>
    /// <param name="json">The reader, which stands on the object's end.</param>
    /// <exception cref="JsonException">It goes on, or is cut.</exception>
    public static void End(ref Utf8JsonReader json)
    {
        while (json.Read())
        {
            json.Skip();
        }
    }

    /// <summary>What a bookmark says: the version, and whether with it all objects that there were have been told (<c>k8s.io/initial-events-end</c>).</summary>
    public (string? ResourceVersion, bool EndsInitialEvents) ReadBookmark()
    {
        var json = _object;
        string? version = null;
        var ends = false;
        var depth = json.CurrentDepth;
        var inMetadata = false;
        while (json.Read() && json.CurrentDepth > depth)
        {
            if (json.TokenType != JsonTokenType.PropertyName)
            {
                continue;
            }

            if (json.CurrentDepth == depth + 1)
            {
                inMetadata = json.ValueTextEquals("metadata"u8);
            }
            else if (inMetadata && json.CurrentDepth == depth + 2 && json.ValueTextEquals("resourceVersion"u8) && json.Read() && json.TokenType == JsonTokenType.String)
            {
                version = json.GetString();
            }
            else if (inMetadata && json.CurrentDepth == depth + 3 && json.ValueTextEquals("k8s.io/initial-events-end"u8) && json.Read())
            {
                ends = json.TokenType == JsonTokenType.String && json.ValueTextEquals("true"u8);
            }
        }

        return (version, ends);
    }
}
