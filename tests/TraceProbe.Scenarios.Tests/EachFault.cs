using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>
/// Every way to break a lab, in every mode of kube-proxy: the verdict names the class that it is, and where the verdict has a command, that
/// command mends it.
/// </summary>
/// <remarks>All of them take half an hour, so that <c>make test-matrix</c> asks for them; each run of all tests does a quarter of them, in one mode.</remarks>
public sealed class EachFault(LabOfEachMode labs) : IClassFixture<LabOfEachMode>, IDisposable
{
    private ScenarioLab? _lab;

    /// <summary>Mode, fault and variant, without those that the mode cannot have.</summary>
    public static TheoryData<ProxyMode, string, string> Cells => [.. Modes.SelectMany(mode => Fault.All.Where(f => f.WhyNotIn(mode) is null && (MatrixRow.IsAsked ? Only is null || Only.Contains(f.Name) : Fault.All.IndexOf(f) % 4 == 0))
        .Select(f => (mode, f.Name, f.Variant ?? "")))];

    // Of the whole table some modes, or some faults, when these are named.
    private static string[]? Only => Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX_FAULTS") is { Length: > 0 } some ? some.Split(' ') : null;

    internal static ProxyMode[] Modes => !MatrixRow.IsAsked ? [ProxyMode.IptablesNft]
        : Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX_MODES") is { Length: > 0 } some ? [.. some.Split(' ').Select(Enum.Parse<ProxyMode>)]
        : [ProxyMode.IptablesNft, ProxyMode.IptablesLegacy, ProxyMode.Nftables, ProxyMode.Userspace];

    // Whatever came of the test.
    public void Dispose()
    {
        _lab?.Lab.Mend();
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public async Task Fault_IsNamed_AndItsMendMends(ProxyMode mode, string name, string variant)
    {
        ScenarioLab.SkipUnlessPossible(mode);
        var fault = Fault.Find(name, variant.Length == 0 ? null : variant);
        var lab = _lab = await labs.Of(mode);
        var broken = lab.Lab;
        using var row = new MatrixRow(fault, broken.Proxy);
        string[] options = fault.IsMusl ? ["--resolver", "musl"] : [];
        lab.Baseline(fault);
        broken.Break(fault);

        var outcome = lab.Trace(fault.Url, fault.From, [.. options, .. row.Recording]);
        row.Told(outcome);
        outcome.Output.ShouldNotBeEmpty(outcome.Error);
        var verdict = outcome.Verdict;
        var told = Told(outcome);
        verdict.Class.ShouldBe(fault.Class, told);
        verdict.Confidence.ShouldBe(Confidence.Certain, told);
        verdict.Objects.ShouldNotBeEmpty(told);
        outcome.ExitCode.ShouldBe(1, told);
        // What is wrong with both address families, or in several chains, is mended one after the other, as each verdict says.
        for (var round = 0; round < 4 && verdict.Mend?.Command is { } command && !OnlyShows(verdict.Mend); round++)
        {
            var said = broken.Execute(command, verdict.Mend.On);
            var after = lab.Trace(fault.Url, fault.From, options);
            row.Mended(after);
            told = $"{command}\n{said}\n{Told(after)}";
            if (after.Verdict.Class is FailureClass.Healthy or FailureClass.SlowerThanBaseline)
            {
                return;
            }

            after.Verdict.Class.ShouldBe(fault.Class, told);
            verdict = after.Verdict;
        }

        if (verdict.Mend?.Command is not null && !OnlyShows(verdict.Mend))
        {
            Assert.Fail($"It is not mended: {told}");
        }
    }

    // Where no single command mends it, the verdict has one that shows more, or opens an editor; and the lab's own kubectl has no jq behind it.
    private static bool OnlyShows(Mend mend) => mend.OnlyShows == true || mend.Command!.Contains("| jq ", StringComparison.Ordinal);

    private static string Told(Outcome outcome)
    {
        var verdict = outcome.Verdict;
        return $"{verdict.Sentence}\n{string.Join('\n', verdict.Evidence.Select(e => $"{e.Source}: {e.Text}"))}\n"
            + $"{string.Join('\n', outcome.Report.Timeline.Select(s => $"{s.Nanoseconds / 1e6:0.000} {s.Place} {s.Text}"))}\n{string.Join('\n', verdict.NotSeen)}\n{outcome.Error}";
    }
}

/// <summary>A lab of each mode, made when the first test asks for it.</summary>
public sealed class LabOfEachMode : IAsyncDisposable
{
    private readonly Dictionary<ProxyMode, ScenarioLab> _labs = [];

    public async ValueTask<ScenarioLab> Of(ProxyMode mode)
    {
        if (!_labs.TryGetValue(mode, out var lab))
        {
            _labs.Add(mode, lab = mode switch
            {
                ProxyMode.IptablesLegacy => new LegacyLab(),
                ProxyMode.Nftables => new NftablesLab(),
                ProxyMode.Userspace => new UserspaceLab(),
                _ => new NftLab(),
            });
            await lab.InitializeAsync();
        }

        return lab;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var lab in _labs.Values)
        {
            await lab.DisposeAsync();
        }
    }
}
