using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text.Json;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Reads objects of the Kubernetes API straight from UTF-8 JSON: only the fields TraceProbe uses, in one pass, without a tree in between.
/// A null is read as absent, since Go writes it for an empty list. What objects have in common (names, labels, states) is kept once for
/// all that one reader reads, and those made from it; a reader is for one thread at a time.
/// </summary>
/// <remarks>
/// Each method is called with the JSON reader on the object's opening brace, with all of the object in its buffer, and leaves it on the
/// closing one. Where the object is not what it should be, a <see cref="JsonException"/> says what was expected, and the JSON reader stands on
/// what was there instead; <see cref="JsonPlace"/> tells where that is.
/// </remarks>
public sealed partial class ObjectReader
{
    private readonly SharedValues _shared;
    private KeyValuePair<string, string>[] _entries = new KeyValuePair<string, string>[16];

    /// <summary>A reader of its own.</summary>
    public ObjectReader() => _shared = new();

    /// <summary>A reader, for another thread, that keeps what objects have in common together with an earlier one: a pod's name, UID and addresses stand in its endpoint, too.</summary>
    /// <param name="other">The earlier one.</param>
    public ObjectReader(ObjectReader other)
    {
        ArgumentNullException.ThrowIfNull(other);
        _shared = other._shared;
    }

    /// <summary>Options for the JSON reader: objects may be deeper than the 64 levels that are the default.</summary>
    public static JsonReaderOptions Options { get; } = new() { MaxDepth = 128 };

    private delegate T ReadItem<T>(ObjectReader reader, ref Utf8JsonReader json);

    /// <summary>Reads any object's metadata.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public ObjectMeta ReadMetadata(ref Utf8JsonReader json)
    {
        string? name = null, ns = null, uid = null, version = null;
        ImmutableSortedDictionary<string, string>? labels = null, annotations = null;
        DateTimeOffset? created = null, deleted = null;
        ImmutableArray<OwnerReference> owners = default;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = Text(ref json);
            }
            else if (member.SequenceEqual("namespace"u8))
            {
                ns = Text(ref json);
            }
            else if (member.SequenceEqual("uid"u8))
            {
                uid = Text(ref json);
            }
            else if (member.SequenceEqual("resourceVersion"u8))
            {
                version = OwnText(ref json);
            }
            else if (member.SequenceEqual("labels"u8))
            {
                labels = Dictionary(ref json);
            }
            else if (member.SequenceEqual("annotations"u8))
            {
                annotations = Dictionary(ref json, ObjectMeta.UsesAnnotation);
            }
            else if (member.SequenceEqual("creationTimestamp"u8))
            {
                created = Time(ref json);
            }
            else if (member.SequenceEqual("deletionTimestamp"u8))
            {
                deleted = Time(ref json);
            }
            else if (member.SequenceEqual("ownerReferences"u8))
            {
                owners = SharedArray(ref json, ReadOwner);
            }
            else
            {
                json.Skip();
            }
        }

        return new ObjectMeta
        {
            Name = name!,
            Namespace = ns,
            Uid = uid,
            ResourceVersion = version,
            Labels = labels!,
            Annotations = annotations!,
            CreationTimestamp = created,
            DeletionTimestamp = deleted,
            OwnerReferences = owners,
        };
    }

    /// <summary>Reads a core/v1 Namespace.</summary>
    /// <exception cref="JsonException">The JSON is something else.</exception>
    public Namespace ReadNamespace(ref Utf8JsonReader json)
    {
        ObjectMeta? metadata = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("metadata"u8))
            {
                metadata = ReadMetadata(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Namespace { Metadata = metadata! };
    }

    private static OwnerReference ReadOwner(ObjectReader reader, ref Utf8JsonReader json)
    {
        string kind = "", name = "";
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("kind"u8))
            {
                kind = reader.Text(ref json);
            }
            else if (member.SequenceEqual("name"u8))
            {
                name = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new OwnerReference(kind, name);
    }

    private static string ReadText(ObjectReader reader, ref Utf8JsonReader json) => reader.Text(ref json);

    private static Condition ReadCondition(ObjectReader reader, ref Utf8JsonReader json)
    {
        string? type = null, status = null, reason = null, message = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("type"u8))
            {
                type = reader.Text(ref json);
            }
            else if (member.SequenceEqual("status"u8))
            {
                status = reader.Text(ref json);
            }
            else if (member.SequenceEqual("reason"u8))
            {
                reason = reader.Text(ref json);
            }
            else if (member.SequenceEqual("message"u8))
            {
                message = reader.Text(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new Condition { Type = type!, Status = status!, Reason = reason, Message = message };
    }

    private string Text(ref Utf8JsonReader json) => json.TokenType == JsonTokenType.String
        ? _shared.Text(ref json)
        : throw new JsonException("a string was expected (numbers and true/false need quotes here).");

    private IntOrString IntOrText(ref Utf8JsonReader json) => json.TokenType switch
    {
        // 0 is how the API writes "not given": no port has that number.
        JsonTokenType.Number => Number(ref json) is var number and not 0 ? new(number, null) : default,
        JsonTokenType.String => new(null, Text(ref json)),
        _ => throw new JsonException("a number or a string was expected."),
    };

    private ImmutableSortedDictionary<string, string> Dictionary(ref Utf8JsonReader json, Func<string, bool>? isWanted = null)
    {
        Open(ref json);
        var count = 0;
        while (true)
        {
            Advance(ref json);
            if (json.TokenType == JsonTokenType.EndObject)
            {
                return _shared.Dictionary(_entries.AsSpan(0, count));
            }

            var key = _shared.Text(ref json);
            Advance(ref json);
            if (json.TokenType == JsonTokenType.Null)
            {
                continue;
            }

            if (isWanted is not null && !isWanted(key))
            {
                json.Skip();
                continue;
            }

            if (count == _entries.Length)
            {
                System.Array.Resize(ref _entries, count * 2);
            }

            _entries[count++] = new(key, Text(ref json));
        }
    }

    private ImmutableArray<T> Array<T>(ref Utf8JsonReader json, ReadItem<T> read)
        where T : class => ImmutableCollectionsMarshal.AsImmutableArray(Items(ref json, read));

    // For what many objects have alike: elements and lists that were met before are used again.
    private ImmutableArray<T> SharedArray<T>(ref Utf8JsonReader json, ReadItem<T> read)
        where T : class
    {
        var items = Items(ref json, read);
        foreach (ref var item in items.AsSpan())
        {
            item = _shared.Value(item);
        }

        return _shared.Array(items);
    }

    private T[] Items<T>(ref Utf8JsonReader json, ReadItem<T> read)
        where T : class
    {
        OpenList(ref json);
        T[] items = [];
        var count = 0;
        while (NextElement(ref json))
        {
            if (count == items.Length)
            {
                System.Array.Resize(ref items, count == 0 ? 1 : count * 2);
            }

            items[count++] = read(this, ref json);
        }

        return count == items.Length ? items : items[..count];
    }
}
