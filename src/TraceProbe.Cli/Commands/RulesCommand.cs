using System.CommandLine;
using System.CommandLine.Completions;
using System.Globalization;
using System.Text;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Rules;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe rules …</c>: what a node's rules would do with a packet.</summary>
internal static class RulesCommand
{
    /// <summary>The command with its verbs.</summary>
    public static Command Create() => new Verb("rules", "Tell what a node's rules do with packets: iptables (legacy and nf_tables) and nftables, whoever wrote them. Sends nothing.")
    {
        Subcommands = { Walk(), Mode() },
        Examples =
        [
            ("sudo traceprobe rules walk --from pod/ubuntu --to svc/my-nginx:8080", "every rule that a packet of pod ubuntu meets"),
            ("sudo traceprobe rules mode", "how kube-proxy works on each node"),
        ],
    };

    private static Verb Walk()
    {
        var from = new Option<string>("--from", "-f") { Description = "Who sends it: pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, node, node/NAME, outside, ADDRESS or ADDRESS:PORT.", HelpName = "WHO", DefaultValueFactory = _ => "outside" };
        var to = new Option<string>("--to") { Description = "ADDRESS:PORT, svc/NAME:PORT or svc/NAMESPACE/NAME:PORT; TCP, or as /udp or /sctp behind it says.", HelpName = "WHERE", Required = true };
        var six = new Option<bool>("--ipv6", "-6") { Description = "To the IPv6 address of a Service that has both." };
        var inside = new Option<string?>("--in-interface", "-i") { Description = "The interface it comes in by; the one that leads back to its sender without it.", HelpName = "DEVICE" };
        var mark = new Option<string?>("--mark") { Description = "The mark it comes with, such as 0x4000.", HelpName = "MARK" };
        var reply = new Option<bool>("--reply") { Description = "Walk the answer of each way too." };
        var every = new Option<bool>("--every") { Description = "Show every way, and every rule of it, when there are many." };
        var json = new Option<string>("--output", "-o") { Description = "text or json (see walk.schema.json).", HelpName = "FORM", DefaultValueFactory = _ => "text" };
        json.AcceptOnlyFromAmong("text", "json");
        var settings = new RuleSettings();
        from.CompletionSources.Add(context => [new CompletionItem("node"), new CompletionItem("outside"), .. settings.QuickSceneOf(context.ParseResult).Places.Where(p => p.Kind == PlaceKind.Pod).Select(p => new CompletionItem(p.Name))]);
        to.CompletionSources.Add(context => settings.QuickSceneOf(context.ParseResult).ReadObjects()?.Services.SelectMany(s => s.Spec.Ports
            .Select(p => new CompletionItem(string.Create(CultureInfo.InvariantCulture, $"svc/{s.Metadata.Namespace}/{s.Metadata.Name}:{p.Port}")))) ?? []);
        var command = new Verb("walk", "Carry one packet through a node's rules and print its way, rule by rule.")
        {
            Examples =
            [
                ("sudo traceprobe rules walk --from pod/ubuntu --to svc/my-nginx:8080", "in a lab"),
                ("sudo traceprobe rules walk --from node --to 10.96.0.10:53/udp --reply", "from this node, and the answers' way back"),
                ("traceprobe rules walk --rules iptables-save.txt --from 10.244.1.7 --to 10.96.0.10:53", "through saved rules; needs no privileges"),
            ],
        };
        command.Options.Add(from);
        command.Options.Add(to);
        command.Options.Add(six);
        command.Options.Add(inside);
        command.Options.Add(mark);
        command.Options.Add(reply);
        settings.AddTo(command);
        command.Options.Add(every);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            using var progress = new SlowProgress();
            var scene = settings.SceneOf(parsed);
            var cluster = scene.ReadObjects();
            var who = parsed.GetRequiredValue(from);
            var isIPv6 = parsed.GetValue(six) ? true : AddressPort.TryParse(who, out var both) ? !both.Address.IsIPv4 : IpAddress.TryParse(who, null, out var alone) ? !alone.IsIPv4 : (bool?)null;
            var (destination, protocol) = Destination(parsed.GetRequiredValue(to), cluster, settings.NamespaceOf(parsed), isIPv6);
            var sender = Sender(who, cluster, settings.NamespaceOf(parsed), destination.Address.IsIPv4);
            // Asked of another node, it is what comes in there from the sender's.
            var place = (sender.Node ?? (sender.Source is null ? NodeAt(cluster, destination.Address) : null)) is { } own && !settings.IsSaved(parsed) && settings.NodeAsked(parsed) is null ? scene.Places.FirstOrDefault(p => p.Node == own) : null;
            var nodes = settings.Read(parsed, scene, cluster, place, progress.Doing);
            if (nodes is not [var node])
            {
                throw new OperatorException($"Say on which node: --node {string.Join(" or ", nodes.Select(n => n.Name))}.", ExitCode.Usage);
            }

            var rules = node.Families.FirstOrDefault(f => f.IsIPv6 != destination.Address.IsIPv4)
                ?? throw new OperatorException($"The {(destination.Address.IsIPv4 ? "IPv4" : "IPv6")} rules were not given: add them to --rules.", ExitCode.Usage);
            var (packet, words) = Packet(sender, new Vantage(cluster ?? ClusterSnapshot.Empty, node.Name, node.Routes), destination, protocol);
            packet = packet with { InInterface = parsed.GetValue(inside) ?? packet.InInterface, Mark = parsed.GetValue(mark) is { } text ? MarkOf(text) : 0 };
            var report = WalkReport.Of(rules, packet, words, cluster ?? ClusterSnapshot.Empty, node.Name, parsed.GetValue(reply));
            using var stream = Console.OpenStandardOutput();
            stream.Write(parsed.GetValue(json) == "json" ? CheckJson.Write(report) : Encoding.UTF8.GetBytes(WalkText.Write(report, CommandLine.Style(parsed), parsed.GetValue(every))));
            return report.Outcome == WalkOutcome.Undecided ? ExitCode.Undetermined : ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Mode()
    {
        var settings = new RuleSettings();
        var command = new Verb("mode", "Tell how kube-proxy works on each node, and by what that is known.") { Examples = [("traceprobe rules mode --rules dumps/", "from saved rules")] };
        settings.AddTo(command);
        command.SetAction(parsed =>
        {
            using var progress = new SlowProgress();
            var scene = settings.SceneOf(parsed);
            var cluster = scene.ReadObjects();
            var page = new Page(CommandLine.Style(parsed));
            var known = true;
            foreach (var node in settings.Read(parsed, scene, cluster, null, progress.Doing))
            {
                page.Paragraph(node.Name ?? "the node", 0, Ink.Bold);
                var modes = node.Families.Select(f => CheckedFamily.Of(f).Describe()).ToList();
                foreach (var (family, mode) in node.Families.Zip(modes))
                {
                    known &= family.Mode != ProxyMode.Unknown;
                    page.Row(2, new Cell(family.IsIPv6 ? "IPv6" : "IPv4", 4, Ink.Dim), new Cell(mode, Math.Max(10, modes.Max(m => m.Length))), new Cell(Evidence(family)));
                }

                foreach (var unread in node.Unread)
                {
                    page.Row(2, new Cell("-", 4, Ink.Dim), new Cell($"not read: {unread.What}: {unread.Why}"));
                }
            }

            Console.Out.Write(page);
            return known ? ExitCode.Healthy : ExitCode.Undetermined;
        });
        return command;
    }

    private static string Evidence(ProxyRules rules)
    {
        if (rules.Bypass is { } bypass)
        {
            return $"{bypass} translates in place of kube-proxy";
        }

        var where = rules.Sets.Where(s => s.Tables.Values.Any(t => t.Chains.Values.Any(c => !c.Rules.IsEmpty && ProxyChains.Of(t.Name, c.Name) is ProxyChain.Entry or ProxyChain.Portal)))
            .Select(s => RuleRef.ToolOf(s.Backend, s.IsIPv6)).ToList();
        var words = string.Create(CultureInfo.InvariantCulture, $"{(where.Count == 0 ? "no rules of kube-proxy" : string.Join(" and ", where))}: {rules.EntryRules} rules for Services, {rules.ServiceChains} service chains");
        var missing = new[] { rules.DescribeMissing(fromNode: false), rules.DescribeMissing(fromNode: true) }.OfType<string>().Distinct().ToList();
        return missing.Count == 0 ? words : $"{words}; {string.Join("; ", missing)}";
    }

    /// <summary>Who sends a packet.</summary>
    /// <param name="Origin">What kind of sender.</param>
    /// <param name="Source">The address, and the port when it was given; null for any of that kind.</param>
    /// <param name="Words">The sender in words; null when only the address is known.</param>
    /// <param name="Node">The node that it is on; null when not known.</param>
    private sealed record Who(Origin Origin, AddressPort? Source, string? Words = null, string? Node = null);

    private static Who Sender(string text, ClusterSnapshot? cluster, string ns, bool ipv4)
    {
        if (text is "node" or "outside")
        {
            return new Who(text == "node" ? Origin.Node : Origin.Outside, null);
        }

        if (AddressPort.TryParse(text, out var both) || IpAddress.TryParse(text, null, out var address) && (both = new AddressPort(address, 0)) is var _)
        {
            return cluster?.FindPodByAddress(both.Address) is { Spec.HostNetwork: false } owner ? Of(owner, both) : new Who(Origin.Outside, both, null, NodeAt(cluster, both.Address));
        }

        var words = text.Split('/');
        var isWorkload = Workloads.TryParse(text, ns, out var workload);
        if (!isWorkload && words is not (["pod" or "pods" or "po", { Length: > 0 }] or ["pod" or "pods" or "po", { Length: > 0 }, { Length: > 0 }] or ["node", { Length: > 0 }]))
        {
            throw new OperatorException($"'{text}' is nobody who sends; give pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, node, node/NAME, outside, ADDRESS or ADDRESS:PORT.", ExitCode.Usage);
        }

        if (cluster is null)
        {
            throw new OperatorException($"{(words[0] == "node" ? "Nodes" : "Pods")} are known by the cluster's objects: reach it with --kubeconfig, or give them with --cluster, or the address with --from.", ExitCode.Usage);
        }

        if (words[0] == "node")
        {
            var node = cluster.FindNode(words[1]) ?? throw Unknown("node", words[1], cluster.Nodes.Select(n => n.Metadata.Name), "");
            return new Who(Origin.Outside, new AddressPort(AddressesOf(node).Where(a => a.IsIPv4 == ipv4).Select(a => (IpAddress?)a).FirstOrDefault()
                ?? throw new OperatorException($"Node {words[1]} has no {(ipv4 ? "IPv4" : "IPv6")} address.", ExitCode.Usage), 0), $"node {words[1]}", words[1]);
        }

        var space = words.Length == 3 ? words[1] : ns;
        var pod = isWorkload ? Workloads.PodsOf(cluster, workload!).OrderByDescending(p => p.IsReady).ThenBy(p => p.Metadata.Name, StringComparer.Ordinal).FirstOrDefault()
                ?? throw Unknown(words[0], workload!.Name, Workloads.Names(cluster, workload.Kind, workload.Namespace), $" with pods in namespace {workload.Namespace}")
            : cluster.FindPod(space, words[^1]) ?? throw Unknown("pod", words[^1], cluster.Pods.Where(p => p.Metadata.Namespace == space).Select(p => p.Metadata.Name), $" in namespace {space}");
        var own = pod.Status.PodIPs.Select(i => (string?)i.Ip).Append(pod.Status.PodIP).Select(t => IpAddress.TryParse(t, null, out var a) ? a : (IpAddress?)null).FirstOrDefault(a => a?.IsIPv4 == ipv4);
        return own is { } known ? Of(pod, new AddressPort(known, 0))
            : throw new OperatorException($"Pod {pod.Metadata.Namespace}/{pod.Metadata.Name} has no {(ipv4 ? "IPv4" : "IPv6")} address.", ExitCode.Usage);

        static Who Of(Pod pod, AddressPort source) => new(pod.Spec.HostNetwork ? Origin.Node : Origin.Pod, source, $"pod {pod.Metadata.Namespace}/{pod.Metadata.Name}", pod.Spec.NodeName);
    }

    private static string? NodeAt(ClusterSnapshot? cluster, IpAddress address) => cluster?.Nodes.FirstOrDefault(n => AddressesOf(n).Contains(address))?.Metadata.Name;

    private static IEnumerable<IpAddress> AddressesOf(Core.Cluster.Node node) => node.Status.Addresses.Select(a => IpAddress.TryParse(a.Address, null, out var address) ? address : (IpAddress?)null).OfType<IpAddress>();

    private static OperatorException Unknown(string kind, string name, IEnumerable<string> known, string where)
    {
        var near = NearestNames.Of(name, known);
        return new OperatorException($"There is no {kind} {name}{where}.{(near.IsEmpty ? "" : $" The nearest: {string.Join(", ", near.Select(n => $"{kind}/{n}"))}.")}", ExitCode.Usage);
    }

    private static (AddressPort Destination, IpProtocol Protocol) Destination(string text, ClusterSnapshot? cluster, string ns, bool? ipv6)
    {
        var (rest, protocol) = text switch
        {
            _ when text.EndsWith("/udp", StringComparison.OrdinalIgnoreCase) => (text[..^4], IpProtocol.Udp),
            _ when text.EndsWith("/tcp", StringComparison.OrdinalIgnoreCase) => (text[..^4], IpProtocol.Tcp),
            _ when text.EndsWith("/sctp", StringComparison.OrdinalIgnoreCase) => (text[..^5], IpProtocol.Sctp),
            _ => (text, IpProtocol.None),
        };
        if (AddressPort.TryParse(rest, out var address))
        {
            return (address, protocol == IpProtocol.None ? IpProtocol.Tcp : protocol);
        }

        if (IpAddress.TryParse(rest, null, out var alone))
        {
            throw new OperatorException($"'{text}' has no port; give {(alone.IsIPv4 ? rest : $"[{rest}]")}:PORT.", ExitCode.Usage);
        }

        // 10.96.0.10:99999 and 10.96.0.10:53/icmp are no Services.
        if (rest.Length == 0 || rest[0] == '[' || rest.IndexOfAny([':', '/']) is > 0 and var end && IpAddress.TryParse(rest[..end], null, out _))
        {
            throw new OperatorException($"'{text}' is no destination; give ADDRESS:PORT, [ADDRESS]:PORT for IPv6, or svc/NAME:PORT, with /udp or /sctp behind it for another protocol than TCP.", ExitCode.Usage);
        }

        var (service, port, named) = RuleSettings.FindService(cluster ?? throw new OperatorException("Services are known by the cluster's objects: give them with --cluster, or the address with --to.", ExitCode.Usage), rest, ns);
        var wanted = service.Spec.Ports.Where(p => (named is null || p == named) && (port is null || p.Port == port) && (protocol == IpProtocol.None || ServiceMeaning.ProtocolOf(p) == protocol)).ToList();
        if (port is null && wanted.Count != 1)
        {
            throw new OperatorException($"Say which port of {service.Ref}: it has {RuleSettings.PortsOf(service)}.", ExitCode.Usage);
        }

        if (wanted.Count == 0)
        {
            CommandLine.Tell($"traceprobe: {service.Ref} has no such port, the packet is walked all the same; it has {RuleSettings.PortsOf(service)}.");
        }

        var addresses = ServiceMeaning.ClusterAddresses(service);
        if (addresses.IsEmpty)
        {
            throw new OperatorException($"{service.Ref} has no cluster address; walk to the address of one of its pods.", ExitCode.Usage);
        }

        return (new AddressPort(addresses.FirstOrDefault(a => a.IsIPv4 != ipv6, addresses[0]), port ?? (ushort)wanted[0].Port),
            wanted.Count > 0 ? ServiceMeaning.ProtocolOf(wanted[0]) : protocol == IpProtocol.None ? IpProtocol.Tcp : protocol);
    }

    private static (VirtualPacket Packet, string Words) Packet(Who who, Vantage vantage, AddressPort to, IpProtocol protocol)
    {
        var family = to.Address.IsIPv4 ? "IPv4" : "IPv6";
        if (who.Source is not { } source)
        {
            var packet = vantage.Packet(who.Origin, to, protocol, _ => false) ?? throw new OperatorException(who.Origin == Origin.Node
                ? $"The node's {family} address is not known; give it with --from ADDRESS, or its routes with --rules." : $"There is no {family} address to send from.", ExitCode.Usage);
            return (packet, who.Origin == Origin.Node ? vantage.Words : "outside");
        }

        if (source.Address.IsIPv4 != to.Address.IsIPv4)
        {
            throw new OperatorException($"{source.Address} cannot send to {to.Address}: they are of different address families.", ExitCode.Usage);
        }

        var origin = vantage.IsOwn(source.Address) ? Origin.Node : who.Origin;
        var made = vantage.PacketFrom(origin, source.Address, to, protocol);
        return (source.Port == 0 ? made : made with { Tuple = made.Tuple with { Source = source } },
            origin == Origin.Node && who.Origin != Origin.Node ? vantage.Words : who.Words ?? source.Address.ToString());
    }

    private static uint MarkOf(string text)
        => (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? uint.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var mark)
            : uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out mark)) ? mark : throw new OperatorException($"'{text}' is no mark; give a number such as 0x4000.", ExitCode.Usage);
}
