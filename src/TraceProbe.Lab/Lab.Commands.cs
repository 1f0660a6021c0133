using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using TraceProbe.Core.Cluster;
using TraceProbe.Lab.Api;

namespace TraceProbe.Lab;

public sealed partial class Lab
{
    /// <summary>
    /// Carries out a command as a verdict prints it to mend something: the kubectl commands that change what the lab has (patch,
    /// label, set selector, scale, expose, delete service, delete pod, rollout restart, exec, and get pod through sed to replace), or
    /// a shell command on a node or in a pod. Its effect is there when this returns.
    /// </summary>
    /// <param name="command">The command in the shell's words, such as <c>kubectl label pod my-nginx-tsyps run=my-nginx --overwrite</c>.</param>
    /// <param name="on">The place to run a command in that is not kubectl's: <c>node-1</c>, <c>pod/ubuntu</c>.</param>
    /// <returns>What it printed.</returns>
    /// <exception cref="LabException">The lab does not know the command, or what it names is not there.</exception>
    public string Execute(string command, string? on = null)
    {
        ArgumentNullException.ThrowIfNull(command);
        var words = SplitWords(command);
        if (words is ["kubectl", ..])
        {
            using var held = _folder.Lock();
            var changed = words is ["kubectl", "get", "pod", var name, "-n", var ns, "-o", "yaml", "|", "sed", var script, "|", "kubectl", "replace", "--force", "-f", "-"]
                ? ReplaceChanged(PodsOf(ns, name)[0], script) : Kubectl(words[1..]);
            Settle();
            return changed;
        }

        // It may run for long, and the lab goes on meanwhile: its objects are not what this changes.
        var output = LabProcesses.Execute(_folder, NameOf(on, command), ["sh", "-c", command]);
        SettleAfter();
        return output;
    }

    /// <summary>Whether a command is one that changes the lab's objects (<see cref="Execute"/>), and none to run in a place.</summary>
    public static bool IsOfObjects(string command) => SplitWords(command) is ["kubectl", ..];

    /// <summary>Runs a shell command on a node or in a pod, with this process's own input and output. The lab goes on meanwhile; its effect is there when this returns.</summary>
    /// <param name="command">The command.</param>
    /// <param name="on">Where: <c>node-1</c>, <c>pod/ubuntu</c>.</param>
    /// <returns>Its exit code.</returns>
    /// <exception cref="LabException">There is no such place.</exception>
    public int Run(string command, string? on)
    {
        ArgumentNullException.ThrowIfNull(command);
        var code = LabProcesses.Run(_folder, NameOf(on, command), ["sh", "-c", command]);
        SettleAfter();
        return code;
    }

    private string NameOf(string? on, string command) => FindPlace(on ?? "") is { } place ? place.PodName ?? place.Node ?? LabNetwork.Outside
        : throw new LabException(string.IsNullOrEmpty(on) ? $"'{command}' is to be run on a node or in a pod of the lab; say on which with --on, such as --on node-1 or --on pod/ubuntu."
            : $"The lab has no {on}; run a command on a node or in a pod of it, such as --on node-1 or --on pod/ubuntu.");

    private void SettleAfter()
    {
        using var held = _folder.Lock();
        Settle();
    }

    /// <summary>Restarts kube-proxy: it runs again where a fault had stopped it, and writes all its rules anew.</summary>
    /// <param name="node">The node; null for all.</param>
    public void RestartKubeProxy(string? node = null)
    {
        using var held = _folder.Lock();
        Restart(node);
        Settle();
    }

    private void Restart(string? node)
    {
        foreach (var plan in LabLayout.Nodes.Where(n => node is null || n.Name == node))
        {
            NewBench().RestartProxy(plan.Name);
        }

        new Reconciler(_folder, _record).Round(forceRules: true);
    }

