using System.Collections.Immutable;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>A recording with what every part of the diagnosis asks of it, worked out once.</summary>
internal sealed class Case
{
    private readonly Dictionary<uint, Place> _byNetNs = [];
    private readonly Dictionary<(string Node, bool IsIPv6), ProxyRules> _rules = [];
    private readonly Dictionary<string, ImmutableArray<RuleSet>> _ruleSets;

    /// <summary>Makes a case of a recording.</summary>
    /// <param name="recording">The recording.</param>
    /// <param name="earlier">A case of the same nodes with the same dumps, which need not be parsed again; null when there is none.</param>
    public Case(Recording recording, Case? earlier = null)
    {
        _ruleSets = earlier?._ruleSets ?? [];
        Recording = recording;
        Cluster = recording.Cluster ?? ClusterSnapshot.Empty;
        foreach (var place in recording.Manifest.Places)
        {
            _byNetNs[place.NetNs] = place;
        }

        Journey = JourneyBuilder.Build(recording.Events);
        ClientPlace = recording.Manifest.Places.FirstOrDefault(p => p.Name == recording.Manifest.Client);
        ClientNamespace = ClientPlace?.PodNamespace ?? "default";
        Lookups = OwnLookups();
        Main = AsClientKnowsIt(ChooseConnection());
        Target = recording.Manifest.Target ?? TargetOf(Main);
        Meant = Target is null ? null : ServiceMeant.By(Target.Host, ClientNamespace, Cluster) ?? MeantByLookups();
        Meant ??= Main is null ? null : ServiceMeant.ByAddress(Main.Asked.Destination.Address, Cluster);
        Meant ??= Target?.Address is { } address && IsNodeAddress(address) ? ServiceMeant.ByNodePort(Target.Port, Target.Protocol, Cluster) : null;
        Port = Meant?.Service is { } service && Target is not null ? ServiceMeaning.FindPort(service, Target.Port, Target.Protocol) ?? ServiceMeant.NodePortOf(service, Target.Port, Target.Protocol) : null;
        if (WithOnwardByAddress(Main) is { } proxied && !ReferenceEquals(proxied, Main))
        {
            Journey = Journey with { Connections = Journey.Connections.Replace(Main!, proxied, ReferenceEqualityComparer.Instance) };
            Main = proxied;
        }
    }

    public Recording Recording { get; }

    public ClusterSnapshot Cluster { get; }

    public Journey Journey { get; private set; }

    public Place? ClientPlace { get; }

    /// <summary>The API namespace in which the client's short names are looked up.</summary>
    public string ClientNamespace { get; }

    public ImmutableArray<DnsExchange> Lookups { get; }

    /// <summary>The connection that the verdict is about; null when the client never came so far.</summary>
    public Connection? Main { get; }

    public RequestTarget? Target { get; }

    /// <summary>The Service that was meant; null when the request is for something outside.</summary>
    public ServiceMeant? Meant { get; }

    /// <summary>The Service's port that was asked for; null when it has no such port.</summary>
    public ServicePort? Port { get; }

    public ClientReport? Client => Recording.Client;

    /// <summary>How the client is called in a sentence: <c>pod default/ubuntu</c>, <c>node-1</c>.</summary>
    public string ClientWords => ClientPlace is null ? Recording.Manifest.Client : Words(ClientPlace);

    /// <summary>The node that the client is on, or is.</summary>
    public string? ClientNode => ClientPlace?.Node;

    /// <summary>The programmed account of the client's node; null when it could not be read.</summary>
    public NodeAccount? ClientNodeAccount => NodeCalled(ClientNode) ?? (Recording.Nodes.Length == 1 && ClientNode is null ? Recording.Nodes[0] : null);

    /// <summary>
    /// The programmed account of the node whose rules a connection meets first: that of who dials (the client, or a proxy on a node), or for a client beyond
    /// the cluster the one that its packets came to. Null when it could not be read.
    /// </summary>
    public NodeAccount? EntryNode(Connection connection) => IsOnward(connection) ? NodeCalled(PlaceOf(connection.ClientNetNs)?.Node) : ClientPlace is { Kind: PlaceKind.Node or PlaceKind.Pod } || ClientNode is not null ? ClientNodeAccount
        : NodeCalled(connection.Sightings.Where(s => s.Forward).Select(s => PlaceOf(s.Event.NetNs)).FirstOrDefault(p => p?.Kind == PlaceKind.Node)?.Node) ?? ClientNodeAccount;

