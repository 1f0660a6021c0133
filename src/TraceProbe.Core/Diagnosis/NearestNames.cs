using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Diagnosis;

/// <summary>Finds what somebody probably meant.</summary>
public static class NearestNames
{
    /// <summary>The existing names that what was written can be taken for, nearest first, three at most.</summary>
    /// <param name="name">What was written.</param>
    /// <param name="existing">What there is.</param>
    public static ImmutableArray<string> Of(string name, IEnumerable<string> existing)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(existing);
        return [.. existing.Distinct().Where(e => EditDistance.IsNear(name, e))
            .OrderBy(e => EditDistance.Between(name, e)).ThenBy(e => e, StringComparer.Ordinal).Take(3)];
    }
}
