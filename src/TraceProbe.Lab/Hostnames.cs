using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// The server of the lab's Service <c>hostnames</c>: what <c>serve_hostname</c> of Kubernetes' "Debug Services" is, an answer with the
/// pod's name to every HTTP request and to every datagram, on port 9376 of both families. And it can misbehave, in the ways that servers do:
/// the pod's file <c>behaviour</c> says how. Threads and blocking calls throughout, since a thread's name is what its packets' process is called.
/// </summary>
internal sealed class Hostnames
{
    /// <summary>The port it serves.</summary>
    internal const int Port = 9376;

    /// <summary>What the process is called on the node, within the 15 characters that the kernel keeps.</summary>
    internal const string ProcessName = "serve_hostname";

    // One of what takes long to arrive whole: more than a packet or two.
    private const int BigBody = 64 * 1024;
    private static readonly TimeSpan Forever = TimeSpan.FromMinutes(10);

    private readonly string _pod;
    private readonly string _behaviour;
    private readonly Lazy<X509Certificate2> _certificate;

    private Hostnames(string pod, string behaviour)
    {
        _pod = pod;
        _behaviour = behaviour;
        _certificate = new Lazy<X509Certificate2>(MakeCertificate);
    }

    /// <summary>Serves until the lab is gone; the process is in the pod's namespaces already.</summary>
    /// <param name="lab">The lab's name.</param>
    /// <param name="pod">The pod's name.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static void Run(string lab, string pod, CancellationToken cancellationToken)
    {
        File.WriteAllText("/proc/self/comm", ProcessName);
        var folder = new LabFolder(lab);
        new Hostnames(pod, Behaviours.Of(folder, pod)).Listen();
        while (!cancellationToken.IsCancellationRequested && folder.ReadRecord() is not null)
        {
            Thread.Sleep(200);
        }
    }

    private void Listen()
    {
        var local = _behaviour switch
        {
            Behaviours.Loopback => new IPEndPoint(IPAddress.Loopback, Port),
            Behaviours.IPv4Only => new IPEndPoint(IPAddress.Any, Port),
            _ => new IPEndPoint(IPAddress.IPv6Any, Port),
        };
        var tcp = Bound(SocketType.Stream, ProtocolType.Tcp, local);
        var udp = Bound(SocketType.Dgram, ProtocolType.Udp, local);
        if (_behaviour == Behaviours.NeverAccept)
        {
            tcp.Listen(1);
            // More come than it accepts: one in its hands, one waiting, and then none any more.
            for (var i = 0; i < 2; i++)
            {
                new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp).Connect(IPAddress.Loopback, Port);
            }
        }
        else
        {
            tcp.Listen(128);
            Start(() =>
            {
                while (true)
                {
                    var client = tcp.Accept();
                    Start(() => Serve(client));
                }
            });
        }

