using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// Takes a list's objects out of its bytes as these arrive, one object at a time: of a list of 100 MB only the object that is being read is
/// ever in memory as text.
/// </summary>
internal sealed class ListPage<T>(Resource<T> resource, ObjectReader objects, Action<T> add)
{
    // So many bytes are waited for before the items are looked at again: of an object that is cut, what was seen is looked at twice.
    private const int AtOnce = 128 * 1024;

    private JsonReaderState _state = new(ObjectReader.Options);
    private bool _isOpen;
    private bool _isRead;
    private bool _inItems;
    private bool _isFirst;
    private Member _member;

    private enum Member
    {
        Other,
        Metadata,
        Items,
    }

    /// <summary>The version of the cluster that the list is of.</summary>
    public string? ResourceVersion { get; private set; }

    /// <summary>What to ask for the rest with; null when there is none.</summary>
    public string? Continue { get; private set; }

    /// <summary>Reads a whole list.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    /// <exception cref="ApiException">An object is too large, or the rest does not come.</exception>
    public async Task ReadAsync(JsonStream json, CancellationToken cancellation)
    {
        while (!Advance(json))
        {
            if (!await json.FillAsync(AtOnce, cancellation).ConfigureAwait(false))
            {
                throw new JsonException("the list ends before its end.");
            }
        }
    }

    // As far as what has arrived goes. True at the list's end.
    private bool Advance(JsonStream json)
    {
        do
        {
            if (_inItems && !TakeItems(json))
            {
                return false;
            }
        }
        while (TakeMembers(json) && _inItems);
        return _isRead;
    }

    // What is around the items. True when it has come to them, or to the end.
    private bool TakeMembers(JsonStream json)
    {
        var reader = new Utf8JsonReader(json.Arrived, isFinalBlock: false, _state);
        var good = reader;
        try
        {
            while (Step(json.Arrived, ref reader))
            {
                good = reader;
                if (_isRead || _inItems)
                {
                    return true;
                }
            }

            return false;
        }
        finally
        {
            json.Take((int)good.BytesConsumed);
            _state = good.CurrentState;
        }
    }

    private bool Step(ReadOnlySpan<byte> arrived, ref Utf8JsonReader reader)
    {
        if (!reader.Read())
        {
            return false;
        }

        if (!_isOpen)
        {
            _isOpen = reader.TokenType == JsonTokenType.StartObject ? true : throw new JsonException("a list was expected.");
            return true;
        }

        switch (reader.TokenType)
        {
            case JsonTokenType.EndObject:
                _isRead = true;
                return true;
            case JsonTokenType.EndArray:
                return true;
            case JsonTokenType.PropertyName:
                _member = reader.ValueTextEquals("metadata"u8) ? Member.Metadata : reader.ValueTextEquals("items"u8) ? Member.Items : Member.Other;
                return true;
            case JsonTokenType.StartArray when _member == Member.Items:
                (_inItems, _isFirst) = (true, true);
                return true;
            case JsonTokenType.StartObject when _member == Member.Metadata:
                var start = (int)reader.TokenStartIndex;
                if (!reader.TrySkip())
                {
                    return false;
                }

                var whole = new Utf8JsonReader(arrived[start..(int)reader.BytesConsumed], ObjectReader.Options);
                whole.Read();
                ReadMetadata(ref whole);
                return true;
            default:
                return reader.TrySkip();
        }
    }

    // The items are found by their brackets, and each is then read once. True at the end of the last, which is left for the reader of what is around them.
    private bool TakeItems(JsonStream json)
    {
        while (true)
        {
            var text = json.Arrived;
            var at = AfterSpace(text, 0);
            if (at < text.Length && text[at] == (byte)']')
            {
                json.Take(at);
                _inItems = false;
                return true;
            }

            if (!_isFirst && at < text.Length)
            {
                at = text[at] == (byte)',' ? AfterSpace(text, at + 1) : throw new JsonException("a comma was expected between two items.");
            }

            if (at == text.Length)
            {
                return false;
            }

            if (text[at] != (byte)'{')
            {
                throw new JsonException("an object was expected among the items.");
            }

            var length = ObjectText.LengthOf(text[at..], 1, out var unread);
            if (length < 0)
            {
                return false;
            }

            var item = new Utf8JsonReader(ObjectText.Without(text.Slice(at, length), unread), ObjectReader.Options);
            item.Read();
            add(resource.Read(objects, ref item));
            json.Take(at + length);
            _isFirst = false;
        }
    }

    private static int AfterSpace(ReadOnlySpan<byte> text, int at)
    {
        while (at < text.Length && text[at] is (byte)' ' or (byte)'\n' or (byte)'\r' or (byte)'\t')
        {
            at++;
        }

        return at;
    }

    private void ReadMetadata(ref Utf8JsonReader json)
    {
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            var (isVersion, isContinue) = (json.ValueTextEquals("resourceVersion"u8), json.ValueTextEquals("continue"u8));
            json.Read();
            if (json.TokenType == JsonTokenType.String && isVersion)
            {
                ResourceVersion = json.GetString();
            }
            else if (json.TokenType == JsonTokenType.String && isContinue)
            {
                Continue = json.GetString() is { Length: > 0 } more ? more : null;
            }
            else
            {
                json.Skip();
            }
        }
    }
}
