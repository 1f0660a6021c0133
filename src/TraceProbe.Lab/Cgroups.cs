using System.Globalization;

namespace TraceProbe.Lab;

/// <summary>cgroup v2: where it is mounted, and folders of ours in it. A machine without it has a lab without cgroups.</summary>
internal static class Cgroups
{
    /// <summary>Where cgroup v2 is mounted; null when it is not.</summary>
    internal static string? Mount()
    {
        foreach (var line in File.ReadLines("/proc/self/mounts"))
        {
            var words = line.Split(' ');
            if (words.Length > 2 && words[2] == "cgroup2")
            {
                return words[1];
            }
        }

        return null;
    }

    /// <summary>Makes the folder of a lab; null when the machine does not let us.</summary>
    internal static string? TryMake(LabFolder lab)
    {
        if (Mount() is not { } mount)
        {
            return null;
        }

        var folder = $"{mount}/traceprobe-lab-{lab.Name}";
        lab.Journal.Cgroup(folder);
        try
        {
            Directory.CreateDirectory(folder);
            return folder;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The folder of a process's cgroup; null when it is in the root or cgroup v2 is not mounted.</summary>
    internal static string? Of(int pid)
    {
        if (Mount() is not { } mount)
        {
            return null;
        }

        foreach (var line in File.ReadLines($"/proc/{pid}/cgroup"))
        {
            if (line.StartsWith("0::/", StringComparison.Ordinal) && line.Length > 4)
            {
                return mount + line[3..];
            }
        }

        return null;
    }

    /// <summary>The processes in a folder's cgroup and in those below it.</summary>
    internal static IEnumerable<int> Members(string folder) => !Directory.Exists(folder)
        ? []
        : File.ReadLines($"{folder}/cgroup.procs").Select(line => int.Parse(line, NumberStyles.None, CultureInfo.InvariantCulture))
            .Concat(Directory.GetDirectories(folder).SelectMany(Members));

    /// <summary>Removes a folder and all below it; the processes in it are gone already.</summary>
    internal static void Remove(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return;
        }

        foreach (var child in Directory.GetDirectories(folder))
        {
            Remove(child);
        }

        // The kernel lets go of a dead process's cgroup a moment after the process is gone.
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                Directory.Delete(folder);
                return;
            }
            catch (IOException) when (attempt < 500)
            {
                Thread.Sleep(4);
            }
        }
    }
}
