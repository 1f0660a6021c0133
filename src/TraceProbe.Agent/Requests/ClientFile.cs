using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// Reads a client's small configuration file. The file may belong to somebody else's container: it may be a link out of its
/// root, a pipe nobody writes to, or endless.
/// </summary>
internal static unsafe class ClientFile
{
    /// <summary>The most bytes that are read.</summary>
    internal const int MaxLength = 256 * 1024;

    /// <summary>Reads the file as text, a byte per character where it is no UTF-8.</summary>
    /// <returns>The text, or null with the reason.</returns>
    internal static string? TryRead(string path, out string? reason)
    {
        using var handle = Open(path);
        if (handle.IsInvalid)
        {
            reason = $"{path} could not be read: {Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError())}";
            return null;
        }

        var buffer = new byte[4096];
        var length = 0;
        try
        {
            // Opened without blocking, a pipe gives its end or EAGAIN at once.
            while (length < MaxLength)
            {
                if (length == buffer.Length)
                {
                    Array.Resize(ref buffer, Math.Min(MaxLength, buffer.Length * 4));
                }

                var read = RandomAccess.Read(handle, buffer.AsSpan(length), length);
                if (read == 0)
                {
                    break;
                }

                length += read;
            }
        }
        catch (Exception e) when (e is IOException or NotSupportedException or UnauthorizedAccessException)
        {
            reason = $"{path} could not be read: {e.Message}";
            return null;
        }

        reason = null;
        return Encoding.UTF8.GetString(buffer, 0, length);
    }

    private static SafeFileHandle Open(string path)
    {
        const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
        const string marker = "/root/";
        var at = path.StartsWith("/proc/", StringComparison.Ordinal) ? path.IndexOf(marker, StringComparison.Ordinal) : -1;
        if (at < 0)
        {
            return open(path, flags);
        }

        // A link such as /etc/resolv.conf -> /run/x would otherwise lead into our own root (openat2(2), Linux 5.6).
        using var root = open(path[..(at + marker.Length - 1)], O_PATH | O_CLOEXEC);
        if (root.IsInvalid)
        {
            return new SafeFileHandle(-1, false);
        }

        var how = new OpenHow { Flags = flags, Resolve = RESOLVE_IN_ROOT };
        return new SafeFileHandle(syscall(SYS_openat2, root, path[(at + marker.Length)..], &how, (nuint)sizeof(OpenHow)), true);
    }
}
