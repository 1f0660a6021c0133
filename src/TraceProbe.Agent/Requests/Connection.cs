namespace TraceProbe.Agent.Requests;

/// <summary>A connection that stands: plain, or under TLS. Failures are errnos, as sockets give them.</summary>
internal abstract class Connection : IDisposable
{
    /// <summary>Sends all of it: 0, or the errno.</summary>
    internal abstract int Send(ReadOnlySpan<byte> bytes, Deadline deadline);

    /// <summary>Receives some: the bytes received, 0 at the end, or the negative errno.</summary>
    internal abstract int Receive(Span<byte> buffer, Deadline deadline);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A connection without TLS.</summary>
internal sealed class PlainConnection(ClientSocket socket) : Connection
{
    internal override int Send(ReadOnlySpan<byte> bytes, Deadline deadline) => socket.SendAll(bytes, deadline);

    internal override int Receive(Span<byte> buffer, Deadline deadline) => socket.Receive(buffer, deadline);

    public override void Dispose()
    {
        // The socket is its owner's.
    }
}
