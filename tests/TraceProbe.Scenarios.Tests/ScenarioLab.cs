using System.Diagnostics;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>A lab that the tests of one proxy mode share, with a healthy baseline of each client; removed at the end whatever happens.</summary>
public abstract class ScenarioLab(ProxyMode mode) : IAsyncLifetime
{
    private static readonly string[] Tools = ["nsenter", "curl", "kill"];
    private readonly string _state = Path.Combine(Path.GetTempPath(), $"traceprobe-scenarios-{Guid.NewGuid():N}");
    private readonly HashSet<(string Url, string From)> _recorded = [];
    private Lab.Lab? _lab;

    /// <summary>The executable under test: $TRACEPROBE_EXECUTABLE, as <c>make test</c> gives the published one, or the one built with the tests.</summary>
    public static string TraceProbe { get; } = Environment.GetEnvironmentVariable("TRACEPROBE_EXECUTABLE") is { Length: > 0 } given ? Path.GetFullPath(given) : Path.Combine(AppContext.BaseDirectory, "traceprobe");

    public ProxyMode Mode => mode;

    public string Name { get; } = NewName();

    /// <summary>The lab; the test is skipped, with the reason, where none can be.</summary>
    public Lab.Lab Lab
    {
        get
        {
            SkipUnlessPossible(mode);
            return _lab!;
        }
    }

    public static string NewName() => $"s{Guid.NewGuid().ToString("N")[..8]}";

    public static void SkipUnlessPossible(ProxyMode mode) => Assert.SkipWhen(WhyNot(mode) is not null, WhyNot(mode) ?? "");

    public async ValueTask InitializeAsync()
    {
        if (WhyNot(mode) is not null)
        {
            return;
        }

        _lab = await global::TraceProbe.Lab.Lab.UpAsync(new LabOptions { Name = Name, Proxy = mode, SelfCommand = [TraceProbe] });
        foreach (var (baseline, url, client) in (ReadOnlySpan<(string, string, string)>)[("pod", Url.ByName, "pod/ubuntu"), ("node", Url.IPv4, "node/node-1"), ("full", Url.IPv4, "node/node-2")])
        {
            var recorded = Run("baseline", "record", baseline, url, "--from", client, "--timeout", "3s");
            if (recorded.ExitCode != 0)
            {
                throw new InvalidOperationException($"No baseline of {url} from {client}: {recorded.Error}");
            }
        }
    }

    public ValueTask DisposeAsync()
    {
        if (_lab is not null)
        {
            global::TraceProbe.Lab.Lab.Down(Name);
        }

        if (Directory.Exists(_state))
        {
            Directory.Delete(_state, recursive: true);
        }

        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    /// <summary>How long a request may take. What vanishes takes all of it.</summary>
    public string Timeout { get; set; } = "3s";

    /// <summary>Traces a request.</summary>
    public Outcome Trace(string url, string from = "pod/ubuntu", params string[] options)
        => Run(["trace", url, "--from", from, "-o", "json", "--timeout", Timeout, .. options]);

    /// <summary>Sees to it that there is a baseline of a fault's request, where one can be recorded without the fault.</summary>
    public void Baseline(string url, string from)
    {
        if (_recorded.Add((url, from)))
        {
            Run("baseline", "record", $"b{_recorded.Count}", url, "--from", from, "--timeout", "3s");
        }
    }

    /// <summary>Follows curl.</summary>
    public Outcome Curl(string url, string from = "pod/ubuntu")
        => Run("run", "--from", from, "-o", "json", "--", "curl", "-sS", "-o", "/dev/null", "--max-time", Timeout.TrimEnd('s'), url);

    /// <summary>Runs traceprobe with the lab as its only one, to its end.</summary>
    public Outcome Run(params IEnumerable<string> arguments)
    {
        using var process = Start(arguments);
        return Outcome.Of(process);
    }

    /// <summary>Starts traceprobe with the lab as its only one, and its objects from the lab's API server, as they are had of any cluster.</summary>
    public Process Start(IEnumerable<string> arguments)
    {
        var words = arguments.ToArray();
        var verb = words switch { ["trace" or "run" or "observe" or "check", ..] => 1, ["baseline", "record", ..] or ["rules", "walk", ..] => 2, _ => 0 };
        return Start(TraceProbe, verb == 0 ? words : [.. words[..verb], "--lab", Name, "--kubeconfig", _lab!.KubeconfigPath, .. words[verb..]]);
    }

    /// <summary>Starts a program with what traceprobe needs to find the lab and the baselines.</summary>
    public Process Start(string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["TRACEPROBE_LAB"] = Name;
        start.Environment["TRACEPROBE_STATE"] = _state;
        return Process.Start(start)!;
    }

    private static string? WhyNot(ProxyMode mode)
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return "needs root";
        }

        return global::TraceProbe.Lab.Lab.Needs(mode).FirstOrDefault(n => !n.Available) is { } missing ? $"needs {missing.Name}: {missing.Detail}"
            : Tools.FirstOrDefault(t => !(Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(p => File.Exists(Path.Combine(p, t)))) is { } tool ? $"needs {tool}"
            : null;
    }
}

public sealed class NftLab() : ScenarioLab(ProxyMode.IptablesNft);

public sealed class LegacyLab() : ScenarioLab(ProxyMode.IptablesLegacy);

public sealed class NftablesLab() : ScenarioLab(ProxyMode.Nftables);

public sealed class UserspaceLab() : ScenarioLab(ProxyMode.Userspace);

/// <summary>The Service in every form that people ask for it.</summary>
public static class Url
{
    public const string ByName = "http://my-nginx:8080";
    public const string ByFullName = "http://my-nginx.default.svc.cluster.local:8080";
    public const string IPv4 = "http://10.96.0.159:8080";
    public const string IPv6 = "http://[fd00:10:96::9f]:8080";
}
