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

    /// <summary>Mode, way of asking, fault and variant, without those that make no sense.</summary>
    public static TheoryData<ProxyMode, string, string, string> Cells =>
    [
        .. from mode in Modes
           from way in Ways(mode)
           from fault in Fault.All
           where fault.WhyNotIn(mode) is null && (MatrixRow.IsAsked ? Only is null || Only.Contains(fault.Name) : Fault.All.IndexOf(fault) % 4 == 0)
               && (way == Way.Own || (new Way(way).RequestOf(fault).WhyNot is null && (mode == ProxyMode.IptablesNft || IsOfRules(fault))))
           select (mode, way, fault.Name, fault.Variant ?? ""),
    ];

    // Of the whole table some modes, some ways of asking, or some faults, when these are named.
    private static string[]? Only => Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX_FAULTS") is { Length: > 0 } some ? some.Split(' ') : null;

    // The ways of asking besides the fault's own are tried in one mode whole, and in nftables mode where the rules are what matters.
    private static string[] Ways(ProxyMode mode) => !MatrixRow.IsAsked ? [Way.Own]
        : [.. (Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX_COLUMNS") is { Length: > 0 } some ? some.Split(' ') : [Way.Own, .. Way.All.Select(w => w.Name)])
            .Where(w => w == Way.Own || mode is ProxyMode.IptablesNft or ProxyMode.Nftables)];

    private static bool IsOfRules(Fault fault) => FailureClassInfo.Of(fault.Class).Stage is Stage.Define or Stage.Translate || fault.Class is FailureClass.DroppedByRule or FailureClass.RejectedByRule;

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
    public async Task Fault_IsNamed_AndItsMendMends(ProxyMode mode, string way, string name, string variant)
    {
        ScenarioLab.SkipUnlessPossible(mode);
        var fault = Fault.Find(name, variant.Length == 0 ? null : variant);
        var lab = _lab = await labs.Of(mode);
        var broken = lab.Lab;
        using var row = new MatrixRow(fault, broken.Proxy, way);
        var (url, from, _) = way == Way.Own ? (fault.Url, fault.From, null) : new Way(way).RequestOf(fault);
        string[] options = fault.IsMusl ? ["--resolver", "musl"] : [];
        lab.Baseline(url, from);
        broken.Break(fault);

        var outcome = lab.Trace(url, from, [.. options, .. row.Recording]);
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
            var after = lab.Trace(url, from, options);
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

    [Fact]
    public void EachWayOfAsking_HasARequest_OrAReasonWhyThereIsNone()
    {
        foreach (var (way, fault) in from way in Way.All from fault in Fault.All select (way, fault))
        {
            var (url, _, whyNot) = way.RequestOf(fault);
            (url.Length > 0).ShouldBe(whyNot is null, $"{fault} {way.Name}");
            if (whyNot is not null && MatrixRow.IsAsked)
            {
                MatrixRow.NotApplicable(ProxyMode.IptablesNft, way.Name, fault, whyNot);
            }
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
