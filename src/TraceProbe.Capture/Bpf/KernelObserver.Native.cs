using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Capture.Bpf;

public sealed partial class KernelObserver
{
    private const int EINTR = 4;
    private const int EFD_CLOEXEC = 0x80000;
    private const int EFD_NONBLOCK = 0x800;
    private const short POLLIN = 1;

    [LibraryImport("libc", SetLastError = true)]
    private static partial SafeFileHandle eventfd(uint initval, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static unsafe partial int poll(Pollfd* fds, nuint nfds, int timeout);

    [LibraryImport("libc", SetLastError = true)]
    private static unsafe partial nint write(SafeFileHandle fd, void* buffer, nuint count);

    [StructLayout(LayoutKind.Sequential)]
    private struct Pollfd
    {
        public int fd;
        public short events;
        public short revents;
    }
}