    private string Kubectl(List<string> words)
    {
        var options = new Dictionary<string, string>();
        var plain = new List<string>();
        var command = new List<string>();
        for (var i = 0; i < words.Count; i++)
        {
            var word = words[i];
            if (word == "--")
            {
                command = words[(i + 1)..];
                break;
            }

            if (!word.StartsWith('-'))
            {
                plain.Add(word);
            }
            else if (word.IndexOf('=', StringComparison.Ordinal) is var equals and > 0)
            {
                options[word[..equals]] = word[(equals + 1)..];
            }
            else if (word is "--overwrite" or "--all" or "-it" or "-i" or "-t")
            {
                options[word] = "true";
            }
            else
            {
                options[word] = ++i < words.Count ? words[i] : throw new LabException($"kubectl option {word} needs a value.");
            }
        }

        string? Option(params ReadOnlySpan<string> names)
        {
            foreach (var name in names)
            {
                if (options.TryGetValue(name, out var value))
                {
                    return value;
                }
            }

            return null;
        }

        var bench = NewBench();
        var ns = Option("-n", "--namespace") ?? "default";
        // "service/my-nginx" is "service my-nginx".
        var at = plain.Count > 0 && plain[0] is "rollout" or "set" ? 2 : 1;
        if (plain.Count > at && plain[at].IndexOf('/', StringComparison.Ordinal) is var slash and > 0 && plain[0] is not "exec")
        {
            (var kind, plain[at]) = (plain[at][..slash], plain[at][(slash + 1)..]);
            plain.Insert(at, kind);
        }

        switch (plain)
        {
            case ["patch", "service" or "services" or "svc", var name]:
                var service = ServiceOf(ns, name);
                _folder.Objects.Put(WithFamilies(ObjectPatch.Patched(service, Option("-p", "--patch"), Option("--type"), ObjectWriter.Write, new ObjectReader().ReadService), Option("-p", "--patch")));
                return $"service/{name} patched\n";
            case ["patch", _, var name]:
                foreach (var pod in PodsOf(ns, name))
                {
                    _folder.Objects.Put(ObjectPatch.Patched(pod, Option("-p", "--patch"), Option("--type"), ObjectWriter.Write, new ObjectReader().ReadPod));
                }

                return $"{plain[1]}/{name} patched\n";
            case ["label", "pod" or "pods" or "po", .. var arguments]:
                return Label(ns, arguments, Option("-l", "--selector"));
            case ["set", "selector", "service" or "services" or "svc", var name, .. var labels]:
                var selected = ServiceOf(ns, name);
                _folder.Objects.Put(selected with { Spec = selected.Spec with { Selector = LabObjects.Labels([.. string.Join(',', labels).Split(',').Select(Pair)]) } });
                return $"service/{name} selector updated\n";
            case ["scale", _, var name] when LabObjects.Pods.Any(p => p.Metadata.Namespace == ns && LabObjects.WorkloadOf(p) == name):
                bench.Scale(name, int.Parse(Option("--replicas") ?? throw new LabException("kubectl scale needs --replicas."), null));
                return $"{plain[1]}/{name} scaled\n";
            case ["expose", _, var name]:
                var port = int.Parse(Option("--port") ?? throw new LabException("kubectl expose needs --port."), null);
                var made = LabObjects.Services.FirstOrDefault(s => s.Metadata.Name == (Option("--name") ?? name))
                    ?? throw new LabException($"The lab's address plan has no Service named {Option("--name") ?? name}.");
                _folder.Objects.Put(made with { Spec = made.Spec with { Ports = [new ServicePort { Port = port, TargetPort = int.TryParse(Option("--target-port") ?? "", out var target) ? target : port }] } });
                return $"service/{made.Metadata.Name} exposed\n";
            case ["delete", "service" or "services" or "svc", var name]:
                _folder.Objects.Delete("services", ServiceOf(ns, name).Metadata);
                return $"service \"{name}\" deleted\n";
            case ["rollout", "restart", "daemonset" or "ds", "kube-proxy"]:
                Restart(null);
                return "daemonset.apps/kube-proxy restarted\n";
            case ["delete", "pod" or "pods" or "po"] when Option("-l", "--selector") == "k8s-app=kube-proxy":
                Restart(Option("--field-selector")?.Replace("spec.nodeName=", "", StringComparison.Ordinal));
                return "pod \"kube-proxy\" deleted\n";
            case ["delete", "pod" or "pods" or "po", .. var names]:
                // Its workload makes it again; here that is its program started anew.
                Pod[] deleted = Option("-l", "--selector") is { } which ? Selected(ns, which) : [.. names.SelectMany(n => PodsOf(ns, n))];
                RestartPods(bench, deleted);
                return deleted.Length == 0 ? "No resources found\n" : string.Concat(deleted.Select(p => $"pod \"{p.Metadata.Name}\" deleted\n"));
            case ["exec", var name] when command.Count > 0:
                return LabProcesses.Execute(_folder, PodsOf(ns, name.Replace("pod/", "", StringComparison.Ordinal))[0].Metadata.Name, [.. command]);
            default:
                throw new LabException($"A lab has no API server; it knows kubectl patch, label, set selector, scale, expose, delete, rollout restart and exec, not: kubectl {string.Join(' ', words)}. "
                    + "What is in it is told by: traceprobe lab status");
        }
    }

    // A new pod has a new link, and a new DNS server reads the API anew.
    private void RestartPods(Bench bench, Pod[] pods)
    {
        foreach (var pod in pods)
        {
            LabNetwork.Restore(_folder, pod);
            if (LabProcesses.IsDns(pod))
            {
                File.Delete(_folder.DnsPausedPath);
            }
        }

        bench.Restart(pods);
    }

