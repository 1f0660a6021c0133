using System.Globalization;
using TraceProbe.Core.Node;

namespace TraceProbe.Cluster;

/// <summary>Finds processes by their network namespace, and the owners of sockets among them.</summary>
internal static unsafe class ProcessScan
{
    /// <summary>The processes in these namespaces, by ascending pid, so that a parent comes before its workers.</summary>
    public static List<(int Pid, uint NetNs)> In(HashSet<uint> namespaces)
    {
        var pids = new List<int>();
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(folder.AsSpan("/proc/".Length), NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
            {
                pids.Add(pid);
            }
        }

        pids.Sort();
        var found = new List<(int, uint)>();
        foreach (var pid in pids)
        {
            if (NamespaceEntry.InodeOf($"/proc/{pid}/ns/net") is not 0 and var netNs && namespaces.Contains(netNs))
            {
                found.Add((pid, netNs));
            }
        }

        return found;
    }

    /// <summary>The first kube-proxy among them; hyperkube is one when it was started as its proxy.</summary>
    public static ProcessRef? KubeProxy(List<(int Pid, uint NetNs)> processes, uint nodeNetNs)
    {
        foreach (var (pid, netNs) in processes)
        {
            if (netNs == nodeNetNs && Command(pid) is { } command
                && (command == "kube-proxy" || command == "hyperkube" && Read($"/proc/{pid}/cmdline").Contains("proxy", StringComparison.Ordinal)))
            {
                return new ProcessRef(pid, command);
            }
        }

        return null;
    }

    /// <summary>Which process holds each socket; sockets whose owner may not be seen are left out.</summary>
    public static Dictionary<ulong, ProcessRef> Owners(List<(int Pid, uint NetNs)> processes, HashSet<ulong> sockets)
    {
        var owners = new Dictionary<ulong, ProcessRef>();
        Span<byte> target = stackalloc byte[64];
        foreach (var (pid, _) in processes)
        {
            if (owners.Count == sockets.Count)
            {
                break;
            }

            string[] files;
            try
            {
                files = Directory.GetFiles($"/proc/{pid}/fd");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                continue; // it has ended, or belongs to somebody else
            }

            ProcessRef? process = null;
            foreach (var file in files)
            {
                nint length;
                fixed (byte* buffer = target)
                {
                    length = Libc.readlink(file, buffer, (nuint)target.Length);
                }

                // socket:[21432]
                if (length > 9 && target.StartsWith("socket:["u8)
                    && System.Buffers.Text.Utf8Parser.TryParse(target[8..(int)length], out ulong inode, out _) && sockets.Contains(inode) && !owners.ContainsKey(inode))
                {
                    owners.Add(inode, process ??= new ProcessRef(pid, Command(pid) ?? "?"));
                }
            }
        }

        return owners;
    }

    private static string? Command(int pid) => Read($"/proc/{pid}/comm").TrimEnd('\n') is { Length: > 0 } command ? command : null;

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return ""; // the process has ended meanwhile
        }
    }
}
