using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>An address prefix such as <c>10.96.0.0/12</c>; a bare address is its own /32 or /128.</summary>
[JsonConverter(typeof(JsonText))]
public readonly record struct IpNetwork
{
    /// <summary>Makes a prefix; bits of <paramref name="address"/> beyond the prefix are cleared.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="prefixLength"/> does not fit the address family.</exception>
    public IpNetwork(IpAddress address, int prefixLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(prefixLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(prefixLength, address.Width);
        PrefixLength = prefixLength;
        // In the mapped form an IPv4 prefix is 96 bits longer.
        var length = address.IsIPv4 ? prefixLength + 96 : prefixLength;
        Address = IpAddress.FromIPv6(address.High & Mask(length), address.Low & Mask(length - 64));
    }

    /// <summary>The lowest address of the prefix.</summary>
    public IpAddress Address { get; }

    /// <summary>The prefix length in bits: 0 to 32 or 0 to 128.</summary>
    public int PrefixLength { get; }

    /// <summary>Whether the address lies in this prefix; addresses of the other family never do.</summary>
    public bool Contains(IpAddress address)
        => address.IsIPv4 == Address.IsIPv4 && new IpNetwork(address, PrefixLength).Address == Address;

    // The upper so many bits of 64, none below 0 and all from 64 on.
    private static ulong Mask(int length) => length <= 0 ? 0 : length >= 64 ? ulong.MaxValue : ulong.MaxValue << (64 - length);

    /// <summary>Parses <c>address</c> or <c>address/length</c>.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out IpNetwork network)
    {
        network = default;
        var slash = text.IndexOf('/');
        if (!IpAddress.TryParse(slash < 0 ? text : text[..slash], null, out var address))
        {
            return false;
        }

        var length = address.Width;
        if (slash >= 0 && (!int.TryParse(text[(slash + 1)..], System.Globalization.NumberStyles.None, null, out length) || length > address.Width))
        {
            return false;
        }

        network = new IpNetwork(address, length);
        return true;
    }

    /// <summary>Parses <c>address</c> or <c>address/length</c>.</summary>
    /// <exception cref="FormatException">The text is no prefix.</exception>
    public static IpNetwork Parse(ReadOnlySpan<char> text)
        => TryParse(text, out var network) ? network : throw new FormatException($"'{text}' is not an address prefix.");

    /// <inheritdoc/>
    public override string ToString() => $"{Address}/{PrefixLength}";

    internal sealed class JsonText : JsonConverter<IpNetwork>
    {
        public override IpNetwork Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
            => TryParse(reader.GetString(), out var network) ? network : throw new JsonException("Not an address prefix.");

        public override void Write(Utf8JsonWriter writer, IpNetwork value, JsonSerializerOptions options)
            => writer.WriteStringValue(value.ToString());
    }
}
