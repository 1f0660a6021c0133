using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using TraceProbe.Capture;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// Makes one request as the client would make it, and reports what the client sees of it.
/// <list type="number">
/// <item>Resolve: the hosts file, then the nameservers, in the order of the client's C library.</item>
/// <item>Connect: each address in its turn, each with half of the time that remains, the last with all of it, as curl does.</item>
/// <item>Exchange: the TLS handshake, the request, the answer's head; the body is read, bounded, and thrown away.</item>
/// <item>Close: by FIN, nothing unread being left that would turn it into a reset.</item>
/// </list>
/// </summary>
public static class RequestSender
{
    /// <summary>The most bytes that are read of an answer's head.</summary>
    public const int MaxHead = 16 * 1024;

    /// <summary>The most bytes that are read of an answer's body, to see that it arrives; a longer one is left with a reset.</summary>
    public const int MaxBody = 1024 * 1024;

    // An answer that does not say its length may never end (a watch, a chunked stream); so long a silence is taken for its end.
    private const long SilenceNanoseconds = 200_000_000;

    private static readonly string UserAgent = "traceprobe/" + typeof(RequestSender).Assembly.GetName().Version?.ToString(3);

    /// <summary>
    /// Makes the request on the calling thread, with sockets of this process that belong to the client's namespace. A failed request is
    /// no exception: it is what the report tells.
    /// </summary>
    /// <param name="target">What to ask.</param>
    /// <param name="environment">Where from.</param>
    /// <param name="timeout">The time for all of it, more than zero.</param>
    /// <param name="cancellation">Ends it within 50 ms.</param>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be entered; the message names the capability that is missing.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    /// <exception cref="IOException">This process cannot make sockets, or cannot wait for them.</exception>
    public static ClientReport Send(RequestTarget target, ClientEnvironment environment, TimeSpan timeout, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(environment);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(timeout, TimeSpan.Zero);
        return new Request(target, environment, Deadline.In(timeout, cancellation)).Make();
    }

    // One request on its way; lives on one thread.
    private sealed class Request(RequestTarget target, ClientEnvironment environment, Deadline deadline)
    {
        private readonly ImmutableArray<ConnectAttempt>.Builder _connects = ImmutableArray.CreateBuilder<ConnectAttempt>();
        private ClientReport _report = new() { Command = "traceprobe", Pid = Environment.ProcessId, StartNanoseconds = BootClock.Now };

        internal ClientReport Make()
        {
            _report = _report with { Resolver = ReadResolvConf() };
            if (Resolve())
            {
                ConnectAndExchange();
            }

            return _report with { Connects = _connects.DrainToImmutable(), EndNanoseconds = BootClock.Now };
        }

        private ResolverConfiguration ReadResolvConf()
        {
            var text = ClientFile.TryRead(environment.ResolvConfPath, out var reason);
            var configuration = ResolvConf.Parse(text, environment.ResolvConfPath, environment.Flavor);
            return reason is null ? configuration : configuration with { Notes = [reason, .. configuration.Notes] };
        }

        private bool Resolve()
        {
            if (target.Address is { } literal)
            {
                _report = _report with { Addresses = [literal] };
                return true;
            }

            var entries = ClientFile.TryRead(environment.HostsPath, out _) is { } hosts ? HostsFile.Find(hosts, target.Host, environment.Flavor) : [];
            if (!entries.IsEmpty)
            {
                var first = entries[0].Line;
                _report = _report with { HostsEntry = first, Addresses = Order([.. entries.Select(e => e.Address)]) };
                return true;
            }

            var resolver = new StubResolver(_report.Resolver!, environment.Namespace, deadline);
            var resolved = resolver.Resolve(target.Host);
            _report = _report with { Lookups = resolver.Lookups, Addresses = Order(resolved.Addresses) };
            if (_report.Addresses.IsEmpty)
            {
                _report = _report with { Failure = $"{(resolved.DeadlinePassed ? RequestFailure.ResolvingTimedOut : RequestFailure.NotResolved)}: {target.Host}" };
            }

            return !_report.Addresses.IsEmpty;
        }

