using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;

namespace TraceProbe.Capture.Pcap;

/// <summary>
/// Watches the packets of network namespaces through libpcap (AF_PACKET): the source where eBPF is not permitted. It sees what
/// stands on the wire, so neither processes, nor drops, nor what address translation remembers; and of what passes the loopback
/// interface only the arrival, since libpcap leaves the other half out.
/// <para>
/// Each namespace has a thread of its own; the handler is called on these, by one at a time. It may dispose the source.
/// Packets that the kernel's buffer could not take are counted, and told as an <see cref="EventKind.ObservationGap"/>.
/// </para>
/// </summary>
public sealed unsafe class PacketSource : IDisposable
{
    // How long a read waits at most; a stop ends it earlier. Losses are looked for whenever it has passed.
    private const int TimeoutMilliseconds = 1000;
    private const int PacketsBetweenLossChecks = 1024;

    private readonly PacketSourceOptions _options;
    private readonly NetworkEventHandler _handler;
    private readonly Lock _delivery = new();
    private readonly Lock _state = new();
    private readonly List<Capture> _captures = [];

    // One for all: measured for each namespace, an answer was seen where it passed before it was seen where it was made.
    private readonly long _bootOffset = MeasureBootOffset();
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Exception? _failure;
    private int _running;
    private volatile bool _stopping;
    private volatile bool _silent;

