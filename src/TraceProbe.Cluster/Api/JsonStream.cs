using System.Buffers;

namespace TraceProbe.Cluster.Api;

/// <summary>
/// The bytes of an answer as they arrive: so many of them are kept as the reader has not taken yet, and never more than the largest
/// object may have.
/// </summary>
/// <param name="stream">The answer; owned.</param>
/// <param name="most">How many bytes are kept at most.</param>
/// <param name="stall">How long to wait for more.</param>
internal sealed class JsonStream(Stream stream, int most, TimeSpan stall) : IDisposable
{
    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(64 * 1024);
    private int _start;
    private int _end;

    /// <summary>What has arrived and was not taken yet.</summary>
    public Span<byte> Arrived => _buffer.AsSpan(_start, _end - _start);

    /// <summary>Takes the first bytes of what has arrived.</summary>
    public void Take(int count) => _start += count;

    /// <summary>Waits for more, and for at least as much again as there is: of what is looked at again and again, all together is little.</summary>
    /// <param name="atLeast">How many bytes more are wanted, if they come; 1 for whatever comes.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <returns>False at the end.</returns>
    /// <exception cref="ApiException">More than the most that is kept would have to be, or nothing comes any more.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    public async ValueTask<bool> FillAsync(int atLeast, CancellationToken cancellation)
    {
        var had = _end - _start;
        if (had >= most)
        {
            throw new ApiException($"The API server sends an object of more than {most >> 20} MB.");
        }

        if (_start > 0)
        {
            _buffer.AsSpan(_start, had).CopyTo(_buffer);
            (_start, _end) = (0, had);
        }

        var enough = Math.Min(most, had + (atLeast > 1 ? Math.Max(had, atLeast) : 1));
        if ((enough > _buffer.Length || _end > _buffer.Length / 2) && _buffer.Length < most)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Min(Math.Max(_buffer.Length * 2, enough), most));
            _buffer.AsSpan(0, _end).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = larger;
        }

        enough = Math.Min(enough, _buffer.Length);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        do
        {
            int read;
            limit.CancelAfter(stall);
            try
            {
                read = await stream.ReadAsync(_buffer.AsMemory(_end), limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                throw new ApiException($"The API server's answer stopped for {stall.TotalSeconds} s.");
            }

            if (read == 0)
            {
                return _end > had;
            }

            _end += read;
        }
        while (_end < enough);
        return true;
    }

    public void Dispose()
    {
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
        (_start, _end) = (0, 0);
        stream.Dispose();
    }
}