        private ImmutableArray<IpAddress> Order(ImmutableArray<IpAddress> addresses)
        {
            var pairs = new List<AddressPair>();
            foreach (var address in addresses)
            {
                pairs.Add(new AddressPair(address, StubResolver.SourceFor(environment.Namespace, address)));
            }

            return AddressOrder.Sort(pairs, environment.Flavor);
        }

        private void ConnectAndExchange()
        {
            for (var i = 0; i < _report.Addresses.Length; i++)
            {
                var last = i == _report.Addresses.Length - 1;
                var share = last ? deadline : deadline.Within(deadline.Left / 2);
                var remote = new AddressPort(_report.Addresses[i], target.Port);
                var start = BootClock.Now;
                var errno = ClientSocket.TryOpen(environment.Namespace, remote.Address.IsIPv4, target.Protocol == IpProtocol.Tcp, out var socket);
                using (socket)
                {
                    AddressPort? local = null;
                    if (errno == 0)
                    {
                        errno = socket.Connect(remote);
                        local = socket.Local();
                        errno = errno == EINPROGRESS ? socket.FinishConnect(share) : errno;
                    }

                    var failure = errno == 0 ? null : RequestFailure.FromErrno(errno);
                    if (errno == 0 && target.Scheme == RequestScheme.Udp)
                    {
                        // Only the answer, or its refusal, tells whether a datagram's address was any good.
                        var received = AskByDatagram(socket, share);
                        errno = received is >= 0 or -ETIMEDOUT ? 0 : -received;
                        failure = received >= 0 ? null : received == -ETIMEDOUT ? RequestFailure.TimedOut : RequestFailure.FromErrno(-received);
                    }

                    _connects.Add(new ConnectAttempt(local, remote, errno, start, BootClock.Now));
                    _report = _report with { Failure = failure };
                    if (failure is null)
                    {
                        Exchange(socket);
                        return;
                    }
                }

                if (deadline.HasPassed)
                {
                    return;
                }
            }
        }

        private static int AskByDatagram(ClientSocket socket, Deadline deadline)
        {
            var sent = socket.Send([]);
            Span<byte> answer = stackalloc byte[64];
            return sent < 0 ? sent : socket.Receive(answer, deadline);
        }

        private void Exchange(ClientSocket socket)
        {
            if (target.Scheme == RequestScheme.Http)
            {
                using var plain = new PlainConnection(socket);
                ExchangeHttp(plain);
            }
            else if (target.Scheme == RequestScheme.Https)
            {
                using var tls = new TlsConnection(socket);
                var failure = tls.Handshake(target.Host, deadline);
                _report = _report with { TlsFailure = failure, CertificateError = tls.CertificateError };
                if (failure is null)
                {
                    ExchangeHttp(tls);
                }
                else
                {
                    _report = _report with
                    {
                        Failure = tls.Errno switch
                        {
                            0 => $"{RequestFailure.TlsFailed}: {failure}",
                            ETIMEDOUT => RequestFailure.TimedOut,
                            _ => RequestFailure.FromErrno(tls.Errno),
                        },
                    };
                }
            }
        }

