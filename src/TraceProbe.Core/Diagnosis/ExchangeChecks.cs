using System.Globalization;
using TraceProbe.Core.Journeys;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Diagnosis;

/// <summary>What can go wrong on a connection that stands.</summary>
internal sealed class ExchangeChecks(Case c, Connection connection)
{
    // A pause within an answer that no network makes. Who hangs up sooner has changed its mind.
    private const long Silence = 1_000_000_000;

    // The smallest window that Linux has for what came and was not read (net.ipv4.tcp_rmem, half of its default).
    private const long Unread = 64 * 1024;

    public IEnumerable<Finding> Find()
    {
        if (connection.Outcome is not (ConnectionOutcome.Established or ConnectionOutcome.Unknown))
        {
            yield break;
        }

        // A userspace proxy accepts whatever comes; without a pod behind it, there is no exchange to judge.
        if (c.IsBehindProxy(connection) && connection.Onward?.Outcome != ConnectionOutcome.Established)
        {
            yield break;
        }

        var server = c.IsBehindProxy(connection) && connection.Onward is { } onward ? c.HolderWords(onward.Backend.Address) : c.HolderWords(connection.Backend.Address);
        var pod = c.Cluster.FindPodByAddress((connection.Onward ?? connection).Backend.Address);
        var logs = pod is null ? null : new Mend("Look at what the application in the pod says.", $"kubectl logs {pod.Metadata.Name} -n {pod.Metadata.Namespace} --tail=50");
        Finding Make(FailureClass failure, string sentence) => new(failure, sentence)
        {
            Objects = [.. pod is null ? Array.Empty<Cluster.ObjectRef>() : [pod.Ref], .. c.Meant?.Service is { } service ? new[] { service.Ref } : []],
            Evidence = [What()],
            Mend = logs,
        };

        if (c.Client?.TlsFailure is not null && c.Target is { Scheme: RequestScheme.Http } plain)
        {
            yield return Make(FailureClass.TlsMismatch, string.Create(CultureInfo.InvariantCulture, $"{server} speaks TLS on port {(connection.Onward ?? connection).Backend.Port}, and was asked in plain HTTP: {c.Client.TlsFailure}.")) with
            {
                Mend = new Mend(string.Create(CultureInfo.InvariantCulture, $"Ask for https://{plain.Host}:{plain.Port}{plain.Path}, or let the server speak plain HTTP there."), null),
            };
            yield break;
        }

        if (c.Client?.TlsFailure is { } tls)
        {
            yield return Make(FailureClass.TlsMismatch, $"{server} accepted the connection, but TLS could not be agreed on: {tls}.");
            yield break;
        }

        // Without the client's own word, the first bytes of both sides tell.
        if (connection.Tls != TlsTalk.Agreed)
        {
            var port = (connection.Onward ?? connection).Backend.Port.ToString(CultureInfo.InvariantCulture);
            yield return Make(FailureClass.TlsMismatch, connection.Tls switch
            {
                TlsTalk.ClientOnly => $"{server} speaks plain HTTP on port {port}, and was asked in TLS{(connection.StatusLine is { } said ? $": it answered {said}" : "")}.",
                TlsTalk.ServerOnly => $"{server} speaks TLS on port {port}, and was asked in plain HTTP{(connection.StatusLine is { } said ? $": it answered {said}, and that it wants HTTPS" : ": it answered with a TLS alert")}.",
                _ => $"{server} accepted the connection, but TLS could not be agreed on: it answered with a TLS alert.",
            }) with
            {
                Mend = connection.Tls == TlsTalk.Alerted ? logs : new Mend("Ask with the scheme that the server speaks, or let it speak the other there.", null),
            };
            yield break;
        }

        if (TooBig(connection.Onward ?? connection) is { } tooBig)
        {
            yield return tooBig;
            yield break;
        }

        if (connection.ReplyBytes == 0 && c.IsTakerUnknown(connection) || IsEndUnseen)
        {
            yield return new Finding(FailureClass.Undetermined, $"{server} accepted the connection and gave no answer; {(c.IsBehindProxy(connection) ? "what it did with it" : "who took it there, and what for,")} was not seen.")
            {
                Confidence = Confidence.None,
                Objects = Make(FailureClass.Undetermined, "").Objects,
                Evidence = [What()],
                NotSeen = [c.IsBehindProxy(connection) ? $"how {server} ended its side" : $"the listening sockets of {c.WordsOf(connection.TranslatedInNetNs)}"],
            };
            yield break;
        }

        var status = c.Client?.StatusLine ?? connection.StatusLine;
        if (Case.HttpStatus(status) is >= 400 and var code)
        {
            yield return Make(FailureClass.HttpError, string.Create(CultureInfo.InvariantCulture, $"{server} answered {status}: the connection is in order, the application refuses{(code >= 500 ? " or fails" : "")}."));
            yield break;
        }

        if (connection.ReplyBytes > 0)
        {
            if (IsReset && c.Client?.Failure is not null)
            {
                yield return Make(FailureClass.ResetByPeer, $"{server} reset the connection in the middle of its answer.");
            }
            else if (c.Client?.Failure is { } failure && connection.FinishedBy != Side.Server)
            {
                yield return Make(FailureClass.ResponseStalled, $"{server} began to answer and did not go on, until {c.ClientWords} gave up ({failure}).");
            }
            else if (Cut(server, Make) is { } cut)
            {
                yield return cut;
            }

            yield break;
        }

        if (IsReset)
        {
            yield return Make(FailureClass.ResetByPeer, $"{server} accepted the connection and reset it without an answer.");
        }
        else if ((connection.FinishedBy == Side.Server || c.Client?.Failure == RequestFailure.EmptyReply) && connection.RequestBytes > 0)
        {
            yield return Make(FailureClass.ClosedWithoutReply, $"{server} accepted the connection, and closed it without an answer.");
        }
        else if (connection.RequestBytes > 0 && Unseen(connection.Onward ?? connection) is { } unseen)
        {
            yield return unseen with { Objects = Make(FailureClass.Undetermined, "").Objects };
        }
        else if (connection.RequestBytes > 0)
        {
            yield return Make(FailureClass.NoResponse, $"{server} accepted the connection and the request, and never answered.");
        }
    }

