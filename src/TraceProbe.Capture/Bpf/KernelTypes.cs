using System.Text;

namespace TraceProbe.Capture.Bpf;

/// <summary>What we want to know from the running kernel's type information. It is read once per process, in a few milliseconds.</summary>
internal sealed class KernelTypes
{
    private const string VmlinuxPath = "/sys/kernel/btf/vmlinux";
    private const string ConntrackPath = "/sys/kernel/btf/nf_conntrack";

    /// <summary>
    /// Where nf_conn.tuplehash stands when no BTF tells: after the reference count, a spinlock of four bytes, the timeout and the
    /// zone. So in every kernel from 4.9 on that is built without lock debugging and without PREEMPT_RT.
    /// </summary>
    private const int UsualTuplehashOffset = 16;

    private static readonly Lazy<KernelTypes?> s_current = new(Read);

    private readonly HashSet<string> _tracepoints = [];
    private readonly Dictionary<uint, string> _dropReasons = [];
    private readonly Dictionary<uint, string> _unnamed = [];

    /// <summary>Of the running kernel; null when it has no BTF, or one we cannot read.</summary>
    public static KernelTypes? Current => s_current.Value;

    /// <summary>The offset in bytes of <c>tuplehash</c> in <c>struct nf_conn</c>.</summary>
    public int TuplehashOffset { get; private set; } = UsualTuplehashOffset;

    /// <summary>Whether that offset was read and not assumed.</summary>
    public bool KnowsConntrack { get; private set; }

    /// <summary>Whether the kernel function <c>bpf_dynptr_from_skb</c> exists.</summary>
    public bool HasSkbDynptr { get; private set; }

    /// <summary>Whether drops have reasons (5.17 and later).</summary>
    public bool HasDropReasons => _dropReasons.Count > 0;

    /// <summary>Whether there is a tracepoint of this name, among those that our programs attach to.</summary>
    public bool HasTracepoint(string name) => _tracepoints.Contains(name);

    /// <summary>
    /// The kernel's name of a drop reason, without its prefix; null for the reason that says nothing. One that the BTF does not
    /// name is given by number, with its subsystem in the upper half (include/net/dropreason.h).
    /// </summary>
    public string? DropReason(uint reason)
    {
        if (_dropReasons.TryGetValue(reason, out var name))
        {
            return name == "NOT_SPECIFIED" ? null : name;
        }

        // Kept, so that a stream of them allocates one string and not one each.
        lock (_unnamed)
        {
            if (!_unnamed.TryGetValue(reason, out name))
            {
                name = reason >> 16 == 0 ? $"REASON_{reason}" : $"SUBSYSTEM_{reason >> 16}_REASON_{reason & 0xffff}";
                _unnamed.Add(reason, name);
            }

            return name;
        }
    }

    /// <summary>The id of the kernel function <c>bpf_fentry_test1</c>, which is there to be attached to; 0 when there is none. Walks all types.</summary>
    public static uint FindFentryTest()
    {
        if (!Btf.TryParse(ReadFile(VmlinuxPath), null, out var vmlinux))
        {
            return 0;
        }

        var id = 0u;
        foreach (var type in vmlinux)
        {
            id++;
            if (type.Kind == BtfKind.Func && type.Name.SequenceEqual("bpf_fentry_test1"u8))
            {
                return id;
            }
        }

        return 0;
    }

    /// <summary>Takes what is wanted out of a kernel's BTF.</summary>
    /// <param name="vmlinux">The kernel's own.</param>
    /// <param name="conntrack">The conntrack module's, where it is one and is loaded.</param>
    internal static KernelTypes From(Btf vmlinux, Func<Btf?> conntrack)
    {
        var types = new KernelTypes { HasSkbDynptr = vmlinux.HasName("\0bpf_dynptr_from_skb\0"u8) };
        Span<byte> name = stackalloc byte[64];
        "\0btf_trace_"u8.CopyTo(name);
        foreach (var probe in BpfLoader.Probes)
        {
            // Every typed tracepoint has a typedef of this name (include/trace/bpf_probe.h).
            var length = "\0btf_trace_"u8.Length;
            length += Encoding.ASCII.GetBytes(probe.Tracepoint, name[length..]);
            name[length++] = 0;
            if (vmlinux.HasName(name[..length]))
            {
                types._tracepoints.Add(probe.Tracepoint);
            }
        }

        // On most distributions conntrack is a module, and its types are in BTF of its own (5.11 and later).
        if (!types.ReadConntrack(vmlinux) && conntrack() is { } module)
        {
            types.ReadConntrack(module);
        }

        types.ReadDropReasons(vmlinux, "\0skb_drop_reason\0"u8, "\0SKB_DROP_REASON_NOT_SPECIFIED\0"u8);
        types.ReadDropReasons(vmlinux, "\0ovs_drop_reason\0"u8, "\0OVS_DROP_LAST_ACTION\0"u8);
        return types;
    }

    private static KernelTypes? Read()
        => File.Exists(VmlinuxPath) && Btf.TryParse(ReadFile(VmlinuxPath), null, out var vmlinux)
            ? From(vmlinux, () => File.Exists(ConntrackPath) && Btf.TryParse(ReadFile(ConntrackPath), vmlinux, out var module) ? module : null)
            : null;

    private static byte[] ReadFile(string path)
    {
        // Not ReadAllBytes, which clears its five megabytes first.
        using var handle = File.OpenHandle(path);
        var bytes = GC.AllocateUninitializedArray<byte>((int)RandomAccess.GetLength(handle));
        var filled = 0;
        while (RandomAccess.Read(handle, bytes.AsSpan(filled), filled) is > 0 and var count)
        {
            filled += count;
        }

        return filled == bytes.Length ? bytes : bytes[..filled];
    }

    private bool ReadConntrack(Btf btf)
    {
        if (!btf.TryFind(BtfKind.Struct, "\0nf_conn\0"u8, "\0tuplehash\0"u8, out var type))
        {
            return false;
        }

        TuplehashOffset = type.OffsetOf("tuplehash"u8);
        KnowsConntrack = true;
        return true;
    }

    private void ReadDropReasons(Btf btf, ReadOnlySpan<byte> name, ReadOnlySpan<byte> containing)
    {
        if (!btf.TryFind(BtfKind.Enum, name, containing, out var type))
        {
            return;
        }

        // enum skb_drop_reason { SKB_DROP_REASON_NO_SOCKET = 3, … }; a subsystem's: enum ovs_drop_reason { OVS_DROP_LAST_ACTION = 0x20001, … }
        const string prefix = "SKB_DROP_REASON_";
        for (var i = 0; i < type.Count; i++)
        {
            var (constant, value) = type.Constant(i);
            if (value is > 0 and < uint.MaxValue && !constant.StartsWith("__", StringComparison.Ordinal))
            {
                _dropReasons.TryAdd((uint)value, constant.StartsWith(prefix, StringComparison.Ordinal) ? constant[prefix.Length..] : constant);
            }
        }
    }
}
