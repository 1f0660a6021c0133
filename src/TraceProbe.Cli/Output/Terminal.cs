using System.Globalization;
using System.Runtime.InteropServices;

namespace TraceProbe.Cli.Output;

/// <summary>When colours are used.</summary>
internal enum ColorChoice
{
    /// <summary>On a terminal, unless NO_COLOR is set.</summary>
    Auto,

    /// <summary>Always.</summary>
    Always,

    /// <summary>Never.</summary>
    Never,
}

/// <summary>What there is at the other end of standard output.</summary>
internal static partial class Terminal
{
    private const int STDOUT_FILENO = 1;
    private const nuint TIOCGWINSZ = 0x5413;

    /// <summary>The style for standard output.</summary>
    /// <param name="color">What was asked for.</param>
    /// <param name="width">The width asked for; null to find it out.</param>
    public static TextStyle Style(ColorChoice color, int? width)
    {
        var isTerminal = !Console.IsOutputRedirected;
        var colored = color switch
        {
            ColorChoice.Always => true,
            ColorChoice.Never => false,

            // https://no-color.org: present and not empty, whatever it holds.
            _ => isTerminal && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")) && Environment.GetEnvironmentVariable("TERM") != "dumb",
        };
        return new TextStyle(width ?? Width(isTerminal), colored, IsUtf8());
    }

    private static int Width(bool isTerminal)
    {
        if (int.TryParse(Environment.GetEnvironmentVariable("COLUMNS"), NumberStyles.None, CultureInfo.InvariantCulture, out var columns) && columns > 0)
        {
            return columns;
        }

        return isTerminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, out var size) == 0 && size.ws_col > 0 ? size.ws_col : TextStyle.DefaultWidth;
    }

    // locale(7): the first of these that is set decides.
    private static bool IsUtf8()
    {
        foreach (var name in (ReadOnlySpan<string>)["LC_ALL", "LC_CTYPE", "LANG"])
        {
            if (Environment.GetEnvironmentVariable(name) is { Length: > 0 } value)
            {
                return value.Contains("UTF-8", StringComparison.OrdinalIgnoreCase) || value.Contains("utf8", StringComparison.OrdinalIgnoreCase);
            }
        }

        return false;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(int fd, nuint request, out Winsize size);

    private struct Winsize
    {
        public ushort ws_row;
        public ushort ws_col;
        public ushort ws_xpixel;
        public ushort ws_ypixel;
    }
}
