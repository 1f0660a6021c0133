using System.Globalization;

namespace TraceProbe.Lab;

/// <summary>When a node's rules of one family were last brought up to date, and when a change was last queued for them.</summary>
internal readonly record struct ProxySync(DateTimeOffset Synced, DateTimeOffset Queued);

/// <summary>What a node's kube-proxy tells of its rules, by address family. The rules' writer keeps it; who writes holds the lab's lock.</summary>
internal static class ProxySyncs
{
    /// <summary>What is kept, by <c>IPv4</c> and <c>IPv6</c>.</summary>
    internal static SortedDictionary<string, ProxySync> Read(LabFolder lab, string node)
    {
        var syncs = new SortedDictionary<string, ProxySync>(StringComparer.Ordinal);
        if (File.Exists(PathOf(lab, node)))
        {
            foreach (var words in File.ReadLines(PathOf(lab, node)).Select(l => l.Split(' ')))
            {
                syncs[words[0]] = new ProxySync(Time(words[1]), Time(words[2]));
            }
        }

        return syncs;
    }

    /// <summary>A change was queued, unless one waits already.</summary>
    internal static void Queue(LabFolder lab, string node, bool ipv6) => Change(lab, node, ipv6, s => s.Queued > s.Synced ? s : s with { Queued = Later(s.Synced) });

    /// <summary>The rules are up to date.</summary>
    internal static void Sync(LabFolder lab, string node, bool ipv6) => Change(lab, node, ipv6, s => s with { Synced = Later(s.Queued) });

    private static void Change(LabFolder lab, string node, bool ipv6, Func<ProxySync, ProxySync> change)
    {
        var syncs = Read(lab, node);
        var family = ipv6 ? "IPv6" : "IPv4";
        syncs[family] = change(syncs.GetValueOrDefault(family, new ProxySync(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch)));
        Files.Replace(PathOf(lab, node), string.Concat(syncs.Select(s => string.Create(CultureInfo.InvariantCulture, $"{s.Key} {s.Value.Synced:O} {s.Value.Queued:O}\n"))));
    }

    // Now; but what comes after another is a millisecond later, whatever the clock says.
    private static DateTimeOffset Later(DateTimeOffset than) => TimeProvider.System.GetUtcNow() is var now && now > than.AddMilliseconds(1) ? now : than.AddMilliseconds(1);

    private static DateTimeOffset Time(string text) => DateTimeOffset.ParseExact(text, "O", CultureInfo.InvariantCulture);

    private static string PathOf(LabFolder lab, string node) => $"{lab.PlaceFolder(node)}/kube-proxy.syncs";
}