    // The pod as YAML through sed and back again: of its lines, those that are "name: text".
    private string ReplaceChanged(Pod pod, string script)
    {
        if (script.Split('/') is not ["s", { Length: > 0 } from, var to, ""])
        {
            throw new LabException($"Of sed, the lab knows only s/TEXT/TEXT/, not: {script}");
        }

        var node = ObjectPatch.ToTree(pod, ObjectWriter.Write);
        Change(node);
        _folder.Objects.Put(ObjectPatch.FromTree(node, new ObjectReader().ReadPod));
        // A new pod has new files.
        File.Delete(LabProcesses.GivenResolvConfPath(_folder, pod));
        return $"pod \"{pod.Metadata.Name}\" deleted\npod/{pod.Metadata.Name} replaced\n";

        void Change(JsonObject parent)
        {
            foreach (var (key, value) in parent.ToArray())
            {
                if (value is JsonObject child)
                {
                    Change(child);
                }
                else if (value?.GetValueKind() == JsonValueKind.String && $"{key}: {value}".Replace(from, to, StringComparison.Ordinal) is var line
                    && line.StartsWith($"{key}: ", StringComparison.Ordinal))
                {
                    parent[key] = line[(key.Length + 2)..];
                }
            }
        }
    }

    private string Label(string ns, List<string> arguments, string? selector)
    {
        var names = arguments.Where(a => !a.Contains('=') && !a.EndsWith('-')).ToArray();
        var pods = selector is null ? names.SelectMany(n => PodsOf(ns, n)) : Selected(ns, selector);
        var said = new StringBuilder();
        foreach (var pod in pods.ToArray())
        {
            var labels = pod.Metadata.Labels;
            foreach (var argument in arguments.Except(names))
            {
                labels = argument.EndsWith('-') ? labels.Remove(argument[..^1]) : labels.SetItem(Pair(argument).Key, Pair(argument).Value);
            }

            _folder.Objects.Put(pod with { Metadata = pod.Metadata with { Labels = labels } });
            said.Append("pod/").Append(pod.Metadata.Name).Append(" labeled\n");
        }

        return said.ToString();
    }

    private Pod[] Selected(string ns, string selector) => [.. Cluster.Pods.Where(p => p.Metadata.Namespace == ns
        && selector.Split(',').Select(Pair).All(want => p.Metadata.Labels.GetValueOrDefault(want.Key) == want.Value))];

    // The API server gives a Service that may have both families an address of the one that it lacks.
    private static Service WithFamilies(Service service, string? patch)
    {
        var planned = LabObjects.Services.FirstOrDefault(s => s.Metadata.Name == service.Metadata.Name && s.Metadata.Namespace == service.Metadata.Namespace);
        return planned is null || patch?.Contains("DualStack", StringComparison.Ordinal) != true || service.Spec.ClusterIPs.Length != 1 || service.Spec.IsHeadless ? service
            : service with { Spec = service.Spec with { IpFamilies = [service.Spec.IpFamilies[0], service.Spec.IpFamilies[0] == "IPv4" ? "IPv6" : "IPv4"], ClusterIPs = [service.Spec.ClusterIPs[0], planned.Spec.ClusterIPs.First(a => a.Contains(':') != service.Spec.ClusterIPs[0].Contains(':'))] } };
    }

    private static (string Key, string Value) Pair(string text) => text.IndexOf('=', StringComparison.Ordinal) is var equals and > 0
        ? (text[..equals], text[(equals + 1)..])
        : throw new LabException($"'{text}' is not key=value.");

    private Service ServiceOf(string ns, string name) => Cluster.FindService(ns, name) ?? throw new LabException($"services \"{name}\" not found in namespace {ns}.");

    // A pod by its name, or those of a workload by its.
    private Pod[] PodsOf(string ns, string name)
    {
        var pods = Cluster.Pods.Where(p => p.Metadata.Namespace == ns
            && (p.Metadata.Name == name || p.Metadata.OwnerReferences.Any(o => o.Name == name || o.Name.StartsWith(name + "-", StringComparison.Ordinal)))).ToArray();
        return pods.Length > 0 ? pods : throw new LabException($"pods \"{name}\" not found in namespace {ns}.");
    }

    // A shell's words: quotes as in POSIX, nothing else of a shell.
    internal static List<string> SplitWords(string command)
    {
        var words = new List<string>();
        StringBuilder? word = null;
        var quote = '\0';
        for (var i = 0; i < command.Length; i++)
        {
            var c = command[i];
            if (quote != '\0')
            {
                if (c == quote)
                {
                    quote = '\0';
                }
                else if (c == '\\' && quote == '"' && i + 1 < command.Length && command[i + 1] is '"' or '\\' or '$' or '`')
                {
                    word!.Append(command[++i]);
                }
                else
                {
                    word!.Append(c);
                }
            }
            else if (c is '\'' or '"')
            {
                word ??= new StringBuilder();
                quote = c;
            }
            else if (c == '\\' && i + 1 < command.Length)
            {
                (word ??= new StringBuilder()).Append(command[++i]);
            }
            else if (c is ' ' or '\t' or '\n')
            {
                if (word is not null)
                {
                    words.Add(word.ToString());
                    word = null;
                }
            }
            else
            {
                (word ??= new StringBuilder()).Append(c);
            }
        }

        if (quote != '\0')
        {
            throw new LabException($"A quote is not closed in: {command}");
        }

        if (word is not null)
        {
            words.Add(word.ToString());
        }

        return words;
    }
}
