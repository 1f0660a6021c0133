using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>Changes objects as <c>kubectl patch</c> asks it, and reads and writes them as trees.</summary>
internal static class ObjectPatch
{
    internal delegate T ReadObject<T>(ref Utf8JsonReader json);

    internal static JsonObject ToTree<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        write(json, value);
        json.Flush();
        return JsonNode.Parse(buffer.WrittenSpan)!.AsObject();
    }

    internal static T FromTree<T>(JsonObject tree, ReadObject<T> read)
    {
        var json = new Utf8JsonReader(Encoding.UTF8.GetBytes(tree.ToJsonString()), ObjectReader.Options);
        json.Read();
        return read(ref json);
    }

    /// <summary>An object with a patch applied.</summary>
    /// <param name="value">The object.</param>
    /// <param name="patch">The patch, as text.</param>
    /// <param name="type">json (RFC 6902), merge (RFC 7386) or strategic; null for the last.</param>
    /// <param name="write">Writes the object.</param>
    /// <param name="read">Reads it.</param>
    /// <exception cref="LabException">It cannot be applied.</exception>
    internal static T Patched<T>(T value, string? patch, string? type, Action<Utf8JsonWriter, T> write, ReadObject<T> read)
    {
        var node = ToTree(value, write);
        try
        {
            switch (JsonNode.Parse(patch ?? throw new LabException("kubectl patch needs -p.")))
            {
                case JsonArray operations when type == "json":
                    foreach (var operation in operations)
                    {
                        Operate(node, operation!);
                    }

                    break;
                case JsonObject merge when type is null or "strategic" or "merge":
                    // A workload's pods are patched through its template.
                    Merge(node, merge["spec"]?["template"] as JsonObject ?? merge, strategic: type is not "merge");
                    break;
                default:
                    throw new LabException($"The patch is not one of type {type ?? "strategic"}: {patch}");
            }

            return FromTree(node, read);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or ArgumentOutOfRangeException or KeyNotFoundException)
        {
            throw new LabException($"The patch cannot be applied: {patch} ({e.Message})", e);
        }
    }

    // RFC 6902, the operations add, replace and remove.
    private static void Operate(JsonNode root, JsonNode operation)
    {
        var path = operation["path"]!.GetValue<string>().Split('/')[1..].Select(p => p.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal)).ToArray();
        var parent = path[..^1].Aggregate(root, (node, step) => (node is JsonArray list ? list[int.Parse(step, null)] : node[step]) ?? throw new KeyNotFoundException($"there is no {step}"));
        var value = operation["value"]?.DeepClone();
        switch (operation["op"]!.GetValue<string>(), parent)
        {
            case ("add", JsonArray list):
                list.Insert(path[^1] == "-" ? list.Count : int.Parse(path[^1], null), value);
                break;
            case ("replace", JsonArray list):
                list[int.Parse(path[^1], null)] = value;
                break;
            case ("remove", JsonArray list):
                list.RemoveAt(int.Parse(path[^1], null));
                break;
            case ("add" or "replace", JsonObject members):
                members[path[^1]] = value;
                break;
            case ("remove", JsonObject members):
                members.Remove(path[^1]);
                break;
            default:
                throw new FormatException($"operation {operation["op"]} is not known");
        }
    }

    // RFC 7386; strategic merges lists of objects by their key, which is a Service port's number and otherwise the name.
    internal static void Merge(JsonObject target, JsonObject patch, bool strategic)
    {
        foreach (var (name, value) in patch)
        {
            switch (value, target[name])
            {
                case (null, _):
                    target.Remove(name);
                    break;
                case (JsonObject from, JsonObject into):
                    Merge(into, from, strategic);
                    break;
                case (JsonArray from, JsonArray into) when strategic && from.All(f => f is JsonObject):
                    foreach (var item in from.Select(f => f!.AsObject()))
                    {
                        var key = name == "ports" && item.ContainsKey("port") ? "port" : "name";
                        if (into.FirstOrDefault(i => JsonNode.DeepEquals(i?[key], item[key])) is JsonObject same)
                        {
                            Merge(same, item, strategic);
                        }
                        else
                        {
                            into.Add(item.DeepClone());
                        }
                    }

                    break;
                default:
                    target[name] = value.DeepClone();
                    break;
            }
        }
    }
}
