using System.Text;
using System.Text.Json.Nodes;
using TraceProbe.Cluster.Api;

namespace TraceProbe.Cluster.Tests.Api;

/// <summary>Where objects end, and what of them is left out before they are read.</summary>
public class ObjectTextTests
{
    private const string Fields = """[{"manager":"kubelet","fieldsV1":{"f:status":{"k:{\"type\":\"Ready\"}":{".":{},"f:x":{}}}}},{"manager":"}]\\"}]""";

    [Theory]
    [InlineData("""{"metadata":{"name":"a","managedFields":FIELDS,"uid":"b"},"spec":{"x":1}}""", """{"metadata":{"name":"a","uid":"b"},"spec":{"x":1}}""")]
    [InlineData("""{"metadata":{"managedFields":FIELDS,"name":"a"}}""", """{"metadata":{"name":"a"}}""")]
    [InlineData("""{"kind":"Pod","metadata":{"name":"a","managedFields":FIELDS},"spec":{}}""", """{"kind":"Pod","metadata":{"name":"a"},"spec":{}}""")]
    [InlineData("""{"metadata":{"managedFields":FIELDS}}""", """{"metadata":{}}""")]
    [InlineData("""{"metadata":{"managedFields":[],"labels":{"a":"managedFields"}}}""", """{"metadata":{"labels":{"a":"managedFields"}}}""")]
    [InlineData("""{"metadata":{"managedFields":null,"name":"a"}}""", """{"metadata":{"managedFields":null,"name":"a"}}""")]
    [InlineData("""{"spec":{"managedFields":[1]},"metadata":{"name":"managedFields","labels":{"managedFields":"[x]"}}}""", """{"spec":{"managedFields":[1]},"metadata":{"name":"managedFields","labels":{"managedFields":"[x]"}}}""")]
    [InlineData("""{"a":"\"}","b":"\\","c":["}",{"d":"\u007d{"}]}""", """{"a":"\"}","b":"\\","c":["}",{"d":"\u007d{"}]}""")]
    public void WrittenFields_AreLeftOut_AndNothingElse(string text, string left)
    {
        foreach (var (before, after, depth) in (ReadOnlySpan<(string, string, int)>)[("", "", 1), ("""{"type":"ADDED","object":""", "}", 2)])
        {
            var whole = Encoding.UTF8.GetBytes(before + text.Replace("FIELDS", Fields, StringComparison.Ordinal) + after);
            byte[] followed = [.. whole, .. ",{\"metadata\":{"u8];

            ObjectText.LengthOf(followed, depth, out var unread).ShouldBe(whole.Length);
            Encoding.UTF8.GetString(ObjectText.Without(followed.AsSpan(0, whole.Length), unread)).ShouldBe(before + left + after);
        }

        JsonNode.Parse(left).ShouldNotBeNull();
    }

    [Fact]
    public void ObjectThatIsCut_HasNoEndYet()
    {
        var whole = Encoding.UTF8.GetBytes("""{"metadata":{"name":"a\\\"","managedFields":FIELDS },"spec":{"x":["\\"]} }""".Replace("FIELDS", Fields, StringComparison.Ordinal));
        for (var length = 0; length < whole.Length; length++)
        {
            ObjectText.LengthOf(whole.AsSpan(0, length), 1, out _).ShouldBeNegative();
        }

        ObjectText.LengthOf(whole, 1, out _).ShouldBe(whole.Length);
    }
}
