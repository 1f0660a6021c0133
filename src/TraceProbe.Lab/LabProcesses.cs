using System.Globalization;
using System.Security.Cryptography;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// The processes of nodes and pods. Each place has a <c>pause</c> process that holds its network and mount namespaces, with the
/// place's own /etc/resolv.conf and /etc/hosts; pods also have a cgroup named the way
/// kubelet names it.
/// </summary>
internal static class LabProcesses
{
    private static readonly string[] TcpTables = ["tcp", "tcp6"];
    private static readonly string[] UdpTables = ["udp", "udp6"];

    /// <summary>Starts a node's holder, or the outside with its resolver.</summary>
    internal static Place StartFrame(LabFolder lab, string what)
    {
        var folder = Prepare(lab, what);
        var node = LabLayout.Nodes.FirstOrDefault(n => n.Name == what);
        File.WriteAllText($"{folder}/etc/resolv.conf", ResolvConf.OfNode);
        File.WriteAllText($"{folder}/etc/hosts", node is null ? "127.0.0.1\tlocalhost\n" : ResolvConf.HostsOf(node));
        var commands = new List<string>();
        if (node is null)
        {
            File.WriteAllText(DnsRecords.OutsideHostsPath(lab), "");
            File.WriteAllText($"{folder}/dnsmasq.conf", DnsRecords.Outside(lab));
            commands.Add(Daemon("dnsmasq", Dnsmasq(folder), $"{folder}/dnsmasq.log"));
        }

        var pids = Start(lab, what, null, commands);
        return new Place
        {
            Name = node is null ? LabNetwork.Outside : $"node/{what}",
            Kind = node is null ? PlaceKind.Outside : PlaceKind.Node,
            Node = node?.Name,
            Pid = pids["pause"],
            NetNs = NetNs.InodeOf(lab.NetNsPath(what)),
            NetNsPath = lab.NetNsPath(what),
            EtcPath = lab.EtcFolder(what),
            Addresses = node is null
                ? [IpAddress.Parse(LabLayout.OutsideIPv4), IpAddress.Parse(LabLayout.OutsideIPv6)]
                : [IpAddress.Parse(node.IPv4), IpAddress.Parse(node.IPv6), IpAddress.Parse(node.BridgeIPv4), IpAddress.Parse(node.BridgeIPv6)],
        };
    }

    /// <summary>Starts a pod's holder and what runs in it.</summary>
    internal static Place StartPod(LabFolder lab, Pod pod, LabRecord record, ClusterSnapshot cluster)
    {
        var what = pod.Metadata.Name;
        var folder = Prepare(lab, what);
        GiveResolvConf(lab, pod);
        File.WriteAllText($"{folder}/etc/hosts", ResolvConf.HostsOf(pod));
        string? cgroup = null;
        if (record.Cgroup is not null)
        {
            // kubelet with the cgroupfs driver: kubepods/QOS/podUID/CONTAINER.
            cgroup = $"{record.Cgroup}/kubepods/besteffort/pod{pod.Metadata.Uid}/{RandomNumberGenerator.GetHexString(64, lowercase: true)}";
            Directory.CreateDirectory(cgroup);
        }

        if (IsDns(pod))
        {
            File.WriteAllText($"{folder}/hosts", DnsRecords.Hosts(cluster));
            File.WriteAllText($"{folder}/dnsmasq.conf", DnsRecords.Configuration(cluster, $"{folder}/hosts"));
        }

        var pids = Start(lab, what, cgroup, ProgramOf(pod) is null ? [] : [StartOf(lab, pod, record)]);
        return new Place
        {
            Name = $"pod/{pod.Metadata.Namespace}/{what}",
            Kind = PlaceKind.Pod,
            Node = pod.Spec.NodeName,
            PodNamespace = pod.Metadata.Namespace,
            PodName = what,
            PodUid = pod.Metadata.Uid,
            Pid = pids["pause"],
            NetNs = NetNs.InodeOf(lab.NetNsPath(what)),
            NetNsPath = lab.NetNsPath(what),
            EtcPath = lab.EtcFolder(what),
            Addresses = [.. pod.Status.PodIPs.Select(i => IpAddress.Parse(i.Ip))],
        };
    }

