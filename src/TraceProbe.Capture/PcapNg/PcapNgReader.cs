using System.Buffers.Binary;
using System.Globalization;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;

namespace TraceProbe.Capture.PcapNg;

/// <summary>
/// Reads the packets of a pcapng file (draft-ietf-opsawg-pcapng), of either byte order, with any number of interfaces. libpcap
/// reads this format too, but knows one link type for a whole file and tells neither interface nor direction.
/// </summary>
internal sealed class PcapNgReader(Stream stream)
{
    public const uint SectionHeader = 0x0a0d0d0a;

    // Frames of 256 KB with their options fit; a length beyond is damage, not a reason to take memory.
    private const int MaxBlockLength = 1 << 20;
    private const int MaxInterfaces = 1 << 16;

    private readonly List<Interface> _interfaces = [];
    private byte[] _block = new byte[4096];
    private bool _bigEndian;
    private long _last;

    /// <summary>What is wrong with the file where the reading ended; null if that is its end.</summary>
    public string? Damage { get; private set; }

    /// <summary>Reads the next packet, passing over all other blocks.</summary>
    /// <returns>False at the end of the file, or where it is damaged: see <see cref="Damage"/>.</returns>
    public bool TryRead(out PcapNgPacket packet)
    {
        packet = default;
        while (Damage is null && TryReadBlock(out var type, out var body))
        {
            switch (type)
            {
                case SectionHeader:
                    // What was said of interfaces held for the section before.
                    _interfaces.Clear();
                    break;
                case 1:
                    ReadInterface(body);
                    break;
                case 6:
                    if (TryReadEnhanced(body, out packet))
                    {
                        return true;
                    }

                    break;
                case 3:
                    if (TryReadSimple(body, out packet))
                    {
                        return true;
                    }

                    break;
            }
        }

        return false;
    }

    private bool TryReadBlock(out uint type, out ReadOnlySpan<byte> body)
    {
        type = 0;
        body = default;
        var read = stream.ReadAtLeast(_block.AsSpan(0, 12), 12, throwOnEndOfStream: false);
        if (read < 12)
        {
            Damage = read == 0 ? null : "the file ends within a block";
            return false;
        }

        type = Get32(_block);
        if (type == SectionHeader)
        {
            // The same read either way; the word behind the length says in which order the section is written.
            switch (BinaryPrimitives.ReadUInt32LittleEndian(_block.AsSpan(8)))
            {
                case 0x1a2b3c4d:
                    _bigEndian = false;
                    break;
                case 0x4d3c2b1a:
                    _bigEndian = true;
                    break;
                default:
                    Damage = "a section begins without its byte-order mark";
                    return false;
            }
        }

        var length = Get32(_block.AsSpan(4));
        if (length is < 12 or > MaxBlockLength || length % 4 != 0)
        {
            Damage = string.Create(CultureInfo.InvariantCulture, $"a block says it has {length} bytes");
            return false;
        }

        if (_block.Length < length)
        {
            Array.Resize(ref _block, (int)length);
        }

        var rest = (int)length - 12;
        if (stream.ReadAtLeast(_block.AsSpan(12, rest), rest, throwOnEndOfStream: false) < rest)
        {
            Damage = "the file ends within a block";
            return false;
        }

        body = _block.AsSpan(8, rest);
        return true;
    }

    private void ReadInterface(ReadOnlySpan<byte> body)
    {
        if (body.Length < 8 || _interfaces.Count == MaxInterfaces)
        {
            Damage = "an interface block is too short, or there are too many";
            return;
        }

        var found = new Interface { Link = (LinkType)Get16(body), SnapLength = Get32(body[4..]), UnitsPerSecond = 1_000_000 };
        for (var options = body[8..]; TryReadOption(ref options, out var code, out var value);)
        {
            switch (code)
            {
                case 2:
                    var at = value.IndexOf((byte)'@');
                    found.Name = ShortName.From(at < 0 ? value : value[..at]);
                    break;
                case 9 when value.Length >= 1:
                    // A power of ten, or of two where the highest bit is set; 10^18 and 2^62 are beyond any clock.
                    var exponent = value[0] & 0x7f;
                    found.UnitsPerSecond = (value[0] & 0x80) != 0 ? 1L << Math.Min(exponent, 62) : Power(Math.Min(exponent, 18));
                    break;
                case 14 when value.Length >= 8:
                    found.OffsetSeconds = _bigEndian ? BinaryPrimitives.ReadInt64BigEndian(value) : BinaryPrimitives.ReadInt64LittleEndian(value);
                    break;
            }
        }

        _interfaces.Add(found);
    }

