using System.Net.Http.Headers;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// What shows an API server who we are: a client certificate, a token, a token file that is written anew from time to time, a name and a
/// password, or a plugin that gets a token or a certificate. Without any of them we are anonymous.
/// </summary>
internal sealed class Credentials : IDisposable
{
    // Kubelets write a token anew when four fifths of its life are over, an hour's mostly: that leaves plenty.
    private static readonly TimeSpan ReadAgainAfter = TimeSpan.FromSeconds(10);

    private readonly SemaphoreSlim _one = new(1, 1);
    private (string Token, DateTimeOffset At)? _read;
    private ExecCredential? _fetched;

    /// <summary>What they are called in the kubeconfig; null when nowhere.</summary>
    public string? User { get; init; }

    /// <summary>A token.</summary>
    public string? Token { get; init; }

    /// <summary>A file with a token, which counts before <see cref="Token"/>.</summary>
    public string? TokenFile { get; init; }

    /// <summary>A name and a password.</summary>
    public (string Name, string Password)? Basic { get; init; }

    /// <summary>A plugin, asked when there is none of the above.</summary>
    public ExecPlugin? Plugin { get; init; }

    /// <summary>A client certificate with its key.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>The clock; tests have their own.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The certificate to show now; null for none.</summary>
    public X509Certificate2? CertificateNow => _fetched?.Certificate ?? Certificate;

    /// <summary>Whether asking again after a refusal can bring something else.</summary>
    public bool CanRenew => TokenFile is not null || Plugin is not null;

    /// <summary>The header to send; null for none.</summary>
    /// <param name="renew">Whether what is known was refused.</param>
    /// <param name="cancellation">Stops a plugin.</param>
    /// <exception cref="ApiException">The file or the plugin does not give any.</exception>
    public async ValueTask<AuthenticationHeaderValue?> HeaderAsync(bool renew, CancellationToken cancellation)
    {
        if (TokenFile is not null)
        {
            return Bearer(ReadToken(TokenFile, renew));
        }

        if (Token is not null)
        {
            return Bearer(Token);
        }

        if (Basic is var (name, password))
        {
            return new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{name}:{password}")));
        }

        if (Plugin is null)
        {
            return null;
        }

        // Several requests begin at once; one asks, since the plugin may ask a person.
        var refused = _fetched;
        await _one.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (_fetched is null || _fetched.Expires <= Time.GetUtcNow() || (renew && _fetched == refused))
            {
                _fetched = await Plugin.RunAsync(cancellation).ConfigureAwait(false);
            }

            return _fetched.Token is { } token ? Bearer(token) : null;
        }
        finally
        {
            _one.Release();
        }
    }

    public void Dispose() => _one.Dispose();

    private string ReadToken(string path, bool renew)
    {
        var now = Time.GetUtcNow();
        if (!renew && _read is var (known, at) && now - at < ReadAgainAfter)
        {
            return known;
        }

        try
        {
            if (File.ReadAllText(path).Trim() is not { Length: > 0 } token)
            {
                throw new ApiException($"The token file {path} is empty.");
            }

            _read = (token, now);
            return token;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It may be just being replaced: what was read last still counts until the server refuses it.
            return !renew && _read is var (last, _) ? last : throw new ApiException($"The token file {path} cannot be read: {e.Message}", e);
        }
    }

    private static AuthenticationHeaderValue Bearer(string token)
        => token.AsSpan().ContainsAnyInRange('\0', ' ') ? throw new ApiException("A token must not hold spaces or line ends.") : new AuthenticationHeaderValue("Bearer", token);
}
