using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Diagnosis;

/// <summary>The commands that mend things, in kubectl's and the shell's own words.</summary>
internal static class Mends
{
    public static Mend SetTargetPort(Service service, ServicePort port, int targetPort)
    {
        // Ports merge by their number, so the others stay as they are; with the same number twice (TCP and UDP) only the index tells them apart.
        var same = service.Spec.Ports.Count(p => p.Port == port.Port) > 1;
        var command = same
            ? string.Create(CultureInfo.InvariantCulture, $"kubectl patch service {service.Metadata.Name} -n {Namespace(service)} --type=json -p '[{{\"op\":\"replace\",\"path\":\"/spec/ports/{service.Spec.Ports.IndexOf(port)}/targetPort\",\"value\":{targetPort}}}]'")
            : string.Create(CultureInfo.InvariantCulture, $"kubectl patch service {service.Metadata.Name} -n {Namespace(service)} -p '{{\"spec\":{{\"ports\":[{{\"port\":{port.Port},\"targetPort\":{targetPort}}}]}}}}'");
        return new Mend(string.Create(CultureInfo.InvariantCulture, $"Send port {port.Port} to the port that the pods listen on, {targetPort}."), command);
    }

    public static Mend CorrectLabel(Service service, ImmutableArray<Pod> pods, string key, string wanted, string found)
    {
        // A label on a pod that a workload owns comes back with the next pod; there the selector is the thing to change.
        if (pods.Any(p => !p.Metadata.OwnerReferences.IsEmpty))
        {
            var selector = service.Spec.Selector.SetItem(key, found);
            return new Mend($"Let the Service select what the pods carry, {key}={found} (or correct the label in the pods' workload).",
                $"kubectl set selector service {service.Metadata.Name} -n {Namespace(service)} '{string.Join(',', selector.Select(s => $"{s.Key}={s.Value}"))}'");
        }

        return new Mend($"Correct the pods' label to what the Service selects, {key}={wanted}.",
            $"kubectl label pod {string.Join(' ', pods.Select(p => p.Metadata.Name))} -n {Namespace(service)} {key}={wanted} --overwrite");
    }

    /// <summary>Removes a rule of nobody's that is known, or says who would bring it back.</summary>
    /// <param name="step">The rule, on a packet's way.</param>
    /// <param name="isIPv6">Whether the packet was one of IPv6.</param>
    /// <param name="node">The node.</param>
    public static Mend RemoveRule(WalkStep step, bool isIPv6, string? node)
    {
        var rule = RuleRef.Of(step, isIPv6);
        var words = rule.Owner switch
        {
            null => "Remove the rule, or let it spare packets for Services.",
            "kube-proxy" => "Restart kube-proxy, and find out why the rule is there.",
            var owner when ProxyChains.CarriesOutPolicies(owner) => $"Look at the NetworkPolicies that {owner} carries out.",
            var owner => $"Change {owner}'s configuration, which would bring the rule back.",
        };
        var command = rule.Owner is not null ? null
            : rule.Tool == "nft" ? step.Rule.Handle > 0 ? string.Create(CultureInfo.InvariantCulture, $"nft delete rule {rule.Table} {rule.Chain} handle {step.Rule.Handle}") : null
            : rule.Raw.StartsWith("-A ", StringComparison.Ordinal) ? $"{rule.Tool} -t {rule.Table} -D {rule.Raw[3..]}" : null;
        return new Mend(words, command, node);
    }

    /// <summary>For packets that no rule accepted.</summary>
    public static Mend LetThrough(WalkBranch branch, bool isIPv6, string? node)
        => new($"Let a rule accept these packets, or change the {branch.Policy}.",
            branch is { Policy: "policy of filter FORWARD", PolicyBackend: (RuleBackend.Legacy or RuleBackend.Nft) and var backend } ? $"{RuleRef.ToolOf(backend, isIPv6)} -P FORWARD ACCEPT" : null, node);

    public static Mend RestartKubeProxy(string? node)
        => new($"Restart kube-proxy on {node ?? "the node"}, so that it writes its rules anew, and find out what removed them.",
            $"kubectl delete pod -n kube-system -l k8s-app=kube-proxy{(node is null ? "" : $" --field-selector spec.nodeName={node}")}");