    /// <summary>Makes a source that watches nothing yet.</summary>
    /// <param name="options">What to take in.</param>
    /// <param name="handler">Who gets the events.</param>
    public PacketSource(PacketSourceOptions options, NetworkEventHandler handler)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(handler);
        _options = options;
        _handler = handler;
    }

    /// <summary>Ends when the source was disposed and its last thread is gone; fails if a capture broke, or the handler threw, which stops the source.</summary>
    public Task Completion => _completion.Task;

    /// <summary>The version of libpcap, such as <c>1.10.3</c>; null if it is not installed.</summary>
    public static string? LibraryVersion
    {
        get
        {
            try
            {
                // libpcap version 1.10.3 (with TPACKET_V3)
                var text = Marshal.PtrToStringUTF8((nint)LibPcap.pcap_lib_version()) ?? "";
                return text.Split(' ') is ["libpcap", "version", var version, ..] ? version : text;
            }
            catch (DllNotFoundException)
            {
                return null;
            }
        }
    }

    /// <summary>Tries whether packets of the current network namespace may be captured.</summary>
    /// <returns>Null if they may; else what is in the way and how to remove it.</returns>
    public static string? FindObstacle()
    {
        try
        {
            using var handle = Open(new PacketSourceOptions());
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FileNotFoundException)
        {
            return e.Message;
        }
    }

    /// <summary>Begins to watch a namespace; from the return on no packet passes unseen, save those counted as lost.</summary>
    /// <param name="place">The namespace; stays the caller's, to be kept open for as long as this source.</param>
    /// <exception cref="FileNotFoundException">libpcap is not installed.</exception>
    /// <exception cref="UnauthorizedAccessException">Capturing, or entering the namespace, is not permitted; the message names the capability.</exception>
    /// <exception cref="FormatException">libpcap does not understand the filter.</exception>
    /// <exception cref="IOException">The interface does not exist, or the capture could not be opened for another reason.</exception>
    /// <exception cref="ObjectDisposedException">The source was disposed, or has failed.</exception>
    public void Add(NetworkNamespace place)
    {
        ArgumentNullException.ThrowIfNull(place);
        ObjectDisposedException.ThrowIf(_stopping, this);

        // The socket belongs to the namespace it was opened in, whatever thread then reads from it.
        var handle = place.Run(() => Open(_options));
        var capture = new Capture(this, place, handle);
        lock (_state)
        {
            if (_stopping)
            {
                handle.Dispose();
                throw new ObjectDisposedException(nameof(PacketSource));
            }

            _captures.Add(capture);
            _running++;
        }

        capture.Start();
    }

    /// <summary>Stops watching one namespace, after giving what was captured until now. Without effect on a namespace that is not watched.</summary>
    /// <exception cref="InvalidOperationException">Called from within the handler, which would wait for itself.</exception>
    public void Remove(NetworkNamespace place)
    {
        ArgumentNullException.ThrowIfNull(place);
        if (_delivery.IsHeldByCurrentThread)
        {
            throw new InvalidOperationException("A namespace cannot be removed from within the handler.");
        }

        Capture? capture;
        lock (_state)
        {
            capture = _captures.Find(c => c.Place == place);
            if (capture is not null)
            {
                _captures.Remove(capture);
                capture.Stop();
            }
        }

        capture?.Join();
    }

    /// <summary>
    /// Stops watching, after giving what was captured until now. Once it returns the handler will not be called again. From within
    /// the handler it stops at once: what was not given yet is lost, and the handler is not called again after it has returned.
    /// </summary>
    public void Dispose()
    {
        var inHandler = _delivery.IsHeldByCurrentThread;
        Stop(null, atOnce: inHandler);
        if (inHandler)
        {
            // Nothing to wait for: this thread is one of those, and the others may be waiting for it.
            return;
        }

        Capture[] captures;
        lock (_state)
        {
            captures = [.. _captures];
        }

        foreach (var capture in captures)
        {
            capture.Join();
        }
    }

    private void Stop(Exception? failure, bool atOnce)
    {
        lock (_state)
        {
            _failure ??= failure;
            _silent |= atOnce;
            _stopping = true;
            foreach (var capture in _captures)
            {
                capture.Stop();
            }

            if (_running == 0)
            {
                Complete();
            }
        }
    }

    private void Complete()
    {
        if (_failure is null)
        {
            _completion.TrySetResult();
        }
        else
        {
            _completion.TrySetException(_failure);
        }
    }

    private void Ended()
    {
        lock (_state)
        {
            if (--_running == 0 && _stopping)
            {
                Complete();
            }
        }
    }

    private bool Deliver(in NetworkEvent e)
    {
        lock (_delivery)
        {
            if (_silent)
            {
                return false;
            }

            _handler(e);
            return !_silent;
        }
    }

    private static PcapHandle Open(PacketSourceOptions options)
    {
        var filter = options.Filter;
        if (options.Interface is { } name)
        {
            // The device "any" with a filter, and not the device itself: only its "cooked" frames tell incoming from outgoing.
            var index = LibPcap.if_nametoindex(name);
            if (index == 0)
            {
                throw new IOException($"There is no interface '{name}' in this network namespace. `ip -brief link` lists what there is.");
            }

            var only = string.Create(CultureInfo.InvariantCulture, $"ifindex {index}");
            filter = string.IsNullOrWhiteSpace(filter) ? only : $"{only} and ({filter})";
        }

        var handle = Create();
        try
        {
            // These can only fail on a handle that is active already.
            _ = LibPcap.pcap_set_snaplen(handle, options.SnapLength);
            _ = LibPcap.pcap_set_buffer_size(handle, options.BufferSize);
            _ = LibPcap.pcap_set_timeout(handle, TimeoutMilliseconds);
            _ = LibPcap.pcap_set_immediate_mode(handle, 1);
            // Where this is refused stamps are in microseconds; the handle tells.
            _ = LibPcap.pcap_set_tstamp_precision(handle, LibPcap.PCAP_TSTAMP_PRECISION_NANO);
            var status = LibPcap.pcap_activate(handle);
            if (status < 0)
            {
                throw status == LibPcap.PCAP_ERROR_PERM_DENIED
                    ? new UnauthorizedAccessException("Not permitted to capture packets: that needs CAP_NET_RAW. Run as root, or add NET_RAW to the container's capabilities.")
                    : new IOException($"Could not open the packet capture: {Marshal.PtrToStringUTF8((nint)LibPcap.pcap_statustostr(status))}: {handle.Error}.");
            }

            if (LibPcap.pcap_set_datalink(handle, LibPcap.DLT_LINUX_SLL2) != 0)
            {
                throw new IOException($"libpcap {LibraryVersion} cannot tell the interface of a packet ({handle.Error}). Install version 1.10 or later.");
            }

            if (!string.IsNullOrWhiteSpace(filter))
            {
                handle.SetFilter(filter);
            }

            return handle;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    private static PcapHandle Create()
    {
        try
        {
            var error = stackalloc byte[LibPcap.PCAP_ERRBUF_SIZE];
            var handle = LibPcap.pcap_create("any", error);
            return handle.IsInvalid ? throw new IOException($"Could not prepare a packet capture: {Marshal.PtrToStringUTF8((nint)error)}.") : handle;
        }
        catch (DllNotFoundException e)
        {
            throw new FileNotFoundException("libpcap is not installed. On Debian and Ubuntu: apt-get install libpcap0.8", e);
        }
    }

    // What has to be added to a wall time to get time since boot, in nanoseconds. The clocks are read one after the other, so
    // of some readings the one that took least is the best.
    private static long MeasureBootOffset()
    {
        long best = 0, least = long.MaxValue;
        for (var i = 0; i < 5; i++)
        {
            var before = BootClock.Now;
            var wall = (DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100;
            var after = BootClock.Now;
            if (after - before < least)
            {
                least = after - before;
                best = before + least / 2 - wall;
            }
        }

        return best;
    }

    /// <summary>The capture of one namespace.</summary>
    private sealed class Capture
    {
        private readonly PacketSource _source;
        private readonly NetworkNamespace _place;
        private readonly PcapHandle _handle;
        private readonly Thread _thread;
        private readonly long _fraction;
        private readonly Dictionary<int, ShortName> _interfaces = [];
        private volatile bool _stopped;
        private long _stoppedAt;
        private uint _lost;

        public Capture(PacketSource source, NetworkNamespace place, PcapHandle handle)
        {
            _source = source;
            _place = place;
            _handle = handle;
            _fraction = handle.FractionNanoseconds;
            _thread = new Thread(Run) { IsBackground = true, Name = string.Create(CultureInfo.InvariantCulture, $"pcap {place.Inode}") };
        }

        public NetworkNamespace Place => _place;

        public void Start() => _thread.Start();

        public void Join()
        {
            Debug.Assert(_thread != Thread.CurrentThread, "A thread does not wait for itself.");
            _thread.Join();
        }

        public void Stop()
        {
            lock (_handle)
            {
                if (!_handle.IsClosed && !_stopped)
                {
                    _stoppedAt = BootClock.Now;
                    _stopped = true;
                    LibPcap.pcap_breakloop(_handle);
                }
            }
        }

        private void Run()
        {
            try
            {
                Loop();
            }
#pragma warning disable CA1031 // Whatever it is, it is what Completion fails with.
            catch (Exception e)
#pragma warning restore CA1031
            {
                _source.Stop(e, atOnce: true);
            }
            finally
            {
                lock (_handle)
                {
                    _handle.Dispose();
                }

                _source.Ended();
            }
        }

        private void Loop()
        {
            var sinceCheck = 0;
            while (true)
            {
                var result = LibPcap.pcap_next_ex(_handle, out var header, out var data);
                if (result == LibPcap.PCAP_ERROR)
                {
                    throw new IOException($"The packet capture in {_place} ended: {_handle.Error}.");
                }

                // 1. What was captured before the stop is still given: the last packets of a connection are the telling ones.
                if (result == 1 && (!Take(header, data, out var time) || (_stopped && time > _stoppedAt)))
                {
                    break;
                }

                // 2. An empty buffer after the stop is the end.
                if (_stopped && result == 0)
                {
                    break;
                }

                // 3. The stop ended the waiting; from here on nothing is waited for.
                if (result == LibPcap.PCAP_ERROR_BREAK)
                {
                    SetNonBlocking();
                }

                if (result == 0 || ++sinceCheck >= PacketsBetweenLossChecks)
                {
                    sinceCheck = 0;
                    TellLosses();
                }
            }

            TellLosses();
        }

        private void SetNonBlocking()
        {
            var error = stackalloc byte[LibPcap.PCAP_ERRBUF_SIZE];
            if (LibPcap.pcap_setnonblock(_handle, 1, error) != 0)
            {
                throw new IOException($"The packet capture in {_place} could not be emptied: {Marshal.PtrToStringUTF8((nint)error)}.");
            }
        }

        private bool Take(LibPcap.pcap_pkthdr* header, byte* data, out long time)
        {
            time = (header->tv_sec * 1_000_000_000L) + (header->tv_usec * _fraction) + _source._bootOffset;
            var frame = new ReadOnlySpan<byte>(data, (int)header->caplen);
            if (!PacketReader.TryRead(frame, LinkType.LinuxSll2, (int)Math.Min(header->len, int.MaxValue), out var view))
            {
                // No IP, or nothing that could belong to a connection.
                return true;
            }

            var e = PacketEvent.From(view, time, _place.Inode, NameOf(view.InterfaceIndex), _source._options.KeepFirstLine);
            return _source.Deliver(e);
        }

        private void TellLosses()
        {
            if (LibPcap.pcap_stats(_handle, out var statistics) != 0)
            {
                throw new IOException($"The statistics of the packet capture in {_place} could not be read: {_handle.Error}.");
            }

            // Both only grow, and may pass zero.
            var lost = statistics.ps_drop + statistics.ps_ifdrop;
            var more = unchecked(lost - _lost);
            _lost = lost;
            if (more > 0)
            {
                _source.Deliver(new NetworkEvent
                {
                    Kind = EventKind.ObservationGap,
                    BootNanoseconds = BootClock.Now,
                    NetNs = _place.Inode,
                    Lost = more,
                });
            }
        }

        // Interfaces come and go; a name is looked up when the first packet of an index comes by.
        private ShortName NameOf(int index)
        {
            if (_interfaces.TryGetValue(index, out var name) || index <= 0)
            {
                return name;
            }

            name = _place.Run(() =>
            {
                var buffer = stackalloc byte[ShortName.Size];
                return LibPcap.if_indextoname((uint)index, buffer) is null ? default : ShortName.From(new ReadOnlySpan<byte>(buffer, ShortName.Size));
            });
            _interfaces.Add(index, name);
            return name;
        }
    }
}
