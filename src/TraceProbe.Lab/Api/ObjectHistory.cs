using System.Collections.Immutable;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab.Api;

/// <summary>A change of an object.</summary>
/// <param name="Version">The version of the cluster with it.</param>
/// <param name="Type">ADDED, MODIFIED or DELETED.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Object">The object then.</param>
internal sealed record ObjectChange(long Version, string Type, ServedKind Kind, ServedObject Object);

/// <summary>
/// What a lab's objects were and are, with versions of the cluster as etcd has them. The objects are files that anybody changes; here is
/// found out what has changed, a moment after it did.
/// </summary>
internal sealed class ObjectHistory(ObjectStore store, KubeProxyPods proxies, LabEvents events)
{
    private const int MostChanges = 1000;

    private readonly Lock _lock = new();
    private readonly Dictionary<ServedKind, SortedDictionary<string, (long Version, string Text, ServedObject Object)>> _now = ServedKind.All.ToDictionary(k => k, _ => new SortedDictionary<string, (long, string, ServedObject)>(StringComparer.Ordinal));
    private readonly LinkedList<ObjectChange> _changes = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private (string Files, ImmutableArray<Pod> Proxies, ImmutableArray<JsonObject> Events) _fingerprint = ("", [], []);
    private long _version;
    private long _floor;

    /// <summary>The objects as they are, and the version of the cluster.</summary>
    public (long Version, List<(long Version, ServedObject Object)> Objects) Now(ServedKind kind)
    {
        lock (_lock)
        {
            Refresh();
            return (_version, [.. _now[kind].Values.Select(o => (o.Version, o.Object))]);
        }
    }

    /// <summary>The changes of a kind behind a version, and what ends when there are more; null when it is too long ago to know.</summary>
    public (List<ObjectChange>? Changes, long Version, Task More) Since(ServedKind kind, long version)
    {
        lock (_lock)
        {
            return (version < _floor ? null : [.. _changes.Where(c => c.Version > version && c.Kind == kind)], _version, _changed.Task);
        }
    }

    /// <summary>Looks what has changed.</summary>
    public void Look()
    {
        lock (_lock)
        {
            Refresh();
        }
    }

    private void Refresh()
    {
        var fingerprint = (store.Fingerprint(), proxies.Pods, events.All);
        if (fingerprint == _fingerprint)
        {
            return;
        }

        ObjectsNow now;
        try
        {
            var cluster = store.Read();
            now = new ObjectsNow(cluster with { Pods = [.. cluster.Pods, .. proxies.Pods] }, store.ReadConfigMaps(), events.All);
        }
        catch (Exception e) when (e is LabException or IOException)
        {
            return; // somebody is just editing one by hand
        }

        _fingerprint = fingerprint;
        var before = _version;
        foreach (var kind in ServedKind.All)
        {
            var known = _now[kind];
            var gone = known.Keys.ToHashSet(StringComparer.Ordinal);
            foreach (var one in kind.Of(now))
            {
                var key = $"{one.Metadata.Namespace}/{one.Metadata.Name}";
                var text = System.Text.Encoding.UTF8.GetString(one.Json(one.Metadata.ResourceVersion ?? ""));
                gone.Remove(key);
                if (!known.TryGetValue(key, out var last) || last.Text != text)
                {
                    Add(new ObjectChange(++_version, last.Text is null ? "ADDED" : "MODIFIED", kind, one));
                    known[key] = (_version, text, one);
                }
            }

            foreach (var key in gone)
            {
                known.Remove(key, out var last);
                Add(new ObjectChange(++_version, "DELETED", kind, last.Object));
            }
        }

        if (_version != before)
        {
            var changed = _changed;
            _changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            changed.SetResult();
        }
    }

    private void Add(ObjectChange change)
    {
        _changes.AddLast(change);
        if (_changes.Count > MostChanges)
        {
            _floor = _changes.First!.Value.Version;
            _changes.RemoveFirst();
        }
    }
}
