using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Bpf;

namespace TraceProbe.Capture.Kernel;

/// <summary>
/// Asks this machine what it permits and what it lacks: by reading, and by loading programs that do nothing. Nothing is changed.
/// </summary>
public static unsafe partial class KernelFeatures
{
    private const string LockdownPath = "/sys/kernel/security/lockdown";
    private const string UnprivilegedPath = "/proc/sys/kernel/unprivileged_bpf_disabled";

    // mov r0, 0; exit
    private static ReadOnlySpan<ulong> Nothing => [0x00000000000000b7, 0x0000000000000095];

    /// <summary>Everything there is to say, most needed first. Takes some tens of milliseconds.</summary>
    public static IReadOnlyList<Capability> Probe()
    {
        var found = new List<Capability>();
        var types = KernelTypes.Current;
        var version = Environment.OSVersion.Version;

        found.Add(new("kernel", version >= new Version(5, 8), $"Linux {version}", version >= new Version(5, 8) ? null : "BPF ring buffers need Linux 5.8 or later.", Needed: true));
        found.Add(types is not null
            ? new("type information (BTF)", true, "/sys/kernel/btf/vmlinux", Needed: true)
            : new("type information (BTF)", false, "no readable /sys/kernel/btf/vmlinux", "Use a kernel built with CONFIG_DEBUG_INFO_BTF, and mount /sys.", Needed: true));
        found.Add(LockdownCapability());
        found.AddRange(Privileges());
        found.Add(Unprivileged());

        var library = LibraryVersion();
        found.Add(library is not null
            ? new("libbpf", !library.StartsWith("v0", StringComparison.Ordinal), library, null, Needed: true)
            : new("libbpf", false, $"{LibBpf.Library} is not installed", "apt-get install libbpf1", Needed: true));
        var bpf = library is null ? (Program: NotTried, Ring: NotTried, Fentry: NotTried) : TryBpf(types);
        found.Add(Tried("bpf(2)", bpf.Program, "a program that does nothing was loaded", "Run as root or with CAP_BPF and CAP_PERFMON; a container's seccomp profile must allow bpf(2).", needed: true));
        found.Add(Tried("BPF ring buffer", bpf.Ring, "a ring buffer was made", "Linux 5.8 and CAP_BPF.", needed: true));
        foreach (var probe in BpfLoader.Probes)
        {
            var there = types?.HasTracepoint(probe.Tracepoint) ?? false;
            found.Add(new($"tracepoint {probe.Tracepoint}", there, there ? "in the kernel's type information" : probe.Without.Length > 0 ? $"missing: {probe.Without}" : "missing", null, probe.Needed));
        }

        found.Add(new("drop reasons", types?.HasDropReasons ?? false, types?.HasDropReasons == true ? "named by the kernel's type information" : "the kernel does not say why it drops packets",
            types?.HasDropReasons == true ? null : "Linux 5.17 or later."));
        found.Add(new("payload in fragments", types?.HasSkbDynptr == true && version >= new Version(6, 12),
            types?.HasSkbDynptr == true && version >= new Version(6, 12) ? "bpf_dynptr_from_skb" : "HTTP's first lines and DNS over TCP are not seen", types?.HasSkbDynptr == true && version >= new Version(6, 12) ? null : "Linux 6.12 or later."));
        found.Add(Tried("fentry", bpf.Fentry, "a program was attached to bpf_fentry_test1", "A kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS. Nothing that is observed depends on it."));
        found.Add(Conntrack(types));

        found.Add(SharedLibrary("libpcap", "libpcap.so.0.8", "libpcap0.8"));
        found.Add(Program("iptables-save", "iptables"));
        found.Add(Program("iptables-legacy-save", "iptables"));
        found.Add(Program("nft", "nftables"));
        found.Add(Program("conntrack", "conntrack"));
        found.Add(Program("ip", "iproute2"));
        return found;
    }

    /// <summary>Whether connections can be observed by eBPF here; if not, packets must be captured instead.</summary>
    public static bool CanObserve(IReadOnlyList<Capability> probed) => probed.All(c => c.Available || !c.Needed);

    /// <summary>The lockdown mode (kernel_lockdown(7)): none, integrity or confidentiality; null when the kernel does not tell.</summary>
    public static string? Lockdown()
    {
        if (!File.Exists(LockdownPath))
        {
            return null;
        }

        // none [integrity] confidentiality
        var text = File.ReadAllText(LockdownPath);
        int open = text.IndexOf('[', StringComparison.Ordinal), close = text.IndexOf(']', StringComparison.Ordinal);
        return open >= 0 && close > open ? text[(open + 1)..close] : null;
    }

    private static Capability LockdownCapability() => Lockdown() switch
    {
        null => new("lockdown", true, "not told (no securityfs, or no such LSM)"),
        "confidentiality" => new("lockdown", false, "confidentiality: reading kernel memory is forbidden", "Boot with lockdown=integrity, or without.", Needed: true),
        var mode => new("lockdown", true, mode),
    };

