using System.CommandLine;
using System.CommandLine.Completions;
using System.CommandLine.Parsing;
using System.Globalization;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Baselines;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Cli.Commands;

/// <summary>The options that trace, run, observe and baseline record share, and what comes of them.</summary>
internal sealed class SessionSettings
{
    private const string Places = "pod/NAME, pod/NAMESPACE/NAME, deploy/NAME (or ds, sts, rs: one of its pods here), node/NAME, node (this machine), netns:NAME or netns:/PATH.";

    private readonly Option<string?> _from = new("--from", "-f")
    {
        Description = $"Where the request is made from: {Places}",
        HelpName = "PLACE",
    };

    private readonly SceneSettings _scene = new();

    private readonly Option<bool> _agents = new("--agents")
    {
        Description = "Have the cluster's agents do it: the one on the client's node asks, those on the endpoints' nodes follow there, and one timeline is made of it.",
    };

    private readonly Option<string> _source = new("--source")
    {
        Description = "Where events come from: ebpf, libpcap, or auto for the better one that is permitted here.", HelpName = "SOURCE", DefaultValueFactory = _ => "auto",
    };

    private readonly Option<string> _resolver = new("--resolver")
    {
        Description = "Whose resolver the client's programs have: glibc, or musl (Alpine).", HelpName = "LIBC", DefaultValueFactory = _ => "glibc",
    };

    private readonly Option<TimeSpan?> _timeout = new("--timeout")
    {
        Description = "How long the request may take, such as 500ms, 10s or 1m (10s without it).",
        HelpName = "TIME",
        CustomParser = ParseTime,
    };

    private readonly Option<string?> _baseline = new("--baseline")
    {
        Description = "The healthy baseline to compare with; without it the newest one of the same client and Service.", HelpName = "NAME",
    };

    private readonly Option<string?> _save = new("--save")
    {
        Description = $"Save a recording: one file when the name ends with {RecordingArchive.Extension}, else a folder. 'traceprobe replay' reads it anywhere.", HelpName = "FILE",
    };

    private readonly Option<bool> _counters = new("--counters")
    {
        Description = "Read the rules' counters and connection tracking again afterwards also when all went well (without it when it did not, or with --save).",
    };

    private readonly Option<string?> _pcap = new("--pcap") { Description = "Save the packets as pcapng, for Wireshark and tshark.", HelpName = "FILE" };

    private readonly Option<OutputFormat> _output = OutputOption.Create();

    /// <summary>The options, for a command that follows something.</summary>
    public SessionSettings()
    {
        _source.AcceptOnlyFromAmong("auto", "ebpf", "libpcap");
        _resolver.AcceptOnlyFromAmong("glibc", "musl");
        _from.CompletionSources.Add(context => _scene.SceneOf(context.ParseResult, asking: false).Places
            .SelectMany(p => Spellings(p.Name, NamespaceOf(context.ParseResult))).Select(n => new CompletionItem(n)));
        _baseline.CompletionSources.Add(_ => BaselineStore.Default.Names().Select(n => new CompletionItem(n)));
    }

    /// <summary>The agents that may be asked to do it.</summary>
    public AgentAddresses Agents => field ??= new AgentAddresses(_scene);

    /// <summary>Whether agents are asked to do it.</summary>
    public bool IsForAgents(ParseResult parsed) => parsed.GetValue(_agents) || Agents.IsAsked(parsed);

    /// <summary>Gives the options by which agents are asked to a command.</summary>
    public void AddAgentsTo(Command command)
    {
        command.Options.Add(_agents);
        Agents.AddTo(command);
    }

    /// <summary>Gives the options to a command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="resolves">Whether TraceProbe itself resolves names for it.</param>
    /// <param name="reports">Whether its result is a report.</param>
    /// <param name="timed">Whether it ends by itself when nothing happens.</param>
    /// <param name="waits">Whether it waits for somebody else's request.</param>
    public void AddTo(Command command, bool resolves, bool reports, bool timed = true, bool waits = false)
    {
        if (waits)
        {
            _from.Description = $"Whose connections: {Places}";
            _timeout.Description = "How long to wait for the connection, and then for its end, such as 500ms, 10s or 1m (10s without it).";
        }

        command.Options.Add(_from);
        _scene.AddTo(command);
        command.Options.Add(_source);
        if (timed)
        {
            command.Options.Add(_timeout);
        }

        if (resolves)
        {
            command.Options.Add(_resolver);
        }

        if (reports)
        {
            command.Options.Add(_baseline);
            command.Options.Add(_counters);
            command.Options.Add(_output);
        }

        command.Options.Add(_save);
        command.Options.Add(_pcap);
    }

