namespace TraceProbe.Lab;

/// <summary>A set of the kernel's ip_set, as <c>ipset</c> names its parts.</summary>
/// <param name="Name">Its name, at most 31 characters.</param>
/// <param name="Type">Its type: <c>hash:ip,port</c>, <c>bitmap:port</c>.</param>
/// <param name="Family"><c>inet</c> or <c>inet6</c>; a bitmap of ports has none.</param>
/// <param name="Comment">What rules that ask it say of it.</param>
internal sealed record IpSet(string Name, string Type, string Family, string Comment)
{
    /// <summary>Its entries: <c>10.96.0.1,tcp:443</c>.</summary>
    internal SortedSet<string> Entries { get; } = new(StringComparer.Ordinal);

    /// <summary>The line for <c>ipset restore</c> that makes it (kubernetes, pkg/proxy/ipvs/ipset/ipset.go, createSet).</summary>
    internal string Creation => Type == "bitmap:port"
        ? $"create {Name} {Type} range 0-65535 -exist"
        : $"create {Name} {Type} family {Family} hashsize 1024 maxelem 65536 -exist";
}
