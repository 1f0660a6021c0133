using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// Takes a list's objects out of its bytes as these arrive, one object at a time: of a list of 100 MB only the object that is being read is
/// ever in memory as text.
/// </summary>
internal sealed class ListPage<T>(Resource<T> resource, ObjectReader objects, Action<T> add)
{
    private JsonReaderState _state = new(ObjectReader.Options);
    private int _depth;
    private bool _inItems;
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
        while (!Advance(json, out var again))
        {
            if (!await json.FillAsync(again, cancellation).ConfigureAwait(false))
            {
                throw new JsonException("the list ends before its end.");
            }
        }
    }

    // As far as what has arrived goes. True at the list's end; else whether a value that has begun has to be looked at again.
    private bool Advance(JsonStream json, out bool again)
    {
        var reader = new Utf8JsonReader(json.Arrived, isFinalBlock: false, _state);
        var good = reader;
        again = false;
        try
        {
            while (Step(json.Arrived, ref reader, out again))
            {
                good = reader;
                if (_depth == 0)
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

    private bool Step(ReadOnlySpan<byte> arrived, ref Utf8JsonReader reader, out bool again)
    {
        again = false;
        if (!reader.Read())
        {
            return false;
        }

        if (_depth == 0)
        {
            _depth = reader.TokenType == JsonTokenType.StartObject ? 1 : throw new JsonException("a list was expected.");
            return true;
        }

        if (_inItems)
        {
            if (reader.TokenType == JsonTokenType.EndArray)
            {
                _inItems = false;
                return true;
            }

            return Whole(arrived, ref reader, out again, (ref Utf8JsonReader item) => add(resource.Read(objects, ref item)));
        }

        switch (reader.TokenType)
        {
            case JsonTokenType.EndObject:
                _depth = 0;
                return true;
            case JsonTokenType.PropertyName:
                _member = reader.ValueTextEquals("metadata"u8) ? Member.Metadata : reader.ValueTextEquals("items"u8) ? Member.Items : Member.Other;
                return true;
            case JsonTokenType.StartArray when _member == Member.Items:
                _inItems = true;
                return true;
            case JsonTokenType.StartObject when _member == Member.Metadata:
                return Whole(arrived, ref reader, out again, ReadMetadata);
            default:
                return Whole(arrived, ref reader, out again, null);
        }
    }

    private delegate void Reading(ref Utf8JsonReader json);

    // A value that is all there is read, by a reader of its own, which knows that nothing is missing. Of one that is not, nothing has been taken.
    private static bool Whole(ReadOnlySpan<byte> arrived, ref Utf8JsonReader reader, out bool again, Reading? read)
    {
        var start = (int)reader.TokenStartIndex;
        again = !reader.TrySkip();
        if (!again && read is not null)
        {
            var whole = new Utf8JsonReader(arrived[start..(int)reader.BytesConsumed], ObjectReader.Options);
            whole.Read();
            read(ref whole);
        }

        return !again;
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
