using System.Numerics;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Kernel;

namespace TraceProbe.Capture.Bpf;

/// <summary>Loads and attaches the object that travels in this assembly, and explains the kernel's refusals.</summary>
internal static unsafe class BpfLoader
{
    private const string Resource = "traceprobe.bpf.o";
    private const int EPERM = 1;
    private const int EACCES = 13;

    /// <summary>The programs: what each is attached to, whether there is anything to observe without it, and what is lost when it is missing.</summary>
    private static readonly Probe[] s_probes =
    [
        new("net_dev_queue", "net_dev_queue", true, ""),
        new("netif_receive_skb", "netif_receive_skb", true, ""),
        new("kfree_skb", "kfree_skb", true, ""),
        new("inet_sock_set_state", "inet_sock_set_state", true, ""),
        new("neigh_event_send_done", "neigh_event_send_done", false, "a first datagram that waits for its neighbour may be missed"),
        new("tcp_send_reset", "tcp_send_reset", false, "resets are seen as packets only"),
        new("tcp_receive_reset", "tcp_receive_reset", false, "which socket a reset reached is not seen"),
        new("tcp_retransmit_skb", "tcp_retransmit_skb", false, "retransmissions are seen as packets only"),
        new("inet_sk_error_report", "inet_sk_error_report", false, "errors reported to sockets are not seen (Linux 5.15)"),
        new("sched_process_fork", "sched_process_fork", false, "child processes are not followed"),
        new("sched_process_exec", "sched_process_exec", false, "programs executed are not seen"),
        new("sched_process_exit", "sched_process_exit", false, "the end of processes is not seen"),
    ];

    /// <summary>What is attached to, most needed first.</summary>
    public static ReadOnlySpan<Probe> Probes => s_probes;

    /// <summary>Loads the object into the kernel; nothing runs before <see cref="Attach"/>.</summary>
    public static Loaded Load(ObservationFilter filter, in TpConfig config, KernelTypes types)
    {
        try
        {
            if (LibBpf.libbpf_major_version() < 1)
            {
                throw NoLibrary(null);
            }
        }
        catch (DllNotFoundException e)
        {
            throw NoLibrary(e);
        }

        if (Environment.OSVersion.Version < new Version(5, 8))
        {
            throw new ObservationRefusedException(
                "The kernel cannot be observed by eBPF",
                $"it is Linux {Environment.OSVersion.Version}, and BPF ring buffers came with 5.8.",
                "Use a newer kernel, or capture packets instead.");
        }

        foreach (var probe in s_probes)
        {
            if (probe.Needed && !types.HasTracepoint(probe.Tracepoint))
            {
                throw new ObservationRefusedException(
                    "The kernel cannot be observed by eBPF",
                    $"its type information has no tracepoint {probe.Tracepoint}.",
                    "A kernel with CONFIG_TRACEPOINTS and CONFIG_BPF_EVENTS is needed; capture packets instead.");
            }
        }

        // Reading through fragments needs a kernel function that tracing programs may call since 6.12; a kernel that has the
        // function and refuses the call is tried again without.
        var paged = types.HasSkbDynptr && Environment.OSVersion.Version >= new Version(6, 12);
        var loaded = TryLoad(filter, config, types, paged, out var errno, out var log);
        if (loaded is null && paged && errno is not (EPERM or 0))
        {
            loaded = TryLoad(filter, config, types, false, out errno, out log);
        }

        return loaded ?? throw Refusal(errno, log);
    }

    /// <summary>Attaches what was loaded.</summary>
    public static void Attach(Loaded loaded, List<BpfLinkHandle> links)
    {
        foreach (var (name, program) in loaded.Programs)
        {
            LibBpfLog.Begin();
            var link = LibBpf.bpf_program__attach(program);
            var errno = Marshal.GetLastPInvokeError();
            var log = LibBpfLog.End();
            if (link.IsInvalid)
            {
                link.Dispose();
                throw Refusal(errno, log.Length > 0 ? log : $"libbpf: prog '{name}': failed to attach");
            }

            links.Add(link);
        }
    }

