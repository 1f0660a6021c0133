using System.Globalization;
using System.Text;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>Where in a JSON text something is, found out once it is needed: in an error message.</summary>
public static class JsonPlace
{
    private const int LongestPath = 300;

    /// <summary>The path of members and indexes to a byte of a JSON text: <c>items[3].spec.ports[0].port</c>; empty for the text itself.</summary>
    /// <param name="json">The text, which may be broken behind that byte, and may be several values one after the other.</param>
    /// <param name="offset">The byte, counted from 0.</param>
    public static string Path(ReadOnlySpan<byte> json, long offset)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { AllowMultipleValues = true, MaxDepth = ObjectReader.Options.MaxDepth });
        // For each open object the member that is being read, for each open array the index.
        var open = new List<(string? Member, int Index)>();
        try
        {
            while (reader.Read() && reader.TokenStartIndex <= offset)
            {
                if (reader.TokenType is JsonTokenType.EndObject or JsonTokenType.EndArray)
                {
                    open.RemoveAt(open.Count - 1);
                    continue;
                }

                if (reader.TokenType == JsonTokenType.PropertyName)
                {
                    open[^1] = (Printable(ref reader), 0);
                    continue;
                }

                if (open.Count > 0 && open[^1].Member is null)
                {
                    open[^1] = (null, open[^1].Index + 1);
                }

                // The value at the byte itself is what the path leads to, not a step on it.
                if (reader.TokenStartIndex < offset && reader.TokenType is JsonTokenType.StartObject)
                {
                    open.Add(("", 0));
                }
                else if (reader.TokenStartIndex < offset && reader.TokenType is JsonTokenType.StartArray)
                {
                    open.Add((null, -1));
                }
            }
        }
        catch (JsonException)
        {
            // As far as it can be read.
        }

        var path = new StringBuilder();
        foreach (var (member, index) in open)
        {
            if (member is null)
            {
                path.Append(CultureInfo.InvariantCulture, $"[{Math.Max(index, 0)}]");
            }
            else if (member.Length > 0)
            {
                path.Append(path.Length > 0 ? "." : "").Append(member);
            }
        }

        return path.Length <= LongestPath ? path.ToString() : $"…{path.ToString(path.Length - LongestPath, LongestPath)}";
    }

    /// <summary>The line, counted from 1, that a byte is on.</summary>
    public static int Line(ReadOnlySpan<byte> text, long offset) => 1 + text[..(int)Math.Clamp(offset, 0, text.Length)].Count((byte)'\n');

    private static string Printable(ref Utf8JsonReader reader)
    {
        try
        {
            return reader.GetString()!;
        }
        catch (InvalidOperationException)
        {
            return "?";
        }
    }
}
