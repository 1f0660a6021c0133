using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// Runs the user's own command as the client: in the client's network namespace, with the client's resolv.conf and hosts file over
/// those of this machine, so that the program people complain about is itself the witness.
/// <para>
/// The command comes from this machine's files, not from the client's image, and sees them all but these: <c>/etc/resolv.conf</c>
/// and <c>/etc/hosts</c> are the client's; <c>/etc/nsswitch.conf</c> asks files and DNS only, and the sockets of nscd and
/// systemd-resolved lead nowhere, since those daemons would resolve in their own namespace.
/// </para>
/// </summary>
public static class CommandRunner
{
    /// <summary>The exit code when the command was found and could not be run, as in shells.</summary>
    public const int NotExecutable = 126;

    /// <summary>The exit code when there is no such command, as in shells.</summary>
    public const int NotFound = 127;

    private const uint Rw_R__R__ = 0x1a4;
    private const int CancellationMilliseconds = 100;
    private const int TerminationMilliseconds = 2_000;

    /// <summary>Why a program cannot be run, in words; null when it can.</summary>
    /// <param name="program">A path, or a name to look up in PATH.</param>
    public static string? WhyNot(string program)
    {
        ArgumentNullException.ThrowIfNull(program);
        return Find(program, out var problem) is not null ? null : problem == NotFound ? $"{program}: command not found" : $"{program}: not executable";
    }

