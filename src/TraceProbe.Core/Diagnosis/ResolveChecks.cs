using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can go wrong while the name becomes an address.</summary>
internal sealed class ResolveChecks(Case c)
{
    private string Host => c.Target!.Host;

    public IEnumerable<Finding> Find()
    {
        if (c.Target is null || c.Target.Address is not null || c.Meant is not { Form: not ServiceNameForm.Address } meant)
        {
            // An address needs no name, and of outside names the cluster says nothing.
            if (c.Target is { Address: null } && c.Main is null && Answers().Any() && c.FinalAddresses().IsEmpty)
            {
                yield return c.Recording.Cluster is null ? UnknownName() : OutsideName();
            }

            if (c.Target?.Address is { } asked && c.Meant is null && NobodysAddress(asked) is { } nobodys)
            {
                yield return nobodys;
            }

            yield break;
        }

        var addresses = c.FinalAddresses();
        var expected = meant.Service is null ? [] : StageFacts.ExpectedAddresses(c, meant.Service);
        var own = meant.Service is null ? [] : ServiceMeant.AddressesOf(meant.Service);
        if (!addresses.IsEmpty && addresses.All(a => expected.Contains(a) || own.Contains(a)))
        {
            if (CannotBeReached(meant, addresses) is { } mismatch)
            {
                yield return mismatch;
            }

            yield break;
        }

        if (c.Client?.HostsEntry is { } entry)
        {
            yield return HostsOverride(meant, entry, addresses);
            yield break;
        }

        var resolvers = c.AskedResolvers();
        var strangers = resolvers.Where(r => !c.IsClusterDns(r)).ToList();
        if (strangers.Count > 0 && strangers.Count == resolvers.Length && c.Cluster.ClusterDns is not null)
        {
            yield return WrongResolver(meant, strangers[0], addresses);
            if (meant.Service is null)
            {
                yield return NotFound(meant);
            }

            yield break;
        }

        if (!addresses.IsEmpty)
        {
            if (meant.Service is { Spec.Type: not "ExternalName" })
            {
                // The answer was to another name, which the client took for the whole one.
                yield return meant.Form is not (ServiceNameForm.Full or ServiceNameForm.OtherDomain or ServiceNameForm.WithoutSvc) && !c.Lookups.IsEmpty
                    && !c.Lookups.Any(l => l.Name == $"{meant.Name}.{meant.Namespace}.svc.{c.Cluster.ClusterDomain}")
                    ? NameError(meant) : StaleAnswer(meant, addresses);
            }

            yield break;
        }

        if (c.Client is { Addresses.IsEmpty: true } client && client.Lookups.Any(l => l.Outcome == LookupOutcome.Answered))
        {
            yield return FamilyMismatch(meant, client);
            yield break;
        }

        var answers = Answers().ToList();
        if (answers.Count == 0)
        {
            foreach (var finding in NoAnswers() is { } nonsense ? [nonsense] : Unanswered(meant))
            {
                yield return finding;
            }

            yield break;
        }

        // The Service's full name having been answered, with or without an address, what was said of other names decides nothing.
        var full = $"{meant.Name}.{meant.Namespace}.svc.{c.Cluster.ClusterDomain}";
        var decided = c.Lookups.Any(l => l.Name == full && l.Answer is { IsTruncated: false, ResponseCode: DnsResponseCode.NoError or DnsResponseCode.NXDomain });
        if (!decided && answers.Find(a => a.ResponseCode is not (DnsResponseCode.NoError or DnsResponseCode.NXDomain)) is { } failed)
        {
            yield return ResolverFailure(failed);
            yield break;
        }

        if (!decided && answers.Find(a => a.IsTruncated) is { } cut)
        {
            yield return CutShort(cut);
            yield break;
        }

        yield return NameError(meant);
    }

    private IEnumerable<DnsMessage> Answers() => c.Lookups.Where(l => l.Answer is not null).Select(l => l.Answer!);