    // A pod of the namespace that is meant is mostly called by its bare name.
    private static string[] Spellings(string place, string ns) => place.StartsWith($"pod/{ns}/", StringComparison.Ordinal) ? [$"pod/{place[(5 + ns.Length)..]}", place] : [place];

    /// <summary>The namespace that names without one are in.</summary>
    public string NamespaceOf(ParseResult parsed) => _scene.NamespaceOf(parsed);

    /// <summary>How to follow the request.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="progress">Told what is being done.</param>
    /// <param name="waits">Whether somebody else's request is waited for: the observation programs have to know its destination when they are loaded, and objects have to be followed.</param>
    public SessionOptions Options(ParseResult parsed, Action<string> progress, bool waits = false)
    {
        if (Environment.GetEnvironmentVariable("TRACEPROBE_RING_BYTES") is { Length: > 0 } ring && (!int.TryParse(ring, NumberStyles.None, CultureInfo.InvariantCulture, out var bytes) || bytes is < 1 or > 1 << 30))
        {
            throw new OperatorException($"TRACEPROBE_RING_BYTES is '{ring}'; it takes a number of bytes from 1 to 1073741824 (1 GiB).", ExitCode.Usage);
        }

        var source = parsed.GetValue(_source);
        var opening = waits || source == "libpcap" ? null : TraceSession.OpenEarly(isClosed: _scene.LabOf(parsed) is not null);
        if (parsed.GetValue(_save) is { } save)
        {
            RecordingArchive.CheckWritable(save);
        }

        if (parsed.GetValue(_pcap) is { } pcap && (pcap.Length == 0 || Directory.Exists(pcap) || !Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(pcap)))))
        {
            throw new OperatorException($"The packets cannot be saved as '{pcap}': that is {(Directory.Exists(pcap) ? "a folder" : "in no folder that there is")}. Choose another name.");
        }

        if (parsed.GetResult(_baseline) is not null && parsed.GetValue(_baseline) is { } baseline)
        {
            _ = BaselineStore.Default.Get(baseline);
        }

        if (parsed.GetValue(_from) is { } from && from.StartsWith("netns:", StringComparison.Ordinal))
        {
            OpenNamespace(from);
        }

        var scene = _scene.SceneOf(parsed, follow: waits);
        return new SessionOptions
        {
            Scene = scene,
            Client = ClientOf(parsed, scene),
            Opening = opening,
            Rehearsal = recording => ReportOutput.Of(recording, Diagnose.Run(WithBaseline(parsed, recording)), parsed.GetValue(_output), new TextStyle(TextStyle.DefaultWidth)),
            Source = source switch { "ebpf" => EventSource.Ebpf, "libpcap" => EventSource.Libpcap, _ => null },
            Resolver = parsed.GetResult(_resolver) is not null && parsed.GetValue(_resolver) == "musl" ? ResolverFlavor.Musl : ResolverFlavor.Glibc,
            Timeout = parsed.GetValue(_timeout) ?? TimeSpan.FromSeconds(10),
            Progress = progress,
        };
    }

    /// <summary>The target that a text names, with the cluster's own domain for <c>svc/NAME</c>.</summary>
    public RequestTarget Target(ParseResult parsed, string text, Core.Cluster.ClusterSnapshot? cluster)
        => RequestTarget.TryParse(text, NamespaceOf(parsed), cluster?.ClusterDomain ?? "cluster.local", out var target, out var error)
            ? target!
            : throw new OperatorException(error!, ExitCode.Usage);

    /// <summary>What an agent is to be asked for, to do the same; and the cluster's objects, by which its place is found.</summary>
    public (SessionRequest Request, Core.Cluster.ClusterSnapshot Objects) RequestOf(ParseResult parsed, string url)
    {
        var objects = _scene.SceneOf(parsed).ReadObjects()
            ?? throw new OperatorException("To find the agents and the client among them, the cluster's objects are needed: --kubeconfig FILE, or a lab.", ExitCode.Usage);
        var everywhere = new Scene
        {
            Cluster = _scene.ServerOf(parsed)?.Cluster ?? _scene.LabOf(parsed),
            IsClosed = true,
            Objects = () => objects,
            Places =
            [
                .. objects.Pods.Select(p => new Place { Name = $"pod/{p.Metadata.Namespace}/{p.Metadata.Name}", Kind = PlaceKind.Pod, Node = p.Spec.NodeName, PodNamespace = p.Metadata.Namespace, PodName = p.Metadata.Name }),
                .. objects.Nodes.Select(n => new Place { Name = $"node/{n.Metadata.Name}", Kind = PlaceKind.Node, Node = n.Metadata.Name }),
            ],
        };
        return (new SessionRequest
        {
            Url = url,
            From = ClientOf(parsed, everywhere).Name,
            Seconds = Math.Clamp((parsed.GetValue(_timeout) ?? TimeSpan.FromSeconds(10)).TotalSeconds, 1, 60),
            Resolver = parsed.GetValue(_resolver) ?? "glibc",
        }, objects);
    }

    /// <summary>Diagnoses a recording, saves what is to be saved, and writes the report.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="recording">The recording.</param>
    /// <param name="isFromAfar">Whether it was made elsewhere, where its nodes cannot be asked again.</param>
    /// <returns>The exit code.</returns>
    public int Report(ParseResult parsed, Recording recording, bool isFromAfar = false)
    {
        recording = WithBaseline(parsed, recording, e => CommandLine.Tell($"traceprobe: {e.Message}"));
        (recording, var report) = isFromAfar ? (recording, Diagnose.Run(recording)) : Diagnose.Run(recording, question => TraceSession.AskAgain(recording, question), always: parsed.GetValue(_counters) || parsed.GetValue(_save) is not null);
        try
        {
            ReportOutput.Write(recording, report, parsed.GetValue(_output), CommandLine.Style(parsed));
        }
        finally
        {
            // Also when nobody could be told: then all the more.
            Save(parsed, recording, report);
        }

        return ReportOutput.ExitCodeOf(report);
    }

    /// <summary>Saves the recording and its packets, where that was asked for.</summary>
    public void Save(ParseResult parsed, Recording recording, Report report)
    {
        if (parsed.GetValue(_save) is { } save)
        {
            RecordingArchive.Write(save, recording, report);
            CommandLine.Tell($"traceprobe: saved as {save}; 'traceprobe replay {save}' tells the same verdict again.");
        }

        if (parsed.GetValue(_pcap) is { } pcap)
        {
            SavePackets(pcap, recording);
        }
    }

    private static void SavePackets(string path, Recording recording)
    {
        var isNew = !Path.Exists(path);
        try
        {
            using var file = File.Create(path);
            ReportOutput.WritePackets(file, recording);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (isNew)
            {
                File.Delete(path);
            }

            throw new OperatorException($"The packets could not be saved as {path}: {e.Message}", e);
        }
    }

    // A wrong name is told before a cluster is asked.
    private static void OpenNamespace(string from)
    {
        try
        {
            Scene.OpenNetworkNamespace(from).Dispose();
        }
        catch (SessionException e)
        {
            throw new OperatorException(e.Message, ExitCode.Usage);
        }
    }

    // A place that is not given, or that is not there, is the command line's fault and not TraceProbe's.
    private Place ClientOf(ParseResult parsed, Scene scene)
    {
        try
        {
            return scene.FindPlace(parsed.GetValue(_from), NamespaceOf(parsed));
        }
        catch (SessionException e)
        {
            throw new OperatorException(e.Message, ExitCode.Usage);
        }
    }

    private Recording WithBaseline(ParseResult parsed, Recording recording, Action<BaselineException>? unreadable = null)
    {
        var store = BaselineStore.Default;
        if (parsed.GetValue(_baseline) is { } name)
        {
            return recording with { Baseline = store.Get(name) };
        }

        if (!Directory.Exists(store.Folder))
        {
            return recording;
        }

        return Diagnose.ServiceKey(recording) is not { } service ? recording : recording with { Baseline = store.Pick(recording.Manifest.Cluster, recording.Manifest.Client, service, unreadable) };
    }

    private static TimeSpan? ParseTime(ArgumentResult result)
    {
        var text = result.Tokens.Count > 0 ? result.Tokens[0].Value : "";
        var (number, unit) = text switch
        {
            [.. var n, 'm', 's'] => (n, 0.001),
            [.. var n, 's'] => (n, 1),
            [.. var n, 'm'] => (n, 60),
            _ => (text, 1.0),
        };
        if (double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) && value * unit is > 0 and <= 3600)
        {
            return TimeSpan.FromSeconds(value * unit);
        }

        result.AddError($"'{text}' is no time; give one such as 500ms, 10s or 1m, at most an hour.");
        return default;
    }
}
