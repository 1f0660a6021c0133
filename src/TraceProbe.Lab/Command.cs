using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace TraceProbe.Lab;

/// <summary>One run of a system tool, in a network namespace or in ours; what it printed is kept, a failure names it.</summary>
internal static class Command
{
    // Debian keeps these in /usr/sbin, which an ordinary shell's PATH may lack.
    private static readonly string[] Folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

    internal static string? Find(string tool)
    {
        foreach (var folder in Folders)
        {
            var path = Path.Combine(folder, tool);
            if (File.Exists(path))
            {
                return path;
            }
        }

        return null;
    }

    /// <summary>Runs a tool to its end and returns its standard output.</summary>
    /// <exception cref="LabException">It is missing or failed.</exception>
    internal static string Run(string? netns, string tool, ReadOnlySpan<string> arguments, string? input = null)
    {
        var result = Try(netns, tool, arguments, input);
        return result.ExitCode == 0
            ? result.Output
            : throw new LabException($"{Short($"{tool} {string.Join(' ', arguments)}")} failed with exit code {result.ExitCode}: {result.Error.Trim()}");
    }

    /// <summary>Runs a tool to its end and returns what it said, failed or not.</summary>
    internal static (int ExitCode, string Output, string Error) Try(string? netns, string tool, ReadOnlySpan<string> arguments, string? input = null)
    {
        using (var process = Start(netns, tool, arguments, redirect: true))
        {
            var error = new StringBuilder();
            process.ErrorDataReceived += (_, line) => error.AppendLine(line.Data);
            process.BeginErrorReadLine();
            try
            {
                process.StandardInput.Write(input ?? "");
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // It ended before it read everything; its exit code and message say why.
            }

            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return (process.ExitCode, output, error.ToString());
        }
    }

    /// <summary>Runs a tool to its end with this process's own input and output.</summary>
    /// <returns>Its exit code.</returns>
    internal static int Pass(string? netns, string tool, ReadOnlySpan<string> arguments)
    {
        using var process = Start(netns, tool, arguments, redirect: false);
        process.WaitForExit();
        return process.ExitCode;
    }

    private static Process Start(string? netns, string tool, ReadOnlySpan<string> arguments, bool redirect)
    {
        var start = new ProcessStartInfo(Find(tool) ?? throw Missing(tool))
        {
            RedirectStandardInput = redirect,
            RedirectStandardOutput = redirect,
            RedirectStandardError = redirect,
            UseShellExecute = false,
            WorkingDirectory = "/",
        };
        // Tools call tools; sudo and cron leave them little of a PATH.
        start.Environment["PATH"] = string.Join(':', Folders);
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        try
        {
            return NetNs.Run(netns, () => Process.Start(start)!);
        }
        catch (Win32Exception e)
        {
            throw new LabException($"Cannot start {start.FileName}: {e.Message}.", e);
        }
    }

    /// <summary>The error for a tool that is not installed, with the Debian package that has it.</summary>
    internal static LabException Missing(string tool) => new($"{tool} is not installed. Install it with: apt-get install {PackageOf(tool)}");

    // A script on the command line says more of us than of what went wrong.
    private static string Short(string line) => line.Length <= 200 && !line.Contains('\n', StringComparison.Ordinal) ? line : $"{line.AsSpan(0, Math.Min(line.Length, 60))}…".ReplaceLineEndings(" ");

    private static string PackageOf(string tool) => tool switch
    {
        "ip" => "iproute2",
        "dnsmasq" => "dnsmasq-base",
        "nginx" => "nginx-light",
        "unshare" or "nsenter" => "util-linux",
        "mount" => "mount",
        "nft" => "nftables",
        "sh" => "dash",
        "sleep" => "coreutils",
        "ipset" or "ipvsadm" => tool,
        _ when tool.StartsWith("ip", StringComparison.Ordinal) => "iptables",
        _ => tool,
    };
}