    private ImmutableArray<Evidence> LookupEvidence() => [.. c.Lookups
        .GroupBy(l => (Resolver: l.Connection.Asked.Destination.Address, l.Name, Answer: l.Answer is null ? "no answer" : l.Answer.Addresses.IsEmpty && l.Answer.ResponseCode == DnsResponseCode.NoError ? "no such record" : Timeline.AnswerWords(l.Answer)))
        .Take(8).Select(g => new Evidence(EvidenceSource.Observed,
            $"{g.Key.Resolver} was asked for {string.Join(" and ", g.Select(l => l.Type).Distinct())} {g.Key.Name}: {g.Key.Answer}",
            c.SinceStart(g.First().SentNanoseconds), c.PlaceName(g.First().Connection.ClientNetNs)))];

    private Finding WrongResolver(ServiceMeant meant, IpAddress stranger, ImmutableArray<IpAddress> addresses)
    {
        var dns = c.Cluster.ClusterDns!;
        var dnsAddress = ServiceMeant.AddressesOf(dns).FirstOrDefault(a => a.IsIPv4 == stranger.IsIPv4, ServiceMeant.AddressesOf(dns).FirstOrDefault());
        var answered = addresses.IsEmpty
            ? Answers().Any() ? $"it answered {string.Join(", ", Answers().Select(Timeline.AnswerWords).Distinct())}" : "it did not answer"
            : $"it answered {string.Join(", ", addresses.Order())}, {(addresses.Length == 1 ? "an address" : "addresses")} that no Service holds";
        var path = c.Client?.Resolver?.Path ?? "/etc/resolv.conf";
        var evidence = LookupEvidence().Add(new Evidence(EvidenceSource.Desired, $"the cluster's DNS is {dns.Ref} at {string.Join(", ", ServiceMeant.AddressesOf(dns))}"));
        if (c.Client?.Resolver is { } resolver)
        {
            evidence = evidence.Add(new Evidence(EvidenceSource.Client, $"resolv.conf of {c.ClientWords}: nameserver {string.Join(", ", resolver.Nameservers)}; search {(resolver.Search.IsEmpty ? "none" : string.Join(' ', resolver.Search))}"));
        }

        var client = c.ClientPlace;
        Mend mend;
        string cause;
        if (client is { Kind: PlaceKind.Pod, PodName: { } name, PodNamespace: { } ns } && c.Cluster.FindPod(ns, name) is { } pod)
        {
            cause = pod.Spec.DnsPolicy switch
            {
                "Default" => $" (the pod's dnsPolicy is Default: it has its node's resolv.conf)",
                "None" => " (the pod's dnsPolicy is None: its dnsConfig names the nameserver)",
                _ => $" (the pod's dnsPolicy {pod.Spec.DnsPolicy} should have given it {dnsAddress}: its resolv.conf was changed afterwards)",
            };
            mend = pod.Spec.DnsPolicy is "Default" or "None"
                ? Mends.ClusterFirst(pod)
                : new Mend("Recreate the pod, so that the kubelet writes its resolv.conf anew, or write the cluster's DNS back into it.",
                    $"kubectl exec -n {ns} {name} -- sh -c 'printf \"nameserver {dnsAddress}\\nsearch {ns}.svc.{c.Cluster.ClusterDomain} svc.{c.Cluster.ClusterDomain} {c.Cluster.ClusterDomain}\\noptions ndots:5\\n\" > /etc/resolv.conf'");
        }
        else
        {
            cause = "";
            var full = $"{meant.Name}.{meant.Namespace}.svc.{c.Cluster.ClusterDomain}";
            mend = new Mend($"Put the cluster's DNS first in {c.ClientWords}'s resolv.conf{(meant.Form == ServiceNameForm.Full ? "" : $", and ask for the full name, {full}: the kubelet gives search domains to pods only")}.", $"sed -i '1i nameserver {dnsAddress}' /etc/resolv.conf", c.ClientNode ?? c.ClientWords);
        }

        return new Finding(FailureClass.WrongResolver,
            $"{c.ClientWords} asks nameserver {stranger}, which is not the cluster's DNS ({dnsAddress}), for {Host}; {answered}{cause}.")
        {
            Objects = client?.PodName is { } podName ? [new ObjectRef("pod", client.PodNamespace, podName)] : c.ClientNode is { } node ? [new ObjectRef("node", null, node)] : [],
            Evidence = evidence,
            Mend = mend,
        };
    }

