using System.Text;
using TraceProbe.Capture.PcapNg;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Output;

/// <summary>Writes a report to standard output in the form asked for.</summary>
internal static class ReportOutput
{
    /// <summary>Writes it.</summary>
    public static void Write(Recording recording, Report report, OutputFormat format, TextStyle style)
    {
        using var output = Console.OpenStandardOutput();
        output.Write(Of(recording, report, format, style));
    }

    /// <summary>The report's bytes.</summary>
    public static byte[] Of(Recording recording, Report report, OutputFormat format, TextStyle style)
    {
        switch (format)
        {
            case OutputFormat.Json:
                return ReportJson.Write(report);
            case OutputFormat.Pcapng:
                using (var packets = new MemoryStream())
                {
                    WritePackets(packets, recording);
                    return packets.ToArray();
                }

            default:
                return Encoding.UTF8.GetBytes(TextReport.Write(report, style));
        }
    }

    /// <summary>Writes the packets of a recording as pcapng.</summary>
    public static void WritePackets(Stream stream, Recording recording)
    {
        var manifest = recording.Manifest;
        using var packets = new PcapNgWriter(stream, netNs => manifest.Places.FirstOrDefault(p => p.NetNs == netNs)?.Name ?? "", manifest.Clock.WallAt(0));
        foreach (var e in recording.Events)
        {
            packets.Write(e);
        }
    }

    /// <summary>The exit code that a report's verdict stands for.</summary>
    public static int ExitCodeOf(Report report) => report.Verdict.Class switch
    {
        FailureClass.Healthy => ExitCode.Healthy,
        FailureClass.Undetermined => ExitCode.Undetermined,
        _ => ExitCode.Failure,
    };
}
