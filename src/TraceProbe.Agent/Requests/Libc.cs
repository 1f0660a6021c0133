using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Agent.Requests;

/// <summary>The calls and numbers of the C library that requests need; values as on every Linux architecture .NET runs on.</summary>
internal static unsafe partial class Libc
{
    internal const int AF_INET = 2;
    internal const int AF_INET6 = 10;
    internal const int SOCK_STREAM = 1;
    internal const int SOCK_DGRAM = 2;
    internal const int SOCK_NONBLOCK = 0x800;
    internal const int SOCK_CLOEXEC = 0x80000;
    internal const int SOL_SOCKET = 1;
    internal const int SO_ERROR = 4;
    internal const int MSG_NOSIGNAL = 0x4000;

    internal const short POLLIN = 1;
    internal const short POLLOUT = 4;

    internal const int EPERM = 1;
    internal const int EINTR = 4;
    internal const int EAGAIN = 11;
    internal const int EACCES = 13;
    internal const int EPROTO = 71;
    internal const int ETIMEDOUT = 110;
    internal const int EINPROGRESS = 115;

    internal const int O_RDONLY = 0;
    internal const int O_NONBLOCK = 0x800;
    internal const int O_CLOEXEC = 0x80000;
    internal const int O_PATH = 0x200000;
    internal const ulong RESOLVE_IN_ROOT = 0x10;
    internal const nint SYS_openat2 = 437;

    internal const int CLONE_NEWNS = 0x20000;
    internal const ulong MS_BIND = 0x1000;
    internal const ulong MS_REC = 0x4000;
    internal const ulong MS_PRIVATE = 1 << 18;
    internal const int MNT_DETACH = 2;

    internal const int SIGHUP = 1;
    internal const int SIGTERM = 15;
    internal const int X_OK = 1;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socket(int domain, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int connect(ClientSocket fd, byte* address, uint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockname(ClientSocket fd, byte* address, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockopt(ClientSocket fd, int level, int name, int* value, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint send(ClientSocket fd, byte* buffer, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recv(ClientSocket fd, byte* buffer, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint sendto(ClientSocket fd, byte* buffer, nuint length, int flags, byte* address, uint addressLength);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recvfrom(ClientSocket fd, byte* buffer, nuint length, int flags, byte* address, uint* addressLength);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int poll(PollFd* fds, nuint count, int timeoutMilliseconds);

    [LibraryImport("libc")]
    internal static partial int close(nint fd);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial SafeFileHandle open(string path, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial nint syscall(nint number, SafeFileHandle directory, string path, OpenHow* how, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int unshare(int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int mount(string? source, string target, string? type, ulong flags, string? data);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int umount2(string target, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int access(string path, int mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int chmod(string path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int kill(int pid, int signal);

    /// <summary>struct pollfd.</summary>
    internal struct PollFd
    {
        public int Fd;
        public short Events;
        public short Returned;
    }

    /// <summary>struct open_how, openat2(2).</summary>
    internal struct OpenHow
    {
        public ulong Flags;
        public ulong Mode;
        public ulong Resolve;
    }
}