    internal static bool IsServer(Pod pod) => pod.Spec.Containers.Any(c => c.Name == "nginx");

    internal static bool IsDns(Pod pod) => pod.Spec.Containers.Any(c => c.Name == "coredns");

    /// <summary>
    /// Writes a pod's resolv.conf when what its spec asks for is not what was written last. What somebody changed in the pod
    /// itself stays, as kubelets leave it.
    /// </summary>
    internal static void GiveResolvConf(LabFolder lab, Pod pod)
    {
        var what = pod.Metadata.Name;
        var ofNode = $"{lab.EtcFolder(pod.Spec.NodeName!)}/resolv.conf";
        var text = ResolvConf.Of(pod, File.Exists(ofNode) ? File.ReadAllText(ofNode) : ResolvConf.OfNode);
        if (Files.ReplaceIfChanged(GivenResolvConfPath(lab, pod), text))
        {
            // In place: the pod has this very file mounted.
            File.WriteAllText($"{lab.EtcFolder(what)}/resolv.conf", text);
        }
    }

    /// <summary>The copy of what a pod was given; without it, it is given anew.</summary>
    internal static string GivenResolvConfPath(LabFolder lab, Pod pod) => $"{lab.PlaceFolder(pod.Metadata.Name)}/resolv.conf.given";

    /// <summary>Runs a shell command in a place, in its namespaces.</summary>
    internal static string Execute(LabFolder lab, string what, ReadOnlySpan<string> command)
    {
        var pause = PidOf(lab, what, "pause") ?? throw new LabException($"There is no {what} in the lab.");
        return Command.Run(lab.NetNsPath(what), "nsenter", ["--target", pause.ToString(CultureInfo.InvariantCulture), "--mount", "--", .. command]);
    }

    /// <summary>Runs a command in a place, with this process's own input and output.</summary>
    /// <returns>Its exit code.</returns>
    internal static int Run(LabFolder lab, string what, ReadOnlySpan<string> command)
    {
        var pause = PidOf(lab, what, "pause") ?? throw new LabException($"There is no {what} in the lab.");
        return Command.Pass(lab.NetNsPath(what), "nsenter", ["--target", pause.ToString(CultureInfo.InvariantCulture), "--mount", "--", .. command]);
    }

    /// <summary>The program in a pod's container; null for a pod that only waits.</summary>
    internal static string? ProgramOf(Pod pod) => IsServer(pod) ? "nginx" : IsDns(pod) ? "dnsmasq" : pod.Spec.Containers.Any(c => c.Name == LabObjects.Hostnames) ? Hostnames.ProcessName : null;

    /// <summary>Whether a socket waits in a pod on the port of its program; also for a pod without one.</summary>
    internal static bool ProgramServes(LabFolder lab, Pod pod)
    {
        var (port, files) = ProgramOf(pod) switch
        {
            "nginx" => (80, TcpTables),
            "dnsmasq" => (53, UdpTables),
            Hostnames.ProcessName => (Hostnames.Port, TcpTables),
            _ => (0, []),
        };
        // "  sl  local_address rem_address   st …", the port in hexadecimal and state 0A for a TCP socket that listens (proc(5)).
        var suffix = string.Create(CultureInfo.InvariantCulture, $":{port:X4}");
        return port == 0 || (PidOf(lab, pod.Metadata.Name, "pause") is { } pid
            && files.Any(f => File.ReadLines($"/proc/{pid}/net/{f}").Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                .Any(w => w[1].EndsWith(suffix, StringComparison.Ordinal) && (files == UdpTables || w[3] == "0A"))));
    }

    /// <summary>Whether a pod's program runs.</summary>
    internal static bool ProgramRuns(LabFolder lab, Pod pod) => ProgramOf(pod) is not { } program || PidOf(lab, pod.Metadata.Name, program) is not null;

