using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace TraceProbe.Capture.Bpf;

/// <summary>
/// Catches what libbpf has to say instead of letting it write to stderr. libbpf has one callback per process and calls it on the
/// thread that called libbpf, so what is said is kept per thread.
/// </summary>
internal static unsafe partial class LibBpfLog
{
    private const int Warning = 0;

    // The verifier's whole log comes as one message, of up to 16 MB. Only pages that are written to cost anything.
    private const int MessageSize = 17 * 1024 * 1024;
    private const int KeptOfMessage = 8 * 1024;
    private const int MaxKept = 256 * 1024;

    [ThreadStatic]
    private static StringBuilder? s_kept;

    static LibBpfLog() => LibBpf.libbpf_set_print(&Print);

    /// <summary>Starts keeping what libbpf warns of on this thread.</summary>
    public static void Begin() => s_kept = new StringBuilder();

    /// <summary>Ends it, and returns what was said.</summary>
    public static string End()
    {
        var text = s_kept?.ToString() ?? "";
        s_kept = null;
        return text;
    }

    // The third argument is a va_list. On x86-64 and on arm64 it is passed as a pointer, so it can be handed on as one.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Print(int level, byte* format, nint arguments)
    {
        if (level != Warning || s_kept is not { } kept || kept.Length > MaxKept)
        {
            return 0;
        }

        var message = (byte*)NativeMemory.Alloc(MessageSize);
        try
        {
            var length = Math.Clamp(vsnprintf(message, MessageSize, format, arguments), 0, MessageSize - 1);
            var text = new ReadOnlySpan<byte>(message, length);

            // Of a long one the beginning says who speaks, and the end what is wrong.
            if (length > 2 * KeptOfMessage)
            {
                kept.Append(Encoding.UTF8.GetString(text[..KeptOfMessage])).Append('\n');
                text = text[^KeptOfMessage..];
            }

            kept.Append(Encoding.UTF8.GetString(text));
        }
        finally
        {
            NativeMemory.Free(message);
        }

        return 0;
    }

    [LibraryImport("libc")]
    private static partial int vsnprintf(byte* str, nuint size, byte* format, nint ap);
}