    /// <summary>Says that the kernel has no type information.</summary>
    public static ObservationRefusedException NoTypes() => new(
        "The kernel cannot be observed by eBPF",
        "it has no type information that can be read (/sys/kernel/btf/vmlinux), which the programs are fitted to it by.",
        "Use a kernel built with CONFIG_DEBUG_INFO_BTF, as all current distributions' are, and mount /sys; or capture packets instead.");

    /// <summary>What is missing when libbpf is.</summary>
    public static ObservationRefusedException NoLibrary(Exception? cause) => new(
        "The kernel cannot be observed by eBPF",
        $"{LibBpf.Library} is not installed.",
        "On Debian and Ubuntu: apt-get install libbpf1.",
        cause);

    private static Loaded? TryLoad(ObservationFilter filter, in TpConfig config, KernelTypes types, bool paged, out int errno, out string log)
    {
        using var stream = (UnmanagedMemoryStream)(typeof(BpfLoader).Assembly.GetManifestResourceStream(Resource)
            ?? throw new InvalidOperationException($"The assembly was built without {Resource}."));
        LibBpfLog.Begin();
        try
        {
            BpfObjectHandle obj;
            fixed (byte* name = "traceprobe\0"u8)
            {
                var options = new LibBpf.bpf_object_open_opts { sz = (nuint)sizeof(LibBpf.bpf_object_open_opts), object_name = name };
                obj = LibBpf.bpf_object__open_mem(stream.PositionPointer, (nuint)stream.Length, &options);
            }

            errno = Marshal.GetLastPInvokeError();
            if (obj.IsInvalid)
            {
                obj.Dispose();
                log = LibBpfLog.End();
                return null;
            }

            var programs = new List<(string, nint)>();
            var unavailable = new List<string>();
            foreach (var probe in s_probes)
            {
                var plain = Program(obj, probe.Program);
                var through = probe.Program is "net_dev_queue" or "netif_receive_skb" ? Program(obj, probe.Program + "_paged") : 0;
                var wanted = paged && through != 0 ? through : plain;
                var there = types.HasTracepoint(probe.Tracepoint);
                _ = LibBpf.bpf_program__set_autoload(plain, there && wanted == plain);
                if (through != 0)
                {
                    _ = LibBpf.bpf_program__set_autoload(through, there && wanted == through);
                }

                if (there)
                {
                    programs.Add((probe.Program, wanted));
                }
                else
                {
                    unavailable.Add($"The kernel has no tracepoint {probe.Tracepoint}: {probe.Without}.");
                }
            }

            if (!paged)
            {
                unavailable.Add("The kernel does not let a tracepoint read through a packet's fragments: HTTP's first lines and DNS over TCP are not seen (Linux 6.12).");
            }

            if (!types.HasDropReasons)
            {
                unavailable.Add("The kernel does not say why it drops a packet (Linux 5.17).");
            }

            // Before load: the sizes of maps, and the one constant.
            _ = LibBpf.bpf_map__set_max_entries(Map(obj, "events"), RingSize(filter.RingBytes));
            _ = LibBpf.bpf_map__set_max_entries(Map(obj, "flows"), (uint)filter.MaxFlows);
            _ = LibBpf.bpf_map__set_max_entries(Map(obj, "targets"), (uint)filter.MaxTargets);
            nuint size;
            var constant = (TpConfig*)LibBpf.bpf_map__initial_value(Map(obj, ".rodata"), &size);
            if (constant is null || size != (nuint)sizeof(TpConfig))
            {
                throw new InvalidOperationException($"{Resource} has {size} bytes of constants where {sizeof(TpConfig)} are expected.");
            }

            *constant = config;
            errno = -LibBpf.bpf_object__load(obj);
            log = LibBpfLog.End();
            if (errno == 0)
            {
                return new Loaded(obj, programs, unavailable);
            }

            obj.Dispose();
            return null;
        }
        finally
        {
            _ = LibBpfLog.End();
        }
    }

    private static nint Program(BpfObjectHandle obj, string name)
        => LibBpf.bpf_object__find_program_by_name(obj, name) is not 0 and var program
            ? program
            : throw new InvalidOperationException($"{Resource} has no program {name}.");

