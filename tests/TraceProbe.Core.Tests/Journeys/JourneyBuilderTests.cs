using TraceProbe.Core.Events;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Journeys;

public class JourneyBuilderTests
{
    private const TcpFlags Syn = TcpFlags.Syn, SynAck = TcpFlags.Syn | TcpFlags.Ack, Ack = TcpFlags.Ack, Rst = TcpFlags.Rst | TcpFlags.Ack, Fin = TcpFlags.Fin | TcpFlags.Ack;

    private static readonly FiveTuple Asked = Wire.Tcp("10.244.1.5:33904", "10.96.0.11:8080");
    private static readonly FiveTuple Translated = Wire.Tcp("10.244.1.5:33904", "10.244.2.3:80");

    // The SYN from the client's pod through its node's translation to the pod on the other node.
    private static Wire SynToPod() => new Wire()
        .Queued(Wire.Client, Asked, Syn, pid: 4242, command: "curl")
        .Received(Wire.Node, Asked, Syn)
        .Conntrack(Asked, Translated.Reverse).Queued(Wire.Node, Translated, Syn)
        .Conntrack(null, null).Received(Wire.OtherNode, Translated, Syn)
        .Conntrack(Translated, Translated.Reverse).Queued(Wire.OtherNode, Translated, Syn)
        .Conntrack(null, null).Received(Wire.Pod, Translated, Syn);

    private static Connection Only(Wire wire) => JourneyBuilder.Build(wire.Events).Connections.ShouldHaveSingleItem();

    [Fact]
    public void RequestThroughService_IsOneConnectionOnBothSidesOfItsTranslation()
    {
        var connection = Only(SynToPod()
            .Queued(Wire.Pod, Translated.Reverse, SynAck, 9)
            .Conntrack(Asked, Translated.Reverse).Queued(Wire.Node, Asked.Reverse, SynAck, 9)
            .Conntrack(null, null).Received(Wire.Client, Asked.Reverse, SynAck, 9)
            .Queued(Wire.Client, Asked, Ack | TcpFlags.Psh, 2, 78)
            .Received(Wire.Client, Asked.Reverse, Ack, 10, payload: "HTTP/1.1 200 OK\r\nServer: nginx\r\n"u8.ToArray())
            .Queued(Wire.Client, Asked, Fin, 80));
        connection.Asked.ShouldBe(Asked);
        connection.Translated.ShouldBe(Translated);
        connection.TranslatedInNetNs.ShouldBe(Wire.Node);
        connection.Outcome.ShouldBe(ConnectionOutcome.Established);
        connection.AnsweredInNetNs.ShouldBe(Wire.Pod);
        connection.Process!.ToString().ShouldBe("curl (4242)");
        connection.RequestBytes.ShouldBe(78);
        connection.StatusLine.ShouldBe("HTTP/1.1 200 OK");
        connection.FinishedBy.ShouldBe(Side.Client);
        connection.Retransmissions.ShouldBe(0);
    }

    [Fact]
    public void AnswerSeenEverywhereAtOneMoment_IsThePods()
    {
        var events = SynToPod()
            .Conntrack(Asked, Translated.Reverse).Queued(Wire.Node, Asked.Reverse, SynAck, 9)
            .Conntrack(null, null).Queued(Wire.Pod, Translated.Reverse, SynAck, 9)
            .Received(Wire.Client, Asked.Reverse, SynAck, 9)
            .Events;
        var at = events[^1].BootNanoseconds;
        JourneyBuilder.Build([.. events.Select(e => e.Flags == SynAck ? e with { BootNanoseconds = at } : e)]).Connections.ShouldHaveSingleItem().AnsweredInNetNs.ShouldBe(Wire.Pod);
    }

    [Fact]
    public void ClosedPort_IsRefusedByThePod()
    {
        var connection = Only(SynToPod()
            .Dropped(Wire.Pod, Translated, Syn, "NO_SOCKET")
            .Queued(Wire.Pod, Translated.Reverse, Rst, 0)
            .Conntrack(Asked, Translated.Reverse).Queued(Wire.Node, Asked.Reverse, Rst, 0)
            .Conntrack(null, null).Received(Wire.Client, Asked.Reverse, Rst, 0));
        connection.Outcome.ShouldBe(ConnectionOutcome.Refused);
        connection.AnsweredInNetNs.ShouldBe(Wire.Pod);
        connection.Drops.ShouldHaveSingleItem().Event.DropReason.ShouldBe("NO_SOCKET");
    }

