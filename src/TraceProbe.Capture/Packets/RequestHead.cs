using System.Diagnostics;
using System.Text;

namespace TraceProbe.Capture.Packets;

/// <summary>What is told of a plain HTTP request's first bytes beyond its first line.</summary>
public static class RequestHead
{
    /// <summary>The <c>traceparent</c> of a request, by which the application that makes it tells its trace (W3C Trace Context, section 3.2).</summary>
    /// <param name="first">The first bytes of a TCP payload.</param>
    /// <returns>Its value; null where it is no HTTP/1 request, or has no valid one within these bytes.</returns>
    public static string? TraceParentOf(ReadOnlySpan<byte> first)
    {
        var at = first.IndexOf("\r\n"u8);
        if (at < 0 || first[..at].IndexOf(" HTTP/1."u8) < 0 || !char.IsAsciiLetterUpper((char)first[0]))
        {
            return null;
        }

        for (at += 2; first[at..].IndexOf("\r\n"u8) is > 0 and var end; at += end + 2)
        {
            var line = first.Slice(at, end);
            if (line.IndexOf((byte)':') is > 0 and var colon && Ascii.EqualsIgnoreCase(line[..colon], "traceparent"u8))
            {
                var value = Encoding.ASCII.GetString(line[(colon + 1)..].Trim(" \t"u8));
                return ActivityContext.TryParse(value, null, out _) ? value : null;
            }
        }

        return null;
    }
}
