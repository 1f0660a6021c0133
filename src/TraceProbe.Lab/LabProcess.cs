namespace TraceProbe.Lab;

/// <summary>
/// The lab's own long-lived processes. They are this program again, started with a word that people do not type; a program that
/// makes labs gives its arguments here before it looks at them itself.
/// </summary>
public static class LabProcess
{
    internal const string ControllerVerb = "lab-controller";
    internal const string ProxyVerb = "lab-proxy";
    internal const string DnsVerb = "lab-dns";
    internal const string HostnamesVerb = "lab-hostnames";

    /// <summary>Runs the process that the arguments name, to its end.</summary>
    /// <param name="args">The program's arguments.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The exit code; null when the arguments are not for us.</returns>
    public static async Task<int?> RunAsync(IReadOnlyList<string> args, CancellationToken cancellationToken = default)
    {
        switch (args)
        {
            case [ControllerVerb, "--name", var name]:
                await LabController.RunAsync(name, cancellationToken).ConfigureAwait(false);
                return 0;
            // What follows are kube-proxy's own flags, for whoever looks at its command line.
            case [ProxyVerb, "--name", var name, "--node", var node, ..]:
                KubeProxy.Run(name, node, cancellationToken);
                return 0;
            case [HostnamesVerb, "--name", var name, "--pod", var pod]:
                Hostnames.Run(name, pod, cancellationToken);
                return 0;
            case [DnsVerb, "--name", var name, "--pod", var pod]:
                DnsRelay.Run(name, pod, cancellationToken);
                return 0;
            default:
                return null;
        }
    }
}
