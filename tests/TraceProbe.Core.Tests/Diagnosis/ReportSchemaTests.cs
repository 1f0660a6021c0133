using System.Text.Json.Nodes;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Tests.Recordings;

namespace TraceProbe.Core.Tests.Diagnosis;

/// <summary>The schema is what others read our JSON by: it and the C# types say the same.</summary>
public class ReportSchemaTests
{
    private static readonly JsonSchema Schema = new("src/TraceProbe.Core/Diagnosis/report.schema.json", ReportJson.Default);

    [Fact]
    public void TypesAndSchema_SayTheSame() => Schema.ShouldDescribe(typeof(Report));

    [Fact]
    public void FailureClasses_AreThoseOfTheTable()
        => Schema.Root["$defs"]!["FailureClass"]!["enum"]!.AsArray().Select(n => (string)n!).ShouldBe(FailureClassInfo.All.Select(c => c.Name));

    [Fact]
    public void Scenarios_FollowTheSchema()
    {
        var checkedAny = false;
        var folder = Path.Combine(Repository.Root, "tests", "scenarios");
        foreach (var path in Directory.Exists(folder) ? Directory.EnumerateFileSystemEntries(folder) : [])
        {
            if (Directory.Exists(path) || path.EndsWith(RecordingArchive.Extension, StringComparison.Ordinal))
            {
                Schema.Validate(JsonNode.Parse(ReportJson.Write(Diagnose.Run(RecordingArchive.Read(path).Recording)))!, Path.GetFileName(path));
                checkedAny = true;
            }
        }

        Schema.Validate(JsonNode.Parse(ReportJson.Write(RecordingSamples.Report))!, "sample");
        if (!checkedAny)
        {
            Assert.Skip("there is no scenario yet");
        }
    }

    [Fact]
    public void Written_IsReadableAndEndsWithALineFeed()
    {
        var text = System.Text.Encoding.UTF8.GetString(ReportJson.Write(RecordingSamples.Report));
        text.ShouldContain("kubectl -n 'a' > ");
        text.ShouldEndWith("}\n");
        text.ShouldNotContain("\r");
        text.ShouldNotContain("null");
    }
}
