using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.InteropServices;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// Asks one API server, over HTTP/2 where it is spoken. What fails in passing is tried again, what the server asks to be left alone for is
/// left alone, and credentials that are refused are renewed once.
/// </summary>
public sealed class ApiClient : IDisposable
{
    private const int MostOfAnError = 64 * 1024;

    private readonly HttpClient _http;
    private readonly RequestPace _pace;

    /// <summary>A client for a server; it connects when it is first asked.</summary>
    /// <param name="server">The server.</param>
    /// <param name="options">How; the defaults without it.</param>
    public ApiClient(ApiServer server, ApiClientOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(server);
        Server = server;
        Options = options ?? new ApiClientOptions();
        _pace = new RequestPace(Options.RequestsPerSecond, Options.Burst, TimeProvider.System);
        _http = new HttpClient(Handler(server, Options))
        {
            // What is waited for is bounded where it is read: a watch goes on for minutes.
            Timeout = Timeout.InfiniteTimeSpan,
        };
        _http.DefaultRequestHeaders.UserAgent.ParseAdd($"traceprobe/{typeof(ApiClient).Assembly.GetName().Version?.ToString(3)} (linux/{RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant()})");
        _http.DefaultRequestHeaders.Accept.ParseAdd("application/json");
        foreach (var (name, value) in server.Impersonation)
        {
            _http.DefaultRequestHeaders.TryAddWithoutValidation(name, value);
        }
    }

    /// <summary>The server.</summary>
    public ApiServer Server { get; }

    /// <summary>How it is asked.</summary>
    internal ApiClientOptions Options { get; }

    /// <summary>Gives back what it holds.</summary>
    public void Dispose()
    {
        _http.Dispose();
        Server.Credentials.Dispose();
    }

