using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace TraceProbe.Cluster;

/// <summary>
/// YAML to JSON, so that there is one way to read objects. What a plain scalar means follows the JSON schema of YAML 1.2 section 10.3:
/// <c>9376</c> is a number, <c>"9376"</c> a string, <c>yes</c> a string. Documents become JSON values one after the other.
/// </summary>
internal static class YamlJson
{
    private const int MaxDepth = 100;

    public static ReadOnlyMemory<byte> Convert(string file, ReadOnlySpan<byte> yaml)
    {
        var output = new ArrayBufferWriter<byte>(yaml.Length + 1);
        using var writer = new Utf8JsonWriter(output, new JsonWriterOptions { SkipValidation = true, MaxDepth = MaxDepth + 8 });
        try
        {
            var parser = new Parser(new StringReader(Encoding.UTF8.GetString(yaml)));
            // For each open mapping whether a key is due; sequences have none.
            var open = new Stack<bool?>();
            while (parser.MoveNext())
            {
                switch (parser.Current)
                {
                    case DocumentEnd:
                        writer.Flush();
                        output.Write("\n"u8);
                        writer.Reset();
                        break;
                    case MappingStart start:
                        BeforeValue(open, file, start);
                        writer.WriteStartObject();
                        open.Push(true);
                        break;
                    case SequenceStart start:
                        BeforeValue(open, file, start);
                        writer.WriteStartArray();
                        open.Push(null);
                        break;
                    case MappingEnd:
                        open.Pop();
                        writer.WriteEndObject();
                        break;
                    case SequenceEnd:
                        open.Pop();
                        writer.WriteEndArray();
                        break;
                    case Scalar scalar when open.TryPeek(out var keyDue) && keyDue == true:
                        open.Pop();
                        open.Push(false);
                        writer.WritePropertyName(scalar.Value);
                        break;
                    case Scalar scalar:
                        BeforeValue(open, file, scalar);
                        WriteScalar(writer, scalar);
                        break;
                    case AnchorAlias alias:
                        throw new FormatException($"{file}, line {alias.Start.Line}: YAML aliases (*{alias.Value}) are not read; write the value out.");
                }
            }
        }
        catch (YamlException e)
        {
            throw new FormatException($"{file}, line {e.Start.Line}: this is neither JSON nor YAML: {e.Message}", e);
        }

        writer.Flush();
        return output.WrittenMemory;
    }

    private static void BeforeValue(Stack<bool?> open, string file, ParsingEvent at)
    {
        if (open.Count > MaxDepth)
        {
            throw new FormatException($"{file}, line {at.Start.Line}: more than {MaxDepth} levels deep.");
        }

        if (open.TryPop(out var keyDue))
        {
            if (keyDue == true)
            {
                throw new FormatException($"{file}, line {at.Start.Line}: a key must be a plain word.");
            }

            open.Push(keyDue is null ? null : true);
        }
    }

    private static void WriteScalar(Utf8JsonWriter writer, Scalar scalar)
    {
        var text = scalar.Value;
        var tag = scalar.Tag.IsEmpty ? "" : scalar.Tag.Value;
        if (scalar.Style != ScalarStyle.Plain && tag is not ("tag:yaml.org,2002:int" or "tag:yaml.org,2002:float" or "tag:yaml.org,2002:bool") || tag == "tag:yaml.org,2002:str")
        {
            writer.WriteStringValue(text);
        }
        else if (text is "" or "~" or "null" or "Null" or "NULL")
        {
            writer.WriteNullValue();
        }
        else if (text is "true" or "True" or "TRUE")
        {
            writer.WriteBooleanValue(true);
        }
        else if (text is "false" or "False" or "FALSE")
        {
            writer.WriteBooleanValue(false);
        }
        else if (long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole))
        {
            writer.WriteNumberValue(whole);
        }
        else if ((char.IsAsciiDigit(text[0]) || text[0] is '.' or '-' or '+')
            && double.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out var real) && double.IsFinite(real))
        {
            writer.WriteNumberValue(real);
        }
        else
        {
            writer.WriteStringValue(text);
        }
    }
}
