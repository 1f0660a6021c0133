namespace TraceProbe.Core.Dns;

/// <summary>What a DNS message asks.</summary>
/// <param name="Name">The name, lower case, without a dot at its end, as <see cref="DnsName.TryFormat"/> writes it.</param>
/// <param name="Type">The record type asked for.</param>
public sealed record DnsQuestion(string Name, DnsRecordType Type)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Type} {Name}";
}
