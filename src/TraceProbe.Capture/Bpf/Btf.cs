using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;

namespace TraceProbe.Capture.Bpf;

/// <summary>Kinds of types, as <c>include/uapi/linux/btf.h</c> numbers them.</summary>
internal enum BtfKind : byte
{
    Void = 0,
    Int = 1,
    Ptr = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Fwd = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Func = 12,
    FuncProto = 13,
    Var = 14,
    DataSec = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

/// <summary>
/// A reader of BTF, the kernel's type information (Documentation/bpf/btf.rst in the kernel's sources). The kernel holds some
/// 130,000 types and we want to know a dozen, so they are walked in place; nothing is built but what is asked for.
/// </summary>
internal sealed class Btf
{
    private const ushort Magic = 0xeb9f;
    private const int HeaderSize = 24;
    private const int TypeSize = 12;

    private readonly ReadOnlyMemory<byte> _types;
    private readonly ReadOnlyMemory<byte> _strings;
    private readonly Btf? _base;
    private int[]? _offsets;

    private Btf(ReadOnlyMemory<byte> types, ReadOnlyMemory<byte> strings, Btf? vmlinux)
    {
        _types = types;
        _strings = strings;
        _base = vmlinux;
    }

    /// <summary>Reads the header. False when these bytes are no BTF of this machine's byte order.</summary>
    /// <param name="data">The bytes: a file in <c>/sys/kernel/btf</c>, or an object's <c>.BTF</c> section.</param>
    /// <param name="vmlinux">For a module's BTF: the kernel's, whose ids and strings it continues.</param>
    /// <param name="btf">The reader.</param>
    public static bool TryParse(ReadOnlyMemory<byte> data, Btf? vmlinux, [NotNullWhen(true)] out Btf? btf)
    {
        btf = null;
        var span = data.Span;
        if (span.Length < HeaderSize || Read16(span) != Magic)
        {
            return false;
        }

        long header = Read32(span[4..]);
        long typeAt = Read32(span[8..]) + header, typeLength = Read32(span[12..]);
        long stringAt = Read32(span[16..]) + header, stringLength = Read32(span[20..]);
        if (header < HeaderSize || typeAt + typeLength > span.Length || stringAt + stringLength > span.Length
            || stringLength == 0 || span[(int)(stringAt + stringLength - 1)] != 0)
        {
            return false;
        }

        btf = new Btf(data.Slice((int)typeAt, (int)typeLength), data.Slice((int)stringAt, (int)stringLength), vmlinux);
        return true;
    }

    /// <summary>Finds the <c>.BTF</c> section of a 64-bit ELF object of this machine's byte order, and reads it.</summary>
    public static bool TryParseElf(ReadOnlyMemory<byte> elf, [NotNullWhen(true)] out Btf? btf)
    {
        btf = null;
        var span = elf.Span;
        if (span.Length < 64 || !span.StartsWith("\u007fELF\u0002"u8))
        {
            return false;
        }

        // Elf64_Ehdr: e_shoff at 40, e_shentsize at 58, e_shnum at 60, e_shstrndx at 62.
        var table = BitConverter.ToUInt64(span[40..]);
        int size = Read16(span[58..]), count = Read16(span[60..]), names = Read16(span[62..]);
        if (size < 64 || names >= count || table > (ulong)span.Length || table + (ulong)(size * count) > (ulong)span.Length)
        {
            return false;
        }

        var namesAt = BitConverter.ToUInt64(span[((int)table + (names * size) + 24)..]);
        for (var i = 0; i < count; i++)
        {
            // Elf64_Shdr: sh_name at 0, sh_offset at 24, sh_size at 32.
            var section = span[((int)table + (i * size))..];
            var name = namesAt + Read32(section);
            ulong offset = BitConverter.ToUInt64(section[24..]), length = BitConverter.ToUInt64(section[32..]);
            if (name + 5 <= (ulong)span.Length && span.Slice((int)name, 5).SequenceEqual(".BTF\0"u8)
                && offset <= (ulong)span.Length && length <= (ulong)span.Length - offset)
            {
                return TryParse(elf.Slice((int)offset, (int)length), null, out btf);
            }
        }

        return false;
    }

