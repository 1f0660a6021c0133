using System.Collections.Immutable;
using System.IO.Compression;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Tests;

/// <summary>What a real kube-proxy wrote, and the objects it wrote it for.</summary>
internal static class KubeProxyFixture
{
    internal static string Folder(string name) => Path.Combine(AppContext.BaseDirectory, "Fixtures", name);

    internal static ClusterSnapshot Objects(string folder) => new()
    {
        Services = List(folder, "services", KubernetesJson.Default.Service),
        EndpointSlices = List(folder, "endpointslices", KubernetesJson.Default.EndpointSlice),
        Pods = List(folder, "pods", KubernetesJson.Default.Pod),
        Nodes = List(folder, "nodes", KubernetesJson.Default.Node),
    };

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

    private static ImmutableArray<T> List<T>(string folder, string kind, JsonTypeInfo<T> type)
    {
        using var list = JsonDocument.Parse(Text(Path.Combine(folder, $"{kind}.json")));
        // A collection that is null in the object is one that is empty.
        return [.. list.RootElement.GetProperty("items").EnumerateArray().Select(item => JsonSerializer.Deserialize(item, type)!)];
    }
}
