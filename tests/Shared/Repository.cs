namespace TraceProbe.Tests;

/// <summary>Where the tests find the project's own files.</summary>
internal static class Repository
{
    /// <summary>The checkout's top folder: the nearest one above the test that holds the solution.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "TraceProbe.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("The tests run from inside a checkout, and none was found above them.");
    }
}