    /// <summary>Whether something is called exactly so: a type, a member, a constant.</summary>
    /// <param name="terminated">The name between two NULs.</param>
    public bool HasName(ReadOnlySpan<byte> terminated) => _strings.Span.IndexOf(terminated) >= 0;

    /// <summary>
    /// Finds a struct or enum of this very BTF by its name, without a walk: the name's place in the strings, then that number among
    /// the types. Both are searches that the processor does by the cache line, which makes them ten times quicker than to look
    /// at 130,000 types, and quick from the first time on, when nothing is compiled yet.
    /// </summary>
    /// <param name="kind">Its kind.</param>
    /// <param name="terminated">Its name between two NULs.</param>
    /// <param name="containing">The name, between two NULs, of a member or constant that it must have.</param>
    /// <param name="type">The type.</param>
    public bool TryFind(BtfKind kind, ReadOnlySpan<byte> terminated, ReadOnlySpan<byte> containing, out BtfType type)
    {
        type = default;
        int name = _strings.Span.IndexOf(terminated) + 1, member = _strings.Span.IndexOf(containing) + 1;
        if (name <= 0 || member <= 0)
        {
            return false;
        }

        var shared = _base is null ? 0u : (uint)_base._strings.Length;
        var words = MemoryMarshal.Cast<byte, uint>(_types.Span);
        for (var at = 0; words[at..].IndexOf((uint)name + shared) is >= 0 and var next; at++)
        {
            // The same number may stand for something else; a type has its kind beside it and its members behind.
            at += next;
            if (at + 3 > words.Length)
            {
                return false;
            }

            int count = (int)(words[at + 1] & 0xffff), size = kind is BtfKind.Enum ? 2 : 3;
            if (((words[at + 1] >> 24) & 0x1f) == (uint)kind && at + 3 + (count * size) <= words.Length
                && words.Slice(at + 3, count * size).Contains((uint)member + shared))
            {
                type = new BtfType(this, _types.Span[(at * sizeof(uint))..]);
                return true;
            }
        }

        return false;
    }

    /// <summary>The types from the first, in order of their ids.</summary>
    public Walker GetEnumerator() => new(this);

    /// <summary>The name at an offset of the string section, without its end; empty for the anonymous.</summary>
    public ReadOnlySpan<byte> Name(uint offset)
    {
        if (_base is not null)
        {
            if (offset < _base._strings.Length)
            {
                return _base.Name(offset);
            }

            offset -= (uint)_base._strings.Length;
        }

        if (offset >= _strings.Length)
        {
            return default;
        }

        // The section ends with a NUL, so there is one.
        var rest = _strings.Span[(int)offset..];
        return rest[..rest.IndexOf((byte)0)];
    }

    /// <summary>
    /// The type of an id. Only for BTF of its own (an object's): it builds an index on first use, which for the kernel's would cost
    /// more than everything else here.
    /// </summary>
    public BtfType this[uint id]
    {
        get
        {
            if (_offsets is null)
            {
                var offsets = new List<int> { 0 };
                for (var walker = GetEnumerator(); walker.MoveNext();)
                {
                    offsets.Add(walker.Offset);
                }

                _offsets = [.. offsets];
            }

            return id == 0 || id >= _offsets.Length ? default : new BtfType(this, _types.Span[_offsets[id]..]);
        }
    }

    private static ushort Read16(ReadOnlySpan<byte> from) => MemoryMarshal.Read<ushort>(from);

    private static uint Read32(ReadOnlySpan<byte> from) => MemoryMarshal.Read<uint>(from);

