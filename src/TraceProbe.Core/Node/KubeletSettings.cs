using System.Collections.Immutable;
using System.Text.Json;

namespace TraceProbe.Core.Node;

/// <summary>
/// What a kubelet is told of DNS, as its flags and its configuration file have it. Flags win over the file
/// (kubernetes.io, "Set Kubelet Parameters Via A Configuration File").
/// </summary>
public sealed record KubeletSettings
{
    /// <summary>Where this was read: <c>kubelet (812) on node-1</c>, <c>configmap/kube-system/kubelet-config</c>.</summary>
    public string From { get; init => field = value ?? ""; } = "";

    /// <summary>The nameservers of pods with dnsPolicy ClusterFirst (<c>clusterDNS</c>); empty when none is set, and then such pods get the node's.</summary>
    public ImmutableArray<string> ClusterDns { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The cluster's DNS domain (<c>clusterDomain</c>); null when none is set, and then pods get no search list for it.</summary>
    public string? ClusterDomain { get; init; }

    /// <summary>The resolv.conf that pods inherit from (<c>resolvConf</c>); null for <c>/etc/resolv.conf</c>, empty for none.</summary>
    public string? ResolvConf { get; init; }

    /// <summary>The configuration file that a kubelet's flags name; null when they name none.</summary>
    /// <param name="arguments">Its command line, with or without the program's name.</param>
    public static string? ConfigFile(IReadOnlyList<string> arguments) => Flag(arguments, "config");

    /// <summary>Puts flags and file together.</summary>
    /// <param name="from">Where they were read.</param>
    /// <param name="arguments">The kubelet's command line; empty when not known.</param>
    /// <param name="json">Its configuration file (kubelet.config.k8s.io KubeletConfiguration) as JSON; empty when there is none.</param>
    /// <exception cref="FormatException">The file is not JSON, or no such configuration.</exception>
    public static KubeletSettings Of(string from, IReadOnlyList<string> arguments, ReadOnlyMemory<byte> json)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        var settings = json.IsEmpty ? new KubeletSettings() : SettingsJson.Read(json, "KubeletConfiguration", root => new KubeletSettings
        {
            ClusterDns = SettingsJson.Strings(root, "clusterDNS"),
            ClusterDomain = SettingsJson.Text(root, "clusterDomain"),
            ResolvConf = SettingsJson.Text(root, "resolvConf"),
        });
        var dns = Flag(arguments, "cluster-dns");
        return settings with
        {
            From = from,
            ClusterDns = dns is null ? settings.ClusterDns : [.. dns.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)],
            ClusterDomain = Normal(Flag(arguments, "cluster-domain") ?? settings.ClusterDomain),
            ResolvConf = Flag(arguments, "resolv-conf") ?? settings.ResolvConf,
        };
    }

    // A domain may be written with the dot at its end.
    private static string? Normal(string? domain) => domain?.TrimEnd('.') is { Length: > 0 } text ? text : null;

    // --name=value or --name value, with one dash or two; the last one counts.
    internal static string? Flag(IReadOnlyList<string> arguments, string name)
    {
        for (var i = arguments.Count - 1; i >= 0; i--)
        {
            var text = arguments[i].StartsWith("--", StringComparison.Ordinal) ? arguments[i].AsSpan(2) : arguments[i].StartsWith('-') ? arguments[i].AsSpan(1) : default;
            if (text.StartsWith(name, StringComparison.Ordinal))
            {
                if (text.Length > name.Length && text[name.Length] == '=')
                {
                    return text[(name.Length + 1)..].ToString();
                }

                if (text.Length == name.Length && i + 1 < arguments.Count)
                {
                    return arguments[i + 1];
                }
            }
        }

        return null;
    }
}

/// <summary>Members of configuration files, whose names older programs write with a capital.</summary>
internal static class SettingsJson
{
    public static T Read<T>(ReadOnlyMemory<byte> json, string what, Func<JsonElement, T> read)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            return document.RootElement.ValueKind == JsonValueKind.Object ? read(document.RootElement) : throw new FormatException($"The {what} is no object.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // Text that is not UTF-8 surfaces as the latter.
            throw new FormatException($"The {what} is not JSON: {e.Message}", e);
        }
    }

    public static JsonElement? Member(JsonElement element, string name)
    {
        if (element.ValueKind == JsonValueKind.Object)
        {
            foreach (var member in element.EnumerateObject())
            {
                if (member.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                {
                    return member.Value.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined ? null : member.Value;
                }
            }
        }

        return null;
    }

    public static string? Text(JsonElement element, string name) => Member(element, name) switch
    {
        null => null,
        { ValueKind: JsonValueKind.String } text => text.GetString(),
        var other => throw new FormatException($"{name}: a string was expected, not {other.Value.ValueKind}."),
    };

    public static bool? Flag(JsonElement element, string name) => Member(element, name) switch
    {
        null => null,
        { ValueKind: JsonValueKind.True } => true,
        { ValueKind: JsonValueKind.False } => false,
        var other => throw new FormatException($"{name}: true or false was expected, not {other.Value.ValueKind}."),
    };

    public static ImmutableArray<string> Strings(JsonElement element, string name)
    {
        if (Member(element, name) is not { } list)
        {
            return [];
        }

        return list.ValueKind == JsonValueKind.Array && list.EnumerateArray().All(e => e.ValueKind == JsonValueKind.String)
            ? [.. list.EnumerateArray().Select(e => e.GetString()!)]
            : throw new FormatException($"{name}: a list of strings was expected.");
    }
}
