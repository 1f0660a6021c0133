using System.Collections.Immutable;

namespace TraceProbe.Lab;

public sealed partial class Lab
{
    /// <summary>The faults that hold now.</summary>
    public ImmutableArray<Fault> ActiveFaults
    {
        get
        {
            var bench = NewBench();
            return [.. Fault.All.Where(f => WhyNot(f) is null && f.Holds(bench))];
        }
    }

    /// <summary>Why a fault cannot be in this lab, in a few words; null when it can.</summary>
    /// <param name="fault">The fault.</param>
    public string? WhyNot(Fault fault)
    {
        ArgumentNullException.ThrowIfNull(fault);
        return fault.WhyNotIn(_record.Proxy);
    }

    /// <summary>Breaks the lab in one way. Its effect is there when this returns.</summary>
    /// <param name="fault">The fault's name.</param>
    /// <param name="variant">Which variant; null for the plain one.</param>
    /// <exception cref="LabException">There is no such fault, or it cannot be brought about now.</exception>
    public void Break(string fault, string? variant = null) => Break(Fault.Find(fault, variant));

    /// <inheritdoc cref="Break(string, string?)"/>
    public void Break(Fault fault)
    {
        if (WhyNot(fault) is { } why)
        {
            throw new LabException($"Fault {fault} cannot be in this lab: {why}.");
        }

        using var held = _folder.Lock();
        if (!fault.Holds(NewBench()))
        {
            fault.Make(NewBench());
            Settle();
        }
    }

    /// <summary>Mends the faults of one name, or all that hold. Its effect is there when this returns.</summary>
    /// <param name="fault">The fault's name; null for all.</param>
    /// <param name="variant">Which variant; null for all of that name.</param>
    /// <returns>The faults that were mended.</returns>
    /// <exception cref="LabException">There is no such fault.</exception>
    public ImmutableArray<Fault> Mend(string? fault = null, string? variant = null)
    {
        var meant = fault is null ? Fault.All
            : Fault.Find(fault, variant) is var found && variant is null && found.Alias != fault ? [.. Fault.All.Where(f => f.Name == found.Name)] : [found];
        using var held = _folder.Lock();
        var mended = new List<Fault>();
        // One fault may hide another (a deleted Service selects nobody, pods that are gone have no labels), so what holds is asked again
        // before each, and once more at the end.
        foreach (var one in meant.Concat(meant))
        {
            if (!mended.Contains(one) && WhyNot(one) is null && one.Holds(NewBench()))
            {
                mended.Add(one);
                one.Undo(NewBench());
                // The controllers follow first: a file that they write anew would otherwise look like another variant's work.
                new Reconciler(_folder, _record).Round();
            }
        }

        if (fault is null)
        {
            // What a mend of another kind has left, such as a port that was added beside a wrong one.
            NewBench().RestoreObjects();
        }

        if (mended.Count > 0 || fault is null)
        {
            Settle();
        }

        return [.. mended];
    }

    private Bench NewBench() => new(_folder, _record);

    // Until what was changed has taken effect: probes have run, servers that were started answer.
    private void Settle()
    {
        var reconciler = new Reconciler(_folder, _record);
        var bench = NewBench();
        for (var attempt = 0; attempt < 100; attempt++)
        {
            var cluster = reconciler.Round(probe: true);
            if (cluster.Pods.All(p => p.IsReady || !bench.ShouldBeReady(p)))
            {
                return;
            }

            Thread.Sleep(20);
        }
    }
}