        private void ExchangeHttp(Connection connection)
        {
            var buffer = ArrayPool<byte>.Shared.Rent(MaxHead);
            try
            {
                // A server may answer, and close, before it has read the request; so what it said counts, not that sending failed.
                _ = connection.Send(Encoding.ASCII.GetBytes(RequestText()), deadline);
                var failure = ReadAnswer(connection, buffer.AsSpan(0, MaxHead));
                _report = _report with { Failure = failure };
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }

        private string RequestText()
        {
            var host = target.Address is { IsIPv4: false } ? $"[{target.Host}]" : target.Host.TrimEnd('.');
            var isDefault = target.Port == (target.Scheme == RequestScheme.Https ? 443 : 80);
            var authority = isDefault ? host : string.Create(CultureInfo.InvariantCulture, $"{host}:{target.Port}");
            return $"GET {target.Path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {UserAgent}\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        }

        // Null, or the failure.
        private string? ReadAnswer(Connection connection, Span<byte> buffer)
        {
            var have = 0;
            var interim = 0;
            while (true)
            {
                if (HttpHead.TryRead(buffer[..have], out var head))
                {
                    _report = _report with { StatusLine = head.StatusLine };
                    // 100 Continue and 103 Early Hints come before the answer (RFC 9110 section 15.2); no server needs many of them.
                    if (head.Status is >= 100 and < 200 and not 101 && ++interim <= 8)
                    {
                        buffer[head.Length..have].CopyTo(buffer);
                        have -= head.Length;
                        continue;
                    }

                    NoteWantsTls(head, buffer[head.Length..have]);
                    return ReadBody(connection, buffer, head, have - head.Length);
                }

                if (!HttpHead.CouldBegin(buffer[..have]))
                {
                    // RFC 8446 section 5.1: an alert in answer to our plain request.
                    if (have >= 3 && buffer[0] == 21 && buffer[1] == 3)
                    {
                        _report = _report with { TlsFailure = "it answered with a TLS alert" };
                    }

                    return RequestFailure.NotHttp;
                }

                if (have == buffer.Length)
                {
                    KeepStatusLine(buffer);
                    return RequestFailure.HeadTooLarge;
                }

                var received = connection.Receive(buffer[have..], deadline);
                if (received <= 0)
                {
                    KeepStatusLine(buffer[..have]);
                    return received switch
                    {
                        0 => have == 0 && interim == 0 ? RequestFailure.EmptyReply : RequestFailure.ClosedEarly,
                        -ETIMEDOUT => RequestFailure.TimedOut,
                        _ => RequestFailure.FromErrno(-received),
                    };
                }

                have += received;
                if (deadline.HasPassed)
                {
                    KeepStatusLine(buffer[..have]);
                    return RequestFailure.TimedOut;
                }
            }
        }

        // In a 400 some TLS servers say what was wrong: nginx ("… sent to HTTPS port"), Go ("… to an HTTPS server"), Apache ("… to an SSL-enabled server port"),
        // Tomcat ("… requires TLS"). Nothing of the text is kept.
        private void NoteWantsTls(HttpHead head, ReadOnlySpan<byte> body)
        {
            if (head.Status == 400 && target.Scheme == RequestScheme.Http
                && (body.IndexOf("to HTTPS port"u8) >= 0 || body.IndexOf("to an HTTPS server"u8) >= 0 || body.IndexOf("SSL-enabled server port"u8) >= 0 || body.IndexOf("requires TLS"u8) >= 0))
            {
                _report = _report with { TlsFailure = "it answered 400, and that it wants HTTPS" };
            }
        }

        private void KeepStatusLine(ReadOnlySpan<byte> bytes)
        {
            if (HttpHead.TryReadStatusLine(bytes, out var line))
            {
                _report = _report with { StatusLine = line };
            }
        }

        private string? ReadBody(Connection connection, Span<byte> buffer, HttpHead head, long have)
        {
            var expected = head.Status is 101 or 204 or 304 ? 0 : head.ContentLength;
            while (have < Math.Min(expected ?? MaxBody, MaxBody))
            {
                var received = connection.Receive(buffer, expected is null ? deadline.Within(SilenceNanoseconds) : deadline);
                if (received == -ETIMEDOUT && expected is null || deadline.HasPassed && expected is null)
                {
                    return null;
                }

                if (received <= 0)
                {
                    return received switch
                    {
                        0 => expected is null ? null : RequestFailure.ClosedEarly,
                        -ETIMEDOUT => RequestFailure.TimedOut,
                        _ => RequestFailure.FromErrno(-received),
                    };
                }

                NoteWantsTls(head, buffer[..received]);
                have += received;
                if (deadline.HasPassed)
                {
                    return RequestFailure.TimedOut;
                }
            }

            // The server was asked to close; hearing it do so leaves both sides with a clean end.
            if (have <= MaxBody)
            {
                _ = connection.Receive(buffer, deadline.Within(SilenceNanoseconds));
            }

            return null;
        }
    }
}
