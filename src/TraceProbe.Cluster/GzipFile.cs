using System.IO.Compression;

namespace TraceProbe.Cluster;

/// <summary>
/// Unpacks a gzipped file, and tells one that was cut short: the framework's stream just ends there. gzip files may stand behind one another
/// (RFC 1952, section 2.2), so a small one of ours is put behind what was given; what is whole ends with what is in that.
/// </summary>
internal static class GzipFile
{
    private static ReadOnlySpan<byte> Mark => "\0traceprobe: the end\0"u8;

    /// <summary>Whether a file is gzipped.</summary>
    public static bool Is(ReadOnlySpan<byte> content) => content.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]);

    /// <summary>Unpacks it.</summary>
    /// <param name="name">What error messages call it.</param>
    /// <param name="content">The file.</param>
    /// <param name="read">Reads a stream to its end, or to where it is too long.</param>
    /// <exception cref="FormatException">It is damaged, or ends early.</exception>
    public static ReadOnlyMemory<byte> Unpack(string name, ReadOnlyMemory<byte> content, Func<Stream, ReadOnlyMemory<byte>> read)
    {
        try
        {
            var plain = Read(content, marked: true, read);
            return plain.Span.EndsWith(Mark) ? plain[..^Mark.Length] : throw Cut(name);
        }
        catch (InvalidDataException e)
        {
            // Where it was cut, ours stands in the middle of something. Without it a cut file is no damaged one.
            try
            {
                Read(content, marked: false, read);
            }
            catch (InvalidDataException)
            {
                throw new FormatException($"{name} is a damaged gzip file: {e.Message}", e);
            }

            throw Cut(name);
        }
    }

    private static FormatException Cut(string name) => new($"{name} ends early: it is the beginning of a gzip file only, or something else stands behind it. Write or copy it again.");

    private static ReadOnlyMemory<byte> Read(ReadOnlyMemory<byte> content, bool marked, Func<Stream, ReadOnlyMemory<byte>> read)
    {
        var both = new MemoryStream(content.Length + 64);
        both.Write(content.Span);
        if (marked)
        {
            using var packer = new GZipStream(both, CompressionLevel.Fastest, leaveOpen: true);
            packer.Write(Mark);
        }

        both.Position = 0;
        using var packed = new GZipStream(both, CompressionMode.Decompress);
        return read(packed);
    }
}
