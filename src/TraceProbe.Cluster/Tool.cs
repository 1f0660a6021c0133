using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Cluster;

/// <summary>
/// Runs a tool from the calling thread and waits for it. The tool inherits that thread's network namespace, which
/// <see cref="System.Diagnostics.Process"/> does not promise (it may start threads of its own there); its output goes to files in
/// memory, so that neither side waits for the other.
/// </summary>
internal static unsafe class Tool
{
    private static readonly string[] Folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

    /// <summary>Where the first of these tools is; null when none of them is installed.</summary>
    public static string? Find(params ReadOnlySpan<string> names)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        foreach (var name in names)
        {
            foreach (var folder in folders.Concat(Folders))
            {
                var path = $"{folder}/{name}";
                if (folder.StartsWith('/') && File.Exists(path))
                {
                    return path;
                }
            }
        }

        return null;
    }

    /// <summary>Runs the tool for <paramref name="timeout"/> at most.</summary>
    /// <exception cref="IOException">It could not be started, was killed, took too long or reported a failure; the message has its own words.</exception>
    public static string Run(string path, TimeSpan timeout, params ReadOnlySpan<string> arguments)
    {
        using var output = Memory();
        using var errors = Memory();
        var actions = stackalloc byte[Libc.FileActionsSize];
        var argv = stackalloc byte*[arguments.Length + 2];
        var envp = stackalloc byte*[3];
        var owned = new List<nint>();
        int pid;
        try
        {
            byte* Text(string text)
            {
                var copy = Marshal.StringToCoTaskMemUTF8(text);
                owned.Add(copy);
                return (byte*)copy;
            }

            argv[0] = Text(path);
            for (var i = 0; i < arguments.Length; i++)
            {
                argv[i + 1] = Text(arguments[i]);
            }

            argv[arguments.Length + 1] = null;
            envp[0] = Text("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
            envp[1] = Text("LC_ALL=C");
            envp[2] = null;
            _ = Libc.posix_spawn_file_actions_init(actions);
            _ = Libc.posix_spawn_file_actions_addopen(actions, 0, Text("/dev/null"), Libc.O_RDONLY, 0);
            _ = Libc.posix_spawn_file_actions_adddup2(actions, (int)output.DangerousGetHandle(), 1);
            _ = Libc.posix_spawn_file_actions_adddup2(actions, (int)errors.DangerousGetHandle(), 2);
            var error = Libc.posix_spawn(out pid, argv[0], actions, null, argv, envp);
            _ = Libc.posix_spawn_file_actions_destroy(actions);
            if (error != 0)
            {
                throw new IOException($"{path} could not be started: {Marshal.GetPInvokeErrorMessage(error)}.");
            }
        }
        finally
        {
            foreach (var copy in owned)
            {
                Marshal.FreeCoTaskMem(copy);
            }
        }

        // No timer: its thread would be born in this thread's namespace.
        var late = !EndsWithin(pid, timeout);
        if (late)
        {
            _ = Libc.kill(pid, Libc.SIGKILL);
        }

        int status;
        while (Libc.waitpid(pid, out status, 0) < 0)
        {
            if (Marshal.GetLastPInvokeError() != Libc.EINTR)
            {
                throw new IOException($"{path} got lost: {Marshal.GetLastPInvokeErrorMessage()}.");
            }
        }

        var text = Read(output);
        if (status == 0)
        {
            return text;
        }

        var complaint = Read(errors).Trim().ReplaceLineEndings(" ");
        var name = Path.GetFileName(path);
        throw new IOException(late ? $"{name} did not end within {timeout.TotalSeconds} s."
            : (status & 0x7f) != 0 ? $"{name} was killed by signal {status & 0x7f}."
            : $"{name} failed with exit code {(status >> 8) & 0xff}{(complaint.Length == 0 ? "" : $": {complaint}")}.");
    }

    // Without pidfds (before Linux 5.3) there is no limit.
    private static bool EndsWithin(int pid, TimeSpan timeout)
    {
        var fd = (int)Libc.syscall(Libc.SYS_pidfd_open, pid, 0);
        if (fd < 0)
        {
            return true;
        }

        using var owned = new SafeFileHandle(fd, true);
        var deadline = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        while (true)
        {
            var wait = new Libc.PollFd { fd = fd, events = Libc.POLLIN };
            var ready = Libc.poll(&wait, 1, (int)Math.Max(0, deadline - Environment.TickCount64));
            if (ready > 0 || ready < 0 && Marshal.GetLastPInvokeError() != Libc.EINTR)
            {
                return true;
            }

            if (ready == 0)
            {
                return false;
            }
        }
    }

    private static SafeFileHandle Memory()
    {
        var handle = Libc.memfd_create("tool", Libc.MFD_CLOEXEC);
        return handle.IsInvalid ? throw new IOException($"No memory file for a tool's output: {Marshal.GetLastPInvokeErrorMessage()}.") : handle;
    }

    private static string Read(SafeFileHandle file)
    {
        var bytes = new byte[RandomAccess.GetLength(file)];
        var read = 0;
        while (read < bytes.Length && RandomAccess.Read(file, bytes.AsSpan(read), read) is > 0 and var count)
        {
            read += count;
        }

        return Encoding.UTF8.GetString(bytes, 0, read);
    }
}