    /// <summary>Whether a process on a node made the connection: the client there, or a proxy on a client's behalf.</summary>
    public bool IsFromNode(Connection? connection) => (connection is not null && IsOnward(connection) ? PlaceOf(connection.ClientNetNs) : ClientPlace)?.Kind == PlaceKind.Node;

    /// <summary>Whether a connection is one that a proxy opened to serve another.</summary>
    public bool IsOnward(Connection connection) => Journey.Connections.Any(c => ReferenceEquals(c.Onward, connection));

    /// <summary>Whether an address is one of a node's own.</summary>
    public bool IsNodeAddress(IpAddress address) => Recording.Manifest.Places.Any(p => p.Kind == PlaceKind.Node && p.Addresses.Contains(address))
        || Cluster.Nodes.Any(n => n.Status.Addresses.Any(a => IpAddress.TryParse(a.Address, null, out var own) && own == address));

    /// <summary>
    /// What a node's rules do otherwise than they should with a connection's first packet, as it came to the node; the first in the packet's order
    /// first.
    /// </summary>
    public ImmutableArray<CheckFinding> Explain(NodeAccount node, Service service, ServicePort port, FiveTuple tuple, bool fromNode)
    {
        var rules = RulesOf(node, !tuple.Destination.Address.IsIPv4);
        var check = new RuleCheck(Cluster, node.Name, [rules], rules.Routes);
        return [.. check.Explain(service, port, PacketAt(rules, tuple, fromNode)).Where(f => f.Status == CheckStatus.Differs)];
    }

    /// <summary>A connection's first packet, as it comes to a node.</summary>
    public static VirtualPacket PacketAt(ProxyRules rules, FiveTuple tuple, bool fromNode) => new()
    {
        Tuple = tuple,
        FromNode = fromNode,
        InInterface = fromNode ? null : rules.Routes?.Lookup(tuple.Source.Address) is { Type: "unicast" } route ? route.Device : null,
        Routes = rules.Routes,
    };

    public Place? PlaceOf(uint netns) => _byNetNs.GetValueOrDefault(netns);

    public string PlaceName(uint netns) => PlaceOf(netns)?.Name ?? (netns == 0 ? "unknown" : $"netns:{netns}");

    public static string Words(Place place) => place.Kind switch
    {
        PlaceKind.Pod => $"pod {place.PodNamespace}/{place.PodName}",
        PlaceKind.Node => place.Node ?? place.Name,
        _ => place.Name,
    };

    /// <summary>What became of a packet that nothing answered: it vanished, or a rule dropped it where that was seen.</summary>
    public string EndOf(Connection unanswered)
        => unanswered.Drops.FirstOrDefault(d => d.Forward && d.Event.DropReason == "NETFILTER_DROP") is { Event.DropReason: not null } drop
            ? $"was dropped by a rule in {WordsOf(drop.Event.NetNs)}" : "vanished";

    public string WordsOf(uint netns) => PlaceOf(netns) is { } place ? Words(place) : PlaceName(netns);

    public NodeAccount? NodeCalled(string? name) => name is null ? null : Recording.Nodes.FirstOrDefault(n => n.Name == name);

    /// <summary>The nodes whose dumps turned out to be none when they were asked for, each with the reason.</summary>
    public ImmutableArray<string> UnreadableRules { get; private set; } = [];

    /// <summary>What kube-proxy's rules on a node say; parsed once, since several checks ask.</summary>
    public ProxyRules RulesOf(NodeAccount node, bool isIPv6)
    {
        if (!_rules.TryGetValue((node.Name, isIPv6), out var rules))
        {
            try
            {
                if (!_ruleSets.TryGetValue(node.Name, out var sets))
                {
                    _ruleSets.Add(node.Name, sets = RuleSet.ParseAll(node.Dumps, node.Sysctls));
                }

                rules = ProxyRules.Of(node, sets, isIPv6);
            }
            catch (FormatException e)
            {
                // Half of the rules would accuse what the other half has: then none of them count.
                rules = ProxyRules.Of([], isIPv6, node.NftTables, node.HasIpvs);
                var what = $"rules of {node.Name}: {e.Message}";
                UnreadableRules = UnreadableRules.Contains(what) ? UnreadableRules : UnreadableRules.Add(what);
            }

            _rules.Add((node.Name, isIPv6), rules);
        }

        return rules;
    }

