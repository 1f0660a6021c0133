using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Capture;

public sealed partial class NetworkNamespace
{
    private const int EPERM = 1;
    private const int ENOENT = 2;
    private const int ESRCH = 3;
    private const int EACCES = 13;
    private const int ENOTDIR = 20;

    private const int O_RDONLY = 0;
    private const int O_CLOEXEC = 0x80000;
    private const int AT_EMPTY_PATH = 0x1000;
    private const uint STATX_INO = 0x100;
    private const int StatxSize = 256;
    private const int StatxInodeOffset = 32;
    private const nuint NS_GET_NSTYPE = 0xb703;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(SafeFileHandle fd, int nstype);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(SafeFileHandle fd, nuint request);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int statx(SafeFileHandle dirfd, string path, int flags, uint mask, byte* buffer);

    /// <summary>libc by its addresses: a call through them runs nothing of the runtime's, not even a transition.</summary>
    private static unsafe class SystemCalls
    {
        private static readonly nint Libc = NativeLibrary.Load("libc.so.6", typeof(NetworkNamespace).Assembly, null);
        private static readonly delegate* unmanaged[SuppressGCTransition]<int, int, int> SetNs = (delegate* unmanaged[SuppressGCTransition]<int, int, int>)NativeLibrary.GetExport(Libc, "setns");
        private static readonly delegate* unmanaged[SuppressGCTransition]<int, int, int, int> Socket = (delegate* unmanaged[SuppressGCTransition]<int, int, int, int>)NativeLibrary.GetExport(Libc, "socket");
        private static readonly delegate* unmanaged[SuppressGCTransition]<int*> Errno = (delegate* unmanaged[SuppressGCTransition]<int*>)NativeLibrary.GetExport(Libc, "__errno_location");

        public static int SocketInside(int inside, int home, int family, int type, int protocol, out bool entered)
            => SocketInside(SetNs, Socket, Errno(), inside, home, family, type, protocol, out entered);

        // Compiled once and for all: a method that the runtime means to compile again better would have it count, and start its thread, here.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static int SocketInside(
            delegate* unmanaged[SuppressGCTransition]<int, int, int> setNs,
            delegate* unmanaged[SuppressGCTransition]<int, int, int, int> socket,
            int* errno, int inside, int home, int family, int type, int protocol, out bool entered)
        {
            entered = setNs(inside, CLONE_NEWNET) == 0;
            if (!entered)
            {
                return -*errno;
            }

            var made = socket(family, type, protocol);
            if (made < 0)
            {
                made = -*errno;
            }

            if (setNs(home, CLONE_NEWNET) != 0)
            {
                // Nothing this thread did afterwards could be trusted.
                Environment.FailFast("A thread could not return from the network namespace it made a socket in.");
            }

            return made;
        }
    }
}
