using System.Buffers;
using System.Collections.Immutable;
using TraceProbe.Capture;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>What a resolver found.</summary>
/// <param name="Addresses">The addresses in the order of the answers: IPv4, then IPv6; empty when there are none.</param>
/// <param name="DeadlinePassed">Whether the search was ended by the time for the whole request.</param>
internal readonly record struct Resolved(ImmutableArray<IpAddress> Addresses, bool DeadlinePassed);

/// <summary>
/// A stub resolver that behaves as the one in the client's C library does, so that what it meets is what the client's programs
/// meet: which server is asked, for which name, when it gives up on it, and what it then takes for the answer. It runs on the calling
/// thread, with sockets of the client's network namespace.
/// </summary>
internal sealed partial class StubResolver(ResolverConfiguration configuration, NetworkNamespace? place, Deadline deadline)
{
    private const ushort DnsPort = 53;

    // One name may cost (domains + 1) x 2 questions x servers x rounds; a configuration that asks for more than this is cut off.
    private const int MaxLookups = 1024;

    private readonly List<DnsExchange> _exchanges = [];

    /// <summary>Every question asked so far, in the order they were sent.</summary>
    internal ImmutableArray<Lookup> Lookups
    {
        get
        {
            var lookups = ImmutableArray.CreateBuilder<Lookup>(_exchanges.Count);
            foreach (var exchange in _exchanges)
            {
                lookups.Add(exchange.ToLookup());
            }

            return lookups.DrainToImmutable();
        }
    }

    /// <summary>Looks the host up as getaddrinfo(3) does for AF_UNSPEC, the hosts file having been asked already.</summary>
    internal Resolved Resolve(string host)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(ushort.MaxValue + 2);
        try
        {
            var names = SearchOrder.Names(host, configuration);
            for (var i = 0; i < names.Length; i++)
            {
                if (deadline.HasPassed || _exchanges.Count >= MaxLookups)
                {
                    return new Resolved([], deadline.HasPassed);
                }

                // A search domain may hold what no name can; the libraries pass over what they cannot write.
                if (!DnsQuery.TryWrite(buffer, 0, names[i].Name, DnsRecordType.A, out _))
                {
                    continue;
                }

                var answer = configuration.Flavor == ResolverFlavor.Musl ? AskAsMusl(names[i].Name, buffer) : AskAsGlibc(names[i].Name, buffer);
                if (answer.Found)
                {
                    return new Resolved(answer.Addresses, false);
                }

                var step = SearchOrder.After(configuration.Flavor, names[i], answer.Outcome, answer.Code);
                if (step == SearchStep.Stop)
                {
                    break;
                }

                if (step == SearchStep.AsGiven)
                {
                    // The name as given stands last or, having been tried, first.
                    i = names[^1].Domain is null ? names.Length - 2 : names.Length;
                }
            }

            return new Resolved([], deadline.HasPassed);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>The source address the kernel would choose for a destination: that of a connected datagram socket, nothing being sent.</summary>
    internal static IpAddress? SourceFor(NetworkNamespace? place, IpAddress destination)
    {
        var errno = ClientSocket.TryOpen(place, destination.IsIPv4, false, out var probe);
        using (probe)
        {
            return errno == 0 && probe.Connect(new AddressPort(destination, DnsPort)) == 0 ? probe.Local()?.Address : null;
        }
    }

    // One name, both types, taken together.
    private readonly record struct Answer(bool Found, ImmutableArray<IpAddress> Addresses, LookupOutcome Outcome, DnsResponseCode? Code);

    private DnsRecordType[] Types => configuration.NoAaaa ? [DnsRecordType.A] : [DnsRecordType.A, DnsRecordType.AAAA];

    private DnsExchange Start(string name, DnsRecordType type, AddressPort nameserver, IpProtocol transport)
    {
        var exchange = new DnsExchange(name, type, nameserver, transport) { Sent = BootClock.Now };
        _exchanges.Add(exchange);
        return exchange;
    }

    // Over TCP each message has its length before it (RFC 1035 section 4.2.2); all questions go over one connection, as RFC 7766
    // section 6.2.1 wants and both libraries do. 0 when every question has ended by an answer.
    private int AskOverTcp(DnsExchange[] questions, Deadline until, byte[] buffer)
    {
        var nameserver = questions[0].Nameserver;
        var errno = ClientSocket.TryOpen(place, nameserver.Address.IsIPv4, true, out var socket);
        using (socket)
        {
            if (errno == 0)
            {
                errno = socket.Connect(nameserver);
                errno = errno == EINPROGRESS ? socket.FinishConnect(until) : errno;
            }

            foreach (var question in questions)
            {
                if (errno == 0 && question.TryWrite(buffer.AsSpan(2), configuration.Edns, out var length))
                {
                    (buffer[0], buffer[1]) = ((byte)(length >> 8), (byte)length);
                    errno = socket.SendAll(buffer.AsSpan(0, length + 2), until);
                }
            }

            while (errno == 0 && Array.Exists(questions, q => q.Outcome is null))
            {
                errno = ReadMessage(socket, buffer, until, out var length);
                if (errno == 0)
                {
                    // A message that answers nothing we asked: this server is not to be trusted with the rest.
                    errno = Array.Exists(questions, q => q.TryTake(buffer.AsSpan(0, length))) ? 0 : EPROTO;
                }
            }
        }

        foreach (var question in questions)
        {
            if (question.Outcome is null)
            {
                question.End(errno switch { ETIMEDOUT => LookupOutcome.TimedOut, EPROTO => LookupOutcome.Malformed, _ => LookupOutcome.Unreachable });
            }
        }

        return errno;
    }

    private static int ReadMessage(ClientSocket socket, byte[] buffer, Deadline until, out int length)
    {
        length = 0;
        var wanted = 2;
        var have = 0;
        while (have < wanted)
        {
            var received = socket.Receive(buffer.AsSpan(have, wanted - have), until);
            if (received <= 0)
            {
                return received == 0 ? EPROTO : -received;
            }

            have += received;
            if (have == 2 && wanted == 2)
            {
                wanted = 2 + (buffer[0] << 8 | buffer[1]);
            }
        }

        length = have - 2;
        buffer.AsSpan(2, length).CopyTo(buffer);
        return 0;
    }
}
