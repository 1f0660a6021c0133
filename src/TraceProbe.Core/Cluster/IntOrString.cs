using System.Globalization;

namespace TraceProbe.Core.Cluster;

/// <summary>
/// intstr.IntOrString: a number or a name. <c>9376</c> and <c>"9376"</c> differ: a target port given as a string is looked up as
/// a port <em>name</em> (the Debug Services page names that mistake).
/// </summary>
/// <param name="Number">The number, when it was one.</param>
/// <param name="Text">The string, when it was one.</param>
public readonly record struct IntOrString(int? Number, string? Text)
{
    /// <summary>Whether neither is given (an absent target port equals the port).</summary>
    public bool IsEmpty => Number is null && Text is null;

    /// <inheritdoc/>
    public override string ToString() => Text is null ? Number?.ToString(CultureInfo.InvariantCulture) ?? "" : $"\"{Text}\"";

    /// <summary>A numeric value.</summary>
    public static implicit operator IntOrString(int number) => new(number, null);

    /// <summary>A name.</summary>
    public static implicit operator IntOrString(string text) => new(null, text);
}
