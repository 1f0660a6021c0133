using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Journeys;

/// <summary>Writes down what a kernel would report, one microsecond apart.</summary>
internal sealed class Wire
{
    public const uint Client = 1, Node = 2, OtherNode = 3, Pod = 4;

    private long _now;
    private FiveTuple? _original;
    private FiveTuple? _reply;

    public List<NetworkEvent> Events { get; } = [];

    public static FiveTuple Tcp(string source, string destination) => new(IpProtocol.Tcp, AddressPort.Parse(source), AddressPort.Parse(destination));

    public static FiveTuple Udp(string source, string destination) => new(IpProtocol.Udp, AddressPort.Parse(source), AddressPort.Parse(destination));

    /// <summary>From now on packets carry this conntrack entry, until it is taken away with nulls.</summary>
    public Wire Conntrack(FiveTuple? original, FiveTuple? reply)
    {
        (_original, _reply) = (original, reply);
        return this;
    }

    public Wire Queued(uint netns, FiveTuple tuple, TcpFlags flags, uint sequence = 1, int length = 0, int pid = 0, string command = "", byte[]? payload = null, int interfaceIndex = 2)
        => Add(EventKind.PacketQueued, netns, tuple, flags, sequence, length, pid, command, payload, interfaceIndex);

    public Wire Received(uint netns, FiveTuple tuple, TcpFlags flags, uint sequence = 1, int length = 0, byte[]? payload = null)
        => Add(EventKind.PacketReceived, netns, tuple, flags, sequence, length, 0, "", payload, 2);

    public Wire Dropped(uint netns, FiveTuple tuple, TcpFlags flags, string reason)
    {
        Add(EventKind.PacketDropped, netns, tuple, flags, 1, 0, 0, "", null, 2);
        Events[^1] = Events[^1] with { DropReason = reason };
        return this;
    }

    public Wire State(uint netns, FiveTuple tuple, TcpState before, TcpState after, int pid, string command)
    {
        Add(EventKind.SocketStateChanged, netns, tuple, TcpFlags.None, 0, 0, pid, command, null, 0);
        Events[^1] = Events[^1] with { OldState = before, NewState = after, Socket = 0xffff888100000000 };
        return this;
    }

    public Wire Icmp(EventKind kind, uint netns, FiveTuple quoted, byte type, byte code)
    {
        Add(kind, netns, new FiveTuple(IpProtocol.Icmp, new(quoted.Destination.Address, 0), new(quoted.Source.Address, 0)), TcpFlags.None, 0, 0, 0, "", null, 1);
        Events[^1] = Events[^1] with { Quoted = quoted, IcmpType = type, IcmpCode = code };
        return this;
    }

    private Wire Add(EventKind kind, uint netns, FiveTuple tuple, TcpFlags flags, uint sequence, int length, int pid, string command, byte[]? payload, int interfaceIndex)
    {
        Events.Add(new NetworkEvent
        {
            Kind = kind,
            BootNanoseconds = _now += 1000,
            NetNs = netns,
            InterfaceIndex = interfaceIndex,
            Interface = ShortName.From("eth0"),
            Tuple = tuple,
            Flags = flags,
            Sequence = sequence,
            PayloadLength = payload?.Length ?? length,
            Payload = payload,
            Pid = pid,
            Command = ShortName.From(command),
            HasConntrack = _original is not null,
            Original = _original ?? default,
            Reply = _reply ?? default,
        });
        return this;
    }
}
