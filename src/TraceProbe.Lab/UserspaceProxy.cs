using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// kube-proxy's first mode, one process per node: it listens on a port per Service port, dials one of the ready endpoints in turn
/// and copies both ways (kubernetes 1.1, pkg/proxy/userspace/proxysocket.go). Without an endpoint, or when the dial fails, it
/// closes the accepted connection at once, so that the client sees an empty reply. Threads and blocking calls throughout: every
/// thread then carries the name <c>kube-proxy</c>, by which the process is known on the node.
/// </summary>
internal sealed class UserspaceProxy
{
    private const int Buffer = 32 * 1024;

    // proxysocket.go, endpointDialTimeout: one attempt for each.
    private static readonly TimeSpan[] DialTimeouts = [TimeSpan.FromMilliseconds(250), TimeSpan.FromMilliseconds(500), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2)];
    private static readonly TimeSpan UdpIdle = TimeSpan.FromSeconds(5);

    private readonly LabFolder _lab;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, int> _turns = [];
    private Dictionary<string, ImmutableArray<IPEndPoint>> _endpoints = [];
    private DateTime _read;

    private UserspaceProxy(LabFolder lab) => _lab = lab;

    /// <summary>Runs a node's proxy until the lab is gone; the process is in the node's namespace already.</summary>
    /// <param name="lab">The lab.</param>
    /// <param name="node">The node's name.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static void Run(LabFolder lab, string node, CancellationToken cancellationToken)
    {
        var proxy = new UserspaceProxy(lab);
        var listening = new SortedSet<string>(StringComparer.Ordinal);
        while (!cancellationToken.IsCancellationRequested && lab.ReadRecord() is not null)
        {
            var before = listening.Count;
            foreach (var (key, port) in UserspaceRules.ReadPorts($"{lab.Path}/proxy-ports"))
            {
                if (listening.Add(key))
                {
                    proxy.Listen(key, port);
                }
            }

            if (listening.Count != before)
            {
                Files.Replace(ListeningPath(lab, node), string.Join('\n', listening));
            }

            Thread.Sleep(50);
        }
    }

    /// <summary>Whether a node's proxy listens for every Service port that has a port of the proxy.</summary>
    internal static bool ListensForAll(LabFolder lab, string node)
        => File.Exists(ListeningPath(lab, node))
            && UserspaceRules.ReadPorts($"{lab.Path}/proxy-ports").Keys.All(File.ReadAllLines(ListeningPath(lab, node)).Contains);

    /// <summary>The Service ports that a node's proxy listens for, one a line.</summary>
    internal static string ListeningPath(LabFolder lab, string node) => $"{lab.PlaceFolder(node)}/kube-proxy.listening";

    private void Listen(string key, int port)
    {
        if (key.EndsWith("/udp", StringComparison.Ordinal))
        {
            var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Dgram, ProtocolType.Udp) { DualMode = true };
            socket.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
            Start(() => ServeUdp(key, socket));
        }
        else
        {
            var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true };
            socket.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
            socket.Listen(128);
            Start(() =>
            {
                while (true)
                {
                    var client = socket.Accept();
                    Start(() => ServeTcp(key, client));
                }
            });
        }
    }

    private void ServeTcp(string key, Socket client)
    {
        using (client)
        {
            // "Service port accepted" is the family the client came by: an IPv6 client gets an IPv6 endpoint where there is one.
            using var backend = Dial(key, IsIPv6(client));
            if (backend is null)
            {
                CloseQuietly(client);
                return;
            }

            var back = Start(() => Copy(backend, client));
            Copy(client, backend);
            back.Join();
        }
    }

    private Socket? Dial(string key, bool ipv6)
    {
        foreach (var timeout in DialTimeouts)
        {
            if (Next(key, ipv6) is not { } endpoint)
            {
                Log($"Couldn't find an endpoint for {key}: missing endpoints");
                return null;
            }

            // Not blocking, so that the dial can be given up; a socket the caller gets is blocking again.
            var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                socket.Blocking = false;
                try
                {
                    socket.Connect(endpoint);
                }
                catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.InProgress)
                {
                    if (!socket.Poll(timeout, SelectMode.SelectWrite))
                    {
                        throw new SocketException((int)SocketError.TimedOut);
                    }

                    if ((int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error)! is var error and not 0)
                    {
                        throw new SocketException(error);
                    }
                }

                socket.Blocking = true;
                return socket;
            }
            catch (SocketException e)
            {
                socket.Dispose();
                Log($"Dial failed: dial tcp {endpoint}: {(e.SocketErrorCode == SocketError.ConnectionRefused ? "connection refused" : e.SocketErrorCode == SocketError.TimedOut ? "i/o timeout" : e.Message)}");
            }
        }

        Log($"Failed to connect to balancer: failed to connect to an endpoint.");
        return null;
    }

    // The client's FIN comes at once; the socket lives on until its request has come in, since a socket closed with unread data
    // sends a reset instead, and whether the client sees that or the FIN first would be chance.
    private static void CloseQuietly(Socket client)
    {
        try
        {
            client.Shutdown(SocketShutdown.Send);
            client.ReceiveTimeout = 200;
            var rest = new byte[4096];
            while (client.Receive(rest) > 0)
            {
                // Read and forgotten.
            }
        }
        catch (SocketException)
        {
            // It went away or stayed silent; either way we are done with it.
        }
    }

    private static void Copy(Socket from, Socket to)
    {
        var buffer = new byte[Buffer];
        try
        {
            int read;
            while ((read = from.Receive(buffer)) > 0)
            {
                to.Send(buffer.AsSpan(0, read));
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // One side reset or vanished: end both, as the original does. The other copy meets its end and returns.
            Abort(from);
            Abort(to);
        }
    }

    private static void Abort(Socket socket)
    {
        try
        {
            socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Already gone.
        }
    }

    private void ServeUdp(string key, Socket server)
    {
        var clients = new Dictionary<EndPoint, Socket>();
        var buffer = new byte[65536];
        while (true)
        {
            EndPoint from = new IPEndPoint(IPAddress.IPv6Any, 0);
            int length;
            try
            {
                length = server.ReceiveFrom(buffer, ref from);
            }
            catch (SocketException)
            {
                // An ICMP error about an earlier answer; the next datagram is another matter.
                continue;
            }

            Socket? backend;
            lock (clients)
            {
                if (!clients.TryGetValue(from, out backend))
                {
                    if (Next(key, !((IPEndPoint)from).Address.IsIPv4MappedToIPv6) is not { } endpoint)
                    {
                        Log($"Couldn't find an endpoint for {key}: missing endpoints");
                        continue;
                    }

                    backend = new Socket(endpoint.AddressFamily, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = (int)UdpIdle.TotalMilliseconds };
                    backend.Connect(endpoint);
                    clients[from] = backend;
                    var (client, socket) = (from, backend);
                    Start(() => AnswerUdp(server, client, socket, clients));
                }
            }

            try
            {
                backend.Send(buffer.AsSpan(0, length));
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                Log($"Write failed: write udp {key}: {e.Message}");
            }
        }
    }

    private static void AnswerUdp(Socket server, EndPoint client, Socket backend, Dictionary<EndPoint, Socket> clients)
    {
        var buffer = new byte[65536];
        try
        {
            while (true)
            {
                server.SendTo(buffer.AsSpan(0, backend.Receive(buffer)), client);
            }
        }
        catch (SocketException)
        {
            // Idle for long enough, or refused: the client's next datagram starts anew.
        }

        lock (clients)
        {
            clients.Remove(client);
            backend.Dispose();
        }
    }

    // The next ready endpoint of the Service port in turn; of the client's family where there is one.
    private IPEndPoint? Next(string key, bool ipv6)
    {
        lock (_gate)
        {
            var written = File.GetLastWriteTimeUtc(_lab.SnapshotPath);
            if (written != _read)
            {
                _read = written;
                _endpoints = ReadEndpoints(_lab.Objects.Read());
            }

            var family = ipv6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork;
            var all = _endpoints.GetValueOrDefault(key, []);
            var own = all.Where(e => e.AddressFamily == family).ToArray();
            if (own.Length == 0)
            {
                own = [.. all];
            }

            if (own.Length == 0)
            {
                return null;
            }

            var turn = _turns.GetValueOrDefault(key);
            _turns[key] = turn + 1;
            return own[turn % own.Length];
        }
    }

    private static Dictionary<string, ImmutableArray<IPEndPoint>> ReadEndpoints(ClusterSnapshot cluster)
    {
        var endpoints = new Dictionary<string, ImmutableArray<IPEndPoint>>();
        foreach (var service in cluster.Services)
        {
            foreach (var port in service.Spec.Ports)
            {
                endpoints[UserspaceRules.KeyOf(service, port)] =
                [
                    .. from slice in cluster.SlicesOf(service)
                       from number in slice.Ports.Where(p => (p.Name ?? "") == (port.Name ?? "") && p.Protocol == port.Protocol && p.Port is not null).Select(p => p.Port!.Value)
                       from endpoint in slice.Endpoints
                       where endpoint.Conditions.Ready ?? true
                       select new AddressPort(IpAddress.Parse(endpoint.Addresses[0]), (ushort)number).ToIPEndPoint(),
                ];
            }
        }

        return endpoints;
    }

    private static bool IsIPv6(Socket client) => client.RemoteEndPoint is IPEndPoint { Address.IsIPv4MappedToIPv6: false };

    // As klog wrote it: "E1111 21:17:57.401198       1 proxysocket.go:99] Dial failed: …".
    private static void Log(string message)
        => Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"E{TimeProvider.System.GetUtcNow():MMdd HH:mm:ss.ffffff} {Environment.ProcessId,7} proxysocket.go] {message}"));

    private static Thread Start(Action work)
    {
        var thread = new Thread(() => work(), 256 * 1024) { IsBackground = true, Name = KubeProxy.ProcessName };
        thread.Start();
        return thread;
    }
}