    /// <summary>Asks, until there is an answer with status 200.</summary>
    /// <param name="path">Path and query.</param>
    /// <param name="stall">How long nothing may come before what was begun is given up.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="ApiException">There was none.</exception>
    internal async Task<JsonStream> GetAsync(string path, TimeSpan stall, CancellationToken cancellation)
    {
        var backoff = new Backoff(Options.FirstPause, Options.LongestPause);
        var renewed = false;
        for (var attempt = 1; ; attempt++)
        {
            ApiException failure;
            try
            {
                return await AskAsync(path, renewed, stall, cancellation).ConfigureAwait(false);
            }
            catch (ApiException e)
            {
                failure = e;
            }

            if (failure.Status == 401 && Server.Credentials.CanRenew && !renewed)
            {
                renewed = true;
                continue;
            }

            // A server that is not reached at all is mostly one that was never there: somebody waits for the answer.
            if (!failure.IsPassing || attempt >= (failure.Status == 0 ? Math.Min(2, Options.Attempts) : Options.Attempts))
            {
                throw failure;
            }

            await backoff.PauseAsync(failure.RetryAfter, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Creates an object. It is asked for once, and a second time only where the credentials had to be renewed: what is sent twice may be there twice.</summary>
    /// <param name="path">Where its kind is.</param>
    /// <param name="body">The object, JSON.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <returns>The object as the server made it.</returns>
    /// <exception cref="ApiException">It was not created.</exception>
    internal Task<JsonDocument> CreateAsync(string path, ReadOnlyMemory<byte> body, CancellationToken cancellation) => SendAsync(HttpMethod.Post, path, "application/json", body, cancellation);

    /// <summary>Changes an object by a merge patch (RFC 7386), which may be applied twice.</summary>
    /// <param name="path">Where it is.</param>
    /// <param name="body">What is to change, JSON.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <returns>The object as it is now.</returns>
    /// <exception cref="ApiException">It was not changed.</exception>
    internal Task<JsonDocument> PatchAsync(string path, ReadOnlyMemory<byte> body, CancellationToken cancellation) => SendAsync(HttpMethod.Patch, path, "application/merge-patch+json", body, cancellation);

    private async Task<JsonDocument> SendAsync(HttpMethod method, string path, string type, ReadOnlyMemory<byte> body, CancellationToken cancellation)
    {
        for (var renewed = false; ; renewed = true)
        {
            try
            {
                using var answer = await AskAsync(path, renewed, Options.Stall, cancellation, method, new ReadOnlyMemoryContent(body) { Headers = { ContentType = new MediaTypeHeaderValue(type) } }).ConfigureAwait(false);
                while (await answer.FillAsync(1, cancellation).ConfigureAwait(false))
                {
                }

                return JsonDocument.Parse(answer.Arrived.ToArray());
            }
            catch (ApiException e) when (e.Status == 401 && Server.Credentials.CanRenew && !renewed)
            {
                // Once more, with new ones.
            }
            catch (Exception e) when (e is JsonException or IOException or HttpRequestException)
            {
                throw Broken(e);
            }
        }
    }

    private async Task<JsonStream> AskAsync(string path, bool renew, TimeSpan stall, CancellationToken cancellation, HttpMethod? method = null, HttpContent? body = null)
    {
        using var request = new HttpRequestMessage(method ?? HttpMethod.Get, Server.Url.AbsoluteUri.TrimEnd('/') + path) { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionOrLower, Content = body };
        request.Headers.Host = Server.TlsServerName;
        try
        {
            request.Headers.Authorization = await Server.Credentials.HeaderAsync(renew, cancellation).ConfigureAwait(false);
        }
        catch (ApiException e)
        {
            throw new ApiException(e.Message, e) { IsOfCredentials = true };
        }

        await _pace.WaitAsync(cancellation).ConfigureAwait(false);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(stall);
        HttpResponseMessage? answer = null;
        try
        {
            answer = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, limit.Token).ConfigureAwait(false);
            if (answer.StatusCode is HttpStatusCode.OK or HttpStatusCode.Created)
            {
                return new JsonStream(await answer.Content.ReadAsStreamAsync(limit.Token).ConfigureAwait(false), Options.LargestObject, stall);
            }

            var said = await ErrorAsync(answer, limit.Token).ConfigureAwait(false);
            answer.Dispose();
            throw said;
        }
        catch (Exception e) when (e is HttpRequestException or IOException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            answer?.Dispose();
            throw new ApiException(Unreached(e), e);
        }
    }

    /// <summary>What to tell of an error that came in the middle of an answer.</summary>
    internal ApiException Broken(Exception e) => new($"The answer of the API server {Server.Url.Authority} broke off: {e.Message}", e);

    private string Unreached(Exception e)
    {
        var (where, from) = (Server.Url.Authority, Server.From);
        for (var inner = e; inner is not null; inner = inner.InnerException)
        {
            if (inner is AuthenticationException)
            {
                return $"No trust in the API server {where} ({from}): {Distrust(inner.Message)} Look at the cluster's certificate-authority and tls-server-name.";
            }
        }

        var why = e is OperationCanceledException ? "it did not answer in time." : $"{e.InnerException?.Message ?? e.Message}{(e.Message.EndsWith('.') ? "" : ".")}";
        var tls = Server.Url.Scheme == Uri.UriSchemeHttp && e is not OperationCanceledException && e.Message.Contains("ended prematurely", StringComparison.Ordinal) ? " The kubeconfig says http://; does the server speak https://?" : "";
        return $"The API server {where} ({from}) cannot be reached: {why}{tls} Is it the right context, and does kubectl get there?";
    }

    // The framework ends its sentence with X509ChainStatusFlags or SslPolicyErrors.
    private string Distrust(string message) => message switch
    {
        _ when message.Contains("RemoteCertificateNameMismatch", StringComparison.Ordinal) => $"its certificate is not for {Server.TlsServerName ?? Server.Url.Host}.",
        _ when message.Contains("UntrustedRoot", StringComparison.Ordinal) || message.Contains("PartialChain", StringComparison.Ordinal) => "nobody who is trusted here has signed its certificate.",
        _ when message.Contains("NotTimeValid", StringComparison.Ordinal) => "its certificate has expired, or is not valid yet.",
        _ => message.EndsWith('.') ? message : $"{message}.",
    };

    private async Task<ApiException> ErrorAsync(HttpResponseMessage answer, CancellationToken cancellation)
    {
        var (status, message) = ((int)answer.StatusCode, answer.ReasonPhrase);
        if (status is >= 300 and < 400)
        {
            // Never followed: the token is not for anybody else.
            return new ApiException($"{Server.Url.Authority} ({Server.From}) is no API server, since it sends to another place{(answer.Headers.Location is { } place ? $", {place}" : "")}: a login page or a proxy does that. Look at the cluster's server in the kubeconfig.") { Status = status };
        }

        using (var body = new JsonStream(await answer.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false), MostOfAnError, Options.Stall))
        {
            try
            {
                while (await body.FillAsync(1, cancellation).ConfigureAwait(false))
                {
                }

                message = StatusOf(body.Arrived, ref status) ?? message;
            }
            catch (Exception e) when (e is ApiException or IOException or HttpRequestException)
            {
                // The status itself says enough.
            }
        }

        var asked = answer.Headers.RetryAfter is not { } retry ? (TimeSpan?)null : retry.Delta ?? (retry.Date - TimeProvider.System.GetUtcNow());
        return new ApiException(Message(status, message ?? "")) { Status = status, RetryAfter = asked > TimeSpan.Zero ? asked : null };
    }

    /// <summary>An error that the server told within a watch, as a Status.</summary>
    internal ApiException ErrorOf(ReadOnlySpan<byte> statusObject)
    {
        var status = 0;
        var message = StatusOf(statusObject, ref status);
        return new ApiException(Message(status, message ?? "no reason given")) { Status = status };
    }

    private string Message(int status, string said)
    {
        var (where, user) = ($"The API server {Server.Url.Authority} ({Server.From})", Server.Credentials.User is { } name ? $"user {name}" : "the credentials");
        return status switch
        {
            401 => $"{where} does not accept {user}: {said}. A token or certificate has probably expired; log in again, or renew it in the kubeconfig.",
            403 => said,
            404 => $"{where} does not know this: {said}.",
            429 => $"{where} has too much to do: {said}.",
            _ => string.Create(CultureInfo.InvariantCulture, $"{where} answers {status}: {said}{(said.EndsWith('.') ? "" : ".")}"),
        };
    }

    // {"kind":"Status","message":"services is forbidden: …","reason":"Forbidden","code":403}
    private static string? StatusOf(ReadOnlySpan<byte> body, ref int status)
    {
        try
        {
            var json = new Utf8JsonReader(body);
            string? message = null;
            if (!json.Read() || json.TokenType != JsonTokenType.StartObject)
            {
                return null;
            }

            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                var (isMessage, isCode) = (json.ValueTextEquals("message"u8), json.ValueTextEquals("code"u8));
                json.Read();
                if (isMessage && json.TokenType == JsonTokenType.String)
                {
                    message = json.GetString();
                }
                else if (isCode && json.TokenType == JsonTokenType.Number && json.TryGetInt32(out var code))
                {
                    status = code;
                }
                else
                {
                    json.Skip();
                }
            }

            return message;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    private static SocketsHttpHandler Handler(ApiServer server, ApiClientOptions options)
    {
        var handler = new SocketsHttpHandler
        {
            AutomaticDecompression = DecompressionMethods.GZip,
            ConnectTimeout = options.ConnectTimeout,
            AllowAutoRedirect = false,
            EnableMultipleHttp2Connections = true,
            // A peer that is gone without a word is found out by pings, where HTTP/2 has them.
            KeepAlivePingDelay = options.Stall,
            KeepAlivePingTimeout = options.Stall,
            MaxResponseHeadersLength = 64,
        };
        if (server.Proxy is { } proxy)
        {
            var through = new WebProxy(proxy);
            if (proxy.UserInfo.Split(':', 2) is [{ Length: > 0 } name, var password])
            {
                through.Credentials = new NetworkCredential(Uri.UnescapeDataString(name), Uri.UnescapeDataString(password));
            }

            handler.Proxy = through;
        }

        if (server.Authorities is { } authorities)
        {
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            policy.CustomTrustStore.AddRange(authorities);
            handler.SslOptions.CertificateChainPolicy = policy;
        }

        if (server.IsInsecure)
        {
#pragma warning disable CA5359 // insecure-skip-tls-verify: the kubeconfig asks for it in these words.
            handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }

        // Asked for each connection, since a plugin may have a new one by then.
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => server.Credentials.CertificateNow!;
        return handler;
    }
}
