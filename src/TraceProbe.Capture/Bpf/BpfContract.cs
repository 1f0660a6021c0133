using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace TraceProbe.Capture.Bpf;

// The mirror of bpf/events.h. A test holds every size and offset against the compiled object's own BTF.

/// <summary>Sixteen bytes in place: an address, or a name.</summary>
[InlineArray(16)]
internal struct Bytes16
{
    private byte _first;
}

/// <summary><c>struct tp_tuple</c>: ports are in network order.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TpTuple
{
    public Bytes16 source;
    public Bytes16 destination;
    public ushort source_port;
    public ushort destination_port;
    public byte protocol;
    public byte turned;
    private readonly ushort _reserved;
}

/// <summary><c>struct tp_event</c>: one record of the ring; <see cref="captured"/> bytes of payload follow it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TpEvent
{
    public ulong boot_ns;
    public ulong cgroup;
    public ulong socket;
    public uint netns;
    public uint ifindex;
    public byte kind;
    public TpEventFlags flags;
    public byte tcp_flags;
    public byte icmp_type;
    public byte icmp_code;
    public byte old_state;
    public byte new_state;
    private readonly byte _reserved;
    public uint pid;
    public uint child;
    public uint sequence;
    public uint acknowledgment;
    public uint payload_length;
    public uint drop_reason;
    public int error;
    public uint captured;
    public Bytes16 ifname;
    public Bytes16 comm;
    public TpTuple tuple;
    public TpTuple original;
    public TpTuple reply;
    public TpTuple quoted;
}

/// <summary><c>enum tp_event_flags</c>.</summary>
[Flags]
internal enum TpEventFlags : byte
{
    HasConntrack = 1,
    HasQuoted = 2,
    HasDropReason = 4,
    IsBrief = 8,
}

/// <summary><c>enum tp_pid_flags</c>.</summary>
[Flags]
internal enum TpPidFlags : uint
{
    FollowChildren = 1,
    Quiet = 2,
}

/// <summary><c>enum tp_target_shape</c>.</summary>
[Flags]
internal enum TpTargetShape : byte
{
    Address = 1,
    Port = 2,
    Protocol = 4,
}

/// <summary><c>struct tp_target</c>: zero stands for any.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TpTarget
{
    public Bytes16 address;
    public ushort port;
    public byte protocol;
    private readonly byte _reserved;
}

/// <summary><c>struct tp_config</c>: the object's only constant.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TpConfig
{
    public uint tuplehash_offset;
    public uint client_netns;
    public byte filter_netns;
    public byte follow_targets;
    public byte target_shapes;
    public byte first_line;
    private readonly uint _reserved;
}
