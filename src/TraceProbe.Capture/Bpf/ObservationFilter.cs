using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Bpf;

/// <summary>How far a process is followed.</summary>
[Flags]
public enum FollowMode
{
    /// <summary>The connections of this process, and that it executes a program and ends.</summary>
    Process = 0,

    /// <summary>Also those of every process it forks from now on, and theirs.</summary>
    WithChildren = 1,

    /// <summary>Its connections only, no events of the process itself: for a proxy whose onward connections matter.</summary>
    SocketsOnly = 2,
}

/// <summary>A process to follow.</summary>
/// <param name="Pid">Its id as the machine counts (in the first pid namespace); or a thread's id, for that thread alone.</param>
/// <param name="Mode">How far.</param>
public readonly record struct FollowedProcess(int Pid, FollowMode Mode = FollowMode.WithChildren);

/// <summary>A destination to wait for. What is left out stands for any.</summary>
/// <param name="Address">The address; null for any.</param>
/// <param name="Port">The port; 0 for any.</param>
/// <param name="Protocol">The protocol; <see cref="IpProtocol.None"/> for any.</param>
public readonly record struct ObservationTarget(IpAddress? Address = null, ushort Port = 0, IpProtocol Protocol = IpProtocol.None);

/// <summary>
/// What is asked for. It is decided in the kernel: what is not asked for is never reported. An event is reported when it is of a
/// followed flow, and a flow is followed when a followed process or a target started it, and wherever conntrack says that it is the
/// same one after a translation.
/// </summary>
public sealed record ObservationFilter
{
    /// <summary>Whose connections and datagrams to follow. More can be added while observing.</summary>
    public ImmutableArray<FollowedProcess> Processes { get; init; } = [];

    /// <summary>New connections (a SYN, a datagram) to these are followed, whoever makes them; and with them every DNS query.</summary>
    public ImmutableArray<ObservationTarget> Targets { get; init; } = [];

    /// <summary>Of how many new connections to each of <see cref="Targets"/> one is reported in full, the others briefly (<see cref="Core.Events.NetworkEvent.IsBrief"/>); at least 1.</summary>
    public uint OneIn { get; init; } = 1;

    /// <summary>The network namespace (inode number) in which <see cref="Targets"/> are waited for; 0 for any.</summary>
    public uint ClientNamespace { get; init; }

    /// <summary>
    /// The only network namespaces (inode numbers) to look at; empty for all. With it two sets of namespaces that use the same
    /// addresses are kept apart. More can be added while observing, if there is at least one to begin with.
    /// </summary>
    public ImmutableArray<uint> Namespaces { get; init; } = [];

    /// <summary>Whether to keep the first line of an HTTP message, the first of each direction of a flow.</summary>
    public bool FirstLines { get; init; }

    /// <summary>The ring buffer's size in bytes: rounded up to a power of two, at least a page. 4 MiB, or what $TRACEPROBE_RING_BYTES says.</summary>
    public int RingBytes { get; init; } = UsualRingBytes;

    /// <summary>The ring's size where nothing else is asked for, in bytes: $TRACEPROBE_RING_BYTES, 1 to 2^30, else 4 MiB.</summary>
    public static int UsualRingBytes => int.TryParse(Environment.GetEnvironmentVariable("TRACEPROBE_RING_BYTES"), NumberStyles.None, CultureInfo.InvariantCulture, out var given) && given is > 0 and <= 1 << 30
        ? given : 4 * 1024 * 1024;

    /// <summary>How many targets there may be at once; at least 1.</summary>
    public int MaxTargets { get; init; } = 1024;

    /// <summary>How many tuples can be followed at once; beyond that the least recently seen give way. At least 16.</summary>
    public int MaxFlows { get; init; } = 16384;
}
