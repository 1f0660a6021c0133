using System.Collections;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Core.Tests;

/// <summary>A schema that others read our JSON by, held against the C# types that write it and against what they write.</summary>
/// <param name="path">The schema's path in the repository.</param>
/// <param name="types">How the types are written.</param>
internal sealed class JsonSchema(string path, JsonSerializerContext types)
{
    public JsonObject Root { get; } = JsonNode.Parse(File.ReadAllText(Path.Combine(Repository.Root, path)))!.AsObject();

    /// <summary>Says the same as the type and all types it is made of, and nothing more.</summary>
    public void ShouldDescribe(Type type)
    {
        var seen = new HashSet<Type>();
        Check(type, Root, seen);
        Root["$defs"]!.AsObject().Select(d => d.Key).ShouldBe(seen.Where(t => t != type).Select(t => t.Name), ignoreOrder: true);
    }

    /// <summary>Allows a document.</summary>
    public void Validate(JsonNode value, string what) => Validate(value, Root, what);

    private void Check(Type type, JsonObject schema, HashSet<Type> seen)
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

        var info = types.GetTypeInfo(type)!;
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
                Check(inner, Root["$defs"]![inner.Name]!.AsObject(), seen);
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
    private void Validate(JsonNode value, JsonObject schema, string path)
    {
        if ((string?)schema["$ref"] is { } reference)
        {
            Validate(value, Root["$defs"]![reference["#/$defs/".Length..]]!.AsObject(), path);
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
