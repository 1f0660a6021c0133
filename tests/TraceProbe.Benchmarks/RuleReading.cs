using System.Diagnostics;
using System.Globalization;
using TraceProbe.Cluster;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;
using TraceProbe.Lab;

namespace TraceProbe.Benchmarks;

/// <summary>
/// Reading the rules that kube-proxy writes for many Services, beside the tools that only look whether they are well-formed. The rules are loaded into a
/// network namespace of their own and read back, so that they are what a node has; the yardstick reads the same text there. Everything is CPU
/// time (user and system, all threads), since a busy machine makes wall time say nothing. Needs root, iptables and nft.
/// </summary>
internal static class RuleReading
{
    private const string Namespace = "spd-bench";
    private const string Node = "node-1";
    private const int Repetitions = 5;

    /// <summary>Measures all modes, and prints.</summary>
    /// <param name="size">The number of Services (10,000), and of endpoints of each (2).</param>
    public static int Compare(string[] size)
    {
        var services = size.Length > 0 ? int.Parse(size[0], CultureInfo.InvariantCulture) : 10_000;
        var endpoints = size.Length > 1 ? int.Parse(size[1], CultureInfo.InvariantCulture) : 2;
        var cluster = Many(services, endpoints);
        var options = new KubeProxyOptions
        {
            NodeName = Node,
            ClusterCidrs = [IpNetwork.Parse("10.244.0.0/16")],
            ServiceCidrs = [IpNetwork.Parse("10.96.0.0/12")],
            NodeAddresses = [IpAddress.Parse("172.30.0.11")],
        };
        var folder = Directory.CreateTempSubdirectory("traceprobe-bench-").FullName;
        Shell($"ip netns delete {Namespace} 2>/dev/null; ip netns add {Namespace} && ip -n {Namespace} link set lo up");
        try
        {
            Console.WriteLine($"{services:N0} Services with {endpoints} endpoints each; load {File.ReadAllText("/proc/loadavg").Trim()}");
            var objects = Path.Combine(folder, "objects.json");
            File.WriteAllBytes(objects, ClusterList.Write(cluster).ToArray());
            var wanted = Path.Combine(folder, "wanted");
            foreach (var tool in new[] { "iptables-legacy", "iptables-nft", "nft" })
            {
                var dump = Path.Combine(folder, tool);
                var isNft = tool == "nft";
                File.WriteAllText(wanted, isNft ? NftablesRules.Write(cluster, options, ipv6: false).ToString() : Iptables.Compose(KubeProxyRules.Write(cluster, options, ipv6: false), ""));
                Cpu(isNft ? $"nft -f {wanted}" : $"{tool}-restore {wanted}");
                var save = Cpu(isNft ? $"nft -j list table ip kube-proxy > {dump}" : $"{tool}-save -c > {dump}");
                if (isNft)
                {
                    // As nft would have it back: what is led to before what leads there.
                    Shell($"jq -c '[.nftables[]] | {{nftables: (map(select(has(\"table\"))) + map(select(has(\"chain\"))) + map(select(has(\"set\") or has(\"map\"))) + map(select(has(\"rule\")))) | map({{add: .}})}}' {dump} > {dump}.new");
                }

                Shell($"ip netns exec {Namespace} nft flush ruleset; for t in filter nat mangle; do ip netns exec {Namespace} iptables-legacy -t $t -F; ip netns exec {Namespace} iptables-legacy -t $t -X; done");
                var test = Cpu(isNft ? $"nft -c -j -f {dump}.new" : $"{tool}-restore --test {dump}");
                Console.WriteLine($"\n{tool}: {new FileInfo(dump).Length / 1e6:F1} MB; {(isNft ? "nft -j list table" : $"{tool}-save -c")} {save}, {(isNft ? "nft -c -j -f" : $"{tool}-restore --test")} {test}");
                Read(tool, dump, objects, test.Sum);
            }
        }
        finally
        {
            Shell($"ip netns delete {Namespace}");
            Directory.Delete(folder, recursive: true);
        }

        return 0;
    }

