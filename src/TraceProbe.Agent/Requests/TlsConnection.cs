using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// A connection under TLS. The certificate is judged and the judgement kept, but a bad one does not end the request: it is the path that
/// is studied. Missing intermediate certificates are not fetched and revocation is not asked for, as both would make connections of
/// their own.
/// </summary>
internal sealed class TlsConnection : Connection
{
    private readonly SocketStream _transport;
    private readonly SslStream _tls;

    internal TlsConnection(ClientSocket socket)
    {
        _transport = new SocketStream(socket);
        _tls = new SslStream(_transport, false);
    }

    /// <summary>What is wrong with the certificate; null when nothing is.</summary>
    internal string? CertificateError { get; private set; }

    /// <summary>The errno that ended the handshake; 0 when it was not the socket.</summary>
    internal int Errno => _transport.Errno;

    /// <summary>Shakes hands; null, or what failed.</summary>
    internal string? Handshake(string host, Deadline deadline)
    {
        _transport.Deadline = deadline;
        try
        {
            _tls.AuthenticateAsClient(new SslClientAuthenticationOptions
            {
                TargetHost = host.TrimEnd('.'),
                ApplicationProtocols = [SslApplicationProtocol.Http11],
                CertificateChainPolicy = new X509ChainPolicy { DisableCertificateDownloads = true, RevocationMode = X509RevocationMode.NoCheck },
#pragma warning disable CA5359 // No secret is sent, and nothing that comes back is believed.
                RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
                {
                    CertificateError = Describe(certificate, chain, errors);
                    return true;
                },
#pragma warning restore CA5359
            });
            return null;
        }
        catch (Exception e) when (e is AuthenticationException or IOException or InvalidOperationException)
        {
            deadline.Cancellation.ThrowIfCancellationRequested();
            var first = _transport.FirstBytes;
            return _transport.Errno switch
            {
                ETIMEDOUT => "the server did not finish the handshake in time",
                > 0 => "the server reset the connection within the handshake",
                // What a web server says when it is spoken to on its plain port.
                _ when first.StartsWith("HTTP/"u8) => "the server speaks plain HTTP on this port, not TLS",
                _ when _transport.Ended => "the server closed the connection within the handshake",
                // RFC 8446 section 5.1: alert 21, handshake 22.
                _ when first.Length > 0 && first[0] is not (21 or 22) => "the server's answer is not TLS",
                _ => (e.InnerException ?? e).Message,
            };
        }
    }

    internal override int Send(ReadOnlySpan<byte> bytes, Deadline deadline)
    {
        _transport.Deadline = deadline;
        try
        {
            _tls.Write(bytes);
            return 0;
        }
        catch (IOException)
        {
            // SslStream wraps the cancellation of what it reads from.
            deadline.Cancellation.ThrowIfCancellationRequested();
            return _transport.Errno > 0 ? _transport.Errno : EPROTO;
        }
    }

    internal override int Receive(Span<byte> buffer, Deadline deadline)
    {
        _transport.Deadline = deadline;
        try
        {
            return _tls.Read(buffer);
        }
        catch (IOException)
        {
            // SslStream wraps the cancellation of what it reads from.
            deadline.Cancellation.ThrowIfCancellationRequested();
            return _transport.Errno > 0 ? -_transport.Errno : _transport.Ended ? 0 : -EPROTO;
        }
    }

    public override void Dispose() => _tls.Dispose();

    private static string? Describe(X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (errors == SslPolicyErrors.None)
        {
            return null;
        }

        var said = new List<string>();
        if ((errors & SslPolicyErrors.RemoteCertificateNotAvailable) != 0)
        {
            said.Add("the server sent no certificate");
        }

        if ((errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0)
        {
            said.Add($"the certificate is for {Short(certificate?.Subject)}, not for the host asked for");
        }

        if ((errors & SslPolicyErrors.RemoteCertificateChainErrors) != 0)
        {
            foreach (var status in chain?.ChainStatus ?? [])
            {
                said.Add(Short(status.StatusInformation) ?? status.Status.ToString());
            }
        }

        return said.Count > 0 ? string.Join("; ", said.Distinct()) : errors.ToString();
    }

    private static string? Short(string? text) => text is { Length: > 200 } ? text[..200] : text;

    // What SslStream reads from and writes to, only ever from the calling thread.
    private sealed class SocketStream(ClientSocket socket) : Stream
    {
        private readonly byte[] _first = new byte[8];
        private int _firstLength;

        internal Deadline Deadline { get; set; }

        internal int Errno { get; private set; }

        internal bool Ended { get; private set; }

        internal ReadOnlySpan<byte> FirstBytes => _first.AsSpan(0, _firstLength);

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            var received = socket.Receive(buffer, Deadline);
            if (received < 0)
            {
                throw Failed(-received);
            }

            Ended = received == 0 && !buffer.IsEmpty;
            var kept = Math.Min(received, _first.Length - _firstLength);
            buffer[..kept].CopyTo(_first.AsSpan(_firstLength));
            _firstLength += kept;
            return received;
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            var errno = socket.SendAll(buffer, Deadline);
            if (errno != 0)
            {
                throw Failed(errno);
            }
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        private IOException Failed(int errno)
        {
            Errno = errno;
            return new IOException($"errno {errno}");
        }
    }
}
