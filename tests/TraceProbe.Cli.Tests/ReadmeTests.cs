using System.Diagnostics;
using System.Text.RegularExpressions;

namespace TraceProbe.Cli.Tests;

/// <summary>The README tells what is so.</summary>
public partial class ReadmeTests
{
    private static readonly string Path = System.IO.Path.Combine(Repository.Root, "README.md");

    [Fact]
    public void ExitCodes_AreThoseOfTheHelp()
    {
        var inHelp = HelpCode().Matches(ExitCode.Help).Select(m => (m.Groups[1].Value, m.Groups[2].Value.Trim()));
        ReadmeCode().Matches(File.ReadAllText(Path)).Select(m => (m.Groups[1].Value, m.Groups[2].Value.Trim())).ShouldBe(inHelp);
    }

    [Fact]
    public async Task Verbs_Exist()
    {
        var verbs = Verb().Matches(File.ReadAllText(Path)).Select(m => m.Groups[1].Value).Distinct().ToList();
        verbs.ShouldContain("trace");
        foreach (var verb in verbs)
        {
            using var process = Process.Start(new ProcessStartInfo(System.IO.Path.Combine(AppContext.BaseDirectory, "traceprobe"), [verb, "--help"]) { RedirectStandardOutput = true })!;
            await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            process.ExitCode.ShouldBe(0, verb);
        }
    }

    [Fact]
    public void Files_Exist()
    {
        foreach (var link in Link().Matches(File.ReadAllText(Path)).Select(m => m.Groups[1].Value))
        {
            File.Exists(System.IO.Path.Combine(Repository.Root, link)).ShouldBeTrue(link);
        }
    }

    [GeneratedRegex(@"^ +([0-9])  (.*)$", RegexOptions.Multiline)]
    private static partial Regex HelpCode();

    [GeneratedRegex(@"^\| ([0-9]) \| (.*) \|$", RegexOptions.Multiline)]
    private static partial Regex ReadmeCode();

    [GeneratedRegex(@"(?:^sudo |^|`|\$ sudo )traceprobe ([a-z]+)", RegexOptions.Multiline)]
    private static partial Regex Verb();

    [GeneratedRegex(@"\]\(([^)h][^)]*)\)")]
    private static partial Regex Link();
}
