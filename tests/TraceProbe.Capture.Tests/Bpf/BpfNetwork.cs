using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace TraceProbe.Capture.Tests.Bpf;

/// <summary>
/// Three namespaces in a row, client, router and server, in both families. The router translates 10.96.0.10 and fd96::10 to the
/// server as kube-proxy does, drops what goes to the server's port 9999, and nothing leaves the three.
/// </summary>
public sealed class BpfNetwork : IDisposable
{
    private static int s_count;
    private readonly string _prefix = string.Create(CultureInfo.InvariantCulture, $"tpbpf{Environment.ProcessId:x}{Interlocked.Increment(ref s_count)}");
    private readonly List<NetworkNamespace> _open = [];

    public BpfNetwork()
    {
        if (Missing is not null)
        {
            return;
        }

        try
        {
            Build();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What keeps these tests from running here; null when nothing does.</summary>
    public static string? Missing { get; } = Environment.UserName != "root" ? "needs root"
        : !File.Exists("/sys/kernel/btf/vmlinux") ? "needs a kernel with BTF"
        : !File.Exists("/usr/sbin/iptables") ? "needs iptables"
        : null;

    public string ClientName => _prefix + "c";

    public NetworkNamespace Client { get; private set; } = null!;

    public NetworkNamespace Router { get; private set; } = null!;

    public NetworkNamespace Server { get; private set; } = null!;

    public static readonly IPAddress ServiceAddress = IPAddress.Parse("10.96.0.10");
    public static readonly IPAddress ServiceAddress6 = IPAddress.Parse("fd96::10");
    public static readonly IPAddress ServerAddress = IPAddress.Parse("10.200.2.2");
    public static readonly IPAddress ServerAddress6 = IPAddress.Parse("fd02::2");

    private void Build()
    {
        string c = ClientName, r = _prefix + "r", s = _prefix + "s";
        Tool("ip", ["-batch", "-"], $"netns add {c}\nnetns add {r}\nnetns add {s}\n");
        Client = Open(c);
        Router = Open(r);
        Server = Open(s);
        foreach (var opened in _open)
        {
            // No duplicate address detection: without a link-local address a router asks for no neighbour, for a second or two.
            opened.Run(() => File.WriteAllText("/proc/sys/net/ipv6/conf/default/accept_dad", "0"));
        }

        Batch(r, $"""
            link add toclient type veth peer name eth0 netns {c}
            link add toserver type veth peer name eth0 netns {s}
            addr add 10.200.1.1/24 dev toclient
            addr add fd01::1/64 dev toclient nodad
            addr add 10.200.2.1/24 dev toserver
            addr add fd02::1/64 dev toserver nodad
            link set toclient up
            link set toserver up
            """);
        foreach (var (name, net) in ((string, int)[])[(c, 1), (s, 2)])
        {
            Batch(name, $"""
                addr add 10.200.{net}.2/24 dev eth0
                addr add fd0{net}::2/64 dev eth0 nodad
                link set lo up
                link set eth0 up
                route add default via 10.200.{net}.1
                route add default via fd0{net}::1
                """);
        }

        Router.Run(() =>
        {
            File.WriteAllText("/proc/sys/net/ipv4/ip_forward", "1");
            File.WriteAllText("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        });
        Tool("ip", ["netns", "exec", r, "iptables-restore"], """
            *nat
            -A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to-destination 10.200.2.2:8080
            -A PREROUTING -d 10.96.0.10 -p tcp --dport 81 -j DNAT --to-destination 10.200.2.2:8081
            -A PREROUTING -d 10.96.0.10 -p udp --dport 53 -j DNAT --to-destination 10.200.2.2:1053
            -A POSTROUTING -d 10.200.2.2 -p tcp --dport 8080 -j MASQUERADE
            COMMIT
            *filter
            -A FORWARD -p tcp --dport 9999 -j DROP
            COMMIT

            """);
        Tool("ip", ["netns", "exec", r, "ip6tables-restore"], """
            *nat
            -A PREROUTING -d fd96::10 -p tcp --dport 80 -j DNAT --to-destination [fd02::2]:8080
            COMMIT

            """);
    }

    private NetworkNamespace Open(string name)
    {
        var opened = NetworkNamespace.Open("/run/netns/" + name);
        _open.Add(opened);
        return opened;
    }

    private static void Batch(string name, string lines) => Tool("ip", ["-n", name, "-batch", "-"], lines + "\n");

    public static void Tool(string program, string[] arguments, string input = "")
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardError = true })!;
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        var said = process.StandardError.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, $"{program} {string.Join(' ', arguments)}: {said}");
    }

    /// <summary>A server in the server's namespace that answers one line to whatever it is sent, on a thread of its own.</summary>
    public Socket Listen(IPAddress address, int port, string answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    {
        var listener = Server.Run(() =>
        {
            var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(address, port));
            socket.Listen();
            return socket;
        });
        new Thread(() =>
        {
            try
            {
                while (true)
                {
                    using var accepted = listener.Accept();
                    _ = accepted.Receive(new byte[1024]);
                    _ = accepted.Send(Encoding.ASCII.GetBytes(answer));
                    accepted.Shutdown(SocketShutdown.Send);
                    _ = accepted.Receive(new byte[1024]);
                }
            }
            catch (SocketException)
            {
                // Closed at the end of the test.
            }
            catch (ObjectDisposedException)
            {
                // The same.
            }
        })
        { IsBackground = true }.Start();
        return listener;
    }

    /// <summary>Connects from the client's namespace, from a port of its own choice when none is given, sends a request and reads the answer to its end. The error, or success.</summary>
    public SocketError Get(IPAddress address, int port, string request = "GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: secret\r\n\r\n", int timeout = 1000, int from = 0)
        => Client.Run(() =>
        {
            using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = timeout };
            try
            {
                if (from != 0)
                {
                    socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
                    socket.Bind(new IPEndPoint(IPAddress.Any, from));
                }

                socket.Blocking = false;
                try
                {
                    socket.Connect(address, port);
                }
                catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.InProgress)
                {
                    if (!socket.Poll(timeout * 1000, SelectMode.SelectWrite))
                    {
                        return SocketError.TimedOut;
                    }
                }

                var error = (SocketError)(int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error)!;
                if (error != 0)
                {
                    return error;
                }

                socket.Blocking = true;
                _ = socket.Send(Encoding.ASCII.GetBytes(request));
                while (socket.Receive(new byte[1024]) > 0)
                {
                }

                return SocketError.Success;
            }
            catch (SocketException e)
            {
                return e.SocketErrorCode;
            }
        });

    public void Dispose()
    {
        foreach (var opened in _open)
        {
            opened.Dispose();
        }

        foreach (var end in "crs")
        {
            if (File.Exists($"/run/netns/{_prefix}{end}"))
            {
                Tool("ip", ["netns", "delete", _prefix + end]);
            }
        }
    }
}
