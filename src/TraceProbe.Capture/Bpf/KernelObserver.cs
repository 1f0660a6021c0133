using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Bpf;

/// <summary>
/// Observes connections in the running kernel by the programs in bpf/, for as long as it is not disposed. One thread reads
/// (<see cref="Poll"/>); any thread may add to what is followed, and any thread may dispose it, also while another one reads.
/// </summary>
public sealed unsafe partial class KernelObserver : IDisposable
{
    private const int E2BIG = 7;
    private const int ENOENT = 2;

    private readonly BpfObjectHandle _object;
    private readonly List<BpfLinkHandle> _links = [];
    private readonly RingBuffer _ring;
    private readonly SafeFileHandle _wake;
    private readonly KernelTypes _types;
    private readonly RecordHandler _onRecord;
    private readonly Lock _maps = new();
    private readonly object _reading = new();
    private readonly ulong[] _lostPerCpu;
    private readonly int _ringFd;
    private readonly bool _filtersNamespaces;

    private NetworkEventHandler? _handler;
    private bool _stop;
    private bool _closed;
    private long _lost;
    private long _unreadable;

    private KernelObserver(BpfLoader.Loaded loaded, KernelTypes types, bool filtersNamespaces)
    {
        _object = loaded.Object;
        _types = types;
        _filtersNamespaces = filtersNamespaces;
        Unavailable = loaded.Unavailable;
        _onRecord = OnRecord;
        _lostPerCpu = new ulong[LibBpf.libbpf_num_possible_cpus()];
        _ringFd = MapFd("events");
        _wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (_wake.IsInvalid)
        {
            throw new IOException($"Could not make an eventfd: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        _ring = new RingBuffer(_ringFd, LibBpf.bpf_map__max_entries(BpfLoader.Map(_object, "events")));
    }

    /// <summary>What this kernel does not offer and is therefore not observed, each a sentence; empty on a recent kernel.</summary>
    public IReadOnlyList<string> Unavailable { get; }

    /// <summary>How many events were lost so far because the ring had no room; each also went out in an <see cref="EventKind.ObservationGap"/>.</summary>
    public long Lost => Interlocked.Read(ref _lost);

    /// <summary>How long it took to load the programs and attach them.</summary>
    public TimeSpan OpenTime { get; private set; }

    /// <summary>
    /// Reads the kernel's type information, which <see cref="Open"/> otherwise does first. Call it on another thread while
    /// there is something else to do, where every millisecond counts.
    /// </summary>
    public static void Prepare() => _ = KernelTypes.Current;

    /// <summary>Loads the programs, attaches them and begins to observe.</summary>
    /// <exception cref="ObservationRefusedException">The kernel does not permit it or cannot do it, or libbpf is missing.</exception>
    public static KernelObserver Open(ObservationFilter filter)
    {
        ArgumentNullException.ThrowIfNull(filter);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(filter.RingBytes);
        ArgumentOutOfRangeException.ThrowIfLessThan(filter.MaxFlows, 16);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(filter.MaxTargets);
        ArgumentOutOfRangeException.ThrowIfZero(filter.OneIn);
        var started = Stopwatch.GetTimestamp();
        var types = KernelTypes.Current ?? throw BpfLoader.NoTypes();
        var config = Configure(filter, types);
        var loaded = BpfLoader.Load(filter, config, types);
        KernelObserver observer;
        try
        {
            observer = new KernelObserver(loaded, types, config.filter_netns != 0);
        }
        catch
        {
            loaded.Object.Dispose();
            throw;
        }

        try
        {
            // What to follow comes first, so that nothing is missed between attaching and following.
            foreach (var target in filter.Targets)
            {
                observer.Aim(target, filter.OneIn);
            }

            foreach (var inode in filter.Namespaces)
            {
                observer.Admit(inode);
            }

            if (config.filter_netns != 0 && filter.ClientNamespace != 0)
            {
                observer.Admit(filter.ClientNamespace);
            }

            foreach (var process in filter.Processes)
            {
                observer.Follow(process.Pid, process.Mode);
            }

            BpfLoader.Attach(loaded, observer._links);
        }
        catch
        {
            observer.Dispose();
            throw;
        }

        observer.OpenTime = Stopwatch.GetElapsedTime(started);
        return observer;
    }

    /// <summary>Follows a process (or one thread of it) from now on. Connections that it has already are not followed; datagrams are, whatever socket they go through.</summary>
    /// <param name="pid">Its id as the machine counts.</param>
    /// <param name="mode">How far.</param>
    /// <exception cref="InvalidOperationException">There is no room for more (4096 at once).</exception>
    public void Follow(int pid, FollowMode mode = FollowMode.WithChildren)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pid);
        var key = (uint)pid;
        var value = (uint)((mode.HasFlag(FollowMode.WithChildren) ? TpPidFlags.FollowChildren : 0) | (mode.HasFlag(FollowMode.SocketsOnly) ? TpPidFlags.Quiet : 0));
        Update("pids", &key, &value, "processes");
    }

