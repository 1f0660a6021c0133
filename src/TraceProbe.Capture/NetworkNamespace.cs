using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Capture;

/// <summary>
/// An open network namespace (namespaces(7)). It stays in being for as long as this object is not disposed, even when its name
/// and its last process are gone.
/// </summary>
public sealed partial class NetworkNamespace : IDisposable
{
    private const int CLONE_NEWNET = 0x40000000;
    private readonly SafeFileHandle _handle;

    private NetworkNamespace(SafeFileHandle handle, string path, uint inode)
    {
        _handle = handle;
        Path = path;
        Inode = inode;
    }

    /// <summary>The path it was opened by.</summary>
    public string Path { get; }

    /// <summary>The inode number, as events carry it (<c>ns.inum</c>, 32 bits in the kernel).</summary>
    public uint Inode { get; }

    /// <summary>Opens a namespace by the file that stands for it.</summary>
    /// <param name="path"><c>/run/netns/NAME</c> or <c>/proc/PID/ns/net</c>.</param>
    /// <exception cref="FileNotFoundException">There is no such file, so no such namespace.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be opened; the message names the capability that is missing.</exception>
    /// <exception cref="IOException">The file is no network namespace, or could not be opened for another reason.</exception>
    public static NetworkNamespace Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var handle = open(path, O_RDONLY | O_CLOEXEC);
        if (handle.IsInvalid)
        {
            var errno = Marshal.GetLastPInvokeError();
            handle.Dispose();
            throw errno switch
            {
                ENOENT or ESRCH or ENOTDIR => new FileNotFoundException(
                    $"No such namespace: {path} does not exist. `ip netns list` shows the named ones; a process's own is /proc/PID/ns/net.", path),
                EPERM or EACCES => new UnauthorizedAccessException(
                    $"Not permitted to open the network namespace {path}: that needs CAP_SYS_PTRACE for another user's process. Run as root, or add SYS_PTRACE to the container's capabilities."),
                _ => new IOException($"Could not open the network namespace {path}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})."),
            };
        }

        try
        {
            // An ordinary file answers ENOTTY; any other kind of namespace answers its own flag (ioctl_ns(2), Linux 4.11).
            if (ioctl(handle, NS_GET_NSTYPE) != CLONE_NEWNET)
            {
                throw new IOException($"{path} is not a network namespace. Give a file such as /run/netns/NAME or /proc/PID/ns/net.");
            }

            return new NetworkNamespace(handle, path, InodeOf(handle, path));
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Opens the namespace that the calling thread is in.</summary>
    public static NetworkNamespace OpenCurrent() => Open("/proc/thread-self/ns/net");

    /// <summary>
    /// Runs <paramref name="work"/> inside the namespace, on a thread made for it, and waits for it to end. The thread enters by
    /// setns(2) and is never used for anything else: a thread that has changed its namespace must not go back to the pool.
    /// <para>
    /// A thread starts in the namespace of the thread that created it, so the work must be short and must not start threads, tasks
    /// or timers, nor touch what starts them (asynchronous sockets, <c>HttpClient</c>): a pool thread born here would stay here, and
    /// keep the namespace alive with it. The runtime, too, starts threads of its own from whichever thread comes along; for work
    /// that only needs a socket there is <see cref="OpenSocket"/>, which leaves no room for that.
    /// </para>
    /// </summary>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be entered; the message names the capability that is missing.</exception>
    /// <exception cref="ObjectDisposedException">The namespace was closed.</exception>
    public T Run<T>(Func<T> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                Enter();
                result = work();
            }
#pragma warning disable CA1031 // Whatever it is, it is thrown again on the caller's thread.
            catch (Exception e)
#pragma warning restore CA1031
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        })
        {
            IsBackground = true,
            Name = string.Create(CultureInfo.InvariantCulture, $"netns {Inode}"),
        };
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }

    /// <summary>Runs <paramref name="work"/> inside the namespace; see <see cref="Run{T}(Func{T})"/>.</summary>
    public void Run(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        Run(() =>
        {
            work();
            return true;
        });
    }

    /// <summary>
    /// Makes a socket (socket(2)) that belongs to the namespace and to this process, and may be used by any thread. The calling
    /// thread is inside for the three system calls alone: no code of the runtime runs between them, so none of its threads is born there.
    /// </summary>
    /// <param name="family">The address family, such as 2 for AF_INET.</param>
    /// <param name="type">The type, with SOCK_NONBLOCK and SOCK_CLOEXEC where wanted.</param>
    /// <param name="protocol">The protocol, 0 for the type's own.</param>
    /// <returns>The descriptor, or the negative errno of socket(2).</returns>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be entered; the message names the capability that is missing.</exception>
    /// <exception cref="IOException">The namespace could not be entered for another reason.</exception>
    /// <exception cref="ObjectDisposedException">The namespace was closed.</exception>
    public int OpenSocket(int family, int type, int protocol)
    {
        using var home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home.IsInvalid)
        {
            throw new IOException($"Could not open this thread's own network namespace: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        var held = false;
        try
        {
            _handle.DangerousAddRef(ref held);
            var made = SystemCalls.SocketInside((int)_handle.DangerousGetHandle(), (int)home.DangerousGetHandle(), family, type, protocol, out var entered);
            return entered ? made : throw NotEntered(-made);
        }
        finally
        {
            if (held)
            {
                _handle.DangerousRelease();
            }
        }
    }

    /// <summary>Closes the namespace.</summary>
    public void Dispose() => _handle.Dispose();

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Path} (net:[{Inode}])");

    private void Enter()
    {
        if (setns(_handle, CLONE_NEWNET) != 0)
        {
            throw NotEntered(Marshal.GetLastPInvokeError());
        }
    }

    private Exception NotEntered(int errno)
        => errno == EPERM
            ? new UnauthorizedAccessException(
                $"Not permitted to enter the network namespace {Path}: that needs CAP_SYS_ADMIN. Run as root, or add SYS_ADMIN to the container's capabilities.")
            : new IOException($"Could not enter the network namespace {Path}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno}).");

    private static unsafe uint InodeOf(SafeFileHandle handle, string path)
    {
        // statx and not fstat: its layout is the same on every architecture (include/uapi/linux/stat.h).
        var buffer = stackalloc byte[StatxSize];
        if (statx(handle, "", AT_EMPTY_PATH, STATX_INO, buffer) != 0)
        {
            throw new IOException($"Could not read the inode number of {path}: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        return (uint)*(ulong*)(buffer + StatxInodeOffset);
    }
}