    // What packets alone tell of an answer that lacks its end.
    private Finding? Cut(string server, Func<FailureClass, string, Finding> make)
    {
        var share = string.Create(CultureInfo.InvariantCulture, $"{connection.AnswerBytes} of at least {connection.AnswerLength} bytes");
        if (connection.IsCutByServer)
        {
            return IsReset ? make(FailureClass.ResetByPeer, $"{server} reset the connection in the middle of its answer, after {share}.")
                : make(FailureClass.ResponseStalled, $"{server} closed the connection in the middle of its answer, after {share}.");
        }

        if (Case.IsResetUnfinished(connection))
        {
            return Undecided($"{server} answered and then reset the connection; whether its answer was whole was not seen.", "how long the answer was to be");
        }

        if (!IsUnfinished(c, connection))
        {
            return c.Client?.ExitCode is null or 0 || IsWhole(connection) ? null
                : Undecided(string.Create(CultureInfo.InvariantCulture, $"{server} answered, and the command ended with exit code {c.Client.ExitCode}; whether the answer came whole was not seen."), "how long the answer was to be");
        }

        // Who reads no further stops the server too: as much as this fits into a connection that nobody reads from.
        if (c.Journey.Gaps.IsEmpty && connection.LastReplyNanoseconds is { } last && connection.AnswerBytes < Unread)
        {
            return make(FailureClass.ResponseStalled, string.Create(CultureInfo.InvariantCulture,
                $"{server} began to answer and did not go on: {share} came, and then nothing for {((connection.EndedNanoseconds ?? c.Recording.Manifest.EndNanoseconds) - last) / 1e9:0.0} s{(connection.EndedNanoseconds is null ? "" : $", until {c.ClientWords} gave up")}."));
        }

        return Undecided($"{server} began to answer, and the connection ended after {share}; whether {server} or {c.ClientWords} stopped was not seen.", "the packets between the answer's beginning and its end");

        Finding Undecided(string sentence, string notSeen) => new(FailureClass.Undetermined, sentence)
        {
            Confidence = Confidence.None,
            Objects = make(FailureClass.Undetermined, "").Objects,
            Evidence = [What()],
            NotSeen = [notSeen],
        };
    }

