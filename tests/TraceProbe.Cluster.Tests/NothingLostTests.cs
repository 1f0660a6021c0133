using System.Buffers;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Tests;

/// <summary>
/// Every object that real API servers (1.20, 1.33, 1.36) told of is read, and every field that the models have a place for is in what was read.
/// </summary>
public sealed class NothingLostTests
{
    private static readonly Dictionary<string, JsonNode> Shapes = new()
    {
        ["Service"] = Shape<Service>(ObjectWriter.Write),
        ["EndpointSlice"] = Shape<EndpointSlice>(ObjectWriter.Write),
        ["Pod"] = Shape<Pod>(ObjectWriter.Write),
        ["Node"] = Shape<Core.Cluster.Node>(ObjectWriter.Write),
        ["Namespace"] = Shape<Namespace>(ObjectWriter.Write),
        ["NetworkPolicy"] = Shape<NetworkPolicy>(ObjectWriter.Write),
    };

    [Theory]
    [InlineData("kube-proxy-1.20-legacy")]
    [InlineData("kube-proxy-1.36-nft")]
    public void OwnFixtures_AreReadWhole(string name)
        => new[] { "services.json", "endpointslices.json", "pods.json", "nodes.json" }.Sum(f => Compare(Fixture.Find(Fixture.Own(name), f)!)).ShouldBeGreaterThan(1000);

    [Fact]
    public void SharedFixtures_AreReadWhole()
    {
        var compared = 0;
        foreach (var file in Directory.EnumerateFiles(Fixture.RequireShared(), "*.json*", SearchOption.AllDirectories))
        {
            if (Path.GetFileName(file).Split('.')[0] is "services" or "pods" or "nodes" or "endpointslices" or "namespaces" or "networkpolicies" && !file.Contains("c-10000x2", StringComparison.Ordinal))
            {
                compared += Compare(file);
            }
        }

        compared.ShouldBeGreaterThan(100_000);
    }

    // How many fields were compared.
    private static int Compare(string file)
    {
        var snapshot = SnapshotReader.Read(file);
        var read = snapshot.Services.Select(s => Tree(s, ObjectWriter.Write)).Concat(snapshot.EndpointSlices.Select(s => Tree(s, ObjectWriter.Write)))
            .Concat(snapshot.Pods.Select(s => Tree(s, ObjectWriter.Write))).Concat(snapshot.Nodes.Select(s => Tree(s, ObjectWriter.Write)))
            .Concat(snapshot.Namespaces.Select(s => Tree(s, ObjectWriter.Write))).Concat(snapshot.NetworkPolicies.Select(s => Tree(s, ObjectWriter.Write)))
            .ToDictionary(NameOf);
        var told = JsonNode.Parse(Fixture.Text(file))!["items"]!.AsArray().Select(item => item!).ToArray();
        read.Count.ShouldBe(told.Length, file);
        return told.Sum(item => Compare(item, read[NameOf(item)], Shapes[read[NameOf(item)]["kind"]!.GetValue<string>()], $"{file}: {NameOf(item)}"));
    }

    private static (string?, string) NameOf(JsonNode item)
        => (item["metadata"]!["namespace"]?.GetValue<string>(), item["metadata"]!["name"]!.GetValue<string>());

    private static int Compare(JsonNode told, JsonNode? read, JsonNode shape, string path)
    {
        switch (told, shape)
        {
            case (JsonObject members, JsonObject places):
                return members.Where(m => m.Value is not null && (places.ContainsKey(m.Key) || IsMap(path)) && m.Key is not ("apiVersion" or "managedFields")
                        && (!path.EndsWith(".annotations", StringComparison.Ordinal) || ObjectMeta.UsesAnnotation(m.Key)))
                    .Sum(m => Compare(m.Value!, (read as JsonObject)?[m.Key], IsMap(path) ? places.First().Value! : places[m.Key]!, $"{path}.{m.Key}"));
            case (JsonArray items, JsonArray kinds):
                if (items.Count > 0)
                {
                    (read as JsonArray)?.Count.ShouldBe(items.Count, path);
                }

                return items.Select((item, i) => Compare(item!, (read as JsonArray)?[i], kinds[0]!, $"{path}[{i}]")).Sum();
            default:
                // What is left out when it is written means the same as what it was.
                var isDefault = told.ToJsonString() is "0" or "false" or "\"\"";
                if (!isDefault || read is not null)
                {
                    read.ShouldNotBeNull(path);
                    Text(read).ShouldBe(Text(told), path);
                }

                return 1;
        }
    }

    private static bool IsMap(string path) => path.EndsWith(".annotations", StringComparison.Ordinal) || path.EndsWith(".labels", StringComparison.Ordinal) || path.EndsWith(".selector", StringComparison.Ordinal) || path.EndsWith(".matchLabels", StringComparison.Ordinal);

    private static string Text(JsonNode value) => value.GetValueKind() == JsonValueKind.String && DateTimeOffset.TryParse(value.GetValue<string>(), CultureInfo.InvariantCulture, out var time)
        ? time.ToString("O", CultureInfo.InvariantCulture) : value.ToJsonString();

    private static JsonNode Shape<T>(Action<Utf8JsonWriter, T> write) => Tree(FilledObject.Of<T>(), write);

    private static JsonNode Tree<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        write(json, value);
        json.Flush();
        return JsonNode.Parse(buffer.WrittenSpan)!;
    }
}
