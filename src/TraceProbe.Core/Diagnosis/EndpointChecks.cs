using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Core.Diagnosis;

/// <summary>Why a Service port has no endpoint to send to.</summary>
internal static class EndpointChecks
{
    /// <summary>The reason; null when the port has an endpoint of either family that takes traffic.</summary>
    public static Finding? WhyNoneReady(ClusterSnapshot cluster, Service service, ServicePort port)
    {
        if (!ServiceMeaning.BackendsInUse(cluster, service, port, ipv6: false, node: null).Backends.IsEmpty
            || !ServiceMeaning.BackendsInUse(cluster, service, port, ipv6: true, node: null).Backends.IsEmpty)
        {
            return null;
        }

        // Not read is not empty.
        if (cluster.IsLacking("endpointslices"))
        {
            return null;
        }

        var name = $"service {service.Metadata.Namespace}/{service.Metadata.Name}";
        if (cluster.IsLacking("pods"))
        {
            return new Finding(FailureClass.NoReadyEndpoints, $"{name} has no ready endpoint; why, its pods would tell, which were not read.") { Objects = [service.Ref] };
        }

        if (service.Spec.Selector.IsEmpty)
        {
            return new Finding(FailureClass.NoReadyEndpoints, $"{name} has no selector, and no EndpointSlice gives it a ready endpoint.") { Objects = [service.Ref] };
        }

        var selected = cluster.PodsSelectedBy(service).Where(p => p.Status.Phase is not ("Succeeded" or "Failed")).OrderBy(p => p.Metadata.Name, StringComparer.Ordinal).ToImmutableArray();
        return selected.IsEmpty ? NothingSelected(cluster, service, name)
            : ServiceMeaning.ExplainTargetPort(cluster, service, port) is { } unmatched ? PortNameUnmatched(service, port, name, selected, unmatched)
            : NoneReady(cluster, service, name, selected);
    }

    private static Finding NothingSelected(ClusterSnapshot cluster, Service service, string name)
    {
        var selector = string.Join(',', service.Spec.Selector.Select(s => $"{s.Key}={s.Value}"));
        var slices = new Evidence(EvidenceSource.Desired, $"{service.Ref} spec.selector: {selector}; its EndpointSlices have no endpoint");
        if (ServiceMeaning.ExplainSelector(cluster, service) is not { } nearest)
        {
            return new Finding(FailureClass.NoPods, $"{name} selects pods with {selector}, and no pod in namespace {service.Metadata.Namespace} has these labels or nearly these: its workload has no pods.")
            {
                Objects = [service.Ref],
                Evidence = [slices],
                Mend = new Mend("Scale the workload up, or look why its pods are not created.", $"kubectl get deployments,statefulsets,daemonsets,replicasets -n {service.Metadata.Namespace}"),
            };
        }

        var near = nearest.Pods.Sort((a, b) => string.CompareOrdinal(a.Metadata.Name, b.Metadata.Name));
        var pods = string.Join(" and ", near.Take(3).Select(p => p.Metadata.Name)) + (near.Length > 3 ? string.Create(CultureInfo.InvariantCulture, $" and {near.Length - 3} more") : "");
        var one = near.Length == 1;
        if (nearest.InOtherNamespace)
        {
            return new Finding(FailureClass.SelectorMatchesNothing, $"{name} selects pods with {selector}, which matches none in its namespace; {(one ? "pod" : "pods")} {pods} in namespace {near[0].Metadata.Namespace} would match, but a Service selects only in its own.")
            {
                Objects = [service.Ref, .. near.Take(3).Select(p => p.Ref)],
                Evidence = [slices],
                Mend = new Mend($"Create the Service in namespace {near[0].Metadata.Namespace}, or move the pods.", null),
            };
        }

        var difference = nearest.Differences[0];
        var wanted = string.Join(',', nearest.Differences.Select(d => $"{d.Key}={d.Wanted}"));
        var found = string.Join(',', nearest.Differences.Select(d => d.FoundKey is null ? $"no label {d.Key}" : $"{d.FoundKey}={d.FoundValue}"));
        return new Finding(FailureClass.SelectorMatchesNothing, $"{name} selects pods with {wanted}, which matches none: {(one ? "pod" : "pods")} {pods} {(difference.FoundKey is null ? one ? "has" : "have" : one ? "carries" : "carry")} {found}.")
        {
            Objects = [service.Ref, .. near.Take(3).Select(p => p.Ref)],
            Evidence = [slices, .. near.Take(3).Select(p => new Evidence(EvidenceSource.Desired, $"{p.Ref} labels: {string.Join(',', p.Metadata.Labels.Select(l => $"{l.Key}={l.Value}"))}"))],
            Mend = nearest.Differences is [{ FoundKey: { } key, FoundValue: { } value }] && key == difference.Key
                ? Mends.CorrectLabel(service, near, key, difference.Wanted, value)
                : new Mend($"Give the pods the labels that the Service selects, {wanted}.",
                    $"kubectl label pod {string.Join(' ', near.Select(p => p.Metadata.Name))} -n {service.Metadata.Namespace} {string.Join(' ', nearest.Differences.Select(d => $"{d.Key}={d.Wanted}"))} --overwrite"),
        };
    }

