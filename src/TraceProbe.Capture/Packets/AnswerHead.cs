using System.Buffers.Text;
using System.Text;

namespace TraceProbe.Capture.Packets;

/// <summary>
/// What is told of an HTTP answer's first bytes beyond its status line: how long it is, and whether a server of TLS complains that it was asked in plain HTTP.
/// </summary>
public static class AnswerHead
{
    // What Go's servers send back, whole (net/http/server.go, "tlsRecordHeaderLooksLikeHTTP"). That others say so too stands behind more of a head than is captured.
    private static ReadOnlySpan<byte> Complaint => "\r\n\r\nClient sent an HTTP request to an HTTPS server"u8;

    /// <summary>How many bytes an answer has at least, head and body, by its Content-Length; 0 where its first bytes do not say so.</summary>
    /// <param name="first">The first bytes of a TCP payload.</param>
    /// <returns>A lower bound, in bytes.</returns>
    public static long LengthOf(ReadOnlySpan<byte> first)
    {
        // Of 1xx, 204 and 304 there is no body, whatever the head says (RFC 9110 section 8.6); errors are told as such.
        if (!first.StartsWith("HTTP/1."u8) || first.Length < 12 || first[9] != (byte)'2')
        {
            return 0;
        }

        var (position, body) = (0, 0L);
        while (first[position..].IndexOf("\r\n"u8) is >= 0 and var end)
        {
            var line = first.Slice(position, end);
            position += end + 2;
            if (line.IsEmpty)
            {
                return body == 0 ? 0 : position + body;
            }

            if (line.IndexOf((byte)':') is > 0 and var colon && Ascii.EqualsIgnoreCase(line[..colon], "content-length"u8))
            {
                var value = line[(colon + 1)..].Trim((byte)' ');
                body = Utf8Parser.TryParse(value, out long length, out var used) && used == value.Length && length is > 0 and < long.MaxValue / 2 ? length : 0;
            }
        }

        // The head goes on behind what was captured: by an empty line at least.
        return body == 0 ? 0 : position + 2 + body;
    }

    /// <summary>A 400 with nothing in it but the complaint of a server of TLS about plain HTTP; empty when it is something else.</summary>
    /// <param name="first">The first bytes of a TCP payload.</param>
    public static ReadOnlySpan<byte> WithComplaint(ReadOnlySpan<byte> first)
        => first.StartsWith("HTTP/1."u8) && first.IndexOf("\r\n"u8) is > 0 and var line && first[line..].StartsWith(Complaint) && first[9..].StartsWith("400"u8)
            ? first[..(line + Complaint.Length)] : default;
}
