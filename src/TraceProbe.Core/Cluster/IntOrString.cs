using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// intstr.IntOrString: a number or a name. <c>9376</c> and <c>"9376"</c> differ: a target port given as a string is looked up as
/// a port <em>name</em> (the Debug Services page names that mistake).
/// </summary>
/// <param name="Number">The number, when it was one.</param>
/// <param name="Text">The string, when it was one.</param>
[JsonConverter(typeof(Json))]
public readonly record struct IntOrString(int? Number, string? Text)
{
    /// <summary>Whether neither is given (an absent target port equals the port).</summary>
    public bool IsEmpty => Number is null && Text is null;

    /// <inheritdoc/>
    public override string ToString() => Text is null ? Number?.ToString(CultureInfo.InvariantCulture) ?? "" : $"\"{Text}\"";

    /// <summary>A numeric value.</summary>
    public static implicit operator IntOrString(int number) => new(number, null);

    /// <summary>A name.</summary>
    public static implicit operator IntOrString(string text) => new(null, text);

    internal sealed class Json : JsonConverter<IntOrString>
    {
        public override IntOrString Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType switch
        {
            // 0 is how the API writes "not given": no port has that number.
            JsonTokenType.Number => reader.GetInt32() is var number and not 0 ? new(number, null) : default,
            JsonTokenType.String => new(null, reader.GetString()),
            _ => throw new JsonException("A number or a string is needed."),
        };

        public override void Write(Utf8JsonWriter writer, IntOrString value, JsonSerializerOptions options)
        {
            if (value.Text is not null)
            {
                writer.WriteStringValue(value.Text);
            }
            else
            {
                writer.WriteNumberValue(value.Number ?? 0);
            }
        }
    }
}