    private bool TryReadEnhanced(ReadOnlySpan<byte> body, out PcapNgPacket packet)
    {
        packet = default;
        if (body.Length < 20 || Get32(body) >= (uint)_interfaces.Count)
        {
            Damage = "a packet block is too short, or of an interface never described";
            return false;
        }

        var from = _interfaces[(int)Get32(body)];
        var captured = Get32(body[12..]);
        var padded = ((ulong)captured + 3) & ~3ul;
        if (padded > (ulong)(body.Length - 20))
        {
            Damage = "a packet is longer than its block";
            return false;
        }

        var units = ((ulong)Get32(body[4..]) << 32) | Get32(body[8..]);
        // Whatever the file says, in 64 bits: a time beyond these is nonsense, but no reason to stop.
        _last = unchecked((long)(ulong)((UInt128)units * 1_000_000_000 / (ulong)from.UnitsPerSecond) + (from.OffsetSeconds * 1_000_000_000));
        packet.Link = from.Link;
        packet.Interface = from.Name;
        packet.UnixNanoseconds = _last;
        packet.Frame = body.Slice(20, (int)captured);
        packet.OriginalLength = (int)Math.Min(Get32(body[16..]), int.MaxValue);
        for (var options = body[(20 + (int)padded)..]; TryReadOption(ref options, out var code, out var value);)
        {
            if (code == 2 && value.Length >= 4)
            {
                packet.Direction = (Get32(value) & 3) switch { 1 => PacketDirection.Incoming, 2 => PacketDirection.Outgoing, _ => PacketDirection.Unknown };
            }
        }

        return true;
    }

    private bool TryReadSimple(ReadOnlySpan<byte> body, out PcapNgPacket packet)
    {
        packet = default;
        if (body.Length < 4 || _interfaces.Count == 0)
        {
            Damage = "a packet block is too short, or of an interface never described";
            return false;
        }

        var from = _interfaces[0];
        var original = Get32(body);
        var captured = Math.Min(original, (uint)body.Length - 4);
        packet.Link = from.Link;
        packet.Interface = from.Name;
        packet.UnixNanoseconds = _last;
        packet.Frame = body.Slice(4, (int)(from.SnapLength == 0 ? captured : Math.Min(captured, from.SnapLength)));
        packet.OriginalLength = (int)Math.Min(original, int.MaxValue);
        return true;
    }

    private bool TryReadOption(ref ReadOnlySpan<byte> options, out ushort code, out ReadOnlySpan<byte> value)
    {
        code = 0;
        value = default;
        if (options.Length < 4 || Get16(options) == 0)
        {
            return false;
        }

        code = Get16(options);
        int length = Get16(options[2..]);
        if (length > options.Length - 4)
        {
            return false;
        }

        value = options.Slice(4, length);
        options = options[Math.Min(options.Length, 4 + ((length + 3) & ~3))..];
        return true;
    }

    private ushort Get16(ReadOnlySpan<byte> bytes) => _bigEndian ? BinaryPrimitives.ReadUInt16BigEndian(bytes) : BinaryPrimitives.ReadUInt16LittleEndian(bytes);

    private uint Get32(ReadOnlySpan<byte> bytes) => _bigEndian ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : BinaryPrimitives.ReadUInt32LittleEndian(bytes);

    private static long Power(int exponent)
    {
        var power = 1L;
        for (; exponent > 0; exponent--)
        {
            power *= 10;
        }

        return power;
    }

    private struct Interface
    {
        public LinkType Link;
        public ShortName Name;
        public uint SnapLength;
        public long UnitsPerSecond;
        public long OffsetSeconds;
    }
}
