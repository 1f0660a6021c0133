using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace TraceProbe.Lab.Api;

/// <summary>A request.</summary>
/// <param name="Method">GET, PATCH, …</param>
/// <param name="Path">The path, without the query.</param>
/// <param name="Query">The query's parameters; the last of one name.</param>
/// <param name="Headers">The headers, by names in any case.</param>
/// <param name="Body">The body.</param>
internal sealed record HttpRequest(string Method, string Path, IReadOnlyDictionary<string, string> Query, IReadOnlyDictionary<string, string> Headers, byte[] Body)
{
    /// <summary>A header; empty when it was not sent.</summary>
    public string Header(string name) => Headers.GetValueOrDefault(name, "");
}

/// <summary>An answer: of one piece, or written bit by bit until the writer is done.</summary>
/// <param name="Status">The status.</param>
/// <param name="Body">The body; null when it is written bit by bit.</param>
/// <param name="ContentType">What it is.</param>
internal sealed record HttpAnswer(int Status, byte[]? Body, string ContentType = "application/json")
{
    /// <summary>Writes the body, given what sends a bit of it, until it returns or the client is gone.</summary>
    public Func<Func<ReadOnlyMemory<byte>, Task>, CancellationToken, Task>? Stream { get; init; }
}

/// <summary>
/// HTTP/1.1 over TLS, as much of it as kubectl and TraceProbe need of an API server: one request after the other on a connection, bodies of
/// known length, answers in one piece or in chunks. It is here and not Kestrel, which would be a second framework to load at each start of the program.
/// </summary>
internal sealed class HttpServer(X509Certificate2 certificate, Func<HttpRequest, Task<HttpAnswer>> answer)
{
    private const int LongestHead = 32 * 1024;
    private const int LargestBody = 1 << 20;
    private const int MostConnections = 128;
    private static readonly TimeSpan Idle = TimeSpan.FromMinutes(2);

    private readonly SslServerAuthenticationOptions _tls = new()
    {
        ServerCertificate = certificate,
        EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
        ApplicationProtocols = [SslApplicationProtocol.Http11],
    };

    private int _connections;

    /// <summary>Serves a listening socket until it is stopped.</summary>
    public async Task RunAsync(Socket listener, CancellationToken cancellation)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await listener.AcceptAsync(cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }

            if (Interlocked.Increment(ref _connections) > MostConnections)
            {
                Interlocked.Decrement(ref _connections);
                socket.Dispose();
                continue;
            }

            _ = ServeAsync(socket, cancellation);
        }
    }

    private async Task ServeAsync(Socket socket, CancellationToken cancellation)
    {
        try
        {
            socket.NoDelay = true;
            using var tls = new SslStream(new NetworkStream(socket, ownsSocket: true));
            using var idle = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            idle.CancelAfter(Idle);
            await tls.AuthenticateAsServerAsync(_tls, idle.Token).ConfigureAwait(false);
            var buffer = new byte[LongestHead];
            var length = 0;
            do
            {
                idle.CancelAfter(Idle);
                var head = -1;
                while ((head = buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8)) < 0)
                {
                    var read = length < buffer.Length ? await tls.ReadAsync(buffer.AsMemory(length), idle.Token).ConfigureAwait(false) : 0;
                    if (read == 0)
                    {
                        return;
                    }

                    length += read;
                }

                var lines = Encoding.ASCII.GetString(buffer, 0, head).Split("\r\n");
                var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
                foreach (var line in lines.AsSpan(1))
                {
                    if (line.IndexOf(':', StringComparison.Ordinal) is var colon and > 0)
                    {
                        headers[line[..colon]] = line[(colon + 1)..].Trim();
                    }
                }

                length -= head + 4;
                buffer.AsSpan(head + 4, length).CopyTo(buffer);
                var expected = headers.TryGetValue("Content-Length", out var text) ? int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : int.MaxValue : 0;
                if (lines[0].Split(' ') is not [var method, var target, "HTTP/1.1"] || headers.ContainsKey("Transfer-Encoding") || expected > LargestBody)
                {
                    await tls.WriteAsync("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"u8.ToArray(), idle.Token).ConfigureAwait(false);
                    return;
                }

                var body = new byte[expected];
                var had = Math.Min(expected, length);
                buffer.AsSpan(0, had).CopyTo(body);
                length -= had;
                buffer.AsSpan(had, length).CopyTo(buffer);
                await tls.ReadExactlyAsync(body.AsMemory(had), idle.Token).ConfigureAwait(false);
                idle.CancelAfter(Timeout.InfiniteTimeSpan);
                await AnswerAsync(tls, await answer(Parse(method, target, headers, body)).ConfigureAwait(false), cancellation).ConfigureAwait(false);
            }
            while (!cancellation.IsCancellationRequested);
        }
        catch (Exception e) when (e is IOException or AuthenticationException or OperationCanceledException or SocketException)
        {
            // The client is gone, or is none.
        }
        finally
        {
            socket.Dispose();
            Interlocked.Decrement(ref _connections);
        }
    }

    private static HttpRequest Parse(string method, string target, Dictionary<string, string> headers, byte[] body)
    {
        var mark = target.IndexOf('?', StringComparison.Ordinal);
        var query = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var pair in mark < 0 ? [] : target[(mark + 1)..].Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            query[equals < 0 ? pair : pair[..equals]] = equals < 0 ? "" : WebUtility.UrlDecode(pair[(equals + 1)..]);
        }

        return new HttpRequest(method, mark < 0 ? target : target[..mark], query, headers, body);
    }

    private static async Task AnswerAsync(SslStream tls, HttpAnswer answer, CancellationToken cancellation)
    {
        var length = answer.Body is { } whole ? string.Create(CultureInfo.InvariantCulture, $"Content-Length: {whole.Length}") : "Transfer-Encoding: chunked";
        await tls.WriteAsync(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 {answer.Status} {(HttpStatusCode)answer.Status}\r\nContent-Type: {answer.ContentType}\r\n{length}\r\n\r\n")), cancellation).ConfigureAwait(false);
        if (answer.Body is { } body)
        {
            await tls.WriteAsync(body, cancellation).ConfigureAwait(false);
            return;
        }

        await answer.Stream!(async bit =>
        {
            if (!bit.IsEmpty)
            {
                byte[] chunk = [.. Encoding.ASCII.GetBytes(bit.Length.ToString("x", CultureInfo.InvariantCulture)), .. "\r\n"u8, .. bit.Span, .. "\r\n"u8];
                await tls.WriteAsync(chunk, cancellation).ConfigureAwait(false);
                await tls.FlushAsync(cancellation).ConfigureAwait(false);
            }
        }, cancellation).ConfigureAwait(false);
        await tls.WriteAsync("0\r\n\r\n"u8.ToArray(), cancellation).ConfigureAwait(false);
    }
}
