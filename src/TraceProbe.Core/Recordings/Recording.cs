using System.Collections.Immutable;
using System.Text.Json.Serialization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Recordings;

/// <summary>How a request came to be followed.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<RecordingMode>))]
public enum RecordingMode
{
    /// <summary>TraceProbe made the request itself.</summary>
    [JsonStringEnumMemberName("trace")]
    Trace,

    /// <summary>A command was run and its connections were followed.</summary>
    [JsonStringEnumMemberName("run")]
    Run,

    /// <summary>Somebody else's connection was waited for.</summary>
    [JsonStringEnumMemberName("observe")]
    Observe,
}

/// <summary>Where events came from.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<EventSource>))]
public enum EventSource
{
    /// <summary>eBPF programs in the kernel: packets, drops, sockets, processes, conntrack.</summary>
    [JsonStringEnumMemberName("ebpf")]
    Ebpf,

    /// <summary>libpcap: packets only.</summary>
    [JsonStringEnumMemberName("libpcap")]
    Libpcap,
}

/// <summary>
/// Everything a verdict follows from, at one place: the three accounts of a request and what it is compared with. A live trace
/// makes one and diagnoses it; a saved one gives the same verdict again, anywhere.
/// </summary>
public sealed record Recording
{
    /// <summary>The version of the saved form that this program writes, and the highest that it reads.</summary>
    public const int CurrentVersion = 1;

    /// <summary>What the recording is of and how it was made.</summary>
    public required RecordingManifest Manifest { get; init; }

    // Here and elsewhere: deserialization sets members that the JSON lacks to their type's default, past the initializer.

    /// <summary>The observed account.</summary>
    public ImmutableArray<NetworkEvent> Events { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What the client itself saw; null when a connection was only observed.</summary>
    public ClientReport? Client { get; init; }

    /// <summary>The desired account; null when there was none.</summary>
    public ClusterSnapshot? Cluster { get; init; }

    /// <summary>The programmed accounts, one per node that could be read.</summary>
    public ImmutableArray<NodeAccount> Nodes { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The baseline that it is compared with; null when none matches.</summary>
    public Baseline? Baseline { get; init; }
}

/// <summary>What a recording is of and how it was made.</summary>
public sealed record RecordingManifest
{
    /// <summary>The version of the saved form.</summary>
    public int Version { get; init; } = Recording.CurrentVersion;

    /// <summary>The program that made it, with its version.</summary>
    public string Tool { get; init => field = value ?? "traceprobe"; } = "traceprobe";

    /// <summary>How it came to be.</summary>
    public required RecordingMode Mode { get; init; }

    /// <summary>What was asked for; null when only a command was run or a connection observed.</summary>
    public RequestTarget? Target { get; init; }

    /// <summary>The client's place, such as <c>pod/default/ubuntu</c> or <c>node/node-1</c>.</summary>
    public required string Client { get; init; }

    /// <summary>The cluster, as the snapshot or lab is called; null when it was not known.</summary>
    public string? Cluster { get; init; }

    /// <summary>A moment as both clocks told it.</summary>
    public required ClockAnchor Clock { get; init; }

    /// <summary>When the request began, in nanoseconds since boot.</summary>
    public long StartNanoseconds { get; init; }

    /// <summary>When observation ended, in nanoseconds since boot.</summary>
    public long EndNanoseconds { get; init; }

    /// <summary>Where events came from.</summary>
    public EventSource Source { get; init; }

    /// <summary>The network namespaces that could turn up, with their names.</summary>
    public ImmutableArray<Place> Places { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>What could not be seen, each with the reason.</summary>
    public ImmutableArray<string> NotSeen { get; init => field = value.IsDefault ? [] : value; } = [];
}

/// <summary>One moment as the boot clock and the wall clock told it; every other time follows from it.</summary>
/// <param name="BootNanoseconds">Nanoseconds since boot (CLOCK_BOOTTIME).</param>
/// <param name="Wall">The wall clock.</param>
public sealed record ClockAnchor(long BootNanoseconds, DateTimeOffset Wall)
{
    /// <summary>The wall time of a boot time.</summary>
    public DateTimeOffset WallAt(long bootNanoseconds) => Wall.AddTicks((bootNanoseconds - BootNanoseconds) / 100);
}
