using System.Collections.Immutable;
using System.CommandLine;
using System.Globalization;
using TraceProbe.Agent.Sessions;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe observe</c>: follow the next real connection in place of making one.</summary>
internal static class ObserveCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var to = new Option<string?>("--to") { Description = "svc/NAME, svc/NAME:PORT, ADDRESS or ADDRESS:PORT; any TCP connection without it.", HelpName = "TARGET" };
        var settings = new SessionSettings();
        var command = new Verb("observe", "Wait for the next real connection of the client, follow it, and say why it fails. Nothing is sent.")
        {
            Examples = [("sudo traceprobe observe --from pod/ubuntu --to svc/my-nginx --timeout 1m", "the next connection of pod ubuntu to Service my-nginx")],
        };
        command.Options.Add(to);
        settings.AddTo(command, resolves: false, reports: true, waits: true);
        command.SetAction(parsed =>
        {
            using var interruption = new Interruption();
            using var progress = new SlowProgress();
            var options = settings.Options(parsed, progress.Doing, waits: true);
            var recording = TraceSession.Observe(options, cluster => Targets(parsed.GetValue(to), settings.NamespaceOf(parsed), cluster), interruption.Token)
                ?? throw new OperatorException(string.Create(CultureInfo.InvariantCulture,
                    $"No connection from {options.Client.Name}{(parsed.GetValue(to) is { } target ? $" to {target}" : "")} began {(interruption.Token.IsCancellationRequested ? "before this was interrupted" : $"within {options.Timeout.TotalSeconds:0.###} s")}. Give it longer with --timeout, or make one with 'traceprobe trace'."),
                    ExitCode.Undetermined);
            return settings.Report(parsed, recording);
        });
        return command;
    }

    /// <summary>The destinations that a text stands for.</summary>
    internal static ImmutableArray<ObservationTarget> Targets(string? to, string ns, ClusterSnapshot? cluster)
    {
        if (to is null)
        {
            return [];
        }

        if (AddressPort.TryParse(to, out var both))
        {
            return [new ObservationTarget(both.Address, both.Port)];
        }

        if (IpAddress.TryParse(to, null, out var address))
        {
            return [new ObservationTarget(address)];
        }

        if (!to.StartsWith("svc/", StringComparison.Ordinal) || to.Length == "svc/".Length)
        {
            throw new OperatorException($"'{to}' is no target; give svc/NAME, svc/NAME:PORT, ADDRESS or ADDRESS:PORT.", ExitCode.Usage);
        }

        if (cluster is null)
        {
            throw new OperatorException($"To know the addresses of {to}, the cluster's objects are needed: --kubeconfig FILE, --cluster FILE, or a lab.", ExitCode.Usage);
        }

        var name = to["svc/".Length..];
        ushort? port = null;
        if (name.LastIndexOf(':') is > 0 and var colon)
        {
            port = ushort.TryParse(name.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number > 0
                ? number
                : throw new OperatorException($"'{name[(colon + 1)..]}' is not a port; ports are 1 to 65535.", ExitCode.Usage);
            name = name[..colon];
        }

        var service = cluster.FindService(ns, name);
        if (service is null)
        {
            var near = NearestNames.Of(name, cluster.Services.Where(s => s.Metadata.Namespace == ns).Select(s => s.Metadata.Name));
            throw new OperatorException($"There is no Service {name} in namespace {ns}.{(near.IsEmpty ? "" : $" The nearest: {string.Join(", ", near)}.")}", ExitCode.Usage);
        }

        var ports = service.Spec.Ports.Where(p => port is null || p.Port == port).ToList();
        if (ports.Count == 0)
        {
            throw new OperatorException($"Service {name} has no port {port}; it has {string.Join(", ", service.Spec.Ports.Select(p => p.Port))}.", ExitCode.Usage);
        }

        // Without an address of its own (headless), the connections go to the pods themselves.
        var addresses = ServiceMeant.AddressesOf(service);
        return addresses.IsEmpty
            ? [.. cluster.SlicesOf(service).SelectMany(s => s.Endpoints.SelectMany(e => e.Addresses.Take(1)).SelectMany(a => IpAddress.TryParse(a, null, out var pod) ? s.Ports.Select(p => Of(pod, p.Port ?? 0, p.Protocol)) : []))]
            : [.. addresses.SelectMany(a => ports.Select(p => Of(a, p.Port, p.Protocol)))];

        static ObservationTarget Of(IpAddress address, int port, string protocol) => new(address, port is > 0 and <= ushort.MaxValue ? (ushort)port : (ushort)0, protocol switch
        {
            "UDP" => IpProtocol.Udp,
            "SCTP" => IpProtocol.Sctp,
            _ => IpProtocol.Tcp,
        });
    }
}
