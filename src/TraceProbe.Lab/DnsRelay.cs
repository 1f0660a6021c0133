using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Core.Dns;

namespace TraceProbe.Lab;

/// <summary>
/// A cluster DNS that misbehaves: it stands in front of the real one, which then listens on <see cref="UpstreamPort"/> of loopback alone,
/// and fails, delays or cuts what that would answer. The pod's behaviour says which. Threads and blocking calls, so that packets carry the
/// process' name.
/// </summary>
internal sealed class DnsRelay
{
    internal const int UpstreamPort = 5353;

    /// <summary>What the process is called on the node.</summary>
    internal const string ProcessName = "coredns";

    // RFC 1035 section 4.1.1: QR, TC and the response code, in the second 16 bits of a message.
    private const ushort Response = 0x8000;
    private const ushort Truncated = 0x0200;
    private const int QuestionCount = 4;

    private static readonly TimeSpan Delay = TimeSpan.FromMilliseconds(1300);

    private readonly string _behaviour;

    private DnsRelay(string behaviour) => _behaviour = behaviour;

    /// <summary>Relays until the lab is gone; the process is in the pod's namespaces already.</summary>
    /// <param name="lab">The lab's name.</param>
    /// <param name="pod">The pod's name.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static void Run(string lab, string pod, CancellationToken cancellationToken)
    {
        File.WriteAllText("/proc/self/comm", ProcessName);
        var folder = new LabFolder(lab);
        var relay = new DnsRelay(Behaviours.Of(folder, pod));
        var udp = new Socket(AddressFamily.InterNetworkV6, SocketType.Dgram, ProtocolType.Udp) { DualMode = true };
        udp.Bind(new IPEndPoint(IPAddress.IPv6Any, 53));
        var tcp = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true };
        tcp.Bind(new IPEndPoint(IPAddress.IPv6Any, 53));
        tcp.Listen(128);
        Start(() => relay.ServeUdp(udp));
        Start(() => relay.ServeTcp(tcp));
        while (!cancellationToken.IsCancellationRequested && folder.ReadRecord() is not null)
        {
            Thread.Sleep(200);
        }
    }

    private void ServeUdp(Socket socket)
    {
        var buffer = new byte[65536];
        while (true)
        {
            EndPoint from = new IPEndPoint(IPAddress.IPv6Any, 0);
            int length;
            try
            {
                length = socket.ReceiveFrom(buffer, ref from);
            }
            catch (SocketException)
            {
                // An ICMP error about an earlier answer.
                continue;
            }

            var question = buffer.AsSpan(0, length).ToArray();
            Start(() =>
            {
                if (AnswerByDatagram(question) is { } answer)
                {
                    socket.SendTo(answer, from);
                }
            });
        }
    }

    private byte[]? AnswerByDatagram(byte[] question)
    {
        if (question.Length < 12)
        {
            return null;
        }

        if (_behaviour == Behaviours.Truncate)
        {
            return Bare(question, Truncated);
        }

        if (Failure() is { } code)
        {
            return Bare(question, (ushort)code);
        }

        Wait();
        using var upstream = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 5000 };
        upstream.Connect(IPAddress.Loopback, UpstreamPort);
        upstream.Send(question);
        var answer = new byte[65536];
        try
        {
            return answer[..upstream.Receive(answer)];
        }
        catch (SocketException)
        {
            return null;
        }
    }

    private void ServeTcp(Socket listener)
    {
        while (true)
        {
            var client = listener.Accept();
            Start(() =>
            {
                try
                {
                    using (client)
                    {
                        ServeTcpClient(client);
                    }
                }
                catch (Exception e) when (e is SocketException or IOException)
                {
                    // It went away; readiness probes do, without a word.
                }
            });
        }
    }

    private void ServeTcpClient(Socket client)
    {
        using var stream = new NetworkStream(client);
        using var upstream = new TcpClient(AddressFamily.InterNetwork);
        Span<byte> head = stackalloc byte[2];
        while (stream.ReadAtLeast(head, 2, throwOnEndOfStream: false) == 2)
        {
            var question = new byte[BinaryPrimitives.ReadUInt16BigEndian(head)];
            stream.ReadExactly(question);
            if (question.Length >= 12 && Failure() is { } code)
            {
                Write(stream, Bare(question, (ushort)code));
                continue;
            }

            Wait();
            if (!upstream.Connected)
            {
                upstream.Connect(IPAddress.Loopback, UpstreamPort);
            }

            Write(upstream.GetStream(), question);
            upstream.GetStream().ReadExactly(head);
            var answer = new byte[BinaryPrimitives.ReadUInt16BigEndian(head)];
            upstream.GetStream().ReadExactly(answer);
            Write(stream, answer);
        }
    }

    private static void Write(NetworkStream stream, byte[] message)
    {
        var framed = new byte[message.Length + 2];
        BinaryPrimitives.WriteUInt16BigEndian(framed, (ushort)message.Length);
        message.CopyTo(framed, 2);
        stream.Write(framed);
    }

    private DnsResponseCode? Failure() => _behaviour switch
    {
        Behaviours.ServerFailure => DnsResponseCode.ServFail,
        Behaviours.Refused => DnsResponseCode.Refused,
        _ => null,
    };

    private void Wait()
    {
        if (_behaviour == Behaviours.Slow)
        {
            Thread.Sleep(Delay);
        }
    }

    // The question again as an answer without records. What follows the question (EDNS) may stay out: its count is set to none.
    private static byte[] Bare(byte[] question, ushort flags)
    {
        var answer = question.ToArray();
        BinaryPrimitives.WriteUInt16BigEndian(answer.AsSpan(2), (ushort)(BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(2)) | Response | flags));
        answer.AsSpan(QuestionCount + 2, 6).Clear();
        return answer;
    }

    private static void Start(Action work) => new Thread(() => work(), 256 * 1024) { IsBackground = true, Name = ProcessName }.Start();
}
