using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Lab;

/// <summary>
/// Work inside another network namespace. A namespace belongs to a thread, and what the thread starts or opens there (processes,
/// sockets, files of /proc/sys/net) belongs to that namespace too, so each piece of work gets a thread of its own that never
/// returns to the pool.
/// </summary>
internal static partial class NetNs
{
    private const int CloneNewNet = 0x40000000;

    internal static string PathOf(string name) => $"/run/netns/{name}";

    internal static T Run<T>(string? path, Func<T> work)
    {
        if (path is null)
        {
            return work();
        }

        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                Enter(path);
                result = work();
            }
#pragma warning disable CA1031 // Carried over to the caller's thread, where it is thrown again.
            catch (Exception e)
#pragma warning restore CA1031
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        })
        { IsBackground = true, Name = "netns" };
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }

    internal static void Run(string? path, Action work) => Run(path, () =>
    {
        work();
        return true;
    });

    /// <summary>The inode number of a namespace file, by which events name it; 0 when there is no such file.</summary>
    internal static unsafe uint InodeOf(string path)
    {
        // struct statx has the same layout everywhere, which struct stat has not: stx_ino is its 64 bits at offset 32.
        const int CurrentFolder = -100;
        const uint WantInode = 0x100;
        var buffer = stackalloc ulong[32];
        if (statx(CurrentFolder, path, 0, WantInode, buffer) == 0)
        {
            return (uint)buffer[4];
        }

        // A name left behind by a crash, with nothing mounted on it, has an inode too, but of no process; one that is absent has none.
        return 0;
    }

    private static void Enter(string path)
    {
        using var file = File.OpenHandle(path);
        if (setns(file, CloneNewNet) != 0)
        {
            throw new LabException($"Cannot enter the network namespace {path}: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(SafeFileHandle fd, int nstype);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int statx(int dirfd, string pathname, int flags, uint mask, void* statxbuf);
}