    private static Finding PortNameUnmatched(Service service, ServicePort port, string name, ImmutableArray<Pod> selected, UnmatchedPortName unmatched)
    {
        var declared = unmatched.Declared.IsEmpty ? "they name none" : $"they have {string.Join(", ", unmatched.Declared)}";
        var other = unmatched.OtherProtocol is null ? "" : $" for {port.Protocol} (only for {unmatched.OtherProtocol})";
        return new Finding(FailureClass.TargetPortNameUnmatched, unmatched.IsNumberInQuotes
            ? $"{name} has targetPort \"{unmatched.Name}\" as a string, which is the name of a port, and no selected pod has a port of that name."
            : string.Create(CultureInfo.InvariantCulture, $"{name} sends port {port.Port} to the port named {unmatched.Name}, which no selected pod has{other}; {declared}."))
        {
            Objects = [service.Ref, .. selected.Take(3).Select(p => p.Ref)],
            Evidence =
            [
                new Evidence(EvidenceSource.Desired, string.Create(CultureInfo.InvariantCulture, $"{service.Ref} spec.ports: port {port.Port}, targetPort \"{unmatched.Name}\"")),
                new Evidence(EvidenceSource.Desired, $"named ports of the selected pods: {declared}"),
            ],
            Mend = unmatched.IsNumberInQuotes && ushort.TryParse(unmatched.Name, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? Mends.SetTargetPort(service, port, number)
                : new Mend(unmatched.Nearest is null ? "Use a name that the pods have, or a number." : $"Use the name {unmatched.Nearest}.", $"kubectl edit service {service.Metadata.Name} -n {service.Metadata.Namespace}"),
        };
    }

    private static Finding NoneReady(ClusterSnapshot cluster, Service service, string name, ImmutableArray<Pod> selected)
    {
        var troubles = selected.Select(p => (Pod: p, Trouble: ServiceMeaning.ExplainPod(cluster, p))).ToList();
        if (troubles.Exists(t => t.Trouble is null))
        {
            return ReadyButNotListed(cluster, service, name, [.. troubles.Where(t => t.Trouble is null).Select(t => t.Pod)]);
        }

        ImmutableArray<Evidence> evidence = [.. troubles.Take(3).Select(t => new Evidence(EvidenceSource.Desired, $"{t.Pod.Ref}: {t.Trouble!.Reason}"))];
        var (first, trouble) = (troubles[0].Pod, troubles[0].Trouble!);
        var others = troubles.Count(t => t.Trouble!.Kind == trouble.Kind && t.Trouble.Container == trouble.Container) - 1;
        var alike = others == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $" and {others} more");
        if (troubles.TrueForAll(t => t.Trouble!.Kind == PodTroubleKind.Crashing))
        {
            return new Finding(FailureClass.PodsCrashing, $"All pods of {name} crash: in {first.Metadata.Name}{alike}, {trouble.Reason}.")
            {
                Objects = [.. selected.Take(3).Select(p => p.Ref), service.Ref],
                Evidence = evidence,
                Mend = new Mend("Read what the container said before it ended.", $"kubectl logs -n {service.Metadata.Namespace} {first.Metadata.Name}{(trouble.Container is null ? "" : $" -c {trouble.Container}")} --previous"),
            };
        }

        return new Finding(FailureClass.NoReadyEndpoints, string.Create(CultureInfo.InvariantCulture, $"{name} selects {selected.Length} pod{(selected.Length == 1 ? "" : "s")}, but none is ready: for {first.Metadata.Name}{alike}, {trouble.Reason}."))
        {
            Objects = [.. selected.Take(3).Select(p => p.Ref), service.Ref],
            Evidence = evidence,
            Mend = trouble.Kind switch
            {
                PodTroubleKind.ProbeFailing => Mends.LookAtPods(service, "Mend what the probe complains of."),
                PodTroubleKind.NodeLost => new Mend("Bring the node back, or delete its pods so that they are made elsewhere.", $"kubectl describe node {first.Spec.NodeName}"),
                PodTroubleKind.NotScheduled => Mends.LookAtPods(service, "Make room for the pods on some node, or change what they ask of one."),
                _ => Mends.LookAtPods(service, "Look what keeps the pods from being ready."),
            },
        };
    }

