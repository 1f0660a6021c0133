using System.Xml.Linq;

namespace TraceProbe.Core.Tests;

public class ArchitectureTests
{
    // Who may know whom. Core knows nobody; Capture and Cluster never see each other.
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["TraceProbe.Core"] = [],
        ["TraceProbe.Capture"] = ["TraceProbe.Core"],
        ["TraceProbe.Cluster"] = ["TraceProbe.Core"],
        ["TraceProbe.Lab"] = ["TraceProbe.Core"],
        ["TraceProbe.Agent"] = ["TraceProbe.Core", "TraceProbe.Capture", "TraceProbe.Cluster"],
        ["TraceProbe.Cli"] = ["TraceProbe.Core", "TraceProbe.Capture", "TraceProbe.Cluster", "TraceProbe.Agent", "TraceProbe.Lab"],
    };

    [Fact]
    public void ProjectReferences_PointAtCore()
    {
        var projects = Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.csproj", SearchOption.AllDirectories);
        projects.Select(Path.GetFileNameWithoutExtension).Order().ShouldBe(Allowed.Keys.Order());
        foreach (var project in projects)
        {
            var name = Path.GetFileNameWithoutExtension(project);
            var references = XDocument.Load(project).Descendants("ProjectReference")
                .Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value.Replace('\\', '/')));
            references.Except(Allowed[name]).ShouldBeEmpty($"{name} sees what it must not see");
        }
    }

    [Fact]
    public void Core_KnowsNoLinuxNoHttpNoClock()
    {
        // What would make a replay depend on where and when it runs.
        string[] forbidden = ["LibraryImport", "DllImport", "System.Net.Http", "DateTime.Now", "DateTime.UtcNow", "DateTimeOffset.Now", "DateTimeOffset.UtcNow", "Stopwatch", "Process.Start", "Environment.GetEnvironmentVariable"];
        foreach (var file in Directory.GetFiles(Path.Combine(Repository.Root, "src", "TraceProbe.Core"), "*.cs", SearchOption.AllDirectories))
        {
            if (file.Contains("/obj/", StringComparison.Ordinal) || file.Contains("/bin/", StringComparison.Ordinal))
            {
                continue;
            }

            var text = File.ReadAllText(file);
            forbidden.Where(text.Contains).ShouldBeEmpty(file);
        }
    }
}
