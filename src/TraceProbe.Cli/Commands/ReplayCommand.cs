using System.CommandLine;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe replay FILE</c>: the same verdict again, offline.</summary>
internal static class ReplayCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var path = new Argument<string>("FILE") { Description = "A recording: a folder or a .tprec file, as --save writes them." };
        var output = OutputOption.Create();
        var command = new Verb("replay", "Diagnose a saved recording again. Needs no privileges and no cluster; the same recording gives the same verdict, byte for byte.")
        {
            Examples =
            [
                ("traceprobe replay failure.tprec", "tell the verdict of a recording"),
                ("traceprobe replay failure.tprec -o json | jq .verdict.class", "only its class, for a script"),
                ("traceprobe replay failure.tprec -o pcapng > packets.pcapng", "its packets, for Wireshark"),
            ],
        };
        command.Arguments.Add(path);
        command.Options.Add(output);
        command.SetAction(parsed =>
        {
            var saved = RecordingArchive.Read(parsed.GetRequiredValue(path));
            var report = Diagnose.Run(saved.Recording);
            ReportOutput.Write(saved.Recording, report, parsed.GetValue(output), CommandLine.Style(parsed));
            if (saved.Verdict is { } verdict && !verdict.Span.SequenceEqual(ReportJson.Write(report)))
            {
                Console.Error.WriteLine("traceprobe: the verdict saved in this recording reads otherwise: it was made by another version of TraceProbe.");
            }

            return ReportOutput.ExitCodeOf(report);
        });
        return command;
    }
}
