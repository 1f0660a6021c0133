using System.Diagnostics;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab.Tests;

/// <summary>A lab of this test's own, taken down at its end whatever happens.</summary>
internal sealed class LiveLab : IAsyncDisposable
{
    private LiveLab(Lab lab) => Lab = lab;

    internal Lab Lab { get; }

    internal static string NewName() => $"t{Guid.NewGuid().ToString("N")[..8]}";

    internal static void SkipUnlessPossible(ProxyMode mode = ProxyMode.IptablesNft)
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        Assert.SkipUnless(Command.Find("curl") is not null, "needs curl");
        var lacking = Lab.Needs(mode).FirstOrDefault(n => !n.Available);
        Assert.SkipWhen(lacking is not null, $"needs {lacking?.Name}: {lacking?.Detail}");
    }

    internal static async Task<LiveLab> UpAsync(ProxyMode mode, string? name = null)
    {
        SkipUnlessPossible(mode);
        return new LiveLab(await Lab.UpAsync(new LabOptions { Name = name ?? NewName(), Proxy = mode, SelfCommand = Self() }, null, TestContext.Current.CancellationToken));
    }

    // Under "dotnet test" the running program may be the test host; the lab's processes must be ours, which has our Main.
    internal static System.Collections.Immutable.ImmutableArray<string> Self() => [Path.ChangeExtension(typeof(LiveLab).Assembly.Location, null)];

    /// <summary>What curl says in a place: the body's last line, or <c>curl: (7) …</c>.</summary>
    internal string Curl(string place, string url, params string[] options)
    {
        var found = Lab.FindPlace(place)!;
        var start = new ProcessStartInfo("nsenter", [$"--target={found.Pid}", "--net", "--mount", "curl", "-sS", "--max-time", "1.5", .. options, url])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEnd();
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return error.Length > 0 ? error.Trim() : output.Trim().Split('\n').FirstOrDefault(l => l.Contains("Served")) ?? output.Trim();
    }

    internal string Rules(string node, bool ipv6) => new Iptables(NetNs.PathOf($"tp-{Lab.Name}-{node}"), Lab.Proxy, ipv6).Save();

    public ValueTask DisposeAsync()
    {
        Lab.Down(Lab.Name);
        return ValueTask.CompletedTask;
    }

    /// <summary>Everything on this machine that bears a lab's name. Zombies are init's to reap.</summary>
    internal static List<string> Traces(string name)
    {
        var traces = new List<string>();
        if (Directory.Exists("/run/netns"))
        {
            traces.AddRange(Directory.GetFiles("/run/netns", $"tp-{name}-*"));
        }

        if (Directory.Exists(LabLayout.Folder(name)))
        {
            traces.Add(LabLayout.Folder(name));
        }

        traces.AddRange(File.ReadLines("/proc/self/mounts").Where(l => l.Contains($"tp-{name}-") || l.Contains($"/labs/{name}/")));
        if (Cgroups.Mount() is { } mount && Directory.Exists($"{mount}/traceprobe-lab-{name}"))
        {
            traces.Add($"{mount}/traceprobe-lab-{name}");
        }

        foreach (var folder in Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
        {
            try
            {
                var command = File.ReadAllText($"{folder}/cmdline").Replace('\0', ' ');
                if (command.Contains($"/labs/{name}/") || command.Contains($"--name {name} ") || command.EndsWith($" up {name} "))
                {
                    traces.Add($"{folder}: {command}");
                }
            }
            catch (IOException)
            {
                // It ended while we looked.
            }
        }

        return traces;
    }
}
