using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>
/// Follows a lab's objects for as long as the lab is there: what a real cluster's controllers, kubelets and kube-proxies do is one
/// process here. Objects are looked at every 100 ms, pods are probed every 500 ms. Its API server is in it too.
/// </summary>
public static class LabController
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(100);
    private const int PeriodsPerProbe = 5;
    // kube-proxy's syncPeriod: it writes everything again, which also ends what had to keep its connections.
    private const int PeriodsPerSync = 300;

    /// <summary>Runs until the lab is gone or the token is cancelled.</summary>
    /// <param name="name">The lab's name.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public static async Task RunAsync(string name, CancellationToken cancellationToken = default)
    {
        var folder = new LabFolder(name);
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var serving = Api.LabApi.RunAsync(folder, ended.Token);
        await FollowAsync(folder, cancellationToken).ConfigureAwait(false);
        await ended.CancelAsync().ConfigureAwait(false);
        await serving.ConfigureAwait(false);
    }

    private static async Task FollowAsync(LabFolder folder, CancellationToken cancellationToken)
    {
        var seen = "";
        var failure = "";
        var cluster = ClusterSnapshot.Empty;
        for (var period = 0; !cancellationToken.IsCancellationRequested; period++)
        {
            var record = folder.ReadRecord();
            if (record is null)
            {
                return;
            }

            if (record.Up)
            {
                try
                {
                    using (folder.Lock())
                    {
                        var now = folder.Objects.Fingerprint();
                        var reconciler = new Reconciler(folder, record);
                        var again = record.Proxy == ProxyMode.Ipvs && period % PeriodsPerSync == PeriodsPerSync - 1;
                        if (now != seen || again || (period % PeriodsPerProbe == 0 && reconciler.Probe(cluster)))
                        {
                            cluster = reconciler.Round(probe: true, forceRules: again);
                            seen = folder.Objects.Fingerprint();
                        }
                    }

                    failure = "";
                }
                catch (Exception e) when (e is LabException or IOException)
                {
                    if (folder.ReadRecord() is null)
                    {
                        return;
                    }

                    // An object that somebody is just editing by hand may be unreadable; say it once and look again.
                    if (e.Message != failure)
                    {
                        failure = e.Message;
                        await Console.Error.WriteLineAsync(failure).ConfigureAwait(false);
                    }
                }
            }

            try
            {
                await Task.Delay(Period, cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }
}
