using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;

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
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, WriteIndented = true)]
[JsonSerializable(typeof(LabRecord))]
internal sealed partial class LabJson : JsonSerializerContext;
