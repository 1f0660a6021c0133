using System.Collections.Immutable;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>The kubelet's readiness probes: made from the pod's node, against the pod's address, as kubelets make them.</summary>
internal static class ReadinessProbes
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(1);

    /// <summary>The pods as their probes found them. A pod without a probe is ready as long as it runs.</summary>
    internal static async Task<ImmutableArray<Pod>> RunAsync(LabFolder lab, IEnumerable<Pod> pods)
        => [.. await Task.WhenAll(pods.Select(async pod => WithReadiness(pod, await FailureAsync(lab, pod).ConfigureAwait(false)))).ConfigureAwait(false)];

    /// <summary>The pod with the conditions and container states that kubelet sets for the outcome of its probe.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="failure">Why the probe failed; null when it passed.</param>
    internal static Pod WithReadiness(Pod pod, string? failure)
    {
        var containers = string.Join(' ', pod.Spec.Containers.Select(c => c.Name));
        Condition Unready(string type) => failure is null
            ? new Condition { Type = type, Status = "True" }
            : new Condition { Type = type, Status = "False", Reason = "ContainersNotReady", Message = $"containers with unready status: [{containers}]" };
        return pod with
        {
            Status = pod.Status with
            {
                Conditions =
                [
                    new Condition { Type = "Initialized", Status = "True" },
                    Unready("Ready"),
                    Unready("ContainersReady"),
                    new Condition { Type = "PodScheduled", Status = "True" },
                ],
                ContainerStatuses = [.. pod.Status.ContainerStatuses.Select(c => c with { Ready = failure is null })],
            },
        };
    }

    private static async Task<string?> FailureAsync(LabFolder lab, Pod pod)
    {
        var probe = pod.Spec.Containers.Select(c => c.ReadinessProbe).FirstOrDefault(p => p is not null);
        if (probe is null || !IpAddress.TryParse(pod.Status.PodIP, null, out var address) || pod.Spec.NodeName is null)
        {
            return null;
        }

        var target = probe.HttpGet?.Port ?? probe.TcpSocket?.Port ?? default;
        var port = target.Number ?? pod.Spec.Containers.SelectMany(c => c.Ports).FirstOrDefault(p => p.Name == target.Text)?.Port;
        if (port is null)
        {
            return $"no port is named {target}";
        }

        using var limit = new CancellationTokenSource(Timeout);
        try
        {
            using var socket = NetNs.Run(lab.NetNsPath(pod.Spec.NodeName), () => new Socket(address.Family, SocketType.Stream, ProtocolType.Tcp));
            await socket.ConnectAsync(new AddressPort(address, (ushort)port.Value).ToIPEndPoint(), limit.Token).ConfigureAwait(false);
            if (probe.HttpGet is not { } http)
            {
                return null;
            }

            await socket.SendAsync(Encoding.ASCII.GetBytes($"GET {http.Path ?? "/"} HTTP/1.1\r\nHost: {pod.Status.PodIP}\r\nUser-Agent: kube-probe/1.33\r\nConnection: close\r\n\r\n"), limit.Token).ConfigureAwait(false);
            var head = new byte[512];
            var length = 0;
            while (length < 12)
            {
                var read = await socket.ReceiveAsync(head.AsMemory(length), limit.Token).ConfigureAwait(false);
                if (read == 0)
                {
                    return "the connection was closed without an answer";
                }

                length += read;
            }

            // "HTTP/1.1 200 OK"
            var status = int.TryParse(Encoding.ASCII.GetString(head, 9, 3), NumberStyles.None, CultureInfo.InvariantCulture, out var code) ? code : 0;
            return status is >= 200 and < 400 ? null : string.Create(CultureInfo.InvariantCulture, $"HTTP probe failed with statuscode: {status}");
        }
        catch (SocketException e)
        {
            return e.Message;
        }
        catch (OperationCanceledException)
        {
            // A kubelet allows three failures in a row. A refusal or a bad status is not a matter of patience, silence may be.
            return pod.IsReady && Patience.Spend(pod.Metadata.Name) ? null : "the probe timed out";
        }
    }

    // How many timeouts in a row a ready pod has had, in this process.
    private static class Patience
    {
        private static readonly Dictionary<string, int> Timeouts = [];

        internal static bool Spend(string pod)
        {
            lock (Timeouts)
            {
                var count = Timeouts.GetValueOrDefault(pod) + 1;
                Timeouts[pod] = count < 3 ? count : 0;
                return count < 3;
            }
        }
    }
}