    /// <summary>Walks the types in place, and stops at one that is cut off or of a kind it does not know.</summary>
    public ref struct Walker
    {
        private readonly Btf _btf;
        private readonly ReadOnlySpan<byte> _types;
        private int _next;

        internal Walker(Btf btf)
        {
            _btf = btf;
            _types = btf._types.Span;
        }

        public int Offset { get; private set; }

        public readonly BtfType Current => new(_btf, _types[Offset..]);

        public bool MoveNext()
        {
            if (_next > _types.Length - TypeSize)
            {
                return false;
            }

            var info = Read32(_types[(_next + 4)..]);
            var count = (int)(info & 0xffff);
            var extra = (BtfKind)((info >> 24) & 0x1f) switch
            {
                BtfKind.Int or BtfKind.Var or BtfKind.DeclTag => 4,
                BtfKind.Array => 12,
                BtfKind.Struct or BtfKind.Union or BtfKind.DataSec or BtfKind.Enum64 => 12 * count,
                BtfKind.Enum or BtfKind.FuncProto => 8 * count,
                <= BtfKind.TypeTag => 0,
                _ => -1,
            };
            if (extra < 0 || _next + TypeSize + extra > _types.Length)
            {
                return false;
            }

            Offset = _next;
            _next += TypeSize + extra;
            return true;
        }
    }
}

/// <summary>One type, where it stands.</summary>
internal readonly ref struct BtfType
{
    private readonly Btf _btf;
    private readonly ReadOnlySpan<byte> _data;

    internal BtfType(Btf btf, ReadOnlySpan<byte> data)
    {
        _btf = btf;
        _data = data;
    }

    /// <summary>Its kind; <see cref="BtfKind.Void"/> where there is no such type.</summary>
    public BtfKind Kind => _data.IsEmpty ? BtfKind.Void : (BtfKind)((Word(4) >> 24) & 0x1f);

    /// <summary>Its name; empty when it has none.</summary>
    public ReadOnlySpan<byte> Name => _btf.Name(Word(0));

    /// <summary>How many members, values or parameters.</summary>
    public int Count => (int)(Word(4) & 0xffff);

    /// <summary>Its size in bytes (integers, structs, unions, enums).</summary>
    public uint Size => Word(8);

    /// <summary>The id of the type it refers to (pointers, typedefs, modifiers, functions, variables).</summary>
    public uint Target => Word(8);

    /// <summary>For an array: the id of its elements' type, and how many there are.</summary>
    public (uint Element, uint Length) Array => (Word(12), Word(20));

    /// <summary>For a struct or union: a member's name, type and offset in bits.</summary>
    public (string Name, uint Type, uint BitOffset) Member(int index)
    {
        var at = 12 + (12 * index);

        // With kind_flag set, the upper eight bits are a bit field's width.
        var offset = Word(4) >> 31 != 0 ? Word(at + 8) & 0xffffff : Word(at + 8);
        return (Encoding.UTF8.GetString(_btf.Name(Word(at))), Word(at + 4), offset);
    }

    /// <summary>For a struct: the offset in bytes of the member of this name; -1 when it has none directly.</summary>
    public int OffsetOf(ReadOnlySpan<byte> member)
    {
        for (var i = 0; i < Count; i++)
        {
            if (_btf.Name(Word(12 + (12 * i))).SequenceEqual(member))
            {
                return (int)(Member(i).BitOffset / 8);
            }
        }

        return -1;
    }

    /// <summary>For an enum: a constant's name and value.</summary>
    public (string Name, long Value) Constant(int index)
    {
        var wide = Kind == BtfKind.Enum64;
        var at = 12 + ((wide ? 12 : 8) * index);
        var low = Word(at + 4);
        long value = wide ? ((long)Word(at + 8) << 32) | low : Word(4) >> 31 != 0 ? (int)low : low;
        return (Encoding.UTF8.GetString(_btf.Name(Word(at))), value);
    }

    private uint Word(int at) => MemoryMarshal.Read<uint>(_data[at..]);
}
