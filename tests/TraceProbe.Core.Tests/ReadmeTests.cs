using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Tests;

public class ReadmeTests
{
    private const string Begin = "<!-- classes: made from FailureClassInfo; a test holds them together -->\n";
    private const string End = "<!-- /classes -->";

    [Fact]
    public void FailureClasses_AreThoseOfTheCatalogue()
    {
        var path = Path.Combine(Repository.Root, "README.md");
        var readme = File.ReadAllText(path);
        var (from, to) = (readme.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, readme.IndexOf(End, StringComparison.Ordinal));
        var table = "| class | stage | what is wrong | what mends it |\n|---|---|---|---|\n"
            + string.Concat(FailureClassInfo.All.Select(c => $"| `{c.Name}` | {c.Stage?.ToString().ToLowerInvariant()} | {Cell(c.Meaning)} | {Cell(c.Mend)} |\n"));
        if (Environment.GetEnvironmentVariable("TRACEPROBE_ACCEPT_README") == "1")
        {
            File.WriteAllText(path, readme[..from] + table + readme[to..]);
            return;
        }

        readme[from..to].ShouldBe(table, "TRACEPROBE_ACCEPT_README=1 writes the table anew");
    }

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);
}
