using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace TraceProbe.Core.Events;

/// <summary>
/// A name of up to 15 bytes kept in place, as the kernel keeps process names (TASK_COMM_LEN) and interface names (IFNAMSIZ):
/// 16 bytes, ended by NUL. Text is made only when asked for.
/// </summary>
[InlineArray(Size)]
public struct ShortName : IEquatable<ShortName>
{
    /// <summary>The size in bytes, the ending NUL included.</summary>
    public const int Size = 16;

    private byte _first;

    /// <summary>Takes the bytes up to the first NUL; what is beyond 15 bytes is cut.</summary>
    public static ShortName From(ReadOnlySpan<byte> bytes)
    {
        var name = default(ShortName);
        var end = bytes.IndexOf((byte)0);
        bytes = end < 0 ? bytes : bytes[..end];
        bytes[..Math.Min(bytes.Length, Size - 1)].CopyTo(name);
        return name;
    }

    /// <summary>Takes a text as UTF-8; what is beyond 15 bytes is cut.</summary>
    public static ShortName From(string text) => From(Encoding.UTF8.GetBytes(text));

    /// <summary>Whether the name is empty.</summary>
    public readonly bool IsEmpty => _first == 0;

    /// <inheritdoc/>
    public readonly bool Equals(ShortName other)
        => MemoryMarshal.CreateReadOnlySpan(in _first, Size).SequenceEqual(MemoryMarshal.CreateReadOnlySpan(in other._first, Size));

    /// <inheritdoc/>
    public override readonly bool Equals(object? obj) => obj is ShortName other && Equals(other);

    /// <inheritdoc/>
    public override readonly int GetHashCode() => MemoryMarshal.Read<Int128>(MemoryMarshal.CreateReadOnlySpan(in _first, Size)).GetHashCode();

    /// <inheritdoc/>
    public override readonly string ToString()
    {
        var bytes = MemoryMarshal.CreateReadOnlySpan(in _first, Size);
        var end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    /// <summary>Whether two names are the same.</summary>
    public static bool operator ==(ShortName left, ShortName right) => left.Equals(right);

    /// <summary>Whether two names differ.</summary>
    public static bool operator !=(ShortName left, ShortName right) => !left.Equals(right);
}
