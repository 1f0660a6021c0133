using System.IO.Compression;

namespace TraceProbe.Cluster.Tests;

/// <summary>Finds recorded material: some in this project's Fixtures folder, all of it beside the checkout in ../shared/fixtures.</summary>
internal static class Fixture
{
    public static string Own(string name) => Path.Combine(AppContext.BaseDirectory, "Fixtures", name);

    /// <summary>../shared/fixtures/kube-proxy seen from the checkout, or null when it is not there.</summary>
    public static string? Shared
    {
        get
        {
            for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(Path.Combine(folder.FullName, "TraceProbe.sln")))
                {
                    var shared = Path.Combine(folder.FullName, "..", "shared", "fixtures", "kube-proxy");
                    return Directory.Exists(shared) ? Path.GetFullPath(shared) : null;
                }
            }

            return null;
        }
    }

    /// <summary>Skips the test, saying why, where the shared fixtures are absent.</summary>
    public static string RequireShared()
    {
        Assert.SkipWhen(Shared is null, "needs the recorded fixtures in ../shared/fixtures beside the checkout");
        return Shared!;
    }

    /// <summary>The file, or the gzipped file, of that name in the folder; null when there is neither.</summary>
    public static string? Find(string folder, string name)
        => File.Exists(Path.Combine(folder, name)) ? Path.Combine(folder, name)
            : File.Exists(Path.Combine(folder, name + ".gz")) ? Path.Combine(folder, name + ".gz") : null;

    public static string Text(string path)
    {
        if (!path.EndsWith(".gz", StringComparison.Ordinal))
        {
            return File.ReadAllText(path);
        }

        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        return reader.ReadToEnd();
    }
}
