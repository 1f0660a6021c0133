using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>
/// An IPv4 or IPv6 address as a 16-byte value: no allocation, usable as a key, ordered. IPv4 addresses are held in their
/// IPv4-mapped form (RFC 4291 section 2.5.5.2), so <c>::ffff:10.0.0.1</c> and <c>10.0.0.1</c> are the same address.
/// </summary>
[JsonConverter(typeof(JsonText))]
public readonly record struct IpAddress : IComparable<IpAddress>, ISpanFormattable, ISpanParsable<IpAddress>
{
    private const int MaxText = 64;
    private const int Groups = 8;

    // Two halves and not one UInt128: code that holds a UInt128 anywhere is left out of ahead-of-time compilation (its layout in
    // calls is not settled), and an address is nearly everywhere. Start-up would pay for it.
    private readonly ulong _high;
    private readonly ulong _low;

    private IpAddress(ulong high, ulong low)
    {
        _high = high;
        _low = low;
    }

    /// <summary>The unspecified IPv6 address <c>::</c>; also the value of <c>default</c>.</summary>
    public static IpAddress IPv6Any => default;

    /// <summary>The unspecified IPv4 address <c>0.0.0.0</c>.</summary>
    public static IpAddress IPv4Any => FromIPv4(0);

    /// <summary>Whether this is an IPv4 address.</summary>
    public bool IsIPv4 => _high == 0 && _low >> 32 == 0xffff;

    /// <summary>Whether this is <c>0.0.0.0</c> or <c>::</c>.</summary>
    public bool IsUnspecified => _high == 0 && _low is 0 or 0xffff_0000_0000UL;

    /// <summary>Whether this is in <c>127.0.0.0/8</c> or is <c>::1</c>.</summary>
    public bool IsLoopback => IsIPv4 ? (byte)(_low >> 24) == 127 : _high == 0 && _low == 1;

    /// <summary>Whether this is in <c>224.0.0.0/4</c> or <c>ff00::/8</c>.</summary>
    public bool IsMulticast => IsIPv4 ? (byte)(_low >> 24) >> 4 == 14 : _high >> 56 == 0xff;

    /// <summary>The number of bits in an address of this family: 32 or 128.</summary>
    public int Width => IsIPv4 ? 32 : 128;

    /// <summary>The address bits, right-aligned: 32 of them for IPv4, 128 for IPv6.</summary>
    public UInt128 Bits => IsIPv4 ? (uint)_low : new UInt128(_high, _low);

    /// <summary>The upper 64 bits of the 16-byte (mapped) form; 0 for IPv4.</summary>
    public ulong High => _high;

    /// <summary>The lower 64 bits of the 16-byte (mapped) form; the lower 32 of them are an IPv4 address.</summary>
    public ulong Low => _low;

    /// <summary>Makes an IPv4 address from its value in host order (<c>0x0a000001</c> is <c>10.0.0.1</c>).</summary>
    public static IpAddress FromIPv4(uint value) => new(0, 0xffff_0000_0000UL | value);

    /// <summary>Makes an IPv6 address from its value in host order.</summary>
    public static IpAddress FromIPv6(UInt128 value) => new((ulong)(value >> 64), (ulong)value);

    /// <summary>Makes an IPv6 address from its halves in host order.</summary>
    public static IpAddress FromIPv6(ulong high, ulong low) => new(high, low);

    /// <summary>Reads 4 or 16 bytes in network order.</summary>
    /// <exception cref="ArgumentException"><paramref name="networkOrder"/> has another length.</exception>
    public static IpAddress Read(ReadOnlySpan<byte> networkOrder) => networkOrder.Length switch
    {
        4 => FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(networkOrder)),
        16 => new(BinaryPrimitives.ReadUInt64BigEndian(networkOrder), BinaryPrimitives.ReadUInt64BigEndian(networkOrder[8..])),
        _ => throw new ArgumentException("An address is 4 or 16 bytes long.", nameof(networkOrder)),
    };

    /// <summary>Writes the 16-byte (mapped) form in network order.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="destination"/> is shorter than 16 bytes.</exception>
    public void WriteMapped(Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(destination.Length, 16, nameof(destination));
        BinaryPrimitives.WriteUInt64BigEndian(destination, _high);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], _low);
    }

    /// <summary>Converts from the framework's type; scope ids are dropped.</summary>
    public static IpAddress From(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out var written);
        return Read(bytes[..written]);
    }

    /// <summary>Converts to the framework's type.</summary>
    public IPAddress ToIPAddress()
    {
        Span<byte> bytes = stackalloc byte[16];
        WriteMapped(bytes);
        return new IPAddress(IsIPv4 ? bytes[12..] : bytes);
    }

    /// <summary>The family for the framework's sockets.</summary>
    public AddressFamily Family => IsIPv4 ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6;

    /// <inheritdoc/>
    public int CompareTo(IpAddress other)
    {
        // IPv4 before IPv6, as kubectl and people list them.
        var family = other.IsIPv4.CompareTo(IsIPv4);
        var high = family != 0 ? family : _high.CompareTo(other._high);
        return high != 0 ? high : _low.CompareTo(other._low);
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        Span<char> text = stackalloc char[MaxText];
        return TryFormat(text, out var written) ? text[..written].ToString() : ToIPAddress().ToString();
    }

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) => ToString();

    /// <inheritdoc/>
    public bool TryFormat(Span<char> destination, out int charsWritten, ReadOnlySpan<char> format = default, IFormatProvider? provider = null)
    {
        // Neither by the framework's type, which would be loaded for nothing else.
        charsWritten = 0;
        if (!IsIPv4)
        {
            return TryFormatIPv6(destination, out charsWritten);
        }

        var written = 0;
        for (var shift = 24; shift >= 0; shift -= 8)
        {
            if (!((byte)(_low >> shift)).TryFormat(destination[written..], out var digits, default, CultureInfo.InvariantCulture))
            {
                return false;
            }

            written += digits;
            if (shift > 0)
            {
                if (written == destination.Length)
                {
                    return false;
                }

                destination[written++] = '.';
            }
        }

        charsWritten = written;
        return true;
    }

    // RFC 5952 section 4: no leading zeros, lower case, and "::" for the longest run of at least two groups of zero, the first of several.
    private bool TryFormatIPv6(Span<char> destination, out int charsWritten)
    {
        Span<ushort> groups = stackalloc ushort[Groups];
        for (var i = 0; i < Groups; i++)
        {
            groups[i] = (ushort)((i < 4 ? _high : _low) >> (16 * (3 - (i & 3))));
        }

        var (gap, length) = (-1, 1);
        for (int i = 0, run = 0; i < Groups; i++)
        {
            run = groups[i] == 0 ? run + 1 : 0;
            if (run > length)
            {
                (gap, length) = (i - run + 1, run);
            }
        }

        charsWritten = 0;
        Span<char> text = stackalloc char[MaxText];
        var written = 0;
        for (var i = 0; i < Groups; i++)
        {
            if (i == gap)
            {
                // The second colon is the one before the next group.
                text[written++] = ':';
                i += length - 1;
                if (i == Groups - 1)
                {
                    text[written++] = ':';
                }

                continue;
            }

            if (i > 0)
            {
                text[written++] = ':';
            }

            for (var shift = groups[i] switch { > 0xfff => 12, > 0xff => 8, > 0xf => 4, _ => 0 }; shift >= 0; shift -= 4)
            {
                text[written++] = "0123456789abcdef"[(groups[i] >> shift) & 15];
            }
        }

        if (!text[..written].TryCopyTo(destination))
        {
            return false;
        }

        charsWritten = written;
        return true;
    }

    /// <summary>Several, with commas between them.</summary>
    public static string Join(ImmutableArray<IpAddress> addresses)
    {
        var texts = new string[addresses.Length];
        for (var i = 0; i < texts.Length; i++)
        {
            texts[i] = addresses[i].ToString();
        }

        return string.Join(", ", texts);
    }

    /// <summary>Parses dotted or colon notation.</summary>
    /// <exception cref="FormatException">The text is no address.</exception>
    public static IpAddress Parse(ReadOnlySpan<char> s, IFormatProvider? provider = null)
        => TryParse(s, provider, out var address) ? address : throw new FormatException($"'{s}' is not an IP address.");

    /// <inheritdoc cref="Parse(ReadOnlySpan{char}, IFormatProvider?)"/>
    public static IpAddress Parse(string s, IFormatProvider? provider = null) => Parse(s.AsSpan(), provider);

    /// <inheritdoc/>
    public static bool TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out IpAddress result)
    {
        result = default;
        if (!s.Contains(':'))
        {
            return TryParseIPv4(s, out result);
        }

        // RFC 4291, section 2.2: eight groups of up to four hexadecimal digits, one run of zeros left out as "::", the last two perhaps as IPv4.
        Span<ushort> groups = stackalloc ushort[Groups];
        var count = 0;
        var gap = -1;
        var at = 0;
        if (s.StartsWith("::"))
        {
            (gap, at) = (0, 2);
        }

        while (at < s.Length)
        {
            if (count <= Groups - 2 && s[at..].Contains('.') && !s[at..].Contains(':'))
            {
                if (!TryParseIPv4(s[at..], out var embedded))
                {
                    return false;
                }

                (groups[count], groups[count + 1], count, at) = ((ushort)(embedded._low >> 16), (ushort)embedded._low, count + 2, s.Length);
                break;
            }

            var start = at;
            uint group = 0;
            while (at < s.Length && at - start < 4 && char.IsAsciiHexDigit(s[at]))
            {
                group = (group << 4) | (uint)(char.IsAsciiDigit(s[at]) ? s[at] - '0' : (s[at] | 0x20) - 'a' + 10);
                at++;
            }

            if (at == start || count == Groups)
            {
                return false;
            }

            groups[count++] = (ushort)group;
            if (at == s.Length)
            {
                break;
            }

            if (s[at] != ':' || at + 1 == s.Length)
            {
                return false;
            }

            at++;
            if (s[at] == ':')
            {
                if (gap >= 0)
                {
                    return false;
                }

                (gap, at) = (count, at + 1);
            }
        }

        if (gap < 0 ? count != Groups : count == Groups)
        {
            return false;
        }

        if (gap >= 0)
        {
            // What stands behind the gap belongs to the end.
            var behind = count - gap;
            groups[gap..count].CopyTo(groups[^behind..]);
            groups[gap..^behind].Clear();
        }

        result = new(HalfOf(groups), HalfOf(groups[4..]));
        return true;
    }

    private static ulong HalfOf(ReadOnlySpan<ushort> groups) => ((ulong)groups[0] << 48) | ((ulong)groups[1] << 32) | ((ulong)groups[2] << 16) | groups[3];

    /// <inheritdoc/>
    public static bool TryParse([NotNullWhen(true)] string? s, IFormatProvider? provider, out IpAddress result)
        => TryParse(s.AsSpan(), provider, out result);

    // Four numbers of one to three digits, as inet_pton(3) takes them. The framework also takes "10.1", "0x7f.1" and "010.0.0.1" (octal);
    // nothing we read means those.
    private static bool TryParseIPv4(ReadOnlySpan<char> text, out IpAddress result)
    {
        result = default;
        uint value = 0;
        var parts = 0;
        var at = 0;
        while (true)
        {
            var start = at;
            uint part = 0;
            while (at < text.Length && at - start < 4 && char.IsAsciiDigit(text[at]))
            {
                part = (part * 10) + (uint)(text[at++] - '0');
            }

            var digits = at - start;
            if (digits is 0 or > 3 || part > 255 || digits > 1 && text[start] == '0')
            {
                return false;
            }

            value = (value << 8) | part;
            if (++parts == 4)
            {
                break;
            }

            if (at == text.Length || text[at++] != '.')
            {
                return false;
            }
        }

        result = FromIPv4(value);
        return at == text.Length;
    }

    /// <summary>Whether one address comes before the other.</summary>
    public static bool operator <(IpAddress left, IpAddress right) => left.CompareTo(right) < 0;

    /// <summary>Whether one address comes after the other.</summary>
    public static bool operator >(IpAddress left, IpAddress right) => left.CompareTo(right) > 0;

    /// <summary>Whether one address comes before the other or equals it.</summary>
    public static bool operator <=(IpAddress left, IpAddress right) => left.CompareTo(right) <= 0;

    /// <summary>Whether one address comes after the other or equals it.</summary>
    public static bool operator >=(IpAddress left, IpAddress right) => left.CompareTo(right) >= 0;

    internal sealed class JsonText : JsonConverter<IpAddress>
    {
        public override IpAddress Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
            => TryParse(reader.GetString(), null, out var address) ? address : throw new JsonException("Not an IP address.");

        public override void Write(Utf8JsonWriter writer, IpAddress value, JsonSerializerOptions options)
            => writer.WriteStringValue(value.ToString());
    }
}