    private Finding HostsOverride(ServiceMeant meant, string entry, ImmutableArray<IpAddress> addresses)
        => new(FailureClass.HostsOverride, $"A line in the hosts file of {c.ClientWords} sends {Host} to {string.Join(", ", addresses)}, which is not an address of service {meant.Namespace}/{meant.Name}.")
        {
            Objects = c.ClientPlace?.PodName is { } podName ? [new ObjectRef("pod", c.ClientPlace.PodNamespace, podName)] : [],
            Evidence = [new Evidence(EvidenceSource.Client, $"hosts file of {c.ClientWords}: {entry}")],
            Mend = new Mend("Remove the line from the hosts file (or from the pod's spec.hostAliases).", null),
        };

    private Finding StaleAnswer(ServiceMeant meant, ImmutableArray<IpAddress> addresses)
        => new(FailureClass.StaleAnswer, $"The cluster's DNS answered {string.Join(", ", addresses)} for {Host}, but service {meant.Namespace}/{meant.Name} has {string.Join(", ", StageFacts.ExpectedAddresses(c, meant.Service!))}.")
        {
            Objects = c.Cluster.ClusterDns is { } dns ? [dns.Ref, meant.Service!.Ref] : [meant.Service!.Ref],
            Evidence = LookupEvidence(),
            Mend = new Mend("Restart the DNS pods if they do not follow the API; otherwise wait for the record's TTL.",
                c.Cluster.ClusterDns is { } d ? $"kubectl delete pod -n {d.Metadata.Namespace} -l {string.Join(',', d.Spec.Selector.Select(s => $"{s.Key}={s.Value}"))}" : null),
        };

    // Its own kernel would not let the client try: it has no address, or no route, of that family.
    private Finding? CannotBeReached(ServiceMeant meant, ImmutableArray<IpAddress> addresses)
    {
        const int ENETUNREACH = 101, EADDRNOTAVAIL = 99, EAFNOSUPPORT = 97;
        if (c.Main is not null || addresses.Any(a => a.IsIPv4 != addresses[0].IsIPv4) || c.Client is not { Connects: { IsEmpty: false } attempts }
            || !attempts.All(a => a.Error is ENETUNREACH or EADDRNOTAVAIL or EAFNOSUPPORT && addresses.Contains(a.Remote.Address)))
        {
            return null;
        }

        var family = addresses[0].IsIPv4 ? "IPv4" : "IPv6";
        return new(FailureClass.AddressFamilyMismatch, $"{Host} has only {family} addresses ({string.Join(", ", addresses)}), and {c.ClientWords} can send nothing to any of that family.")
        {
            Objects = meant.Service is null ? [] : [meant.Service.Ref],
            Evidence = [.. LookupEvidence(), .. attempts.Take(2).Select(a => new Evidence(EvidenceSource.Client, $"connect to {a.Remote}: {(a.Error == EADDRNOTAVAIL ? "no address of its own to connect from" : a.Error == ENETUNREACH ? "no route" : "address family not supported")}", c.SinceStart(a.StartNanoseconds)))],
            Mend = BothFamilies(meant),
        };
    }

    private static Mend? BothFamilies(ServiceMeant meant)
        => meant.Service is null ? null : new Mend("Give the Service both families.", $"kubectl patch service {meant.Name} -n {meant.Namespace} -p '{{\"spec\":{{\"ipFamilyPolicy\":\"PreferDualStack\"}}}}'");

    private Finding FamilyMismatch(ServiceMeant meant, ClientReport client)
    {
        var given = client.Lookups.Where(l => l.Outcome == LookupOutcome.Answered).SelectMany(l => l.Addresses).Distinct().ToList();
        return new(FailureClass.AddressFamilyMismatch, $"{Host} has only {(given[0].IsIPv4 ? "IPv4" : "IPv6")} addresses ({string.Join(", ", given)}), and {c.ClientWords} has no address of that family.")
        {
            Objects = meant.Service is null ? [] : [meant.Service.Ref],
            Evidence = LookupEvidence(),
            Mend = BothFamilies(meant),
        };
    }

