using System.Collections.Immutable;
using System.Text;
using System.Text.Json;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// The desired account as an API server has it: every kind that TraceProbe uses, listed, and followed as long as wanted. A kind that may
/// not be read is named in <see cref="ClusterSnapshot.Unread"/>, and the rest goes on.
/// </summary>
public sealed class LiveCluster : IAsyncDisposable
{
    private static readonly (string Namespace, string Name)[] SettingMaps =
        [("kube-system", "coredns"), ("kube-system", "node-local-dns"), ("kube-system", "kube-proxy"), ("kube-system", "kubelet-config"), ("openshift-dns", "dns-default")];

    private readonly ApiClient _client;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _asked = new();
    private readonly ObjectReader _objects = new();
    private readonly Reflector<Service> _services;
    private readonly Reflector<Pod> _pods;
    private readonly Reflector<Node> _nodes;
    private readonly Reflector<Namespace> _namespaces;
    private readonly Reflector<NetworkPolicy> _policies;
    private readonly Reflector<PodEvent> _events;
    private Reflector<EndpointSlice>? _slices;
    private Reflector<EndpointsObject>? _endpoints;
    private ImmutableArray<Unread> _settingsUnread = [];
    private ClusterSettings _settings = new();
    private ImmutableArray<SettingMap> _settingMaps;
    private Task _following = Task.CompletedTask;
    private ClusterSnapshot _last = ClusterSnapshot.Empty;
    private (ImmutableArray<EndpointsObject> From, ImmutableArray<EndpointSlice> Slices) _flattened = ([], []);

    private LiveCluster(ApiClient client)
    {
        _client = client;
        _services = new(client, Resources.Services, new ObjectReader(_objects));
        _pods = new(client, Resources.Pods, new ObjectReader(_objects));
        _nodes = new(client, Resources.Nodes, new ObjectReader(_objects));
        _namespaces = new(client, Resources.Namespaces, new ObjectReader(_objects));
        _policies = new(client, Resources.NetworkPolicies, new ObjectReader(_objects));
        _events = new(client, Resources.Events, new ObjectReader(_objects));
    }

    /// <summary>
    /// The objects as they are known now: immutable, and the same snapshot as long as nothing changes. Asking costs one array for each kind
    /// that has changed since it was asked last.
    /// </summary>
    public ClusterSnapshot Current
    {
        get
        {
            using var one = _asked.EnterScope();
            var slices = _endpoints is { } endpoints ? Flattened(endpoints.Objects) : _slices?.Objects ?? [];
            Unread?[] unread = [_services.Unread, _slices?.Unread ?? _endpoints?.Unread, _pods.Unread, _nodes.Unread, _namespaces.Unread, _policies.Unread, _events.Unread];
            (string Name, Unread? Unread)[] optional = [("namespaces", _namespaces.Unread), ("networkpolicies", _policies.Unread), ("events", _events.Unread)];
            var last = _last;
            var now = last with
            {
                Services = _services.Objects,
                EndpointSlices = slices,
                Pods = _pods.Objects,
                Nodes = _nodes.Objects,
                Namespaces = _namespaces.Objects,
                NetworkPolicies = _policies.Objects,
                Events = _events.Objects,
                Unread = Same(last.Unread, [.. unread.OfType<Unread>(), .. _settingsUnread]),
                AlsoRead = Same(last.AlsoRead, [.. optional.Where(k => k.Unread is null).Select(k => k.Name)]),
                Settings = _settings,
                ClusterDomain = _settings.ClusterDomain?.Name!,
                ClusterDomainFrom = _settings.ClusterDomain?.From,
            };
            return now == last ? last : _last = now;
        }
    }

    /// <summary>How many changes were applied, and how many lists taken.</summary>
    internal (long Changes, long Lists) Counts
    {
        get
        {
            (long Changes, long Lists)[] all = [_services.Counts, _pods.Counts, _nodes.Counts, _namespaces.Counts, _policies.Counts, _events.Counts, _slices?.Counts ?? _endpoints?.Counts ?? default];
            return (all.Sum(c => c.Changes), all.Sum(c => c.Lists));
        }
    }