    // What waits for a neighbour that does not answer is given to no interface.
    [Fact]
    public void SocketThatGivesUpWithoutAPacket_IsAnUnansweredAttempt()
    {
        var unbound = Asked with { Source = new(Asked.Source.Address, 0) };
        var connection = Only(new Wire()
            .State(Wire.Node, unbound, TcpState.Close, TcpState.SynSent, 756, "kube-proxy")
            .State(Wire.Node, Asked, TcpState.SynSent, TcpState.Close, 756, "kube-proxy"));
        connection.Asked.ShouldBe(Asked);
        connection.Outcome.ShouldBe(ConnectionOutcome.Unanswered);
        connection.ClientNetNs.ShouldBe(Wire.Node);
        connection.FarthestNetNs.ShouldBe(Wire.Node);
        connection.Process!.ToString().ShouldBe("kube-proxy (756)");
    }

    [Fact]
    public void SocketWhosePacketsWereSeen_IsNoSecondAttempt()
    {
        var unbound = Asked with { Source = new(Asked.Source.Address, 0) };
        Only(new Wire()
            .State(Wire.Client, unbound, TcpState.Close, TcpState.SynSent, 1, "curl")
            .Queued(Wire.Client, Asked, Syn, pid: 1, command: "curl").Received(Wire.Node, Asked, Syn)
            .State(Wire.Client, Asked, TcpState.SynSent, TcpState.Close, 1, "curl"));
    }

    [Fact]
    public void ProxyPassesADatagramOn_AfterTheClientsLast()
    {
        var asked = Wire.Udp("10.244.1.5:50018", "10.96.0.10:53");
        var toProxy = Wire.Udp("10.244.1.5:50018", "10.244.1.1:35043");
        var dialled = Wire.Udp("10.244.1.1:41000", "10.244.2.2:53");
        var journey = JourneyBuilder.Build(new Wire()
            .Queued(Wire.Client, asked, TcpFlags.None, length: 40, pid: 1, command: "curl")
            .Conntrack(asked, toProxy.Reverse).Received(Wire.Node, toProxy, TcpFlags.None, length: 40)
            .Conntrack(null, null).Queued(Wire.Node, dialled, TcpFlags.None, length: 40, pid: 756, command: "kube-proxy")
            .Events);
        journey.Connections[0].Onward.ShouldNotBeNull().Asked.ShouldBe(dialled);
    }

    [Fact]
    public void RejectRule_IsAnIcmpErrorFromTheNode()
    {
        var connection = Only(new Wire()
            .Queued(Wire.Client, Asked, Syn, pid: 1, command: "curl").Received(Wire.Node, Asked, Syn)
            .Icmp(EventKind.PacketQueued, Wire.Node, Asked, 3, 3).Icmp(EventKind.PacketReceived, Wire.Client, Asked, 3, 3));
        connection.Outcome.ShouldBe(ConnectionOutcome.Rejected);
        connection.Icmp.ShouldBe(((byte)3, (byte)3));
        connection.AnsweredInNetNs.ShouldBe(Wire.Node);
        connection.Translated.ShouldBeNull();
    }

    [Fact]
    public void Silence_IsUnansweredWithItsFarthestPlaceAndRetransmissions()
    {
        var connection = Only(new Wire()
            .Queued(Wire.Client, Asked, Syn).Received(Wire.Node, Asked, Syn).Queued(Wire.Node, Asked, Syn)
            .Queued(Wire.Client, Asked, Syn).Received(Wire.Node, Asked, Syn).Queued(Wire.Node, Asked, Syn));
        connection.Outcome.ShouldBe(ConnectionOutcome.Unanswered);
        connection.FarthestNetNs.ShouldBe(Wire.Node);
        connection.Retransmissions.ShouldBe(1);
        connection.AnsweredInNetNs.ShouldBe(0u);
    }

