using System.Text;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Recordings;

/// <summary>
/// Recordings of real requests through real rules, each in a folder (or <c>.tprec</c> file) named after what went wrong, with the verdict
/// that we stand by. A user's recording becomes a test by copying it in. None needs a privilege.
/// </summary>
public class ScenarioTests
{
    private static readonly string Folder = Path.Combine(Repository.Root, "tests", "scenarios");

    public static TheoryData<string> All()
    {
        var all = new TheoryData<string>();
        foreach (var path in Directory.EnumerateFileSystemEntries(Folder).Order(StringComparer.Ordinal))
        {
            if (Directory.Exists(path) || path.EndsWith(RecordingArchive.Extension, StringComparison.Ordinal))
            {
                all.Add(Path.GetFileName(path));
            }
        }

        return all;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Recording_GivesItsVerdictAgain(string name)
    {
        var path = Path.Combine(Folder, name);
        var saved = RecordingArchive.Read(path);
        saved.Verdict.ShouldNotBeNull("a scenario holds the verdict that we stand by");
        var report = Diagnose.Run(saved.Recording);
        var written = ReportJson.Write(report);
        if (Environment.GetEnvironmentVariable("TRACEPROBE_ACCEPT_VERDICTS") == "1" && !saved.Verdict.Value.Span.SequenceEqual(written))
        {
            // After a wording has changed on purpose: the differences are then read in the commit.
            RecordingArchive.Write(path, saved.Recording, report);
            return;
        }

        Encoding.UTF8.GetString(written).ShouldBe(Encoding.UTF8.GetString(saved.Verdict.Value.Span));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Recording_NamesItsFolder(string name)
    {
        // wrong-target-port.userspace: the class, then what sets it apart.
        var expected = Path.GetFileNameWithoutExtension(name.EndsWith(RecordingArchive.Extension, StringComparison.Ordinal) ? name : name + ".").Split('.')[0];
        FailureClassInfo.Of(Diagnose.Run(RecordingArchive.Read(Path.Combine(Folder, name)).Recording).Verdict.Class).Name.ShouldBe(expected);
    }
}
