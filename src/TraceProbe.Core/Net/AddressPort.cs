using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>An IP address and a transport port (0 to 65535), written <c>10.0.0.1:80</c> or <c>[fd00::1]:80</c>.</summary>
/// <param name="Address">The address.</param>
/// <param name="Port">The port in host order; 0 where the protocol has none.</param>
[JsonConverter(typeof(JsonText))]
public readonly record struct AddressPort(IpAddress Address, ushort Port)
{
    /// <inheritdoc/>
    public bool Equals(AddressPort other) => Address == other.Address && Port == other.Port;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Address.High, Address.Low, Port);

    /// <inheritdoc/>
    public override string ToString()
        => Address.IsIPv4 ? string.Create(CultureInfo.InvariantCulture, $"{Address}:{Port}") : string.Create(CultureInfo.InvariantCulture, $"[{Address}]:{Port}");

    /// <summary>Converts to the framework's type.</summary>
    public IPEndPoint ToIPEndPoint() => new(Address.ToIPAddress(), Port);

    /// <summary>Converts from the framework's type.</summary>
    public static AddressPort From(IPEndPoint endpoint)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        return new(IpAddress.From(endpoint.Address), (ushort)endpoint.Port);
    }

    /// <summary>Parses the written form; the port is required.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out AddressPort value)
    {
        value = default;
        if (text is null)
        {
            return false;
        }

        var colon = text.LastIndexOf(':');
        if (colon <= 0 || !ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return false;
        }

        var host = text.AsSpan(0, colon);
        var bracketed = host.Length > 2 && host[0] == '[' && host[^1] == ']';
        if (bracketed != host.Contains(':') || !IpAddress.TryParse(bracketed ? host[1..^1] : host, null, out var address))
        {
            return false;
        }

        value = new AddressPort(address, port);
        return true;
    }

    /// <summary>Parses the written form; the port is required.</summary>
    /// <exception cref="FormatException">The text is no address with a port.</exception>
    public static AddressPort Parse(string text)
        => TryParse(text, out var value) ? value : throw new FormatException($"'{text}' is not an address with a port, such as 10.0.0.1:80 or [fd00::1]:80.");

    internal sealed class JsonText : JsonConverter<AddressPort>
    {
        public override AddressPort Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
            => TryParse(reader.GetString(), out var value) ? value : throw new JsonException("Not an address with a port.");

        public override void Write(Utf8JsonWriter writer, AddressPort value, JsonSerializerOptions options)
            => writer.WriteStringValue(value.ToString());
    }
}
