using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>Two labs with the same addresses on one machine: what belongs to whom is told by network namespaces alone.</summary>
public class SideBySide(NftLab one, UserspaceLab other) : IClassFixture<NftLab>, IClassFixture<UserspaceLab>
{
    [Fact]
    public async Task TwoLabsTracedAtOnce_EachSeesOnlyItsOwn()
    {
        one.Lab.Break("wrong-target-port");
        other.Lab.Break("no-pods");
        for (var round = 0; round < 3; round++)
        {
            var first = Task.Run(() => Recorded(one, Url.IPv4));
            var second = Task.Run(() => Recorded(other, Url.IPv4));
            var recordings = await Task.WhenAll(first, second);

            Diagnose.Run(recordings[0]).Verdict.Class.ShouldBe(FailureClass.WrongTargetPort);
            Diagnose.Run(recordings[1]).Verdict.Class.ShouldBe(FailureClass.NoPods);
            foreach (var recording in recordings)
            {
                var own = recording.Manifest.Places.Select(p => p.NetNs).ToHashSet();
                recording.Events.ShouldNotBeEmpty();
                recording.Events.ShouldAllBe(e => e.NetNs == 0 || own.Contains(e.NetNs));
            }

            recordings[0].Manifest.Places.Select(p => p.NetNs).Intersect(recordings[1].Manifest.Places.Select(p => p.NetNs)).ShouldBeEmpty();
        }
    }

    private static Recording Recorded(ScenarioLab lab, string url)
    {
        var file = Path.Combine(Path.GetTempPath(), $"{lab.Name}.tprec");
        try
        {
            var traced = lab.Trace(url, "pod/ubuntu", "--save", file);
            File.Exists(file).ShouldBeTrue(traced.Error);
            return RecordingArchive.Read(file).Recording;
        }
        finally
        {
            File.Delete(file);
        }
    }
}
