using System.Collections.Immutable;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Keeps what objects have in common once: node names, labels, container states, whole lists of conditions. A cache of bounded size and not
/// a dictionary: what it no longer knows is merely kept twice, and no choice of names can make it slow or large. Several threads may ask at
/// once without a lock for the same reason: what one of them overwrites is only forgotten, and nothing is taken that was not compared.
/// </summary>
internal sealed class SharedValues
{
    private const int LongestText = 128;
    private const int Ways = 4;
    private const int FirstSlots = 1 << 9;
    private const int MostSlots = 1 << 17;

    private readonly Lock _growing = new();
    private string?[] _texts = new string?[FirstSlots];
    private object?[] _values = new object?[FirstSlots];
    private int _newTexts;
    private int _newValues;

    /// <summary>The string that the reader stands on, which is a property name or a value.</summary>
    /// <exception cref="InvalidOperationException">It is not UTF-8.</exception>
    public string Text(ref Utf8JsonReader json)
    {
        var bytes = json.ValueSpan;
        if (json.ValueIsEscaped || bytes.Length > LongestText)
        {
            return json.GetString()!;
        }

        if (bytes.IsEmpty)
        {
            return "";
        }

        if (!Ascii.IsValid(bytes))
        {
            return json.GetString()!;
        }

        var hash = Hash(bytes);
        var set = SetOf(_texts, hash);
        foreach (var known in set)
        {
            if (known is null)
            {
                break;
            }

            if (Ascii.Equals(bytes, known))
            {
                return known;
            }
        }

        var text = json.GetString()!;
        Remember(set, text);
        if (++_newTexts > _texts.Length / 2 && _texts.Length < MostSlots)
        {
            GrowTexts();
        }

        return text;
    }

    /// <summary>An equal value that is known, else this one.</summary>
    public T Value<T>(T value)
        where T : class => (T)Known((uint)value.GetHashCode(), value, static (known, sought) => known.Equals(sought));

    /// <summary>An array of the same elements that is known, else this one. Elements are the same when they are one object.</summary>
    public ImmutableArray<T> Array<T>(T[] elements)
        where T : class
    {
        if (elements.Length == 0)
        {
            return [];
        }

        var hash = 0u;
        foreach (var element in elements)
        {
            hash = (hash * 31) + (uint)RuntimeHelpers.GetHashCode(element);
        }

        return ImmutableCollectionsMarshal.AsImmutableArray((T[])Known(hash, elements, static (known, sought) => known is object[] array && array.GetType() == sought.GetType() && SameElements(array, (object[])sought)));
    }

    /// <summary>A dictionary of these entries, a known one where there is.</summary>
    public ImmutableSortedDictionary<string, string> Dictionary(ReadOnlySpan<KeyValuePair<string, string>> entries)
    {
        if (entries.IsEmpty)
        {
            return ImmutableSortedDictionary<string, string>.Empty;
        }

        // The same in whatever order.
        var hash = (uint)entries.Length;
        foreach (var (key, value) in entries)
        {
            hash += Mixed((uint)RuntimeHelpers.GetHashCode(key)) ^ (uint)RuntimeHelpers.GetHashCode(value);
        }

        var set = SetOf(_values, hash);
        foreach (var known in set)
        {
            if (known is ImmutableSortedDictionary<string, string> dictionary && Same(dictionary, entries))
            {
                return dictionary;
            }
        }

        var builder = ImmutableSortedDictionary.CreateBuilder<string, string>();
        foreach (var (key, value) in entries)
        {
            builder[key] = value;
        }

        var made = builder.ToImmutable();
        Remember(set, made);
        GrowValues();
        return made;
    }

    private object Known(uint hash, object value, Func<object, object, bool> same)
    {
        var set = SetOf(_values, hash);
        foreach (var known in set)
        {
            if (known is null)
            {
                break;
            }

            if (same(known, value))
            {
                return known;
            }
        }

        Remember(set, value);
        GrowValues();
        return value;
    }

    private static bool SameElements(object[] known, object[] sought)
    {
        if (known.Length != sought.Length)
        {
            return false;
        }

        for (var i = 0; i < known.Length; i++)
        {
            if (!ReferenceEquals(known[i], sought[i]))
            {
                return false;
            }
        }

        return true;
    }

    // Whether the entries are the dictionary's. One that comes twice makes the counts differ.
    private static bool Same(ImmutableSortedDictionary<string, string> known, ReadOnlySpan<KeyValuePair<string, string>> entries)
    {
        if (known.Count != entries.Length)
        {
            return false;
        }

        foreach (var (key, value) in entries)
        {
            if (!known.TryGetValue(key, out var other) || !ReferenceEquals(value, other))
            {
                return false;
            }
        }

        return true;
    }

    // Eight bytes at a time: names and UIDs are long.
    private static uint Hash(ReadOnlySpan<byte> ascii)
    {
        var hash = (ulong)ascii.Length;
        while (ascii.Length >= sizeof(ulong))
        {
            hash = (BitOperations.RotateLeft(hash, 5) ^ MemoryMarshal.Read<ulong>(ascii)) * 0x9e3779b97f4a7c15;
            ascii = ascii[sizeof(ulong)..];
        }

        foreach (var b in ascii)
        {
            hash = (BitOperations.RotateLeft(hash, 5) ^ b) * 0x9e3779b97f4a7c15;
        }

        return (uint)(hash >> 32);
    }

    private static uint Mixed(uint hash) => BitOperations.RotateLeft(hash * 0x9e3779b1, 15);

    private static Span<T?> SetOf<T>(T?[] slots, uint hash)
        where T : class => slots.AsSpan((int)((hash * 0x9e3779b1u) >> (32 - BitOperations.Log2((uint)(slots.Length / Ways)))) * Ways, Ways);

    // The newest first: what a set has no room for is what was met longest ago.
    private static void Remember<T>(Span<T?> set, T value)
        where T : class
    {
        set[..(Ways - 1)].CopyTo(set[1..]);
        set[0] = value;
    }

    // Values are not put over: their hashes are those of references, which only their parts know.
    private void GrowValues()
    {
        if (++_newValues <= _values.Length / 2 || _values.Length >= MostSlots)
        {
            return;
        }

        lock (_growing)
        {
            if (_newValues > _values.Length / 2)
            {
                _values = new object?[_values.Length * 4];
                _newValues = 0;
            }
        }
    }

    private void GrowTexts()
    {
        lock (_growing)
        {
            if (_newTexts <= _texts.Length / 2)
            {
                return;
            }

            Span<byte> ascii = stackalloc byte[LongestText];
            var larger = new string?[_texts.Length * 4];
            foreach (var known in _texts)
            {
                if (known is not null)
                {
                    Remember(SetOf(larger, Hash(ascii[..Encoding.ASCII.GetBytes(known, ascii)])), known);
                }
            }

            _texts = larger;
            _newTexts = 0;
        }
    }
}