    /// <summary>Ends a pod's program, its workers too; the pod stays.</summary>
    internal static void StopProgram(LabFolder lab, Pod pod) => ProcessTable.Kill(ProcessesOf(lab, pod));

    /// <summary>A pod's program and its workers.</summary>
    internal static List<int> ProcessesOf(LabFolder lab, Pod pod)
    {
        var pause = PidOf(lab, pod.Metadata.Name, "pause");
        var program = ProgramOf(pod);
        return [.. ProcessTable.InNamespaces(new HashSet<uint> { NetNs.InodeOf(lab.NetNsPath(pod.Metadata.Name)) })
            .Where(pid => pid != pause && NameOf(pid) is { } name && (name == program || (name == DnsRelay.ProcessName && IsDns(pod))))];
    }

    /// <summary>Sends a signal to a process of a place, if it is there.</summary>
    internal static void Signal(LabFolder lab, string what, string name, int signal)
    {
        if (PidOf(lab, what, name) is { } pid)
        {
            ProcessTable.Signal(pid, signal);
        }
    }

    /// <summary>Starts a pod's program again, in the pod's namespaces and cgroup.</summary>
    internal static void StartProgram(LabFolder lab, Pod pod, LabRecord record)
    {
        if (ProgramOf(pod) is not { } program)
        {
            return;
        }

        StartAgain(lab, pod, program, StartOf(lab, pod, record));
        // Whoever asks next is to meet it, and not the moment before.
        for (var attempt = 0; attempt < 2000 && !ProgramServes(lab, pod); attempt++)
        {
            Thread.Sleep(5);
        }
    }

    /// <summary>Has the cluster's DNS read its records again.</summary>
    /// <param name="lab">The lab.</param>
    /// <param name="pod">The DNS pod.</param>
    /// <param name="record">What the lab is.</param>
    /// <param name="restart">True when its configuration changed too, which it reads at its start only.</param>
    internal static void ReloadDns(LabFolder lab, Pod pod, LabRecord record, bool restart)
    {
        // One that has ended, or hangs, has not been told to start.
        if (PidOf(lab, pod.Metadata.Name, "dnsmasq") is not { } pid || ProcessTable.IsStopped(pid))
        {
            return;
        }

        if (!restart)
        {
            ProcessTable.Signal(pid, ProcessTable.SigHup);
            return;
        }

        StopProgram(lab, pod);
        StartProgram(lab, pod, record);
    }

    /// <summary>Starts a node's kube-proxy; it can be asked a moment later (<see cref="ProxyServes"/>).</summary>
    internal static void StartProxy(LabFolder lab, LabRecord record, string node)
    {
        Directory.CreateDirectory(lab.PlaceFolder(node));
        File.Delete(KubeProxy.ServingPath(lab, node));
        File.Delete(UserspaceProxy.ListeningPath(lab, node));
        var pid = StartDetached(lab, lab.NetNsPath(node), [.. record.SelfCommand, LabProcess.ProxyVerb, "--name", lab.Name, "--node", node, .. KubeProxy.Flags(record.Proxy, node)], $"{lab.PlaceFolder(node)}/kube-proxy.log");
        Remember(lab, node, KubeProxy.ProcessName, pid);
    }

    /// <summary>Whether a node's kube-proxy can be asked, and in userspace mode listens for every Service port.</summary>
    internal static bool ProxyServes(LabFolder lab, LabRecord record, string node)
        => File.Exists(KubeProxy.ServingPath(lab, node)) && (record.Proxy != ProxyMode.Userspace || UserspaceProxy.ListensForAll(lab, node));

    /// <summary>Starts a node's kube-proxy anew.</summary>
    /// <exception cref="LabException">It does not come up.</exception>
    internal static void RestartProxy(LabFolder lab, LabRecord record, string node)
    {
        if (PidOf(lab, node, KubeProxy.ProcessName) is { } pid)
        {
            ProcessTable.Kill([pid]);
        }

        StartProxy(lab, record, node);
        for (var attempt = 0; !ProxyServes(lab, record, node); attempt++)
        {
            Thread.Sleep(attempt < 1000 ? 10 : throw new LabException($"kube-proxy does not come up on {node} again. {string.Join(' ', File.ReadLines($"{lab.PlaceFolder(node)}/kube-proxy.log").TakeLast(3))}"));
        }
    }

