using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// Keeps the objects of one kind as the server has them: it lists them, watches from the list's version on, goes on where a watch ended,
/// and lists anew when the server no longer knows that version. What is missing from a list was deleted while nobody watched: the list
/// takes the place of everything that was known (client-go, tools/cache/reflector.go).
/// </summary>
/// <param name="client">Asks the server.</param>
/// <param name="resource">The kind.</param>
/// <param name="objects">Reads the objects; what they have in common with those of other kinds is kept once where readers share that.</param>
internal sealed class Reflector<T>(ApiClient client, Resource<T> resource, ObjectReader objects)
{
    private readonly Lock _lock = new();
    private Resource<T>? _resource;
    private Unread? _elsewhere;
    private Known? _known;
    private ImmutableArray<T>? _array;
    private Unread? _unread;
    private string? _version;
    private bool _streams = true;

    /// <summary>What it is about.</summary>
    public Resource<T> Resource => _resource ?? resource;

    /// <summary>How many changes were applied and how many lists taken since the beginning.</summary>
    public (long Changes, long Lists) Counts { get; private set; }

    /// <summary>The objects as they are known now; the same array as long as nothing changes.</summary>
    public ImmutableArray<T> Objects
    {
        get
        {
            lock (_lock)
            {
                return _array ??= _known?.ToArray() ?? [];
            }
        }
    }

    /// <summary>Why the objects are not known, or no longer followed; null when they are.</summary>
    public Unread? Unread
    {
        get
        {
            lock (_lock)
            {
                return _unread;
            }
        }
    }

