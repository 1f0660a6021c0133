namespace TraceProbe.Cli;

/// <summary>Tells on standard error what is being done, once it has taken longer than people wait without wondering.</summary>
internal sealed class SlowProgress : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);
    private readonly Timer _timer;
    private string? _doing;
    private string? _told;

    /// <summary>Begins to watch.</summary>
    public SlowProgress() => _timer = new Timer(_ => Tell(), null, Patience, Patience);

    /// <summary>Says what is being done from now on.</summary>
    public void Doing(string what) => Volatile.Write(ref _doing, what);

    /// <summary>Tells no more.</summary>
    public void Dispose() => _timer.Dispose();

    private void Tell()
    {
        if (Volatile.Read(ref _doing) is { } doing && doing != _told)
        {
            _told = doing;
            CommandLine.Tell($"… {doing}");
        }
    }
}
