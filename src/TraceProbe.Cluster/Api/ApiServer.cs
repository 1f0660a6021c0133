using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace TraceProbe.Cluster.Api;

/// <summary>An API server, how to reach it, and as whom.</summary>
public sealed record ApiServer
{
    /// <summary>Where a pod finds its account: <c>token</c>, <c>ca.crt</c> and <c>namespace</c>.</summary>
    public const string ServiceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

    /// <summary>The server, perhaps with a path before <c>/api</c>.</summary>
    public required Uri Url { get; init; }

    /// <summary>Where that is written, for messages: <c>context prod of ~/.kube/config</c>.</summary>
    public string From { get; init; } = "";

    /// <summary>What the cluster is called; null when nobody named it.</summary>
    public string? Cluster { get; init; }

    /// <summary>The namespace that is meant where none is given.</summary>
    public string Namespace { get; init; } = "default";

    /// <summary>The certificates that vouch for the server; null for those that the machine trusts.</summary>
    internal X509Certificate2Collection? Authorities { get; init; }

    /// <summary>Whether the server's certificate is not looked at.</summary>
    internal bool IsInsecure { get; init; }

    /// <summary>The name that the server's certificate has to bear; null for that of <see cref="Url"/>.</summary>
    internal string? TlsServerName { get; init; }

    /// <summary>The proxy; null for what the environment (<c>HTTPS_PROXY</c>, <c>NO_PROXY</c>) says.</summary>
    internal Uri? Proxy { get; init; }

    /// <summary>As whom.</summary>
    internal Credentials Credentials { get; init; } = new();

    /// <summary>As whom instead (<c>as</c>): header names and values.</summary>
    internal ImmutableArray<(string Name, string Value)> Impersonation { get; init; } = [];

    /// <summary>The bearer token that it is asked with; null when it is asked with something else, such as a certificate.</summary>
    /// <exception cref="ApiException">The credentials cannot be had.</exception>
    public async ValueTask<string?> BearerTokenAsync(CancellationToken cancellation)
        => await Credentials.HeaderAsync(renew: false, cancellation).ConfigureAwait(false) is { Scheme: "Bearer", Parameter: { } token } ? token : null;

    /// <summary>The server of the cluster that this process runs in, as its pod's service account; null when it does not run in one.</summary>
    /// <param name="folder">Where the account is.</param>
    /// <exception cref="ApiException">The account's files are not what they should be.</exception>
    public static ApiServer? OfThisPod(string folder = ServiceAccountFolder)
    {
        var host = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST");
        var port = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_PORT");
        if (string.IsNullOrEmpty(host) || string.IsNullOrEmpty(port) || !File.Exists($"{folder}/token"))
        {
            return null;
        }

        if (!Uri.TryCreate($"https://{(host.Contains(':', StringComparison.Ordinal) ? $"[{host}]" : host)}:{port}", UriKind.Absolute, out var url))
        {
            throw new ApiException($"KUBERNETES_SERVICE_HOST={host} and KUBERNETES_SERVICE_PORT={port} are no address of an API server.");
        }

        var ns = $"{folder}/namespace";
        return new ApiServer
        {
            Url = url,
            From = $"the service account in {folder}",
            Namespace = File.Exists(ns) && File.ReadAllText(ns).Trim() is { Length: > 0 } own ? own : "default",
            Authorities = File.Exists($"{folder}/ca.crt") ? Certificates($"{folder}/ca.crt", File.ReadAllText($"{folder}/ca.crt")) : null,
            Credentials = new Credentials { TokenFile = $"{folder}/token" },
        };
    }

    /// <summary>Reads certificates that vouch for servers.</summary>
    internal static X509Certificate2Collection Certificates(string from, string pem)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(pem);
        }
        catch (CryptographicException e)
        {
            throw new ApiException($"{from}: this is no certificate in PEM form: {e.Message}", e);
        }

        return certificates.Count > 0 ? certificates : throw new ApiException($"{from}: there is no certificate in it.");
    }
}
