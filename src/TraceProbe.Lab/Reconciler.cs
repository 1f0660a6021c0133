using System.Runtime.ExceptionServices;
using System.Text;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// One round of everything that follows objects in a cluster: kubelet's probes and resolv.conf, the EndpointSlice controller, the
/// DNS records, kube-proxy on both nodes, and the saved snapshot. It looks at the state and makes it right, so a round may be run
/// by the controller or by whoever has just changed an object, at any time; the lab's lock is held by the caller.
/// </summary>
internal sealed class Reconciler(LabFolder lab, LabRecord record)
{
    /// <summary>The tools that kube-proxy's part needs in a mode.</summary>
    internal static IEnumerable<string> Tools(ProxyMode mode) => mode switch
    {
        ProxyMode.Nftables => ["nft"],
        ProxyMode.Ipvs => Ipvs.Tools,
        _ => Iptables.Tools(mode),
    };

    /// <summary>Runs one round.</summary>
    /// <param name="probe">Whether the readiness probes are run too.</param>
    /// <param name="forceRules">Whether rules are written even when nothing has changed, as a restarted kube-proxy does.</param>
    internal ClusterSnapshot Round(bool probe = false, bool forceRules = false)
    {
        var cluster = lab.Objects.Read();
        if (probe && Probe(cluster))
        {
            cluster = lab.Objects.Read();
        }

        cluster = FollowPods(cluster);
        foreach (var pod in cluster.Pods.Where(p => Directory.Exists(lab.EtcFolder(p.Metadata.Name))))
        {
            LabProcesses.GiveResolvConf(lab, pod);
        }

        ServeNames(cluster);
        Program(cluster, forceRules);
        Files.ReplaceIfChanged(lab.SnapshotPath, Encoding.UTF8.GetString(ClusterList.Write(cluster).Span));
        return cluster;
    }

    /// <summary>Writes a node's rules for other objects than the cluster's: a kube-proxy that has missed something.</summary>
    internal void ProgramNode(NodePlan node, ClusterSnapshot cluster)
    {
        foreach (var ipv6 in (bool[])[false, true])
        {
            WantedOf(cluster, node, ipv6).Apply();
            ProxySyncs.Sync(lab, node.Name, ipv6);
            ProxySyncs.Queue(lab, node.Name, ipv6);
        }
    }

    /// <summary>Takes all rules off a node, as a script does that means to start afresh.</summary>
    internal void FlushNode(NodePlan node)
    {
        var netns = lab.NetNsPath(node.Name);
        if (record.Proxy == ProxyMode.Nftables)
        {
            new Nftables(netns).Flush();
            return;
        }

        foreach (var ipv6 in (bool[])[false, true])
        {
            if (record.Proxy == ProxyMode.Ipvs)
            {
                new Ipvs(netns, ipv6).Flush();
            }
            else
            {
                new Iptables(netns, record.Proxy, ipv6).Flush();
            }
        }
    }

    /// <summary>
    /// Leaves on a node what another kube-proxy wrote into iptables-legacy. Of two translations at one hook the kernel asks the one that was
    /// registered last, which are these.
    /// </summary>
    internal void LeaveLegacyRules(NodePlan node, ClusterSnapshot known)
    {
        foreach (var ipv6 in (bool[])[false, true])
        {
            new Iptables(lab.NetNsPath(node.Name), ProxyMode.IptablesLegacy, ipv6).Apply(KubeProxyRules.Write(known, OptionsOf(node), ipv6));
        }
    }

    /// <summary>Removes what <see cref="LeaveLegacyRules"/> left.</summary>
    internal void RemoveLegacyRules(NodePlan node)
    {
        foreach (var ipv6 in (bool[])[false, true])
        {
            new Iptables(lab.NetNsPath(node.Name), ProxyMode.IptablesLegacy, ipv6).Apply([new RuleTable("mangle"), new RuleTable("filter"), new RuleTable("nat")]);
        }
    }

    /// <summary>Empties the chain that masquerades, in both families.</summary>
    internal void RemoveMasquerade(NodePlan node)
    {
        foreach (var ipv6 in (bool[])[false, true])
        {
            if (record.Proxy == ProxyMode.Nftables)
            {
                Command.Run(lab.NetNsPath(node.Name), "nft", ["flush", "chain", ipv6 ? "ip6" : "ip", "kube-proxy", "masquerading"]);
            }
            else
            {
                Command.Run(lab.NetNsPath(node.Name), $"{(ipv6 ? "ip6tables" : "iptables")}-{(record.Proxy == ProxyMode.IptablesLegacy ? "legacy" : "nft")}", ["-w", "-t", "nat", "-F", "KUBE-POSTROUTING"]);
            }
        }
    }

    /// <summary>Runs the readiness probes and writes the pods whose readiness has changed; says whether there were any.</summary>
    internal bool Probe(ClusterSnapshot cluster)
    {
        var running = cluster.Pods.Where(p => Directory.Exists(lab.EtcFolder(p.Metadata.Name)));
        var changed = false;
        foreach (var pod in ReadinessProbes.RunAsync(lab, running).GetAwaiter().GetResult())
        {
            if (!SameText(pod.Status, cluster.FindPod(pod.Metadata.Namespace!, pod.Metadata.Name)!.Status))
            {
                lab.Objects.Put(pod);
                changed = true;
            }
        }

        return changed;
    }

