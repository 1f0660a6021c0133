using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Agent.Api;

/// <summary>An agent cannot be asked, or refuses; the message says why and what to do.</summary>
public sealed class AgentException : Exception
{
    /// <summary>With a message.</summary>
    public AgentException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and what led to it.</summary>
    public AgentException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>Asks one agent, over its unix socket or over TLS.</summary>
public sealed class AgentClient : IDisposable
{
    private readonly HttpClient _http;
    private readonly Func<CancellationToken, ValueTask<string?>> _token;

    /// <summary>A client for an agent; it connects when it is first asked.</summary>
    /// <param name="address">
    /// A socket's path; or <c>https://HOST:PORT</c>, whose certificate this machine trusts; or <c>https://HOST:PORT#sha256=HEX</c>, whose certificate has this fingerprint
    /// (the agent logs it at its start).
    /// </param>
    /// <param name="token">Gives the bearer token; null for none.</param>
    /// <param name="isTunnel">Whether the address is this end of a tunnel whose other end is known to be the agent: then its certificate need not say more.</param>
    /// <exception cref="AgentException">It is no such address.</exception>
    public AgentClient(string address, Func<CancellationToken, ValueTask<string?>> token, bool isTunnel = false)
    {
        ArgumentNullException.ThrowIfNull(address);
        (Address, _token) = (address, token);
        var handler = new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(5), AllowAutoRedirect = false };
        Uri url;
        if (address.StartsWith('/'))
        {
            url = new Uri("http://agent");
            handler.ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(address), cancellation).ConfigureAwait(false);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            };
        }
        else if (Uri.TryCreate(address, UriKind.Absolute, out var uri) && uri.Scheme == Uri.UriSchemeHttps && uri.AbsolutePath == "/" && uri.Fragment is "" or ['#', 's', 'h', 'a', '2', '5', '6', '=', ..])
        {
            url = new Uri(uri.GetLeftPart(UriPartial.Authority));
            var fingerprint = uri.Fragment.Length > 0 ? uri.Fragment["#sha256=".Length..].Replace(":", "", StringComparison.Ordinal) : null;
            if (isTunnel || fingerprint is not null)
            {
                handler.SslOptions.RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is not null
                    && (fingerprint is null || string.Equals(certificate.GetCertHashString(HashAlgorithmName.SHA256), fingerprint, StringComparison.OrdinalIgnoreCase));
            }
        }
        else
        {
            throw new AgentException($"'{address}' is no agent's address: give the path of its socket, or https://HOST:PORT, with #sha256=FINGERPRINT for a certificate of its own.");
        }

        _http = new HttpClient(handler) { BaseAddress = url, Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>Where it is.</summary>
    public string Address { get; }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    /// <summary>How the agent is.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public Task<AgentMessage> AgentAsync(CancellationToken cancellation) => AskAsync(HttpMethod.Get, "/v1/agent", null, AgentJson.Default.AgentMessage, cancellation);

    /// <summary>Begins a session.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public Task<SessionMessage> StartAsync(SessionRequest request, CancellationToken cancellation)
        => AskAsync(HttpMethod.Post, "/v1/sessions", JsonSerializer.SerializeToUtf8Bytes(request, AgentJson.Default.SessionRequest), AgentJson.Default.SessionMessage, cancellation);

    /// <summary>Ends a session; what it saw so far can be fetched.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public Task<SessionMessage> StopAsync(string id, CancellationToken cancellation) => AskAsync(HttpMethod.Post, $"/v1/sessions/{id}/stop", null, AgentJson.Default.SessionMessage, cancellation);

    /// <summary>Follows a session until it is in one of some states, or over.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public async Task<SessionMessage> UntilAsync(string id, Func<SessionMessage, bool> isEnough, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(isEnough);
        await foreach (var message in LinesAsync($"/v1/sessions/{id}/live", AgentJson.Default.SessionMessage, cancellation).ConfigureAwait(false))
        {
            if (isEnough(message))
            {
                return message;
            }
        }

        throw new AgentException($"The agent at {Address} broke off in the middle of a session.");
    }

    /// <summary>What a session saw.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses, or what it says is no recording.</exception>
    public async Task<Recording> RecordingAsync(string id, CancellationToken cancellation)
    {
        var file = Path.Combine(Path.GetTempPath(), $"traceprobe-{Guid.NewGuid():N}{RecordingArchive.Extension}");
        try
        {
            using var answer = await SendAsync(HttpMethod.Get, $"/v1/sessions/{id}/recording", null, cancellation).ConfigureAwait(false);
            await using (var saved = new FileStream(file, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
            {
                await answer.Content.CopyToAsync(saved, cancellation).ConfigureAwait(false);
            }

            return RecordingArchive.Read(file).Recording;
        }
        catch (Exception e) when (e is RecordingException or IOException or HttpRequestException)
        {
            throw new AgentException($"What the agent at {Address} recorded cannot be read: {e.Message}", e);
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Forgets a session.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public async Task DeleteAsync(string id, CancellationToken cancellation) => (await SendAsync(HttpMethod.Delete, $"/v1/sessions/{id}", null, cancellation).ConfigureAwait(false)).Dispose();

    /// <summary>What happens, as it does; ends when the agent does.</summary>
    /// <exception cref="AgentException">It cannot be asked, or refuses.</exception>
    public IAsyncEnumerable<LiveMessage> LiveAsync(CancellationToken cancellation) => LinesAsync("/v1/live", AgentJson.Default.LiveMessage, cancellation);

    private async IAsyncEnumerable<T> LinesAsync<T>(string path, JsonTypeInfo<T> type, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using var answer = await SendAsync(HttpMethod.Get, path, null, cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false));
        while (true)
        {
            string? line;
            try
            {
                line = await reader.ReadLineAsync(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                throw new AgentException($"The agent at {Address} is gone: {e.Message}", e);
            }

            if (line is null)
            {
                yield break;
            }

            T? message;
            try
            {
                message = JsonSerializer.Deserialize(line, type);
            }
            catch (JsonException e)
            {
                throw new AgentException($"What the agent at {Address} says cannot be read (is it of another version?): {e.Message}", e);
            }

            yield return message ?? throw new AgentException($"The agent at {Address} says nothing where something was due.");
        }
    }

    private async Task<T> AskAsync<T>(HttpMethod method, string path, byte[]? body, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        using var answer = await SendAsync(method, path, body, cancellation).ConfigureAwait(false);
        try
        {
            await using var stream = await answer.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
            return await JsonSerializer.DeserializeAsync(stream, type, cancellation).ConfigureAwait(false) ?? throw new AgentException($"The agent at {Address} gives no answer to {path}.");
        }
        catch (Exception e) when (e is JsonException or IOException or HttpRequestException)
        {
            throw new AgentException($"The answer of {Address} to {path} cannot be read; is it an agent? {e.Message}", e);
        }
    }

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, byte[]? body, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        }

        if (await _token(cancellation).ConfigureAwait(false) is { } token)
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }

        HttpResponseMessage answer;
        try
        {
            answer = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        }
        catch (HttpRequestException e)
        {
            throw new AgentException($"No agent answers at {Address}: {e.InnerException?.Message ?? e.Message}", e);
        }

        if (answer.IsSuccessStatusCode)
        {
            return answer;
        }

        using (answer)
        {
            Refusal? refusal = null;
            try
            {
                refusal = JsonSerializer.Deserialize(await answer.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false), AgentJson.Default.Refusal);
            }
            catch (Exception e) when (e is JsonException or HttpRequestException)
            {
                // The status says enough.
            }

            throw new AgentException($"The agent at {Address} refuses ({(int)answer.StatusCode}): {refusal?.Error ?? answer.ReasonPhrase}");
        }
    }
}
