using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace TraceProbe.Agent;

/// <summary>
/// Looks every few seconds whether the file with the settings says something else, and has the agent go on with it. By its content: what a ConfigMap is mounted as is
/// a link to a link, which is exchanged.
/// </summary>
/// <param name="agent">The agent.</param>
/// <param name="settings">What it was started with.</param>
/// <param name="file">The file.</param>
/// <param name="read">Reads the settings as they are now, the file and what goes before it.</param>
/// <param name="log">Where it says what it does.</param>
internal sealed partial class SettingsWatch(NodeAgent agent, AgentSettings settings, string file, Func<AgentSettings> read, ILogger<NodeAgent> log) : BackgroundService
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(3);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var (last, now) = (await ContentAsync(stoppingToken).ConfigureAwait(false), settings);
        using var timer = new PeriodicTimer(Period);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
            {
                var content = await ContentAsync(stoppingToken).ConfigureAwait(false);
                if (content is null || last is not null && content.AsSpan().SequenceEqual(last))
                {
                    continue;
                }

                last = content;
                now = Take(now);
            }
        }
        catch (OperationCanceledException)
        {
            // The host stops.
        }
    }

    private AgentSettings Take(AgentSettings now)
    {
        AgentSettings next;
        try
        {
            next = read();
        }
        catch (FormatException e)
        {
            LogNotTaken(file, e.Message);
            return now;
        }

        if (next.Errors().ToList() is { Count: > 0 } errors)
        {
            LogNotTaken(file, string.Join(' ', errors));
            return now;
        }

        agent.Take(next);
        LogTaken(file);
        if (next.Unlike(now).ToList() is { Count: > 0 } later)
        {
            LogLater(string.Join(", ", later));
        }

        return next;
    }

    private async Task<byte[]?> ContentAsync(CancellationToken cancellation)
    {
        try
        {
            return await File.ReadAllBytesAsync(file, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is just being replaced, or gone: what it said last holds.
            return null;
        }
    }

    [LoggerMessage(LogLevel.Information, "{File} has changed, and holds from now on")]
    private partial void LogTaken(string file);

    [LoggerMessage(LogLevel.Warning, "{File} has changed, and is not taken over: {Why}")]
    private partial void LogNotTaken(string file, string why);

    [LoggerMessage(LogLevel.Warning, "but {Settings} from the next start on")]
    private partial void LogLater(string settings);
}
