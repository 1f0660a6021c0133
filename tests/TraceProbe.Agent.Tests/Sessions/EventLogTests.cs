using System.Text;
using TraceProbe.Agent.Sessions;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Tests.Sessions;

public class EventLogTests
{
    private static NetworkEvent Packet(string tuple, byte[] payload, IpProtocol protocol = IpProtocol.Tcp, long at = 1) => new()
    {
        Kind = EventKind.PacketQueued,
        BootNanoseconds = at,
        Tuple = new FiveTuple(protocol, AddressPort.Parse(tuple.Split(' ')[0]), AddressPort.Parse(tuple.Split(' ')[1])),
        PayloadLength = payload.Length,
        Payload = payload,
    };

    private static string Kept(string tuple, string payload, IpProtocol protocol = IpProtocol.Tcp)
        => Encoding.Latin1.GetString(EventLog.Retained(Packet(tuple, Encoding.Latin1.GetBytes(payload), protocol)).Payload.Span);

    [Fact]
    public void Request_LosesItsLineButNotItsMethodAndLength()
    {
        var kept = EventLog.Retained(Packet("10.0.0.1:40000 10.0.0.2:80", "GET /secret?token=1 HTTP/1.1"u8.ToArray()));
        kept.Payload.Span.SequenceEqual("GET "u8).ShouldBeTrue();
        kept.PayloadLength.ShouldBe(28);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nSet-Cookie: x=1\r\n", "HTTP/1.1 200 OK")]
    [InlineData("HTTP/1.1 404 Not Found", "HTTP/1.1 404 Not Found")]
    [InlineData("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server", "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server")]
    [InlineData("HTTP/1.0 400 Bad Request\r\n\r\nClient sent its password", "HTTP/1.0 400 Bad Request")]
    [InlineData("hello, I am a banner", "")]
    [InlineData("\u0015\u0003\u0003\u0000\u0002\u0002\u0028secret", "\u0015\u0003\u0003\u0000\u0002\u0002\u0028")]
    public void Answer_KeepsItsStatusLineOnly(string payload, string kept) => Kept("10.0.0.2:80 10.0.0.1:40000", payload).ShouldBe(kept);

    [Fact]
    public void Dns_IsKept()
    {
        Kept("10.0.0.1:40000 10.0.0.2:53", "\u0001\u0002question", IpProtocol.Udp).ShouldBe("\u0001\u0002question");
        Kept("10.0.0.1:40000 10.0.0.2:9999", "anything", IpProtocol.Udp).ShouldBeEmpty();
    }

    [Fact]
    public void Events_ComeOutInOrderOfTime()
    {
        var log = new EventLog();
        foreach (var at in (long[])[5, 3, 9, 3])
        {
            log.Add(Packet("10.0.0.1:1 10.0.0.2:2", [], at: at));
        }

        log.ToImmutable().Select(e => e.BootNanoseconds).ShouldBe([3, 3, 5, 9]);
    }

    [Fact]
    public void WhatDoesNotFit_BecomesAGap()
    {
        var log = new EventLog(capacity: 2);
        for (var i = 0; i < 5; i++)
        {
            log.Add(Packet("10.0.0.1:1 10.0.0.2:2", [], at: i));
        }

        var events = log.ToImmutable();
        events.Length.ShouldBe(3);
        events[2].Kind.ShouldBe(EventKind.ObservationGap);
        events[2].Lost.ShouldBe(3);
    }

    [Fact]
    public async Task WaitFor_FindsWhatCameBeforeAndWhatComesLater()
    {
        var log = new EventLog();
        log.Add(Packet("10.0.0.1:1 10.0.0.2:2", [], at: 1));
        var from = 0;
        log.WaitFor(e => e.BootNanoseconds == 1, TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken, ref from)!.Value.BootNanoseconds.ShouldBe(1);
        var later = Task.Run(() => log.Add(Packet("10.0.0.1:1 10.0.0.2:2", [], at: 2)), TestContext.Current.CancellationToken);
        log.WaitFor(e => e.BootNanoseconds == 2, TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken, ref from).ShouldNotBeNull();
        await later;
        log.WaitFor(_ => true, TimeSpan.FromMilliseconds(1), TestContext.Current.CancellationToken, ref from).ShouldBeNull("each event is looked at once");
        log.WaitFor(_ => true, TimeSpan.FromSeconds(30), new CancellationToken(canceled: true), ref from).ShouldBeNull();
    }
}