    // Whether all came that was to come: as much as the answer said, or, where it said nothing, until the server was done.
    private static bool IsWhole(Connection x) => x.Asked.Protocol == Net.IpProtocol.Udp || IsProbe(x) || (x.AnswerLength is { } length ? x.AnswerBytes >= length : x is { StatusLine: not null, FinishedBy: Side.Server, ResetBy: not Side.Server });

    private static bool IsProbe(Connection x) => x is { RequestBytes: 0, ReplyBytes: 0 };

    // Less of an answer came than was to come, and not because the client turned away while it was coming.
    private static bool IsUnfinished(Case c, Connection x) => x.AnswerLength > x.AnswerBytes && x is { ReplyBytes: > 0, IsCutByServer: false }
        && (x.EndedNanoseconds is not null || !x.Sightings.Any(s => s.Event.IsBrief))
        && (x.LastReplyNanoseconds is null || (x.EndedNanoseconds ?? c.Recording.Manifest.EndNanoseconds) - x.LastReplyNanoseconds >= Silence);

    // Whether a userspace proxy ended the connection within the answer or before it, and what the pod did was not seen.
    private bool IsEndUnseen => c.IsBehindProxy(connection) && connection.Onward is { FinishedBy: not Side.Server, ResetBy: not Side.Server }
        && (c.Client?.Failure is RequestFailure.EmptyReply or RequestFailure.ClosedEarly || connection is { ReplyBytes: 0, FinishedBy: Side.Server });

    // What a userspace proxy makes of the pod's reset is an ordinary close; and what the client was told, it was, whether the packet was seen or not.
    private bool IsReset => connection.ResetBy == Side.Server || connection.Onward?.ResetBy == Side.Server || c.Client?.Failure == RequestFailure.ConnectionReset;

    // Whether the bytes that were dropped came to the other side all the same.
    private bool Arrived(Connection carried, Journeys.Sighting drop)
    {
        var receiver = drop.Forward ? c.NetNsOf(carried.Backend.Address) : carried.ClientNetNs;
        return carried.Sightings.Any(s => s.Forward == drop.Forward && s.Event.NetNs == receiver && s.Event is { Kind: Events.EventKind.PacketReceived, PayloadLength: > 0 }
            && drop.Event.Sequence - s.Event.Sequence < (uint)s.Event.PayloadLength);
    }

    // An answer may have been lost on its way: that the server gave none is known only from where it would have left.
    private Finding? Unseen(Connection carried)
    {
        var server = c.HolderWords(carried.Backend.Address);
        var sent = carried.Sightings.LastOrDefault(s => !s.Forward && s.Event is { PayloadLength: > 0 });
        if (sent.Event.PayloadLength > 0)
        {
            return new Finding(FailureClass.Undetermined, $"{server} answered, and its answer was last seen in {c.WordsOf(sent.Event.NetNs)}; why it did not come to {c.ClientWords} was not seen.")
            {
                Confidence = Confidence.None,
                Evidence = [What()],
                NotSeen = [$"what became of the answer behind {c.WordsOf(sent.Event.NetNs)}"],
            };
        }

        return c.NetNsOf(carried.Backend.Address) is { } pod && carried.Sightings.Any(s => s.Event.NetNs == pod) ? null
            : new Finding(FailureClass.Undetermined, $"{server} accepted the connection, and no answer came; whether it sent one that was lost on its way was not seen.")
            {
                Confidence = Confidence.None,
                Evidence = [What()],
                NotSeen = [$"what {server} sent"],
            };
    }

