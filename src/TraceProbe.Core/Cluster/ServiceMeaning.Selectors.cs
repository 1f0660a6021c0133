using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

public static partial class ServiceMeaning
{
    private const int Unrelated = 100;

    /// <summary>
    /// The pods that come nearest to a selector that matches nothing, and what keeps them from matching; null when the Service has
    /// no selector, when it does match some pod, or when no pod comes near.
    /// </summary>
    /// <remarks>
    /// Pods of the Service's namespace are compared label by label: a value mistyped (<c>my-nginxx</c> for <c>my-nginx</c>), a key
    /// mistyped, a label missing while the others agree. When none is near, pods of another namespace that match it all are named.
    /// </remarks>
    public static NearestLabels? ExplainSelector(ClusterSnapshot snapshot, Service service)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        ArgumentNullException.ThrowIfNull(service);
        var selector = service.Spec.Selector;
        if (selector.IsEmpty || snapshot.PodsSelectedBy(service).Any())
        {
            return null;
        }

        var best = int.MaxValue;
        var pods = new List<Pod>();
        ImmutableArray<LabelDifference> differences = [];
        foreach (var pod in snapshot.Pods)
        {
            if (pod.Metadata.Namespace != service.Metadata.Namespace || pod.Status.Phase is "Succeeded" or "Failed")
            {
                continue;
            }

            var distance = Compare(selector, pod.Metadata.Labels, out var found);
            if (distance < best)
            {
                best = distance;
                differences = found;
                pods = [pod];
            }
            else if (distance == best && found.SequenceEqual(differences))
            {
                pods.Add(pod);
            }
        }

        if (best < Unrelated)
        {
            return new NearestLabels([.. pods], differences, best, false);
        }

        var elsewhere = snapshot.Pods.Where(p => p.Metadata.Namespace != service.Metadata.Namespace && p.Status.Phase is not ("Succeeded" or "Failed")
            && selector.All(want => p.Metadata.Labels.GetValueOrDefault(want.Key) == want.Value)).ToImmutableArray();
        return elsewhere.IsEmpty ? null : new NearestLabels(elsewhere, [], 0, true);
    }

    // The sum of the labels' distances; Unrelated and more when nothing suggests that this pod was meant.
    private static int Compare(ImmutableSortedDictionary<string, string> selector, ImmutableSortedDictionary<string, string> labels, out ImmutableArray<LabelDifference> differences)
    {
        var found = ImmutableArray.CreateBuilder<LabelDifference>();
        var total = 0;
        var agreeing = 0;
        var strangers = 0;
        foreach (var (key, wanted) in selector)
        {
            if (labels.TryGetValue(key, out var value))
            {
                if (value == wanted)
                {
                    agreeing++;
                    continue;
                }

                found.Add(new LabelDifference(key, wanted, key, value));
                if (EditDistance.IsNear(value, wanted))
                {
                    total += EditDistance.Between(value, wanted);
                }
                else
                {
                    strangers++;
                }

                continue;
            }

            // The key itself may be mistyped, or another key may carry the value (app for run).
            string? nearKey = null;
            var nearest = Unrelated;
            foreach (var (otherKey, otherValue) in labels)
            {
                if (selector.ContainsKey(otherKey))
                {
                    continue;
                }

                var distance = otherValue == wanted ? Math.Min(2, EditDistance.Between(otherKey, key))
                    : EditDistance.IsNear(otherKey, key) && EditDistance.IsNear(otherValue, wanted)
                        ? EditDistance.Between(otherKey, key) + EditDistance.Between(otherValue, wanted) : Unrelated;
                if (distance < nearest)
                {
                    (nearest, nearKey) = (distance, otherKey);
                }
            }

            found.Add(new LabelDifference(key, wanted, nearKey, nearKey is null ? null : labels[nearKey]));
            if (nearKey is null)
            {
                strangers++;
            }
            else
            {
                total += nearest;
            }
        }

        differences = found.ToImmutable();
        if (strangers == 0)
        {
            return total;
        }

        // One label far off is still a hint while at least one other agrees, as web/frontend for web/backend.
        return strangers == 1 && agreeing > 0 ? total + 10 : Unrelated + total;
    }
}

/// <summary>The pods that come nearest to a selector.</summary>
/// <param name="Pods">These pods, all with the same differences.</param>
/// <param name="Differences">What keeps them from matching; empty when only their namespace does.</param>
/// <param name="Distance">How far off they are: the edits it takes, 10 more when a label is another word altogether.</param>
/// <param name="InOtherNamespace">Whether they match, but in another namespace than the Service's.</param>
public sealed record NearestLabels(ImmutableArray<Pod> Pods, ImmutableArray<LabelDifference> Differences, int Distance, bool InOtherNamespace);

/// <summary>One label of a selector that a pod does not carry.</summary>
/// <param name="Key">The selector's key.</param>
/// <param name="Wanted">The selector's value.</param>
/// <param name="FoundKey">The pod's key that stands for it: the same, or a similar one; null when the pod has none.</param>
/// <param name="FoundValue">The value there; null when the pod has none.</param>
public sealed record LabelDifference(string Key, string Wanted, string? FoundKey, string? FoundValue)
{
    /// <inheritdoc/>
    public override string ToString()
        => FoundKey is null ? $"no label {Key} (wanted {Key}={Wanted})" : $"{FoundKey}={FoundValue} instead of {Key}={Wanted}";
}