    /// <summary>Starts one of the lab's own processes, detached from this one.</summary>
    /// <param name="lab">The lab.</param>
    /// <param name="netns">The namespace to start it in; null for ours.</param>
    /// <param name="command">The command's words.</param>
    /// <param name="log">The file for what it prints.</param>
    internal static int StartDetached(LabFolder lab, string? netns, IEnumerable<string> command, string log)
    {
        var output = Command.Run(netns, "sh", ["-c", Daemon("it", string.Join(' ', command.Select(Quote)), log)]);
        var pid = ReadPids(output)["it"];
        lab.Journal.Process(pid);
        return pid;
    }

    private static string Prepare(LabFolder lab, string what)
    {
        var folder = lab.PlaceFolder(what);
        Directory.CreateDirectory($"{folder}/etc");
        Directory.CreateDirectory($"{folder}/work");
        return folder;
    }

    private static Dictionary<string, int> Start(LabFolder lab, string what, string? cgroup, IEnumerable<string> daemons)
    {
        // Slave, not private: when a namespace of this or another lab is deleted, the copy of its mount in here must go too, or it
        // would live as long as this place does.
        var inside = string.Join('\n',
        [
            "set -e",
            // The place's own files over the machine's /etc: editors that replace a file (sed -i) work in it as on a real machine, and
            // a resolv.conf that is a link here, or is not there, is a file in it. Where a kernel has no overlayfs a copy takes its place.
            $"if ! mount -t overlay overlay -o lowerdir=/etc,upperdir={lab.EtcFolder(what)},workdir={lab.PlaceFolder(what)}/work /etc 2>/dev/null; then "
                + $"cp -an /etc/. {lab.EtcFolder(what)}; mount --bind {lab.EtcFolder(what)} /etc; fi",
            Daemon("pause", $"{lab.PausePath} infinity", "/dev/null"),
            .. daemons,
        ]);
        var enter = cgroup is null ? "" : $"echo $$ > {cgroup}/cgroup.procs && ";
        var output = Command.Run(lab.NetNsPath(what), "sh", ["-c", $"{enter}exec unshare --mount --propagation slave -- /bin/sh -c {Quote(inside)}"]);
        var pids = ReadPids(output);
        foreach (var (name, pid) in pids)
        {
            Remember(lab, what, name, pid);
        }

        return pids;
    }

    private static void StartAgain(LabFolder lab, Pod pod, string name, string daemon)
    {
        var what = pod.Metadata.Name;
        var pause = PidOf(lab, what, "pause") ?? throw new LabException($"Pod {what} has no pause process any more. Take the lab down and up again.");
        var cgroup = Cgroups.Of(pause);
        var enter = cgroup is null ? "" : $"echo $$ > {cgroup}/cgroup.procs && ";
        var output = Command.Run(lab.NetNsPath(what), "sh",
            ["-c", $"{enter}exec nsenter --target {pause.ToString(CultureInfo.InvariantCulture)} --mount -- /bin/sh -c {Quote(daemon)}"]);
        Remember(lab, what, name, ReadPids(output)[name]);
    }

    // In the background of a shell that is no job control shell, setsid needs no fork: $! is the daemon's own pid.
    private static string Daemon(string name, string command, string log)
        => $"setsid {command} </dev/null >>{log} 2>&1 &\necho {name} $!";

    private static string Dnsmasq(string folder) => $"{Command.Find("dnsmasq")} --keep-in-foreground --log-facility=- --conf-file={folder}/dnsmasq.conf";

