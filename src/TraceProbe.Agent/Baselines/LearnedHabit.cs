using System.Globalization;
using System.Text.Json.Serialization;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Baselines;

/// <summary>
/// What one property of healthy journeys usually is, such as the resolver that answers or who it is that accepts. A value that was never seen in many journeys and is in
/// half of the last ten is a change, and from then on usual too: what goes to and fro between two values is told once.
/// </summary>
public sealed class LearnedHabit
{
    /// <summary>From how many journeys on a value that is new says something: then five of ten come together by chance less than once in three hundred times (rule of three).</summary>
    public const int Enough = 30;

    /// <summary>The most values that are known.</summary>
    public const int MostKnown = 16;

    private const int Window = 10;
    private const int OtherInWindow = 5;

    private readonly Queue<string> _last = new();

    /// <summary>The stage.</summary>
    public required Stage Stage { get; init; }

    /// <summary>The property, as <see cref="StageFact.Name"/> has it.</summary>
    public required string Name { get; init; }

    /// <summary>The values that are usual, the latest last.</summary>
    public IList<string> Known { get; init; } = [];

    /// <summary>In how many journeys it was one of them.</summary>
    public long Seen { get; set; }

    /// <summary>Whether what was read makes sense.</summary>
    [JsonIgnore]
    internal bool IsValid => Name.Length > 0 && Enum.IsDefined(Stage) && Known.Count is > 0 and <= MostKnown && Seen > 0;

    /// <summary>Takes its value in one more journey.</summary>
    /// <returns>What has changed, with the reason to say so; null when nothing has.</returns>
    internal string? Learn(string value)
    {
        _last.Enqueue(value);
        if (_last.Count > Window)
        {
            _last.Dequeue();
        }

        if (Known.Contains(value))
        {
            Seen++;
            return null;
        }

        var others = _last.Count(v => v == value);
        var isChange = Known.Count > 0 && Seen >= Enough;
        if (isChange && others < OtherInWindow)
        {
            return null;
        }

        // Before enough is known, whatever comes is usual.
        var (before, journeys, of) = (Known.LastOrDefault(), Seen, _last.Count);
        if (Known.Count == MostKnown)
        {
            Known.RemoveAt(0);
        }

        Known.Add(value);
        Seen += others;
        return isChange ? string.Create(CultureInfo.InvariantCulture, $"{Name}: {value} in {others} of the last {of} journeys that were followed, and in none of {journeys} before; usual was {before}.") : null;
    }
}