    [Fact]
    public void UserspaceProxy_DialsOnward()
    {
        var proxied = Wire.Tcp("10.244.1.5:33904", "172.18.0.11:35039");
        var dialled = Wire.Tcp("172.18.0.11:58682", "10.244.2.3:8080");
        var journey = JourneyBuilder.Build(new Wire()
            .Queued(Wire.Client, Asked, Syn, pid: 4242, command: "curl").Received(Wire.Node, Asked, Syn)
            .Conntrack(Asked, proxied.Reverse).Queued(Wire.Node, Asked.Reverse, SynAck, 9).Conntrack(null, null)
            .Received(Wire.Client, Asked.Reverse, SynAck, 9)
            .Queued(Wire.Node, dialled, Syn, 5, pid: 77, command: "kube-proxy").Received(Wire.Pod, dialled, Syn, 5)
            .Queued(Wire.Pod, dialled.Reverse, Rst, 0).Received(Wire.Node, dialled.Reverse, Rst, 0)
            .Conntrack(Asked, proxied.Reverse).Queued(Wire.Node, Asked.Reverse, Fin, 10).Conntrack(null, null)
            .Received(Wire.Client, Asked.Reverse, Fin, 10).Events);
        var connection = journey.Connections[0];
        connection.Translated.ShouldBe(proxied);
        connection.Outcome.ShouldBe(ConnectionOutcome.Established);
        connection.FinishedBy.ShouldBe(Side.Server);
        connection.ReplyBytes.ShouldBe(0);
        connection.Onward!.Asked.ShouldBe(dialled);
        connection.Onward.Outcome.ShouldBe(ConnectionOutcome.Refused);
        connection.Onward.Process!.Command.ShouldBe("kube-proxy");
    }

    [Fact]
    public void MasqueradedRequest_StaysOneConnectionOnTheOtherNode()
    {
        var masqueraded = Wire.Tcp("172.18.0.11:40001", "10.244.2.3:80");
        var connection = Only(new Wire()
            .Queued(Wire.Client, Asked, Syn)
            .Conntrack(Asked, masqueraded.Reverse).Queued(Wire.Node, masqueraded, Syn)
            .Conntrack(null, null).Received(Wire.Pod, masqueraded, Syn)
            .Queued(Wire.Pod, masqueraded.Reverse, SynAck, 9)
            .Conntrack(Asked, masqueraded.Reverse).Queued(Wire.Node, Asked.Reverse, SynAck, 9)
            .Conntrack(null, null).Received(Wire.Client, Asked.Reverse, SynAck, 9));
        connection.Translated.ShouldBe(masqueraded);
        connection.Outcome.ShouldBe(ConnectionOutcome.Established);
        connection.AnsweredInNetNs.ShouldBe(Wire.Pod);
    }

    [Fact]
    public void SamePortsAgain_AreASecondConnection()
    {
        var journey = JourneyBuilder.Build(new Wire()
            .Queued(Wire.Client, Asked, Syn, 1).Received(Wire.Client, Asked.Reverse, Rst, 0)
            .Queued(Wire.Client, Asked, Syn, 7).Received(Wire.Client, Asked.Reverse, SynAck, 3).Events);
        journey.Connections.Select(c => c.Outcome).ShouldBe([ConnectionOutcome.Refused, ConnectionOutcome.Established]);
    }

    [Fact]
    public void EventsInAnyOrder_GiveTheSameJourney()
    {
        var events = SynToPod().Queued(Wire.Pod, Translated.Reverse, SynAck, 9).Received(Wire.Client, Asked.Reverse, SynAck, 9).Events;
        var random = new Random(11);
        for (var i = 0; i < 50; i++)
        {
            var shuffled = events.ToArray();
            random.Shuffle(shuffled);
            var connection = JourneyBuilder.Build(shuffled).Connections.ShouldHaveSingleItem();
            connection.Sightings.Select(s => s.Event.BootNanoseconds).ShouldBeInOrder();
            connection.Outcome.ShouldBe(ConnectionOutcome.Established);
        }
    }

    [Fact]
    public void LostEvents_BecomeAGap()
    {
        var gap = new NetworkEvent { Kind = EventKind.ObservationGap, BootNanoseconds = 5, Lost = 3 };
        JourneyBuilder.Build([gap]).Gaps.ShouldBe([new Gap(5, 3)]);
    }

    [Fact]
    public void NoEvents_AreAnEmptyJourney() => JourneyBuilder.Build([]).Connections.ShouldBeEmpty();
}
