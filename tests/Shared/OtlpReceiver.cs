using System.Net;
using TraceProbe.Tests.Otlp;

namespace TraceProbe.Tests;

/// <summary>A receiver of OTLP/HTTP that decodes what arrives. It can be away for a while.</summary>
internal sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly List<(string Node, Span Span)> _spans = [];
    private readonly CancellationTokenSource _ending = new();
    private HttpListener _listener = new();
    private Task _receiving = Task.CompletedTask;

    public OtlpReceiver()
    {
        Prefix = $"http://127.0.0.1:{Loopback.FreePort()}/";
        Open();
    }

    /// <summary>Where it listens.</summary>
    public string Prefix { get; }

    /// <summary>What has arrived, and from which node.</summary>
    public List<(string Node, Span Span)> Spans
    {
        get
        {
            lock (_spans)
            {
                return [.. _spans];
            }
        }
    }

    /// <summary>Is away for a while.</summary>
    public async Task BeAwayAsync(TimeSpan time)
    {
        _listener.Close();
        await _receiving;
        await Task.Delay(time);
        Open();
    }

    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync();
        _listener.Close();
        await _receiving;
        _ending.Dispose();
    }

    private void Open()
    {
        _listener = new HttpListener();
        _listener.Prefixes.Add(Prefix);
        _listener.Start();
        var listener = _listener;
        _receiving = Task.Run(() => ReceiveAsync(listener));
    }

    private async Task ReceiveAsync(HttpListener listener)
    {
        var next = listener.GetContextAsync();
        while (true)
        {
            try
            {
                // A listener that is stopped between two requests never ends the wait for the next one (its check and its queue are not one step), so the wait has an end of its own.
                var context = await next.WaitAsync(TimeSpan.FromSeconds(1), _ending.Token);
                if (context.Request.Url!.AbsolutePath == "/v1/traces")
                {
                    var request = ExportRequest.Parser.ParseFrom(context.Request.InputStream);
                    lock (_spans)
                    {
                        _spans.AddRange(request.ResourceSpans.SelectMany(r => r.ScopeSpans.SelectMany(s => s.Spans)
                            .Select(s => (r.Resource.Attributes.FirstOrDefault(a => a.Key == "k8s.node.name")?.Value.StringValue ?? "", s))));
                    }
                }

                context.Response.Close();
                next = listener.GetContextAsync();
            }
            catch (TimeoutException) when (listener.IsListening)
            {
                // Nobody has anything to tell just now.
            }
            catch (Exception e) when (e is TimeoutException or OperationCanceledException or HttpListenerException or ObjectDisposedException or InvalidOperationException)
            {
                return;
            }
        }
    }
}