    private static IEnumerable<Capability> Privileges()
    {
        var held = ProcessCapabilities.Current;
        (LinuxCapability Capability, string For, bool Needed)[] wanted =
        [
            (LinuxCapability.CAP_BPF, "to load the observation programs", true),
            (LinuxCapability.CAP_PERFMON, "to let them read kernel memory", true),
            (LinuxCapability.CAP_NET_ADMIN, "to read the packet filter's rules", false),
            (LinuxCapability.CAP_NET_RAW, "to read the rules of iptables-legacy, and to capture packets where eBPF is refused", false),
            (LinuxCapability.CAP_SYS_ADMIN, "to enter a pod's network namespace", false),
            (LinuxCapability.CAP_SYS_PTRACE, "to find a pod's network namespace through another user's process", false),
        ];
        foreach (var (capability, why, needed) in wanted)
        {
            var granted = held.Grants(capability);
            var detail = held.Has(capability) ? $"held, {why}" : granted ? $"granted by CAP_SYS_ADMIN, {why}" : $"not held; needed {why}";
            yield return new(capability.ToString(), granted, detail, granted ? null : $"Run as root, or add {capability.ToString()[4..]} to the container's capabilities.", needed);
        }
    }

    private static Capability Unprivileged()
    {
        // Not a thing we need; a thing to know of a machine.
        var value = File.Exists(UnprivilegedPath) ? File.ReadAllText(UnprivilegedPath).Trim() : null;
        return new("bpf(2) closed to the unprivileged", value is not "0", value switch
        {
            null => "the kernel does not tell",
            "0" => "open to everybody",
            "1" => "closed until the next boot",
            _ => "closed",
        }, value is "0" ? "sysctl kernel.unprivileged_bpf_disabled=2" : null);
    }

    private static string? LibraryVersion()
    {
        try
        {
            return Marshal.PtrToStringUTF8((nint)LibBpf.libbpf_version_string());
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return null;
        }
    }

    private static (int Program, int Ring, int Fentry) TryBpf(KernelTypes? types)
    {
        LibBpfLog.Begin();
        try
        {
            fixed (ulong* nothing = Nothing)
            {
                var program = LibBpf.bpf_prog_load(LibBpf.BPF_PROG_TYPE_SOCKET_FILTER, "tp_probe", "GPL", nothing, 2, null);
                var ring = LibBpf.bpf_map_create(LibBpf.BPF_MAP_TYPE_RINGBUF, "tp_probe", 0, 0, (uint)Environment.SystemPageSize, null);
                var fentry = -ENOENT;
                if (types is not null && KernelTypes.FindFentryTest() is not 0 and var id)
                {
                    var options = new LibBpf.bpf_prog_load_opts
                    {
                        sz = (nuint)sizeof(LibBpf.bpf_prog_load_opts),
                        expected_attach_type = LibBpf.BPF_TRACE_FENTRY,
                        attach_btf_id = id,
                    };
                    fentry = LibBpf.bpf_prog_load(LibBpf.BPF_PROG_TYPE_TRACING, "tp_probe", "GPL", nothing, 2, &options);
                    if (fentry >= 0)
                    {
                        var attached = LibBpf.bpf_raw_tracepoint_open(null, fentry);
                        _ = close(fentry);
                        fentry = Closed(attached);
                    }
                }

                return (Closed(program), Closed(ring), fentry);
            }
        }
        finally
        {
            _ = LibBpfLog.End();
        }
    }

    private static int Closed(int fd)
    {
        if (fd >= 0)
        {
            _ = close(fd);
        }

        return fd;
    }

    private static Capability Tried(string name, int result, string success, string remedy, bool needed = false) => result >= 0
        ? new(name, true, success, null, needed)
        : new(name, false, result switch
        {
            NotTried => "not tried, as libbpf is missing",
            -EPERM => "not permitted",
            _ => Marshal.GetPInvokeErrorMessage(-result),
        }, remedy, needed);

    private static Capability Conntrack(KernelTypes? types)
    {
        const string path = "/proc/sys/net/netfilter/nf_conntrack_max";
        if (!File.Exists(path))
        {
            return new("connection tracking", false, "not loaded: nothing translates addresses here", "modprobe nf_conntrack; kube-proxy does it by itself.");
        }

        var limit = File.ReadAllText(path).Trim();
        return new("connection tracking", true, string.Create(CultureInfo.InvariantCulture,
            $"loaded, at most {limit} connections; nf_conn.tuplehash at {types?.TuplehashOffset ?? 0} ({(types?.KnowsConntrack == true ? "by its type information" : "assumed")})"));
    }

    private static Capability SharedLibrary(string name, string file, string package)
    {
        var there = NativeLibrary.TryLoad(file, out var handle);
        if (there)
        {
            NativeLibrary.Free(handle);
        }

        return new(name, there, there ? file : $"{file} is not installed", there ? null : $"apt-get install {package}");
    }

    private static Capability Program(string name, string package)
    {
        // Administrators' programs may be missing from a user's PATH.
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Concat(["/usr/sbin", "/sbin"]);
        var path = folders.Where(f => f.Length > 0).Select(f => Path.Combine(f, name)).FirstOrDefault(File.Exists);
        return new(name, path is not null, path ?? "not installed", path is null ? $"apt-get install {package}" : null);
    }

    private const int EPERM = 1;
    private const int ENOENT = 2;
    private const int NotTried = int.MinValue;

    [LibraryImport("libc")]
    private static partial int close(int fd);
}
