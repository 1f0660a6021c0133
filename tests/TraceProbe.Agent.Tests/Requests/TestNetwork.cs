using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using TraceProbe.Agent.Requests;
using TraceProbe.Capture;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Requests;

/// <summary>
/// A network namespace with two real nameservers on its loopback, and room for scripted servers. On 10.99.0.0/24 everything sent
/// vanishes. Without root, or the tools, there is none, and <see cref="Missing"/> says why.
/// </summary>
public sealed class TestNetwork : IDisposable
{
    private readonly string _name = string.Create(CultureInfo.InvariantCulture, $"tp-req-{Environment.ProcessId}-{Random.Shared.Next(100_000)}");
    private readonly string _folder = Directory.CreateTempSubdirectory("tp-req-").FullName;
    private readonly List<Process> _processes = [];
    private readonly ConcurrentBag<Socket> _sockets = [];
    private int _files;

    public TestNetwork()
    {
        Missing = !Environment.IsPrivilegedProcess ? "needs root" : !File.Exists("/usr/sbin/dnsmasq") ? "needs dnsmasq (apt-get install dnsmasq-base)" : null;
        if (Missing is not null)
        {
            return;
        }

        try
        {
            Ip("netns", "add", _name);
            Namespace = NetworkNamespace.Open("/run/netns/" + _name);
            Ip("-n", _name, "link", "set", "lo", "up");
            Ip("-n", _name, "addr", "add", "10.53.0.1/32", "dev", "lo");
            Ip("-n", _name, "addr", "add", "fd00:53::1/128", "dev", "lo", "nodad");
            // A cable to nobody: without ARP everything is sent, and the other end is not the one meant.
            Ip("-n", _name, "link", "add", "void", "type", "veth", "peer", "name", "hole");
            Ip("-n", _name, "addr", "add", "10.99.0.1/24", "dev", "void");
            Ip("-n", _name, "link", "set", "void", "arp", "off", "up");
            Ip("-n", _name, "link", "set", "hole", "up");
            List<string> cluster = ["--listen-address=127.0.0.2,::1", "--local=/cluster.local/test/",
                "--host-record=web.default.svc.cluster.local,10.53.0.1",
                "--host-record=both.test,10.53.0.1,fd00:53::1",
                "--host-record=six.test,fd00:53::1",
                "--host-record=void.test,10.99.0.7",
                "--cname=alias.test,both.test"];
            cluster.AddRange(Enumerable.Range(1, 60).Select(i => $"--host-record=big.test,10.53.1.{i}"));
            Dnsmasq(cluster);
            Dnsmasq(["--listen-address=127.0.0.3", "--local=/second.example/", "--host-record=second.example,10.53.0.1"]);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string? Missing { get; }

    public NetworkNamespace Namespace { get; } = null!;

    /// <summary>A client of this network; skips the test where there is none.</summary>
    public ClientEnvironment Client(string resolvConf, string hosts = "", ResolverFlavor flavor = ResolverFlavor.Glibc)
    {
        Assert.SkipWhen(Missing is not null, Missing ?? "");
        return new ClientEnvironment { Namespace = Namespace, ResolvConfPath = WriteFile(resolvConf), HostsPath = WriteFile(hosts), Flavor = flavor };
    }

    public string WriteFile(string text)
    {
        var path = Path.Combine(_folder, string.Create(CultureInfo.InvariantCulture, $"file-{Interlocked.Increment(ref _files)}"));
        File.WriteAllText(path, text);
        return path;
    }

    /// <summary>A TCP server on 10.53.0.1 (or another address) that hands each connection to the script; returns its port.</summary>
    public ushort Serve(Action<Socket> script, string address = "10.53.0.1", int port = 0)
    {
        Assert.SkipWhen(Missing is not null, Missing ?? "");
        var listener = Bind(SocketType.Stream, address, port);
        listener.Listen();
        Loop(() =>
        {
            var connection = listener.Accept();
            Loop(() =>
            {
                using (connection)
                {
                    script(connection);
                }

                return false;
            });
            return true;
        });
        return (ushort)((IPEndPoint)listener.LocalEndPoint!).Port;
    }

    /// <summary>A nameserver on a port 53 of its own; the script gives the answer to each datagram, or null for none.</summary>
    public string ServeDatagrams(Func<byte[], byte[]?> script, string address)
    {
        Assert.SkipWhen(Missing is not null, Missing ?? "");
        var socket = Bind(SocketType.Dgram, address, 53);
        var buffer = new byte[2048];
        Loop(() =>
        {
            EndPoint from = new IPEndPoint(IPAddress.Any, 0);
            var length = socket.ReceiveFrom(buffer, ref from);
            if (script(buffer[..length]) is { } answer)
            {
                socket.SendTo(answer, from);
            }

            return true;
        });
        return address;
    }

    /// <summary>
    /// No thread of this process may stay in the namespace. One that was joined needs a moment more to go, and one of the runtime's
    /// own, born while a command was started in there, as long as it idles before it ends.
    /// </summary>
    public void NobodyShouldBeInside()
        => SpinWait.SpinUntil(() => ThreadsInside() == 0, 60_000).ShouldBeTrue();

    private int ThreadsInside()
        => Directory.GetDirectories("/proc/self/task").Count(task => LinkOf(task + "/ns/net") == $"net:[{Namespace.Inode}]");

    public void Dispose()
    {
        foreach (var socket in _sockets)
        {
            socket.Dispose();
        }

        foreach (var process in _processes)
        {
            process.Kill();
            process.WaitForExit();
            process.Dispose();
        }

        if (Missing is null)
        {
            Namespace?.Dispose();
            Ip("netns", "del", _name);
        }

        Directory.Delete(_folder, true);
    }

    private Socket Bind(SocketType type, string address, int port)
    {
        var endpoint = new IPEndPoint(IPAddress.Parse(address), port);
        const int closeOnExec = 0x80000;
        var made = Namespace.OpenSocket(endpoint.AddressFamily == AddressFamily.InterNetwork ? 2 : 10, (int)type | closeOnExec, 0);
        made.ShouldBeGreaterThanOrEqualTo(0);
        var socket = new Socket(new SafeSocketHandle(made, true));
        socket.Bind(endpoint);
        _sockets.Add(socket);
        return socket;
    }

    private static void Loop(Func<bool> step)
    {
        var thread = new Thread(() =>
        {
            try
            {
                while (step())
                {
                }
            }
            catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or AuthenticationException)
            {
                // The other side went, or the test ended.
            }
        })
        { IsBackground = true };
        thread.Start();
    }

    private void Dnsmasq(List<string> options)
    {
        var start = new ProcessStartInfo("ip") { RedirectStandardError = true };
        foreach (var argument in (string[])["netns", "exec", _name, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--bind-interfaces", "--pid-file", "--log-facility=-", "--user=root", .. options])
        {
            start.ArgumentList.Add(argument);
        }

        var process = Process.Start(start)!;
        _processes.Add(process);
        while (process.StandardError.ReadLine() is { } line)
        {
            if (line.Contains("started", StringComparison.Ordinal))
            {
                return;
            }
        }

        throw new InvalidOperationException("dnsmasq did not start.");
    }

    private static string? LinkOf(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static void Ip(params string[] arguments)
    {
        using var process = Process.Start("ip", arguments);
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, string.Join(' ', arguments));
    }
}

[CollectionDefinition("network")]
public sealed class NetworkCollection : ICollectionFixture<TestNetwork>;
