using System.Globalization;
using System.Runtime.InteropServices;

namespace TraceProbe.Lab;

/// <summary>What /proc says about processes: enough to end ours and never another that got a recycled number.</summary>
internal static partial class ProcessTable
{
    internal const int SigHup = 1;
    internal const int SigKill = 9;
    internal const int SigTerm = 15;
    internal const int SigCont = 18;
    internal const int SigStop = 19;

    /// <summary>The start time of a process in clock ticks after boot (proc(5), stat field 22); null when it is gone or a zombie.</summary>
    internal static ulong? StartTime(int pid)
        => Stat(pid) is { } fields && fields[0] is not ("Z" or "X") ? ulong.Parse(fields[19], CultureInfo.InvariantCulture) : null;

    /// <summary>Whether a process was told to stand still.</summary>
    internal static bool IsStopped(int pid) => Stat(pid) is ["T", ..];

    private static string[]? Stat(int pid)
    {
        try
        {
            // The name, in parentheses, may hold anything; the fields behind it are counted from its last parenthesis.
            var text = File.ReadAllText($"/proc/{pid}/stat");
            return text[(text.LastIndexOf(')') + 2)..].Split(' ');
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>The processes whose first thread is in one of these network namespaces.</summary>
    internal static List<int> InNamespaces(IReadOnlySet<uint> inodes)
    {
        var found = new List<int>();
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
            {
                continue;
            }

            string? link;
            try
            {
                link = new FileInfo($"/proc/{pid}/ns/net").LinkTarget;
            }
            catch (IOException)
            {
                continue;
            }
            catch (UnauthorizedAccessException)
            {
                continue;
            }

            if (link is not null && link.StartsWith("net:[", StringComparison.Ordinal)
                && uint.TryParse(link.AsSpan(5, link.Length - 6), NumberStyles.None, CultureInfo.InvariantCulture, out var inode)
                && inodes.Contains(inode))
            {
                found.Add(pid);
            }
        }

        return found;
    }

    /// <summary>Sends a signal; false when there is no such process any more.</summary>
    internal static bool Signal(int pid, int signal) => kill(pid, signal) == 0;

    /// <summary>Ends processes at once and waits until the kernel has let go of them.</summary>
    /// <exception cref="LabException">One of them is still there after five seconds.</exception>
    internal static void Kill(IReadOnlyCollection<int> pids)
    {
        foreach (var pid in pids)
        {
            Signal(pid, SigKill);
        }

        WaitGone(pids);
    }

    internal static void WaitGone(IReadOnlyCollection<int> pids)
    {
        for (var attempt = 0; attempt < 2500; attempt++)
        {
            if (pids.All(pid => StartTime(pid) is null))
            {
                return;
            }

            Thread.Sleep(2);
        }

        throw new LabException($"Processes {string.Join(", ", pids.Where(p => StartTime(p) is not null))} do not end.");
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int sig);

    [LibraryImport("libc", EntryPoint = "geteuid")]
    internal static partial uint EffectiveUser();
}
