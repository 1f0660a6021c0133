namespace TraceProbe.Agent.Alerts;

/// <summary>Somebody who is told of alerts.</summary>
public interface IAlertSink
{
    /// <summary>Who, for messages: <c>alertmanager http://…</c>.</summary>
    string Name { get; }

    /// <summary>Tells of a change. Telling twice does no harm.</summary>
    /// <exception cref="HttpRequestException">The receiver could not be reached, or refused.</exception>
    Task SendAsync(AlertChange change, CancellationToken cancellation);
}