    /// <summary>Lists the objects once.</summary>
    /// <exception cref="ApiException">They cannot be had; <see cref="Unread"/> tells it too.</exception>
    public async Task ListAsync(CancellationToken cancellation)
    {
        try
        {
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    await ListAllowedAsync(cancellation).ConfigureAwait(false);
                    return;
                }
                catch (ApiException e) when (e.IsExpired && attempt < client.Options.Attempts)
                {
                    // Between two pages the server has forgotten the version of the first: begin anew.
                }
            }
        }
        catch (ApiException e)
        {
            Fail(e);
            throw;
        }
    }

    /// <summary>Follows the objects until it is stopped; never ends by itself.</summary>
    /// <param name="isListed">Whether <see cref="ListAsync"/> went well just now.</param>
    /// <param name="cancellation">Stops it.</param>
    public async Task FollowAsync(bool isListed, CancellationToken cancellation)
    {
        var backoff = new Backoff(client.Options.FirstPause, client.Options.LongestPause);
        while (true)
        {
            try
            {
                if (!isListed && !await ListByStreamAsync(cancellation).ConfigureAwait(false))
                {
                    await ListAllowedAsync(cancellation).ConfigureAwait(false);
                }

                isListed = true;
                if (await WatchAsync(initial: false, cancellation).ConfigureAwait(false))
                {
                    // It ended as watches do, or broke off after it had told something: on from there.
                    backoff.Reset();
                    continue;
                }

                await backoff.PauseAsync(null, cancellation).ConfigureAwait(false);
            }
            catch (ApiException e)
            {
                isListed = false;
                if (!e.IsExpired)
                {
                    Fail(e);
                }

                await backoff.PauseAsync(e.RetryAfter, cancellation).ConfigureAwait(false);
            }
        }
    }

    private void Fail(ApiException e)
    {
        lock (_lock)
        {
            _unread = _version is null ? new Unread(resource.Name, e.Message) : new Unread(resource.Name, $"They are no longer followed: {e.Message}") { IsStale = true };
        }
    }

    // Who may not read all of a cluster may mostly read the namespace that is his.
    private async Task ListAllowedAsync(CancellationToken cancellation)
    {
        (_resource, _elsewhere) = (resource, null);
        try
        {
            await ListOnceAsync(cancellation).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.Status == 403 && resource.IsNamespaced)
        {
            (_resource, _elsewhere) = (resource.In(client.Server.Namespace), new Unread(resource.Name, $"Only those of namespace {client.Server.Namespace} may be read: {e.Message}"));
            try
            {
                await ListOnceAsync(cancellation).ConfigureAwait(false);
            }
            catch (ApiException)
            {
                // Not even that: what it was refused at first says more.
                (_resource, _elsewhere) = (resource, null);
                throw e;
            }
        }
    }

    private async Task ListOnceAsync(CancellationToken cancellation)
    {
        var found = new Known(KeyOf);
        string? next = null;
        string? version = null;
        do
        {
            var limit = string.Create(CultureInfo.InvariantCulture, $"limit={client.Options.PageSize}");
            var page = new ListPage<T>(resource, objects, one => Add(found, one));
            using (var json = await client.GetAsync(next is null ? Resource.Query(limit) : Resource.Query(limit, $"continue={Uri.EscapeDataString(next)}"), client.Options.Stall, cancellation).ConfigureAwait(false))
            {
                await Told(() => page.ReadAsync(json, cancellation)).ConfigureAwait(false);
            }

            version = page.ResourceVersion;
            if (page.Continue is { } rest && rest == next)
            {
                throw new ApiException($"The API server's list of {resource.Name} goes in a circle.");
            }

            next = page.Continue;
        }
        while (next is not null);
        Replace(found, version);
    }

    private void Add(Known found, T one)
    {
        found.Put(one);
        if (found.Count > client.Options.MostObjects)
        {
            throw new ApiException($"There are more than {client.Options.MostObjects} {resource.Name}.");
        }
    }

    private void Replace(Known found, string? version)
    {
        lock (_lock)
        {
            (_known, _array, _version, _unread) = (found, null, version, _elsewhere);
            Counts = (Counts.Changes, Counts.Lists + 1);
        }
    }

    // "sendInitialEvents": the objects come as events of the watch, which spares the server making a list of them (KEP 3157, from 1.32 on by
    // default). Older servers say that they know no such thing, and are not asked again.
    private async Task<bool> ListByStreamAsync(CancellationToken cancellation)
    {
        if (_streams)
        {
            try
            {
                await WatchAsync(initial: true, cancellation).ConfigureAwait(false);
                return true;
            }
            catch (ApiException e) when (e.Status is 400 or 404 or 405 or 422)
            {
                _streams = false;
            }
        }

        return false;
    }

    // True when it told something or lasted; false when it ended at once.
    private async Task<bool> WatchAsync(bool initial, CancellationToken cancellation)
    {
        // client-go's five to ten minutes; servers end a watch then by themselves, and not all clients come back at once.
        var seconds = string.Create(CultureInfo.InvariantCulture, $"timeoutSeconds={Random.Shared.Next(300, 600)}");
        var path = initial
            ? Resource.Query("watch=1", "allowWatchBookmarks=true", "sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", seconds)
            : Resource.Query("watch=1", "allowWatchBookmarks=true", $"resourceVersion={_version}", seconds);
        var found = initial ? new Known(KeyOf) : null;
        var since = TimeProvider.System.GetTimestamp();
        var told = false;
        using var json = await client.GetAsync(path, client.Options.Silence, cancellation).ConfigureAwait(false);
        try
        {
            await Told(async () =>
            {
                for (var scanned = 0; ;)
                {
                    var end = json.Arrived[scanned..].IndexOf((byte)'\n');
                    if (end < 0)
                    {
                        scanned = json.Arrived.Length;
                        if (!await json.FillAsync(1, cancellation).ConfigureAwait(false))
                        {
                            // What follows the last line's end is half an event; it will come again.
                            return;
                        }

                        continue;
                    }

                    var length = scanned + end;
                    if (!json.Arrived[..length].Trim(" \r"u8).IsEmpty && Apply(json.Arrived[..length], found))
                    {
                        found = null;
                        told = true;
                        if (initial)
                        {
                            return;
                        }
                    }

                    told |= found is null;
                    json.Take(length + 1);
                    scanned = 0;
                }
            }).ConfigureAwait(false);
        }
        catch (ApiException e) when (!initial && e is { Status: 0, InnerException: IOException or HttpRequestException or null })
        {
            // The connection broke or fell silent; everything up to the last whole event stands.
        }

        if (found is not null)
        {
            throw new ApiException($"The API server's stream of {resource.Name} ended before all were told.");
        }

        return told || TimeProvider.System.GetElapsedTime(since) > client.Options.LongestPause;
    }

    // True when with this all initial events are there.
    private bool Apply(Span<byte> line, Known? initial)
    {
        // {"type":"MODIFIED","object":{"metadata":{…}}}: the object is in the event.
        var told = WatchEvent.Parse(ObjectText.LengthOf(line, 2, out var unread) < 0 ? line : ObjectText.Without(line, unread));
        switch (told.Type)
        {
            case WatchEventType.Error:
                throw client.ErrorOf(told.Text);
            case WatchEventType.Bookmark:
                var (version, ends) = told.ReadBookmark();
                if (initial is not null && ends)
                {
                    Replace(initial, version);
                    return true;
                }

                if (initial is null)
                {
                    _version = version ?? _version;
                }

                return false;
        }

        var json = told.Object;
        var one = resource.Read(objects, ref json);
        WatchEvent.End(ref json);
        if (initial is not null)
        {
            if (told.Type == WatchEventType.Deleted)
            {
                initial.Remove(one);
            }
            else
            {
                Add(initial, one);
            }

            return false;
        }

        lock (_lock)
        {
            if (told.Type == WatchEventType.Deleted)
            {
                _known!.Remove(one);
            }
            else
            {
                Add(_known!, one);
            }

            (_array, _unread) = (null, _elsewhere);
            _version = resource.MetadataOf(one).ResourceVersion ?? _version;
            Counts = (Counts.Changes + 1, Counts.Lists);
        }

        return false;
    }

    // Whatever bytes can do wrong, as one exception.
    private async Task Told(Func<Task> reading)
    {
        try
        {
            await reading().ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            throw client.Broken(e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException or InvalidDataException)
        {
            // Strings that are not UTF-8 surface as InvalidOperationException.
            throw new ApiException($"What the API server {client.Server.Url.Authority} tells of {resource.Name} is not what it should be: {e.Message}", e);
        }
    }

    private (string?, string) KeyOf(T one)
    {
        var metadata = resource.MetadataOf(one);
        return (metadata.Namespace, metadata.Name.Length > 0 ? metadata.Name : throw new JsonException("an object without a name."));
    }

    /// <summary>
    /// Objects by name, each in a place of its own that it keeps as long as it is there: a snapshot of them is a copy of one array, and what is
    /// made of a snapshot is still right for the next where no object has come or gone.
    /// </summary>
    private sealed class Known(Func<T, (string? Namespace, string Name)> keyOf)
    {
        private readonly Dictionary<(string? Namespace, string Name), int> _places = [];
        private readonly List<T> _objects = [];

        public int Count => _objects.Count;

        public void Put(T one)
        {
            ref var place = ref CollectionsMarshal.GetValueRefOrAddDefault(_places, keyOf(one), out var isKnown);
            if (isKnown)
            {
                _objects[place] = one;
            }
            else
            {
                place = _objects.Count;
                _objects.Add(one);
            }
        }

        public void Remove(T one)
        {
            if (!_places.Remove(keyOf(one), out var place))
            {
                return;
            }

            // The last one takes its place.
            var last = _objects[^1];
            _objects.RemoveAt(_objects.Count - 1);
            if (place < _objects.Count)
            {
                _objects[place] = last;
                _places[keyOf(last)] = place;
            }
        }

        public ImmutableArray<T> ToArray() => [.. _objects];
    }
}
