using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Recordings;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Api;

/// <summary>One request across nodes: the agent on the client's node makes it, those on the nodes that it may come to follow it there, and what they saw is put together.</summary>
public static class ClusterTrace
{
    /// <summary>Makes a request and follows it.</summary>
    /// <param name="agents">The agents that can be asked.</param>
    /// <param name="cluster">The cluster's objects.</param>
    /// <param name="target">What to ask for.</param>
    /// <param name="request">What to ask the client's agent for, with its place as the objects name it.</param>
    /// <param name="progress">Told what is being done.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="AgentException">No agent is on the client's node, or one refuses.</exception>
    public static async Task<Recording> RunAsync(IReadOnlyList<AgentClient> agents, ClusterSnapshot cluster, RequestTarget target, SessionRequest request, Action<string> progress, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(agents);
        ArgumentNullException.ThrowIfNull(cluster);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(progress);
        progress($"asking {agents.Count} agents where they are");
        var known = new List<(AgentClient Client, AgentMessage Agent)>();
        var silent = new List<string>();
        foreach (var (agent, answer) in agents.Select(a => (a, a.AgentAsync(cancellation))).ToList())
        {
            try
            {
                known.Add((agent, await answer.ConfigureAwait(false)));
            }
            catch (AgentException e)
            {
                silent.Add(e.Message);
            }
        }

        if (known.Find(a => a.Agent.Places.Contains(request.From!, StringComparer.Ordinal)) is not { Client: not null } home)
        {
            var node = request.From!.Split('/') is ["pod", var ns, var pod] ? cluster.FindPod(ns, pod)?.Spec.NodeName : request.From.Split('/')[^1];
            throw new AgentException($"{request.From} is on {node ?? "a node that is not known"}, and no agent there answers{(known.Count > 0 ? $"; those that do are on {string.Join(", ", known.Select(k => k.Agent.Node).Order(StringComparer.Ordinal))}" : "")}."
                + string.Concat(silent.Select(s => $"\n{s}")));
        }

        // Where it may come to: the endpoints of the Service that is meant, and of the cluster's DNS.
        var there = EndpointsOf(cluster, target, request.From!).Where(e => e.Node != home.Agent.Node).GroupBy(e => e.Node, StringComparer.Ordinal).ToList();
        var missing = there.Where(n => known.TrueForAll(k => k.Agent.Node != n.Key)).Select(n => $"what happened on {n.Key}, where {n.Count()} of the endpoints are: no agent answers there").ToList();
        var following = new List<(AgentClient Client, string Id, string Node)>();
        try
        {
            foreach (var node in there)
            {
                if (known.Find(k => k.Agent.Node == node.Key) is { Client: { } client })
                {
                    progress($"following on {node.Key}");
                    var session = await client.StartAsync(new SessionRequest { To = [.. node.Select(e => e.Address.ToString()).Distinct().Take(AgentSessions.MostTargets)], Seconds = Math.Min(60, request.Seconds + 10) }, cancellation).ConfigureAwait(false);
                    following.Add((client, session.Id, node.Key));
                }
            }

            foreach (var (client, id, node) in following)
            {
                if (await client.UntilAsync(id, s => s.State != "starting", cancellation).ConfigureAwait(false) is { State: "failed" } failed)
                {
                    missing.Add($"what happened on {node}: {failed.Error}");
                }
            }

            progress($"asking for {target} from {request.From} on {home.Agent.Node}");
            var asked = await home.Client.StartAsync(request, cancellation).ConfigureAwait(false);
            following.Insert(0, (home.Client, asked.Id, home.Agent.Node));
            var done = await home.Client.UntilAsync(asked.Id, s => s.State is "done" or "failed" or "cancelled", cancellation).ConfigureAwait(false);
            if (done.State != "done")
            {
                throw new AgentException($"The agent on {home.Agent.Node} could not make the request: {done.Error ?? done.State}");
            }

            var recording = await home.Client.RecordingAsync(asked.Id, cancellation).ConfigureAwait(false);
            var others = new List<Recording>();
            foreach (var (client, id, node) in following.Skip(1))
            {
                await client.StopAsync(id, cancellation).ConfigureAwait(false);
                if (await client.UntilAsync(id, s => s.State is "done" or "failed", cancellation).ConfigureAwait(false) is { State: "done" })
                {
                    others.Add(await client.RecordingAsync(id, cancellation).ConfigureAwait(false));
                }
            }

            var merged = RecordingMerge.Merge(recording, others);
            return merged with { Manifest = merged.Manifest with { NotSeen = [.. merged.Manifest.NotSeen, .. missing] }, Cluster = merged.Cluster ?? cluster };
        }
        finally
        {
            // Also when it was interrupted: nothing is to go on there.
            foreach (var (client, id, _) in following)
            {
                try
                {
                    using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(2));
                    await client.DeleteAsync(id, limit.Token).ConfigureAwait(false);
                }
                catch (Exception e) when (e is AgentException or OperationCanceledException)
                {
                    // It ends by itself when its time is over.
                }
            }
        }
    }

    private static IEnumerable<(string Node, IpAddress Address)> EndpointsOf(ClusterSnapshot cluster, RequestTarget target, string from)
    {
        var ns = from.Split('/') is ["pod", var own, _] ? own : "default";
        var meant = IpAddress.TryParse(target.Host, null, out var address) ? ServiceMeant.ByAddress(address, cluster) : ServiceMeant.By(target.Host, ns, cluster);
        var dns = DnsMeaning.FindService(cluster.Services)?.Metadata;
        foreach (var slice in cluster.EndpointSlices)
        {
            var isMeant = slice.Metadata.Labels.TryGetValue("kubernetes.io/service-name", out var name)
                && ((name == meant?.Name && slice.Metadata.Namespace == meant?.Namespace) || (name == dns?.Name && slice.Metadata.Namespace == dns?.Namespace));
            foreach (var endpoint in isMeant ? slice.Endpoints : [])
            {
                foreach (var text in endpoint.NodeName is null ? [] : endpoint.Addresses)
                {
                    if (IpAddress.TryParse(text, null, out var parsed))
                    {
                        yield return (endpoint.NodeName!, parsed);
                    }
                }
            }
        }
    }
}