    /// <summary>Follows new connections to a destination from now on.</summary>
    /// <param name="target">The destination; of a shape (which of its members are given) that one of the filter's targets had.</param>
    /// <param name="oneIn">Of how many of them one is reported in full, the others briefly (<see cref="NetworkEvent.IsBrief"/>); 1 for each. Lots are drawn in the kernel.</param>
    /// <exception cref="InvalidOperationException">There is no room for more (<see cref="ObservationFilter.MaxTargets"/>).</exception>
    public void Aim(ObservationTarget target, uint oneIn = 1)
    {
        var key = KeyOf(target);
        Update("targets", &key, &oneIn, "targets");
    }

    /// <summary>Follows no more new connections to a destination; those there are are followed to their end.</summary>
    /// <param name="target">The destination; one that is not followed is no error.</param>
    public void Release(ObservationTarget target)
    {
        var key = KeyOf(target);
        Delete("targets", &key, "destination");
    }

    /// <summary>Stops following a process; what it has begun is followed to its end.</summary>
    /// <param name="pid">Its id; one that is not followed is no error.</param>
    public void Forget(int pid)
    {
        var key = (uint)pid;
        Delete("pids", &key, $"process {pid}");
    }

    /// <summary>Admits one more network namespace to those that are looked at.</summary>
    /// <param name="inode">Its inode number.</param>
    /// <exception cref="InvalidOperationException">All are looked at, as the filter named none; or there is no room for more (4096).</exception>
    public void Admit(uint inode)
    {
        if (!_filtersNamespaces)
        {
            throw new InvalidOperationException("Every network namespace is looked at already: the filter was opened without naming any.");
        }

        var value = 1u;
        Update("netns", &inode, &value, "network namespaces");
    }

    /// <summary>
    /// Hands over the events that have come, oldest first; waits for some if there are none. Events of one processor are in order;
    /// those of several may be out of order by microseconds, so sort by time what must be sorted. Where events were lost, a gap
    /// follows those that were not.
    /// </summary>
    /// <param name="handler">Takes them, on this thread.</param>
    /// <param name="timeout">How long to wait at most; zero does not wait, <see cref="Timeout.InfiniteTimeSpan"/> waits for ever.</param>
    /// <returns>How many there were; 0 when time ran out or the observer was disposed meanwhile.</returns>
    /// <exception cref="ObjectDisposedException">The observer was disposed before.</exception>
    public int Poll(NetworkEventHandler handler, TimeSpan timeout)
    {
        ArgumentNullException.ThrowIfNull(handler);
        lock (_reading)
        {
            ObjectDisposedException.ThrowIf(_closed || Volatile.Read(ref _stop), this);
            _handler = handler;
            try
            {
                var count = Drain();
                if (count == 0 && timeout != TimeSpan.Zero && Wait(timeout))
                {
                    count = Drain();
                }

                return count;
            }
            finally
            {
                _handler = null;

                // Disposed by the handler itself: the ring was in use until now.
                if (Volatile.Read(ref _stop))
                {
                    Close();
                }
            }
        }
    }

    /// <summary>Detaches and unloads everything. A thread in <see cref="Poll"/> is woken and returns.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _stop, true))
        {
            return;
        }

        // It cannot fail: the counter is far from full (eventfd(2)).
        var one = 1ul;
        _ = write(_wake, &one, sizeof(ulong));

        // From inside the handler: Poll closes when it is done with the ring.
        if (Monitor.IsEntered(_reading))
        {
            return;
        }