    /// <summary>The pod, node or place that holds an address, in words; the address itself when nothing is known of it.</summary>
    public string HolderWords(IpAddress address)
    {
        if (Cluster.FindPodByAddress(address) is { } pod)
        {
            return $"pod {pod.Metadata.Namespace}/{pod.Metadata.Name}";
        }

        return Recording.Manifest.Places.FirstOrDefault(p => p.Addresses.Contains(address)) is { } place ? Words(place) : address.ToString();
    }

    /// <summary>The namespace of the pod that holds an address; null when no place does.</summary>
    public uint? NetNsOf(IpAddress address)
    {
        if (Recording.Manifest.Places.FirstOrDefault(p => p.Addresses.Contains(address)) is { } place)
        {
            return place.NetNs;
        }

        return Cluster.FindPodByAddress(address) is { } pod
            ? Recording.Manifest.Places.FirstOrDefault(p => p.PodName == pod.Metadata.Name && p.PodNamespace == pod.Metadata.Namespace)?.NetNs
            : null;
    }

    /// <summary>The listening sockets of a namespace; null when they were not read.</summary>
    public ImmutableArray<ListeningSocket>? ListenersIn(uint netns)
    {
        foreach (var node in Recording.Nodes)
        {
            if (node.ListenersReadIn.Contains(netns))
            {
                return [.. node.Listeners.Where(l => l.NetNs == netns)];
            }
        }

        return null;
    }

    /// <summary>Whether a nameserver is the cluster's own.</summary>
    public bool IsClusterDns(IpAddress resolver)
        => (Cluster.ClusterDns is { } dns && ServiceMeant.AddressesOf(dns).Contains(resolver))
        // NodeLocal DNSCache listens on a link-local address and speaks for the cluster's DNS; those of 169.254.169.0/24 are the providers' own, as AWS's .253 and Google's .254.
        || (IpNetwork.Parse("169.254.0.0/16").Contains(resolver) && !IpNetwork.Parse("169.254.169.0/24").Contains(resolver));

    // A search list makes many questions of one; those that differ in their type only are one piece of evidence.
    /// <summary>The nameservers that were asked, in order; from packets, or where none were seen from the client's own account.</summary>
    public ImmutableArray<IpAddress> AskedResolvers()
    {
        var asked = ImmutableArray.CreateBuilder<IpAddress>();
        foreach (var lookup in Lookups)
        {
            Add(lookup.Connection.Asked.Destination.Address);
        }

        foreach (var lookup in Lookups.IsEmpty && Client is not null ? Client.Lookups : [])
        {
            Add(lookup.Nameserver.Address);
        }

        return asked.ToImmutable();

        void Add(IpAddress resolver)
        {
            if (!asked.Contains(resolver))
            {
                asked.Add(resolver);
            }
        }
    }

    /// <summary>The addresses that the name came out as; empty when it did not.</summary>
    public ImmutableArray<IpAddress> FinalAddresses()
    {
        if (Client is { Addresses.IsEmpty: false })
        {
            return Client.Addresses;
        }

        return [.. Lookups.Where(l => l.Answer is not null).SelectMany(l => l.Answer!.Addresses).Distinct()];
    }

    /// <summary>Whether an address is that of an endpoint of the Service, ready or not.</summary>
    public bool IsOfService(IpAddress address)
    {
        var text = address.ToString();
        return Meant?.Service is { } service && Cluster.SlicesOf(service).Any(s => s.Endpoints.Any(e => e.Addresses.Contains(text)));
    }

    /// <summary>Whether a connection was translated to a process on the node itself: kube-proxy's userspace mode.</summary>
    public bool IsBehindProxy(Connection connection)
        => connection.Translated is { } translated && PlaceOf(connection.TranslatedInNetNs) is { Kind: PlaceKind.Node } node
            && AnsweredWhereTranslated(connection)
            && (node.Addresses.Contains(translated.Destination.Address) || translated.Destination.Address.IsLoopback || !IsOfService(translated.Destination.Address))
            && NodeCalled(node.Node)?.Listeners.Any(l => l.Local.Port == translated.Destination.Port && l.Process is { Command: "kube-proxy" or "hyperkube" }) == true;

