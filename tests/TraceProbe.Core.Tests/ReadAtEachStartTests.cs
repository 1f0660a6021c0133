using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests;

/// <summary>What each trace reads at its start is read by hand and written by the serializer: the two have to agree.</summary>
public sealed class ReadAtEachStartTests
{
    private delegate object Reading(ReadOnlySpan<byte> text);

    public static TheoryData<string> Formats => ["places", "baseline"];

    [Fact]
    public void Places_LoseNothing()
    {
        // Every kind of place, whatever number its fields are filled with.
        ImmutableArray<Place> places = [.. FilledObject.Of<ImmutableArray<Place>>().SelectMany(p => Enum.GetValues<PlaceKind>().Select(k => p with { Kind = k })), new Place()];
        FilledObject.Difference(places, PlaceList.Read(PlaceList.Write(places))).ShouldBeNull();
    }

    [Fact]
    public void Baseline_LosesNothing()
    {
        var baseline = FilledObject.Of<Baseline>();
        var stages = Enum.GetValues<Stage>().SelectMany(stage => Enum.GetValues<StageStatus>().Select(status => baseline.Stages[0] with { Stage = stage, Status = status }));
        foreach (var scheme in Enum.GetValues<RequestScheme>())
        {
            var whole = baseline with { Stages = [.. stages], Target = baseline.Target with { Scheme = scheme } };
            FilledObject.Difference(whole, Baseline.Read(JsonSerializer.SerializeToUtf8Bytes(whole, ReportJson.Default.Baseline))).ShouldBeNull();
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void CutAnywhere_IsRefused(string format)
    {
        var (text, read) = Of(format);
        for (var length = 0; length < text.Length; length++)
        {
            Should.Throw<JsonException>(() => read(text.AsSpan(0, length)), $"cut after {length} bytes");
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void DamagedAnywhere_IsReadOrRefused(string format)
    {
        var (text, read) = Of(format);
        foreach (var damage in (byte[])[0, (byte)'"', (byte)'\\', (byte)'{', (byte)']', (byte)'-', (byte)'9', (byte)'u', 0xC3])
        {
            for (var at = 0; at < text.Length; at++)
            {
                var damaged = (byte[])text.Clone();
                damaged[at] = damage;
                try
                {
                    read(damaged).ShouldNotBeNull();
                }
                catch (JsonException)
                {
                    // said so
                }
            }
        }
    }

    [Theory]
    [InlineData("""{"version":1,"name":"a","client":"c","service":"s","target":{"scheme":"Http","host":"h","port":80,"path":"/"},"recordedAt":"2026-01-02T03:04:05Z"}""", "stages")]
    [InlineData("""{"version":1,"name":null,"client":"c","service":"s","target":{"scheme":"Http","host":"h","port":80,"path":"/"},"recordedAt":"2026-01-02T03:04:05Z","stages":[]}""", "name")]
    [InlineData("""{"version":1,"name":"a","client":"c","service":"s","target":{"scheme":"Http","host":"h","port":80000,"path":"/"},"recordedAt":"2026-01-02T03:04:05Z","stages":[]}""", "port")]
    [InlineData("""{"version":1,"name":"a","client":"c","service":"s","target":{"scheme":"Http","host":"h","port":80,"path":"/"},"recordedAt":"2026-01-02T03:04:05Z","stages":[{"stage":77,"status":"passed","facts":[]}]}""", "string was expected")]
    [InlineData("""{"version":1,"name":"a","client":"\ud800","service":"s"}""", "no text")]
    public void BaselineWithoutWhatItNeeds_SaysWhat(string text, string words)
        => Should.Throw<JsonException>(() => Baseline.Read(System.Text.Encoding.UTF8.GetBytes(text))).Message.ShouldContain(words);

    private static (byte[] Text, Reading Read) Of(string format) => format == "places"
        ? (PlaceList.Write(FilledObject.Of<ImmutableArray<Place>>()), text => PlaceList.Read(text))
        : (JsonSerializer.SerializeToUtf8Bytes(FilledObject.Of<Baseline>(), ReportJson.Default.Baseline), Baseline.Read);
}
