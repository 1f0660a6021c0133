namespace TraceProbe.Capture.Pcap;

/// <summary>A capture filter for packets of one link type that do not come from libpcap.</summary>
internal sealed unsafe class OfflineFilter : IDisposable
{
    private LibPcap.bpf_program _program;

    /// <summary>Compiles the expression.</summary>
    /// <exception cref="FormatException">libpcap does not understand it, or not for this link type.</exception>
    public OfflineFilter(string expression, int link)
    {
        using var handle = LibPcap.pcap_open_dead_with_tstamp_precision(link == 101 ? LibPcap.DLT_RAW : link, 1 << 18, LibPcap.PCAP_TSTAMP_PRECISION_NANO);
        fixed (LibPcap.bpf_program* program = &_program)
        {
            handle.Compile(expression, program);
        }
    }

    /// <summary>Whether the packet passes.</summary>
    public bool Matches(ReadOnlySpan<byte> frame, int originalLength)
    {
        var header = new LibPcap.pcap_pkthdr { caplen = (uint)frame.Length, len = (uint)originalLength };
        fixed (LibPcap.bpf_program* program = &_program)
        fixed (byte* bytes = frame)
        {
            return LibPcap.pcap_offline_filter(program, &header, bytes) != 0;
        }
    }

    public void Dispose()
    {
        fixed (LibPcap.bpf_program* program = &_program)
        {
            // Sets the program to nothing, so that a second call does nothing.
            LibPcap.pcap_freecode(program);
        }
    }
}