    /// <summary>
    /// Whether it is not known who took a connection: a process of the node that translated it, and which one was not read; or whoever stands behind a proxy
    /// in userspace mode that was not seen at work.
    /// </summary>
    public bool IsTakerUnknown(Connection connection) => !IsBehindProxy(connection) && (connection.Translated is not null
        ? PlaceOf(connection.TranslatedInNetNs) is { Kind: PlaceKind.Node } node && connection.AnsweredInNetNs == connection.TranslatedInNetNs && NodeCalled(node.Node) is not { Listeners.IsEmpty: false }
        : connection.AnsweredInNetNs == connection.ClientNetNs && ClientPlace is { Kind: PlaceKind.Pod } && ClientNodeAccount is { } own && RulesOf(own, isIPv6: false).Mode == ProxyMode.Userspace);

    // Where the leaving of an answer escaped observation, the first that is seen of it is its arrival at the client.
    private static bool AnsweredWhereTranslated(Connection connection)
        => connection.AnsweredInNetNs == 0 || connection.AnsweredInNetNs == connection.TranslatedInNetNs || connection.AnsweredInNetNs == connection.ClientNetNs;

    /// <summary>The client's node, when kube-proxy there works in userspace mode: through a process of its own; null otherwise.</summary>
    public string? UserspaceProxyNode => ClientNodeAccount is { } node && Meant?.Service is { Spec.IsHeadless: false }
        && (Main is { Translated: not null } main ? IsBehindProxy(main) : RulesOf(node, isIPv6: false).Mode == ProxyMode.Userspace) ? node.Name : null;

    public long SinceStart(long bootNanoseconds) => bootNanoseconds - Recording.Manifest.StartNanoseconds;

    /// <summary>
    /// The connections that the client itself made (a proxy's onward ones are not), by what they are for: the verdict is about the
    /// first purpose that failed, and within it about the connection that came farthest.
    /// </summary>
    private Connection? ChooseConnection()
    {
        var target = Recording.Manifest.Target;
        var onward = new HashSet<Connection>(Journey.Connections.Where(c => c.Onward is not null).Select(c => c.Onward!), ReferenceEqualityComparer.Instance);
        var clientNetNs = ClientPlace?.NetNs ?? 0;
        // Of what was seen from its middle on, the first packet may have been the server's.
        var own = Journey.Connections.Where(c => !onward.Contains(c) && (clientNetNs == 0 || c.ClientNetNs == clientNetNs)
            && !(c.MidStream && ClientPlace is { Addresses.IsEmpty: false } place && !place.Addresses.Contains(c.Asked.Source.Address))
            && (target is not null ? c.Asked.Destination.Port == target.Port && c.Asked.Protocol == target.Protocol : !c.IsDns)).ToList();
        Connection? first = null;
        foreach (var purpose in own.GroupBy(c => $"{ServiceMeant.ByAddress(c.Asked.Destination.Address, Cluster)?.Name ?? c.Asked.Destination.Address.ToString()} {c.Asked.Destination.Port}"))
        {
            // Of several that came as far, the first.
            var best = purpose.Aggregate((a, b) => HowFar(b) > HowFar(a) || HowFar(b) == HowFar(a) && b.StartNanoseconds < a.StartNanoseconds ? b : a);
            first ??= best;
            if (!Succeeded(best))
            {
                return best;
            }
        }

        return first;
    }

    // Where the answer to its SYN escaped observation, the client knows all the same that it was connected.
    private Connection? AsClientKnowsIt(Connection? seen)
    {
        if (seen is not { Asked.Protocol: IpProtocol.Tcp, Outcome: ConnectionOutcome.Unanswered or ConnectionOutcome.Refused or ConnectionOutcome.Rejected }
            || Client?.Connects.Any(a => a.Error == 0 && a.Remote == seen.Asked.Destination) != true)
        {
            return seen;
        }

        var known = seen with { Outcome = ConnectionOutcome.Unknown };
        Journey = Journey with { Connections = Journey.Connections.Replace(seen, known, ReferenceEqualityComparer.Instance) };
        return known;
    }