    private IEnumerable<Finding> Unanswered(ServiceMeant meant)
    {
        // What the client was answered, and nobody saw, was answered all the same.
        if (c.Client is { } told && told.Lookups.Any(l => l.Outcome is not (LookupOutcome.TimedOut or LookupOutcome.Unreachable or LookupOutcome.Superseded)))
        {
            yield return new Finding(FailureClass.Undetermined, $"{c.ClientWords} was answered when it asked for {Host}, but what it was answered was not seen.")
            {
                Confidence = Confidence.None,
                NotSeen = ["the nameserver's answers"],
            };
            yield break;
        }

        var lookup = c.Lookups.FirstOrDefault();
        if (lookup is null)
        {
            if (c.Client is { Lookups.IsEmpty: false } client)
            {
                var asked = client.Lookups[0];
                yield return new Finding(FailureClass.ResolverUnreachable, $"{asked.Nameserver} gave {c.ClientWords} no answer for {Host}.")
                {
                    Confidence = Confidence.Likely,
                    NotSeen = ["the question's packets, so it is not known where they ended"],
                };
            }

            yield break;
        }

        // The question is itself a request to a Service: what is wrong with that one is the cause.
        var dns = c.Cluster.ClusterDns;
        var port = dns is null ? null : ServiceMeaning.FindPort(dns, 53, lookup.Connection.Asked.Protocol);
        if (dns is not null)
        {
            var isExplained = false;
            foreach (var finding in ServiceChecks.Find(c, dns, port, lookup.Connection, isDns: true))
            {
                isExplained = true;
                yield return finding.Class switch
                {
                    FailureClass.NoReadyEndpoints or FailureClass.NoPods or FailureClass.SelectorMatchesNothing or FailureClass.PodsCrashing
                        => finding with { Class = FailureClass.ResolverNoEndpoints, Sentence = $"The cluster's DNS has no ready endpoint, so {Host} cannot be resolved: {Lower(finding.Sentence)}", Evidence = [.. LookupEvidence(), .. finding.Evidence] },
                    // What is wrong with the node's rules is wrong for every Service: that class says more than "unreachable".
                    FailureClass.ProxyRulesMissing or FailureClass.ServiceRuleMissing or FailureClass.ForwardingDisabled or FailureClass.ConntrackFull
                        => finding with { Sentence = $"{finding.Sentence[..^1]}; the question for {Host} is the first to vanish.", Evidence = [.. LookupEvidence(), .. finding.Evidence] },
                    // That no answer came is certain, whatever kept it from coming.
                    _ => finding with { Class = FailureClass.ResolverUnreachable, Confidence = finding.Class == FailureClass.Undetermined ? Confidence.Likely : finding.Confidence, Sentence = $"Questions for {Host} get no answer from {lookup.Connection.Asked.Destination.Address}: {Lower(finding.Sentence)}", Evidence = [.. LookupEvidence(), .. finding.Evidence] },
                };
            }

            if (isExplained)
            {
                yield break;
            }
        }

        yield return new Finding(FailureClass.ResolverUnreachable, $"{lookup.Connection.Asked.Destination.Address} gave {c.ClientWords} no answer for {Host}.")
        {
            Objects = dns is not null && c.IsClusterDns(lookup.Connection.Asked.Destination.Address) ? [dns.Ref] : [],
            Evidence = [.. LookupEvidence(), .. lookup.Connection.Sightings.IsEmpty ? Array.Empty<Evidence>() : [LastSeen(lookup.Connection)]],
            Confidence = Confidence.Likely,
            NotSeen = ["what became of the question"],
        };
    }

    private Evidence LastSeen(Connection question)
    {
        var last = question.Sightings.Last(s => s.Forward).Event;
        return new Evidence(EvidenceSource.Observed, $"the question {last.Tuple} was last seen in {c.WordsOf(last.NetNs)} on {last.Interface}", c.SinceStart(last.BootNanoseconds), c.PlaceName(last.NetNs));
    }

