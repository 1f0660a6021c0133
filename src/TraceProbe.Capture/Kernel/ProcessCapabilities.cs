using System.Globalization;

namespace TraceProbe.Capture.Kernel;

/// <summary>Capabilities we care about, numbered as in <c>include/uapi/linux/capability.h</c>.</summary>
internal enum LinuxCapability
{
    CAP_NET_ADMIN = 12,
    CAP_NET_RAW = 13,
    CAP_SYS_PTRACE = 19,
    CAP_SYS_ADMIN = 21,
    CAP_SYS_RESOURCE = 24,
    CAP_PERFMON = 38,
    CAP_BPF = 39,
}

/// <summary>The effective capabilities of the calling thread (capabilities(7)).</summary>
internal readonly struct ProcessCapabilities(ulong effective)
{
    /// <summary>What loading the observation programs takes; CAP_SYS_ADMIN stands for both.</summary>
    public static ReadOnlySpan<LinuxCapability> ForObserving => [LinuxCapability.CAP_BPF, LinuxCapability.CAP_PERFMON];

    /// <summary>Of this thread, now.</summary>
    public static ProcessCapabilities Current
    {
        get
        {
            foreach (var line in File.ReadLines("/proc/thread-self/status"))
            {
                // CapEff:	000001ffffffffff
                if (line.StartsWith("CapEff:", StringComparison.Ordinal)
                    && ulong.TryParse(line.AsSpan(7).Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var bits))
                {
                    return new ProcessCapabilities(bits);
                }
            }

            return default;
        }
    }

    /// <summary>Whether this one is held, or CAP_SYS_ADMIN, which once held these powers and still grants them.</summary>
    public bool Grants(LinuxCapability capability)
        => Has(capability) || (capability is LinuxCapability.CAP_BPF or LinuxCapability.CAP_PERFMON && Has(LinuxCapability.CAP_SYS_ADMIN));

    /// <summary>Whether this very one is held.</summary>
    public bool Has(LinuxCapability capability) => (effective & (1ul << (int)capability)) != 0;

    /// <summary>Which of these are missing.</summary>
    public List<LinuxCapability> Missing(ReadOnlySpan<LinuxCapability> wanted)
    {
        var missing = new List<LinuxCapability>();
        foreach (var capability in wanted)
        {
            if (!Grants(capability))
            {
                missing.Add(capability);
            }
        }

        return missing;
    }
}
