namespace TraceProbe.Core.Recordings;

/// <summary>How much of an archive is read before it is refused. A recording comes from anybody: it is attached to bug reports.</summary>
/// <param name="Files">The most files.</param>
/// <param name="ArchiveBytes">The largest <c>.tprec</c> file; its directory is read whole, so this bounds that too.</param>
/// <param name="FileBytes">The largest single file, unpacked.</param>
/// <param name="TotalBytes">All files together, unpacked.</param>
internal sealed record RecordingLimits(int Files, long ArchiveBytes, long FileBytes, long TotalBytes)
{
    // A cluster of 10,000 Services and 50,000 pods is about 60 MB of JSON, and packs into 4 MB.
    public static RecordingLimits Default { get; } = new(4096, 64L << 20, 256L << 20, 512L << 20);
}
