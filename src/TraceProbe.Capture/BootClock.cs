using System.Runtime.InteropServices;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Capture;

/// <summary>
/// The clock that events carry: nanoseconds since boot, time asleep included (CLOCK_BOOTTIME, clock_gettime(2)), so that what
/// user space did can be laid on one line with what <c>bpf_ktime_get_boot_ns</c> stamped.
/// </summary>
public static partial class BootClock
{
    private const int CLOCK_BOOTTIME = 7;

    /// <summary>Nanoseconds since boot, now.</summary>
    public static long Now
    {
        get
        {
            // Fails only for a clock the kernel does not know; this one is older than every kernel we run on (2.6.39).
            _ = clock_gettime(CLOCK_BOOTTIME, out var now);
            return ((long)now.tv_sec * 1_000_000_000) + now.tv_nsec;
        }
    }

    /// <summary>
    /// What the wall clock says at a time of this one: both read as close to each other as it goes, since who reads them may be interrupted in between.
    /// </summary>
    public static ClockAnchor Anchor()
    {
        var (best, apart) = (new ClockAnchor(0, default), long.MaxValue);
        for (var i = 0; i < 5; i++)
        {
            var before = Now;
            var wall = TimeProvider.System.GetUtcNow();
            var after = Now;
            if (after - before < apart)
            {
                (best, apart) = (new ClockAnchor(before + ((after - before) / 2), wall), after - before);
            }
        }

        return best;
    }

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, out Timespec now);

    private struct Timespec
    {
        public nint tv_sec;
        public nint tv_nsec;
    }
}
