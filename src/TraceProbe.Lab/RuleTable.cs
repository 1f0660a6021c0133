namespace TraceProbe.Lab;

/// <summary>
/// One table's worth of rules in the words of <c>iptables-save</c>, whose order of matches <c>iptables-restore</c> accepts too; so
/// what is written can be compared with what the kernel gives back.
/// </summary>
internal sealed class RuleTable(string name)
{
    internal string Name => name;

    /// <summary>The chains the writer owns, in the order they are declared.</summary>
    internal List<string> Chains { get; } = [];

    /// <summary>The rules of those chains: <c>-A CHAIN …</c>.</summary>
    internal List<string> Rules { get; } = [];

    /// <summary>The rules wanted in built-in chains, in their order there: <c>-A PREROUTING …</c>. Others' rules there are left alone.</summary>
    internal List<string> Jumps { get; } = [];

    internal void Add(string chain, string rule) => Rules.Add($"-A {chain} {rule}");
}
