using System.Runtime.InteropServices;

namespace TraceProbe.Capture.Bpf;

/// <summary>What we use of libbpf 1.x (<c>bpf/libbpf.h</c>, <c>bpf/bpf.h</c>), under its own names.</summary>
internal static unsafe partial class LibBpf
{
    public const string Library = "libbpf.so.1";

    public const int BPF_PROG_TYPE_SOCKET_FILTER = 1;
    public const int BPF_PROG_TYPE_TRACING = 26;
    public const int BPF_TRACE_FENTRY = 24;
    public const int BPF_MAP_TYPE_RINGBUF = 27;

    [LibraryImport(Library)]
    public static partial uint libbpf_major_version();

    [LibraryImport(Library)]
    public static partial byte* libbpf_version_string();

    [LibraryImport(Library)]
    public static partial int libbpf_num_possible_cpus();

    [LibraryImport(Library)]
    public static partial nint libbpf_set_print(delegate* unmanaged[Cdecl]<int, byte*, nint, int> print);

    [LibraryImport(Library, SetLastError = true)]
    public static partial BpfObjectHandle bpf_object__open_mem(byte* obj_buf, nuint obj_buf_sz, bpf_object_open_opts* opts);

    [LibraryImport(Library)]
    public static partial int bpf_object__load(BpfObjectHandle obj);

    [LibraryImport(Library)]
    public static partial void bpf_object__close(nint obj);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint bpf_object__find_map_by_name(BpfObjectHandle obj, string name);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint bpf_object__find_program_by_name(BpfObjectHandle obj, string name);

    [LibraryImport(Library)]
    public static partial int bpf_map__fd(nint map);

    [LibraryImport(Library)]
    public static partial int bpf_map__set_max_entries(nint map, uint max_entries);

    [LibraryImport(Library)]
    public static partial uint bpf_map__max_entries(nint map);

    [LibraryImport(Library)]
    public static partial void* bpf_map__initial_value(nint map, nuint* psize);

    [LibraryImport(Library)]
    public static partial int bpf_program__set_autoload(nint prog, [MarshalAs(UnmanagedType.U1)] bool autoload);

    [LibraryImport(Library, SetLastError = true)]
    public static partial BpfLinkHandle bpf_program__attach(nint prog);

    [LibraryImport(Library)]
    public static partial int bpf_link__destroy(nint link);

    [LibraryImport(Library)]
    public static partial int bpf_map_update_elem(int fd, void* key, void* value, ulong flags);

    [LibraryImport(Library)]
    public static partial int bpf_map_lookup_elem(int fd, void* key, void* value);

    [LibraryImport(Library)]
    public static partial int bpf_map_delete_elem(int fd, void* key);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int bpf_map_create(int map_type, string map_name, uint key_size, uint value_size, uint max_entries, void* opts);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int bpf_prog_load(int prog_type, string prog_name, string license, ulong* insns, nuint insn_cnt, bpf_prog_load_opts* opts);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int bpf_raw_tracepoint_open(string? name, int prog_fd);

    /// <summary>The beginning of <c>struct bpf_object_open_opts</c>; <see cref="sz"/> says how much of it there is.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct bpf_object_open_opts
    {
        public nuint sz;
        public byte* object_name;
    }

    /// <summary>The beginning of <c>struct bpf_prog_load_opts</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct bpf_prog_load_opts
    {
        public nuint sz;
        public int attempts;
        public int expected_attach_type;
        public uint prog_btf_fd;
        public uint prog_flags;
        public uint prog_ifindex;
        public uint kern_version;
        public uint attach_btf_id;
        public uint attach_prog_fd;
    }
}

/// <summary>Owns a <c>struct bpf_object</c>: its programs and maps live as long.</summary>
internal sealed class BpfObjectHandle() : SafeHandle(0, ownsHandle: true)
{
    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        LibBpf.bpf_object__close(handle);
        return true;
    }
}

/// <summary>Owns a <c>struct bpf_link</c>: a program stays attached as long.</summary>
internal sealed class BpfLinkHandle() : SafeHandle(0, ownsHandle: true)
{
    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle() => LibBpf.bpf_link__destroy(handle) == 0;
}
