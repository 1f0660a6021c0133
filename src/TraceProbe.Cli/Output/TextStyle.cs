namespace TraceProbe.Cli.Output;

/// <summary>How text is laid out and coloured.</summary>
/// <param name="Width">Columns; at least 40 are used.</param>
/// <param name="Color">Whether ANSI colours are written.</param>
/// <param name="Unicode">Whether marks and rules beyond ASCII are written.</param>
internal sealed record TextStyle(int Width, bool Color = false, bool Unicode = true)
{
    /// <summary>What is assumed when nobody says how wide the terminal is.</summary>
    public const int DefaultWidth = 80;
}

/// <summary>What a piece of text is, for its colour.</summary>
internal enum Ink
{
    /// <summary>Ordinary.</summary>
    None,

    /// <summary>A heading.</summary>
    Bold,

    /// <summary>Less important.</summary>
    Dim,

    /// <summary>Healthy.</summary>
    Good,

    /// <summary>Where it went wrong.</summary>
    Bad,

    /// <summary>Not certain.</summary>
    Warn,

    /// <summary>To be copied.</summary>
    Command,
}
