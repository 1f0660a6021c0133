using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests;

/// <summary>Looking up what has just changed, in a snapshot made from one that was asked before.</summary>
public class ObjectIndexTests
{
    [Fact]
    public void PodsThatChangeComeAndGo_AreFoundAsTheyAreNow_AndInTheOldSnapshotAsTheyWere()
    {
        var random = new Random(4);
        var pods = Enumerable.Range(0, 20).Select(i => PodOf(i, i)).ToImmutableArray();
        var snapshot = ClusterSnapshot.Empty with { Pods = pods };
        var (kept, keptPods) = (snapshot, pods);
        for (var round = 0; round < 2000; round++)
        {
            var at = random.Next(pods.Length);
            pods = random.Next(5) switch
            {
                0 when pods.Length < 30 => pods.Add(PodOf(100 + round, random.Next(40))),
                1 when pods.Length > 5 => pods.RemoveAt(at),
                2 => pods.SetItem(at, PodOf(random.Next(40), random.Next(40))),
                _ => pods.SetItem(at, pods[at] with { Status = pods[at].Status with { Reason = $"{round}" } }),
            };
            snapshot = snapshot with { Pods = pods };
            Check(snapshot, pods);
            if (round % 97 == 0)
            {
                Check(kept, keptPods);
                (kept, keptPods) = (snapshot, pods);
            }
        }
    }

    private static void Check(ClusterSnapshot snapshot, ImmutableArray<Pod> pods)
    {
        for (var i = 0; i < 40; i++)
        {
            var address = IpAddress.Parse($"10.0.0.{i}");
            snapshot.FindPodByAddress(address).ShouldBeSameAs(pods.FirstOrDefault(p => p.Status.PodIP == $"10.0.0.{i}"));
            snapshot.FindPod("default", $"pod-{i}").ShouldBeSameAs(pods.FirstOrDefault(p => p.Metadata.Name == $"pod-{i}"));
        }

        var service = new Service { Metadata = new ObjectMeta { Name = "s", Namespace = "default" }, Spec = new ServiceSpec { Selector = ImmutableSortedDictionary<string, string>.Empty.Add("app", "a") } };
        snapshot.PodsSelectedBy(service).ShouldBe(pods);
    }

    private static Pod PodOf(int name, int address) => new()
    {
        Metadata = new ObjectMeta { Name = $"pod-{name}", Namespace = "default", Labels = ImmutableSortedDictionary<string, string>.Empty.Add("app", "a") },
        Status = new PodStatus { Phase = "Running", PodIP = $"10.0.0.{address}", PodIPs = [new PodIP($"10.0.0.{address}")] },
    };
}
