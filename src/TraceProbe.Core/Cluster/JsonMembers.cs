using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Steps through the members of a JSON object that is in the reader's buffer as a whole. A null is passed over as if the member were absent.
/// What is not as expected is a <see cref="JsonException"/>, with the reader on what was there instead (<see cref="JsonPlace"/> tells where that is).
/// </summary>
/// <remarks>For what is read at every start: the serializer needs a tenth of a second before it reads its first object.</remarks>
public static class JsonMembers
{
    /// <summary>Sees that the reader is on an object's opening brace.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static void Open(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an object was expected.");
        }
    }

    /// <summary>Goes to the next member that has a value: its name, with the reader on the value. False at the object's end.</summary>
    /// <exception cref="JsonException">The text ends within the object, or is no JSON.</exception>
    public static bool Next(ref Utf8JsonReader json, out ReadOnlySpan<byte> name)
    {
        while (true)
        {
            Advance(ref json);
            if (json.TokenType == JsonTokenType.EndObject)
            {
                name = default;
                return false;
            }

            name = json.ValueIsEscaped ? Unescaped(ref json) : json.ValueSpan;
            Advance(ref json);
            if (json.TokenType != JsonTokenType.Null)
            {
                return true;
            }
        }
    }

    /// <summary>Goes to the next element of the list that the reader is in, nulls passed over. False at the list's end.</summary>
    /// <exception cref="JsonException">The text ends within the list, or is no JSON.</exception>
    public static bool NextElement(ref Utf8JsonReader json)
    {
        do
        {
            Advance(ref json);
        }
        while (json.TokenType == JsonTokenType.Null);
        return json.TokenType != JsonTokenType.EndArray;
    }

    /// <summary>Goes to the next token.</summary>
    /// <exception cref="JsonException">There is none, or what is there is no JSON.</exception>
    public static void Advance(ref Utf8JsonReader json)
    {
        if (!json.Read())
        {
            throw new JsonException("the text ends within an object.");
        }
    }

    /// <summary>Sees that the reader is on a list's opening bracket.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static void OpenList(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.StartArray)
        {
            throw new JsonException("a list was expected.");
        }
    }

    /// <summary>The string that the reader is on.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static string OwnText(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.String)
        {
            throw new JsonException("a string was expected (numbers and true/false need quotes here).");
        }

        try
        {
            return json.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new JsonException("a string holds what is no text.", e);
        }
    }

    /// <summary>The number that the reader is on, a whole one of 32 bits.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static int Number(ref Utf8JsonReader json) => json.TokenType == JsonTokenType.Number && json.TryGetInt32(out var number)
        ? number
        : throw new JsonException("a whole number was expected.");

    /// <summary>The truth value that the reader is on.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static bool Flag(ref Utf8JsonReader json) => json.TokenType is JsonTokenType.True or JsonTokenType.False
        ? json.TokenType == JsonTokenType.True
        : throw new JsonException("true or false was expected.");

    /// <summary>The time that the reader is on, as RFC 3339 writes it.</summary>
    /// <exception cref="JsonException">It is on something else.</exception>
    public static DateTimeOffset Time(ref Utf8JsonReader json) => json.TokenType == JsonTokenType.String && json.TryGetDateTimeOffset(out var time)
        ? time
        : throw new JsonException("a time such as 2026-01-02T03:04:05Z was expected.");

    private static byte[] Unescaped(ref Utf8JsonReader json)
    {
        var bytes = new byte[json.ValueSpan.Length];
        try
        {
            return bytes[..json.CopyString(bytes)];
        }
        catch (InvalidOperationException e)
        {
            throw new JsonException("a member's name holds what is no text.", e);
        }
    }
}
