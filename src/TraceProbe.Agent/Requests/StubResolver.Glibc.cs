using System.Collections.Immutable;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// glibc's way of asking (<c>resolv/res_send.c</c>): one server after the other, <c>attempts</c> rounds; A and AAAA as two datagrams
/// from one socket, the answers in whichever order they come. Two datagrams leaving one port at once is what races in conntrack and
/// costs five seconds, so it is kept.
/// </summary>
internal sealed partial class StubResolver
{
    private const long Second = 1_000_000_000;

    private int? _firstServer;
    private bool _singleRequest = configuration.SingleRequest;
    private bool _singleRequestReopen = configuration.SingleRequestReopen;

    // __res_context_send. The questions to the server that answered last decide.
    private Answer AskAsGlibc(string name, byte[] buffer)
    {
        var servers = configuration.Nameservers;
        var offset = configuration.Rotate ? _firstServer ??= Random.Shared.Next(servers.Length) : 0;
        var overTcp = configuration.UseTcp;
        var waited = false;
        DnsExchange[] last = [];
        for (var round = 0; round < configuration.Attempts; round++)
        {
            for (var server = 0; server < servers.Length; server++)
            {
                if (deadline.HasPassed || _exchanges.Count >= MaxLookups)
                {
                    return new Answer(false, [], LookupOutcome.TimedOut, null);
                }

                var nameserver = new AddressPort(servers[(server + offset) % servers.Length], DnsPort);
                // The later a server stands, the longer it is given: retrans << ns, shared out from the second on.
                var seconds = Math.Max(1, (configuration.TimeoutSeconds << server) / (server > 0 ? servers.Length : 1));
                var until = deadline.Within(seconds * Second);
                if (!overTcp)
                {
                    last = AskOverUdp(name, nameserver, until, seconds, buffer);
                    // A cut answer: everything again over TCP, and TCP from here on.
                    overTcp = Array.Exists(last, q => q.Outcome == LookupOutcome.Truncated);
                    until = deadline.Within(seconds * Second);
                }

                if (overTcp)
                {
                    last = Array.ConvertAll(Types, type => Start(name, type, nameserver, IpProtocol.Tcp));
                    AskOverTcp(last, until, buffer);
                }

                waited |= Array.Exists(last, q => q.Outcome != LookupOutcome.Unreachable);
                // One usable answer is enough; the other question may have met a server that would not say.
                if (Array.Exists(last, IsAnswer))
                {
                    return Together(last);
                }
            }
        }

        // ECONNREFUSED when no server could be reached, else ETIMEDOUT, whatever the last one did.
        var refused = Array.Find(last, q => q.Code is not null);
        return refused is not null
            ? new Answer(false, [], LookupOutcome.ServerFailure, refused.Code)
            : Array.Exists(last, q => q.Outcome == LookupOutcome.Malformed) ? new Answer(false, [], LookupOutcome.Malformed, null)
            : new Answer(false, [], waited ? LookupOutcome.TimedOut : LookupOutcome.Unreachable, null);
    }

    private static bool IsAnswer(DnsExchange question)
        => question.Outcome is LookupOutcome.Answered or LookupOutcome.NoData or LookupOutcome.NameError
            || question.Outcome == LookupOutcome.ServerFailure && !question.WouldNotSay;

    // send_dg: one socket; when the time ends with one of the two answers here, the server may not stand two questions at once, so
    // both are asked again one after the other, then from two sockets, before the next server has its turn.
    private DnsExchange[] AskOverUdp(string name, AddressPort nameserver, Deadline until, int seconds, byte[] buffer)
    {
        while (true)
        {
            var questions = AskOnce(name, nameserver, until, buffer);
            var answered = Array.FindAll(questions, q => q.Outcome is not (LookupOutcome.TimedOut or LookupOutcome.Unreachable)).Length;
            var again = answered == 1 && questions.Length == 2 && Array.Exists(questions, q => q.Outcome == LookupOutcome.TimedOut)
                && !(_singleRequest && _singleRequestReopen) && !deadline.HasPassed;
            if (!again)
            {
                return questions;
            }

            _singleRequestReopen |= _singleRequest;
            _singleRequest = true;
            until = deadline.Within(seconds * Second);
        }
    }

    private DnsExchange[] AskOnce(string name, AddressPort nameserver, Deadline until, byte[] buffer)
    {
        var questions = new List<DnsExchange>(2);
        var socket = new ClientSocket();
        try
        {
            var errno = 0;
            foreach (var type in Types)
            {
                if (questions.Count == 0 || _singleRequestReopen)
                {
                    socket.Dispose();
                    errno = ClientSocket.TryOpen(place, nameserver.Address.IsIPv4, false, out socket);
                    errno = errno == 0 ? socket.Connect(nameserver) : errno;
                }

                var question = Start(name, type, nameserver, IpProtocol.Udp);
                questions.Add(question);
                if (errno == 0 && question.TryWrite(buffer, configuration.Edns, out var length))
                {
                    var sent = socket.Send(buffer.AsSpan(0, length));
                    errno = sent < 0 ? -sent : 0;
                }

                // The second question waits for the first answer, or is not asked at all when there is none.
                if (errno == 0 && (_singleRequest || _singleRequestReopen))
                {
                    errno = Await(socket, questions, until, buffer);
                }

                if (errno != 0 || question.Outcome == LookupOutcome.Truncated)
                {
                    break;
                }
            }

            if (errno == 0)
            {
                errno = Await(socket, questions, until, buffer);
            }

            foreach (var question in questions)
            {
                if (question.Outcome is null)
                {
                    question.End(errno switch { 0 => LookupOutcome.Superseded, ETIMEDOUT => LookupOutcome.TimedOut, _ => LookupOutcome.Unreachable });
                }
            }
        }
        finally
        {
            socket.Dispose();
        }

        return [.. questions];
    }

    // 0 when every question has its answer, or one of them a cut one, which sends all of them to TCP; ETIMEDOUT; or what the socket reports, ECONNREFUSED for an ICMP port unreachable.
    private static int Await(ClientSocket socket, List<DnsExchange> questions, Deadline until, byte[] buffer)
    {
        while (questions.Exists(q => q.Outcome is null) && !questions.Exists(q => q.Outcome == LookupOutcome.Truncated))
        {
            var received = socket.Receive(buffer, until);
            if (received < 0)
            {
                return -received;
            }

            foreach (var question in questions)
            {
                if (question.TryTake(buffer.AsSpan(0, received)))
                {
                    break;
                }
            }

            // A server that floods us with what we did not ask for does not hold us beyond the time.
            if (until.HasPassed)
            {
                return ETIMEDOUT;
            }
        }

        return 0;
    }

    // __res_context_query: found when either answer holds records; the first question's code decides otherwise.
    private static Answer Together(DnsExchange[] questions)
    {
        ImmutableArray<IpAddress> addresses = [];
        foreach (var question in questions)
        {
            addresses = addresses.AddRange(question.Addresses);
        }

        if (Array.Exists(questions, q => q.HasRecords))
        {
            return new Answer(true, addresses, LookupOutcome.Answered, DnsResponseCode.NoError);
        }

        var deciding = Array.Find(questions, q => q.Code is not null and not DnsResponseCode.NoError) ?? Array.Find(questions, q => q.Code is not null) ?? questions[0];
        return new Answer(false, [], deciding.Outcome ?? LookupOutcome.TimedOut, deciding.Code);
    }
}
