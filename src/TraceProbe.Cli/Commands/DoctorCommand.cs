using System.CommandLine;
using System.Text.Json;
using TraceProbe.Capture.Kernel;
using TraceProbe.Capture.Pcap;
using TraceProbe.Cli.Output;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe doctor</c>: what this machine permits, and what is missing.</summary>
internal static class DoctorCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var output = new Option<string>("--output", "-o") { Description = "text or json.", HelpName = "FORM", DefaultValueFactory = _ => "text" };
        output.AcceptOnlyFromAmong("text", "json");
        var command = new Verb("doctor", "Tell what this machine permits, what is missing, and how to get it. Changes nothing.")
        {
            Examples =
            [
                ("sudo traceprobe doctor", "before the first trace on a node"),
                ("sudo traceprobe doctor --proxy ipvs", "whether a lab in IPVS mode can be built here, too"),
            ],
        };
        var proxy = LabCommand.ModeOption("Tell also what a lab needs whose kube-proxy works in this mode, as 'lab up' takes it.");
        command.Options.Add(output);
        command.Options.Add(proxy);
        command.SetAction(parsed =>
        {
            var found = KernelFeatures.Probe();
            var byEbpf = KernelFeatures.CanObserve(found);
            var obstacle = PacketSource.FindObstacle();
            var source = byEbpf ? "ebpf" : obstacle is null ? "libpcap" : null;
            var needs = parsed.GetValue(proxy) is { } mode ? Lab.Lab.Needs(LabCommand.ModeOf(mode)) : [];
            found = [.. found, .. needs.Select(n => new Capability($"lab: {n.Name}", n.Available, n.Detail, n.Remedy, Needed: true))];
            if (parsed.GetValue(output) == "json")
            {
                WriteJson(found, source, obstacle);
            }
            else
            {
                Console.Out.Write(Text(found, source, obstacle, CommandLine.Style(parsed)));
            }

            return source is null || needs.Any(n => !n.Available) ? ExitCode.CouldNotWork : ExitCode.Healthy;
        });
        return command;
    }

    internal static string Text(IReadOnlyList<Capability> found, string? source, string? obstacle, TextStyle style)
    {
        var page = new Page(style);
        switch (source)
        {
            case "ebpf":
                page.Paragraph("Requests can be followed here, by eBPF.", 0, Ink.Good);
                break;
            case "libpcap":
                page.Paragraph("Requests can be followed here by libpcap only: packets, without processes, sockets and the kernel's reasons for drops.", 0, Ink.Warn);
                break;
            default:
                page.Paragraph("Requests cannot be followed here.", 0, Ink.Bad);
                break;
        }

        page.Blank();
        var width = found.Max(c => c.Name.Length);
        foreach (var capability in found)
        {
            var (mark, ink) = (capability.Available, capability.Needed) switch { (true, _) => ("yes", Ink.Good), (_, true) => ("NO", Ink.Bad), _ => ("no", Ink.Warn) };
            page.Row(2, new Cell(mark, 3, ink), new Cell(capability.Name, width), new Cell(capability.Detail, 0, Ink.Dim));
            if (capability is { Available: false, HowToGetIt: { } remedy })
            {
                page.Row(2, new Cell("", 3), new Cell("", width), new Cell(remedy));
            }
        }

        page.Row(2, new Cell(obstacle is null ? "yes" : "no", 3, obstacle is null ? Ink.Good : Ink.Warn), new Cell("packet capture", width), new Cell(obstacle ?? "permitted in this network namespace", 0, Ink.Dim));
        return page.ToString();
    }

    private static void WriteJson(IReadOnlyList<Capability> found, string? source, string? obstacle)
    {
        using var output = Console.OpenStandardOutput();
        using (var writer = new Utf8JsonWriter(output, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            writer.WriteStartObject();
            writer.WriteNumber("version", 1);
            if (source is not null)
            {
                writer.WriteString("source", source);
            }

            if (obstacle is not null)
            {
                writer.WriteString("packetCaptureObstacle", obstacle);
            }

            writer.WriteStartArray("capabilities");
            foreach (var capability in found)
            {
                writer.WriteStartObject();
                writer.WriteString("name", capability.Name);
                writer.WriteBoolean("available", capability.Available);
                writer.WriteBoolean("needed", capability.Needed);
                writer.WriteString("detail", capability.Detail);
                if (capability.HowToGetIt is not null)
                {
                    writer.WriteString("remedy", capability.HowToGetIt);
                }

                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        output.WriteByte((byte)'\n');
    }
}
