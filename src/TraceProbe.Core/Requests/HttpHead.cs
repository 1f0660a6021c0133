using System.Buffers.Text;
using System.Text;

namespace TraceProbe.Core.Requests;

/// <summary>The head of an HTTP/1.x answer (RFC 9112), as much of it as a trace needs.</summary>
/// <param name="StatusLine">The status line, at most <see cref="MaxStatusLine"/> characters, control characters replaced by <c>?</c>.</param>
/// <param name="Status">The status code, 100 to 999; 0 where the line holds none.</param>
/// <param name="ContentLength">The body's length in bytes; null where it is not said, or does not count since the body is chunked.</param>
/// <param name="Length">The head's length in bytes, the empty line included.</param>
public readonly record struct HttpHead(string StatusLine, int Status, long? ContentLength, int Length)
{
    /// <summary>The most characters of a status line that are kept.</summary>
    public const int MaxStatusLine = 200;

    /// <summary>
    /// Whether bytes may be the beginning of an HTTP/1.x answer: they are <c>HTTP/</c>, as far as they go.
    /// </summary>
    public static bool CouldBegin(ReadOnlySpan<byte> bytes) => bytes.Length < 5 ? "HTTP/"u8.StartsWith(bytes) : bytes.StartsWith("HTTP/"u8);

    /// <summary>Takes the status line out of the beginning of an answer.</summary>
    /// <returns>False if it does not begin as HTTP does, or the line has not ended.</returns>
    public static bool TryReadStatusLine(ReadOnlySpan<byte> bytes, out string statusLine)
    {
        statusLine = "";
        var end = bytes.IndexOf((byte)'\n');
        if (end < 0 || !bytes.StartsWith("HTTP/"u8))
        {
            return false;
        }

        statusLine = Text(bytes[..end]);
        return true;
    }

    /// <summary>Reads a head.</summary>
    /// <param name="bytes">What has come so far.</param>
    /// <param name="head">The head.</param>
    /// <returns>False if it does not begin as HTTP does, or has not ended.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out HttpHead head)
    {
        head = default;
        if (!TryReadStatusLine(bytes, out var statusLine))
        {
            return false;
        }

        // Lines end with CR LF, or with LF alone from careless servers (RFC 9112 section 2.2).
        long? contentLength = null;
        var chunked = false;
        var position = bytes.IndexOf((byte)'\n') + 1;
        while (true)
        {
            var rest = bytes[position..];
            var end = rest.IndexOf((byte)'\n');
            if (end < 0)
            {
                return false;
            }

            position += end + 1;
            var line = rest[..(end > 0 && rest[end - 1] == '\r' ? end - 1 : end)];
            if (line.IsEmpty)
            {
                break;
            }

            var colon = line.IndexOf((byte)':');
            if (colon < 0)
            {
                continue;
            }

            var value = Trim(line[(colon + 1)..]);
            if (Ascii.EqualsIgnoreCase(line[..colon], "content-length"u8))
            {
                contentLength = Utf8Parser.TryParse(value, out long length, out var used) && used == value.Length && length >= 0 ? length : contentLength;
            }
            else if (Ascii.EqualsIgnoreCase(line[..colon], "transfer-encoding"u8))
            {
                chunked = true;
            }
        }

        // HTTP/1.1 200 OK
        var first = bytes[..bytes.IndexOf((byte)'\n')];
        var space = first.IndexOf((byte)' ');
        var status = space > 0 && Utf8Parser.TryParse(first[(space + 1)..], out ushort code, out var digits) && digits == 3 && code >= 100 ? code : 0;
        head = new HttpHead(statusLine, status, chunked ? null : contentLength, position);
        return true;
    }

    // Blanks and carriage returns at both ends.
    private static ReadOnlySpan<byte> Trim(ReadOnlySpan<byte> line)
    {
        while (!line.IsEmpty && line[0] is (byte)' ' or (byte)'\t' or (byte)'\r')
        {
            line = line[1..];
        }

        while (!line.IsEmpty && line[^1] is (byte)' ' or (byte)'\t' or (byte)'\r')
        {
            line = line[..^1];
        }

        return line;
    }

    private static string Text(ReadOnlySpan<byte> line)
    {
        line = Trim(line);
        line = line.Length > MaxStatusLine ? line[..MaxStatusLine] : line;
        Span<char> characters = stackalloc char[MaxStatusLine];
        for (var i = 0; i < line.Length; i++)
        {
            characters[i] = line[i] is < 0x20 or (>= 0x7f and < 0xa0) ? '?' : (char)line[i];
        }

        return new string(characters[..line.Length]);
    }
}