    /// <summary>
    /// Runs the command with this process's input, output and error, and waits for it. While it runs, Ctrl-C and Ctrl-\ are its
    /// business alone: the terminal sends them to it as well, and its end is awaited. SIGTERM and SIGHUP are passed on to it.
    /// </summary>
    /// <param name="command">The program and its arguments; the program is looked up in PATH. No shell sees them.</param>
    /// <param name="environment">Where it runs.</param>
    /// <param name="onStarted">Called with the process id once it runs; its first packets may be out by then.</param>
    /// <param name="cancellation">
    /// For time limits and shutdown, not for Ctrl-C: the command gets SIGTERM, and SIGKILL two seconds later.
    /// </param>
    /// <returns>
    /// The command's exit code, 128 plus the signal that ended it, <see cref="NotFound"/> or <see cref="NotExecutable"/>, the last
    /// two with a line on standard error.
    /// </returns>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be entered, or nothing may be mounted; the message names the capability that is missing.</exception>
    /// <exception cref="IOException">The client's files could not be put in place.</exception>
    public static int Run(IReadOnlyList<string> command, ClientEnvironment environment, Action<int>? onStarted = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(environment);
        if (command.Count == 0)
        {
            throw new ArgumentException("There is no command to run.", nameof(command));
        }

        var program = Find(command[0], out var problem);
        if (program is null)
        {
            Console.Error.WriteLine($"traceprobe: {WhyNot(command[0])}");
            return problem;
        }

        // Registered before anything else: the runtime's thread for signals is born here, and not in the client's namespace.
        var pid = 0;
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Ignore);
        using var quit = PosixSignalRegistration.Create(PosixSignal.SIGQUIT, Ignore);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => PassOn(context, SIGTERM));
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, context => PassOn(context, SIGHUP));

        var start = new ProcessStartInfo(program) { UseShellExecute = false };
        for (var i = 1; i < command.Count; i++)
        {
            start.ArgumentList.Add(command[i]);
        }

        cancellation.ThrowIfCancellationRequested();
        using var process = Start(start, environment);
        Volatile.Write(ref pid, process.Id);
        onStarted?.Invoke(process.Id);
        while (!process.WaitForExit(CancellationMilliseconds))
        {
            if (cancellation.IsCancellationRequested)
            {
                _ = kill(process.Id, SIGTERM);
                if (!process.WaitForExit(TerminationMilliseconds))
                {
                    process.Kill();
                }
            }
        }

        return process.ExitCode;

        static void Ignore(PosixSignalContext context) => context.Cancel = true;

        void PassOn(PosixSignalContext context, int signal)
        {
            context.Cancel = true;
            if (Volatile.Read(ref pid) is > 0 and var started)
            {
                _ = kill(started, signal);
            }
        }
    }

    private static Process Start(ProcessStartInfo start, ClientEnvironment environment)
    {
        var ownFiles = environment.ResolvConfPath == ClientEnvironment.DefaultResolvConfPath && environment.HostsPath == ClientEnvironment.DefaultHostsPath;
        if (environment.Namespace is null && ownFiles)
        {
            return Process.Start(start)!;
        }

        // Read here, and handed over as text: a file of another mount namespace cannot be bind-mounted (mount(2), EINVAL).
        var resolvConf = ClientFile.TryRead(environment.ResolvConfPath, out _) ?? "";
        var hosts = ClientFile.TryRead(environment.HostsPath, out _) ?? "";
        Process Inside()
        {
            if (!ownFiles)
            {
                PutInPlace(resolvConf, hosts);
            }

            // The child is forked from this thread and inherits what this thread has: both namespaces.
            return Process.Start(start)!;
        }

        return environment.Namespace is { } space ? space.Run(Inside) : OnItsOwnThread(Inside);
    }

    // On the calling thread alone: unshare(2) gives it a mount namespace, and it never does anything else.
    private static void PutInPlace(string resolvConf, string hosts)
    {
        Check(unshare(CLONE_NEWNS), "make a mount namespace");
        Check(mount(null, "/", null, MS_REC | MS_PRIVATE, null), "make the mounts private");

        // The files live on a file system that nothing else sees and that ends with the command, however that ends. The folder it
        // covers for a moment is covered for this thread alone.
        var folder = Array.Find(["/mnt", "/tmp", "/run"], Directory.Exists) ?? throw new IOException("Neither /mnt nor /tmp nor /run exists, so the client's files have no place to be mounted from.");
        Check(mount("traceprobe", folder, "tmpfs", 0, "size=4m,mode=755"), $"mount a tmpfs on {folder}");
        Cover("/etc/resolv.conf", resolvConf);
        Cover("/etc/hosts", hosts);
        if (File.Exists("/etc/nsswitch.conf"))
        {
            Cover("/etc/nsswitch.conf", FilesAndDnsOnly(ClientFile.TryRead("/etc/nsswitch.conf", out _) ?? ""));
        }

        Check(umount2(folder, MNT_DETACH), $"unmount {folder}");
        foreach (var daemon in (ReadOnlySpan<string>)["/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"])
        {
            if (File.Exists(daemon))
            {
                Check(mount("/dev/null", daemon, null, MS_BIND, null), $"cover {daemon}");
            }
        }

        void Cover(string path, string text)
        {
            var source = Path.Combine(folder, Path.GetFileName(path));
            File.WriteAllText(source, text);
            // Whatever the umask: the command may give up root.
            Check(chmod(source, Rw_R__R__), $"open {source} to everybody");
            if (!File.Exists(path))
            {
                throw new IOException($"{path} does not exist here, so the client's cannot be put over it. Create an empty file: touch {path}");
            }

            Check(mount(source, path, null, MS_BIND, null), $"put the client's file over {path}");
        }
    }

    // hosts: files mymachines resolve [!UNAVAIL=return] dns
    internal static string FilesAndDnsOnly(string nsswitch)
    {
        var text = new StringBuilder();
        foreach (var line in nsswitch.AsSpan().EnumerateLines())
        {
            if (!line.TrimStart().StartsWith("hosts:", StringComparison.Ordinal))
            {
                text.Append(line).Append('\n');
            }
        }

        return text.Append("hosts: files dns\n").ToString();
    }

    private static Process OnItsOwnThread(Func<Process> start)
    {
        using var own = Capture.NetworkNamespace.OpenCurrent();
        return own.Run(start);
    }

    private static void Check(int result, string what)
    {
        if (result == 0)
        {
            return;
        }

        var errno = Marshal.GetLastPInvokeError();
        throw errno is EPERM or EACCES
            ? new UnauthorizedAccessException($"Not permitted to {what}: that needs CAP_SYS_ADMIN. Run as root, or add SYS_ADMIN to the container's capabilities.")
            : new IOException($"Could not {what}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno}).");
    }

    // As execvp(3) looks: a name with a slash is a path, another is sought in PATH, and "found but not executable" is remembered.
    private static string? Find(string program, out int problem)
    {
        problem = NotFound;
        if (program.Contains('/', StringComparison.Ordinal))
        {
            return Judge(program, ref problem);
        }

        foreach (var folder in (Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").Split(':'))
        {
            if (program.Length > 0 && Judge(Path.Combine(folder.Length == 0 ? "." : folder, program), ref problem) is { } found)
            {
                return found;
            }
        }

        return null;
    }

    private static string? Judge(string path, ref int problem)
    {
        if (!Path.Exists(path))
        {
            return null;
        }

        if (!Directory.Exists(path) && access(path, X_OK) == 0)
        {
            return Path.GetFullPath(path);
        }

        problem = NotExecutable;
        return null;
    }
}
