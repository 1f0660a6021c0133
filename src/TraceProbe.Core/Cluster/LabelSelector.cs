using System.Collections.Immutable;

namespace TraceProbe.Core.Cluster;

/// <summary>A metav1.LabelSelector: all of its labels and expressions must hold; an empty one selects everything.</summary>
public sealed record LabelSelector
{
    /// <summary>Labels that must be there with these values.</summary>
    public ImmutableSortedDictionary<string, string> MatchLabels { get; init => field = value ?? ImmutableSortedDictionary<string, string>.Empty; } = ImmutableSortedDictionary<string, string>.Empty;

    /// <summary>Further conditions.</summary>
    public ImmutableArray<LabelExpression> MatchExpressions { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether it selects everything.</summary>
    public bool IsEmpty => MatchLabels.IsEmpty && MatchExpressions.IsEmpty;

    /// <summary>Whether these labels satisfy it.</summary>
    /// <param name="labels">An object's labels.</param>
    /// <returns>Null when an operator is not known, and the rest of the selector does not decide.</returns>
    public bool? Matches(ImmutableSortedDictionary<string, string> labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        foreach (var (key, wanted) in MatchLabels)
        {
            if (!labels.TryGetValue(key, out var value) || value != wanted)
            {
                return false;
            }
        }

        bool? all = true;
        foreach (var expression in MatchExpressions)
        {
            switch (expression.Matches(labels))
            {
                case false:
                    return false;
                case null:
                    all = null;
                    break;
            }
        }

        return all;
    }

    /// <summary>As kubectl writes selectors: <c>app=web,tier in (a, b),!canary</c>; <c>everything</c> for the empty one.</summary>
    public override string ToString() => IsEmpty ? "everything"
        : string.Join(',', MatchLabels.Select(l => $"{l.Key}={l.Value}").Concat(MatchExpressions.Select(e => e.ToString())));
}

/// <summary>A metav1.LabelSelectorRequirement.</summary>
public sealed record LabelExpression
{
    /// <summary>The label's key.</summary>
    public string Key { get; init => field = value ?? ""; } = "";

    /// <summary>In, NotIn, Exists or DoesNotExist.</summary>
    public string Operator { get; init => field = value ?? ""; } = "";

    /// <summary>The values of In and NotIn.</summary>
    public ImmutableArray<string> Values { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>Whether these labels satisfy it (apimachinery's labels.Requirement: a label that is absent is not in any list); null for an unknown operator.</summary>
    public bool? Matches(ImmutableSortedDictionary<string, string> labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        var value = labels.GetValueOrDefault(Key);
        return Operator switch
        {
            "In" => value is not null && Values.Contains(value),
            "NotIn" => value is null || !Values.Contains(value),
            "Exists" => value is not null,
            "DoesNotExist" => value is null,
            _ => null,
        };
    }

    /// <inheritdoc/>
    public override string ToString() => Operator switch
    {
        "In" => $"{Key} in ({string.Join(", ", Values)})",
        "NotIn" => $"{Key} notin ({string.Join(", ", Values)})",
        "Exists" => Key,
        "DoesNotExist" => $"!{Key}",
        _ => $"{Key} {Operator} ({string.Join(", ", Values)})",
    };
}
