using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster;

/// <summary>
/// Reads what <c>kubectl get … -o json</c> or <c>-o yaml</c> and <c>traceprobe snapshot</c> wrote into a <see cref="ClusterSnapshot"/>, gzipped or
/// not, from as many files as there are; <see cref="ClusterListReader"/> says what may be in them.
/// </summary>
public sealed class SnapshotReader
{
    // What a file may hold, and a packed one unpack to: 50,000 pods as an API server tells them are 400 MB.
    private const int MaxBytes = 512 << 20;

    private readonly ClusterListReader _lists = new((name, text) => Encoding.UTF8.GetString(YamlJson.Convert(name, Encoding.UTF8.GetBytes(text)).Span));

    /// <summary>How many objects of each kind were there that TraceProbe does not use.</summary>
    public IReadOnlyDictionary<string, int> Ignored => _lists.Ignored;

    /// <summary>Reads files into one snapshot.</summary>
    /// <exception cref="FormatException">A file is not what kubectl writes; the message names file, object and place.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static ClusterSnapshot Read(params IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var reader = new SnapshotReader();
        foreach (var path in paths)
        {
            reader.Add(path);
        }

        return reader.ToSnapshot();
    }

    /// <summary>Reads one more file.</summary>
    /// <exception cref="FormatException">The file is not what kubectl writes; the message names file, object and place.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public void Add(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        using var file = path.Length == 0 ? throw new IOException("A file without a name was given.")
            : Directory.Exists(path) ? throw new IOException($"{path} is a folder; give the files in it.")
            : File.OpenRead(path == "-" ? "/dev/stdin" : path);
        Add(path, ReadBounded(path, file));
    }

    /// <summary>Reads the content of one more file.</summary>
    /// <param name="name">What error messages call it. A name such as <c>pods.json</c> also says what an empty list is a list of.</param>
    /// <param name="content">JSON or YAML, or either gzipped.</param>
    /// <exception cref="FormatException">The content is not what kubectl writes; the message names object and place.</exception>
    public void Add(string name, ReadOnlyMemory<byte> content)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (GzipFile.Is(content.Span))
        {
            content = GzipFile.Unpack(name, content, packed => ReadBounded(name, packed));
        }

        // PowerShell writes what it is given as UTF-16.
        if (content.Span is [0xff, 0xfe, ..])
        {
            content = Encoding.UTF8.GetBytes(Encoding.Unicode.GetString(content.Span[2..]));
        }

        var json = content.Span;
        if (json.StartsWith((ReadOnlySpan<byte>)[0xef, 0xbb, 0xbf]))
        {
            json = json[3..];
        }

        var first = json.TrimStart(" \t\r\n"u8);
        if (first.IsEmpty)
        {
            throw new FormatException($"{name} is empty; write it with 'kubectl get … -o json'.");
        }

        if (first[0] is (byte)'{' or (byte)'[')
        {
            _lists.Add(name, json);
        }
        else
        {
            _lists.Add(name, YamlJson.Convert(name, json).Span, hasLines: false);
        }
    }

    /// <summary>The snapshot of everything read so far. A kind of which nothing was read is in <see cref="ClusterSnapshot.Unread"/>.</summary>
    public ClusterSnapshot ToSnapshot() => _lists.ToSnapshot();

    // A pipe is welcome, and does not tell how much will come; an endless device must end somewhere.
    private static ReadOnlyMemory<byte> ReadBounded(string name, Stream stream)
    {
        var content = new MemoryStream(stream.CanSeek && stream.Length is > 0 and <= MaxBytes ? (int)stream.Length : 0);
        var chunk = new byte[128 * 1024];
        int read;
        while ((read = stream.Read(chunk)) > 0)
        {
            if (content.Length + read > MaxBytes)
            {
                throw new FormatException($"{name} holds more than {MaxBytes >> 20} MB.");
            }

            content.Write(chunk, 0, read);
        }

        return content.GetBuffer().AsMemory(0, (int)content.Length);
    }
}
