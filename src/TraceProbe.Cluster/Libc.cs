using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Cluster;

/// <summary>What the C library does for a reader of a node: enter a namespace, run a tool there.</summary>
internal static unsafe partial class Libc
{
    public const int O_RDONLY = 0;
    public const int O_CLOEXEC = 0x80000;
    public const int CLONE_NEWNET = 0x40000000;
    public const uint MFD_CLOEXEC = 1;
    public const int SIGKILL = 9;
    public const int EINTR = 4;

    // glibc's posix_spawn_file_actions_t has 80 bytes, musl's fewer.
    public const int FileActionsSize = 256;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial SafeFileHandle open(string path, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int statx(int dirfd, string path, int flags, uint mask, byte* buffer);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int setns(SafeFileHandle fd, int nstype);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial SafeFileHandle memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint readlink(string path, byte* buffer, nuint size);

    [LibraryImport("libc")]
    public static partial int posix_spawn_file_actions_init(byte* actions);

    [LibraryImport("libc")]
    public static partial int posix_spawn_file_actions_adddup2(byte* actions, int fd, int newFd);

    [LibraryImport("libc")]
    public static partial int posix_spawn_file_actions_addopen(byte* actions, int fd, byte* path, int flags, uint mode);

    [LibraryImport("libc")]
    public static partial int posix_spawn_file_actions_destroy(byte* actions);

    // Returns the error number instead of setting errno.
    [LibraryImport("libc")]
    public static partial int posix_spawn(out int pid, byte* path, byte* actions, byte* attributes, byte** argv, byte** envp);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int waitpid(int pid, out int status, int options);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true)]
    public static partial SafeFileHandle socket(int family, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int connect(SafeFileHandle socket, byte* address, uint length);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int getsockopt(SafeFileHandle socket, int level, int option, void* value, ref uint length);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint send(SafeFileHandle socket, byte* bytes, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint recv(SafeFileHandle socket, byte* bytes, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int setsockopt(SafeFileHandle socket, int level, int option, void* value, uint length);

    // pidfd_open(2) has the same number everywhere, and a wrapper only from glibc 2.36 on.
    public const nint SYS_pidfd_open = 434;

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint syscall(nint number, nint first, nint second);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint syscall(nint number, nint first, nint second, nint third, nint fourth);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int poll(PollFd* fds, nuint count, int milliseconds);

    [StructLayout(LayoutKind.Sequential)]
    public struct PollFd
    {
        public int fd;
        public short events;
        public short revents;
    }

    public const short POLLIN = 1;
    public const short POLLOUT = 4;
    public const int EINPROGRESS = 115;
    public const int EAGAIN = 11;
}
