using System.Text.Json.Serialization;

namespace TraceProbe.Core.Net;

/// <summary>Protocol, source and destination of a packet or connection, in the direction it travels.</summary>
/// <param name="Protocol">The transport protocol.</param>
/// <param name="Source">Where it comes from.</param>
/// <param name="Destination">Where it goes to.</param>
public readonly record struct FiveTuple(IpProtocol Protocol, AddressPort Source, AddressPort Destination)
{
    /// <summary>The same flow seen in the other direction.</summary>
    [JsonIgnore]
    public FiveTuple Reverse => new(Protocol, Destination, Source);

    /// <summary>Whether this tuple is of the flow, in either direction.</summary>
    public bool SameFlow(FiveTuple other) => this == other || Reverse == other;

    // Written out, here and in the port's: a record asks a comparer for each of its members, of which the runtime compiles one for each type at start.

    /// <inheritdoc/>
    public bool Equals(FiveTuple other) => Protocol == other.Protocol && Source == other.Source && Destination == other.Destination;

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine((int)Protocol, Source.GetHashCode(), Destination.GetHashCode());

    /// <inheritdoc/>
    public override string ToString() => $"{Source} > {Destination}";
}
