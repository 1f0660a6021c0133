using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Cluster;

/// <summary>
/// A thread for one piece of work inside a network namespace. A thread cannot be trusted again once it entered another namespace,
/// and threads it starts are born there; so each is made for its work, starts none itself, and ends with it.
/// </summary>
internal sealed class NamespaceThread<T>
{
    private readonly Thread _thread;
    private T _result = default!;
    private ExceptionDispatchInfo? _failure;

    /// <summary>Starts the work.</summary>
    /// <param name="path">The namespace's file; null to stay in the current one.</param>
    /// <param name="work">The work.</param>
    public NamespaceThread(string? path, Func<T> work)
    {
        _thread = new Thread(() =>
        {
            try
            {
                if (path is not null)
                {
                    NamespaceEntry.Enter(path);
                }

                _result = work();
            }
#pragma warning disable CA1031 // Whatever it is, it is thrown again where the result is asked for.
            catch (Exception e)
#pragma warning restore CA1031
            {
                _failure = ExceptionDispatchInfo.Capture(e);
            }
        })
        {
            IsBackground = true,
            Name = "node reader",
        };
        _thread.Start();
    }

    /// <summary>Waits for the work, and throws what it threw.</summary>
    public T Result
    {
        get
        {
            _thread.Join();
            _failure?.Throw();
            return _result;
        }
    }
}

/// <summary>Entering a network namespace.</summary>
internal static unsafe class NamespaceEntry
{
    /// <summary>Moves the calling thread into the namespace.</summary>
    /// <exception cref="IOException">It cannot be opened or entered; the message says why.</exception>
    public static void Enter(string path)
    {
        using SafeFileHandle handle = Libc.open(path, Libc.O_RDONLY | Libc.O_CLOEXEC);
        if (handle.IsInvalid)
        {
            throw new IOException($"{path} cannot be opened: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        if (Libc.setns(handle, Libc.CLONE_NEWNET) != 0)
        {
            throw new IOException($"The network namespace {path} cannot be entered ({Marshal.GetLastPInvokeErrorMessage()}); that needs root, or CAP_SYS_ADMIN.");
        }
    }

    /// <summary>The inode number of the namespace behind a link such as <c>/proc/self/ns/net</c>; 0 when it cannot be read.</summary>
    public static uint InodeOf(string link)
    {
        // net:[4026531840]
        Span<byte> target = stackalloc byte[64];
        nint length;
        fixed (byte* buffer = target)
        {
            length = Libc.readlink(link, buffer, (nuint)target.Length);
        }

        return length > 6 && target.StartsWith("net:["u8) && System.Buffers.Text.Utf8Parser.TryParse(target[5..(int)length], out uint inode, out _) ? inode : 0;
    }
}