    // How a pod's program is started, with the files it needs written.
    private static string StartOf(LabFolder lab, Pod pod, LabRecord record)
    {
        var folder = lab.PlaceFolder(pod.Metadata.Name);
        switch (ProgramOf(pod))
        {
            case "nginx":
                PrepareNginx(folder, pod);
                return Daemon("nginx", $"{Command.Find("nginx")} -p {folder} -e {folder}/error.log -c {folder}/nginx.conf", $"{folder}/nginx.log");
            case "dnsmasq" when Behaviours.Of(lab, pod).Length > 0:
                return Daemon("dnsmasq", string.Create(CultureInfo.InvariantCulture, $"{Dnsmasq(folder)} --port={DnsRelay.UpstreamPort} --listen-address=127.0.0.1 --bind-interfaces"), $"{folder}/dnsmasq.log")
                    + "\n" + Daemon(DnsRelay.ProcessName, Self(lab, pod, record, LabProcess.DnsVerb), $"{folder}/{DnsRelay.ProcessName}.log");
            case "dnsmasq":
                return Daemon("dnsmasq", Dnsmasq(folder), $"{folder}/dnsmasq.log");
            case Hostnames.ProcessName:
                return Daemon(Hostnames.ProcessName, Self(lab, pod, record, LabProcess.HostnamesVerb), $"{folder}/{Hostnames.ProcessName}.log");
            default:
                throw new InvalidOperationException($"Pod {pod.Metadata.Name} has no program.");
        }
    }

    // This program again, in a pod.
    private static string Self(LabFolder lab, Pod pod, LabRecord record, string verb)
        => string.Join(' ', ((string[])[.. record.SelfCommand, verb, "--name", lab.Name, "--pod", pod.Metadata.Name]).Select(Quote));

    private static void PrepareNginx(string folder, Pod pod)
    {
        Directory.CreateDirectory($"{folder}/www");
        File.WriteAllText($"{folder}/www/index.html", $"""
            <!DOCTYPE html>
            <html>
            <head>
            <title>Welcome to nginx!</title>
            </head>
            <body>
            <h1>Welcome to nginx!</h1>
            <p>Served by {pod.Metadata.Name}.</p>
            </body>
            </html>

            """);
        var temporary = string.Join(' ', ((string[])["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]).Select(n => $"{n}_temp_path {folder}/tmp;"));
        File.WriteAllText($"{folder}/nginx.conf", $$"""
            daemon off;
            user root;
            worker_processes 1;
            pid {{folder}}/nginx.pid;
            error_log {{folder}}/error.log;
            events { worker_connections 512; }
            http {
                access_log {{folder}}/access.log;
                {{temporary}}
                default_type text/html;
                server {
                    listen 80;
                    listen [::]:80;
                    root {{folder}}/www;
                    location = /ready {
                        access_log off;
                        if (-f {{folder}}/not-ready) { return 503; }
                        return 200 "ready\n";
                    }
                }
            }

            """);
    }

    private static Dictionary<string, int> ReadPids(string output)
    {
        var pids = new Dictionary<string, int>();
        foreach (var line in output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var space = line.IndexOf(' ', StringComparison.Ordinal);
            pids[line[..space]] = int.Parse(line.AsSpan(space + 1), NumberStyles.None, CultureInfo.InvariantCulture);
        }

        return pids;
    }

    // With its start time: the name of a process that has just been forked is still the shell's, and a number may be recycled.
    private static void Remember(LabFolder lab, string what, string name, int pid)
    {
        lab.Journal.Process(pid);
        File.WriteAllText(PidPath(lab, what, name), string.Create(CultureInfo.InvariantCulture, $"{pid} {ProcessTable.StartTime(pid)}"));
    }

    private static int? PidOf(LabFolder lab, string what, string name)
    {
        var path = PidPath(lab, what, name);
        return File.Exists(path) && File.ReadAllText(path).Split(' ') is [var number, var started]
            && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
            && ulong.TryParse(started, NumberStyles.None, CultureInfo.InvariantCulture, out var time)
            && ProcessTable.StartTime(pid) == time
            ? pid
            : null;
    }

    private static string? NameOf(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/comm").Trim();
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static string PidPath(LabFolder lab, string what, string name) => $"{lab.PlaceFolder(what)}/{name}.started";

    private static string Quote(string word) => "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