    private Finding ResolverFailure(DnsMessage answer)
    {
        var resolver = c.Lookups.First(l => ReferenceEquals(l.Answer, answer)).Connection;
        return new(FailureClass.ResolverFailure, $"Nameserver {resolver.Asked.Destination.Address} answered {answer.ResponseCode.ToString().ToUpperInvariant()} for {Host}.")
        {
            Objects = c.Cluster.ClusterDns is { } dns && c.IsClusterDns(resolver.Asked.Destination.Address) ? [dns.Ref] : [],
            Evidence = LookupEvidence(),
            Mend = ReadTheLog(resolver.Asked.Destination.Address),
        };
    }

    // Something came back, and no client could take it for an answer.
    private Finding? NoAnswers()
    {
        var bad = c.Client?.Lookups.FirstOrDefault(l => l.Outcome == LookupOutcome.Malformed)?.Nameserver.Address
            ?? (c.Client is { Lookups.IsEmpty: false } ? [] : c.Lookups).FirstOrDefault(l => l.Connection is { Outcome: ConnectionOutcome.Established, ReplyBytes: > 0, Asked.Protocol: IpProtocol.Udp })?.Connection.Asked.Destination.Address;
        return bad is not { } nameserver ? null : new(FailureClass.ResolverFailure, $"What nameserver {nameserver} sends back is no DNS answer to the question for {Host}.")
        {
            Confidence = c.Client is { Lookups.IsEmpty: false } ? Confidence.Certain : Confidence.Likely,
            Objects = c.Cluster.ClusterDns is { } dns && c.IsClusterDns(nameserver) ? [dns.Ref] : [],
            Evidence = LookupEvidence(),
            Mend = ReadTheLog(nameserver),
        };
    }

    // RFC 7766 section 5: who gets a cut answer asks again over TCP.
    private Finding CutShort(DnsMessage answer)
    {
        var nameserver = c.Lookups.First(l => ReferenceEquals(l.Answer, answer)).Connection.Asked.Destination.Address;
        var objects = c.Cluster.ClusterDns is { } dns && c.IsClusterDns(nameserver) ? [dns.Ref] : ImmutableArray<ObjectRef>.Empty;
        var attempt = c.Journey.Connections.FirstOrDefault(x => x.IsDns && x.Asked.Protocol == IpProtocol.Tcp && x.Asked.Destination.Address == nameserver);
        var lookup = c.Client?.Lookups.FirstOrDefault(l => l.Transport == IpProtocol.Tcp && l.Nameserver.Address == nameserver);
        if (attempt is { Outcome: ConnectionOutcome.Established } && (c.IsTakerUnknown(attempt) || attempt.AnsweredInNetNs == attempt.ClientNetNs && attempt.Translated is null))
        {
            return new(FailureClass.Undetermined, $"Nameserver {nameserver} cuts its answer for {Host} short, to be asked again over TCP; who took that connection and gave no answer was not seen.")
            {
                Confidence = Confidence.None,
                Objects = objects,
                Evidence = LookupEvidence(),
                NotSeen = [$"who answered the TCP connection to {nameserver}"],
            };
        }

        // A userspace proxy takes what it cannot pass on.
        if (attempt is { Outcome: ConnectionOutcome.Established } && (!c.IsBehindProxy(attempt) || attempt.Onward?.Outcome == ConnectionOutcome.Established) || lookup is { Outcome: LookupOutcome.Malformed or LookupOutcome.ServerFailure })
        {
            return new(FailureClass.ResolverFailure, $"Nameserver {nameserver} cuts its answer for {Host} short, and what it sends over TCP instead is no answer either.")
            {
                Confidence = c.Journey.Gaps.IsEmpty ? Confidence.Certain : Confidence.Likely,
                Objects = objects,
                Evidence = LookupEvidence(),
                Mend = ReadTheLog(nameserver),
            };
        }

        var how = attempt?.Outcome switch
        {
            ConnectionOutcome.Refused => $"refuses {c.ClientWords}'s TCP connection to port 53",
            ConnectionOutcome.Rejected or ConnectionOutcome.Unanswered => $"cannot be reached over TCP by {c.ClientWords}",
            _ => lookup is null ? $"was not asked again over TCP by {c.ClientWords}" : $"gave {c.ClientWords} no answer over TCP",
        };
        return new(FailureClass.DnsTcpBlocked, $"Nameserver {nameserver} cuts its answer for {Host} short, to be asked again over TCP, and {how}.")
        {
            Objects = objects,
            Evidence = attempt is null ? LookupEvidence() : LookupEvidence().Add(new Evidence(EvidenceSource.Observed,
                $"TCP {attempt.Asked}: {(attempt.Outcome == ConnectionOutcome.Refused ? "refused" : attempt.Outcome == ConnectionOutcome.Rejected ? "rejected" : "no answer")}", c.SinceStart(attempt.StartNanoseconds), c.PlaceName(attempt.ClientNetNs))),
            Confidence = attempt is null ? Confidence.Likely : Confidence.Certain,
            Mend = new Mend("Let TCP port 53 through to the DNS as well as UDP: in the Service's ports, in NetworkPolicies and firewalls.",
                objects is [var service] ? $"kubectl get service {service.Name} -n {service.Namespace} -o jsonpath='{{.spec.ports}}'" : null),
        };
    }

