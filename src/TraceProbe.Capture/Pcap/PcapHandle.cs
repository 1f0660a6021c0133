using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Capture.Pcap;

/// <summary>Owns a <c>pcap_t</c>.</summary>
internal sealed unsafe class PcapHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    public PcapHandle()
        : base(ownsHandle: true)
    {
    }

    /// <summary>What the last call that failed says of it.</summary>
    public string Error => Marshal.PtrToStringUTF8((nint)LibPcap.pcap_geterr(this)) is { Length: > 0 } text ? text : "no reason given";

    /// <summary>Nanoseconds in a unit of the fraction that packet headers carry.</summary>
    public long FractionNanoseconds => LibPcap.pcap_get_tstamp_precision(this) == LibPcap.PCAP_TSTAMP_PRECISION_NANO ? 1 : 1000;

    /// <summary>Lets only packets through that the expression matches (pcap-filter(7)).</summary>
    /// <exception cref="FormatException">libpcap does not understand the expression.</exception>
    public void SetFilter(string expression)
    {
        LibPcap.bpf_program program;
        Compile(expression, &program);
        try
        {
            if (LibPcap.pcap_setfilter(this, &program) != 0)
            {
                throw new IOException($"The capture filter '{expression}' could not be set: {Error}.");
            }
        }
        finally
        {
            LibPcap.pcap_freecode(&program);
        }
    }

    /// <summary>Compiles an expression; the caller frees the program.</summary>
    /// <exception cref="FormatException">libpcap does not understand the expression.</exception>
    public void Compile(string expression, LibPcap.bpf_program* program)
    {
        if (LibPcap.pcap_compile(this, program, expression, 1, LibPcap.PCAP_NETMASK_UNKNOWN) != 0)
        {
            throw new FormatException($"The capture filter '{expression}' is not valid: {Error}. See pcap-filter(7).");
        }
    }

    protected override bool ReleaseHandle()
    {
        LibPcap.pcap_close(handle);
        return true;
    }
}
