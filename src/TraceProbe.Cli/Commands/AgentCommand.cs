using System.CommandLine;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Configuration;
using TraceProbe.Agent;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Sessions;
using TraceProbe.Cluster.Api;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe agent</c>: watch a node for as long as it runs, and tell what goes on failing.</summary>
internal static partial class AgentCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        var scene = new SceneSettings();
        var config = new Option<string?>("--config") { Description = "A JSON file with settings; variables such as TRACEPROBE_AGENT_SAMPLING__ONEIN=50 and the options here go before it.", HelpName = "FILE" };
        var state = new Option<string?>("--state") { Description = "Where baselines and recordings of failures are kept (/var/lib/traceprobe/agent without it).", HelpName = "FOLDER" };
        var oneIn = new Option<int?>("--one-in") { Description = "Of how many healthy connections to a Service one is followed in full (20 without it). Failures always are.", HelpName = "N" };
        var alertmanager = new Option<string[]>("--alertmanager") { Description = "An Alertmanager to tell of alerts, such as http://alertmanager:9093. May be given again.", HelpName = "URL" };
        var webhook = new Option<string[]>("--webhook") { Description = "A URL that alerts are POSTed to as JSON. May be given again.", HelpName = "URL" };
        var slack = new Option<string[]>("--slack") { Description = "A URL that takes Slack's messages. May be given again.", HelpName = "URL" };
        var otlp = new Option<string?>("--otlp") { Description = "Where spans go by OpenTelemetry's protocol: http://HOST:4317 (gRPC), or http://HOST:4318 (HTTP).", HelpName = "URL" };
        var api = new Option<string?>("--api") { Description = "Where its API listens, with TLS and for bearer tokens of the cluster: ADDRESS:PORT or :PORT. Root of this node asks over the socket in its --state folder.", HelpName = "LISTEN" };
        var metrics = new Option<string?>("--metrics") { Description = "Where /metrics, /healthz and /readyz are served, in plain HTTP: ADDRESS:PORT or :PORT (9464 is the usual one).", HelpName = "LISTEN" };
        var command = new Verb("agent", "Watch this node: every connection through a Service and every lookup. Diagnose those that fail, and alert with the cause.")
        {
            Examples =
            [
                ("sudo traceprobe agent --alertmanager http://alertmanager:9093", "watch this node until Ctrl-C"),
                ("sudo traceprobe agent --lab demo --node node-1", "watch one node of a lab, as its agent would"),
            ],
        };
        scene.AddTo(command);
        foreach (var option in new Option[] { config, state, oneIn, alertmanager, webhook, slack, otlp, api, metrics })
        {
            command.Options.Add(option);
        }

        command.SetAction((parsed, cancellation) =>
        {
            var settings = Settings(parsed);
            if (settings.Errors().ToList() is { Count: > 0 } errors)
            {
                throw new OperatorException(string.Join(Environment.NewLine, errors), ExitCode.Usage);
            }

            return RunAsync(settings, parsed.GetValue(config) is { } file ? (Path.GetFullPath(file), () => Again(parsed)) : null, scene.SceneReaderOf(parsed, follow: true), scene.ArgumentsOf(parsed), scene.ServerOf(parsed), cancellation);
        });
        return command;

        AgentSettings Settings(ParseResult parsed)
        {
            var settings = Read(parsed.GetValue(config));
            settings.State = parsed.GetValue(state) is { } folder ? Path.GetFullPath(folder) : settings.State;
            settings.Sampling.OneIn = parsed.GetValue(oneIn) ?? settings.Sampling.OneIn;
            Add(settings.Alertmanagers, parsed.GetValue(alertmanager), u => u);
            Add(settings.Webhooks, parsed.GetValue(webhook), u => new WebhookSettings { Url = u });
            Add(settings.Webhooks, parsed.GetValue(slack), u => new WebhookSettings { Url = u, Format = WebhookFormat.Slack });
            settings.Otlp = parsed.GetValue(otlp) is { } receiver ? OtlpSettings.Parse(receiver) : settings.Otlp;
            settings.Api.Listen = parsed.GetValue(api) ?? settings.Api.Listen;
            settings.Metrics = parsed.GetValue(metrics) ?? settings.Metrics;
            settings.Node = scene.NodeOf(parsed) ?? settings.Node;
            return settings;
        }

        // While it runs, a mistake in the file is no reason to end.
        AgentSettings Again(ParseResult parsed)
        {
            try
            {
                return Settings(parsed);
            }
            catch (OperatorException e)
            {
                throw new FormatException(e.Message, e);
            }
        }
    }

    private static async Task<int> RunAsync(AgentSettings settings, (string File, Func<AgentSettings> Read)? reload, Func<Scene> scene, IReadOnlyList<string> arguments, ApiServer? server, CancellationToken cancellation)
    {
        if (scene().Objects is null)
        {
            throw new OperatorException("An agent follows what Services the cluster has, and there is nothing to read them from: --kubeconfig FILE, --cluster FILE, --lab NAME, or a service account.", ExitCode.Usage);
        }

        if (settings.Node is { } node && scene() is var now && !now.Places.Any(p => p.Node == node))
        {
            throw new OperatorException($"There is no node {node} here; there are {string.Join(", ", now.Places.Select(p => p.Node).OfType<string>().Distinct())}.", ExitCode.Usage);
        }

        await AgentHost.RunAsync(settings, reload, scene, arguments, server, cancellation).ConfigureAwait(false);
        return ExitCode.Healthy;
    }

    private static AgentSettings Read(string? file)
    {
        try
        {
            var configuration = new ConfigurationBuilder();
            if (file is not null)
            {
                configuration.AddJsonFile(Path.GetFullPath(file), optional: false);
            }

            var settings = new AgentSettings();
            configuration.AddEnvironmentVariables("TRACEPROBE_AGENT_").Build().Bind(settings, o => o.ErrorOnUnknownConfiguration = true);
            return settings;
        }
        catch (InvalidOperationException e) when (Unknown().Match(e.Message) is { Success: true } unknown)
        {
            throw new OperatorException($"The settings{(file is null ? "" : $" in {file}")} cannot be read: there is no setting {unknown.Groups[1].Value}.", ExitCode.Usage);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or InvalidOperationException or FormatException or UnauthorizedAccessException)
        {
            throw new OperatorException($"The settings{(file is null ? "" : $" in {file}")} cannot be read: {e.Message}{(e.InnerException is { } inner ? $" {inner.Message}" : "")}", ExitCode.Usage);
        }
    }

    // The binder's own words begin with its option ErrorOnUnknownConfiguration.
    [GeneratedRegex(@"properties were not found on the instance of [^:]*: ('.*')")]
    private static partial Regex Unknown();

    private static void Add<T>(IList<T> list, string[]? urls, Func<Uri, T> make)
    {
        foreach (var url in urls ?? [])
        {
            list.Add(make(Uri.TryCreate(url, UriKind.Absolute, out var uri) ? uri : throw new OperatorException($"'{url}' is no URL of the kind http://HOST:PORT.", ExitCode.Usage)));
        }
    }
}
