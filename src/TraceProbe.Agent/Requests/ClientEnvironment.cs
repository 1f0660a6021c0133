using TraceProbe.Capture;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Requests;

/// <summary>Where a request is made from: the namespace, and the files that decide what names mean there.</summary>
public sealed class ClientEnvironment : IDisposable
{
    /// <summary>The resolv.conf of a process that has no other.</summary>
    public const string DefaultResolvConfPath = "/etc/resolv.conf";

    /// <summary>The hosts file of a process that has no other.</summary>
    public const string DefaultHostsPath = "/etc/hosts";

    /// <summary>The client's network namespace; null for that of this process. Owned: closed by <see cref="Dispose"/>.</summary>
    public NetworkNamespace? Namespace { get; init; }

    /// <summary>
    /// The client's resolv.conf, as seen from here. Below <c>/proc/PID/root</c>, links are followed within that root, so that a link in a
    /// container leads where it leads for the container.
    /// </summary>
    public string ResolvConfPath { get; init; } = DefaultResolvConfPath;

    /// <summary>The client's hosts file, as seen from here; links as in <see cref="ResolvConfPath"/>.</summary>
    public string HostsPath { get; init; } = DefaultHostsPath;

    /// <summary>Whose resolver the client has.</summary>
    public ResolverFlavor Flavor { get; init; }

    /// <summary>Opens a place to make requests from.</summary>
    /// <param name="place">The place; an empty <see cref="Place.NetNsPath"/> stands for this process's own namespace, an empty <see cref="Place.EtcPath"/> for <c>/etc</c>.</param>
    /// <param name="flavor">Whose resolver its programs have.</param>
    /// <exception cref="FileNotFoundException">There is no such namespace any more.</exception>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be opened; the message names the capability that is missing.</exception>
    public static ClientEnvironment Open(Place place, ResolverFlavor flavor = ResolverFlavor.Glibc)
    {
        ArgumentNullException.ThrowIfNull(place);
        var etc = place.EtcPath.Length == 0 ? "/etc" : place.EtcPath;
        return new ClientEnvironment
        {
            Namespace = place.NetNsPath.Length == 0 ? null : NetworkNamespace.Open(place.NetNsPath),
            ResolvConfPath = Path.Combine(etc, "resolv.conf"),
            HostsPath = Path.Combine(etc, "hosts"),
            Flavor = flavor,
        };
    }

    /// <summary>Closes the namespace.</summary>
    public void Dispose() => Namespace?.Dispose();
}
