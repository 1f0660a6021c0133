namespace TraceProbe.Capture.Kernel;

/// <summary>One thing that this machine permits or lacks.</summary>
/// <param name="Name">What it is: a feature, a privilege, a program.</param>
/// <param name="Available">Whether it is there.</param>
/// <param name="Detail">What was found: a version, a number, or why not.</param>
/// <param name="HowToGetIt">What to do when it is missing; null when it is there, or cannot be had on this kernel.</param>
/// <param name="Needed">Whether connections cannot be observed by eBPF without it; otherwise less is seen.</param>
public sealed record Capability(string Name, bool Available, string Detail, string? HowToGetIt = null, bool Needed = false);
