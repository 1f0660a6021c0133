namespace TraceProbe.Cluster.Api;

/// <summary>How an <see cref="ApiClient"/> behaves towards a server.</summary>
public sealed record ApiClientOptions
{
    /// <summary>How many requests a second, more than zero.</summary>
    public double RequestsPerSecond { get; init; } = 50;

    /// <summary>How many requests at once before that counts, at least one.</summary>
    public int Burst { get; init; } = 100;

    /// <summary>How many objects to ask for at once.</summary>
    public int PageSize { get; init; } = 1000;

    /// <summary>How many objects of one kind are taken; more are an error.</summary>
    public int MostObjects { get; init; } = 1_000_000;

    /// <summary>How large one object may be, in bytes. etcd keeps none above 1.5 MB by default.</summary>
    public int LargestObject { get; init; } = 8 << 20;

    /// <summary>How long to wait for a connection.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long an answer may stop before it is given up.</summary>
    public TimeSpan Stall { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long a watch may be silent before it is begun again where it was. Servers send a bookmark about each minute.
    /// </summary>
    public TimeSpan Silence { get; init; } = TimeSpan.FromMinutes(3);

    /// <summary>How often ConfigMaps are read again while objects are followed: what they say changes about once a year, and a stream for each is too much for that.</summary>
    public TimeSpan SettingsPeriod { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How often a request that fails in passing is made in all, before that is told.</summary>
    public int Attempts { get; init; } = 4;

    /// <summary>How long to pause after a first failure; twice as long after each further one, and up to twice that by chance.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>How long to pause at most, also when the server asks for more.</summary>
    public TimeSpan LongestPause { get; init; } = TimeSpan.FromSeconds(30);
}
