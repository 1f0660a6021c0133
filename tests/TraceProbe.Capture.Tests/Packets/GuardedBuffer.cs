using System.Runtime.InteropServices;

namespace TraceProbe.Capture.Tests.Packets;

/// <summary>Memory that ends where a page begins that may not be touched: reading one byte too far ends the process.</summary>
internal sealed unsafe partial class GuardedBuffer : IDisposable
{
    private const int PROT_NONE = 0;
    private const int PROT_READ_WRITE = 3;
    private const int MAP_PRIVATE_ANONYMOUS = 0x22;
    private readonly nuint _size;
    private readonly byte* _start;
    private readonly byte* _end;

    public GuardedBuffer(int size)
    {
        var page = (nuint)Environment.SystemPageSize;
        var usable = ((nuint)size + page - 1) / page * page;
        _size = usable + page;
        _start = (byte*)mmap(null, _size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
        if ((nint)_start == -1)
        {
            throw new InvalidOperationException($"mmap: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        _end = _start + usable;
        if (mprotect(_end, page, PROT_NONE) != 0)
        {
            throw new InvalidOperationException($"mprotect: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>Copies the bytes so that they end right before the page that may not be touched.</summary>
    public ReadOnlySpan<byte> Put(ReadOnlySpan<byte> bytes)
    {
        if ((nuint)bytes.Length > _size - (nuint)Environment.SystemPageSize)
        {
            throw new ArgumentException("Longer than the buffer.", nameof(bytes));
        }

        var span = new Span<byte>(_end - bytes.Length, bytes.Length);
        bytes.CopyTo(span);
        return span;
    }

    public void Dispose() => _ = munmap(_start, _size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial void* mmap(void* addr, nuint length, int prot, int flags, int fd, nint offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mprotect(void* addr, nuint length, int prot);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int munmap(void* addr, nuint length);
}
