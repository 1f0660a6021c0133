using System.Diagnostics;
using System.Text.Json;

namespace TraceProbe.Tests;

/// <summary>Debian's own Prometheus Alertmanager, on a port of loopback.</summary>
internal sealed class Alertmanager : IDisposable
{
    /// <summary>Where Debian puts it.</summary>
    public const string Program = "/usr/bin/prometheus-alertmanager";

    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(10) };
    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"traceprobe-am-{Guid.NewGuid():N}");
    private Process? _process;

    /// <summary>Where it listens, once it is started.</summary>
    public Uri Url { get; } = new($"http://127.0.0.1:{Loopback.FreePort()}");

    /// <summary>Starts it, and waits until it is ready.</summary>
    public async Task StartAsync(CancellationToken cancellation)
    {
        Assert.SkipUnless(File.Exists(Program), "needs prometheus-alertmanager");
        Directory.CreateDirectory(_folder);
        var config = Path.Combine(_folder, "alertmanager.yml");
        await File.WriteAllTextAsync(config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", cancellation);
        _process = Process.Start(new ProcessStartInfo(Program,
            [$"--config.file={config}", $"--storage.path={_folder}", $"--web.listen-address={Url.Authority}", "--cluster.listen-address="]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        _process.ErrorDataReceived += (_, _) => { };
        _process.BeginErrorReadLine();
        for (var i = 0; i < 300; i++)
        {
            try
            {
                if ((await _http.GetAsync(new Uri(Url, "/-/ready"), cancellation)).IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // It is still starting.
            }

            await Task.Delay(100, cancellation);
        }

        Assert.Fail("Alertmanager did not start.");
    }

    /// <summary>Ends it; it may be started again, and then knows nothing of before.</summary>
    public void Stop()
    {
        if (_process is { HasExited: false } running)
        {
            running.Kill();
            running.WaitForExit();
        }

        _process?.Dispose();
        _process = null;
    }

    /// <summary>The alerts that are active.</summary>
    public async Task<List<JsonElement>> ActiveAsync(CancellationToken cancellation)
    {
        await using var body = await _http.GetStreamAsync(new Uri(Url, "/api/v2/alerts?active=true"), cancellation);
        using var json = await JsonDocument.ParseAsync(body, cancellationToken: cancellation);
        return [.. json.RootElement.EnumerateArray().Select(e => e.Clone())];
    }

    public void Dispose()
    {
        Stop();
        _http.Dispose();
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }
}