        Start(() => ServeUdp(udp));
    }

    private static Socket Bound(SocketType type, ProtocolType protocol, IPEndPoint local)
    {
        var socket = new Socket(local.AddressFamily, type, protocol);
        if (local.AddressFamily == AddressFamily.InterNetworkV6)
        {
            socket.DualMode = true;
        }

        socket.Bind(local);
        return socket;
    }

    private void Serve(Socket client)
    {
        try
        {
            using (client)
            using (Stream stream = _behaviour == Behaviours.Tls ? Encrypted(client) : new NetworkStream(client))
            {
                Serve(client, stream);
            }
        }
        catch (Exception e) when (e is IOException or SocketException or AuthenticationException or ObjectDisposedException)
        {
            // The client went away, or spoke something else; the next one is another matter.
            Console.Error.WriteLine(e.Message);
        }
    }

    private SslStream Encrypted(Socket client)
    {
        // A TLS handshake begins with byte 22; to plain HTTP Go's servers answer so.
        Span<byte> first = stackalloc byte[1];
        if (client.Receive(first, SocketFlags.Peek) == 1 && char.IsAsciiLetterUpper((char)first[0]))
        {
            client.Send("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"u8);
            // What is left unread when a socket is closed turns the close into a reset.
            Span<byte> request = stackalloc byte[4096];
            _ = client.Receive(request);
        }

        var stream = new SslStream(new NetworkStream(client));
        stream.AuthenticateAsServer(_certificate.Value);
        return stream;
    }

    private void Serve(Socket client, Stream stream)
    {
        var path = ReadRequest(stream);
        if (path is null)
        {
            return;
        }

        var body = path == "/big" ? new string('x', BigBody) + "\n" : _pod + "\n";
        switch (_behaviour)
        {
            case Behaviours.Silent:
                Thread.Sleep(Forever);
                break;
            case Behaviours.Close:
                break;
            case Behaviours.Reset:
                Reset(client);
                break;
            case Behaviours.ResetInTheMiddle:
                Answer(stream, "200 OK", body, body.Length / 2);
                Thread.Sleep(50);
                Reset(client);
                break;
            case Behaviours.Stall:
                Answer(stream, "200 OK", body, body.Length / 2);
                Thread.Sleep(Forever);
                break;
            case Behaviours.Slow:
                Thread.Sleep(TimeSpan.FromSeconds(1.2));
                Answer(stream, "200 OK", body);
                break;
            case Behaviours.Unavailable:
                Answer(stream, "503 Service Unavailable", "the database is down\n");
                break;
            default:
                Answer(stream, "200 OK", body);
                break;
        }
    }

    // The path that is asked for; null when the client went away, or did not speak HTTP.
    private static string? ReadRequest(Stream stream)
    {
        var head = new byte[8192];
        var length = 0;
        while (true)
        {
            var read = stream.Read(head, length, head.Length - length);
            length += read;
            if (read == 0 || length == head.Length)
            {
                return null;
            }

            if (head.AsSpan(0, length).IndexOf("\r\n\r\n"u8) >= 0)
            {
                return Encoding.ASCII.GetString(head, 0, length).Split(' ') is [_, var path, ..] ? path : null;
            }
        }
    }

    private static void Answer(Stream stream, string status, string body, int? sent = null)
        => stream.Write(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture,
            $"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n{body[..(sent ?? body.Length)]}")));

    // A socket that is closed while it is not to linger sends a reset.
    private static void Reset(Socket client)
    {
        client.LingerState = new LingerOption(true, 0);
        client.Close();
    }

    private void ServeUdp(Socket socket)
    {
        var buffer = new byte[65536];
        var answer = Encoding.ASCII.GetBytes(_pod + "\n");
        while (true)
        {
            EndPoint from = new IPEndPoint(socket.AddressFamily == AddressFamily.InterNetworkV6 ? IPAddress.IPv6Any : IPAddress.Any, 0);
            try
            {
                socket.ReceiveFrom(buffer, ref from);
                if (_behaviour != Behaviours.Silent)
                {
                    socket.SendTo(answer, from);
                }
            }
            catch (SocketException)
            {
                // An ICMP error about an earlier answer.
            }
        }
    }

    private static X509Certificate2 MakeCertificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=hostnames.default.svc.cluster.local", key, HashAlgorithmName.SHA256);
        var now = TimeProvider.System.GetUtcNow();
        return request.CreateSelfSigned(now.AddDays(-1), now.AddDays(365));
    }

    private static void Start(Action work) => new Thread(() => work(), 256 * 1024) { IsBackground = true, Name = ProcessName }.Start();
}

/// <summary>How a pod's program misbehaves: a word in a file of the pod, which is gone when the pod is made anew.</summary>
internal static class Behaviours
{
    internal const string Loopback = "loopback";
    internal const string IPv4Only = "ipv4-only";
    internal const string NeverAccept = "never-accept";
    internal const string Silent = "silent";
    internal const string Close = "close";
    internal const string Reset = "reset";
    internal const string ResetInTheMiddle = "reset-in-the-middle";
    internal const string Stall = "stall";
    internal const string Slow = "slow";
    internal const string Unavailable = "unavailable";
    internal const string Tls = "tls";
    internal const string ServerFailure = "servfail";
    internal const string Refused = "refused";
    internal const string Truncate = "truncate";

    internal static string Of(LabFolder folder, string pod) => File.Exists(PathOf(folder, pod)) ? File.ReadAllText(PathOf(folder, pod)) : "";

    internal static string Of(LabFolder folder, Pod pod) => Of(folder, pod.Metadata.Name);

    internal static string PathOf(LabFolder folder, string pod) => $"{folder.PlaceFolder(pod)}/behaviour";
}
