using System.Collections.Immutable;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Keeps what objects have in common once: node names, labels, container states, whole lists of conditions. A cache of bounded size and not
/// a dictionary: what it no longer knows is merely kept twice, and no choice of names can make it slow or large.
/// </summary>
internal sealed class SharedValues
{
    private const int LongestText = 128;
    private const int Ways = 4;
    private const int FirstSlots = 1 << 9;
    private const int MostSlots = 1 << 18;

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

        var hash = 2166136261u;
        foreach (var b in bytes)
        {
            if (b >= 0x80)
            {
                return json.GetString()!;
            }

            hash = (hash ^ b) * 16777619;
        }

        var set = SetOf(_texts, hash);
        foreach (var known in set)
        {
            if (known is null)
            {
                break;
            }

            if (Same(known, bytes))
            {
                return known;
            }
        }

        var text = json.GetString()!;
        Remember(set, text);
        if (++_newTexts > _texts.Length / 2 && _texts.Length < MostSlots)
        {
            Grow(ref _texts, static known => Hash(known));
            _newTexts = 0;
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

    private static bool Same(string known, ReadOnlySpan<byte> ascii)
    {
        if (known.Length != ascii.Length)
        {
            return false;
        }

        for (var i = 0; i < ascii.Length; i++)
        {
            if (known[i] != ascii[i])
            {
                return false;
            }
        }

        return true;
    }

    private static uint Hash(string ascii)
    {
        var hash = 2166136261u;
        foreach (var c in ascii)
        {
            hash = (hash ^ c) * 16777619;
        }

        return hash;
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
        if (++_newValues > _values.Length / 2 && _values.Length < MostSlots)
        {
            _values = new object?[_values.Length * 4];
            _newValues = 0;
        }
    }

    private static void Grow<T>(ref T?[] slots, Func<T, uint> hash)
        where T : class
    {
        var larger = new T?[slots.Length * 4];
        foreach (var known in slots)
        {
            if (known is not null)
            {
                Remember(SetOf(larger, hash(known)), known);
            }
        }

        slots = larger;
    }
}