    // Captured packets do not tell who dialled; but who dials a pod of the Service on its target port while kube-proxy holds the
    // client's connection to it is kube-proxy.
    private Connection? WithOnwardByAddress(Connection? main)
    {
        if (Recording.Manifest.Source != EventSource.Libpcap || main is not { Outcome: ConnectionOutcome.Established, Translated: not null, Onward: null }
            || Meant?.Service is not { } service || Port is null || !IsBehindProxy(main))
        {
            return main;
        }

        var backends = ServiceMeaning.ExpectedBackends(Cluster, service, Port, ipv6: false).Concat(ServiceMeaning.ExpectedBackends(Cluster, service, Port, ipv6: true)).Select(b => b.Address).ToHashSet();
        return main with
        {
            Onward = Journey.Connections.FirstOrDefault(c => c.ClientNetNs == main.TranslatedInNetNs && backends.Contains(c.Backend)
                && c.StartNanoseconds >= main.StartNanoseconds && c.StartNanoseconds <= main.EndNanoseconds),
        };
    }

    private static int HowFar(Connection c) => c.Outcome switch
    {
        ConnectionOutcome.Established => c.ReplyBytes > 0 ? 5 : 4,
        ConnectionOutcome.Refused => 2,
        ConnectionOutcome.Rejected => 1,
        ConnectionOutcome.Unknown => 3,
        _ => 0,
    };

    /// <summary>Whether a connection came to an answer, as far as packets tell.</summary>
    public static bool Succeeded(Connection c) => c.Outcome is ConnectionOutcome.Established or ConnectionOutcome.Unknown
        && (c.Asked.Protocol == IpProtocol.Udp || c.ReplyBytes > 0 || IsProbe(c)) && HttpStatus(c.StatusLine) is null or < 400
        && c.Tls == TlsTalk.Agreed && !c.IsCutByServer && !IsResetUnfinished(c);

    /// <summary>Whether the server reset a connection on which it had answered something, while neither side had said that it was done.</summary>
    public static bool IsResetUnfinished(Connection c) => c is { ReplyBytes: > 0, ResetBy: Side.Server, FinishedBy: Side.None } && (c.AnswerLength is null || c.AnswerBytes < c.AnswerLength);

    // Connected, asked nothing, and closed by the client itself: all that it wanted was to connect.
    private static bool IsProbe(Connection c) => c.Outcome == ConnectionOutcome.Established && c is { RequestBytes: 0, FinishedBy: not Side.Server, ResetBy: not Side.Server };

    /// <summary>The status code of an HTTP status line; null when there is none.</summary>
    public static int? HttpStatus(string? line)
    {
        var space = line?.IndexOf(' ', StringComparison.Ordinal) ?? -1;
        return space > 0 && line!.Length >= space + 4 && int.TryParse(line.AsSpan(space + 1, 3), System.Globalization.NumberStyles.None, null, out var code) ? code : null;
    }

    // For a followed command there is no URL: its questions and connection say what it wanted.
    private RequestTarget? TargetOf(Connection? connection)
    {
        if (connection is not null)
        {
            var name = Lookups.LastOrDefault(l => l.SentNanoseconds <= connection.StartNanoseconds
                && l.Answer is { } answer && answer.Addresses.Contains(connection.Asked.Destination.Address))?.Name;
            var scheme = connection.Asked.Protocol == IpProtocol.Udp ? RequestScheme.Udp : RequestScheme.Tcp;
            return new RequestTarget(scheme, name ?? connection.Asked.Destination.Address.ToString(), connection.Asked.Destination.Port, "/");
        }

        return Lookups.Length == 0 ? null : new RequestTarget(RequestScheme.Tcp, (LookupOfService() ?? Lookups[0]).Name, 0, "/");
    }

    // A question whose way was seen from its middle on only is not known to be the client's.
    private ImmutableArray<DnsExchange> OwnLookups()
    {
        var own = ClientPlace is null ? Journey.Lookups : [.. Journey.Lookups.Where(l => l.Connection.ClientNetNs == ClientPlace.NetNs)];
        return own.IsEmpty && Recording.Manifest.Source == EventSource.Libpcap ? Journey.Lookups : own;
    }

    private DnsExchange? LookupOfService() => Lookups.FirstOrDefault(l => ServiceMeant.By(l.Name, ClientNamespace, Cluster)?.Service is not null);

    private ServiceMeant? MeantByLookups() => LookupOfService() is { } lookup ? ServiceMeant.By(lookup.Name, ClientNamespace, Cluster) : null;
}
