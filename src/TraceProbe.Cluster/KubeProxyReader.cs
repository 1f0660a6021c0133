using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;

namespace TraceProbe.Cluster;

/// <summary>
/// Asks a node's kube-proxy about itself: how it was started (<c>/proc</c>), and <c>/healthz</c> (port 10256), <c>/proxyMode</c> and
/// <c>/metrics</c> (127.0.0.1:10249), all at the same time and for a second at most. Whatever answers there is taken for hostile.
/// </summary>
internal static unsafe class KubeProxyReader
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);
    private const int MostOfMetrics = 4 * 1024 * 1024;
    private const int MostOfAWord = 64 * 1024;
    private const int MostOfAFile = 1024 * 1024;
    private const nint SYS_openat2 = 437;
    private const int O_PATH = 0x200000;
    private const int O_NONBLOCK = 0x800;
    private const ulong RESOLVE_IN_ROOT = 0x10;

    /// <summary>Asks it.</summary>
    /// <param name="path">The node's network namespace; null for the current one.</param>
    /// <param name="process">Its process; null when none was found, and then only who answers at its ports is known.</param>
    /// <param name="told">What the cluster's objects say that it is told; null when they do not.</param>
    public static KubeProxyAccount Read(string? path, ProcessRef? process, KubeProxySettings? told)
    {
        var unread = ImmutableArray.CreateBuilder<Unread>();
        var settings = process is null ? null : SettingsOf(process, unread);
        var from = settings ?? told;
        var metricsAt = At(from?.MetricsBindAddress ?? told?.MetricsBindAddress, 10249);
        var healthAt = At(from?.HealthzBindAddress ?? told?.HealthzBindAddress, 10256);
        var (metrics, mode, health) = (Ask(metricsAt, "/metrics", MostOfMetrics), Ask(metricsAt, "/proxyMode", MostOfAWord), Ask(healthAt, "/healthz", MostOfAWord));
        var account = new KubeProxyAccount
        {
            AskedAt = TimeProvider.System.GetUtcNow(),
            Process = process,
            IsStopped = process is not null && IsStopped(process.Pid),
            Settings = settings,
        };

        // 1. When it last synced.
        if (Take(metrics, metricsAt, "/metrics") is { } said)
        {
            try
            {
                account = account.WithMetrics(said.Status == 200 ? said.Body : throw new FormatException(Status(said)));
            }
            catch (FormatException e)
            {
                unread.Add(new Unread($"http://{metricsAt}/metrics", e.Message));
            }
        }

        // 2. How it works.
        if (Take(mode, metricsAt, "/proxyMode") is { } word)
        {
            if (word.Status == 200 && word.Body.Trim() is "iptables" or "ipvs" or "nftables" or "userspace" or "kernelspace")
            {
                account = account with { Mode = word.Body.Trim() };
            }
            else
            {
                unread.Add(new Unread($"http://{metricsAt}/proxyMode", word.Status == 200 ? "the answer is no mode of kube-proxy" : Status(word)));
            }
        }

        // 3. What it thinks of itself. A replacement may serve this too, so that it only counts beside the rest.
        if (Take(health, healthAt, "/healthz") is { } state)
        {
            if (state.Status is 200 or 503)
            {
                account = account with { IsHealthy = state.Status == 200 };
            }
            else
            {
                unread.Add(new Unread($"http://{healthAt}/healthz", Status(state)));
            }
        }

        return account with { Unread = unread.ToImmutable() };

        NamespaceThread<LocalAnswer> Ask(AddressPort at, string what, int most) => new(path, () => LocalHttp.Get(at, what, Limit, most));

        LocalAnswer? Take(NamespaceThread<LocalAnswer> work, AddressPort at, string what)
        {
            try
            {
                return work.Result;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                unread.Add(new Unread($"http://{at}{what}", e.Message));
                return null;
            }
        }
    }

    private static string Status(LocalAnswer answer) => string.Create(CultureInfo.InvariantCulture, $"the answer is {answer.Status}");

    // Where it listens on all addresses it is asked on the loopback's.
    private static AddressPort At(string? bound, ushort port)
    {
        var loopback = IpAddress.FromIPv4(0x7f000001);
        if (bound is null || !AddressPort.TryParse(bound, out var at))
        {
            return IpAddress.TryParse(bound, null, out var address) && !address.IsUnspecified ? new AddressPort(address, port) : new AddressPort(loopback, port);
        }

        return at.Address.IsUnspecified ? at with { Address = at.Address.IsIPv4 ? loopback : IpAddress.FromIPv6(0, 1) } : at;
    }

    private static KubeProxySettings? SettingsOf(ProcessRef process, ImmutableArray<Unread>.Builder unread)
    {
        var from = string.Create(CultureInfo.InvariantCulture, $"{process.Command} ({process.Pid})");
        string[] arguments;
        try
        {
            arguments = File.ReadAllText($"/proc/{process.Pid}/cmdline").Split('\0', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            unread.Add(new Unread($"the command line of {from}", e is IOException ? "it has ended" : e.Message));
            return null;
        }

        var told = KubeProxySettings.Of($"the flags of {from}", arguments, default);
        if (KubeProxySettings.ConfigFile(arguments) is not { } file)
        {
            return told;
        }

        try
        {
            return KubeProxySettings.Of($"{file} of {from}", arguments, YamlJson.Convert(file, ReadIn(process.Pid, file)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            // Its flags alone would say what is not so: the file counts.
            unread.Add(new Unread($"{file} of {from}", e is FormatException ? "it is no configuration of kube-proxy" : e.Message));
            return null;
        }
    }

    // A file as a process sees it: links in it lead to where they lead there, and never to files of ours (openat2(2), Linux 5.6).
    private static byte[] ReadIn(int pid, string file)
    {
        using var root = Libc.open($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/root", O_PATH | Libc.O_CLOEXEC);
        if (root.IsInvalid)
        {
            throw new IOException($"its files may not be looked at: {Marshal.GetLastPInvokeErrorMessage().ToLowerInvariant()}");
        }

        var how = stackalloc ulong[3] { Libc.O_RDONLY | Libc.O_CLOEXEC | O_NONBLOCK, 0, RESOLVE_IN_ROOT };
        nint opened;
        fixed (byte* name = Encoding.UTF8.GetBytes(file + '\0'))
        {
            opened = Libc.syscall(SYS_openat2, root.DangerousGetHandle(), (nint)name, (nint)how, 3 * sizeof(ulong));
        }

        if (opened < 0)
        {
            throw new IOException($"it cannot be opened: {Marshal.GetLastPInvokeErrorMessage().ToLowerInvariant()}");
        }

        using var handle = new SafeFileHandle(opened, ownsHandle: true);
        using var stream = new FileStream(handle, FileAccess.Read, bufferSize: 0);
        if (!stream.CanSeek)
        {
            throw new IOException("it is no plain file");
        }

        if (stream.Length == 0)
        {
            throw new IOException("it is empty, or no plain file");
        }

        return stream.Length <= MostOfAFile ? ReadAll(stream) : throw new IOException("it is too long to be one");
    }

    private static byte[] ReadAll(FileStream stream)
    {
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    // 812 (kube-proxy) T 1 …: the name may hold parentheses itself.
    private static bool IsStopped(int pid)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat.LastIndexOf(')') is > 0 and var end && end + 2 < stat.Length && stat[end + 2] is 'T' or 't';
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
