using System.Collections.Immutable;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Lab;

/// <summary>
/// One way to break a lab: what it does, what a client then sees, how it is brought about, undone, and told from the lab's state. Its
/// name is that of the failure class that it makes; where several ways lead to one class, each is a variant of it.
/// </summary>
public sealed class Fault
{
    /// <param name="name">The failure class it makes.</param>
    /// <param name="description">What it does.</param>
    /// <param name="symptom">What a client then sees.</param>
    /// <param name="make">Brings it about; rounds of the controllers follow.</param>
    /// <param name="undo">Undoes it; rounds of the controllers follow.</param>
    /// <param name="holds">Whether it is so now. Asked of the lab's state and not of a note about it: a fault mended by other means is mended.</param>
    internal Fault(string name, string description, string symptom, Action<Bench> make, Action<Bench> undo, Func<Bench, bool> holds)
    {
        Name = name;
        Description = description;
        Symptom = symptom;
        Make = make;
        Undo = undo;
        Holds = holds;
    }

    /// <summary>The failure class it makes, by its kebab-case name.</summary>
    public string Name { get; }

    /// <summary>What sets it apart from other ways to the same class; null when there is but one, or this is the plain one.</summary>
    public string? Variant { get; internal init; }

    /// <summary>What it does, in a sentence.</summary>
    public string Description { get; }

    /// <summary>What a client then sees, in a sentence.</summary>
    public string Symptom { get; }

    /// <summary>A request that meets it.</summary>
    public string Url { get; internal init; } = "http://my-nginx:8080";

    /// <summary>Where that request comes from.</summary>
    public string From { get; internal init; } = "pod/ubuntu";

    /// <summary>Whether only a program with musl's resolver meets it.</summary>
    public bool IsMusl { get; internal init; }

    /// <summary>Another name that it is found by; null when it has none.</summary>
    public string? Alias { get; internal init; }

    /// <summary>The failure class it makes.</summary>
    public FailureClass Class => FailureClassInfo.Find(Name)!.Class;

    internal Action<Bench> Make { get; }

    internal Action<Bench> Undo { get; }

    internal Func<Bench, bool> Holds { get; }

    /// <summary>Why it cannot be in a mode of kube-proxy's, in a few words; null where it can.</summary>
    internal Func<ProxyMode, string?> Lacks { get; init; } = static _ => null;

    /// <summary>Why it cannot be in a mode of kube-proxy's, in a few words; null where it can.</summary>
    /// <param name="mode">The mode.</param>
    public string? WhyNotIn(ProxyMode mode) => Lacks(mode);

    /// <summary>All faults, in the packet's order from the name to the server.</summary>
    public static ImmutableArray<Fault> All { get; } = [.. ResolveFaults.All, .. DefineFaults.All, .. TranslateFaults.All, .. DeliverFaults.All, .. AcceptFaults.All, .. ExchangeFaults.All];

    /// <summary>The fault of that name.</summary>
    /// <param name="name">A failure class or another name of the fault.</param>
    /// <param name="variant">Which of several; null for the plain one.</param>
    /// <exception cref="LabException">There is none.</exception>
    public static Fault Find(string name, string? variant = null)
    {
        if (variant is null && All.FirstOrDefault(f => f.Alias == name) is { } aliased)
        {
            return aliased;
        }

        var named = All.Where(f => f.Name == name).ToImmutableArray();
        return named.IsEmpty ? throw new LabException($"There is no fault named '{name}'. There are: {string.Join(", ", All.Select(f => f.Name).Distinct())}.")
            : (variant is null ? named.FirstOrDefault(f => f.Variant is null) ?? named[0] : named.FirstOrDefault(f => f.Variant == variant))
                ?? throw new LabException(named.All(f => f.Variant is null) ? $"Fault {name} has no variants."
                    : $"Fault {name} has no variant '{variant}'. There are: {string.Join(", ", named.Select(f => f.Variant).Where(v => v is not null))}.");
    }

    /// <summary>The name, and the variant when it has one, as they are given on the command line.</summary>
    public override string ToString() => Variant is null ? Name : $"{Name} --variant {Variant}";
}
