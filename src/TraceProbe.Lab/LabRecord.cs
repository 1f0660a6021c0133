using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Lab;

/// <summary>What <c>lab.json</c> in a lab's folder says.</summary>
internal sealed record LabRecord
{
    public string Name { get; init; } = "";

    public ProxyMode Proxy { get; init; }

    public ImmutableArray<string> SelfCommand { get; init; } = [];

    /// <summary>False while it is being built, and after an up that did not come to its end.</summary>
    public bool Up { get; init; }

    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>The cgroup that holds the pods' cgroups; null where there is no cgroup v2 to be written.</summary>
    public string? Cgroup { get; init; }

    public static LabRecord Read(ReadOnlySpan<byte> text)
    {
        string name = "";
        string? cgroup = null;
        ProxyMode proxy = default;
        var command = ImmutableArray.CreateBuilder<string>();
        var up = false;
        DateTimeOffset created = default;
        var json = new Utf8JsonReader(text);
        Advance(ref json);
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = OwnText(ref json);
            }
            else if (member.SequenceEqual("proxy"u8))
            {
                proxy = Enum.TryParse<ProxyMode>(OwnText(ref json), out var mode) ? mode : throw new JsonException("a mode of kube-proxy was expected.");
            }
            else if (member.SequenceEqual("selfCommand"u8))
            {
                OpenList(ref json);
                while (NextElement(ref json))
                {
                    command.Add(OwnText(ref json));
                }
            }
            else if (member.SequenceEqual("up"u8))
            {
                up = Flag(ref json);
            }
            else if (member.SequenceEqual("createdAt"u8))
            {
                created = Time(ref json);
            }
            else if (member.SequenceEqual("cgroup"u8))
            {
                cgroup = OwnText(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new LabRecord { Name = name, Proxy = proxy, SelfCommand = command.ToImmutable(), Up = up, CreatedAt = created, Cgroup = cgroup };
    }

    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, LabJson.Default.LabRecord);
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, WriteIndented = true)]
[JsonSerializable(typeof(LabRecord))]
internal sealed partial class LabJson : JsonSerializerContext;