    private Mend? ReadTheLog(IpAddress nameserver) => c.Cluster.ClusterDns is { } d && c.IsClusterDns(nameserver)
        ? new Mend("Read what the DNS server says of it.", $"kubectl logs -n {d.Metadata.Namespace} -l {string.Join(',', d.Spec.Selector.Select(s => $"{s.Key}={s.Value}"))} --tail=50")
        : null;

    // Without the cluster's objects, that a nameserver knows no such name may have many reasons.
    private Finding UnknownName() => new(FailureClass.Undetermined, $"{string.Join(", ", c.AskedResolvers())} knows no {Host}; without the cluster's objects it is not known whether there is such a Service, and by which name it should have been asked for.")
    {
        Confidence = Confidence.None,
        Evidence = LookupEvidence(),
    };

    private Finding OutsideName()
    {
        var resolvers = string.Join(", ", c.AskedResolvers());
        return new Finding(FailureClass.ServiceNotFound, $"{Host} is no Service of this cluster, and {resolvers} knows no such name.")
        {
            Confidence = Confidence.Likely,
            Evidence = LookupEvidence(),
        };
    }

    /// <summary>An address from among the Services' that no Service has: that of a deleted one, or mistyped.</summary>
    private Finding? NobodysAddress(IpAddress address)
    {
        if (c.Recording.Cluster is not { } cluster || cluster.Unread.Any(u => u.What is "services" or "pods" or "nodes")
            || c.HolderWords(address) != address.ToString()
            || c.Main is { Translated: not null } or { Outcome: ConnectionOutcome.Established or ConnectionOutcome.Unknown })
        {
            return null;
        }

        // The API does not tell the range of the Services' addresses; a /16, or an IPv6 /112, is one that every usual range contains.
        var near = cluster.Services.SelectMany(s => ServiceMeant.AddressesOf(s).Select(a => (Address: a, Service: s)))
            .Where(s => s.Address.IsIPv4 == address.IsIPv4 && new IpNetwork(s.Address, address.IsIPv4 ? 16 : 112).Contains(address)).ToList();
        if (near.Count == 0)
        {
            return null;
        }

        var vanished = c.Main is { Outcome: ConnectionOutcome.Unanswered } unanswered ? $": the packet stayed untranslated and {c.EndOf(unanswered)}" : "";
        return new Finding(FailureClass.ServiceNotFound, $"No Service has the address {address}, though it lies among those of the Services{vanished}.")
        {
            Evidence =
            [
                .. c.Main is not { Outcome: ConnectionOutcome.Unanswered } main ? Array.Empty<Evidence>()
                    : [new Evidence(EvidenceSource.Observed, $"the packet was last seen in {c.WordsOf(main.FarthestNetNs)} as {main.Asked}, untranslated, and nothing answered", c.SinceStart(main.StartNanoseconds), c.PlaceName(main.FarthestNetNs))],
                new Evidence(EvidenceSource.Desired, $"Services near it: {string.Join(", ", near.Take(4).Select(s => $"{s.Service.Metadata.Namespace}/{s.Service.Metadata.Name} at {s.Address}"))}"),
            ],
            Confidence = Confidence.Likely,
            NotSeen = ["the range that the cluster takes Services' addresses from"],
            Mend = new Mend("Ask for the Service by its name; its address changes when it is made anew.", "kubectl get services -A"),
        };
    }