    /// <summary>Lists everything once.</summary>
    /// <param name="client">The client; it stays the caller's.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="ApiException">The server is not reached, does not accept the credentials, or nothing of what a verdict needs may be read.</exception>
    public static async Task<ClusterSnapshot> ReadAsync(ApiClient client, CancellationToken cancellation = default)
    {
        var cluster = await OpenAsync(client, follow: false, cancellation).ConfigureAwait(false);
        await using (cluster.ConfigureAwait(false))
        {
            return cluster.Current;
        }
    }

    /// <summary>Lists everything, and follows it until this is disposed.</summary>
    /// <param name="client">The client; it stays the caller's, and must outlive this.</param>
    /// <param name="cancellation">Stops the beginning.</param>
    /// <exception cref="ApiException">The server is not reached, does not accept the credentials, or nothing of what a verdict needs may be read.</exception>
    public static Task<LiveCluster> FollowAsync(ApiClient client, CancellationToken cancellation = default) => OpenAsync(client, follow: true, cancellation);

    /// <summary>Stops following.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        try
        {
            await _following.ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // That was the point.
        }

        _stop.Dispose();
    }

    private static async Task<LiveCluster> OpenAsync(ApiClient client, bool follow, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(client);
        var cluster = new LiveCluster(client);
        (Task Listing, Func<bool, CancellationToken, Task> Follow, bool IsNeeded)[] kinds;
        try
        {
            // One request first: whether the server is there and knows us is found out once and not eight times at once.
            var slices = cluster.ListSlicesAsync(await cluster.EndpointVersionAsync(cancellation).ConfigureAwait(false), cancellation);
            kinds =
            [
                (cluster._services.ListAsync(cancellation), cluster._services.FollowAsync, true),
                (slices, (listed, token) => cluster._endpoints?.FollowAsync(listed, token) ?? cluster._slices!.FollowAsync(listed, token), true),
                (cluster._pods.ListAsync(cancellation), cluster._pods.FollowAsync, true),
                (cluster._nodes.ListAsync(cancellation), cluster._nodes.FollowAsync, true),
                (cluster._namespaces.ListAsync(cancellation), cluster._namespaces.FollowAsync, false),
                (cluster._policies.ListAsync(cancellation), cluster._policies.FollowAsync, false),
                (cluster._events.ListAsync(cancellation), cluster._events.FollowAsync, false),
            ];
            var settings = cluster.ReadSettingsAsync(cancellation);
            await Task.WhenAll([.. kinds.Select(k => Ended(k.Listing)), settings]).ConfigureAwait(false);
            cancellation.ThrowIfCancellationRequested();

            // One of them not being there is something a verdict can say; none of them is no account at all.
            if (kinds.Where(k => k.IsNeeded).All(k => k.Listing.IsFaulted))
            {
                throw kinds[0].Listing.Exception!.InnerExceptions[0] is ApiException { Status: 403 } refused
                    ? new ApiException($"{refused.Message}. TraceProbe needs to list services, endpointslices, pods and nodes: bind its user to a ClusterRole that allows that ({client.Server.From}).", refused) { Status = 403 }
                    : kinds[0].Listing.Exception!.InnerExceptions[0];
            }
        }
        catch
        {
            await cluster.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        if (follow)
        {
            cluster._following = Task.WhenAll([.. kinds.Select(k => k.Follow(k.Listing.IsCompletedSuccessfully, cluster._stop.Token)), cluster.FollowSettingsAsync(cluster._stop.Token)]);
        }

        return cluster;
    }

    private static async Task Ended(Task listing)
    {
        try
        {
            await listing.ConfigureAwait(false);
        }
        catch (ApiException)
        {
            // It is told where the kind is.
        }
    }

    private Task ListSlicesAsync(string? version, CancellationToken cancellation)
    {
        if (version is not null)
        {
            return (_slices = new(_client, Resources.EndpointSlices(version), new ObjectReader(_objects))).ListAsync(cancellation);
        }

        return (_endpoints = new(_client, Resources.Endpoints, new ObjectReader(_objects))).ListAsync(cancellation);
    }

    // {"kind":"APIGroup","name":"discovery.k8s.io","versions":[{"groupVersion":"discovery.k8s.io/v1","version":"v1"}],…}; null where there is none.
    private async Task<string?> EndpointVersionAsync(CancellationToken cancellation)
    {
        try
        {
            using var group = await DocumentAsync("/apis/discovery.k8s.io", cancellation).ConfigureAwait(false);
            var versions = group.RootElement.GetProperty("versions").EnumerateArray().Select(v => v.GetProperty("version").GetString()).ToList();
            return versions.Contains("v1") ? "v1" : versions.Contains("v1beta1") ? "v1beta1" : null;
        }
        catch (ApiException e) when (e.Status == 404)
        {
            return null;
        }
        catch (ApiException e) when (e.Status == 403)
        {
            // Everybody who is known may ask this, unless somebody took care that not. Nearly all servers have v1.
            return "v1";
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new ApiException($"{_client.Server.Url.Authority} ({_client.Server.From}) does not answer like an API server. A login page, a proxy or something else on that port? Look at the cluster's server in the kubeconfig.", e);
        }
    }

    private async Task ReadSettingsAsync(CancellationToken cancellation)
    {
        var read = await Task.WhenAll(SettingMaps.Select(m => ReadConfigMapAsync(m.Namespace, m.Name, cancellation))).ConfigureAwait(false);
        // What could not be had this time stays as it was.
        ImmutableArray<SettingMap> maps = [.. read.Select((m, i) => m ?? (_settingMaps.IsDefault ? SettingMap.None : _settingMaps[i]))];
        if (!_settingMaps.IsDefault && maps.Select(m => (m.Map?.Metadata.ResourceVersion, m.Unread)).SequenceEqual(_settingMaps.Select(m => (m.Map?.Metadata.ResourceVersion, m.Unread))))
        {
            return;
        }

        _settingMaps = maps;
        var unread = maps.Select(m => m.Unread).OfType<Unread>().ToList();
        var settings = ClusterSettings.Of(maps.Select(m => m.Map).OfType<ConfigMap>(), unread);
        using var one = _asked.EnterScope();
        (_settings, _settingsUnread) = (settings, [.. unread]);
    }

    // By name, since a role that allows no more than that is easily given (resourceNames), and again by name now and then.
    private async Task FollowSettingsAsync(CancellationToken cancellation)
    {
        while (true)
        {
            await Task.Delay(_client.Options.SettingsPeriod, cancellation).ConfigureAwait(false);
            await ReadSettingsAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>What became of one ConfigMap: it, or why it cannot be understood, or neither where it is not there or may not be read, since nothing needs it.</summary>
    private sealed record SettingMap(ConfigMap? Map, Unread? Unread)
    {
        public static SettingMap None { get; } = new(null, null);
    }

    // Null for one that could not be had this time.
    private async Task<SettingMap?> ReadConfigMapAsync(string ns, string name, CancellationToken cancellation)
    {
        try
        {
            using var document = await DocumentAsync($"/api/v1/namespaces/{ns}/configmaps/{name}", cancellation).ConfigureAwait(false);
            return new SettingMap(Parse(Encoding.UTF8.GetBytes(document.RootElement.GetRawText())), null);
        }
        catch (ApiException e)
        {
            return e.Status is 401 or 403 or 404 ? SettingMap.None : null;
        }
        catch (Exception e) when (e is JsonException or FormatException)
        {
            return new SettingMap(null, new Unread($"configmap/{ns}/{name}", e.Message));
        }

        static ConfigMap Parse(ReadOnlySpan<byte> text)
        {
            var json = new Utf8JsonReader(text, ObjectReader.Options);
            json.Read();
            return new ObjectReader().ReadConfigMap(ref json).WithJson((from, yaml) => Encoding.UTF8.GetString(YamlJson.Convert(from, Encoding.UTF8.GetBytes(yaml)).Span));
        }
    }

    private async Task<JsonDocument> DocumentAsync(string path, CancellationToken cancellation)
    {
        using var json = await _client.GetAsync(path, _client.Options.Stall, cancellation).ConfigureAwait(false);
        try
        {
            while (await json.FillAsync(1, cancellation).ConfigureAwait(false))
            {
            }
        }
        catch (Exception e) when (e is IOException or HttpRequestException or InvalidDataException)
        {
            throw _client.Broken(e);
        }

        return JsonDocument.Parse(json.Arrived.ToArray());
    }

    private ImmutableArray<EndpointSlice> Flattened(ImmutableArray<EndpointsObject> endpoints)
    {
        if (_flattened.From != endpoints)
        {
            _flattened = (endpoints, [.. endpoints.SelectMany(e => e.Slices)]);
        }

        return _flattened.Slices;
    }

    private static ImmutableArray<TItem> Same<TItem>(ImmutableArray<TItem> last, ImmutableArray<TItem> now) => last.SequenceEqual(now) ? last : now;
}
