using System.Net.Sockets;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Api;
using TraceProbe.Agent.Sessions;
using TraceProbe.Agent.Telemetry;
using TraceProbe.Cluster.Api;

namespace TraceProbe.Agent;

/// <summary>An agent with everything around it: what it tells, what it can be asked, and where that goes.</summary>
public static partial class AgentHost
{
    /// <summary>Runs one until it is told to stop, by the token or by a signal.</summary>
    /// <param name="settings">What it is told; without errors (<see cref="AgentSettings.Errors"/>).</param>
    /// <param name="reload">The file that settings stand in, and what reads them anew; null when there is none.</param>
    /// <param name="scene">Gives the scene as it is now.</param>
    /// <param name="sceneArguments">What tells another process of this program the same scene.</param>
    /// <param name="server">The API server that says who may ask it; null when there is none.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="SessionException">It cannot watch, or cannot listen.</exception>
    public static async Task RunAsync(AgentSettings settings, (string File, Func<AgentSettings> Read)? reload, Func<Scene> scene, IReadOnlyList<string> sceneArguments, ApiServer? server, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(settings);
        using var alone = LockState(settings.State);
        if (settings.SocketPath is { } path && File.Exists(path) && new FileInfo(path).Length > 0)
        {
            throw new SessionException($"{path} is a file and no socket; choose another path for api.socket.");
        }

        var name = settings.Node ?? Environment.MachineName;
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Logging.AddConsole(o => (o.FormatterName, o.LogToStandardErrorThreshold) = (AgentLogFormatter.Called, LogLevel.Trace))
            .AddConsoleFormatter<AgentLogFormatter, ConsoleFormatterOptions>();

        // What the host would print of an agent that cannot go on is said by whoever runs it, in a sentence.
        builder.Logging.AddFilter("Microsoft", LogLevel.None);
        using var http = new HttpClient { Timeout = TimeSpan.FromSeconds(10) };
        using var metrics = new AgentMetrics(settings.Otlp, name);
        using var export = settings.Otlp is { Endpoint: not null } otlp ? new SpanExport(otlp, name, metrics) : null;
        using var cluster = server is null ? null : new ApiClient(server);
        await using var sessions = new AgentSessions(Path.Combine(settings.State, "sessions"), name, scene, sceneArguments);
        var services = builder.Services;
        services.AddSingleton(settings).AddSingleton(metrics).AddSingleton(sessions).AddSingleton(new ApiAccess(cluster));
        services.AddSingleton(new FailureFiles(Path.Combine(settings.State, "failures"), settings.Recordings));
        foreach (var receiver in settings.Alertmanagers)
        {
            services.AddSingleton<IAlertSink>(new AlertmanagerSink(http, receiver, settings.Alerts.Repeat));
        }

        foreach (var hook in settings.Webhooks)
        {
            services.AddSingleton<IAlertSink>(new WebhookSink(http, hook.Url!, hook.Format));
        }

        if (cluster is not null && settings.Events)
        {
            services.AddSingleton<IAlertSink>(new EventSink(cluster));
        }

        services.AddSingleton(provider => ActivatorUtilities.CreateInstance<NodeAgent>(provider, scene));
        services.AddHostedService(provider => provider.GetRequiredService<NodeAgent>());
        if (reload is var (file, read))
        {
            services.AddHostedService(provider => ActivatorUtilities.CreateInstance<SettingsWatch>(provider, file, read));
        }

        var certificate = CertificateOf(settings, name);
        builder.AddAgentApi(settings, certificate);
        await using var host = builder.Build();
        host.MapAgentApi();
        var agent = host.Services.GetRequiredService<NodeAgent>();
        var log = host.Services.GetRequiredService<ILogger<NodeAgent>>();
        host.Lifetime.ApplicationStarted.Register(() =>
        {
            // Nobody else may write to it, which is what connecting takes, whatever the umask was.
            if (settings.SocketPath is { } socket)
            {
                File.SetUnixFileMode(socket, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }

            LogListening(log, string.Join(", ", host.Urls), certificate is { IsOwn: true } ? $"; certificate of its own, SHA-256 {certificate.Fingerprint}" : "");
        });
        try
        {
            await host.RunAsync(cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when ((e is IOException or SocketException) && agent.ExecuteTask is null or { IsFaulted: false })
        {
            throw new SessionException($"The agent cannot listen: {e.Message} Choose another address with --api, --metrics, or api.socket in its settings.", e);
        }

        await (agent.ExecuteTask is { IsFaulted: true } failed ? failed : Task.CompletedTask).ConfigureAwait(false);
    }

    // Two agents that write into one folder would each undo what the other learned.
    private static FileStream LockState(string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
            return new FileStream(Path.Combine(folder, "agent.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SessionException($"The agent cannot have {folder} for itself: {e.Message} If another agent runs with it, choose another folder with --state.", e);
        }
    }

    private static ApiCertificate? CertificateOf(AgentSettings settings, string name)
    {
        try
        {
            return settings.Api.Listen is null ? null : new ApiCertificate(settings, name);
        }
        catch (Exception e) when (e is IOException or CryptographicException or UnauthorizedAccessException)
        {
            throw new SessionException($"The API's certificate cannot be used: {e.Message} Look at api.certificate and api.key, PEM files of a certificate and its own private key.", e);
        }
    }

    [LoggerMessage(LogLevel.Information, "listening: {Urls}{Fingerprint}")]
    private static partial void LogListening(ILogger log, string urls, string fingerprint);
}
