using System.Runtime.InteropServices;

namespace TraceProbe.Capture.Pcap;

/// <summary>The functions of libpcap that are used here, under their own names (pcap(3PCAP)). 1.10 or later.</summary>
internal static unsafe partial class LibPcap
{
    // Debian's name for it, for reasons older than its ABI; other distributions link it to libpcap.so.1.
    private const string Library = "libpcap.so.0.8";

    public const int PCAP_ERRBUF_SIZE = 256;
    public const int PCAP_TSTAMP_PRECISION_NANO = 1;
    public const uint PCAP_NETMASK_UNKNOWN = 0xffffffff;
    public const int DLT_RAW = 12;
    public const int DLT_LINUX_SLL2 = 276;

    public const int PCAP_ERROR = -1;
    public const int PCAP_ERROR_BREAK = -2;
    public const int PCAP_ERROR_PERM_DENIED = -8;

    [LibraryImport(Library)]
    public static partial byte* pcap_lib_version();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial PcapHandle pcap_create(string source, byte* errbuf);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial PcapHandle pcap_open_offline_with_tstamp_precision(string fname, uint precision, byte* errbuf);

    [LibraryImport(Library)]
    public static partial int pcap_set_snaplen(PcapHandle p, int snaplen);

    [LibraryImport(Library)]
    public static partial int pcap_set_immediate_mode(PcapHandle p, int immediate_mode);

    [LibraryImport(Library)]
    public static partial int pcap_set_timeout(PcapHandle p, int to_ms);

    [LibraryImport(Library)]
    public static partial int pcap_set_buffer_size(PcapHandle p, int buffer_size);

    [LibraryImport(Library)]
    public static partial int pcap_set_tstamp_precision(PcapHandle p, int tstamp_precision);

    [LibraryImport(Library)]
    public static partial int pcap_get_tstamp_precision(PcapHandle p);

    [LibraryImport(Library)]
    public static partial int pcap_activate(PcapHandle p);

    [LibraryImport(Library)]
    public static partial int pcap_datalink(PcapHandle p);

    [LibraryImport(Library)]
    public static partial int pcap_set_datalink(PcapHandle p, int dlt);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int pcap_compile(PcapHandle p, bpf_program* fp, string str, int optimize, uint netmask);

    [LibraryImport(Library)]
    public static partial int pcap_setfilter(PcapHandle p, bpf_program* fp);

    [LibraryImport(Library)]
    public static partial void pcap_freecode(bpf_program* fp);

    [LibraryImport(Library)]
    public static partial PcapHandle pcap_open_dead_with_tstamp_precision(int linktype, int snaplen, uint precision);

    [LibraryImport(Library)]
    public static partial int pcap_offline_filter(bpf_program* fp, pcap_pkthdr* h, byte* pkt);

    [LibraryImport(Library)]
    public static partial int pcap_next_ex(PcapHandle p, out pcap_pkthdr* header, out byte* data);

    [LibraryImport(Library)]
    public static partial int pcap_setnonblock(PcapHandle p, int nonblock, byte* errbuf);

    [LibraryImport(Library)]
    public static partial void pcap_breakloop(PcapHandle p);

    [LibraryImport(Library)]
    public static partial int pcap_stats(PcapHandle p, out pcap_stat ps);

    [LibraryImport(Library)]
    public static partial byte* pcap_geterr(PcapHandle p);

    [LibraryImport(Library)]
    public static partial byte* pcap_statustostr(int error);

    [LibraryImport(Library)]
    public static partial void pcap_close(nint p);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial uint if_nametoindex(string ifname);

    [LibraryImport("libc")]
    public static partial byte* if_indextoname(uint ifindex, byte* ifname);

    public struct bpf_program
    {
        public uint bf_len;
        public void* bf_insns;
    }

    public struct pcap_pkthdr
    {
        public nint tv_sec;
        // Nanoseconds where the handle has that precision.
        public nint tv_usec;
        public uint caplen;
        public uint len;
    }

    public struct pcap_stat
    {
        public uint ps_recv;
        public uint ps_drop;
        public uint ps_ifdrop;
    }
}
