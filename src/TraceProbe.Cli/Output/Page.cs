using System.Buffers;
using System.Text;

namespace TraceProbe.Cli.Output;

/// <summary>One cell of a row.</summary>
/// <param name="Text">The text; made safe when it is written.</param>
/// <param name="Width">Columns; 0 takes what the row has left.</param>
/// <param name="Ink">What it is.</param>
/// <param name="Right">Whether it stands at the right of its cell.</param>
internal readonly record struct Cell(string Text, int Width = 0, Ink Ink = Ink.None, bool Right = false);

/// <summary>
/// Text being laid out: paragraphs and rows of cells, wrapped at spaces to the style's width. Words stay whole; only in a cell that is
/// narrower than a word is that broken, behind a character at which names are put together.
/// </summary>
internal sealed class Page(TextStyle style)
{
    private static readonly SearchValues<char> Joints = SearchValues.Create("/:.,-_=>;");
    /// <summary>A space at which no line is broken, such as the one between a number and its unit; written as an ordinary one.</summary>
    public const char Tie = '\u00a0';

    private readonly StringBuilder _text = new();
    // What COLUMNS says may be anything.
    private readonly int _width = Math.Clamp(style.Width, 40, 10_000);

    /// <summary>The columns there are.</summary>
    public int Width => _width;

    /// <summary>An empty line.</summary>
    public void Blank() => _text.Append('\n');

    /// <summary>A heading with an empty line above it.</summary>
    public void Heading(string text)
    {
        Blank();
        Paragraph(text, 0, Ink.Bold);
    }

    /// <summary>A paragraph.</summary>
    public void Paragraph(string text, int indent, Ink ink = Ink.None)
    {
        foreach (var line in Wrap(SafeText.Of(text), _width - indent, breakWords: false))
        {
            _text.Append(' ', indent);
            Write(line, ink);
            Blank();
        }
    }

    /// <summary>A line that is never wrapped, so that it can be copied whole.</summary>
    public void Verbatim(string text, int indent, Ink ink)
    {
        _text.Append(' ', indent);
        Write(SafeText.Of(text), ink);
        Blank();
    }

    /// <summary>A rule as it stands in a dump, on a line of its own; of one that is longer than people write, the beginning.</summary>
    public void Rule(string raw, int indent, Ink ink)
    {
        const int most = 4000;
        Verbatim(raw.Length <= most ? raw : $"{raw.AsSpan(0, most)}… ({raw.Length} characters)", indent, ink);
    }

    /// <summary>Cells beside each other, two columns apart, each wrapped within itself.</summary>
    public void Row(int indent, params ReadOnlySpan<Cell> cells)
    {
        var left = _width - indent - (2 * (cells.Length - 1));
        foreach (var cell in cells)
        {
            left -= cell.Width;
        }

        var columns = new (List<string> Lines, int Width)[cells.Length];
        var height = 1;
        for (var i = 0; i < cells.Length; i++)
        {
            var width = cells[i].Width == 0 ? Math.Max(8, left) : cells[i].Width;
            columns[i] = (Wrap(SafeText.Of(cells[i].Text), width, breakWords: i < cells.Length - 1), width);
            height = Math.Max(height, columns[i].Lines.Count);
        }

        for (var line = 0; line < height; line++)
        {
            // Spaces are owed until something follows them, so that no line ends in spaces.
            var owed = indent;
            for (var i = 0; i < cells.Length; i++)
            {
                var (lines, width) = columns[i];
                var text = line < lines.Count ? lines[line] : "";
                var missing = Math.Max(0, width - SafeText.Columns(text));
                if (text.Length > 0)
                {
                    _text.Append(' ', owed + (cells[i].Right ? missing : 0));
                    Write(text, cells[i].Ink);
                    owed = cells[i].Right ? 0 : missing;
                }
                else
                {
                    owed += width;
                }

                owed += 2;
            }

            Blank();
        }
    }

    /// <summary>What was laid out, ended by a line feed.</summary>
    public override string ToString() => _text.ToString();

    /// <summary>Breaks a text into lines at its spaces; spaces at the beginning of a text indent all its lines.</summary>
    internal static List<string> Wrap(string text, int width, bool breakWords)
    {
        var lines = new List<string>();
        var line = new StringBuilder();
        var columns = 0;
        foreach (var part in text.Split(' '))
        {
            var word = part;
            var needed = SafeText.Columns(word);
            if (line.Length > 0 && columns + 1 + needed > width)
            {
                lines.Add(line.ToString());
                line.Clear();
                columns = 0;
            }

            while (breakWords && needed > width)
            {
                // Behind a slash if there is one: pod/default/ and my-nginx-wu92j read better than half a name.
                var room = word.AsSpan(0, Math.Min(width, word.Length));
                var cut = (room.LastIndexOf('/') is > 0 and var slash ? slash : room.LastIndexOfAny(Joints)) + 1;
                cut = cut > 1 ? cut : Math.Max(1, Math.Min(width, word.Length) / 2);
                lines.Add(word[..cut]);
                word = word[cut..];
                needed = SafeText.Columns(word);
            }

            if (line.Length > 0)
            {
                line.Append(' ');
                columns++;
            }

            line.Append(word);
            columns += needed;
        }

        lines.Add(line.ToString());
        return lines;
    }

    private void Write(string text, Ink ink)
    {
        text = text.Replace(Tie, ' ');
        var code = style.Color ? ink switch
        {
            Ink.Bold => "1",
            Ink.Dim => "2",
            Ink.Good => "1;32",
            Ink.Bad => "1;31",
            Ink.Warn => "1;33",
            Ink.Command => "36",
            _ => null,
        } : null;
        if (code is null)
        {
            _text.Append(text);
        }
        else
        {
            _text.Append("\e[").Append(code).Append('m').Append(text).Append("\e[0m");
        }
    }
}