    // Ready pods make endpoints within a second, unless they have no address of the Service's family or nobody makes them.
    private static Finding ReadyButNotListed(ClusterSnapshot cluster, Service service, string name, ImmutableArray<Pod> ready)
    {
        var differences = ServiceMeaning.EndpointDifferences(cluster, service);
        if (differences.IsEmpty)
        {
            var families = string.Join(" or ", service.Spec.IpFamilies.IsEmpty ? ["IPv4"] : service.Spec.IpFamilies.ToArray());
            return new Finding(FailureClass.NoReadyEndpoints, string.Create(CultureInfo.InvariantCulture, $"{name} has {families} addresses, and none of its {ready.Length} ready pod{(ready.Length == 1 ? "" : "s")} has one of that family."))
            {
                Objects = [service.Ref, .. ready.Take(3).Select(p => p.Ref)],
                Evidence =
                [
                    new Evidence(EvidenceSource.Desired, $"{service.Ref} spec.ipFamilies: {families}"),
                    .. ready.Take(3).Select(p => new Evidence(EvidenceSource.Desired, $"{p.Ref} status.podIPs: {string.Join(", ", p.Status.PodIPs.Select(i => i.Ip))}")),
                ],
                Mend = new Mend("Give the Service the pods' family too.", $"kubectl patch service {service.Metadata.Name} -n {service.Metadata.Namespace} -p '{{\"spec\":{{\"ipFamilyPolicy\":\"PreferDualStack\"}}}}'"),
            };
        }

        return new Finding(FailureClass.NoReadyEndpoints, string.Create(CultureInfo.InvariantCulture, $"{ready.Length} pod{(ready.Length == 1 ? "" : "s")} of {name} {(ready.Length == 1 ? "is" : "are")} ready, but its EndpointSlices have none of them: the controller that makes them is behind or does not run."))
        {
            Objects = [service.Ref, .. ready.Take(3).Select(p => p.Ref)],
            Evidence = [.. differences.Take(4).Select(d => new Evidence(EvidenceSource.Desired, d.ToString()))],
            Mend = new Mend("Look whether kube-controller-manager runs, and what it says of endpoint slices.", "kubectl get pods -n kube-system -l component=kube-controller-manager"),
        };
    }
}
