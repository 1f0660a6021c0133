using System.Collections.Immutable;

namespace TraceProbe.Lab;

public sealed partial class Lab
{
    private const string OnlyRoot = "The lab makes network namespaces and mounts, which only root may. Run it with sudo.";
    private static readonly ImmutableArray<string> Tools = ["ip", "unshare", "nsenter", "setsid", "mount", "sh", "sleep", "nginx", "dnsmasq"];

    /// <summary>
    /// What a lab needs of this machine: root, its tools, and for IPVS mode parts of the kernel. Those are tried, in network namespaces
    /// that vanish with the attempt, when there is what to try them with.
    /// </summary>
    /// <param name="mode">How the lab's kube-proxy is to translate.</param>
    public static ImmutableArray<LabNeed> Needs(ProxyMode mode)
    {
        ImmutableArray<LabNeed> needs =
        [
            ProcessTable.EffectiveUser() == 0 ? new LabNeed("root", true, "is who runs this", null) : new LabNeed("root", false, "another user runs this", OnlyRoot),
            .. Tools.Concat(Reconciler.Tools(mode)).Select(tool => Command.Find(tool) is { } path
                ? new LabNeed(tool, true, path, null)
                : new LabNeed(tool, false, "not installed", Command.Missing(tool).Message)),
        ];
        return mode == ProxyMode.Ipvs && needs.All(n => n.Available) ? needs.AddRange(IpvsNeeds()) : needs;
    }

    private static IEnumerable<LabNeed> IpvsNeeds()
    {
        yield return Try("IPVS with round robin", "ip_vs ip_vs_rr", "ipvsadm -A -t 198.51.100.0:20000 -s rr");
        yield return Try("ipsets of IPVS mode", "ip_set_bitmap_port ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet",
            string.Join(" && ", ((string[])["bitmap:port range 0-65535", "hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net"])
                .Select((type, i) => $"ipset create s{i} {type}")));
        yield return Try("iptables rules that ask ipsets", "xt_set", "ipset create s hash:ip,port && "
            + $"printf '*nat\\n-A OUTPUT -m set --match-set s dst,dst -j ACCEPT\\nCOMMIT\\n' | iptables-nft-restore");
        yield return Try("dummy interfaces", "dummy", $"ip link add name {Ipvs.Device} type dummy");

        static LabNeed Try(string name, string modules, string command)
        {
            var tried = Command.Try(null, "unshare", ["--net", "--", "sh", "-c", command]);
            return tried.ExitCode == 0 ? new LabNeed(name, true, "in this kernel", null) : new LabNeed(name, false, string.Join("; ", tried.Error.Trim().Split('\n')),
                $"IPVS mode needs {name}, which this kernel ({File.ReadAllText("/proc/sys/kernel/osrelease").Trim()}) lacks or has not loaded. Load it with: modprobe -a {modules}; or choose another --proxy.");
        }
    }
}

/// <summary>Something that a lab needs of this machine.</summary>
/// <param name="Name">A privilege, a tool or a part of the kernel.</param>
/// <param name="Available">Whether it is there.</param>
/// <param name="Detail">Where it is, or what was said when it was tried.</param>
/// <param name="Remedy">How to get it, in sentences; null when it is there.</param>
public sealed record LabNeed(string Name, bool Available, string Detail, string? Remedy);