    // Segments that no link on their way takes, whose sender is not told: it sends them again, as big as before.
    private Finding? TooBig(Connection carried)
    {
        // Sent again in smaller pieces, it is no failure: that is how paths' MTUs are found (RFC 1191, RFC 8201).
        if (carried.Drops.FirstOrDefault(d => d.Event is { DropReason: "PKT_TOO_BIG", PayloadLength: > 0 } && !Arrived(carried, d)) is not { Event.DropReason: not null } drop)
        {
            return null;
        }

        var place = c.PlaceOf(drop.Event.NetNs);
        var (where, sender) = (c.WordsOf(drop.Event.NetNs), c.HolderWords(drop.Event.Tuple.Source.Address));
        var untold = carried.Sightings.Where(s => s.Event is { Kind: Events.EventKind.PacketDropped } e
            && (e.Tuple.Protocol == Net.IpProtocol.IcmpV6 && e.IcmpType == 2 || e.Tuple.Protocol == Net.IpProtocol.Icmp && e is { IcmpType: 3, IcmpCode: 4 })).Select(s => s.Event).FirstOrDefault();
        return new Finding(FailureClass.MtuBlackhole, string.Create(CultureInfo.InvariantCulture,
            $"{where} cannot send on what {sender} sends in packets of more than its link's MTU ({drop.Event.Interface}), and {(untold.NetNs != 0 ? $"the message that would tell {sender} so was dropped in {c.WordsOf(untold.NetNs)}" : $"{sender} did not send it in smaller ones")}: what is small passes, what is big vanishes."))
        {
            Objects = [.. place?.Node is { } node ? [new Cluster.ObjectRef("node", null, node)] : Array.Empty<Cluster.ObjectRef>(), .. c.Meant?.Service is { } service ? new[] { service.Ref } : []],
            Evidence =
            [
                new Evidence(EvidenceSource.Observed, string.Create(CultureInfo.InvariantCulture, $"{where} dropped {drop.Event.PayloadLength} bytes from {drop.Event.Tuple.Source} on {drop.Event.Interface}: PKT_TOO_BIG"), c.SinceStart(drop.Event.BootNanoseconds), c.PlaceName(drop.Event.NetNs)),
                .. untold.NetNs != 0 ? new[] { new Evidence(EvidenceSource.Observed, $"{c.WordsOf(untold.NetNs)} dropped the ICMP message \"packet too big\": {untold.DropReason}", c.SinceStart(untold.BootNanoseconds), c.PlaceName(untold.NetNs)) } : [],
                What(),
            ],
            Mend = new Mend("Let ICMP \"fragmentation needed\" and ICMPv6 \"packet too big\" through all firewalls, and give the pods' interfaces the MTU of the smallest link (the network plugin's mtu).", null),
        };
    }

    /// <summary>Whether the request went well, as far as anybody can tell.</summary>
    public static bool Succeeded(Case c)
    {
        // A userspace proxy accepts whatever comes; what counts is the pod behind it.
        if (c.Client?.StatusLine is null && c.Main is { ReplyBytes: 0 } proxied && c.IsBehindProxy(proxied) && proxied.Onward?.Outcome != ConnectionOutcome.Established)
        {
            return false;
        }

        if (c.Recording.Manifest.Mode == RecordingMode.Trace && c.Client is { } client)
        {
            return client.Failure is null && client.TlsFailure is null && Case.HttpStatus(client.StatusLine) is null or < 400
                && (c.Target?.Scheme is not (RequestScheme.Http or RequestScheme.Https) || client.StatusLine is not null);
        }

        return c.Main is { } main && ((Case.Succeeded(main) && !IsUnfinished(c, main) && (c.Client?.ExitCode is null or 0 || IsWhole(main)))
            || (c.Recording.Manifest.Mode == RecordingMode.Run && c.Client?.ExitCode == 0 && main.Outcome == ConnectionOutcome.Established));
    }

    private Evidence What() => new(EvidenceSource.Observed, string.Create(CultureInfo.InvariantCulture,
        $"{connection.RequestBytes} bytes went, {connection.ReplyBytes} came{(connection.FinishedBy == Side.None ? "" : $"; first FIN from the {connection.FinishedBy.ToString().ToLowerInvariant()}")}{(connection.ResetBy == Side.None ? "" : $"; RST from the {connection.ResetBy.ToString().ToLowerInvariant()}")}"),
        c.SinceStart(connection.EndNanoseconds), c.PlaceName(connection.ClientNetNs));
}