        lock (_reading)
        {
            Close();
        }
    }

    private static TpConfig Configure(ObservationFilter filter, KernelTypes types)
    {
        var shapes = 0;
        foreach (var target in filter.Targets)
        {
            shapes |= 1 << (int)Shape(target);
        }

        return new TpConfig
        {
            tuplehash_offset = (uint)types.TuplehashOffset,
            client_netns = filter.ClientNamespace,
            filter_netns = filter.Namespaces.Length > 0 ? (byte)1 : (byte)0,
            follow_targets = filter.Targets.Length > 0 ? (byte)1 : (byte)0,
            target_shapes = (byte)shapes,
            first_line = filter.FirstLines ? (byte)1 : (byte)0,
        };
    }

    private static TpTargetShape Shape(ObservationTarget target)
        => (target.Address is null ? 0 : TpTargetShape.Address)
            | (target.Port == 0 ? 0 : TpTargetShape.Port)
            | (target.Protocol == IpProtocol.None ? 0 : TpTargetShape.Protocol);

    private static TpTarget KeyOf(ObservationTarget target)
    {
        var key = new TpTarget
        {
            port = System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(target.Port),
            protocol = (byte)target.Protocol,
        };
        target.Address?.WriteMapped(key.address);
        return key;
    }

    private void Update(string map, void* key, void* value, string what)
    {
        lock (_maps)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            var result = LibBpf.bpf_map_update_elem(MapFd(map), key, value, 0);
            if (result != 0)
            {
                throw -result == E2BIG
                    ? new InvalidOperationException($"No more {what} can be followed at once.")
                    : new IOException($"Could not tell the kernel which {what} to follow: {Marshal.GetPInvokeErrorMessage(-result)}.");
            }
        }
    }

    private void Delete(string map, void* key, string what)
    {
        lock (_maps)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            var result = LibBpf.bpf_map_delete_elem(MapFd(map), key);
            if (result is not 0 and not -ENOENT)
            {
                throw new IOException($"Could not stop following {what}: {Marshal.GetPInvokeErrorMessage(-result)}.");
            }
        }
    }

    private int MapFd(string map) => LibBpf.bpf_map__fd(BpfLoader.Map(_object, map));

    private int Drain() => _ring.Read(_onRecord, in _stop) + ReportLoss();

    private void OnRecord(ReadOnlySpan<byte> record)
    {
        if (EventReader.TryRead(record, _types, out var e))
        {
            _handler!(in e);
        }
        else
        {
            _unreadable++;
        }
    }

    // The count stands in the kernel, one per processor, and only grows.
    private int ReportLoss()
    {
        if (Volatile.Read(ref _stop))
        {
            return 0;
        }

        var total = _unreadable;
        var zero = 0u;
        fixed (ulong* counts = _lostPerCpu)
        {
            if (LibBpf.bpf_map_lookup_elem(MapFd("lost"), &zero, counts) != 0)
            {
                return 0;
            }
        }

        foreach (var count in _lostPerCpu)
        {
            total += (long)count;
        }

        var missing = total - _lost;
        if (missing <= 0)
        {
            return 0;
        }

        Interlocked.Exchange(ref _lost, total);
        var gap = new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = BootClock.Now, Lost = missing };
        _handler!(in gap);
        return 1;
    }

    // Not epoll: there are two descriptors, and poll needs none of its own.
    private bool Wait(TimeSpan timeout)
    {
        var milliseconds = timeout == Timeout.InfiniteTimeSpan ? -1 : (int)Math.Clamp(Math.Ceiling(timeout.TotalMilliseconds), 0, int.MaxValue);
        var descriptors = stackalloc Pollfd[2];
        descriptors[0] = new Pollfd { fd = _ringFd, events = POLLIN };
        descriptors[1] = new Pollfd { fd = (int)_wake.DangerousGetHandle(), events = POLLIN };
        var ready = poll(descriptors, 2, milliseconds);
        if (ready < 0 && Marshal.GetLastPInvokeError() is not EINTR and var errno)
        {
            throw new IOException($"Could not wait for events: {Marshal.GetPInvokeErrorMessage(errno)}.");
        }

        return ready > 0;
    }

    private void Close()
    {
        lock (_maps)
        {
            if (_closed)
            {
                return;
            }

            _closed = true;
            foreach (var link in _links)
            {
                link.Dispose();
            }

            _ring.Dispose();
            _object.Dispose();
            _wake.Dispose();
        }
    }
}