    /// <summary>Measures reading one dump, in a process that does nothing else.</summary>
    /// <param name="tool">The tool that printed it.</param>
    /// <param name="dump">The dump.</param>
    /// <param name="objects">The cluster's objects.</param>
    public static int Measure(string tool, string dump, string objects)
    {
        var text = File.ReadAllText(dump);
        var before = MemoryOf("VmRSS");
        var packet = new VirtualPacket { Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.244.1.5:40000"), AddressPort.Parse("10.96.19.136:80")), BridgePort = "" };
        var walked = new List<double>();
        var memory = 0L;
        IReadOnlyList<RuleSet> sets = [];
        for (var i = 0; i <= Repetitions; i++)
        {
            sets = [];
            GC.Collect();
            var start = Environment.CpuUsage.TotalTime;
            sets = RuleSet.ParseAll([new RuleDump(tool == "nft" ? "nft" : $"{tool}-save", text)]);
            var walk = new RuleWalk(sets).Run(packet);
            walked.Add((Environment.CpuUsage.TotalTime - start).TotalMilliseconds);
            if (walk is not { Outcome: WalkOutcome.Translated, Backends.Length: > 0 })
            {
                throw new InvalidOperationException($"The packet is {walk.Outcome}.");
            }

            memory = i == 0 ? MemoryOf("VmHWM") - before : memory;
        }

        var cluster = SnapshotReader.Read([objects]);
        var check = new List<double>();
        var findings = 0;
        for (var i = 0; i <= Repetitions; i++)
        {
            var start = Environment.CpuUsage.TotalTime;
            var report = new RuleCheck(cluster, Node, [ProxyRules.Of(sets, false, [], false)]).Run();
            check.Add((Environment.CpuUsage.TotalTime - start).TotalMilliseconds);
            findings = report.Findings.Length;
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{walked[0]:F0} {walked.Skip(1).Min():F0} {memory / 1024} {check[0]:F0} {check.Skip(1).Min():F0} {findings}"));
        return 0;
    }

    private static void Read(string tool, string dump, string objects, double yardstick)
    {
        var words = Run(Environment.ProcessPath!, ["read-rules", tool, dump, objects]).Split(' ');
        double Of(int i) => double.Parse(words[i], CultureInfo.InvariantCulture);
        Console.WriteLine($"  parse, index and walk one packet: {Of(0):F0} ms the first time, {Of(1):F0} ms warm ({Of(0) / yardstick:F2} and {Of(1) / yardstick:F2} of the yardstick), {Of(2):F0} MB");
        Console.WriteLine($"  check of all Services: {Of(3):F0} ms the first time, {Of(4):F0} ms warm; {words[5].Trim()} findings");

        // Compiled ahead of time, from its start to its end, which is what somebody waits for who traces one request.
        if (Environment.GetEnvironmentVariable("TRACEPROBE_EXECUTABLE") is { Length: > 0 } program)
        {
            var start = Cpu($"{program} --version");
            Console.WriteLine($"  traceprobe rules walk, whole: {Cpu($"{program} rules walk --rules {dump} --from 10.244.1.5 --to 10.96.19.136:80")}; traceprobe check, whole: {Cpu($"{program} check --rules {dump} --cluster {objects} --node-name {Node}")}; --version: {start}");
        }
    }

    private static ClusterSnapshot Many(int services, int endpoints)
    {
        string Pod(int i) => string.Create(CultureInfo.InvariantCulture, $"10.244.{i / 250 % 250}.{i % 250 + 1}");
        return new ClusterSnapshot
        {
            Nodes = [new Core.Cluster.Node { Metadata = new ObjectMeta { Name = Node }, Spec = new NodeSpec { PodCIDR = "10.244.1.0/24" }, Status = new NodeStatus { Addresses = [new NodeAddress("InternalIP", "172.30.0.11")] } }],
            Services =
            [
                .. Enumerable.Range(0, services).Select(i => new Service
                {
                    Metadata = new ObjectMeta { Namespace = i == 0 ? "default" : $"shop-{i % 100}", Name = i == 0 ? "kubernetes" : $"service-{i}" },
                    Spec = new ServiceSpec
                    {
                        Type = i % 10 == 9 ? "NodePort" : "ClusterIP",
                        ClusterIP = string.Create(CultureInfo.InvariantCulture, $"10.96.{i / 256}.{i % 256}"),
                        ClusterIPs = [string.Create(CultureInfo.InvariantCulture, $"10.96.{i / 256}.{i % 256}")],
                        SessionAffinity = i % 20 == 7 ? "ClientIP" : "None",
                        Ports = [new ServicePort { Name = "http", Protocol = "TCP", Port = 80, TargetPort = 8080, NodePort = i % 10 == 9 ? 30000 + i / 10 : 0 }],
                    },
                }),
            ],
            EndpointSlices =
            [
                .. Enumerable.Range(0, services).Where(i => i % 50 != 3).Select(i => new EndpointSlice
                {
                    Metadata = new ObjectMeta
                    {
                        Namespace = i == 0 ? "default" : $"shop-{i % 100}",
                        Name = $"service-{i}-x",
                        Labels = System.Collections.Immutable.ImmutableSortedDictionary<string, string>.Empty.Add("kubernetes.io/service-name", i == 0 ? "kubernetes" : $"service-{i}"),
                    },
                    AddressType = "IPv4",
                    Ports = [new EndpointPort { Name = "http", Port = 8080, Protocol = "TCP" }],
                    Endpoints =
                    [
                        .. Enumerable.Range(0, endpoints).Select(e => new Endpoint
                        {
                            Addresses = [Pod(i * endpoints + e)],
                            NodeName = $"node-{(i * endpoints + e) % 100 + 1}",
                            Conditions = new EndpointConditions { Ready = true, Serving = true },
                        }),
                    ],
                }),
            ],
        };
    }

    // In kilobytes.
    private static long MemoryOf(string field)
    {
        var line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line.AsSpan(field.Length + 1).Trim()[..^3], CultureInfo.InvariantCulture);
    }

    private readonly record struct CpuTime(double User, double System)
    {
        public double Sum => User + System;

        public override string ToString() => $"{Sum:F0} ms ({System:F0} of them in the kernel)";
    }

    // Of a command in the namespace, in milliseconds.
    private static CpuTime Cpu(string command)
    {
        var words = Shell($"ip netns exec {Namespace} bash -c 'TIMEFORMAT=\"%3U %3S\"; time {command}' 2>&1 >/dev/null").Trim().Split('\n')[^1].Split(' ');
        return new CpuTime(1000 * double.Parse(words[0], CultureInfo.InvariantCulture), 1000 * double.Parse(words[1], CultureInfo.InvariantCulture));
    }

    private static string Shell(string command) => Run("/bin/bash", ["-c", command]);

    private static string Run(string program, string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return output;
    }
}
