using System.Globalization;
using System.Text;

namespace TraceProbe.Cli.Output;

/// <summary>
/// Text from outside (names of processes and objects, rules, replies) on its way to a terminal. Escape sequences, line breaks and
/// characters that turn the writing direction become visible, so that no name can paint over a verdict or hide in a command.
/// </summary>
internal static class SafeText
{
    /// <summary>The text with everything that a terminal would act upon written out as <c>\x1b</c> or <c>\u202e</c>.</summary>
    public static string Of(string text)
    {
        var needed = false;
        foreach (var c in text)
        {
            needed |= c is < ' ' or > '~';
        }

        if (!needed)
        {
            return text;
        }

        var safe = new StringBuilder(text.Length + 16);
        foreach (var rune in text.EnumerateRunes())
        {
            switch (Rune.GetUnicodeCategory(rune))
            {
                case UnicodeCategory.Control:
                    safe.Append(CultureInfo.InvariantCulture, $"\\x{rune.Value:x2}");
                    break;
                case UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.Surrogate
                    or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned or UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark:
                    safe.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
                    break;
                default:
                    safe.Append(rune.ToString());
                    break;
            }
        }

        return safe.ToString();
    }

    /// <summary>How many columns the text takes: two for East Asian wide characters and pictographs, one for all others.</summary>
    public static int Columns(ReadOnlySpan<char> text)
    {
        var columns = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            columns += IsWide(rune.Value) ? 2 : 1;
        }

        return columns;
    }

    // The blocks of UAX #11 that are wide throughout; exact enough for names.
    private static bool IsWide(int c) => c >= 0x1100
        && (c <= 0x115f || c is >= 0x2e80 and <= 0xa4cf or >= 0xac00 and <= 0xd7a3 or >= 0xf900 and <= 0xfaff or >= 0xfe30 and <= 0xfe6f
            or >= 0xff00 and <= 0xff60 or >= 0xffe0 and <= 0xffe6 or >= 0x1f300 and <= 0x1faff or >= 0x20000 and <= 0x3fffd);
}