    private ClusterSnapshot FollowPods(ClusterSnapshot cluster)
    {
        var changed = false;
        var wanted = cluster.Services.SelectMany(s => ServiceMeaning.DesiredSlices(cluster, s)).ToList();
        foreach (var slice in wanted)
        {
            var present = cluster.EndpointSlices.FirstOrDefault(s => s.Metadata.Name == slice.Metadata.Name && s.Metadata.Namespace == slice.Metadata.Namespace);
            if (present is null || !SameText(present, slice))
            {
                lab.Objects.Put(slice with
                {
                    Metadata = slice.Metadata with
                    {
                        Uid = present?.Metadata.Uid,
                        ResourceVersion = present?.Metadata.ResourceVersion,
                        CreationTimestamp = present?.Metadata.CreationTimestamp,
                    },
                });
                changed = true;
            }
        }

        foreach (var slice in cluster.EndpointSlices)
        {
            // The API server's own slice and others that no controller made are left alone.
            if (slice.Metadata.Labels.ContainsKey("endpointslice.kubernetes.io/managed-by")
                && !wanted.Any(s => s.Metadata.Name == slice.Metadata.Name && s.Metadata.Namespace == slice.Metadata.Namespace))
            {
                lab.Objects.Delete("endpointslices", slice.Metadata);
                changed = true;
            }
        }

        return changed ? lab.Objects.Read() : cluster;
    }

    private void ServeNames(ClusterSnapshot cluster)
    {
        if (File.Exists(lab.DnsPausedPath))
        {
            return;
        }

        foreach (var pod in cluster.Pods.Where(LabProcesses.IsDns).Where(p => Directory.Exists(lab.EtcFolder(p.Metadata.Name))))
        {
            var folder = lab.PlaceFolder(pod.Metadata.Name);
            var hosts = Files.ReplaceIfChanged($"{folder}/hosts", DnsRecords.Hosts(cluster));
            var configuration = Files.ReplaceIfChanged($"{folder}/dnsmasq.conf", DnsRecords.Configuration(cluster, $"{folder}/hosts"));
            if (hosts || configuration)
            {
                LabProcesses.ReloadDns(lab, pod, record, restart: configuration);
            }
        }
    }

    private void Program(ClusterSnapshot cluster, bool force)
    {
        try
        {
            Parallel.ForEach(LabLayout.Nodes, node => Program(node, cluster, force));
        }
        catch (AggregateException e)
        {
            // Whoever runs a round expects what a single failure throws.
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }

    private void Program(NodePlan node, ClusterSnapshot cluster, bool force)
    {
        var isPaused = File.Exists(lab.PausedPath(node.Name));
        // One family after the other: in IPVS mode they share an interface.
        foreach (var ipv6 in (bool[])[false, true])
        {
            var (text, apply) = WantedOf(cluster, node, ipv6);
            var applied = $"{lab.PlaceFolder(node.Name)}/rules.{(ipv6 ? "v6" : "v4")}";
            if (!force && File.Exists(applied) && File.ReadAllText(applied) == text)
            {
                continue;
            }

            // One that is kept from writing still hears of what changes.
            ProxySyncs.Queue(lab, node.Name, ipv6);
            if (!isPaused)
            {
                apply();
                ProxySyncs.Sync(lab, node.Name, ipv6);
                Files.Replace(applied, text);
            }
        }
    }

    // What kube-proxy wants on a node in one family, as text to know it by, and how it gets there.
    private (string Text, Action Apply) WantedOf(ClusterSnapshot cluster, NodePlan node, bool ipv6)
    {
        var netns = lab.NetNsPath(node.Name);
        var options = OptionsOf(node);
        if (record.Proxy == ProxyMode.Nftables)
        {
            var table = NftablesRules.Write(cluster, options, ipv6);
            return (table.ToString(), () => new Nftables(netns).Apply(table));
        }

        if (record.Proxy == ProxyMode.Ipvs)
        {
            var wanted = IpvsRules.Write(cluster, options, ipv6);
            return (wanted.ToString(), () => new Ipvs(netns, ipv6).Apply(wanted));
        }

        var tables = record.Proxy == ProxyMode.Userspace
            ? UserspaceRules.Write(cluster, IpAddress.Parse(ipv6 ? node.IPv6 : node.IPv4), UserspaceRules.AllotPorts(cluster, $"{lab.Path}/proxy-ports"))
            : KubeProxyRules.Write(cluster, options, ipv6);
        return (Iptables.Compose(tables, ""), () => new Iptables(netns, record.Proxy, ipv6).Apply(tables));
    }

    private static KubeProxyOptions OptionsOf(NodePlan node) => new()
    {
        NodeName = node.Name,
        ClusterCidrs = [IpNetwork.Parse(LabLayout.ClusterCidrIPv4), IpNetwork.Parse(LabLayout.ClusterCidrIPv6)],
        ServiceCidrs = [IpNetwork.Parse(LabLayout.ServiceCidrIPv4), IpNetwork.Parse(LabLayout.ServiceCidrIPv6)],
        NodeAddresses = [IpAddress.Parse(node.IPv4), IpAddress.Parse(node.IPv6)],
        LocalAddresses = [IpAddress.Parse(node.IPv4), IpAddress.Parse(node.IPv6), IpAddress.Parse(node.BridgeIPv4), IpAddress.Parse(node.BridgeIPv6)],
    };

    private static bool SameText(PodStatus one, PodStatus other)
        => ObjectStore.TextOf(new Pod { Status = one }) == ObjectStore.TextOf(new Pod { Status = other });

    private static bool SameText(EndpointSlice one, EndpointSlice other)
        => ObjectStore.TextOf(one with { Metadata = Bare(one.Metadata) }) == ObjectStore.TextOf(other with { Metadata = Bare(other.Metadata) });

    private static ObjectMeta Bare(ObjectMeta metadata) => metadata with { Uid = null, ResourceVersion = null, CreationTimestamp = null };
}