    /// <summary>Gives a pod the cluster's DNS. What a pod's spec says of DNS cannot be changed while it lives.</summary>
    public static Mend ClusterFirst(Pod pod)
    {
        var ns = pod.Metadata.Namespace ?? "default";
        var isNone = pod.Spec.DnsPolicy == "None";
        if (!pod.Metadata.OwnerReferences.IsEmpty)
        {
            return new Mend($"Give the pod's workload dnsPolicy ClusterFirst{(isNone ? " and no dnsConfig" : "")}; it makes its pods anew.",
                $"kubectl patch {WorkloadOf(pod)} -n {ns} -p '{{\"spec\":{{\"template\":{{\"spec\":{{\"dnsPolicy\":\"ClusterFirst\"{(isNone ? ",\"dnsConfig\":null" : "")}}}}}}}}}'");
        }

        return new Mend($"Replace the pod by one with dnsPolicy ClusterFirst{(isNone ? " and no dnsConfig" : "")}.", isNone
            ? $"kubectl get pod {pod.Metadata.Name} -n {ns} -o json | jq 'del(.spec.dnsConfig) | .spec.dnsPolicy = \"ClusterFirst\"' | kubectl replace --force -f -"
            : $"kubectl get pod {pod.Metadata.Name} -n {ns} -o yaml | sed 's/dnsPolicy: {pod.Spec.DnsPolicy}/dnsPolicy: ClusterFirst/' | kubectl replace --force -f -");
    }

    public static Mend LookAtPods(Service service, string text)
        => new(text, $"kubectl describe pods -n {Namespace(service)} -l {string.Join(',', service.Spec.Selector.Select(s => $"{s.Key}={s.Value}"))}");

    /// <summary>Adds a rule to a NetworkPolicy that lets one pod's packets for a port pass.</summary>
    public static Mend AllowInPolicy(NetworkPolicy policy, PolicyDirection direction, Pod own, PolicyPeer peer, IpProtocol protocol, ushort port)
    {
        var isEgress = direction == PolicyDirection.Egress;
        var key = isEgress ? "egress" : "ingress";
        var isFirst = isEgress ? policy.Spec.Egress.IsEmpty : policy.Spec.Ingress.IsEmpty;
        string who;
        if (peer.Pod is { } pod)
        {
            var labels = string.Join(',', TellingLabels(pod).Select(l => $"\"{l.Key}\":\"{l.Value}\""));
            var elsewhere = pod.Metadata.Namespace == own.Metadata.Namespace ? "" : $"\"namespaceSelector\":{{\"matchLabels\":{{\"kubernetes.io/metadata.name\":\"{pod.Metadata.Namespace}\"}}}},";
            who = $"{{{elsewhere}\"podSelector\":{{\"matchLabels\":{{{labels}}}}}}}";
        }
        else
        {
            who = $"{{\"ipBlock\":{{\"cidr\":\"{new IpNetwork(peer.Address, peer.Address.Width)}\"}}}}";
        }

        var rule = string.Create(CultureInfo.InvariantCulture, $"{{\"{(isEgress ? "to" : "from")}\":[{who}],\"ports\":[{{\"protocol\":\"{protocol.ToString().ToUpperInvariant()}\",\"port\":{port}}}]}}");
        return new Mend(string.Create(CultureInfo.InvariantCulture, $"Let {(isEgress ? "out" : "in")} what is meant to pass, {(peer.Pod is null ? peer.Address.ToString() : $"pod {peer.Pod.Metadata.Namespace}/{peer.Pod.Metadata.Name}")} on {protocol.ToString().ToUpperInvariant()} {port}, or change the policy."),
            $"kubectl patch networkpolicy {policy.Metadata.Name} -n {policy.Metadata.Namespace} --type=json -p '[{{\"op\":\"add\",\"path\":\"/spec/{key}{(isFirst ? "" : "/-")}\",\"value\":{(isFirst ? $"[{rule}]" : rule)}}}]'");
    }

    // The label that people select by, where there is one; never those that controllers count their pods' versions with.
    private static IEnumerable<KeyValuePair<string, string>> TellingLabels(Pod pod)
    {
        foreach (var key in new[] { "app.kubernetes.io/name", "app", "k8s-app", "run", "name" })
        {
            if (pod.Metadata.Labels.TryGetValue(key, out var value))
            {
                return [new(key, value)];
            }
        }

        return pod.Metadata.Labels.Where(l => l.Key is not ("pod-template-hash" or "controller-revision-hash" or "pod-template-generation" or "statefulset.kubernetes.io/pod-name"));
    }

    public static string WorkloadOf(Pod pod)
    {
        if (pod.Metadata.OwnerReferences.IsEmpty)
        {
            return $"pod {pod.Metadata.Name}";
        }

        var owner = pod.Metadata.OwnerReferences[0];
        // A Deployment's ReplicaSets are named after it, with a hash behind.
        var dash = owner.Name.LastIndexOf('-');
        return owner.Kind == "ReplicaSet" && dash > 0 ? $"deployment {owner.Name[..dash]}" : $"{owner.Kind.ToLowerInvariant()} {owner.Name}";
    }

    private static string Namespace(Service service) => service.Metadata.Namespace ?? "default";
}
