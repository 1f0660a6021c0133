using System.Buffers;
using System.Text;
using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Tests;

public sealed class ObjectReaderTests
{
    private delegate T ReadObject<T>(ref Utf8JsonReader json);

    [Fact]
    public void EveryProperty_IsWrittenAndReadAgain()
    {
        var reader = new ObjectReader();
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadService);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadEndpointSlice);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadPod);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadNode);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadNetworkPolicy);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadNamespace);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadEvent);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadConfigMap);
        ReadsWhatIsWritten(ObjectWriter.Write, reader.ReadSettings);

        static void ReadsWhatIsWritten<T>(Action<Utf8JsonWriter, T> write, ReadObject<T> read)
        {
            var filled = FilledObject.Of<T>();
            var json = new Utf8JsonReader(Json(filled, write));
            json.Read();
            FilledObject.Difference(read(ref json), filled).ShouldBeNull();
            json.TokenType.ShouldBe(JsonTokenType.EndObject);
            json.BytesConsumed.ShouldBe(Json(filled, write).Length);
        }
    }

    [Fact]
    public void AWholeSnapshot_IsWrittenAndReadAgain()
    {
        var filled = FilledObject.Of<ClusterSnapshot>();
        var snapshot = filled with
        {
            AlsoRead = ["namespaces", "networkpolicies", "events"],
            Events = [.. filled.Events.Select(e => e with { Type = "Warning", InvolvedObject = e.InvolvedObject with { Kind = "Pod" } })],
        };
        var reader = new ClusterListReader((_, yaml) => yaml);
        reader.Add("snapshot.json", ClusterList.Write(snapshot).Span);
        FilledObject.Difference(reader.ToSnapshot(), snapshot).ShouldBeNull();
        reader.Ignored.ShouldBeEmpty();
    }

    [Fact]
    public void AnEmptySnapshot_IsNotOneOfKindsThatWereNotRead()
    {
        var reader = new ClusterListReader((_, yaml) => yaml);
        reader.Add("snapshot.json", ClusterList.Write(ClusterSnapshot.Empty).Span);
        reader.ToSnapshot().Unread.ShouldBeEmpty();
    }

    [Fact]
    public void PodsOfOneWorkload_KeepWhatTheyShareOnce()
    {
        const string pod = """
            {"metadata":{"name":"NAME","namespace":"shop","labels":{"app":"web","tier":"front"},"ownerReferences":[{"kind":"ReplicaSet","name":"web"}]},
             "spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","ports":[{"name":"http","containerPort":80}],"readinessProbe":{"httpGet":{"path":"/","port":"http"}}}]},
             "status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"TIME"}],"containerStatuses":[{"name":"c","state":{"running":{"startedAt":"2026-01-02T03:04:05Z"}}}]}}
            """;
        var reader = new ObjectReader();
        var one = Read(pod.Replace("NAME", "a", StringComparison.Ordinal), reader.ReadPod);
        var two = Read(pod.Replace("NAME", "b", StringComparison.Ordinal).Replace("""{"app":"web","tier":"front"}""", """{"tier":"front","app":"web"}""", StringComparison.Ordinal), reader.ReadPod);
        two.Metadata.Name.ShouldBe("b");
        two.Metadata.Namespace.ShouldBeSameAs(one.Metadata.Namespace);
        two.Metadata.Labels.ShouldBeSameAs(one.Metadata.Labels);
        two.Metadata.OwnerReferences.ShouldBe(one.Metadata.OwnerReferences);
        two.Spec.ShouldBeSameAs(one.Spec);
        (two.Status.Conditions == one.Status.Conditions).ShouldBeTrue();
        two.Status.ContainerStatuses[0].State.ShouldBeSameAs(one.Status.ContainerStatuses[0].State);
        var other = Read(pod.Replace("front", "back", StringComparison.Ordinal).Replace("containerPort\":80", "containerPort\":81", StringComparison.Ordinal), reader.ReadPod);
        other.Metadata.Labels["tier"].ShouldBe("back");
        other.Spec.Containers[0].Ports[0].Port.ShouldBe(81);
    }

    [Fact]
    public void MoreObjectsThanCanBeRemembered_AreStillReadRight()
    {
        var reader = new ObjectReader();
        for (var i = 0; i < 10_000; i++)
        {
            var pod = Read($$$"""{"metadata":{"name":"pod-{{{i}}}","labels":{"a":"{{{i}}}","b":"{{{i % 7}}}"}},"status":{"conditions":[{"type":"T{{{i % 300}}}","status":"{{{i}}}"}]}}""", reader.ReadPod);
            pod.Metadata.Name.ShouldBe($"pod-{i}");
            pod.Metadata.Labels.ShouldBe(new Dictionary<string, string> { ["a"] = $"{i}", ["b"] = $"{i % 7}" });
            pod.Status.Conditions[0].ShouldBe(new Condition { Type = $"T{i % 300}", Status = $"{i}" });
        }
    }

    [Fact]
    public void EscapesAndRepeatedMembers_AreReadAsJsonMeansThem()
    {
        var reader = new ObjectReader();
        var service = Read("""{"m\u0065tadata":{"name":"w\u0065b","labels":{"k\u0065y":"\"q\"","key":"last","none":null}},"spec":{"type":"A","type":"B"}}""", reader.ReadService);
        service.Metadata.Name.ShouldBe("web");
        service.Metadata.Labels.ShouldBe(new Dictionary<string, string> { ["key"] = "last" });
        service.Spec.Type.ShouldBe("B");
    }

    [Theory]
    [InlineData("""{"metadata":{"name":7}}""", "metadata.name")]
    [InlineData("""{"metadata":{"name":"a","labels":{"a":"b","version":1.0}}}""", "metadata.labels.version")]
    [InlineData("""{"metadata":{"creationTimestamp":"yesterday"}}""", "metadata.creationTimestamp")]
    [InlineData("""{"status":{"containerStatuses":[{"name":"a"},{"restartCount":1.5}]}}""", "status.containerStatuses[1].restartCount")]
    [InlineData("""{"status":{"podIPs":[{"ip":"a"},["b"]]}}""", "status.podIPs[1]")]
    [InlineData("""{"spec":{"hostNetwork":"true"}}""", "spec.hostNetwork")]
    [InlineData("""{"spec":{"containers":[{"ports":[{"containerPort":99999999999}]}]}}""", "spec.containers[0].ports[0].containerPort")]
    public void WrongValue_IsToldWithItsPlace(string pod, string path)
    {
        var bytes = Encoding.UTF8.GetBytes(pod);
        var json = new Utf8JsonReader(bytes);
        json.Read();
        try
        {
            _ = new ObjectReader().ReadPod(ref json);
            Assert.Fail("It was read.");
        }
        catch (JsonException e)
        {
            e.LineNumber.ShouldBeNull();
            JsonPlace.Path(bytes, json.TokenStartIndex).ShouldBe(path);
        }
    }

    [Fact]
    public void CutOrDamagedAnywhere_IsAnErrorOrAnObject()
    {
        var reader = new ClusterListReader((_, yaml) => yaml);
        var whole = ClusterList.Write(FilledObject.Of<ClusterSnapshot>()).ToArray();
        for (var length = 1; length < whole.AsSpan().TrimEnd((byte)10).Length; length += 7)
        {
            Should.Throw<FormatException>(() => reader.Add("cut", whole.AsSpan(0, length)), $"{length}");
        }

        var random = new Random(4);
        for (var i = 0; i < 2_000; i++)
        {
            try
            {
                reader.Add("damaged", Mutation.Of(whole, random));
            }
            catch (FormatException)
            {
                // What it is for.
            }
        }
    }

    private static T Read<T>(string text, ReadObject<T> read)
    {
        var json = new Utf8JsonReader(Encoding.UTF8.GetBytes(text));
        json.Read();
        return read(ref json);
    }

    private static byte[] Json<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        write(json, value);
        json.Flush();
        return buffer.WrittenSpan.ToArray();
    }
}
