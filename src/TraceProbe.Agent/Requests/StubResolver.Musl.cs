using System.Collections.Immutable;
using TraceProbe.Capture;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// musl's way of asking (<c>src/network/res_msend.c</c>): every server at once from one unconnected socket, the first NOERROR or
/// NXDOMAIN wins; SERVFAIL is asked again at once a few times and otherwise, as REFUSED, passed over; nothing is known of ICMP
/// errors, the socket being unconnected. <c>timeout</c> is for all of it, <c>attempts</c> the datagrams sent in that time.
/// </summary>
internal sealed partial class StubResolver
{
    private Answer AskAsMusl(string name, byte[] buffer)
    {
        var types = Types;
        var servers = configuration.Nameservers;
        // One row per type, one column per server.
        var grid = new DnsExchange[types.Length][];
        var winners = new DnsExchange?[types.Length];
        var servfailsLeft = 0;
        var until = deadline.Within(configuration.TimeoutSeconds * Second);
        var interval = configuration.TimeoutSeconds * Second / configuration.Attempts;
        ClientSocket? v4 = null;
        ClientSocket? v6 = null;
        try
        {
            for (var type = 0; type < types.Length; type++)
            {
                grid[type] = new DnsExchange[servers.Length];
                for (var server = 0; server < servers.Length; server++)
                {
                    grid[type][server] = Start(name, types[type], new AddressPort(servers[server], DnsPort), IpProtocol.Udp);
                    _ = servers[server].IsIPv4 ? v4 ??= OpenUdp(true) : v6 ??= OpenUdp(false);
                }
            }

            var nextSend = 0L;
            while (!until.HasPassed && Array.Exists(winners, w => w is null))
            {
                if (BootClock.Now >= nextSend)
                {
                    for (var type = 0; type < types.Length; type++)
                    {
                        for (var server = 0; winners[type] is null && server < servers.Length; server++)
                        {
                            // Who would not say is asked again too.
                            if (grid[type][server].Outcome is not null)
                            {
                                grid[type][server] = Start(name, types[type], grid[type][server].Nameserver, IpProtocol.Udp);
                            }

                            SendAsMusl(grid[type][server], servers[server].IsIPv4 ? v4! : v6!, buffer);
                        }
                    }

                    nextSend = BootClock.Now + interval;
                    servfailsLeft = 2 * types.Length;
                }

                var first = v4 ?? v6!;
                if (!ClientSocket.Wait(first, first == v4 ? v6 : null, POLLIN, until.Within(nextSend - BootClock.Now)))
                {
                    continue;
                }

                foreach (var socket in (ReadOnlySpan<ClientSocket?>)[v4, v6])
                {
                    while (socket is not null && !until.HasPassed && socket.ReceiveFrom(buffer, out var from) is >= 0 and var length)
                    {
                        TakeAsMusl(buffer.AsSpan(0, length), from, socket);
                    }
                }
            }
        }
        finally
        {
            v4?.Dispose();
            v6?.Dispose();
        }

        for (var type = 0; type < types.Length; type++)
        {
            foreach (var exchange in grid[type])
            {
                if (exchange.Outcome is null)
                {
                    exchange.End(winners[type] is null ? LookupOutcome.TimedOut : LookupOutcome.Superseded);
                }
            }
        }

        // A cut answer: the same server over TCP, with what time remains.
        for (var type = 0; type < types.Length; type++)
        {
            if (winners[type] is { Outcome: LookupOutcome.Truncated } cut)
            {
                DnsExchange[] question = [Start(name, cut.Type, cut.Nameserver, IpProtocol.Tcp)];
                AskOverTcp(question, until, buffer);
                winners[type] = question[0];
            }
        }

        return TogetherAsMusl(winners);

        void TakeAsMusl(ReadOnlySpan<byte> message, AddressPort? from, ClientSocket socket)
        {
            for (var type = 0; type < types.Length; type++)
            {
                for (var server = 0; winners[type] is null && server < servers.Length; server++)
                {
                    var exchange = grid[type][server];
                    if (exchange.Nameserver != from || !exchange.TryTake(message))
                    {
                        continue;
                    }

                    if (exchange.Outcome is LookupOutcome.Answered or LookupOutcome.NoData or LookupOutcome.NameError or LookupOutcome.Truncated)
                    {
                        winners[type] = exchange;
                    }
                    else if (exchange.Code == DnsResponseCode.ServFail && servfailsLeft-- > 0)
                    {
                        grid[type][server] = Start(name, types[type], exchange.Nameserver, IpProtocol.Udp);
                        SendAsMusl(grid[type][server], socket, buffer);
                    }

                    return;
                }
            }
        }
    }

    // What cannot be sent is not noticed: the answer just never comes.
    private static void SendAsMusl(DnsExchange exchange, ClientSocket socket, byte[] buffer)
    {
        if (exchange.Outcome is null && !socket.IsInvalid && exchange.TryWrite(buffer, false, out var length))
        {
            _ = socket.SendTo(buffer.AsSpan(0, length), exchange.Nameserver);
        }
    }

    private ClientSocket OpenUdp(bool ipv4)
    {
        _ = ClientSocket.TryOpen(place, ipv4, false, out var socket);
        return socket;
    }

    // name_from_dns: the first answer that is not NOERROR decides, A before AAAA; no answer to either is EAI_AGAIN.
    private static Answer TogetherAsMusl(DnsExchange?[] winners)
    {
        ImmutableArray<IpAddress> addresses = [];
        foreach (var winner in winners)
        {
            if (winner?.Outcome is not (LookupOutcome.Answered or LookupOutcome.NoData))
            {
                return new Answer(false, [], winner?.Outcome ?? LookupOutcome.TimedOut, winner?.Code);
            }

            addresses = addresses.AddRange(winner.Addresses);
        }

        return new Answer(!addresses.IsEmpty, addresses, LookupOutcome.NoData, DnsResponseCode.NoError);
    }
}
