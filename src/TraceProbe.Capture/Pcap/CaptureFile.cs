using System.Buffers.Binary;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Packets;
using TraceProbe.Capture.PcapNg;

namespace TraceProbe.Capture.Pcap;

/// <summary>What reading a capture file came to.</summary>
/// <param name="Packets">Packets that became events.</param>
/// <param name="NotRead">Packets that did not: no IP, malformed, or cut before their ports.</param>
/// <param name="Damage">What is wrong with the file from some point on, in words; null if it was read to its end. A capture that was killed often ends within a packet.</param>
public sealed record CaptureFile(long Packets, long NotRead, string? Damage)
{
    private const string NotInstalled = "libpcap is not installed. On Debian and Ubuntu: apt-get install libpcap0.8";

    /// <summary>
    /// Reads a capture file, pcapng or pcap (this by libpcap), and gives its packets as events. Their time counts from the first packet;
    /// a packet whose direction the file does not tell is given as received. Network namespaces are not known.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="options">What to take in.</param>
    /// <param name="handler">Who gets the events.</param>
    /// <param name="cancellation">Stops the reading between two packets.</param>
    /// <exception cref="FileNotFoundException">There is no such file, or libpcap is not installed.</exception>
    /// <exception cref="InvalidDataException">The file is no capture, or its packets have a link type that is not read here.</exception>
    /// <exception cref="FormatException">libpcap does not understand the filter.</exception>
    public static CaptureFile Read(string path, PacketSourceOptions options, NetworkEventHandler handler, CancellationToken cancellation = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(handler);
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"There is no capture file {path}.", path);
        }

        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 64 * 1024, FileOptions.SequentialScan);
        Span<byte> magic = stackalloc byte[4];
        var read = stream.ReadAtLeast(magic, 4, throwOnEndOfStream: false);
        if (read == 4 && BinaryPrimitives.ReadUInt32LittleEndian(magic) == PcapNgReader.SectionHeader)
        {
            stream.Position = 0;
            return ReadPcapNg(stream, path, options, handler, cancellation);
        }

        return ReadPcap(path, options, handler, cancellation);
    }

    private static CaptureFile ReadPcapNg(Stream stream, string path, PacketSourceOptions options, NetworkEventHandler handler, CancellationToken cancellation)
    {
        var reader = new PcapNgReader(stream);
        var filters = new Dictionary<LinkType, OfflineFilter>();
        long packets = 0, notRead = 0;
        long? first = null;
        try
        {
            while (reader.TryRead(out var packet))
            {
                cancellation.ThrowIfCancellationRequested();
                first ??= packet.UnixNanoseconds;
                var link = Known(packet.Link, path);
                if (!string.IsNullOrWhiteSpace(options.Filter))
                {
                    if (!filters.TryGetValue(link, out var filter))
                    {
                        filter = CompileFor(link, options.Filter);
                        filters.Add(link, filter);
                    }

                    if (!filter.Matches(packet.Frame, packet.OriginalLength))
                    {
                        continue;
                    }
                }

                if (!PacketReader.TryRead(packet.Frame, link, packet.OriginalLength, out var view))
                {
                    notRead++;
                    continue;
                }

                packets++;
                view.Direction = packet.Direction == PacketDirection.Unknown ? view.Direction : packet.Direction;
                handler(PacketEvent.From(view, packet.UnixNanoseconds - first.Value, 0, packet.Interface, options.KeepFirstLine));
            }
        }
        finally
        {
            foreach (var filter in filters.Values)
            {
                filter.Dispose();
            }
        }

        return new CaptureFile(packets, notRead, reader.Damage);
    }

    private static unsafe CaptureFile ReadPcap(string path, PacketSourceOptions options, NetworkEventHandler handler, CancellationToken cancellation)
    {
        using var handle = Open(path);
        // libpcap gives what this system's headers call it, which for raw IP is not what the file holds.
        var dlt = LibPcap.pcap_datalink(handle);
        var link = Known(dlt is LibPcap.DLT_RAW or 14 ? LinkType.Raw : (LinkType)dlt, path);
        if (!string.IsNullOrWhiteSpace(options.Filter))
        {
            handle.SetFilter(options.Filter);
        }

        var fraction = handle.FractionNanoseconds;
        long packets = 0, notRead = 0;
        long? first = null;
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            switch (LibPcap.pcap_next_ex(handle, out var header, out var data))
            {
                case 1:
                    var time = (header->tv_sec * 1_000_000_000L) + (header->tv_usec * fraction);
                    first ??= time;
                    if (!PacketReader.TryRead(new ReadOnlySpan<byte>(data, (int)header->caplen), link, (int)Math.Min(header->len, int.MaxValue), out var view))
                    {
                        notRead++;
                        break;
                    }

                    packets++;
                    handler(PacketEvent.From(view, time - first.Value, 0, default, options.KeepFirstLine));
                    break;

                case LibPcap.PCAP_ERROR:
                    return new CaptureFile(packets, notRead, handle.Error);
                default:
                    return new CaptureFile(packets, notRead, null);
            }
        }
    }

    private static unsafe PcapHandle Open(string path)
    {
        var error = stackalloc byte[LibPcap.PCAP_ERRBUF_SIZE];
        PcapHandle handle;
        try
        {
            // A full path: libpcap takes "-" for the standard input.
            handle = LibPcap.pcap_open_offline_with_tstamp_precision(Path.GetFullPath(path), LibPcap.PCAP_TSTAMP_PRECISION_NANO, error);
        }
        catch (DllNotFoundException e)
        {
            throw new FileNotFoundException(NotInstalled, e);
        }

        return handle.IsInvalid
            ? throw new InvalidDataException($"{path} cannot be read as a capture file: {Marshal.PtrToStringUTF8((nint)error)}.")
            : handle;
    }

    private static OfflineFilter CompileFor(LinkType link, string filter)
    {
        try
        {
            return new OfflineFilter(filter, (int)link);
        }
        catch (DllNotFoundException e)
        {
            throw new FileNotFoundException(NotInstalled, e);
        }
    }

    private static LinkType Known(LinkType link, string path) => Enum.IsDefined(link)
        ? link
        : throw new InvalidDataException($"{path} holds packets of link type {(int)link}, which is not read here. Capture on an Ethernet interface or on 'any'.");
}
