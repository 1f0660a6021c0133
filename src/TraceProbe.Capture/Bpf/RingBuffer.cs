using System.Runtime.InteropServices;

namespace TraceProbe.Capture.Bpf;

/// <summary>Takes one record; the span is the ring itself, and is gone when this returns.</summary>
internal delegate void RecordHandler(ReadOnlySpan<byte> record);

/// <summary>
/// Reads a BPF ring buffer (kernel/bpf/ringbuf.c) from its mapping, without a call into native code per record.
/// <para>
/// The mapping: one page with the position we have read to, which we write; one page with the position the kernel has written to;
/// then the data, mapped twice in a row so that a record that wraps around is still in one piece. A record is a header of eight
/// bytes, whose first four are the length with two flags, and its bytes, padded to eight.
/// </para>
/// </summary>
internal sealed unsafe partial class RingBuffer : IDisposable
{
    private const uint Busy = 1u << 31;
    private const uint Discarded = 1u << 30;
    private const int HeaderSize = 8;

    private readonly byte* _consumer;
    private readonly byte* _producer;
    private readonly byte* _data;
    private readonly ulong _mask;
    private readonly nuint _mapped;
    private readonly nuint _page;

    /// <summary>Maps a ring buffer.</summary>
    /// <param name="fd">The map's file descriptor.</param>
    /// <param name="size">Its size in bytes (max_entries).</param>
    /// <exception cref="IOException">It could not be mapped.</exception>
    public RingBuffer(int fd, uint size)
    {
        _page = (nuint)Environment.SystemPageSize;
        _mapped = _page + (2 * (nuint)size);
        _mask = size - 1;
        _consumer = (byte*)mmap(0, _page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (_consumer == MAP_FAILED)
        {
            throw new IOException($"Could not map the ring buffer: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        // Read-only for us: the kernel refuses anything else (ringbuf_map_mmap_kern).
        _producer = (byte*)mmap(0, _mapped, PROT_READ, MAP_SHARED, fd, (nint)_page);
        if (_producer == MAP_FAILED)
        {
            var message = Marshal.GetLastPInvokeErrorMessage();
            _ = munmap(_consumer, _page);
            throw new IOException($"Could not map the ring buffer's data: {message}.");
        }

        _data = _producer + _page;
    }

    /// <summary>Lays a reader over memory that a test has prepared.</summary>
    internal RingBuffer(byte* consumer, byte* producer, byte* data, uint size)
    {
        _consumer = consumer;
        _producer = producer;
        _data = data;
        _mask = size - 1;
    }

    /// <summary>Hands over what has been written since, oldest first.</summary>
    /// <param name="handler">Takes the records.</param>
    /// <param name="stop">Asked between records; true ends the reading, and what is left stays for the next time.</param>
    /// <returns>How many records were handed over.</returns>
    public int Read(RecordHandler handler, ref readonly bool stop)
    {
        var count = 0;
        var consumer = Volatile.Read(ref *(ulong*)_consumer);
        while (true)
        {
            // Pairs with smp_store_release(&rb->producer_pos) in __bpf_ringbuf_reserve: headers before it are written.
            var producer = Volatile.Read(ref *(ulong*)_producer);
            if (consumer == producer)
            {
                return count;
            }

            while (consumer < producer)
            {
                if (Volatile.Read(in stop))
                {
                    return count;
                }

                var record = _data + (consumer & _mask);

                // Pairs with the xchg of hdr->len in bpf_ringbuf_commit: once it is no longer busy, its bytes are written.
                var length = Volatile.Read(ref *(uint*)record);
                if ((length & Busy) != 0)
                {
                    return count;
                }

                var size = length & ~(Busy | Discarded);
                try
                {
                    if ((length & Discarded) == 0)
                    {
                        count++;
                        handler(new ReadOnlySpan<byte>(record + HeaderSize, (int)size));
                    }
                }
                finally
                {
                    consumer += (size + HeaderSize + 7) & ~7ul;

                    // Pairs with smp_load_acquire(&rb->consumer_pos) in __bpf_ringbuf_reserve: only now may the record be written over.
                    Volatile.Write(ref *(ulong*)_consumer, consumer);
                }
            }
        }
    }

    /// <summary>Unmaps it. The caller sees to it that nobody is reading.</summary>
    public void Dispose()
    {
        if (_mapped != 0)
        {
            _ = munmap(_consumer, _page);
            _ = munmap(_producer, _mapped);
        }
    }

    private const int PROT_READ = 1;
    private const int PROT_WRITE = 2;
    private const int MAP_SHARED = 1;
    private static readonly void* MAP_FAILED = (void*)-1;

    [LibraryImport("libc", SetLastError = true)]
    private static partial void* mmap(nint addr, nuint length, int prot, int flags, int fd, nint offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int munmap(void* addr, nuint length);
}
