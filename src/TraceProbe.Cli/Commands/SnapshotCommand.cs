using System.CommandLine;
using System.Globalization;
using System.IO.Compression;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe snapshot -o FILE</c>: the cluster's objects as they are now, for <c>--cluster</c>.</summary>
internal static class SnapshotCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var output = new Option<string>("--output", "-o") { Description = "The file, or - for standard output; gzipped when its name ends with .gz.", HelpName = "FILE", Required = true };
        var settings = new SceneSettings();
        var command = new Verb("snapshot", "Save the objects of the cluster that verdicts are made of, as the List that kubectl prints. Every command takes it as --cluster FILE.")
        {
            Examples =
            [
                ("traceprobe snapshot -o cluster.json.gz", "of the kubeconfig's current context"),
                ("traceprobe check --rules dumps/ --cluster cluster.json.gz", "and use it elsewhere"),
            ],
        };
        command.Options.Add(output);
        settings.AddTo(command);
        command.SetAction(parsed =>
        {
            using var interruption = new Interruption();
            var path = parsed.GetRequiredValue(output);
            if (path.Length == 0 || Directory.Exists(path) || !Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(path))))
            {
                throw new OperatorException($"The snapshot cannot be saved as '{path}': that is {(Directory.Exists(path) ? "a folder" : "in no folder that there is")}. Choose another name.", ExitCode.Usage);
            }

            var cluster = settings.LabOf(parsed) is not null ? settings.SceneOf(parsed).ReadObjects()! : Read(settings.ObjectsOf(parsed, onlyAsked: true), settings.ServerOf(parsed), interruption.Token);
            Save(path, cluster);
            foreach (var unread in cluster.Unread)
            {
                CommandLine.Tell($"traceprobe: not in it: {unread.What}: {unread.Why}");
            }

            CommandLine.Tell(string.Create(CultureInfo.InvariantCulture,
                $"traceprobe: saved as {path}: {cluster.Services.Length} services, {cluster.EndpointSlices.Length} endpointslices, {cluster.Pods.Length} pods, {cluster.Nodes.Length} nodes."));
            return ExitCode.Healthy;
        });
        return command;
    }

    private static ClusterSnapshot Read(Func<ClusterSnapshot>? asked, ApiServer? server, CancellationToken cancellation)
    {
        if (asked is not null)
        {
            return asked();
        }

        // Here a server that is not reached is no smaller account but none.
        using var progress = new SlowProgress();
        progress.Doing("reading the cluster's objects");
        using var client = new ApiClient(server ?? throw new OperatorException("There is no cluster to take a snapshot of: give a kubeconfig with --kubeconfig, or in $KUBECONFIG or ~/.kube/config.", ExitCode.Usage));
        return LiveCluster.ReadAsync(client, cancellation).GetAwaiter().GetResult();
    }

    // A file of that name is either the old one or the whole new one. What is empty or a link is written to as it stands: it may be a pipe or
    // a device, whose place a file must not take.
    private static void Save(string path, ClusterSnapshot cluster)
    {
        var isWrittenTo = path == "-" || new FileInfo(path) is { Exists: true } known && (known.Length == 0 || known.LinkTarget is not null);
        var part = isWrittenTo ? null : string.Create(CultureInfo.InvariantCulture, $"{path}.{Environment.ProcessId}.part");
        try
        {
            using (var file = path == "-" ? Console.OpenStandardOutput() : new FileStream(part ?? path, part is null ? FileMode.Create : FileMode.CreateNew, FileAccess.Write))
            {
                var list = ClusterList.Write(cluster);
                if (path.EndsWith(".gz", StringComparison.Ordinal))
                {
                    using var packed = new GZipStream(file, CompressionLevel.Optimal, leaveOpen: true);
                    packed.Write(list.Span);
                }
                else
                {
                    file.Write(list.Span);
                }

                if (part is not null)
                {
                    ((FileStream)file).Flush(flushToDisk: true);
                }
            }

            if (part is not null)
            {
                File.Move(part, path, overwrite: true);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (part is not null)
            {
                File.Delete(part);
            }

            throw new OperatorException($"The snapshot could not be saved as {path}: {e.Message}", e);
        }
    }
}