    private Finding NameError(ServiceMeant meant)
    {
        if (meant.Service is null)
        {
            return NotFound(meant);
        }

        var full = $"{meant.Name}.{meant.Namespace}.svc.{c.Cluster.ClusterDomain}";
        // What the client says that it asked for, it did, whether that was seen or not.
        var asked = c.Lookups.Select(l => l.Name).Concat(c.Client?.Lookups.Select(l => l.Name) ?? []).Distinct().ToList();
        if (asked.Contains(full))
        {
            if (meant.Service.Spec.IsHeadless)
            {
                return new(FailureClass.HeadlessNoReadyPods, $"service {meant.Namespace}/{meant.Name} is headless and has no ready pod, so its name has no address.")
                {
                    Objects = [meant.Service.Ref],
                    Evidence = LookupEvidence(),
                    Mend = new Mend("Make a pod of the Service ready.", $"kubectl get pods -n {meant.Namespace} -l {string.Join(',', meant.Service.Spec.Selector.Select(s => $"{s.Key}={s.Value}"))}"),
                };
            }

            if (meant.Service.Spec.Type == "ExternalName")
            {
                return new(FailureClass.ExternalNameUnresolved, $"service {meant.Namespace}/{meant.Name} stands for {meant.Service.Spec.ExternalName}, which does not resolve.")
                {
                    Objects = [meant.Service.Ref],
                    Evidence = LookupEvidence(),
                    Mend = new Mend("Correct spec.externalName.", $"kubectl edit service {meant.Name} -n {meant.Namespace}"),
                };
            }

            return new(FailureClass.ResolverFailure, $"The cluster's DNS does not know {full}, though service {meant.Namespace}/{meant.Name} exists.")
            {
                Objects = c.Cluster.ClusterDns is { } dns ? [dns.Ref, meant.Service.Ref] : [meant.Service.Ref],
                Evidence = LookupEvidence(),
                Confidence = Confidence.Likely,
                Mend = c.Cluster.ClusterDns is { } d ? new Mend("Look whether the DNS pods follow the API.", $"kubectl logs -n {d.Metadata.Namespace} -l {string.Join(',', d.Spec.Selector.Select(s => $"{s.Key}={s.Value}"))} --tail=50") : null,
            };
        }

        if (meant.Form is ServiceNameForm.OtherDomain or ServiceNameForm.WithoutSvc)
        {
            return new(FailureClass.ClusterDomainMismatch, meant.Form == ServiceNameForm.WithoutSvc
                ? $"{Host} lacks the label \"svc\": the Service's full name is {full}."
                : $"{Host} is in another domain than this cluster's, {c.Cluster.ClusterDomain}: the Service's full name is {full}.")
            {
                Objects = [meant.Service.Ref],
                Evidence = LookupEvidence(),
                Mend = new Mend($"Ask for {full}.", null),
            };
        }

        // Searched in the domains of another cluster: a copied resolv.conf or dnsConfig, or a kubelet with another --cluster-domain than the DNS.
        var before = $"{meant.Name}.{meant.Namespace}.svc.";
        if (meant.Form is ServiceNameForm.Short or ServiceNameForm.Namespaced or ServiceNameForm.WithSvc
            && asked.Find(a => a.Length > before.Length && a.StartsWith(before, StringComparison.Ordinal)) is { } other)
        {
            return new(FailureClass.ClusterDomainMismatch, $"{c.ClientWords} asked for {other}, in the domain {other[before.Length..]}, but this cluster's is {c.Cluster.ClusterDomain}: its resolv.conf searches another cluster's.")
            {
                Objects = c.ClientPlace?.PodName is { } searching ? [new ObjectRef("pod", c.ClientPlace.PodNamespace, searching)] : [],
                Evidence = [.. LookupEvidence(), .. c.Client?.Resolver is { } resolver ? new[] { new Evidence(EvidenceSource.Client, $"resolv.conf of {c.ClientWords}: search {string.Join(' ', resolver.Search)}") } : []],
                Mend = new Mend($"Correct the search domains (the pod's dnsConfig, or clusterDomain in the kubelet's configuration), or ask for {full}.", null),
            };
        }

        var needed = meant.Form switch
        {
            ServiceNameForm.Short => $"{meant.Namespace}.svc.{c.Cluster.ClusterDomain}",
            ServiceNameForm.Namespaced => $"svc.{c.Cluster.ClusterDomain}",
            _ => c.Cluster.ClusterDomain,
        };
        if (c.Client?.Resolver is not { } known)
        {
            return new(FailureClass.Undetermined, $"{c.ClientWords} never asked for {full}: its resolv.conf lacks the search domain {needed}, or has too small an ndots for {Host}; it was not read.")
            {
                Confidence = Confidence.None,
                Objects = c.ClientPlace?.PodName is { } asking ? [new ObjectRef("pod", c.ClientPlace.PodNamespace, asking)] : [],
                Evidence = LookupEvidence(),
                NotSeen = [$"the resolv.conf of {c.ClientWords}"],
                Mend = new Mend($"Look at the resolv.conf of {c.ClientWords}, or ask for {full}.", null),
            };
        }

        var hasSearch = known.Search.Contains(needed);
        return new(hasSearch ? FailureClass.NdotsTooLow : FailureClass.SearchDomainMissing, hasSearch
            ? string.Create(CultureInfo.InvariantCulture, $"{c.ClientWords} asked for {string.Join(", ", asked)} and never for {full}: with ndots:{known.Ndots} the name counts as complete.")
            : $"{c.ClientWords} never asked for {full}: its resolv.conf lacks the search domain {needed}.")
        {
            Objects = c.ClientPlace?.PodName is { } podName ? [new ObjectRef("pod", c.ClientPlace.PodNamespace, podName)] : [],
            Evidence = LookupEvidence(),
            Mend = new Mend(hasSearch ? "Set ndots:5 in the pod's dnsConfig, or ask for the full name." : "Restore the search list (dnsPolicy ClusterFirst), or ask for the full name.", null),
        };
    }

