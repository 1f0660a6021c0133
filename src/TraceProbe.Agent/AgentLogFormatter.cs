using System.Globalization;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;

namespace TraceProbe.Agent;

/// <summary>A line for each message: when, how bad, what; without the names of types and the numbers of messages, which say nothing to whoever reads a node's log.</summary>
internal sealed class AgentLogFormatter() : ConsoleFormatter(Called)
{
    /// <summary>What it is called.</summary>
    public const string Called = "agent";

    /// <inheritdoc/>
    public override void Write<TState>(in LogEntry<TState> logEntry, IExternalScopeProvider? scopeProvider, TextWriter textWriter)
    {
        ArgumentNullException.ThrowIfNull(textWriter);
        var level = logEntry.LogLevel switch
        {
            LogLevel.Critical => "crit",
            LogLevel.Error => "fail",
            LogLevel.Warning => "warn",
            LogLevel.Information => "info",
            LogLevel.Debug => "dbug",
            _ => "trce",
        };
        var text = logEntry.Formatter(logEntry.State, logEntry.Exception);
        textWriter.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{TimeProvider.System.GetUtcNow().UtcDateTime:yyyy-MM-dd'T'HH:mm:ss'Z'} {level}: {text.ReplaceLineEndings(" ")}{(logEntry.Exception is { } e ? $" {e.ToString().ReplaceLineEndings(" ")}" : "")}"));
    }
}
