using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>Faults while the name becomes an address.</summary>
internal static class ResolveFaults
{
    private const string OtherDomain = "k8s.local";
    private const string Shop = "shop";
    private const string OutsideHosts = "198.51.100.7 my-nginx.default\n";

    private static readonly ImmutableArray<string> ClusterSearch =
        [$"default.svc.{LabLayout.ClusterDomain}", $"svc.{LabLayout.ClusterDomain}", LabLayout.ClusterDomain];

    private static readonly ImmutableArray<PodDnsConfigOption> FiveDots = [new("ndots", "5")];

    // DNS over one transport, on its way from node-2 to the DNS pod.
    private static readonly Block UdpBlock = new("node-2", "filter", "FORWARD", "-d {0} -p udp -m udp --dport 53 -j DROP", "10.244.2.2/32", "fd00:10:244:2::2/128");
    private static readonly Block TcpBlock = new("node-2", "filter", "FORWARD", "-d {0} -p tcp -m tcp --dport 53 -j DROP", "10.244.2.2/32", "fd00:10:244:2::2/128");

    internal static ImmutableArray<Fault> All { get; } =
    [
        new Fault("wrong-resolver",
            "Pod ubuntu gets dnsPolicy Default, so its resolv.conf names the provider's resolver instead of the cluster's.",
            "The short name is not found, the full name leads to an address that nobody has.",
            make: b => b.GiveDns(b.Client, "Default"),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => AsksAnother(b) && b.Client.Spec.DnsPolicy == "Default"),
        new Fault("wrong-resolver",
            "Pod ubuntu has dnsPolicy None and a dnsConfig that names the provider's resolver.",
            "The names of Services are not found, or lead to an address that nobody has.",
            make: b => b.GiveDns(b.Client, "None", new PodDnsConfig { Nameservers = [LabLayout.OutsideIPv4], Searches = ClusterSearch, Options = FiveDots }),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => AsksAnother(b) && b.Client.Spec.DnsPolicy == "None")
        {
            Variant = "dns-config",
        },
        new Fault("wrong-resolver",
            "Somebody wrote the provider's resolver into the resolv.conf of the running pod ubuntu.",
            "The names of Services are not found, or lead to an address that nobody has.",
            make: b => b.Run(LabObjects.Client, $"sed -i 's/^nameserver .*/nameserver {LabLayout.OutsideIPv4}/' /etc/resolv.conf"),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => AsksAnother(b) && b.Client.Spec.DnsPolicy == "ClusterFirst")
        {
            Variant = "edited",
        },
        new Fault("service-not-found",
            "Service my-nginx is deleted.",
            "The name is not found.",
            make: b => b.Objects.Delete("services", b.Server.Metadata),
            undo: b => b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server)),
            holds: b => b.Cluster.Services.All(s => s.Metadata.Name != LabObjects.Server))
        {
            Alias = "service-deleted",
        },
        new Fault("wrong-namespace",
            "Service my-nginx and its pods are in namespace shop, and a client in default asks for it by its name alone.",
            "The name is not found.",
            make: b => Move(b, "default", Shop),
            undo: b => Move(b, Shop, "default"),
            holds: b => b.Cluster.FindService(Shop, LabObjects.Server) is not null),
        new Fault("search-domain-missing",
            "Pod ubuntu has dnsPolicy None and a dnsConfig with the cluster's nameserver and no search domains.",
            "Short names are not found, full names are.",
            make: b => b.GiveDns(b.Client, "None", new PodDnsConfig { Nameservers = [LabLayout.DnsIPv4], Options = FiveDots }),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => LacksSearch(b) && b.Client.Spec.DnsPolicy == "None"),
        new Fault("search-domain-missing",
            "Somebody removed the search line from the resolv.conf of the running pod ubuntu.",
            "Short names are not found, full names are.",
            make: b => b.Run(LabObjects.Client, "sed -i '/^search/d' /etc/resolv.conf"),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => LacksSearch(b) && b.Client.Spec.DnsPolicy == "ClusterFirst")
        {
            Variant = "edited",
        },
        new Fault("ndots-too-low",
            "Pod ubuntu has ndots:1 in its dnsConfig, to save DNS queries; a name with a dot is then asked for as it is, and musl leaves it at that.",
            "Names with a dot are not found by programs that use musl.",
            make: b => b.GiveDns(b.Client, "ClusterFirst", new PodDnsConfig { Options = [new("ndots", "1")] }),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => HasOneDot(b) && OutsideHostsOf(b).Length == 0)
        {
            Url = "http://my-nginx.default:8080",
            IsMusl = true,
        },
        new Fault("ndots-too-low",
            "Pod ubuntu has ndots:1 in its dnsConfig, and outside the cluster there is a my-nginx.default too, which answers first.",
            "Names with a dot lead out of the cluster.",
            make: b =>
            {
                b.GiveDns(b.Client, "ClusterFirst", new PodDnsConfig { Options = [new("ndots", "1")] });
                GiveOutsideHosts(b, OutsideHosts);
            },
            undo: b =>
            {
                b.GiveDns(b.Client, "ClusterFirst");
                GiveOutsideHosts(b, "");
            },
            holds: b => HasOneDot(b) && OutsideHostsOf(b).Length > 0)
        {
            Variant = "answered-outside",
            Url = "http://my-nginx.default:8080",
        },
        new Fault("cluster-domain-mismatch",
            "Pod ubuntu has the search domains of another cluster, k8s.local; this one's domain is cluster.local.",
            "Names of Services are not found.",
            make: b => b.GiveDns(b.Client, "None", new PodDnsConfig { Nameservers = [LabLayout.DnsIPv4], Searches = [$"default.svc.{OtherDomain}", $"svc.{OtherDomain}", OtherDomain], Options = FiveDots }),
            undo: b => b.GiveDns(b.Client, "ClusterFirst"),
            holds: b => b.ResolvConfOf(LabObjects.Client).Contains(OtherDomain, StringComparison.Ordinal)),
        new Fault("resolver-unreachable",
            "CoreDNS hangs: it neither answers nor ends.",
            "Every lookup times out.",
            make: b =>
            {
                b.GiveProbe([b.Dns], _ => null);
                b.Freeze(b.Dns, frozen: true);
            },
            undo: b => b.Restart([b.Dns]),
            holds: b => b.Cluster.Pods.FirstOrDefault(LabProcesses.IsDns) is { } dns && b.IsFrozen(dns)),
        new Fault("resolver-unreachable",
            "CoreDNS has ended, and its pod is still an endpoint.",
            "Every lookup is refused.",
            make: b =>
            {
                b.GiveProbe([b.Dns], _ => null);
                LabProcesses.StopProgram(b.Folder, b.Dns);
            },
            undo: b => b.Restart([b.Dns]),
            holds: b => b.Cluster.Pods.FirstOrDefault(LabProcesses.IsDns) is { } dns && !LabProcesses.ProgramRuns(b.Folder, dns))
        {
            Variant = "stopped",
        },
        new Fault("resolver-unreachable",
            "A firewall rule on node-2 drops UDP port 53 to the DNS pod.",
            "Every lookup times out.",
            make: UdpBlock.Add,
            undo: UdpBlock.Remove,
            holds: UdpBlock.IsThere)
        {
            Variant = "blocked",
        },
        new Fault("resolver-no-endpoints",
            "CoreDNS is scaled to none.",
            "Every lookup is refused.",
            make: b => b.Scale(LabObjects.Dns, 0),
            undo: b => b.Scale(LabObjects.Dns, 1),
            holds: b => !b.Cluster.Pods.Any(LabProcesses.IsDns)),
        new Fault("resolver-no-endpoints",
            "The readiness probe of CoreDNS asks port 8181, where it does not listen.",
            "Every lookup is refused.",
            make: b => b.GiveProbe([b.Dns], _ => new Probe { HttpGet = new HttpGetAction { Path = "/ready", Port = 8181 } }),
            undo: b => b.GiveProbe([b.Dns], LabObjects.ProbeOf),
            holds: b => b.Cluster.Pods.FirstOrDefault(LabProcesses.IsDns)?.Spec.Containers[0].ReadinessProbe?.HttpGet is not null)
        {
            Variant = "not-ready",
        },
        MisbehavingDns("resolver-failure", null, Behaviours.ServerFailure,
            "CoreDNS answers SERVFAIL to everything, as it does when its upstream loops back to itself.", "Every lookup fails at once."),
        MisbehavingDns("resolver-failure", "refused", Behaviours.Refused,
            "CoreDNS answers REFUSED to everything: its Corefile has no block for the cluster's domain any more.", "Every lookup fails at once."),
        MisbehavingDns("resolver-slow", null, Behaviours.Slow,
            "CoreDNS takes more than a second for every answer.", "Every first request is slow."),
        new Fault("stale-answer",
            "Service my-nginx was made anew and has another address, and CoreDNS, cut off from the API server, still answers the old one.",
            "Connecting times out.",
            make: b =>
            {
                File.WriteAllText(b.Folder.DnsPausedPath, "");
                b.Objects.Put(b.Server with { Spec = b.Server.Spec with { ClusterIP = "10.96.0.160", ClusterIPs = ["10.96.0.160", "fd00:10:96::a0"] } });
            },
            undo: b =>
            {
                File.Delete(b.Folder.DnsPausedPath);
                b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server));
            },
            holds: b => File.Exists(b.Folder.DnsPausedPath)),
        new Fault("hosts-override",
            "Somebody tried something out, and a line for my-nginx has stayed in the hosts file of pod ubuntu.",
            "Connecting times out.",
            make: b => b.Run(LabObjects.Client, "echo '10.96.0.200\tmy-nginx' >>/etc/hosts"),
            undo: b => b.GiveHosts(b.Client, []),
            holds: b => b.Client.Spec.HostAliases.IsEmpty && b.HostsOf(LabObjects.Client).Contains($"\t{LabObjects.Server}", StringComparison.Ordinal)),
        new Fault("hosts-override",
            "Pod ubuntu has a hostAliases entry for my-nginx, from before the Service was made anew.",
            "Connecting times out.",
            make: b => b.GiveHosts(b.Client, [new HostAlias { Ip = "10.96.0.200", Hostnames = [LabObjects.Server] }]),
            undo: b => b.GiveHosts(b.Client, []),
            holds: b => !b.Client.Spec.HostAliases.IsEmpty)
        {
            Variant = "host-aliases",
        },
        new Fault("headless-no-ready-pods",
            "Headless Service hostnames-headless has no ready pod: the readiness probe asks port 9377, and the server listens on 9376.",
            "The name has no address.",
            make: b =>
            {
                b.Objects.Put(LabObjects.Headless);
                b.GiveProbe([b.Hostnames], _ => new Probe { TcpSocket = new TcpSocketAction { Port = Hostnames.Port + 1 } });
            },
            undo: b =>
            {
                b.DeleteService("default", LabObjects.Headless.Metadata.Name);
                b.GiveProbe([b.Hostnames], LabObjects.ProbeOf);
            },
            holds: b => b.Cluster.FindService("default", LabObjects.Headless.Metadata.Name) is not null && b.Hostnames.Spec.Containers[0].ReadinessProbe is not null)
        {
            Url = "http://hostnames-headless:9376",
        },
        new Fault("external-name-unresolved",
            "Service db is an ExternalName for db.exmaple.com, a typing error for db.example.com.",
            "The name is not found.",
            make: b => b.Objects.Put(LabObjects.Outside("db.exmaple.com")),
            undo: b => b.DeleteService("default", "db"),
            holds: b => b.Cluster.FindService("default", "db")?.Spec.ExternalName == "db.exmaple.com")
        {
            Url = "tcp://db:53",
        },
        new Fault("address-family-mismatch",
            "Service my-nginx has an IPv6 address only, and pod ubuntu has IPv6 disabled.",
            "\"Network is unreachable\".",
            make: b =>
            {
                b.Objects.Put(b.Server with { Spec = b.Server.Spec with { IpFamilies = ["IPv6"], ClusterIP = "fd00:10:96::9f", ClusterIPs = ["fd00:10:96::9f"] } });
                b.Run(LabObjects.Client, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
            },
            undo: b =>
            {
                b.Objects.Put(LabObjects.ServiceCalled(LabObjects.Server));
                b.Run(LabObjects.Client, "sysctl -qw net.ipv6.conf.all.disable_ipv6=0");
                LabNetwork.Restore(b.Folder, b.Client);
            },
            holds: b => b.Cluster.FindService("default", LabObjects.Server)?.Spec.IpFamilies is ["IPv6"]
                || b.Read(LabObjects.Client, "sysctl -n net.ipv6.conf.all.disable_ipv6").Contains('1', StringComparison.Ordinal)),
        new Fault("dns-tcp-blocked",
            "CoreDNS cuts its answers short, as it does when they are long, and a firewall rule on node-2 drops TCP port 53 to it.",
            "Lookups time out.",
            make: b =>
            {
                b.Misbehave(b.Dns, Behaviours.Truncate);
                TcpBlock.Add(b);
            },
            undo: b =>
            {
                b.Restart([b.Dns]);
                TcpBlock.Remove(b);
            },
            holds: TcpBlock.IsThere),
        new Fault("dns-tcp-blocked",
            "CoreDNS cuts its answers short, and Service kube-dns has port 53 for UDP only.",
            "Lookups time out.",
            make: b =>
            {
                b.Misbehave(b.Dns, Behaviours.Truncate);
                b.Objects.Put(b.DnsService with { Spec = b.DnsService.Spec with { Ports = [.. b.DnsService.Spec.Ports.Where(p => p.Protocol == "UDP")] } });
            },
            undo: b =>
            {
                b.Restart([b.Dns]);
                b.Objects.Put(LabObjects.ServiceCalled("kube-dns"));
            },
            holds: b => b.DnsService.Spec.Ports.All(p => p.Protocol == "UDP"))
        {
            Variant = "no-port",
        },
    ];

    private static Fault MisbehavingDns(string name, string? variant, string behaviour, string description, string symptom) => new(name, description, symptom,
        make: b => b.Misbehave(b.Dns, behaviour),
        undo: b => b.Restart([b.Dns]),
        holds: b => b.Cluster.Pods.Any(p => LabProcesses.IsDns(p) && Behaviours.Of(b.Folder, p) == behaviour))
    {
        Variant = variant,
    };

    private static bool AsksAnother(Bench b) => !b.ResolvConfOf(LabObjects.Client).Contains($"nameserver {LabLayout.DnsIPv4}\n", StringComparison.Ordinal);

    private static bool LacksSearch(Bench b) => !AsksAnother(b) && !b.ResolvConfOf(LabObjects.Client).Contains("search ", StringComparison.Ordinal);

    private static bool HasOneDot(Bench b) => b.ResolvConfOf(LabObjects.Client).Contains("ndots:1\n", StringComparison.Ordinal);

    // What the outside resolver knows besides; read again on SIGHUP.
    private static void GiveOutsideHosts(Bench b, string hosts)
    {
        File.WriteAllText(DnsRecords.OutsideHostsPath(b.Folder), hosts);
        LabProcesses.Signal(b.Folder, LabNetwork.Outside, "dnsmasq", ProcessTable.SigHup);
        // It reads the file when it next comes round to it, and tells nobody. What the cluster's DNS was told before, it forgets.
        Thread.Sleep(100);
        LabProcesses.Signal(b.Folder, b.Dns.Metadata.Name, "dnsmasq", ProcessTable.SigHup);
    }

    private static string OutsideHostsOf(Bench b) => File.ReadAllText(DnsRecords.OutsideHostsPath(b.Folder));

    // As if the whole application had been deployed there.
    private static void Move(Bench b, string from, string to)
    {
        var service = b.Cluster.FindService(from, LabObjects.Server) ?? throw new LabException($"Service {from}/{LabObjects.Server} is not there.");
        b.Objects.Delete("services", service.Metadata);
        b.Objects.Put(service with { Metadata = service.Metadata with { Namespace = to } });
        foreach (var pod in b.ServerPods.ToArray())
        {
            b.Objects.Delete("pods", pod.Metadata);
            b.Objects.Put(pod with { Metadata = pod.Metadata with { Namespace = to } });
        }

        b.Folder.Write([.. b.Folder.ReadPlaces().Select(p => p.PodName is { } name && LabObjects.ServerPods.Contains(name)
            ? p with { PodNamespace = to, Name = $"pod/{to}/{name}" } : p)]);
    }
}
