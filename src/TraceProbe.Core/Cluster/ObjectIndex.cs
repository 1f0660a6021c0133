using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// Where in a list the objects stand that have a key; made when it is first asked. It holds places and not objects, so that it stays right
/// for a later list in which objects have changed, but not their keys: what a thousand changes a second mostly are.
/// </summary>
/// <typeparam name="TKey">What is looked up by.</typeparam>
/// <typeparam name="T">What is found.</typeparam>
internal sealed class ObjectIndex<TKey, T>
    where TKey : notnull
    where T : class
{
    private readonly Func<T, ImmutableArray<TKey>> _keysOf;
    private readonly Lazy<Places> _places;

    /// <summary>An index.</summary>
    /// <param name="objects">The objects.</param>
    /// <param name="keysOf">The keys that one of them has, each once.</param>
    /// <param name="last">The index of an earlier list, or null.</param>
    public ObjectIndex(ImmutableArray<T> objects, Func<T, ImmutableArray<TKey>> keysOf, ObjectIndex<TKey, T>? last)
    {
        (Objects, _keysOf) = (objects, keysOf);

        // Of an earlier index only the places are held, if it was ever asked: a chain of snapshots is not to keep all of them alive.
        var (earlier, places) = last is { _places.IsValueCreated: true } ? (last.Objects, last._places.Value) : default;
        _places = places is not null && earlier == objects ? last!._places
            : new(() => places is not null && KeysAreSame(earlier, objects) ? places : new Places(objects, keysOf), LazyThreadSafetyMode.ExecutionAndPublication);
    }

    /// <summary>The objects.</summary>
    public ImmutableArray<T> Objects { get; }

    /// <summary>The first object with that key, or null.</summary>
    public T? Find(TKey key) => _places.Value.First.TryGetValue(key, out var place) ? Objects[place] : null;

    /// <summary>All objects with that key, as they stand in the list.</summary>
    public IEnumerable<T> All(TKey key)
    {
        var places = _places.Value;
        if (!places.First.TryGetValue(key, out var place))
        {
            yield break;
        }

        yield return Objects[place];
        foreach (var further in places.Further.GetValueOrDefault(key) ?? [])
        {
            yield return Objects[further];
        }
    }

    private bool KeysAreSame(ImmutableArray<T> earlier, ImmutableArray<T> objects)
    {
        if (earlier.Length != objects.Length)
        {
            return false;
        }

        for (var i = 0; i < objects.Length; i++)
        {
            if (!ReferenceEquals(earlier[i], objects[i]) && !_keysOf(earlier[i]).AsSpan().SequenceEqual(_keysOf(objects[i]).AsSpan()))
            {
                return false;
            }
        }

        return true;
    }

    private sealed class Places
    {
        public Places(ImmutableArray<T> objects, Func<T, ImmutableArray<TKey>> keysOf)
        {
            First = new(objects.Length);
            for (var i = 0; i < objects.Length; i++)
            {
                foreach (var key in keysOf(objects[i]))
                {
                    if (!First.TryAdd(key, i))
                    {
                        (CollectionsMarshal.GetValueRefOrAddDefault(Further, key, out _) ??= []).Add(i);
                    }
                }
            }
        }

        /// <summary>The first place of a key.</summary>
        public Dictionary<TKey, int> First { get; }

        /// <summary>The others, where there are.</summary>
        public Dictionary<TKey, List<int>> Further { get; } = [];
    }
}
