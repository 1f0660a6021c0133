namespace TraceProbe.Core.Cluster;

/// <summary>How many slips of the finger lie between two words.</summary>
public static class EditDistance
{
    /// <summary>
    /// The optimal string alignment distance: inserted, missing, wrong characters and swapped neighbours count one each. Names of
    /// Kubernetes objects have at most 253 characters; longer input is cut there.
    /// </summary>
    public static int Between(ReadOnlySpan<char> left, ReadOnlySpan<char> right)
    {
        left = left[..Math.Min(left.Length, 253)];
        right = right[..Math.Min(right.Length, 253)];
        Span<int> twoBack = stackalloc int[right.Length + 1];
        Span<int> oneBack = stackalloc int[right.Length + 1];
        Span<int> row = stackalloc int[right.Length + 1];
        for (var j = 0; j <= right.Length; j++)
        {
            oneBack[j] = j;
        }

        for (var i = 1; i <= left.Length; i++)
        {
            row[0] = i;
            for (var j = 1; j <= right.Length; j++)
            {
                var same = left[i - 1] == right[j - 1] ? 0 : 1;
                var best = Math.Min(Math.Min(oneBack[j] + 1, row[j - 1] + 1), oneBack[j - 1] + same);
                if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1])
                {
                    best = Math.Min(best, twoBack[j - 2] + 1);
                }

                row[j] = best;
            }

            var reused = twoBack;
            twoBack = oneBack;
            oneBack = row;
            row = reused;
        }

        return oneBack[right.Length];
    }

    /// <summary>
    /// Whether one can be taken for the other: a third of the longer word may differ, at most three characters and at least one,
    /// or one contains the other as a whole part between dashes or dots (<c>nginx</c> and <c>my-nginx</c>).
    /// </summary>
    public static bool IsNear(string left, string right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        return Between(left, right) <= Math.Clamp(Math.Max(left.Length, right.Length) / 3, 1, 3) || IsPart(left, right) || IsPart(right, left);
    }

    private static bool IsPart(string whole, string part)
    {
        if (part.Length < 3)
        {
            return false;
        }

        var at = whole.IndexOf(part, StringComparison.Ordinal);
        return at >= 0 && (at == 0 || whole[at - 1] is '-' or '.') && (at + part.Length == whole.Length || whole[at + part.Length] is '-' or '.');
    }
}
