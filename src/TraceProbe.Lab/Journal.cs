using System.Globalization;

namespace TraceProbe.Lab;

/// <summary>
/// What the lab has made outside its folder, one line each, written before the thing is made: a lab whose <c>up</c> was killed at
/// any point can be taken down from it. <c>netns tp-demo-node-1</c>, <c>cgroup /sys/fs/cgroup/…</c>, <c>pid 4711 123456</c> (with
/// the start time, so that a recycled number is not mistaken for ours).
/// </summary>
internal sealed class Journal(string path)
{
    internal void NetNs(string name) => Append($"netns {name}");

    internal void Cgroup(string folder) => Append($"cgroup {folder}");

    internal void Process(int pid)
    {
        if (ProcessTable.StartTime(pid) is { } started)
        {
            Append(string.Create(CultureInfo.InvariantCulture, $"pid {pid} {started}"));
        }
    }

    internal (IReadOnlyList<string> NetNs, IReadOnlyList<string> Cgroups, IReadOnlyList<int> LivePids) Read()
    {
        var namespaces = new List<string>();
        var cgroups = new List<string>();
        var pids = new List<int>();
        foreach (var line in File.Exists(path) ? File.ReadAllLines(path) : [])
        {
            var words = line.Split(' ');
            switch (words)
            {
                case ["netns", var name] when !namespaces.Contains(name):
                    namespaces.Add(name);
                    break;
                case ["cgroup", var folder] when !cgroups.Contains(folder):
                    cgroups.Add(folder);
                    break;
                case ["pid", var number, var started]
                    when int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
                        && ulong.TryParse(started, NumberStyles.None, CultureInfo.InvariantCulture, out var time)
                        && ProcessTable.StartTime(pid) == time:
                    pids.Add(pid);
                    break;
                default:
                    // A line cut short by a crash names nothing that was made.
                    break;
            }
        }

        return (namespaces, cgroups, pids);
    }

    private void Append(string line)
    {
        using var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
        file.Write(System.Text.Encoding.UTF8.GetBytes(line + "\n"));
    }
}
