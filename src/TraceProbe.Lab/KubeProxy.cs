using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace TraceProbe.Lab;

/// <summary>
/// The process that stands for kube-proxy on a node, with kube-proxy's name and flags. The controller writes its rules, but it says what a
/// kube-proxy says of them: <c>/healthz</c> on port 10256, <c>/proxyMode</c> and <c>/metrics</c> on 127.0.0.1:10249. In userspace mode it is the proxy,
/// too. Threads and blocking calls throughout: every thread then carries the name, by which the process is known on the node.
/// </summary>
internal sealed class KubeProxy
{
    /// <summary>What the process is called.</summary>
    internal const string ProcessName = "kube-proxy";

    private const int HealthPort = 10256;
    private const int MetricsPort = 10249;

    // proxier_health.go: twice the period in which everything is written anew.
    private static readonly TimeSpan HealthTimeout = TimeSpan.FromSeconds(60);

    private readonly LabFolder _lab;
    private readonly string _node;
    private readonly string _mode;

    private KubeProxy(LabFolder lab, string node, ProxyMode mode)
    {
        _lab = lab;
        _node = node;
        _mode = WordOf(mode);
    }

    /// <summary>The flags of a lab's kube-proxy.</summary>
    internal static ImmutableArray<string> Flags(ProxyMode mode, string node) =>
    [
        $"--proxy-mode={WordOf(mode)}", $"--hostname-override={node}", $"--cluster-cidr={LabLayout.ClusterCidrIPv4},{LabLayout.ClusterCidrIPv6}", "--detect-local-mode=ClusterCIDR",
        "--masquerade-all=false", string.Create(CultureInfo.InvariantCulture, $"--healthz-bind-address=0.0.0.0:{HealthPort}"), string.Create(CultureInfo.InvariantCulture, $"--metrics-bind-address=127.0.0.1:{MetricsPort}"),
    ];

    /// <summary>What kube-proxy calls a mode.</summary>
    internal static string WordOf(ProxyMode mode) => mode switch
    {
        ProxyMode.Nftables => "nftables",
        ProxyMode.Ipvs => "ipvs",
        ProxyMode.Userspace => "userspace",
        _ => "iptables",
    };

    /// <summary>Runs a node's kube-proxy until the lab is gone; the process is in the node's namespace already.</summary>
    /// <param name="name">The lab's name.</param>
    /// <param name="node">The node's name.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static void Run(string name, string node, CancellationToken cancellationToken)
    {
        // The name that ps shows is the first thread's, whichever thread this is.
        File.WriteAllText("/proc/self/comm", ProcessName);
        var lab = new LabFolder(name);
        if (lab.ReadRecord() is not { } record)
        {
            return;
        }

        var proxy = new KubeProxy(lab, node, record.Proxy);
        proxy.Serve(IPAddress.Loopback, MetricsPort);
        proxy.Serve(IPAddress.Any, HealthPort);
        File.WriteAllText(ServingPath(lab, node), "");
        if (record.Proxy == ProxyMode.Userspace)
        {
            UserspaceProxy.Run(lab, node, cancellationToken);
            return;
        }

        while (!cancellationToken.IsCancellationRequested && lab.ReadRecord() is not null)
        {
            Thread.Sleep(200);
        }
    }

    /// <summary>Present once a node's kube-proxy can be asked.</summary>
    internal static string ServingPath(LabFolder lab, string node) => $"{lab.PlaceFolder(node)}/kube-proxy.serving";

    private void Serve(IPAddress address, int port)
    {
        var listener = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        listener.Bind(new IPEndPoint(address, port));
        listener.Listen(16);
        new Thread(() =>
        {
            while (true)
            {
                try
                {
                    using var client = listener.Accept();
                    Answer(client, port);
                }
                catch (SocketException)
                {
                    // The client went away; the next one is another matter.
                }
            }
        }, 256 * 1024) { IsBackground = true, Name = ProcessName }.Start();
    }

    private void Answer(Socket client, int port)
    {
        client.ReceiveTimeout = 1000;
        var head = new byte[4096];
        var length = 0;
        while (length < head.Length && head.AsSpan(0, length).IndexOf("\r\n\r\n"u8) < 0)
        {
            var read = client.Receive(head.AsSpan(length));
            if (read == 0)
            {
                return;
            }

            length += read;
        }

        var path = Encoding.ASCII.GetString(head, 0, length).Split(' ').ElementAtOrDefault(1) ?? "";
        var now = TimeProvider.System.GetUtcNow();
        var (status, type, body) = (port, path) switch
        {
            (HealthPort, "/healthz" or "/livez") => Health(now),
            (MetricsPort, "/proxyMode") => ("200 OK", "text/plain; charset=utf-8", _mode),
            (MetricsPort, "/metrics") => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", Metrics()),
            _ => ("404 Not Found", "text/plain; charset=utf-8", "404 page not found\n"),
        };
        client.Send(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 {status}\r\nContent-Type: {type}\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n{body}")));
        client.Shutdown(SocketShutdown.Send);
    }

    private (string Status, string Type, string Body) Health(DateTimeOffset now)
    {
        // What waits counts from when it was queued; where nothing does, all is as of now.
        var waiting = ProxySyncs.Read(_lab, _node).Values.Where(s => s.Queued > s.Synced).Select(s => s.Queued).ToList();
        var updated = waiting.Count == 0 ? now : waiting.Min();
        var healthy = now - updated < HealthTimeout;
        return (healthy ? "200 OK" : "503 Service Unavailable", "application/json",
            string.Create(CultureInfo.InvariantCulture, $$"""{"lastUpdated":"{{updated:yyyy-MM-ddTHH:mm:ss.fffffffZ}}","currentTime":"{{now:yyyy-MM-ddTHH:mm:ss.fffffffZ}}","nodeEligible":true,"healthy":{{(healthy ? "true" : "false")}}}"""));
    }

    private string Metrics()
    {
        var text = new StringBuilder();
        var syncs = ProxySyncs.Read(_lab, _node);
        Gauge("last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", s => s.Queued);
        Gauge("last_timestamp_seconds", "The last time proxy rules were successfully synced", s => s.Synced);
        return text.ToString();

        void Gauge(string name, string help, Func<ProxySync, DateTimeOffset> at)
        {
            text.Append("# HELP kubeproxy_sync_proxy_rules_").Append(name).Append(" [ALPHA] ").Append(help).Append("\n# TYPE kubeproxy_sync_proxy_rules_").Append(name).Append(" gauge\n");
            foreach (var (family, sync) in syncs)
            {
                text.Append(CultureInfo.InvariantCulture, $"kubeproxy_sync_proxy_rules_{name}{{ip_family=\"{family}\"}} {(at(sync) - DateTimeOffset.UnixEpoch).TotalSeconds:0.0000000000000000e+00}\n");
            }
        }
    }
}
