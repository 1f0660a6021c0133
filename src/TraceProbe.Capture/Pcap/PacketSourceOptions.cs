namespace TraceProbe.Capture.Pcap;

/// <summary>What a <see cref="PacketSource"/> or a <see cref="CaptureFile"/> takes in, and how much of it.</summary>
public sealed record PacketSourceOptions
{
    /// <summary>Which packets, in the language of pcap-filter(7), such as <c>host 10.0.0.1 or port 53</c>; null for all.</summary>
    public string? Filter { get; init; }

    /// <summary>The interface to listen on, by name; null for all of the namespace. Not used for files.</summary>
    public string? Interface { get; init; }

    /// <summary>
    /// Bytes taken of each packet. The default holds the longest headers and the 512 bytes of payload that an event keeps at most;
    /// more would only fill the kernel's buffer sooner. Not used for files.
    /// </summary>
    public int SnapLength { get; init; } = 768;

    /// <summary>The size of the kernel's buffer in bytes, for each namespace; packets that find it full are lost and counted. Not used for files.</summary>
    public int BufferSize { get; init; } = 4 << 20;

    /// <summary>Whether to keep the first line of HTTP messages (at most 128 bytes) and the head of TLS records (7 bytes). DNS is always kept.</summary>
    public bool KeepFirstLine { get; init; }
}
