using System.Collections;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Tests.Recordings;

namespace TraceProbe.Core.Tests.Diagnosis;

/// <summary>The schema is what others read our JSON by: it and the C# types say the same.</summary>
public class ReportSchemaTests
{
    private static readonly JsonObject Schema = JsonNode.Parse(File.ReadAllText(Path.Combine(Repository.Root, "src/TraceProbe.Core/Diagnosis/report.schema.json")))!.AsObject();

    [Fact]
    public void TypesAndSchema_SayTheSame()
    {
        var seen = new HashSet<Type>();
        Check(typeof(Report), Schema, seen);
        Schema["$defs"]!.AsObject().Select(d => d.Key).ShouldBe(seen.Where(t => t != typeof(Report)).Select(t => t.Name), ignoreOrder: true);
    }

    [Fact]
    public void FailureClasses_AreThoseOfTheTable()
        => Schema["$defs"]!["FailureClass"]!["enum"]!.AsArray().Select(n => (string)n!).ShouldBe(FailureClassInfo.All.Select(c => c.Name));

    [Fact]
    public void Scenarios_FollowTheSchema()
    {
        var checkedAny = false;
        var folder = Path.Combine(Repository.Root, "tests", "scenarios");
        foreach (var path in Directory.Exists(folder) ? Directory.EnumerateFileSystemEntries(folder) : [])
        {
            if (Directory.Exists(path) || path.EndsWith(RecordingArchive.Extension, StringComparison.Ordinal))
            {
                Validate(JsonNode.Parse(ReportJson.Write(Diagnose.Run(RecordingArchive.Read(path).Recording)))!, Schema, Path.GetFileName(path));
                checkedAny = true;
            }
        }

        Validate(JsonNode.Parse(ReportJson.Write(RecordingSamples.Report))!, Schema, "sample");
        if (!checkedAny)
        {
            Assert.Skip("there is no scenario yet");
        }
    }

    [Fact]
    public void Written_IsReadableAndEndsWithALineFeed()
    {
        var text = System.Text.Encoding.UTF8.GetString(ReportJson.Write(RecordingSamples.Report));
        text.ShouldContain("kubectl -n 'a' > ");
        text.ShouldEndWith("}\n");
        text.ShouldNotContain("\r");
        text.ShouldNotContain("null");
    }

    private static void Check(Type type, JsonObject schema, HashSet<Type> seen)
    {
        if (!seen.Add(type))
        {
            return;
        }

        if (type.IsEnum)
        {
            var names = type.GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => f.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()?.Name ?? f.Name);
            schema["enum"]!.AsArray().Select(n => (string)n!).ShouldBe(names, type.Name);
            return;
        }

        var info = ReportJson.Default.GetTypeInfo(type)!;
        var properties = schema["properties"]!.AsObject();
        properties.Select(p => p.Key).ShouldBe(info.Properties.Where(p => p.Get is not null).Select(p => p.Name), ignoreOrder: true, customMessage: type.Name);
        schema["required"]!.AsArray().Select(n => (string)n!).ShouldBe(info.Properties.Where(p => !MayBeNull(type, p)).Select(p => p.Name), ignoreOrder: true, customMessage: type.Name);
        foreach (var property in info.Properties)
        {
            var inner = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
            var node = properties[property.Name]!.AsObject();
            if (inner != typeof(string) && inner.IsAssignableTo(typeof(IEnumerable)))
            {
                inner = inner.GetGenericArguments()[0];
                node = node["items"]!.AsObject();
            }

            if (inner.IsEnum || (inner.Assembly == typeof(Report).Assembly && !inner.IsPrimitive))
            {
                ((string?)node["$ref"]).ShouldBe($"#/$defs/{inner.Name}", property.Name);
                Check(inner, Schema["$defs"]![inner.Name]!.AsObject(), seen);
            }
        }
    }

    private static bool MayBeNull(Type type, JsonPropertyInfo property)
    {
        if (property.PropertyType.IsValueType)
        {
            return Nullable.GetUnderlyingType(property.PropertyType) is not null;
        }

        var member = type.GetProperties().Single(p => JsonNamingPolicy.CamelCase.ConvertName(p.Name) == property.Name);
        return new NullabilityInfoContext().Create(member).ReadState == NullabilityState.Nullable;
    }

    // As much of JSON Schema as ours uses.
    private static void Validate(JsonNode value, JsonObject schema, string path)
    {
        if ((string?)schema["$ref"] is { } reference)
        {
            Validate(value, Schema["$defs"]![reference["#/$defs/".Length..]]!.AsObject(), path);
            return;
        }

        if (schema["enum"] is JsonArray allowed)
        {
            allowed.Select(n => (string)n!).ShouldContain((string)value!, path);
        }

        switch ((string?)schema["type"])
        {
            case "object":
                var members = value.AsObject();
                foreach (var name in schema["required"]!.AsArray())
                {
                    members.ContainsKey((string)name!).ShouldBeTrue($"{path} lacks {name}");
                }

                foreach (var (name, member) in members)
                {
                    Validate(member.ShouldNotBeNull($"{path}.{name}"), schema["properties"]![name].ShouldNotBeNull($"{path}.{name} is not in the schema").AsObject(), $"{path}.{name}");
                }

                break;
            case "array":
                foreach (var item in value.AsArray())
                {
                    Validate(item!, schema["items"]!.AsObject(), path + "[]");
                }

                break;
            case "string": value.GetValueKind().ShouldBe(JsonValueKind.String, path); break;
            case "integer": value.AsValue().TryGetValue<long>(out _).ShouldBeTrue(path); break;
            case "boolean": value.GetValueKind().ShouldBeOneOf(JsonValueKind.True, JsonValueKind.False); break;
        }
    }
}
