using System.Collections.Immutable;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>
/// A way to ask for what a fault is about: over UDP, by one address family, from a node, from the server's own node, from the server itself. The faults ask in
/// their own way by themselves: by name, over TCP, from a pod on the other node than the server's.
/// </summary>
/// <param name="Name">What it is called in the table and by $TRACEPROBE_MATRIX_COLUMNS.</param>
public sealed record Way(string Name)
{
    /// <summary>As the fault says.</summary>
    public const string Own = "own";

    private const string FromServerNode = "pod/my-nginx-wu92j";
    private const string FromServer = "pod/hostnames-632524106-bbpiw";

    /// <summary>The ways besides the faults' own.</summary>
    public static ImmutableArray<Way> All { get; } = [new("udp"), new("ipv4"), new("ipv6"), new("node"), new("same-node"), new("hairpin")];

    /// <summary>The request, and where it comes from; or why there is none.</summary>
    /// <param name="fault">The fault that it is to meet.</param>
    public (string Url, string From, string? WhyNot) RequestOf(Fault fault)
    {
        if (WhyNot(fault) is { } reason)
        {
            return ("", "", reason);
        }

        var target = new Uri(fault.Url);
        var isServer = IsOfMyNginx(target);
        var (ipv4, ipv6, port) = isServer ? ("10.96.0.159", "[fd00:10:96::9f]", 8080) : ("10.96.0.175", "[fd00:10:96::af]", 80);
        return Name switch
        {
            // Where the cluster's DNS is cut off too, it is asked by address.
            "udp" => ($"udp://{(target.HostNameType == UriHostNameType.IPv4 ? ipv4 : target.Host)}:80", fault.From, null),
            "ipv4" => ($"http://{ipv4}:{port}{target.AbsolutePath}", fault.From, null),
            "ipv6" => ($"http://{ipv6}:{port}{target.AbsolutePath}", fault.From, null),
            "node" => ($"http://{ipv4}:{port}{target.AbsolutePath}", "node/node-1", null),
            "same-node" => ($"http://{ipv4}:{port}{target.AbsolutePath}", isServer ? FromServer : FromServerNode, null),
            _ => ($"http://{ipv4}:{port}{target.AbsolutePath}", FromServer, null),
        };
    }

    private static bool IsOfMyNginx(Uri target) => target.Host is "my-nginx" or "10.96.0.159";

    private string? WhyNot(Fault fault)
    {
        var stage = FailureClassInfo.Of(fault.Class).Stage;
        if (stage == Stage.Resolve)
        {
            return "it ends at the lookup, whatever is asked for then";
        }

        var target = new Uri(fault.Url);
        if (!IsOfMyNginx(target) && target.DnsSafeHost is not ("hostnames" or "10.96.0.175" or "fd00:10:96::af"))
        {
            return "it is about a Service, or an address, of its own kind";
        }

        if (fault.From != "pod/ubuntu" && Name is not ("udp" or "ipv4" or "ipv6"))
        {
            return "it is about this client";
        }

        var one = fault.Variant is null ? fault.Name : $"{fault.Name} ({fault.Variant})";
        return Name switch
        {
            "udp" when IsOfMyNginx(target) => "the Service has no UDP port",
            "udp" when one is "accept-queue-full" or "closed-without-reply" or "reset-by-peer" or "reset-by-peer (in-the-middle)" or "tls-mismatch" or "http-error" or "response-stalled"
                or "slower-than-baseline" or "mtu-blackhole" => "datagrams know nothing of the kind",
            "udp" when one is "dropped-by-rule" or "rejected-by-rule (tcp-reset)" or "translation-shadowed (diverted)" or "endpoint-rule-missing (chain-emptied)" => "the rule is for TCP",
            "ipv4" when one == "listener-wrong-family" => "IPv4 is the family that is served",
            "ipv6" when one == "reverse-path-filtered" => "IPv6 has no rp_filter",
            "node" when one is "dropped-by-rule (forward-policy)" or "rejected-by-rule" or "rejected-by-rule (tcp-reset)" or "forwarding-disabled" => "what the node itself sends is not forwarded there",
            "node" when one == "reverse-path-filtered" => "the node's own address is routed back rightly",
            "node" when one == "no-route-to-pod (back)" => "the answers go to the node, and not to its pods",
            "node" when one == "listener-wrong-family" => "IPv4 is the family that is served",
            "node" when one == "no-local-endpoints" => null,
            "same-node" or "hairpin" when stage == Stage.Translate || one == "dropped-by-rule (before-translation)" => "the rules are damaged on the other node",
            "same-node" or "hairpin" when one is "dropped-by-rule (forward-policy)" or "rejected-by-rule" or "rejected-by-rule (tcp-reset)" or "forwarding-disabled" => "the rules are damaged on the other node",
            "same-node" or "hairpin" when one.StartsWith("no-route-to-pod", StringComparison.Ordinal) || one is "reverse-path-filtered" or "pod-unreachable (node-down)" or "mtu-blackhole" => "nothing goes from node to node",
            "same-node" or "hairpin" when one == "no-local-endpoints" => "the endpoint is on the client's node",
            "same-node" or "hairpin" when one == "listener-wrong-family" => "IPv4 is the family that is served",
            "hairpin" when IsOfMyNginx(target) => "the pods of hostnames are not behind this Service",
            "hairpin" when one == "pod-unreachable (link-down)" => "the pod that asks is the one that is cut off",
            _ => null,
        };
    }
}
