using System.IO.Compression;
using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Tests;

/// <summary>What a real kube-proxy wrote, and the objects it wrote it for.</summary>
internal static class KubeProxyFixture
{
    internal static string Folder(string name) => Path.Combine(AppContext.BaseDirectory, "Fixtures", name);

    internal static ClusterSnapshot Objects(string folder)
    {
        var reader = new ClusterListReader((_, yaml) => yaml);
        foreach (var kind in (string[])["services", "endpointslices", "pods", "nodes"])
        {
            reader.Add(kind, Encoding.UTF8.GetBytes(Text(Path.Combine(folder, $"{kind}.json"))));
        }

        return reader.ToSnapshot();
    }

    /// <summary>The folder of a case that is too big for the repository and lies beside it where the project is developed; null elsewhere.</summary>
    internal static string? Scale(string name)
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            var path = Path.Combine(folder.FullName, "shared", "fixtures", "kube-proxy", "1.36.3", name);
            if (Directory.Exists(path))
            {
                return path;
            }
        }

        return null;
    }

    internal static string Text(string path)
    {
        if (File.Exists(path))
        {
            return File.ReadAllText(path);
        }

        using var packed = new GZipStream(File.OpenRead(path + ".gz"), CompressionMode.Decompress);
        using var reader = new StreamReader(packed);
        return reader.ReadToEnd();
    }
}
