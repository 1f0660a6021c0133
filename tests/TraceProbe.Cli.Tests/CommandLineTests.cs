using System.Diagnostics;
using System.Text;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Tests;

/// <summary>The executable as scripts see it.</summary>
public sealed class CommandLineTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tp-cli-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(0, "--help", "Exit codes")]
    [InlineData(0, "trace --help", "Examples:")]
    [InlineData(0, "lab break --help", "wrong-target-port")]
    [InlineData(0, "--version", ".")]
    [InlineData(0, "classes", "wrong-target-port")]
    [InlineData(0, "classes no-listener", "accept")]
    [InlineData(0, "completion bash", "complete -o default -F _traceprobe traceprobe")]
    [InlineData(0, "completion zsh", "compdef")]
    [InlineData(0, "completion fish", "complete -c traceprobe")]
    [InlineData(2, "", "Commands:")]
    [InlineData(2, "tracee http://x", "did you mean 'trace'")]
    [InlineData(2, "trace", "traceprobe trace --help")]
    [InlineData(2, "trace ftp://x", "is not a scheme")]
    [InlineData(2, "trace http://x:99999", "is not a port")]
    [InlineData(2, "trace http://x --timeout soon", "is no time")]
    [InlineData(2, "trace http://x --width 3", "40 to 10000")]
    [InlineData(2, "trace http://x --width wide", "40 to 10000")]
    [InlineData(2, "trace http://x -o xml", "text, json and pcapng")]
    [InlineData(2, "trace http://x -o 1", "text, json and pcapng")]
    [InlineData(2, "trace --nonsense", "'--nonsense' is not known here")]
    [InlineData(2, "run --nonsense -- true", "'--nonsense' is not known here")]
    [InlineData(4, "replay -- --nonsense", "There is no recording")]
    [InlineData(4, "replay /dev/null", "pipes and devices")]
    [InlineData(4, "trace http://x --cluster /dev/null --pcap /", "that is a folder")]
    [InlineData(4, "trace http://x --cluster /dev/null --baseline nothing", "There is no baseline 'nothing'")]
    [InlineData(2, "trace http://x --source magic", "magic")]
    [InlineData(2, "run", "traceprobe run --help")]
    [InlineData(2, "classes wrong-target-prt", "did you mean 'wrong-target-port'")]
    [InlineData(2, "lab break everything", "everything")]
    [InlineData(2, "baseline record Not/AName http://x --from node", "cannot be a baseline's name")]
    [InlineData(4, "replay /no/such/recording", "There is no recording")]
    [InlineData(4, "lab status --name no-such-lab", "There is no lab named no-such-lab")]
    [InlineData(4, "trace http://x --lab no-such-lab", "There is no lab named no-such-lab")]
    [InlineData(4, "baseline show nothing", "There is no baseline 'nothing'")]
    [InlineData(2, "trace http://x --from netns:no-such-ns --cluster /dev/null", "no-such-ns")]
    [InlineData(4, "trace http://x --cluster /dev/null --save /no/such/folder/x.tprec", "there is no folder")]
    public async Task Arguments_GiveExitCodeAndWords(int code, string arguments, string words)
    {
        var (exit, output, error) = await Run(arguments);
        (output + error).ShouldContain(words);
        exit.ShouldBe(code, error);
        error.ShouldNotContain("defect");
    }

    [Fact]
    public async Task Replay_GivesTheSavedVerdictByteForByte()
    {
        var recording = new Recording
        {
            Manifest = new RecordingManifest { Mode = RecordingMode.Observe, Client = "node/x", Clock = new ClockAnchor(5, new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero)) },
        };
        var report = Diagnose.Run(recording);
        var path = Path.Combine(_folder, "x.tprec");
        RecordingArchive.Write(path, recording, report);
        var (exit, output, error) = await Run($"replay {path} -o json");
        output.ShouldBe(Encoding.UTF8.GetString(ReportJson.Write(report)));
        error.ShouldBeEmpty();
        exit.ShouldBe(3);
    }

    [Fact]
    public async Task Replay_OfAnotherVersionsVerdict_SaysSo()
    {
        var recording = new Recording { Manifest = new RecordingManifest { Mode = RecordingMode.Observe, Client = "node/x", Clock = new ClockAnchor(5, default) } };
        var path = Path.Combine(_folder, "x.tprec");
        RecordingArchive.Write(path, recording, ReportSamples.WrongPort);
        (await Run($"replay {path}")).Error.ShouldContain("another version");
    }

    [Fact]
    public async Task Doctor_TellsInBothForms()
    {
        var (exit, output, _) = await Run("doctor");
        exit.ShouldBeOneOf(0, 4);
        output.ShouldContain("CAP_BPF");
        var json = System.Text.Json.Nodes.JsonNode.Parse((await Run("doctor -o json")).Output)!;
        ((int)json["version"]!).ShouldBe(1);
        json["capabilities"]!.AsArray().ShouldNotBeEmpty();
    }

    [Fact]
    public async Task Doctor_AskedForAModeOfTheLab_TellsWhatItNeeds()
    {
        (await Run("doctor --width 200")).Output.ShouldNotContain("lab: ");
        (await Run("doctor --width 200 --proxy nftables")).Output.ShouldMatch("(yes|NO) +lab: nft ");
        var (exit, output, _) = await Run("doctor --width 200 --proxy ipvs");
        output.ShouldMatch("(yes|NO) +lab: ipvsadm ");
        (exit == 4).ShouldBe(output.Contains("  NO ", StringComparison.Ordinal));
        (await Run("doctor --proxy ipfs")).Exit.ShouldBe(2);
        (await Run("lab up --proxy ipfs")).Exit.ShouldBe(2);
    }

    [Fact]
    public async Task Suggestions_NameVerbsAndClasses()
    {
        (await Run("[suggest:28] traceprobe|lab|up|--proxy|nf")).Output.ShouldContain("nftables");
        (await Run("[suggest:15] traceprobe|rep")).Output.ShouldContain("replay");
        (await Run("[suggest:28] traceprobe|classes|wrong-ta")).Output.ShouldContain("wrong-target-port");
    }

    // A bar stands for a space within an argument.
    private async Task<(int Exit, string Output, string Error)> Run(string arguments)
    {
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "traceprobe"), arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(a => a.Replace('|', ' ')))
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["TRACEPROBE_STATE"] = _folder, ["NO_COLOR"] = "1" },
        };
        start.Environment.Remove("TRACEPROBE_LAB");
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await output, await error);
    }
}
