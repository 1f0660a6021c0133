using System.CommandLine;
using System.CommandLine.Completions;
using System.CommandLine.Parsing;
using System.Text;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe check [svc/NAME]</c>: what the cluster wants against what the nodes' rules do, no traffic.</summary>
internal static class CheckCommand
{
    private enum Form
    {
        Text,
        Json,
        Junit,
    }

    /// <summary>The command.</summary>
    public static Command Create()
    {
        var service = new Argument<string?>("SERVICE") { Description = "svc/NAME or svc/NAME:PORT; all Services without it.", Arity = ArgumentArity.ZeroOrOne, HelpName = "SERVICE" };
        var all = new Option<bool>("--all-namespaces", "-A") { Description = "The Services of all namespaces, which are also meant without -n." };
        var from = new Option<string?>("--from", "-f") { Description = "The node of this place: pod/NAME, node/NAME or node.", HelpName = "PLACE" };
        var every = new Option<bool>("--every") { Description = "List also the Service ports that agree when there are many of them." };
        var output = new Option<Form>("--output", "-o") { Description = "text, json (see check.schema.json) or junit (for CI).", HelpName = "FORM", CustomParser = ParseForm };
        output.CompletionSources.Clear();
        output.CompletionSources.Add(_ => [new CompletionItem("text"), new CompletionItem("json"), new CompletionItem("junit")]);
        var settings = new RuleSettings();
        service.CompletionSources.Add(context => settings.QuickSceneOf(context.ParseResult).ReadObjects()?.Services
            .Where(s => s.Metadata.Namespace == settings.NamespaceOf(context.ParseResult)).Select(s => new CompletionItem($"svc/{s.Metadata.Name}")) ?? []);
        var command = new Verb("check", "Compare what nodes' rules do with packets for Services with what the cluster's objects want. Sends nothing.")
        {
            Examples =
            [
                ("sudo traceprobe check", "all Services, on all nodes of the lab or on this one"),
                ("sudo traceprobe check svc/my-nginx -n shop --node node-1", "one Service, on one node"),
                ("traceprobe check --rules iptables-save.txt --cluster objects.json --node-name worker-3", "from what was saved elsewhere; needs no privileges"),
                ("sudo traceprobe check -o junit > check.xml", "for CI"),
            ],
        };
        command.Arguments.Add(service);
        command.Options.Add(all);
        command.Options.Add(from);
        settings.AddTo(command);
        command.Options.Add(every);
        command.Options.Add(output);
        command.SetAction(parsed =>
        {
            using var progress = new SlowProgress();
            var scene = settings.SceneOf(parsed);
            progress.Doing("reading the cluster's objects");
            var cluster = scene.ReadObjects() ?? throw new OperatorException("What the cluster wants is not known: reach it with --kubeconfig, or give its objects with --cluster, as 'traceprobe snapshot' writes them.", ExitCode.Usage);
            if (cluster.Services.IsEmpty && cluster.Unread.FirstOrDefault(u => u.What == "services") is { } unread)
            {
                throw new OperatorException($"There is nothing to compare the rules with: Services could not be read. {unread.Why}");
            }

            var wanted = parsed.GetValue(service) is { } name ? RuleSettings.FindService(cluster, name, settings.NamespaceOf(parsed)) : ((Service Service, ushort? Port, ServicePort? Named)?)null;
            var place = parsed.GetValue(from) is { } where && !settings.IsSaved(parsed) ? PlaceOf(scene, where, settings.NamespaceOf(parsed)) : null;
            var ns = parsed.GetValue(all) ? null : settings.NamespaceAsked(parsed);
            if (ns is not null && wanted is null && !cluster.Services.Any(s => s.Metadata.Namespace == ns) && cluster.FindNamespace(ns) is null)
            {
                var near = NearestNames.Of(ns, cluster.Services.Select(s => s.Metadata.Namespace ?? "default").Distinct());
                throw new OperatorException($"There is no Service in namespace {ns}.{(near.IsEmpty ? "" : $" The nearest that have some: {string.Join(", ", near)}.")}", ExitCode.Usage);
            }

            var nodes = settings.Read(parsed, scene, cluster, place, progress.Doing, asksKubeProxy: true);
            progress.Doing("comparing");
            var report = new CheckReport { Nodes = [.. nodes.Select(n => Compare(n, cluster, wanted, ns))] };
            using var stream = Console.OpenStandardOutput();
            stream.Write(parsed.GetValue(output) switch
            {
                Form.Json => CheckJson.Write(report),
                Form.Junit => JunitReport.Write(report, TimeProvider.System.GetUtcNow()),
                _ => Encoding.UTF8.GetBytes(CheckText.Write(report, CommandLine.Style(parsed), parsed.GetValue(every))),
            });
            return report.Status switch { CheckStatus.Agrees => ExitCode.Healthy, CheckStatus.Differs => ExitCode.Failure, _ => ExitCode.Undetermined };
        });
        return command;
    }

    private static Place PlaceOf(Scene scene, string from, string ns)
    {
        try
        {
            return scene.FindPlace(from, ns);
        }
        catch (SessionException e)
        {
            throw new OperatorException(e.Message, ExitCode.Usage);
        }
    }

    private static NodeCheck Compare(NodeRules node, ClusterSnapshot cluster, (Service Service, ushort? Port, ServicePort? Named)? wanted, string? ns)
    {
        var check = new RuleCheck(cluster, node.Name, node.Families, node.Routes) { Unread = node.Unread };
        var compared = wanted switch
        {
            ({ } service, { } port, _) => check.Run(service, port),
            ({ } service, null, _) => check.Run([service], isWhole: false),
            _ when ns is not null => check.Run(cluster.Services.Where(s => s.Metadata.Namespace == ns), isWhole: false),
            _ => check.Run(),
        };
        return compared with { KubeProxy = node.KubeProxy };
    }

    private static Form ParseForm(ArgumentResult result)
    {
        switch (result.Tokens is [var token] ? token.Value.ToLowerInvariant() : "")
        {
            case "text" or "table":
                return Form.Text;
            case "json":
                return Form.Json;
            case "junit":
                return Form.Junit;
            default:
                result.AddError($"'{(result.Tokens is [var other] ? other.Value : "")}' is no form of output; there are text, json and junit.");
                return default;
        }
    }
}
