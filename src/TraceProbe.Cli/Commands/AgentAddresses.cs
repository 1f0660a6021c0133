using System.CommandLine;
using System.Diagnostics;
using System.Text.RegularExpressions;
using TraceProbe.Agent.Api;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cli.Commands;

/// <summary>The options that say which agents are asked: those named, a lab's, or those in the cluster's DaemonSet, which 'kubectl port-forward' leads to.</summary>
internal sealed partial class AgentAddresses(SceneSettings scene)
{
    /// <summary>The label by which an agent's pods are known (deploy/base/daemonset.yaml).</summary>
    public const string PodLabel = "app.kubernetes.io/name";

    /// <summary>Its value.</summary>
    public const string PodName = "traceprobe-agent";

    /// <summary>The port of the API in these pods.</summary>
    public const int PodPort = 9640;

    private static readonly TimeSpan ForwardWithin = TimeSpan.FromSeconds(10);

    private readonly Option<string[]> _agent = new("--agent")
    {
        Description = "An agent to ask: the path of its socket, https://HOST:PORT, or https://HOST:PORT#sha256=FINGERPRINT. May be given again. Without it those of the lab, or of the cluster's DaemonSet by 'kubectl port-forward'. The bearer token is the kubeconfig's, or $TRACEPROBE_TOKEN.",
        HelpName = "ADDRESS",
    };

    /// <summary>Gives the option to a command.</summary>
    public void AddTo(Command command) => command.Options.Add(_agent);

    /// <summary>Whether an agent was named.</summary>
    public bool IsAsked(ParseResult parsed) => parsed.GetValue(_agent) is { Length: > 0 };

    /// <summary>The agents; to be disposed of, and with them what leads to them.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="cluster">The cluster's objects, where its pods are to be found; null when there are none.</param>
    /// <param name="cancellation">Stops looking.</param>
    public async Task<ReachedAgents> ReachAsync(ParseResult parsed, ClusterSnapshot? cluster, CancellationToken cancellation)
    {
        var reached = new ReachedAgents();
        try
        {
            if (parsed.GetValue(_agent) is { Length: > 0 } named)
            {
                reached.Agents.AddRange(named.Select(a => new AgentClient(a.StartsWith('/') || a.Contains("://", StringComparison.Ordinal) ? a : Path.GetFullPath(a), Token(parsed))));
            }
            else if (scene.LabOf(parsed) is { } lab)
            {
                reached.Agents.AddRange(Lab.Lab.Open(lab).AgentSockets.Select(s => new AgentClient(s, _ => default)));
                if (reached.Agents.Count == 0)
                {
                    throw new OperatorException($"Lab {lab} has no agents; 'traceprobe lab up --agents' makes one that has.");
                }
            }
            else if (cluster is not null)
            {
                await ForwardAsync(parsed, cluster, reached, cancellation).ConfigureAwait(false);
            }
            else
            {
                throw new OperatorException("There is no agent to ask: name one with --agent, or the cluster with --kubeconfig.", ExitCode.Usage);
            }

            return reached;
        }
        catch (AgentException e)
        {
            reached.Dispose();
            throw new OperatorException(e.Message, ExitCode.Usage);
        }
        catch
        {
            reached.Dispose();
            throw;
        }
    }

    private async Task ForwardAsync(ParseResult parsed, ClusterSnapshot cluster, ReachedAgents reached, CancellationToken cancellation)
    {
        var pods = cluster.Pods.Where(p => p.Metadata.Labels.TryGetValue(PodLabel, out var name) && name == PodName && p.Status.Phase == "Running").ToList();
        if (pods.Count == 0)
        {
            throw new OperatorException($"The cluster has no agents: no running pod is labelled {PodLabel}={PodName}. Deploy them with 'kubectl apply -k deploy/base'.");
        }

        foreach (var (pod, process) in pods.Select(p => (p, Forward(parsed, p))).ToList())
        {
            reached.Processes.Add(process);
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            limit.CancelAfter(ForwardWithin);
            var errors = process.StandardError.ReadToEndAsync(limit.Token);
            try
            {
                while (await process.StandardOutput.ReadLineAsync(limit.Token).ConfigureAwait(false) is { } line)
                {
                    if (Forwarding().Match(line) is { Success: true } match)
                    {
                        reached.Agents.Add(new AgentClient($"https://127.0.0.1:{match.Groups[1].Value}", Token(parsed), isTunnel: true));
                        break;
                    }
                }
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                // What it said is told below.
            }

            if (process.HasExited)
            {
                CommandLine.Tell($"traceprobe: kubectl cannot reach {pod.Metadata.Namespace}/{pod.Metadata.Name} on {pod.Spec.NodeName}: {(await errors.ConfigureAwait(false)).Trim()}");
            }
        }

        if (reached.Agents.Count == 0)
        {
            throw new OperatorException("None of the cluster's agents can be reached; see above. May you 'create pods/portforward' there?");
        }
    }

    private Process Forward(ParseResult parsed, Pod pod)
    {
        var start = new ProcessStartInfo("kubectl") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])[.. scene.KubectlArgumentsOf(parsed), "--namespace", pod.Metadata.Namespace ?? "default", "port-forward", $"pod/{pod.Metadata.Name}", $":{PodPort}", "--address", "127.0.0.1"])
        {
            start.ArgumentList.Add(argument);
        }

        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new OperatorException($"The cluster's agents are reached with kubectl, and it cannot be started: {e.Message} Install it, or name the agents with --agent.");
        }
    }

    private Func<CancellationToken, ValueTask<string?>> Token(ParseResult parsed)
    {
        if (Environment.GetEnvironmentVariable("TRACEPROBE_TOKEN") is { Length: > 0 } given)
        {
            return _ => ValueTask.FromResult<string?>(given);
        }

        var server = scene.ServerOf(parsed);
        return async cancellation => server is null ? null : await server.BearerTokenAsync(cancellation).ConfigureAwait(false);
    }

    // "Forwarding from 127.0.0.1:40123 -> 9640"
    [GeneratedRegex(@"^Forwarding from 127\.0\.0\.1:(\d+) ", RegexOptions.CultureInvariant)]
    private static partial Regex Forwarding();
}

/// <summary>Agents, and what leads to them.</summary>
internal sealed class ReachedAgents : IDisposable
{
    /// <summary>The agents.</summary>
    public List<AgentClient> Agents { get; } = [];

    /// <summary>What forwards to them.</summary>
    public List<Process> Processes { get; } = [];

    public void Dispose()
    {
        foreach (var agent in Agents)
        {
            agent.Dispose();
        }

        foreach (var process in Processes)
        {
            if (!process.HasExited)
            {
                process.Kill();
            }

            process.Dispose();
        }
    }
}