    /// <summary>A map of the object, by its name; <c>.rodata</c> is that of the constants.</summary>
    public static nint Map(BpfObjectHandle obj, string name)
        => LibBpf.bpf_object__find_map_by_name(obj, name) is not 0 and var map
            ? map
            : throw new InvalidOperationException($"{Resource} has no map {name}.");

    private static uint RingSize(int bytes) => BitOperations.RoundUpToPowerOf2((uint)Math.Max(bytes, Environment.SystemPageSize));

    private static ObservationRefusedException Refusal(int errno, string log)
    {
        var reason = Marshal.GetPInvokeErrorMessage(errno);
        if (errno is EPERM)
        {
            var missing = ProcessCapabilities.Current.Missing(ProcessCapabilities.ForObserving);
            var lockdown = KernelFeatures.Lockdown();
            return lockdown == "confidentiality"
                ? new("The kernel refused to load the observation programs",
                    "it is locked down to confidentiality, which forbids reading kernel memory.",
                    "Boot with lockdown=integrity or without it; or capture packets instead.")
                : new("The kernel refused to load the observation programs",
                    missing.Count > 0 ? $"{reason}; this process lacks {string.Join(", ", missing)}." : $"{reason}, although the capabilities are held.",
                    missing.Count > 0
                        ? "Run as root, or add these capabilities to the container's securityContext."
                        : "A seccomp profile or an LSM forbids bpf(2): allow it, or capture packets instead.");
        }

        return new("The kernel refused to load the observation programs",
            $"{reason} (errno {errno}). {Summarise(log)}",
            errno is EACCES or 22 or E2BIG
                ? "This is a fault in TraceProbe or a kernel it has not met: please report it with the kernel's version; meanwhile capture packets instead."
                : "Free memory or raise the limits (ulimit -l on kernels before 5.11), or capture packets instead.");
    }

    private const int E2BIG = 7;

    /// <summary>
    /// Two lines out of a thousand: which program, and the verifier's last word before it gave up.
    /// <code>
    /// libbpf: prog 'kfree_skb': BPF program load failed: Permission denied
    /// libbpf: prog 'kfree_skb': -- BEGIN PROG LOAD LOG --
    /// …
    /// R1 invalid mem access 'scalar'
    /// processed 84 insns (limit 1000000) …
    /// -- END PROG LOAD LOG --
    /// </code>
    /// </summary>
    internal static string Summarise(string log)
    {
        string? first = null, verdict = null, previous = null;
        var inside = false;
        foreach (var line in log.AsSpan().EnumerateLines())
        {
            var text = line.Trim();
            if (text.IsEmpty)
            {
                continue;
            }

            if (text.Contains("BEGIN PROG LOAD LOG", StringComparison.Ordinal))
            {
                inside = true;
            }
            else if (text.StartsWith("processed ", StringComparison.Ordinal) || text.StartsWith("-- END", StringComparison.Ordinal))
            {
                verdict ??= previous;
                inside = false;
            }
            else if (inside)
            {
                previous = text.ToString();
            }
            else if (text.StartsWith("libbpf: ", StringComparison.Ordinal))
            {
                first ??= text["libbpf: ".Length..].ToString();
            }
        }

        return (first, verdict) switch
        {
            (null, null) => "libbpf gave no reason.",
            (_, null) => first + ".",
            _ => $"{first}: {verdict}.",
        };
    }

    /// <summary>An object in the kernel, and its programs that are to be attached.</summary>
    public sealed record Loaded(BpfObjectHandle Object, List<(string Name, nint Program)> Programs, IReadOnlyList<string> Unavailable);

    /// <summary>A program, and the tracepoint it is attached to.</summary>
    /// <param name="Program">The program's name in the object.</param>
    /// <param name="Tracepoint">The tracepoint's name.</param>
    /// <param name="Needed">Whether there is nothing to observe without it.</param>
    /// <param name="Without">What is not seen when it is missing.</param>
    public sealed record Probe(string Program, string Tracepoint, bool Needed, string Without);
}