    private Finding NotFound(ServiceMeant meant)
    {
        if (c.Recording.Cluster is null)
        {
            return UnknownName();
        }

        var elsewhere = c.Cluster.Services.Where(s => s.Metadata.Name == meant.Name && s.Metadata.Namespace != meant.Namespace).Select(s => s.Metadata.Namespace!).Order().ToList();
        if (elsewhere.Count > 0)
        {
            return new(FailureClass.WrongNamespace, $"There is no service {meant.Name} in namespace {meant.Namespace}, where {Host} leads; it is in {string.Join(", ", elsewhere)}.")
            {
                Objects = [new ObjectRef("service", elsewhere[0], meant.Name)],
                Evidence = LookupEvidence(),
                Mend = new Mend($"Ask for {meant.Name}.{elsewhere[0]}.", null),
            };
        }

        var nearest = NearestNames.Of(meant.Name, c.Cluster.Services.Where(s => s.Metadata.Namespace == meant.Namespace).Select(s => s.Metadata.Name));
        var known = c.Recording.Cluster?.Unread.FirstOrDefault(u => u.What == "services");
        return new(FailureClass.ServiceNotFound, $"There is no service {meant.Name} in namespace {meant.Namespace}{(nearest.IsEmpty ? "" : $"; the nearest name{(nearest.Length == 1 ? " is" : "s are")} {string.Join(", ", nearest)}")}.")
        {
            Objects = [new ObjectRef("service", meant.Namespace, meant.Name)],
            Evidence = LookupEvidence(),
            Confidence = known is null && c.Recording.Cluster is not null ? Confidence.Certain : Confidence.Likely,
            NotSeen = known is null ? [] : [$"the Services: {known.Why}"],
            Mend = nearest.IsEmpty
                ? new Mend("Look which Services there are, and create this one or use its right name.", $"kubectl get services -n {meant.Namespace}")
                : new Mend($"Ask for {nearest[0]}.", $"kubectl get service {nearest[0]} -n {meant.Namespace}"),
        };
    }

    private static string Lower(string sentence) => sentence.Length > 1 && char.IsUpper(sentence[0]) && (char.IsLower(sentence[1]) || sentence[1] == ' ') ? char.ToLowerInvariant(sentence[0]) + sentence[1..] : sentence;
}
